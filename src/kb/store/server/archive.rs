//! A collection's archive, as the server makes it of a part: its files with their graph. Only the REST interface gives
//! them.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::client::Server;
use super::retry::Failure;
use super::settle;
use crate::io::hash::sha256_file;
use crate::kb::store::{ServerError, ServerErrorKind as Kind, StoreError};

const FETCH: &str = "send an archive of a collection";

/// Connections that may break in a row without one new byte.
const ATTEMPTS: u32 = 5;

const BUFFER: usize = 1 << 18;

/// An archive that lies on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// What it was made of.
    pub collection: String,
    /// Its name there.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its content (hex), where the server says it.
    pub checksum: Option<String>,
}

/// How the fetching of an archive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// All of it is there.
    Whole,
    /// The server has it no more.
    Gone,
    /// The caller wants no more of it.
    Stopped,
}

/// Why an attempt came to nothing.
enum Broken {
    /// No use to try again, or the server's own word.
    Lasting(StoreError),
    /// The connection; what came is in the file.
    Connection(String),
}

impl Server {
    /// Parts of a collection; one with several has no archive that is whole.
    ///
    /// # Errors
    /// [`Kind::NoCollection`], or the server's.
    pub fn parts(&self, collection: &str) -> Result<u32, ServerError> {
        let info = settle::info(self, collection)?;
        Ok(info.config.and_then(|config| config.params).map_or(1, |params| params.shard_number))
    }

    /// Has the server make an archive of a collection in one part. It lies there until it is removed.
    ///
    /// # Errors
    /// [`Kind::NoCollection`], [`Kind::Unreachable`] where the REST interface is elsewhere, or the server's.
    pub fn make_archive(&self, collection: &str) -> Result<Archive, ServerError> {
        #[derive(Deserialize)]
        struct Made {
            result: Description,
        }
        #[derive(Deserialize)]
        struct Description {
            name: String,
            size: u64,
            checksum: Option<String>,
        }
        const WHAT: &str = "make an archive of a collection";
        let make = || {
            // Copying a large collection takes its time, in which nothing is said.
            let agent = agent(self.connection().stall);
            let request = agent.post(format!("{}?wait=true", self.archives(collection)?));
            let response = self.authorised(request).send_empty().map_err(unreachable)?;
            let text = accepted(response)?.body_mut().read_to_string().map_err(unreachable)?;
            let Made { result } = serde_json::from_str(&text)
                .map_err(|e| Failure::lasting(Kind::Failed, format!("an answer that cannot be read: {e}")))?;
            let Description { name, size, checksum } = result;
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !plain {
                return Err(Failure::lasting(Kind::Failed, format!("an archive named {name:?}")));
            }
            Ok(Archive { collection: collection.to_owned(), name, size, checksum })
        };
        make().map_err(|failure| self.error(WHAT, failure))
    }

