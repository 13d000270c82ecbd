//! How a command fails: exit code, stable name, message, hint.

use std::io::ErrorKind;
use std::process::ExitCode;

use serde::Serialize;

use super::screen::Closed;
use crate::generator::GeneratorError;
use crate::io::IoError;
use crate::kb::KbError;
use crate::rag::engines::EnginesError;
use crate::rag::{PartErrorKind, RagError};
use crate::retriever::{PictureError, RetrieverError};

/// Version of every JSON document that commands print; rises when a key changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed; another try without a change will fail too.
    Failed,
    /// The command line, the configuration or a file named there is wrong.
    Usage,
    /// A service or file cannot be reached now.
    Unreachable,
    /// Knowledge base and model do not match.
    Mismatch,
    /// Finished, with some rows failed.
    Partial,
    /// Stopped by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Mismatch => 4,
            Self::Partial => 5,
            Self::Interrupted => 130,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Unreachable,
            4 => Self::Mismatch,
            5 => Self::Partial,
            130 => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable name for machines, `snake_case`.
    pub code: String,
    /// What happened, what was found and what was expected.
    pub message: String,
    /// What to do next; often a command.
    pub hint: Option<String>,
    /// How the command ends.
    #[serde(skip)]
    pub exit: Exit,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(exit: Exit, code: &str, message: impl std::fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string(), hint: None, exit }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl std::fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The failure in the chain of `error` that one of the rooms made; the whole chain is the message.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let found = error.chain().find_map(|cause| {
            (cause.downcast_ref::<Self>().cloned())
                .or_else(|| cause.downcast_ref::<Closed>().map(|_| Self::new(Exit::Done, "closed", "")))
                .or_else(|| cause.downcast_ref().map(of_engines))
                .or_else(|| cause.downcast_ref().map(of_kb))
                .or_else(|| cause.downcast_ref().map(of_rag))
                .or_else(|| cause.downcast_ref().map(of_retriever))
                .or_else(|| cause.downcast_ref().map(of_picture))
                .or_else(|| cause.downcast_ref().map(of_generator))
                .or_else(|| super::models::failure(cause))
                .or_else(|| super::config::failure(cause))
                .or_else(|| super::eval::failure(cause))
                .or_else(|| super::train::failure(cause))
        });
        match found {
            Some(failure) => failure,
            None => Self::new(Exit::Failed, "failure", format!("{error:#}")),
        }
    }

    /// Whether nothing is to be said.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.exit == Exit::Done
    }
}

fn of_engines(error: &EnginesError) -> Failure {
    match error {
        EnginesError::MissingModel { pull, .. } => {
            let failure = Failure::new(Exit::Unreachable, "model_missing", error);
            match pull {
                Some(name) => failure.hint(format_args!("cicerone models pull {name}")),
                None => failure.hint("put the model there, or name another in the configuration"),
            }
        }
        EnginesError::MissingFile { .. } => Failure::new(Exit::Unreachable, "file_missing", error)
            .hint("run from the source tree, set CICERONE_STARTER_DIR to its data/starter, or set the key"),
        EnginesError::Models(inner) => super::models::of(inner),
        EnginesError::Retriever(inner) => of_retriever(inner),
        EnginesError::Kb(inner) => of_kb(inner),
        EnginesError::Generator(inner) => of_generator(inner),
        EnginesError::Prompt(_) => Failure::new(Exit::Usage, "prompt_templates", error),
    }
}

fn of_kb(error: &KbError) -> Failure {
    // The rooms' messages end with the command that mends; here it is the hint.
    let whole = error.to_string();
    let (message, hint) = match error {
        KbError::NotFound { name, .. } => {
            let (message, hint) = split(&whole, "; build it: ");
            let demo = "cicerone demo builds it".to_owned();
            (message, if name == "starter" { Some(demo) } else { hint })
        }
        KbError::FingerprintMismatch { .. } => split(&whole, "; build it again: "),
        KbError::Damaged { .. } => split(&whole, ", or: "),
        KbError::Interrupted { .. } | KbError::NoRoom { .. } => split(&whole, "; "),
        KbError::Io(IoError::System(e))
            if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) =>
        {
            let hint = "an engine writes beside its files: copy the knowledge base to where you may write, and set \
                        paths.data_dir";
            (whole, Some(hint.to_owned()))
        }
        _ => (whole, None),
    };
    Failure { code: error.code().to_owned(), message, hint, exit: Exit::from_code(error.exit_code()) }
}

