//! Files: replaced whole or not at all, locked by one process at a time, named safely, and hashed.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`atomic`] | a reader sees the old bytes or the new ones, never half of them, even after a power cut |
//! | [`lock`] | one process holds a directory; the next one is told which process that is |
//! | [`jsonl`] | one JSON value a line; a line torn by a crash is cut off on reopening, an error names its line |
//! | [`paths`] | a name from a data set never leads out of its directory |
//! | [`pictures`] | a data set's picture is found by its name in whatever layout the files lie |
//! | [`hash`] | BLAKE3 and SHA-256 of files of any size in bounded memory |

pub mod atomic;
pub mod copy;
pub mod hash;
pub mod jsonl;
pub mod lock;
pub mod paths;
pub mod pictures;
pub mod space;

use std::path::PathBuf;

pub use atomic::{AtomicFile, write_atomic};
pub use jsonl::{JsonlReader, JsonlWriter, write_line};
pub use lock::DirLock;
pub use paths::safe_join;

/// Why a file could not be read, written, locked or named.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The system's reason; `fs_err` has put the path into it.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// Another process holds the directory.
    #[error("{dir} is in use by {holder}; wait until it has finished, or end it")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// `process 1234`, or `another process` where the file does not say.
        holder: String,
    },
    /// A line is not what it should be.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// A value that JSON cannot hold.
    #[error("{path}: this value cannot be written as JSON: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The serialiser's reason.
        reason: String,
    },
    /// A relative name that could lead elsewhere.
    #[error("unsafe file name {name:?}: {reason}; expected a relative name below {base}")]
    UnsafePath {
        /// The directory that was not to be left.
        base: PathBuf,
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
