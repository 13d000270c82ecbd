//! CLIP's two towers (arXiv 2103.00020) as in Hugging Face `CLIPTextModel` and `CLIPVisionModel`, OpenAI's and LAION's.

use candle_core::{DType, IndexOp, Tensor};
use serde::Serialize;

use super::transformer::{Block, BlockNames, BlockShape, walk};
use super::{LayerFeatures, Wanted, config};
use crate::retriever::error::Result;
use crate::retriever::fields::{self, Fields};
use crate::retriever::layers::{Activation, LayerNorm, padding_bias};
use crate::retriever::weights::Weights;

/// What published checkpoints hold beside the text tower: the picture's, and what joins the two.
pub const TEXT_KNOWN_UNUSED: &[&str] =
    &["embeddings.position_ids", "vision_model.*", "text_projection.weight", "visual_projection.weight", "logit_scale"];

/// What published checkpoints hold beside the picture tower.
pub const VISION_KNOWN_UNUSED: &[&str] =
    &["embeddings.position_ids", "text_model.*", "text_projection.weight", "visual_projection.weight", "logit_scale"];

/// Names of a block's tensors; SigLIP's are the same.
pub(super) const NAMES: BlockNames = BlockNames {
    norm1: "layer_norm1",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    norm2: "layer_norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: None,
};

/// Fields of `text_config` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Token whose state is pooled; 2 is the historic value that means "the largest id".
    pub eos_token_id: u32,
}

impl ClipTextConfig {
    /// Reads a file's keys; those that are missing get the defaults of `transformers`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        let hidden_size = config::size(fields, "hidden_size", 512)?;
        Ok(Self {
            vocab_size: config::size(fields, "vocab_size", 49_408)?,
            hidden_size,
            intermediate_size: config::size(fields, "intermediate_size", 2048)?,
            num_hidden_layers: config::blocks(fields, 12)?,
            num_attention_heads: config::heads(fields, 8, hidden_size)?,
            max_position_embeddings: config::size(fields, "max_position_embeddings", 77)?,
            hidden_act: config::activation(fields, Activation::QuickGelu)?,
            layer_norm_eps: config::eps(fields, 1e-5)?,
            eos_token_id: fields.count("eos_token_id", Some(49_407), 0..=u32::MAX as usize)? as u32,
        })
    }

    fn block(&self) -> BlockShape {
        BlockShape {
            dim: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
            qkv_bias: true,
            norm_after: false,
        }
    }
}

/// Fields of `vision_config` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
}

impl ClipVisionConfig {
    /// Reads a file's keys; those that are missing get the defaults of `transformers`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        let hidden_size = config::size(fields, "hidden_size", 768)?;
        let (image_size, patch_size) = config::picture_and_patch(fields, 32)?;
        Ok(Self {
            hidden_size,
            intermediate_size: config::size(fields, "intermediate_size", 3072)?,
            num_hidden_layers: config::blocks(fields, 12)?,
            num_attention_heads: config::heads(fields, 12, hidden_size)?,
            image_size,
            patch_size,
            hidden_act: config::activation(fields, Activation::QuickGelu)?,
            layer_norm_eps: config::eps(fields, 1e-5)?,
        })
    }

    fn block(&self) -> BlockShape {
        BlockShape {
            dim: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
            qkv_bias: true,
            norm_after: false,
        }
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
        let block = |i| Block::load(&c.block(), &NAMES, &w.pp(format!("encoder.layers.{i}")));
        Ok(Self {
            tokens: e.get("token_embedding.weight", (c.vocab_size, d))?,
            positions: e.get("position_embedding.weight", (c.max_position_embeddings, d))?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            final_norm: LayerNorm::load(&w.pp("final_layer_norm"), d, c.layer_norm_eps)?,
            eos: c.eos_token_id,
        })
    }

    /// Output of the embedding layer, `[B, N, D]`.
    pub fn embed(&self, input_ids: &Tensor) -> Result<Tensor> {
        let (b, n) = input_ids.dims2()?;
        let xs = self.tokens.index_select(&input_ids.flatten_all()?, 0)?.reshape((b, n, ()))?;
        Ok(xs.broadcast_add(&self.positions.narrow(0, 0, n)?)?)
    }

    /// `input_ids`, `attention_mask`: `[B, N]`. `pooled` is `final_layer_norm(last)` at the end-of-text token.
    pub fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let (_, n) = input_ids.dims2()?;
        let xs = self.embed(input_ids)?;
        let causal: Vec<f32> = (0..n * n).map(|i| if i % n > i / n { -1e9 } else { 0.0 }).collect();
        let causal = Tensor::from_vec(causal, (1, 1, n, n), xs.device())?;
        let bias = padding_bias(attention_mask)?.unsqueeze(1)?.unsqueeze(1)?.broadcast_add(&causal)?; // [B, 1, N, N]
        let (layers, last) = walk(&self.blocks, xs, wanted, |block, xs| block.forward(xs, Some(&bias)))?;
        let pooled = if wanted.pooled {
            let ids = input_ids.to_dtype(DType::U32)?.to_vec2::<u32>()?;
            let ends = ids.iter().enumerate().map(|(row, ids)| last.i((row, end_of_text(ids, self.eos))));
            let ends = Tensor::stack(&ends.collect::<candle_core::Result<Vec<_>>>()?, 0)?; // [B, D]
            Some(self.final_norm.forward(&ends)?)
        } else {
            None
        };
        Ok(LayerFeatures { layers, pooled })
    }
}

