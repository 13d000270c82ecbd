//! Cicerone answers questions about a picture whose answer is not in the picture.
//!
//! Data flows one way, and so do the rooms:
//!
//! ```text
//! question -> retriever -> kb (search) -> rag -> generator -> answer
//! ```
//!
//! | room | promises |
//! | --- | --- |
//! | [`config`] | one validated configuration from defaults, file, environment and flags |
//! | [`models`] | model files: where they come from, whole and verified on disk, or not there |
//! | [`retriever`] | an [`retriever::Item`] (text, picture or both) becomes one unit vector |
//! | [`kb`] | articles in a searchable knowledge base, whole or not there |
//! | [`generator`] | a prompt becomes a stream of text |
//! | [`rag`] | joins the three: candidates, entity, passages, prompt, answer, citations |
//! | [`eval`] | metrics and evaluation runs over a pipeline |
//! | [`io`], [`text`] | atomic files, locks, hashes; text that is safe to show |
//!
//! `retriever`, `kb` and `generator` do not know each other; `rag` joins them; `cli` and `eval` see
//! `rag` and its types.

pub mod cli;
pub mod config;
pub mod eval;
pub mod generator;
pub mod io;
pub mod kb;
pub mod models;
pub mod rag;
pub mod retriever;
pub mod text;
pub mod tui;
