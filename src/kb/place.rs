//! Where a knowledge base is: which of its builds is in use, and what is done to each.
//!
//! ```text
//! <root>/<name>/current            one line: the number of the build in use; replaced atomically
//! <root>/<name>/.lock              held by the process that builds
//! <root>/<name>/archive.{json,tar} what comes from a server, until it is unpacked
//! <root>/<name>/builds/000001/     one build
//!     kb.json                      its manifest, written last
//!     checkpoint.json              how far it got, until there is a manifest
//!     checked.json                 which of its large files were seen to be right, and when
//!     quarantine.jsonl             articles that were refused or lost their picture, with reasons
//!     index/                       the engine's files
//!     .lock                        held by the process that has it open
//! ```
//!
//! Of one on a server the directory holds what a build needs to go on; its points, its manifest and the pointer to the
//! build in use are on the server (see [`super::remote`]).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::build::{Checkpoint, INDEX};
use super::manifest::MANIFEST;
use super::remote::Remote;
use super::store::{Engine, Store, StoreConfig, StoreError};
use super::{KbError, Manifest};
use crate::io::{self, DirLock};

/// Pointer file.
const CURRENT: &str = "current";

/// Where knowledge bases are: in a directory, or on a server with a directory for what is being built.
#[derive(Debug, Clone)]
pub struct Home {
    /// The directory.
    pub root: PathBuf,
    /// The server, if they are on one.
    pub remote: Option<Remote>,
}

impl Home {
    /// The directory, or the server's URL.
    #[must_use]
    pub fn place(&self) -> String {
        self.remote.as_ref().map_or_else(|| self.root.display().to_string(), Remote::url)
    }
}

impl From<&Path> for Home {
    fn from(root: &Path) -> Self {
        Self { root: root.to_owned(), remote: None }
    }
}

impl From<&PathBuf> for Home {
    fn from(root: &PathBuf) -> Self {
        root.as_path().into()
    }
}

impl From<PathBuf> for Home {
    fn from(root: PathBuf) -> Self {
        Self { root, remote: None }
    }
}

impl From<&Home> for Home {
    fn from(home: &Home) -> Self {
        home.clone()
    }
}

/// The place of one knowledge base.
#[derive(Debug, Clone)]
pub struct Place {
    home: Home,
    name: String,
}

