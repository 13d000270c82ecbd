//! `cicerone eval answers`: shipped questions answered with retrieved passages, with those of the right article, with the
//! right section, and with none.

use serde_json::json;

use super::super::args::{EvalAnswersArgs, ModeArg};
use super::super::context::Context;
use super::super::failure::Exit;
use super::super::interrupt;
use super::asking::{self, Asking};
use super::{Form, ended, show};
use crate::eval::answers::Mode;

/// Runs the command.
pub fn run(context: &Context, args: &EvalAnswersArgs) -> anyhow::Result<Exit> {
    let asking = Asking::open(context, args.data.as_deref(), true)?;
    let questions = asking.sample(&args.sample);
    let pipeline = &asking.engines.pipeline;
    let run = asking::about(pipeline, &asking.config, &asking.data, questions.len(), args.sample.seed);
    let modes: Vec<Mode> = args.modes.iter().map(|mode| mode_of(*mode)).collect();
    let log = args.sample.out.as_ref().map(|out| (out.join("answers.jsonl"), run.clone()));
    let set = (asking.dir.as_path(), questions.as_slice(), modes.as_slice());
    let done = asking::run(context, &asking.runtime, pipeline, set, log, "answering", &interrupt::guard())?;
    let mut table = done.table();
    table.title = format!("{} questions of {}", questions.len(), asking.all.len());
    let about = json!({ "run": run, "modes": modes, "stopped": done.stopped });
    show(context, &table, &about, Form::of(args.sample.json, args.sample.markdown))?;
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
