//! The cases, over a small world of ruins.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::Ground;
use crate::kb::store::{
    Engine, Part, Payload, Point, Quantization, Query, Record, Store, StoreConfig, StoreError, content, part_id,
    part_key, point_id,
};
use crate::kb::{Article, PictureRef, Section};

const DIM: usize = 16;

pub(super) fn config() -> StoreConfig {
    StoreConfig { hnsw_m: 8, hnsw_ef_construct: 32, ..StoreConfig::new(DIM, 1) }
}

/// A unit vector out of a hash.
pub(super) fn vector(seed: &str) -> Vec<f32> {
    let mut bytes = [0; DIM];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    let values: Vec<f32> = bytes.iter().map(|b| f32::from(*b) - 127.5).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

fn url(n: usize) -> String {
    format!("https://example.org/ruin/{n}")
}

fn record(n: usize) -> Record {
    let section = |title: &str, text: String| Section { title: title.to_owned(), text };
    let article = Article {
        url: url(n),
        title: format!("Ruin {n}"),
        sections: vec![section("Ruin", format!("It stands on hill {n}.")), section("History", "x".repeat(n % 50))],
        pictures: Vec::new(),
    };
    Record::new(article, n % 2, n as u64, 0)
}

fn point(n: usize) -> Point {
    Point { id: point_id(&url(n)), vectors: vector(&url(n)), words: None, payload: Payload::Article(record(n)) }
}

pub(super) fn points(range: std::ops::Range<usize>) -> Vec<Point> {
    range.map(point).collect()
}

pub(super) fn by_vector(vectors: &[f32], limit: usize) -> Query<'_> {
    Query { vectors, words: None, limit, exact: false }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// URLs by score, from comparing all.
fn expected(query: &[f32], among: std::ops::Range<usize>, limit: usize) -> Vec<(String, f32)> {
    let mut all: Vec<_> = among.map(|n| (url(n), dot(query, &vector(&url(n))))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(limit);
    all
}

fn assert_found(found: &[(Payload, f32)], expected: &[(String, f32)]) {
    let urls = |found: &[(Payload, f32)]| found.iter().map(|(p, _)| p.url().to_owned()).collect::<Vec<_>>();
    assert_eq!(urls(found), expected.iter().map(|(url, _)| url.clone()).collect::<Vec<_>>());
    for ((_, found), (url, expected)) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{url} scored {found}, expected {expected}");
    }
}

/// All points by pages of `limit`.
fn scan_all(store: &dyn Store, limit: usize) -> Vec<Point> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let (page, next) = store.scan(from, limit).unwrap();
        assert!(page.len() <= limit);
        assert!(next.is_none() || !page.is_empty());
        all.extend(page);
        match next {
            Some(next) => from = Some(next),
            None => return all,
        }
    }
}

pub(super) fn points_come_back_as_they_were_given(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..30)).unwrap();
    store.flush().unwrap();
    assert_eq!((store.count().unwrap(), store.tally().unwrap()), (30, 30));
    let ids = [7, 3, 29].map(|n| point_id(&url(n)));
    let got = store.get(&ids).unwrap();
    assert_eq!(got, [7, 3, 29].map(|n| Some(Payload::Article(record(n)))));
    let by_id: BTreeMap<Uuid, Point> = points(0..30).into_iter().map(|point| (point.id, point)).collect();
    let scanned = scan_all(&*store, 100);
    // Bit by bit, vectors too.
    assert_eq!(scanned, by_id.into_values().collect::<Vec<_>>());
}

pub(super) fn several_graphs_hold_what_one_would(ground: &dyn Ground) {
    let store = ground.create(&StoreConfig { graph: 40, ..config() });
    let mut graphs = 0;
    for part in 0..10 {
        store.upsert(points(part * 20..(part + 1) * 20)).unwrap();
        if store.full() {
            store.optimize().unwrap();
            assert!(!store.full());
            graphs += 1;
        }
    }
    assert_eq!(graphs, if ground.graphs() { 5 } else { 0 }, "an engine that sees to it itself is never full");
    // Of any of them, points are replaced and removed.
    store.upsert(points(0..50)).unwrap();
    store.delete(&[point_id(&url(199)), point_id(&url(1))]).unwrap();
    store.flush().unwrap();
    store.optimize().unwrap();
    assert_eq!(store.count().unwrap(), 198);
    let query = vector("a question");
    let mut among = expected(&query, 0..200, 200);
    among.retain(|(found, _)| *found != url(199) && *found != url(1));
    among.truncate(12);
    assert_found(&store.search(&by_vector(&query, 12)).unwrap(), &among);
    assert_eq!(scan_all(&*store, 64).len(), 198);
    store.seal().unwrap();
    let store = ground.open(&StoreConfig { graph: 40, ..config() });
    assert_found(&store.search(&by_vector(&query, 12)).unwrap(), &among);
    assert_eq!((store.count().unwrap(), store.tally().unwrap()), (198, 198));
}

