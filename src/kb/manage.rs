//! What is done to finished builds: one is put in use, removed, or written out.

use std::path::Path;

use crate::io::{AtomicFile, DirLock, write_line};
use crate::kb::place::{Home, Place};
use crate::kb::store::Payload;
use crate::kb::{KbError, KnowledgeBase, Manifest, vectors};

/// File of the articles of an export, in the format that `--source jsonl:FILE` reads.
pub const ARTICLES: &str = "articles.jsonl";

/// File of the embeddings of an export; their keys are beside it.
pub const VECTORS: &str = "vectors.safetensors";

/// Puts the finished build `number` of `name` in use.
///
/// # Errors
/// [`KbError::NoBuild`] where it is not there or not finished; [`KbError::Damaged`]; a lock that a build holds.
pub fn use_build(home: impl Into<Home>, name: &str, number: u32) -> Result<Manifest, KbError> {
    let place = Place::new(home, name)?;
    let numbers = place.numbers()?;
    if numbers.is_empty() {
        return Err(place.not_found());
    }
    if matches!(place.manifest(number), Ok(None)) {
        return Err(no_build(&place, number, numbers));
    }
    let manifest = place.finished(number)?;
    fs_err::create_dir_all(place.dir())?;
    let _lock = DirLock::acquire(&place.dir())?;
    let dir = place.build(number);
    manifest.check(&dir).map_err(|reason| place.damaged(&dir, reason, Some(&manifest)))?;
    place.set_current(number)?;
    Ok(manifest)
}

/// Removes the build `number` of `name`, or all of the knowledge base.
///
/// # Errors
/// [`KbError::NotFound`], [`KbError::NoBuild`], [`KbError::InUse`] for the build in use, or a lock that a build or a
/// reader holds; nothing is removed then.
pub fn drop_build(home: impl Into<Home>, name: &str, number: Option<u32>) -> Result<(), KbError> {
    let place = Place::new(home, name)?;
    let numbers = place.numbers()?;
    if numbers.is_empty() {
        return Err(place.not_found());
    }
    fs_err::create_dir_all(place.dir())?;
    let lock = DirLock::acquire(&place.dir())?;
    // Whoever has a build open holds its lock.
    let doomed = numbers.iter().copied().filter(|n| number.is_none_or(|number| number == *n));
    let locks = doomed.map(|n| place.hold(n)).collect::<Result<Vec<_>, _>>()?;
    match number {
        Some(number) if !numbers.contains(&number) => Err(no_build(&place, number, numbers)),
        Some(number) if place.current().ok().flatten() == Some(number) => {
            Err(KbError::InUse { name: name.to_owned(), number })
        }
        Some(number) => {
            drop(locks);
            place.remove(number)
        }
        None => {
            drop((locks, lock));
            place.remove_all()
        }
    }
}

/// Writes the articles and embeddings of `name` into the directory `out`, in the formats that a build reads. `seen` is
/// told the points written so far.
///
/// # Errors
/// Those of opening it, and the system's. What is finished has its name; nothing is left of the rest.
pub fn export(home: impl Into<Home>, name: &str, out: &Path, mut seen: impl FnMut(u64)) -> Result<Manifest, KbError> {
    let base = KnowledgeBase::open(home, name, None)?;
    let manifest = base.manifest().clone();
    fs_err::create_dir_all(out)?;
    let articles_path = out.join(ARTICLES);
    let mut articles = AtomicFile::create(&articles_path)?;
    let mut done = 0;
    let (store, config) = (base.store(), &manifest.store);
    let counts = &manifest.counts;
    vectors::write(&out.join(VECTORS), store, config, &manifest.fingerprint, counts.embeddings, |point| {
        if let Payload::Article(record) = &point.payload {
            write_line(&mut articles, &articles_path, &record.clone().into_article())?;
        }
        done += 1;
        seen(done);
        Ok(())
    })?;
    articles.commit()?;
    Ok(manifest)
}

fn no_build(place: &Place, number: u32, numbers: Vec<u32>) -> KbError {
    let finished = numbers.into_iter().filter(|n| matches!(place.manifest(*n), Ok(Some(_))));
    KbError::NoBuild { name: place.name().to_owned(), number, finished: finished.collect() }
}
