//! The path from a question to a cited answer, as one stream of events.
//!
//! [`Pipeline::ask`] runs named stages, each with a way of doing it that can be replaced and is told with the answer:
//!
//! | stage | ways | file |
//! | --- | --- | --- |
//! | encoding, searching | the retriever, the knowledge base | `run` |
//! | choosing the entity | by score, or by the reader from names alone | `entity`, `run` |
//! | ranking sections | sentence encoder, cross-encoder, the retriever's text side, none | `rank` |
//! | keeping to the budget | whole sentences around what fits best | `budget` |
//! | answering | any [`crate::generator::Generator`] | `speech` |
//! | resolving citations | numbers the model wrote, else matching words | `citations` |
//!
//! Where nothing good enough is found the outcome says why ([`Abstention`]). A question of a conversation is put into
//! words that need none before it is ranked (`follow_up`, [`Conversation`]). Everything that happens is an [`Event`];
//! the last one is [`Event::Answer`] or [`Event::Failed`]. Dropping the receiver cancels the work: at once while
//! something else works, within a token while an answer is made. Every stage has a time limit.
//!
//! The rooms that do the work stand behind small traits ([`QueryEncoder`], [`Search`], [`SectionRanker`]) and
//! [`crate::generator::Generator`].

mod abstention;
pub mod answer;
pub mod budget;
pub mod citations;
mod conversation;
pub mod engines;
pub mod entity;
mod error;
mod event;
mod follow_up;
mod given;
mod pipeline;
pub mod rank;
mod run;
mod settings;
mod speech;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use abstention::Abstention;
pub use answer::{About, Answer, Outcome, Passage, PromptTokens, StageReport, Timings};
pub use citations::{Citation, CitationSource};
pub use conversation::Conversation;
pub use entity::{Candidate, EntityChoice};
pub use error::{PartError, PartErrorKind, RagError};
pub use event::{Event, Stage};
pub use given::{GivenArticles, Hiding};
pub use pipeline::{Parts, Pipeline};
pub use rank::{BiEncoderRanker, CrossRanker, NoRanker, SectionScore, TextEncoder};
pub use settings::{EntityMethod, FollowUpMethod, Limits, NameEntity, Settings, Thresholds};

pub use crate::generator::prompt::Said;
use crate::kb::{Article, Hit};
use crate::retriever::{Item, Picture};

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// What it is asked about.
    pub image: Option<QuestionImage>,
    /// Where the passages come from.
    pub mode: Mode,
    /// The conversation it belongs to, if it is not the first of one.
    pub follow_up: Option<FollowUp>,
    /// What an earlier search found for it, best first; the knowledge base is then not searched again.
    pub found: Option<Vec<FoundBefore>>,
}

/// What an earlier search found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundBefore {
    /// The article, by URL.
    pub url: String,
    /// The search's score.
    pub score: f32,
    /// Which part of it, where parts are embedded.
    pub part: Option<crate::kb::Found>,
}

/// What a question of a conversation keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUp {
    /// URL of the article that the conversation is about: nothing else is searched for.
    pub entity: String,
    /// What was said, oldest first.
    pub before: Vec<Said>,
}

impl Question {
    /// A question to be answered by retrieval.
    #[must_use]
    pub fn new(text: impl Into<String>, image: Option<QuestionImage>) -> Self {
        Self { text: text.into(), image, mode: Mode::Retrieved, follow_up: None, found: None }
    }

    /// The same question with what an earlier search found for it.
    #[must_use]
    pub fn with_found(mut self, found: Vec<FoundBefore>) -> Self {
        self.found = Some(found);
        self
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

/// Turns a query into a vector. Called on a blocking thread.
pub trait QueryEncoder: Send + Sync {
    /// What it is, for reports.
    fn about(&self) -> About;

    /// The embedding of a text, a picture, or both: its unit vectors, row by row.
    ///
    /// # Errors
    /// What keeps the item from being encoded.
    fn encode(&self, item: Item) -> Result<Vec<f32>, PartError>;

    /// How much each of its steps took in of an item, in order; nothing where it has no steps.
    ///
    /// # Errors
    /// What keeps the item from being encoded.
    fn gates(&self, item: Item) -> Result<Vec<Gate>, PartError> {
        let _ = item;
        Ok(Vec::new())
    }
}

/// What a step of the encoder took in of a query: means over state tokens and channels, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// Layer of the text backbone, from 0.
    pub text_layer: usize,
    /// Layer of the picture backbone, from 0.
    pub image_layer: usize,
    /// Of the text; `None` where there was none.
    pub text: Option<f64>,
    /// Of the picture; `None` where there was none.
    pub image: Option<f64>,
    /// Of the state before.
    pub kept: f64,
}

/// Searches a knowledge base. Called on a blocking thread.
pub trait Search: Send + Sync {
    /// What it is, for reports.
    fn about(&self) -> About;

    /// The `k` best hits for an embedding, best first; `words` count too where they are indexed.
    ///
    /// # Errors
    /// What keeps the knowledge base from answering.
    fn search(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError>;

    /// As [`Search::search`], but where parts of articles are embedded, the `k` best parts: an article may come several
    /// times.
    ///
    /// # Errors
    /// What keeps the knowledge base from answering.
    fn search_parts(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError> {
        self.search(query, words, k)
    }

    /// One article by its URL.
    ///
    /// # Errors
    /// What keeps the knowledge base from answering; an unknown URL is `Ok(None)`.
    fn article(&self, url: &str) -> Result<Option<Article>, PartError>;
}

/// Scores the sections of an article against a question. Called on a blocking thread.
pub trait SectionRanker: Send + Sync {
    /// What it is, for reports.
    fn about(&self) -> About;

    /// One score per section, at its place; higher fits better.
    ///
    /// # Errors
    /// What keeps the ranker from working.
    fn rank(&self, question: &str, article: &Article) -> Result<Vec<SectionScore>, PartError>;
}
