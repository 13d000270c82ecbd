//! Builds as their callers see them, over every engine of this build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use super::toy::*;
use super::*;
use crate::io::IoError;
use crate::kb::manifest::MANIFEST;
use crate::kb::store::flat::FAIL_IN;
use crate::kb::verify::verify;
use crate::kb::{Found, Hit, KnowledgeBase, PictureRef};

#[test]
fn every_article_finds_itself() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let report = built(&options(dir.path(), *engine), &spec);
        assert_eq!(report.outcome, Outcome::Built);
        let counts = report.manifest.counts;
        assert_eq!((counts.articles, counts.sections, counts.quarantined), (30, 60, 0));
        assert_eq!((counts.pictures, counts.pictures_missing), (20, 10));
        let base = KnowledgeBase::open(dir.path(), "ruins", Some("f")).unwrap();
        for n in 0..30 {
            let picture = if n % 3 == 2 { String::new() } else { format!("pixels of {n}") };
            let hits = base.search(&Toy::vector(&format!("Ruin {n}"), picture.as_bytes()), None, 3).unwrap();
            assert_eq!(hits.len(), 3);
            assert_eq!(hits[0].article.url, format!("https://example.org/ruin/{n}"));
            assert!((hits[0].score - 1.0).abs() < 1e-5 && hits[1].score < 0.99);
            assert_eq!(hits[0].article.sections[1].text.len(), n * 7);
        }
        let article = base.article("http://example.org/ruin/7").unwrap().unwrap();
        let image = |name| fs_err::canonicalize(dir.path().join("images").join(name)).unwrap();
        assert_eq!(base.picture(&article).unwrap(), image("7.png"));
        let mut hit = Hit { article, score: 1.0, part: None };
        hit.article.pictures.push(PictureRef { name: "images/4.png".into(), ..PictureRef::default() });
        for (picture, name) in [(Some(1), "4.png"), (Some(0), "7.png"), (None, "7.png")] {
            hit.part = Some(Found { section: 1, picture });
            assert_eq!(base.picture_of(&hit).unwrap(), image(name));
        }
        hit.article.pictures[1].name = "../images/4.png".into();
        hit.part = Some(Found { section: 1, picture: Some(1) });
        assert_eq!(base.picture_of(&hit), None, "a name that leads out");
        assert_eq!(base.article("https://example.org/ruin/99").unwrap(), None);
        assert!(matches!(base.search(&[0.0; DIM], None, 3), Err(KbError::Query(_))));
        assert!(matches!(base.search(&[1.0], None, 3), Err(KbError::Query(_))));
    }
}

#[test]
fn opening_and_searching_changes_no_file() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let report = built(&options(dir.path(), *engine), &spec);
        for _ in 0..2 {
            let base = KnowledgeBase::open(dir.path(), "ruins", Some("f")).unwrap();
            base.search(&Toy::vector("Ruin 2", b""), None, 3).unwrap();
            drop(base);
            report.manifest.check_hashes(&report.dir, |_| {}).unwrap();
        }
        let files = crate::kb::integrity::list_files(&report.dir, INDEX, |_| {}).unwrap();
        assert_eq!(files, report.manifest.files);
        verify(dir.path(), "ruins", None, |_| {}).unwrap();
    }
}

#[test]
fn a_cancelled_build_goes_on_and_is_the_same_in_the_end() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let whole = built(&options(&dir.path().join("a"), *engine), &spec).manifest;
        let options = options(&dir.path().join("b"), *engine);
        for after in [1, 2, 2] {
            let toy = Toy { cancel_after: Some((after, AtomicBool::new(false))), ..Toy::new("f") };
            let error = run(&options, &spec, &toy).0.unwrap_err();
            assert!(matches!(error, KbError::Interrupted { .. }), "{error}");
            assert_eq!(error.exit_code(), 130);
        }
        let status = crate::kb::status(&options.home, "ruins").unwrap();
        assert_eq!(status.in_progress.unwrap().done, 20);
        assert!(matches!(KnowledgeBase::open(&options.home, "ruins", None), Err(KbError::NotFound { .. })));
        let toy = Toy::new("f");
        let (report, notes) = run(&options, &spec, &toy);
        let report = report.unwrap();
        assert_eq!(report.outcome, Outcome::Resumed);
        assert_eq!(notes, ["going on behind record 20"]);
        assert_eq!(*toy.batches.lock().unwrap(), 3, "what was done was done again");
        assert_eq!((&report.manifest.content_hash, report.manifest.counts), (&whole.content_hash, whole.counts));
        assert_eq!(run(&options, &spec, &Toy::new("f")).0.unwrap().outcome, Outcome::UpToDate);
    }
}

