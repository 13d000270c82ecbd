//! A question and what became of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Told;
use crate::rag::{Answer, Candidate, EntityChoice, Event, Gate, Outcome, Passage, Stage};
use crate::text::sanitise_line;

/// A step on the way, as it is shown while it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Which.
    pub stage: Stage,
    /// When it began, on the session's clock.
    pub began: Duration,
    /// How long it took; `None` while it goes on.
    pub ms: Option<f64>,
}

/// How a turn ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With an answer, or that there is none in the knowledge base.
    Answered(Box<Answer>),
    /// It was stopped; what came is kept.
    Stopped,
    /// It failed.
    Failed {
        /// Why.
        message: String,
    },
}

/// The very prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// System message.
    pub system: String,
    /// Earlier turns that show how to answer: what is asked, and the answer.
    pub examples: Vec<(String, String)>,
    /// User message.
    pub user: String,
    /// Tokens of all messages.
    pub tokens: usize,
}

/// What is known of the gates of a turn's question.
#[derive(Debug, Clone, Default)]
pub enum Gates {
    /// Nobody looked.
    #[default]
    Unknown,
    /// They are being looked at.
    Asked,
    /// They were looked at.
    Seen(Result<Vec<Gate>, Told>),
}

/// A question and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// Which, within a run of the program.
    pub id: u64,
    /// What was asked, as it was written.
    pub question: String,
    /// The knowledge base that was asked.
    #[serde(default)]
    pub kb: String,
    /// The picture it was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PathBuf>,
    /// What has come of the answer, safe to show.
    #[serde(default)]
    pub text: String,
    /// The prompt, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// How it ended; `None` while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Steps so far.
    #[serde(skip)]
    pub steps: Vec<Step>,
    /// What the retriever took in of the question.
    #[serde(skip)]
    pub gates: Gates,
    /// Articles found so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    found: Vec<Candidate>,
    /// The entity so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity: Option<EntityChoice>,
    /// Passages so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passages: Vec<Passage>,
}

impl Turn {
    /// A turn that has just begun.
    #[must_use]
    pub fn new(id: u64, question: String, picture: Option<PathBuf>) -> Self {
        Self {
            id,
            question,
            kb: String::new(),
            picture,
            text: String::new(),
            prompt: None,
            end: None,
            steps: Vec::new(),
            gates: Gates::Unknown,
            found: Vec::new(),
            entity: None,
            passages: Vec::new(),
        }
    }

    /// The same, asked of a knowledge base.
    #[must_use]
    pub fn of(mut self, kb: &str) -> Self {
        kb.clone_into(&mut self.kb);
        self
    }

    /// Takes a step in.
    pub fn happened(&mut self, event: Event, now: Duration) {
        match event {
            Event::Started { stage } => self.steps.push(Step { stage, began: now, ms: None }),
            Event::Finished { stage, ms } => {
                if let Some(step) = self.steps.iter_mut().rev().find(|step| step.stage == stage) {
                    step.ms = Some(ms);
                }
            }
            Event::Candidates { candidates } => self.found = candidates,
            Event::Entity { entity } => self.entity = Some(entity),
            Event::Standalone { .. } => {}
            Event::Passages { passages } => self.passages = passages,
            Event::Prompt { tokens, system, examples, user } => {
                let examples = examples.into_iter().map(|turn| (turn.user, turn.assistant)).collect();
                self.prompt = Some(Prompt { system, examples, user, tokens });
            }
            Event::Token { text } => {
                let text = if self.text.is_empty() { text.trim_start() } else { &text };
                self.text.push_str(text);
            }
            Event::Answer { answer } => {
                self.text.clone_from(&answer.text);
                self.end = Some(End::Answered(answer));
                // The answer has them.
                (self.found, self.entity, self.passages) = (Vec::new(), None, Vec::new());
            }
            Event::Failed { error } => self.end = Some(End::Failed { message: error.to_string() }),
        }
    }

    /// The answer, once it is whole.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.end {
            Some(End::Answered(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Articles found, best first.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        self.answer().map_or(&self.found, |answer| &answer.candidates)
    }

    /// The entity that was chosen.
    #[must_use]
    pub fn entity(&self) -> Option<&EntityChoice> {
        self.answer().map_or(self.entity.as_ref(), |answer| answer.entity.as_ref())
    }

    /// What the reader was given.
    #[must_use]
    pub fn passages(&self) -> &[Passage] {
        self.answer().map_or(&self.passages, |answer| &answer.passages)
    }

    /// Whether the question was encoded: one that goes on with an entity is not.
    #[must_use]
    pub fn was_encoded(&self) -> bool {
        let steps = self.steps.iter().map(|step| step.stage);
        let reported = self.answer().into_iter().flat_map(|answer| answer.stages.iter().map(|report| report.stage));
        steps.chain(reported).any(|stage| stage == Stage::Encoding)
    }

    /// Whether the answer rests on passage `number`.
    #[must_use]
    pub fn cites(&self, number: usize) -> bool {
        self.answer().is_some_and(|answer| answer.citations.iter().any(|citation| citation.passage == number))
    }

    /// What there is to copy: the answer, or why there is none.
    #[must_use]
    pub fn said(&self) -> String {
        match &self.end {
            Some(End::Answered(answer)) => match &answer.outcome {
                Outcome::NotInKnowledgeBase { reason, .. } => {
                    format!("Not in the knowledge base: {}", sanitise_line(reason))
                }
                Outcome::PassagesOnly => {
                    answer.passages.iter().map(|passage| passage.text.as_str()).collect::<Vec<_>>().join("\n\n")
                }
                _ => self.text.clone(),
            },
            Some(End::Failed { message }) => sanitise_line(message),
            _ => self.text.clone(),
        }
    }

    /// The same with its sources below.
    #[must_use]
    pub fn said_with_sources(&self) -> String {
        let mut text = self.said();
        for passage in self.passages() {
            let [title, section, url] = [&passage.title, &passage.section, &passage.url].map(|s| sanitise_line(s));
            text.push_str(&format!("\n[{}] {title} — {section} <{url}>", passage.number));
        }
        text
    }
}
