//! What becomes of failures: each has its kind and its message, is tried again as far as that helps, and nothing is
//! lost or stored twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use tonic::Code;
use uuid::Uuid;

use super::double::{Double, Fault};
use super::{ApiKey, Connection, Server, ServerOptions, ServerStore};
use crate::kb::store::{
    Payload, Point, Quantization, Query, Record, ServerError, ServerErrorKind as Kind, Store, StoreConfig, StoreError,
    point_id,
};
use crate::kb::{Article, Section};

const DOWN: Fault = Fault::Answer(Code::Unavailable, "the server is shutting down");

fn config() -> StoreConfig {
    StoreConfig::new(2, 1)
}

fn store(double: &Double) -> ServerStore {
    ServerStore::create(&double.server(), "ruins", &config(), &ServerOptions::default()).unwrap()
}

fn point(n: usize) -> Point {
    let url = format!("https://example.org/{n}");
    let angle = n as f32 / 100.0;
    let article = Article { url: url.clone(), title: "Ruin".to_owned(), sections: Vec::new(), pictures: Vec::new() };
    Point {
        id: point_id(&url),
        vectors: vec![angle.cos(), angle.sin()],
        words: None,
        payload: Payload::Article(Record::new(article, 0, n as u64, 0)),
    }
}

fn points(count: usize) -> Vec<Point> {
    (0..count).map(point).collect()
}

const QUERY: Query<'static> = Query { vectors: &[1.0, 0.0], words: None, limit: 3, exact: false };

fn failed<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> ServerError {
    match outcome.unwrap_err() {
        StoreError::Server(error) => error,
        other => panic!("{other}"),
    }
}

/// The double with other times.
fn hurried(double: &Double, change: impl FnOnce(&mut Connection)) -> Server {
    let mut connection = double.connection();
    change(&mut connection);
    Server::connect(connection).unwrap()
}

#[test]
fn nobody_there_is_told_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::connect(Connection::new(&format!("http://{free}"))).unwrap();
    let started = Instant::now();
    let error = failed(ServerStore::open(&server, "ruins", &config()));
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(error.kind(), Kind::Unreachable);
    let message = error.to_string();
    assert!(message.contains(&free.to_string()) && message.contains("Connection refused"), "{message}");
    assert!(message.contains("gRPC port (6334"), "{message}");
}

#[test]
fn an_address_of_something_else_is_told() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut connection = Connection::new(&format!("http://{}", silent.local_addr().unwrap()));
    connection.query_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let error = Server::connect(connection).unwrap().check().unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(matches!(error.kind(), Kind::Timeout | Kind::Unreachable), "{error}");
    let error = Server::connect(Connection::new("qdrant.example.org")).unwrap_err();
    assert!(error.to_string().contains("expected http://HOST:PORT"), "{error}");
}

#[test]
fn a_server_without_encryption_is_told_where_some_was_expected() {
    let double = Double::start();
    let connection = double.connection();
    let server = Server::connect(Connection { url: connection.url.replace("http:", "https:"), ..connection }).unwrap();
    let error = server.check().unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert_eq!(double.calls("health"), 0);
}

#[test]
fn a_wrong_key_names_the_variable_and_not_the_key() {
    let double = Double::start();
    double.with(|state| state.key = Some("open-sesame".to_owned()));
    for key in [None, Some(ApiKey::new("close-sesame"))] {
        let given = key.is_some();
        let server = Server::connect(double.connection().with_key(key)).unwrap();
        let error = failed(ServerStore::open(&server, "ruins", &config()));
        let message = error.to_string();
        assert_eq!(error.kind(), Kind::Unauthorised, "{message}");
        assert!(message.contains("CICERONE_QDRANT_API_KEY"), "{message}");
        assert!(message.contains(if given { "Invalid API key" } else { "Must provide an API key" }), "{message}");
        assert!(!message.contains("sesame") && !format!("{error:?} {server:?}").contains("sesame"));
    }
    assert_eq!(double.calls("health"), 2, "a wrong key does not become right");
    let server = Server::connect(double.connection().with_key(Some(ApiKey::new("open-sesame\n")))).unwrap();
    ServerStore::create(&server, "ruins", &config(), &ServerOptions::default()).unwrap();
}

