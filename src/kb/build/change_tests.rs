//! What is built by parts, changed, written out and read back, over every engine of this build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::toy::*;
use super::*;
use crate::kb::manage::{ARTICLES, VECTORS, drop_build, export, use_build};
use crate::kb::vectors::VectorFile;
use crate::kb::verify::verify;
use crate::kb::{EmbedUnit, KnowledgeBase, source};

/// A source of these ruins, each with the picture that [`world`] gave it.
fn ruins(dir: &Path, name: &str, numbers: &[usize]) -> String {
    let lines: Vec<String> = numbers.iter().map(|n| line(*n)).collect();
    let path = dir.join(name);
    fs_err::write(&path, lines.join("\n")).unwrap();
    format!("evqa:{}", path.display())
}

fn added(options: &BuildOptions, spec: &str) -> Result<Report, KbError> {
    let never = AtomicBool::new(false);
    add(options, source::open(spec).unwrap().as_mut(), &Toy::new("f"), &never, &mut |_| {})
}

fn removed(options: &BuildOptions, numbers: &[usize]) -> Result<Report, KbError> {
    let urls: Vec<String> = numbers.iter().map(|n| url(*n)).collect();
    remove(options, &urls, &mut |_| {})
}

fn url(n: usize) -> String {
    format!("https://example.org/ruin/{n}")
}

/// Makes all pictures an hour old.
fn age(dir: &Path) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for entry in fs_err::read_dir(dir.join("images")).unwrap() {
        let file = fs_err::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.file().set_modified(then).unwrap();
    }
}

/// The articles that are there, by their URLs, as a reader finds them.
fn articles(root: &Path) -> BTreeMap<String, String> {
    let out = tempfile::tempdir().unwrap();
    export(root, "ruins", out.path(), |_| {}).unwrap();
    let rows = crate::io::JsonlReader::<crate::kb::Article>::open(&out.path().join(ARTICLES)).unwrap();
    rows.map(|row| row.unwrap().1).map(|article| (article.url, article.title)).collect()
}

#[test]
fn parts_are_found_and_lead_to_their_articles() {
    for (engine, vectors) in ENGINES.iter().flat_map(|engine| [(*engine, 1), (*engine, 3)]) {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 12);
        let mut options = options(dir.path(), engine);
        options.recipe.unit = EmbedUnit::Section;
        options.recipe.embed_text = "{title}: {section}".parse().unwrap();
        options.recipe.drop_sections = vec!["history".into()];
        let toy = Toy { vectors, ..Toy::new("f") };
        let dropped = run(&options, &spec, &toy).0.unwrap().manifest.counts;
        assert_eq!((dropped.articles, dropped.sections, dropped.embeddings, dropped.points), (12, 24, 12, 24));

        options.recipe.drop_sections.clear();
        let counts = run(&options, &spec, &toy).0.unwrap().manifest.counts;
        // The History of ruin 0 has no text.
        assert_eq!((counts.articles, counts.embeddings, counts.points), (12, 23, 35));
        let base = KnowledgeBase::open(dir.path(), "ruins", Some("f")).unwrap();
        for n in 1..12 {
            let picture = if n % 3 == 2 { String::new() } else { format!("pixels of {n}") };
            let query = Toy::several(&format!("Ruin {n}: History"), picture.as_bytes(), vectors);
            let hits = base.search(&query, None, 5).unwrap();
            assert_eq!((hits.len(), hits[0].article.url.as_str()), (5, url(n).as_str()));
            assert!((hits[0].score - 1.0).abs() < 1e-5, "{}", hits[0].score);
            assert_eq!(hits[0].part.unwrap().section, 1);
            let mut urls: Vec<_> = hits.iter().map(|hit| &hit.article.url).collect();
            urls.sort();
            urls.dedup();
            assert_eq!(urls.len(), 5, "an article came twice");
        }
        drop(base);
        let verified = verify(dir.path(), "ruins", Some(&toy), |_| {}).unwrap();
        assert!(verified.embedded_again.unwrap() > 5 && verified.orphans.is_empty());
        let mut wrong = Toy { vectors, ..Toy::new("f") };
        wrong.cancel_after = None;
        let error = verify(dir.path(), "ruins", Some(&Crooked(wrong)), |_| {}).unwrap_err();
        assert!(error.to_string().contains("is not the one that its retriever makes"), "{error}");
    }
}

