//! Variants of a retriever trained alike and measured alike: what each part of it is worth, and what it costs.
//!
//! All read one folder of the towers' features. Each has a folder of its own with architecture and weights, so that what
//! is finished is not trained again, and any of them can be used as a retriever.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::variants::Variant;
use crate::io::atomic::write_atomic;
use crate::retriever::Item;
use crate::retriever::config::RetConfig;
use crate::retriever::embedding::{Embedding, scores};
use crate::retriever::encoder::{Encoder, RetrieverFiles, embeddings};
use crate::retriever::model::Side;
use crate::retriever::train::data::{Shown, TrainData};
use crate::retriever::train::evaluate::Embedded;
use crate::retriever::train::learner::Learner;
use crate::retriever::train::{TrainError, TrainEvent, TrainOptions, train};

/// Items that encoding is timed with, in one batch.
const ITEMS: usize = 32;
/// Times that encoding and search are timed; the fastest counts, since other programs only ever slow a run down.
const RUNS: usize = 3;

/// What was measured of a variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ablation {
    /// [`Variant::name`].
    pub name: String,
    /// [`Variant::about`].
    pub about: String,
    /// Architecture, as `retriever.config` takes it.
    pub architecture: PathBuf,
    /// Trained weights, as `retriever.weights` takes them.
    pub weights: PathBuf,
    /// Mean loss of the last tenth of its training; nothing where it has the weights of another.
    pub final_loss: Option<f32>,
    /// For each query how many wrong documents stand before its best right one: it is found among the first K where that
    /// is less than K.
    #[serde(skip)]
    pub places: Vec<usize>,
    /// Documents that were searched.
    pub documents: usize,
    /// Vectors of an embedding.
    pub vectors: usize,
    /// Length of each.
    pub dim: usize,
    /// Bytes of an embedding in an index, in f32.
    pub index_bytes_per_item: usize,
    /// Milliseconds of encoding a query from pixels and text, of a batch of 32 at most.
    pub encode_ms_per_item: f64,
    /// Milliseconds of comparing a query with all documents, of many queries on all cores.
    pub search_ms_per_query: f64,
}

/// What an ablation tells while it goes on.
#[derive(Debug, Clone)]
pub enum AblateEvent<'a> {
    /// A variant is next.
    Variant(&'a Variant),
    /// Its training.
    Train(TrainEvent),
    /// It is trained, and is measured now.
    Measuring,
}

/// Trains the variants of `chosen`, each into a folder of its name below `options.out`, and measures them on the evaluation
/// of `options`. One with another's weights is that one, trained, and then changed.
///
/// # Errors
/// As [`train`]; data without an evaluation. An interrupted run goes on when called again.
pub fn ablate(
    options: &TrainOptions,
    files: &RetrieverFiles,
    chosen: &[Variant],
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(AblateEvent),
) -> Result<Vec<Ablation>, TrainError> {
    let data = TrainData::open(options, &files.instruction)?;
    if data.evaluation.is_empty() {
        let reason = "found no queries to measure recall on; name a style or a file of them for validation".to_owned();
        return Err(TrainError::Data { path: options.data.clone(), reason });
    }
    let first = data.evaluation.iter().take(ITEMS);
    let items = first.map(|query| item(&data, query.shown)).collect::<Result<Vec<_>, _>>()?;
    let mut measured = Vec::with_capacity(chosen.len());
    for variant in chosen {
        progress(AblateEvent::Variant(variant));
        let (folder, trained) = match &variant.weights_of {
            Some((name, config)) => (name, config),
            None => (&variant.name, &variant.config),
        };
        let run = TrainOptions {
            out: options.out.join(folder),
            features: Some(options.features_dir()),
            text_layers: None,
            vision_layers: None,
            ..options.clone()
        };
        let described = RetrieverFiles { config: write(&run, "variant.json", trained)?, ..files.clone() };
        let report = train(&run, &described, cancel, &mut |event| progress(AblateEvent::Train(event)))?;
        progress(AblateEvent::Measuring);
        let architecture = match &variant.weights_of {
            Some(_) => write(&run, &format!("{}.json", variant.name), &variant.config)?,
            None => report.architecture,
        };
        let found = RetrieverFiles { config: architecture, weights: report.weights, ..files.clone() };
        let final_loss = variant.weights_of.is_none().then_some(report.final_loss);
        measured.push(measure(&run, &found, variant, final_loss, &data, &items, cancel)?);
        if cancel.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted { step: run.steps });
        }
    }
    Ok(measured)
}

