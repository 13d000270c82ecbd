//! A directory with a model, looked at before the engine is: so that what is missing or corrupt is an error with a
//! name, where the engine would panic, or take the path for the name of something to download.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use super::GeneratorError;

/// A model directory that holds all an engine needs.
pub(super) struct ModelDir {
    /// What the engine is pointed at: the directory itself, or a shadow of it.
    pub(super) path: PathBuf,
    /// The shadow, to be kept for as long as the engine runs.
    pub(super) shadow: Option<tempfile::TempDir>,
    /// Last part of the directory's name.
    pub(super) name: String,
    /// `model_type` of config.json.
    pub(super) model_type: String,
    /// Whether it has a vision tower.
    pub(super) sees: bool,
    /// Longest sequence, tokens.
    pub(super) context_length: usize,
    /// Bytes of one token's keys and values in all layers, as 32-bit floats.
    pub(super) kv_bytes_per_token: usize,
    /// Hash over the files (hex, 16 digits), see [`fingerprint`].
    pub(super) fingerprint: String,
    /// The model's own tokenizer.
    pub(super) tokenizer: Tokenizer,
    /// Texts that the tokenizer takes for control tokens.
    pub(super) specials: Vec<String>,
}

impl ModelDir {
    /// Looks at a directory.
    ///
    /// # Errors
    /// [`GeneratorError::Load`], which names the file.
    pub(super) fn open(dir: &Path) -> Result<Self, GeneratorError> {
        if !dir.is_dir() {
            return Err(load(dir, "no such directory; `cicerone models pull` fetches models"));
        }
        let config = json(&dir.join("config.json"))?;
        json(&dir.join("tokenizer_config.json"))?;
        let tokenizer_path = dir.join("tokenizer.json");
        json(&tokenizer_path)?;
        let tokenizer = Tokenizer::from_file(&tokenizer_path).map_err(|e| load(&tokenizer_path, e))?;
        let specials = tokenizer
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| token.special && token.content.trim().chars().count() > 1)
            .map(|token| token.content)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let sees = config.get("vision_config").is_some();
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let context_length = number(config.get("max_position_embeddings"))
            .or_else(|| number(config.get("text_config").and_then(|text| text.get("max_position_embeddings"))))
            .filter(|n| *n > 0)
            .unwrap_or(2048);
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let shadow = if sees { without_splitting(dir)? } else { None };
        Ok(Self {
            path: shadow.as_ref().map_or_else(|| dir.to_owned(), |shadow| shadow.path().to_owned()),
            shadow,
            name: dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned()),
            model_type,
            sees,
            context_length,
            kv_bytes_per_token: kv_bytes_per_token(&config),
            fingerprint: fingerprint(dir)?,
            tokenizer,
            specials,
        })
    }
}

/// What a token costs in keys and values. A field that is missing counts as what is usual, or 1.
fn kv_bytes_per_token(config: &Value) -> usize {
    let config = config.get("text_config").unwrap_or(config);
    let field = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let heads = field("num_attention_heads").unwrap_or(1).max(1);
    let width = field("head_dim").or_else(|| Some(field("hidden_size")? / heads)).unwrap_or(1);
    let per_layer = field("num_key_value_heads").unwrap_or(heads).saturating_mul(width);
    let both = 2 * size_of::<f32>();
    field("num_hidden_layers").unwrap_or(1).saturating_mul(per_layer).saturating_mul(both)
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

/// Idefics3's image splitting makes the engine panic. Where a model asks for it, the engine is given a temporary
/// directory of links to the model's files, with that one switch turned off in its processor's configuration.
fn without_splitting(dir: &Path) -> Result<Option<tempfile::TempDir>, GeneratorError> {
    const NAME: &str = "preprocessor_config.json";
    let path = dir.join(NAME);
    if !path.is_file() {
        return Ok(None);
    }
    let mut config = json(&path)?;
    if config.get("do_image_splitting") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    config["do_image_splitting"] = Value::Bool(false);
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
fn fingerprint(dir: &Path) -> Result<String, GeneratorError> {
    const BLOCK: usize = 64 << 10;
    const BLOCKS: u64 = 64;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(|e| load(dir, e))? {
        let path = entry.map_err(|e| load(dir, e))?.path();
        if path.is_file() && path.extension().is_some_and(|e| e == "json" || e == "safetensors" || e == "jinja") {
            files.push(path);
        }
    }
    files.sort();
    if !files.iter().any(|path| path.extension().is_some_and(|e| e == "safetensors")) {
        return Err(load(dir, "holds no *.safetensors file; convert other formats with `cicerone models convert`"));
    }
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0_u8; BLOCK];
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut file = fs_err::File::open(&path).map_err(|e| load(&path, e))?;
        let length = file.metadata().map_err(|e| load(&path, e))?.len();
        hasher.update(name.as_bytes());
        hasher.update(&length.to_le_bytes());
        if length <= BLOCK as u64 * BLOCKS {
            std::io::copy(&mut file, &mut hasher).map_err(|e| load(&path, e))?;
            continue;
        }
        for n in 0..BLOCKS {
            let at = (length - BLOCK as u64) / (BLOCKS - 1) * n;
            file.seek(SeekFrom::Start(at)).map_err(|e| load(&path, e))?;
            file.read_exact(&mut block).map_err(|e| load(&path, e))?;
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
        let shadow = without_splitting(dir.path()).unwrap().unwrap();
        let read = |dir: &Path, name: &str| fs_err::read_to_string(dir.join(name)).unwrap();
        assert!(read(shadow.path(), "preprocessor_config.json").contains("\"do_image_splitting\":false"));
        assert_eq!(read(shadow.path(), "model.safetensors"), "weights");
        assert_eq!(read(dir.path(), "preprocessor_config.json"), config);
    }

    #[test]
    fn a_changed_weight_changes_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("model.safetensors");
        fs_err::write(&weights, [0_u8; 100]).unwrap();
        let before = fingerprint(dir.path()).unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), before);
        fs_err::write(&weights, [1_u8; 100]).unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
    }
}
