//! How far a build is while it runs: each stage counts what it did and times itself, and whoever watches is told every
//! now and then, however long a single step takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Checkpoint, Timings, as_seconds};
use crate::kb::{Counts, KbError};

/// Time between two looks of a watcher.
const EVERY: Duration = Duration::from_millis(200);

/// How far the stages of [`super::Stage::Embed`] are, which run side by side.
///
/// Counted from the beginning of the source, what earlier runs made durable included; of a knowledge base that is added
/// to, what it held before is not. At the end of a build, `embedded`, `stored` and `durable` are what its manifest says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Records of the source that were read, those that are refused included; blank lines where records are lines.
    pub read: u64,
    /// Embeddings made. One that turns out to be no unit vector is counted too, until the next run.
    pub embedded: u64,
    /// Of these, how many this run found made.
    pub embedded_before: u64,
    /// Points that the store has acknowledged.
    pub stored: u64,
    /// Points that a run which is cut off now leaves to the next.
    pub durable: u64,
    /// Time since this run began to read.
    #[serde(serialize_with = "as_seconds")]
    pub elapsed: Duration,
    /// How much of it each stage was at work, up to this moment.
    pub timings: Timings,
}

impl Flow {
    /// Embeddings that this run made a second.
    #[must_use]
    pub fn embedded_per_s(&self) -> f64 {
        self.embedded.saturating_sub(self.embedded_before) as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Each stage and the share of the time that it was at work, in [0, 1]. The others wait for the one nearest to 1;
    /// `prepare` and `embed` take turns, and so do `store` and `index`.
    #[must_use]
    pub fn busy(&self) -> [(&'static str, f64); 5] {
        let Timings { read, prepare, embed, store, index, .. } = self.timings;
        let elapsed = self.elapsed.as_secs_f64().max(1e-9);
        [("read", read), ("prepare", prepare), ("embed", embed), ("store", store), ("index", index)]
            .map(|(name, time)| (name, (time.as_secs_f64() / elapsed).min(1.0)))
    }
}

/// What the stages write while they run, and [`Flow`] is read from.
pub(super) struct Meters {
    began: Instant,
    /// What the knowledge base held before the first article of the source.
    base: Counts,
    embedded_before: u64,
    pub reading: Clock,
    pub preparing: Clock,
    pub embedding: Clock,
    pub storing: Clock,
    pub indexing: Clock,
    read: AtomicU64,
    embedded: AtomicU64,
    stored: AtomicU64,
    durable: AtomicU64,
    bytes: AtomicU64,
}

impl Meters {
    /// For a run that goes on from `checkpoint`, over `base` and behind so many bytes of the source.
    pub(super) fn new(checkpoint: &Checkpoint, base: Counts, bytes: u64) -> Self {
        let Checkpoint { counts, position, .. } = checkpoint;
        let embedded_before = counts.embeddings.saturating_sub(base.embeddings);
        let points = counts.points.saturating_sub(base.points);
        Self {
            began: Instant::now(),
            base,
            embedded_before,
            reading: Clock::default(),
            preparing: Clock::default(),
            embedding: Clock::default(),
            storing: Clock::default(),
            indexing: Clock::default(),
            read: position.record.into(),
            embedded: embedded_before.into(),
            stored: points.into(),
            durable: points.into(),
            bytes: bytes.into(),
        }
    }

    /// Records up to this one were read.
    pub(super) fn have_read(&self, record: u64) {
        self.read.store(record, Ordering::Relaxed);
    }

    /// So many embeddings were made.
    pub(super) fn have_embedded(&self, more: u64) {
        self.embedded.fetch_add(more, Ordering::Relaxed);
    }

    /// What was read up to this byte of the source is on its way into the store.
    pub(super) fn have_passed(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The store holds what `counts` says.
    pub(super) fn have_stored(&self, counts: &Counts) {
        self.stored.store(counts.points.saturating_sub(self.base.points), Ordering::Relaxed);
    }

    /// What the store holds is durable.
    pub(super) fn have_saved(&self) {
        self.durable.store(self.stored.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bytes of the source whose articles are embedded.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn timings(&self) -> Timings {
        Timings {
            read: self.reading.busy(),
            prepare: self.preparing.busy(),
            embed: self.embedding.busy(),
            store: self.storing.busy(),
            index: self.indexing.busy(),
            ..Timings::default()
        }
    }

    pub(super) fn flow(&self) -> Flow {
        // Each number before what it cannot be larger than.
        let timings = self.timings();
        let durable = self.durable.load(Ordering::Relaxed);
        let stored = self.stored.load(Ordering::Relaxed);
        let embedded = self.embedded.load(Ordering::Relaxed);
        let read = self.read.load(Ordering::Relaxed);
        let (embedded_before, elapsed) = (self.embedded_before, self.began.elapsed());
        Flow { read, embedded, embedded_before, stored, durable, elapsed, timings }
    }
}

/// Adds up the time of one stage's work; the piece that it is at counts as far as it has come.
#[derive(Default)]
pub(super) struct Clock(Mutex<Work>);

#[derive(Default)]
struct Work {
    done: Duration,
    since: Option<Instant>,
}

impl Clock {
    /// Does a piece of work. Pieces of one stage follow one another.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        self.work().since = Some(begin);
        let outcome = work();
        let mut own = self.work();
        own.since = None;
        own.done += begin.elapsed();
        outcome
    }

    fn busy(&self) -> Duration {
        let own = self.work();
        own.done + own.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on a thread of its own, and calls `tell` on the caller's until it is done.
///
/// # Errors
/// [`KbError::Thread`] for work that panicked.
pub(super) fn beside<T: Send>(work: impl FnOnce() -> T + Send, mut tell: impl FnMut()) -> Result<T, KbError> {
    std::thread::scope(|scope| {
        let (at_work, ended) = sync_channel::<()>(0);
        let worker = scope.spawn(move || {
            // Gone when the work is, in whatever way it ends.
            let _at_work = at_work;
            work()
        });
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            tell();
        }
        worker.join().map_err(|_| KbError::Thread)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_work_and_not_the_time_between() {
        let clock = Clock::default();
        assert_eq!(clock.busy(), Duration::ZERO);
        let nap = Duration::from_millis(20);
        let within = clock.time(|| {
            std::thread::sleep(nap);
            clock.busy()
        });
        assert!(within >= nap, "what is not finished yet counts");
        let done = clock.busy();
        assert!(done >= within);
        std::thread::sleep(nap);
        assert_eq!(clock.busy(), done);
        clock.time(|| std::thread::sleep(nap));
        assert!(clock.busy() >= done + nap);
    }

    #[test]
    fn shares_and_rates_are_of_this_run() {
        let timings = Timings { embed: Duration::from_secs(6), store: Duration::from_secs(9), ..Timings::default() };
        let flow =
            Flow { embedded: 100, embedded_before: 60, elapsed: Duration::from_secs(8), timings, ..Flow::default() };
        assert_eq!(flow.embedded_per_s(), 5.0);
        assert_eq!(flow.busy(), [("read", 0.0), ("prepare", 0.0), ("embed", 0.75), ("store", 1.0), ("index", 0.0)]);
        assert_eq!(Flow::default().embedded_per_s(), 0.0);
    }

    #[test]
    fn work_is_watched_and_its_panic_is_an_error() {
        let (told, seen) = sync_channel(8);
        let mut looks = 0;
        // It ends only when it was looked at twice.
        let work = move || (0..2).filter(|_| seen.recv_timeout(Duration::from_secs(20)).is_ok()).count();
        let tell = || {
            looks += 1;
            let _ = told.try_send(());
        };
        assert_eq!(beside(work, tell).unwrap(), 2);
        assert!(looks >= 2);
        let panicked = beside(|| panic!("a thread that breaks off"), || {});
        assert!(matches!(panicked, Err::<(), _>(KbError::Thread)));
    }
}
