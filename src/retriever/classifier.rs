//! A BERT with a classifier over its pooled output, as Hugging Face's `BertForSequenceClassification`.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::backbone::Wanted;
use super::backbone::bert::{self, Bert, BertConfig};
use super::error::{Result, RetrieverError};
use super::fields::Fields;
use super::kernels::awake;
use super::layers::Linear;
use super::weights::Weights;

/// Tokens of one sequence, and the segment of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Tokens.
    pub ids: Vec<u32>,
    /// Segments, from 0.
    pub types: Vec<u32>,
}

/// The model.
pub struct Classifier {
    model: Bert,
    classifier: Linear,
    labels: usize,
    config: BertConfig,
    device: Device,
}

impl Classifier {
    /// Reads Hugging Face's `config.json` and safetensors. The number of labels is that of `id2label`, 2 where it is missing.
    ///
    /// # Errors
    /// Names the file, and the tensors that do not fit.
    pub fn load(config: &Path, weights: &Path) -> Result<Self> {
        let bad = |reason: String| RetrieverError::Read { path: config.to_owned(), reason };
        let text = fs_err::read_to_string(config).map_err(|e| RetrieverError::unreadable(config, &e))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let read = Fields::top(&json).and_then(|f| Ok((BertConfig::read(&f)?, labels(&f)?)));
        let (config, labels) = read.map_err(|e| bad(e.to_string()))?;
        let device = Device::Cpu;
        let weights = Weights::load(weights, &device)?;
        let model = Bert::load(&config, &weights, true)?;
        let classifier = Linear::load(&weights.pp("classifier"), config.hidden_size, labels)?;
        weights.finish(bert::KNOWN_UNUSED)?;
        Ok(Self { model, classifier, labels, config, device })
    }

    /// What decides the computation.
    #[must_use]
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// A row of logits for each sequence; shorter ones are filled up with `pad`, and not attended to there.
    ///
    /// # Errors
    /// The engine's.
    pub fn logits(&self, sequences: &[Sequence], pad: u32) -> Result<Vec<Vec<f32>>> {
        let length = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0).max(1);
        let rows = |of: &dyn Fn(&Sequence) -> Vec<u32>, fill: u32| -> Result<Tensor> {
            let padded = |sequence| of(sequence).into_iter().chain(std::iter::repeat(fill)).take(length);
            let values: Vec<u32> = sequences.iter().flat_map(padded).collect();
            Ok(Tensor::from_vec(values, (sequences.len(), length), &self.device)?)
        };
        let ids = rows(&|sequence| sequence.ids.clone(), pad)?;
        let types = rows(&|sequence| sequence.types.clone(), 0)?;
        let mask = rows(&|sequence| vec![1; sequence.ids.len()], 0)?;
        self.forward(&ids, &types, &mask)
    }

    /// `ids`, `types`, `mask`: `[B, N]`; one row of labels an item.
    pub(super) fn forward(&self, ids: &Tensor, types: &Tensor, mask: &Tensor) -> Result<Vec<Vec<f32>>> {
        let wanted = Wanted { layers: &[], pooled: true };
        let features = awake(|| self.model.forward(ids, Some(types), mask, &wanted))?;
        let pooled = features.pooled.ok_or(RetrieverError::NoPooler)?; // [B, D]
        Ok(self.classifier.forward(&pooled)?.reshape((ids.dim(0)?, self.labels))?.to_vec2()?)
    }
}

/// The number of labels, by the names that a configuration gives them.
fn labels(fields: &Fields) -> super::fields::Result<usize> {
    match fields.get("id2label") {
        None => fields.count("num_labels", Some(2), 1..=1024),
        Some(names) => match names.as_object().map(serde_json::Map::len) {
            Some(n) if n > 0 => Ok(n),
            _ => Err(fields.error("id2label", "an object with a name for each label")),
        },
    }
}

/// A row of logits as a number from 0 to 1: the sigmoid of a single label, or the share of the second of several.
#[must_use]
pub fn share(row: &[f32]) -> f32 {
    match row {
        [one] => 1.0 / (1.0 + (-one).exp()),
        [first, second, ..] => {
            let most = row.iter().copied().fold(first.max(*second), f32::max);
            let sum: f32 = row.iter().map(|x| (x - most).exp()).sum();
            (second - most).exp() / sum
        }
        [] => 0.0,
    }
}
