//! What can be wrong with a configuration.

use std::fmt;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory that cannot be read; the reason names it.
    #[error("configuration: {0}")]
    Read(#[from] std::io::Error),
    /// Everything that is wrong, in the order of the layers.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// Nowhere to keep models and knowledge bases.
    #[error("no data directory: neither `paths.data_dir`, CICERONE_DATA_DIR, XDG_DATA_HOME nor HOME is set; set one")]
    NoDataDir,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `FILE, line 3`, `environment variable X` or `--set x=y`.
    pub place: String,
    /// What was found, what was expected, what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
