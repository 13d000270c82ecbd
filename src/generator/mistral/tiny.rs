//! Tiny models of random numbers, written as `transformers` writes them: what the engine makes of an architecture can
//! be seen in a second and without a download. What they say means nothing, but it depends on every token and pixel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod llama;
mod vision;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// Width of the text part.
const WIDTH: usize = 64;
/// Width of the vision tower.
const VISION: usize = 32;
/// Layers of either.
const LAYERS: usize = 2;
/// Longest sequence.
pub(crate) const CONTEXT: usize = 2048;

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text only.
    Llama,
    /// SmolVLM's shape.
    Idefics3,
    /// Qwen2-VL, which the engine cannot show pictures to.
    Qwen2Vl,
    /// Qwen2.5-VL.
    Qwen25Vl,
    /// Qwen3-VL.
    Qwen3Vl,
    /// Gemma 3 with its vision tower.
    Gemma3,
}

impl Kind {
    /// Those that see, by this engine.
    pub(crate) const SEEING: [Self; 4] = [Self::Idefics3, Self::Qwen25Vl, Self::Qwen3Vl, Self::Gemma3];
}

/// Which tokens a model can choose at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// Printable ASCII, and pairs of small letters.
    Ascii,
    /// Those characters, and single bytes that are no character by themselves.
    Bytes,
}

/// A written model.
pub(crate) struct Tiny {
    dir: tempfile::TempDir,
}

impl Tiny {
    /// Writes a model that says printable ASCII.
    pub(crate) fn write(kind: Kind) -> Self {
        Self::saying(kind, Says::Ascii)
    }

    /// Writes a model that says what it is told to.
    pub(crate) fn saying(kind: Kind, says: Says) -> Self {
        let dir = tempfile::Builder::new().prefix("tiny-").tempdir().unwrap();
        let tiny = Self { dir };
        match kind {
            Kind::Llama => llama::write(tiny.path(), says),
            Kind::Idefics3 => vision::idefics3(tiny.path(), says),
            Kind::Qwen2Vl => vision::qwen2(tiny.path(), says),
            Kind::Qwen25Vl => vision::qwen25(tiny.path(), says),
            Kind::Qwen3Vl => vision::qwen3(tiny.path(), says),
            Kind::Gemma3 => vision::gemma3(tiny.path(), says),
        }
        tiny
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes one of its JSON files.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs_err::read(self.file(name)).unwrap()).unwrap();
        change(&mut value);
        json_file(self.path(), name, &value);
    }
}

/// Two pictures that differ everywhere: stripes of two colours across, and down.
pub(crate) fn picture(dir: &Path, name: &str, across: bool, colours: [[u8; 3]; 2]) -> PathBuf {
    let path = dir.join(name);
    let stripe = |x: u32, y: u32| colours[((if across { x } else { y }) / 9 % 2) as usize];
    image::RgbImage::from_fn(70, 70, |x, y| image::Rgb(stripe(x, y))).save(&path).unwrap();
    path
}

