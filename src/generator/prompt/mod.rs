//! Prompts: templates from files, filled with passages, names and questions that cannot act as anything but text.
//!
//! | file of `configs/prompts` | what it asks for |
//! | --- | --- |
//! | `answer`, `starter` | an answer from numbered passages, with citations; the second with examples, for a small reader of text |
//! | `evqa`, `infoseek` | the short answer that the benchmark's metric expects |
//! | `no-retrieval` | an answer from what the model knows |
//! | `choose-entity` | the number of the entity that is shown, out of a list of names |
//! | `follow-up` | a question of a conversation, in words that need no conversation |
//!
//! Three things keep data from being taken for orders. Chat-control tokens are broken in all that is filled in
//! ([`neutralise`]); a passage is one line and bears no bracketed number, so it can neither open another passage nor be
//! cited under a false number; and the block of passages is fenced by a word that occurs nowhere in it.

mod answer;
mod choose;
#[cfg(test)]
mod injection_tests;
mod plain;
mod safe;
mod template;

use std::path::PathBuf;

use super::{Constraint, Turn};

pub use answer::{AnswerTemplates, PromptPassage};
pub use choose::{ChooseTemplates, Named};
pub use plain::{FollowUpTemplates, NoRetrievalTemplates, Said};
pub use safe::neutralise;
pub use template::PromptFile;

/// Why a file of templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file cannot be read; the error names it.
    #[error("prompt templates: {0}")]
    Read(#[from] std::io::Error),
    /// Not the TOML that is expected.
    #[error("prompt templates {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the line.
        reason: String,
    },
    /// A placeholder is missing, unknown or misplaced, or a key holds what it cannot.
    #[error("prompt templates {path}: key `{key}`: {reason}")]
    Placeholder {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// No prompt of that name comes with the program.
    #[error("no shipped prompt is called {name:?}; expected {expected}, or a path that ends with .toml")]
    Unknown {
        /// As written.
        name: String,
        /// Names that are known.
        expected: String,
    },
}

/// A prompt, ready for [`super::Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// System message.
    pub system: String,
    /// Earlier turns that show how to answer.
    pub examples: Vec<Turn>,
    /// User message.
    pub user: String,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// What the answer can be at all.
    pub constraint: Option<Constraint>,
}

impl Prompt {
    /// Every text of it, for counting.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let turns = self.examples.iter().flat_map(|turn| [turn.user.as_str(), turn.assistant.as_str()]);
        [self.system.as_str()].into_iter().chain(turns).chain([self.user.as_str()])
    }
}

/// Every prompt of a pipeline, checked.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// An answer from passages.
    pub answer: AnswerTemplates,
    /// An answer without any.
    pub no_retrieval: NoRetrievalTemplates,
    /// The choice of the entity.
    pub choose_entity: ChooseTemplates,
    /// A question that needs no conversation.
    pub follow_up: FollowUpTemplates,
    fingerprint: String,
}

/// The files that come with the program.
const SHIPPED: [(&str, &str); 7] = [
    ("answer", include_str!("../../../configs/prompts/answer.toml")),
    ("starter", include_str!("../../../configs/prompts/starter.toml")),
    ("evqa", include_str!("../../../configs/prompts/evqa.toml")),
    ("infoseek", include_str!("../../../configs/prompts/infoseek.toml")),
    ("no-retrieval", include_str!("../../../configs/prompts/no-retrieval.toml")),
    ("choose-entity", include_str!("../../../configs/prompts/choose-entity.toml")),
    ("follow-up", include_str!("../../../configs/prompts/follow-up.toml")),
];

/// A file that comes with the program.
///
/// # Errors
/// [`PromptError::Unknown`].
pub fn shipped(name: &str) -> Result<PromptFile, PromptError> {
    let found = SHIPPED.iter().find(|(known, _)| *known == name);
    found.map(|(name, text)| PromptFile::shipped(name, text)).ok_or_else(|| PromptError::Unknown {
        name: name.to_owned(),
        expected: SHIPPED.map(|(name, _)| name).join(", "),
    })
}

/// The files of [`Prompts`].
#[derive(Debug, Clone)]
pub struct PromptFiles {
    /// Of [`Prompts::answer`].
    pub answer: PromptFile,
    /// Of [`Prompts::no_retrieval`].
    pub no_retrieval: PromptFile,
    /// Of [`Prompts::choose_entity`].
    pub choose_entity: PromptFile,
    /// Of [`Prompts::follow_up`].
    pub follow_up: PromptFile,
}

impl PromptFiles {
    /// Shipped ones, that of answers by its name.
    ///
    /// # Errors
    /// [`PromptError::Unknown`].
    pub fn shipped(answer: &str) -> Result<Self, PromptError> {
        Ok(Self {
            answer: shipped(answer)?,
            no_retrieval: shipped("no-retrieval")?,
            choose_entity: shipped("choose-entity")?,
            follow_up: shipped("follow-up")?,
        })
    }
}

impl Prompts {
    /// Parses every file, every placeholder checked.
    ///
    /// # Errors
    /// See [`PromptError`]; each names the file.
    pub fn new(files: &PromptFiles) -> Result<Self, PromptError> {
        let PromptFiles { answer, no_retrieval, choose_entity, follow_up } = files;
        let mut hasher = blake3::Hasher::new();
        for file in [answer, no_retrieval, choose_entity, follow_up] {
            hasher.update(&file.text.len().to_le_bytes()).update(file.text.as_bytes());
        }
        Ok(Self {
            answer: AnswerTemplates::new(answer)?,
            no_retrieval: NoRetrievalTemplates::new(no_retrieval)?,
            choose_entity: ChooseTemplates::new(choose_entity)?,
            follow_up: FollowUpTemplates::new(follow_up)?,
            fingerprint: hasher.finalize().to_hex().as_str()[..16].to_owned(),
        })
    }

    /// Shipped ones, that of answers by its name.
    ///
    /// # Errors
    /// [`PromptError::Unknown`], and none other in a build whose tests pass.
    pub fn shipped(answer: &str) -> Result<Self, PromptError> {
        Self::new(&PromptFiles::shipped(answer)?)
    }

    /// Hash of the files (hex, 16 digits): answers under another one are answers to other prompts.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The prompt of an answer; without passages that which does not speak of any.
    #[must_use]
    pub fn render(&self, passages: &[PromptPassage<'_>], question: &str) -> Prompt {
        if passages.is_empty() { self.no_retrieval.render(question) } else { self.answer.render(passages, question) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_prompt_is_whole() {
        for answer in ["answer", "starter", "evqa", "infoseek"] {
            Prompts::shipped(answer).unwrap();
        }
        let unknown = Prompts::shipped("okvqa").unwrap_err().to_string();
        assert!(unknown.contains("\"okvqa\"; expected answer, starter, evqa"), "{unknown}");
        assert_ne!(Prompts::shipped("evqa").unwrap().fingerprint(), Prompts::shipped("answer").unwrap().fingerprint());
    }

    #[test]
    fn without_passages_nothing_speaks_of_them() {
        let prompt = Prompts::shipped("answer").unwrap().render(&[], "Why?");
        assert!(prompt.user.contains("Why?") && !prompt.user.contains("assage") && !prompt.system.contains("assage"));
        assert!(prompt.examples.is_empty());
    }
}
