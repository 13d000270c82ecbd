//! Files of JSON records in any of the schemas that lie beside this: framing, positions and errors are the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::frames::{Frame, Frames, Framing};
use super::{Identity, Malformed, Position, Source, SourceError};
use crate::kb::Article;

/// What the records of a kind of source look like.
#[derive(Debug)]
pub(super) struct Schema {
    /// Name in `--source NAME:PATH`.
    pub(super) name: &'static str,
    /// Whether a record may stand under its URL: `{"url": {record}}`, one a line or all in one object.
    pub(super) keyed: bool,
    /// What an error says was expected.
    pub(super) expected: &'static str,
    /// Makes an article of a record, and of its key if it has one.
    pub(super) parse: fn(Option<&str>, &[u8]) -> Result<Article, Fault>,
}

/// Why a record is no article.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not JSON, or not of this shape.
    Json(serde_json::Error),
    /// It is of this shape, and its content cannot be used.
    Content(String),
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// `value`, if there is something in it.
pub(super) fn filled(name: &str, value: String) -> Result<String, Fault> {
    if value.trim().is_empty() { Err(Fault::Content(format!("`{name}` is empty"))) } else { Ok(value) }
}

/// Reader of one file.
#[derive(Debug)]
pub(super) struct JsonFile {
    schema: &'static Schema,
    identity: Identity,
    picture_root: PathBuf,
    frames: Frames,
    done: bool,
}

impl JsonFile {
    /// Opens `path` and reads it once for its hash.
    ///
    /// # Errors
    /// [`SourceError::Read`].
    pub(super) fn open(schema: &'static Schema, path: &Path) -> Result<Self, SourceError> {
        let read = |source| SourceError::Read { path: path.to_owned(), source };
        let frames = Frames::open(path, schema.keyed).map_err(read)?;
        let input = frames.input();
        let identity = Identity {
            name: schema.name.to_owned(),
            path: input.path(),
            hash: input.hash().map_err(read)?,
            bytes: input.stamp().size,
            unit: frames.framing().unit(),
        };
        Ok(Self { schema, identity, picture_root: input.parent(), frames, done: false })
    }

    fn read_error(&self, source: std::io::Error) -> SourceError {
        SourceError::Read { path: self.identity.path.clone(), source }
    }

    fn malformed(&self, reason: String) -> SourceError {
        let (unit, position) = (self.identity.unit, self.frames.position());
        Malformed { path: self.identity.path.clone(), unit, position, reason }.into()
    }

    fn article(&self, start: u64) -> Result<Article, String> {
        let schema = self.schema;
        let (key, bytes) = self.frames.record();
        if self.frames.framing() == Framing::Lines {
            let part = if schema.keyed { split(bytes) } else { None };
            let (key, body, shift) = part.map_or((None, bytes, 0), |(key, body, shift)| (Some(key), body, shift));
            let key = key.map(serde_json::from_slice::<String>).transpose();
            let key = key.map_err(|e| format!("its key cannot be read: {e}"))?;
            return (schema.parse)(key.as_deref(), body).map_err(|fault| match fault {
                Fault::Content(reason) => reason,
                Fault::Json(error) => match bad_text(bytes) {
                    Some(at) => format!("not UTF-8 from byte {} of the line on; expected UTF-8", at + 1),
                    None => {
                        format!("{} at column {}; expected {}", plain(&error), shift + error.column(), schema.expected)
                    }
                },
            });
        }
        let key = key.map(serde_json::from_slice::<String>).transpose();
        let key = key.map_err(|e| format!("its key, before byte {start}, cannot be read: {}", plain(&e)))?;
        (schema.parse)(key.as_deref(), bytes).map_err(|fault| {
            let key = key.as_deref().unwrap_or_default();
            match fault {
                Fault::Content(reason) => format!("{key:?} (from byte {start} on): {reason}"),
                Fault::Json(error) => {
                    let text = bad_text(bytes);
                    let at = start + text.unwrap_or_else(|| offset(&error, bytes)) as u64;
                    let reason = if text.is_some() { "not UTF-8".to_owned() } else { plain(&error) };
                    format!("{key:?} (from byte {start} on): {reason} at byte {at}; expected {}", schema.expected)
                }
            }
        })
    }
}

