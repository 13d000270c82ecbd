//! `cicerone doctor`: what is here, what is missing, what to do about it.

use serde::Serialize;

use super::args::DoctorArgs;
use super::context::Context;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::terminal_ui;
use crate::config::{Config, starter_dir};
use crate::kb;
use crate::rag::engines;

#[derive(Serialize)]
struct Report {
    schema_version: u32,
    version: &'static str,
    target: String,
    features: Vec<&'static str>,
    threads: usize,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    good: bool,
    found: String,
    hint: Option<String>,
}

/// Runs the command. Something missing is a finding, not a failure.
pub fn run(context: &Context, args: &DoctorArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let report = report(&config)?;
    if args.json {
        context.screen.json(&report, false)?;
        return Ok(Exit::Done);
    }
    let features = if report.features.is_empty() { "none".to_owned() } else { report.features.join(", ") };
    context.screen.line(format_args!(
        "cicerone {} ({}, {} threads, features: {features})",
        report.version, report.target, report.threads
    ))?;
    for check in &report.checks {
        let mark = if check.good { "ok" } else { "--" };
        context.screen.line(format_args!("{mark}  {:<14} {}", check.name, check.found))?;
        if let Some(hint) = check.hint.as_ref().filter(|_| !check.good) {
            context.screen.line(format_args!("    {:<14} {hint}", ""))?;
        }
    }
    Ok(Exit::Done)
}

fn report(config: &Config) -> anyhow::Result<Report> {
    let features = [
        ("mistral", cfg!(feature = "mistral")),
        ("edge", cfg!(feature = "edge")),
        ("server", cfg!(feature = "server")),
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mkl", cfg!(feature = "mkl")),
        ("accelerate", cfg!(feature = "accelerate")),
    ];
    let starter = starter_dir()?;
    let data_dir = &config.paths.data_dir;
    let mut checks = vec![
        Check {
            name: "data directory",
            good: true,
            found: format!("{}{}", data_dir.display(), if data_dir.is_dir() { "" } else { " (made when needed)" }),
            hint: None,
        },
        Check {
            name: "starter files",
            good: starter.join("kb.jsonl").is_file(),
            found: starter.display().to_string(),
            hint: Some("set CICERONE_STARTER_DIR to the source tree's data/starter".into()),
        },
        checked("retriever", engines::retriever_files(config).map(|files| files.weights.display().to_string())),
        checked("models", engines::check_files(config, true).map(|()| config.models_dir().display().to_string())),
    ];
    checks.push(Check { name: "log", good: true, found: terminal_ui::log(config).display().to_string(), hint: None });
    checks.push(checked(
        "device",
        engines::device(config).open().map(|device| format!("{:?}", device.location()).to_lowercase()),
    ));
    let base = engines::kb_home(config).and_then(|home| Ok(kb::status(home, &config.kb.name)?));
    let base = base.map(|status| match status.manifest {
        Some(manifest) => format!("{}: {} articles", status.name, manifest.counts.articles),
        None => format!("{}: a build that has not finished", status.name),
    });
    checks.push(checked("knowledge base", base));
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        features: features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        checks,
    })
}

fn checked<E: Into<anyhow::Error>>(name: &'static str, outcome: Result<String, E>) -> Check {
    match outcome {
        Ok(found) => Check { name, good: true, found, hint: None },
        Err(error) => {
            let failure = Failure::of(&error.into());
            Check { name, good: false, found: failure.message, hint: failure.hint }
        }
    }
}