#[test]
fn an_old_server_is_told_with_both_versions() {
    let double = Double::start();
    for (version, works) in [("1.17.4", false), ("0.11.0", false), ("1.18.0", true), ("1.21.0", true), ("dev", true)] {
        double.with(|state| state.version = version.to_owned());
        match double.server().check() {
            Ok(found) => assert!(works && found.text == version),
            Err(error) => {
                assert!(!works && error.kind() == Kind::TooOld, "{error}");
                let message = error.to_string();
                assert!(message.contains(version) && message.contains("is 1.20"), "{message}");
                assert!(message.contains("works with 1.18 and later; update the server"), "{message}");
            }
        }
    }
}

#[test]
fn a_missing_collection_a_taken_name_and_another_shape_are_told() {
    let double = Double::start();
    let error = failed(ServerStore::open(&double.server(), "ruins", &config()));
    assert_eq!(error.kind(), Kind::NoCollection);
    assert!(error.to_string().contains("`ruins` doesn't exist"), "{error}");
    store(&double).upsert(points(1)).unwrap();
    let error = failed(ServerStore::create(&double.server(), "ruins", &config(), &ServerOptions::default()));
    assert_eq!(error.kind(), Kind::Exists);
    let error = ServerStore::open(&double.server(), "ruins", &StoreConfig::new(3, 1)).unwrap_err();
    assert!(error.to_string().contains("vectors of 2 numbers, expected 3"), "{error}");
    let error = ServerStore::open(&double.server(), "ruins", &StoreConfig::new(2, 4)).unwrap_err();
    assert!(error.to_string().contains("one vector for each point, expected 4"), "{error}");
    let options = ServerOptions { shard_number: Some(0), ..ServerOptions::default() };
    let error = failed(ServerStore::create(&double.server(), "other", &config(), &options));
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("shard_number is 0"), "{error}");
}

#[test]
fn a_server_that_is_away_for_a_moment_is_called_again() {
    let double = Double::start();
    let store = store(&double);
    // The client calls twice by itself for each of our attempts.
    double.fail("upsert", vec![DOWN; 5]);
    store.upsert(points(30)).unwrap();
    assert_eq!(double.calls("upsert"), 6);
    assert_eq!(store.count().unwrap(), 30);
    double.fail("query", vec![DOWN; 3]);
    assert_eq!(store.search(&QUERY).unwrap().len(), 3);
    double.fail("delete", vec![DOWN; 3]);
    store.delete(&[point(0).id]).unwrap();
    assert_eq!(store.count().unwrap(), 29);
}

#[test]
fn attempts_end() {
    let double = Double::start();
    let server = hurried(&double, |connection| {
        connection.query_timeout = Duration::from_millis(500);
        connection.write_timeout = Duration::from_millis(400);
        connection.patience = Duration::from_millis(800);
    });
    let store = ServerStore::create(&server, "ruins", &config(), &ServerOptions::default()).unwrap();
    for method in ["upsert", "query"] {
        double.fail(method, vec![DOWN; 1000]);
        let started = Instant::now();
        let error = match method {
            "upsert" => failed(store.upsert(points(3))),
            _ => failed(store.search(&QUERY)),
        };
        assert!(started.elapsed() < Duration::from_secs(30), "{method}: {:?}", started.elapsed());
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        assert!(error.to_string().contains("shutting down") && error.to_string().contains("attempts in"), "{error}");
        let calls = double.calls(method);
        assert!((4..40).contains(&calls), "{calls} calls of {method}");
    }
    double.with(|state| state.faults.clear());
    assert_eq!(store.count().unwrap(), 0);
}

