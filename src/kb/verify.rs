//! A whole look at a finished knowledge base: what [`KnowledgeBase::open`] does not look for.

use std::collections::HashSet;

use serde::Serialize;
use uuid::Uuid;

use super::build::INDEX;
use super::integrity::files_below;
use super::place::{Home, Place};
use super::store::{Payload, Record, content, part_id, point_id};
use super::{Document, EmbedUnit, Embedder, KbError, KnowledgeBase, Manifest};

/// Articles that are embedded again.
const SAMPLE: usize = 16;

/// Least cosine of an embedding with the one made again: another machine or batch changes the last bits alone.
const SAME: f32 = 0.999;

/// What was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// What it is made of.
    pub manifest: Manifest,
    /// Embeddings that were made again and found equal; `None` where there was no retriever to do it.
    pub embedded_again: Option<usize>,
    /// Builds and files that belong to nothing: of builds that were cut off, or put there by hand.
    pub orphans: Vec<String>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bytes hashed.
    Hash(u64),
    /// Points read.
    Read(u64),
}

/// Compares every file's hash with the manifest, reads every point and compares all of them with what was stored, and
/// has a sample embedded again by `embedder`.
///
/// # Errors
/// [`KbError::Damaged`] for whatever differs; otherwise as [`KnowledgeBase::open`].
pub fn verify(
    home: impl Into<Home>,
    name: &str,
    embedder: Option<&dyn Embedder>,
    mut seen: impl FnMut(Step),
) -> Result<Verified, KbError> {
    let place = Place::new(home, name)?;
    let number = place.in_use()?;
    let dir = place.build(number);
    let manifest = place.finished(number)?;
    let lock = place.hold(number)?;
    let hashed = manifest.check_hashes(&dir, |bytes| seen(Step::Hash(bytes)));
    hashed.map_err(|reason| place.damaged(&dir, reason, Some(&manifest)))?;
    drop(lock);
    let base = KnowledgeBase::open_build(&place, number, embedder.map(Embedder::fingerprint))?;
    let manifest = base.manifest();
    let damaged = |reason: String| place.damaged(&dir, reason, Some(manifest));
    let found = content(base.store(), |points| seen(Step::Read(points)))?;
    if found.hash != manifest.content_hash {
        return Err(damaged("its articles or embeddings are not those that were stored".to_owned()));
    }
    let embedded_again = match embedder {
        Some(embedder) => Some(embed_again(&base, embedder, &damaged)?),
        None => None,
    };
    let orphans = orphans(&place, number, manifest)?;
    Ok(Verified { manifest: manifest.clone(), embedded_again, orphans })
}

/// Articles spread over the whole store, and their embeddings made again.
fn embed_again(
    base: &KnowledgeBase,
    embedder: &dyn Embedder,
    damaged: &dyn Fn(String) -> KbError,
) -> Result<usize, KbError> {
    let (store, manifest) = (base.store(), base.manifest());
    let mut records: Vec<Record> = Vec::new();
    let mut seen = HashSet::new();
    for n in 0..SAMPLE {
        let from = Uuid::from_u128((u128::MAX / SAMPLE as u128) * n as u128);
        let url = store.scan(Some(from), 1)?.0.first().map(|point| point.payload.url().to_owned());
        let Some(url) = url.filter(|url| seen.insert(url.clone())) else { continue };
        match store.get(&[point_id(&url)])?.pop().flatten() {
            Some(Payload::Article(record)) => records.push(record),
            _ => return Err(damaged(format!("there is a part of {url}, but not the article"))),
        }
    }
    let mut equal = 0;
    for record in records {
        let article = record.into_article();
        for (n, unit) in manifest.recipe.units(&article).into_iter().enumerate() {
            let id = match manifest.recipe.unit {
                EmbedUnit::Article => point_id(&article.url),
                _ => part_id(point_id(&article.url), n),
            };
            let stored = store.scan(Some(id), 1)?.0.pop().filter(|point| point.id == id).map(|point| point.vectors);
            let Some(stored) = stored else { continue };
            let document = manifest.recipe.document(&article, n, &unit, &manifest.pictures.root);
            let key = document.key.clone();
            // One that could not be read was left out then, too.
            let blind = Document { image: None, ..document.clone() };
            let texts = [document, blind];
            let mut made = Vec::new();
            for document in texts.into_iter().filter(|d| d.text.is_some() || d.image.is_some()) {
                let outcome = embedder.embed(vec![document]);
                let outcome = outcome.map_err(KbError::Query)?.pop();
                if let Some(Ok(vectors)) = outcome {
                    made = vectors;
                    break;
                }
            }
            if !same(&stored, &made, manifest.store.dim) {
                return Err(damaged(format!("the embedding of {key} is not the one that its retriever makes")));
            }
            equal += 1;
        }
    }
    Ok(equal)
}

fn same(a: &[f32], b: &[f32], dim: usize) -> bool {
    let cosine = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    a.len() == b.len() && a.chunks_exact(dim.max(1)).zip(b.chunks_exact(dim.max(1))).all(|pair| cosine(pair) >= SAME)
}

fn orphans(place: &Place, in_use: u32, manifest: &Manifest) -> Result<Vec<String>, KbError> {
    let mut orphans = Vec::new();
    for number in place.numbers()? {
        if number != in_use && !matches!(place.manifest(number), Ok(Some(_))) {
            orphans.push(format!("build {number}: it has not finished"));
        }
    }
    let dir = place.build(in_use);
    let known: HashSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    if manifest.files.is_empty() {
        return Ok(orphans);
    }
    let unknown = files_below(&dir, INDEX)?.into_iter().filter(|path| !known.contains(path.as_str()));
    orphans.extend(unknown.map(|path| format!("{}: not of this build", dir.join(path).display())));
    Ok(orphans)
}
