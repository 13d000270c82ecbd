//! Qdrant's engine in this process (`qdrant-edge` 0.9).
//!
//! What it leaves to its caller is done here:
//! - its log is on while a store is written, so that a killed process loses nothing that was acknowledged;
//! - an optimisation cut off leaves `temp_segments/` for ever: removed before each load;
//! - a batch with one bad point would store those before it, and NaN or zero vectors would be stored and never
//!   found: whole batches are checked first;
//! - damaged files make it panic: every call is guarded;
//! - a sealed store has no log, so that reading it writes none.
//!
//! Distance is the dot product, so vectors come back bit by bit as they were given.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use qdrant_edge::{
    CountRequest, Distance, EdgeConfig, EdgeConfigBuilder, EdgeShard, EdgeVectorParams, NamedQuery, OperationResult,
    Payload, PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum, QueryRequestBuilder,
    RetrieveRequest, ScoringQuery, ScrollRequestBuilder, SearchParams, UpdateOperation, VectorInternal,
    VectorStructInternal, WAL_PATH, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use super::{Point, Record, Store, StoreError, check_points};
use crate::io;

/// Name of the only vector of a point.
const VECTOR: &str = "article";

/// Up to this many points every one is compared; above, the graph is walked.
const EXACT_UP_TO: u64 = 20_000;

/// Width of the walk: recall@10 against an exact search was .999 at 50,000 points of 768 numbers.
const WALK: usize = 128;

/// Left behind by an optimisation that was cut off.
const TEMP_SEGMENTS: &str = "temp_segments";

/// The engine's own settings.
const CONFIG: &str = "edge_config.json";

/// One shard.
pub struct EdgeStore {
    shard: EdgeShard,
    dir: PathBuf,
    dim: usize,
    /// Whether every point is compared: decided at the first search, after which nothing is stored.
    exact: OnceLock<bool>,
}

impl EdgeStore {
    /// Makes an empty shard in `dir`.
    ///
    /// # Errors
    /// The engine's, or [`StoreError::File`] where `dir` exists.
    pub fn create(dir: &Path, dim: usize) -> Result<Self, StoreError> {
        fs_err::create_dir(dir).map_err(|source| file(dir, source))?;
        let config: EdgeConfig = EdgeConfigBuilder::new()
            .vector(VECTOR, EdgeVectorParams::builder(dim, Distance::Dot).build())
            .wal_enabled(true)
            .build();
        let shard = guarded("create a store", || EdgeShard::new(dir, config))?;
        Ok(Self { shard, dir: dir.to_owned(), dim, exact: OnceLock::new() })
    }

    /// Loads the shard in `dir`. A log that was not worked off is replayed.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Panicked`] where it broke off over its own files.
    pub fn open(dir: &Path, dim: usize) -> Result<Self, StoreError> {
        let temp = dir.join(TEMP_SEGMENTS);
        if temp.exists() {
            fs_err::remove_dir_all(&temp).map_err(|source| file(&temp, source))?;
        }
        let shard = guarded("load the store", || EdgeShard::load(dir, None))?;
        let found = shard.config().vectors.get(VECTOR).map(|v| v.size);
        if found != Some(dim) {
            let found = found.map_or("none".to_owned(), |size| size.to_string());
            let reason = format!("vectors of {found} numbers, expected {dim}");
            return Err(StoreError::Engine { what: "load the store", reason });
        }
        Ok(Self { shard, dir: dir.to_owned(), dim, exact: OnceLock::new() })
    }
}

