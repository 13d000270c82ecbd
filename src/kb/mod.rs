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
//! | [`synthetic`] | articles and embeddings of no meaning, to measure with |
//! | [`vectors`] | embeddings made elsewhere, in a file |
//! | [`manage`] | finished builds are put in use, removed and written out |
//! | [`transfer`] | points from one store into another |
//! | [`verify`] | a whole look at a finished base: files, counts, parts, embeddings made again |
//! | [`integrity`] | whether its files are those that were built |
//! | [`place`], [`remote`], [`mod@status`] | where a base is, in a directory or on a server, and what is known of it |
//! | [`open`] | a finished base, opened under one retriever and searched |
//!
//! Everything here blocks: from asynchronous code call it through `spawn_blocking`.

pub mod article;
pub mod build;
pub mod error;
pub mod integrity;
pub mod manage;
pub mod manifest;
pub mod open;
pub mod place;
pub mod recipe;
pub mod remote;
pub mod source;
pub mod status;
pub mod store;
pub mod synthetic;
pub mod transfer;
pub mod vectors;
pub mod verify;
pub mod words;

use std::path::PathBuf;

pub use article::{Article, PictureRef, Section};
pub use build::{BuildEvent, BuildOptions, Outcome, Report, Stage, build};
pub use error::KbError;
pub use manifest::{Counts, Manifest};
pub use open::KnowledgeBase;
pub use place::Home;
pub use recipe::{EmbedUnit, Recipe, Template};
pub use source::{Malformed, Position, Source};
pub use status::{InProgress, Status, list, status};

/// What a knowledge base needs of a retriever, and all that it knows of one.
///
/// `fingerprint` identifies weights, config, processor, tokenizer and instruction; a knowledge base built under one
/// fingerprint is never searched under another.
pub trait Embedder: Send + Sync {
    /// Identity of everything that decides an embedding (hex).
    fn fingerprint(&self) -> &str;
    /// Length of a vector.
    fn dim(&self) -> usize;
    /// Vectors of an embedding.
    fn vectors(&self) -> usize;
    /// Embeds a batch, `[vectors, dim]` row by row; the outcome of each document stands at its place.
    ///
    /// # Errors
    /// The outer error is the engine's; an inner one concerns that document alone (an unreadable picture).
    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String>;
}

/// What is embedded at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which one it is: the article's URL, and for the n-th of an article's parts `#n` behind it.
    pub key: String,
    /// Text side, already put together.
    pub text: Option<String>,
    /// Picture side: a file to decode.
    pub image: Option<PathBuf>,
}

/// One article found by a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The article, from the payload.
    pub article: Article,
    /// Mean over the query's vectors of the largest dot product with one of the article's, in [-1, 1]; for one vector
    /// each their dot product. With a query's words, what reciprocal rank fusion made of both rankings, in [0, 1].
    pub score: f32,
    /// Which part of the article was found, where parts are embedded.
    pub part: Option<Found>,
}

/// A part of an article that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Index of the section.
    pub section: usize,
    /// Index of the picture, if it is one.
    pub picture: Option<usize>,
}
