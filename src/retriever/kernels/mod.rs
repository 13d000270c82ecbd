//! Kernels for the CPU where composed tensor operations cost several passes over memory, each on one core.
//!
//! They serve what is computed in f32; those that training needs most have a gradient, too. Composed operations remain for
//! the rest and for other devices. [`crate::retriever::layers`] chooses, and tests hold the two ways against each other.
//!
//! | file | what |
//! | --- | --- |
//! | `math` | exponential, error function and activations without branches |
//! | `block` | a whole transformer's block, a piece of the rows at a time |
//! | `gelu`, `scale` | of a learning cell: activation, and the second half of a norm, with gradients |
//! | `linear` | bias and activation in one pass over a product; projections with their gradients |
//! | `mix` | weighted sums of tokens, with their gradient |
//! | `norm` | LayerNorm; standardisation with a gradient |
//! | `attention` | multi-head attention, a piece of one item's queries at a time |
//! | `softmax` | scores to weights, in place |
//! | `product` | products of parts of matrices |
//! | `transpose` | weights as products read them fastest |
//! | `depthwise` | EfficientNet's convolution over single channels |

pub mod attention;
pub mod block;
pub mod depthwise;
pub mod gelu;
pub mod linear;
pub mod math;
pub mod mix;
pub mod norm;
pub mod product;
pub mod scale;
pub mod softmax;
pub mod transpose;

use std::ops::Range;
use std::sync::RwLockReadGuard;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

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

/// The numbers of a tensor, in the order in which they lie in memory.
#[derive(Debug)]
pub struct Numbers<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl<'a> Numbers<'a> {
    /// Of a tensor whose numbers lie side by side.
    ///
    /// # Errors
    /// One that is not contiguous, or not of f32 and the CPU.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        Self::lying(tensor, Layout::is_contiguous)
    }

    /// Of a matrix whose transpose's numbers lie side by side.
    ///
    /// # Errors
    /// As [`Numbers::of`].
    pub fn of_transpose(tensor: &'a Tensor) -> Result<Self> {
        Self::lying(tensor, Layout::is_fortran_contiguous)
    }

    fn lying(tensor: &'a Tensor, right: impl Fn(&Layout) -> bool) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) if right(layout) => (),
            _ => candle_core::bail!("numbers of {layout:?}: expected f32 of the CPU that lie side by side"),
        }
        let start = layout.start_offset();
        let range = start..start + layout.shape().elem_count();
        Ok(Self { storage, range })
    }

    /// The numbers.
    #[must_use]
    pub fn get(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            _ => &[],
        }
    }
}

/// Runs `work` on a thread of the pool that the kernels share, where the others stay awake between two of them; to wake them
/// for each of some hundred kernels costs as much as a tower's pass over one picture.
pub fn awake<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Runs loops with the widest vector instructions that the processor has; what they call must be inlined into them.
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Most rows of a batch that a thread takes at a time: enough for products to run at full speed, few enough that what is
/// made of them stays in a core's own cache.
const ROWS: usize = 288;

/// Rows of a piece of work of `rows` in all; every thread gets as many pieces.
fn pieces(rows: usize) -> usize {
    let threads = rayon::current_num_threads().max(1);
    rows.div_ceil(rows.div_ceil(ROWS).next_multiple_of(threads).max(1)).max(1)
}