#[test]
fn a_slow_server_is_given_up_after_twice_the_timeout() {
    let double = Double::start();
    store(&double).upsert(points(3)).unwrap();
    // Long enough for a busy machine to answer in, which is asked first.
    let timeout = Duration::from_secs(2);
    let server = hurried(&double, |connection| connection.query_timeout = timeout);
    let store = ServerStore::open(&server, "ruins", &config()).unwrap();
    store.search(&QUERY).unwrap();
    double.fail("query", vec![Fault::Delay(Duration::from_secs(60)); 10]);
    let started = Instant::now();
    let error = failed(store.search(&QUERY));
    let took = started.elapsed();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(took >= timeout && took < Duration::from_secs(30), "{took:?}");
    assert!(error.to_string().contains("no answer within"), "{error}");
    // Slower than a query may be, but not than a write.
    double.with(|state| state.faults.clear());
    double.fail("upsert", [Fault::Delay(timeout * 2)]);
    store.upsert(points(5)).unwrap();
    assert_eq!((store.count().unwrap(), double.calls("upsert")), (5, 2));
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let double = Double::start();
    let store = store(&double);
    double.fail("upsert", [Fault::Busy(1)]);
    let started = Instant::now();
    store.upsert(points(3)).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((store.count().unwrap(), double.calls("upsert")), (3, 2));
    // Longer than anybody waits.
    double.fail("upsert", [Fault::Busy(3600)]);
    let started = Instant::now();
    let error = failed(store.upsert(points(3)));
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.to_string().contains("left alone for 3600 s"), "{error}");
}

#[test]
fn a_full_disk_is_told_at_once() {
    let double = Double::start();
    let store = store(&double);
    let full = "Service internal error: No space left on device: WAL buffer size exceeds available disk space";
    double.fail("upsert", vec![Fault::Answer(Code::Internal, full); 2]);
    let error = failed(store.upsert(points(3)));
    assert_eq!(error.kind(), Kind::OutOfSpace);
    assert!(error.to_string().contains("free disk space or raise the quota"), "{error}");
    // Twice by the client, which takes it for a broken connection; not again by us.
    assert_eq!(double.calls("upsert"), 2);
    double.with(|state| state.broken = Some("No space left on device (os error 28)".to_owned()));
    let error = failed(store.optimize());
    assert_eq!(error.kind(), Kind::OutOfSpace);
    assert!(error.to_string().contains("its optimiser stopped"), "{error}");
}

#[test]
fn what_the_server_does_not_take_is_not_sent_again() {
    let double = Double::start();
    let store = store(&double);
    double.fail("query", [Fault::Answer(Code::InvalidArgument, "Wrong input: unknown parameter")]);
    let error = failed(store.search(&QUERY));
    assert_eq!((error.kind(), double.calls("query")), (Kind::Refused, 1));
    assert!(error.to_string().contains("unknown parameter; compare the server's version"), "{error}");
    double.fail("count", vec![Fault::Answer(Code::Internal, "Service internal error: a bug"); 2]);
    let error = failed(store.count());
    assert_eq!(error.kind(), Kind::Failed);
    double.fail("delete", [Fault::Answer(Code::PermissionDenied, "Forbidden: a key that may read only")]);
    assert_eq!(failed(store.delete(&[Uuid::nil()])).kind(), Kind::Unauthorised);
}

#[test]
fn a_broken_connection_loses_nothing_and_stores_nothing_twice() {
    let double = Double::start();
    let store = store(&double);
    for (round, fault) in [Fault::Cut, Fault::CutAfter, Fault::Acknowledge].into_iter().enumerate() {
        // Also when the client's own second call fails.
        for times in 1..=3 {
            double.fail("upsert", vec![fault.clone(); times]);
            let count = 10 * (round * 3 + times);
            store.upsert(points(count)).unwrap();
            assert_eq!(store.count().unwrap() as usize, count, "{fault:?} {times} times");
        }
    }
    double.fail("delete", [Fault::CutAfter, Fault::Cut]);
    store.delete(&[point(0).id, point(1).id]).unwrap();
    assert_eq!(store.count().unwrap(), 88);
    double.fail("query", [Fault::Cut, Fault::Cut, Fault::Cut]);
    assert_eq!(store.search(&QUERY).unwrap().len(), 3);
    double.fail("scroll", [Fault::Cut]);
    let content = crate::kb::store::content(&store, |_| {}).unwrap();
    assert_eq!((content.points, content.articles, content.embeddings), (88, 88, 88));
}

