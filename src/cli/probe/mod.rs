//! `cicerone probe`: a look inside the retriever.

mod ablate;
mod gates;

use super::args::{ProbeArgs, ProbeCommand};
use super::context::Context;
use super::failure::Exit;

/// Runs the command.
pub fn run(context: &Context, args: &ProbeArgs) -> anyhow::Result<Exit> {
    match &args.command {
        ProbeCommand::Gates(args) => gates::run(context, args),
        ProbeCommand::Ablate(args) => ablate::run(context, args),
    }
}
