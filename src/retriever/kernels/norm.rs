//! LayerNorm in one pass over memory, and its first half with a gradient.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{contiguous, rows_of, vectorised};

/// Numbers of the widest vector register.
const LANES: usize = 16;

/// Mean of a row, and one over its deviation: the root of the biased variance and `eps`.
#[inline(always)]
pub fn moments(xs: &[f32], eps: f64) -> (f32, f32) {
    let n = xs.len() as f32;
    let mean = sum(xs, |x| x) / n;
    let variance = sum(xs, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + eps as f32).sqrt())
}

/// Sum in sixteen parts, so that it runs in a vector register: the order of a sum of floats is kept as it is written.
#[inline(always)]
pub(super) fn sum(xs: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0f32; LANES];
    let whole = xs.chunks_exact(LANES);
    let rest: f32 = whole.remainder().iter().map(|x| of(*x)).sum();
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part += of(*x);
        }
    }
    parts.iter().sum::<f32>() + rest
}

/// The largest, in as many parts.
#[inline(always)]
pub(super) fn largest(xs: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut parts = [f32::NEG_INFINITY; LANES];
    let whole = xs.chunks_exact(LANES);
    let rest = whole.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for chunk in whole {
        for (part, x) in parts.iter_mut().zip(chunk) {
            *part = larger(*part, *x);
        }
    }
    parts.into_iter().fold(rest, larger)
}

/// Rows as long as `scale`, standardised, scaled and shifted.
pub(super) fn normalise(xs: &mut [f32], scale: &[f32], shift: &[f32], eps: f64) {
    vectorised(
        #[inline(always)]
        || {
            for xs in xs.chunks_mut(scale.len().max(1)) {
                let (mean, inverse) = moments(xs, eps);
                for ((x, w), b) in xs.iter_mut().zip(scale).zip(shift) {
                    *x = (*x - mean) * inverse * w + b;
                }
            }
        },
    );
}

/// Rows of the last dimension standardised, scaled and shifted. Without a gradient, which [`Standardise`] has.
pub struct Normalise {
    /// Added to the variance.
    pub eps: f64,
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
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
        let width = scale.len().max(1);
        let mut out = vec![0f32; xs.len()];
        let size = rows_of(width);
        out.par_chunks_mut(size).zip(xs.par_chunks(size)).for_each(|(out, xs)| {
            out.copy_from_slice(xs);
            normalise(out, scale, shift, self.eps);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Rows of the last dimension made zero mean and unit variance (biased, as LayerNorm's).
pub struct Standardise {
    /// Added to the variance.
    pub eps: f64,
}

impl CustomOp1 for Standardise {
    fn name(&self) -> &'static str {
        "standardise"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous(storage, layout, self.name())?;
        let dim = layout.shape().dims().last().copied().unwrap_or(1).max(1);
        let mut out = vec![0f32; xs.len()];
        out.par_chunks_mut(rows_of(dim)).zip(xs.par_chunks(rows_of(dim))).for_each(|(out, xs)| {
            for (out, xs) in out.chunks_mut(dim).zip(xs.chunks(dim)) {
                let (mean, inv) = moments(xs, self.eps);
                for (o, x) in out.iter_mut().zip(xs) {
                    *o = (x - mean) * inv;
                }
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    /// `dx = (dy - mean(dy) - y mean(dy y)) / sigma`.
    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = StandardiseGradient { eps: self.eps };
        Ok(Some(grad.contiguous()?.apply_op3_no_bwd(res, &arg.contiguous()?, &op)?))
    }
}

/// From the gradient of [`Standardise`]'s result, the result and its input to the input's gradient.
struct StandardiseGradient {
    eps: f64,
}

impl CustomOp3 for StandardiseGradient {
    fn name(&self) -> &'static str {
        "standardise-gradient"
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
        let grad = contiguous(s1, l1, self.name())?;
        let (ys, xs) = (contiguous(s2, l2, self.name())?, contiguous(s3, l3, self.name())?);
        let dim = l1.shape().dims().last().copied().unwrap_or(1).max(1);
        let n = dim as f32;
        let size = rows_of(dim);
        let mut out = vec![0f32; grad.len()];
        out.par_chunks_mut(size).enumerate().for_each(|(chunk, out)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, out) in out.chunks_mut(dim).enumerate() {
                        let at = chunk * size + row * dim;
                        let (grad, ys) = (&grad[at..][..dim], &ys[at..][..dim]);
                        let (_, inverse) = moments(&xs[at..][..dim], self.eps);
                        let mean = sum(grad, |g| g) / n;
                        let along = grad.iter().zip(ys).map(|(g, y)| g * y).sum::<f32>() / n;
                        for ((o, g), y) in out.iter_mut().zip(grad).zip(ys) {
                            *o = (g - mean - y * along) * inverse;
                        }
                    }
                },
            );
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