#[test]
fn a_collection_whose_making_was_not_answered_is_taken() {
    let double = Double::start();
    double.fail("create", [Fault::CutAfter]);
    store(&double).upsert(points(3)).unwrap();
    assert_eq!(double.calls("create"), 2);
    double.fail("drop", [Fault::CutAfter]);
    double.server().delete_collection("ruins").unwrap();
    assert_eq!(double.server().collections("").unwrap(), Vec::<String>::new());
}

#[test]
fn many_points_go_in_several_requests() {
    let double = Double::start();
    let store = store(&double);
    store.upsert(points(1203)).unwrap();
    assert_eq!(double.with(|state| state.upserts.clone()), [500, 500, 203]);
    assert_eq!(store.count().unwrap(), 1203);
    let large = |n| {
        let mut point = point(n);
        let Payload::Article(record) = &mut point.payload else { panic!("an article") };
        let text = "x".repeat(if n == 7 { 20 << 20 } else { 5 << 20 });
        record.sections = vec![Section { title: String::new(), text }];
        point
    };
    store.upsert((0..9).map(large).collect()).unwrap();
    let requests = double.with(|state| state.upserts[3..].to_vec());
    assert_eq!(requests, [3, 3, 1, 1, 1], "one that is larger than a request goes alone");
}

#[test]
fn a_query_says_how_it_is_to_be_answered() {
    let double = Double::start();
    for (quantization, factor) in
        [(Quantization::None, None), (Quantization::Int8, Some(2.0)), (Quantization::Binary, Some(4.0))]
    {
        let config = StoreConfig { quantization, ..config() };
        let server = double.server();
        let store = ServerStore::create(&server, "ruins", &config, &ServerOptions::default()).unwrap();
        store.upsert(points(5)).unwrap();
        for (limit, exact) in [(3, false), (1000, true)] {
            store.search(&Query { limit, exact, ..QUERY }).unwrap();
            let params = double.with(|state| state.query.take()).unwrap().params.unwrap();
            assert_eq!(params.exact, Some(true), "few points are all compared");
            assert_eq!(params.hnsw_ef, Some(limit.max(128) as u64));
            assert_eq!(params.quantization.map(|q| q.oversampling), factor.map(Some));
            assert!(params.quantization.is_none_or(|q| q.rescore == Some(true) && q.ignore == Some(exact)));
        }
        server.delete_collection("ruins").unwrap();
    }
}

#[test]
fn indexing_begins_when_everything_is_stored_and_is_waited_for() {
    let double = Double::start();
    let store = store(&double);
    store.upsert(points(300)).unwrap();
    assert_eq!(double.with(|state| state.held("ruins").unwrap().threshold), 0, "held off");
    double.with(|state| state.looks = 4);
    assert_eq!(store.indexed(), None);
    store.optimize().unwrap();
    assert_eq!(store.indexed(), Some((300, 300)));
    assert!(double.with(|state| state.held("ruins").unwrap().threshold) > 0);
    assert!((6..12).contains(&double.calls("info")), "{}", double.calls("info"));
    // Another process that waits for the same does not make it begin anew.
    ServerStore::open(&double.server(), "ruins", &config()).unwrap().optimize().unwrap();
    assert_eq!(double.calls("update"), 1);
    // After a start of the server, what was left waits for a change.
    double.with(|state| state.pending = true);
    Box::new(store).seal().unwrap();
    assert_eq!(double.calls("update"), 2);
}

#[test]
fn an_index_that_does_not_get_on_is_given_up() {
    let double = Double::start();
    let server = hurried(&double, |connection| connection.stall = Duration::from_millis(700));
    let store = ServerStore::create(&server, "ruins", &config(), &ServerOptions::default()).unwrap();
    store.upsert(points(3)).unwrap();
    double.with(|state| state.stuck = true);
    let error = failed(store.optimize());
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.to_string().contains("0 vectors of 3 points are indexed, and no more in 0.7 s"), "{error}");
    assert_eq!(store.indexed(), Some((0, 3)));
    assert_eq!(failed(Box::new(store).seal()).kind(), Kind::Timeout);
}

