//! A store in one JSON file: what surrounds an engine is tested on it, without one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::{Payload, Point, Query, Store, StoreConfig, StoreError, check_points};

type Points = BTreeMap<Uuid, (Vec<f32>, Payload)>;

thread_local! {
    /// Calls of the stores that this thread makes or opens, until each further one fails; `None` for never.
    pub static FAIL_IN: RefCell<Option<Arc<AtomicU32>>> = const { RefCell::new(None) };
}

fn fail(left: Option<&AtomicU32>) -> Result<(), StoreError> {
    let spend = |left: u32| left.checked_sub(1);
    match left.map(|left| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend)) {
        Some(Err(_)) => Err(StoreError::Engine { what: "work", reason: "it was told to fail".to_owned() }),
        _ => Ok(()),
    }
}

/// Points in memory, written whole at each upsert.
pub struct FlatStore {
    path: PathBuf,
    config: StoreConfig,
    points: Mutex<Points>,
    /// Points since the last call of [`Store::optimize`].
    unindexed: AtomicUsize,
    calls: Option<Arc<AtomicU32>>,
}

impl FlatStore {
    /// An empty one in `dir`.
    pub fn create(dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let calls = FAIL_IN.with_borrow(Clone::clone);
        fail(calls.as_deref())?;
        let path = dir.join("points.json");
        let file = |source| StoreError::File { path: path.clone(), source };
        fs_err::create_dir(dir).map_err(file)?;
        fs_err::write(&path, "[]").map_err(file)?;
        Ok(Self { path, config: config.clone(), points: Mutex::default(), unindexed: AtomicUsize::new(0), calls })
    }

    /// The one in `dir`.
    pub fn open(dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let calls = FAIL_IN.with_borrow(Clone::clone);
        fail(calls.as_deref())?;
        let path = dir.join("points.json");
        let bytes = fs_err::read(&path).map_err(|source| StoreError::File { path: path.clone(), source })?;
        let bad = |reason: String| StoreError::Engine { what: "load", reason };
        let rows: Vec<(String, Vec<f32>, serde_json::Map<String, serde_json::Value>)> =
            serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let points = rows.into_iter().map(|(id, vectors, payload)| {
            let id = Uuid::parse_str(&id).map_err(|e| bad(e.to_string()))?;
            Ok((id, (vectors, Payload::from_json(id, payload)?)))
        });
        let points = points.collect::<Result<_, StoreError>>()?;
        let (points, unindexed) = (Mutex::new(points), AtomicUsize::new(0));
        Ok(Self { path, config: config.clone(), points, unindexed, calls })
    }

    fn write(&self, all: &Points) -> Result<(), StoreError> {
        let rows: Vec<_> = all.iter().map(|(id, (vector, payload))| (id.to_string(), vector, payload)).collect();
        let bytes = serde_json::to_vec(&rows).unwrap_or_default();
        fs_err::write(&self.path, bytes).map_err(|source| StoreError::File { path: self.path.clone(), source })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Points) -> T) -> T {
        f(&mut self.points.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for FlatStore {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        fail(self.calls.as_deref())?;
        check_points(&points, &self.config)?;
        self.unindexed.fetch_add(points.len(), Ordering::Relaxed);
        self.with(|all| {
            all.extend(points.into_iter().map(|p| (p.id, (p.vectors, p.payload))));
            self.write(all)
        })
    }

    fn delete(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        fail(self.calls.as_deref())?;
        self.with(|all| {
            all.retain(|id, _| !ids.contains(id));
            self.write(all)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        fail(self.calls.as_deref())?;
        Ok(())
    }

    fn optimize(&self) -> Result<(), StoreError> {
        fail(self.calls.as_deref())?;
        self.unindexed.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn full(&self) -> bool {
        self.config.fill_a_graph(self.unindexed.load(Ordering::Relaxed))
    }

    fn count(&self) -> Result<u64, StoreError> {
        fail(self.calls.as_deref())?;
        Ok(self.with(|all| all.len() as u64))
    }

    fn search(&self, query: &Query<'_>) -> Result<Vec<(Payload, f32)>, StoreError> {
        fail(self.calls.as_deref())?;
        let dim = self.config.dim;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        // MaxSim; a point without vectors is not found.
        let score = |own: &[f32]| {
            let best = |row: &[f32]| own.chunks_exact(dim).map(|own| dot(row, own)).fold(f32::NEG_INFINITY, f32::max);
            query.vectors.chunks_exact(dim).map(best).sum::<f32>()
        };
        let mut found: Vec<(Payload, f32)> = self.with(|all| {
            let embedded = all.values().filter(|(values, _)| !values.is_empty());
            embedded.map(|(values, payload)| (payload.clone(), score(values))).collect()
        });
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(query.limit);
        Ok(found)
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Payload>>, StoreError> {
        fail(self.calls.as_deref())?;
        Ok(self.with(|all| ids.iter().map(|id| all.get(id).map(|(_, payload)| payload.clone())).collect()))
    }

    fn scan(&self, from: Option<Uuid>, limit: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError> {
        fail(self.calls.as_deref())?;
        self.with(|all| {
            let mut rest = all.range(from.unwrap_or(Uuid::nil())..);
            let page = rest.by_ref().take(limit);
            let page = page
                .map(|(id, (v, r))| Point { id: *id, vectors: v.clone(), words: None, payload: r.clone() })
                .collect();
            Ok((page, rest.next().map(|(id, _)| *id)))
        })
    }

    fn seal(self: Box<Self>) -> Result<(), StoreError> {
        fail(self.calls.as_deref())?;
        Ok(())
    }
}