/// Where a text ends: at the first `eos`, or, for checkpoints that carry the historic value 2, at the first of the
/// largest id; at the start where there is none.
fn end_of_text(ids: &[u32], eos: u32) -> usize {
    let end = if eos == 2 { ids.iter().max().copied().unwrap_or(eos) } else { eos };
    ids.iter().position(|id| *id == end).unwrap_or(0)
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
        let grid = c.image_size / c.patch_size;
        let block = |i| Block::load(&c.block(), &NAMES, &w.pp(format!("encoder.layers.{i}")));
        Ok(Self {
            class: e.get("class_embedding", d)?,
            patches: e.get("patch_embedding.weight", (d, 3, c.patch_size, c.patch_size))?,
            positions: e.get("position_embedding.weight", (grid * grid + 1, d))?,
            // The name is misspelt in every checkpoint.
            pre_norm: LayerNorm::load(&w.pp("pre_layrnorm"), d, c.layer_norm_eps)?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            post_norm: LayerNorm::load(&w.pp("post_layernorm"), d, c.layer_norm_eps)?,
            patch: c.patch_size,
        })
    }

    /// What the blocks start from: the class token, then patches row by row, with their positions and the norm that
    /// stands before the blocks, `[B, N, D]`.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (b, _, _, _) = pixels.dims4()?;
        let pixels = pixels.to_dtype(self.patches.dtype())?;
        let patches = pixels.conv2d(&self.patches, 0, self.patch, 1, 1)?; // [B, D, S/p, S/p]
        let patches = patches.flatten_from(2)?.transpose(1, 2)?; // [B, P, D]
        let class = self.class.broadcast_as((b, 1, self.class.dim(0)?))?;
        let xs = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        Ok(self.pre_norm.forward(&xs)?)
    }

    /// Pixels `[B, 3, S, S]`. `pooled` is `post_layernorm(last[:, 0])`.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let xs = self.embed(pixels)?;
        let (layers, last) = walk(&self.blocks, xs, wanted, |block, xs| block.forward(xs, None))?;
        let pooled = if wanted.pooled { Some(self.post_norm.forward(&last.i((.., 0))?)?) } else { None };
        Ok(LayerFeatures { layers, pooled })
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_text;

    #[test]
    fn the_first_end_token_counts_and_for_the_historic_value_the_first_of_the_largest_id() {
        assert_eq!(end_of_text(&[97, 5, 40, 60, 40], 40), 2);
        assert_eq!(end_of_text(&[90, 5, 97, 2, 97], 2), 2);
        assert_eq!(end_of_text(&[97, 5, 6], 40), 0);
    }
}
