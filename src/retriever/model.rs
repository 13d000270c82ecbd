//! ReT and ReT-2: two towers, an adapter per sampled layer, the recurrent cell, global injection, one or several unit
//! vectors.

use candle_core::{D, DType, Device, Tensor};

use super::backbone::{LayerFeatures, TextBackbone, TextBatch, VisionBackbone, Wanted};
use super::cell::{Cell, StepTrace, Tokens};
use super::config::RetConfig;
use super::error::{Result, RetrieverError};
use super::kernels::awake;
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

/// Which of the two kinds of items is encoded. In ReT-2 both share all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is searched for.
    Query,
    /// What is searched.
    Document,
}

/// Everything above the towers; this is what training changes.
#[derive(Debug)]
pub struct Head {
    /// `[1, n, H]`.
    state: Tensor,
    text_adapters: Vec<Linear>,
    vision_adapters: Vec<Linear>,
    cell: Cell,
    globals: Option<(Linear, Linear)>,
    proj: Linear,
}

impl Head {
    /// Takes the tensors of everything but the towers, of one side where the sides have their own.
    pub fn load(c: &RetConfig, w: &Weights) -> Result<Self> {
        let (dim, w) = (c.hidden_size, &w.in_single_precision());
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
            state: w.get("state", (1, c.state_tokens, dim))?,
            text_adapters: c.text_layers.iter().enumerate().map(|(i, l)| text(i, l)).collect::<Result<_>>()?,
            vision_adapters: c.vision_layers.iter().enumerate().map(|(i, l)| vision(i, l)).collect::<Result<_>>()?,
            cell: Cell::load(c, &w.pp("cell"))?,
            globals,
            proj: Linear::load_no_bias(&w.pp("proj"), dim, c.output_dim)?,
        })
    }

    /// Features of a batch in which every item has the same modalities, to unit vectors `[B, n, D]`.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyItem`] with neither modality; the engine's own.
    pub fn forward(&self, text: Option<&TextFeatures>, vision: Option<&LayerFeatures>) -> Result<Tensor> {
        self.watched(text, vision, &mut |_| {})
    }

    /// [`Head::forward`]; `watch` is told every step's gates and state, in order.
    ///
    /// # Errors
    /// As [`Head::forward`].
    pub fn watched(
        &self,
        text: Option<&TextFeatures>,
        vision: Option<&LayerFeatures>,
        watch: &mut dyn FnMut(&StepTrace),
    ) -> Result<Tensor> {
        let batch = match (text, vision) {
            (Some(text), _) => text.attention_mask.dim(0)?,
            (None, Some(vision)) => vision.batch()?,
            (None, None) => return Err(RetrieverError::EmptyItem),
        };
        let (_, n, dim) = self.state.dims3()?;
        let padding = text.map(|text| padding_bias(&text.attention_mask)).transpose()?;
        let mut state = self.state.broadcast_as((batch, n, dim))?.contiguous()?;
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
            watch(&step);
            state = step.state;
        }
        if let Some((text_global, vision_global)) = &self.globals {
            if let Some(text) = text {
                state = state.broadcast_add(&text_global.forward(text.features.pooled()?)?.unsqueeze(1)?)?;
            }
            if let Some(vision) = vision {
                state = state.broadcast_add(&vision_global.forward(vision.pooled()?)?.unsqueeze(1)?)?;
            }
        }
        Ok(normalise(&self.proj.forward(&state)?)?) // [B, n, D]
    }
}

