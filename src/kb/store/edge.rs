//! Qdrant's engine in this process (`qdrant-edge` 0.9).
//!
//! What it leaves to its caller is done here:
//! - its log is on while a store is written, so that a killed process loses nothing that was acknowledged;
//! - an optimisation cut off leaves `temp_segments/` for ever: removed before each load;
//! - a batch with one bad point would store those before it, and NaN or zero vectors would be stored and never
//!   found: whole batches are checked first;
//! - damaged files make it panic: every call is guarded;
//! - it would hold the ids of all points in memory to count them: they are counted page by page;
//! - it would put all points into one graph, and hold all of it in memory while it is made: a graph is made whenever
//!   there are enough points for one;
//! - a sealed store has no log, so that reading it writes none. It never gets one again: a new log would count its
//!   operations from 0, and those that look older than what is stored are passed over in silence. Without a log they
//!   are counted on from there, and whoever writes makes them durable by flushing.
//!
//! Distance is the dot product, so vectors come back bit by bit as they were given.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use qdrant_edge::bm25_embed::EdgeBm25;
use qdrant_edge::{
    Distance, EdgeConfig, EdgeConfigBuilder, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams,
    Fusion, HnswIndexConfig, Memory, Modifier, MultiVectorComparator, MultiVectorConfig, NamedQuery, OperationResult,
    PointId, PointInsertOperations, PointOperations, PointStruct, PrefetchBuilder, QuantizationSearchParams, QueryEnum,
    QueryRequestBuilder, RetrieveRequest, ScoringQuery, ScrollRequestBuilder, SearchParams, TypedMultiDenseVector,
    UpdateOperation, Vector, VectorInternal, VectorStructInternal, WAL_PATH, WithPayloadInterface, WithVector,
};
use uuid::Uuid;

use super::tuning::{EXACT_UP_TO, FUSED, RRF_K, VECTOR, WALK, WORDS, oversampling, words_model};
use super::{Payload, Point, Quantization, Query, Store, StoreConfig, StoreError, check_points};
use crate::io;

/// Left behind by an optimisation that was cut off.
const TEMP_SEGMENTS: &str = "temp_segments";

/// Where its segments are.
const SEGMENTS: &str = "segments";

/// The engine's own settings.
const CONFIG: &str = "edge_config.json";

/// Vectors of a segment, in KB, from which on it gets a graph; comparing fewer is as quick.
const INDEXED_FROM_KB: usize = 10_000;

/// Points that are counted at once.
const COUNTED_AT_ONCE: usize = 2000;

/// One shard.
pub struct EdgeStore {
    shard: EdgeShard,
    dir: PathBuf,
    config: StoreConfig,
    words: Option<EdgeBm25>,
    /// Points that were stored since the last graph was made.
    unindexed: AtomicUsize,
    /// Whether every point is compared: decided at the first search, after which nothing is stored.
    exact: OnceLock<bool>,
}

impl EdgeStore {
    /// Makes an empty shard in `dir`.
    ///
    /// # Errors
    /// The engine's, or [`StoreError::File`] where `dir` exists.
    pub fn create(dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        fs_err::create_dir(dir).map_err(|source| StoreError::file(dir, source))?;
        let shard = guarded("create a store", || EdgeShard::new(dir, edge_config(config)))?;
        Self::over(shard, dir, config)
    }

    /// Loads the shard in `dir`. A log that was not worked off is replayed.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Panicked`] where it broke off over its own files.
    pub fn open(dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let temp = dir.join(TEMP_SEGMENTS);
        if temp.exists() {
            fs_err::remove_dir_all(&temp).map_err(|source| StoreError::file(&temp, source))?;
        }
        Self::checked(guarded("load the store", || EdgeShard::load(dir, None))?, dir, config)
    }

    /// Unpacks a server's archive of a collection in one part. Its segments stay as they are: to merge them would cost
    /// a new graph.
    ///
    /// # Errors
    /// As [`EdgeStore::open`].
    pub fn unpack(archive: &Path, dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        fs_err::create_dir(dir).map_err(|source| StoreError::file(dir, source))?;
        guarded("unpack the archive", || EdgeShard::unpack_snapshot(archive, dir))?;
        let segments = dir.join(SEGMENTS);
        let segments = fs_err::read_dir(&segments).map_err(|source| StoreError::file(&segments, source))?.count();
        // What is not said here is taken from the segments.
        let optimizers = EdgeOptimizersConfig { default_segment_number: Some(segments), ..optimizers(config) };
        let edge = EdgeConfigBuilder::new().optimizers(optimizers).wal_enabled(true).build();
        Self::checked(guarded("load the archive", || EdgeShard::load(dir, Some(edge)))?, dir, config)
    }

    fn checked(shard: EdgeShard, dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let found = shard.config().vectors.get(VECTOR).map(|v| v.size);
        if found != Some(config.dim) {
            let found = found.map_or("none".to_owned(), |size| size.to_string());
            let reason = format!("vectors of {found} numbers, expected {}", config.dim);
            return Err(StoreError::Engine { what: "load the store", reason });
        }
        Self::over(shard, dir, config)
    }

