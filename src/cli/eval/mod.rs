//! `cicerone eval`: how well it retrieves and answers.

mod ablate;
mod abstention;
mod asking;
mod compare;
mod evidence;
mod opening;
mod reporting;
mod retrieval;
mod run;
mod score;

use serde::Serialize;

use super::args::{EvalArgs, EvalCommand, EvalMergeArgs};
use super::context::Context;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::eval::answers::Answers;
use crate::eval::{EvalError, Table};

/// Runs the command.
pub fn run(context: &Context, args: &EvalArgs) -> anyhow::Result<Exit> {
    match &args.command {
        EvalCommand::Retrieval(args) => retrieval::run(context, args),
        EvalCommand::Run(args) => run::run(context, args),
        EvalCommand::Score(args) => score::run(context, args),
        EvalCommand::Report(args) => reporting::run(context, args),
        EvalCommand::Compare(args) => compare::run(context, args),
        EvalCommand::Merge(args) => merge(context, args),
        EvalCommand::Ablate(args) => ablate::run(context, args),
        EvalCommand::Abstention(args) => abstention::run(context, args),
        EvalCommand::Evidence(args) => evidence::run(context, args),
    }
}

/// `cicerone eval merge`
fn merge(context: &Context, args: &EvalMergeArgs) -> anyhow::Result<Exit> {
    let whole = crate::eval::run::merge(&args.parts, &args.out)?;
    let (parts, questions) = (args.parts.len(), whole.questions().len());
    let out = args.out.display();
    context.screen.line(format_args!("{parts} parts, {questions} questions: {out}"))?;
    context.screen.note(format_args!("cicerone eval report {out}"));
    Ok(Exit::Done)
}

/// How a command ends over these runs.
fn ended(runs: &[&Answers]) -> Exit {
    let failed = |run: &&Answers| run.outcomes.iter().any(|scored| scored.outcome.error.is_some());
    match (runs.iter().any(|run| run.stopped), runs.iter().any(failed)) {
        (true, _) => Exit::Interrupted,
        (_, true) => Exit::Partial,
        _ => Exit::Done,
    }
}

/// How a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Markdown,
    Json,
}

impl Form {
    fn of(json: bool, markdown: bool) -> Self {
        match (json, markdown) {
            (true, _) => Self::Json,
            (_, true) => Self::Markdown,
            _ => Self::Text,
        }
    }
}

/// Prints a table; `about` says in JSON what was measured.
fn show(context: &Context, table: &Table, about: &serde_json::Value, form: Form) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema_version: u32,
        about: &'a serde_json::Value,
        #[serde(flatten)]
        table: &'a Table,
    }
    match form {
        Form::Text => context.screen.put(table.to_text()),
        Form::Markdown => context.screen.put(table.to_markdown()),
        Form::Json => context.screen.json(&Document { schema_version: SCHEMA_VERSION, about, table }, false),
    }
}

/// How an error of the evaluation ends a command.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let error: &EvalError = error.downcast_ref()?;
    let code = match error {
        EvalError::Io(_) => "io",
        EvalError::OtherRun { .. } => "other_run",
        EvalError::NoRun { .. } => "no_run",
        EvalError::Compare { .. } => "not_comparable",
        _ => "data",
    };
    Some(Failure::new(if code == "io" { Exit::Failed } else { Exit::Usage }, code, error))
}