impl Iterator for JsonFile {
    type Item = Result<(Position, Article), SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        Some(match self.frames.next() {
            Ok(Some(Frame::Whole { start })) => match self.article(start) {
                Ok(article) => Ok((self.frames.position(), article)),
                Err(reason) => Err(self.malformed(reason)),
            },
            Ok(Some(Frame::TooLong)) => {
                let unit = self.identity.unit;
                Err(self.malformed(format!("longer than {} bytes; expected one article a {unit}", self.frames.max())))
            }
            Ok(None) => {
                self.done = true;
                return None;
            }
            Err(e) => {
                self.done = true;
                Err(self.read_error(e))
            }
        })
    }
}

impl Source for JsonFile {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bytes_read(&self) -> u64 {
        self.frames.input().consumed()
    }

    fn picture_root(&self) -> &Path {
        &self.picture_root
    }

    fn resume_after(&mut self, position: Position) -> Result<(), SourceError> {
        self.done = false;
        self.frames.resume_after(position).map_err(|e| self.read_error(e))
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        if self.frames.input().is_unchanged().map_err(|e| self.read_error(e))? {
            Ok(())
        } else {
            Err(SourceError::Changed { path: self.identity.path.clone() })
        }
    }
}

/// The keys of the first record, none for one that is no object, and whether it stands under a key of its own: what
/// tells kinds of files apart. `None` where there is no record.
///
/// # Errors
/// The input's.
pub(super) fn first_keys(path: &Path) -> std::io::Result<Option<(Vec<String>, bool)>> {
    let mut frames = Frames::open(path, true)?;
    let frame = match frames.next()? {
        None => return Ok(None),
        Some(frame) => frame,
    };
    if frame == Frame::TooLong {
        return Ok(Some((Vec::new(), false)));
    }
    let (key, bytes) = frames.record();
    let part = if key.is_none() { split(bytes) } else { None };
    let (keyed, body) = part.map_or((key.is_some(), bytes), |(_, body, _)| (true, body));
    let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
    Ok(Some((keys.into_keys().collect(), keyed)))
}

/// Takes a line `{"key": {record}}` apart: the key with its quotes, the record, and where that begins. `None` for a
/// record of its own, whose first value is no object.
fn split(line: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let skip = |at: usize| at + line[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let at = skip(0);
    if line.get(at) != Some(&b'{') {
        return None;
    }
    let key = skip(at + 1);
    if line.get(key) != Some(&b'"') {
        return None;
    }
    let mut end = key + 1;
    loop {
        end += memchr::memchr2(b'"', b'\\', &line[end..])?;
        if line[end] == b'"' {
            break;
        }
        end += 2;
        if end > line.len() {
            return None;
        }
    }
    let colon = skip(end + 1);
    if line.get(colon) != Some(&b':') {
        return None;
    }
    let body = skip(colon + 1);
    if line.get(body) != Some(&b'{') {
        return None;
    }
    let rest = line[body..].trim_ascii_end();
    // Without its closing bracket the line is torn; the record's parser says so.
    Some((&line[key..=end], rest.strip_suffix(b"}").unwrap_or(rest), body))
}

/// Where `bytes` cease to be UTF-8.
fn bad_text(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).err().map(|e| e.valid_up_to())
}

/// The parser's reason without its place, which it counts from the record's beginning.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Offset in `bytes` of the line and column that an error gives.
fn offset(error: &serde_json::Error, bytes: &[u8]) -> usize {
    let before = error.line().saturating_sub(1);
    let line = memchr::memchr_iter(b'\n', bytes).take(before).last().map_or(0, |at| at + 1);
    (line + error.column().saturating_sub(1)).min(bytes.len())
}
