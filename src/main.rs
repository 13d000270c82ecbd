//! Parses, initialises, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cicerone::cli::run(std::env::args_os())
}
