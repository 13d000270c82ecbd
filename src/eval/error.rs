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
    /// A format of questions that is not known.
    #[error("unknown data set {found:?}; expected evqa, infoseek, m2kr or mbeir")]
    Format {
        /// As written.
        found: String,
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
    /// A folder without a run.
    #[error("{path}: no run is there; expected the folder of a `cicerone eval run`, with its run.json")]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// Parts of a run that cannot be put together.
    #[error("the parts cannot be put together: {reason}")]
    Merge {
        /// What was found and what was expected.
        reason: String,
    },
    /// Runs that cannot be compared.
    #[error("the runs cannot be compared: {reason}")]
    Compare {
        /// What differs.
        reason: String,
    },
    /// Predictions that lack questions.
    #[error("{path}: {missing} of {questions} questions have no prediction (first: {first})")]
    Missing {
        /// The file of predictions.
        path: PathBuf,
        /// Questions without one.
        missing: usize,
        /// Questions.
        questions: usize,
        /// The first of those without.
        first: String,
    },
    /// A file of predictions that is not understood.
    #[error("{path}: {reason}")]
    Predictions {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A model that judges answers.
    #[error("judging answers: {0}")]
    Judge(String),
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
