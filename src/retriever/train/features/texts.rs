//! Features of texts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};

use super::cache::{Content, FeatureCache, Precision, Record};
use super::pictures::weights_hash;
use crate::retriever::RetrieverFiles;
use crate::retriever::backbone::{LayerFeatures, TextBackbone, Wanted};
use crate::retriever::config::RetConfig;
use crate::retriever::encoder::COMPUTATION;
use crate::retriever::model;
use crate::retriever::preprocess::TextProcessor;
use crate::retriever::train::TrainError;
use crate::retriever::weights::Weights;

/// Features of texts by row.
pub enum TextFeatures {
    /// Of a frozen tower, and where they are wanted.
    Kept(FeatureCache, Device),
    /// Of a tower that learns.
    Live(Box<LiveTexts>),
}

/// A text tower that learns, and what it reads.
pub struct LiveTexts {
    pub(in crate::retriever::train) config: RetConfig,
    pub(in crate::retriever::train) processor: TextProcessor,
    pub(in crate::retriever::train) texts: Vec<String>,
    /// The tower's tensors, those that learn among them.
    pub(in crate::retriever::train) tensors: HashMap<String, Tensor>,
}

impl LiveTexts {
    fn batch(&self, rows: &[usize]) -> Result<model::TextFeatures, TrainError> {
        let device = self.tensors.values().next().map_or(&Device::Cpu, |tensor| tensor.device());
        let weights = Weights::from_tensors("a tower that learns".into(), self.tensors.clone(), device);
        let tower = TextBackbone::load(&self.config.text, &weights, self.config.global_injection)?;
        let texts: Vec<&str> = rows.iter().map(|row| self.texts[*row].as_str()).collect();
        let batch = self.processor.batch(&texts, device)?;
        let features = tower.forward(&batch, &self.config.text_wanted())?;
        Ok(model::TextFeatures { features, attention_mask: batch.attention_mask })
    }
}

impl TextFeatures {
    /// Opens the cache in `dir`; the tower is loaded only if something is missing there.
    ///
    /// # Errors
    /// As [`FeatureCache::open`], and those of the tower and of the tokenizer.
    pub fn open(
        dir: &Path,
        config: &RetConfig,
        files: &RetrieverFiles,
        texts: &[String],
        device: &Device,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let processor = TextProcessor::load(&files.tokenizer, config.max_text_tokens)?;
        let facts = serde_json::json!({
            "computation": COMPUTATION, "tower": weights_hash(&files.text_weights)?, "text": config.text,
            "tokenizer": crate::io::hash::blake3_file(&files.tokenizer)?, "tokens": config.max_text_tokens,
            "texts": texts,
        });
        let rows = |range: std::ops::Range<usize>, device: &Device| {
            let rows: Vec<&str> = texts[range].iter().map(String::as_str).collect();
            processor.batch(&rows, device)
        };
        let mut tokens = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            tokens.push(rows(row..row + 1, &Device::Cpu)?.attention_mask.sum_all()?.to_scalar::<u32>()? as usize);
        }
        let content = Content {
            name: "texts",
            key: crate::io::hash::blake3_bytes(facts.to_string().as_bytes()),
            precision: Precision::Single,
            records: texts.len(),
            tokens: Some(tokens),
        };
        let mut tower: Option<TextBackbone> = None;
        let mut compute = |range: std::ops::Range<usize>, wanted: &Wanted| {
            let tower = match &mut tower {
                Some(tower) => tower,
                empty => {
                    let weights = Weights::load(&files.text_weights, device)?;
                    let loaded = TextBackbone::load(&config.text, &weights, wanted.pooled)?;
                    weights.finish(config.text.known_unused())?;
                    empty.insert(loaded)
                }
            };
            Ok(tower.forward(&rows(range, device)?, wanted)?)
        };
        let cache = FeatureCache::open(dir, &content, &config.text_wanted(), cancel, &mut compute, progress)?;
        Ok(Self::Kept(cache, device.clone()))
    }

    /// The given texts as a batch, padded to the longest.
    ///
    /// # Errors
    /// The disk's, the tower's.
    pub fn batch(&mut self, rows: &[usize]) -> Result<model::TextFeatures, TrainError> {
        let (cache, device) = match self {
            Self::Kept(cache, device) => (cache, &*device),
            Self::Live(live) => return live.batch(rows),
        };
        let records = rows.iter().map(|row| cache.read(*row)).collect::<Result<Vec<Record>, _>>()?;
        let count = records.len();
        let longest = records.iter().map(|record| record.tokens).max().unwrap_or(0);
        let mut layers = Vec::new();
        for (layer, (_, width)) in cache.shapes().enumerate() {
            let mut flat = vec![0f32; count * longest * width];
            for (record, out) in records.iter().zip(flat.chunks_mut(longest * width)) {
                let source = &record.layers[layer];
                out[..source.len()].copy_from_slice(source);
            }
            layers.push(Tensor::from_vec(flat, (count, longest, width), device)?);
        }
        let pooled = cache.pooled().map(|width| {
            let flat = records.iter().flat_map(|record| record.pooled.iter().copied()).collect::<Vec<f32>>();
            Tensor::from_vec(flat, (count, width), device)
        });
        let mask: Vec<u32> =
            records.iter().flat_map(|record| (0..longest).map(|at| u32::from(at < record.tokens))).collect();
        let attention_mask = Tensor::from_vec(mask, (count, longest), device)?.to_dtype(DType::U32)?;
        let features = LayerFeatures { layers, pooled: pooled.transpose()? };
        Ok(model::TextFeatures { features, attention_mask })
    }
}
