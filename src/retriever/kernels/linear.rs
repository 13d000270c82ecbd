//! What follows a matrix product, in place and in one pass over its result.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result};
use rayon::prelude::*;

use super::{contiguous, contiguous_mut, rows_of, vectorised};

/// `x = f(x + bias)` of rows as long as the bias.
pub fn add_bias(xs: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for xs in xs.chunks_mut(bias.len().max(1)) {
                for (x, b) in xs.iter_mut().zip(bias) {
                    *x = f(*x + b);
                }
            }
        },
    );
}

/// `x = f(x + bias)`: `[..., D]` and `[D]`; `f` is one of [`super::math`].
pub struct AddBias<F>(pub F);

impl<F: Fn(f32) -> f32 + Send + Sync> InplaceOp2 for AddBias<F> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let bias = contiguous(s2, l2, self.name())?;
        let xs = contiguous_mut(s1, l1, self.name())?;
        xs.par_chunks_mut(rows_of(bias.len())).for_each(|xs| {
            add_bias(xs, bias, &self.0);
        });
        Ok(())
    }
}
