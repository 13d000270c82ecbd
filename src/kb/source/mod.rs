//! Sources: articles out of a file or a directory, one at a time, in constant memory.
//!
//! | noun | promise |
//! | --- | --- |
//! | `input` | the bytes of a file, unpacked on the way, from any offset on; damage names its place |
//! | `frames` | records, one a `lines`' line or an entry of an `object` of any size |
//! | `json` | a file of records under one of the schemas: `evqa`, `wiki6m`, `wiki100k`, `m2kr`, `mbeir`, `articles` |
//! | `folder` | a directory of texts and pictures, as people keep them |
//! | `parquet` | M2KR's tables |

mod articles;
mod evqa;
mod folder;
mod frames;
mod input;
mod json;
mod lines;
mod m2kr;
mod markdown;
mod mbeir;
mod names;
mod object;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod wiki;
mod wiki100k;
mod wiki6m;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Article;
use json::{JsonFile, Schema};
pub(super) use names::percent_decoded;

/// A stream of articles that can be taken up again after any of them.
///
/// An [`SourceError::Malformed`] item concerns that article alone, and the next call goes on behind it; after any
/// other error the stream has ended.
pub trait Source: Iterator<Item = Result<(Position, Article), SourceError>> + Send {
    /// What it reads.
    fn identity(&self) -> &Identity;
    /// Bytes read so far, of [`Identity::bytes`]: compressed ones as they lie on disk.
    fn bytes_read(&self) -> u64;
    /// Directory that the names of pictures are relative to, where a build names no other.
    fn picture_root(&self) -> &Path;
    /// Goes on behind `position`, as if everything up to it had been read.
    ///
    /// # Errors
    /// [`SourceError::Read`].
    fn resume_after(&mut self, position: Position) -> Result<(), SourceError>;
    /// Sees (by size and time) that the files are those whose hash [`Source::identity`] gives.
    ///
    /// # Errors
    /// [`SourceError::Changed`] or [`SourceError::Read`].
    fn check_unchanged(&self) -> Result<(), SourceError>;
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of its reader, as in `--source NAME:PATH`.
    pub name: String,
    /// The file or directory, absolute.
    pub path: PathBuf,
    /// BLAKE3 of its bytes (hex).
    pub hash: String,
    /// Bytes in it: the total of a progress display.
    pub bytes: u64,
    /// What its records are.
    pub unit: RecordUnit,
}

impl Identity {
    /// As `--source` takes it.
    #[must_use]
    pub fn spec(&self) -> String {
        format!("{}:{}", self.name, self.path.display())
    }
}

/// What one record of a source is, for whoever looks for it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordUnit {
    /// A line; blank ones are counted.
    Line,
    /// An entry of one large object, or a row of a table.
    Entry,
    /// A file of a directory, in the order of their names.
    File,
}

impl std::fmt::Display for RecordUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Line => "line",
            Self::Entry => "entry",
            Self::File => "file",
        })
    }
}

/// A place between two records. The default is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Number of the record before it, counted from 1.
    pub record: u64,
    /// Offset of the byte behind that record, in what a compressed file holds; in a directory, the record's number.
    pub end: u64,
}

/// An article that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}, {unit} {record}: {reason}", path = .path.display(), record = .position.record)]
pub struct Malformed {
    /// The file.
    pub path: PathBuf,
    /// What is counted.
    pub unit: RecordUnit,
    /// Where it stands.
    pub position: Position,
    /// What was found and what was expected.
    pub reason: String,
}

/// Why a source gave no article.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// This article cannot be used; the next may.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The file cannot be read.
    #[error("source {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not what it was when it was opened.
    #[error("source {path} changed while it was read; build again when it is complete", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// No reader of that name.
    #[error("unknown kind of source {found:?} in {given:?}; expected KIND:PATH with one of\n{}", kinds())]
    Kind {
        /// The kind found.
        found: String,
        /// The whole argument.
        given: String,
    },
    /// No kind was named, and the content does not tell.
    #[error("source {path}: its kind was not named, and {reason}; name it as KIND:PATH with one of\n{}", kinds(), path = .path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

/// Kinds of sources, each with what it reads. All files may be compressed (gzip, Zstandard) or lie in a zip archive
/// (`FILE.zip!MEMBER` where it has several).
pub const KINDS: [(&str, &str); 7] = [
    ("evqa", "Encyclopedic-VQA, or EchoSight's articles for InfoSeek: one object, or one article a line"),
    ("wiki6m", "InfoSeek's Wiki6M_ver_1_0.jsonl.gz"),
    ("wiki100k", "ReflectiVA's Wiki100k_ver_1_0-all.json"),
    ("m2kr", "M2KR: ReT-M2KR's passages as JSON lines, or a parquet file or a directory of them"),
    ("mbeir", "M-BEIR: a pool of candidates as JSON lines"),
    ("folder", "a directory of Markdown, text files and pictures"),
    ("jsonl", "articles in Cicerone's own format, schemas/kb-article.json"),
];

