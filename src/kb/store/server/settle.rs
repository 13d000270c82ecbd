//! Waiting until a server has indexed what was stored.

use std::time::{Duration, Instant};

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::{
    CollectionInfo, CollectionStatus, Condition, CountPoints, Filter, GetCollectionInfoRequest, HasVectorCondition,
};

use super::client::{Lane, Server, answer};
use super::retry::{Failure, seconds};
use super::schema::{INDEXED_FROM_KB, index_now};
use crate::kb::store::tuning::{VECTOR, WORDS};
use crate::kb::store::{ServerError, ServerErrorKind, StoreConfig};

/// Time between two looks, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long the server says that nothing is left to do, with fewer vectors indexed than were stored, until it is taken
/// at its word: its numbers are approximate.
const AT_ITS_WORD: Duration = Duration::from_secs(20);

const WHAT: &str = "finish its index";

/// What is known of a collection.
pub(super) fn info(server: &Server, collection: &str) -> Result<CollectionInfo, ServerError> {
    let request = GetCollectionInfoRequest { collection_name: collection.to_owned() };
    server.call(Lane::Write, "describe a collection", move |client, _| {
        let request = request.clone();
        async move {
            let described = answer(client.collection_info(request).await)?;
            described.result.ok_or_else(|| Failure::lasting(ServerErrorKind::Failed, "an empty answer"))
        }
    })
}

/// Points with a vector named `vector`, exactly.
fn with_vector(server: &Server, collection: &str, vector: &str) -> Result<u64, ServerError> {
    let has = HasVectorCondition { has_vector: vector.to_owned() };
    let must = vec![Condition { condition_one_of: Some(ConditionOneOf::HasVector(has)) }];
    count(server, collection, Filter { must, ..Filter::default() }, true)
}

/// Points that a filter lets through.
pub(super) fn count(server: &Server, collection: &str, filter: Filter, exact: bool) -> Result<u64, ServerError> {
    let request = CountPoints {
        collection_name: collection.to_owned(),
        filter: Some(filter),
        exact: Some(exact),
        ..CountPoints::default()
    };
    let lane = if exact { Lane::Write } else { Lane::Query };
    server.call(lane, "count points", move |client, _| {
        let request = request.clone();
        async move {
            let counted = answer(client.count(request).await)?;
            let counted = counted.result.ok_or_else(|| Failure::lasting(ServerErrorKind::Failed, "an empty answer"));
            counted.map(|counted| counted.count)
        }
    })
}

/// Lets the server index, and waits until it has; `tell` hears at each look how many vectors are indexed, of how many.
/// Where it is at it already it is left to go on: a change of settings breaks off what runs. One that stopped over an
/// error begins again.
pub(super) fn index(
    server: &Server,
    collection: &str,
    config: &StoreConfig,
    tell: &dyn Fn(u64, u64),
) -> Result<(), ServerError> {
    let before = info(server, collection)?;
    let optimizers = before.config.as_ref().and_then(|config| config.optimizer_config.as_ref());
    let told = optimizers.is_some_and(|optimizers| optimizers.indexing_threshold == Some(INDEXED_FROM_KB));
    if !told || !matches!(before.status(), CollectionStatus::Green | CollectionStatus::Yellow) {
        nudge(server, collection)?;
    }
    let mut vectors = with_vector(server, collection, VECTOR)?;
    if config.words {
        vectors += with_vector(server, collection, WORDS)?;
    }
    wait(server, collection, config, vectors, tell)
}

/// Waits until nothing is left to do, however much of it is indexed.
pub(super) fn rest(server: &Server, collection: &str, config: &StoreConfig) -> Result<(), ServerError> {
    wait(server, collection, config, 0, &|_, _| {})
}

/// A change of the optimisers' settings also starts them where they wait for one, as after a start of the server, and
/// where an error stopped them.
fn nudge(server: &Server, collection: &str) -> Result<(), ServerError> {
    let request = index_now(collection);
    server.call(Lane::Write, "begin its index", move |client, _| {
        let request = request.clone();
        async move { answer(client.update_collection(request).await).map(|_| ()) }
    })
}

/// What can be seen moving.
#[derive(PartialEq)]
struct Seen {
    status: i32,
    indexed: u64,
    points: u64,
    segments: u64,
}

fn wait(
    server: &Server,
    collection: &str,
    config: &StoreConfig,
    vectors: u64,
    tell: &dyn Fn(u64, u64),
) -> Result<(), ServerError> {
    let failed = |kind, reason: String| Err(server.error(WHAT, Failure::lasting(kind, reason)));
    let stall = server.connection().stall;
    let mut pause = LOOKS.0;
    let mut moved = Instant::now();
    let mut seen: Option<Seen> = None;
    let mut green_before = false;
    let mut nudged = false;
    loop {
        let info = info(server, collection)?;
        if let Some(error) = info.optimizer_status.as_ref().filter(|status| !status.ok).map(|status| &status.error) {
            let full = error.to_ascii_lowercase().contains("no space left");
            let kind = if full { ServerErrorKind::OutOfSpace } else { ServerErrorKind::Failed };
            return failed(kind, format!("its optimiser stopped: {error}"));
        }
        let now = Seen {
            status: info.status,
            indexed: info.indexed_vectors_count(),
            points: info.points_count(),
            segments: info.segments_count,
        };
        // Approximate, and more while segments are merged.
        tell(now.indexed.min(vectors), vectors);
        if seen.as_ref() != Some(&now) {
            moved = Instant::now();
            nudged = false;
        }
        let still = moved.elapsed();
        match info.status() {
            CollectionStatus::Red => {
                return failed(ServerErrorKind::Failed, "the collection's status is red".to_owned());
            }
            CollectionStatus::Green => {
                let left = vectors.saturating_sub(now.indexed + unindexed(now.segments, config));
                // Twice, since an optimiser that was just told to begin may not have begun.
                if green_before && left == 0 {
                    return Ok(());
                }
                if still >= AT_ITS_WORD.min(stall) {
                    tracing::warn!(collection, left, "Qdrant says that it is done, with fewer vectors indexed");
                    return Ok(());
                }
                green_before = true;
            }
            // Pending: it begins with the next change.
            CollectionStatus::Grey if !nudged => {
                nudge(server, collection)?;
                nudged = true;
                green_before = false;
            }
            _ => green_before = false,
        }
        if still >= stall {
            let Seen { indexed, points, .. } = now;
            let reason = format!("{indexed} vectors of {points} points are indexed, and no more in {}", seconds(stall));
            return failed(ServerErrorKind::Timeout, reason);
        }
        tracing::debug!(collection, indexed = now.indexed, vectors, segments = now.segments, "Qdrant is indexing");
        seen = Some(now);
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(LOOKS.1);
    }
}

/// Vectors that may rightly be in no index: each segment may keep fewer than are worth one, with their words.
fn unindexed(segments: u64, config: &StoreConfig) -> u64 {
    let bytes = (config.dim * config.vectors * size_of::<f32>()).max(1) as u64;
    segments.saturating_mul(INDEXED_FROM_KB * 1024 / bytes).saturating_mul(1 + u64::from(config.words))
}
