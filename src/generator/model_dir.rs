//! A directory with a model, looked at before the engine is: so that what is missing or corrupt is an error with a
//! name, where the engine would panic, or take the path for the name of something to download.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use super::GeneratorError;
use super::gguf;
use super::mistral::{Budget, Ends};

/// Where the weights are, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weights {
    /// All `*.safetensors` of the directory.
    Safetensors,
    /// One file of llama.cpp's format, by its name in the directory.
    Gguf {
        /// Its name.
        file: String,
        /// Type of most of its numbers: `q4_1`, `f16`, …
        format: String,
    },
    /// One file of the engine's own format (the first, of several parts), by its name in the directory.
    Uqff {
        /// Its name.
        file: String,
    },
}

/// A model that holds all an engine needs.
pub(super) struct ModelDir {
    /// What the engine is pointed at: the directory itself, or a shadow of it.
    pub(super) path: PathBuf,
    /// The weights in it.
    pub(super) weights: Weights,
    /// The shadow, to be kept for as long as the engine runs. Of a GGUF file it holds only the tokenizer.
    pub(super) shadow: Option<tempfile::TempDir>,
    /// Last part of the directory's name, or the file's without its ending.
    pub(super) name: String,
    /// `model_type` of config.json.
    pub(super) model_type: String,
    /// Whether it has a vision tower.
    pub(super) sees: bool,
    /// What it can use of a picture.
    pub(super) budget: Budget,
    /// Longest sequence, tokens.
    pub(super) context_length: usize,
    /// Bytes of one token's keys and values in all layers, as 32-bit floats.
    pub(super) kv_bytes_per_token: usize,
    /// Hash over the files (hex, 16 digits), see [`fingerprint`].
    pub(super) fingerprint: String,
    /// The model's own tokenizer.
    pub(super) tokenizer: Tokenizer,
    /// Texts that the tokenizer or the engine takes for control tokens.
    pub(super) specials: Vec<String>,
    /// Tokens that end an answer, where grammars know one.
    pub(super) ends: Option<Ends>,
}

/// Texts that the engine looks for in a prompt, whatever the tokenizer makes of them.
const PLACEHOLDERS: [&str; 9] = [
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image_soft_token>",
    "<start_of_image>",
    "<end_of_image>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|placeholder|>",
];

impl ModelDir {
    /// Looks at a directory, or at a file of weights.
    ///
    /// # Errors
    /// [`GeneratorError::Load`], which names the file.
    pub(super) fn open(path: &Path) -> Result<Self, GeneratorError> {
        let extension = path.extension().unwrap_or_default();
        if path.is_file() && extension == "gguf" {
            return gguf::open(path);
        }
        if path.is_file() && extension == "uqff" {
            let file = file_name(path);
            return Self::transformers(path.parent().unwrap_or(path), Weights::Uqff { file });
        }
        if path.is_file() {
            return Err(load(path, "is no model; give a directory, or a file that ends in .gguf or .uqff"));
        }
        if !path.is_dir() {
            return Err(load(path, "no such directory; `cicerone models pull` fetches models"));
        }
        let files = |ending: &str| -> Result<Vec<PathBuf>, GeneratorError> {
            let mut found = Vec::new();
            for entry in fs_err::read_dir(path).map_err(|e| load(path, e))? {
                let entry = entry.map_err(|e| load(path, e))?.path();
                if entry.is_file() && entry.extension().is_some_and(|e| e == ending) {
                    found.push(entry);
                }
            }
            found.sort();
            Ok(found)
        };
        // What a UQFF file leaves out is a file of safetensors, which is no model by itself.
        let whole = files("safetensors")?.iter().any(|file| file_name(file) != "residual.safetensors");
        match (whole, files("uqff")?.first(), &files("gguf")?[..]) {
            (true, ..) => Self::transformers(path, Weights::Safetensors),
            (false, Some(file), _) => Self::transformers(path, Weights::Uqff { file: file_name(file) }),
            (false, None, [file]) => gguf::open(file),
            (false, None, []) => Self::transformers(path, Weights::Safetensors),
            (false, None, several) => {
                let names: Vec<String> = several.iter().map(|file| file_name(file)).collect();
                Err(load(path, format!("holds several models; give the path of one: {}", names.join(", "))))
            }
        }
    }

