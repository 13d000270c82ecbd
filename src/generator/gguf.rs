//! A model in one file of llama.cpp's format (GGUF, ggml-org/ggml docs/gguf.md), for the engine to take as it is.
//!
//! The engine can make a tokenizer of such a file itself, one way of cutting text for all of them. Here it is made by
//! what the file says of it, once, and the engine is given the same one that tokens are counted with.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::json;
use tokenizers::Tokenizer;

use super::GeneratorError;
use super::mistral::Budget;
use super::model_dir::{self, Attention, ModelDir, Weights, load};
use crate::models::convert::{gguf, metadata};

/// Looks at the file at `path`.
///
/// # Errors
/// [`GeneratorError::Load`] for what is not there, not whole, or not known to this program.
pub(super) fn open(path: &Path) -> Result<ModelDir, GeneratorError> {
    let fail = |reason: String| load(path, reason);
    let file = fs_err::File::open(path).map_err(|e| load(path, e))?;
    let size = file.metadata().map_err(|e| load(path, e))?.len();
    let content = gguf::open(&mut BufReader::with_capacity(1 << 16, file), size).map_err(fail)?;
    let head = Head { metadata: &content.metadata };
    let architecture = head.text("general.architecture").ok_or_else(|| fail(missing("general.architecture")))?;
    let number = |key: &str| head.number(&format!("{architecture}.{key}"));
    let shadow = tempfile::Builder::new().prefix("cicerone-model-").tempdir().map_err(|e| load(path, e))?;
    let (tokenizer_config, generation) = (head.tokenizer_config().map_err(fail)?, head.generation_config());
    let files = [
        ("tokenizer.json", head.tokenizer().map_err(fail)?),
        ("tokenizer_config.json", tokenizer_config.clone()),
        ("generation_config.json", generation.clone()),
    ];
    for (name, value) in &files {
        fs_err::write(shadow.path().join(name), value.to_string()).map_err(|e| load(path, e))?;
    }
    let tokenizer = Tokenizer::from_file(shadow.path().join("tokenizer.json")).map_err(|e| load(path, e))?;
    let attention = Attention {
        layers: number("block_count"),
        heads: number("attention.head_count"),
        key_heads: number("attention.head_count_kv"),
        width: number("attention.key_length"),
        hidden: number("embedding_length"),
    };
    Ok(ModelDir {
        path: path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
        weights: Weights::Gguf { file: model_dir::file_name(path), format: most(&content) },
        shadow: Some(shadow),
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        model_type: architecture.to_owned(),
        sees: false,
        budget: Budget::read(&json!(null), &json!(null), &json!(null)),
        context_length: model_dir::usable(number("context_length").filter(|n| *n > 0).unwrap_or(2048)),
        kv_bytes_per_token: attention.kv_bytes_per_token(),
        fingerprint: model_dir::hash(&[path.to_owned()])?,
        specials: model_dir::specials(&tokenizer),
        ends: model_dir::ends(&tokenizer, &tokenizer_config, &[&generation]),
        tokenizer,
    })
}

fn missing(key: &str) -> String {
    format!("{key} is missing")
}

/// The type that most bytes have, as llama.cpp names it in small letters.
fn most(content: &Content) -> String {
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for info in content.tensor_infos.values() {
        let blocks = info.shape.elem_count() / info.ggml_dtype.block_size().max(1);
        let name = match format!("{:?}", info.ggml_dtype).to_lowercase() {
            name if name.ends_with('k') => format!("{}_k", name.trim_end_matches('k')),
            name => name,
        };
        *bytes.entry(name).or_default() += blocks.saturating_mul(info.ggml_dtype.type_size());
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or_else(|| "gguf".to_owned(), |(name, _)| name)
}

struct Head<'a> {
    metadata: &'a HashMap<String, Value>,
}

