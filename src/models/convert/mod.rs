//! Model files of other formats become safetensors, without running any code they contain.
//!
//! - [`pth::convert`]: PyTorch's pickles (the zip format and the older stream format);
//! - [`gguf::convert`]: a llama.cpp file becomes a directory as `transformers` writes it;
//! - [`file()`]: either, by the file's first bytes;
//! - [`rename::convert`]: a safetensors file of a foreign layout, by a map of its names.

pub mod gguf;
pub mod llama;
pub(crate) mod metadata;
mod pickle;
pub mod pth;
pub mod rename;
mod writer;

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelsError;

pub use writer::write_safetensors;

/// Type of the floating-point tensors that are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Float {
    /// As they were.
    #[default]
    Keep,
    /// 32 bits.
    F32,
    /// 16 bits; a value beyond 65,504 is an error.
    F16,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// Tensors written.
    pub tensors: usize,
    /// Elements written.
    pub elements: u64,
    /// Bytes of the weights' file.
    pub bytes: u64,
    /// Tensors left out, by name.
    pub dropped: Vec<String>,
    /// Largest difference between a value and what was written for it.
    pub max_rounding: f32,
}

/// Converts whatever `from` is by its first bytes: a llama.cpp file into the directory `to` (made if missing), a
/// PyTorch pickle into the safetensors file `to`, without the tensors whose names start with one of `leave_out`.
///
/// # Errors
/// [`ModelsError::Convert`] with the file and what is wrong in it.
pub fn file(from: &Path, to: &Path, float: Float, leave_out: &[String]) -> Result<Converted, ModelsError> {
    let mut head = Vec::new();
    fs_err::File::open(from)?.take(4).read_to_end(&mut head)?;
    if head == b"GGUF" {
        fs_err::create_dir_all(to)?;
        gguf::convert(from, to, float)
    } else {
        pth::convert(from, to, float, leave_out)
    }
}
