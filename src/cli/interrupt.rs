//! Ctrl-C.
//!
//! Work that can stop in good order takes a [`guard`] and looks at its flag; the first Ctrl-C sets the flag, the
//! second ends the program. Without a guard the first one does: everything on disk is replaced whole, so that nothing
//! needs tidying up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use tokio::sync::Notify;

use super::failure::Exit;

static GUARDS: AtomicUsize = AtomicUsize::new(0);
static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static NOTED: AtomicBool = AtomicBool::new(false);
static TOLD: Notify = Notify::const_new();

/// Watches for Ctrl-C from a thread of its own.
pub fn watch() {
    let watcher = std::thread::Builder::new().name("interrupt".into());
    let spawned = watcher.spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            while asked().await {
                if GUARDS.load(Ordering::SeqCst) == 0 || ASKED.swap(true, Ordering::SeqCst) {
                    crate::tui::give_back();
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                TOLD.notify_waiters();
            }
        });
    });
    if let Err(e) = spawned {
        tracing::warn!("cannot watch for Ctrl-C: {e}");
    }
}

/// Waits for Ctrl-C, or for a signal that asks the same; false where nothing can be waited for.
async fn asked() -> bool {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        return tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
            terminated = terminate.recv() => terminated.is_some(),
        };
    }
    tokio::signal::ctrl_c().await.is_ok()
}

/// Whether Ctrl-C came to work that stops in good order; true once.
#[must_use]
pub fn is_news() -> bool {
    ASKED.load(Ordering::SeqCst) && !NOTED.swap(true, Ordering::SeqCst)
}

/// Work that stops in good order, for as long as this lives.
pub struct Guard(());

/// Says that the work at hand looks at [`Guard::flag`] or awaits [`Guard::asked`].
pub fn guard() -> Guard {
    ASKED.store(false, Ordering::SeqCst);
    NOTED.store(false, Ordering::SeqCst);
    GUARDS.fetch_add(1, Ordering::SeqCst);
    Guard(())
}

impl Guard {
    /// True after Ctrl-C.
    #[must_use]
    pub fn flag(&self) -> &'static AtomicBool {
        &ASKED
    }

    /// The same flag, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&ASKED)
    }

    /// Whether Ctrl-C came.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }

    /// Returns after Ctrl-C.
    pub async fn asked(&self) {
        let told = TOLD.notified();
        tokio::pin!(told);
        // Registered before the flag is looked at, so that a signal in between is not lost.
        told.as_mut().enable();
        if !self.is_asked() {
            told.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.fetch_sub(1, Ordering::SeqCst);
    }
}
