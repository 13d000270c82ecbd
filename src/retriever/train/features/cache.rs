//! Features on disk: a file of records, computed once and read by number.
//!
//! A record is an item's sampled layers and, where it is wanted, its pooled vector, one after another. Runs that sample
//! other layers of the same tower over the same items share one cache: it holds a set of layers, a run reads those that
//! it samples, and one that wants a layer more has all of them computed anew. What an interruption leaves is gone on with.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::io::atomic::write_atomic;
use crate::io::hash::blake3_bytes;
use crate::io::lock::DirLock;
use crate::retriever::backbone::{LayerFeatures, Wanted};
use crate::retriever::train::TrainError;

/// Records computed between two writes.
const CHUNK: usize = 64;

/// How a number is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Two bytes.
    Half,
    /// Four bytes: what is read is what was computed, to the bit.
    Single,
}

impl Precision {
    fn bytes(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
        }
    }

    fn write(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::Half => out.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
            Self::Single => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        }
    }

    fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Half => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::Single => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        }
    }
}

/// Items whose features are kept together.
#[derive(Debug)]
pub struct Content {
    /// What they are, the start of the files' names.
    pub name: &'static str,
    /// Hash of everything that decides their features, but for the layers.
    pub key: String,
    /// How their numbers are kept.
    pub precision: Precision,
    /// How many there are.
    pub records: usize,
    /// Tokens of each, where they differ; else every record has the same shape.
    pub tokens: Option<Vec<usize>>,
}

impl Content {
    /// Tokens of the records before each, and of all: `records + 1` numbers.
    fn starts(&self) -> Vec<u64> {
        let tokens = |record: usize| self.tokens.as_ref().map_or(1, |tokens| tokens[record] as u64);
        let mut starts = vec![0; self.records + 1];
        for record in 0..self.records {
            starts[record + 1] = starts[record] + tokens(record);
        }
        starts
    }
}

/// What a cache holds; written beside it, first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    key: String,
    precision: Precision,
    /// Blocks of the tower, increasing.
    layers: Vec<usize>,
    /// `[N, D]` of each layer; N is 1 where it is counted in tokens.
    shapes: Vec<(usize, usize)>,
    /// Width of the pooled vector; 0 where it is not held.
    pooled: usize,
}

impl Header {
    fn holds(&self, wanted: &Wanted) -> bool {
        wanted.layers.iter().all(|layer| self.layers.contains(layer)) && (!wanted.pooled || self.pooled > 0)
    }

    /// Bytes of a token of all layers, and bytes of the pooled vector.
    fn bytes(&self) -> (u64, u64) {
        let token: usize = self.shapes.iter().map(|(n, d)| n * d).sum();
        let bytes = self.precision.bytes();
        ((token * bytes) as u64, (self.pooled * bytes) as u64)
    }

    /// Where a record begins, or where the last one ends.
    fn offset(&self, starts: &[u64], record: usize) -> u64 {
        let (token, pooled) = self.bytes();
        starts[record] * token + record as u64 * pooled
    }

    /// Files of a set of layers: numbers and header.
    fn paths(dir: &Path, content: &Content, layers: &[usize], pooled: bool) -> (PathBuf, PathBuf) {
        let set = blake3_bytes(format!("{} {layers:?} {pooled}", content.key).as_bytes());
        let stem = format!("{}-{}", content.name, &set[..16]);
        (dir.join(format!("{stem}.bin")), dir.join(format!("{stem}.json")))
    }
}

/// Computes the features of some records.
pub type Compute<'a> = dyn FnMut(Range<usize>, &Wanted) -> Result<LayerFeatures, TrainError> + 'a;

/// An open cache, seen through what one run samples.
pub struct FeatureCache {
    file: fs::File,
    header: Header,
    starts: Vec<u64>,
    /// Places of the wanted layers among the held ones.
    chosen: Vec<usize>,
    pooled: bool,
}

/// One item's features.
pub struct Record {
    /// Each wanted layer, flat.
    pub layers: Vec<Vec<f32>>,
    /// Empty where it is not wanted.
    pub pooled: Vec<f32>,
    /// As its content says; 1 where all records have the same shape.
    pub tokens: usize,
}

impl FeatureCache {
    /// Opens what `dir` holds of `content`, or computes what is missing of it. `progress` is told of records only while
    /// they are computed.
    ///
    /// # Errors
    /// Those of `compute` and of the disk; [`TrainError::Interrupted`]; another process that computes in `dir`.
    pub fn open(
        dir: &Path,
        content: &Content,
        wanted: &Wanted,
        cancel: &AtomicBool,
        compute: &mut Compute,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        fs::create_dir_all(dir)?;
        let _lock = DirLock::acquire(dir).map_err(std::io::Error::other)?;
        let starts = content.starts();
        let held = held(dir, content)?;
        let whole = |header: &Header, path: &Path| -> bool {
            fs::metadata(path).is_ok_and(|meta| meta.len() == header.offset(&starts, content.records))
        };
        let found = held.iter().find(|(path, header)| header.holds(wanted) && whole(header, path));
        let (path, header) = match found {
            Some(found) => found.clone(),
            None => {
                let mut layers: Vec<usize> = held.iter().flat_map(|(_, header)| header.layers.clone()).collect();
                layers.extend(wanted.layers);
                layers.sort_unstable();
                layers.dedup();
                let pooled = wanted.pooled || held.iter().any(|(_, header)| header.pooled > 0);
                let wanted = Wanted { layers: &layers, pooled };
                let made = fill(dir, content, &starts, &wanted, cancel, compute, progress)?;
                for (path, _) in held.iter().filter(|(path, _)| *path != made.0) {
                    // An unfinished one may have no numbers yet.
                    let _ = fs::remove_file(path);
                    fs::remove_file(path.with_extension("json"))?;
                }
                made
            }
        };
        let chosen = wanted.layers.iter().filter_map(|layer| header.layers.iter().position(|l| l == layer)).collect();
        Ok(Self { file: fs::File::open(path)?, header, starts, chosen, pooled: wanted.pooled })
    }

