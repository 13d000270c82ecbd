//! The pre-norm transformer block that CLIP, SigLIP and DINOv2 share (ViT, arXiv 2010.11929), and the walk over blocks
//! that every tower takes.

use candle_core::Tensor;

use super::Wanted;
use crate::retriever::error::Result;
use crate::retriever::layers::{Activation, LayerNorm, Linear, self_attention};
use crate::retriever::weights::Weights;

/// What an architecture calls the tensors of a block, below the block's own prefix.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    /// Norm before attention.
    pub norm1: &'static str,
    /// Projections to query, key and value.
    pub qkv: [&'static str; 3],
    /// Projection after attention.
    pub out: &'static str,
    /// Norm before the feed-forward part.
    pub norm2: &'static str,
    /// Per-channel scales of the two branches (layer scale, arXiv 2103.17239), where the architecture has them.
    pub scales: Option<[&'static str; 2]>,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    /// Width D.
    pub dim: usize,
    /// Width inside the feed-forward part.
    pub inner: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Activation of the feed-forward part.
    pub act: Activation,
    /// Added to the variance in both norms.
    pub eps: f64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
}

/// `x + s1 Attn(norm1 x)`, then `x + s2 MLP(norm2 x)`; `s1` and `s2` only with layer scale.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    /// With the layer scale in it.
    out: Linear,
    norm2: LayerNorm,
    /// With the layer scale in it.
    mlp: Mlp,
    heads: usize,
}

impl Block {
    /// Takes the tensors below `w`'s prefix.
    pub fn load(shape: &BlockShape, names: &BlockNames, w: &Weights) -> Result<Self> {
        let dim = shape.dim;
        let qkv = names.qkv.map(|name| w.pp(name));
        let scaled = |name: &str, input: usize, at: usize| match names.scales {
            Some(scales) => Linear::load_scaled(&w.pp(name), input, dim, &w.get(scales[at], dim)?),
            None => Linear::load(&w.pp(name), input, dim),
        };
        Ok(Self {
            norm1: LayerNorm::load(&w.pp(names.norm1), dim, shape.eps)?,
            qkv: Linear::load_side_by_side(&qkv, dim, dim, shape.qkv_bias)?,
            out: scaled(names.out, dim, 0)?,
            norm2: LayerNorm::load(&w.pp(names.norm2), dim, shape.eps)?,
            mlp: Mlp {
                fc1: Linear::load(&w.pp("mlp.fc1"), dim, shape.inner)?,
                fc2: scaled("mlp.fc2", shape.inner, 1)?,
                act: shape.act,
            },
            heads: shape.heads,
        })
    }

    /// Tokens `[B, N, D]` to the same shape; `bias` is added to the attention scores `[B, heads, N, N]`.
    pub fn forward(&self, xs: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let attended = self_attention(&self.qkv.forward(&self.norm1.forward(xs)?)?, self.heads, bias)?;
        let xs = self.out.forward_add(&attended, xs)?;
        Ok(self.mlp.forward_add(&self.norm2.forward(&xs)?, &xs)?)
    }
}

/// The feed-forward part: `fc2 act(fc1 x)`.
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    act: Activation,
}

impl Mlp {
    /// Takes `fc1` and `fc2` below `w`'s prefix.
    pub fn load(dim: usize, inner: usize, act: Activation, w: &Weights) -> Result<Self> {
        Ok(Self { fc1: Linear::load(&w.pp("fc1"), dim, inner)?, fc2: Linear::load(&w.pp("fc2"), inner, dim)?, act })
    }

    /// `[..., D]` to the same shape.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_act(xs, self.act)?)
    }

    /// [`Mlp::forward`] with `residual` added.
    pub fn forward_add(&self, xs: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        self.fc2.forward_add(&self.fc1.forward_act(xs, self.act)?, residual)
    }
}

/// Runs as many blocks as `wanted` needs. Gives the sampled outputs and what the last block that ran gave.
///
/// # Errors
/// A block's own.
pub fn walk<B>(
    blocks: &[B],
    mut xs: Tensor,
    wanted: &Wanted,
    mut step: impl FnMut(&B, &Tensor) -> Result<Tensor>,
) -> Result<(Vec<Tensor>, Tensor)> {
    let mut sampled = Vec::with_capacity(wanted.layers.len());
    for (index, block) in blocks.iter().take(wanted.depth(blocks.len())).enumerate() {
        xs = step(block, &xs)?;
        if wanted.layers.contains(&index) {
            sampled.push(xs.clone());
        }
    }
    Ok((sampled, xs))
}
