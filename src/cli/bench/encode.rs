//! `cicerone bench encode`: items a second, where the time goes, and how near to the processor's best it comes.

use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::Serialize;

use super::BATCHES;
use crate::cli::args::BenchArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::progress::{Progress, Unit};
use crate::cli::stats::Table;
use crate::cli::{interrupt, starter};
use crate::rag::engines;
use crate::retriever::backbone::TextBatch;
use crate::retriever::config::{RetConfig, SHIPPED};
use crate::retriever::model::{Batch, Ret, Side};
use crate::retriever::random;

/// Least runs of a batch, the first one, which warms up, not counted.
const RUNS: usize = 2;
/// Decides the random numbers.
const SEED: u64 = 1;

/// A model of random weights, from tokens and pixels to embeddings.
#[derive(Serialize)]
pub(super) struct Model {
    name: String,
    text_tokens: usize,
    /// Additions and multiplications of the towers' matrix products for one item, in 10^9.
    gflop_per_item: f64,
    /// What a product of large matrices reaches here, in 10^9 a second.
    peak_gflop_per_s: f64,
    batches: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    given: &'static str,
    batch: usize,
    items_per_s: f64,
    text_ms_per_item: Option<f64>,
    vision_ms_per_item: Option<f64>,
    /// Of [`Model::peak_gflop_per_s`], by the towers' products.
    peak_share: f64,
}

/// Measures a model of the named or given architecture.
pub(super) fn random_model(context: &Context, args: &BenchArgs, name: &str) -> anyhow::Result<Model> {
    let config = architecture(name)?;
    let tokens = args.text_tokens.map_or(32, usize::from).min(config.max_text_tokens);
    let device = engines::device(&starter::config(context)?).open()?;
    let seconds = f64::from(args.seconds);
    let guard = interrupt::guard();
    let _progress = Progress::new(&context.screen, "encoding", Unit::Things(""));
    let model = random::model(&config, &device)?;
    let text_work = config.text.operations(tokens, &config.text_wanted()) / 1e9;
    let vision_work = config.vision.operations(config.picture_size(), &config.vision_wanted()) / 1e9;
    let peak = product_speed(&device, seconds)?;
    let mut batches = Vec::new();
    let middle = BATCHES[BATCHES.len() / 2];
    let all = BATCHES.map(|batch| (batch, true, true));
    for (len, text, vision) in all.into_iter().chain([(middle, true, false), (middle, false, true)]) {
        if guard.is_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        }
        let mut batch = random::batch(&config, len, tokens, SEED, &device)?;
        batch.text = batch.text.filter(|_| text);
        batch.vision = batch.vision.filter(|_| vision);
        let work = if text { text_work } else { 0.0 } + if vision { vision_work } else { 0.0 };
        batches.push(row(&model, &batch, work, peak, seconds)?);
    }
    Ok(Model {
        name: name.to_owned(),
        text_tokens: tokens,
        gflop_per_item: text_work + vision_work,
        peak_gflop_per_s: peak,
        batches,
    })
}

/// A shipped architecture, or a file.
fn architecture(name: &str) -> anyhow::Result<RetConfig> {
    if let Some(config) = RetConfig::shipped(name) {
        return Ok(config?);
    }
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let message = format!("no model `{name}`: expected {}, or the JSON file of an architecture", known.join(", "));
        return Err(Failure::new(Exit::Usage, "model", message).into());
    }
    Ok(RetConfig::load(path)?)
}

fn row(model: &Ret, batch: &Batch, work: f64, peak: f64, seconds: f64) -> anyhow::Result<Row> {
    // A GPU is asked for its work and does it later.
    let finished = || model.device().synchronize();
    let best = best_of_runs(seconds, || -> anyhow::Result<()> {
        model.encode(Side::Document, batch)?;
        Ok(finished()?)
    })?;
    let text = |batch: &TextBatch| -> anyhow::Result<()> {
        model.text_features(batch)?;
        Ok(finished()?)
    };
    let vision = |pixels: &Tensor| -> anyhow::Result<()> {
        model.vision_features(pixels)?;
        Ok(finished()?)
    };
    let text = batch.text.as_ref().map(|(batch, _)| once(|| text(batch))).transpose()?;
    let vision = batch.vision.as_ref().map(|(pixels, _)| once(|| vision(pixels))).transpose()?;
    let per_item = |seconds: f64| seconds * 1e3 / batch.len as f64;
    Ok(Row {
        given: match (&batch.text, &batch.vision) {
            (Some(_), None) => "text-only",
            (None, Some(_)) => "image-only",
            _ => "both",
        },
        batch: batch.len,
        items_per_s: batch.len as f64 / best,
        text_ms_per_item: text.map(per_item),
        vision_ms_per_item: vision.map(per_item),
        peak_share: work * batch.len as f64 / best / peak,
    })
}

fn once<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of the fastest run, the first one left out: other programs only ever slow a run down. It is run again until
/// `seconds` have passed, and at least [`RUNS`] times.
fn best_of_runs<E>(seconds: f64, mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    run()?;
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < RUNS || start.elapsed().as_secs_f64() < seconds {
        best = best.min(once(&mut run)?);
        runs += 1;
    }
    Ok(best)
}

/// 10^9 operations a second of the matrix product that the towers use, at a size that suits it.
fn product_speed(device: &Device, seconds: f64) -> anyhow::Result<f64> {
    let (rows, inner, columns) = (2048, 1024, 1024);
    let left = Tensor::ones((rows, inner), candle_core::DType::F32, device)?;
    let right = Tensor::ones((columns, inner), candle_core::DType::F32, device)?.t()?;
    let best = best_of_runs(seconds, || left.matmul(&right)?.device().synchronize())?;
    Ok(2.0 * (rows * inner * columns) as f64 / best / 1e9)
}

/// The rows of the table.
pub(super) fn tell(model: &Model, table: &mut Table) {
    let mut line = |name: String, value: String, unit: &str| table.row([name, value, String::new(), unit.to_owned()]);
    for row in &model.batches {
        let name = format!("encode {}, {}, batch {}", model.name, row.given, row.batch);
        line(name, format!("{:.2}", row.items_per_s), "items/s");
        line("  of the speed of a large product".into(), format!("{:.0}", row.peak_share * 100.0), "%");
        for (tower, ms) in [("text tower", row.text_ms_per_item), ("picture tower", row.vision_ms_per_item)] {
            if let Some(ms) = ms {
                line(format!("  {tower}"), format!("{ms:.2}"), "ms an item");
            }
        }
    }
    line("products of an item".into(), format!("{:.2}", model.gflop_per_item), "GFLOP");
    line("speed of a large product".into(), format!("{:.0}", model.peak_gflop_per_s), "GFLOP/s");
}
