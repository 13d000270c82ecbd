//! `cicerone eval abstention`: thresholds below which a question is better left unanswered, chosen on the questions of
//! one half of the entities and measured on those of the other.

use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::super::args::EvalAbstentionArgs;
use super::super::context::Context;
use super::super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::super::interrupt::{self, Guard};
use super::super::progress::{Progress, Unit};
use super::super::stats::Table;
use super::asking::{self, Asking};
use super::{Form, ended};
use crate::eval::Question;
use crate::eval::abstention::{Case, Kept, Signal, Signals, area, calibrate, risk_coverage};
use crate::eval::answers::Mode;
use crate::eval::verdict::Scored;
use crate::rag::{EntityMethod, Hiding, Pipeline, Settings, Thresholds};
use crate::text::sanitise_line;

/// Coverages at which the risk is told.
const COVERAGES: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 1.0];

/// `schemas/eval-abstention.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    /// What makes an answer right.
    right: &'a str,
    questions: usize,
    seed: u64,
    policies: &'a [Policy],
    signals: &'a [Curve],
}

/// Thresholds, chosen on one half and measured on the other.
#[derive(Serialize)]
struct Policy {
    name: String,
    thresholds: Signals,
    kept: Kept,
    coverage: f64,
    risk: f64,
    reliability: f64,
}

/// A signal by itself, over the half that is measured.
#[derive(Serialize)]
struct Curve {
    signal: Signal,
    /// Area under the risk-coverage curve.
    area: f64,
    /// Risk at each of [`COVERAGES`].
    risk: Vec<(f64, f64)>,
}

/// Runs the command.
pub fn run(context: &Context, args: &EvalAbstentionArgs) -> anyhow::Result<Exit> {
    let generate = !args.no_generate;
    let asking = Asking::open(context, args.data.as_deref(), generate)?;
    let (questions, seed) = (asking.sample(&args.sample), args.sample.seed);

    // Whoever abstains already cannot say what its answer would have been; and a lead over the next candidate counts only
    // where the entity is chosen by score.
    let pipeline = &asking.engines.pipeline;
    let (thresholds, entity) = (Thresholds::default(), EntityMethod::Score);
    let pipeline = pipeline.with_settings(Settings { thresholds, entity, ..pipeline.settings().clone() });
    let mut about = asking::about(&pipeline, &asking.config, &asking.data, questions.len(), seed);
    if let Some(rag) = about["rag"].as_object_mut() {
        rag.retain(|key, _| !key.starts_with("min_") && key != "entity");
    }
    let log = args.sample.out.as_ref().map(|out| (out.join("abstention.jsonl"), about));
    let set = (questions.as_slice(), &[Mode::Retrieved][..]);
    let guard = interrupt::guard();
    let done = asking::run(context, &asking.runtime, &pipeline, set, log, "answering", &guard)?;
    if guard.is_asked() {
        return Ok(Exit::Interrupted);
    }
    let pipeline = pipeline.with_generator(None);
    let hidden = hidden(context, &asking.runtime, &pipeline, &questions, &guard)?;

    let mut halves: [Vec<Case>; 2] = [Vec::new(), Vec::new()];
    for ((question, scored), signals) in questions.iter().zip(&done.outcomes).zip(hidden) {
        // One that failed either way is left out both ways.
        if let (Some(case), Some(signals)) = (answered(scored, generate), signals) {
            halves[half(question)].extend([case, Case { signals, right: false, answerable: false }]);
        }
    }
    let [chosen_on, measured_on] = halves;
    if chosen_on.is_empty() || measured_on.is_empty() {
        let message = format!("{} questions are too few for two halves; raise --limit", questions.len());
        return Err(Failure::new(Exit::Usage, "data", message).into());
    }
    let policies = policies(&chosen_on, &measured_on);
    let curves: Vec<Curve> = Signal::ALL.into_iter().map(|signal| curve(&measured_on, signal)).collect();
    let right = if generate { "the answer, by the metric of its question" } else { "the entity" };
    match Form::of(args.sample.json, args.sample.markdown) {
        Form::Json => context.screen.json(
            &Document {
                schema_version: SCHEMA_VERSION,
                right,
                questions: questions.len(),
                seed,
                policies: &policies,
                signals: &curves,
            },
            false,
        )?,
        form => {
            let put = |table: &Table| {
                context.screen.put(if form == Form::Markdown { table.markdown() } else { table.text() })
            };
            put(&policy_table(&policies))?;
            context.screen.put("\n")?;
            put(&curve_table(&curves))?;
            context.screen.line(format_args!(
                "\n{} questions of {}, seed {}, each asked once more with its article hidden; right is {right}. Thresholds \
                 chosen on {} cases, everything else measured on the {} of other entities.",
                questions.len(),
                asking.all.len(),
                seed,
                chosen_on.len(),
                measured_on.len()
            ))?;
            if let Some(Policy { thresholds, .. }) = policies.last() {
                context.screen.line(format_args!("{}", keys(thresholds)))?;
            }
        }
    }
    Ok(ended(&[&done]))
}

