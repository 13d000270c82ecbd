//! Model files: where they come from, whole and verified on disk, or not there.
//!
//! [`Models`] is one directory, `<data dir>/models`, with one directory per model of the [`catalogue`]. A model is there
//! when its `model.json` ([`record`]) is there, fits the catalogue, and every file has its size; [`Models::pull`] writes
//! that record last, atomically, so that a killed pull leaves no model but keeps every file that was whole.
//! [`convert`] makes safetensors of other formats without running code, and [`names`] reads the tensors of a foreign
//! checkpoint under our names.

pub mod catalogue;
pub mod convert;
mod error;
mod fetch;
pub mod names;
mod pull;
pub mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use catalogue::{Catalogue, Entry, Kind};
pub use error::ModelsError;
pub use names::NameMap;
pub use pull::{Progress, PullOptions, Step};
pub use record::ModelDir;

/// The models of one machine.
#[derive(Debug, Clone)]
pub struct Models {
    dir: PathBuf,
    catalogue: Catalogue,
}

/// One line of [`Models::list`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// Name of the entry.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What it is for.
    pub kind: Kind,
    /// SPDX identifier, or that it is not known and where it stands.
    pub licence: String,
    /// Bytes on disk where it is there, about what they would be where it is not.
    pub bytes: u64,
    /// Whether it is there.
    pub state: State,
    /// What is wrong with it, if it is damaged.
    pub reason: Option<String>,
    /// Its files of which no hash is known: they cannot be compared with what was published.
    pub unverified: Vec<String>,
}

/// Whether a model is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Whole, as far as sizes tell.
    Present,
    /// Nothing of it.
    Absent,
    /// An interrupted pull left some of it.
    Partial,
    /// Not what its record says.
    Damaged,
}

impl Models {
    /// The models in `dir` (made by the first pull), by the built-in catalogue and the files `*.toml` of `user`.
    ///
    /// # Errors
    /// [`ModelsError::Catalogue`] names the file and the key.
    pub fn open(dir: &Path, user: Option<&Path>) -> Result<Self, ModelsError> {
        let catalogue = match user {
            Some(user) => Catalogue::with_user_dir(user)?,
            None => Catalogue::built_in()?,
        };
        Ok(Self { dir: dir.to_owned(), catalogue })
    }

    /// What there could be.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The directory of all models.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The model of this name, if it is there whole (by record and sizes; nothing is hashed).
    ///
    /// # Errors
    /// [`ModelsError::Unknown`], [`ModelsError::Absent`] with the command that fetches it, [`ModelsError::Damaged`].
    pub fn find(&self, name: &str) -> Result<ModelDir, ModelsError> {
        let entry = self.catalogue.entry(name)?;
        let dir = self.dir.join(&entry.name);
        ModelDir::open(entry, &dir)?.ok_or_else(|| ModelsError::Absent {
            name: entry.name.clone(),
            dir,
            pull: entry.groups.first().unwrap_or(&entry.name).clone(),
        })
    }

    /// Every entry of the catalogue and whether it is there.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let listed = |entry: &Entry| {
            let (state, bytes, reason) = match self.find(&entry.name) {
                Ok(model) => (State::Present, model.record.bytes(), None),
                Err(ModelsError::Absent { .. }) => {
                    let some = self.dir.join(&entry.name).exists() || pull::staging(&self.dir, entry).exists();
                    (if some { State::Partial } else { State::Absent }, entry.bytes, None)
                }
                Err(e) => (State::Damaged, entry.bytes, Some(e.to_string())),
            };
            Listed {
                name: entry.name.clone(),
                title: entry.title.clone(),
                kind: entry.kind,
                licence: entry.licence.clone(),
                bytes,
                state,
                reason,
                unverified: entry.unverified().into_iter().map(str::to_owned).collect(),
            }
        };
        self.catalogue.entries().iter().map(listed).collect()
    }

    /// Reads every file of a model and compares its hash with the record: that of the catalogue where it has one, else
    /// that of what was fetched ([`Entry::unverified`]).
    ///
    /// # Errors
    /// As [`Models::find`], and [`ModelsError::Damaged`] for the first file that is another.
    pub fn verify(&self, name: &str) -> Result<ModelDir, ModelsError> {
        let model = self.find(name)?;
        model.verify()?;
        Ok(model)
    }

    /// Fetches what is missing of these models and groups, checks and converts it. What is there stays.
    ///
    /// Blocks until all are there; one process at a time. Interrupted in whatever way, the next call goes on.
    ///
    /// # Errors
    /// [`ModelsError::Unreachable`] where trying again may help, [`ModelsError::Mismatch`] where a source has other
    /// bytes, [`ModelsError::Interrupted`] after [`PullOptions::cancel`], and the others by their names.
    pub fn pull<S: AsRef<str>>(
        &self,
        names: &[S],
        options: &PullOptions,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Vec<ModelDir>, ModelsError> {
        pull::pull(self, names, options, progress)
    }
}
