//! What training learns from: documents, queries and which of the former are right for which of the latter.
//!
//! Texts and paths stay in memory; what the towers make of them is on disk ([`super::features`]). Two layouts are read:
//!
//! | file | what |
//! | --- | --- |
//! | `starter` | the starter's: pictures by entity and style, titles, questions; queries are made at random |
//! | `jsonl` | M2KR's: queries and passages, one a line |

pub mod jsonl;
pub mod starter;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::features::pictures::Album;
use super::{TrainError, TrainOptions};

/// An item as the towers see it: at least one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Row of [`TrainData::texts`].
    pub text: Option<usize>,
    /// Record of [`TrainData::album`].
    pub picture: Option<usize>,
}

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    /// What it shows.
    pub shown: Shown,
    /// Documents that cannot be told apart, or are right for the same reason, share a class.
    pub class: usize,
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What it shows.
    pub shown: Shown,
    /// Classes of the documents that are right for it; at least one.
    pub right: Vec<usize>,
}

impl Query {
    /// Whether a document is right for it.
    #[must_use]
    pub fn wants(&self, document: &Document) -> bool {
        self.right.contains(&document.class)
    }
}

/// One batch: every query has a right document in it.
#[derive(Debug, Clone, Default)]
pub struct Draw {
    /// Queries.
    pub queries: Vec<Query>,
    /// Documents, in no particular order.
    pub documents: Vec<Document>,
}

/// Makes batches.
pub trait Draws: Send {
    /// About `batch` queries with a right document each; the same for the same state of `rng`.
    fn draw(&self, rng: &mut StdRng, batch: usize) -> Draw;
}

/// All that training reads.
pub struct TrainData {
    /// Texts of queries and documents.
    pub texts: Vec<String>,
    /// Pictures of queries and documents.
    pub album: Arc<Album>,
    /// All documents, as they are found in a search.
    pub documents: Vec<Document>,
    /// Queries that are not learned from.
    pub evaluation: Vec<Query>,
    /// Says of two data sets whether they are the same.
    pub identity: String,
    draws: Box<dyn Draws>,
}

impl TrainData {
    /// Reads the data that `options` names; `instruction` is put before queries that bring none.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub fn open(options: &TrainOptions, instruction: &str) -> Result<Self, TrainError> {
        match &options.jsonl {
            Some(files) => jsonl::read(options, files, instruction),
            None => starter::read(options, instruction),
        }
    }

    /// The batch of a number, the same whenever it is asked for.
    #[must_use]
    pub fn draw(&self, number: usize, options: &TrainOptions) -> Draw {
        let seed = options.seed.wrapping_add(1 + number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d);
        self.draws.draw(&mut StdRng::seed_from_u64(seed), options.batch.max(2))
    }
}
