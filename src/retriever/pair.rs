//! A BERT with a classifier over its pooled output, as Hugging Face's `BertForSequenceClassification`: a cross-encoder
//! that says how well a text answers a question (arXiv 1901.04085).

use std::path::Path;

use candle_core::{Device, Tensor};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams, TruncationStrategy};

use super::backbone::Wanted;
use super::backbone::bert::{self, Bert, BertConfig};
use super::batches::in_batches;
use super::error::{Result, RetrieverError};
use super::fields::Fields;
use super::kernels::awake;
use super::layers::Linear;
use super::weights::Weights;

/// Longest pair, tokens: what published cross-encoders were trained on.
const MAX_TOKENS: usize = 512;
/// Pairs of one forward pass.
const BATCH: usize = 16;
/// Longest text that is tokenised, bytes: no token is shorter than one.
const MOST_BYTES: usize = 1 << 16;

/// A classifier of pairs of texts.
pub struct PairClassifier {
    model: Bert,
    classifier: Linear,
    labels: usize,
    tokenizer: Tokenizer,
    pad: u32,
    device: Device,
}

impl PairClassifier {
    /// Reads Hugging Face's `config.json`, safetensors and `tokenizer.json`. The number of labels is that of
    /// `id2label`, 2 where it is missing.
    ///
    /// # Errors
    /// Names the file, and the tensors that do not fit.
    pub fn load(config: &Path, weights: &Path, tokenizer: &Path) -> Result<Self> {
        let bad = |path: &Path, reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let text = fs_err::read_to_string(config).map_err(|e| RetrieverError::unreadable(config, &e))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(config, e.to_string()))?;
        let read = Fields::top(&json)
            .and_then(|f| Ok((BertConfig::read(&f)?, labels(&f)?)))
            .map_err(|e| bad(config, e.to_string()))?;
        let (parsed, labels) = read;
        let device = Device::Cpu;
        let weights = Weights::load(weights, &device)?;
        let model = Bert::load(&parsed, &weights, true)?;
        let classifier = Linear::load(&weights.pp("classifier"), parsed.hidden_size, labels)?;
        weights.finish(bert::KNOWN_UNUSED)?;

        let bytes = fs_err::read(tokenizer).map_err(|e| RetrieverError::unreadable(tokenizer, &e))?;
        let path = tokenizer;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| bad(path, format!("not a tokenizer ({e})")))?;
        let truncation = TruncationParams {
            max_length: MAX_TOKENS.min(parsed.max_position_embeddings),
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| bad(path, e.to_string()))?;
        let padding = tokenizer.get_padding().cloned().unwrap_or_default();
        let pad = padding.pad_id;
        let padding = PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_to_multiple_of: None, ..padding };
        tokenizer.with_padding(Some(padding));
        Ok(Self { model, classifier, labels, tokenizer, pad, device })
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
        let length = encodings.iter().map(|encoding| encoding.get_ids().len()).max().unwrap_or(0).max(1);
        let rows = |of: fn(&tokenizers::Encoding) -> &[u32], pad: u32| -> Result<Tensor> {
            let padded = |e| -> Vec<u32> { of(e).iter().copied().chain(std::iter::repeat(pad)).take(length).collect() };
            let values: Vec<u32> = encodings.iter().flat_map(padded).collect();
            Ok(Tensor::from_vec(values, (encodings.len(), length), &self.device)?)
        };
        let ids = rows(tokenizers::Encoding::get_ids, self.pad)?;
        let types = rows(tokenizers::Encoding::get_type_ids, 0)?;
        let mask = rows(tokenizers::Encoding::get_attention_mask, 0)?;
        self.forward(&ids, &types, &mask)
    }

    /// `ids`, `types`, `mask`: `[B, N]`; one row of labels an item.
    fn forward(&self, ids: &Tensor, types: &Tensor, mask: &Tensor) -> Result<Vec<Vec<f32>>> {
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

/// A row of logits as a number from 0 to 1.
fn share(row: &[f32]) -> f32 {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashMap;

    use candle_core::DType;

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
        let ours = model.forward(&ids("input_ids"), &ids("token_type_ids"), &ids("attention_mask")).unwrap();
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
