//! `cicerone eval compare`: what one run gains over another.

use serde::Serialize;

use super::super::args::EvalCompareArgs;
use super::super::context::Context;
use super::super::failure::{Exit, SCHEMA_VERSION};
use super::super::stats::Table;
use super::{Form, reporting};
use crate::eval::compare::{Changed, Comparison, Pair, Side};
use crate::eval::judged::Judged;
use crate::eval::run::RunFolder;
use crate::text::sanitise_line;

/// `schemas/eval-compare.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// Runs the command.
pub fn run(context: &Context, args: &EvalCompareArgs) -> anyhow::Result<Exit> {
    let folders = [RunFolder::read(&args.first)?, RunFolder::read(&args.second)?];
    let [first, second] = &folders;
    let judged = [judged(first)?, judged(second)?];
    let outcomes = [first.outcomes(|_| false)?, second.outcomes(|_| false)?];
    let unjudged =
        [0, 1].map(|n: usize| judged[n].as_ref().map_or(0, |judged| reporting::unjudged(judged, &outcomes[n])));
    let [before, after] = outcomes;
    let asked = [reporting::scored(before, judged[0].as_ref()), reporting::scored(after, judged[1].as_ref())];
    let names = [&args.first, &args.second].map(|path| path.display().to_string());
    let side = |n: usize| Side {
        name: &names[n],
        manifest: folders[n].manifest(),
        asked: &asked[n],
        bem: judged[n].as_ref().map(Judged::model),
        unjudged: unjudged[n],
    };
    let comparison = Comparison::new(&side(0), &side(1))?;
    for warning in &comparison.warnings {
        context.screen.note(format_args!("warning: {}", sanitise_line(warning)));
    }
    match Form::of(args.print.json, args.print.markdown) {
        Form::Json => {
            context.screen.json(&Document { schema_version: SCHEMA_VERSION, comparison: &comparison }, false)?
        }
        form => {
            let table = table(&comparison);
            context.screen.put(if form == Form::Markdown { table.markdown() } else { table.text() })?;
            for pair in &comparison.pairs {
                for (what, changed) in [("gained", &pair.gained), ("lost", &pair.lost)] {
                    list(context, pair, what, changed, args.list)?;
                }
            }
            if !comparison.differences.is_empty() {
                context.screen.line("\nwhat differs:")?;
            }
            for difference in &comparison.differences {
                let line = format!("  {}: {} | {}", difference.field, difference.left, difference.right);
                context.screen.line(sanitise_line(&line))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn judged(folder: &RunFolder) -> anyhow::Result<Option<Judged>> {
    let log = folder.bem_log();
    Ok(if log.is_file() { Some(Judged::load(&log)?) } else { None })
}

fn table(comparison: &Comparison) -> Table {
    let [first, second] = &comparison.names;
    let heading = ["mode", "metric", "n", first, second, "difference", "95 % interval", "gained", "lost", "McNemar p"];
    let mut table = Table::new(&heading);
    for pair in &comparison.pairs {
        let [a, b] = pair.modes;
        let mode = if a == b { a.to_string() } else { format!("{a} | {b}") };
        let difference = pair.difference.map_or_else(String::new, |d| format!("{:+.3}", d.mean));
        let interval =
            pair.difference.map_or_else(String::new, |d| format!("{:+.3} to {:+.3}", d.interval.low, d.interval.high));
        table.row(vec![
            mode,
            pair.metric.to_owned(),
            pair.questions.to_string(),
            format!("{:.3}", pair.first.value),
            format!("{:.3}", pair.second.value),
            difference,
            interval,
            pair.gained.len().to_string(),
            pair.lost.len().to_string(),
            format!("{:.2e}", pair.mcnemar_p),
        ]);
    }
    table
}

fn list(context: &Context, pair: &Pair, what: &str, changed: &[Changed], most: usize) -> anyhow::Result<()> {
    if changed.is_empty() || most == 0 {
        return Ok(());
    }
    context.screen.line(format_args!(
        "\n{what}, {}: {} of {}",
        pair.modes[1],
        changed.len().min(most),
        changed.len()
    ))?;
    for one in changed.iter().take(most) {
        let line = format!("  {}: {} ({}): {:?} | {:?}", one.id, one.question, one.reference, one.first, one.second);
        context.screen.line(sanitise_line(&line))?;
    }
    Ok(())
}