fn json_file(dir: &Path, name: &str, value: &Value) {
    fs_err::write(dir.join(name), serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

/// A byte-level BPE: special tokens, all bytes, and all pairs of small letters.
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    specials: usize,
    merges: Vec<(String, String)>,
}

impl Vocabulary {
    pub(crate) fn new(specials: &[&str]) -> Self {
        let mut tokens: Vec<String> = specials.iter().map(|text| (*text).to_owned()).collect();
        tokens.extend((0..=255).map(|byte| character(byte).to_string()));
        let letters = || 'a'..='z';
        let merges: Vec<(String, String)> =
            letters().flat_map(|a| letters().map(move |b| (a.to_string(), b.to_string()))).collect();
        tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        Self { tokens, specials: specials.len(), merges }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Number of a token.
    pub(crate) fn id(&self, text: &str) -> usize {
        self.tokens.iter().position(|token| token == text).unwrap()
    }

    /// How a byte is written in the vocabulary.
    pub(crate) fn byte(&self, byte: u8) -> String {
        character(byte).to_string()
    }

    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    pub(crate) fn specials(&self) -> usize {
        self.specials
    }

    pub(crate) fn merges(&self) -> impl Iterator<Item = String> {
        self.merges.iter().map(|(a, b)| format!("{a} {b}"))
    }

    /// As `tokenizer.json` has it.
    pub(crate) fn json(&self) -> Value {
        let added: Vec<Value> = (0..self.specials)
            .map(|id| {
                json!({"id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let level = |prefix: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
        let ids: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let merges: Vec<Value> = self.merges.iter().map(|(a, b)| json!([a, b])).collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": level(false), "post_processor": null, "decoder": level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": ids, "merges": merges,
            },
        })
    }

    pub(crate) fn tokenizer(&self) -> Tokenizer {
        Tokenizer::from_bytes(self.json().to_string()).unwrap()
    }

    /// Whether a model that `says` this can choose a token.
    fn can_be_said(&self, id: usize, says: Says) -> bool {
        let token = &self.tokens[id];
        match says {
            _ if id < self.specials => false,
            Says::Ascii => token.chars().all(|c| c.is_ascii_graphic()),
            // Bytes that continue a character, of which none has begun.
            Says::Bytes => self.can_be_said(id, Says::Ascii) || (0x80..0xC0).any(|byte| *token == self.byte(byte)),
        }
    }
}

/// GPT-2's way of writing a byte as a character (`bytes_to_unicode` in openai/gpt-2, src/encoder.py).
fn character(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !itself(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// Random tensors by their names.
pub(crate) struct Numbers {
    rng: StdRng,
    tensors: HashMap<String, Tensor>,
}

impl Numbers {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), tensors: HashMap::new() }
    }

    fn draw(&mut self, shape: &[usize], deviation: f32) -> Tensor {
        let count = shape.iter().product();
        let bound = deviation * 3_f32.sqrt();
        let values: Vec<f32> = (0..count).map(|_| self.rng.random_range(-bound..=bound)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn random(&mut self, name: &str, shape: &[usize], deviation: f32) {
        let values = self.draw(shape, deviation);
        self.tensors.insert(name.to_owned(), values);
    }

    fn constant(&mut self, name: &str, length: usize, value: f32) {
        let values = Tensor::full(value, length, &Device::Cpu).unwrap();
        self.tensors.insert(name.to_owned(), values);
    }

    /// A matrix that makes of numbers around 1 others around `gain`.
    fn linear(&mut self, name: &str, out: usize, from: usize, gain: f32, bias: bool) {
        self.random(&format!("{name}.weight"), &[out, from], gain / (from as f32).sqrt());
        if bias {
            self.random(&format!("{name}.bias"), &[out], 0.1);
        }
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.constant(&format!("{name}.weight"), width, 1.0);
        self.constant(&format!("{name}.bias"), width, 0.0);
    }

    /// Embeddings of a size, and an output in which what cannot be said has a logit of 0, which is never the largest.
    fn ends(&mut self, (embedding, size): (&str, f32), output: &str, words: &Vocabulary, says: Says) {
        self.random(embedding, &[words.len(), WIDTH], size);
        let scale = 3.0 / (WIDTH as f32).sqrt();
        let rows: Vec<Tensor> = (0..words.len())
            .map(|id| self.draw(&[1, WIDTH], if words.can_be_said(id, says) { scale } else { 0.0 }))
            .collect();
        self.tensors.insert(output.to_owned(), Tensor::cat(&rows, 0).unwrap());
    }

    /// Attention and gated MLP of [`LAYERS`] layers, as Llama has them.
    fn text_layers(&mut self, prefix: &str, attention: Attention) {
        let (heads, key_heads, head) = (4, 2, 16);
        for layer in 0..LAYERS {
            let name = format!("{prefix}.layers.{layer}");
            let at = |part: &str| format!("{name}.{part}");
            let norm = attention.norm;
            for part in ["input_layernorm", "post_attention_layernorm"] {
                self.constant(&at(&format!("{part}.weight")), WIDTH, norm);
            }
            if attention.four_norms {
                for part in ["pre_feedforward_layernorm", "post_feedforward_layernorm"] {
                    self.constant(&at(&format!("{part}.weight")), WIDTH, norm);
                }
            }
            if attention.head_norms {
                for part in ["q_norm", "k_norm"] {
                    self.constant(&at(&format!("self_attn.{part}.weight")), head, norm + 1.0);
                }
            }
            for (part, rows, gain) in [("q_proj", heads, 2.0), ("k_proj", key_heads, 2.0), ("v_proj", key_heads, 1.5)] {
                self.linear(&at(&format!("self_attn.{part}")), rows * head, WIDTH, gain, attention.bias);
            }
            self.linear(&at("self_attn.o_proj"), WIDTH, heads * head, 2.0, false);
            self.linear(&at("mlp.gate_proj"), 2 * WIDTH, WIDTH, 1.5, false);
            self.linear(&at("mlp.up_proj"), 2 * WIDTH, WIDTH, 1.5, false);
            self.linear(&at("mlp.down_proj"), WIDTH, 2 * WIDTH, 1.5, false);
        }
        self.constant(&format!("{prefix}.norm.weight"), WIDTH, attention.norm);
    }

    fn save(self, dir: &Path) {
        candle_core::safetensors::save(&self.tensors, dir.join("model.safetensors")).unwrap();
    }
}

/// How the layers of a family differ.
#[derive(Debug, Clone, Copy)]
struct Attention {
    bias: bool,
    head_norms: bool,
    four_norms: bool,
    /// Weight of a norm that changes nothing.
    norm: f32,
}

const PLAIN: Attention = Attention { bias: false, head_norms: false, four_norms: false, norm: 1.0 };

/// Settings that all text parts share.
fn text_config(words: &Vocabulary) -> Value {
    json!({
        "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "vocab_size": words.len(),
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": CONTEXT, "tie_word_embeddings": false,
    })
}

/// Adds the keys of `more`.
fn with(mut value: Value, more: Value) -> Value {
    let (Value::Object(target), Value::Object(more)) = (&mut value, more) else { panic!("no objects") };
    target.extend(more);
    value
}

/// The files beside the weights that every model has.
fn common(dir: &Path, words: &Vocabulary, config: &Value, template: &str, begin: Option<&str>, end: &str) {
    json_file(dir, "config.json", config);
    json_file(dir, "tokenizer.json", &words.json());
    let tokenizer = json!({
        "bos_token": begin, "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template,
        "model_max_length": CONTEXT,
    });
    json_file(dir, "tokenizer_config.json", &tokenizer);
    json_file(dir, "generation_config.json", &json!({"eos_token_id": [words.id(end)]}));
}

/// ChatML with plain messages or lists of parts.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n\
    {% if message['content'] is string %}{{ message['content'] }}\
    {% else %}{% for part in message['content'] %}\
    {% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
    {% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}\
    {% endfor %}{% endif %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
