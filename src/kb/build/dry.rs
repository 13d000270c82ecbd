//! A build without embeddings: everything is read, nothing is kept, and what would be built is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use uuid::Uuid;

use super::{BuildEvent, BuildOptions, Checkpoint, Job, Key, QUARANTINE, Timings, fill};
use crate::io::JsonlReader;
use crate::kb::manifest::{FORMAT, Pictures};
use crate::kb::source::Identity;
use crate::kb::store::{Payload, Point, Query, Record, Store, StoreConfig, StoreError};
use crate::kb::{Counts, Document, Embedder, KbError, Source};

/// Reasons that are told; the others are counted.
const TOLD: usize = 10;

/// What a build would make.
#[derive(Debug, Clone, Serialize)]
pub struct Prospect {
    /// What was read.
    pub source: Identity,
    /// What would be stored; pictures as far as there are files, whatever is in them.
    pub counts: Counts,
    /// Records that could not be used, and articles that come again.
    pub refused: u64,
    /// Embeddings whose text is longer than the retriever reads.
    pub texts_cut: u64,
    /// Tokens that it does not read.
    pub tokens_cut: u64,
    /// The first reasons for what was refused or lost a picture.
    pub problems: Vec<String>,
    /// How long it took.
    pub timings: Timings,
}

/// Reads all of `source` as [`super::build`] would. `beyond` says how many tokens of a text the retriever does not
/// read. Takes about 50 bytes of memory an article, to see which come again.
///
/// # Errors
/// Those of reading; what is refused is no error, however much it is.
pub fn dry_run(
    options: &BuildOptions,
    source: &mut dyn Source,
    beyond: &(dyn Fn(&str) -> usize + Sync),
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Prospect, KbError> {
    let pictures = options.pictures_of(source);
    let store = StoreConfig { dim: 1, vectors: 1, ..options.store.clone() };
    let key = Key {
        format: FORMAT,
        base: None,
        input_hash: source.identity().hash.clone(),
        fingerprint: String::new(),
        recipe: options.recipe.clone(),
        engine: options.engine,
        store,
        pictures: Pictures::of(&pictures),
    };
    let dir = tempfile::tempdir()?;
    let checkpoint = Checkpoint::new(key, None);
    let (store, base) = (Box::new(Seen::default()), Counts::default());
    let mut job = Job { number: 0, dir: dir.path().to_owned(), store, checkpoint, base };
    let options = BuildOptions { max_malformed: Some(u64::MAX), checkpoint_every: usize::MAX, ..options.clone() };
    let reader = Reader { beyond, texts: AtomicU64::new(0), tokens: AtomicU64::new(0) };
    let timings = match fill::fill(&mut job, &options, source, pictures, &reader, cancel, watch) {
        Ok(timings) => timings,
        // Told by the numbers.
        Err(KbError::Empty { .. }) => Timings::default(),
        Err(e) => return Err(e),
    };
    #[derive(serde::Deserialize)]
    struct Problem {
        record: u64,
        #[serde(default)]
        url: Option<String>,
        reason: String,
    }
    let unit = source.identity().unit;
    let problems = JsonlReader::<Problem>::open(&dir.path().join(QUARANTINE))?.take(TOLD).map(|row| {
        let Problem { record, url, reason } = row?.1;
        let url = url.map(|url| format!(" ({url})")).unwrap_or_default();
        Ok(format!("{unit} {record}{url}: {reason}"))
    });
    Ok(Prospect {
        problems: problems.collect::<Result<_, KbError>>()?,
        source: source.identity().clone(),
        refused: job.checkpoint.counts.quarantined,
        counts: job.checkpoint.counts,
        texts_cut: reader.texts.into_inner(),
        tokens_cut: reader.tokens.into_inner(),
        timings,
    })
}

/// Embeds nothing, and counts what would not be read.
struct Reader<'a> {
    beyond: &'a (dyn Fn(&str) -> usize + Sync),
    texts: AtomicU64,
    tokens: AtomicU64,
}

impl Embedder for Reader<'_> {
    fn fingerprint(&self) -> &str {
        ""
    }

    fn dim(&self) -> usize {
        1
    }

    fn vectors(&self) -> usize {
        1
    }

    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        for text in batch.iter().filter_map(|document| document.text.as_deref()) {
            let beyond = (self.beyond)(text) as u64;
            self.texts.fetch_add(u64::from(beyond > 0), Ordering::Relaxed);
            self.tokens.fetch_add(beyond, Ordering::Relaxed);
        }
        Ok(batch.iter().map(|_| Ok(vec![1.0])).collect())
    }
}

/// Keeps of the articles who they are and where they stood.
#[derive(Default)]
struct Seen(Mutex<HashMap<Uuid, u64>>);

impl Store for Seen {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Point { id, payload, .. } in points {
            if let Payload::Article(record) = payload {
                seen.insert(id, record.record);
            }
        }
        Ok(())
    }

    fn delete(&self, _: &[Uuid]) -> Result<(), StoreError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn optimize(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn search(&self, _: &Query<'_>) -> Result<Vec<(Payload, f32)>, StoreError> {
        Ok(Vec::new())
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Payload>>, StoreError> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = |record: &u64| Payload::Article(Record::new(crate::kb::Article::default(), 0, *record, 0));
        Ok(ids.iter().map(|id| seen.get(id).map(record)).collect())
    }

    fn scan(&self, _: Option<Uuid>, _: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError> {
        Ok((Vec::new(), None))
    }

    fn seal(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}
