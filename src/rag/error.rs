//! What can go wrong between a question and its answer.

use serde::{Serialize, Serializer};

use super::Stage;
use crate::generator::GeneratorError;

/// An error of one of the parts behind a trait, with what its caller must know to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PartError {
    /// What sort of failure.
    pub kind: PartErrorKind,
    /// Names the file or key, what was found, what was expected, what to do next.
    pub message: String,
}

/// Sorts of failure, as exit codes and JSON tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartErrorKind {
    /// The question or its picture is unusable.
    Input,
    /// A service or file cannot be reached now; trying again may help.
    Unreachable,
    /// Knowledge base and models do not belong together.
    Mismatch,
    /// Anything else.
    Failure,
}

impl PartError {
    /// An error of a given kind.
    #[must_use]
    pub fn new(kind: PartErrorKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// An error that needs no special treatment.
    #[must_use]
    pub fn failure(message: impl std::fmt::Display) -> Self {
        Self::new(PartErrorKind::Failure, message)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RagError {
    /// Nothing was asked.
    #[error("the question is empty; ask something")]
    EmptyQuestion,
    /// The picture cannot be used.
    #[error("{0}")]
    Picture(String),
    /// The query could not be encoded.
    #[error("encoding the question: {0}")]
    Encode(PartError),
    /// The knowledge base failed.
    #[error("searching the knowledge base: {0}")]
    Search(PartError),
    /// The sections could not be ranked.
    #[error("ranking the sections: {0}")]
    Rank(PartError),
    /// An article or section that was asked for by name is not there.
    #[error("the knowledge base has no {0}; check the data set against `kb status`")]
    NoSuchArticle(String),
    /// The generator failed.
    #[error("answering: {0}")]
    Generate(#[from] GeneratorError),
    /// The stream of the answer ended without an end.
    #[error("answering: the stream ended before the answer did; ask again, and see the log if it happens twice")]
    Unfinished,
    /// The generator said nothing at all.
    #[error("answering: the model gave an empty answer; ask in other words or choose another model")]
    EmptyAnswer,
    /// A stage took longer than it may.
    #[error("{} took longer than {seconds} s; try again, or allow more with `{key}`", stage.label())]
    TimedOut {
        /// Which.
        stage: Stage,
        /// The limit.
        seconds: u64,
        /// Key of the configuration that sets it.
        key: &'static str,
    },
    /// A part panicked.
    #[error("{0} stopped unexpectedly; see the log")]
    Crashed(&'static str),
    /// Called outside of a runtime.
    #[error("no tokio runtime here; call from within one")]
    NoRuntime,
}

impl RagError {
    /// A stable name, for JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyQuestion => "empty-question",
            Self::Picture(_) => "bad-picture",
            Self::Encode(e) | Self::Search(e) | Self::Rank(e) => match e.kind {
                PartErrorKind::Input => "bad-input",
                PartErrorKind::Unreachable => "unreachable",
                PartErrorKind::Mismatch => "mismatch",
                PartErrorKind::Failure => "failure",
            },
            Self::NoSuchArticle(_) => "no-such-article",
            Self::Generate(GeneratorError::Load { .. } | GeneratorError::NoEngine) => "no-generator",
            Self::Generate(GeneratorError::TooLong { .. }) => "prompt-too-long",
            Self::Generate(GeneratorError::Engine(_)) => "engine",
            Self::Unfinished => "unfinished",
            Self::EmptyAnswer | Self::Generate(GeneratorError::EmptyAnswer) => "empty-answer",
            Self::TimedOut { .. } => "timed-out",
            Self::Crashed(_) | Self::NoRuntime => "failure",
        }
    }

    /// What sort of failure it is, which decides the exit code.
    #[must_use]
    pub fn kind(&self) -> PartErrorKind {
        match self {
            Self::EmptyQuestion | Self::Picture(_) => PartErrorKind::Input,
            Self::Encode(e) | Self::Search(e) | Self::Rank(e) => e.kind,
            Self::Generate(GeneratorError::Load { .. }) | Self::TimedOut { .. } => PartErrorKind::Unreachable,
            _ => PartErrorKind::Failure,
        }
    }
}

impl Serialize for RagError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("error", 2)?;
        out.serialize_field("code", self.code())?;
        out.serialize_field("message", &self.to_string())?;
        out.end()
    }
}
