//! `kb.json`: what a finished knowledge base is made of. Written last; a directory without it is not one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::KbError;
use super::integrity::FileEntry;
use super::recipe::Recipe;
use super::source::Identity;
use super::store::{Engine, StoreConfig};
use crate::io;
use crate::io::pictures::{Layout, PictureFiles};

/// File name in the directory of a build.
pub const MANIFEST: &str = "kb.json";

/// Format that is written, and the newest that is read.
pub const FORMAT: u32 = 2;

/// A finished knowledge base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u32,
    /// Name it was built under.
    pub name: String,
    /// What it was built from, and then what was added to it.
    pub sources: Vec<Identity>,
    /// BLAKE3 of what this build read: its source, or the list of what it removed.
    pub input_hash: String,
    /// [`Manifest::content_hash`] of the build that it was made from by adding or removing articles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Where its pictures are.
    pub pictures: Pictures,
    /// The retriever that made its vectors.
    pub fingerprint: String,
    /// Always `dot`, over unit vectors; of several vectors, MaxSim over it.
    pub distance: String,
    /// What holds it.
    pub engine: Engine,
    /// How.
    pub store: StoreConfig,
    /// What was embedded.
    pub recipe: Recipe,
    /// What is in it.
    pub counts: Counts,
    /// See [`super::store::Content::hash`]: equal for equal contents.
    pub content_hash: String,
    /// Version of the program that built it.
    pub program_version: String,
    /// Seconds since 1970, UTC.
    pub created_unix_s: u64,
    /// Every file of the finished index.
    pub files: Vec<FileEntry>,
}

/// Where the pictures of a knowledge base are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Directory that the names in it are relative to.
    pub root: PathBuf,
    /// How they were found below it, by the names that the source gives them.
    pub layout: Layout,
}

impl Pictures {
    /// Where `files` are.
    #[must_use]
    pub fn of(files: &PictureFiles) -> Self {
        Self { root: files.root().to_owned(), layout: files.layout().clone() }
    }
}

/// What went into a knowledge base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Articles.
    pub articles: u64,
    /// Sections of all articles.
    pub sections: u64,
    /// Points in the store: one an article, and one for each of its parts that has an embedding of its own.
    pub points: u64,
    /// Embeddings: one an article, or one for each part.
    pub embeddings: u64,
    /// Embeddings with a picture side.
    pub pictures: u64,
    /// Pictures that articles name and that are not there.
    pub pictures_missing: u64,
    /// Pictures that are there but cannot be read; what they belong to is embedded by text alone.
    pub pictures_unreadable: u64,
    /// Articles of which no picture is there.
    pub articles_without_picture: u64,
    /// Articles refused: their places and reasons stand in `quarantine.jsonl`.
    pub quarantined: u64,
}

impl Manifest {
    /// Reads the manifest of the build in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// A reason, without the name of the knowledge base.
    pub fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(MANIFEST);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        Self::parse(&bytes, &path.display().to_string()).map(Some)
    }

    /// Reads a manifest, called `name` where something is wrong with it.
    ///
    /// # Errors
    /// A reason.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let bad = |e: serde_json::Error| format!("{name}: {e}; expected a manifest");
        let Format { format } = serde_json::from_slice(bytes).map_err(bad)?;
        if format != FORMAT {
            return Err(format!("{name}: format {format}, this program reads {FORMAT}"));
        }
        serde_json::from_slice(bytes).map_err(bad)
    }

    /// As it is written.
    ///
    /// # Errors
    /// [`io::IoError::Encode`].
    pub fn to_json(&self) -> Result<String, KbError> {
        let encode = |e: serde_json::Error| io::IoError::Encode { path: MANIFEST.into(), reason: e.to_string() };
        Ok(serde_json::to_string_pretty(self).map_err(encode)?)
    }

    /// Writes it into `dir`, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, dir: &Path) -> Result<(), KbError> {
        Ok(io::write_atomic(&dir.join(MANIFEST), self.to_json()?.as_bytes())?)
    }

    /// Sees that it was built with the retriever `current`.
    ///
    /// # Errors
    /// [`KbError::FingerprintMismatch`].
    pub fn check_fingerprint(&self, current: &str) -> Result<(), KbError> {
        if self.fingerprint == current {
            return Ok(());
        }
        Err(KbError::FingerprintMismatch {
            name: self.name.clone(),
            built_with: self.fingerprint.clone(),
            current: current.to_owned(),
            mend: self.mend(),
        })
    }

    /// The command that builds it again.
    #[must_use]
    pub fn mend(&self) -> String {
        let source = self.sources.first().map_or_else(|| "KIND:PATH".to_owned(), |s| s.spec());
        format!("cicerone kb build --name {} --source {source} --fresh", self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(super) mod tests {
    use super::*;
    use crate::kb::source::RecordUnit;

    pub(in crate::kb) fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            name: "ruins".into(),
            sources: vec![Identity {
                name: "evqa".into(),
                path: "kb.jsonl".into(),
                hash: "00".into(),
                bytes: 1,
                unit: RecordUnit::Line,
            }],
            input_hash: "00".into(),
            base: None,
            pictures: Pictures { root: ".".into(), layout: Layout::Auto },
            fingerprint: "f".into(),
            distance: "dot".into(),
            engine: Engine::Edge,
            store: StoreConfig::new(2, 1),
            recipe: Recipe::default(),
            counts: Counts::default(),
            content_hash: "c".into(),
            program_version: "0".into(),
            created_unix_s: 0,
            files: Vec::new(),
        }
    }

    #[test]
    fn a_torn_or_newer_manifest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(Manifest::read(dir).unwrap(), None);
        manifest().write(dir).unwrap();
        assert_eq!(Manifest::read(dir).unwrap(), Some(manifest()));
        fs_err::write(dir.join(MANIFEST), "{\"format\": 3}").unwrap();
        assert!(Manifest::read(dir).unwrap_err().contains("format 3, this program reads 2"));
        fs_err::write(dir.join(MANIFEST), "{\"format\": 2, \"na").unwrap();
        assert!(Manifest::read(dir).unwrap_err().contains("expected a manifest"));
    }
}
