//! The path from a question to a cited answer, as one stream of events.
//!
//! [`Pipeline::ask`] encodes the question and its picture, searches the knowledge base, chooses the entity, ranks its
//! sections, fits passages into the prompt, lets the generator answer and resolves what it cites. Everything that
//! happens is an [`Event`]; the last one is [`Event::Answer`] or [`Event::Failed`]. Dropping the receiver cancels the
//! work: at once while something else works, within a token while an answer is made.
//!
//! The rooms that do the work stand behind three small traits ([`QueryEncoder`], [`Search`], [`SectionRanker`]) and
//! [`crate::generator::Generator`].

pub mod answer;
pub mod budget;
pub mod citations;
pub mod engines;
pub mod entity;
mod error;
mod event;
mod pipeline;
pub mod rank;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use answer::{Answer, Outcome, Passage, Timings};
pub use citations::{Citation, CitationSource};
pub use entity::{Candidate, EntityChoice};
pub use error::{PartError, PartErrorKind, RagError};
pub use event::{Event, Stage};
pub use pipeline::Pipeline;
pub use rank::{BiEncoderRanker, SectionScore, TextEncoder};

use crate::kb::{Article, Hit};
use crate::retriever::{Item, Picture, PictureLimits};

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// What it is asked about.
    pub image: Option<QuestionImage>,
    /// Where the passages come from.
    pub mode: Mode,
}

impl Question {
    /// A question to be answered by retrieval.
    #[must_use]
    pub fn new(text: impl Into<String>, image: Option<QuestionImage>) -> Self {
        Self { text: text.into(), image, mode: Mode::Retrieved }
    }

    /// The same question with its passages from elsewhere.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
}

/// The picture of a question.
#[derive(Debug, Clone)]
pub enum QuestionImage {
    /// A file, decoded when the question is asked.
    Path(PathBuf),
    /// Decoded already. A generator that sees is given a temporary file.
    Decoded(Picture),
}

/// Where the passages come from. All but the first exist to tell the errors of retrieval from those of reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum Mode {
    /// From the knowledge base, found by the question and its picture.
    #[default]
    Retrieved,
    /// From the sections of a given article, ranked as usual.
    OracleEntity {
        /// The article.
        url: String,
    },
    /// One given section.
    OraclePassage {
        /// The article.
        url: String,
        /// Index of the section in the article.
        section: usize,
    },
    /// None: the generator answers from what it knows.
    NoRetrieval,
}

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Points asked of the knowledge base before merging by article.
    pub candidates: usize,
    /// Articles whose sections compete for the prompt.
    pub entities: usize,
    /// Passages of a prompt, at most.
    pub passages: usize,
    /// Tokens of all passages together, at most.
    pub passage_tokens: usize,
    /// Tokens of one passage, at most; a longer section is cut around what fits the question best.
    pub tokens_per_passage: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Below this score of the best candidate the answer is "not in the knowledge base"; `None` answers always.
    pub min_score: Option<f32>,
    /// Put before the question for the query encoder (M2KR's instruction by default belongs to the configuration).
    pub instruction: String,
    /// Bounds of a question's picture.
    pub picture_limits: PictureLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            candidates: 20,
            entities: 1,
            passages: 1,
            passage_tokens: 240,
            tokens_per_passage: 240,
            max_tokens: 48,
            min_score: None,
            instruction: String::new(),
            picture_limits: PictureLimits::default(),
        }
    }
}

/// Turns a query into a vector. Called on a blocking thread.
pub trait QueryEncoder: Send + Sync {
    /// The embedding of a text, a picture, or both: its unit vectors, row by row.
    ///
    /// # Errors
    /// What keeps the item from being encoded.
    fn encode(&self, item: Item) -> Result<Vec<f32>, PartError>;
}

/// Searches a knowledge base. Called on a blocking thread.
pub trait Search: Send + Sync {
    /// The `k` best hits for an embedding, best first; `words` count too where they are indexed.
    ///
    /// # Errors
    /// What keeps the knowledge base from answering.
    fn search(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError>;

    /// One article by its URL.
    ///
    /// # Errors
    /// What keeps the knowledge base from answering; an unknown URL is `Ok(None)`.
    fn article(&self, url: &str) -> Result<Option<Article>, PartError>;
}

/// Scores the sections of an article against a question. Called on a blocking thread.
pub trait SectionRanker: Send + Sync {
    /// One score per section, at its place; higher fits better.
    ///
    /// # Errors
    /// What keeps the ranker from working.
    fn rank(&self, question: &str, sections: &[crate::kb::Section]) -> Result<Vec<SectionScore>, PartError>;
}
