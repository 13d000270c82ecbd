//! The long part of a build: a source's articles go into the store, batch by batch.
//!
//! Three threads with short queues between them, so that the encoder waits for nobody: one reads and parses, one
//! decides what is embedded and has it embedded, one stores and writes the checkpoints. The caller's thread watches.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::flow::{Meters, beside};
use super::prepare::Preparer;
use super::{BuildEvent, BuildOptions, Checkpoint, Job, MOST_MALFORMED, Stage, Timings, crash, room};
use crate::io::pictures::PictureFiles;
use crate::kb::source::{Malformed, SourceError};
use crate::kb::store::{Point, Store};
use crate::kb::{Article, Embedder, KbError, Position, Source};

/// Batches that wait between two threads.
const QUEUE: usize = 2;

/// What was read at once.
pub(super) struct Batch {
    /// Articles and what could not be used, in the source's order.
    pub rows: Vec<Result<(Position, Article), Malformed>>,
    /// Bytes of the source that were read by then.
    pub bytes_read: u64,
    /// Place behind the last of them.
    pub position: Position,
    /// Whether the source has more.
    pub more: bool,
}

/// What is to be stored at once.
struct Stored {
    delete: Vec<uuid::Uuid>,
    points: Vec<Point>,
    /// What holds once they are.
    checkpoint: Checkpoint,
    /// Whether that is to be written.
    save: bool,
}

/// Reads the source to its end, from the job's checkpoint on, its pictures out of `pictures`.
pub(super) fn fill(
    job: &mut Job,
    options: &BuildOptions,
    source: &mut dyn Source,
    pictures: PictureFiles,
    embedder: &dyn Embedder,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Timings, KbError> {
    let identity = source.identity().clone();
    if job.checkpoint.complete {
        return check(job, options, &identity.path).map(|()| Timings::default());
    }
    let total = Some(identity.bytes);
    source.resume_after(job.checkpoint.position)?;
    let meters = &Meters::new(&job.checkpoint, job.base, source.bytes_read());
    let mut preparer = Preparer::new(job, options, &identity, pictures, embedder, meters)?;
    let (store, quarantine) = (job.store.as_ref(), job.quarantine());
    let size = job.checkpoint.key.recipe.batch;
    let start = job.checkpoint.position;
    let mut tell = || watch(BuildEvent::Progress { stage: Stage::Embed(meters.flow()), done: meters.bytes(), total });
    tell();

    let (batches_in, batches) = sync_channel::<Result<Batch, SourceError>>(QUEUE);
    let (to_store, stored) = sync_channel::<Stored>(QUEUE);
    let dir = job.dir.as_path();
    let stages = || {
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || read(source, size, start, &batches_in, meters));
            let writer = scope.spawn(move || write(store, dir, &quarantine, &stored, meters));
            let mut work = || -> Result<(), KbError> {
                let mut taken = 0;
                while let Ok(batch) = batches.recv() {
                    let batch = batch?;
                    if cancel.load(Ordering::Relaxed) {
                        return Err(KbError::Interrupted { articles: preparer.checkpoint.counts.articles });
                    }
                    let (read, more) = (batch.bytes_read, batch.more);
                    let (delete, points) = preparer.points(batch)?;
                    taken += 1;
                    let save = !more || taken % options.checkpoint_every.max(1) == 0;
                    let stored = Stored { delete, points, checkpoint: preparer.checkpoint()?, save };
                    // The writer is gone only when it failed; its error is told below.
                    if to_store.send(stored).is_err() {
                        return Ok(());
                    }
                    meters.have_passed(read);
                }
                // A reader that ends without saying that this was all has broken off.
                if preparer.checkpoint.complete { Ok(()) } else { Err(KbError::Thread) }
            };
            let outcome = work();
            // Both ends see that no more comes.
            drop(batches);
            drop(to_store);
            // One that panicked was noticed above.
            let _ = reader.join();
            let last = writer.join().unwrap_or(Err(KbError::Thread))?;
            outcome.map(|()| last)
        })
    };
    // What was stored before an error is in the checkpoint that the writer left.
    let last = beside(stages, &mut tell)??;
    meters.have_passed(identity.bytes);
    tell();
    if let Some(last) = last {
        job.checkpoint = last;
    }
    check(job, options, &identity.path)?;
    Ok(meters.timings())
}

