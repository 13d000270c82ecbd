//! Copies of directories, with holes where a file has nothing but zeros.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

const PIECE: usize = 1 << 16;

/// Copies the files below `from` to `to`, which must not exist, and makes them durable. An engine's files may be mostly
/// holes; so are their copies.
///
/// # Errors
/// The system's reason with the path.
pub fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    fs_err::create_dir(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    super::atomic::sync_dir(to)
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = fs_err::File::open(from)?;
    let mut target = fs_err::File::create_new(to)?;
    let mut buffer = vec![0; PIECE];
    let mut length = 0;
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if buffer[..n].iter().all(|byte| *byte == 0) {
            target.seek(SeekFrom::Current(n as i64))?;
        } else {
            target.write_all(&buffer[..n])?;
        }
        length += n as u64;
    }
    target.set_len(length)?;
    target.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_byte_by_byte_and_keeps_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs_err::create_dir_all(from.join("below")).unwrap();
        let mut bytes = vec![0; 40 * PIECE];
        bytes[7 * PIECE + 3] = 1;
        fs_err::write(from.join("below/sparse"), &bytes).unwrap();
        fs_err::write(from.join("empty"), b"").unwrap();
        fs_err::write(from.join("odd"), vec![9; PIECE + 1]).unwrap();
        let to = dir.path().join("to");
        copy_dir(&from, &to).unwrap();
        for name in ["below/sparse", "empty", "odd"] {
            assert_eq!(fs_err::read(from.join(name)).unwrap(), fs_err::read(to.join(name)).unwrap(), "{name}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let taken = fs_err::metadata(to.join("below/sparse")).unwrap().blocks() * 512;
            assert!(taken < bytes.len() as u64 / 2, "{taken} bytes on disk");
        }
        assert!(copy_dir(&from, &to).is_err(), "what is there stays");
    }
}
