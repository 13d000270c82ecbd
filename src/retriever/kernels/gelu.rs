//! GELU with its gradient.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{gelu, gelu_slope};
use super::{contiguous, vectorised};

/// Numbers of a piece of work.
const PIECE: usize = 1 << 14;

/// x Phi(x) of every number.
pub struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous(storage, layout, self.name())?;
        let mut out = vec![0f32; xs.len()];
        out.par_chunks_mut(PIECE).zip(xs.par_chunks(PIECE)).for_each(|(out, xs)| {
            vectorised(
                #[inline(always)]
                || out.iter_mut().zip(xs).for_each(|(out, x)| *out = gelu(*x)),
            );
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op2_no_bwd(&arg.contiguous()?, &GeluGradient)?))
    }
}

/// From the gradient of [`Gelu`]'s result and its input to the input's gradient.
struct GeluGradient;

impl CustomOp2 for GeluGradient {
    fn name(&self) -> &'static str {
        "gelu-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (grad, xs) = (contiguous(s1, l1, self.name())?, contiguous(s2, l2, self.name())?);
        let mut out = grad.to_vec();
        out.par_chunks_mut(PIECE).zip(xs.par_chunks(PIECE)).for_each(|(out, xs)| {
            vectorised(
                #[inline(always)]
                || out.iter_mut().zip(xs).for_each(|(out, x)| *out *= gelu_slope(*x)),
            );
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
