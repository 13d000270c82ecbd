//! Features of pictures and of their random views.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;

use super::cache::{Content, FeatureCache, Precision};
use crate::retriever::backbone::{LayerFeatures, VisionBackbone, Wanted};
use crate::retriever::config::RetConfig;
use crate::retriever::encoder::{COMPUTATION, load_vision};
use crate::retriever::picture::{Picture, PictureLimits};
use crate::retriever::train::TrainError;
use crate::retriever::train::augment::view;
use crate::retriever::weights::Weights;
use crate::retriever::{RetrieverError, RetrieverFiles, shards};

/// Pictures by number: the first ones have random views, the others only themselves.
#[derive(Debug)]
pub struct Album {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// How many of them have views.
    pub viewed: usize,
    /// Views of each of those.
    pub views: usize,
    /// Decides the views.
    pub seed: u64,
}

impl Album {
    /// Pictures and views in all.
    #[must_use]
    pub fn records(&self) -> usize {
        self.viewed * self.views + self.paths.len()
    }

    /// Number of a picture's view; 0 is the picture as it is.
    #[must_use]
    pub fn record(&self, picture: usize, view: usize) -> usize {
        if picture < self.viewed { picture * (self.views + 1) + view } else { self.viewed * self.views + picture }
    }

    /// Pixels of a record: a picture as it is, or a view drawn from the seed and the record's number.
    ///
    /// # Errors
    /// A file that is no usable picture.
    pub fn open(&self, record: usize) -> Result<Picture, TrainError> {
        let with_views = self.viewed * (self.views + 1);
        if record >= with_views {
            return open(&self.paths[record - self.viewed * self.views]);
        }
        let picture = open(&self.paths[record / (self.views + 1)])?;
        if record.is_multiple_of(self.views + 1) {
            return Ok(picture);
        }
        let mut rng = StdRng::seed_from_u64(self.seed ^ (record as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Ok(Picture::from_rgb(view(picture.rgb(), &mut rng)))
    }

    /// Pixels of records, `[B, 3, S, S]`.
    ///
    /// # Errors
    /// As [`Album::open`].
    pub fn pixels(&self, config: &RetConfig, records: &[usize], device: &Device) -> Result<Tensor, TrainError> {
        let pictures = records.par_iter().map(|record| self.open(*record)).collect::<Result<Vec<_>, _>>()?;
        Ok(config.image_processor.batch(&pictures, device)?)
    }

    /// Hash of what decides the pixels before the processor. A file counts by its name and length.
    fn key(&self) -> Result<String, TrainError> {
        let mut files = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            files.push((path.display().to_string(), fs_err::metadata(path)?.len()));
        }
        let facts = serde_json::json!([files, self.viewed, self.views, self.seed]);
        Ok(crate::io::hash::blake3_bytes(facts.to_string().as_bytes()))
    }
}

fn open(path: &Path) -> Result<Picture, TrainError> {
    Ok(Picture::open(path, &PictureLimits::default()).map_err(RetrieverError::from)?)
}

/// Hash of a file of weights, or of its shards.
///
/// # Errors
/// A file that cannot be read.
pub fn weights_hash(path: &Path) -> Result<String, TrainError> {
    let hashes = shards::files(path)?.into_iter().map(|path| crate::io::hash::blake3_file(&path));
    Ok(hashes.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Features of an album's records.
pub enum PictureFeatures {
    /// Of a frozen tower, and where they are wanted.
    Kept(FeatureCache, Device),
    /// Of a tower that learns.
    Live(Box<LivePictures>),
}

/// A picture tower that learns, and what it looks at.
pub struct LivePictures {
    pub(in crate::retriever::train) config: RetConfig,
    pub(in crate::retriever::train) album: Arc<Album>,
    /// The tower's tensors, those that learn among them.
    pub(in crate::retriever::train) tensors: HashMap<String, Tensor>,
}

impl LivePictures {
    /// The tower is put together for every batch: some of its tensors are made of several that change.
    fn batch(&self, records: &[usize]) -> Result<LayerFeatures, TrainError> {
        let device = self.tensors.values().next().map_or(&Device::Cpu, |tensor| tensor.device());
        let weights = Weights::from_tensors("a tower that learns".into(), self.tensors.clone(), device);
        let tower = VisionBackbone::load(&self.config.vision, &weights, self.config.global_injection)?;
        Ok(tower.forward(&self.album.pixels(&self.config, records, device)?, &self.config.vision_wanted())?)
    }
}

impl PictureFeatures {
    /// Opens the cache in `dir`; the tower is loaded only if something is missing there.
    ///
    /// # Errors
    /// As [`FeatureCache::open`], and those of the tower and of the pictures.
    pub fn open(
        dir: &Path,
        config: &RetConfig,
        files: &RetrieverFiles,
        album: &Album,
        device: &Device,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let facts = serde_json::json!({
            "computation": COMPUTATION, "tower": weights_hash(&files.vision_weights)?, "vision": config.vision,
            "processor": config.image_processor, "pictures": album.key()?,
        });
        let content = Content {
            name: "pictures",
            key: crate::io::hash::blake3_bytes(facts.to_string().as_bytes()),
            precision: Precision::Half,
            records: album.records(),
            tokens: None,
        };
        let mut tower: Option<VisionBackbone> = None;
        let mut compute = |records: std::ops::Range<usize>, wanted: &Wanted| {
            let tower = match &mut tower {
                Some(tower) => tower,
                empty => {
                    // The cache may hold pooled vectors that this run does not want.
                    let config = RetConfig { global_injection: wanted.pooled, ..config.clone() };
                    empty.insert(load_vision(&config, &files.vision_weights, device)?)
                }
            };
            let records: Vec<usize> = records.collect();
            Ok(tower.forward(&album.pixels(config, &records, device)?, wanted)?)
        };
        let cache = FeatureCache::open(dir, &content, &config.vision_wanted(), cancel, &mut compute, progress)?;
        Ok(Self::Kept(cache, device.clone()))
    }

    /// The given records as a batch.
    ///
    /// # Errors
    /// The disk's, the tower's.
    pub fn batch(&mut self, records: &[usize]) -> Result<LayerFeatures, TrainError> {
        let (cache, device) = match self {
            Self::Kept(cache, device) => (cache, &*device),
            Self::Live(live) => return live.batch(records),
        };
        let shapes: Vec<(usize, usize)> = cache.shapes().collect();
        let mut layers: Vec<Vec<f32>> = vec![Vec::new(); shapes.len()];
        let mut pooled = Vec::new();
        for record in records {
            let record = cache.read(*record)?;
            for (all, own) in layers.iter_mut().zip(record.layers) {
                all.extend(own);
            }
            pooled.extend(record.pooled);
        }
        let rows = records.len();
        let shaped = layers.into_iter().zip(shapes);
        let layers = shaped.map(|(layer, (n, d))| Tensor::from_vec(layer, (rows, n, d), device));
        let pooled = cache.pooled().map(|width| Tensor::from_vec(pooled, (rows, width), device));
        Ok(LayerFeatures { layers: layers.collect::<candle_core::Result<_>>()?, pooled: pooled.transpose()? })
    }
}
