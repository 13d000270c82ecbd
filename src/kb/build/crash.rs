//! Crash points, for tests: `CICERONE_CRASH_AT=POINT` (or `POINT:N` for the N-th time it is met) makes a build end
//! there by `kill -9` of itself: no destructor runs, nothing is flushed, no handler is called.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Name of the variable, read once.
pub const VARIABLE: &str = "CICERONE_CRASH_AT";

/// All points, in the order in which a build meets them.
pub const POINTS: [&str; 11] = [
    "after-create",
    "in-upsert",
    "after-graph",
    "before-checkpoint",
    "after-checkpoint",
    "before-index",
    "after-index",
    "after-seal",
    "before-manifest",
    "before-swap",
    "after-swap",
];

/// Kills the process where the variable names `point`.
pub(super) fn at(point: &str) {
    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static MET: AtomicU32 = AtomicU32::new(0);
    debug_assert!(POINTS.contains(&point));
    let wanted = WANTED.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        Some(match value.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (value, 1),
        })
    });
    if let Some((name, count)) = wanted
        && name == point
        && MET.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        #[cfg(unix)]
        let _ = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        // Where there is no such command, the nearest to it.
        std::process::abort();
    }
}
