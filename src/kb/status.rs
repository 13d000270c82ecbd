//! What is known of knowledge bases without opening them.

use std::path::PathBuf;

use serde::Serialize;

use super::place::{Home, Place};
use super::{KbError, Manifest};
use crate::io::space::on_disk;

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
pub fn status(home: impl Into<Home>, name: &str) -> Result<Status, KbError> {
    let place = Place::new(home, name)?;
    let status = status_of(&place)?;
    if status.manifest.is_none() && status.damage.is_none() && status.in_progress.is_none() {
        return Err(place.not_found());
    }
    Ok(status)
}

/// Says what is known of every knowledge base of `home`, in the order of their names.
///
/// # Errors
/// The system's. A damaged base is an entry, not an error.
pub fn list(home: impl Into<Home>) -> Result<Vec<Status>, KbError> {
    Place::all(&home.into())?.iter().map(status_of).collect()
}

fn status_of(place: &Place) -> Result<Status, KbError> {
    let mut status = Status {
        name: place.name().to_owned(),
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
            match place.finished(number) {
                Ok(manifest) => {
                    status.damage = manifest.check_sizes(&dir).err();
                    status.bytes = manifest.files.iter().filter_map(|file| on_disk(&dir.join(&file.path))).sum();
                    status.manifest = Some(manifest);
                }
                Err(KbError::Damaged { reason, .. }) => status.damage = Some(reason),
                Err(e) => return Err(e),
            }
            status.dir = Some(dir);
        }
        Err(KbError::Damaged { reason, .. }) => status.damage = Some(reason),
        Err(e) => return Err(e),
    }
    for number in place.numbers()? {
        if let Some(checkpoint) = place.checkpoint(number) {
            let (done, articles) = (checkpoint.position.record, checkpoint.counts.articles);
            status.in_progress = Some(InProgress { dir: place.build(number), done, articles });
        } else if matches!(place.manifest(number), Ok(Some(_))) {
            status.builds.push(number);
        }
    }
    Ok(status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

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
        assert!(damaged.damage.unwrap().contains("there is no manifest"));
    }
}
