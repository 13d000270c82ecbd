//! `checkpoint.json`: how far a build has got, written after what it claims is durable.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::io;
use crate::kb::manifest::{FORMAT, Pictures};
use crate::kb::source::Identity;
use crate::kb::store::{Engine, StoreConfig};
use crate::kb::{Counts, KbError, Manifest, Position, Recipe};

/// File name in the directory of a build.
pub const CHECKPOINT: &str = "checkpoint.json";

/// How far a build has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What is being built.
    pub key: Key,
    /// [`Manifest::sources`] of the build that this one is made from.
    pub sources: Vec<Identity>,
    /// When that was made: seconds since 1970, UTC.
    pub base_unix_s: u64,
    /// Everything up to here is in the store, durably.
    pub position: Position,
    /// What that is.
    pub counts: Counts,
    /// Length of the quarantine file at that point.
    pub quarantine_bytes: u64,
    /// Whether the source has been read to its end.
    pub complete: bool,
}

/// What decides the content of a knowledge base. A build is resumed, and a finished one taken as it is, only under an
/// equal key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Format of what is written.
    pub format: u32,
    /// [`Manifest::base`].
    pub base: Option<String>,
    /// [`Manifest::input_hash`].
    pub input_hash: String,
    /// The retriever.
    pub fingerprint: String,
    /// What is embedded.
    pub recipe: Recipe,
    /// What holds it.
    pub engine: Engine,
    /// How.
    pub store: StoreConfig,
    /// Where its pictures are.
    pub pictures: Pictures,
}

impl Key {
    /// The key that `manifest` was built under.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            format: manifest.format,
            base: manifest.base.clone(),
            input_hash: manifest.input_hash.clone(),
            fingerprint: manifest.fingerprint.clone(),
            recipe: manifest.recipe.clone(),
            engine: manifest.engine,
            store: manifest.store.clone(),
            pictures: manifest.pictures.clone(),
        }
    }

    /// What differs from `old`, in words; empty for an equal key.
    pub(super) fn differences(&self, old: &Self) -> String {
        // How large graphs are decides nothing that is found: what was begun goes on as it was.
        let store = &StoreConfig { graph: old.store.graph, ..self.store.clone() };
        let old_store = &old.store;
        let shape = (store.dim, store.vectors) != (old_store.dim, old_store.vectors);
        let parts = [
            (self.format != old.format, "the format"),
            (self.base != old.base, "what it is made from"),
            (self.input_hash != old.input_hash, "the source"),
            (self.fingerprint != old.fingerprint || shape, "the retriever"),
            (self.recipe != old.recipe || (store != old_store && !shape), "the options"),
            (self.engine != old.engine, "the engine"),
            (self.pictures != old.pictures, "the directory of pictures"),
        ];
        let changed: Vec<&str> = parts.iter().filter(|(differs, _)| *differs).map(|(_, name)| *name).collect();
        changed.join(" and ")
    }
}

impl Checkpoint {
    /// The beginning of a build, over nothing or over `base`.
    pub(super) fn new(key: Key, base: Option<&Manifest>) -> Self {
        let counts = base.map(|base| base.counts).unwrap_or_default();
        Self {
            key,
            sources: base.map(|base| base.sources.clone()).unwrap_or_default(),
            base_unix_s: base.map_or(0, |base| base.created_unix_s),
            position: Position::default(),
            counts: Counts { quarantined: 0, ..counts },
            quarantine_bytes: 0,
            complete: false,
        }
    }

    /// The checkpoint in `dir`; `None` where there is none that can be read.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let checkpoint: Self = serde_json::from_slice(&fs_err::read(dir.join(CHECKPOINT)).ok()?).ok()?;
        (checkpoint.key.format == FORMAT).then_some(checkpoint)
    }

    /// Writes it into `dir`, whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), KbError> {
        let path = dir.join(CHECKPOINT);
        let bytes =
            serde_json::to_vec(self).map_err(|e| io::IoError::Encode { path: path.clone(), reason: e.to_string() })?;
        Ok(io::write_atomic(&path, &bytes)?)
    }
}
