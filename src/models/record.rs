//! The record of a model on disk: `model.json`, written last. A directory without a fitting one is not a model.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ModelsError;
use super::catalogue::Entry;
use crate::io::hash::sha256_file;
use crate::io::{safe_join, write_atomic};

/// Name of the record in a model's directory.
pub const FILE: &str = "model.json";
/// Version of the record's format.
const SCHEMA: u32 = 1;
/// Counts up when a conversion writes other bytes for the same input, so that old results are made again.
pub(super) const CONVERSION: u32 = 1;

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema_version: u32,
    /// Name of the entry.
    pub name: String,
    /// Every file that belongs to the model.
    pub files: Vec<RecordedFile>,
    /// What the files were converted from, if they were.
    pub converted: Option<Converted>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Name in the model's directory.
    pub name: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
    /// Where it came from.
    pub source: String,
}

/// What the files were converted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// Version of the conversion.
    pub version: u32,
    /// The fetched file, with its hash and source.
    pub from: RecordedFile,
    /// Type of the tensors.
    pub float: super::convert::Float,
}

impl Record {
    pub(super) fn new(name: &str, files: Vec<RecordedFile>, converted: Option<Converted>) -> Self {
        Self { schema_version: SCHEMA, name: name.to_owned(), files, converted }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), ModelsError> {
        let path = dir.join(FILE);
        let mut json = serde_json::to_vec_pretty(self).map_err(|e| ModelsError::convert(&path, e))?;
        json.push(b'\n');
        Ok(write_atomic(&path, &json)?)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// What of the record does not fit the catalogue: another file, hash or conversion than it asks for now.
    fn misfit(&self, entry: &Entry) -> Option<String> {
        if self.schema_version != SCHEMA || self.name != entry.name {
            let found = format!("`{}`, format {}", self.name, self.schema_version);
            return Some(format!("it is the record of {found}; expected `{}`, format {SCHEMA}", entry.name));
        }
        match (&entry.convert, &self.converted) {
            (None, None) => {}
            (Some(asked), Some(done)) if done.version == CONVERSION && done.float == asked.float => {}
            _ => return Some("it was converted in another way than it would be now".into()),
        }
        let recorded: Vec<&RecordedFile> = match &self.converted {
            Some(converted) => vec![&converted.from],
            None => self.files.iter().collect(),
        };
        for asked in &entry.files {
            let Some(found) = recorded.iter().find(|f| f.name == asked.name) else {
                return Some(format!("it does not have {}, which the catalogue lists", asked.name));
            };
            if let Some(expected) = asked.sha256.as_deref().filter(|sha256| **sha256 != found.sha256) {
                return Some(format!("its {} has SHA-256 {}, the catalogue has {expected}", asked.name, found.sha256));
            }
        }
        None
    }
}

/// A model that is on disk: its record fits, and each file is there in its size. [`ModelDir::verify`] reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir {
    /// The directory.
    pub path: PathBuf,
    /// What is in it.
    pub record: Record,
}

impl ModelDir {
    /// Looks at `dir` without reading the files' content. Nothing where there is no record.
    ///
    /// # Errors
    /// [`ModelsError::Damaged`] with what was found and what was expected.
    pub(super) fn open(entry: &Entry, dir: &Path) -> Result<Option<Self>, ModelsError> {
        let path = dir.join(FILE);
        let damaged = |path: &Path, reason: String| ModelsError::Damaged {
            name: entry.name.clone(),
            path: path.to_owned(),
            reason,
        };
        let json = match fs_err::read(&path) {
            Ok(json) => json,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let record: Record = serde_json::from_slice(&json).map_err(|e| damaged(&path, e.to_string()))?;
        if let Some(reason) = record.misfit(entry) {
            return Err(damaged(&path, reason));
        }
        for file in &record.files {
            let path = safe_join(dir, &file.name)?;
            match fs_err::metadata(&path) {
                Ok(found) if found.is_file() && found.len() == file.bytes => {}
                Ok(found) => return Err(damaged(&path, format!("{} bytes, expected {}", found.len(), file.bytes))),
                Err(_) => return Err(damaged(&path, format!("it is missing, expected {} bytes", file.bytes))),
            }
        }
        Ok(Some(Self { path: dir.to_owned(), record }))
    }

    /// Path of one of its files; [`ModelsError::Damaged`] if the model has none of this name.
    ///
    /// # Errors
    /// See above.
    pub fn file(&self, name: &str) -> Result<PathBuf, ModelsError> {
        if self.record.files.iter().any(|f| f.name == name) {
            return Ok(self.path.join(name));
        }
        let has: Vec<&str> = self.record.files.iter().map(|f| f.name.as_str()).collect();
        Err(ModelsError::Damaged {
            name: self.record.name.clone(),
            path: self.path.join(name),
            reason: format!("not one of the model's files ({})", has.join(", ")),
        })
    }

    /// Identity of all its files (hex, 64 digits): the same bytes give the same, wherever they came from.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut lines: Vec<String> = self.record.files.iter().map(|f| format!("{} {}\n", f.name, f.sha256)).collect();
        lines.sort();
        crate::io::hash::blake3_bytes(lines.concat().as_bytes())
    }

    /// Reads every file and compares its hash with the record.
    ///
    /// # Errors
    /// [`ModelsError::Damaged`] for the first file that is another.
    pub fn verify(&self) -> Result<(), ModelsError> {
        for file in &self.record.files {
            let path = safe_join(&self.path, &file.name)?;
            let found = sha256_file(&path)?;
            if found != file.sha256 {
                return Err(ModelsError::Damaged {
                    name: self.record.name.clone(),
                    path,
                    reason: format!("SHA-256 {found}, expected {}", file.sha256),
                });
            }
        }
        Ok(())
    }
}
