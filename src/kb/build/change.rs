//! Articles are added to a knowledge base, or removed from it, without embedding the others again.
//!
//! A change is a build like any other: it begins with a copy of the one in use, which serves until the new one is
//! whole.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{BuildEvent, BuildOptions, Filled, Key, Report, Stage, Task, Timings, fill};
use crate::kb::manifest::FORMAT;
use crate::kb::store::{Payload, part_id, point_id};
use crate::kb::{Embedder, KbError, Manifest, Source};

/// Articles removed at once.
const REMOVED_AT_ONCE: usize = 500;

/// Adds the articles of `source` to the knowledge base `options.name`, as it was built: one with the URL of one that is
/// there takes its place, or is passed over if neither it nor its pictures changed since. Interrupted and resumed as
/// [`super::build`].
///
/// # Errors
/// [`KbError::NotFound`]; [`KbError::FingerprintMismatch`] for another retriever than that of the others;
/// [`KbError::OtherPictures`] for pictures in another directory; those of [`super::build`].
pub fn add(
    options: &BuildOptions,
    source: &mut dyn Source,
    embedder: &dyn Embedder,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Report, KbError> {
    let task = Task::begin(options)?;
    let (number, base) = in_use(&task)?;
    base.check_fingerprint(embedder.fingerprint())?;
    let identity = source.identity().clone();
    let pictures = options.pictures_of(source);
    // An article's pictures are found below one directory, that of the knowledge base.
    if pictures.root() != base.pictures.root {
        return Err(KbError::OtherPictures { found: pictures.root().to_owned(), expected: base.pictures.root });
    }
    if base.input_hash == identity.hash && !options.fresh {
        return Ok(task.report(super::Outcome::UpToDate, number, base, Timings::default()));
    }
    let key = key(&base, identity.hash.clone());
    task.run(&key, Some(&base), &mut task.over(&key, Some(number)), watch, &mut |job, watch| {
        let timings = fill::fill(job, options, source, pictures.clone(), embedder, cancel, watch)?;
        source.check_unchanged()?;
        let sources = base.sources.iter().chain([&identity]).cloned().collect();
        Ok(Filled { sources, timings, content_hash: None })
    })
}

/// Removes the articles of these URLs from the knowledge base `options.name`.
///
/// # Errors
/// [`KbError::NotFound`]; [`KbError::NoSuchArticle`] for a URL that is not there, before anything is done;
/// [`KbError::NothingLeft`]; those of the engine.
pub fn remove(options: &BuildOptions, urls: &[String], watch: &mut dyn FnMut(BuildEvent)) -> Result<Report, KbError> {
    let task = Task::begin(options)?;
    let (number, base) = in_use(&task)?;
    let mut sorted: Vec<&str> = urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut hasher = blake3::Hasher::new();
    for url in &sorted {
        hasher.update(&(url.len() as u64).to_le_bytes()).update(url.as_bytes());
    }
    let hash = hasher.finalize().to_hex().to_string();
    if base.base.is_some() && base.input_hash == hash && !options.fresh {
        return Ok(task.report(super::Outcome::UpToDate, number, base, Timings::default()));
    }
    if sorted.len() as u64 >= base.counts.articles {
        return Err(KbError::NothingLeft { name: options.name.clone() });
    }
    let key = key(&base, hash);
    task.run(&key, Some(&base), &mut task.over(&key, Some(number)), watch, &mut |job, watch| {
        let begin = Instant::now();
        let resumed = job.checkpoint.position.record > 0;
        // All are looked for before the first is removed.
        let mut doomed = Vec::new();
        for urls in sorted.chunks(REMOVED_AT_ONCE) {
            let ids: Vec<_> = urls.iter().map(|url| point_id(url)).collect();
            for ((url, id), found) in urls.iter().zip(ids.iter().copied()).zip(job.store.get(&ids)?) {
                match found {
                    Some(Payload::Article(record)) => {
                        // The article last: while it is there, a run that was cut off finds its parts again.
                        doomed.extend((0..record.parts).map(|n| part_id(id, n)));
                        doomed.push(id);
                    }
                    _ if resumed => {}
                    _ => return Err(KbError::NoSuchArticle { url: (*url).to_owned(), name: options.name.clone() }),
                }
            }
        }
        job.checkpoint.position.record = 1;
        job.checkpoint.write(&job.dir)?;
        let total = Some(doomed.len() as u64);
        for (n, ids) in doomed.chunks(REMOVED_AT_ONCE).enumerate() {
            watch(BuildEvent::Progress { stage: Stage::Remove, done: (n * REMOVED_AT_ONCE) as u64, total });
            job.store.delete(ids)?;
            super::crash::at("in-upsert");
        }
        job.store.flush()?;
        let timings = Timings { store: begin.elapsed(), ..Timings::default() };
        Ok(Filled { sources: base.sources.clone(), timings, content_hash: None })
    })
}

fn in_use(task: &Task<'_>) -> Result<(u32, Manifest), KbError> {
    let place = &task.place;
    let number = place.in_use()?;
    let (dir, manifest) = (place.build(number), place.finished(number)?);
    // A copy of something damaged would pass for whole.
    manifest.check_hashes(&dir, |_| {}).map_err(|reason| place.damaged(&dir, reason, Some(&manifest)))?;
    Ok((number, manifest))
}

fn key(base: &Manifest, input_hash: String) -> Key {
    Key {
        format: FORMAT,
        base: Some(base.content_hash.clone()),
        input_hash,
        fingerprint: base.fingerprint.clone(),
        recipe: base.recipe.clone(),
        engine: base.engine,
        store: base.store.clone(),
        pictures: base.pictures.clone(),
    }
}
