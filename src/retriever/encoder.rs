//! A loaded retriever: files in, items to unit vectors. Runs where it is called; [`super::worker`] gives it a thread.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::Item;
use super::backbone::VisionBackbone;
use super::config::RetConfig;
use super::error::{Result, RetrieverError};
use super::model::{Batch, Ret2, normalise};
use super::picture::Picture;
use super::preprocess::TextProcessor;
use super::shards;
use super::weights::Weights;

/// Where a retriever's files are.
#[derive(Debug, Clone)]
pub struct RetrieverFiles {
    /// Architecture, JSON ([`RetConfig`]).
    pub config: PathBuf,
    /// Text tower, safetensors or an index of shards.
    pub text_weights: PathBuf,
    /// `tokenizer.json` of the text tower.
    pub tokenizer: PathBuf,
    /// Picture tower, safetensors or an index of shards.
    pub vision_weights: PathBuf,
    /// What was trained: adapters, cell, globals, projection.
    pub weights: PathBuf,
    /// Put before a query's text, with a space.
    pub instruction: String,
    /// Most items of one batch.
    pub max_batch: usize,
}

impl RetrieverFiles {
    /// Hash of everything that decides an embedding: the bytes of every file, and the instruction.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for path in [&self.config, &self.text_weights, &self.tokenizer, &self.vision_weights, &self.weights] {
            for path in shards::files(path)? {
                let read = |e: std::io::Error| RetrieverError::Read { path: path.clone(), reason: e.to_string() };
                let mut file = blake3::Hasher::new();
                file.update_reader(fs_err::File::open(&path).map_err(read)?).map_err(read)?;
                hasher.update(file.finalize().as_bytes());
            }
        }
        hasher.update(self.instruction.as_bytes());
        Ok(hasher.finalize().to_hex().as_str()[..32].to_owned())
    }
}

/// Towers, head and processors.
pub struct Encoder {
    /// The model.
    pub model: Ret2,
    /// Tokenizer of its text tower.
    pub texts: TextProcessor,
    /// Where it computes.
    pub device: Device,
}

impl Encoder {
    /// Loads and checks everything.
    ///
    /// # Errors
    /// Names the file, and the tensors that do not fit.
    pub fn load(files: &RetrieverFiles) -> Result<Self> {
        let device = Device::Cpu;
        let config = RetConfig::load(&files.config)?;
        let text = Weights::load(&files.text_weights, &device)?;
        let vision = Weights::load(&files.vision_weights, &device)?;
        let head = Weights::load(&files.weights, &device)?;
        let model = Ret2::load(&config, &text, &vision, &head)?;
        text.finish(config.text.known_unused())?;
        vision.finish(config.vision.known_unused())?;
        head.finish(&[])?;
        let texts = TextProcessor::load(&files.tokenizer, config.max_text_tokens)?;
        Ok(Self { model, texts, device })
    }

    /// Items to unit vectors of length D, in order.
    ///
    /// # Errors
    /// An item with neither side, or the engine's own.
    pub fn encode(&self, items: &[Item]) -> Result<Vec<Vec<f32>>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = (Vec::new(), Vec::new());
        let mut vision = (Vec::new(), Vec::new());
        for (row, item) in items.iter().enumerate() {
            if let Some(t) = item.text.as_deref().filter(|t| !t.trim().is_empty()) {
                text.0.push(t);
                text.1.push(row);
            }
            if let Some(picture) = &item.image {
                vision.0.push(picture.clone());
                vision.1.push(row);
            }
        }
        let batch = Batch {
            text: if text.0.is_empty() { None } else { Some((self.texts.batch(&text.0, &self.device)?, text.1)) },
            vision: if vision.0.is_empty() { None } else { Some((self.pixels(&vision.0)?, vision.1)) },
            len: items.len(),
        };
        Ok(self.model.encode(&batch)?.to_vec2()?)
    }

    /// Pooled features of the picture tower alone, as unit vectors: the baseline that a trained head must beat.
    ///
    /// # Errors
    /// The engine's own.
    pub fn encode_pooled(&self, pictures: &[Picture]) -> Result<Vec<Vec<f32>>> {
        let pooled = self.model.vision_pooled(&self.pixels(pictures)?)?;
        Ok(normalise(&pooled)?.to_vec2()?)
    }

    fn pixels(&self, pictures: &[Picture]) -> Result<Tensor> {
        self.model.config().image_processor.batch(pictures, &self.device)
    }
}

/// A picture tower alone, for computing features without a head.
pub fn load_vision(config: &RetConfig, path: &Path, device: &Device) -> Result<VisionBackbone> {
    let weights = Weights::load(path, device)?;
    let tower = VisionBackbone::load(&config.vision, &weights, config.global_injection)?;
    weights.finish(config.vision.known_unused())?;
    Ok(tower)
}