    /// A directory as `transformers` writes it.
    fn transformers(dir: &Path, weights: Weights) -> Result<Self, GeneratorError> {
        let config = json(&dir.join("config.json"))?;
        let tokenizer_config = json(&dir.join("tokenizer_config.json"))?;
        let tokenizer_path = dir.join("tokenizer.json");
        json(&tokenizer_path)?;
        let optional = |name: &str| {
            let path = dir.join(name);
            if path.is_file() { json(&path) } else { Ok(Value::Null) }
        };
        let generation = optional("generation_config.json")?;
        let preprocessor = optional("preprocessor_config.json")?;
        let processor = optional("processor_config.json")?;
        let tokenizer = Tokenizer::from_file(&tokenizer_path).map_err(|e| load(&tokenizer_path, e))?;
        let sees = config.get("vision_config").is_some();
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let context_length = number(config.get("max_position_embeddings"))
            .or_else(|| number(config.get("text_config").and_then(|text| text.get("max_position_embeddings"))))
            .filter(|n| *n > 0)
            .unwrap_or(2048);
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let pixels = if preprocessor.is_null() {
            processor.get("image_processor").cloned().unwrap_or_default()
        } else {
            preprocessor
        };
        if sees && pixels.is_null() {
            return Err(load(
                &dir.join("preprocessor_config.json"),
                "no such file; without it nobody knows what the model does to a picture",
            ));
        }
        let ends = ends(&tokenizer, &tokenizer_config, &[&generation, &config]);
        let fingerprint = fingerprint(dir, &weights)?;
        let shadow = if sees { without_splitting(dir, &model_type)? } else { None };
        Ok(Self {
            path: shadow.as_ref().map_or_else(|| dir.to_owned(), |shadow| shadow.path().to_owned()),
            weights,
            shadow,
            name: file_name(dir),
            model_type,
            sees,
            budget: Budget::read(&pixels, &processor, &config),
            context_length: usable(context_length),
            kv_bytes_per_token: Attention::of(&config).kv_bytes_per_token(),
            fingerprint,
            specials: specials(&tokenizer),
            ends,
            tokenizer,
        })
    }
}

/// Of a context only a multiple of the 512 tokens by which a sequence grows can be used.
pub(super) fn usable(context: usize) -> usize {
    const BLOCK: usize = 512;
    if context < BLOCK { context } else { context / BLOCK * BLOCK }
}

/// Control tokens of a tokenizer, and what the engine takes for some.
pub(super) fn specials(tokenizer: &Tokenizer) -> Vec<String> {
    tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .filter(|token| token.special && token.content.trim().chars().count() > 1)
        .map(|token| token.content)
        .chain(PLACEHOLDERS.map(str::to_owned))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Tokens that end an answer. Grammars take for an end the last of a few names that the tokenizer has, as the engine's
/// library for them does (toktrie_hf_tokenizers, `from_tokenizer`); which ends the model prefers, its files say.
pub(super) fn ends(tokenizer: &Tokenizer, tokenizer_config: &Value, configs: &[&Value]) -> Option<Ends> {
    const NAMES: [&str; 5] =
        ["</s>", "<|endoftext|>", "<|end_of_text|>", "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>", "<eos>"];
    const CHAT: [&str; 5] = ["<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<end_of_utterance>"];
    let added = tokenizer.get_added_tokens_decoder();
    let grammar = added.iter().filter(|(_, token)| NAMES.contains(&token.content.as_str())).map(|(id, _)| *id).max()?;
    let mut model: BTreeSet<u32> = CHAT.iter().filter_map(|name| tokenizer.token_to_id(name)).collect();
    let eos = tokenizer_config.get("eos_token");
    let eos = eos.and_then(|eos| eos.as_str().or_else(|| eos.get("content").and_then(Value::as_str)));
    model.extend(eos.and_then(|eos| tokenizer.token_to_id(eos)));
    for value in configs.iter().filter_map(|config| config.get("eos_token_id")) {
        let ids = value.as_array().map_or_else(|| vec![value], |ids| ids.iter().collect());
        model.extend(ids.into_iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()));
    }
    Some(Ends { grammar, model: model.into_iter().collect(), known: tokenizer.get_vocab_size(true) })
}

