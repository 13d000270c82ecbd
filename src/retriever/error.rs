//! What can go wrong in the retriever.

use std::path::{Path, PathBuf};

use super::picture::PictureError;
use crate::models::ModelsError;

/// Any failure of the retriever; each names the file or the item.
#[derive(Debug, thiserror::Error)]
pub enum RetrieverError {
    /// A file is missing or cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's or parser's reason.
        reason: String,
    },
    /// Tensors do not fit the configuration.
    #[error("weights {origin} do not fit the model: {details}")]
    Weights {
        /// File or files of the weights.
        origin: String,
        /// The names: missing, unused, mis-shaped, not finite.
        details: String,
    },
    /// The architecture description is unusable.
    #[error("retriever config {path}: `{key}`: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// The key at fault.
        key: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The device that is asked for cannot be had.
    #[error("`retriever.device` {name}: {reason}; `auto` takes what there is")]
    Device {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The map of tensor names that the architecture description names.
    #[error(transparent)]
    NameMap(#[from] ModelsError),
    /// A pooled vector is used that is not there.
    #[error(
        "there is no pooled vector: the tower's weights have no pooler, or none was asked for; use a checkpoint that has one"
    )]
    NoPooler,
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A picture would become larger than is sensible, or has no pixels.
    #[error(
        "a picture of {width} x {height} pixels would become {out_width} x {out_height} pixels, expected 1 to {longest} a side; give the image processor a crop_size or a fixed size"
    )]
    Pixels {
        /// Width of the picture.
        width: u32,
        /// Height of the picture.
        height: u32,
        /// Width of what it would become.
        out_width: u64,
        /// Height of what it would become.
        out_height: u64,
        /// Longest side allowed.
        longest: usize,
    },
    /// Text cannot be tokenised.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Neither text nor picture.
    #[error("an item has neither a text nor a picture; give at least one")]
    EmptyItem,
    /// The tensor library failed.
    #[error("tensor engine: {0}")]
    Engine(#[from] candle_core::Error),
    /// The model's thread is gone.
    #[error("the retriever's thread has stopped; see the log for its last error")]
    Stopped,
}

impl RetrieverError {
    /// A file that the system does not let us read. `fs_err` says "failed to open file `path`: cause", and the path is named
    /// here already.
    #[must_use]
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = error.to_string();
        let cause = message.split_once(&format!("`{}`: ", path.display())).map(|(_, cause)| cause.to_owned());
        Self::Read { path: path.to_owned(), reason: cause.unwrap_or(message) }
    }
}

/// Shorthand of this room.
pub type Result<T, E = RetrieverError> = std::result::Result<T, E>;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_once() {
        let path = Path::new("/nowhere/model.safetensors");
        let error = fs_err::read(path).unwrap_err();
        let message = RetrieverError::unreadable(path, &error).to_string();
        assert!(message.starts_with("cannot read /nowhere/model.safetensors: No such file"), "{message}");
        assert_eq!(message.matches("/nowhere").count(), 1, "{message}");
    }
}