/// Which half a question belongs to: that of its entity, so that no entity is in both.
fn half(question: &Question) -> usize {
    let entity = question.urls.first().map_or(question.id.as_str(), String::as_str);
    usize::from(blake3::hash(entity.as_bytes()).as_bytes()[0] & 1)
}

/// A question that could be answered, as it was.
fn answered(scored: &Scored, generate: bool) -> Option<Case> {
    let right = if generate { scored.correct? } else { scored.entity == Some(true) };
    let signals = scored.outcome.reply.as_ref()?.signals;
    Some(Case { signals, right, answerable: true })
}

/// The signals of every question while its article cannot be found; `None` for one that failed, which is told.
fn hidden(
    context: &Context,
    runtime: &Runtime,
    pipeline: &Pipeline,
    questions: &[&Question],
    guard: &Guard,
) -> anyhow::Result<Vec<Option<Signals>>> {
    // What finds nothing at all answers under no threshold.
    const NOTHING: Signals =
        Signals { score: Some(f32::NEG_INFINITY), margin: Some(f32::NEG_INFINITY), section: Some(f32::NEG_INFINITY) };
    let mut progress = Progress::new(&context.screen, "searching with the article hidden", Unit::Things("questions"));
    let mut signals = Vec::with_capacity(questions.len());
    for (n, question) in questions.iter().enumerate() {
        if guard.is_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        }
        let search = Arc::new(Hiding::new(Arc::clone(&pipeline.parts().search), question.urls.clone()));
        let asked = asking::ask(question, Mode::Retrieved)?;
        signals.push(match runtime.block_on(pipeline.with_search(search).answer(asked)) {
            Ok(answer) => {
                let reply = asking::reply(&answer);
                Some(if reply.abstained.is_some() { NOTHING } else { reply.signals })
            }
            Err(error) => {
                progress.note(&sanitise_line(&format!("question {} is left out: {error}", question.id)));
                None
            }
        });
        progress.set(n as u64 + 1, Some(questions.len() as u64));
    }
    Ok(signals)
}

fn policies(chosen_on: &[Case], measured_on: &[Case]) -> Vec<Policy> {
    let single = Signal::ALL.into_iter().map(|signal| (signal.name().to_owned(), vec![signal]));
    let tried = [("always".to_owned(), vec![])]
        .into_iter()
        .chain(single)
        .chain([("all three".to_owned(), Signal::ALL.to_vec())]);
    tried
        .map(|(name, signals)| {
            let thresholds = calibrate(chosen_on, &signals);
            let kept = Kept::of(measured_on, &thresholds);
            let (coverage, risk, reliability) = (kept.coverage(), kept.risk(), kept.reliability());
            Policy { name, thresholds, kept, coverage, risk, reliability }
        })
        .collect()
}

fn curve(cases: &[Case], signal: Signal) -> Curve {
    let points = risk_coverage(cases, signal);
    let at = |coverage: f64| points.iter().find(|(found, _)| *found >= coverage - 1e-9).map_or(0.0, |(_, risk)| *risk);
    Curve { signal, area: area(&points), risk: COVERAGES.map(|coverage| (coverage, at(coverage))).to_vec() }
}

fn policy_table(policies: &[Policy]) -> Table {
    let mut table = Table::new(&[
        "answered where",
        "score",
        "margin",
        "section",
        "coverage",
        "risk",
        "reliability",
        "unanswerable kept back",
        "right answers kept",
    ]);
    for policy in policies {
        let needed = |value: Option<f32>| value.map_or_else(String::new, |value| format!("{value:.3}"));
        let Policy { thresholds, kept, .. } = policy;
        let part = |part: usize, whole: usize| format!("{part} of {whole}");
        table.row([
            policy.name.clone(),
            needed(thresholds.score),
            needed(thresholds.margin),
            needed(thresholds.section),
            format!("{:.3}", policy.coverage),
            format!("{:.3}", policy.risk),
            format!("{:+.3}", policy.reliability),
            part(kept.unanswerable - kept.fooled, kept.unanswerable),
            part(kept.right, kept.could),
        ]);
    }
    table
}

fn curve_table(curves: &[Curve]) -> Table {
    let columns: Vec<String> = COVERAGES.iter().map(|coverage| format!("risk at {coverage:.1}")).collect();
    let heading: Vec<&str> = ["signal", "area"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let mut table = Table::new(&heading);
    for curve in curves {
        let risks = curve.risk.iter().map(|(_, risk)| format!("{risk:.3}"));
        table.row([curve.signal.name().to_owned(), format!("{:.3}", curve.area)].into_iter().chain(risks));
    }
    table
}

/// What to write into the configuration, the thresholds rounded down.
fn keys(thresholds: &Signals) -> String {
    let named =
        [("min_score", thresholds.score), ("min_margin", thresholds.margin), ("min_section", thresholds.section)];
    let set = named
        .into_iter()
        .filter_map(|(key, value)| Some(format!("\n{key} = {:.3}", (f64::from(value?) * 1e3).floor() / 1e3)));
    let set: String = set.collect();
    if set.is_empty() { "[rag] needs no thresholds".to_owned() } else { format!("\n[rag]{set}") }
}
