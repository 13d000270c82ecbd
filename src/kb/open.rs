//! A finished knowledge base, open.

use std::path::{Path, PathBuf};

use super::place::Place;
use super::store::{Store, StoreError, bad_vector, point_id};
use super::{Article, Hit, KbError, Manifest};
use crate::io::DirLock;

/// A knowledge base that this process has open, alone.
pub struct KnowledgeBase {
    // Declared before the lock, and so closed before it is given up.
    store: Box<dyn Store>,
    manifest: Manifest,
    dir: PathBuf,
    _lock: DirLock,
}

impl std::fmt::Debug for KnowledgeBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnowledgeBase").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl KnowledgeBase {
    /// Opens `name` below `root` for a retriever with the fingerprint `expect`; `None` skips that check, for commands
    /// that do not search.
    ///
    /// # Errors
    /// [`KbError::NotFound`], [`KbError::FingerprintMismatch`], [`KbError::Damaged`], and [`KbError::Io`] with
    /// [`crate::io::IoError::Locked`] where another process has it open.
    pub fn open(root: &Path, name: &str, expect: Option<&str>) -> Result<Self, KbError> {
        let place = Place::new(root, name)?;
        let mut number = place.current()?.ok_or_else(|| place.not_found())?;
        loop {
            match Self::open_build(&place, number, expect) {
                // A rebuild may have finished in between and removed the build that the pointer named before.
                Err(KbError::Damaged { .. } | KbError::Io(_)) if place.current()? != Some(number) => {
                    number = place.current()?.ok_or_else(|| place.not_found())?;
                }
                opened => return opened,
            }
        }
    }

    fn open_build(place: &Place, number: u32, expect: Option<&str>) -> Result<Self, KbError> {
        let dir = place.build(number);
        let manifest = match Manifest::read(&dir) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err(place.damaged(&dir, "there is no manifest".to_owned(), None)),
            Err(reason) => return Err(place.damaged(&dir, reason, None)),
        };
        if let Some(current) = expect
            && current != manifest.fingerprint
        {
            return Err(KbError::FingerprintMismatch {
                name: place.name().to_owned(),
                built_with: manifest.fingerprint.clone(),
                current: current.to_owned(),
                mend: manifest.mend(),
            });
        }
        let damaged = |reason| place.damaged(&dir, reason, Some(&manifest));
        let lock = DirLock::acquire(&dir)?;
        manifest.check(&dir).map_err(damaged)?;
        let (store, count) = open_counted(&manifest, &dir).map_err(|e| match e {
            StoreError::NoEngine => e.into(),
            e => damaged(e.to_string()),
        })?;
        if count != manifest.counts.articles {
            return Err(damaged(format!("it holds {count} articles, expected {}", manifest.counts.articles)));
        }
        Ok(Self { store, manifest, dir, _lock: lock })
    }

    /// Compares every file's hash with the manifest, then opens it: finds what [`KnowledgeBase::open`] does not look
    /// for, a changed byte in a large file. `seen` is told the bytes read so far.
    ///
    /// # Errors
    /// As [`KnowledgeBase::open`].
    pub fn verify(root: &Path, name: &str, seen: impl FnMut(u64)) -> Result<Self, KbError> {
        let place = Place::new(root, name)?;
        let number = place.current()?.ok_or_else(|| place.not_found())?;
        let dir = place.build(number);
        if let Ok(Some(manifest)) = Manifest::read(&dir) {
            let _lock = DirLock::acquire(&dir)?;
            manifest.check_hashes(&dir, seen).map_err(|reason| place.damaged(&dir, reason, Some(&manifest)))?;
        }
        Self::open_build(&place, number, None)
    }

    /// The `k` articles nearest to `vector` (`[dim]`, of length 1), best first; ties by URL.
    ///
    /// # Errors
    /// [`KbError::Query`] for another length, a NaN or a zero vector; [`KbError::Store`].
    pub fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>, KbError> {
        if let Some(reason) = bad_vector(vector, self.manifest.dim) {
            return Err(KbError::Query(reason));
        }
        if k == 0 {
            return Ok(Vec::new());
        }
        let found = self.store.search(vector, k)?;
        let mut hits: Vec<Hit> =
            found.into_iter().map(|(record, score)| Hit { article: record.into_article(), score }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.article.url.cmp(&b.article.url)));
        Ok(hits)
    }

    /// The article of `url`, which may say `http` for `https` or the other way round.
    ///
    /// # Errors
    /// [`KbError::Store`].
    pub fn article(&self, url: &str) -> Result<Option<Article>, KbError> {
        let mut ids = vec![point_id(url)];
        if let Some(rest) = url.strip_prefix("http://") {
            ids.push(point_id(&format!("https://{rest}")));
        } else if let Some(rest) = url.strip_prefix("https://") {
            ids.push(point_id(&format!("http://{rest}")));
        }
        let found = self.store.get(&ids)?;
        Ok(found.into_iter().flatten().next().map(super::store::Record::into_article))
    }

    /// File of an article's lead picture; `None` for an article without one, or with a name that leads elsewhere.
    #[must_use]
    pub fn picture(&self, article: &Article) -> Option<PathBuf> {
        crate::io::safe_join(&self.manifest.picture_root, article.image.as_deref()?).ok()
    }

    /// What it is made of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Directory of the build.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn open_counted(manifest: &Manifest, dir: &Path) -> Result<(Box<dyn Store>, u64), StoreError> {
    let store = manifest.engine.open(&dir.join(super::build::INDEX), manifest.dim)?;
    let count = store.count()?;
    Ok((store, count))
}
