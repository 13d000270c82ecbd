//! What follows a matrix product, in place and in one pass over its result.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result};
use rayon::prelude::*;

use super::{contiguous, contiguous_mut, rows_of};

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
            for xs in xs.chunks_mut(bias.len().max(1)) {
                for (x, b) in xs.iter_mut().zip(bias) {
                    *x = (self.0)(*x + b);
                }
            }
        });
        Ok(())
    }
}

/// `x = x + bias + residual`: `[..., D]`, `[D]` and the shape of x.
pub struct AddBiasAndResidual;

impl InplaceOp3 for AddBiasAndResidual {
    fn name(&self) -> &'static str {
        "add-bias-and-residual"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let bias = contiguous(s2, l2, self.name())?;
        let residual = contiguous(s3, l3, self.name())?;
        let xs = contiguous_mut(s1, l1, self.name())?;
        let size = rows_of(bias.len());
        xs.par_chunks_mut(size).zip(residual.par_chunks(size)).for_each(|(xs, residual)| {
            let width = bias.len().max(1);
            for (xs, residual) in xs.chunks_mut(width).zip(residual.chunks(width)) {
                for ((x, b), r) in xs.iter_mut().zip(bias).zip(residual) {
                    *x += b + r;
                }
            }
        });
        Ok(())
    }
}
