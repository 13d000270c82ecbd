//! Backbones: frozen towers that show several of their layers.
//!
//! One file per architecture; configuration structs mirror Hugging Face's `config.json`. A tower is asked for what is
//! [`Wanted`] and gives [`LayerFeatures`]: raw block outputs (no final norm) of the sampled layers, and the pooled
//! vector. It computes nothing that was not asked for.
//!
//! | file | what |
//! | --- | --- |
//! | `bert`, `clip` | text towers |
//! | `clip`, `siglip`, `dinov2`, `efficientnet` | picture towers |
//! | `transformer` | the block that CLIP, SigLIP and DINOv2 share, and the walk over blocks |
//! | `config` | which tower, read from `config.json` |
//! | `work` | how much a tower computes for an item |

pub mod bert;
pub mod clip;
pub mod config;
pub mod dinov2;
pub mod efficientnet;
pub mod siglip;
#[cfg(test)]
mod tests;
pub mod transformer;
pub mod work;

use candle_core::{DType, Tensor};

pub use self::config::{TextConfig, VisionConfig};
use super::error::{Result, RetrieverError};
use super::weights::Weights;

/// What is asked of a tower.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Blocks whose outputs are wanted, 0-based, increasing.
    pub layers: &'a [usize],
    /// Whether the pooled vector is wanted. It stands behind the last block.
    pub pooled: bool,
}

impl Wanted<'_> {
    /// How many of a tower's blocks must run.
    #[must_use]
    pub fn depth(&self, blocks: usize) -> usize {
        if self.pooled { blocks } else { self.layers.iter().max().map_or(0, |last| blocks.min(last + 1)) }
    }
}

/// What a backbone gives.
#[derive(Debug, Clone)]
pub struct LayerFeatures {
    /// Raw block outputs: one `[B, N_l, D_l]` per wanted layer, in order; N and D may differ between layers.
    pub layers: Vec<Tensor>,
    /// `[B, D]`, where it was wanted.
    pub pooled: Option<Tensor>,
}

impl LayerFeatures {
    /// The pooled vectors `[B, D]`.
    ///
    /// # Errors
    /// [`RetrieverError::NoPooler`] where they were not wanted.
    pub fn pooled(&self) -> Result<&Tensor> {
        self.pooled.as_ref().ok_or(RetrieverError::NoPooler)
    }

    /// In f32, whatever the tower computes in.
    fn widened(self) -> Result<Self> {
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let layers = self.layers.iter().map(wide).collect::<candle_core::Result<_>>()?;
        Ok(Self { layers, pooled: self.pooled.as_ref().map(wide).transpose()? })
    }

    /// Number of items; none where nothing was wanted.
    ///
    /// # Errors
    /// The engine's own.
    pub fn batch(&self) -> Result<usize> {
        Ok(self.layers.first().or(self.pooled.as_ref()).map_or(Ok(0), |any| any.dim(0))?)
    }
}

/// Tokenised text.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// `[B, N]`, u32.
    pub input_ids: Tensor,
    /// `[B, N]`, u32 of 0 and 1: 0 is padding.
    pub attention_mask: Tensor,
}

/// A text tower.
#[derive(Debug)]
pub enum TextBackbone {
    /// BERT and its relatives.
    Bert(bert::Bert),
    /// CLIP's.
    Clip(clip::ClipText),
}

impl TextBackbone {
    /// Takes the tower's tensors; those behind the pooled vector must be there if it will be wanted.
    pub fn load(config: &TextConfig, weights: &Weights, pooled: bool) -> Result<Self> {
        Ok(match config {
            TextConfig::Bert(c) => Self::Bert(bert::Bert::load(c, weights, pooled)?),
            TextConfig::Clip(c) => Self::Clip(clip::ClipText::load(c, weights)?),
        })
    }

