//! A finished knowledge base, open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::place::{Home, Place};
use super::source::percent_decoded;
use super::store::{Payload, Query, Store, StoreError, bad_vectors, point_id};
use super::{Article, EmbedUnit, Found, Hit, KbError, Manifest};
use crate::io::DirLock;

/// Parts that are looked for at first, for each article that is wanted.
const PARTS_PER_ARTICLE: usize = 4;

/// How it is searched.
#[derive(Clone, Copy)]
struct Find {
    /// Every embedding is compared.
    exact: bool,
    /// An article may come several times.
    every_part: bool,
}

/// A knowledge base that this process has open, alone.
pub struct KnowledgeBase {
    // Declared before the lock, and so closed before it is given up.
    store: Box<dyn Store>,
    manifest: Manifest,
    dir: PathBuf,
    _lock: Option<DirLock>,
}

impl std::fmt::Debug for KnowledgeBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnowledgeBase").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl KnowledgeBase {
    /// Opens `name` of `home` for a retriever with the fingerprint `expect`; `None` skips that check, for commands
    /// that do not search.
    ///
    /// # Errors
    /// [`KbError::NotFound`], [`KbError::FingerprintMismatch`], [`KbError::Damaged`], and [`KbError::Io`] with
    /// [`crate::io::IoError::Locked`] where another process has it open.
    pub fn open(home: impl Into<Home>, name: &str, expect: Option<&str>) -> Result<Self, KbError> {
        let place = Place::new(home, name)?;
        let mut number = place.in_use()?;
        loop {
            match Self::open_build(&place, number, expect) {
                // A rebuild may have finished in between and removed the build that the pointer named before.
                Err(KbError::Damaged { .. } | KbError::Io(_) | KbError::Store(_))
                    if place.current()? != Some(number) =>
                {
                    number = place.in_use()?;
                }
                opened => return opened,
            }
        }
    }

    pub(super) fn open_build(place: &Place, number: u32, expect: Option<&str>) -> Result<Self, KbError> {
        let dir = place.build(number);
        let manifest = place.finished(number)?;
        if let Some(current) = expect {
            manifest.check_fingerprint(current)?;
        }
        let damaged = |reason| place.damaged(&dir, reason, Some(&manifest));
        let lock = place.hold(number)?;
        manifest.check(&dir).map_err(damaged)?;
        let (store, count) = open_counted(place, number, &manifest).map_err(|e| match e {
            StoreError::NoEngine | StoreError::OnServer | StoreError::Server(_) => e.into(),
            e => damaged(e.to_string()),
        })?;
        if count != manifest.counts.points {
            return Err(damaged(format!("it holds {count} points, expected {}", manifest.counts.points)));
        }
        Ok(Self { store, manifest, dir, _lock: lock })
    }

    /// The `k` articles nearest to an embedding (`[vectors, dim]`, each of length 1), best first; ties by URL. `words`
    /// count too where they are indexed.
    ///
    /// # Errors
    /// [`KbError::Query`] for another shape, a NaN or a zero vector; [`KbError::Store`].
    pub fn search(&self, vectors: &[f32], words: Option<&str>, k: usize) -> Result<Vec<Hit>, KbError> {
        self.find(vectors, words, k, Find { exact: false, every_part: false })
    }

    /// As [`KnowledgeBase::search`], but the `k` nearest parts where parts of articles are embedded: an article may come
    /// several times.
    ///
    /// # Errors
    /// As [`KnowledgeBase::search`].
    pub fn search_parts(&self, vectors: &[f32], words: Option<&str>, k: usize) -> Result<Vec<Hit>, KbError> {
        self.find(vectors, words, k, Find { exact: false, every_part: true })
    }

    /// As [`KnowledgeBase::search`] without words, comparing every embedding instead of walking a graph.
    ///
    /// # Errors
    /// As [`KnowledgeBase::search`].
    pub fn search_all(&self, vectors: &[f32], k: usize) -> Result<Vec<Hit>, KbError> {
        self.find(vectors, None, k, Find { exact: true, every_part: false })
    }

    fn find(&self, vectors: &[f32], words: Option<&str>, k: usize, how: Find) -> Result<Vec<Hit>, KbError> {
        let config = &self.manifest.store;
        if let Some(reason) = bad_vectors(vectors, config) {
            return Err(KbError::Query(reason));
        }
        if k == 0 {
            return Ok(Vec::new());
        }
        let words = words.filter(|words| config.words && !words.trim().is_empty());
        // Several parts of one article may be near: enough of them that `k` articles are.
        let in_parts = self.manifest.recipe.unit != EmbedUnit::Article && !how.every_part;
        let mut limit = if in_parts { k.saturating_mul(PARTS_PER_ARTICLE) } else { k };
        loop {
            let found = self.store.search(&Query { vectors, words, limit, exact: how.exact })?;
            let all = (found.len() as u64) < (limit as u64).min(self.manifest.counts.embeddings);
            let hits = self.hits(found, words.is_some(), how.every_part)?;
            if hits.len() >= k || !in_parts || all || limit as u64 >= self.manifest.counts.embeddings {
                return Ok(hits.into_iter().take(k).collect());
            }
            limit = limit.saturating_mul(4);
        }
    }

    /// Articles of what was found, each with its best part or with every one, best first.
    fn hits(&self, found: Vec<(Payload, f32)>, fused: bool, every_part: bool) -> Result<Vec<Hit>, KbError> {
        // A sum over the query's vectors becomes their mean.
        let scale = if fused { 1.0 } else { 1.0 / self.manifest.store.vectors as f32 };
        let mut hits = Vec::new();
        let mut parts: Vec<(String, f32, Found)> = Vec::new();
        for (payload, score) in found {
            match payload {
                Payload::Article(record) => {
                    hits.push(Hit { article: record.into_article(), score: score * scale, part: None });
                }
                Payload::Part(part) if every_part || parts.iter().all(|(url, ..)| *url != part.part_of) => {
                    let found = Found { section: part.section, picture: part.picture };
                    parts.push((part.part_of, score * scale, found));
                }
                Payload::Part(_) => {}
            }
        }
        let mut urls: Vec<&str> = parts.iter().map(|(url, ..)| url.as_str()).collect();
        urls.sort_unstable();
        urls.dedup();
        let ids: Vec<_> = urls.iter().map(|url| point_id(url)).collect();
        let mut articles = HashMap::new();
        for (url, article) in urls.into_iter().zip(self.store.get(&ids)?) {
            let Some(Payload::Article(record)) = article else {
                let reason = format!("a part of {url}, but not the article");
                return Err(StoreError::BadPayload { id: point_id(url).to_string(), reason }.into());
            };
            articles.insert(url, record.into_article());
        }
        for (url, score, part) in &parts {
            if let Some(article) = articles.get(url.as_str()) {
                hits.push(Hit { article: article.clone(), score: *score, part: Some(*part) });
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.article.url.cmp(&b.article.url)));
        Ok(hits)
    }

    /// The article of `url`, which may say `http` for `https` and write its letters as they are or as percent codes.
    ///
    /// # Errors
    /// [`KbError::Store`].
    pub fn article(&self, url: &str) -> Result<Option<Article>, KbError> {
        let ids: Vec<_> = spellings(url).iter().map(|url| point_id(url)).collect();
        let found = self.store.get(&ids)?;
        Ok(found.into_iter().flatten().find_map(|payload| match payload {
            Payload::Article(record) => Some(record.into_article()),
            Payload::Part(_) => None,
        }))
    }

    /// File of an article's lead picture; `None` for an article without one, or with a name that leads elsewhere.
    #[must_use]
    pub fn picture(&self, article: &Article) -> Option<PathBuf> {
        self.picture_file(article.lead_picture()?)
    }

    /// File of the picture that a hit was found with: that of the part, or as [`KnowledgeBase::picture`].
    #[must_use]
    pub fn picture_of(&self, hit: &Hit) -> Option<PathBuf> {
        let of_part = hit.part.and_then(|part| hit.article.pictures.get(part.picture?));
        of_part.map_or_else(|| self.picture(&hit.article), |picture| self.picture_file(&picture.name))
    }

    fn picture_file(&self, name: &str) -> Option<PathBuf> {
        crate::io::safe_join(&self.manifest.pictures.root, name).ok()
    }

    /// What it is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The engine underneath.
    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Directory of the build.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn open_counted(place: &Place, number: u32, manifest: &Manifest) -> Result<(Box<dyn Store>, u64), StoreError> {
    let store = place.open_store(number, manifest.engine, &manifest.store)?;
    let count = store.count_for(manifest.counts.points)?;
    Ok((store, count))
}