#[test]
fn another_source_retriever_or_recipe_starts_anew() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let cut = || Toy { cancel_after: Some((3, AtomicBool::new(false))), ..Toy::new("f") };
        let options = options(dir.path(), *engine);

        run(&options, &spec, &cut()).0.unwrap_err();
        let notes = run(&options, &spec, &Toy::new("g")).1;
        assert!(notes[0].contains("behind record 12: the retriever changed"), "{notes:?}");

        run(&BuildOptions { fresh: true, ..options.clone() }, &spec, &cut()).0.unwrap_err();
        let mut other = options.clone();
        other.recipe.embed_text = "title+summary".parse().unwrap();
        let notes = run(&other, &spec, &Toy::new("f")).1;
        assert!(notes[0].contains("the options changed"), "{notes:?}");

        run(&BuildOptions { fresh: true, ..options.clone() }, &spec, &cut()).0.unwrap_err();
        world(dir.path(), 31);
        let (report, notes) = run(&options, &spec, &Toy::new("f"));
        assert!(notes[0].contains("the source changed"), "{notes:?}");
        assert_eq!(report.unwrap().manifest.counts.articles, 31);
        assert_eq!(Place::new(dir.path(), "ruins").unwrap().numbers().unwrap().len(), 1, "old builds are gone");
    }
}

#[test]
fn bad_articles_are_quarantined_counted_and_limited() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 8);
        let path = dir.path().join("kb.jsonl");
        fs_err::write(dir.path().join("images/1.png"), "broken").unwrap();
        let nan = line(9).replace("Ruin 9", "NaN");
        let out = line(10).replace("images/10.png", "../10.png");
        let text = format!("{}\nnot json\n{}\n{nan}\n{out}\n", fs_err::read_to_string(&path).unwrap(), line(3));
        fs_err::write(&path, text).unwrap();

        let options = options(dir.path(), *engine);
        let error = run(&options, &spec, &Toy::new("f")).0.unwrap_err();
        assert!(matches!(error, KbError::TooManyMalformed { found: 4, limit: 1, .. }), "{error}");

        let raised = BuildOptions { max_malformed: Some(4), ..options };
        let report = run(&raised, &spec, &Toy::new("f")).0.unwrap();
        assert_eq!(report.outcome, Outcome::Resumed);
        let counts = report.manifest.counts;
        assert_eq!((counts.articles, counts.quarantined, counts.pictures_unreadable), (8, 4, 1));
        let rows: Vec<serde_json::Value> = crate::io::JsonlReader::open(&report.dir.join(QUARANTINE))
            .unwrap()
            .map(|row| row.unwrap().1)
            .filter(|row: &serde_json::Value| !row["reason"].as_str().unwrap().contains("pictures are not in"))
            .collect();
        let row = |n: usize, key: &str| rows[n][key].to_string();
        assert_eq!(rows.len(), 5, "{rows:?}");
        assert_eq!((row(0, "record"), row(0, "kept")), ("2".into(), "true".into()));
        assert!(row(1, "record") == "9" && row(1, "reason").contains("expected"), "{rows:?}");
        assert!(row(2, "record") == "12" || row(2, "record") == "10", "{rows:?}");
        let reasons = rows.iter().map(|row| row["reason"].to_string()).collect::<String>();
        assert!(reasons.contains("in line 4 already") && reasons.contains("NaN at place 0"), "{reasons}");
        assert!(reasons.contains("`..`"), "{reasons}");
    }
}

#[test]
fn a_source_without_articles_is_no_knowledge_base() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kb.jsonl");
    fs_err::write(&path, "\n\n").unwrap();
    let options = options(dir.path(), Engine::Flat);
    for _ in 0..2 {
        let error = run(&options, &path.display().to_string(), &Toy::new("f")).0.unwrap_err();
        assert!(matches!(error, KbError::Empty { refused: 0, .. }), "{error}");
    }
}

