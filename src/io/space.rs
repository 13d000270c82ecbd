//! Room on a disk.

use std::path::Path;

/// Bytes that this user may still write below `dir`; `None` where the system does not tell.
#[cfg(unix)]
#[must_use]
pub fn free_space(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Bytes that this user may still write below `dir`; `None` where the system does not tell.
#[cfg(not(unix))]
#[must_use]
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Bytes that a file takes on disk: fewer than its length where it has holes.
#[cfg(unix)]
#[must_use]
pub fn on_disk(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(fs_err::metadata(path).ok()?.blocks() * 512)
}

/// Bytes that a file takes on disk, as far as its length tells.
#[cfg(not(unix))]
#[must_use]
pub fn on_disk(path: &Path) -> Option<u64> {
    Some(fs_err::metadata(path).ok()?.len())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_here_and_none_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(dir.path()).unwrap() > 0);
        assert_eq!(free_space(&dir.path().join("none")), None);
        let path = dir.path().join("sparse");
        fs_err::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert!(on_disk(&path).unwrap() < 1 << 20);
        assert_eq!(on_disk(&dir.path().join("none")), None);
    }
}
