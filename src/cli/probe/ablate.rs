//! `cicerone probe ablate`: variants of the retriever side by side.

use serde::Serialize;

use crate::cli::args::ProbeAblateArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::cli::progress::{Progress, Unit};
use crate::cli::stats::Table;
use crate::cli::{interrupt, starter, train};
use crate::eval::Row;
use crate::eval::metric::interval::{Mean, paired_bootstrap};
use crate::retriever::config::RetConfig;
use crate::retriever::probe::{AblateEvent, Ablation, Variant, ablate, variants};
use crate::retriever::train::TrainOptions;

/// Cut-offs of recall.
const KS: [usize; 3] = [1, 5, 10];
/// Resamples of the interval of a difference, and their seed.
const RESAMPLES: usize = 2000;
const SEED: u64 = 20_250_911;

/// `schemas/probe-ablate.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    options: &'a TrainOptions,
    queries: usize,
    variants: Vec<Line<'a>>,
}

/// A variant with what its places come to.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    ablation: &'a Ablation,
    /// Recall at 1, 5 and 10 with Wilson's intervals.
    recall: Vec<Row>,
    /// Recall at 1 less that of the first variant, query by query; nothing for the first.
    against_first: Option<Mean>,
}

/// Runs the command.
pub fn run(context: &Context, args: &ProbeAblateArgs) -> anyhow::Result<Exit> {
    let config = starter::config(context)?;
    let mut options = train::learn_options(&args.learn)?;
    starter::fetch(context, &config)?;
    let files = train::tower_files(config, &args.learn)?;
    let chosen = chosen(&RetConfig::load(&files.config)?, &args.only)?;
    if options.jsonl.is_none() && options.validate.is_none() {
        options.validate = starter::drawings(&options.data, "test")?.first().map(|drawing| drawing.style.clone());
    }
    let guard = interrupt::guard();
    let mut progress = Progress::new(&context.screen, "computing features", Unit::Things("items"));
    let total = chosen.len();
    let mut number = 0;
    let measured = ablate(&options, &files, &chosen, guard.flag(), &mut |event| match event {
        AblateEvent::Variant(variant) => {
            number += 1;
            progress.note(&format!("variant {number} of {total}, {}: {}", variant.name, variant.about));
        }
        AblateEvent::Train(event) => train::tell(&mut progress, event),
        AblateEvent::Measuring => progress.rename("measuring", Unit::Things("")),
    })?;
    drop(progress);
    let lines: Vec<Line> = measured.iter().map(|ablation| line(ablation, &measured[0])).collect();
    if args.json {
        let queries = measured[0].places.len();
        let document = Document { schema_version: SCHEMA_VERSION, options: &options, queries, variants: lines };
        context.screen.json(&document, false)?;
    } else {
        context.screen.put(table(&lines).text())?;
        let (queries, documents) = (measured[0].places.len(), measured[0].documents);
        context.screen.line(format_args!(
            "{queries} queries over {documents} documents; {} steps of {} queries; 95 % intervals (Wilson; of differences \
             the paired bootstrap)",
            options.steps, options.batch
        ))?;
    }
    Ok(Exit::Done)
}

/// The variants that are named, in the order of all of them.
fn chosen(base: &RetConfig, only: &[String]) -> anyhow::Result<Vec<Variant>> {
    let all = variants(base);
    let names: Vec<&str> = all.iter().map(|variant| variant.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        let message = format!("--only: no variant `{unknown}`: expected {}", names.join(", "));
        return Err(Failure::new(Exit::Usage, "usage", message).into());
    }
    Ok(all.into_iter().filter(|variant| only.is_empty() || only.contains(&variant.name)).collect())
}

fn line<'a>(ablation: &'a Ablation, first: &Ablation) -> Line<'a> {
    let found = |ablation: &Ablation, k: usize| ablation.places.iter().filter(|place| **place < k).count();
    let recall =
        KS.map(|k| Row::proportion(&ablation.name, &format!("R@{k}"), found(ablation, k), ablation.places.len()));
    let hits = |ablation: &Ablation| -> Vec<f64> {
        ablation.places.iter().map(|place| f64::from(u8::from(*place == 0))).collect()
    };
    let other = ablation.name != first.name;
    let against_first = other.then(|| paired_bootstrap(&hits(first), &hits(ablation), RESAMPLES, SEED)).flatten();
    Line { ablation, recall: recall.to_vec(), against_first }
}

fn table(lines: &[Line]) -> Table {
    let first = lines.first().map_or("", |line| &line.ablation.name);
    let against = format!("R@1 less {first}'s");
    let mut table = Table::new(&["variant", "R@1", "R@5", "R@10", &against, "index bytes", "encode ms", "search ms"]);
    for Line { ablation, recall, against_first } in lines {
        let share = |row: &Row| {
            let interval = row.interval.map_or_else(String::new, |i| format!(" ({:.3} to {:.3})", i.low, i.high));
            format!("{:.3}{interval}", row.value)
        };
        let difference = against_first.map_or_else(String::new, |mean| {
            format!("{:+.3} ({:+.3} to {:+.3})", mean.mean, mean.interval.low, mean.interval.high)
        });
        let mut cells = vec![ablation.name.clone()];
        cells.extend(recall.iter().map(share));
        cells.extend([
            difference,
            ablation.index_bytes_per_item.to_string(),
            format!("{:.1}", ablation.encode_ms_per_item),
            format!("{:.3}", ablation.search_ms_per_query),
        ]);
        table.row(cells);
    }
    table
}