    /// What is wanted of a batch, in f32.
    pub fn forward(&self, batch: &TextBatch, wanted: &Wanted) -> Result<LayerFeatures> {
        let (ids, mask) = (&batch.input_ids, &batch.attention_mask);
        in_parts(ids, ids.dim(1)?, |from, count| {
            let (ids, mask) = (&ids.narrow(0, from, count)?, &mask.narrow(0, from, count)?);
            match self {
                Self::Bert(m) => m.forward(ids, None, mask, wanted),
                Self::Clip(m) => m.forward(ids, mask, wanted),
            }
        })
    }
}

/// A picture tower.
#[derive(Debug)]
pub enum VisionBackbone {
    /// EfficientNet-Lite0.
    EfficientNet(efficientnet::EfficientNet),
    /// CLIP's.
    Clip(clip::ClipVision),
    /// SigLIP's.
    Siglip(siglip::Siglip),
    /// DINOv2.
    Dinov2(dinov2::Dinov2),
}

impl VisionBackbone {
    /// Takes the tower's tensors; those behind the pooled vector must be there if it will be wanted.
    pub fn load(config: &VisionConfig, weights: &Weights, pooled: bool) -> Result<Self> {
        Ok(match config {
            VisionConfig::EfficientnetLite0(c) => Self::EfficientNet(efficientnet::EfficientNet::load(c, weights)?),
            VisionConfig::Clip(c) => Self::Clip(clip::ClipVision::load(c, weights)?),
            VisionConfig::Siglip(c) => Self::Siglip(siglip::Siglip::load(c, weights, pooled)?),
            VisionConfig::Dinov2(c) => Self::Dinov2(dinov2::Dinov2::load(c, weights)?),
        })
    }

    /// What is wanted of pixels `[B, 3, H, W]`, in f32.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let (_, _, height, width) = pixels.dims4()?;
        in_parts(pixels, height * width / PATCH, |from, count| {
            let pixels = &pixels.narrow(0, from, count)?;
            match self {
                Self::EfficientNet(m) => m.forward(pixels, wanted),
                Self::Clip(m) => m.forward(pixels, wanted),
                Self::Siglip(m) => m.forward(pixels, wanted),
                Self::Dinov2(m) => m.forward(pixels, wanted),
            }
        })
    }
}

/// Tokens of a part of a batch, for each thread: more would only let what lies between two blocks outgrow the caches.
const PART: usize = 512;
/// Pixels of a token, about: a patch of 14 by 14.
const PATCH: usize = 196;

/// Runs a tower on a few items of a batch at a time, where that is the CPU's to do, and puts together what it gives.
/// `batch` has the items, of about `tokens` tokens each, in its first dimension.
fn in_parts(
    batch: &Tensor,
    tokens: usize,
    tower: impl Fn(usize, usize) -> Result<LayerFeatures>,
) -> Result<LayerFeatures> {
    let len = batch.dim(0)?;
    let most = (PART * rayon::current_num_threads() / tokens.max(1)).max(1);
    if len <= most || !batch.device().is_cpu() {
        return tower(0, len)?.widened();
    }
    // Parts of like size.
    let size = len.div_ceil(len.div_ceil(most));
    let parts: Vec<LayerFeatures> =
        (0..len).step_by(size).map(|from| tower(from, size.min(len - from))?.widened()).collect::<Result<_>>()?;
    let whole = |of: &dyn Fn(&LayerFeatures) -> &Tensor| Tensor::cat(&parts.iter().map(of).collect::<Vec<_>>(), 0);
    let layers = (0..parts[0].layers.len()).map(|layer| whole(&|part| &part.layers[layer]));
    let layers = layers.collect::<candle_core::Result<_>>()?;
    let pooled: Vec<&Tensor> = parts.iter().filter_map(|part| part.pooled.as_ref()).collect();
    Ok(LayerFeatures { layers, pooled: if pooled.is_empty() { None } else { Some(Tensor::cat(&pooled, 0)?) } })
}