/// Parses batches until the source ends, fails, or nobody wants more.
fn read(
    source: &mut dyn Source,
    size: usize,
    start: Position,
    to: &SyncSender<Result<Batch, SourceError>>,
    meters: &Meters,
) {
    let mut position = start;
    loop {
        let batch = meters.reading.time(|| next_batch(source, size, &mut position));
        meters.have_read(position.record);
        let ends = !matches!(batch, Ok(Batch { more: true, .. }));
        if to.send(batch).is_err() || ends {
            return;
        }
    }
}

fn next_batch(source: &mut dyn Source, size: usize, position: &mut Position) -> Result<Batch, SourceError> {
    let mut rows = Vec::with_capacity(size);
    let (mut articles, mut more) = (0, true);
    while articles < size && more {
        match source.next() {
            None => more = false,
            Some(Ok((at, article))) => {
                *position = at;
                articles += 1;
                rows.push(Ok((at, article)));
            }
            Some(Err(SourceError::Malformed(bad))) => {
                *position = bad.position;
                rows.push(Err(bad));
            }
            Some(Err(e)) => return Err(e),
        }
    }
    Ok(Batch { rows, bytes_read: source.bytes_read(), position: *position, more })
}

/// Stores what comes until no more does, then makes it durable; gives the last checkpoint.
fn write(
    store: &dyn Store,
    dir: &Path,
    quarantine: &Path,
    from: &Receiver<Stored>,
    meters: &Meters,
) -> Result<Option<Checkpoint>, KbError> {
    let save = |checkpoint: &Checkpoint| {
        save(store, dir, quarantine, checkpoint)?;
        meters.have_saved();
        Ok::<_, KbError>(())
    };
    let mut last = None;
    let mut unsaved = false;
    while let Ok(Stored { delete, points, checkpoint, save: now }) = from.recv() {
        meters.storing.time(|| {
            if !delete.is_empty() {
                store.delete(&delete)?;
            }
            if !points.is_empty() {
                room::for_points(dir, &points)?;
                store.upsert(points)?;
                crash::at("in-upsert");
            }
            meters.have_stored(&checkpoint.counts);
            if now { save(&checkpoint) } else { Ok(()) }
        })?;
        if store.full() {
            room::for_indexing(dir, &checkpoint.key.store, checkpoint.counts.embeddings)?;
            meters.indexing.time(|| store.optimize())?;
            crash::at("after-graph");
        }
        unsaved = !now;
        last = Some(checkpoint);
    }
    if let (true, Some(checkpoint)) = (unsaved, &last) {
        meters.storing.time(|| save(checkpoint))?;
    }
    Ok(last)
}

/// Makes everything so far durable, then says so in the checkpoint.
fn save(store: &dyn Store, dir: &Path, quarantine: &Path, checkpoint: &Checkpoint) -> Result<(), KbError> {
    store.flush()?;
    fs_err::OpenOptions::new().append(true).open(quarantine)?.sync_data()?;
    crash::at("before-checkpoint");
    checkpoint.write(dir)?;
    crash::at("after-checkpoint");
    Ok(())
}

/// Sees that a source read to its end makes a knowledge base.
fn check(job: &Job, options: &BuildOptions, source: &Path) -> Result<(), KbError> {
    let (counts, quarantine) = (&job.checkpoint.counts, job.quarantine());
    let share = || job.checkpoint.position.record.div_ceil(100).clamp(1, MOST_MALFORMED);
    let limit = options.max_malformed.unwrap_or_else(share);
    let (found, source_path) = (counts.quarantined, source.to_owned());
    if found > limit {
        Err(KbError::TooManyMalformed { found, limit, source_path, quarantine })
    } else if counts.articles == 0 {
        Err(KbError::Empty { source_path, refused: found, quarantine })
    } else {
        Ok(())
    }
}
