//! Sources: articles out of a file, one at a time, in constant memory.

pub mod evqa;
mod lines;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Article;
pub use evqa::EvqaJsonl;

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
    #[error(
        "unknown kind of source {found:?} in {given:?}; expected `evqa:PATH` (Encyclopedic-VQA articles, one JSON object a line)"
    )]
    Kind {
        /// The kind found.
        found: String,
        /// The whole argument.
        given: String,
    },
}

/// Opens a source named as `KIND:PATH`, or as a path alone for `evqa`. Reads the file once to hash it.
///
/// # Errors
/// [`SourceError::Kind`] or [`SourceError::Read`].
pub fn open(spec: &str) -> Result<Box<dyn Source>, SourceError> {
    let path = match spec.split_once(':') {
        Some((evqa::NAME, path)) => path,
        // One letter is a drive, and a separator before the colon means that it belongs to a file name.
        Some((kind, _)) if kind.len() > 1 && !kind.contains(['/', '\\', '.']) => {
            return Err(SourceError::Kind { found: kind.to_owned(), given: spec.to_owned() });
        }
        _ => spec,
    };
    Ok(Box::new(EvqaJsonl::open(Path::new(path))?))
}
