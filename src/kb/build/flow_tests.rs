//! What whoever watches a build is told of its stages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::toy::*;
use super::*;
use crate::kb::{Document, EmbedUnit, source};

/// Bytes of the source that are behind, and how far each stage is.
type Seen = (u64, Flow);

/// Builds, or adds, and gives what was told of embedding.
fn watched(
    options: &BuildOptions,
    spec: &str,
    embedder: &dyn Embedder,
    adds: bool,
) -> (Result<Report, KbError>, Vec<Seen>) {
    let (mut seen, never) = (Vec::new(), AtomicBool::new(false));
    let mut source = source::open(spec).unwrap();
    let work = if adds { add } else { build };
    let report = work(options, source.as_mut(), embedder, &never, &mut |event| {
        if let BuildEvent::Progress { stage: Stage::Embed(flow), done, .. } = event {
            seen.push((done, flow));
        }
    });
    (report, seen)
}

/// The counts alone: read, embedded, those of earlier runs, stored, durable.
fn counts(flow: &Flow) -> [u64; 5] {
    [flow.read, flow.embedded, flow.embedded_before, flow.stored, flow.durable]
}

/// A build of three batches and a bit, of which two are durable.
fn cut_off(options: &BuildOptions, spec: &str) {
    let toy = Toy { cancel_after: Some((3, AtomicBool::new(false))), ..Toy::new("f") };
    run(options, spec, &toy).0.unwrap_err();
}

#[test]
fn in_the_end_the_stages_have_done_what_the_manifest_says() {
    for (engine, unit) in ENGINES.iter().flat_map(|e| [(*e, EmbedUnit::Article), (*e, EmbedUnit::Section)]) {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        // One whose picture cannot be read is embedded by its text, and one comes again.
        fs_err::write(dir.path().join("images/1.png"), "broken").unwrap();
        let path = dir.path().join("kb.jsonl");
        fs_err::write(&path, format!("{}\n{}\n", fs_err::read_to_string(&path).unwrap(), line(3))).unwrap();
        let mut options = options(dir.path(), engine);
        options.recipe.unit = unit;
        let (report, seen) = watched(&options, &spec, &Toy::new("f"), false);
        let report = report.unwrap();
        let told = report.manifest.counts;
        assert_eq!((told.articles, told.quarantined), (30, 1));

        let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
        assert_eq!((first.0, counts(&first.1)), (0, [0; 5]));
        assert_eq!(last.0, report.manifest.sources[0].bytes);
        assert_eq!(counts(&last.1), [31, told.embeddings, 0, told.points, told.points]);
        for pair in seen.windows(2) {
            let grows = counts(&pair[0].1).iter().zip(counts(&pair[1].1)).all(|(before, after)| *before <= after);
            assert!(grows && pair[0].0 <= pair[1].0 && pair[0].1.elapsed <= pair[1].1.elapsed, "{pair:?}");
        }
        let Timings { read, prepare, embed, store, index, .. } = last.1.timings;
        // There are points for more than one graph, so that one is made while the source is read.
        assert!([read, prepare, embed, store, index].iter().all(|time| *time > Duration::ZERO), "{:?}", last.1);
        assert!(report.timings.index > index);
        assert_eq!(Timings { index, verify: Duration::ZERO, ..report.timings }, last.1.timings);
    }
}

#[test]
fn a_build_that_goes_on_counts_from_its_checkpoint() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let options = options(dir.path(), *engine);
        cut_off(&options, &spec);
        let (report, seen) = watched(&options, &spec, &Toy::new("f"), false);
        assert_eq!(report.unwrap().outcome, Outcome::Resumed);
        let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
        assert_eq!(counts(&first.1), [12; 5]);
        assert!(first.0 > 0 && first.0 <= last.0, "the bar begins where the last run stopped");
        assert_eq!(counts(&last.1), [30, 30, 12, 30, 30]);
        let rate = last.1.embedded_per_s() * last.1.elapsed.as_secs_f64();
        assert!((rate - 18.0).abs() < 1e-6, "{rate} in this run");
    }
}

#[test]
fn an_addition_counts_what_it_adds() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), *engine);
        built(&options, &world(dir.path(), 10));
        // Two that are there already, with pictures that are older than the base.
        let older = std::time::SystemTime::now() - Duration::from_secs(3600);
        for n in [6, 7] {
            let picture = fs_err::File::options().write(true).open(dir.path().join(format!("images/{n}.png"))).unwrap();
            picture.file().set_modified(older).unwrap();
        }
        let lines: Vec<String> = [6, 7].into_iter().chain(20..38).map(line).collect();
        fs_err::write(dir.path().join("more.jsonl"), lines.join("\n")).unwrap();
        let spec = format!("evqa:{}", dir.path().join("more.jsonl").display());

        let toy = Toy { cancel_after: Some((3, AtomicBool::new(false))), ..Toy::new("f") };
        add(&options, source::open(&spec).unwrap().as_mut(), &toy, toy.cancel(), &mut |_| {}).unwrap_err();
        let (report, seen) = watched(&options, &spec, &Toy::new("f"), true);
        let report = report.unwrap();
        assert_eq!((report.outcome, report.manifest.counts.articles), (Outcome::Resumed, 28));
        assert_eq!(counts(&seen.first().unwrap().1), [12, 10, 10, 10, 10]);
        assert_eq!(counts(&seen.last().unwrap().1), [20, 18, 10, 18, 18]);
    }
}

/// Does not give the embeddings of its fourth batch before it was seen that the three before are stored.
struct Patient {
    toy: Toy,
    stored: AtomicU64,
}

impl Embedder for Patient {
    fn fingerprint(&self) -> &str {
        self.toy.fingerprint
    }

    fn dim(&self) -> usize {
        self.toy.dim()
    }

    fn vectors(&self) -> usize {
        Embedder::vectors(&self.toy)
    }

    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        let begin = Instant::now();
        while *self.toy.batches.lock().unwrap() == 3 && self.stored.load(Ordering::Relaxed) < 12 {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err("nobody looked".to_owned());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.toy.embed(batch)
    }
}

#[test]
fn a_slow_batch_is_watched_while_it_is_embedded() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let spec = world(dir.path(), 30);
        let patient = Patient { toy: Toy::new("f"), stored: AtomicU64::new(0) };
        let never = AtomicBool::new(false);
        let mut meanwhile = Vec::new();
        let mut source = source::open(&spec).unwrap();
        let report = build(&options(dir.path(), *engine), source.as_mut(), &patient, &never, &mut |event| {
            if let BuildEvent::Progress { stage: Stage::Embed(flow), done, .. } = event {
                if flow.embedded == 12 && flow.stored == 12 {
                    meanwhile.push((done, flow));
                }
                patient.stored.store(flow.stored, Ordering::Relaxed);
            }
        });
        assert_eq!(report.unwrap().manifest.counts.articles, 30);
        let (done, flow) = meanwhile.first().unwrap();
        assert!(*done > 0 && flow.read >= 16, "{flow:?}");
        assert_eq!(flow.durable, 8, "a checkpoint comes every second batch");
        assert!(flow.timings.embed > Duration::ZERO && flow.timings.embed <= flow.elapsed, "{flow:?}");
    }
}
