//! `cicerone completions`: a script for the shell.

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::context::Context;
use super::failure::Exit;

/// Prints the script.
pub fn run(context: &Context, args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cicerone", &mut script);
    context.screen.put(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
