//! The answer and all that is known about how it came to be.

use serde::Serialize;

use super::{Candidate, Citation, EntityChoice, Mode};
use crate::generator::{GeneratorInfo, Usage};

/// How a question ended that did not fail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The generator answered.
    Answered,
    /// The knowledge base holds nothing that is near enough.
    NotInKnowledgeBase {
        /// The score that was found and the one that was needed.
        reason: String,
    },
    /// Passages only: the pipeline has no generator.
    PassagesOnly,
}

/// A numbered passage of the prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passage {
    /// Its number in the prompt and in citations, from 1.
    pub number: usize,
    /// The article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Heading of the section.
    pub section: String,
    /// Index of the section in the article.
    pub section_index: usize,
    /// What the generator is given of it.
    pub text: String,
    /// Whether that is less than the section.
    pub cut: bool,
    /// The ranker's score; `None` for a section that was asked for by name.
    pub score: Option<f32>,
    /// Tokens of `text`.
    pub tokens: usize,
}

/// Milliseconds, each from the stage's own start but the last two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Decoding the picture and encoding the query.
    pub encoding_ms: Option<f64>,
    /// Searching the knowledge base.
    pub searching_ms: Option<f64>,
    /// Ranking sections.
    pub ranking_ms: Option<f64>,
    /// Handing over the prompt to first token.
    pub reading_prompt_ms: Option<f64>,
    /// First token to last.
    pub answering_ms: Option<f64>,
    /// Question to first token.
    pub first_token_ms: Option<f64>,
    /// Question to the whole answer.
    pub total_ms: f64,
}

/// An answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// What was asked.
    pub question: String,
    /// Where the passages come from.
    #[serde(flatten)]
    pub mode: Mode,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The answer as the model wrote it, safe to show, trimmed; empty unless the outcome is `answered`.
    pub text: String,
    /// The answer without its citation marks: what is scored.
    pub plain: String,
    /// What it rests on.
    pub citations: Vec<Citation>,
    /// Numbers the model cited that no passage has.
    pub unknown_citations: Vec<usize>,
    /// Passages of the prompt.
    pub passages: Vec<Passage>,
    /// Articles found, best first.
    pub candidates: Vec<Candidate>,
    /// The entity chosen.
    pub entity: Option<EntityChoice>,
    /// How long everything took.
    pub timings: Timings,
    /// Tokens of both messages of the prompt, without those of the chat template.
    pub prompt_tokens: usize,
    /// The engine's own counts.
    pub usage: Option<Usage>,
    /// What answered.
    pub generator: Option<GeneratorInfo>,
}
