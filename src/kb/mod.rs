//! Knowledge bases: articles made searchable, whole or not there.

pub mod article;

use std::path::PathBuf;

pub use article::{Article, Section};

/// What a knowledge base needs of a retriever, and all that it knows of one.
///
/// `fingerprint` identifies weights, config, processor, tokenizer and instruction; a knowledge base built under one
/// fingerprint is never searched under another.
pub trait Embedder: Send + Sync {
    /// Identity of everything that decides an embedding (hex).
    fn fingerprint(&self) -> &str;
    /// Length of an embedding.
    fn dim(&self) -> usize;
    /// Embeds a batch; the outcome of each document stands at its place.
    ///
    /// # Errors
    /// The outer error is the engine's; an inner one concerns that document alone (an unreadable picture).
    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String>;
}

/// What of an article is embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Text side, already put together (title and summary).
    pub text: Option<String>,
    /// Picture side: a file to decode.
    pub image: Option<PathBuf>,
}

/// One article found by a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The article, from the payload.
    pub article: Article,
    /// Dot product of unit vectors, in [-1, 1].
    pub score: f32,
}
