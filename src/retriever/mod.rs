//! The retriever: an [`Item`] (text, picture or both) becomes an [`Embedding`], one unit vector or several.
//!
//! ReT-2 (arXiv 2509.08897): three layers of a text tower and three of a picture tower, fused step by step by one gated
//! recurrent cell. Its predecessor ReT (arXiv 2503.01980) is the same with other settings: more layers, several state
//! tokens and so several vectors, an encoder for each side. [`Retriever`] is the handle that the rest of the program
//! holds; everything else is what it is made of.
//!
//! | file | what |
//! | --- | --- |
//! | `picture`, `jpeg`, `preprocess` | files to pictures, pictures to pixels, texts to tokens |
//! | `backbone` | the towers, one file per architecture |
//! | `cell`, `model`, `config` | what stands above the towers |
//! | `layer_choice` | which of a tower's layers it looks at, by number or by depth |
//! | `embedding` | unit vectors, and their scores: dot product or MaxSim |
//! | `weights`, `shards`, `fields` | strict loading of tensors, their files, and of JSON |
//! | `layers`, `kernels` | shared layers, and what is computed in them by hand |
//! | `batches` | texts of like length share a batch |
//! | `device` | CPU or GPU |
//! | `encoder`, `worker` | a loaded retriever, and the thread it lives on |
//! | `random` | models of random numbers, to measure speed without a checkpoint |
//! | `sentence`, `pair`, `bem` | sentence embeddings of a text tower alone; scores of pairs of texts, and of answers beside references |
//! | `train` | how a head is trained |
//! | `probe` | what its gates let through |

pub mod backbone;
pub mod batches;
pub mod bem;
pub mod cell;
#[cfg(test)]
mod cell_tests;
pub mod classifier;
pub mod config;
#[cfg(test)]
mod config_tests;
pub mod device;
pub mod embedding;
pub mod encoder;
pub mod error;
pub mod fields;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_ret;
mod jpeg;
pub mod kernels;
pub mod layer_choice;
pub mod layers;
pub mod model;
pub mod pair;
pub mod picture;
pub mod preprocess;
pub mod probe;
pub mod random;
pub mod sentence;
pub mod shards;
#[cfg(test)]
mod tiny;
pub mod train;
pub mod weights;
#[cfg(test)]
mod weights_tests;
pub mod worker;
#[cfg(test)]
mod worker_tests;

pub use bem::BemModel;
pub use embedding::Embedding;
pub use encoder::RetrieverFiles;
pub use error::RetrieverError;
pub use pair::PairClassifier;
pub use picture::{Picture, PictureError, PictureLimits};
pub use sentence::SentenceEncoder;
pub use worker::Retriever;

/// A query or a document: a text, a picture, or both. Neither is an error.
#[derive(Debug, Clone)]
pub struct Item {
    /// Text side.
    pub text: Option<String>,
    /// Picture side, decoded.
    pub image: Option<Picture>,
}
