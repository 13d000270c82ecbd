//! What can go wrong in an evaluation.

use std::path::PathBuf;

use crate::io::IoError;

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file that cannot be read or written, or a line that is not JSON; the reason names it.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A CSV file without a column that is needed.
    #[error("{path}: no column `{missing}`; found {found}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column's name.
        missing: &'static str,
        /// What its header holds.
        found: String,
    },
    /// A CSV file that cannot be read on.
    #[error("{path}: {reason}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// The reader's reason, with the line.
        reason: String,
    },
    /// A file that gives no question at all.
    #[error("{path}: no usable question in {rows} rows{}; expected {expected}", first.as_ref().map(|f| format!(" (first: {f})")).unwrap_or_default())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Rows that were read.
        rows: usize,
        /// What is wrong with the first one.
        first: Option<String>,
        /// What a file of this kind holds.
        expected: &'static str,
    },
    /// A question type that the metric does not know.
    #[error("unknown question type {found:?}; expected {expected}")]
    Kind {
        /// As written.
        found: String,
        /// What is known.
        expected: &'static str,
    },
    /// Two predictions for one question.
    #[error("two predictions for question {id}; expected one")]
    TwoPredictions {
        /// The question.
        id: String,
    },
    /// A question whose type is not known.
    #[error("no question type for {id}; expected a line of it in the qtype file")]
    NoKind {
        /// The question.
        id: String,
    },
    /// A file of results that belongs to another run.
    #[error(
        "{path} holds results of other settings ({field}: {found}, now {expected}); name another file, or remove it to start anew"
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: String,
        /// As in the file.
        found: String,
        /// As now.
        expected: String,
    },
}

impl From<std::io::Error> for EvalError {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e.into())
    }
}
