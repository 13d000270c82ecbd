//! Knowledge bases that are brought from a server into a directory: over its double in this process, and over a real one
//! where `CICERONE_TEST_QDRANT_URL` names it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kb::build::toy::{Toy, options, run, world};
use crate::kb::build::{BuildEvent, BuildOptions, Outcome, Stage, pull};
use crate::kb::manage::drop_build;
use crate::kb::remote::Remote;
use crate::kb::remote::tests::name_of_its_own;
use crate::kb::store::server::ServerOptions;
use crate::kb::store::server::double::Double;
use crate::kb::store::{Engine, StoreConfig};
use crate::kb::verify::verify;
use crate::kb::{EmbedUnit, Home, KbError, KnowledgeBase, Report, list, status};

static NEVER: AtomicBool = AtomicBool::new(false);

/// A build of sections on the server, of a name of its own.
fn built_there(remote: &Remote, dir: &Path, store: StoreConfig) -> (BuildOptions, Report) {
    let spec = world(dir, 400);
    let mut options = BuildOptions {
        home: Home { root: dir.join("there"), remote: Some(remote.clone()) },
        name: name_of_its_own(),
        store,
        ..options(dir, Engine::Edge)
    };
    options.recipe.unit = EmbedUnit::Section;
    options.recipe.batch = 50;
    let report = run(&options, &spec, &Toy::new("f")).0.unwrap();
    (options, report)
}

/// Pulls into `here`; gives the notes too, and the stages that were seen.
fn pulled(
    there: &BuildOptions,
    here: &Path,
    engine: Engine,
    cancel: &AtomicBool,
    stop_at: Option<(Stage, u64)>,
) -> (Result<Report, KbError>, Vec<String>, Vec<Stage>) {
    let options = BuildOptions { home: here.into(), engine, ..there.clone() };
    let (mut notes, mut stages) = (Vec::new(), Vec::new());
    let report = pull(&options, there.home.remote.as_ref().unwrap(), None, cancel, &mut |event| match event {
        BuildEvent::Note(note) => notes.push(note),
        BuildEvent::Progress { stage, done, .. } => {
            if stop_at.is_some_and(|(at, after)| stage == at && done >= after) {
                cancel.store(true, Ordering::Relaxed);
            }
            if stages.last() != Some(&stage) {
                stages.push(stage);
            }
        }
    });
    (report, notes, stages)
}

/// The same articles are found here as there.
fn agree(there: &BuildOptions, report: &Report, here: &Path, pulled: &Report) {
    assert_eq!(pulled.manifest.content_hash, report.manifest.content_hash);
    assert_eq!(pulled.manifest.counts, report.manifest.counts);
    assert_eq!(pulled.manifest.sources, report.manifest.sources);
    verify(here, &there.name, Some(&Toy::new("f")), |_| {}).unwrap();
    let (one, other) = (
        KnowledgeBase::open(&there.home, &there.name, Some("f")).unwrap(),
        KnowledgeBase::open(here, &there.name, Some("f")).unwrap(),
    );
    // A word of one article: among many that rank alike each engine takes others.
    let words = report.manifest.store.words.then_some("7");
    for n in [0, 7, 100] {
        let query = Toy::vector(&format!("Ruin {n}"), format!("pixels of {n}").as_bytes());
        let found = |base: &KnowledgeBase| -> Vec<String> {
            base.search(&query, words, 5).unwrap().into_iter().map(|hit| hit.article.url).collect()
        };
        assert_eq!(found(&one), found(&other), "{n}");
    }
}

#[test]
fn points_are_copied_and_a_copy_that_was_cut_off_goes_on() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let remote = Remote::new(double.server(), ServerOptions::default());
    let (there, report) = built_there(&remote, dir.path(), StoreConfig::new(0, 0));
    let here = dir.path().join("here");
    let (cut, ..) = pulled(&there, &here, Engine::Flat, &AtomicBool::new(false), Some((Stage::Copy, 500)));
    assert!(matches!(cut, Err(KbError::Interrupted { articles: 1.. })), "{cut:?}");
    assert!(matches!(KnowledgeBase::open(&here, &there.name, None), Err(KbError::NotFound { .. })));
    let scrolls = double.calls("scroll");
    let (again, _, stages) = pulled(&there, &here, Engine::Flat, &NEVER, None);
    let again = again.unwrap();
    assert_eq!(again.outcome, Outcome::Resumed);
    assert!(stages.contains(&Stage::Copy));
    // 1,200 points in pages of 256, of which two were here.
    assert!(double.calls("scroll") - scrolls <= 4, "{}", double.calls("scroll") - scrolls);
    agree(&there, &report, &here, &again);
    assert_eq!(pulled(&there, &here, Engine::Flat, &NEVER, None).0.unwrap().outcome, Outcome::UpToDate);
}

