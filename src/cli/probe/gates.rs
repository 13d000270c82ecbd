//! `cicerone probe gates`: how much of each modality the retriever lets through.

use serde::Serialize;

use crate::cli::args::ProbeGatesArgs;
use crate::cli::context::{Context, picture_limits};
use crate::cli::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::cli::progress::{Progress, Unit};
use crate::cli::stats::Table;
use crate::cli::{interrupt, starter};
use crate::io::write_atomic;
use crate::rag::engines;
use crate::retriever::encoder::Encoder;
use crate::retriever::model::Side;
use crate::retriever::probe::{self, Gates, Spread};
use crate::retriever::worker::query_text;

/// `schemas/probe-gates.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    fingerprint: String,
    gates: &'a [Gates],
}

/// Runs the command.
pub fn run(context: &Context, args: &ProbeGatesArgs) -> anyhow::Result<Exit> {
    let config = starter::config(context)?;
    let dir = starter::data_dir(args.data.as_deref())?;
    let mut drawings = starter::drawings(&dir, &args.split)?;
    drawings.truncate(args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    starter::fetch(context, &config)?;
    let files = engines::retriever_files(&config)?;
    let mut items = starter::items(context, &dir, &drawings, &picture_limits(&config), true)?;
    for item in &mut items {
        item.text = item.text.take().map(|text| query_text(&files.instruction, &text));
    }
    let guard = interrupt::guard();
    let mut progress = Progress::new(&context.screen, "loading", Unit::Things("items"));
    let encoder = Encoder::load(&files)?;
    progress.rename("looking at gates", Unit::Things("items"));
    let total = 3 * items.len() as u64;
    let measured = probe::gates(&encoder, Side::Query, &items, files.max_batch, |done| {
        progress.set(done as u64, Some(total));
        !guard.is_asked()
    })?;
    drop(progress);
    let Some(measured) = measured else {
        return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
    };
    if let Some(path) = &args.svg {
        write_atomic(path, probe::svg(&measured).as_bytes())?;
    }
    if args.json {
        let document = Document { schema_version: SCHEMA_VERSION, fingerprint: files.fingerprint()?, gates: &measured };
        context.screen.json(&document, false)?;
    } else {
        context.screen.put(table(&measured).text())?;
    }
    Ok(Exit::Done)
}

fn table(measured: &[Gates]) -> Table {
    let mut table =
        Table::new(&["given", "items", "text block", "picture block", "text input", "picture input", "forget"]);
    let cell = |spread: Option<Spread>| {
        spread.map_or_else(|| "-".to_owned(), |s| format!("{:.3} (sd {:.3})", s.mean, s.deviation))
    };
    for gates in measured {
        for step in &gates.steps {
            table.row([
                gates.given.name().to_owned(),
                gates.items.to_string(),
                step.text_layer.to_string(),
                step.vision_layer.to_string(),
                cell(step.text_input),
                cell(step.vision_input),
                cell(Some(step.forget)),
            ]);
        }
    }
    table
}