    fn over(shard: EdgeShard, dir: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let words = config.words.then(words_model).transpose()?;
        let found = guarded("count", || shard.info())?;
        // Words count as indexed from the start, beside the vectors.
        let vectors = found.points_count * if config.words { 2 } else { 1 };
        let unindexed = AtomicUsize::new(vectors.saturating_sub(found.indexed_vectors_count));
        Ok(Self { shard, dir: dir.to_owned(), config: config.clone(), words, unindexed, exact: OnceLock::new() })
    }

    fn compares_all(&self) -> Result<bool, StoreError> {
        match self.exact.get() {
            Some(exact) => Ok(*exact),
            None => {
                let few = self.tally()? <= EXACT_UP_TO;
                Ok(*self.exact.get_or_init(|| few))
            }
        }
    }

    fn encode(&self, point: Point) -> Result<qdrant_edge::PointStructPersisted, StoreError> {
        let Point { id, vectors, words, payload } = point;
        let bad = |e: String| StoreError::BadPayload { id: id.to_string(), reason: e };
        let payload = serde_json::to_value(payload).map_err(|e| bad(e.to_string()))?;
        let mut named: Vec<(&str, Vector)> = Vec::new();
        if !vectors.is_empty() {
            named.push((VECTOR, Vector(self.vector(vectors)?)));
        }
        if let (Some(model), Some(words)) = (&self.words, words) {
            named.push((WORDS, model.embed_document(&words).into()));
        }
        Ok(PointStruct::new(PointId::Uuid(id), qdrant_edge::Vectors::new_named(named), payload).into())
    }

    fn vector(&self, values: Vec<f32>) -> Result<VectorInternal, StoreError> {
        if self.config.vectors == 1 {
            return Ok(VectorInternal::Dense(values));
        }
        let several = TypedMultiDenseVector::try_from_flatten(values, self.config.dim);
        several
            .map(VectorInternal::MultiDense)
            .map_err(|e| StoreError::Engine { what: "take vectors", reason: e.to_string() })
    }

    fn by_vectors(&self, query: &Query<'_>) -> Result<(ScoringQuery, SearchParams), StoreError> {
        let params = SearchParams {
            hnsw_ef: Some(WALK.max(query.limit)),
            exact: query.exact || self.compares_all()?,
            quantization: oversampling(self.config.quantization).map(|factor| QuantizationSearchParams {
                ignore: query.exact,
                rescore: Some(true),
                oversampling: Some(factor),
            }),
            ..SearchParams::default()
        };
        let nearest = NamedQuery::new(self.vector(query.vectors.to_vec())?, VECTOR);
        Ok((ScoringQuery::Vector(QueryEnum::Nearest(nearest)), params))
    }
}

/// Segments are merged into as few as can be, since a search walks the graph of each; but into none that is larger than
/// a graph may be.
fn optimizers(config: &StoreConfig) -> EdgeOptimizersConfig {
    let bytes = |points: usize| points.saturating_mul(config.dim * config.vectors * size_of::<f32>());
    let most = match config.graph {
        0 => usize::MAX / 2048,
        points => (bytes(points) / 1024).max(1),
    };
    EdgeOptimizersConfig {
        max_segment_size: Some(most),
        default_segment_number: Some(1),
        indexing_threshold: Some(INDEXED_FROM_KB.min(most)),
        ..EdgeOptimizersConfig::default()
    }
}

fn edge_config(config: &StoreConfig) -> EdgeConfig {
    let memory = if config.on_disk { Memory::Cold } else { Memory::Cached };
    let hnsw = HnswIndexConfig { m: config.hnsw_m, ef_construct: config.hnsw_ef_construct, ..Default::default() };
    let mut params = EdgeVectorParams::builder(config.dim, Distance::Dot).memory(memory).hnsw_config(hnsw);
    if config.vectors > 1 {
        params = params.multivector_config(MultiVectorConfig { comparator: MultiVectorComparator::MaxSim });
    }
    // Read ahead, but left to the system's cache: pinned, those of every graph would stay in memory while others are made.
    let quantization = match config.quantization {
        Quantization::None => None,
        Quantization::Int8 => Some(serde_json::json!({"scalar": {"type": "int8", "memory": "cached"}})),
        Quantization::Binary => Some(serde_json::json!({"binary": {"memory": "cached"}})),
    };
    // Some of its fields are deprecated, and cannot be left out of a literal.
    if let Some(quantization) = quantization.and_then(|json| serde_json::from_value(json).ok()) {
        params = params.quantization_config(quantization);
    }
    // Ids stay on disk as vectors do; the engine would hold them in memory of its own.
    let mut edge = EdgeConfigBuilder::new()
        .vector(VECTOR, params.build())
        .id_tracker_memory(memory)
        .optimizers(optimizers(config))
        .wal_enabled(true);
    if config.words {
        let words = EdgeSparseVectorParams::builder().modifier(Modifier::Idf);
        edge = edge.sparse_vector(WORDS, words.build());
    }
    edge.build()
}

