//! Backbones: frozen towers that show several of their layers.
//!
//! One file per architecture; configuration structs mirror Hugging Face's `config.json`. Every backbone returns
//! [`LayerFeatures`]: raw block outputs (no final norm) of the sampled layers, and the pooled vector.

pub mod bert;
pub mod clip;
pub mod efficientnet;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::weights::Weights;

/// What a backbone gives: raw block outputs of the sampled layers, and its pooled vector.
#[derive(Debug, Clone)]
pub struct LayerFeatures {
    /// One `[B, N_l, D_l]` per sampled layer, in order; N and D may differ between layers.
    pub layers: Vec<Tensor>,
    /// `[B, D]`.
    pub pooled: Tensor,
}

/// Tokenised text.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// `[B, N]`, u32.
    pub input_ids: Tensor,
    /// `[B, N]`, u32 of 0 and 1: 0 is padding.
    pub attention_mask: Tensor,
}

/// Which text tower, with its own configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextConfig {
    /// BERT and its relatives (MiniLM).
    Bert(bert::BertConfig),
    /// CLIP's causal text tower.
    Clip(clip::ClipTextConfig),
}

/// Which picture tower, with its own configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VisionConfig {
    /// EfficientNet-Lite0.
    EfficientnetLite0(efficientnet::EfficientNetConfig),
    /// CLIP's vision transformer.
    Clip(clip::ClipVisionConfig),
}

impl TextConfig {
    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::Bert(c) => c.num_hidden_layers,
            Self::Clip(c) => c.num_hidden_layers,
        }
    }

    /// Width of every block and of the pooled vector.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Bert(c) => c.hidden_size,
            Self::Clip(c) => c.hidden_size,
        }
    }

    /// Longest text in tokens.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Bert(c) => c.max_position_embeddings,
            Self::Clip(c) => c.max_position_embeddings,
        }
    }
}

impl VisionConfig {
    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::BLOCKS.len(),
            Self::Clip(c) => c.num_hidden_layers,
        }
    }

    /// Width of one block.
    #[must_use]
    pub fn width(&self, block: usize) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::BLOCKS.get(block).map_or(0, |b| b.output),
            Self::Clip(c) => c.hidden_size,
        }
    }

    /// Width of the pooled vector.
    #[must_use]
    pub fn pooled_width(&self) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::POOLED,
            Self::Clip(c) => c.hidden_size,
        }
    }

    /// Side of the square picture it takes, in pixels.
    #[must_use]
    pub fn image_size(&self) -> usize {
        match self {
            Self::EfficientnetLite0(c) => c.image_size,
            Self::Clip(c) => c.image_size,
        }
    }
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
    /// Takes the tower's tensors.
    pub fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        Ok(match config {
            TextConfig::Bert(c) => Self::Bert(bert::Bert::load(c, weights)?),
            TextConfig::Clip(c) => Self::Clip(clip::ClipText::load(c, weights)?),
        })
    }

    /// Sampled layers and pooled vector of a batch.
    pub fn forward(&self, batch: &TextBatch, layers: &[usize]) -> Result<LayerFeatures> {
        match self {
            Self::Bert(m) => m.forward(&batch.input_ids, None, &batch.attention_mask, layers),
            Self::Clip(m) => m.forward(&batch.input_ids, &batch.attention_mask, layers),
        }
    }
}

/// A picture tower.
#[derive(Debug)]
pub enum VisionBackbone {
    /// EfficientNet-Lite0.
    EfficientNet(efficientnet::EfficientNet),
    /// CLIP's.
    Clip(clip::ClipVision),
}

impl VisionBackbone {
    /// Takes the tower's tensors.
    pub fn load(config: &VisionConfig, weights: &Weights) -> Result<Self> {
        Ok(match config {
            VisionConfig::EfficientnetLite0(c) => Self::EfficientNet(efficientnet::EfficientNet::load(c, weights)?),
            VisionConfig::Clip(c) => Self::Clip(clip::ClipVision::load(c, weights)?),
        })
    }

    /// Sampled layers and pooled vector of pixels `[B, 3, S, S]`.
    pub fn forward(&self, pixels: &Tensor, layers: &[usize]) -> Result<LayerFeatures> {
        match self {
            Self::EfficientNet(m) => m.forward(pixels, layers),
            Self::Clip(m) => m.forward(pixels, layers),
        }
    }
}