    /// `[N, D]` of each wanted layer; N is 1 where it is counted in tokens.
    pub fn shapes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.chosen.iter().map(|at| self.header.shapes[*at])
    }

    /// Width of the pooled vector, where it is wanted.
    #[must_use]
    pub fn pooled(&self) -> Option<usize> {
        self.pooled.then_some(self.header.pooled)
    }

    /// One record.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&mut self, record: usize) -> Result<Record, TrainError> {
        let tokens = (self.starts[record + 1] - self.starts[record]) as usize;
        let start = self.header.offset(&self.starts, record);
        let lengths: Vec<usize> = self.header.shapes.iter().map(|(n, d)| n * d * tokens).collect();
        let before = |at: usize| lengths[..at].iter().sum::<usize>();
        let mut layers = Vec::with_capacity(self.chosen.len());
        for at in self.chosen.clone() {
            layers.push(self.numbers(start, before(at), lengths[at])?);
        }
        let pooled = if self.pooled { self.header.pooled } else { 0 };
        Ok(Record { layers, pooled: self.numbers(start, before(lengths.len()), pooled)?, tokens })
    }

    /// `count` numbers of the record at `start`, after `skip` others.
    fn numbers(&mut self, start: u64, skip: usize, count: usize) -> Result<Vec<f32>, TrainError> {
        let size = self.header.precision.bytes();
        let mut bytes = vec![0u8; count * size];
        self.file.seek(SeekFrom::Start(start + (skip * size) as u64))?;
        self.file.read_exact(&mut bytes)?;
        Ok(self.header.precision.read(&bytes))
    }
}

/// The caches of `content` in `dir`, finished or not. A header that cannot be read is none.
fn held(dir: &Path, content: &Content) -> Result<Vec<(PathBuf, Header)>, TrainError> {
    let mut held = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Ok(header) = serde_json::from_slice::<Header>(&fs::read(&path)?) else { continue };
        if header.key == content.key && header.precision == content.precision {
            held.push((path.with_extension("bin"), header));
        }
    }
    Ok(held)
}

/// Computes what is missing of one set of layers.
fn fill(
    dir: &Path,
    content: &Content,
    starts: &[u64],
    wanted: &Wanted,
    cancel: &AtomicBool,
    compute: &mut Compute,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(PathBuf, Header), TrainError> {
    let (path, header_path) = Header::paths(dir, content, wanted.layers, wanted.pooled);
    let known = fs::read(&header_path).ok().and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok());
    if known.is_none() {
        let _ = fs::remove_file(&path);
    }
    let header = match known {
        Some(header) => header,
        None => {
            // The shapes of a layer are known once one has been computed.
            let first = compute(0..content.records.min(1), wanted)?;
            let shape = |layer: &candle_core::Tensor| -> candle_core::Result<(usize, usize)> {
                let (_, n, d) = layer.dims3()?;
                Ok((if content.tokens.is_some() { 1 } else { n }, d))
            };
            let header = Header {
                key: content.key.clone(),
                precision: content.precision,
                layers: wanted.layers.to_vec(),
                shapes: first.layers.iter().map(shape).collect::<candle_core::Result<_>>()?,
                pooled: first.pooled.as_ref().map_or(Ok(0), |pooled| pooled.dim(1))?,
            };
            write_atomic(&header_path, &serde_json::to_vec_pretty(&header).map_err(std::io::Error::from)?)?;
            header
        }
    };
    let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    let len = file.metadata()?.len();
    // A record cut short by an interruption is computed again.
    let mut done = (0..=content.records).rev().find(|record| header.offset(starts, *record) <= len).unwrap_or(0);
    file.set_len(header.offset(starts, done))?;
    file.seek(SeekFrom::End(0))?;
    while done < content.records {
        if cancel.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted { step: 0 });
        }
        let until = (done + CHUNK).min(content.records);
        let features = compute(done..until, wanted)?;
        let layers = features.layers.iter().map(|layer| layer.flatten_from(1)?.to_vec2::<f32>());
        let layers = layers.collect::<candle_core::Result<Vec<_>>>()?;
        let pooled = features.pooled.as_ref().map(|pooled| pooled.to_vec2::<f32>()).transpose()?;
        let mut bytes = Vec::new();
        for (row, record) in (done..until).enumerate() {
            let tokens = (starts[record + 1] - starts[record]) as usize;
            for (layer, (n, d)) in layers.iter().zip(&header.shapes) {
                header.precision.write(&layer[row][..tokens * n * d], &mut bytes);
            }
            if let Some(pooled) = &pooled {
                header.precision.write(&pooled[row], &mut bytes);
            }
        }
        file.write_all(&bytes)?;
        done = until;
        progress(done, content.records);
    }
    file.sync_all()?;
    Ok((path, header))
}
