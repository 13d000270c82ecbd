//! Rows scaled and shifted, what follows the first half of a LayerNorm, with gradients.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::linear::SumOfRows;
use super::{contiguous, rows_of};

/// `x scale + shift`: `[..., D]`, `[D]` and `[D]`.
pub struct ScaleShift;

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous(s1, l1, self.name())?;
        let (scale, shift) = (contiguous(s2, l2, self.name())?, contiguous(s3, l3, self.name())?);
        let (width, size) = (scale.len().max(1), rows_of(scale.len()));
        let mut out = vec![0f32; xs.len()];
        out.par_chunks_mut(size).zip(xs.par_chunks(size)).for_each(|(out, xs)| {
            for (out, xs) in out.chunks_mut(width).zip(xs.chunks(width)) {
                for (((o, x), w), b) in out.iter_mut().zip(xs).zip(scale).zip(shift) {
                    *o = x * w + b;
                }
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let rows = |tensor: Tensor| tensor.reshape((tensor.elem_count() / tensor.dim(D::Minus1)?, ()));
        let of_scale = rows(grad.apply_op2_no_bwd(&xs.contiguous()?, &Times)?)?.apply_op1_no_bwd(&SumOfRows)?;
        let of_shift = rows(grad.clone())?.apply_op1_no_bwd(&SumOfRows)?;
        let of_input = grad.apply_op2_no_bwd(scale, &Times)?;
        Ok((Some(of_input), Some(of_scale), Some(of_shift)))
    }
}

/// Products, number by number: of two tensors of a shape, or of rows with one row.
struct Times;

impl CustomOp2 for Times {
    fn name(&self) -> &'static str {
        "times"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (xs, by) = (contiguous(s1, l1, self.name())?, contiguous(s2, l2, self.name())?);
        let width = l1.shape().dims().last().copied().unwrap_or(1).max(1);
        let (size, same) = (rows_of(width), by.len() == xs.len());
        if !same && by.len() != width {
            candle_core::bail!("{}: {:?} and {:?}", self.name(), l1.shape(), l2.shape());
        }
        let mut out = xs.to_vec();
        out.par_chunks_mut(size).enumerate().for_each(|(piece, out)| {
            for (row, out) in out.chunks_mut(width).enumerate() {
                let by = if same { &by[piece * size + row * width..][..width] } else { by };
                out.iter_mut().zip(by).for_each(|(x, by)| *x *= by);
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
