//! Paths as terminals and file managers paste them.

use std::path::{Path, PathBuf};

/// A path as it is pasted or dropped into a terminal: quoted, escaped by backslashes, or a `file://` address.
#[must_use]
pub fn path_of(text: &str) -> PathBuf {
    let text = text.trim();
    let quoted = |q| text.strip_prefix(q).and_then(|t: &str| t.strip_suffix(q));
    if let Some(inner) = quoted('\'').or_else(|| quoted('"')) {
        return Path::new(inner.strip_prefix("file://").unwrap_or(inner)).to_owned();
    }
    let text = unescaped(text);
    match text.strip_prefix("file://") {
        // An address may name its host before the path.
        Some(address) => {
            let path = address.find('/').map_or(address, |at| &address[at..]);
            Path::new(&percent_decoded(path)).to_owned()
        }
        None => Path::new(&text).to_owned(),
    }
}

/// The home directory in place of a leading `~`.
#[must_use]
pub fn at_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // A backslash before a letter is a separator of another system's path.
            '\\' => match chars.next() {
                Some(next) if next.is_alphanumeric() => out.extend(['\\', next]),
                Some(next) => out.push(next),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(|_| byte == b'%') {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_quoted_escaped_and_as_addresses() {
        for (pasted, path) in [
            ("  /a/b.png \n", "/a/b.png"),
            ("'/a b/c.png'", "/a b/c.png"),
            ("\"/a 'b'/c.png\"", "/a 'b'/c.png"),
            ("'file:///a b.png'", "/a b.png"),
            ("/a\\ b/\\(1\\).png", "/a b/(1).png"),
            ("C:\\pictures\\x.png", "C:\\pictures\\x.png"),
            ("file:///a%20b/%C3%A9.png", "/a b/é.png"),
            ("file:///a\\ b.png", "/a b.png"),
            ("file://host/a.png", "/a.png"),
            ("file:///100%.png", "/100%.png"),
            ("a\\", "a\\"),
        ] {
            assert_eq!(path_of(pasted), Path::new(path), "{pasted:?}");
        }
        let home = Path::new("/home/ada");
        assert_eq!(at_home("~/x.png".into(), Some(home)), Path::new("/home/ada/x.png"));
        assert_eq!(at_home("~x/y.png".into(), Some(home)), Path::new("~x/y.png"));
        assert_eq!(at_home("~/x.png".into(), None), Path::new("~/x.png"));
    }
}
