//! Sentence embeddings of a BERT with mean pooling (Sentence-BERT, arXiv 1908.10084), as all-MiniLM-L6-v2 is used.

use std::path::Path;

use candle_core::{DType, Device};

use super::backbone::Wanted;
use super::backbone::bert::{self, Bert, BertConfig};
use super::batches::in_batches;
use super::error::{Result, RetrieverError};
use super::fields::Fields;
use super::kernels::awake;
use super::model::normalise;
use super::preprocess::TextProcessor;
use super::weights::Weights;

/// Longest text; all-MiniLM-L6-v2 was trained up to 256 tokens.
const MAX_TOKENS: usize = 256;
/// Texts of one forward pass.
const BATCH: usize = 16;

/// A sentence encoder.
pub struct SentenceEncoder {
    model: Bert,
    last: usize,
    texts: TextProcessor,
    device: Device,
}

impl SentenceEncoder {
    /// Reads Hugging Face's `config.json`, safetensors and `tokenizer.json`.
    ///
    /// # Errors
    /// Names the file, and the tensors that do not fit.
    pub fn load(config: &Path, weights: &Path, tokenizer: &Path) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: config.to_owned(), reason };
        let text = fs_err::read_to_string(config).map_err(|e| RetrieverError::unreadable(config, &e))?;
        let json = serde_json::from_str(&text).map_err(|e| read(e.to_string()))?;
        let parsed =
            Fields::top(&json).and_then(|fields| BertConfig::read(&fields)).map_err(|e| read(e.to_string()))?;
        let device = Device::Cpu;
        let weights = Weights::load(weights, &device)?;
        let model = Bert::load(&parsed, &weights, false)?;
        weights.finish(bert::KNOWN_UNUSED)?;
        let texts = TextProcessor::load(tokenizer, MAX_TOKENS.min(parsed.max_position_embeddings))?;
        Ok(Self { model, last: parsed.num_hidden_layers - 1, texts, device })
    }

    /// Unit vectors, in order: the mean of the last block over the tokens that are not padding.
    ///
    /// # Errors
    /// The tokenizer's or the engine's.
    pub fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        in_batches(texts, BATCH, |text| text.len(), |part| self.encode_batch(&part))
    }

    fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let batch = self.texts.batch(texts, &self.device)?;
        let wanted = Wanted { layers: &[self.last], pooled: false };
        let features = awake(|| self.model.forward(&batch.input_ids, None, &batch.attention_mask, &wanted))?;
        let mask = batch.attention_mask.to_dtype(DType::F32)?; // [B, N]
        let sum = features.layers[0].broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?; // [B, D]
        let mean = sum.broadcast_div(&mask.sum_keepdim(1)?)?;
        Ok(normalise(&mean)?.to_vec2()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::retriever::tiny;

    #[test]
    fn padding_is_no_part_of_the_mean() {
        let dir = tempfile::tempdir().unwrap();
        let files = tiny::write(dir.path());
        let config = files.text_weights.with_file_name("config.json");
        let encoder = SentenceEncoder::load(&config, &files.text_weights, &files.tokenizer).unwrap();
        let texts = ["a".to_owned(), "a longer text of several tokens".to_owned()];
        let together = encoder.encode(&texts).unwrap();
        for (text, together) in texts.iter().zip(together) {
            let alone = encoder.encode(std::slice::from_ref(text)).unwrap().remove(0);
            assert!(alone.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-5), "{text}: {alone:?} {together:?}");
        }
    }
}
