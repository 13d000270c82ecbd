//! The command line: one file per subcommand, and no logic that a user of the library would miss.
//!
//! stdout carries results and nothing else; progress, logs and notes go to stderr. A command ends with one of the
//! codes of [`failure::Exit`], and with `--json` its error is `{"schema_version", "error": {"code", "message",
//! "hint"}}`.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`args`] | what can be written on the command line |
//! | [`failure`] | every error of every room with its exit code, stable name and hint |
//! | [`screen`] | stdout that may close at any time, stderr for people |
//! | [`progress`] | bars on a terminal, a plain line now and then elsewhere |
//! | [`thumbnails`] | pictures beside text, where the terminal can show them |
//! | [`interrupt`] | Ctrl-C stops work where it can go on later, and ends the program where there is none |

pub mod args;
mod ask;
mod bench;
mod completions;
mod config;
pub mod context;
pub mod cpu;
mod demo;
mod doctor;
mod eval;
mod explain;
pub mod failure;
pub mod interrupt;
mod kb;
mod logging;
mod models;
mod probe;
pub mod progress;
pub mod screen;
mod starter;
mod stats;
mod terminal_ui;
pub mod thumbnails;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use context::Context;
use failure::{Exit, Failure};
use screen::Screen;

/// Runs one command line, program name first, and says how it ended. [`cpu::serves`] comes before it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let json = cli.command.as_ref().is_some_and(args::Command::wants_json);
    let mut screen = Screen::new(&cli.global);
    match start(cli, &mut screen) {
        Ok(exit) => {
            screen.end_live();
            exit.into()
        }
        Err(error) => {
            let failure = Failure::of(&error);
            screen.fail(&failure, json);
            failure.exit.into()
        }
    }
}

/// Help and version are results; anything else is a wrong command line.
fn usage(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if error.use_stderr() && args.iter().any(|arg| arg == "--json" || arg == "--stream-json") {
        let text = error.to_string();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let message = lines.next().unwrap_or("unusable command line").trim_start_matches("error: ").to_owned();
        let failure = Failure::new(Exit::Usage, "usage", message).hint("cicerone --help");
        Screen::plain().fail(&failure, true);
        return Exit::Usage.into();
    }
    // A closed stderr or stdout leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn start(cli: Cli, screen: &mut Screen) -> anyhow::Result<Exit> {
    logging::start(&cli.global)?;
    if cli.global.live {
        if !cli.command.as_ref().is_some_and(Command::takes_long) {
            let message =
                "--live is of commands that take long: kb build, pull and verify, eval, train, probe and bench";
            return Err(Failure::new(Exit::Usage, "usage", message).into());
        }
        let title: Vec<String> = std::env::args().skip(1).collect();
        terminal_ui::go_live(&cli.global, screen, &title.join(" "))?;
    }
    interrupt::watch();
    // Two providers are linked; without a choice the first connection would fail. Only a second call can err.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let context = Context::new(cli.global, screen.clone());
    let Some(command) = cli.command else { return terminal_ui::run(&context) };
    match command {
        Command::Ask(args) => ask::run(&context, &args),
        Command::Demo(args) => demo::run(&context, &args),
        Command::Kb(args) => kb::run(&context, &args),
        Command::Models(args) => models::run(&context, &args),
        Command::Train(args) => train::run(&context, &args),
        Command::Bench(args) => bench::run(&context, &args),
        Command::Eval(args) => eval::run(&context, &args),
        Command::Probe(args) => probe::run(&context, &args),
        Command::Config(args) => config::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Completions(args) => completions::run(&context, &args),
    }
}
