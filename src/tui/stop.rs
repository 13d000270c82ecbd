//! Ctrl-Z: this process stopped until its shell continues it.
//!
//! Who takes the signal that asks for it (`SIGTSTP`), so as to give the screen back first, has to stop by another one, which
//! the system does not withhold from a process that no shell looks after: it would hang for ever. So it is seen first
//! whether there is such a shell.

/// What is told where there is none.
pub const NO_SHELL: &str = "no shell runs this terminal, so that nothing would come back";

#[cfg(unix)]
mod unix {
    use std::io;

    use rustix::process::{Pid, Signal, getpgid, getppid, getsid, kill_current_process_group};
    use tokio::signal::unix::{SignalKind, signal};

    /// Whether a shell would continue this process: somebody of another process group, but of this session, started one of
    /// this group (POSIX calls a group without that "orphaned"). Where there is no `/proc`, only who started this very
    /// process is known.
    pub fn is_continued() -> bool {
        let (Ok(group), Ok(session)) = (getpgid(None), getsid(None)) else { return false };
        let mut parent = getppid();
        while let Some(process) = parent {
            match (getsid(Some(process)), getpgid(Some(process))) {
                (Ok(its), _) if its != session => return false,
                (Ok(_), Ok(its)) if its != group => return process != Pid::INIT || is_shell(process),
                (Ok(_), Ok(_)) => parent = parent_of(process),
                _ => return false,
            }
        }
        false
    }

    /// Whether the first process of a container is a shell, and not one that only starts others.
    fn is_shell(process: Pid) -> bool {
        let name = fs_err::read(format!("/proc/{}/comm", process.as_raw_nonzero()));
        name.is_ok_and(|name| name.trim_ascii_end().ends_with(b"sh"))
    }

    /// The parent of a process: the fourth field of `/proc/PID/stat`, behind a name that may hold anything.
    fn parent_of(process: Pid) -> Option<Pid> {
        let stat = fs_err::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
        let behind = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let fields = std::str::from_utf8(&stat[behind..]).ok()?;
        Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
    }

    /// Stops this process and those that it was started with; returns when they are continued.
    ///
    /// # Errors
    /// The system's.
    pub fn now() -> io::Result<()> {
        // The signal stops the process some time after it was sent: it is not enough to send it and to go on. On a thread of
        // its own, since the caller may be of a runtime already.
        std::thread::scope(|scope| {
            let stopper = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
                runtime.block_on(async {
                    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
                    kill_current_process_group(Signal::STOP)?;
                    continued.recv().await;
                    Ok(())
                })
            });
            stopper.join().unwrap_or_else(|_| Err(io::Error::other("a thread broke off")))
        })
    }

    /// Tells `asked` whenever another process asks this one to stop, from then on, until it says that this is not wanted
    /// any more. The signal alone stops nothing again after that.
    pub async fn on_signal(mut asked: impl FnMut() -> bool) {
        let Ok(mut signals) = signal(SignalKind::from_raw(Signal::TSTP.as_raw())) else { return };
        while signals.recv().await.is_some() && asked() {}
    }
}

#[cfg(unix)]
pub use unix::{is_continued, now, on_signal};

/// There is no such thing here.
#[cfg(not(unix))]
pub fn is_continued() -> bool {
    false
}

/// There is no such thing here.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn now() -> std::io::Result<()> {
    Ok(())
}

/// There is no such thing here.
#[cfg(not(unix))]
pub async fn on_signal(_: impl FnMut() -> bool) {}
