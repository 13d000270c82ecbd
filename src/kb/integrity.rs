//! Whether the files of a finished index are those that were built: the engine keeps no checksums of its own.
//!
//! Small files, among them the id mappings whose damage an engine does not survive, are hashed at each opening. A large
//! one is hashed when its entry in the directory has changed since it was last seen to be right, so that whatever was
//! written into it is noticed at once, and a copy is hashed whole at its first opening. What changes on the medium
//! without being written is found by `kb verify`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{KbError, Manifest};
use crate::io;

/// File in the directory of a build: what the entries of its large files were when they were last seen to be right.
pub const CHECKED: &str = "checked.json";

/// Largest file that is hashed at each opening, bytes.
const SMALL: u64 = 4 << 20;

/// A file of the finished index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the directory of the build, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 (hex).
    pub blake3: String,
}

/// When a file was last written and when its entry last changed, in nanoseconds.
type Stamp = (i64, i64);

impl Manifest {
    /// Sees that every file is there with its size, and that none was written since it was built.
    ///
    /// # Errors
    /// A reason naming the file.
    pub fn check(&self, dir: &Path) -> Result<(), String> {
        self.check_above(dir, SMALL)
    }

    fn check_above(&self, dir: &Path, small: u64) -> Result<(), String> {
        self.check_sizes(dir)?;
        let known = read_checked(dir);
        let mut checked = BTreeMap::new();
        for entry in &self.files {
            let stamp = (entry.size > small).then(|| stamp(&dir.join(&entry.path))).flatten();
            if stamp.is_none() || known.get(&entry.path).copied() != stamp {
                check_hash(dir, entry)?;
            }
            checked.extend(stamp.map(|stamp| (entry.path.clone(), stamp)));
        }
        if checked != known {
            write_checked(dir, &checked);
        }
        Ok(())
    }

    /// Sees that every file is there with its size.
    ///
    /// # Errors
    /// A reason naming the file.
    pub fn check_sizes(&self, dir: &Path) -> Result<(), String> {
        self.files.iter().try_for_each(|entry| {
            let path = dir.join(&entry.path);
            match fs_err::metadata(&path) {
                Ok(meta) if meta.len() == entry.size => Ok(()),
                Ok(meta) => Err(format!("{} has {} bytes, expected {}", entry.path, meta.len(), entry.size)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(format!("{} is missing", entry.path)),
                Err(e) => Err(e.to_string()),
            }
        })
    }

    /// Reads every file and compares its hash.
    ///
    /// # Errors
    /// A reason naming the first file that differs.
    pub fn check_hashes(&self, dir: &Path, mut seen: impl FnMut(u64)) -> Result<(), String> {
        self.check_sizes(dir)?;
        let mut done = 0;
        self.files.iter().try_for_each(|entry| {
            check_hash(dir, entry)?;
            done += entry.size;
            seen(done);
            Ok(())
        })
    }
}

fn check_hash(dir: &Path, entry: &FileEntry) -> Result<(), String> {
    let found = io::hash::blake3_file(&dir.join(&entry.path)).map_err(|e| e.to_string())?;
    if found == entry.blake3 {
        Ok(())
    } else {
        Err(format!("the content of {} changed since it was built", entry.path))
    }
}

#[cfg(unix)]
fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs_err::metadata(path).ok()?;
    let nanos = |seconds: i64, rest: i64| seconds.checked_mul(1_000_000_000)?.checked_add(rest);
    Some((nanos(meta.mtime(), meta.mtime_nsec())?, nanos(meta.ctime(), meta.ctime_nsec())?))
}

#[cfg(not(unix))]
fn stamp(path: &Path) -> Option<Stamp> {
    let modified = fs_err::metadata(path).ok()?.modified().ok()?;
    let nanos = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
    Some((i64::try_from(nanos).ok()?, 0))
}

