//! The retriever: an [`Item`] (text, picture or both) becomes one unit vector.
//!
//! ReT-2 (arXiv 2509.08897): three layers of a text tower and three of a picture tower, fused step by step by one gated
//! recurrent cell. [`Retriever`] is the handle that the rest of the program holds; everything else is what it is made of.
//!
//! | file | what |
//! | --- | --- |
//! | `picture`, `jpeg`, `preprocess` | files to pictures, pictures to pixels, texts to tokens |
//! | `backbone` | the towers, one file per architecture |
//! | `cell`, `model`, `config` | ReT-2 above the towers |
//! | `weights`, `shards`, `fields` | strict loading of tensors, their files, and of JSON |
//! | `layers`, `fused` | shared layers, fused kernels |
//! | `batches` | texts of like length share a batch |
//! | `encoder`, `worker` | a loaded retriever, and the thread it lives on |
//! | `sentence` | sentence embeddings of a text tower alone |
//! | `train` | how a head is trained |

pub mod backbone;
pub mod batches;
pub mod cell;
pub mod config;
#[cfg(test)]
mod config_tests;
pub mod encoder;
pub mod error;
pub mod fields;
pub mod fused;
#[cfg(test)]
mod golden;
mod jpeg;
pub mod layers;
pub mod model;
pub mod picture;
pub mod preprocess;
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

pub use encoder::RetrieverFiles;
pub use error::RetrieverError;
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
