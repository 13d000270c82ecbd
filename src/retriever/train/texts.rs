//! Features of the texts that training draws from. There are few and they never change, so they stay in memory.

use candle_core::{DType, Device, Tensor};

use super::TrainError;
use crate::retriever::backbone::{LayerFeatures, TextBackbone};
use crate::retriever::batches::in_batches;
use crate::retriever::config::RetConfig;
use crate::retriever::model::TextFeatures;
use crate::retriever::preprocess::TextProcessor;

/// Texts of one forward pass.
const BATCH: usize = 32;

struct TextRecord {
    /// Per sampled layer, `[N, D]` flat.
    layers: Vec<Vec<f32>>,
    pooled: Option<Vec<f32>>,
    tokens: usize,
}

pub(super) struct TextTable {
    records: Vec<TextRecord>,
    width: usize,
}

impl TextTable {
    pub(super) fn compute(
        config: &RetConfig,
        tower: &TextBackbone,
        processor: &TextProcessor,
        texts: &[String],
    ) -> Result<Self, TrainError> {
        let record = |features: &LayerFeatures, row: usize, mask: &[u32]| -> Result<TextRecord, TrainError> {
            let tokens = mask.iter().sum::<u32>() as usize;
            let layers = features
                .layers
                .iter()
                .map(|layer| layer.get(row)?.narrow(0, 0, tokens)?.flatten_all()?.to_vec1::<f32>())
                .collect::<candle_core::Result<_>>()?;
            let pooled = features.pooled.as_ref().map(|pooled| pooled.get(row)?.to_vec1()).transpose()?;
            Ok(TextRecord { layers, pooled, tokens })
        };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let records = in_batches(
            texts,
            BATCH,
            |text| text.len(),
            |texts| {
                let batch = processor.batch(&texts, &Device::Cpu)?;
                let features = tower.forward(&batch, &config.text_wanted())?;
                let masks = batch.attention_mask.to_vec2::<u32>()?;
                masks.iter().enumerate().map(|(row, mask)| record(&features, row, mask)).collect()
            },
        )?;
        Ok(Self { records, width: config.text.width() })
    }

    /// The given texts as a batch, padded to the longest.
    pub(super) fn batch(&self, rows: &[usize]) -> Result<TextFeatures, TrainError> {
        let longest = rows.iter().map(|row| self.records[*row].tokens).max().unwrap_or(0);
        let layer_count = rows.first().map_or(0, |row| self.records[*row].layers.len());
        let mut layers = Vec::with_capacity(layer_count);
        for layer in 0..layer_count {
            let mut flat = vec![0f32; rows.len() * longest * self.width];
            for (row, out) in rows.iter().zip(flat.chunks_mut(longest * self.width)) {
                let source = &self.records[*row].layers[layer];
                out[..source.len()].copy_from_slice(source);
            }
            layers.push(Tensor::from_vec(flat, (rows.len(), longest, self.width), &Device::Cpu)?);
        }
        let pooled: Option<Vec<&[f32]>> = rows.iter().map(|row| self.records[*row].pooled.as_deref()).collect();
        let pooled = pooled
            .map(|pooled| Tensor::from_vec(pooled.concat(), (rows.len(), self.width), &Device::Cpu))
            .transpose()?;
        let mask: Vec<u32> =
            rows.iter().flat_map(|row| (0..longest).map(|at| u32::from(at < self.records[*row].tokens))).collect();
        let attention_mask = Tensor::from_vec(mask, (rows.len(), longest), &Device::Cpu)?.to_dtype(DType::U32)?;
        Ok(TextFeatures { features: LayerFeatures { layers, pooled }, attention_mask })
    }
}
