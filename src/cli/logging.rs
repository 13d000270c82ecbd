//! Logs: to stderr or a file, never to stdout.

use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::args::Global;
use super::failure::{Exit, Failure};
use crate::config::Config;

/// Variable with a filter as `tracing_subscriber::EnvFilter` reads it; goes before `-v` and `-q`.
const VARIABLE: &str = "CICERONE_LOG";

/// Starts logging as the global options say.
///
/// # Errors
/// A log file that cannot be written, or a filter that cannot be read.
pub fn start(global: &Global) -> anyhow::Result<()> {
    // A configuration that cannot be used is told by the command that needs it.
    let log = Config::load(global.config.as_deref(), &global.set).map(|loaded| loaded.config.log).unwrap_or_default();
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error".to_owned(),
        (_, 0) if matches!(log.level.as_str(), "off" | "error") => log.level.clone(),
        (_, 0) => format!("cicerone={},error", log.level),
        (_, 1) => "cicerone=info,warn".to_owned(),
        (_, 2) => "cicerone=debug,info".to_owned(),
        _ => "debug".to_owned(),
    };
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let text = if asked.is_empty() { &level } else { &asked };
    let filter = EnvFilter::try_new(text)
        .map_err(|e| Failure::new(Exit::Usage, "log_filter", format!("{VARIABLE}={text:?}: {e}")))?;
    let (writer, ansi) = match global.log_file.as_deref().or(log.file()) {
        None => (BoxMakeWriter::new(std::io::stderr), false),
        Some(path) => {
            let file = fs_err::OpenOptions::new().create(true).append(true).open(path).map_err(|e| {
                Failure::new(Exit::Usage, "log_file", e.to_string())
                    .hint("name a file in a folder that exists: --log-file FILE")
            })?;
            (BoxMakeWriter::new(Mutex::new(file.into_file())), false)
        }
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi).finish();
    // A caller that has a subscriber of its own (a test) keeps it.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