/// A retriever that makes other embeddings than it says.
struct Crooked(Toy);

impl Embedder for Crooked {
    fn fingerprint(&self) -> &str {
        self.0.fingerprint
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn vectors(&self) -> usize {
        Embedder::vectors(&self.0)
    }

    fn embed(&self, batch: Vec<crate::kb::Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        let mut made = self.0.embed(batch)?;
        made.iter_mut().flatten().for_each(|vectors| vectors.rotate_left(1));
        Ok(made)
    }
}

#[test]
fn what_is_added_takes_the_place_of_what_was_there_and_nothing_else_is_embedded_again() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 10);
        let mut options = options(dir.path(), *engine);
        options.recipe.unit = EmbedUnit::Section;
        built(&options, &spec);
        world(dir.path(), 12);
        let more = ruins(dir.path(), "more.jsonl", &[3, 10, 11]);
        let text = fs_err::read_to_string(dir.path().join("more.jsonl")).unwrap();
        fs_err::write(dir.path().join("more.jsonl"), text.replace("Ruin 3", "Castle 3")).unwrap();
        let never = AtomicBool::new(false);
        let toy = Toy::new("f");
        let report = add(&options, source::open(&more).unwrap().as_mut(), &toy, &never, &mut |_| {}).unwrap();
        assert_eq!(*toy.batches.lock().unwrap(), 2, "six sections in batches of four");
        let counts = report.manifest.counts;
        assert_eq!((counts.articles, counts.sections, report.manifest.sources.len()), (12, 24, 2));
        assert_eq!(articles(dir.path())[&url(3)], "Castle 3");
        assert_eq!(added(&options, &more).unwrap().outcome, Outcome::UpToDate);
        // What is the same as before is passed over, unless a picture of it is newer than the build.
        age(dir.path());
        let same = ruins(dir.path(), "same.jsonl", &[0, 1, 2, 4]);
        let text = fs_err::read_to_string(dir.path().join("same.jsonl")).unwrap();
        fs_err::write(dir.path().join("same.jsonl"), text.replace("Ruin 4", "Keep 4")).unwrap();
        fs_err::write(dir.path().join("images/1.png"), "new pixels of 1").unwrap();
        let toy = Toy::new("f");
        let report = add(&options, source::open(&same).unwrap().as_mut(), &toy, &never, &mut |_| {}).unwrap();
        assert_eq!((*toy.batches.lock().unwrap(), report.manifest.counts.articles), (1, 12), "four sections");

        // The first of two takes the place of the old, wherever the second stands.
        let twice = ruins(dir.path(), "twice.jsonl", &[5, 6, 7, 8, 9, 5]);
        assert_eq!(added(&options, &twice).unwrap().manifest.counts.articles, 12);

        let report = removed(&options, &[3, 4]).unwrap();
        assert_eq!((report.manifest.counts.articles, report.manifest.counts.points), (10, counts.points - 6));
        assert_eq!(removed(&options, &[4, 3, 3]).unwrap().outcome, Outcome::UpToDate);
        let error = removed(&options, &[5, 99]).unwrap_err();
        assert!(matches!(&error, KbError::NoSuchArticle { url, .. } if url.ends_with("/99")), "{error}");
        assert!(articles(dir.path()).contains_key(&url(5)), "nothing is removed then");
        let all: Vec<usize> = (0..12).collect();
        assert!(matches!(removed(&options, &all), Err(KbError::NothingLeft { .. })));

        let other = add(&options, source::open(&more).unwrap().as_mut(), &Toy::new("g"), &never, &mut |_| {});
        assert!(matches!(other, Err(KbError::FingerprintMismatch { .. })));
        let elsewhere = tempfile::tempdir().unwrap();
        let more = ruins(elsewhere.path(), "more.jsonl", &[1]);
        let error = added(&options, &more).unwrap_err();
        assert!(error.to_string().contains("--pictures"), "{error}");
        verify(dir.path(), "ruins", Some(&Toy::new("f")), |_| {}).unwrap();
    }
}

#[test]
fn what_cannot_be_embedded_takes_nobodys_place() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), *engine);
        built(&options, &world(dir.path(), 4));
        let more = ruins(dir.path(), "more.jsonl", &[1, 5]);
        let path = dir.path().join("more.jsonl");
        fs_err::write(&path, fs_err::read_to_string(&path).unwrap().replace("Ruin 1", "NaN")).unwrap();
        let counts = added(&options, &more).unwrap().manifest.counts;
        assert_eq!((counts.articles, counts.quarantined), (5, 1));
        assert_eq!(articles(dir.path())[&url(1)], "Ruin 1");
    }
}

