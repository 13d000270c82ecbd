//! A matrix laid out the other way round.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use rayon::prelude::*;

use super::contiguous;

/// Side of the squares that are turned at a time: two of them fit a core's first cache.
const SIDE: usize = 32;

/// `[m, n]` to `[n, m]`, contiguous. Without a gradient.
pub struct Transpose;

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let xs = contiguous(storage, layout, self.name())?;
        let (m, n) = layout.shape().dims2()?;
        let mut out = vec![0f32; m * n];
        out.par_chunks_mut((SIDE * m).max(1)).enumerate().for_each(|(strip, out)| {
            let first = strip * SIDE;
            for from in (0..m).step_by(SIDE) {
                for (column, out) in out.chunks_mut(m).enumerate() {
                    for (row, out) in out[from..m.min(from + SIDE)].iter_mut().enumerate() {
                        *out = xs[(from + row) * n + first + column];
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((n, m))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn every_shape_is_turned() {
        for (m, n) in [(1, 1), (5, 70), (64, 33), (100, 1)] {
            let xs = Tensor::arange(0f32, (m * n) as f32, &Device::Cpu).unwrap().reshape((m, n)).unwrap();
            let turned = xs.apply_op1_no_bwd(&Transpose).unwrap();
            assert_eq!(turned.to_vec2::<f32>().unwrap(), xs.t().unwrap().to_vec2::<f32>().unwrap());
        }
    }
}
