//! The files of a checkpoint: one safetensors file, or the shards that a `model.safetensors.index.json` names. They are
//! memory-mapped, and a tensor is read when it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;

use super::error::{Result, RetrieverError};
use crate::io::safe_join;

/// How the name of an index ends.
const INDEX: &str = ".index.json";
/// What mends a checkpoint that is not whole.
const AGAIN: &str = "fetch it again with `cicerone models pull`";

/// A tensor in a file.
#[derive(Debug, Clone)]
pub struct Entry {
    file: Arc<Mmap>,
    bytes: Range<usize>,
    /// Its type, `None` for one that cannot be computed with.
    pub dtype: Option<DType>,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Entry {
    /// The values, on the CPU.
    ///
    /// # Errors
    /// A type that cannot be computed with.
    pub fn read(&self) -> candle_core::Result<Tensor> {
        let Some(dtype) = self.dtype else { candle_core::bail!("a tensor's type is not known") };
        Tensor::from_raw_buffer(&self.file[self.bytes.clone()], dtype, &self.shape, &Device::Cpu)
    }

    /// Part `at` of `parts` equal ones of its rows. The caller has seen that `parts` divides them.
    #[must_use]
    pub fn rows(&self, at: usize, parts: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows /= parts;
        }
        let size = self.bytes.len() / parts;
        let start = self.bytes.start + at * size;
        Self { file: Arc::clone(&self.file), bytes: start..start + size, dtype: self.dtype, shape }
    }
}

/// The tensors of a checkpoint by name.
///
/// # Errors
/// A file that is missing, unreadable or not whole; names that the index and the shards do not share.
pub fn open(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let Some(index) = Index::read(path)? else { return entries(path) };
    let mut all = BTreeMap::new();
    for shard in index.shards(path)? {
        let found = entries(&shard).map_err(|e| match e {
            RetrieverError::Read { path: shard, reason } => {
                RetrieverError::Read { path: shard, reason: format!("{reason}; {} names it", path.display()) }
            }
            other => other,
        })?;
        all.extend(found);
    }
    let differing = |what: &str, names: Vec<&String>| {
        let names: Vec<_> = names.into_iter().map(String::as_str).collect();
        if names.is_empty() { None } else { Some(format!("{what}: {}", names.join(", "))) }
    };
    let missing = index.weight_map.keys().filter(|name| !all.contains_key(*name)).collect();
    let extra = all.keys().filter(|name| !index.weight_map.contains_key(*name)).collect();
    let details: Vec<_> =
        [differing("not in its shard", missing), differing("not in the index", extra)].into_iter().flatten().collect();
    if details.is_empty() {
        return Ok(all);
    }
    Err(RetrieverError::Weights {
        origin: path.display().to_string(),
        details: format!("{}; {AGAIN}", details.join("; ")),
    })
}

/// Every file of a checkpoint: the one, or the index and its shards in the order of their names.
///
/// # Errors
/// An unreadable index.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![path.to_owned()];
    if let Some(index) = Index::read(path)? {
        files.extend(index.shards(path)?);
    }
    Ok(files)
}

/// The part of `model.safetensors.index.json` that counts.
#[derive(Debug, Deserialize)]
struct Index {
    /// Tensor to shard.
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// `None` for a file that is none by its name.
    fn read(path: &Path) -> Result<Option<Self>> {
        if !path.to_string_lossy().ends_with(INDEX) {
            return Ok(None);
        }
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let bytes = fs_err::read(path).map_err(|e| RetrieverError::unreadable(path, &e))?;
        let index =
            serde_json::from_slice(&bytes).map_err(|e| read(format!("not an index of shards ({e}); {AGAIN}")))?;
        Ok(Some(index))
    }

    fn shards(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        names
            .into_iter()
            .map(|name| {
                safe_join(folder, name)
                    .map_err(|e| RetrieverError::Read { path: path.to_owned(), reason: format!("`weight_map`: {e}") })
            })
            .collect()
    }
}

/// The tensors of one file. Its header is checked against its length before anything is taken from it.
fn entries(path: &Path) -> Result<BTreeMap<String, Entry>> {
    let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
    let broken = |e: &dyn std::fmt::Display| read(format!("not a whole safetensors file ({e}); {AGAIN}"));
    let file = fs_err::File::open(path).map_err(|e| RetrieverError::unreadable(path, &e))?;
    // SAFETY: the map is read as bytes only, so whatever they are is defined. It would be undefined only if another
    // process cut or changed the file meanwhile; weights are put in place whole by a rename and never written again.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(file.file()) }.map_err(|e| RetrieverError::unreadable(path, &e))?;
    let map = Arc::new(map);
    let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| broken(&e))?;
    let start = size_of::<u64>() + header;
    let entries = metadata.tensors().into_iter().map(|(name, info)| {
        let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
        let dtype = DType::try_from(info.dtype).ok();
        (name, Entry { file: Arc::clone(&map), bytes, dtype, shape: info.shape.clone() })
    });
    Ok(entries.collect())
}