impl Store for EdgeStore {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        check_points(&points, self.dim)?;
        let points = points.into_iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let insert = PointInsertOperations::PointsList(points);
        guarded("store points", || {
            self.shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert)))
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        guarded("flush", || self.shard.flush())
    }

    fn optimize(&self) -> Result<(), StoreError> {
        guarded("optimize", || self.shard.optimize()).map(|_| ())
    }

    fn count(&self) -> Result<u64, StoreError> {
        guarded("count", || self.shard.count(CountRequest::new())).map(|n| n as u64)
    }

    fn search(&self, vector: &[f32], k: usize) -> Result<Vec<(Record, f32)>, StoreError> {
        let exact = match self.exact.get() {
            Some(exact) => *exact,
            None => {
                let few = self.count()? <= EXACT_UP_TO;
                *self.exact.get_or_init(|| few)
            }
        };
        let params = SearchParams { hnsw_ef: Some(WALK.max(k)), exact, ..SearchParams::default() };
        let query = NamedQuery::new(VectorInternal::Dense(vector.to_vec()), VECTOR);
        let request = QueryRequestBuilder::new(k)
            .query(ScoringQuery::Vector(QueryEnum::Nearest(query)))
            .params(params)
            .with_payload(WithPayloadInterface::Bool(true))
            .build();
        let found = guarded("search", || self.shard.query(request))?;
        found.into_iter().map(|p| Ok((decode(p.id, p.payload)?, p.score))).collect()
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut request = RetrieveRequest::new(ids.iter().map(|id| PointId::Uuid(*id)).collect());
        request.with_payload = Some(WithPayloadInterface::Bool(true));
        let found = guarded("read points", || self.shard.retrieve(request))?;
        let mut by_id = HashMap::new();
        for point in found {
            by_id.insert(uuid_of(point.id)?, decode(point.id, point.payload)?);
        }
        Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
    }

    fn scan(&self, from: Option<Uuid>, limit: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError> {
        let mut request = ScrollRequestBuilder::new()
            .limit(limit)
            .with_payload(WithPayloadInterface::Bool(true))
            .with_vector(WithVector::Bool(true));
        if let Some(from) = from {
            request = request.offset(PointId::Uuid(from));
        }
        let (found, next) = guarded("scan", || self.shard.scroll(request.build()))?;
        let points = found.into_iter().map(|point| {
            let vector = match point.vector {
                Some(VectorStructInternal::Named(mut named)) => named.remove(VECTOR),
                _ => None,
            };
            let Some(VectorInternal::Dense(vector)) = vector else {
                let reason = format!("no vector {VECTOR:?}");
                return Err(StoreError::BadPayload { id: point.id.to_string(), reason });
            };
            Ok(Point { id: uuid_of(point.id)?, vector, record: decode(point.id, point.payload)? })
        });
        Ok((points.collect::<Result<_, _>>()?, next.map(uuid_of).transpose()?))
    }

    fn seal(self: Box<Self>) -> Result<(), StoreError> {
        self.flush()?;
        let Self { shard, dir, .. } = *self;
        // Dropping flushes once more and joins the engine's threads.
        guarded("close the store", || {
            drop(shard);
            Ok(())
        })?;
        // A load replays a log that is still there and then removes it, so either order of the two steps below
        // survives being cut off between them.
        let config = dir.join(CONFIG);
        let bytes = fs_err::read(&config).map_err(|source| file(&config, source))?;
        let mut settings: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Engine { what: "read its settings", reason: e.to_string() })?;
        settings["wal_enabled"] = false.into();
        io::write_atomic(&config, settings.to_string().as_bytes()).map_err(|source| file(&config, source))?;
        // The engine writes its settings in its own way at each load: let it do so now, and drop the log itself.
        let shard = guarded("load the sealed store", || EdgeShard::load(&dir, None))?;
        guarded("close the store", || {
            drop(shard);
            Ok(())
        })?;
        let log = dir.join(WAL_PATH);
        if log.exists() {
            fs_err::remove_dir_all(&log).map_err(|source| file(&log, source))?;
        }
        io::atomic::sync_dir(&dir).map_err(|source| file(&dir, source))
    }
}

fn encode(point: Point) -> Result<qdrant_edge::PointStructPersisted, StoreError> {
    let Point { id, vector, record } = point;
    let payload = serde_json::to_value(record)
        .map_err(|e| StoreError::BadPayload { id: id.to_string(), reason: e.to_string() })?;
    let vectors = qdrant_edge::Vectors::new_named([(VECTOR, vector)]);
    Ok(PointStruct::new(PointId::Uuid(id), vectors, payload).into())
}

fn decode(id: PointId, payload: Option<Payload>) -> Result<Record, StoreError> {
    let payload = payload.map(|p| p.0).unwrap_or_default();
    serde_json::from_value(serde_json::Value::Object(payload))
        .map_err(|e| StoreError::BadPayload { id: id.to_string(), reason: e.to_string() })
}

fn uuid_of(id: PointId) -> Result<Uuid, StoreError> {
    match id {
        PointId::Uuid(id) => Ok(id),
        PointId::NumId(id) => {
            let reason = "a number as its id, expected a UUID".to_owned();
            Err(StoreError::BadPayload { id: id.to_string(), reason })
        }
    }
}

/// Runs a call of the engine; its error in its display form (the other one carries a backtrace), its panic as an
/// error.
fn guarded<T>(what: &'static str, call: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Engine { what, reason: error.to_string() }),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(StoreError::Panicked { what, reason: text.unwrap_or_else(|| "no message".to_owned()) })
        }
    }
}

fn file(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source }
}
