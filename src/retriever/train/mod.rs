//! Training of a head, over frozen towers or with them: InfoNCE with in-batch and mined negatives, resumable to the bit.
//!
//! A frozen tower's features of every view are computed once into an on-disk cache ([`features`]), which runs over other
//! layers share; a step then costs only the head. Whatever is random is drawn from the seed and the step's number, so that
//! a resumed run takes the very batches that an undisturbed one would have taken.

pub mod augment;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod features;
pub mod learner;
pub mod loss;
pub mod negatives;
pub mod optimizer;
pub mod plot;
pub mod run;
#[cfg(test)]
pub(in crate::retriever) mod tests;
mod towers;
#[cfg(test)]
mod towers_tests;

pub use run::{TrainEvent, TrainReport, train};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::RetrieverError;
use super::layer_choice::Layers;

/// What is trained, on what, for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// Folder with `images.csv`, `kb.jsonl` and `questions.csv`; with `jsonl` the file of queries.
    pub data: PathBuf,
    /// What goes with queries in M2KR's layout.
    pub jsonl: Option<JsonlFiles>,
    /// Folder of the run: checkpoint, metrics, plot, architecture, weights.
    pub out: PathBuf,
    /// Folder of the towers' features, which several runs may share; without it, `features` below `out`.
    pub features: Option<PathBuf>,
    /// Layers of the text tower to sample, in place of the architecture's.
    pub text_layers: Option<Layers>,
    /// Layers of the picture tower to sample, in place of the architecture's; as many.
    pub vision_layers: Option<Layers>,
    /// Steps in all.
    pub steps: usize,
    /// Queries of one batch, each with a document.
    pub batch: usize,
    /// Batches of one step, each with its own negatives; their gradients are averaged.
    pub accumulate: usize,
    /// Augmented views of every training picture.
    pub views: usize,
    /// Largest learning rate, reached after the warm-up, then a cosine to zero.
    pub learning_rate: f64,
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Whether the text tower learns, too.
    pub unfreeze_text: bool,
    /// Whether the picture tower learns, too.
    pub unfreeze_vision: bool,
    /// Largest learning rate of towers that learn; without it a tenth of `learning_rate`.
    pub tower_rate: Option<f64>,
    /// Decoupled weight decay, of matrices only.
    pub weight_decay: f64,
    /// Largest norm of the whole gradient.
    pub clip: f64,
    /// Share of queries without a text.
    pub drop_text: f64,
    /// Share of queries without a picture; their text names the entity.
    pub drop_image: f64,
    /// Decides initial weights, views and batches.
    pub seed: u64,
    /// A checkpoint every so many steps.
    pub checkpoint_every: usize,
    /// Wrong documents that each query brings into its batch: those that the head took for right when it was last asked.
    pub hard_negatives: usize,
    /// It is asked every so many steps.
    pub mine_every: usize,
    /// Recall of what is not learned from, every so many steps and at the end.
    pub eval_every: usize,
    /// A style of pictures, of any split, left out of training and used to measure recall instead.
    pub validate: Option<String>,
}

/// What goes with a file of queries in M2KR's layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlFiles {
    /// File of the passages.
    pub passages: PathBuf,
    /// Folder of the pictures that queries and passages name.
    pub images: PathBuf,
    /// File of queries that recall is measured on.
    pub validation: Option<PathBuf>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            data: "data/starter".into(),
            jsonl: None,
            out: "train".into(),
            features: None,
            text_layers: None,
            vision_layers: None,
            steps: 450,
            batch: 124,
            accumulate: 1,
            views: 12,
            learning_rate: 1e-3,
            warmup: 50,
            unfreeze_text: false,
            unfreeze_vision: false,
            tower_rate: None,
            weight_decay: 0.05,
            clip: 1.0,
            drop_text: 0.2,
            drop_image: 0.1,
            seed: 7,
            checkpoint_every: 50,
            hard_negatives: 0,
            mine_every: 100,
            eval_every: 50,
            validate: None,
        }
    }
}

impl TrainOptions {
    /// Folder of the towers' features.
    #[must_use]
    pub fn features_dir(&self) -> PathBuf {
        self.features.clone().unwrap_or_else(|| self.out.join("features"))
    }

    /// Whether a tower learns, so that the weights of a run hold the whole retriever.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.unfreeze_text || self.unfreeze_vision
    }
}

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Models or features.
    #[error(transparent)]
    Retriever(#[from] RetrieverError),
    /// The tensor library.
    #[error("tensor engine: {0}")]
    Engine(#[from] candle_core::Error),
    /// A file cannot be read or written; the message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Training data do not fit.
    #[error("training data {path}: {reason}")]
    Data {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error(
        "{path} belongs to a run with other options ({reason}); give another --out, or remove the folder to start over"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The loss is no number any more.
    #[error("the loss of step {step} is {loss}; lower learning_rate")]
    Diverged {
        /// The step.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// Stopped by the user; the checkpoint holds every finished step since the last interval.
    #[error("interrupted after step {step}; the same command goes on from there")]
    Interrupted {
        /// Finished steps.
        step: usize,
    },
}