#[test]
fn embeddings_written_out_build_the_same_base_elsewhere() {
    for (engine, vectors) in ENGINES.iter().flat_map(|engine| [(*engine, 1), (*engine, 2)]) {
        for unit in [EmbedUnit::Article, EmbedUnit::Section, EmbedUnit::Picture] {
            let dir = tempfile::tempdir().unwrap();
            let spec = world(dir.path(), 20);
            let mut options = options(&dir.path().join("a"), engine);
            options.recipe.unit = unit;
            let first = run(&options, &spec, &Toy { vectors, ..Toy::new("f") }).0.unwrap().manifest;
            let out = dir.path().join("out");
            export(&options.home, "ruins", &out, |_| {}).unwrap();

            let file = VectorFile::open(&out.join(VECTORS), None, None).unwrap();
            assert_eq!((file.fingerprint(), file.rows() as u64), ("f", first.counts.embeddings));
            let other = VectorFile::open(&out.join(VECTORS), None, Some("g")).err().unwrap();
            assert!(other.to_string().contains("made by retriever f, expected g"), "{other}");
            let options = BuildOptions { home: dir.path().join("b").as_path().into(), ..options };
            let mut source = source::open(&format!("evqa:{}", dir.path().join("kb.jsonl").display())).unwrap();
            let never = AtomicBool::new(false);
            let second = build(&options, source.as_mut(), &file, &never, &mut |_| {}).unwrap().manifest;
            assert_eq!((&second.content_hash, second.counts), (&first.content_hash, first.counts));
        }
    }
}

#[test]
fn a_dry_run_tells_what_would_be_built_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec = world(dir.path(), 12);
    let path = dir.path().join("kb.jsonl");
    let text = format!("{}\n{}\nnot json\n", fs_err::read_to_string(&path).unwrap(), line(3));
    fs_err::write(&path, text).unwrap();
    let options = options(dir.path(), Engine::Flat);
    let never = AtomicBool::new(false);
    let beyond = |text: &str| if text == "Ruin 7" { 5 } else { 0 };
    let mut source = source::open(&spec).unwrap();
    let prospect = dry_run(&options, source.as_mut(), &beyond, &never, &mut |_| {}).unwrap();
    assert_eq!((prospect.counts.articles, prospect.counts.embeddings, prospect.refused), (12, 12, 2));
    assert_eq!((prospect.counts.pictures, prospect.counts.pictures_missing), (8, 4));
    assert_eq!((prospect.texts_cut, prospect.tokens_cut), (1, 5));
    assert!(prospect.problems.iter().any(|problem| problem.contains("in line 4 already")), "{:?}", prospect.problems);
    assert!(!dir.path().join("ruins").exists());
}

#[test]
fn builds_are_put_in_use_and_removed_by_number() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 10);
        let options = BuildOptions { keep: 3, ..options(dir.path(), *engine) };
        built(&options, &spec);
        world(dir.path(), 11);
        built(&options, &spec);
        assert_eq!(crate::kb::status(dir.path(), "ruins").unwrap().builds, [1, 2]);
        use_build(dir.path(), "ruins", 1).unwrap();
        assert_eq!(articles(dir.path()).len(), 10);
        let error = use_build(dir.path(), "ruins", 7).unwrap_err().to_string();
        assert!(error.contains("finished are 1, 2"), "{error}");
        assert!(matches!(drop_build(dir.path(), "ruins", Some(1)), Err(KbError::InUse { .. })));
        let open = KnowledgeBase::open(dir.path(), "ruins", None).unwrap();
        assert!(matches!(drop_build(dir.path(), "ruins", None), Err(KbError::Io(_))), "somebody has it open");
        drop(open);
        drop_build(dir.path(), "ruins", Some(2)).unwrap();
        assert_eq!(crate::kb::status(dir.path(), "ruins").unwrap().builds, [1]);
        drop_build(dir.path(), "ruins", None).unwrap();
        assert!(!dir.path().join("ruins").exists());
        assert!(matches!(drop_build(dir.path(), "ruins", None), Err(KbError::NotFound { .. })));
    }
}

