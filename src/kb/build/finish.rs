//! The end of a build: index, seal, read back, hash, manifest, pointer, and away with what is old.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::checkpoint::CHECKPOINT;
use super::flow::beside;
use super::{BuildEvent, Checkpoint, Filled, INDEX, Job, Stage, crash, room};
use crate::io::IoError;
use crate::kb::integrity::{list_files, remember};
use crate::kb::manifest::FORMAT;
use crate::kb::place::Place;
use crate::kb::store::{Content, Engine, content};
use crate::kb::{Counts, KbError, Manifest};

/// Makes a job a finished build.
pub(super) fn finish(
    job: Job,
    place: &Place,
    filled: &mut Filled,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Manifest, KbError> {
    let Job { number, dir, store, checkpoint, .. } = job;
    let timings = &mut filled.timings;
    let Checkpoint { key, mut counts, .. } = checkpoint;
    let mut progress = |stage, done, total| watch(BuildEvent::Progress { stage, done, total });
    let expect = |what, found, expected| {
        if found == expected { Ok(()) } else { Err(KbError::Count { what, found, expected }) }
    };
    // What makes way for an addition is not counted one by one.
    let fresh = key.base.is_none();
    if fresh {
        expect("points", store.count_for(counts.points)?, counts.points)?;
    }

    progress(Stage::Index, 0, None);
    if key.engine != Engine::Server {
        room::for_indexing(&dir, &key.store, counts.embeddings)?;
    }
    crash::at("before-index");
    let begin = Instant::now();
    let tell = || {
        let (done, all) = store.indexed().unzip();
        progress(Stage::Index, done.unwrap_or(0), all);
    };
    beside(|| store.optimize(), tell)??;
    crash::at("after-index");
    store.seal()?;
    timings.index += begin.elapsed();
    crash::at("after-seal");

    // What counts is what a later reader will find, so it is read from disk again.
    let begin = Instant::now();
    let store = place.open_store(number, key.engine, &key.store)?;
    let content = content(store.as_ref(), |done| progress(Stage::Verify, done, Some(counts.points)))?;
    expect("points", store.count_for(content.points)?, content.points)?;
    if fresh {
        expect("points", content.points, counts.points)?;
        expect("articles", content.articles, counts.articles)?;
        expect("embeddings", content.embeddings, counts.embeddings)?;
    }
    if let Some(expected) = &filled.content_hash
        && content.hash != *expected
    {
        let (found, expected) = (content.hash, expected.clone());
        return Err(KbError::OtherContent { name: place.name().to_owned(), found, expected });
    }
    let Content { hash: content_hash, points, articles, sections, embeddings } = content;
    counts = Counts { points, articles, sections, embeddings, ..counts };
    store.seal()?;
    let files = match key.engine {
        Engine::Server => Vec::new(),
        _ => list_files(&dir, INDEX, |done| progress(Stage::Hash, done, None))?,
    };
    timings.verify = begin.elapsed();

    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let manifest = Manifest {
        format: FORMAT,
        name: place.name().to_owned(),
        sources: filled.sources.clone(),
        input_hash: key.input_hash,
        base: key.base,
        pictures: key.pictures,
        fingerprint: key.fingerprint,
        distance: "dot".to_owned(),
        engine: key.engine,
        store: key.store,
        recipe: key.recipe,
        counts,
        content_hash,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_unix_s: created.as_secs(),
        files,
    };
    crash::at("before-manifest");
    place.finish(number, &manifest)?;
    remember(&dir, &manifest.files);
    // From here on the build is finished, and its checkpoint means nothing.
    fs_err::remove_file(dir.join(CHECKPOINT))?;
    crash::at("before-swap");
    Ok(manifest)
}

/// Points at build `number` and removes what is not kept.
pub(super) fn put_in_use(
    place: &Place,
    number: u32,
    keep: usize,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<(), KbError> {
    if place.current().ok().flatten() != Some(number) {
        place.set_current(number)?;
        crash::at("after-swap");
    }
    let (mut kept, keep) = (1, place.kept(keep));
    for old in place.numbers()?.into_iter().rev().filter(|old| *old != number) {
        match place.manifest(old) {
            Ok(Some(_)) if kept < keep => {
                kept += 1;
                continue;
            }
            // On a server: another machine is building it.
            Ok(None) if !place.build(old).is_dir() => continue,
            Err(e @ KbError::Store(_)) => return Err(e),
            _ => {}
        }
        match place.hold(old) {
            Ok(lock) => {
                drop(lock);
                place.remove(old)?;
            }
            Err(KbError::Io(IoError::Locked { holder, .. })) => {
                let dir = place.build(old);
                let note = format!("{} is still in use by {holder}; the next build removes it", dir.display());
                watch(BuildEvent::Note(note));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
