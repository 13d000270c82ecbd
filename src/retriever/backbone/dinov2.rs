//! DINOv2 (arXiv 2304.07193) as in Hugging Face `Dinov2Model`: a vision transformer with layer scale whose grid of
//! positions is bent to the picture's size.

use candle_core::{IndexOp, Tensor};
use serde::Serialize;

use super::transformer::{Block, BlockNames, BlockShape, walk};
use super::{LayerFeatures, Wanted, config};
use crate::retriever::error::Result;
use crate::retriever::fields::{self, Fields};
use crate::retriever::layers::{Activation, LayerNorm};
use crate::retriever::weights::Weights;

/// The token that stands for masked patches in training, and the head of classifiers.
pub const KNOWN_UNUSED: &[&str] = &["embeddings.mask_token", "classifier.*"];

const NAMES: BlockNames = BlockNames {
    norm1: "norm1",
    qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    out: "attention.output.dense",
    norm2: "norm2",
    mlp: ["mlp.fc1", "mlp.fc2"],
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
};

/// Fields of `config.json` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dinov2Config {
    /// Width of every block.
    pub hidden_size: usize,
    /// Width inside the feed-forward part, as a multiple of `hidden_size`.
    pub mlp_ratio: f64,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Side of the picture that the stored positions are for, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward part.
    pub hidden_act: Activation,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
}

impl Dinov2Config {
    /// Reads a file's keys; those that are missing get the defaults of `transformers`. The giant model's gated
    /// feed-forward part is not known here.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        fields.only("use_swiglu_ffn", &false.into())?;
        let hidden_size = config::size(fields, "hidden_size", 768)?;
        let (image_size, patch_size) = config::picture_and_patch(fields, 16)?;
        Ok(Self {
            hidden_size,
            mlp_ratio: fields.number("mlp_ratio", Some(4.0), 0.25..=64.0)?,
            num_hidden_layers: config::blocks(fields, 12)?,
            num_attention_heads: config::heads(fields, 12, hidden_size)?,
            image_size,
            patch_size,
            hidden_act: config::activation(fields, Activation::Gelu)?,
            layer_norm_eps: config::eps(fields, 1e-6)?,
            qkv_bias: fields.flag("qkv_bias", true)?,
        })
    }
}

/// The tower.
#[derive(Debug)]
pub struct Dinov2 {
    class: Tensor,
    patches: Tensor,
    patch_bias: Tensor,
    /// Position of the class token, `[1, 1, D]`.
    class_position: Tensor,
    /// Positions of the patches, `[g, g, D]`.
    grid: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    patch: usize,
}

impl Dinov2 {
    /// Takes the tensors of a `Dinov2Model` below `w`'s prefix, or below `dinov2` there, where larger models keep it.
    pub fn load(c: &Dinov2Config, w: &Weights) -> Result<Self> {
        let w = w.below("dinov2");
        let e = w.pp("embeddings");
        let (d, patch) = (c.hidden_size, c.patch_size);
        let side = c.image_size / patch;
        let positions = e.get("position_embeddings", (1, side * side + 1, d))?;
        let shape = BlockShape {
            dim: d,
            inner: (d as f64 * c.mlp_ratio) as usize,
            heads: c.num_attention_heads,
            act: c.hidden_act,
            eps: c.layer_norm_eps,
            qkv_bias: c.qkv_bias,
            norm_after: false,
        };
        let block = |i| Block::load(&shape, &NAMES, &w.pp(format!("encoder.layer.{i}")));
        Ok(Self {
            class: e.get("cls_token", (1, 1, d))?,
            patches: e.get("patch_embeddings.projection.weight", (d, 3, patch, patch))?,
            patch_bias: e.get("patch_embeddings.projection.bias", d)?,
            class_position: positions.narrow(1, 0, 1)?,
            grid: positions.i((0, 1..))?.reshape((side, side, d))?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::load(&w.pp("layernorm"), d, c.layer_norm_eps)?,
            patch,
        })
    }

    /// What the blocks start from: the class token, then patches row by row, with their positions, `[B, N, D]`.
    pub fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (b, _, _, _) = pixels.dims4()?;
        let pixels = pixels.to_dtype(self.patches.dtype())?;
        let patches = pixels.conv2d(&self.patches, 0, self.patch, 1, 1)?; // [B, D, h, w]
        let (_, d, height, width) = patches.dims4()?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?.broadcast_add(&self.patch_bias)?; // [B, h w, D]
        let patches = patches.broadcast_add(&self.positions(height, width)?)?;
        let class = (&self.class + &self.class_position)?.broadcast_as((b, 1, d))?;
        Ok(Tensor::cat(&[&class, &patches], 1)?)
    }

    /// Positions of a grid of patches, `[1, h w, D]`: the stored grid, sampled bicubically. A product from the left
    /// samples rows; one of the transposed grid, columns.
    fn positions(&self, height: usize, width: usize) -> Result<Tensor> {
        let (side, _, d) = self.grid.dims3()?;
        let weights = |to: usize| {
            let weights = bicubic(side, to);
            Tensor::from_vec(weights, (to, side), self.grid.device())?.to_dtype(self.grid.dtype())
        };
        let rows = weights(height)?.matmul(&self.grid.reshape((side, side * d))?)?; // [h, g D]
        let rows = rows.reshape((height, side, d))?.transpose(0, 1)?.contiguous()?; // [g, h, D]
        let both = weights(width)?.matmul(&rows.reshape((side, height * d))?)?; // [w, h D]
        let both = both.reshape((width, height, d))?.transpose(0, 1)?.contiguous()?;
        Ok(both.reshape((1, height * width, d))?)
    }

    /// Pixels `[B, 3, H, W]`. `pooled` is `layernorm(last[:, 0])`.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let xs = self.embed(pixels)?;
        let (layers, last) = walk(&self.blocks, xs, wanted, |block, xs| block.forward(xs, None))?;
        let pooled = if wanted.pooled { Some(self.norm.forward(&last.i((.., 0))?)?) } else { None };
        Ok(LayerFeatures { layers, pooled })
    }
}

/// Weights `[to, from]`, row by row, of a bicubic resampling as PyTorch's `interpolate(size=…, align_corners=False)`
/// does it: cubic convolution with a = -0.75, no smoothing when it shrinks, borders repeated. (`transformers` gives the
/// size, not the older scale factor with 0.1 added.)
fn bicubic(from: usize, to: usize) -> Vec<f32> {
    const A: f64 = -0.75;
    let kernel = |t: f64| {
        let t = t.abs();
        if t <= 1.0 { ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0 } else { (((t - 5.0) * t + 8.0) * t - 4.0) * A }
    };
    let mut weights = vec![0f32; from * to];
    for (row, weights) in weights.chunks_mut(from).enumerate() {
        let at = (row as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        for offset in -1..=2 {
            let column = (at.floor() as i64 + offset).clamp(0, from as i64 - 1);
            weights[column as usize] += kernel(at - at.floor() - offset as f64) as f32;
        }
    }
    weights
}