/// Rows of the last dimension brought to length 1.
pub fn normalise(xs: &Tensor) -> candle_core::Result<Tensor> {
    let norm = (xs.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    xs.broadcast_div(&norm)
}

/// MaxSim of every query `[B, n, D]` against every document `[C, m, D]`, as `[B, C]`; with one vector each, dot products.
/// Built of differentiable operations; [`super::embedding::scores`] is the same outside of training.
pub fn maxsim(queries: &Tensor, documents: &Tensor) -> candle_core::Result<Tensor> {
    let ((b, n, dim), (c, m, _)) = (queries.dims3()?, documents.dims3()?);
    let dots = queries.reshape((b * n, dim))?.matmul(&documents.reshape((c * m, dim))?.t()?)?; // [B n, C m]
    dots.reshape((b, n, c, m))?.max(D::Minus1)?.sum(1)
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

/// A batch, looked into: every tensor has the items in their order.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Unit vectors, `[B, n, D]`.
    pub embeddings: Tensor,
    /// One for each sampled layer. The input gate of a modality that an item lacks is zero in its row.
    pub steps: Vec<StepTrace>,
}

/// The whole model.
#[derive(Debug)]
pub struct Ret {
    config: RetConfig,
    text: TextBackbone,
    vision: VisionBackbone,
    /// Of queries, and of documents as well where the sides share one.
    head: Head,
    document_head: Option<Head>,
}

impl Ret {
    /// Takes towers and heads from their weights; the same [`Weights`] may serve for all (with prefixes).
    pub fn load(config: &RetConfig, text: &Weights, vision: &Weights, head: &Weights) -> Result<Self> {
        let (head, document_head) = if config.shared_encoder {
            (Head::load(config, head)?, None)
        } else {
            (Head::load(config, &head.pp("query"))?, Some(Head::load(config, &head.pp("document"))?))
        };
        Ok(Self {
            config: config.clone(),
            text: TextBackbone::load(&config.text, text, config.global_injection)?,
            vision: VisionBackbone::load(&config.vision, vision, config.global_injection)?,
            head,
            document_head,
        })
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &RetConfig {
        &self.config
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.head.state.device()
    }

    /// Text tower alone.
    pub fn text_features(&self, batch: &TextBatch) -> Result<TextFeatures> {
        tracing::trace!(rows = batch.input_ids.dim(0)?, "text tower");
        let features = awake(|| self.text.forward(batch, &self.config.text_wanted()))?;
        Ok(TextFeatures { features, attention_mask: batch.attention_mask.clone() })
    }

    /// Picture tower alone.
    pub fn vision_features(&self, pixels: &Tensor) -> Result<LayerFeatures> {
        tracing::trace!(rows = pixels.dim(0)?, "picture tower");
        awake(|| self.vision.forward(pixels, &self.config.vision_wanted()))
    }

    /// Pooled vectors `[B, D]` of the picture tower alone.
    pub fn vision_pooled(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.vision.forward(pixels, &Wanted { layers: &[], pooled: true })?.pooled()?.clone())
    }

    /// Unit vectors `[len, n, D]` of a batch. Items are grouped by the modalities they have, so that no tower and no part
    /// of the cell runs for what is absent.
    ///
    /// # Errors
    /// [`RetrieverError::EmptyItem`] for an item with neither modality; the engine's own.
    pub fn encode(&self, side: Side, batch: &Batch) -> Result<Tensor> {
        let head = self.head(side);
        let mut whole = self.grouped(batch, |text, vision| Ok(vec![awake(|| head.forward(text, vision))?]))?;
        whole.pop().ok_or(RetrieverError::EmptyItem)
    }

    /// [`Ret::encode`] with every step's gates and state.
    ///
    /// # Errors
    /// As [`Ret::encode`].
    pub fn trace(&self, side: Side, batch: &Batch) -> Result<Trace> {
        let head = self.head(side);
        let mut whole = self.grouped(batch, |text, vision| {
            let mut parts = Vec::new();
            let embeddings = head.watched(text, vision, &mut |step| {
                let StepTrace { text_input, vision_input, forget, state } = step.clone();
                parts.extend([text_input, vision_input, forget, state]);
            })?;
            parts.push(embeddings);
            Ok(parts)
        })?;
        let embeddings = whole.pop().ok_or(RetrieverError::EmptyItem)?;
        let mut parts = whole.into_iter();
        let mut steps = Vec::with_capacity(self.config.text_layers.len());
        while let (Some(text_input), Some(vision_input), Some(forget), Some(state)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        {
            steps.push(StepTrace { text_input, vision_input, forget, state });
        }
        Ok(Trace { embeddings, steps })
    }

    /// Runs `head` for each group of items that have the same modalities; what it gives, batch first, is put together in
    /// the order of the items.
    fn grouped(
        &self,
        batch: &Batch,
        head: impl Fn(Option<&TextFeatures>, Option<&LayerFeatures>) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let text = batch.text.as_ref().map(|(text, _)| self.text_features(text)).transpose()?;
        let vision = batch.vision.as_ref().map(|(pixels, _)| self.vision_features(pixels)).transpose()?;
        let text_at = places(batch.text.as_ref().map(|(_, rows)| rows), batch.len)?;
        let vision_at = places(batch.vision.as_ref().map(|(_, rows)| rows), batch.len)?;
        let mut groups: [Vec<usize>; 3] = Default::default();
        for (row, at) in text_at.iter().zip(&vision_at).enumerate() {
            let group = match at {
                (Some(_), Some(_)) => 0,
                (Some(_), None) => 1,
                (None, Some(_)) => 2,
                (None, None) => return Err(RetrieverError::EmptyItem),
            };
            groups[group].push(row);
        }
        let mut order: Vec<usize> = Vec::with_capacity(batch.len);
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        for group in groups.iter().filter(|group| !group.is_empty()) {
            let some = |at: &[Option<usize>]| -> Vec<usize> { group.iter().filter_map(|row| at[*row]).collect() };
            let (text_rows, vision_rows) = (some(&text_at), some(&vision_at));
            let text = text.as_ref().filter(|_| !text_rows.is_empty()).map(|t| t.select(&text_rows)).transpose()?;
            let vision =
                vision.as_ref().filter(|_| !vision_rows.is_empty()).map(|v| v.select(&vision_rows)).transpose()?;
            for (at, part) in head(text.as_ref(), vision.as_ref())?.into_iter().enumerate() {
                if at == parts.len() {
                    parts.push(Vec::new());
                }
                parts[at].push(part);
            }
            order.extend(group);
        }
        let mut back = vec![0; batch.len];
        for (at, row) in order.into_iter().enumerate() {
            back[row] = at;
        }
        parts
            .iter()
            .map(|parts| {
                let whole = Tensor::cat(parts, 0)?;
                Ok(whole.index_select(&row_index(&back, whole.device())?, 0)?)
            })
            .collect()
    }

    fn head(&self, side: Side) -> &Head {
        match side {
            Side::Query => &self.head,
            Side::Document => self.document_head.as_ref().unwrap_or(&self.head),
        }
    }
}

/// Where each item's features stand among `rows`.
fn places(rows: Option<&Vec<usize>>, len: usize) -> Result<Vec<Option<usize>>> {
    let mut places = vec![None; len];
    for (at, row) in rows.into_iter().flatten().enumerate() {
        let place = places.get_mut(*row).ok_or_else(|| {
            candle_core::Error::Msg(format!("row {row} of a batch of {len}, expected one below {len}"))
        })?;
        *place = Some(at);
    }
    Ok(places)
}

impl LayerFeatures {
    /// The given rows of every tensor.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.iter().copied().eq(0..self.batch()?) {
            return Ok(self.clone());
        }
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
