//! Kernels where composed tensor operations cost several passes over memory: standardisation (with its gradient, since
//! training goes through it), and the depthwise convolution and the activation of EfficientNet.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

fn contiguous_f32<'a>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [f32]> {
    let data = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&data[from..to]),
        None => candle_core::bail!("{op}: input must be contiguous"),
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
        let xs = contiguous_f32(storage, layout, self.name())?;
        let dim = layout.shape().dims().last().copied().unwrap_or(1).max(1);
        let mut out = vec![0f32; xs.len()];
        out.par_chunks_mut(dim * 64).zip(xs.par_chunks(dim * 64)).for_each(|(out, xs)| {
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
        let grad = grad.contiguous()?;
        let sigma_inv = InverseDeviation { eps: self.eps };
        let inv = arg.contiguous()?.apply_op1_no_bwd(&sigma_inv)?; // [..., 1]
        let projected = grad.apply_op2_no_bwd(res, &ProjectOut)?;
        Ok(Some(projected.broadcast_mul(&inv)?))
    }
}

fn moments(xs: &[f32], eps: f64) -> (f32, f32) {
    let n = xs.len() as f32;
    let mean = xs.iter().sum::<f32>() / n;
    let variance = xs.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    (mean, 1.0 / (variance + eps as f32).sqrt())
}

struct InverseDeviation {
    eps: f64,
}

impl CustomOp1 for InverseDeviation {
    fn name(&self) -> &'static str {
        "inverse-deviation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous_f32(storage, layout, self.name())?;
        let mut dims = layout.shape().dims().to_vec();
        let dim = dims.pop().unwrap_or(1).max(1);
        dims.push(1);
        let out: Vec<f32> = xs.par_chunks(dim).with_min_len(64).map(|xs| moments(xs, self.eps).1).collect();
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

/// `g - mean(g) - y mean(g y)` per row.
struct ProjectOut;

impl CustomOp2 for ProjectOut {
    fn name(&self) -> &'static str {
        "project-out"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let grad = contiguous_f32(s1, l1, self.name())?;
        let ys = contiguous_f32(s2, l2, self.name())?;
        let dim = l1.shape().dims().last().copied().unwrap_or(1).max(1);
        let n = dim as f32;
        let mut out = vec![0f32; grad.len()];
        out.par_chunks_mut(dim).with_min_len(64).enumerate().for_each(|(row, out)| {
            let (grad, ys) = (&grad[row * dim..][..dim], &ys[row * dim..][..dim]);
            let mean = grad.iter().sum::<f32>() / n;
            let along = grad.iter().zip(ys).map(|(g, y)| g * y).sum::<f32>() / n;
            for ((o, g), y) in out.iter_mut().zip(grad).zip(ys) {
                *o = g - mean - y * along;
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Depthwise convolution with TensorFlow's SAME padding over `[B, H, W, C]`; kernel `[k, k, C]`; followed by nothing.
///
/// Channels lie together in memory, so that the inner loop is one multiply-add over them.
pub struct Depthwise {
    /// Kernel side.
    pub kernel: usize,
    /// Stride, the same both ways.
    pub stride: usize,
}

/// Output length and leading padding of TensorFlow's SAME rule.
pub fn same_padding(input: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let output = input.div_ceil(stride);
    let total = ((output - 1) * stride + kernel).saturating_sub(input);
    (output, total / 2)
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = l1.shape().dims4()?;
        let xs = contiguous_f32(s1, l1, self.name())?;
        let kernel = contiguous_f32(s2, l2, self.name())?;
        let (oh, top) = same_padding(h, self.kernel, self.stride);
        let (ow, left) = same_padding(w, self.kernel, self.stride);
        let mut out = vec![0f32; b * oh * ow * c];
        out.par_chunks_mut(ow * c).enumerate().for_each(|(line, out)| {
            let (image, oy) = (line / oh, line % oh);
            for ky in 0..self.kernel {
                let Some(y) = (oy * self.stride + ky).checked_sub(top).filter(|y| *y < h) else { continue };
                let row = &xs[(image * h + y) * w * c..][..w * c];
                for (ox, out) in out.chunks_mut(c).enumerate() {
                    for kx in 0..self.kernel {
                        let Some(x) = (ox * self.stride + kx).checked_sub(left).filter(|x| *x < w) else { continue };
                        let xs = &row[x * c..][..c];
                        let kernel = &kernel[(ky * self.kernel + kx) * c..][..c];
                        for ((o, x), k) in out.iter_mut().zip(xs).zip(kernel) {
                            *o += x * k;
                        }
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((b, oh, ow, c))))
    }
}

/// `clamp(x + bias, 0, 6)` (or without the clamp) over the last dimension.
pub struct AddBias {
    /// Whether ReLU6 follows.
    pub relu6: bool,
}

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous_f32(s1, l1, self.name())?;
        let bias = contiguous_f32(s2, l2, self.name())?;
        let (low, high) = if self.relu6 { (0.0, 6.0) } else { (f32::MIN, f32::MAX) };
        let mut out = vec![0f32; xs.len()];
        let chunk = bias.len().max(1) * 64;
        out.par_chunks_mut(chunk).zip(xs.par_chunks(chunk)).for_each(|(out, xs)| {
            for (out, xs) in out.chunks_mut(bias.len()).zip(xs.chunks(bias.len())) {
                for ((o, x), b) in out.iter_mut().zip(xs).zip(bias) {
                    *o = (x + b).max(low).min(high);
                }
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Mean over the tokens of `[B, N, D]`, as `[B, D]`.
pub fn mean_tokens(xs: &Tensor) -> Result<Tensor> {
    xs.mean(D::Minus2)
}
