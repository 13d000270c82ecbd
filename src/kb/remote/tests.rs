//! Knowledge bases on a server, over its double in this process: whatever a build does around a store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::kb::build::toy::{Toy, line, options, run, world};
use crate::kb::build::{BuildOptions, Outcome, add, remove};
use crate::kb::manage::{drop_build, export, use_build};
use crate::kb::remote::Remote;
use crate::kb::store::server::ServerOptions;
use crate::kb::store::server::double::Double;
use crate::kb::store::{Engine, ServerErrorKind, StoreError};
use crate::kb::verify::verify;
use crate::kb::{EmbedUnit, Home, KbError, KnowledgeBase, list, source, status};

fn home(double: &Double, root: &Path) -> Home {
    let remote = Remote::new(double.server(), ServerOptions::default());
    Home { root: root.to_owned(), remote: Some(remote) }
}

fn on(home: &Home) -> BuildOptions {
    BuildOptions { home: home.clone(), ..options(&home.root, Engine::Edge) }
}

#[test]
fn a_build_is_searched_from_another_machine_and_swapped_under_its_readers() {
    let (double, dir, elsewhere) = (Double::start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (home, reader) = (home(&double, dir.path()), home(&double, elsewhere.path()));
    let spec = world(dir.path(), 10);
    let report = run(&on(&home), &spec, &Toy::new("f")).0.unwrap();
    assert_eq!((report.outcome, report.manifest.engine), (Outcome::Built, Engine::Server));
    assert!(report.manifest.files.is_empty());
    assert_eq!(run(&on(&home), &spec, &Toy::new("f")).0.unwrap().outcome, Outcome::UpToDate);

    let old = KnowledgeBase::open(&reader, "ruins", Some("f")).unwrap();
    let query = Toy::vector("Ruin 4", b"pixels of 4");
    assert_eq!(old.search(&query, None, 2).unwrap()[0].article.title, "Ruin 4");
    assert!(matches!(KnowledgeBase::open(&reader, "ruins", Some("g")), Err(KbError::FingerprintMismatch { .. })));

    world(dir.path(), 12);
    run(&on(&home), &spec, &Toy::new("f")).0.unwrap();
    // Nobody knows who still reads the build before, so it stays until the next.
    assert_eq!(old.search(&query, None, 20).unwrap().len(), 10);
    let new = KnowledgeBase::open(&reader, "ruins", Some("f")).unwrap();
    assert_eq!(new.search(&query, None, 20).unwrap().len(), 12);
    assert_eq!(status(&reader, "ruins").unwrap().builds, [1, 2]);
    assert_eq!(list(&reader).unwrap().len(), 1);
    verify(&reader, "ruins", Some(&Toy::new("f")), |_| {}).unwrap();
    assert_eq!(export(&reader, "ruins", &elsewhere.path().join("out"), |_| {}).unwrap().counts.articles, 12);

    use_build(&reader, "ruins", 1).unwrap();
    assert_eq!(KnowledgeBase::open(&reader, "ruins", None).unwrap().manifest().counts.articles, 10);
    assert!(matches!(drop_build(&home, "ruins", Some(1)), Err(KbError::InUse { .. })));
    drop_build(&home, "ruins", Some(2)).unwrap();
    drop_build(&home, "ruins", None).unwrap();
    assert!(matches!(status(&reader, "ruins"), Err(KbError::NotFound { .. })));
}

#[test]
fn what_was_cut_off_goes_on_and_changes_begin_with_a_copy() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let home = home(&double, dir.path());
    let spec = world(dir.path(), 30);
    let mut options = on(&home);
    options.recipe.unit = EmbedUnit::Section;
    let toy = Toy { cancel_after: Some((3, AtomicBool::new(false))), ..Toy::new("f") };
    assert!(matches!(run(&options, &spec, &toy).0, Err(KbError::Interrupted { .. })));
    assert!(matches!(KnowledgeBase::open(&home, "ruins", None), Err(KbError::NotFound { .. })));
    assert_eq!(run(&options, &spec, &Toy::new("f")).0.unwrap().outcome, Outcome::Resumed);

    let changed = line(3).replace("Ruin 3", "Castle 3");
    fs_err::write(dir.path().join("more.jsonl"), format!("{changed}\n{}", line(31))).unwrap();
    let more = format!("evqa:{}", dir.path().join("more.jsonl").display());
    let never = AtomicBool::new(false);
    let report = add(&options, source::open(&more).unwrap().as_mut(), &Toy::new("f"), &never, &mut |_| {}).unwrap();
    assert_eq!(report.manifest.counts.articles, 31);
    let urls = ["https://example.org/ruin/0".to_owned(), "https://example.org/ruin/31".to_owned()];
    assert_eq!(remove(&options, &urls, &mut |_| {}).unwrap().manifest.counts.articles, 29);
    let base = KnowledgeBase::open(&home, "ruins", Some("f")).unwrap();
    assert_eq!(base.article("https://example.org/ruin/3").unwrap().unwrap().title, "Castle 3");
    assert_eq!(base.article(&urls[0]).unwrap(), None);
    verify(&home, "ruins", Some(&Toy::new("f")), |_| {}).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_told_and_nothing_is_lost() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let home = home(&double, dir.path());
    let spec = world(dir.path(), 10);
    run(&on(&home), &spec, &Toy::new("f")).0.unwrap();
    drop(double);
    let error = KnowledgeBase::open(&home, "ruins", None).unwrap_err();
    let kind = |error: &KbError| match error {
        KbError::Store(StoreError::Server(error)) => Some(error.kind()),
        _ => None,
    };
    assert_eq!(kind(&error), Some(ServerErrorKind::Unreachable), "{error}");
    assert_eq!((error.exit_code(), error.code()), (3, "kb_server_unreachable"));
}
