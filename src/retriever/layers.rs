//! The few layers that every part shares, written over [`Weights`].

use candle_core::{D, Tensor};
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

    /// The part before scale and shift: zero mean, unit variance.
    pub fn standardise(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        xs.contiguous()?.apply_op1(super::fused::Standardise { eps: self.eps })
    }
}

/// Activation of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact, by the error function.
    Gelu,
    /// OpenAI CLIP's `x sigmoid(1.702 x)`.
    QuickGelu,
}

impl Module for Activation {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => xs.gelu_erf(),
            Self::QuickGelu => xs * candle_nn::ops::sigmoid(&(xs * 1.702)?)?,
        }
    }
}

/// Multi-head self-attention of a transformer block; `bias` is added to the scores `[B, heads, N, N]`.
pub fn self_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let (b, n, dim) = q.dims3()?;
    let head_dim = dim / heads;
    let split = |x: &Tensor| x.reshape((b, n, heads, head_dim))?.transpose(1, 2)?.contiguous(); // [B, heads, N, d]
    let (q, k, v) = (split(&(q * (head_dim as f64).powf(-0.5))?)?, split(k)?, split(v)?);
    let scores = q.matmul(&k.t()?)?; // [B, heads, N, N]
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let out = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
    out.transpose(1, 2)?.reshape((b, n, dim))
}

/// Scores' bias that shuts padding out: 0 where `mask [B, N]` is 1, a large negative number where it is 0.
pub fn padding_bias(mask: &Tensor) -> candle_core::Result<Tensor> {
    let mask = mask.to_dtype(candle_core::DType::F32)?;
    (mask - 1.0)? * 1e9 // [B, N]
}

/// Softmax over the last dimension, differentiable.
pub fn softmax(xs: &Tensor) -> candle_core::Result<Tensor> {
    candle_nn::ops::softmax(xs, D::Minus1)
}
