//! CLIP's two towers (arXiv 2103.00020) as in Hugging Face `CLIPTextModel` and `CLIPVisionModel`, OpenAI's and LAION's.

use candle_core::{DType, IndexOp, Tensor};
use serde::{Deserialize, Serialize};

use super::LayerFeatures;
use crate::retriever::error::Result;
use crate::retriever::layers::{Activation, LayerNorm, Linear, attention, padding_bias};
use crate::retriever::weights::Weights;

const EPS: f64 = 1e-5;

/// Fields of `text_config` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipTextConfig {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of every block.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Longest input.
    pub max_position_embeddings: usize,
    /// `quick_gelu` (OpenAI) or `gelu` (LAION).
    pub hidden_act: Activation,
    /// Token whose state is pooled; 2 is the historic value that means "the largest id".
    pub eos_token_id: u32,
}

/// Fields of `vision_config` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipVisionConfig {
    /// Width of every block.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of the picture, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// `quick_gelu` (OpenAI) or `gelu` (LAION).
    pub hidden_act: Activation,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    act: Activation,
}

impl Block {
    fn load(dim: usize, inner: usize, heads: usize, act: Activation, w: &Weights) -> Result<Self> {
        let a = w.pp("self_attn");
        Ok(Self {
            norm1: LayerNorm::load(&w.pp("layer_norm1"), dim, EPS)?,
            query: Linear::load(&a.pp("q_proj"), dim, dim)?,
            key: Linear::load(&a.pp("k_proj"), dim, dim)?,
            value: Linear::load(&a.pp("v_proj"), dim, dim)?,
            out: Linear::load(&a.pp("out_proj"), dim, dim)?,
            norm2: LayerNorm::load(&w.pp("layer_norm2"), dim, EPS)?,
            fc1: Linear::load(&w.pp("mlp.fc1"), dim, inner)?,
            fc2: Linear::load(&w.pp("mlp.fc2"), inner, dim)?,
            heads,
            act,
        })
    }

    fn forward(&self, xs: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let normed = self.norm1.forward(xs)?;
        let (q, k, v) = (self.query.forward(&normed)?, self.key.forward(&normed)?, self.value.forward(&normed)?);
        let xs = self.out.forward_add(&attention(&q, &k, &v, self.heads, bias)?, xs)?;
        let inner = self.fc1.forward_act(&self.norm2.forward(&xs)?, self.act)?;
        Ok(self.fc2.forward_add(&inner, &xs)?)
    }
}

/// The text tower.
#[derive(Debug)]
pub struct ClipText {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    eos: u32,
}

impl ClipText {
    /// Takes the tensors below `w`'s prefix, which ends before `text_model`.
    pub fn load(c: &ClipTextConfig, w: &Weights) -> Result<Self> {
        let w = w.pp("text_model");
        let e = w.pp("embeddings");
        let d = c.hidden_size;
        let block = |i| {
            let w = w.pp(format!("encoder.layers.{i}"));
            Block::load(d, c.intermediate_size, c.num_attention_heads, c.hidden_act, &w)
        };
        Ok(Self {
            tokens: e.get("token_embedding.weight", (c.vocab_size, d))?,
            positions: e.get("position_embedding.weight", (c.max_position_embeddings, d))?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            final_norm: LayerNorm::load(&w.pp("final_layer_norm"), d, EPS)?,
            eos: c.eos_token_id,
        })
    }

    /// `input_ids`, `attention_mask`: `[B, N]`. `pooled` is `final_layer_norm(last)` at the end-of-text token.
    pub fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor, layers: &[usize]) -> Result<LayerFeatures> {
        let (b, n) = input_ids.dims2()?;
        let xs = self.tokens.index_select(&input_ids.flatten_all()?, 0)?.reshape((b, n, ()))?;
        let mut xs = xs.broadcast_add(&self.positions.narrow(0, 0, n)?)?;
        let causal: Vec<f32> = (0..n * n).map(|i| if i % n > i / n { -1e9 } else { 0.0 }).collect();
        let causal = Tensor::from_vec(causal, (1, 1, n, n), xs.device())?;
        let bias = padding_bias(attention_mask)?.unsqueeze(1)?.unsqueeze(1)?.broadcast_add(&causal)?; // [B, 1, N, N]
        let mut sampled = Vec::with_capacity(layers.len());
        for (index, block) in self.blocks.iter().enumerate() {
            xs = block.forward(&xs, Some(&bias))?;
            if layers.contains(&index) {
                sampled.push(xs.clone());
            }
        }
        let last = self.final_norm.forward(&xs)?;
        let mut pooled = Vec::with_capacity(b);
        for (row, ids) in input_ids.to_dtype(DType::U32)?.to_vec2::<u32>()?.iter().enumerate() {
            let end = if self.eos == 2 {
                let largest = ids.iter().max().copied().unwrap_or(0);
                ids.iter().position(|id| *id == largest)
            } else {
                ids.iter().position(|id| *id == self.eos)
            };
            pooled.push(last.i((row, end.unwrap_or(0)))?);
        }
        Ok(LayerFeatures { layers: sampled, pooled: Tensor::stack(&pooled, 0)? })
    }
}

/// The vision tower.
#[derive(Debug)]
pub struct ClipVision {
    class: Tensor,
    patches: Tensor,
    positions: Tensor,
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    post_norm: LayerNorm,
    patch: usize,
}

impl ClipVision {
    /// Takes the tensors below `w`'s prefix, which ends before `vision_model`.
    pub fn load(c: &ClipVisionConfig, w: &Weights) -> Result<Self> {
        let w = w.pp("vision_model");
        let e = w.pp("embeddings");
        let d = c.hidden_size;
        let grid = c.image_size / c.patch_size.max(1);
        let block = |i| {
            let w = w.pp(format!("encoder.layers.{i}"));
            Block::load(d, c.intermediate_size, c.num_attention_heads, c.hidden_act, &w)
        };
        Ok(Self {
            class: e.get("class_embedding", d)?,
            patches: e.get("patch_embedding.weight", (d, 3, c.patch_size, c.patch_size))?,
            positions: e.get("position_embedding.weight", (grid * grid + 1, d))?,
            pre_norm: LayerNorm::load(&w.pp("pre_layrnorm"), d, EPS)?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            post_norm: LayerNorm::load(&w.pp("post_layernorm"), d, EPS)?,
            patch: c.patch_size,
        })
    }

    /// Pixels `[B, 3, S, S]`; tokens are the class token, then patches row by row. `pooled` is `post_layernorm(last[:, 0])`.
    pub fn forward(&self, pixels: &Tensor, layers: &[usize]) -> Result<LayerFeatures> {
        let (b, _, _, _) = pixels.dims4()?;
        let patches = pixels.conv2d(&self.patches, 0, self.patch, 1, 1)?; // [B, D, S/p, S/p]
        let patches = patches.flatten_from(2)?.transpose(1, 2)?; // [B, P, D]
        let dim = self.class.dim(0)?;
        let class = self.class.broadcast_as((b, 1, dim))?;
        let xs = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        let mut xs = self.pre_norm.forward(&xs)?;
        let mut sampled = Vec::with_capacity(layers.len());
        for (index, block) in self.blocks.iter().enumerate() {
            xs = block.forward(&xs, None)?;
            if layers.contains(&index) {
                sampled.push(xs.clone());
            }
        }
        let pooled = self.post_norm.forward(&xs.i((.., 0))?)?;
        Ok(LayerFeatures { layers: sampled, pooled })
    }
}