/// The kinds as a list, one a line.
#[must_use]
pub fn kinds() -> String {
    KINDS.map(|(name, what)| format!("  {name:<9} {what}")).join("\n")
}

const SCHEMAS: [&Schema; 6] =
    [&evqa::SCHEMA, &wiki6m::SCHEMA, &wiki100k::SCHEMA, &m2kr::SCHEMA, &mbeir::SCHEMA, &articles::SCHEMA];

/// Opens a source named as `KIND:PATH`, or as a path alone where its content tells its kind. Reads the files once to
/// hash them.
///
/// # Errors
/// [`SourceError::Kind`], [`SourceError::Unclear`] or [`SourceError::Read`].
pub fn open(spec: &str) -> Result<Box<dyn Source>, SourceError> {
    match spec.split_once(':') {
        Some((kind, path)) if KINDS.iter().any(|(name, _)| *name == kind) => open_kind(kind, Path::new(path)),
        // One letter is a drive, and a separator before the colon means that it belongs to a file name.
        Some((kind, _)) if kind.len() > 1 && !kind.contains(['/', '\\', '.']) => {
            Err(SourceError::Kind { found: kind.to_owned(), given: spec.to_owned() })
        }
        _ => open_kind(guess(Path::new(spec))?, Path::new(spec)),
    }
}

fn open_kind(kind: &str, path: &Path) -> Result<Box<dyn Source>, SourceError> {
    if kind == folder::NAME {
        return Ok(Box::new(folder::Folder::open(path)?));
    }
    if kind == m2kr::SCHEMA.name && is_parquet(path) {
        return open_parquet(path);
    }
    match SCHEMAS.into_iter().find(|schema| schema.name == kind) {
        Some(schema) => Ok(Box::new(JsonFile::open(schema, path)?)),
        None => Err(SourceError::Kind { found: kind.to_owned(), given: format!("{kind}:{}", path.display()) }),
    }
}

/// Whether `path` is a table, or a directory that has some.
fn is_parquet(path: &Path) -> bool {
    let named = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    if path.is_dir() {
        let entries = fs_err::read_dir(path).ok();
        return entries.is_some_and(|entries| entries.flatten().any(|entry| named(&entry.path())));
    }
    named(path)
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(parquet::Tables::open(path)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    let reason =
        "parquet is read only by a build of cicerone with the feature `parquet` (cargo build --features parquet)";
    let source = std::io::Error::new(std::io::ErrorKind::Unsupported, reason);
    Err(SourceError::Read { path: path.to_owned(), source })
}

/// The kind of what lies at `path`, where that is certain.
fn guess(path: &Path) -> Result<&'static str, SourceError> {
    if path.is_dir() || is_parquet(path) {
        return Ok(if is_parquet(path) { m2kr::SCHEMA.name } else { folder::NAME });
    }
    let first = json::first_keys(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
    let unclear = |reason| SourceError::Unclear { path: path.to_owned(), reason };
    // Nothing is nothing in every kind.
    let Some((keys, keyed)) = first else { return Ok(evqa::SCHEMA.name) };
    if keys.is_empty() {
        return Err(unclear("it does not begin with a JSON object".to_owned()));
    }
    let has = |names: &[&str]| names.iter().all(|name| keys.iter().any(|key| key == name));
    let found = [
        (has(&["section_titles", "section_texts"]), &evqa::SCHEMA),
        (has(&["wikidata_id", "wikipedia_content"]) && !keyed, &wiki6m::SCHEMA),
        (has(&["wikipedia_content"]) && keyed, &wiki100k::SCHEMA),
        (has(&["did", "modality"]) && !keyed, &mbeir::SCHEMA),
        (has(&["passage_id"]) && !keyed, &m2kr::SCHEMA),
        (has(&["url", "title", "sections"]) && !keyed, &articles::SCHEMA),
    ];
    let mut found = found.into_iter().filter(|(fits, _)| *fits).map(|(_, schema)| schema.name);
    match (found.next(), found.next()) {
        (Some(kind), None) => Ok(kind),
        _ => Err(unclear(format!("its first record has the fields {}", keys.join(", ")))),
    }
}
