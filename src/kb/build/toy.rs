//! What tests build with: a retriever of hashes, and a world of ruins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::kb::{Document, source};

pub(in crate::kb) const ENGINES: &[Engine] = &[
    Engine::Flat,
    #[cfg(feature = "edge")]
    Engine::Edge,
];
pub(in crate::kb) const DIM: usize = 16;

/// Sixteen numbers out of a hash; a picture whose file says `broken` cannot be read.
pub(in crate::kb) struct Toy {
    pub fingerprint: &'static str,
    pub vectors: usize,
    pub batches: Mutex<usize>,
    pub cancel_after: Option<(usize, AtomicBool)>,
}

impl Toy {
    pub(in crate::kb) fn new(fingerprint: &'static str) -> Self {
        Self { fingerprint, vectors: 1, batches: Mutex::new(0), cancel_after: None }
    }

    pub(in crate::kb) fn cancel(&self) -> &AtomicBool {
        static NEVER: AtomicBool = AtomicBool::new(false);
        self.cancel_after.as_ref().map_or(&NEVER, |(_, flag)| flag)
    }

    /// `n` vectors, the first as [`Toy::vector`] gives it.
    pub(in crate::kb) fn several(text: &str, picture: &[u8], n: usize) -> Vec<f32> {
        (0..n).flat_map(|i| Self::vector(&format!("{text}{}", "+".repeat(i)), picture)).collect()
    }

    pub(in crate::kb) fn vector(text: &str, picture: &[u8]) -> Vec<f32> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(text.as_bytes()).update(picture);
        let mut bytes = [0; DIM];
        hasher.finalize_xof().fill(&mut bytes);
        let values: Vec<f32> = bytes.iter().map(|b| f32::from(*b) - 127.5).collect();
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.iter().map(|v| v / norm).collect()
    }
}

impl Embedder for Toy {
    fn fingerprint(&self) -> &str {
        self.fingerprint
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn vectors(&self) -> usize {
        self.vectors
    }

    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        let mut batches = self.batches.lock().unwrap();
        *batches += 1;
        if let Some((after, flag)) = &self.cancel_after
            && *batches >= *after
        {
            flag.store(true, Ordering::Relaxed);
        }
        let one = |document: Document| {
            let picture = document.image.map(|path| fs_err::read(path).unwrap()).unwrap_or_default();
            if picture == b"broken" {
                return Err("not a picture".to_owned());
            }
            let text = document.text.unwrap_or_default();
            Ok(if text.contains("NaN") {
                vec![f32::NAN; DIM * self.vectors]
            } else {
                Self::several(&text, &picture, self.vectors)
            })
        };
        Ok(batch.into_iter().map(one).collect())
    }
}

pub(in crate::kb) fn line(n: usize) -> String {
    serde_json::json!({
        "title": format!("Ruin {n}"),
        "url": format!("https://example.org/ruin/{n}"),
        "section_titles": [format!("Ruin {n}"), "History"],
        "section_texts": [format!("Ruin {n} stands on a hill."), "x".repeat(n * 7)],
        "image": format!("images/{n}.png"),
    })
    .to_string()
}

/// `count` articles, every one with a picture but each third.
pub(in crate::kb) fn world(dir: &Path, count: usize) -> String {
    fs_err::create_dir_all(dir.join("images")).unwrap();
    for n in (0..count).filter(|n| n % 3 != 2) {
        fs_err::write(dir.join(format!("images/{n}.png")), format!("pixels of {n}")).unwrap();
    }
    let lines: Vec<String> = (0..count).map(line).collect();
    fs_err::write(dir.join("kb.jsonl"), lines.join("\n")).unwrap();
    format!("evqa:{}", dir.join("kb.jsonl").display())
}

pub(in crate::kb) fn options(root: &Path, engine: Engine) -> BuildOptions {
    let recipe = Recipe { batch: 4, ..Recipe::default() };
    // Several graphs, and a crash can fall between two.
    let store = StoreConfig { graph: 16, ..StoreConfig::new(0, 0) };
    BuildOptions { engine, recipe, store, checkpoint_every: 2, ..BuildOptions::new(root, "ruins") }
}

pub(in crate::kb) fn run(options: &BuildOptions, spec: &str, toy: &Toy) -> (Result<Report, KbError>, Vec<String>) {
    let mut notes = Vec::new();
    let mut source = source::open(spec).unwrap();
    let report = build(options, source.as_mut(), toy, toy.cancel(), &mut |event| {
        if let BuildEvent::Note(note) = event {
            notes.push(note);
        }
    });
    (report, notes)
}

pub(in crate::kb) fn built(options: &BuildOptions, spec: &str) -> Report {
    run(options, spec, &Toy::new("f")).0.unwrap()
}