/// Last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What of a model's shape decides the size of its keys and values, as far as its files say.
pub(super) struct Attention {
    pub(super) layers: Option<usize>,
    pub(super) heads: Option<usize>,
    pub(super) key_heads: Option<usize>,
    /// Width of a head.
    pub(super) width: Option<usize>,
    pub(super) hidden: Option<usize>,
}

impl Attention {
    /// Of a `config.json`.
    fn of(config: &Value) -> Self {
        let config = config.get("text_config").unwrap_or(config);
        let field = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        Self {
            layers: field("num_hidden_layers"),
            heads: field("num_attention_heads"),
            key_heads: field("num_key_value_heads"),
            width: field("head_dim"),
            hidden: field("hidden_size"),
        }
    }

    /// What a token costs in keys and values. A field that is missing counts as what is usual, or 1.
    pub(super) fn kv_bytes_per_token(&self) -> usize {
        let heads = self.heads.unwrap_or(1).max(1);
        let width = self.width.or_else(|| Some(self.hidden? / heads)).unwrap_or(1);
        let per_layer = self.key_heads.unwrap_or(heads).saturating_mul(width);
        let both = 2 * size_of::<f32>();
        self.layers.unwrap_or(1).saturating_mul(per_layer).saturating_mul(both)
    }
}

/// An error of loading at a path.
pub(super) fn load(path: &Path, reason: impl std::fmt::Display) -> GeneratorError {
    GeneratorError::Load { path: path.display().to_string(), reason: reason.to_string() }
}

fn json(path: &Path) -> Result<Value, GeneratorError> {
    if !path.is_file() {
        return Err(load(
            path,
            "no such file; a model directory needs config.json, tokenizer.json, tokenizer_config.json and *.safetensors",
        ));
    }
    let text = fs_err::read(path).map_err(|e| load(path, e))?;
    serde_json::from_slice(&text).map_err(|e| load(path, format!("not JSON: {e}; fetch the file again")))
}

/// Idefics3's image splitting makes the engine panic. Where a model asks for it, or says nothing, the engine is given a
/// temporary directory of links to the model's files, with that one switch turned off in its processor's configuration.
/// The size of the whole picture goes with it: the engine would enlarge every picture to it (2048) before it makes a
/// tile (512).
fn without_splitting(dir: &Path, model_type: &str) -> Result<Option<tempfile::TempDir>, GeneratorError> {
    const NAME: &str = "preprocessor_config.json";
    let path = dir.join(NAME);
    if !path.is_file() {
        return Ok(None);
    }
    let mut config = json(&path)?;
    let splits = match config.get("do_image_splitting") {
        Some(switch) => switch == &Value::Bool(true),
        None => matches!(model_type, "idefics3" | "smolvlm"),
    };
    if !splits {
        return Ok(None);
    }
    config["do_image_splitting"] = Value::Bool(false);
    if let Some(tile) = config.pointer("/max_image_size/longest_edge").cloned()
        && let Some(whole) = config.pointer_mut("/size/longest_edge")
    {
        *whole = tile;
    }
    let shadow = tempfile::Builder::new().prefix("cicerone-model-").tempdir().map_err(|e| load(dir, e))?;
    let whole = fs_err::canonicalize(dir).map_err(|e| load(dir, e))?;
    for entry in fs_err::read_dir(&whole).map_err(|e| load(dir, e))? {
        let entry = entry.map_err(|e| load(dir, e))?;
        if entry.file_name() != NAME && entry.path().is_file() {
            link(&entry.path(), &shadow.path().join(entry.file_name())).map_err(|e| load(&entry.path(), e))?;
        }
    }
    fs_err::write(shadow.path().join(NAME), config.to_string()).map_err(|e| load(&path, e))?;
    Ok(Some(shadow))
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs_err::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs_err::hard_link(from, to)
}