pub(super) fn a_scan_pages_in_the_order_of_ids(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..50)).unwrap();
    let mut ids: Vec<Uuid> = (0..50).map(|n| point_id(&url(n))).collect();
    ids.sort();
    for limit in [1, 7, 25, 50, 51] {
        assert_eq!(scan_all(&*store, limit).iter().map(|point| point.id).collect::<Vec<_>>(), ids);
    }
    // From an id that is there, and from one that is not.
    let (page, next) = store.scan(Some(ids[10]), 5).unwrap();
    assert_eq!((page[0].id, next), (ids[10], Some(ids[15])));
    let after = Uuid::from_u128(ids[10].as_u128() + 1);
    assert_eq!(store.scan(Some(after), 5).unwrap().0[0].id, ids[11]);
    assert_eq!(store.scan(Some(Uuid::max()), 5).unwrap(), (Vec::new(), None));
}

pub(super) fn the_nearest_come_first_with_their_scores(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..60)).unwrap();
    store.optimize().unwrap();
    for n in [0, 17, 59] {
        let query = vector(&url(n));
        let found = store.search(&by_vector(&query, 5)).unwrap();
        assert_found(&found, &expected(&query, 0..60, 5));
        assert!((found[0].1 - 1.0).abs() < 1e-5);
        assert_eq!(found[0].0, Payload::Article(record(n)));
    }
    // More than there are: all of them.
    let query = vector("somewhere else");
    assert_found(&store.search(&by_vector(&query, 1000)).unwrap(), &expected(&query, 0..60, 60));
    assert_eq!(store.search(&by_vector(&query, 0)).unwrap(), Vec::new());
}

pub(super) fn exact_search_agrees_with_comparing_all(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..200)).unwrap();
    store.optimize().unwrap();
    for n in 0..10 {
        let query = vector(&format!("question {n}"));
        let exact = Query { exact: true, ..by_vector(&query, 10) };
        assert_found(&store.search(&exact).unwrap(), &expected(&query, 0..200, 10));
    }
}

pub(super) fn shortened_vectors_change_no_exact_answer(ground: &dyn Ground) {
    let store = ground.create(&StoreConfig { quantization: Quantization::Int8, on_disk: true, ..config() });
    store.upsert(points(0..200)).unwrap();
    store.optimize().unwrap();
    let query = vector("question");
    let exact = Query { exact: true, ..by_vector(&query, 10) };
    assert_found(&store.search(&exact).unwrap(), &expected(&query, 0..200, 10));
    // Scored again by the full ones: no score is that of a shortened one.
    let found = store.search(&by_vector(&query, 3)).unwrap();
    let scores = expected(&query, 0..200, 200);
    for (payload, score) in found {
        let (_, expected) = scores.iter().find(|(url, _)| url == payload.url()).unwrap();
        assert!((score - expected).abs() < 1e-5);
    }
}

pub(super) fn a_point_is_replaced_by_its_id(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..20)).unwrap();
    let moved = Point { vectors: vector("moved"), payload: Payload::Article(record(1000)), ..point(5) };
    store.upsert(vec![moved.clone()]).unwrap();
    store.upsert(vec![moved.clone()]).unwrap();
    assert_eq!(store.count().unwrap(), 20);
    assert_eq!(store.get(&[moved.id]).unwrap(), [Some(moved.payload.clone())]);
    let found = store.search(&by_vector(&moved.vectors, 1)).unwrap();
    assert_eq!((found[0].0.url(), found[0].1 > 0.999), (&*url(1000), true));
    let found = store.search(&by_vector(&vector(&url(5)), 1)).unwrap();
    assert!(found[0].1 < 0.999, "its vector before is still there");
}

pub(super) fn removed_points_are_gone(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..20)).unwrap();
    let ids = [3, 4, 99].map(|n| point_id(&url(n)));
    store.delete(&ids).unwrap();
    store.delete(&ids).unwrap();
    store.delete(&[]).unwrap();
    store.flush().unwrap();
    assert_eq!(store.count().unwrap(), 18);
    assert_eq!(store.get(&ids).unwrap(), [None, None, None]);
    let found = store.search(&by_vector(&vector(&url(3)), 20)).unwrap();
    assert!(found.len() == 18 && found.iter().all(|(payload, _)| payload.url() != url(3)));
    assert!(scan_all(&*store, 7).iter().all(|point| !ids.contains(&point.id)));
    store.upsert(vec![point(3)]).unwrap();
    assert_eq!(store.count().unwrap(), 19);
}

