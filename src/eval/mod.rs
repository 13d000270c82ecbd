//! Evaluation: questions of a benchmark, the official metrics, and runs that resume.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`dataset`] | a file's questions, read by column name; a row that cannot be used is reported with its line |
//! | [`metric`] | the official scorers of Encyclopedic-VQA and InfoSeek, to the letter; Recall@K; intervals |
//! | [`retrieval`] | ranked articles become R@K and MRR with intervals |
//! | [`answers`] | questions are answered, scored and kept as they come; a second run goes on where the first ended |
//! | [`abstention`] | how sure an answer is, and which thresholds keep the wrong ones back |
//! | [`report`] | numbers as text, Markdown and JSON, each with the name of its metric |
//!
//! Nothing here knows an engine: an answer is a closure, a ranking a list of URLs.

pub mod abstention;
pub mod answers;
pub mod dataset;
mod error;
pub mod metric;
pub mod report;
pub mod retrieval;

pub use dataset::{DataSet, Dirty, Kind, Question};
pub use error::EvalError;
pub use report::{Row, Table};
