//! Evaluation: questions of a benchmark, the official metrics, and runs that resume.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`dataset`] | a file's questions, read by column name; a row that cannot be used is reported with its line |
//! | [`metric`] | the official scorers of Encyclopedic-VQA and InfoSeek, to the letter; Recall@K; intervals |
//! | [`retrieval`] | ranked articles become R@K and MRR with intervals |
//! | [`retrieved`] | what is found for each question is kept: it is searched once, and read by many readers |
//! | [`answers`] | questions are answered, scored and kept as they come; a second run goes on where the first ended |
//! | [`judged`] | what BEM says of answers that no reference equals is kept, too |
//! | [`verdict`] | whether an answer is right, and where it went wrong if it is not |
//! | [`run`] | the folder of a run: what was asked, of what, and what came of it; parts of it put together |
//! | [`predictions`] | the answers of another system, to be scored alike |
//! | [`compare`] | two runs over the same questions: the difference, and whether it is one |
//! | [`audit`] | whether a data set and a knowledge base fit, before anything is computed |
//! | [`abstention`] | how sure an answer is, and which thresholds keep the wrong ones back |
//! | [`report`] | numbers as text, Markdown, JSON, CSV and a page, each with the name of its metric |
//!
//! Nothing here knows an engine: an answer is a closure, a ranking a list of URLs.

pub mod abstention;
pub mod answers;
pub mod audit;
pub mod compare;
pub mod dataset;
mod error;
pub mod judged;
pub mod log;
pub mod metric;
pub mod predictions;
pub mod report;
pub mod retrieval;
pub mod retrieved;
pub mod run;
pub mod verdict;

pub use dataset::{DataSet, Dirty, Kind, Question};
pub use error::EvalError;
pub use report::{Row, Table};
