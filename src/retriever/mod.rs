//! The retriever: an [`Item`] (text, picture or both) becomes one unit vector (ReT-2, arXiv 2509.08897).

pub mod picture;

pub use picture::{Picture, PictureError, PictureLimits};

/// A query or a document: a text, a picture, or both. Neither is an error.
#[derive(Debug, Clone)]
pub struct Item {
    /// Text side.
    pub text: Option<String>,
    /// Picture side, decoded.
    pub image: Option<Picture>,
}