    /// Fetches an archive to `path`, going on with what is there of it. `seen` is told its bytes so far, and says
    /// whether to go on. What arrived is compared with the server's checksum.
    ///
    /// # Errors
    /// The server's after several attempts without a new byte, or the system's; [`Kind::Failed`], and nothing is left,
    /// where what arrived is not what was sent.
    pub fn fetch_archive(
        &self,
        archive: &Archive,
        path: &Path,
        mut seen: impl FnMut(u64) -> bool,
    ) -> Result<Fetched, StoreError> {
        let length = || fs_err::metadata(path).map_or(0, |meta| meta.len());
        let mut left = ATTEMPTS;
        while length() != archive.size {
            let before = length();
            match self.fetch_rest(archive, path, before, &mut seen) {
                Ok(Fetched::Whole) => {}
                Ok(ended) => return Ok(ended),
                Err(Broken::Lasting(e)) => return Err(e),
                Err(Broken::Connection(reason)) => {
                    left = if length() > before { ATTEMPTS } else { left - 1 };
                    if left == 0 {
                        return Err(self.error(FETCH, Failure::passing(Kind::Unreachable, reason)).into());
                    }
                    tracing::debug!("archive {}: {reason}, {} bytes so far, trying again", archive.name, length());
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        let found = sha256_file(path).map_err(|e| StoreError::file(path, e))?;
        match &archive.checksum {
            Some(expected) if *expected != found => {
                fs_err::remove_file(path).map_err(|e| StoreError::file(path, e))?;
                let reason = format!("its SHA-256 is {found}, expected {expected}");
                Err(self.error(FETCH, Failure::lasting(Kind::Failed, reason)).into())
            }
            _ => Ok(Fetched::Whole),
        }
    }

    /// Removes an archive from the server; one that is not there is passed over.
    ///
    /// # Errors
    /// The server's.
    pub fn remove_archive(&self, archive: &Archive) -> Result<(), ServerError> {
        let remove = || {
            let agent = agent(self.connection().write_timeout);
            let url = format!("{}/{}?wait=true", self.archives(&archive.collection)?, archive.name);
            let response = self.authorised(agent.delete(url)).call().map_err(unreachable)?;
            if response.status() == StatusCode::NOT_FOUND { Ok(()) } else { accepted(response).map(|_| ()) }
        };
        remove().map_err(|failure| self.error("remove an archive of a collection", failure))
    }

    fn fetch_rest(
        &self,
        archive: &Archive,
        path: &Path,
        have: u64,
        seen: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Fetched, Broken> {
        let lasting = |failure| Broken::Lasting(self.error(FETCH, failure).into());
        let system = |e| Broken::Lasting(StoreError::file(path, e));
        let agent = agent(self.connection().write_timeout);
        let url = format!("{}/{}", self.archives(&archive.collection).map_err(lasting)?, archive.name);
        let mut request = self.authorised(agent.get(url));
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|e| Broken::Connection(e.to_string()))?;
        let have = match response.status() {
            StatusCode::NOT_FOUND => return Ok(Fetched::Gone),
            StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(have) => have,
            // What is there is longer than the archive.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                fs_err::remove_file(path).map_err(system)?;
                return Err(Broken::Connection("another range than was asked for".to_owned()));
            }
            // From the beginning: an archive that is not on the server's own disk.
            _ => 0,
        };
        let response = accepted(response).map_err(lasting)?;
        let mut options = fs_err::OpenOptions::new();
        let mut out =
            options.create(true).write(true).truncate(have == 0).append(have > 0).open(path).map_err(system)?;
        let mut reader = response.into_body().into_reader();
        let (mut buffer, mut done) = (vec![0; BUFFER], have);
        while done < archive.size {
            if !seen(done) {
                return Ok(Fetched::Stopped);
            }
            match reader.read(&mut buffer) {
                Ok(0) => return Err(Broken::Connection("it ended early".to_owned())),
                Ok(n) => {
                    out.write_all(&buffer[..n]).map_err(system)?;
                    done += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Broken::Connection(e.to_string())),
            }
        }
        out.sync_all().map_err(system)?;
        seen(done);
        Ok(Fetched::Whole)
    }

    /// Where the archives of a collection's only part are.
    fn archives(&self, collection: &str) -> Result<String, Failure> {
        Ok(format!("{}/collections/{collection}/shards/0/snapshots", self.connection().rest_address()?))
    }

    fn authorised<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.connection().api_key {
            Some(key) => request.header("api-key", key.text()),
            None => request,
        }
    }
}

fn agent(answer: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(answer))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .accept_encoding("identity")
        .build();
    config.into()
}

fn unreachable(error: ureq::Error) -> Failure {
    Failure::passing(Kind::Unreachable, format!("its REST interface (kb.server.rest_url): {error}"))
}

/// The answer, if it is one of success.
fn accepted(mut response: Response<Body>) -> Result<Response<Body>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // `{"status":{"error":"…"}}`
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let said = json.pointer("/status/error").and_then(|error| error.as_str()).unwrap_or("").trim();
    let reason = format!("its REST interface: {status} {}", said.chars().take(600).collect::<String>());
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Unauthorised,
        StatusCode::NOT_FOUND => Kind::NoCollection,
        StatusCode::TOO_MANY_REQUESTS => Kind::Busy,
        _ if said.to_ascii_lowercase().contains("no space left") => Kind::OutOfSpace,
        _ if status.is_client_error() => Kind::Refused,
        _ => Kind::Failed,
    };
    Err(Failure::lasting(kind, reason.trim_end()))
}

/// First byte of a partial answer.
fn starts_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
