//! EfficientNet's convolution over single channels.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape};
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
}
