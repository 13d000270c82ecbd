//! `cicerone eval evidence`: the reader alone, given what a data set quotes as evidence.

use std::sync::Arc;

use serde_json::json;

use super::super::args::EvalEvidenceArgs;
use super::super::context::Context;
use super::super::failure::{Exit, Failure};
use super::super::progress::{Progress, Unit};
use super::super::{interrupt, starter};
use super::{Form, asking, ended, show};
use crate::eval::Question;
use crate::eval::answers::{self, Mode};
use crate::eval::dataset::evqa;
use crate::eval::report::{self, Asked};
use crate::kb::{Article, Section};
use crate::rag::{GivenArticles, NoRanker, Parts, Pipeline, Settings, engines};
use crate::text::sanitise_line;

/// Tokens of an evidence that are read: quotations are short, and none of one is to be lost.
const EVIDENCE_TOKENS: usize = 1024;

/// Runs the command.
pub fn run(context: &Context, args: &EvalEvidenceArgs) -> anyhow::Result<Exit> {
    let config = starter::config(context)?;
    let set = evqa::read(&args.questions, evqa::Options::default())?;
    let (with, without): (Vec<Question>, Vec<Question>) =
        set.questions.into_iter().partition(|question| !question.evidence.is_empty());
    if with.is_empty() {
        let message = format!("{}: no question has evidence; expected a column `evidence`", args.questions.display());
        return Err(Failure::new(Exit::Usage, "data", message).into());
    }
    starter::fetch(context, &config)?;
    let sampled: Vec<Question> =
        answers::sample(&with, args.sample.limit, args.sample.seed).into_iter().map(alone).collect();
    let questions: Vec<&Question> = sampled.iter().collect();

    let runtime = context.runtime()?;
    let progress = Progress::new(&context.screen, "loading the answering model", Unit::Things(""));
    let generator = runtime.block_on(engines::open_reader(&config))?;
    drop(progress);
    let given = Arc::new(GivenArticles::new(sampled.iter().map(article)));
    let prompts = Arc::new(engines::open_prompts(&config)?);
    let settings = engines::settings(&config, generator.info().sees_pictures);
    let settings = Settings { passage_tokens: EVIDENCE_TOKENS, tokens_per_passage: EVIDENCE_TOKENS, ..settings };
    let (encoder, search) = (Arc::clone(&given), given);
    let parts = Parts { encoder, search, ranker: Arc::new(NoRanker), generator: Some(generator), prompts };
    let pipeline = Pipeline::new(parts, settings);

    let data = crate::io::hash::blake3_file(&args.questions)?;
    let run = asking::about(&pipeline, &config, &data, questions.len(), args.sample.seed);
    let log = args.sample.out.as_ref().map(|out| (out.join("evidence.jsonl"), run.clone()));
    let done = asking::run(
        context,
        &runtime,
        &pipeline,
        (questions.as_slice(), &[Mode::OraclePassage]),
        log,
        "answering",
        &interrupt::guard(),
    )?;
    let asked: Vec<Asked> = questions.iter().copied().zip(done.outcomes.iter().cloned()).collect();
    let mut table = report::answers(&asked);
    table.rows.retain(|row| !row.metric.starts_with("right "));
    table.title = format!("{} questions of {} with their evidence as the passage", questions.len(), with.len());
    if !without.is_empty() {
        table.notes.push(format!("{} questions have no evidence and are left out", without.len()));
    }
    if let Some(first) = set.dirty.first() {
        let first = sanitise_line(&first.to_string());
        table.notes.push(format!("{} rows cannot be used (first: {first})", set.dirty.len()));
    }
    table.notes.push("no pictures: the reader is asked with the text alone".to_owned());
    let about = json!({ "run": run, "stopped": done.stopped });
    show(context, &table, &about, Form::of(args.sample.json, args.sample.markdown))?;
    Ok(ended(&[&done]))
}

/// A question of an article of its own: two questions about one entity have different evidence.
fn alone(question: &Question) -> Question {
    Question {
        urls: vec![format!("evidence:{}", question.id)],
        section_ids: vec![0],
        image_ids: Vec::new(),
        ..question.clone()
    }
}

fn article(question: &Question) -> Article {
    let title = question.titles.first().cloned().unwrap_or_default();
    let section = Section { title: title.clone(), text: question.evidence.join(" ") };
    Article { url: format!("evidence:{}", question.id), title, sections: vec![section], ..Article::default() }
}