fn split(text: &str, at: &str) -> (String, Option<String>) {
    match text.rsplit_once(at) {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn of_rag(error: &RagError) -> Failure {
    let exit = match error.kind() {
        PartErrorKind::Input => Exit::Usage,
        PartErrorKind::Unreachable => Exit::Unreachable,
        PartErrorKind::Mismatch => Exit::Mismatch,
        PartErrorKind::Failure => Exit::Failed,
    };
    Failure::new(exit, &error.code().replace('-', "_"), error)
}

fn of_retriever(error: &RetrieverError) -> Failure {
    match error {
        RetrieverError::Picture(picture) => of_picture(picture),
        RetrieverError::Read { .. } => Failure::new(Exit::Unreachable, "retriever_files", error)
            .hint("cicerone models pull starter, or set the retriever's files in the configuration"),
        RetrieverError::Config { .. } => Failure::new(Exit::Usage, "retriever_config", error),
        RetrieverError::Device { .. } => Failure::new(Exit::Usage, "device", error),
        RetrieverError::NameMap(inner) => super::models::of(inner),
        RetrieverError::EmptyItem => Failure::new(Exit::Usage, "empty_query", error),
        _ => Failure::new(Exit::Failed, "retriever", error),
    }
}

fn of_picture(error: &PictureError) -> Failure {
    let code = match error {
        PictureError::Open { .. } => "picture_not_found",
        PictureError::Decode { .. } => "picture_unreadable",
        PictureError::TooLarge { .. } => "picture_too_large",
    };
    Failure::new(Exit::Usage, code, error)
}

fn of_generator(error: &GeneratorError) -> Failure {
    match error {
        GeneratorError::Load { .. } => {
            Failure::new(Exit::Unreachable, "generator_files", error).hint("cicerone models verify")
        }
        GeneratorError::NoEngine => Failure::new(Exit::Failed, "no_engine", error)
            .hint("build with default features, or ask with --no-generate"),
        _ => Failure::new(Exit::Failed, "generator", error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_room_s_error_is_found_under_any_context() {
        let error = KbError::FingerprintMismatch {
            name: "x".into(),
            built_with: "a".into(),
            current: "b".into(),
            mend: "cicerone kb build --name x --source evqa:f --fresh".into(),
        };
        let wrapped = Err::<(), _>(error).context("opening").unwrap_err();
        let failure = Failure::of(&wrapped);
        assert_eq!((failure.exit.code(), failure.code.as_str()), (4, "kb_fingerprint_mismatch"));
        assert_eq!(failure.hint.unwrap(), "cicerone kb build --name x --source evqa:f --fresh");
        assert!(failure.message.ends_with("the current one is b"), "{}", failure.message);
    }

    #[test]
    fn an_empty_question_is_a_usage_error_and_a_closed_pipe_is_none() {
        let failure = Failure::of(&RagError::EmptyQuestion.into());
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "empty_question"));
        assert!(Failure::of(&Closed.into()).is_quiet());
    }

    #[test]
    fn other_errors_say_their_whole_chain() {
        let failure = Failure::of(&anyhow::anyhow!("inner").context("outer"));
        assert_eq!((failure.message.as_str(), failure.exit), ("outer: inner", Exit::Failed));
    }

    #[test]
    fn exit_codes_read_back() {
        for exit in
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Mismatch, Exit::Partial, Exit::Interrupted]
        {
            assert_eq!(Exit::from_code(exit.code()), exit);
        }
    }
}
