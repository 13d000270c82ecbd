//! Generators: a prompt becomes a stream of text.
//!
//! The contract is [`Generator`]: dropping the receiver of [`Generator::generate`] cancels the work at the next token,
//! an error in the stream is an error of the answer, and an empty stream is never a success.

#[cfg(feature = "mistral")]
mod gguf;
#[cfg(feature = "mistral")]
pub mod mistral;
#[cfg(feature = "mistral")]
mod model_dir;
pub mod prompt;
mod remembering;
pub mod scripted;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[cfg(feature = "mistral")]
pub use mistral::{Format, MistralGenerator, MistralSettings};
pub use prompt::{Prompt, PromptError, PromptPassage, Prompts};
pub use remembering::Remembering;
pub use scripted::Scripted;

/// A generator that can be asked for one answer at a time.
pub trait Generator: Send + Sync {
    /// What it is, for logs, reports and JSON.
    fn info(&self) -> &GeneratorInfo;
    /// Number of tokens of `text` by the model's own tokenizer, special tokens excluded.
    fn count_tokens(&self, text: &str) -> usize;
    /// Most tokens that a picture takes in a prompt; 0 for a model that is shown none.
    fn picture_tokens(&self) -> usize {
        0
    }
    /// Starts one request. Chunks arrive as they are made; the last one is [`Chunk::Done`] or an error.
    fn generate(&self, request: Request) -> mpsc::Receiver<Result<Chunk, GeneratorError>>;
}

/// What a generator is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GeneratorInfo {
    /// Name of the model, from its directory or catalogue entry.
    pub model: String,
    /// How it is held: `f32`, `q8_0`, …
    pub format: String,
    /// Hash over the model's files (hex, short).
    pub fingerprint: String,
    /// Whether it can look at a picture.
    pub sees_pictures: bool,
    /// Longest prompt plus answer, in tokens.
    pub context_length: usize,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// System message.
    pub system: String,
    /// Earlier turns that show how to answer; equal in every request of one template.
    pub examples: Vec<Turn>,
    /// User message: passages and question, already neutralised.
    pub user: String,
    /// Picture for a model that sees.
    pub image: Option<PathBuf>,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Strings that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the answer can be at all; `None` for anything.
    pub constraint: Option<Constraint>,
    /// How tokens are drawn; `None` takes the likeliest each time.
    pub sampling: Option<Sampling>,
}

/// What an answer can be at all: a model that follows it cannot say anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constraint {
    /// One of these texts, whole.
    OneOf(Vec<String>),
    /// A text that this regular expression matches as a whole.
    Regex(String),
}

/// Drawing tokens by their probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampling {
    /// Logits are divided by it; more than 0.
    pub temperature: f32,
    /// Equal requests with equal seeds have equal answers.
    pub seed: u64,
}

/// One exchange that came before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// What the user said.
    pub user: String,
    /// What was answered.
    pub assistant: String,
}

/// One piece of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Chunk {
    /// Text to append.
    Text(String),
    /// The end, with what was counted.
    Done(Usage),
}

/// Counts and speeds of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub completion_tokens: usize,
    /// From start to first token, seconds, as the engine counts it.
    pub prompt_s: f32,
    /// Making the rest, seconds.
    pub completion_s: f32,
    /// Whether the answer was cut at `max_tokens`.
    pub truncated: bool,
}

/// Why no answer, or no whole answer, came.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GeneratorError {
    /// Files of the model are missing or unusable.
    #[error("model at {path}: {reason}")]
    Load {
        /// Directory or file.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The prompt does not fit.
    #[error("prompt of {tokens} tokens is longer than the model's context of {limit}")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens the model takes.
        limit: usize,
    },
    /// The engine failed while answering.
    #[error("the engine stopped: {0}")]
    Engine(String),
    /// It said nothing at all.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// This build has no engine for the request.
    #[error("this build has no answering engine (cargo feature `mistral`)")]
    NoEngine,
}

/// A stream that holds one error and nothing else.
fn failed(error: GeneratorError) -> mpsc::Receiver<Result<Chunk, GeneratorError>> {
    let (tx, rx) = mpsc::channel(1);
    // The channel is new and has room for one: this cannot fail.
    let _ = tx.try_send(Err(error));
    rx
}
