//! The softmax of attention scores, in place.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result};
use rayon::prelude::*;

use super::math::exp;
use super::norm::{largest, sum};
use super::{contiguous, contiguous_mut, rows_of};

/// Rows of the last dimension become their softmax.
pub struct Softmax;

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = layout.shape().dims().last().copied().unwrap_or(1).max(1);
        contiguous_mut(storage, layout, self.name())?.par_chunks_mut(rows_of(width)).for_each(|xs| {
            xs.chunks_mut(width).for_each(softmax);
        });
        Ok(())
    }
}

/// The same of scores `[heads, n, N]` with a bias `[1, N]` or `[n, N]` added.
pub struct BiasedSoftmax;

impl InplaceOp2 for BiasedSoftmax {
    fn name(&self) -> &'static str {
        "biased-softmax"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let width = l1.shape().dims().last().copied().unwrap_or(1).max(1);
        let bias = contiguous(s2, l2, self.name())?;
        let xs = contiguous_mut(s1, l1, self.name())?;
        // A row for every query, or one for all of them.
        let rows = (bias.len() / width).max(1);
        let size = rows_of(width);
        xs.par_chunks_mut(size).enumerate().for_each(|(chunk, xs)| {
            for (at, xs) in xs.chunks_mut(width).enumerate() {
                let row = (chunk * (size / width) + at) % rows;
                for (x, b) in xs.iter_mut().zip(&bias[row * width..]) {
                    *x += b;
                }
                softmax(xs);
            }
        });
        Ok(())
    }
}

fn softmax(xs: &mut [f32]) {
    let most = largest(xs);
    for x in xs.iter_mut() {
        *x = exp(*x - most);
    }
    let inverse = 1.0 / sum(xs, |x| x);
    for x in xs {
        *x *= inverse;
    }
}
