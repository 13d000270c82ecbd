//! A cross-encoder: a [`Classifier`] of pairs of texts, which says how well a text answers a question (arXiv 1901.04085).

use std::path::Path;

use tokenizers::{Tokenizer, TruncationParams, TruncationStrategy};

use super::batches::in_batches;
use super::classifier::{Classifier, Sequence, share};
use super::error::{Result, RetrieverError};

/// Longest pair, tokens: what published cross-encoders were trained on.
const MAX_TOKENS: usize = 512;
/// Pairs of one forward pass.
const BATCH: usize = 16;
/// Longest text that is tokenised, bytes: no token is shorter than one.
const MOST_BYTES: usize = 1 << 16;

/// A classifier of pairs of texts.
pub struct PairClassifier {
    classifier: Classifier,
    tokenizer: Tokenizer,
    pad: u32,
}

impl PairClassifier {
    /// Reads Hugging Face's `config.json`, safetensors and `tokenizer.json`.
    ///
    /// # Errors
    /// Names the file, and the tensors that do not fit.
    pub fn load(config: &Path, weights: &Path, tokenizer: &Path) -> Result<Self> {
        let bad = |path: &Path, reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let classifier = Classifier::load(config, weights)?;
        let bytes = fs_err::read(tokenizer).map_err(|e| RetrieverError::unreadable(tokenizer, &e))?;
        let path = tokenizer;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| bad(path, format!("not a tokenizer ({e})")))?;
        let truncation = TruncationParams {
            max_length: MAX_TOKENS.min(classifier.config().max_position_embeddings),
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| bad(path, e.to_string()))?;
        // Sequences are filled up where they are put together.
        let pad = tokenizer.get_padding().map_or(0, |padding| padding.pad_id);
        tokenizer.with_padding(None);
        Ok(Self { classifier, tokenizer, pad })
    }

    /// How relevant each text is to a question, 0 to 1: the sigmoid of a single label, or the share of the second of
    /// several.
    ///
    /// # Errors
    /// The tokenizer's or the engine's.
    pub fn relevance(&self, question: &str, texts: &[String]) -> Result<Vec<f32>> {
        let pairs = texts.iter().map(|text| (question, text.as_str())).collect();
        let logits = in_batches(pairs, BATCH, |(_, text): &(&str, &str)| text.len(), |part| self.logits(&part))?;
        Ok(logits.into_iter().map(|row| share(&row)).collect())
    }

    /// Logits of pairs of texts, one row of labels a pair. Of a pair that is too long the longer text is cut.
    ///
    /// # Errors
    /// The tokenizer's or the engine's.
    pub fn logits(&self, pairs: &[(&str, &str)]) -> Result<Vec<Vec<f32>>> {
        let cut = |text: &str, most: usize| text[..text.floor_char_boundary(most)].to_owned();
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(a, b)| (cut(a, MOST_BYTES), cut(b, MOST_BYTES))).collect();
        let failed = |e: tokenizers::Error| RetrieverError::Tokenizer(e.to_string());
        let encodings = self.tokenizer.encode_batch(pairs, true).map_err(failed)?;
        let sequence = |encoding: &tokenizers::Encoding| Sequence {
            ids: encoding.get_ids().to_vec(),
            types: encoding.get_type_ids().to_vec(),
        };
        self.classifier.logits(&encodings.iter().map(sequence).collect::<Vec<_>>(), self.pad)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Tensor};

    use super::super::{golden, tiny};
    use super::*;

    /// The golden BERT with a classifier of our own on top, and a tokenizer of letters.
    fn written(dir: &Path, labels: usize) -> (PairClassifier, Tensor, Tensor) {
        let files = tiny::write(dir);
        let set = golden::sets("bert").remove(0);
        let mut tensors = candle_core::safetensors::load(set.join("model.safetensors"), &Device::Cpu).unwrap();
        let weight = Tensor::arange(0f32, (labels * 48) as f32, &Device::Cpu).unwrap().reshape((labels, 48)).unwrap();
        let weight = ((weight * 0.37).unwrap().sin().unwrap() * 0.5).unwrap();
        let bias = Tensor::new(vec![0.25f32; labels], &Device::Cpu).unwrap();
        tensors.insert("classifier.weight".into(), weight.clone());
        tensors.insert("classifier.bias".into(), bias.clone());
        let (config, weights) = (dir.join("pair.json"), dir.join("pair.safetensors"));
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs_err::read(set.join("config.json")).unwrap()).unwrap();
        json["id2label"] =
            (0..labels).map(|n| (n.to_string(), format!("L{n}").into())).collect::<serde_json::Map<_, _>>().into();
        fs_err::write(&config, json.to_string()).unwrap();
        (PairClassifier::load(&config, &weights, &files.tokenizer).unwrap(), weight, bias)
    }

    #[test]
    fn logits_are_the_classifiers_of_the_reference_pooled_output() {
        let dir = tempfile::tempdir().unwrap();
        let (model, weight, bias) = written(dir.path(), 3);
        let io: HashMap<String, Tensor> = golden::io(&golden::sets("bert").remove(0));
        let ids = |name: &str| golden::ids(&io[name]);
        let ours = model.classifier.forward(&ids("input_ids"), &ids("token_type_ids"), &ids("attention_mask")).unwrap();
        let pooler = io["pooler"].to_dtype(DType::F32).unwrap();
        let expected = pooler.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        golden::agree("logits", &Tensor::new(ours, &Device::Cpu).unwrap(), &expected);
    }

    #[test]
    fn a_pair_is_scored_alike_alone_and_in_a_batch_and_lies_between_0_and_1() {
        let dir = tempfile::tempdir().unwrap();
        for labels in [1, 2] {
            let (model, ..) = written(dir.path(), labels);
            let texts = ["a florin".to_owned(), "the currency of aruba is".to_owned(), String::new(), "x".repeat(4000)];
            let together = model.relevance("which currency", &texts).unwrap();
            for (text, together) in texts.iter().zip(&together) {
                let alone = model.relevance("which currency", std::slice::from_ref(text)).unwrap()[0];
                assert!((alone - together).abs() < 1e-5 && (0.0..=1.0).contains(together), "{alone} {together}");
            }
            assert_ne!(together[0], together[1]);
            let long = model.relevance(&"q".repeat(5000), &texts).unwrap();
            assert_eq!(long.len(), texts.len(), "a question longer than the model is cut, too");
        }
    }

    #[test]
    fn a_model_without_a_classifier_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = tiny::write(dir.path());
        let set = golden::sets("bert").remove(0);
        let loaded = PairClassifier::load(&set.join("config.json"), &set.join("model.safetensors"), &files.tokenizer);
        assert!(loaded.err().unwrap().to_string().contains("classifier.weight"));
    }
}
