//! `cicerone eval score`: the official metrics over the predictions of another system.

use serde_json::{Value, json};

use super::super::args::{EvalScoreArgs, PartialArg};
use super::super::context::Context;
use super::super::failure::{Exit, Failure};
use super::super::interrupt;
use super::opening;
use super::reporting;
use crate::eval::EvalError;
use crate::eval::answers::Mode;
use crate::eval::predictions::{Partial, Predictions};
use crate::eval::run::{FORMAT, Manifest, RunFolder};

/// Runs the command.
pub fn run(context: &Context, args: &EvalScoreArgs) -> anyhow::Result<Exit> {
    let opened = opening::open(context, &args.data, None, (None, args.data.pictures.is_some()))?;
    let predictions = Predictions::read(&args.predictions)?;
    let partial = match args.partial {
        PartialArg::Refuse => Partial::Refuse,
        PartialArg::Wrong => Partial::Wrong,
        PartialArg::LeftOut => Partial::LeftOut,
    };
    // Seen before a folder is made for it.
    predictions.outcomes(&args.predictions, &opened.questions, partial).map_err(refused)?;
    let unknown = predictions.unknown(&opened.questions);
    if unknown > 0 {
        context.screen.note(format_args!("{unknown} predictions are of no question that is asked; they count nothing"));
    }
    let files = &opened.files;
    let hash = crate::io::hash::blake3_file(&args.predictions)?;
    let run = json!({
        "data": { "name": files.name(), "format": files.format, "hash": opened.hash, "two_hop": files.two_hop },
        "questions": { "number": opened.sampled, "seed": args.data.seed },
        "system": { "name": args.name, "fingerprint": hash },
        "without_prediction": match partial {
            Partial::Refuse => "refused",
            Partial::Wrong => "wrong",
            Partial::LeftOut => "left out",
        },
        "program": env!("CARGO_PKG_VERSION"),
    });
    let manifest = Manifest {
        format: FORMAT,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        retrieval: Value::Null,
        run,
        shard: None,
        modes: vec![Mode::Predicted],
        data: opened.facts.clone(),
        knowledge_base: Value::Null,
    };
    let temporary = tempfile::tempdir()?;
    let dir = args.out.as_deref().unwrap_or(temporary.path());
    let folder = RunFolder::open(dir, manifest, opened.questions)?;
    let outcomes = predictions.outcomes(&args.predictions, folder.questions(), partial)?;
    folder.write_outcomes(outcomes.into_iter().map(|(_, outcome)| outcome))?;
    let how = (&args.page, &args.print);
    reporting::finish(context, &opened.config, &folder, how, &interrupt::guard(), args.out.is_some())
}

/// A partial file is refused with the ways out of it.
fn refused(error: EvalError) -> anyhow::Error {
    match error {
        EvalError::Missing { .. } => Failure::new(Exit::Usage, "partial_predictions", error)
            .hint("predict them, or count them as wrong with --partial wrong (left-out is what InfoSeek's own script does)")
            .into(),
        other => other.into(),
    }
}
