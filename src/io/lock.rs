//! One process at a time in a directory.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::IoError;

/// Name of the file that is locked. It stays after the lock is gone; its presence alone means nothing.
pub const LOCK_FILE: &str = ".lock";

/// Between two looks of who waits.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Exclusive hold of a directory, from [`DirLock::acquire`] until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    file: fs_err::File,
}

impl DirLock {
    /// Takes the lock of `dir` (which must exist) or says at once who holds it.
    ///
    /// # Errors
    /// [`IoError::Locked`] with the holder's process number, or the system's reason.
    pub fn acquire(dir: &Path) -> Result<Self, IoError> {
        let mut file =
            fs_err::OpenOptions::new().create(true).read(true).write(true).truncate(false).open(dir.join(LOCK_FILE))?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = file.read_to_string(&mut pid);
                let holder = match (read, pid.trim().parse::<u32>()) {
                    (Ok(_), Ok(pid)) => format!("process {pid}"),
                    _ => "another process".to_owned(),
                };
                return Err(IoError::Locked { dir: dir.to_owned(), holder });
            }
            Err(std::fs::TryLockError::Error(e)) => {
                let reason = format!("failed to lock file `{}`: {e}", dir.join(LOCK_FILE).display());
                return Err(std::io::Error::new(e.kind(), reason).into());
            }
        }
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Self { file })
    }

    /// The same, but waits up to `patience` for whoever holds it.
    ///
    /// # Errors
    /// As [`DirLock::acquire`].
    pub fn wait(dir: &Path, patience: Duration) -> Result<Self, IoError> {
        let begin = Instant::now();
        loop {
            match Self::acquire(dir) {
                Err(IoError::Locked { .. }) if begin.elapsed() < patience => std::thread::sleep(LOOK_AGAIN),
                outcome => return outcome,
            }
        }
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // The number is a courtesy, the lock itself goes with the handle: errors here change nothing.
        let _ = self.file.seek(SeekFrom::Start(0));
        let _ = self.file.set_len(0);
        let _ = self.file.file().unlock();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_second_is_told_who_is_first_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(error, IoError::Locked { .. }), "{error}");
        if cfg!(unix) {
            assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        }
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn one_that_waits_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let freed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let lock = DirLock::wait(dir.path(), Duration::from_secs(20)).unwrap();
                assert!(freed.load(Ordering::SeqCst), "while it was held");
                lock
            });
            std::thread::sleep(5 * LOOK_AGAIN);
            freed.store(true, Ordering::SeqCst);
            drop(first);
            let second = second.join().unwrap();
            let error = DirLock::wait(dir.path(), LOOK_AGAIN).unwrap_err();
            assert!(matches!(error, IoError::Locked { .. }), "{error}");
            drop(second);
        });
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_dead_process_does_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join(LOCK_FILE), "1\n").unwrap();
        DirLock::acquire(dir.path()).unwrap();
    }
}
