//! Where a server is, and how long is waited for it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tonic::codegen::http::Uri;

use super::retry::Failure;
use crate::kb::store::ServerErrorKind as Kind;

/// Port of the gRPC interface, where a URL names none. That of the REST interface is the one before, unless it was changed.
const PORT: u16 = 6334;

/// A key or token. No form of it for people or logs holds its text.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key `text`, without the white space around it: a file that holds it ends in a line feed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

/// Where a server is, and how long is waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// `http://host:port` or `https://host:port` of its gRPC interface; the port is 6334 where none is given.
    pub url: String,
    /// The same of its REST interface, which alone gives archives of collections; `None` for the port before that of
    /// [`Connection::url`].
    pub rest_url: Option<String>,
    /// What it asks for, if anything.
    pub api_key: Option<ApiKey>,
    /// How long a search or a read of articles may take. The client tries twice, so that it ends after twice this.
    pub query_timeout: Duration,
    /// How long one attempt of a write, a count or a page of a scan may take.
    pub write_timeout: Duration,
    /// How long a write is tried again while the server is not there or too busy, all attempts together.
    pub patience: Duration,
    /// How long is waited for an index in which nothing moves.
    pub stall: Duration,
}

impl Connection {
    /// The server at `url` without a key, with the default times: 5 s for a query, 120 s for a write, ten minutes of
    /// patience, six hours for an index (the server counts a segment only when all of its graph is built).
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: tidy(url),
            rest_url: None,
            api_key: None,
            query_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(120),
            patience: Duration::from_secs(600),
            stall: Duration::from_secs(6 * 3600),
        }
    }

    /// The same with a key; an empty one is none.
    #[must_use]
    pub fn with_key(self, key: Option<ApiKey>) -> Self {
        Self { api_key: key.filter(|key| !key.text().is_empty()), ..self }
    }

    /// The same with another URL for its REST interface; an empty one is none.
    #[must_use]
    pub fn with_rest_url(self, url: &str) -> Self {
        Self { rest_url: Some(tidy(url)).filter(|url| !url.is_empty()), ..self }
    }

    /// Whether the key would be readable on the way: it goes over plain http to another host.
    #[must_use]
    pub fn sends_key_in_the_clear(&self) -> bool {
        let clear = |url: &String| {
            let uri = url.parse::<Uri>();
            uri.is_ok_and(|uri| uri.scheme_str() != Some("https") && !uri.host().is_some_and(is_local))
        };
        self.api_key.is_some() && std::iter::once(&self.url).chain(&self.rest_url).any(clear)
    }

    /// The address to call.
    ///
    /// # Errors
    /// What is wrong with the URL or the key; no secret in either is repeated.
    pub(super) fn address(&self) -> Result<String, Failure> {
        let (start, port) = parts(&self.url)?;
        let in_header = |key: &ApiKey| key.text().bytes().all(|byte| byte.is_ascii_graphic());
        if !self.api_key.as_ref().is_none_or(in_header) {
            let reason = "the API key holds characters that a header cannot carry, expected visible ASCII";
            return Err(Failure::lasting(Kind::Unauthorised, reason));
        }
        Ok(format!("{start}:{}", port.unwrap_or(PORT)))
    }

    /// The address of its REST interface.
    ///
    /// # Errors
    /// What is wrong with its URL.
    pub(super) fn rest_address(&self) -> Result<String, Failure> {
        match &self.rest_url {
            Some(url) => parts(url).map(|(start, port)| format!("{start}:{}", port.unwrap_or(PORT - 1))),
            None => parts(&self.url).map(|(start, port)| format!("{start}:{}", port.unwrap_or(PORT).saturating_sub(1))),
        }
    }

    /// The URL, as messages name it: without what stands before an `@`.
    pub(super) fn shown(&self) -> String {
        match self.url.rsplit_once('@') {
            Some((before, host)) => {
                let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
                format!("{scheme}://***@{host}")
            }
            None => self.url.clone(),
        }
    }
}

fn tidy(url: &str) -> String {
    url.trim().trim_end_matches('/').to_owned()
}

/// Scheme and host of a URL, and its port if it has one.
fn parts(url: &str) -> Result<(String, Option<u16>), Failure> {
    let bad = |found: String| {
        Failure::lasting(Kind::Unreachable, format!("{found}, expected http://HOST:PORT or https://HOST:PORT"))
    };
    let uri = url.parse::<Uri>().map_err(|e| bad(format!("its URL cannot be read ({e})")))?;
    let scheme = match uri.scheme_str() {
        Some(scheme @ ("http" | "https")) => scheme,
        other => return Err(bad(format!("its URL has the scheme {:?}", other.unwrap_or("")))),
    };
    let Some(authority) = uri.authority() else {
        return Err(bad("its URL has no host".to_owned()));
    };
    if authority.as_str().contains('@') {
        return Err(bad("its URL holds a user or password; a key is given apart from it".to_owned()));
    }
    if !matches!(uri.path(), "" | "/") {
        return Err(bad(format!("its URL has the path {:?}", uri.path())));
    }
    Ok((format!("{scheme}://{}", authority.host()), authority.port_u16()))
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        let address = |url: &str| Connection::new(url).address().unwrap();
        assert_eq!(address("http://localhost"), "http://localhost:6334");
        assert_eq!(address(" https://qdrant.example.org/ "), "https://qdrant.example.org:6334");
        assert_eq!(address("http://[::1]:7000"), "http://[::1]:7000");
        let rest = |url: &str, rest: &str| Connection::new(url).with_rest_url(rest).rest_address().unwrap();
        assert_eq!(rest("http://localhost", ""), "http://localhost:6333");
        assert_eq!(rest("https://a:7001", ""), "https://a:7000");
        assert_eq!(rest("https://a:7001", "http://b/"), "http://b:6333");
    }

    #[test]
    fn what_is_no_address_is_told() {
        let refused = |url: &str| Connection::new(url).address().unwrap_err().reason;
        assert!(refused("localhost:6334").contains("expected http://HOST:PORT"));
        assert!(refused("ftp://localhost").contains("\"ftp\""));
        assert!(refused("http://localhost/qdrant").contains("\"/qdrant\""));
        let refused = refused("http://me:secret@localhost");
        assert!(refused.contains("a key is given apart") && !refused.contains("secret"));
        assert!(!Connection::new("http://me:secret@localhost").shown().contains("secret"));
    }

    #[test]
    fn a_key_is_in_no_message() {
        let connection = Connection::new("http://localhost").with_key(Some(ApiKey::new("sesame\u{7f}opens\n")));
        assert!(!format!("{connection:?}").contains("sesame"));
        let refused = connection.address().unwrap_err().reason;
        assert!(refused.contains("visible ASCII") && !refused.contains("sesame"), "{refused}");
        assert_eq!(Connection::new("http://a").with_key(Some(ApiKey::new(" "))).api_key, None);
    }

    #[test]
    fn a_key_over_plain_http_is_seen() {
        let clear = |url: &str| Connection::new(url).with_key(Some(ApiKey::new("k"))).sends_key_in_the_clear();
        assert!(clear("http://qdrant.example.org:6334") && clear("http://192.168.1.7"));
        assert!(!clear("http://localhost:6334") && !clear("http://127.0.0.1") && !clear("http://[::1]:6334"));
        assert!(!clear("https://qdrant.example.org"));
        let rest = Connection::new("https://a").with_rest_url("http://a").with_key(Some(ApiKey::new("k")));
        assert!(rest.sends_key_in_the_clear());
        assert!(!Connection::new("http://qdrant.example.org").sends_key_in_the_clear());
    }
}
