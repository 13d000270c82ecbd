//! Features of every view of every training picture, computed once: a file of f16 records of one size.
//!
//! A record is the sampled layers and, where it is wanted, the pooled vector, one after another. The header names everything that decides
//! the features; a file of another run is computed anew, an unfinished one goes on where it stopped.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use fs_err as fs;
use half::f16;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::augment::view;
use super::data::TrainPicture;
use super::{TrainError, TrainOptions};
use crate::io::atomic::write_atomic;
use crate::retriever::backbone::{LayerFeatures, VisionBackbone};
use crate::retriever::config::RetConfig;
use crate::retriever::picture::{Picture, PictureLimits};

/// Views computed between two flushes.
const CHUNK: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    key: String,
    shapes: Vec<(usize, usize)>,
    /// Width of the pooled vector; 0 where it is not wanted.
    pooled: usize,
    records: usize,
}

/// Features on disk, read by record number.
pub struct FeatureCache {
    file: fs::File,
    header: Header,
}

impl FeatureCache {
    /// Opens a finished cache or computes what is missing. Record `p * (views + 1)` is picture `p` as it is, the
    /// following ones are its views.
    pub fn open(
        options: &TrainOptions,
        config: &RetConfig,
        tower: &VisionBackbone,
        tower_hash: &str,
        pictures: &[TrainPicture],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let path = options.out.join("features.f16");
        let header_path = options.out.join("features.json");
        let records = pictures.len() * (options.views + 1);
        let names: Vec<_> = pictures.iter().map(|p| p.path.display().to_string()).collect();
        let described = serde_json::json!({
            "tower": tower_hash, "vision": config.vision, "layers": config.vision_layers,
            "processor": config.image_processor, "pictures": names, "views": options.views, "seed": options.seed,
        });
        let key = crate::io::hash::blake3_bytes(described.to_string().as_bytes());
        let probe = tower_features(config, tower, &[view_of(pictures, 0, options)?])?;
        let shapes =
            probe.layers.iter().map(|l| Ok((l.dim(1)?, l.dim(2)?))).collect::<candle_core::Result<Vec<_>>>()?;
        let pooled = probe.pooled.as_ref().map_or(Ok(0), |pooled| pooled.dim(1))?;
        let header = Header { key, shapes, pooled, records };
        let known = fs::read(&header_path).ok().and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok());
        if known.as_ref() != Some(&header) {
            let _ = fs::remove_file(&path);
            let json = serde_json::to_vec_pretty(&header).map_err(std::io::Error::from)?;
            write_atomic(&header_path, &json)?;
        }
        let mut file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        let size = header.record_bytes() as u64;
        // A record cut short by an interruption is computed again.
        let mut done = (file.metadata()?.len() / size) as usize;
        file.set_len(done as u64 * size)?;
        file.seek(SeekFrom::End(0))?;
        while done < records {
            if cancel.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted { step: 0 });
            }
            let until = (done + CHUNK).min(records);
            let views = (done..until)
                .into_par_iter()
                .map(|record| view_of(pictures, record, options))
                .collect::<Result<Vec<_>, _>>()?;
            let features = tower_features(config, tower, &views)?;
            let rows: Vec<Vec<f32>> = features
                .layers
                .iter()
                .map(|l| l.flatten_from(1))
                .chain(features.pooled.iter().map(|pooled| Ok(pooled.clone())))
                .map(|part| part.and_then(|part| part.to_vec2::<f32>()))
                .collect::<candle_core::Result<Vec<_>>>()?
                .into_iter()
                .reduce(|mut left, right| {
                    left.iter_mut().zip(right).for_each(|(left, right)| left.extend(right));
                    left
                })
                .unwrap_or_default();
            for row in rows {
                let bytes: Vec<u8> = row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
                file.write_all(&bytes)?;
            }
            done = until;
            progress(done, records);
        }
        file.sync_all()?;
        Ok(Self { file, header })
    }

    /// The given records as a batch of features.
    pub fn read(&mut self, records: &[usize]) -> Result<LayerFeatures, TrainError> {
        let size = self.header.record_bytes();
        let mut parts: Vec<Vec<f32>> = vec![Vec::new(); self.header.shapes.len() + 1];
        let mut bytes = vec![0u8; size];
        for record in records {
            self.file.seek(SeekFrom::Start((record * size) as u64))?;
            self.file.read_exact(&mut bytes)?;
            let mut values = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
            for (part, length) in parts.iter_mut().zip(self.header.lengths()) {
                part.extend(values.by_ref().take(length));
            }
        }
        let pooled = parts.pop().unwrap_or_default();
        let pooled = match self.header.pooled {
            0 => None,
            width => Some(Tensor::from_vec(pooled, (records.len(), width), &Device::Cpu)?),
        };
        let shaped = parts.into_iter().zip(&self.header.shapes);
        let layers = shaped
            .map(|(part, (n, d))| Tensor::from_vec(part, (records.len(), *n, *d), &Device::Cpu))
            .collect::<candle_core::Result<_>>()?;
        Ok(LayerFeatures { layers, pooled })
    }
}

impl Header {
    fn lengths(&self) -> impl Iterator<Item = usize> {
        self.shapes.iter().map(|(n, d)| n * d).chain([self.pooled])
    }

    fn record_bytes(&self) -> usize {
        self.lengths().sum::<usize>() * 2
    }
}

/// Record number to pixels: the picture as it is, or a view drawn from the seed and the record's number.
fn view_of(pictures: &[TrainPicture], record: usize, options: &TrainOptions) -> Result<Picture, TrainError> {
    let (picture, nth) = (record / (options.views + 1), record % (options.views + 1));
    let picture = open(&pictures[picture].path)?;
    if nth == 0 {
        return Ok(picture);
    }
    let mut rng = StdRng::seed_from_u64(options.seed ^ (record as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Ok(Picture::from_rgb(view(picture.rgb(), &mut rng)))
}

fn open(path: &Path) -> Result<Picture, TrainError> {
    Ok(Picture::open(path, &PictureLimits::default()).map_err(crate::retriever::RetrieverError::from)?)
}

/// Features of pictures by the tower alone.
pub fn tower_features(
    config: &RetConfig,
    tower: &VisionBackbone,
    pictures: &[Picture],
) -> Result<LayerFeatures, TrainError> {
    let pixels = config.image_processor.batch(pictures, &Device::Cpu)?;
    Ok(tower.forward(&pixels, &config.vision_wanted())?)
}
