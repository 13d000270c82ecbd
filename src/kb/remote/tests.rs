//! Knowledge bases on a server: whatever a build does around a store. Over its double in this process, and what does not
//! end it over a real one too, where `CICERONE_TEST_QDRANT_URL` names it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kb::build::toy::{Toy, line, options, run, world};
use crate::kb::build::{BuildOptions, Outcome, add, remove};
use crate::kb::manage::{drop_build, export, use_build};
use crate::kb::remote::Remote;
use crate::kb::store::server::double::Double;
use crate::kb::store::server::{ApiKey, Connection, Server, ServerOptions};
use crate::kb::store::{Engine, ServerErrorKind, StoreError};
use crate::kb::verify::verify;
use crate::kb::{EmbedUnit, Home, KbError, KnowledgeBase, list, source, status};

fn home(server: &Server, root: &Path) -> Home {
    let remote = Remote::new(server.clone(), ServerOptions::default());
    Home { root: root.to_owned(), remote: Some(remote) }
}

fn on(home: &Home, name: &str) -> BuildOptions {
    BuildOptions { home: home.clone(), name: name.to_owned(), ..options(&home.root, Engine::Edge) }
}

/// Runs a case on the double, and on a real server under a name of its own.
fn on_each(case: impl Fn(&Server, &str)) {
    let double = Double::start();
    case(&double.server(), "ruins");
    if let Some(server) = real() {
        let name = name_of_its_own();
        case(&server, &name);
        let elsewhere = tempfile::tempdir().unwrap();
        match drop_build(home(&server, elsewhere.path()), &name, None) {
            Ok(()) | Err(KbError::NotFound { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// The server that `CICERONE_TEST_QDRANT_URL` names.
pub(super) fn real() -> Option<Server> {
    let url = std::env::var("CICERONE_TEST_QDRANT_URL").ok()?;
    let key = std::env::var("CICERONE_TEST_QDRANT_API_KEY").ok();
    Some(Server::connect(Connection::new(&url).with_key(key.as_deref().map(ApiKey::new))).unwrap())
}

pub(super) fn name_of_its_own() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("test-{now}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn a_build_is_searched_from_another_machine_and_swapped_under_its_readers() {
    on_each(|server, name| {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (home, reader) = (home(server, dir.path()), home(server, elsewhere.path()));
        let spec = world(dir.path(), 10);
        let report = run(&on(&home, name), &spec, &Toy::new("f")).0.unwrap();
        assert_eq!((report.outcome, report.manifest.engine), (Outcome::Built, Engine::Server));
        assert!(report.manifest.files.is_empty());
        assert_eq!(run(&on(&home, name), &spec, &Toy::new("f")).0.unwrap().outcome, Outcome::UpToDate);

        let old = KnowledgeBase::open(&reader, name, Some("f")).unwrap();
        let query = Toy::vector("Ruin 4", b"pixels of 4");
        assert_eq!(old.search(&query, None, 2).unwrap()[0].article.title, "Ruin 4");
        assert!(matches!(KnowledgeBase::open(&reader, name, Some("g")), Err(KbError::FingerprintMismatch { .. })));

        world(dir.path(), 12);
        run(&on(&home, name), &spec, &Toy::new("f")).0.unwrap();
        // Nobody knows who still reads the build before, so it stays until the next.
        assert_eq!(old.search(&query, None, 20).unwrap().len(), 10);
        let new = KnowledgeBase::open(&reader, name, Some("f")).unwrap();
        assert_eq!(new.search(&query, None, 20).unwrap().len(), 12);
        assert_eq!(status(&reader, name).unwrap().builds, [1, 2]);
        assert_eq!(list(&reader).unwrap().iter().filter(|found| found.name == name).count(), 1);
        verify(&reader, name, Some(&Toy::new("f")), |_| {}).unwrap();
        assert_eq!(export(&reader, name, &elsewhere.path().join("out"), |_| {}).unwrap().counts.articles, 12);

        use_build(&reader, name, 1).unwrap();
        assert_eq!(KnowledgeBase::open(&reader, name, None).unwrap().manifest().counts.articles, 10);
        assert!(matches!(drop_build(&home, name, Some(1)), Err(KbError::InUse { .. })));
        drop_build(&home, name, Some(2)).unwrap();
        drop_build(&home, name, None).unwrap();
        assert!(matches!(status(&reader, name), Err(KbError::NotFound { .. })));
    });
}

#[test]
fn what_was_cut_off_goes_on_and_changes_begin_with_a_copy() {
    on_each(|server, name| {
        let dir = tempfile::tempdir().unwrap();
        let home = home(server, dir.path());
        let spec = world(dir.path(), 30);
        let mut options = on(&home, name);
        options.recipe.unit = EmbedUnit::Section;
        let toy = Toy { cancel_after: Some((3, AtomicBool::new(false))), ..Toy::new("f") };
        assert!(matches!(run(&options, &spec, &toy).0, Err(KbError::Interrupted { .. })));
        assert!(matches!(KnowledgeBase::open(&home, name, None), Err(KbError::NotFound { .. })));
        assert_eq!(run(&options, &spec, &Toy::new("f")).0.unwrap().outcome, Outcome::Resumed);

        let changed = line(3).replace("Ruin 3", "Castle 3");
        fs_err::write(dir.path().join("more.jsonl"), format!("{changed}\n{}", line(31))).unwrap();
        let more = format!("evqa:{}", dir.path().join("more.jsonl").display());
        let never = AtomicBool::new(false);
        let report = add(&options, source::open(&more).unwrap().as_mut(), &Toy::new("f"), &never, &mut |_| {}).unwrap();
        assert_eq!(report.manifest.counts.articles, 31);
        let urls = ["https://example.org/ruin/0".to_owned(), "https://example.org/ruin/31".to_owned()];
        assert_eq!(remove(&options, &urls, &mut |_| {}).unwrap().manifest.counts.articles, 29);
        let base = KnowledgeBase::open(&home, name, Some("f")).unwrap();
        assert_eq!(base.article("https://example.org/ruin/3").unwrap().unwrap().title, "Castle 3");
        assert_eq!(base.article(&urls[0]).unwrap(), None);
        verify(&home, name, Some(&Toy::new("f")), |_| {}).unwrap();
    });
}

#[test]
fn readers_find_the_old_or_the_new_while_it_changes() {
    on_each(|server, name| {
        let dir = tempfile::tempdir().unwrap();
        let home = home(server, dir.path());
        let spec = world(dir.path(), 10);
        run(&on(&home, name), &spec, &Toy::new("f")).0.unwrap();
        let over = AtomicBool::new(false);
        let query = Toy::vector("Ruin 4", b"pixels of 4");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = std::collections::BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let base = KnowledgeBase::open(&home, name, Some("f")).unwrap();
                    let hits = base.search(&query, None, 50).unwrap();
                    assert_eq!(hits[0].article.title, "Ruin 4");
                    assert_eq!(hits.len() as u64, base.manifest().counts.articles);
                    seen.insert(hits.len());
                }
                seen
            });
            for count in [20, 10, 20, 10, 20] {
                world(dir.path(), count);
                run(&on(&home, name), &spec, &Toy::new("f")).0.unwrap();
            }
            over.store(true, Ordering::Relaxed);
            assert_eq!(reader.join().unwrap().into_iter().collect::<Vec<_>>(), [10, 20]);
        });
    });
}

#[test]
fn a_server_that_is_not_there_is_told_and_nothing_is_lost() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let home = home(&double.server(), dir.path());
    let spec = world(dir.path(), 10);
    run(&on(&home, "ruins"), &spec, &Toy::new("f")).0.unwrap();
    drop(double);
    let error = KnowledgeBase::open(&home, "ruins", None).unwrap_err();
    let kind = |error: &KbError| match error {
        KbError::Store(StoreError::Server(error)) => Some(error.kind()),
        _ => None,
    };
    assert_eq!(kind(&error), Some(ServerErrorKind::Unreachable), "{error}");
    assert_eq!((error.exit_code(), error.code()), (3, "kb_server_unreachable"));
}
