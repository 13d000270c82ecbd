//! ReT-2: two towers, an adapter per sampled layer, the recurrent cell, global injection, one unit vector.

use candle_core::{DType, Device, Tensor};

use super::backbone::{LayerFeatures, TextBackbone, TextBatch, VisionBackbone, Wanted};
use super::cell::{Cell, StepTrace, Tokens};
use super::config::RetConfig;
use super::error::{Result, RetrieverError};
use super::layers::{Linear, padding_bias};
use super::weights::Weights;

/// Features of the text tower with the mask that goes with them.
#[derive(Debug, Clone)]
pub struct TextFeatures {
    /// Sampled layers and pooled vector.
    pub features: LayerFeatures,
    /// `[B, N]` of 0 and 1.
    pub attention_mask: Tensor,
}

/// Everything above the towers; this is what training changes.
#[derive(Debug)]
pub struct Head {
    state: Tensor,
    text_adapters: Vec<Linear>,
    vision_adapters: Vec<Linear>,
    cell: Cell,
    globals: Option<(Linear, Linear)>,
    proj: Linear,
}

impl Head {
    /// Takes the tensors of everything but the towers.
    pub fn load(c: &RetConfig, w: &Weights) -> Result<Self> {
        let dim = c.hidden_size;
        let text = |i: usize, _: &usize| Linear::load(&w.pp(format!("text_adapter.{i}")), c.text.width(), dim);
        let vision =
            |i: usize, layer: &usize| Linear::load(&w.pp(format!("vision_adapter.{i}")), c.vision.width(*layer), dim);
        let globals = if c.global_injection {
            let text = Linear::load(&w.pp("text_global"), c.text.width(), dim)?;
            Some((text, Linear::load(&w.pp("vision_global"), c.vision.pooled_width(), dim)?))
        } else {
            None
        };
        Ok(Self {
            state: w.get("state", (1, 1, dim))?,
            text_adapters: c.text_layers.iter().enumerate().map(|(i, l)| text(i, l)).collect::<Result<_>>()?,
            vision_adapters: c.vision_layers.iter().enumerate().map(|(i, l)| vision(i, l)).collect::<Result<_>>()?,
            cell: Cell::load(&w.pp("cell"), dim, c.num_heads)?,
            globals,
            proj: Linear::load_no_bias(&w.pp("proj"), dim, c.output_dim)?,
        })
    }

    /// Features of a batch in which every item has the same modalities, to unit vectors `[B, D]`.
    pub fn forward(&self, text: Option<&TextFeatures>, vision: Option<&LayerFeatures>) -> Result<Tensor> {
        Ok(self.trace(text, vision)?.0)
    }

    /// [`Head::forward`] with every step's gates and state.
    pub fn trace(
        &self,
        text: Option<&TextFeatures>,
        vision: Option<&LayerFeatures>,
    ) -> Result<(Tensor, Vec<StepTrace>)> {
        let batch = match (text, vision) {
            (Some(text), _) => text.attention_mask.dim(0)?,
            (None, Some(vision)) => vision.batch()?,
            (None, None) => return Err(RetrieverError::EmptyItem),
        };
        let (_, n, dim) = self.state.dims3()?;
        let padding = text.map(|text| padding_bias(&text.attention_mask)).transpose()?;
        let mut state = self.state.broadcast_as((batch, n, dim))?.contiguous()?;
        let mut steps = Vec::with_capacity(self.text_adapters.len());
        for (index, (text_adapter, vision_adapter)) in self.text_adapters.iter().zip(&self.vision_adapters).enumerate()
        {
            let text = text
                .map(|text| -> Result<Tokens> {
                    let xs = text_adapter.forward(&text.features.layers[index])?;
                    Ok(Tokens { xs, padding: padding.clone() })
                })
                .transpose()?;
            let vision = vision
                .map(|vision| -> Result<Tokens> {
                    Ok(Tokens { xs: vision_adapter.forward(&vision.layers[index])?, padding: None })
                })
                .transpose()?;
            let step = self.cell.step(&state, text.as_ref(), vision.as_ref())?;
            state = step.state.clone();
            steps.push(step);
        }
        if let Some((text_global, vision_global)) = &self.globals {
            if let Some(text) = text {
                state = state.broadcast_add(&text_global.forward(text.features.pooled()?)?.unsqueeze(1)?)?;
            }
            if let Some(vision) = vision {
                state = state.broadcast_add(&vision_global.forward(vision.pooled()?)?.unsqueeze(1)?)?;
            }
        }
        let out = self.proj.forward(&state)?.squeeze(1)?; // [B, D]
        Ok((normalise(&out)?, steps))
    }
}