pub(super) fn unknown_ids_are_passed_over(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..3)).unwrap();
    let (known, unknown) = (point_id(&url(1)), point_id(&url(7)));
    let got = store.get(&[unknown, known, unknown, known]).unwrap();
    let expected = Some(Payload::Article(record(1)));
    assert_eq!(got, [None, expected.clone(), None, expected]);
    assert_eq!(store.get(&[]).unwrap(), Vec::new());
}

pub(super) fn parts_are_found_and_their_articles_read(ground: &dyn Ground) {
    let store = ground.create(&config());
    let article = point_id(&url(1));
    let whole = Point {
        vectors: Vec::new(),
        payload: Payload::Article(Record {
            parts: 2,
            pictures: vec![PictureRef { name: "1.png".to_owned(), section: 1, caption: String::new() }],
            ..record(1)
        }),
        ..point(1)
    };
    let part = |number, picture| Point {
        id: part_id(article, number),
        vectors: vector(&part_key(&url(1), number)),
        words: None,
        payload: Payload::Part(Part { part_of: url(1), number, section: number, picture }),
    };
    store.upsert(vec![whole.clone(), part(0, None), part(1, Some(0)), point(2)]).unwrap();
    store.optimize().unwrap();
    assert_eq!(store.count().unwrap(), 4);
    let query = vector(&part_key(&url(1), 1));
    let found = store.search(&by_vector(&query, 10)).unwrap();
    assert_eq!(found.len(), 3, "an article without a vector is not found");
    assert_eq!(found[0].0, part(1, Some(0)).payload);
    assert_eq!(store.get(&[article]).unwrap(), [Some(whole.payload.clone())]);
    let scanned = scan_all(&*store, 2);
    assert_eq!(scanned.iter().find(|point| point.id == article), Some(&whole));
}

pub(super) fn several_vectors_are_compared_by_maxsim(ground: &dyn Ground) {
    let config = StoreConfig { vectors: 3, ..config() };
    let store = ground.create(&config);
    let several = |seed: &str| (0..3).flat_map(|i| vector(&format!("{seed} {i}"))).collect::<Vec<f32>>();
    let with = |n| Point { vectors: several(&url(n)), ..point(n) };
    store.upsert((0..40).map(with).collect()).unwrap();
    store.optimize().unwrap();
    let query = several("question");
    let score = |n| {
        let own = several(&url(n));
        let best = |row: &[f32]| own.chunks(DIM).map(|own| dot(row, own)).fold(f32::NEG_INFINITY, f32::max);
        query.chunks(DIM).map(best).sum::<f32>()
    };
    let mut all: Vec<_> = (0..40).map(|n| (url(n), score(n))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_found(&store.search(&by_vector(&query, 40)).unwrap(), &all);
    let scanned = scan_all(&*store, 11);
    assert_eq!(scanned.iter().find(|p| p.payload.url() == url(9)).unwrap().vectors, several(&url(9)));
}

pub(super) fn a_batch_with_a_bad_vector_is_refused_whole(ground: &dyn Ground) {
    let store = ground.create(&config());
    let bad: [Vec<f32>; 5] = [
        vec![f32::NAN; DIM],
        vec![0.0; DIM],
        vector("short")[1..].to_vec(),
        vector("long").repeat(2),
        vec![f32::INFINITY; DIM],
    ];
    for vectors in bad {
        let mut batch = points(0..10);
        batch[7].vectors = vectors;
        let error = store.upsert(batch).unwrap_err();
        assert!(matches!(&error, StoreError::BadVector { url: found, .. } if *found == url(7)), "{error}");
    }
    assert_eq!(store.count().unwrap(), 0);
    store.upsert(points(0..10)).unwrap();
    assert_eq!(store.count().unwrap(), 10);
}

pub(super) fn a_sealed_store_holds_everything(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..25)).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = ground.open(&config());
    store.upsert(points(25..50)).unwrap();
    store.flush().unwrap();
    store.optimize().unwrap();
    let before = content(&*store, |_| {}).unwrap();
    store.seal().unwrap();
    for _ in 0..2 {
        let store = ground.open(&config());
        assert_eq!(store.count().unwrap(), 50);
        let query = vector(&url(33));
        assert_found(&store.search(&by_vector(&query, 5)).unwrap(), &expected(&query, 0..50, 5));
        assert_eq!(content(&*store, |_| {}).unwrap(), before);
    }
}

