//! BEM: a [`Classifier`] that says whether two answers to a question are equivalent (Bulian et al. 2022, arXiv
//! 2202.07654).
//!
//! The sequence is `[CLS] candidate [SEP] reference [SEP] question [SEP]`. The official model tells its three texts apart by
//! three types of segments. Ports to the usual BERT have two: the candidate's, and one for the rest, as mKG-RAG gives
//! `kortukov/answer-equivalence-bem` its texts.

use std::path::Path;

use tokenizers::Tokenizer;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::batches::in_batches;
use super::classifier::{Classifier, Sequence, share};
use super::error::{Result, RetrieverError};

/// Sequences of one forward pass.
const BATCH: usize = 16;
/// Longest text that is tokenised, bytes: no token is shorter than one.
const MOST_BYTES: usize = 1 << 16;
/// `[CLS]`, and a `[SEP]` behind each of three texts.
const MARKS: usize = 4;

/// The model.
pub struct BemModel {
    classifier: Classifier,
    tokenizer: Tokenizer,
    cls: u32,
    sep: u32,
    pad: u32,
}

impl BemModel {
    /// Reads a directory with `config.json`, `model.safetensors`, and `tokenizer.json` or `vocab.txt` (BERT's, uncased).
    ///
    /// # Errors
    /// Names the file, and what does not fit.
    pub fn load(dir: &Path) -> Result<Self> {
        let classifier = Classifier::load(&dir.join("config.json"), &dir.join("model.safetensors"))?;
        let own = dir.join("tokenizer.json");
        let path = if own.is_file() { own } else { dir.join("vocab.txt") };
        let bad = |reason: String| RetrieverError::Read { path: path.clone(), reason };
        let mut tokenizer = if path.extension().is_some_and(|ending| ending == "json") {
            let bytes = fs_err::read(&path).map_err(|e| RetrieverError::unreadable(&path, &e))?;
            Tokenizer::from_bytes(&bytes).map_err(|e| bad(format!("not a tokenizer ({e})")))?
        } else {
            let pieces = WordPiece::from_file(&path.to_string_lossy()).unk_token("[UNK]".into()).build();
            let mut tokenizer = Tokenizer::new(pieces.map_err(|e| bad(e.to_string()))?);
            tokenizer.with_normalizer(Some(BertNormalizer::default())).with_pre_tokenizer(Some(BertPreTokenizer));
            tokenizer
        };
        tokenizer.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        tokenizer.with_padding(None);
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| bad(format!("has no {token}; expected the tokenizer of a BERT")))
        };
        let (cls, sep, pad) = (id("[CLS]")?, id("[SEP]")?, id("[PAD]")?);
        Ok(Self { classifier, tokenizer, cls, sep, pad })
    }

    /// Whether the model is another training than the official one: it has no type for each of three segments.
    #[must_use]
    pub fn is_port(&self) -> bool {
        self.classifier.config().type_vocab_size < 3
    }

    /// How probable it is that a candidate says what a reference says, as answers to a question: of each
    /// `[candidate, reference, question]`.
    ///
    /// # Errors
    /// The tokenizer's or the engine's.
    pub fn equivalence(&self, triples: &[[&str; 3]]) -> Result<Vec<f32>> {
        let sequences = triples.iter().map(|texts| self.sequence(texts)).collect::<Result<Vec<_>>>()?;
        let length = |sequence: &Sequence| sequence.ids.len();
        let logits = in_batches(sequences, BATCH, length, |part| self.classifier.logits(&part, self.pad))?;
        Ok(logits.iter().map(|row| share(row)).collect())
    }

    /// Tokens of three texts. Where they are too many the longest text is cut at its end.
    fn sequence(&self, texts: &[&str; 3]) -> Result<Sequence> {
        let types = self.classifier.config().type_vocab_size as u32;
        let mut parts = Vec::with_capacity(texts.len());
        for text in texts {
            let text = &text[..text.floor_char_boundary(MOST_BYTES)];
            let tokens = self.tokenizer.encode(text, false).map_err(|e| RetrieverError::Tokenizer(e.to_string()))?;
            parts.push(tokens.get_ids().to_vec());
        }
        let room = self.classifier.config().max_position_embeddings.saturating_sub(MARKS);
        while parts.iter().map(Vec::len).sum::<usize>() > room {
            if let Some(longest) = parts.iter_mut().max_by_key(|part| part.len()) {
                longest.pop();
            }
        }
        let mut sequence = Sequence { ids: vec![self.cls], types: vec![0] };
        for (part, segment) in parts.iter().zip(0u32..) {
            sequence.ids.extend(part.iter().chain([&self.sep]));
            sequence.types.resize(sequence.ids.len(), segment.min(types.saturating_sub(1)));
        }
        Ok(sequence)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::golden;
    use super::*;

    const WORDS: [&str; 13] =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "baker", "family", "menger", "who", "##s", "?", "william", "and"];

    /// The golden BERT, whose three types of segments are BEM's, with a classifier of our own on top.
    fn written(dir: &Path, types: usize) -> BemModel {
        let set = golden::sets("bert").remove(0);
        let mut tensors = candle_core::safetensors::load(set.join("model.safetensors"), &Device::Cpu).unwrap();
        let weight = Tensor::arange(0f32, 96f32, &Device::Cpu).unwrap().reshape((2, 48)).unwrap();
        tensors.insert("classifier.weight".into(), ((weight * 0.37).unwrap().sin().unwrap() * 0.5).unwrap());
        tensors.insert("classifier.bias".into(), Tensor::new(&[0.25f32, -0.125], &Device::Cpu).unwrap());
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs_err::read(set.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["type_vocab_size"], 3);
        if types < 3 {
            let name = tensors.keys().find(|name| name.ends_with("token_type_embeddings.weight")).unwrap().clone();
            let cut = tensors[&name].narrow(0, 0, types).unwrap().contiguous().unwrap();
            tensors.insert(name, cut);
            config["type_vocab_size"] = types.into();
        }
        candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
        fs_err::write(dir.join("config.json"), config.to_string()).unwrap();
        fs_err::write(dir.join("vocab.txt"), WORDS.join("\n")).unwrap();
        BemModel::load(dir).unwrap()
    }

    #[test]
    fn three_texts_have_three_types_and_in_ports_two() {
        let dir = tempfile::tempdir().unwrap();
        let model = written(dir.path(), 3);
        let texts = ["William", "The Mengers!", "Who?"];
        let sequence = model.sequence(&texts).unwrap();
        assert_eq!(sequence.ids, [2, 11, 3, 4, 7, 9, 1, 3, 8, 10, 3]);
        assert_eq!(sequence.types, [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]);
        assert!(!model.is_port());
        let dir = tempfile::tempdir().unwrap();
        let port = written(dir.path(), 2);
        assert_eq!(port.sequence(&texts).unwrap().types, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert!(port.is_port());
    }

    #[test]
    fn what_is_too_long_loses_the_end_of_its_longest_text() {
        let dir = tempfile::tempdir().unwrap();
        let model = written(dir.path(), 3);
        let room = model.classifier.config().max_position_embeddings;
        let long = "the ".repeat(1000);
        let sequence = model.sequence(&["menger", &long, "who?"]).unwrap();
        assert_eq!((sequence.ids.len(), &sequence.ids[..4]), (room, &[2, 7, 3, 4][..]));
        assert_eq!(sequence.ids[room - 4..], [3, 8, 10, 3]);
        assert!(model.equivalence(&[["menger", &long, "who?"], [&long, &long, &long], ["", "", ""]]).is_ok());
    }

    #[test]
    fn alone_and_in_a_batch_it_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let model = written(dir.path(), 3);
        let triples =
            [["william", "the baker family", "who?"], ["the menger", "and", "who?"], ["", "baker", "who who who?"]];
        let together = model.equivalence(&triples).unwrap();
        for (triple, together) in triples.iter().zip(&together) {
            let alone = model.equivalence(&[*triple]).unwrap()[0];
            assert!((alone - together).abs() < 1e-6 && (0.0..=1.0).contains(together), "{alone} {together}");
        }
        let turned = model.equivalence(&[["the baker family", "william", "who?"]]).unwrap()[0];
        assert!((turned - together[0]).abs() > 1e-6, "candidate and reference are told apart");
    }

    /// Of `BertForSequenceClassification` in transformers 5.24.0 over the weights of [`written`]: the second of its softmax.
    #[test]
    fn its_numbers_are_those_of_transformers() {
        let dir = tempfile::tempdir().unwrap();
        let model = written(dir.path(), 3);
        let triples =
            [["William", "the baker family", "who?"], ["the Menger", "and", "who?"], ["", "baker", "who who who?"]];
        let found = model.equivalence(&triples).unwrap();
        for (found, expected) in found.iter().zip([0.378_608_7_f32, 0.401_542_45, 0.351_7]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_tokenizer_that_is_not_of_a_bert_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 3);
        fs_err::write(dir.path().join("vocab.txt"), "[PAD]\n[UNK]\nword\n").unwrap();
        let message = BemModel::load(dir.path()).err().unwrap().to_string();
        assert!(message.contains("vocab.txt") && message.contains("has no [CLS]"), "{message}");
    }
}
