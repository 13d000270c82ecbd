//! What happens on the way to an answer.

use serde::{Deserialize, Serialize};

use crate::generator::Turn;

use super::{Answer, Candidate, EntityChoice, Passage, RagError};

/// A step that takes time. Each is announced, and finished unless the question fails within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Decoding the picture and encoding the query.
    Encoding,
    /// Searching the knowledge base.
    Searching,
    /// Choosing the entity.
    Choosing,
    /// Putting a question of a conversation into words that need none.
    Rewriting,
    /// Ranking the sections of the entity.
    Ranking,
    /// From handing over the prompt to the first token.
    ReadingPrompt,
    /// From the first token to the last.
    Answering,
}

impl Stage {
    /// What a person is told.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Searching => "searching",
            Self::Choosing => "choosing the entity",
            Self::Rewriting => "reading the conversation",
            Self::Ranking => "ranking",
            Self::ReadingPrompt => "reading the prompt",
            Self::Answering => "answering",
        }
    }
}

/// One thing that happened. The last event of a question is [`Self::Answer`] or [`Self::Failed`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A stage begins.
    Started {
        /// Which.
        stage: Stage,
    },
    /// A stage is over.
    Finished {
        /// Which.
        stage: Stage,
        /// How long it took, milliseconds.
        ms: f64,
    },
    /// Articles found, best first.
    Candidates {
        /// Merged by article.
        candidates: Vec<Candidate>,
    },
    /// The entity that the answer is about.
    Entity {
        /// Which and why.
        entity: EntityChoice,
    },
    /// A question of a conversation, in words that need none.
    Standalone {
        /// The question.
        question: String,
    },
    /// What the prompt holds.
    Passages {
        /// In the order of their numbers.
        passages: Vec<Passage>,
    },
    /// The very prompt.
    Prompt {
        /// Tokens of all messages, without those of the chat template.
        tokens: usize,
        /// System message.
        system: String,
        /// Earlier turns that show how to answer.
        examples: Vec<Turn>,
        /// User message.
        user: String,
    },
    /// A piece of the answer, safe to show.
    Token {
        /// To append.
        text: String,
    },
    /// The end: an answer, or that there is none in the knowledge base.
    Answer {
        /// All that is known about it.
        answer: Box<Answer>,
    },
    /// The end: no answer.
    Failed {
        /// Why.
        error: RagError,
    },
}
