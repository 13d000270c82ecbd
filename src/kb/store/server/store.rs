//! A collection of a server as a store.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector_input::Variant as Input;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions;
use qdrant_client::qdrant::{
    DeletePoints, GetPoints, PointStruct, PointsIdsList, PointsOperationResponse, PointsSelector, PrefetchQuery,
    QuantizationSearchParams, Query as Find, QueryPoints, Rrf, ScrollPoints, SearchParams, UpdateStatus, UpsertPoints,
    VectorInput, VectorsSelector, WithVectorsSelector, vector,
};
use uuid::Uuid;

use super::client::{Lane, Server, answer};
use super::collections::{MANIFEST, articles};
use super::retry::Failure;
use super::schema::{self, ServerOptions};
use super::words::Words;
use super::{encode, settle};
use crate::kb::store::tuning::{EXACT_UP_TO, FUSED, RRF_K, VECTOR, WALK, WORDS, oversampling};
use crate::kb::store::{Payload, Point, Query, ServerErrorKind, Store, StoreConfig, StoreError, check_points};

/// Points of one request, at most.
const POINTS: usize = 500;

/// Bytes of one request, about: a larger point goes alone.
const BYTES: usize = 16 << 20;

/// Ids of one request.
const IDS: usize = 10_000;

/// Articles of one answer.
const ANSWERS: usize = 500;

/// A collection that this process writes or reads; others may at the same time.
pub struct ServerStore {
    server: Server,
    collection: String,
    config: StoreConfig,
    words: Option<Words>,
    /// Whether every point is compared: decided at the first search, after which little is stored.
    exact: OnceLock<bool>,
    /// What the server last said of its index, and what it will be in the end.
    indexed: Mutex<Option<(u64, u64)>>,
}

impl std::fmt::Debug for ServerStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerStore").field("server", &self.server).field("collection", &self.collection).finish()
    }
}

impl ServerStore {
    /// Makes an empty collection, in which nothing is indexed before [`Store::optimize`].
    ///
    /// # Errors
    /// [`ServerErrorKind::Exists`], those of [`Server::check`], or the server's; [`StoreError::Engine`] for words in a
    /// build without BM25.
    pub fn create(
        server: &Server,
        collection: &str,
        config: &StoreConfig,
        options: &ServerOptions,
    ) -> Result<Self, StoreError> {
        const WHAT: &str = "make a collection";
        let store = Self::over(server, collection, config)?;
        if let Some(reason) = options.wrong() {
            return Err(server.error(WHAT, Failure::lasting(ServerErrorKind::Refused, reason)).into());
        }
        server.check()?;
        let request = schema::create(collection, config, options);
        let made_before = server.call(Lane::Write, WHAT, move |client, attempt| {
            let request = request.clone();
            async move {
                match answer(client.create_collection(request).await) {
                    Ok(_) => Ok(false),
                    // An earlier attempt whose answer was lost.
                    Err(failure) if failure.kind == ServerErrorKind::Exists && attempt > 1 => Ok(true),
                    Err(failure) => Err(failure),
                }
            }
        })?;
        if made_before {
            store.check()?;
            if store.count()? > 0 {
                let reason = format!("collection {collection:?} exists and holds points");
                return Err(server.error(WHAT, Failure::lasting(ServerErrorKind::Exists, reason)).into());
            }
        }
        Ok(store)
    }

    /// Opens a collection, or the one that an alias points at.
    ///
    /// # Errors
    /// [`ServerErrorKind::NoCollection`], those of [`Server::check`], or the server's; [`StoreError::Engine`] where it
    /// is not one of `config`.
    pub fn open(server: &Server, collection: &str, config: &StoreConfig) -> Result<Self, StoreError> {
        let store = Self::over(server, collection, config)?;
        server.check()?;
        store.check()?;
        Ok(store)
    }

    fn over(server: &Server, collection: &str, config: &StoreConfig) -> Result<Self, StoreError> {
        let words = config.words.then(Words::new).transpose()?;
        let (server, config) = (server.clone(), config.clone());
        let (collection, exact, indexed) = (collection.to_owned(), OnceLock::new(), Mutex::default());
        Ok(Self { server, collection, config, words, exact, indexed })
    }

