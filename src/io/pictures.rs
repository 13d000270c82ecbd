//! Pictures by the names that data sets give them.

use std::path::{Path, PathBuf};

use super::{IoError, safe_join};

/// Files of pictures below one directory.
#[derive(Debug, Clone)]
pub struct PictureFiles {
    root: PathBuf,
}

impl PictureFiles {
    /// Names are paths below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path below the directory of the picture called `name`; `None` where it is not there.
    ///
    /// # Errors
    /// [`IoError::UnsafePath`] for a name that leads out of the directory.
    pub fn find(&self, name: &str) -> Result<Option<String>, IoError> {
        Ok(safe_join(&self.root, name)?.is_file().then(|| name.to_owned()))
    }
}
