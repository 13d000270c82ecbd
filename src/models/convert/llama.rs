//! What a GGUF file says about a Llama model, as the JSON files of `transformers` say it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::quantized::gguf_file::{TensorInfo, Value};
use safetensors::Dtype;
use serde_json::{Map, json};

use super::metadata::{added_token, integer, text, texts, token_types, vocabulary};

/// Metadata of one model.
#[derive(Debug)]
pub struct Llama<'a> {
    metadata: &'a HashMap<String, Value>,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    key_heads: usize,
    context: usize,
    rope_theta: f64,
    epsilon: f64,
    tokens: Vec<&'a str>,
    tied: bool,
}

/// GGUF's name within a layer, and the other.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl<'a> Llama<'a> {
    /// Reads what is needed and refuses what is not known.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn read(metadata: &'a HashMap<String, Value>, tensors: &HashMap<String, TensorInfo>) -> Result<Self, String> {
        let architecture = text(metadata, "general.architecture")?;
        if architecture != "llama" {
            return Err(format!("its architecture is `{architecture}`, only `llama` can be converted"));
        }
        if let Some(key) = metadata.keys().find(|key| key.contains(".rope.scaling.")) {
            let plain = matches!(metadata.get(key), Some(Value::String(kind)) if kind == "none");
            if !plain {
                return Err(format!("{key}: scaled rotary embeddings cannot be converted"));
            }
        }
        let tokens = texts(metadata, "tokenizer.ggml.tokens")?;
        let heads = number(metadata, "llama.attention.head_count")?;
        let this = Self {
            metadata,
            layers: number(metadata, "llama.block_count")?,
            hidden: number(metadata, "llama.embedding_length")?,
            feed_forward: number(metadata, "llama.feed_forward_length")?,
            heads,
            key_heads: match metadata.get("llama.attention.head_count_kv") {
                Some(_) => number(metadata, "llama.attention.head_count_kv")?,
                None => heads,
            },
            context: number(metadata, "llama.context_length")?,
            rope_theta: match metadata.get("llama.rope.freq_base") {
                Some(_) => float(metadata, "llama.rope.freq_base")?,
                None => 10_000.,
            },
            epsilon: float(metadata, "llama.attention.layer_norm_rms_epsilon")?,
            tokens,
            tied: !tensors.contains_key("output.weight"),
        };
        let dim = this.hidden.checked_div(this.heads).unwrap_or(0);
        if dim == 0 || !dim.is_multiple_of(2) || dim * this.heads != this.hidden {
            return Err(format!("llama.attention.head_count {} does not divide {}", this.heads, this.hidden));
        }
        if this.key_heads == 0 || !this.heads.is_multiple_of(this.key_heads) {
            return Err(format!("llama.attention.head_count_kv {} does not divide {}", this.key_heads, this.heads));
        }
        if let Some(Ok(rope)) =
            metadata.get("llama.rope.dimension_count").map(|_| number(metadata, "llama.rope.dimension_count"))
            && rope != dim
        {
            return Err(format!("llama.rope.dimension_count is {rope}, expected the whole head of {dim}"));
        }
        Ok(this)
    }

    /// The other name of a tensor.
    ///
    /// # Errors
    /// The tensor is not one of a Llama model.
    pub fn tensor_name(&self, source: &str) -> Result<String, String> {
        let unknown = || format!("tensor {source} is not one of a plain Llama model");
        match source {
            "token_embd.weight" => return Ok("model.embed_tokens.weight".into()),
            "output_norm.weight" => return Ok("model.norm.weight".into()),
            "output.weight" => return Ok("lm_head.weight".into()),
            _ => {}
        }
        let mut parts = source.split('.');
        match (parts.next(), parts.next().map(str::parse::<usize>), parts.next(), parts.next(), parts.next()) {
            (Some("blk"), Some(Ok(layer)), Some(part), Some("weight"), None) if layer < self.layers => {
                let (_, name) = LAYER.iter().find(|(from, _)| *from == part).ok_or_else(unknown)?;
                Ok(format!("model.layers.{layer}.{name}.weight"))
            }
            _ => Err(unknown()),
        }
    }

    /// Heads of a tensor whose rows llama.cpp reordered.
    #[must_use]
    pub fn rotary_heads(&self, name: &str) -> Option<usize> {
        if name.ends_with(".q_proj.weight") {
            Some(self.heads)
        } else if name.ends_with(".k_proj.weight") {
            Some(self.key_heads)
        } else {
            None
        }
    }

    /// Whether every tensor of the model is there, with the shape that the metadata asks for.
    ///
    /// # Errors
    /// The tensor, what was found and what was expected.
    pub fn check_tensors<'t>(&self, found: impl Iterator<Item = (&'t str, &'t [usize])>) -> Result<(), String> {
        let found: HashMap<&str, &[usize]> = found.collect();
        let keys = self.hidden / self.heads * self.key_heads;
        let mut expected = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.tokens.len(), self.hidden]),
            ("model.norm.weight".to_owned(), vec![self.hidden]),
        ];
        if !self.tied {
            expected.push(("lm_head.weight".to_owned(), vec![self.tokens.len(), self.hidden]));
        }
        // A layer has tensors, so a number of layers beyond those is no number of layers.
        let layers = self.layers.min(found.len() + 1);
        for layer in 0..layers {
            for (part, name) in LAYER {
                let shape = match part {
                    "attn_norm" | "ffn_norm" => vec![self.hidden],
                    "attn_k" | "attn_v" => vec![keys, self.hidden],
                    "ffn_gate" | "ffn_up" => vec![self.feed_forward, self.hidden],
                    "ffn_down" => vec![self.hidden, self.feed_forward],
                    _ => vec![self.hidden, self.hidden],
                };
                expected.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        for (name, shape) in expected {
            match found.get(name.as_str()) {
                None => return Err(format!("tensor {name} is missing")),
                Some(found) if **found != *shape => {
                    return Err(format!("tensor {name} has shape {found:?}, expected {shape:?}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Names and contents of the JSON files beside the weights.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn json_files(&self, dtype: Dtype) -> Result<Vec<(&'static str, String)>, String> {
        let mut files = vec![("config.json", self.config(dtype)), ("generation_config.json", self.generation())];
        files.push(("tokenizer.json", self.tokenizer()?));
        files.push(("tokenizer_config.json", self.tokenizer_config()));
        let mut written = Vec::with_capacity(files.len());
        for (name, value) in files {
            let text = serde_json::to_string_pretty(&Sorted(&value)).map_err(|e| format!("{name}: {e}"))?;
            written.push((name, text + "\n"));
        }
        Ok(written)
    }

    fn config(&self, dtype: Dtype) -> serde_json::Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.token_id("bos"),
            "eos_token_id": self.token_id("eos"),
            "pad_token_id": self.token_id("padding"),
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "mlp_bias": false,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_heads,
            "rms_norm_eps": self.epsilon,
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied,
            "torch_dtype": if dtype == Dtype::F32 { "float32" } else { "float16" },
            "use_cache": true,
            "vocab_size": self.tokens.len(),
        })
    }

    fn generation(&self) -> serde_json::Value {
        let mut json = Map::new();
        for (key, kind) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            if let Some(id) = self.token_id(kind) {
                json.insert(key.into(), id.into());
            }
        }
        json.into()
    }

    fn tokenizer_config(&self) -> serde_json::Value {
        let mut json = Map::new();
        json.insert("add_prefix_space".into(), self.flag("add_space_prefix").into());
        json.insert("add_bos_token".into(), self.flag("add_bos_token").into());
        json.insert("add_eos_token".into(), self.flag("add_eos_token").into());
        json.insert("clean_up_tokenization_spaces".into(), false.into());
        json.insert("model_max_length".into(), self.context.into());
        json.insert("tokenizer_class".into(), "GPT2Tokenizer".into());
        for (key, kind) in
            [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
        {
            if let Some(token) = self.token_id(kind).and_then(|id| self.tokens.get(id as usize)) {
                json.insert(key.into(), (*token).into());
            }
        }
        if let Some(Value::String(template)) = self.metadata.get("tokenizer.chat_template") {
            json.insert("chat_template".into(), template.as_str().into());
        }
        json.into()
    }

    /// A byte-level BPE as the `tokenizers` library writes it.
    fn tokenizer(&self) -> Result<serde_json::Value, String> {
        let model = text(self.metadata, "tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(format!("tokenizer.ggml.model is `{model}`, only `gpt2` (byte-level BPE) can be converted"));
        }
        if self.flag("add_space_prefix") || self.flag("add_bos_token") || self.flag("add_eos_token") {
            return Err("its tokenizer adds a space or tokens of its own, which cannot be converted".into());
        }
        let byte_level = |prefix: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
        let pre = match self.metadata.get("tokenizer.ggml.pre") {
            Some(Value::String(pre)) => pre.as_str(),
            _ => "default",
        };
        let pre_tokenizer = match pre {
            "smollm" => json!({
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level(false)],
            }),
            "gpt-2" | "default" => byte_level(false),
            other => {
                return Err(format!("tokenizer.ggml.pre is `{other}`, only `smollm` and `gpt-2` can be converted"));
            }
        };
        let kinds = token_types(self.metadata, self.tokens.len())?;
        let vocabulary = vocabulary(&self.tokens)?;
        let mut added = Vec::new();
        for (id, (token, kind)) in self.tokens.iter().zip(kinds).enumerate() {
            // 3: control, 4: defined by the user.
            let kind = integer(kind).ok_or("tokenizer.ggml.token_type has something that is no integer")?;
            if kind == 3 || kind == 4 {
                added.push(added_token(id, token, kind == 3));
            }
        }
        let known: BTreeSet<&str> = self.tokens.iter().copied().collect();
        let mut merges = Vec::new();
        for merge in texts(self.metadata, "tokenizer.ggml.merges")? {
            let (left, right) = merge.split_once(' ').ok_or_else(|| format!("merge {merge:?} is no pair"))?;
            if [left, right, &format!("{left}{right}")].iter().any(|part| !known.contains(part)) {
                return Err(format!("merge {merge:?} makes or needs a token that is not in the vocabulary"));
            }
            merges.push(json!([left, right]));
        }
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": null,
            "decoder": byte_level(true),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocabulary,
                "merges": merges,
            },
        }))
    }

    fn token_id(&self, kind: &str) -> Option<u32> {
        let id = integer(self.metadata.get(&format!("tokenizer.ggml.{kind}_token_id"))?)?;
        u32::try_from(id).ok().filter(|id| (*id as usize) < self.tokens.len())
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.metadata.get(&format!("tokenizer.ggml.{name}")), Some(Value::Bool(true)))
    }
}

/// JSON with its keys in order whatever the build's features make of `serde_json::Map`, so that the same input gives
/// the same bytes everywhere.
struct Sorted<'a>(&'a serde_json::Value);

impl serde::Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Object(map) => {
                let ordered: BTreeMap<&str, Sorted> = map.iter().map(|(k, v)| (k.as_str(), Sorted(v))).collect();
                serializer.collect_map(ordered)
            }
            serde_json::Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}

fn number(metadata: &HashMap<String, Value>, key: &str) -> Result<usize, String> {
    let value = metadata.get(key).ok_or_else(|| format!("{key} is missing"))?;
    let number = integer(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    number.map(|n| n as usize).ok_or_else(|| format!("{key} is {value:?}, expected one positive integer"))
}

/// The shortest decimal number that is this float: 1e-5, not 9.999999747378752e-6.
fn float(metadata: &HashMap<String, Value>, key: &str) -> Result<f64, String> {
    match metadata.get(key) {
        Some(Value::F32(x)) => x.to_string().parse().map_err(|_| format!("{key} is {x}, expected a number")),
        Some(Value::F64(x)) => Ok(*x),
        Some(_) => Err(format!("{key} is no float")),
        None => Err(format!("{key} is missing")),
    }
}
