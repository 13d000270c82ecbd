//! EfficientNet's convolution over single channels.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::contiguous;

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

impl Depthwise {
    /// The convolution, with its gradients: by the kernel on the CPU, elsewhere of operations that every device has.
    ///
    /// # Errors
    /// The engine's own.
    pub fn apply(self, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        if xs.device().is_cpu() { xs.apply_op2(kernel, self) } else { self.composed(xs, kernel) }
    }

    /// For every place of the kernel, what it sees of the padded input times its weights, summed.
    fn composed(&self, xs: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = xs.dims4()?;
        let ((oh, top), (ow, left)) =
            (same_padding(h, self.kernel, self.stride), same_padding(w, self.kernel, self.stride));
        let after = |outputs: usize, before: usize, len: usize| {
            ((outputs - 1) * self.stride + self.kernel).saturating_sub(before + len)
        };
        let xs = xs.pad_with_zeros(1, top, after(oh, top, h))?.pad_with_zeros(2, left, after(ow, left, w))?;
        let seen = |from: usize, outputs: usize| {
            let places: Vec<u32> = (0..outputs).map(|at| (at * self.stride + from) as u32).collect();
            Tensor::new(places, xs.device())
        };
        let mut sum: Option<Tensor> = None;
        for ky in 0..self.kernel {
            let rows = xs.index_select(&seen(ky, oh)?, 1)?;
            for kx in 0..self.kernel {
                let part = rows.index_select(&seen(kx, ow)?, 2)?.broadcast_mul(&kernel.get(ky)?.get(kx)?)?;
                sum = Some(match sum {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
        }
        match sum {
            Some(sum) => Ok(sum),
            None => candle_core::bail!("a depthwise kernel without places"),
        }
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = l1.shape().dims4()?;
        let xs = contiguous(s1, l1, self.name())?;
        let kernel = contiguous(s2, l2, self.name())?;
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

    fn bwd(&self, xs: &Tensor, kernel: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, height, width, _) = xs.dims4()?;
        let (xs, kernel, grad) = (xs.contiguous()?, kernel.contiguous()?, grad.contiguous()?);
        let of_input = InputGradient { kernel: self.kernel, stride: self.stride, height, width };
        let of_kernel = KernelGradient { kernel: self.kernel, stride: self.stride };
        let input = grad.apply_op2_no_bwd(&kernel, &of_input)?;
        Ok((Some(input), Some(xs.apply_op2_no_bwd(&grad, &of_kernel)?)))
    }
}

/// From the gradient `[B, h, w, C]` of [`Depthwise`]'s result and the kernel `[k, k, C]` to that of its input.
struct InputGradient {
    kernel: usize,
    stride: usize,
    height: usize,
    width: usize,
}

impl CustomOp2 for InputGradient {
    fn name(&self) -> &'static str {
        "depthwise-input-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, oh, ow, c) = l1.shape().dims4()?;
        let grad = contiguous(s1, l1, self.name())?;
        let kernel = contiguous(s2, l2, self.name())?;
        let (h, w) = (self.height, self.width);
        let (_, top) = same_padding(h, self.kernel, self.stride);
        let (_, left) = same_padding(w, self.kernel, self.stride);
        // What the output at `o` reads is at `o stride + k - padding`: an input finds its outputs by division.
        let output = |at: usize, padding: usize, k: usize, outputs: usize| {
            let at = (at + padding).checked_sub(k)?;
            (at.is_multiple_of(self.stride) && at / self.stride < outputs).then_some(at / self.stride)
        };
        let mut out = vec![0f32; b * h * w * c];
        out.par_chunks_mut(w * c).enumerate().for_each(|(line, out)| {
            let (image, y) = (line / h, line % h);
            for ky in 0..self.kernel {
                let Some(oy) = output(y, top, ky, oh) else { continue };
                let row = &grad[(image * oh + oy) * ow * c..][..ow * c];
                for (x, out) in out.chunks_mut(c).enumerate() {
                    for kx in 0..self.kernel {
                        let Some(ox) = output(x, left, kx, ow) else { continue };
                        let grad = &row[ox * c..][..c];
                        let kernel = &kernel[(ky * self.kernel + kx) * c..][..c];
                        for ((o, g), k) in out.iter_mut().zip(grad).zip(kernel) {
                            *o += g * k;
                        }
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((b, h, w, c))))
    }
}

/// From the input `[B, H, W, C]` of [`Depthwise`] and the gradient of its result to that of the kernel.
struct KernelGradient {
    kernel: usize,
    stride: usize,
}

impl CustomOp2 for KernelGradient {
    fn name(&self) -> &'static str {
        "depthwise-kernel-gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, h, w, c) = l1.shape().dims4()?;
        let (_, oh, ow, _) = l2.shape().dims4()?;
        let xs = contiguous(s1, l1, self.name())?;
        let grad = contiguous(s2, l2, self.name())?;
        let (_, top) = same_padding(h, self.kernel, self.stride);
        let (_, left) = same_padding(w, self.kernel, self.stride);
        let mut out = vec![0f32; self.kernel * self.kernel * c];
        out.par_chunks_mut(c).enumerate().for_each(|(tap, out)| {
            let (ky, kx) = (tap / self.kernel, tap % self.kernel);
            for line in 0..b * oh {
                let (image, oy) = (line / oh, line % oh);
                let Some(y) = (oy * self.stride + ky).checked_sub(top).filter(|y| *y < h) else { continue };
                for ox in 0..ow {
                    let Some(x) = (ox * self.stride + kx).checked_sub(left).filter(|x| *x < w) else { continue };
                    let xs = &xs[((image * h + y) * w + x) * c..][..c];
                    let grad = &grad[(line * ow + ox) * c..][..c];
                    for ((o, x), g) in out.iter_mut().zip(xs).zip(grad) {
                        *o += x * g;
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((self.kernel, self.kernel, c))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn composed_of_common_operations_it_is_the_same() {
        for (kernel, stride, height, width) in [(3, 1, 5, 4), (3, 2, 6, 5), (5, 1, 4, 7), (5, 2, 7, 6), (3, 2, 1, 1)] {
            let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let (xs, taps) = (random(&[2, height, width, 3]), random(&[kernel, kernel, 3]));
            let composed = Depthwise { kernel, stride }.composed(&xs, &taps).unwrap();
            let far = (Depthwise { kernel, stride }.apply(&xs, &taps).unwrap() - composed).unwrap();
            assert!(far.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
        }
    }

    #[test]
    fn its_gradients_are_finite_differences() {
        for (kernel, stride, height, width) in [(3, 1, 5, 4), (3, 2, 6, 5), (5, 1, 4, 7), (5, 2, 7, 6)] {
            let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let xs = Var::from_tensor(&random(&[2, height, width, 3])).unwrap();
            let taps = Var::from_tensor(&random(&[kernel, kernel, 3])).unwrap();
            let shape = [2, height.div_ceil(stride), width.div_ceil(stride), 3];
            let along = random(&shape);
            let loss = |xs: &Tensor, taps: &Tensor| {
                let out = xs.apply_op2(taps, Depthwise { kernel, stride }).unwrap();
                (out * &along).unwrap().sum_all().unwrap()
            };
            let grads = loss(xs.as_tensor(), taps.as_tensor()).backward().unwrap();
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (values, weights) = (flat(xs.as_tensor()), flat(taps.as_tensor()));
            let of = |values: &[f32], weights: &[f32]| {
                let xs = Tensor::from_slice(values, xs.dims(), &Device::Cpu).unwrap();
                let taps = Tensor::from_slice(weights, taps.dims(), &Device::Cpu).unwrap();
                loss(&xs, &taps).to_scalar::<f32>().unwrap()
            };
            // The loss is linear in each, so that a difference is exact but for rounding, however large the step.
            for (at, found) in flat(grads.get(&xs).unwrap()).into_iter().enumerate() {
                let (mut up, mut down) = (values.clone(), values.clone());
                up[at] += 1.0;
                down[at] -= 1.0;
                let expected = (of(&up, &weights) - of(&down, &weights)) / 2.0;
                assert!((found - expected).abs() < 1e-3, "input {at}: {found}, expected {expected}");
            }
            for (at, found) in flat(grads.get(&taps).unwrap()).into_iter().enumerate() {
                let (mut up, mut down) = (weights.clone(), weights.clone());
                up[at] += 1.0;
                down[at] -= 1.0;
                let expected = (of(&values, &up) - of(&values, &down)) / 2.0;
                assert!((found - expected).abs() < 1e-3, "kernel {at}: {found}, expected {expected}");
            }
        }
    }
}
