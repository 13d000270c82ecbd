//! Kernels for the CPU where composed tensor operations cost several passes over memory, each on one core.
//!
//! They serve what is computed without a gradient, in f32; the composed operations remain for training and for other
//! devices. [`crate::retriever::layers`] chooses, and tests hold the two ways against each other.
//!
//! | file | what |
//! | --- | --- |
//! | `math` | exponential, error function and activations without branches |
//! | `linear` | bias, activation and residual in one pass over a product |
//! | `norm` | LayerNorm; standardisation with a gradient |
//! | `attention` | multi-head attention, a piece of one item's queries at a time |
//! | `softmax` | scores to weights, in place |
//! | `product` | products of parts of matrices |
//! | `transpose` | weights as products read them fastest |
//! | `depthwise` | EfficientNet's convolution over single channels |

pub mod attention;
pub mod depthwise;
pub mod linear;
pub mod math;
pub mod norm;
pub mod product;
pub mod softmax;
pub mod transpose;

use candle_core::{CpuStorage, Layout, Result};

/// The numbers of a contiguous f32 tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [f32]> {
    let data = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&data[from..to]),
        None => candle_core::bail!("{op}: input must be contiguous"),
    }
}

/// As [`contiguous`], to be written.
fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout, op: &str) -> Result<&'a mut [f32]> {
    let CpuStorage::F32(data) = storage else { candle_core::bail!("{op}: expected f32") };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&mut data[from..to]),
        None => candle_core::bail!("{op}: input must be contiguous"),
    }
}

/// Numbers of a piece of work: whole rows of `width`, about 64 KB, so that a thread finds them in its own cache.
fn rows_of(width: usize) -> usize {
    let width = width.max(1);
    ((1 << 14) / width).max(1) * width
}
