//! A knowledge base comes from a server into a directory.
//!
//! Where the server holds it in one part, its archive is fetched and unpacked, and its graph with it; otherwise points
//! are copied and indexed here. Either way it is read back, and its content compared with the manifest there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{BuildEvent, BuildOptions, Filled, INDEX, Key, Report, Stage, Task, Timings, room};
use crate::kb::place::{Home, Place};
use crate::kb::remote::Remote;
use crate::kb::store::{Engine, Store, StoreError};
use crate::kb::{KbError, Manifest, transfer};

/// Brings the knowledge base `options.name` from a server into the directory of `options.home`, and puts it in use
/// there. Its pictures are looked for in `pictures`, or where they were when it was built. Interrupted and resumed as
/// [`super::build`].
///
/// # Errors
/// [`KbError::NotFound`] where the server has none of that name; [`KbError::OtherContent`]; the server's; those of
/// [`super::build`].
pub fn pull(
    options: &BuildOptions,
    from: &Remote,
    pictures: Option<PathBuf>,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Report, KbError> {
    let there = Place::new(Home { root: options.home.root.clone(), remote: Some(from.clone()) }, &options.name)?;
    let number = there.in_use()?;
    let manifest = there.finished(number)?;
    let here = BuildOptions { home: Home::from(&options.home.root), ..options.clone() };
    let task = Task::begin(&here)?;
    let mut key = Key { engine: options.engine, ..Key::of(&manifest) };
    if let Some(pictures) = pictures {
        key.pictures.root = pictures;
    }
    let pull = Pull { from, there, number, manifest, here: &task.place, key, cancel };
    let mut fetching = Duration::ZERO;
    let mut begin = |number, watch: &mut dyn FnMut(BuildEvent)| {
        let begin = Instant::now();
        let store = match pull.unpacked(number, watch)? {
            Some(store) => store,
            None => pull.here.create_store(number, pull.key.engine, &pull.key.store, None)?,
        };
        fetching = begin.elapsed();
        Ok(store)
    };
    let mut report = task.run(&pull.key, None, &mut begin, watch, &mut |job, watch| {
        let begin = Instant::now();
        if !job.checkpoint.complete {
            from.tidy(job.store.as_ref())?;
            pull.copy_rest(job.store.as_ref(), watch)?;
            job.checkpoint.counts = pull.manifest.counts;
            job.checkpoint.complete = true;
            job.checkpoint.write(&job.dir)?;
        }
        Ok(Filled {
            sources: pull.manifest.sources.clone(),
            timings: Timings { store: begin.elapsed(), ..Timings::default() },
            content_hash: Some(pull.manifest.content_hash.clone()),
        })
    })?;
    report.timings.read = fetching;
    from.drop_archive(&task.place.dir())?;
    Ok(report)
}

/// A knowledge base on its way.
struct Pull<'a> {
    from: &'a Remote,
    there: Place,
    /// Its build there.
    number: u32,
    manifest: Manifest,
    here: &'a Place,
    key: Key,
    cancel: &'a AtomicBool,
}

impl Pull<'_> {
    /// The store of the build `number` here, out of an archive; `None` where there is none to be had, or none that the
    /// engine reads.
    fn unpacked(&self, number: u32, watch: &mut dyn FnMut(BuildEvent)) -> Result<Option<Box<dyn Store>>, KbError> {
        let (here, engine, name) = (self.here, self.key.engine, self.here.name());
        if !engine.takes_archives() {
            return Ok(None);
        }
        let copied = |why: String| BuildEvent::Note(format!("its points are copied and indexed here: {why}"));
        if !self.from.is_in_one_part(name, self.number)? {
            watch(copied("the server holds it in several parts".to_owned()));
            return Ok(None);
        }
        let (mut arrived, mut room) = (0, Ok(()));
        let fetched = self.from.fetch_archive(name, self.number, &here.dir(), &mut |done, total| {
            if room.is_ok() && (arrived == 0 || done == total) {
                room = room::for_archive(&here.dir(), total - done, total);
            }
            arrived = done;
            watch(BuildEvent::Progress { stage: Stage::Fetch, done, total: Some(total) });
            room.is_ok() && !self.cancel.load(Ordering::Relaxed)
        });
        room?;
        let archive = match fetched {
            Ok(Some(archive)) => archive,
            Ok(None) => return Err(KbError::Interrupted { articles: 0 }),
            // What has arrived is worth another try.
            Err(StoreError::Server(e)) if arrived == 0 => {
                watch(copied(format!("{e} (kb.server.rest_url may name the node that has it)")));
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        match here.unpack_store(number, engine, &self.key.store, &archive) {
            Ok(store) => Ok(Some(store)),
            Err(e @ (StoreError::Engine { .. } | StoreError::Panicked { .. })) => {
                watch(copied(format!("the server's archive cannot be used ({e})")));
                fs_err::remove_dir_all(here.build(number).join(INDEX))?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Copies the points that are not here.
    fn copy_rest(&self, to: &dyn Store, watch: &mut dyn FnMut(BuildEvent)) -> Result<(), KbError> {
        let total = self.manifest.counts.points;
        if to.count()? >= total {
            return Ok(());
        }
        // They come in the order of their ids, so that those that are here are the first.
        let (last, there) = transfer::last(to)?;
        let before = there.saturating_sub(1);
        let from = self.there.open_store(self.number, Engine::Server, &self.manifest.store)?;
        let mut room = Ok(());
        let all = transfer::copy(from.as_ref(), to, &self.key.store, last, &mut |copied| {
            watch(BuildEvent::Progress { stage: Stage::Copy, done: before + copied, total: Some(total) });
            room = room::for_points(&self.here.dir(), &[]);
            room.is_ok() && !self.cancel.load(Ordering::Relaxed)
        })?;
        to.flush()?;
        room?;
        if all { Ok(()) } else { Err(KbError::Interrupted { articles: transfer::last(to)?.1 }) }
    }
}
