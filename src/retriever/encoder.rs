//! A loaded retriever: files in, items to embeddings. Runs where it is called; [`super::worker`] gives it a thread.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::Item;
use super::backbone::VisionBackbone;
use super::config::RetConfig;
use super::device::DeviceChoice;
use super::embedding::Embedding;
use super::error::{Result, RetrieverError};
use super::model::{Batch, Ret, Side, Trace, normalise};
use super::picture::Picture;
use super::preprocess::{ImageProcessor, TextProcessor};
use super::shards;
use super::weights::Weights;
use crate::models::NameMap;

/// To be raised by whoever lets the same files give other embeddings: pictures other pixels, texts other tokens. A knowledge
/// base of the old ones is then refused, with the command that builds it anew, and features kept for training are computed anew.
pub(super) const COMPUTATION: u32 = 2;

/// Where a retriever's files are.
#[derive(Debug, Clone)]
pub struct RetrieverFiles {
    /// Architecture, JSON ([`RetConfig`]).
    pub config: PathBuf,
    /// Text tower, safetensors or an index of shards. The same file as `weights` where one holds everything; the tower is
    /// then below `text_model` in it.
    pub text_weights: PathBuf,
    /// `tokenizer.json` of the text tower.
    pub tokenizer: PathBuf,
    /// Picture tower, safetensors or an index of shards. The same file as `weights` where one holds everything; the tower
    /// is then below `vision_model` in it.
    pub vision_weights: PathBuf,
    /// What was trained: adapters, cell, globals, projection; of both sides where they do not share them.
    pub weights: PathBuf,
    /// Put before a query's text, with a space.
    pub instruction: String,
    /// Most items of one batch.
    pub max_batch: usize,
    /// Where it computes.
    pub device: DeviceChoice,
}

impl RetrieverFiles {
    /// Hash of everything that decides an embedding: the bytes of every file, the map of the weights' names if there is
    /// one, the instruction, and the version of the computation.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let map = self.name_map(&RetConfig::load(&self.config)?)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&COMPUTATION.to_le_bytes());
        // One file may serve for several, and may be large.
        let mut hashes: Vec<(&PathBuf, blake3::Hash)> = Vec::new();
        for path in [&self.config, &self.text_weights, &self.tokenizer, &self.vision_weights, &self.weights] {
            let known = hashes.iter().find(|(known, _)| *known == path).map(|(_, hash)| *hash);
            let hash = match known {
                Some(hash) => hash,
                None => hash_of(path)?,
            };
            hashes.push((path, hash));
            hasher.update(hash.as_bytes());
        }
        if let Some(map) = map {
            hasher.update(blake3::hash(map.text().as_bytes()).as_bytes());
        }
        hasher.update(self.instruction.as_bytes());
        Ok(hasher.finalize().to_hex().as_str()[..32].to_owned())
    }

    /// The map that the configuration names; a file is looked for beside the configuration.
    fn name_map(&self, config: &RetConfig) -> Result<Option<NameMap>> {
        let dir = self.config.parent().unwrap_or(Path::new(""));
        Ok(config.weights_map.as_ref().map(|named| NameMap::open(named, dir)).transpose()?)
    }
}

/// Hash of a file's bytes; of an index of shards, those of its shards as well.
fn hash_of(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    for path in shards::files(path)? {
        let read = |e: std::io::Error| RetrieverError::unreadable(&path, &e);
        hasher.update_reader(fs_err::File::open(&path).map_err(read)?).map_err(read)?;
    }
    Ok(hasher.finalize())
}

/// An item whose picture is pixels: what a model's thread takes.
#[derive(Debug, Clone)]
pub struct Prepared {
    text: Option<String>,
    /// `[3, S, S]`, row by row.
    pixels: Option<Vec<f32>>,
}

impl Prepared {
    /// Makes pixels of an item's picture. A text without letters is none.
    ///
    /// # Errors
    /// Those of [`ImageProcessor::pixels`].
    pub fn new(item: Item, processor: &ImageProcessor) -> Result<Self> {
        Ok(Self {
            text: item.text.filter(|text| !text.trim().is_empty()),
            pixels: item.image.map(|picture| processor.pixels(&picture)).transpose()?,
        })
    }
}