#[test]
fn who_may_not_open_it_is_told_why() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 10);
        let report = built(&options(dir.path(), *engine), &spec);
        let open = |fingerprint| KnowledgeBase::open(dir.path(), "ruins", Some(fingerprint));

        let error = open("g").unwrap_err();
        assert_eq!(error.exit_code(), 4);
        let message = error.to_string();
        assert!(message.contains("cicerone kb build --name ruins --source evqa:"), "{message}");
        assert!(message.ends_with("--fresh"), "{message}");

        let first = open("f").unwrap();
        let error = open("f").unwrap_err();
        assert!(matches!(error, KbError::Io(IoError::Locked { .. })), "{error}");
        assert_eq!(error.exit_code(), 3);
        if cfg!(unix) {
            assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        }
        drop(first);
        open("f").unwrap();

        let missing = KnowledgeBase::open(dir.path(), "flags", None).unwrap_err();
        assert!(missing.to_string().contains("there is ruins"), "{missing}");

        // Every file of the index, cut by one byte or gone, is noticed before the engine reads it.
        for entry in report.manifest.files.iter().filter(|entry| entry.size > 0) {
            let path = report.dir.join(&entry.path);
            let bytes = fs_err::read(&path).unwrap();
            fs_err::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            let error = open("f").unwrap_err();
            assert!(matches!(error, KbError::Damaged { .. }), "{}: {error}", entry.path);
            assert!(error.to_string().contains(&entry.path), "{error}");
            // So is a flipped bit, in all but the large ones.
            if entry.size <= 4 << 20 {
                let mut flipped = bytes.clone();
                flipped[bytes.len() / 2] ^= 1;
                fs_err::write(&path, &flipped).unwrap();
                let error = open("f").unwrap_err();
                assert!(error.to_string().contains(&entry.path), "{error}");
            }
            fs_err::write(&path, &bytes).unwrap();
        }
        open("f").unwrap();

        // In those it is found by reading everything.
        let longest = report.manifest.files.iter().max_by_key(|entry| entry.size).unwrap();
        let path = report.dir.join(&longest.path);
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[0] ^= 1;
        fs_err::write(&path, &bytes).unwrap();
        let error = verify(dir.path(), "ruins", None, |_| {}).unwrap_err();
        assert!(error.to_string().contains("changed since it was built"), "{error}");
        bytes[0] ^= 1;
        fs_err::write(&path, &bytes).unwrap();

        fs_err::remove_file(report.dir.join(MANIFEST)).unwrap();
        assert!(matches!(open("f"), Err(KbError::Damaged { .. })));
        fs_err::remove_file(dir.path().join("ruins/current")).unwrap();
        assert!(matches!(open("f"), Err(KbError::NotFound { .. })));
    }
}

#[test]
fn the_old_base_serves_until_the_new_one_is_whole() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 10);
        let options = options(dir.path(), *engine);
        built(&options, &spec);
        world(dir.path(), 12);
        let toy = Toy { cancel_after: Some((1, AtomicBool::new(false))), ..Toy::new("f") };
        run(&options, &spec, &toy).0.unwrap_err();
        let old = KnowledgeBase::open(dir.path(), "ruins", Some("f")).unwrap();
        assert_eq!(old.manifest().counts.articles, 10);
        let (report, notes) = run(&options, &spec, &Toy::new("f"));
        assert!(notes.iter().any(|note| note.contains("still in use by")), "{notes:?}");
        assert_eq!(old.search(&Toy::vector("Ruin 2", b""), None, 1).unwrap()[0].article.title, "Ruin 2");
        let new = KnowledgeBase::open(dir.path(), "ruins", Some("f")).unwrap();
        assert_eq!((new.manifest().counts.articles, new.dir()), (12, report.unwrap().dir.as_path()));
    }
}

/// Not a test of its own: the process that [`a_killed_build_is_finished_by_the_next`] kills.
#[test]
fn killed_process() {
    let Ok(dir) = std::env::var("CICERONE_TEST_KILLED_DIR") else { return };
    let engine = serde_json::from_value(std::env::var("CICERONE_TEST_KILLED_ENGINE").unwrap().into()).unwrap();
    let dir = Path::new(&dir);
    let spec = format!("evqa:{}", dir.join("kb.jsonl").display());
    built(&options(&dir.join("b"), engine), &spec);
}

