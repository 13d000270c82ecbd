//! `cicerone eval ablate`: what each stage between the question and its answer is worth.

use std::sync::Arc;

use serde::Serialize;

use super::super::args::EvalAblateArgs;
use super::super::context::Context;
use super::super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::super::stats::Table;
use super::super::{interrupt, starter};
use super::asking::{self, Asking};
use super::{Form, ended};
use crate::config::Config;
use crate::eval::Row;
use crate::eval::answers::{Answers, Mode};
use crate::eval::metric::interval::{Mean, paired_bootstrap};
use crate::eval::verdict::Scored;
use crate::generator::{Generator, Remembering};
use crate::rag::Pipeline;
use crate::rag::engines::{self, Engines, EnginesError};

/// Resamples of the interval of a difference, and their seed.
const RESAMPLES: usize = 2000;
const SEED: u64 = 20_251_129;

/// One way of doing it.
struct Variant {
    name: &'static str,
    about: &'static str,
    /// Keys of the configuration that differ.
    set: &'static [&'static str],
    mode: Mode,
}

/// The first is what the others are compared with.
const VARIANTS: [Variant; 18] = {
    const fn v(name: &'static str, about: &'static str, set: &'static [&'static str]) -> Variant {
        Variant { name, about, set, mode: Mode::Retrieved }
    }
    [
        v("full", "as it is configured", &[]),
        v("entity-by-score", "the best candidate is the entity", &["rag.entity=score"]),
        v("entity-by-model", "the reader chooses it from names", &["rag.entity=model"]),
        v("entities-3", "sections of three candidates compete", &["rag.entities=3", "rag.retrieval_weight=1"]),
        v("as-asked", "ranked by the question as it was put", &["rag.name_entity=never"]),
        v("named", "the reader reads the entity's name in the question, too", &["rag.name_entity=always"]),
        v("no-ranking", "the first sections of the article", &["rag.ranking=none"]),
        v("bi-encoder", "ranked by a sentence encoder", &["rag.ranking=bi-encoder"]),
        v("retriever-ranking", "ranked by the retriever's text side", &["rag.ranking=retriever"]),
        v("cross-encoder", "ranked by a cross-encoder", &["rag.ranking=cross-encoder"]),
        v("no-shared-words", "ranked without shared words", &["rag.shared_words=0"]),
        v("passages-2", "two passages at most, and room for them", &["rag.passages=2", "rag.token_budget=160"]),
        v("passages-3", "three passages at most, and room for them", &["rag.passages=3", "rag.token_budget=240"]),
        v("plain-prompt", "a prompt without examples", &["prompts.answer=answer"]),
        v("no-abstention", "an answer always", &["rag.min_score=-1", "rag.min_margin=0", "rag.min_section=-100"]),
        Variant { name: "oracle-entity", about: "the right article is given", set: &[], mode: Mode::OracleEntity },
        Variant { name: "oracle-passage", about: "the right section is given", set: &[], mode: Mode::OraclePassage },
        Variant { name: "no-retrieval", about: "nothing is given", set: &[], mode: Mode::NoRetrieval },
    ]
};

/// `schemas/eval-ablate.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    questions: usize,
    seed: u64,
    stopped: bool,
    variants: &'a [Line],
}

/// What a variant came to.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    about: &'static str,
    set: &'static [&'static str],
    mode: Mode,
    /// Right entity, right section, and the metric of answers, each where it was measured.
    rows: Vec<Row>,
    abstained: usize,
    /// The share of right answers (without a reader, of right sections) less that of the first variant, question by
    /// question; what was not scored counts as wrong.
    against_first: Option<Mean>,
    #[serde(skip)]
    values: Vec<f64>,
}