impl Place {
    /// The place of `name` in `home`; nothing need be there.
    ///
    /// # Errors
    /// [`KbError::Name`].
    pub fn new(home: impl Into<Home>, name: &str) -> Result<Self, KbError> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if first && name.len() <= 64 && name.chars().all(good) {
            Ok(Self { home: home.into(), name: name.to_owned() })
        } else {
            Err(KbError::Name { name: name.to_owned() })
        }
    }

    /// All places of `home` where something is, in the order of their names.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn all(home: &Home) -> Result<Vec<Self>, KbError> {
        let mut names = match &home.remote {
            Some(remote) => remote.names()?,
            None => Vec::new(),
        };
        names.extend(names_in(&home.root)?);
        names.sort();
        names.dedup();
        let mut places = Vec::new();
        for place in names.iter().filter_map(|name| Self::new(home, name).ok()) {
            let here = home.remote.is_none() && place.dir().join(CURRENT).exists();
            if here || !place.numbers()?.is_empty() {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.home.root.join(&self.name)
    }

    /// Directory of its builds.
    #[must_use]
    pub fn builds(&self) -> PathBuf {
        self.dir().join("builds")
    }

    /// Directory of one build.
    #[must_use]
    pub fn build(&self, number: u32) -> PathBuf {
        self.builds().join(format!("{number:06}"))
    }

    /// What holds its builds: `local` of those in a directory.
    #[must_use]
    pub fn engine(&self, local: Engine) -> Engine {
        if self.home.remote.is_some() { Engine::Server } else { local }
    }

    /// Finished builds to keep where `wanted` are: on a server one more than that in use, since nobody knows who still
    /// reads it.
    #[must_use]
    pub fn kept(&self, wanted: usize) -> usize {
        if self.home.remote.is_some() { wanted.max(2) } else { wanted }
    }

    /// Number of the build in use, if any.
    ///
    /// # Errors
    /// [`KbError::Damaged`] for a pointer that is no number, or the system's.
    pub fn current(&self) -> Result<Option<u32>, KbError> {
        if let Some(remote) = &self.home.remote {
            return Ok(remote.current(&self.name)?);
        }
        let path = self.dir().join(CURRENT);
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        text.trim().parse().map(Some).map_err(|_| {
            let text: String = text.chars().take(40).collect();
            self.damaged(&self.dir(), format!("{CURRENT} holds {text:?}, expected the number of a build"), None)
        })
    }

    /// Number of the build in use.
    ///
    /// # Errors
    /// [`KbError::NotFound`] where there is none; as [`Place::current`].
    pub fn in_use(&self) -> Result<u32, KbError> {
        self.current()?.ok_or_else(|| self.not_found())
    }

    /// Puts `number` in use.
    ///
    /// # Errors
    /// The system's; the old pointer then stands.
    pub fn set_current(&self, number: u32) -> Result<(), KbError> {
        match &self.home.remote {
            Some(remote) => Ok(remote.set_current(&self.name, number)?),
            None => Ok(io::write_atomic(&self.dir().join(CURRENT), format!("{number:06}\n").as_bytes())?),
        }
    }

    /// Numbers of all builds, finished or not, the oldest first.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn numbers(&self) -> Result<Vec<u32>, KbError> {
        let mut numbers = match &self.home.remote {
            Some(remote) => remote.numbers(&self.name)?,
            None => Vec::new(),
        };
        numbers.extend(self.numbers_here()?.into_iter().filter(|number| !self.is_of_another_home(*number)));
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// A number that no build has.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn next_number(&self) -> Result<u32, KbError> {
        let taken = self.numbers()?.into_iter().chain(self.numbers_here()?);
        Ok(taken.max().map_or(1, |last| last + 1))
    }

    fn numbers_here(&self) -> std::io::Result<Vec<u32>> {
        Ok(names_in(&self.builds())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Whether the directory of a build is that of a build on a server, where this place is in a directory, or the other
    /// way round: one directory serves both.
    fn is_of_another_home(&self, number: u32) -> bool {
        let dir = self.build(number);
        let engine = match Manifest::read(&dir) {
            Ok(Some(manifest)) => Some(manifest.engine),
            _ => Checkpoint::read(&dir).map(|checkpoint| checkpoint.key.engine),
        };
        engine.is_some_and(|engine| (engine == Engine::Server) != self.home.remote.is_some())
    }

    /// Manifest of a build; `None` for one that has not finished.
    ///
    /// # Errors
    /// [`KbError::Damaged`] for a manifest that cannot be read, or the server's.
    pub fn manifest(&self, number: u32) -> Result<Option<Manifest>, KbError> {
        self.read(number)?.map_err(|reason| self.damaged(&self.build(number), reason, None))
    }

    /// The inner error is why what is there is no manifest.
    fn read(&self, number: u32) -> Result<Result<Option<Manifest>, String>, StoreError> {
        let Some(remote) = &self.home.remote else { return Ok(Manifest::read(&self.build(number))) };
        let text = remote.manifest(&self.name, number)?;
        let called = || format!("the manifest of build {number}");
        Ok(text.map(|text| Manifest::parse(text.as_bytes(), &called())).transpose())
    }

    /// Manifest of a build that ought to be finished.
    ///
    /// # Errors
    /// [`KbError::Damaged`] where there is none, too; as [`Place::manifest`].
    pub fn finished(&self, number: u32) -> Result<Manifest, KbError> {
        let none = || self.damaged(&self.build(number), "there is no manifest".to_owned(), None);
        self.manifest(number)?.ok_or_else(none)
    }

    /// Whether a build of this machine has not finished.
    #[must_use]
    pub fn is_unfinished(&self, number: u32) -> bool {
        let dir = self.build(number);
        dir.is_dir() && !dir.join(MANIFEST).exists()
    }

    /// Makes a build a finished one.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn finish(&self, number: u32, manifest: &Manifest) -> Result<(), KbError> {
        if let Some(remote) = &self.home.remote {
            remote.put_manifest(&self.name, number, &manifest.to_json()?)?;
        }
        manifest.write(&self.build(number))
    }

    /// Makes the empty store of a build, or a copy of that of the build `base`.
    ///
    /// # Errors
    /// The system's, or the engine's.
    pub fn create_store(
        &self,
        number: u32,
        engine: Engine,
        config: &StoreConfig,
        base: Option<u32>,
    ) -> Result<Box<dyn Store>, KbError> {
        if let Some(remote) = &self.home.remote {
            return Ok(remote.create(&self.name, number, config, base)?);
        }
        let index = self.build(number).join(INDEX);
        match base {
            None => Ok(engine.create(&index, config)?),
            Some(base) => {
                io::copy::copy_dir(&self.build(base).join(INDEX), &index)?;
                Ok(engine.open(&index, config)?)
            }
        }
    }

    /// Makes the store of a build in a directory out of a server's archive.
    ///
    /// # Errors
    /// The engine's.
    pub fn unpack_store(
        &self,
        number: u32,
        engine: Engine,
        config: &StoreConfig,
        archive: &Path,
    ) -> Result<Box<dyn Store>, StoreError> {
        engine.unpack(archive, &self.build(number).join(INDEX), config)
    }

    /// Opens the store of a build.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_store(&self, number: u32, engine: Engine, config: &StoreConfig) -> Result<Box<dyn Store>, StoreError> {
        match &self.home.remote {
            Some(remote) => remote.open(&self.name, number, config),
            None => engine.open(&self.build(number).join(INDEX), config),
        }
    }

    /// Holds a build against every other process; on a server there is nothing to hold, it serves many.
    ///
    /// # Errors
    /// [`io::IoError::Locked`], or the system's.
    pub fn hold(&self, number: u32) -> Result<Option<DirLock>, KbError> {
        match &self.home.remote {
            Some(_) => Ok(None),
            None => Ok(Some(DirLock::acquire(&self.build(number))?)),
        }
    }

    /// Removes a build.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn remove(&self, number: u32) -> Result<(), KbError> {
        if let Some(remote) = &self.home.remote {
            remote.remove(&self.name, number)?;
        }
        Ok(there_or(fs_err::remove_dir_all(self.build(number)), ())?)
    }

    /// Removes all of it. Without its pointer it is no knowledge base, however far the rest gets.
    ///
    /// # Errors
    /// The system's, or the server's.
    pub fn remove_all(&self) -> Result<(), KbError> {
        match &self.home.remote {
            Some(remote) => remote.clear_current(&self.name)?,
            None => {
                there_or(fs_err::remove_file(self.dir().join(CURRENT)), ())?;
                io::atomic::sync_dir(&self.dir())?;
            }
        }
        for number in self.numbers()? {
            self.remove(number)?;
        }
        // What is left is of a knowledge base of the same name elsewhere.
        if self.numbers_here()?.is_empty() { Ok(there_or(fs_err::remove_dir_all(self.dir()), ())?) } else { Ok(()) }
    }

    /// The error of a base that is not whole.
    #[must_use]
    pub fn damaged(&self, dir: &Path, reason: String, manifest: Option<&Manifest>) -> KbError {
        let finished = |number: &u32| self.build(*number) != dir && matches!(self.read(*number), Ok(Ok(Some(_))));
        let other = self.numbers().unwrap_or_default().into_iter().rev().find(finished);
        let mend = match (other, manifest) {
            (Some(number), _) => format!("cicerone kb use {} {number}", self.name),
            (None, Some(manifest)) => manifest.mend(),
            (None, None) => format!("cicerone kb build --name {} --source KIND:PATH --fresh", self.name),
        };
        KbError::Damaged { name: self.name.clone(), dir: dir.to_owned(), reason, mend }
    }

    /// The error of a base that is not there.
    #[must_use]
    pub fn not_found(&self) -> KbError {
        let there = Self::all(&self.home).unwrap_or_default().into_iter();
        let existing = there.filter(|place| matches!(place.current(), Ok(Some(_)))).map(|place| place.name).collect();
        KbError::NotFound { name: self.name.clone(), place: self.home.place(), existing }
    }

    /// How far a build of this machine got that has not finished.
    #[must_use]
    pub fn checkpoint(&self, number: u32) -> Option<Checkpoint> {
        if self.is_unfinished(number) { Checkpoint::read(&self.build(number)) } else { None }
    }
}

/// Names of what is in a directory, in no order; none for a directory that is not there, or names that are not UTF-8.
fn names_in(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = there_or(fs_err::read_dir(dir).map(Iterator::collect), Vec::new())?;
    let names = entries.into_iter().map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// `otherwise` for what is not there, or below what is no directory.
fn there_or<T>(outcome: std::io::Result<T>, otherwise: T) -> std::io::Result<T> {
    match outcome {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(otherwise),
        outcome => outcome,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        let root = Path::new("kb");
        for good in ["ruins", "evqa-2m", "0_a.b"] {
            assert!(Place::new(root, good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", "A", "ü", "-x", "a b", long.as_str()] {
            assert!(matches!(Place::new(root, bad), Err(KbError::Name { .. })), "{bad}");
        }
    }
}
