//! Files that are replaced whole: a temporary file beside the target, synced, renamed, the directory synced.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Replaces `path` by `bytes`. Whoever reads it finds the old content or the new, whatever happens meanwhile.
///
/// # Errors
/// The system's reason with the path; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file being written beside its final place. [`AtomicFile::commit`] puts it there; dropping it throws it away.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temp: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts a replacement of `path`, whose directory must exist.
    ///
    /// # Errors
    /// The system's reason with the path.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let name = path.file_name().ok_or_else(|| {
            let reason = format!("{} names no file", path.display());
            std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)
        })?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // tempfile's own default is 0600; a file that replaces an ordinary one is an ordinary one.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temp = builder.tempfile_in(directory(path)).map_err(|e| named(path, &e))?;
        Ok(Self { path: path.to_owned(), temp: BufWriter::with_capacity(1 << 16, temp) })
    }

    /// Syncs what was written, renames it to its final name and syncs the directory.
    ///
    /// # Errors
    /// The system's reason with the path; the old file is then untouched.
    pub fn commit(self) -> std::io::Result<()> {
        let Self { path, temp } = self;
        let temp = temp.into_inner().map_err(|e| named(&path, e.error()))?;
        temp.as_file().sync_all().map_err(|e| named(&path, &e))?;
        temp.persist(&path).map_err(|e| named(&path, &e.error))?;
        sync_dir(directory(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.temp.write(buf).map_err(|e| named(&self.path, &e))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.temp.flush().map_err(|e| named(&self.path, &e))
    }
}

/// Makes renames and new names inside `dir` durable. Does nothing where a directory cannot be opened as a file.
///
/// # Errors
/// The system's reason with the path.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    if cfg!(unix) { fs_err::File::open(dir)?.sync_all() } else { Ok(()) }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn named(path: &Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("failed to replace file `{}`: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs_err::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn old_content_stays_until_the_commit_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.json");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(&vec![b'x'; 200_000]).unwrap();
        file.flush().unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()).len(), 2);
        drop(file);
        assert_eq!(names(dir.path()), ["meta.json"]);
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["meta.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs_err::write(&plain, b"x").unwrap();
        let atomic = dir.path().join("atomic");
        write_atomic(&atomic, b"x").unwrap();
        let mode = |p: &Path| fs_err::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&atomic), mode(&plain));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/meta.json");
        let message = write_atomic(&path, b"x").unwrap_err().to_string();
        assert!(message.contains("none/meta.json") || message.contains("none\\meta.json"), "{message}");
    }
}