/// The ways in which data sets write a URL, as it is written first.
fn spellings(url: &str) -> Vec<String> {
    let decoded = percent_decoded(url);
    let mut encoded = String::with_capacity(decoded.len());
    for byte in decoded.bytes() {
        match byte.is_ascii() {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let mut all: Vec<String> = Vec::new();
    for written in [url.to_owned(), decoded, encoded] {
        let other = match (written.strip_prefix("http://"), written.strip_prefix("https://")) {
            (Some(rest), _) => Some(format!("https://{rest}")),
            (_, Some(rest)) => Some(format!("http://{rest}")),
            _ => None,
        };
        for spelling in [Some(written), other].into_iter().flatten() {
            if !all.contains(&spelling) {
                all.push(spelling);
            }
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::spellings;

    #[test]
    fn a_url_is_looked_for_as_it_may_be_written() {
        let all = spellings("http://w/Edificio_Espa%C3%B1a");
        assert_eq!(
            all,
            [
                "http://w/Edificio_Espa%C3%B1a",
                "https://w/Edificio_Espa%C3%B1a",
                "http://w/Edificio_España",
                "https://w/Edificio_España"
            ]
        );
        assert_eq!(spellings("https://w/España")[2..], ["https://w/Espa%C3%B1a", "http://w/Espa%C3%B1a"]);
        assert_eq!(spellings("file:ruins/gate.md"), ["file:ruins/gate.md"]);
    }
}