    fn check(&self) -> Result<(), StoreError> {
        let info = settle::info(&self.server, &self.collection)?;
        match schema::differs(&info, &self.config) {
            None => Ok(()),
            Some(reason) => {
                let reason = format!("collection {:?}: {reason}", self.collection);
                Err(StoreError::Engine { what: "load the store", reason })
            }
        }
    }

    /// Name of the collection or alias.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The server it is on.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn compares_all(&self) -> Result<bool, StoreError> {
        match self.exact.get() {
            Some(exact) => Ok(*exact),
            None => {
                let few = settle::count(&self.server, &self.collection, articles(), false)? <= EXACT_UP_TO;
                Ok(*self.exact.get_or_init(|| few))
            }
        }
    }

    fn by_vectors(&self, query: &Query<'_>) -> Result<(Find, SearchParams), StoreError> {
        let params = SearchParams {
            hnsw_ef: Some(WALK.max(query.limit) as u64),
            exact: Some(query.exact || self.compares_all()?),
            quantization: oversampling(self.config.quantization).map(|factor| QuantizationSearchParams {
                ignore: Some(query.exact),
                rescore: Some(true),
                oversampling: Some(factor),
            }),
            ..SearchParams::default()
        };
        let input = match encode::values(query.vectors, &self.config) {
            vector::Vector::MultiDense(several) => Input::MultiDense(several),
            vector::Vector::Dense(one) => Input::Dense(one),
            other => {
                let reason = format!("{other:?} cannot be looked for");
                return Err(StoreError::Engine { what: "search", reason });
            }
        };
        Ok((nearest(input), params))
    }

    fn request(&self, query: &Query<'_>) -> Result<QueryPoints, StoreError> {
        let (by_vectors, params) = self.by_vectors(query)?;
        let timeout = self.server.connection().query_timeout.as_secs().max(1);
        let request = QueryPoints {
            collection_name: self.collection.clone(),
            limit: Some(query.limit as u64),
            with_payload: Some(true.into()),
            // So that the server does not go on with what nobody waits for any more.
            timeout: Some(timeout),
            ..QueryPoints::default()
        };
        let (Some(model), Some(words)) = (&self.words, query.words) else {
            let using = Some(VECTOR.to_owned());
            return Ok(QueryPoints { query: Some(by_vectors), using, params: Some(params), ..request });
        };
        let by_words = nearest(Input::Sparse(model.query(words)));
        let limit = Some(FUSED.max(query.limit) as u64);
        let ranking = |query, using: &str, params| PrefetchQuery {
            query: Some(query),
            using: Some(using.to_owned()),
            params,
            limit,
            ..PrefetchQuery::default()
        };
        let fused = Variant::Rrf(Rrf { k: Some(RRF_K as u32), weights: Vec::new() });
        Ok(QueryPoints {
            prefetch: vec![ranking(by_vectors, VECTOR, Some(params)), ranking(by_words, WORDS, None)],
            query: Some(Find { variant: Some(fused) }),
            ..request
        })
    }

    fn send(&self, points: Vec<PointStruct>) -> Result<(), StoreError> {
        if points.is_empty() {
            return Ok(());
        }
        let collection_name = self.collection.clone();
        let request = UpsertPoints { collection_name, wait: Some(true), points, ..UpsertPoints::default() };
        let sent = self.server.call(Lane::Write, "store points", move |client, _| {
            let request = request.clone();
            async move { applied(answer(client.upsert_points(request).await)?) }
        });
        Ok(sent?)
    }
}

fn nearest(input: Input) -> Find {
    Find { variant: Some(Variant::Nearest(VectorInput { variant: Some(input) })) }
}

/// Sees that an update is done. Doing it again changes nothing, so that one which the server only took note of is sent
/// again.
pub(super) fn applied(answer: PointsOperationResponse) -> Result<(), Failure> {
    let Some(result) = answer.result else {
        return Err(Failure::lasting(ServerErrorKind::Failed, "an empty answer"));
    };
    match result.status() {
        UpdateStatus::Completed => Ok(()),
        UpdateStatus::Acknowledged | UpdateStatus::WaitTimeout | UpdateStatus::ClockRejected => {
            let reason = format!("the update is {}, not applied", result.status().as_str_name());
            Err(Failure::passing(ServerErrorKind::Timeout, reason))
        }
        UpdateStatus::UnknownUpdateStatus => {
            Err(Failure::lasting(ServerErrorKind::Failed, "the update has no known outcome"))
        }
    }
}