#[test]
fn a_manifest_is_kept_beside_the_points_and_not_among_them() {
    let double = Double::start();
    let server = double.server();
    let store = store(&double);
    assert_eq!(server.manifest("ruins").unwrap(), None);
    store.upsert(points(5)).unwrap();
    let before = crate::kb::store::content(&store, |_| {}).unwrap();
    let text = serde_json::json!({"name": "ruïnes", "files": "x".repeat(1 << 20)}).to_string();
    server.put_manifest("ruins", "{}").unwrap();
    server.put_manifest("ruins", &text).unwrap();
    assert_eq!(server.manifest("ruins").unwrap(), Some(text.clone()));
    assert_eq!(store.count().unwrap(), 5);
    assert_eq!(store.search(&Query { limit: 100, ..QUERY }).unwrap().len(), 5);
    assert_eq!(store.get(&[super::collections::MANIFEST]).unwrap(), [None]);
    assert_eq!(crate::kb::store::content(&store, |_| {}).unwrap(), before);
    assert_eq!(store.scan(None, 5).unwrap().1, None, "no page holds it");
    store.optimize().unwrap();
    server.point_alias("current", "ruins").unwrap();
    assert_eq!(server.manifest("current").unwrap(), Some(text));
    assert!(matches!(server.manifest("nothing"), Err(StoreError::Server(e)) if e.kind() == Kind::NoCollection));
}

#[test]
fn an_alias_moves_in_one_step() {
    let double = Double::start();
    let server = double.server();
    for name in ["ruins-1", "ruins-2", "castles-1"] {
        let store = ServerStore::create(&server, name, &config(), &ServerOptions::default()).unwrap();
        store.upsert(points(name.len())).unwrap();
    }
    assert_eq!(server.collections("ruins-").unwrap(), ["ruins-1", "ruins-2"]);
    assert!(server.has_collection("ruins-1").unwrap() && !server.has_collection("ruins-3").unwrap());
    assert_eq!(server.alias("ruins").unwrap(), None);
    server.point_alias("ruins", "ruins-1").unwrap();
    server.point_alias("ruins", "ruins-2").unwrap();
    assert_eq!(double.calls("alias"), 2, "one call each");
    assert_eq!(server.alias("ruins").unwrap().as_deref(), Some("ruins-2"));
    assert_eq!(ServerStore::open(&server, "ruins", &config()).unwrap().count().unwrap(), 7);
    assert_eq!(server.point_alias("ruins", "ruins-9").unwrap_err().kind(), Kind::NoCollection);
    server.delete_collection("ruins-2").unwrap();
    server.delete_collection("ruins-2").unwrap();
    assert_eq!(server.aliases().unwrap(), Vec::new());
    server.point_alias("ruins", "ruins-1").unwrap();
    server.delete_alias("ruins").unwrap();
    assert_eq!(server.collections("").unwrap(), ["castles-1", "ruins-1"]);
}

#[test]
fn it_works_from_asynchronous_code() {
    let double = Double::start();
    let server = double.server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let count = tokio::task::spawn_blocking(move || {
            let store = ServerStore::create(&server, "ruins", &config(), &ServerOptions::default()).unwrap();
            store.upsert(points(7)).unwrap();
            store.count().unwrap()
        });
        assert_eq!(count.await.unwrap(), 7);
        // Ending its threads there is no panic either.
        drop(double.server());
    });
}

#[cfg(not(feature = "edge"))]
#[test]
fn words_need_a_build_that_has_them() {
    let double = Double::start();
    let config = StoreConfig { words: true, ..config() };
    let error = ServerStore::create(&double.server(), "ruins", &config, &ServerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("cargo feature `edge`"), "{error}");
    assert_eq!(double.server().collections("").unwrap(), Vec::<String>::new());
}