fn write(run: &TrainOptions, name: &str, config: &RetConfig) -> Result<PathBuf, TrainError> {
    fs_err::create_dir_all(&run.out)?;
    let path = run.out.join(name);
    // Weights that are trained here have our own names.
    let own = RetConfig { weights_map: None, ..config.clone() };
    write_atomic(&path, &serde_json::to_vec_pretty(&own).map_err(std::io::Error::from)?)?;
    Ok(path)
}

/// What the towers are shown, as an item.
fn item(data: &TrainData, shown: Shown) -> Result<Item, TrainError> {
    let image = shown.picture.map(|record| data.album.open(record)).transpose()?;
    Ok(Item { text: shown.text.map(|row| data.texts[row].clone()), image })
}

fn measure(
    run: &TrainOptions,
    files: &RetrieverFiles,
    variant: &Variant,
    final_loss: Option<f32>,
    data: &TrainData,
    items: &[Item],
    cancel: &AtomicBool,
) -> Result<Ablation, TrainError> {
    let mut learner = Learner::trained(run, files, data, cancel)?;
    let none = || TrainError::Data { path: run.data.clone(), reason: "found no queries".into() };
    let embedded = Embedded::of(&mut learner, data)?.ok_or_else(none)?;
    let places = embedded.places(data)?;
    let [queries, documents] = [&embedded.queries, &embedded.documents].map(embeddings);
    let (queries, documents): (Vec<Embedding>, Vec<Embedding>) = (queries?, documents?);
    drop((embedded, learner));
    let search = fastest(|| {
        drop(scores(&queries, &documents));
        Ok(())
    })?;
    let encoder = Encoder::load(files)?;
    let encode = fastest(|| {
        drop(encoder.encode(Side::Query, items)?);
        Ok(())
    })?;
    let config = encoder.model.config();
    let (vectors, dim) = (config.state_tokens, config.output_dim);
    Ok(Ablation {
        name: variant.name.clone(),
        about: variant.about.clone(),
        architecture: files.config.clone(),
        weights: files.weights.clone(),
        final_loss,
        places,
        documents: documents.len(),
        vectors,
        dim,
        index_bytes_per_item: vectors * dim * size_of::<f32>(),
        encode_ms_per_item: encode * 1e3 / items.len() as f64,
        search_ms_per_query: search * 1e3 / queries.len() as f64,
    })
}

