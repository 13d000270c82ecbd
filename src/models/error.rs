//! Why a model cannot be had.

use std::path::{Path, PathBuf};

use crate::io::IoError;

/// Errors of this room. Each names the file or entry, what was found, what was expected and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A file could not be read, written, locked or named.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No entry or group has this name.
    #[error("no model or group is called `{name}`; known are {known}")]
    Unknown {
        /// As it was asked for.
        name: String,
        /// What could have been asked for.
        known: String,
    },
    /// A catalogue file is not what it should be.
    #[error("{file}: {reason}")]
    Catalogue {
        /// The catalogue file.
        file: String,
        /// The key, what was found and what was expected.
        reason: String,
    },
    /// The model is not on this machine.
    #[error("model `{name}` is not at {dir}; fetch it with `cicerone models pull {pull}`")]
    Absent {
        /// Name of the entry.
        name: String,
        /// Where it would be.
        dir: PathBuf,
        /// What to pull.
        pull: String,
    },
    /// The model on this machine is not what its record says.
    #[error("model `{name}` is damaged: {path}: {reason}; mend it with `cicerone models pull {name}`")]
    Damaged {
        /// Name of the entry.
        name: String,
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A fetched file is another one than the catalogue says.
    #[error(
        "{file} from {source_name} has SHA-256 {found}, expected {expected}; it was deleted, try again or another source"
    )]
    Mismatch {
        /// The file.
        file: String,
        /// Where it came from.
        source_name: String,
        /// SHA-256 that was found.
        found: String,
        /// SHA-256 that was expected.
        expected: String,
    },
    /// No source could be reached now. Trying again later may help.
    #[error(
        "{file} of model `{name}` cannot be reached now:{reasons}\ncheck the network and try again; what was fetched is kept"
    )]
    Unreachable {
        /// Name of the entry.
        name: String,
        /// The file.
        file: String,
        /// One line for each source that was tried.
        reasons: String,
    },
    /// No source has the file, and trying again will not change that.
    #[error("{file} of model `{name}` cannot be had:{reasons}")]
    Unavailable {
        /// Name of the entry.
        name: String,
        /// The file.
        file: String,
        /// One line for each source that was tried.
        reasons: String,
    },
    /// A file cannot be converted.
    #[error("cannot convert {path}: {reason}")]
    Convert {
        /// The file that was read.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A map of tensor names is not there or not what it should be.
    #[error("name map `{map}`: {reason}")]
    NameMap {
        /// Its name or file.
        map: String,
        /// The rule, what was found and what was expected.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("stopped; what was fetched is kept, the same command goes on from there")]
    Interrupted,
}

impl ModelsError {
    /// Whether the same command may succeed later without any change (exit code 3).
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Io(IoError::Locked { .. }))
    }

    pub(super) fn convert(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Convert { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<std::io::Error> for ModelsError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.into())
    }
}