fn read_checked(dir: &Path) -> BTreeMap<String, Stamp> {
    let bytes = fs_err::read(dir.join(CHECKED)).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Keeps that the files of a build that was just hashed are right.
pub(super) fn remember(dir: &Path, files: &[FileEntry]) {
    let large = files.iter().filter(|entry| entry.size > SMALL);
    write_checked(dir, &large.filter_map(|entry| Some((entry.path.clone(), stamp(&dir.join(&entry.path))?))).collect());
}

/// Where it cannot be kept, the next opening reads the files again.
fn write_checked(dir: &Path, checked: &BTreeMap<String, Stamp>) {
    let written = serde_json::to_vec(checked).map(|bytes| io::write_atomic(&dir.join(CHECKED), &bytes));
    if let Ok(Err(error)) = written {
        tracing::debug!("what was checked is not kept: {error}");
    }
}

/// Paths of all files below `dir`/`below`, relative to `dir`, in the order of their names.
///
/// # Errors
/// The system's.
pub fn files_below(dir: &Path, below: &str) -> Result<Vec<String>, KbError> {
    let mut folders = vec![below.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                std::io::Error::new(std::io::ErrorKind::InvalidData, format!("file name {name:?} is not UTF-8"))
            })?;
            let path = format!("{folder}/{name}");
            if entry.file_type()?.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// Sizes and hashes of all files below `dir`/`below`, in the order of their names.
///
/// # Errors
/// The system's.
pub fn list_files(dir: &Path, below: &str, mut seen: impl FnMut(u64)) -> Result<Vec<FileEntry>, KbError> {
    let mut done = 0;
    let mut entry = |path: String| {
        let full = dir.join(&path);
        let (size, blake3) = (fs_err::metadata(&full)?.len(), io::hash::blake3_file(&full)?);
        done += size;
        seen(done);
        Ok(FileEntry { path, size, blake3 })
    };
    files_below(dir, below)?.into_iter().map(&mut entry).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::kb::manifest::tests::manifest;

    fn index(dir: &Path) -> Manifest {
        fs_err::create_dir_all(dir.join("index/segment")).unwrap();
        fs_err::write(dir.join("index/config"), "abc").unwrap();
        fs_err::write(dir.join("index/segment/vectors"), "defg").unwrap();
        Manifest { files: list_files(dir, "index", |_| {}).unwrap(), ..manifest() }
    }

    #[test]
    fn every_change_of_a_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let manifest = index(dir);
        assert_eq!(manifest.files[1].path, "index/segment/vectors");
        manifest.check_hashes(dir, |_| {}).unwrap();
        fs_err::write(dir.join("index/segment/vectors"), "defX").unwrap();
        manifest.check_sizes(dir).unwrap();
        assert!(manifest.check(dir).unwrap_err().contains("index/segment/vectors"));
        assert!(manifest.check_hashes(dir, |_| {}).unwrap_err().contains("index/segment/vectors"));
        fs_err::write(dir.join("index/segment/vectors"), "def").unwrap();
        assert!(manifest.check_sizes(dir).unwrap_err().contains("3 bytes, expected 4"));
        fs_err::remove_file(dir.join("index/config")).unwrap();
        assert!(manifest.check_sizes(dir).unwrap_err().contains("index/config is missing"));
    }

    #[test]
    fn a_large_file_is_read_again_only_when_its_entry_changed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let manifest = index(dir);
        manifest.check_above(dir, 3).unwrap();
        let known = read_checked(dir);
        assert_eq!(known.keys().collect::<Vec<_>>(), ["index/segment/vectors"]);
        // Taken at its word while its entry is the same: a hash that cannot be right is not looked at.
        let mut other = manifest.clone();
        other.files[1].blake3 = "00".into();
        other.check_above(dir, 3).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs_err::write(dir.join("index/segment/vectors"), "defX").unwrap();
        assert!(manifest.check_above(dir, 3).unwrap_err().contains("index/segment/vectors"));
        // Put back it is right again, and so is a copy that nobody has checked.
        fs_err::write(dir.join("index/segment/vectors"), "defg").unwrap();
        manifest.check_above(dir, 3).unwrap();
        fs_err::remove_file(dir.join(CHECKED)).unwrap();
        manifest.check_above(dir, 3).unwrap();
        assert!(other.check_hashes(dir, |_| {}).is_err());
    }
}
