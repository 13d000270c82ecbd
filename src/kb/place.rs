//! Where knowledge bases are.
//!
//! ```text
//! <root>/<name>/current            one line: the number of the build in use; replaced atomically
//! <root>/<name>/.lock              held by the process that builds
//! <root>/<name>/builds/000001/     one build
//!     kb.json                      its manifest, written last
//!     checkpoint.json              how far it got, until there is a manifest
//!     quarantine.jsonl             articles that were refused or lost their picture, with reasons
//!     index/                       the engine's files
//!     .lock                        held by the process that has it open
//! ```

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::build::Checkpoint;
use super::{KbError, Manifest};
use crate::io;
use crate::io::space::on_disk;

/// Pointer file.
const CURRENT: &str = "current";

/// Directory of one knowledge base.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    name: String,
}

impl Place {
    /// The place of `name` below `root`; nothing need be there.
    ///
    /// # Errors
    /// [`KbError::Name`].
    pub fn new(root: &Path, name: &str) -> Result<Self, KbError> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if first && name.len() <= 64 && name.chars().all(good) {
            Ok(Self { root: root.to_owned(), name: name.to_owned() })
        } else {
            Err(KbError::Name { name: name.to_owned() })
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
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

    /// Number of the build in use, if any.
    ///
    /// # Errors
    /// [`KbError::Damaged`] for a pointer that is no number, or the system's.
    pub fn current(&self) -> Result<Option<u32>, KbError> {
        let path = self.dir().join(CURRENT);
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        text.trim().parse().map(Some).map_err(|_| {
            let text: String = text.chars().take(40).collect();
            self.damaged(&self.dir(), format!("{CURRENT} holds {text:?}, expected the number of a build"), None)
        })
    }

    /// Puts `number` in use.
    ///
    /// # Errors
    /// The system's; the old pointer then stands.
    pub fn set_current(&self, number: u32) -> Result<(), KbError> {
        Ok(io::write_atomic(&self.dir().join(CURRENT), format!("{number:06}\n").as_bytes())?)
    }

    /// Takes the pointer away, if there is one.
    ///
    /// # Errors
    /// The system's.
    pub fn clear_current(&self) -> Result<(), KbError> {
        match fs_err::remove_file(self.dir().join(CURRENT)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(io::atomic::sync_dir(&self.dir())?),
        }
    }

    /// Numbers of all builds, finished or not, the oldest first.
    ///
    /// # Errors
    /// The system's.
    pub fn numbers(&self) -> Result<Vec<u32>, KbError> {
        let entries = match fs_err::read_dir(self.builds()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The error of a base that is not whole.
    #[must_use]
    pub fn damaged(&self, dir: &Path, reason: String, manifest: Option<&Manifest>) -> KbError {
        let finished =
            |number: &u32| self.build(*number) != dir && matches!(Manifest::read(&self.build(*number)), Ok(Some(_)));
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
        let existing = names(&self.root)
            .unwrap_or_default()
            .into_iter()
            .filter(|place| matches!(place.current(), Ok(Some(_))))
            .map(|place| place.name)
            .collect();
        KbError::NotFound { name: self.name.clone(), root: self.root.clone(), existing }
    }
}

/// What is known of a knowledge base without opening it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Directory of the build in use.
    pub dir: Option<PathBuf>,
    /// Manifest of the build in use.
    pub manifest: Option<Manifest>,
    /// Bytes that its index takes on disk (the engine's files have holes).
    pub bytes: u64,
    /// Why the build in use cannot be opened: files missing or of another size.
    pub damage: Option<String>,
    /// Finished builds by number, that in use among them.
    pub builds: Vec<u32>,
    /// A build that has not finished.
    pub in_progress: Option<InProgress>,
}

/// A build that has not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InProgress {
    /// Its directory.
    pub dir: PathBuf,
    /// Records of the source done at its last checkpoint.
    pub done: u64,
    /// Articles stored by then.
    pub articles: u64,
}

/// Says what is known of `name`.
///
/// # Errors
/// [`KbError::Name`], [`KbError::NotFound`] where there is neither a base nor a build, or the system's.
pub fn status(root: &Path, name: &str) -> Result<Status, KbError> {
    let place = Place::new(root, name)?;
    let status = status_of(&place)?;
    if status.manifest.is_none() && status.damage.is_none() && status.in_progress.is_none() {
        return Err(place.not_found());
    }
    Ok(status)
}

/// Says what is known of every knowledge base below `root`, in the order of their names.
///
/// # Errors
/// The system's. A damaged base is an entry, not an error.
pub fn list(root: &Path) -> Result<Vec<Status>, KbError> {
    names(root)?.iter().map(status_of).collect()
}

fn names(root: &Path) -> Result<Vec<Place>, KbError> {
    let entries = match fs_err::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut places = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && let Ok(place) = Place::new(root, name)
            && place.builds().is_dir()
        {
            places.push(place);
        }
    }
    places.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(places)
}

fn status_of(place: &Place) -> Result<Status, KbError> {
    let mut status = Status {
        name: place.name.clone(),
        dir: None,
        manifest: None,
        bytes: 0,
        damage: None,
        builds: Vec::new(),
        in_progress: None,
    };
    match place.current() {
        Ok(None) => {}
        Ok(Some(number)) => {
            let dir = place.build(number);
            match Manifest::read(&dir) {
                Ok(Some(manifest)) => {
                    status.damage = manifest.check_sizes(&dir).err();
                    status.bytes = manifest.files.iter().filter_map(|file| on_disk(&dir.join(&file.path))).sum();
                    status.manifest = Some(manifest);
                }
                Ok(None) => status.damage = Some(format!("{} holds no manifest", dir.display())),
                Err(reason) => status.damage = Some(reason),
            }
            status.dir = Some(dir);
        }
        Err(KbError::Damaged { reason, .. }) => status.damage = Some(reason),
        Err(e) => return Err(e),
    }
    for number in place.numbers()? {
        let dir = place.build(number);
        if dir.join(super::manifest::MANIFEST).exists() {
            status.builds.push(number);
        } else if let Some(checkpoint) = Checkpoint::read(&dir) {
            let (done, articles) = (checkpoint.position.record, checkpoint.counts.articles);
            status.in_progress = Some(InProgress { dir, done, articles });
        }
    }
    Ok(status)
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

    #[test]
    fn the_missing_one_is_told_from_those_that_are_there() {
        let root = tempfile::tempdir().unwrap();
        let ruins = Place::new(root.path(), "ruins").unwrap();
        let message = status(root.path(), "flags").unwrap_err().to_string();
        assert!(message.contains("there is none") && message.contains("cicerone kb build --name flags"), "{message}");
        fs_err::create_dir_all(ruins.builds()).unwrap();
        ruins.set_current(7).unwrap();
        assert_eq!(ruins.current().unwrap(), Some(7));
        let message = status(root.path(), "flags").unwrap_err().to_string();
        assert!(message.contains("there is ruins"), "{message}");
        let damaged = status(root.path(), "ruins").unwrap();
        assert!(damaged.damage.unwrap().contains("holds no manifest"));
    }
}