/// Something that is done to a knowledge base.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
enum Act {
    Build(Vec<usize>),
    Add(Vec<usize>),
    Remove(Vec<usize>),
}

/// Not a test of its own: the process in which an act is killed.
#[test]
fn killed_act() {
    let Ok(dir) = std::env::var("CICERONE_TEST_ACT_DIR") else { return };
    let dir = Path::new(&dir);
    let act: Act = serde_json::from_slice(&fs_err::read(dir.join("act.json")).unwrap()).unwrap();
    let engine = serde_json::from_value(std::env::var("CICERONE_TEST_ACT_ENGINE").unwrap().into()).unwrap();
    drop(perform(dir, engine, &act));
}

fn perform(dir: &Path, engine: Engine, act: &Act) -> Result<Report, KbError> {
    let options = options(dir, engine);
    match act {
        Act::Build(numbers) => run(&options, &ruins(dir, "kb.jsonl", numbers), &Toy::new("f")).0,
        Act::Add(numbers) => added(&options, &ruins(dir, "more.jsonl", numbers)),
        Act::Remove(numbers) => removed(&options, numbers),
    }
}

/// The ruins that are there after an act, or nothing for an act that is refused.
fn after(act: &Act, before: Option<&BTreeSet<usize>>) -> Option<BTreeSet<usize>> {
    // One number that comes again is left out, two are too many.
    let usable = |numbers: &[usize]| {
        let once: BTreeSet<usize> = numbers.iter().copied().collect();
        (numbers.len() - once.len() <= 1).then_some(once)
    };
    match act {
        Act::Build(numbers) => usable(numbers),
        Act::Add(numbers) => Some(before?.union(&usable(numbers)?).copied().collect()),
        Act::Remove(numbers) => {
            let (before, gone) = (before?, numbers.iter().copied().collect::<BTreeSet<usize>>());
            (gone.is_subset(before) && gone.len() < before.len()).then(|| before.difference(&gone).copied().collect())
        }
    }
}

fn urls(numbers: &BTreeSet<usize>) -> BTreeSet<String> {
    numbers.iter().map(|n| url(*n)).collect()
}

fn numbers() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..16_usize, 1..8)
}

fn act() -> impl Strategy<Value = (Act, Option<usize>)> {
    let act =
        prop_oneof![numbers().prop_map(Act::Build), numbers().prop_map(Act::Add), numbers().prop_map(Act::Remove)];
    (act, prop::option::weighted(0.5, 0..crash::POINTS.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_and_cut_off_exactly_the_right_articles_are_there(
        acts in prop::collection::vec(act(), 1..6), at in 0..ENGINES.len()
    ) {
        let (engine, dir) = (ENGINES[at], tempfile::tempdir().unwrap());
        world(dir.path(), 16);
        let mut there: Option<BTreeSet<usize>> = None;
        for (act, crash) in acts {
            let then = after(&act, there.as_ref());
            if let Some(point) = crash {
                fs_err::write(dir.path().join("act.json"), serde_json::to_vec(&act).unwrap()).unwrap();
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "kb::build::change_tests::killed_act"])
                    .env("CICERONE_TEST_ACT_DIR", dir.path())
                    .env("CICERONE_TEST_ACT_ENGINE", serde_json::to_value(engine).unwrap().as_str().unwrap())
                    .env(crash::VARIABLE, crash::POINTS[point])
                    .output()
                    .unwrap();
                if let Some(there) = &there {
                    let found: BTreeSet<String> = articles(dir.path()).into_keys().collect();
                    let new = then.as_ref().is_some_and(|then| found == urls(then));
                    prop_assert!(new || found == urls(there), "neither old nor new: {found:?}");
                }
            }
            let outcome = perform(dir.path(), engine, &act);
            // What was finished before it was cut off is refused the second time: there is nothing left to remove.
            let done = crash.is_some() && matches!(outcome, Err(KbError::NoSuchArticle { .. } | KbError::NothingLeft { .. }));
            prop_assert!(outcome.is_ok() == then.is_some() || done, "{act:?}: {outcome:?}");
            there = then.or(there);
            if let Some(there) = &there {
                let found: BTreeSet<String> = articles(dir.path()).into_keys().collect();
                prop_assert_eq!(found, urls(there));
                let verified = verify(dir.path(), "ruins", Some(&Toy::new("f")), |_| {});
                prop_assert!(verified.is_ok(), "{:?}", verified);
            }
        }
    }
}