#[test]
fn what_is_here_and_what_is_there_leave_each_other_alone() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let remote = Remote::new(double.server(), ServerOptions::default());
    let (mut there, report) = built_there(&remote, dir.path(), StoreConfig::new(0, 0));
    // One directory for both.
    let root = there.home.root.clone();
    let local = pulled(&there, &root, Engine::Flat, &NEVER, None).0.unwrap();
    agree(&there, &report, &root, &local);
    assert_eq!((list(&root).unwrap().len(), list(&there.home).unwrap().len()), (1, 1));
    for _ in 0..2 {
        there.fresh = true;
        let spec = world(dir.path(), 40);
        run(&there, &spec, &Toy::new("f")).0.unwrap();
    }
    assert_eq!(status(&there.home, &there.name).unwrap().builds.len(), 2);
    assert_eq!(status(&root, &there.name).unwrap().builds.len(), 1);
    verify(&root, &there.name, None, |_| {}).unwrap();
    drop_build(&there.home, &there.name, None).unwrap();
    assert!(list(&there.home).unwrap().is_empty());
    verify(&root, &there.name, None, |_| {}).unwrap();
    drop_build(&root, &there.name, None).unwrap();
    assert!(!root.join(&there.name).exists());
}

#[test]
fn a_base_that_changed_on_its_way_is_not_taken() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let remote = Remote::new(double.server(), ServerOptions::default());
    let (there, report) = built_there(&remote, dir.path(), StoreConfig::new(0, 0));
    let mut manifest = report.manifest;
    manifest.content_hash = "0".repeat(64);
    remote.put_manifest(&there.name, 1, &manifest.to_json().unwrap()).unwrap();
    let here = dir.path().join("here");
    let error = pulled(&there, &here, Engine::Flat, &NEVER, None).0.unwrap_err();
    assert!(matches!(error, KbError::OtherContent { .. }), "{error}");
    assert!(matches!(KnowledgeBase::open(&here, &there.name, None), Err(KbError::NotFound { .. })));
}

#[cfg(feature = "edge")]
mod with_archives {
    use super::*;
    use crate::kb::build::INDEX;
    use crate::kb::place::Place;
    use crate::kb::remote::tests::real;

    fn packed(index: &Path) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        // Settings of the embedded engine are in no server's archive.
        archive.append_dir_all("segments", index.join("segments")).unwrap();
        archive.into_inner().unwrap()
    }

    /// What the double gives as the archive of a collection: the files of a copy of it.
    fn archive_of(there: &BuildOptions, dir: &Path) -> Vec<u8> {
        let here = dir.join("copy");
        pulled(there, &here, Engine::Edge, &NEVER, None).0.unwrap();
        packed(&Place::new(&here, &there.name).unwrap().build(1).join(INDEX))
    }

    #[test]
    fn an_archive_is_fetched_unpacked_and_not_indexed_again() {
        let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
        let remote = Remote::new(double.server(), ServerOptions::default());
        let (there, report) = built_there(&remote, dir.path(), StoreConfig { words: true, ..StoreConfig::new(0, 0) });
        let content = archive_of(&there, dir.path());
        double.archive(&format!("cicerone-{}-000001", there.name), content.clone());
        let here = dir.path().join("here");
        let half = content.len() as u64 / 2;
        let (cut, ..) = pulled(&there, &here, Engine::Edge, &AtomicBool::new(false), Some((Stage::Fetch, half)));
        assert!(matches!(cut, Err(KbError::Interrupted { .. })), "{cut:?}");
        let (whole, notes, stages) = pulled(&there, &here, Engine::Edge, &NEVER, None);
        let whole = whole.unwrap();
        assert!(!stages.contains(&Stage::Copy), "{notes:?}");
        assert!(double.asked()[1] >= half);
        agree(&there, &report, &here, &whole);
        assert_eq!(double.archives(), 0);
        assert!(!here.join(&there.name).join("archive.tar").exists());
    }

    #[test]
    fn an_archive_that_cannot_be_read_gives_way_to_a_copy() {
        let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
        let remote = Remote::new(double.server(), ServerOptions::default());
        let (there, report) = built_there(&remote, dir.path(), StoreConfig::new(0, 0));
        double.archive(&format!("cicerone-{}-000001", there.name), b"no archive".repeat(1000));
        let here = dir.path().join("here");
        let (copied, notes, stages) = pulled(&there, &here, Engine::Edge, &NEVER, None);
        assert!(stages.contains(&Stage::Copy));
        assert!(notes.iter().any(|note| note.contains("cannot be used")), "{notes:?}");
        agree(&there, &report, &here, &copied.unwrap());
        assert_eq!(double.archives(), 0);
    }

    #[test]
    fn a_real_server_gives_its_archive() {
        let Some(server) = real() else { return };
        let in_one = ServerOptions { shard_number: Some(1), ..ServerOptions::default() };
        let in_three = ServerOptions { shard_number: Some(3), ..ServerOptions::default() };
        for (options, words) in [(in_one.clone(), false), (in_one, true), (in_three, true)] {
            let dir = tempfile::tempdir().unwrap();
            let remote = Remote::new(server.clone(), options.clone());
            let store = StoreConfig { words, ..StoreConfig::new(0, 0) };
            let (there, report) = built_there(&remote, dir.path(), store);
            let here = dir.path().join("here");
            let (whole, notes, stages) = pulled(&there, &here, Engine::Edge, &NEVER, None);
            // A node of a cluster gives archives of what it has itself.
            let elsewhere = notes.iter().any(|note| note.contains("is not a local"));
            assert_eq!(stages.contains(&Stage::Copy), elsewhere || options.shard_number != Some(1), "{notes:?}");
            agree(&there, &report, &here, &whole.unwrap());
            drop_build(&there.home, &there.name, None).unwrap();
        }
    }
}
