//! Model files: where they come from, whole and verified on disk, or not there.

pub mod convert;
mod error;

pub use error::ModelsError;