/// Towers, head and processors.
pub struct Encoder {
    /// The model.
    pub model: Ret,
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
        let device = files.device.open()?;
        let config = RetConfig::load(&files.config)?;
        let map = files.name_map(&config)?;
        let head = Weights::load(&files.weights, &device)?;
        let head = match &map {
            Some(map) => head.renamed(map)?,
            None => head,
        };
        let tower = |path: &PathBuf, within: &str| {
            if *path == files.weights { Ok(head.pp(within)) } else { Weights::load(path, &device) }
        };
        let text = tower(&files.text_weights, "text_model")?;
        let vision = tower(&files.vision_weights, "vision_model")?;
        let model = Ret::load(&config, &text, &vision, &head)?;
        let unused = [config.text.known_unused(), config.vision.known_unused()].concat();
        for weights in [&text, &vision, &head] {
            weights.finish(&unused)?;
        }
        let texts = TextProcessor::load(&files.tokenizer, config.max_text_tokens)?;
        Ok(Self { model, texts, device })
    }

    /// Items to embeddings of n vectors of length D, in order.
    ///
    /// # Errors
    /// An item with neither side, or the engine's own.
    pub fn encode(&self, side: Side, items: &[Item]) -> Result<Vec<Embedding>> {
        self.encode_prepared(side, &self.prepare(items)?)
    }

    /// As [`Encoder::encode`], of items whose pictures are pixels.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_prepared(&self, side: Side, items: &[Prepared]) -> Result<Vec<Embedding>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        embeddings(&self.model.encode(side, &self.batch(items)?)?)
    }

    /// Every gate and state on the way to the embeddings of `items`, in order.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn trace(&self, side: Side, items: &[Item]) -> Result<Trace> {
        self.model.trace(side, &self.batch(&self.prepare(items)?)?)
    }

    fn prepare(&self, items: &[Item]) -> Result<Vec<Prepared>> {
        let processor = &self.model.config().image_processor;
        items.par_iter().map(|item| Prepared::new(item.clone(), processor)).collect()
    }

    /// Tokens and pixels of items, those of a modality together.
    fn batch(&self, items: &[Prepared]) -> Result<Batch> {
        let (mut texts, mut text_rows, mut pixels, mut vision_rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (row, item) in items.iter().enumerate() {
            if let Some(text) = &item.text {
                texts.push(text.as_str());
                text_rows.push(row);
            }
            if let Some(planes) = &item.pixels {
                pixels.push(planes.as_slice());
                vision_rows.push(row);
            }
        }
        let stack = |pixels: &[&[f32]]| self.model.config().image_processor.stack(pixels, &self.device);
        Ok(Batch {
            text: if texts.is_empty() { None } else { Some((self.texts.batch(&texts, &self.device)?, text_rows)) },
            vision: if pixels.is_empty() { None } else { Some((stack(&pixels)?, vision_rows)) },
            len: items.len(),
        })
    }

    /// Pooled features of the picture tower alone, one unit vector each: the baseline that a trained head must beat.
    ///
    /// # Errors
    /// The engine's own.
    pub fn encode_pooled(&self, pictures: &[Picture]) -> Result<Vec<Embedding>> {
        let pixels = self.model.config().image_processor.batch(pictures, &self.device)?;
        let pooled = self.model.vision_pooled(&pixels)?;
        embeddings(&normalise(&pooled)?.unsqueeze(1)?)
    }
}

/// Rows of `[B, n, D]`.
pub(super) fn embeddings(rows: &Tensor) -> Result<Vec<Embedding>> {
    let (_, n, dim) = rows.dims3()?;
    let empty = || candle_core::Error::Msg(format!("an embedding of {n} vectors of length {dim}"));
    let rows = rows.flatten_from(1)?.to_vec2::<f32>()?;
    rows.into_iter().map(|values| Ok(Embedding::new(values, dim).ok_or_else(empty)?)).collect()
}

/// A picture tower alone, for computing features without a head.
pub fn load_vision(config: &RetConfig, path: &Path, device: &Device) -> Result<VisionBackbone> {
    let weights = Weights::load(path, device)?;
    let tower = VisionBackbone::load(&config.vision, &weights, config.global_injection)?;
    weights.finish(config.vision.known_unused())?;
    Ok(tower)
}
