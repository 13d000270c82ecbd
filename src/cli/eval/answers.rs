//! `cicerone eval answers`: shipped questions answered with retrieved passages, with those of the right article, with the
//! right section, and with none.

use serde_json::json;

use super::super::args::{EvalAnswersArgs, ModeArg};
use super::super::context::Context;
use super::super::failure::Exit;
use super::super::progress::{Progress, Unit};
use super::super::starter;
use super::{Form, asking, ended, show};
use crate::eval::answers::{self, Mode};
use crate::rag::engines;

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

    let data = starter::data_hash(&dir)?;
    let mut run = asking::about(&engines.pipeline, &config, &data);
    run["questions"] = json!({ "number": questions.len(), "seed": args.seed });
    let modes: Vec<Mode> = args.modes.iter().map(|mode| mode_of(*mode)).collect();
    let log = args.out.as_ref().map(|out| (out.join("answers.jsonl"), run.clone()));
    let set = (dir.as_path(), questions.as_slice(), modes.as_slice());
    let done = asking::run(context, &runtime, &engines.pipeline, set, log, "answering")?;
    let mut table = done.table();
    table.title = format!("{} questions of {}", questions.len(), all.len());
    let about = json!({ "run": run, "modes": modes, "stopped": done.stopped });
    show(context, &table, &about, Form::of(args.json, args.markdown))?;
    Ok(ended(&[&done]))
}

fn mode_of(mode: ModeArg) -> Mode {
    match mode {
        ModeArg::Retrieved => Mode::Retrieved,
        ModeArg::OracleEntity => Mode::OracleEntity,
        ModeArg::OraclePassage => Mode::OraclePassage,
        ModeArg::NoRetrieval => Mode::NoRetrieval,
    }
}
