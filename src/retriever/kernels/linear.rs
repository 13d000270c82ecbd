//! What follows a matrix product, in place and in one pass over its result.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Write, product};
use super::{contiguous, contiguous_mut, pieces, rows_of, vectorised};

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

/// Adds a bias to rows as long as it is, and acts on every number: [`add_bias`] with its function.
pub type BiasThenAct = fn(&mut [f32], &[f32]);

/// Adds a bias and does no more.
pub const BIAS_ALONE: BiasThenAct = |xs, bias| add_bias(xs, bias, std::convert::identity);

/// A [`BiasThenAct`] over `[..., D]` in place; the bias is `[D]`.
pub struct AddBias(pub BiasThenAct);

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let bias = contiguous(s2, l2, self.name())?;
        let xs = contiguous_mut(s1, l1, self.name())?;
        xs.par_chunks_mut(rows_of(bias.len())).for_each(|xs| {
            (self.0)(xs, bias);
        });
        Ok(())
    }
}

/// `x Wᵀ + b` with its gradients: `[rows, in]`, `[out, in]` and `[out]` to `[rows, out]`. That of x is computed only if it
/// is wanted: features of frozen towers are most of what is projected.
pub struct Project;

impl CustomOp3 for Project {
    fn name(&self) -> &'static str {
        "project"
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
        let ((rows, input), (output, _)) = (l1.shape().dims2()?, l2.shape().dims2()?);
        let (xs, weight) = (contiguous(s1, l1, self.name())?, contiguous(s2, l2, self.name())?);
        let bias = contiguous(s3, l3, self.name())?;
        let weight = Matrix::new(weight, output, input, input).transposed();
        let mut out = vec![0f32; rows * output];
        let size = pieces(rows);
        out.par_chunks_mut((size * output).max(1)).zip(xs.par_chunks((size * input).max(1))).for_each(|(out, xs)| {
            out.chunks_mut(output).for_each(|row| row.copy_from_slice(bias));
            let xs = Matrix::new(xs, out.len() / output, input, input);
            product(Write::Add, out, output, xs, weight);
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, output))))
    }

    fn bwd(
        &self,
        xs: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let of_input = if xs.track_op() { Some(grad.matmul(weight)?) } else { None };
        Ok((of_input, Some(grad.t()?.matmul(xs)?), Some(grad.apply_op1_no_bwd(&SumOfRows)?)))
    }
}

/// `[rows, D]` to `[D]`.
pub(super) struct SumOfRows;

/// Rows of a piece of a sum: the same on every machine, so that the sum is.
const SUMMED: usize = 512;

impl CustomOp1 for SumOfRows {
    fn name(&self) -> &'static str {
        "sum-of-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let xs = contiguous(storage, layout, self.name())?;
        let add = |mut sum: Vec<f32>, row: &[f32]| {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            sum
        };
        let sum_of = |rows: &[f32]| rows.chunks(width.max(1)).fold(vec![0f32; width], add);
        let parts: Vec<Vec<f32>> = xs.par_chunks((SUMMED * width).max(1)).map(sum_of).collect();
        let sum = parts.iter().fold(vec![0f32; width], |sum, part| add(sum, part));
        Ok((CpuStorage::F32(sum), Shape::from(width)))
    }
}
