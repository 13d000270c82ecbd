//! The last stage of an evaluation: BEM, where it is configured; then the report, into the run's folder and onto the screen.

use std::collections::HashSet;
use std::ops::ControlFlow;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use serde::Serialize;

use super::super::args::{EvalReportArgs, PageArgs, PrintArgs};
use super::super::context::{Context, picture_limits};
use super::super::failure::{Exit, SCHEMA_VERSION};
use super::super::interrupt::{self, Guard};
use super::super::progress::{Progress, Unit};
use super::super::starter;
use super::Form;
use crate::config::Config;
use crate::eval::answers::Outcome;
use crate::eval::judged::{Bem, Judged, Triple, triples};
use crate::eval::report::{Asked, Inputs, Report, Thumbnails, page_sample};
use crate::eval::retrieved::{self, Retrievals};
use crate::eval::run::RunFolder;
use crate::eval::verdict::{Judge, Scored};
use crate::eval::{EvalError, Question};
use crate::rag::engines;
use crate::retriever::Picture;

/// Longer side of a picture in the page, pixels, and its quality.
const SIDE: u32 = 160;
const QUALITY: u8 = 82;

/// `schemas/eval-report.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    report: &'a Report,
}

/// `cicerone eval report`
pub fn run(context: &Context, args: &EvalReportArgs) -> anyhow::Result<Exit> {
    let mut folder = RunFolder::read(&args.run)?;
    let config = starter::config(context)?;
    if config.eval.bem().is_some() {
        folder.lock()?;
    }
    finish(context, &config, &folder, (&args.page, &args.print), &interrupt::guard(), true)
}

/// Judges, reports, and says how the command ends. Files are written where the folder is to be kept.
pub fn finish(
    context: &Context,
    config: &Config,
    folder: &RunFolder,
    (page, print): (&PageArgs, &PrintArgs),
    guard: &Guard,
    kept: bool,
) -> anyhow::Result<Exit> {
    let shown: HashSet<&str> =
        page_sample(folder.questions(), page.rows).into_iter().map(|question| question.id.as_str()).collect();
    let outcomes = folder.outcomes(|id| kept && shown.contains(id))?;
    let judged = judge(context, config, folder, &outcomes, guard)?;
    let unjudged = judged.as_ref().map_or(0, |judged| unjudged(judged, &outcomes));
    let asked = scored(outcomes, judged.as_ref());
    let questions: Vec<&Question> = folder.questions().iter().collect();
    let log = folder.retrieval_log();
    let retrievals = if log.is_file() { retrieved::load(&log, &questions, 5)? } else { Retrievals::new() };
    let bem = judged.as_ref().map(Judged::model);
    let inputs = Inputs { folder, retrievals: &retrievals, asked: &asked, bem, unjudged, times: !page.no_times };
    let report = Report::new(&inputs)?;

    if kept {
        let json = serde_json::to_vec_pretty(&Document { schema_version: SCHEMA_VERSION, report: &report })?;
        let limits = picture_limits(config);
        let jpeg = |question: &Question| thumbnail(&Picture::open(question.picture.as_ref()?, &limits).ok()?);
        report.write(&inputs, &json, &Thumbnails { questions: page.rows, jpeg: &jpeg })?;
    }
    match Form::of(print.json, print.markdown) {
        Form::Json => context.screen.json(&Document { schema_version: SCHEMA_VERSION, report: &report }, false)?,
        Form::Markdown => context.screen.put(report.to_markdown())?,
        Form::Text => context.screen.put(report.to_text())?,
    }
    if kept {
        let path = folder.dir().join("report.html");
        context.screen.note(format_args!("{} is the report to look through", path.display()));
    }
    let failed = asked.iter().any(|(_, scored)| scored.outcome.error.is_some())
        || retrievals.values().any(|found| found.error.is_some());
    Ok(match (guard.is_asked(), failed) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::Partial,
        _ => Exit::Done,
    })
}

/// The outcomes of a run with their scores.
pub fn scored<'q>(outcomes: Vec<(&'q Question, Outcome)>, judged: Option<&Judged>) -> Vec<Asked<'q>> {
    let judge = judged.map_or(Judge::Text, Judge::Bem);
    outcomes.into_iter().map(|(question, outcome)| (question, Scored::new(question, outcome, &judge))).collect()
}

/// What BEM says of the answers that no reference equals: by the model that is configured, else what it has said before.
///
/// # Errors
/// A model that cannot be used, or a log of another one.
pub fn judge(
    context: &Context,
    config: &Config,
    folder: &RunFolder,
    outcomes: &[(&Question, Outcome)],
    guard: &Guard,
) -> anyhow::Result<Option<Judged>> {
    let log = folder.bem_log();
    let Some((fingerprint, model)) = engines::open_bem(config)? else {
        return Ok(if log.is_file() { Some(Judged::load(&log)?) } else { None });
    };
    let bem = Bem { model: config.eval.bem.to_string(), fingerprint, port: model.is_port() };
    let mut wanted: Vec<Triple> = Vec::new();
    for (question, answer) in doubtful(outcomes) {
        wanted.extend(triples(question, answer));
    }
    let mut progress = Progress::new(&context.screen, "judging by BEM", Unit::Things("answers"));
    let judge = |triples: &[Triple]| {
        let texts: Vec<[&str; 3]> = triples.iter().map(|t| [&*t.candidate, &*t.reference, &*t.question]).collect();
        model.equivalence(&texts).map_err(|e| EvalError::Judge(e.to_string()))
    };
    let judged = Judged::ask(bem, &wanted, Some(&log), judge, |done, total| {
        progress.set(done as u64, Some(total as u64));
        if guard.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Some(judged))
}

/// Answers that no reference equals.
fn doubtful<'a>(outcomes: &'a [(&'a Question, Outcome)]) -> impl Iterator<Item = (&'a Question, &'a str)> {
    outcomes.iter().filter_map(|(question, outcome)| {
        let reply = outcome.reply.as_ref().filter(|reply| reply.abstained.is_none())?;
        (question.score(&reply.answer) != Some(true)).then_some((*question, reply.answer.as_str()))
    })
}

/// How many of them a model has not judged.
pub fn unjudged(judged: &Judged, outcomes: &[(&Question, Outcome)]) -> usize {
    doubtful(outcomes).filter(|(question, answer)| !judged.knows(question, answer)).count()
}

/// A small JPEG; `None` for a picture without pixels.
fn thumbnail(picture: &Picture) -> Option<Vec<u8>> {
    let pixels = picture.rgb();
    let (width, height) = pixels.dimensions();
    let scale = f64::from(SIDE) / f64::from(width.max(height).max(1));
    let of = |side: u32| ((f64::from(side) * scale.min(1.0)).round() as u32).max(1);
    let small = resize(pixels, of(width), of(height), FilterType::Triangle);
    let mut bytes = Vec::new();
    small.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY)).ok()?;
    Some(bytes)
}