impl Head<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        metadata::text(self.metadata, key).ok()
    }

    fn number(&self, key: &str) -> Option<usize> {
        let value = self.metadata.get(key)?;
        let number = match value {
            // One number a layer, in some files; the largest is what memory is counted by.
            Value::Array(values) => values.iter().filter_map(metadata::integer).max(),
            value => metadata::integer(value),
        };
        number.and_then(|number| usize::try_from(number).ok())
    }

    /// A token by its role: `bos`, `eos`, `eot`, `unknown`.
    fn token(&self, role: &str) -> Option<(usize, String)> {
        let id = self.number(&format!("tokenizer.ggml.{role}_token_id"))?;
        match metadata::list(self.metadata, "tokenizer.ggml.tokens").ok()?.get(id)? {
            Value::String(text) => Some((id, text.clone())),
            _ => None,
        }
    }

    fn tokenizer_config(&self) -> Result<serde_json::Value, String> {
        let template = self.text("tokenizer.chat_template").ok_or_else(|| {
            format!("{}; without a chat template it is no model that answers", missing("tokenizer.chat_template"))
        })?;
        let token = |role| self.token(role).map(|(_, text)| text);
        let eos = token("eos").ok_or_else(|| missing("tokenizer.ggml.eos_token_id"))?;
        Ok(json!({
            "bos_token": token("bos"),
            "eos_token": eos,
            "unk_token": token("unknown"),
            "chat_template": template,
        }))
    }

    fn generation_config(&self) -> serde_json::Value {
        let ids: Vec<usize> = ["eos", "eot"].iter().filter_map(|role| self.token(role)).map(|(id, _)| id).collect();
        json!({"eos_token_id": ids})
    }

    /// As the `tokenizers` library writes it.
    fn tokenizer(&self) -> Result<serde_json::Value, String> {
        let tokens = metadata::texts(self.metadata, "tokenizer.ggml.tokens")?;
        let added = self.added(&tokens)?;
        let model = self.text("tokenizer.ggml.model").ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let parts = match model {
            "gpt2" => self.byte_level(&tokens)?,
            "llama" => self.sentence_pieces(&tokens)?,
            other => return Err(format!("tokenizer.ggml.model is `{other}`, only `gpt2` and `llama` are known")),
        };
        let (normalizer, pre_tokenizer, decoder, model) = parts;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": decoder,
            "model": model,
        }))
    }

    /// Control tokens (type 3), unknown ones (2) and those that somebody added (4).
    fn added(&self, tokens: &[&str]) -> Result<Vec<serde_json::Value>, String> {
        let kinds = metadata::token_types(self.metadata, tokens.len())?;
        let added = kinds.iter().zip(tokens).enumerate().filter_map(|(id, (kind, token))| {
            let kind = metadata::integer(kind)?;
            let wanted = (2..=4).contains(&kind) && !token.is_empty();
            wanted.then(|| metadata::added_token(id, token, kind != 4))
        });
        Ok(added.collect())
    }

    /// Byte-level BPE (GPT-2's), with the way of cutting text that the file names.
    fn byte_level(&self, tokens: &[&str]) -> Result<Parts, String> {
        let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let sequence = |first: serde_json::Value, second| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let split = |digits: &str| {
            // Llama 3's and Qwen 2's pattern (llama.cpp, `llama_vocab::impl::load`); they differ in runs of digits.
            let pattern = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
        };
        let pre_tokenizer = match self.text("tokenizer.ggml.pre").unwrap_or("default") {
            "gpt-2" | "default" => level(true),
            "smollm" => sequence(json!({"type": "Digits", "individual_digits": true}), level(true)),
            "qwen2" => sequence(split(r"\p{N}"), level(false)),
            "llama-bpe" | "llama3" | "llama-v3" => sequence(split(r"\p{N}{1,3}"), level(false)),
            other => return Err(format!("tokenizer.ggml.pre is `{other}`, which is not known to this program")),
        };
        let mut merges = Vec::new();
        for merge in metadata::texts(self.metadata, "tokenizer.ggml.merges")? {
            let (left, right) = merge.split_once(' ').ok_or_else(|| format!("merge {merge:?} is no pair"))?;
            merges.push(json!([left, right]));
        }
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": metadata::vocabulary(tokens)?, "merges": merges,
        });
        Ok((json!(null), pre_tokenizer, level(true), model))
    }

    /// Sentence pieces with scores (Llama 2's), cut by the likeliest sum, as the engine does.
    fn sentence_pieces(&self, tokens: &[&str]) -> Result<Parts, String> {
        let scores = metadata::list(self.metadata, "tokenizer.ggml.scores")?;
        if scores.len() != tokens.len() {
            return Err(format!("{} scores for {} tokens", scores.len(), tokens.len()));
        }
        let score = |value: &Value| if let Value::F32(score) = value { f64::from(*score) } else { 0.0 };
        let pieces: Vec<serde_json::Value> =
            tokens.iter().zip(scores).map(|(token, value)| json!([token, score(value)])).collect();
        let unknown = self.token("unknown").map_or(0, |(id, _)| id);
        let normalizer = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        ]});
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]});
        let model = json!({"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": true});
        Ok((normalizer, json!(null), decoder, model))
    }
}

/// Normaliser, pre-tokenizer, decoder and model.
type Parts = (serde_json::Value, serde_json::Value, serde_json::Value, serde_json::Value);
