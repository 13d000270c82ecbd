//! The answer and all that is known about how it came to be.

use serde::{Deserialize, Serialize};

use super::{Abstention, Candidate, Citation, EntityChoice, Mode, Said, Stage};
use crate::generator::{GeneratorInfo, Usage};

/// How a question ended that did not fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// The generator answered.
    Answered,
    /// The knowledge base holds nothing that is near enough.
    NotInKnowledgeBase {
        /// In words: what was found and what was needed.
        reason: String,
        /// The same, for programs.
        #[serde(flatten)]
        why: Abstention,
    },
    /// Passages only: the pipeline has no generator.
    PassagesOnly,
}

/// A numbered passage of the prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The ranker's score, with the search's where that has a weight; `None` for a section that was asked for by name.
    pub score: Option<f32>,
    /// Tokens of `text`.
    pub tokens: usize,
}

/// Milliseconds, each from the stage's own start but the last two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Decoding the picture and encoding the query.
    pub encoding_ms: Option<f64>,
    /// Searching the knowledge base.
    pub searching_ms: Option<f64>,
    /// Choosing the entity, where the reader does.
    pub choosing_ms: Option<f64>,
    /// Putting a question of a conversation into words that need none, where the reader does.
    pub rewriting_ms: Option<f64>,
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

/// A part of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name, in words.
    pub name: String,
    /// Identity of what it computes with: answers under another one may differ. Empty where the name says all.
    pub fingerprint: String,
}

impl About {
    /// A part by its name and fingerprint.
    #[must_use]
    pub fn new(name: impl Into<String>, fingerprint: impl Into<String>) -> Self {
        Self { name: name.into(), fingerprint: fingerprint.into() }
    }
}

/// A stage that was gone through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// What did it, and how.
    pub by: String,
    /// How long it took; `None` where it takes no time worth telling.
    pub ms: Option<f64>,
}

/// Tokens of a prompt by part, without those of the chat template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokens {
    /// System message.
    pub system: usize,
    /// Earlier turns that show how to answer.
    pub examples: usize,
    /// The passages' texts.
    pub passages: usize,
    /// The rest of the user message: headings, the fence, the question.
    pub question: usize,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked.
    pub question: String,
    /// The same in words that need no conversation: what the reader is asked.
    pub standalone: String,
    /// The question that sections were ranked by, with the entity's name in it where the settings say so.
    pub ranked_by: Option<String>,
    /// What was said before in its conversation, oldest first.
    pub before: Vec<Said>,
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
    /// The ranker's score of the best section, in its own measure; `None` where none was ranked.
    pub section_score: Option<f32>,
    /// Articles found, best first.
    pub candidates: Vec<Candidate>,
    /// The entity chosen.
    pub entity: Option<EntityChoice>,
    /// The stages that were gone through, in order.
    pub stages: Vec<StageReport>,
    /// How long everything took.
    pub timings: Timings,
    /// Tokens of both messages of the prompt, without those of the chat template.
    pub prompt_tokens: usize,
    /// The same by part; `None` where nothing was generated.
    pub prompt: Option<PromptTokens>,
    /// The engine's own counts.
    pub usage: Option<Usage>,
    /// What answered.
    pub generator: Option<GeneratorInfo>,
    /// What encoded the question.
    pub retriever: About,
    /// What was searched.
    pub knowledge_base: About,
    /// What ranked the sections.
    pub ranker: About,
    /// The prompts.
    pub prompts: About,
}

impl Answer {
    /// An answer of which nothing is known yet but the question.
    #[must_use]
    pub fn of(question: impl Into<String>) -> Self {
        let question = question.into();
        Self {
            standalone: question.clone(),
            question,
            ranked_by: None,
            section_score: None,
            before: Vec::new(),
            mode: Mode::Retrieved,
            outcome: Outcome::PassagesOnly,
            text: String::new(),
            plain: String::new(),
            citations: Vec::new(),
            unknown_citations: Vec::new(),
            passages: Vec::new(),
            candidates: Vec::new(),
            entity: None,
            stages: Vec::new(),
            timings: Timings::default(),
            prompt_tokens: 0,
            prompt: None,
            usage: None,
            generator: None,
            retriever: About::default(),
            knowledge_base: About::default(),
            ranker: About::default(),
            prompts: About::default(),
        }
    }
}
