//! What can be set of the path from a question to its answer.

use std::time::Duration;

use serde::Serialize;

use crate::generator::Sampling;
use crate::retriever::PictureLimits;

/// How the entity is chosen among the candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntityMethod {
    /// The one with the best score.
    #[default]
    Score,
    /// The reader picks one from names and scores, with the picture if it sees, before any text is read.
    Model,
}

/// Where the entity's name stands in place of what refers to the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameEntity {
    /// Nowhere: a question is taken as it was put.
    Never,
    /// In the question that sections are ranked by.
    #[default]
    Ranking,
    /// In that which the reader is asked, too.
    Always,
}

/// How a question of a conversation is made one that stands alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FollowUpMethod {
    /// By rules of English: pronouns and omissions are filled in.
    #[default]
    Rule,
    /// The reader writes it again; by rule where it writes nothing that can be used.
    Model,
}

/// What must be reached, lest the answer be "not in the knowledge base"; `None` for no demand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Thresholds {
    /// Score of the best candidate.
    pub score: Option<f32>,
    /// Its lead over the next one, where the entity is chosen by score.
    pub margin: Option<f32>,
    /// The ranker's score of the best section, in the ranker's own measure.
    pub section: Option<f32>,
}

/// How long a stage may take before the question fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Encoding, searching, ranking: each.
    pub stage: Duration,
    /// From handing over a prompt to its first token. Includes waiting for questions that came before.
    pub first_token: Duration,
    /// From there to the last.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let [stage, first_token, answer] = [120, 1800, 1800].map(Duration::from_secs);
        Self { stage, first_token, answer }
    }
}

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Points asked of the knowledge base before merging by article.
    pub candidates: usize,
    /// How the entity is chosen.
    pub entity: EntityMethod,
    /// Candidates whose names a model chooses from.
    pub names: usize,
    /// Articles whose sections compete for the prompt.
    pub entities: usize,
    /// Where the entity's name stands in place of what refers to the picture.
    pub name_entity: NameEntity,
    /// Weight of the search's score of a section (where sections are embedded) or of its article, beside the ranker's.
    pub retrieval_weight: f32,
    /// Passages of a prompt, at most.
    pub passages: usize,
    /// Tokens of all passages together, at most.
    pub passage_tokens: usize,
    /// Tokens of one passage, at most; a longer section is cut around what fits the question best.
    pub tokens_per_passage: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// How tokens are drawn; `None` for the likeliest each time.
    pub sampling: Option<Sampling>,
    /// What must be reached.
    pub thresholds: Thresholds,
    /// How a question of a conversation is made one that stands alone.
    pub follow_up: FollowUpMethod,
    /// How long a stage may take.
    pub limits: Limits,
    /// Put before the question for the query encoder (M2KR's instruction by default belongs to the configuration).
    pub instruction: String,
    /// Bounds of a question's picture.
    pub picture_limits: PictureLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            candidates: 20,
            entity: EntityMethod::Score,
            names: 5,
            entities: 1,
            name_entity: NameEntity::Ranking,
            retrieval_weight: 0.0,
            passages: 1,
            passage_tokens: 240,
            tokens_per_passage: 240,
            max_tokens: 48,
            sampling: None,
            thresholds: Thresholds::default(),
            follow_up: FollowUpMethod::Rule,
            limits: Limits::default(),
            instruction: String::new(),
            picture_limits: PictureLimits::default(),
        }
    }
}
