//! The few layers that every part shares, written over [`Weights`].

use candle_core::{D, DType, Tensor};
use candle_nn::Module;

use super::error::Result;
use super::weights::Weights;

/// `x Wᵀ (+ b)` over the last dimension.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` is `[out, in]`, `bias` is `[out]`.
    pub fn load(w: &Weights, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: w.get("weight", (output, input))?, bias: Some(w.get("bias", output)?) })
    }

    /// A projection without bias.
    pub fn load_no_bias(w: &Weights, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: w.get("weight", (output, input))?, bias: None })
    }

    /// Query, key and value of torch's `MultiheadAttention`, whose weights are stacked: `in_proj_weight` `[3 dim, dim]`
    /// and `in_proj_bias` `[3 dim]`.
    pub fn load_stacked(w: &Weights, dim: usize) -> Result<[Self; 3]> {
        let weight = w.get("in_proj_weight", (3 * dim, dim))?;
        let bias = w.get("in_proj_bias", 3 * dim)?;
        let part = |i| -> Result<Self> {
            Ok(Self { weight: weight.narrow(0, i * dim, dim)?, bias: Some(bias.narrow(0, i * dim, dim)?) })
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[..., in]` to `[..., out]`. All leading dimensions go through one matrix product.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let mut dims = xs.dims().to_vec();
        let input = dims.pop().unwrap_or(1);
        let rows: usize = dims.iter().product();
        let out = xs.reshape((rows, input))?.matmul(&self.weight.t()?)?;
        let out = match &self.bias {
            Some(bias) => out.broadcast_add(bias)?,
            None => out,
        };
        dims.push(self.weight.dim(0)?);
        out.reshape(dims)
    }
}

/// LayerNorm over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// Scale, `[dim]`.
    pub weight: Tensor,
    /// Shift, `[dim]`.
    pub bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias` of one dimension.
    pub fn load(w: &Weights, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: w.get("weight", dim)?, bias: w.get("bias", dim)?, eps })
    }

    /// `[..., dim]` to the same shape. Built of differentiable operations.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.standardise(xs)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }

    /// The part before scale and shift: zero mean, unit variance, computed in f32.
    pub fn standardise(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?.contiguous()?;
        let out = if wide.device().is_cpu() {
            wide.apply_op1(super::fused::Standardise { eps: self.eps })?
        } else {
            standardise(&wide, self.eps)?
        };
        out.to_dtype(xs.dtype())
    }
}

/// What [`super::fused::Standardise`] does on the CPU, of operations that every device has.
fn standardise(xs: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    let centred = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

/// Activation of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact, by the error function.
    Gelu,
    /// OpenAI CLIP's `x sigmoid(1.702 x)`.
    QuickGelu,
    /// GELU's approximation by the hyperbolic tangent.
    GeluPytorchTanh,
}

impl Activation {
    /// The names that [`Activation::named`] knows.
    pub const NAMES: &str = "gelu, quick_gelu or gelu_pytorch_tanh";

    /// The activation that Hugging Face's `config.json` calls so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu_pytorch_tanh" | "gelu_new" => Some(Self::GeluPytorchTanh),
            _ => None,
        }
    }
}

impl Module for Activation {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => xs.gelu_erf(),
            Self::QuickGelu => xs * candle_nn::ops::sigmoid(&(xs * 1.702)?)?,
            Self::GeluPytorchTanh => xs.gelu(),
        }
    }
}

/// Multi-head attention of queries `[B, n, D]` over keys and values `[B, N, D]`; `bias` is added to the scores
/// `[B, heads, n, N]`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let (b, n, dim) = q.dims3()?;
    let head_dim = dim / heads;
    let split = |x: &Tensor| x.reshape((b, (), heads, head_dim))?.transpose(1, 2)?.contiguous(); // [B, heads, N, d]
    let (q, k, v) = (split(&(q * (head_dim as f64).powf(-0.5))?)?, split(k)?, split(v)?);
    let scores = q.matmul(&k.t()?)?; // [B, heads, n, N]
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias.to_dtype(scores.dtype())?)?,
        None => scores,
    };
    let out = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
    out.transpose(1, 2)?.reshape((b, n, dim))
}

/// Scores' bias that shuts padding out: 0 where `mask [B, N]` is 1, a large negative number where it is 0.
pub fn padding_bias(mask: &Tensor) -> candle_core::Result<Tensor> {
    let mask = mask.to_dtype(DType::F32)?;
    (mask - 1.0)? * 1e9 // [B, N]
}

/// Softmax over the last dimension, differentiable.
pub fn softmax(xs: &Tensor) -> candle_core::Result<Tensor> {
    candle_nn::ops::softmax(xs, D::Minus1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn standardising_by_common_operations_is_what_the_fused_one_does() {
        let xs = Tensor::randn(3f32, 2.0, (2, 5, 24), &Device::Cpu).unwrap();
        let fused = xs.apply_op1(super::super::fused::Standardise { eps: 1e-5 }).unwrap();
        let far = (standardise(&xs, 1e-5).unwrap() - fused).unwrap().abs().unwrap().max_all().unwrap();
        assert!(far.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