/// Runs the command.
pub fn run(context: &Context, args: &EvalAblateArgs) -> anyhow::Result<Exit> {
    let chosen = chosen(&args.only)?;
    let generate = !args.no_generate;
    let mut asking = Asking::open(context, args.data.as_deref(), generate)?;
    // Most variants ask most questions with the same prompt.
    if let Some(generator) = asking.engines.generator.clone().filter(|_| asking.config.generator.temperature == 0.0) {
        let generator: Arc<dyn Generator> = Arc::new(Remembering::new(generator));
        asking.engines.pipeline = asking.engines.pipeline.with_generator(Some(Arc::clone(&generator)));
        asking.engines.generator = Some(generator);
    }
    let (config, engines, seed) = (&asking.config, &asking.engines, args.sample.seed);
    let questions = asking.sample(&args.sample);
    let mut lines: Vec<Line> = Vec::new();
    let mut runs = Vec::new();
    let sees = engines.generator.as_ref().is_some_and(|generator| generator.info().sees_pictures);
    let named = |variant: &Variant| args.only.iter().any(|name| name == variant.name);
    let guard = interrupt::guard();
    for (n, variant) in chosen.iter().enumerate() {
        let changed = starter::config_with(context, variant.set)?;
        if variant.mode == Mode::Retrieved && n > 0 && same(&changed, config, sees) && !named(variant) {
            continue;
        }
        if variant.mode == Mode::NoRetrieval && !generate {
            continue;
        }
        let pipeline = match with(engines, config, &changed) {
            Ok(pipeline) => pipeline,
            Err(EnginesError::MissingModel { path, .. }) if !named(variant) => {
                context.screen.note(format_args!("{} is left out: {} is not there", variant.name, path.display()));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let about = asking::about(&pipeline, &changed, &asking.data, questions.len(), seed);
        let log = args.sample.out.as_ref().map(|out| (out.join(format!("{}.jsonl", variant.name)), about));
        let set = (questions.as_slice(), &[variant.mode][..]);
        let what = format!("{}: {}", variant.name, variant.about);
        let done = asking::run(context, &asking.runtime, &pipeline, set, log, &what, &guard)?;
        lines.push(line(variant, &done, lines.first(), generate));
        runs.push(done);
        if guard.is_asked() {
            break;
        }
    }
    let exit = if guard.is_asked() { Exit::Interrupted } else { ended(&runs.iter().collect::<Vec<_>>()) };
    match Form::of(args.sample.json, args.sample.markdown) {
        Form::Json => {
            let stopped = exit == Exit::Interrupted;
            let questions = questions.len();
            let document = Document { schema_version: SCHEMA_VERSION, questions, seed, stopped, variants: &lines };
            context.screen.json(&document, false)?;
        }
        form => {
            let table = table(&lines);
            context.screen.put(if form == Form::Markdown { table.markdown() } else { table.text() })?;
            context.screen.line(format_args!(
                "{} questions of {}, seed {}; 95 % intervals (Wilson; of differences the paired bootstrap)",
                questions.len(),
                asking.all.len(),
                seed
            ))?;
        }
    }
    Ok(exit)
}

/// The parts that are open, with what a changed configuration replaces of them. A ranker that is the same is kept, with
/// what it has encoded.
fn with(engines: &Engines, base: &Config, config: &Config) -> Result<Pipeline, EnginesError> {
    let sees = engines.generator.as_ref().is_some_and(|generator| generator.info().sees_pictures);
    let ranking = |config: &Config| {
        let rag = &config.rag;
        let models = (rag.ranking.clone(), rag.ranker.clone(), rag.cross_encoder.clone());
        (models, rag.shared_words.to_bits(), rag.token_budget(false))
    };
    let mut pipeline = engines.pipeline.with_prompts(engines::open_prompts(config)?);
    if ranking(config) != ranking(base) {
        pipeline = pipeline.with_ranker(engines::open_ranker(config, &engines.retriever)?);
    }
    Ok(pipeline.with_settings(engines::settings(config, sees)))
}

/// Whether two configurations answer alike with a reader that sees pictures, or with one that does not.
fn same(a: &Config, b: &Config, sees_pictures: bool) -> bool {
    let resolved = |config: &Config| {
        let mut rag = config.rag.clone();
        rag.entity = if rag.entity_by_model(sees_pictures) { "model".into() } else { "score".into() };
        (rag, config.prompts.clone())
    };
    resolved(a) == resolved(b)
}

/// The variants that are named, in the order of all of them; the first one always, since the others stand against it.
fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Variant>> {
    static ALL: [Variant; 18] = VARIANTS;
    let names: Vec<&str> = ALL.iter().map(|variant| variant.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        let message = format!("--only: no variant `{unknown}`: expected {}", names.join(", "));
        return Err(Failure::new(Exit::Usage, "usage", message).into());
    }
    let wanted = |variant: &&Variant| only.iter().any(|name| name == variant.name);
    let first = ALL.iter().take(1);
    Ok(first.chain(ALL.iter().skip(1).filter(|variant| only.is_empty() || wanted(variant))).collect())
}

fn line(variant: &'static Variant, done: &Answers, first: Option<&Line>, generate: bool) -> Line {
    let proportion = |metric: &str, values: Vec<bool>| {
        let right = values.iter().filter(|right| **right).count();
        (!values.is_empty()).then(|| Row::proportion(variant.name, metric, right, values.len()))
    };
    let outcomes = &done.outcomes;
    let metric = outcomes.first().map_or("", |scored| scored.metric);
    let correct = || if generate { outcomes.iter().filter_map(|scored| scored.correct).collect() } else { Vec::new() };
    let rows: Vec<Row> = [
        proportion("right entity", outcomes.iter().filter_map(|scored| scored.entity).collect()),
        proportion("right section", outcomes.iter().filter_map(Scored::section_found).collect()),
        proportion(metric, correct()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let values = done.values(variant.mode, |scored| if generate { scored.correct } else { scored.section_found() });
    let abstained = outcomes.iter().filter(|s| s.abstained()).count();
    Line {
        name: variant.name,
        about: variant.about,
        set: variant.set,
        mode: variant.mode,
        rows,
        abstained,
        against_first: first.and_then(|first| paired_bootstrap(&first.values, &values, RESAMPLES, SEED)),
        values,
    }
}

fn table(lines: &[Line]) -> Table {
    let measured = lines.iter().flat_map(|line| &line.rows).map(|row| row.metric.as_str());
    let mut metrics: Vec<&str> = Vec::new();
    for metric in measured {
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let first = lines.first().map_or("", |line| line.name);
    let against = format!("less {first}'s");
    let heading: Vec<&str> =
        ["variant"].into_iter().chain(metrics.iter().copied()).chain([against.as_str(), "abstained"]).collect();
    let mut table = Table::new(&heading);
    for line in lines {
        let mut cells = vec![format!("{}: {}", line.name, line.about)];
        for metric in &metrics {
            let row = line.rows.iter().find(|row| row.metric == *metric);
            cells.push(row.map_or_else(String::new, |row| {
                let interval = row.interval.map_or_else(String::new, |i| format!(" ({:.3} to {:.3})", i.low, i.high));
                format!("{:.3}{interval}", row.value)
            }));
        }
        cells.push(line.against_first.map_or_else(String::new, |mean| {
            format!("{:+.3} ({:+.3} to {:+.3})", mean.mean, mean.interval.low, mean.interval.high)
        }));
        cells.push(line.abstained.to_string());
        table.row(cells);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_a_configuration_and_the_first_is_always_there() {
        for variant in VARIANTS {
            let set: Vec<String> = variant.set.iter().map(|key| (*key).to_owned()).collect();
            let changed = Config::load_starter(&set).unwrap().config;
            let plain = Config::load_starter(&[]).unwrap().config;
            let unchanged = ["full", "entity-by-score", "bi-encoder"].contains(&variant.name);
            if variant.mode == Mode::Retrieved && variant.name != "no-abstention" {
                assert_eq!(same(&changed, &plain, false), unchanged, "{}", variant.name);
            }
        }
        let names = |only: &[&str]| -> Vec<&str> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            chosen(&only).unwrap().iter().map(|variant| variant.name).collect()
        };
        assert_eq!(names(&["no-ranking"]), ["full", "no-ranking"]);
        assert_eq!(names(&[]).len(), VARIANTS.len());
        assert!(chosen(&["x".into()]).err().unwrap().to_string().contains("no variant `x`"));
    }
}
