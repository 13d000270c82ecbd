//! Knowledge bases: articles made searchable, whole or not there.
//!
//! A knowledge base lives in `<root>/<name>/` (see [`place`]). A build writes a directory of its own, describes it in
//! a [`Manifest`] as its last act, and then replaces one pointer file: whoever opens the name finds the old base or
//! the new one, whatever happened in between. A build that was cut off goes on where it stood.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`source`] | articles out of a file, one at a time; what cannot be read names its line |
//! | [`store`] | the engine: points with vectors and payload, exactly counted |
//! | [`mod@build`] | source and embedder become a knowledge base, interrupted and resumed at will |
//! | [`manifest`] | what a finished base is made of, and how to see that it is whole |
//! | [`open`] | a finished base, opened under one retriever and searched |
//!
//! Everything here blocks: from asynchronous code call it through `spawn_blocking`.

pub mod article;
pub mod build;
pub mod error;
pub mod manifest;
pub mod open;
pub mod place;
pub mod recipe;
pub mod source;
pub mod store;

use std::path::PathBuf;

pub use article::{Article, Section};
pub use build::{BuildEvent, BuildOptions, Outcome, Report, Stage, build};
pub use error::KbError;
pub use manifest::{Counts, Manifest};
pub use open::KnowledgeBase;
pub use place::{InProgress, Status, list, status};
pub use recipe::{EmbedText, Recipe};
pub use source::{Malformed, Position, Source};

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