impl Store for ServerStore {
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError> {
        check_points(&points, &self.config)?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for point in points {
            let point = encode::point(point, &self.config, self.words.as_ref())?;
            let size = encode::size(&point);
            if batch.len() == POINTS || (bytes + size > BYTES && !batch.is_empty()) {
                self.send(std::mem::take(&mut batch))?;
                bytes = 0;
            }
            bytes += size;
            batch.push(point);
        }
        self.send(batch)
    }

    fn delete(&self, ids: &[Uuid]) -> Result<(), StoreError> {
        for ids in ids.chunks(IDS) {
            let ids = ids.iter().map(|id| encode::id(*id)).collect();
            let selector = PointsSelectorOneOf::Points(PointsIdsList { ids });
            let request = DeletePoints {
                collection_name: self.collection.clone(),
                wait: Some(true),
                points: Some(PointsSelector { points_selector_one_of: Some(selector) }),
                ..DeletePoints::default()
            };
            self.server.call(Lane::Write, "remove points", move |client, _| {
                let request = request.clone();
                async move { applied(answer(client.delete_points(request).await)?) }
            })?;
        }
        Ok(())
    }

    /// Nothing: the server answers an update only when it is in its log and applied.
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Switches indexing on and waits until the server has nothing left to do. It goes on there when this process ends.
    fn optimize(&self) -> Result<(), StoreError> {
        Ok(settle::index(&self.server, &self.collection, &self.config, &|indexed, all| {
            *self.indexed.lock().unwrap_or_else(PoisonError::into_inner) = Some((indexed, all));
        })?)
    }

    fn indexed(&self) -> Option<(u64, u64)> {
        *self.indexed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(settle::count(&self.server, &self.collection, articles(), true)?)
    }

    fn search(&self, query: &Query<'_>) -> Result<Vec<(Payload, f32)>, StoreError> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let request = self.request(query)?;
        let found = self.server.call(Lane::Query, "search", move |client, _| {
            let request = request.clone();
            async move { Ok(answer(client.query(request).await)?.result) }
        })?;
        found.into_iter().map(|p| Ok((encode::payload(encode::uuid(p.id)?, p.payload)?, p.score))).collect()
    }

    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Payload>>, StoreError> {
        let mut by_id = HashMap::new();
        let wanted: Vec<Uuid> = ids.iter().copied().filter(|id| *id != MANIFEST).collect();
        for ids in wanted.chunks(ANSWERS) {
            let request = GetPoints {
                collection_name: self.collection.clone(),
                ids: ids.iter().map(|id| encode::id(*id)).collect(),
                with_payload: Some(true.into()),
                ..GetPoints::default()
            };
            let found = self.server.call(Lane::Query, "read points", move |client, _| {
                let request = request.clone();
                async move { Ok(answer(client.get_points(request).await)?.result) }
            })?;
            for point in found {
                let id = encode::uuid(point.id)?;
                by_id.insert(id, encode::payload(id, point.payload)?);
            }
        }
        Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
    }

    fn scan(&self, from: Option<Uuid>, limit: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError> {
        let vectors = SelectorOptions::Include(VectorsSelector { names: vec![VECTOR.to_owned()] });
        let request = ScrollPoints {
            collection_name: self.collection.clone(),
            filter: Some(articles()),
            offset: from.map(encode::id),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX).max(1)),
            with_payload: Some(true.into()),
            with_vectors: Some(WithVectorsSelector { selector_options: Some(vectors) }),
            ..ScrollPoints::default()
        };
        let page = self.server.call(Lane::Write, "scan points", move |client, _| {
            let request = request.clone();
            async move { answer(client.scroll(request).await) }
        })?;
        let next = page.next_page_offset.map(|id| encode::uuid(Some(id))).transpose()?;
        let points = page.result.into_iter().map(encode::read).collect::<Result<_, _>>()?;
        Ok((points, next))
    }

    /// Sees that nothing is left to do there, and that it can be counted.
    fn seal(self: Box<Self>) -> Result<(), StoreError> {
        settle::rest(&self.server, &self.collection, &self.config)?;
        self.count().map(|_| ())
    }
}