/// Rows of `[B, D]` brought to length 1.
pub fn normalise(xs: &Tensor) -> candle_core::Result<Tensor> {
    let norm = (xs.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?;
    xs.broadcast_div(&norm)
}

/// One batch in which items may lack a modality: row numbers per modality.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Tokenised texts of the items that have one, and their rows.
    pub text: Option<(TextBatch, Vec<usize>)>,
    /// Pixels `[b, 3, S, S]` of the items that have a picture, and their rows.
    pub vision: Option<(Tensor, Vec<usize>)>,
    /// Number of items.
    pub len: usize,
}

/// The whole model.
#[derive(Debug)]
pub struct Ret2 {
    config: RetConfig,
    text: TextBackbone,
    vision: VisionBackbone,
    head: Head,
}

impl Ret2 {
    /// Takes towers and head from their weights; the same [`Weights`] may serve for all (with prefixes).
    pub fn load(config: &RetConfig, text: &Weights, vision: &Weights, head: &Weights) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            text: TextBackbone::load(&config.text, text, config.global_injection)?,
            vision: VisionBackbone::load(&config.vision, vision, config.global_injection)?,
            head: Head::load(config, head)?,
        })
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &RetConfig {
        &self.config
    }

    /// Text tower alone.
    pub fn text_features(&self, batch: &TextBatch) -> Result<TextFeatures> {
        let features = self.text.forward(batch, &self.config.text_wanted())?;
        Ok(TextFeatures { features, attention_mask: batch.attention_mask.clone() })
    }

    /// Picture tower alone.
    pub fn vision_features(&self, pixels: &Tensor) -> Result<LayerFeatures> {
        self.vision.forward(pixels, &self.config.vision_wanted())
    }

    /// Pooled vectors `[B, D]` of the picture tower alone.
    pub fn vision_pooled(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.vision.forward(pixels, &Wanted { layers: &[], pooled: true })?.pooled()?.clone())
    }

    /// Unit vectors `[len, D]` of a batch. Items are grouped by the modalities they have, so that no tower and no part
    /// of the cell runs for what is absent.
    pub fn encode(&self, batch: &Batch) -> Result<Tensor> {
        let text = match &batch.text {
            Some((text, rows)) => Some((self.text_features(text)?, rows)),
            None => None,
        };
        let vision = match &batch.vision {
            Some((pixels, rows)) => Some((self.vision_features(pixels)?, rows)),
            None => None,
        };
        let at = |rows: Option<&Vec<usize>>, row: usize| rows.and_then(|rows| rows.iter().position(|r| *r == row));
        let mut groups: [Vec<(usize, Option<usize>, Option<usize>)>; 3] = Default::default();
        for row in 0..batch.len {
            let text_at = at(text.as_ref().map(|t| t.1), row);
            let vision_at = at(vision.as_ref().map(|v| v.1), row);
            let group = match (text_at, vision_at) {
                (Some(_), Some(_)) => 0,
                (Some(_), None) => 1,
                (None, Some(_)) => 2,
                (None, None) => return Err(RetrieverError::EmptyItem),
            };
            groups[group].push((row, text_at, vision_at));
        }
        let mut order = Vec::with_capacity(batch.len);
        let mut parts = Vec::new();
        for group in groups.iter().filter(|group| !group.is_empty()) {
            let text_rows: Vec<_> = group.iter().filter_map(|(_, text, _)| *text).collect();
            let vision_rows: Vec<_> = group.iter().filter_map(|(_, _, vision)| *vision).collect();
            let text = match &text {
                Some((features, _)) if !text_rows.is_empty() => Some(features.select(&text_rows)?),
                _ => None,
            };
            let vision = match &vision {
                Some((features, _)) if !vision_rows.is_empty() => Some(features.select(&vision_rows)?),
                _ => None,
            };
            parts.push(self.head.forward(text.as_ref(), vision.as_ref())?);
            order.extend(group.iter().map(|(row, _, _)| *row));
        }
        let out = Tensor::cat(&parts, 0)?;
        let mut back = vec![0u32; batch.len];
        for (at, row) in order.iter().enumerate() {
            back[*row] = at as u32;
        }
        Ok(out.index_select(&Tensor::new(back, out.device())?, 0)?)
    }

    /// Everything above the towers.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl LayerFeatures {
    /// The given rows of every tensor.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        let chosen = |tensor: &Tensor| tensor.index_select(&row_index(rows, tensor.device())?, 0);
        let layers = self.layers.iter().map(chosen).collect::<candle_core::Result<_>>()?;
        Ok(Self { layers, pooled: self.pooled.as_ref().map(chosen).transpose()? })
    }
}

impl TextFeatures {
    /// The given rows of every tensor.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        let index = row_index(rows, self.attention_mask.device())?;
        Ok(Self { features: self.features.select(rows)?, attention_mask: self.attention_mask.index_select(&index, 0)? })
    }
}

fn row_index(rows: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
    Tensor::new(rows, device)?.to_dtype(DType::U32)
}