/// Seconds, after one run that warms up.
fn fastest(mut run: impl FnMut() -> Result<(), TrainError>) -> Result<f64, TrainError> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::retriever::probe::variants;
    use crate::retriever::tiny;
    use crate::retriever::train::tests::{data, jsonl, options};

    fn chosen(files: &RetrieverFiles, names: &[&str]) -> Vec<Variant> {
        let all = variants(&RetConfig::load(&files.config).unwrap());
        all.into_iter().filter(|variant| names.contains(&variant.name.as_str())).collect()
    }

    #[test]
    fn variants_are_trained_and_measured_and_what_is_finished_is_not_trained_again() {
        let dir = tempfile::tempdir().unwrap();
        data(dir.path());
        let files = tiny::write(dir.path());
        let options =
            TrainOptions { validate: Some("b".into()), steps: 3, ..options(dir.path(), &dir.path().join("out")) };
        let chosen = chosen(&files, &["base", "no-global", "last-layer", "tokens-4", "forget-0"]);
        let never = AtomicBool::new(false);
        let steps = |cancel: &AtomicBool, stop: bool| {
            let mut steps = 0;
            let done = ablate(&options, &files, &chosen, cancel, &mut |event| {
                if let AblateEvent::Train(TrainEvent::Step { .. }) = event {
                    steps += 1;
                    cancel.store(stop && steps == 4, Ordering::Relaxed);
                }
            });
            (steps, done)
        };
        let (first, stopped) = steps(&AtomicBool::new(false), true);
        assert!(matches!(stopped, Err(TrainError::Interrupted { .. })), "{stopped:?}");
        let (second, done) = steps(&never, false);
        assert_eq!(
            (first, second),
            (4, 8),
            "four variants of three steps are trained, the fifth has the base's weights"
        );
        let done = done.unwrap();
        let facts: Vec<_> = done.iter().map(|a| (a.name.as_str(), a.vectors, a.index_bytes_per_item)).collect();
        assert_eq!(
            facts,
            [("base", 1, 64), ("no-global", 1, 64), ("last-layer", 1, 64), ("tokens-4", 4, 256), ("forget-0", 1, 64)]
        );
        assert!(done.iter().all(|a| a.places.len() == 4 && a.documents == 4 && a.encode_ms_per_item > 0.0));
        assert_eq!(done[4].weights, done[0].weights);
        assert!(done[4].final_loss.is_none() && done[..4].iter().all(|a| a.final_loss.is_some()));
        // Each is a retriever of its own, and the scaled one gives other vectors.
        let item = Item { text: Some("entity 1".into()), image: None };
        let vectors = |a: &Ablation| {
            let files = RetrieverFiles { config: a.architecture.clone(), weights: a.weights.clone(), ..files.clone() };
            Encoder::load(&files).unwrap().encode(Side::Query, std::slice::from_ref(&item)).unwrap()
        };
        assert_ne!(vectors(&done[0]), vectors(&done[4]));
    }

    #[test]
    fn without_queries_to_measure_there_is_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let files = tiny::write(dir.path());
        let mut options = jsonl(dir.path());
        options.jsonl.as_mut().unwrap().validation = None;
        let chosen = chosen(&files, &["base"]);
        let refused = ablate(&options, &files, &chosen, &AtomicBool::new(false), &mut |_| ()).unwrap_err();
        assert!(refused.to_string().contains("found no queries to measure recall on"), "{refused}");
        assert!(!options.out.exists());
    }

    /// What a head finds by the features on disk it also finds as a retriever of its own, from pictures and texts.
    #[test]
    fn places_are_those_of_the_whole_retriever() {
        let dir = tempfile::tempdir().unwrap();
        let files = tiny::write(dir.path());
        let options = TrainOptions { steps: 4, ..jsonl(dir.path()) };
        let chosen = chosen(&files, &["tokens-4"]);
        let done = ablate(&options, &files, &chosen, &AtomicBool::new(false), &mut |_| ()).unwrap();
        let data = TrainData::open(&options, &files.instruction).unwrap();
        let own =
            RetrieverFiles { config: done[0].architecture.clone(), weights: done[0].weights.clone(), ..files.clone() };
        let encoder = Encoder::load(&own).unwrap();
        let encode = |side, shown: Vec<Shown>| {
            let items: Vec<Item> = shown.into_iter().map(|shown| item(&data, shown).unwrap()).collect();
            encoder.encode(side, &items).unwrap()
        };
        let queries = encode(Side::Query, data.evaluation.iter().map(|query| query.shown).collect());
        let documents = encode(Side::Document, data.documents.iter().map(|document| document.shown).collect());
        for ((query, scores), place) in data.evaluation.iter().zip(scores(&queries, &documents)).zip(&done[0].places) {
            let right = |at: &usize| query.wants(&data.documents[*at]);
            let best = (0..scores.len()).filter(right).map(|at| scores[at]).fold(f32::NEG_INFINITY, f32::max);
            let before = (0..scores.len()).filter(|at| !right(at) && scores[*at] >= best).count();
            assert_eq!(before, *place);
        }
    }
}
