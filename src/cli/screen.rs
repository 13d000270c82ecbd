//! stdout for results, stderr for people.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::args::{ColorChoice, Global};
use super::failure::{Failure, SCHEMA_VERSION};
use crate::text::sanitise;
use crate::tui::{Live, Theme};

/// Whoever read stdout has gone. Ends the command quietly.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct Closed;

/// Where a command writes.
#[derive(Debug, Clone)]
pub struct Screen {
    color: bool,
    quiet: bool,
    bars: bool,
    lines: bool,
    live: Option<Arc<Live>>,
}

impl Screen {
    /// As the global options say.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !dumb
            }
        };
        let shown = !global.quiet && !global.no_progress;
        Self { color, quiet: global.quiet, bars: shown && terminal, lines: shown && !terminal, live: None }
    }

    /// Without colour or progress.
    #[must_use]
    pub fn plain() -> Self {
        Self { color: false, quiet: false, bars: false, lines: false, live: None }
    }

    /// Shows progress on the whole screen from now on, until something is written to stdout.
    ///
    /// # Errors
    /// The terminal's.
    pub fn go_live(&mut self, title: &str, log: &Path, theme: Theme) -> std::io::Result<()> {
        self.live = Some(Arc::new(Live::start(title, log, theme)?));
        self.bars = false;
        Ok(())
    }

    /// The whole screen, where progress is shown on it.
    #[must_use]
    pub fn live(&self) -> Option<&Live> {
        self.live.as_deref().filter(|live| live.is_open())
    }

    /// Gives the whole screen back, and tells on stderr what was told on it.
    pub fn end_live(&self) {
        for note in self.live.iter().flat_map(|live| live.close()) {
            self.err(note);
        }
    }

    /// Whether progress is drawn.
    #[must_use]
    pub fn bars(&self) -> bool {
        self.bars
    }

    /// Whether progress is told line by line.
    #[must_use]
    pub fn lines(&self) -> bool {
        self.lines
    }

    /// Writes `text` to stdout and flushes it.
    ///
    /// # Errors
    /// [`Closed`] where the reader has gone; the system's otherwise.
    pub fn put(&self, text: impl Display) -> anyhow::Result<()> {
        self.end_live();
        let mut out = std::io::stdout().lock();
        write!(out, "{text}").and_then(|()| out.flush()).map_err(|e| match e.kind() {
            std::io::ErrorKind::BrokenPipe => Closed.into(),
            _ => anyhow::Error::new(e).context("cannot write to stdout"),
        })
    }

    /// Writes a line to stdout.
    ///
    /// # Errors
    /// As [`Screen::put`].
    pub fn line(&self, text: impl Display) -> anyhow::Result<()> {
        self.put(format_args!("{text}\n"))
    }

    /// Writes a value as JSON to stdout: on one line, or indented.
    ///
    /// # Errors
    /// As [`Screen::put`].
    pub fn json(&self, value: &impl Serialize, one_line: bool) -> anyhow::Result<()> {
        let text = if one_line { serde_json::to_string(value)? } else { serde_json::to_string_pretty(value)? };
        self.line(text)
    }

    /// Tells a person something, on stderr, unless `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            self.err(format_args!("{text}\n"));
        }
    }

    /// Writes to stderr. A closed stderr leaves nobody to tell.
    pub fn err(&self, text: impl Display) {
        if let Some(live) = self.live() {
            live.note(&text.to_string());
            return;
        }
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{text}").and_then(|()| err.flush());
    }

    /// `text` in bold where colour is wanted; for stderr.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Reports how a command failed: to stderr for people, to stdout as JSON.
    pub fn fail(&self, failure: &Failure, json: bool) {
        self.end_live();
        if failure.is_quiet() {
            return;
        }
        if json {
            #[derive(Serialize)]
            struct Report<'a> {
                schema_version: u32,
                error: &'a Failure,
            }
            // If stdout is closed too, the exit code is all that can be said.
            let _ = self.json(&Report { schema_version: SCHEMA_VERSION, error: failure }, true);
            return;
        }
        // What a knowledge base, a file or an engine said may stand in it.
        let message = sanitise(&failure.message).replace('\n', "\n  ");
        self.err(format_args!("{} {message}\n", self.paint("1;31", "error:")));
        if let Some(hint) = failure.hint.as_deref().map(sanitise) {
            self.err(format_args!("  {} {hint}\n", self.paint("1", "hint:")));
        }
    }
}
