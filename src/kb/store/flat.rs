//! A store in one JSON file: what surrounds an engine is tested on it, without one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::{Point, Record, Store, StoreError, check_points};

type Points = BTreeMap<Uuid, (Vec<f32>, Record)>;

thread_local! {
    /// Calls of stores in this thread until one fails; `None` for never.
    pub static FAIL_IN: Cell<Option<u32>> = const { Cell::new(None) };
}

fn fail() -> Result<(), StoreError> {
    match FAIL_IN.get() {
        None => Ok(()),
        Some(0) => Err(StoreError::Engine { what: "work", reason: "it was told to fail".to_owned() }),
        Some(left) => {
            FAIL_IN.set(Some(left - 1));
            Ok(())
        }
    }
}

/// Points in memory, written whole at each upsert.
pub struct FlatStore {
    path: PathBuf,
    dim: usize,
    points: Mutex<Points>,
}

impl FlatStore {
    /// An empty one in `dir`.
    pub fn create(dir: &Path, dim: usize) -> Result<Self, StoreError> {
        fail()?;
        let path = dir.join("points.json");
        let file = |source| StoreError::File { path: path.clone(), source };
        fs_err::create_dir(dir).map_err(file)?;
        fs_err::write(&path, "[]").map_err(file)?;
        Ok(Self { path, dim, points: Mutex::default() })
    }

    /// The one in `dir`.
    pub fn open(dir: &Path, dim: usize) -> Result<Self, StoreError> {
        fail()?;
        let path = dir.join("points.json");
        let bytes = fs_err::read(&path).map_err(|source| StoreError::File { path: path.clone(), source })?;
        let points: Vec<(Uuid, Vec<f32>, Record)> = serde_json::from_slice::<Vec<(String, Vec<f32>, Record)>>(&bytes)
            .map_err(|e| StoreError::Engine { what: "load", reason: e.to_string() })?
            .into_iter()
            .filter_map(|(id, vector, record)| Some((Uuid::parse_str(&id).ok()?, vector, record)))
            .collect();
        let points = points.into_iter().map(|(id, vector, record)| (id, (vector, record))).collect();
        Ok(Self { path, dim, points: Mutex::new(points) })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Points) -> T) -> T {
        f(&mut self.points.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for FlatStore {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        fail()?;
        check_points(&points, self.dim)?;
        self.with(|all| {
            all.extend(points.into_iter().map(|p| (p.id, (p.vector, p.record))));
            let rows: Vec<_> = all.iter().map(|(id, (vector, record))| (id.to_string(), vector, record)).collect();
            let bytes = serde_json::to_vec(&rows).unwrap_or_default();
            fs_err::write(&self.path, bytes).map_err(|source| StoreError::File { path: self.path.clone(), source })
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        fail()?;
        Ok(())
    }

    fn optimize(&self) -> Result<(), StoreError> {
        fail()?;
        Ok(())
    }

    fn count(&self) -> Result<u64, StoreError> {
        fail()?;
        Ok(self.with(|all| all.len() as u64))
    }

    fn search(&self, vector: &[f32], k: usize) -> Result<Vec<(Record, f32)>, StoreError> {
        fail()?;
        let mut found: Vec<(Record, f32)> = self.with(|all| {
            let dot = |v: &[f32]| v.iter().zip(vector).map(|(a, b)| a * b).sum();
            all.values().map(|(v, record)| (record.clone(), dot(v))).collect()
        });
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(k);
        Ok(found)
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Record>>, StoreError> {
        fail()?;
        Ok(self.with(|all| ids.iter().map(|id| all.get(id).map(|(_, record)| record.clone())).collect()))
    }

    fn scan(&self, from: Option<Uuid>, limit: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError> {
        fail()?;
        self.with(|all| {
            let mut rest = all.range(from.unwrap_or(Uuid::nil())..);
            let page = rest.by_ref().take(limit);
            let page = page.map(|(id, (v, r))| Point { id: *id, vector: v.clone(), record: r.clone() }).collect();
            Ok((page, rest.next().map(|(id, _)| *id)))
        })
    }

    fn seal(self: Box<Self>) -> Result<(), StoreError> {
        fail()?;
        Ok(())
    }
}