impl Store for EdgeStore {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        check_points(&points, &self.config)?;
        let points = points.into_iter().map(|point| self.encode(point)).collect::<Result<Vec<_>, _>>()?;
        let more = points.len();
        let insert = PointInsertOperations::PointsList(points);
        guarded("store points", || {
            self.shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert)))
        })?;
        self.unindexed.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    fn delete(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        let ids = ids.iter().map(|id| PointId::Uuid(*id)).collect();
        let delete = PointOperations::DeletePoints { ids };
        guarded("remove points", || self.shard.update(UpdateOperation::PointOperation(delete)))
    }

    fn flush(&self) -> Result<(), StoreError> {
        guarded("flush", || self.shard.flush())
    }

    fn optimize(&self) -> Result<(), StoreError> {
        guarded("optimize", || self.shard.optimize())?;
        self.unindexed.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn full(&self) -> bool {
        self.config.fill_a_graph(self.unindexed.load(Ordering::Relaxed))
    }

    fn count(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut from = None;
        loop {
            let mut request = ScrollRequestBuilder::new()
                .limit(COUNTED_AT_ONCE)
                .with_payload(WithPayloadInterface::Bool(false))
                .with_vector(WithVector::Bool(false));
            if let Some(from) = from {
                request = request.offset(from);
            }
            let (found, next) = guarded("count", || self.shard.scroll(request.build()))?;
            count += found.len() as u64;
            match next {
                Some(next) => from = Some(next),
                None => return Ok(count),
            }
        }
    }

    fn tally(&self) -> Result<u64, StoreError> {
        guarded("count", || self.shard.info()).map(|info| info.points_count as u64)
    }

    fn search(&self, query: &Query<'_>) -> Result<Vec<(Payload, f32)>, StoreError> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let (nearest, params) = self.by_vectors(query)?;
        let mut request = QueryRequestBuilder::new(query.limit).with_payload(WithPayloadInterface::Bool(true));
        if let (Some(model), Some(words)) = (&self.words, query.words) {
            let sparse = NamedQuery::new(VectorInternal::Sparse(model.embed_query(words)), WORDS);
            let sparse = ScoringQuery::Vector(QueryEnum::Nearest(sparse));
            let limit = FUSED.max(query.limit);
            let prefetch = |query, params| {
                let mut prefetch = PrefetchBuilder::new(limit).query(query);
                if let Some(params) = params {
                    prefetch = prefetch.params(params);
                }
                prefetch.build()
            };
            request = request
                .prefetches(vec![prefetch(nearest, Some(params)), prefetch(sparse, None)])
                .query(ScoringQuery::Fusion(Fusion::Rrf { k: RRF_K, weights: None }));
        } else {
            request = request.query(nearest).params(params);
        }
        let found = guarded("search", || self.shard.query(request.build()))?;
        found.into_iter().map(|p| Ok((decode(p.id, p.payload)?, p.score))).collect()
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Payload>>, StoreError> {
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
        let points = found.into_iter().map(|point| -> Result<Point, StoreError> {
            let vector = match point.vector {
                Some(VectorStructInternal::Named(mut named)) => named.remove(VECTOR),
                _ => None,
            };
            let vectors = match vector {
                Some(VectorInternal::Dense(vector)) => vector,
                Some(VectorInternal::MultiDense(several)) => several.flattened_vectors,
                _ => Vec::new(),
            };
            let payload = decode(point.id, point.payload)?;
            Ok(Point { id: uuid_of(point.id)?, vectors, words: None, payload })
        });
        Ok((points.collect::<Result<_, StoreError>>()?, next.map(uuid_of).transpose()?))
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
        let bytes = fs_err::read(&config).map_err(|source| StoreError::file(&config, source))?;
        let mut settings: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Engine { what: "read its settings", reason: e.to_string() })?;
        settings["wal_enabled"] = false.into();
        io::write_atomic(&config, settings.to_string().as_bytes())
            .map_err(|source| StoreError::file(&config, source))?;
        // The engine writes its settings in its own way at each load: let it do so now, and drop the log itself.
        let shard = guarded("load the sealed store", || EdgeShard::load(&dir, None))?;
        guarded("close the store", || {
            drop(shard);
            Ok(())
        })?;
        let log = dir.join(WAL_PATH);
        if log.exists() {
            fs_err::remove_dir_all(&log).map_err(|source| StoreError::file(&log, source))?;
        }
        io::atomic::sync_dir(&dir).map_err(|source| StoreError::file(&dir, source))
    }
}

fn decode(id: PointId, payload: Option<qdrant_edge::Payload>) -> Result<Payload, StoreError> {
    Payload::from_json(uuid_of(id)?, payload.map(|p| p.0).unwrap_or_default())
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
