//! Logs: to stderr or a file, never to stdout.

use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::args::Global;
use super::failure::{Exit, Failure};

/// Variable with a filter as `tracing_subscriber::EnvFilter` reads it; goes before `-v` and `-q`.
const VARIABLE: &str = "CICERONE_LOG";

/// Starts logging as the global options say.
///
/// # Errors
/// A log file that cannot be written, or a filter that cannot be read.
pub fn start(global: &Global) -> anyhow::Result<()> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (_, 0) => "cicerone=warn,error",
        (_, 1) => "cicerone=info,warn",
        (_, 2) => "cicerone=debug,info",
        _ => "debug",
    };
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let text = if asked.is_empty() { level } else { &asked };
    let filter = EnvFilter::try_new(text)
        .map_err(|e| Failure::new(Exit::Usage, "log_filter", format!("{VARIABLE}={text:?}: {e}")))?;
    let (writer, ansi) = match &global.log_file {
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
