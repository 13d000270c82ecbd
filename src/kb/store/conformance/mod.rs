//! What every store does, whatever holds its points: each case runs over every engine of this build, over the double
//! of a server, and over a real one where `CICERONE_TEST_QDRANT_URL` names it (its key in
//! `CICERONE_TEST_QDRANT_API_KEY`). Collections there have names of their own and are removed afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
#[cfg(feature = "server")]
mod remote;

use tempfile::TempDir;

use super::{Engine, Store, StoreConfig};

/// Where one case makes its store, and opens it again.
trait Ground {
    fn create(&self, config: &StoreConfig) -> Box<dyn Store>;
    fn open(&self, config: &StoreConfig) -> Box<dyn Store>;
    /// Whether it can index words.
    fn words(&self) -> bool;
    /// Whether its graphs are bounded by who writes.
    fn graphs(&self) -> bool;
}

struct Directory {
    dir: TempDir,
    engine: Engine,
}

impl Ground for Directory {
    fn create(&self, config: &StoreConfig) -> Box<dyn Store> {
        self.engine.create(&self.dir.path().join("store"), config).unwrap()
    }

    fn open(&self, config: &StoreConfig) -> Box<dyn Store> {
        self.engine.open(&self.dir.path().join("store"), config).unwrap()
    }

    fn words(&self) -> bool {
        self.engine != Engine::Flat
    }

    fn graphs(&self) -> bool {
        true
    }
}

fn directory(engine: Engine) -> Option<Directory> {
    Some(Directory { dir: tempfile::tempdir().unwrap(), engine })
}

macro_rules! everywhere {
    ($($case:ident)*) => {
        mod over_a_file {
            $(#[test] fn $case() { super::run(super::directory(super::Engine::Flat), super::cases::$case); })*
        }
        #[cfg(feature = "edge")]
        mod over_edge {
            $(#[test] fn $case() { super::run(super::directory(super::Engine::Edge), super::cases::$case); })*
        }
        #[cfg(feature = "server")]
        mod over_the_double {
            $(#[test] fn $case() { super::run(super::remote::double(), super::cases::$case); })*
        }
        #[cfg(feature = "server")]
        mod over_a_server {
            $(#[test] fn $case() { super::run(super::remote::real(), super::cases::$case); })*
        }
    };
}

everywhere! {
    points_come_back_as_they_were_given
    several_graphs_hold_what_one_would
    a_scan_pages_in_the_order_of_ids
    the_nearest_come_first_with_their_scores
    exact_search_agrees_with_comparing_all
    shortened_vectors_change_no_exact_answer
    a_point_is_replaced_by_its_id
    removed_points_are_gone
    unknown_ids_are_passed_over
    parts_are_found_and_their_articles_read
    several_vectors_are_compared_by_maxsim
    a_batch_with_a_bad_vector_is_refused_whole
    a_sealed_store_holds_everything
    long_texts_in_any_script_come_back
    words_are_fused_with_vectors
    readers_are_served_while_points_are_stored
    an_empty_store_answers
    equal_points_have_equal_contents
}

#[cfg(feature = "edge")]
#[test]
fn no_graph_is_larger_than_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let segments = |graph: usize| {
        let path = dir.path().join(graph.to_string());
        let store = Engine::Edge.create(&path, &StoreConfig { graph, ..cases::config() }).unwrap();
        for part in 0..4 {
            store.upsert(cases::points(part * 100..(part + 1) * 100)).unwrap();
            if store.full() {
                store.optimize().unwrap();
            }
        }
        store.optimize().unwrap();
        store.flush().unwrap();
        fs_err::read_dir(path.join("segments")).unwrap().count()
    };
    // A writer that goes on knows how much is in no graph yet, with words beside the vectors as well.
    for words in [false, true] {
        let (path, config) =
            (dir.path().join(format!("{words}")), StoreConfig { graph: 100, words, ..cases::config() });
        let store = Engine::Edge.create(&path, &config).unwrap();
        let point = |mut point: super::Point| {
            point.words = words.then(|| "a ruin".to_owned());
            point
        };
        let points = |range| cases::points(range).into_iter().map(point).collect();
        store.upsert(points(0..100)).unwrap();
        store.optimize().unwrap();
        store.upsert(points(100..160)).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = Engine::Edge.open(&path, &config).unwrap();
        assert!(!store.full());
        store.upsert(points(160..200)).unwrap();
        assert!(store.full(), "words: {words}");
    }
    let (bounded, single) = (segments(100), segments(0));
    assert!(bounded >= 4 && single <= 2, "{bounded} and {single}");
}

/// A process that is killed while the engine puts a new segment in the place of an old one leaves both.
#[cfg(feature = "edge")]
#[test]
fn points_that_are_there_twice_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    // More than are counted at once.
    let config = cases::config();
    let store = Engine::Edge.create(&path, &config).unwrap();
    store.upsert(cases::points(0..4500)).unwrap();
    store.optimize().unwrap();
    store.seal().unwrap();
    let store = Engine::Edge.open(&path, &config).unwrap();
    assert_eq!((store.tally().unwrap(), store.count().unwrap()), (4500, 4500));
    drop(store);
    let size = |segment: &std::path::PathBuf| crate::kb::integrity::files_below(segment, ".").unwrap().len();
    let segments = fs_err::read_dir(path.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let full = segments.filter(|segment| segment.is_dir()).max_by_key(size).unwrap();
    crate::io::copy::copy_dir(&full, &full.with_file_name(uuid::Uuid::from_u128(7).to_string())).unwrap();
    let store = Engine::Edge.open(&path, &config).unwrap();
    assert_eq!((store.tally().unwrap(), store.count().unwrap()), (9000, 4500));
    assert_eq!((store.count_for(4500).unwrap(), store.count_for(4499).unwrap()), (4500, 4500));
}

fn run<G: Ground>(ground: Option<G>, case: impl Fn(&dyn Ground)) {
    if let Some(ground) = ground {
        case(&ground);
    }
}