/// Identity of the model: a hash over every JSON file, and over the names, lengths, headers and 64 evenly spaced
/// blocks of the weights. Whole weights would cost seconds at every start; `models verify` is what reads them all.
fn fingerprint(dir: &Path, weights: &Weights) -> Result<String, GeneratorError> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(|e| load(dir, e))? {
        let path = entry.map_err(|e| load(dir, e))?.path();
        let quantised = matches!(weights, Weights::Uqff { .. });
        let counts =
            |e: &std::ffi::OsStr| e == "json" || e == "safetensors" || e == "jinja" || (quantised && e == "uqff");
        if path.is_file() && path.extension().is_some_and(counts) {
            files.push(path);
        }
    }
    files.sort();
    if !files.iter().any(|path| path.extension().is_some_and(|e| e == "safetensors")) {
        return Err(load(
            dir,
            "holds no *.safetensors, *.uqff or *.gguf file; convert other formats with `cicerone models convert`",
        ));
    }
    hash(&files)
}

/// A hash over the names and lengths of files, and all of a short one or evenly spaced blocks of a long one.
pub(super) fn hash(files: &[PathBuf]) -> Result<String, GeneratorError> {
    const BLOCK: usize = 64 << 10;
    const BLOCKS: u64 = 64;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0_u8; BLOCK];
    for path in files {
        let mut file = fs_err::File::open(path).map_err(|e| load(path, e))?;
        let length = file.metadata().map_err(|e| load(path, e))?.len();
        hasher.update(file_name(path).as_bytes());
        hasher.update(&length.to_le_bytes());
        if length <= BLOCK as u64 * BLOCKS {
            std::io::copy(&mut file, &mut hasher).map_err(|e| load(path, e))?;
            continue;
        }
        for n in 0..BLOCKS {
            let at = (length - BLOCK as u64) / (BLOCKS - 1) * n;
            file.seek(SeekFrom::Start(at)).map_err(|e| load(path, e))?;
            file.read_exact(&mut block).map_err(|e| load(path, e))?;
            hasher.update(&block);
        }
    }
    Ok(hasher.finalize().to_hex().chars().take(16).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn said(dir: &Path) -> String {
        match ModelDir::open(dir) {
            Ok(_) => panic!("{} opened", dir.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_missing_or_corrupt_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = said(&dir.path().join("gone"));
        assert!(nowhere.contains("gone") && nowhere.contains("models pull"), "{nowhere}");
        assert!(said(dir.path()).contains("config.json: no such file"));
        fs_err::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
        assert!(said(dir.path()).contains("not JSON"));
        fs_err::write(dir.path().join("config.json"), "{}").unwrap();
        fs_err::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
        fs_err::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"}").unwrap();
        let tokenizer = said(dir.path());
        assert!(tokenizer.contains("tokenizer.json"), "{tokenizer}");
    }

    #[test]
    fn image_splitting_is_turned_off_in_a_shadow_and_the_model_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = r#"{"do_image_splitting": true, "size": 3}"#;
        fs_err::write(dir.path().join("preprocessor_config.json"), config).unwrap();
        fs_err::write(dir.path().join("model.safetensors"), "weights").unwrap();
        let shadow = without_splitting(dir.path(), "idefics3").unwrap().unwrap();
        let read = |dir: &Path, name: &str| fs_err::read_to_string(dir.join(name)).unwrap();
        assert!(read(shadow.path(), "preprocessor_config.json").contains("\"do_image_splitting\":false"));
        assert_eq!(read(shadow.path(), "model.safetensors"), "weights");
        assert_eq!(read(dir.path(), "preprocessor_config.json"), config);
        fs_err::write(dir.path().join("preprocessor_config.json"), "{}").unwrap();
        assert!(
            without_splitting(dir.path(), "idefics3").unwrap().is_some(),
            "the engine splits where nothing is said"
        );
        assert!(without_splitting(dir.path(), "gemma3").unwrap().is_none());
    }

    #[test]
    fn a_changed_weight_changes_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("model.safetensors");
        fs_err::write(&weights, [0_u8; 100]).unwrap();
        let fingerprint = || super::fingerprint(dir.path(), &Weights::Safetensors).unwrap();
        let before = fingerprint();
        assert_eq!(fingerprint(), before);
        fs_err::write(&weights, [1_u8; 100]).unwrap();
        assert_ne!(fingerprint(), before);
    }
}