pub(super) fn long_texts_in_any_script_come_back(ground: &dyn Ground) {
    let store = ground.create(&config());
    let text = "Ruïne 廃墟 руины أطلال 🏛️ \u{202e}\t\"\\\u{0}\n".repeat(1 << 15);
    assert!(text.len() > 1_000_000);
    let mut large = record(1);
    large.title = "Čapek 日本".to_owned();
    large.sections[1].text = text;
    let payload = Payload::Article(large);
    store.upsert(vec![Point { payload: payload.clone(), ..point(1) }, point(2)]).unwrap();
    assert_eq!(store.get(&[point(1).id]).unwrap(), [Some(payload.clone())]);
    assert_eq!(store.search(&by_vector(&vector(&url(1)), 1)).unwrap()[0].0, payload);
    // Several of them, more than goes into one request.
    let many = (10..40).map(|n| Point { payload: payload.clone(), ..point(n) }).collect();
    store.upsert(many).unwrap();
    assert_eq!(store.count().unwrap(), 32);
    assert_eq!(store.get(&[point(39).id]).unwrap(), [Some(payload)]);
}

pub(super) fn words_are_fused_with_vectors(ground: &dyn Ground) {
    if !ground.words() {
        return;
    }
    let config = StoreConfig { words: true, ..config() };
    let store = ground.create(&config);
    let with = |n: usize| Point { words: Some(format!("ruin number{n} on a hill")), ..point(n) };
    store.upsert((0..30).map(with).collect()).unwrap();
    store.optimize().unwrap();
    // One by its vector, another by its words.
    let query = vector(&url(4));
    let fused = Query { words: Some("number23"), ..by_vector(&query, 30) };
    let found = store.search(&fused).unwrap();
    let first: Vec<&str> = found.iter().take(2).map(|(payload, _)| payload.url()).collect();
    assert!(first.contains(&&*url(4)) && first.contains(&&*url(23)), "{first:?}");
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
    assert_eq!(found.len(), 30);
    // Words that are nowhere leave the ranking by vectors.
    let nowhere = Query { words: Some("zeppelin"), ..by_vector(&query, 5) };
    let urls: Vec<String> = store.search(&nowhere).unwrap().iter().map(|(p, _)| p.url().to_owned()).collect();
    assert_eq!(urls, expected(&query, 0..30, 5).into_iter().map(|(url, _)| url).collect::<Vec<_>>());
    // Vectors alone are scored as ever, and words take nothing from a scan.
    assert_found(&store.search(&by_vector(&query, 5)).unwrap(), &expected(&query, 0..30, 5));
    assert!(scan_all(&*store, 11).iter().all(|point| point.words.is_none() && point.vectors.len() == DIM));
}

pub(super) fn readers_are_served_while_points_are_stored(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(points(0..50)).unwrap();
    let (store, done) = (&*store, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let done = &done;
            scope.spawn(move || {
                let query = vector(&url(reader));
                let mut before = 50;
                while !done.load(Ordering::Acquire) {
                    let count = store.count().unwrap();
                    assert!((before..=250).contains(&count), "{count} after {before}");
                    before = count;
                    let found = store.search(&by_vector(&query, 3)).unwrap();
                    assert_eq!(found[0].0, Payload::Article(record(reader)));
                    assert!(store.get(&[point(reader + 10).id]).unwrap()[0].is_some());
                }
            });
        }
        let written = (50..250).step_by(20).try_for_each(|n| store.upsert(points(n..n + 20)));
        done.store(true, Ordering::Release);
        written.unwrap();
    });
    assert_eq!(store.count().unwrap(), 250);
    let query = vector("question");
    assert_found(&store.search(&by_vector(&query, 10)).unwrap(), &expected(&query, 0..250, 10));
}

pub(super) fn an_empty_store_answers(ground: &dyn Ground) {
    let store = ground.create(&config());
    store.upsert(Vec::new()).unwrap();
    assert_eq!(store.count().unwrap(), 0);
    assert_eq!(store.search(&by_vector(&vector("question"), 5)).unwrap(), Vec::new());
    assert_eq!(store.scan(None, 5).unwrap(), (Vec::new(), None));
    store.optimize().unwrap();
    store.seal().unwrap();
    assert_eq!(ground.open(&config()).count().unwrap(), 0);
}

pub(super) fn equal_points_have_equal_contents(ground: &dyn Ground) {
    let store = ground.create(&config());
    for n in (0..30).rev() {
        store.upsert(points(n..n + 1)).unwrap();
    }
    // A file is the measure for the others.
    let dir = tempfile::tempdir().unwrap();
    let file = Engine::Flat.create(&dir.path().join("store"), &config()).unwrap();
    file.upsert(points(0..30)).unwrap();
    assert_eq!(content(&*store, |_| {}).unwrap(), content(&*file, |_| {}).unwrap());
}
