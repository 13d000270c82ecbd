//! `cicerone eval answers`: shipped questions answered with the retrieved passages, the right one, and none.

use std::ops::ControlFlow;

use serde_json::json;

use super::super::args::{EvalAnswersArgs, ModeArg};
use super::super::context::Context;
use super::super::failure::Exit;
use super::super::progress::{Progress, Unit};
use super::super::{interrupt, starter};
use super::{Form, show};
use crate::eval::Question;
use crate::eval::answers::{self, Mode};
use crate::rag::{self, QuestionImage, engines};

/// Runs the command.
pub fn run(context: &Context, args: &EvalAnswersArgs) -> anyhow::Result<Exit> {
    let config = starter::config(context)?;
    let dir = starter::data_dir(args.data.as_deref())?;
    let all = starter::questions(context, &dir)?;
    let questions = answers::sample(&all, args.limit, args.seed);
    let retriever = starter::prepare(context, &config, true)?;
    let runtime = context.runtime()?;
    let progress = Progress::new(&context.screen, "loading the answering model", Unit::Things(""));
    let engines = engines::open(&config, retriever, true, &runtime)?;
    drop(progress);

    let manifest = engines.kb.manifest();
    let run = json!({
        "data": blake3::hash(&fs_err::read(dir.join("questions.csv"))?).to_hex().as_str(),
        "questions": questions.len(),
        "seed": args.seed,
        "knowledge_base": manifest.content_hash,
        "retriever": manifest.fingerprint,
        "reader": engines.generator.as_ref().map(|generator| generator.info().clone()),
        "prompt": engines.pipeline.prompt_fingerprint(),
        "rag": config.rag,
        "max_tokens": config.generator.max_tokens,
    });
    let log = match &args.out {
        Some(out) => {
            fs_err::create_dir_all(out)?;
            Some(out.join("answers.jsonl"))
        }
        None => None,
    };
    let modes: Vec<Mode> = args.modes.iter().map(|mode| mode_of(*mode)).collect();
    let guard = interrupt::guard();
    let mut progress = Progress::new(&context.screen, "answering", Unit::Things("answers"));
    let done = answers::run(
        &questions,
        &modes,
        log.as_deref().map(|path| (path, &run)),
        |question, mode| {
            let asked = ask(&dir, question, mode).map_err(|e| e.to_string())?;
            runtime.block_on(engines.pipeline.answer(asked)).map(|answer| answer.plain).map_err(|e| e.to_string())
        },
        |state| {
            progress.set(state.done as u64, Some(state.total as u64));
            if guard.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )?;
    drop(progress);
    let mut table = done.table();
    table.title = format!("{} questions of {}", questions.len(), all.len());
    let about = json!({ "run": run, "modes": modes, "stopped": done.stopped });
    show(context, &table, &about, Form::of(args.json, args.markdown))?;
    let failed = done.outcomes.iter().any(|scored| scored.outcome.error.is_some());
    Ok(match (done.stopped, failed) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::Partial,
        _ => Exit::Done,
    })
}

fn mode_of(mode: ModeArg) -> Mode {
    match mode {
        ModeArg::Retrieved => Mode::Retrieved,
        ModeArg::Gold => Mode::Gold,
        ModeArg::None => Mode::None,
    }
}

/// A row of the data set as it is asked.
fn ask(dir: &std::path::Path, question: &Question, mode: Mode) -> anyhow::Result<rag::Question> {
    let image = starter::picture(dir, question)?.map(QuestionImage::Path);
    let mode = match mode {
        Mode::Retrieved => rag::Mode::Retrieved,
        Mode::None => rag::Mode::NoRetrieval,
        Mode::Gold => match (question.urls.first(), question.section_ids.first()) {
            (Some(url), Some(section)) => rag::Mode::OraclePassage { url: url.clone(), section: *section },
            (Some(url), None) => rag::Mode::OracleEntity { url: url.clone() },
            (None, _) => anyhow::bail!("question {} names no article", question.id),
        },
    };
    Ok(rag::Question::new(&question.text, image).with_mode(mode))
}
