//! SigLIP's vision tower (arXiv 2303.15343) as in Hugging Face `SiglipVisionModel`; SigLIP2's of a fixed size (arXiv
//! 2502.14786) is the same model.

use candle_core::{IndexOp, Tensor};
use serde::Serialize;

use super::clip::NAMES;
use super::transformer::{Block, BlockShape, Mlp, walk};
use super::{LayerFeatures, Wanted, config};
use crate::retriever::error::{Result, RetrieverError};
use crate::retriever::fields::{self, Fields};
use crate::retriever::layers::{Activation, LayerNorm, Linear, attention};
use crate::retriever::weights::Weights;

/// What published checkpoints hold beside the tower.
pub const KNOWN_UNUSED: &[&str] = &["embeddings.position_ids", "text_model.*", "logit_scale", "logit_bias"];

/// Fields of `vision_config` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiglipConfig {
    /// Width of every block.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads, of the blocks and of the pooling head.
    pub num_attention_heads: usize,
    /// Side of the picture, pixels; what a whole number of patches does not cover is cut off.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// `gelu_pytorch_tanh`, as published.
    pub hidden_act: Activation,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
}

impl SiglipConfig {
    /// Reads a file's keys; those that are missing get the defaults of `transformers`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        let hidden_size = config::size(fields, "hidden_size", 768)?;
        let (image_size, patch_size) = config::picture_and_patch(fields, 16)?;
        Ok(Self {
            hidden_size,
            intermediate_size: config::size(fields, "intermediate_size", 3072)?,
            num_hidden_layers: config::blocks(fields, 12)?,
            num_attention_heads: config::heads(fields, 12, hidden_size)?,
            image_size,
            patch_size,
            hidden_act: config::activation(fields, Activation::GeluPytorchTanh)?,
            layer_norm_eps: config::eps(fields, 1e-6)?,
        })
    }
}

/// The tower. It has no class token.
#[derive(Debug)]
pub struct Siglip {
    patches: Tensor,
    patch_bias: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    post_norm: LayerNorm,
    head: Option<Head>,
    patch: usize,
}

impl Siglip {
    /// Takes the tensors below `w`'s prefix, which ends before `vision_model`. A checkpoint without pooling head is
    /// whole unless `pooled` says that its output will be wanted.
    pub fn load(c: &SiglipConfig, w: &Weights, pooled: bool) -> Result<Self> {
        let w = w.pp("vision_model");
        let e = w.pp("embeddings");
        let d = c.hidden_size;
        let grid = c.image_size / c.patch_size;
        let shape = BlockShape {
            dim: d,
            inner: c.intermediate_size,
            heads: c.num_attention_heads,
            act: c.hidden_act,
            eps: c.layer_norm_eps,
            qkv_bias: true,
            norm_after: false,
        };
        let block = |i| Block::load(&shape, &NAMES, &w.pp(format!("encoder.layers.{i}")));
        Ok(Self {
            patches: e.get("patch_embedding.weight", (d, 3, c.patch_size, c.patch_size))?,
            patch_bias: e.get("patch_embedding.bias", d)?,
            positions: e.get("position_embedding.weight", (grid * grid, d))?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            post_norm: LayerNorm::load(&w.pp("post_layernorm"), d, c.layer_norm_eps)?,
            head: if pooled || w.has("head.probe") { Some(Head::load(&shape, &w.pp("head"))?) } else { None },
            patch: c.patch_size,
        })
    }

    /// What the blocks start from: patches row by row with their positions, `[B, N, D]`.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = pixels.to_dtype(self.patches.dtype())?;
        let patches = pixels.conv2d(&self.patches, 0, self.patch, 1, 1)?; // [B, D, S/p, S/p]
        let patches = patches.flatten_from(2)?.transpose(1, 2)?.broadcast_add(&self.patch_bias)?; // [B, N, D]
        Ok(patches.broadcast_add(&self.positions)?)
    }

    /// Pixels `[B, 3, S, S]`. `pooled` is the pooling head over `post_layernorm(last)`.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let xs = self.embed(pixels)?;
        let (layers, last) = walk(&self.blocks, xs, wanted, |block, xs| block.forward(xs, None))?;
        let pooled = if wanted.pooled {
            let head = self.head.as_ref().ok_or(RetrieverError::NoPooler)?;
            Some(head.forward(&self.post_norm.forward(&last)?)?)
        } else {
            None
        };
        Ok(LayerFeatures { layers, pooled })
    }
}

/// Attention pooling: one learned query looks at all tokens, then a feed-forward part with residual.
#[derive(Debug)]
struct Head {
    probe: Tensor,
    qkv: [Linear; 3],
    out: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl Head {
    fn load(shape: &BlockShape, w: &Weights) -> Result<Self> {
        let d = shape.dim;
        let a = w.pp("attention");
        Ok(Self {
            probe: w.get("probe", (1, 1, d))?,
            qkv: Linear::load_stacked(&a, d)?,
            out: Linear::load(&a.pp("out_proj"), d, d)?,
            norm: LayerNorm::load(&w.pp("layernorm"), d, shape.eps)?,
            mlp: Mlp::load(d, shape.inner, shape.act, &w.pp("mlp"))?,
            heads: shape.heads,
        })
    }

    /// Tokens `[B, N, D]` to `[B, D]`.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (b, _, d) = xs.dims3()?;
        let [query, key, value] = &self.qkv;
        let probe = query.forward(&self.probe)?.broadcast_as((b, 1, d))?;
        let pooled = attention(&probe, &key.forward(xs)?, &value.forward(xs)?, self.heads, None)?;
        let pooled = self.out.forward(&pooled)?;
        let pooled = (&pooled + self.mlp.forward(&self.norm.forward(&pooled)?)?)?;
        Ok(pooled.i((.., 0))?)
    }
}