#[test]
fn a_killed_build_is_finished_by_the_next() {
    let crashes = crash::POINTS.iter().map(|point| (*point).to_owned());
    let crashes = crashes.chain(["in-upsert:4", "in-upsert:5", "after-checkpoint:3"].map(str::to_owned));
    for (crash, engine) in crashes.flat_map(|crash| ENGINES.iter().map(move |engine| (crash.clone(), *engine))) {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let whole = built(&options(&dir.path().join("a"), engine), &spec).manifest;
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kb::build::tests::killed_process"])
            .env("CICERONE_TEST_KILLED_DIR", dir.path())
            .env("CICERONE_TEST_KILLED_ENGINE", serde_json::to_value(engine).unwrap().as_str().unwrap())
            .env(crash::VARIABLE, &crash)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{crash} was never met");
        let options = options(&dir.path().join("b"), engine);
        let in_use = KnowledgeBase::open(&options.home, "ruins", Some("f"));
        assert_eq!(in_use.is_ok(), crash == "after-swap", "{crash}");
        drop(in_use);
        let report = built(&options, &spec);
        let expected = match crash.as_str() {
            "after-create" => Outcome::Built,
            "before-swap" => Outcome::Swapped,
            "after-swap" => Outcome::UpToDate,
            _ => Outcome::Resumed,
        };
        assert_eq!(report.outcome, expected, "{crash}");
        assert_eq!(report.manifest.content_hash, whole.content_hash, "{crash}");
        assert_eq!(report.manifest.counts, whole.counts, "{crash}");
        verify(&options.home, "ruins", None, |_| {}).unwrap();
        assert_eq!(Place::new(&options.home, "ruins").unwrap().numbers().unwrap().len(), 1, "{crash}");
    }
}

#[test]
fn a_build_killed_at_any_time_is_finished_by_the_next() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 200);
        let whole = built(&options(&dir.path().join("a"), *engine), &spec).manifest;
        let mut killed_in_work = 0;
        for wait in [2, 10, 20, 30, 45, 60, 80, 120] {
            let mut process = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "kb::build::tests::killed_process"])
                .env("CICERONE_TEST_KILLED_DIR", dir.path())
                .env("CICERONE_TEST_KILLED_ENGINE", serde_json::to_value(engine).unwrap().as_str().unwrap())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(wait));
            process.kill().unwrap();
            killed_in_work += usize::from(!process.wait().unwrap().success());
        }
        assert!(killed_in_work > 0);
        let report = built(&options(&dir.path().join("b"), *engine), &spec);
        assert_eq!(report.manifest.content_hash, whole.content_hash);
        assert_eq!(report.manifest.counts, whole.counts);
        verify(dir.path().join("b"), "ruins", None, |_| {}).unwrap();
    }
}

#[test]
fn whichever_call_of_the_engine_fails_the_next_build_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let spec = world(dir.path(), 30);
    let whole = built(&options(&dir.path().join("a"), Engine::Flat), &spec).manifest;
    for calls in 0.. {
        let options = options(&dir.path().join(format!("b{calls}")), Engine::Flat);
        FAIL_IN.set(Some(Arc::new(AtomicU32::new(calls))));
        let (first, _) = run(&options, &spec, &Toy::new("f"));
        let opened = KnowledgeBase::open(&options.home, "ruins", Some("f"));
        FAIL_IN.set(None);
        let done = first.is_ok();
        assert_eq!(done, options.home.root.join("ruins/current").exists(), "call {calls}");
        if let Ok(base) = opened {
            assert!(done && base.manifest().counts == whole.counts, "call {calls}");
        }
        let report = built(&options, &spec);
        assert_eq!((report.manifest.content_hash, report.manifest.counts), (whole.content_hash.clone(), whole.counts));
        if done {
            assert!(calls > 20, "the build makes more calls than {calls}");
            break;
        }
    }
}

#[cfg(feature = "edge")]
#[test]
fn every_engine_holds_the_same_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let spec = world(dir.path(), 30);
    let hash = |engine, root| built(&options(&dir.path().join(root), engine), &spec).manifest.content_hash;
    assert_eq!(hash(Engine::Flat, "a"), hash(Engine::Edge, "b"));
}
