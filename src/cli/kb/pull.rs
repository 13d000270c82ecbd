//! `cicerone kb pull`

use super::build::{options, tell};
use super::stages::watched;
use crate::cli::args::KbPullArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::interrupt;
use crate::kb::build::pull;

/// Runs the command.
pub(super) fn run(context: &Context, args: &KbPullArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let mut options = options(&config, name)?;
    options.keep = args.keep.map_or(options.keep, usize::from);
    let Some(remote) = options.home.remote.clone() else {
        return Err(Failure::new(Exit::Usage, "no_server", "there is no server to pull from")
            .hint("name it: --set kb.server.url=http://HOST:6334")
            .into());
    };
    let pictures = args.pictures.as_deref().map(fs_err::canonicalize).transpose()?;
    let guard = interrupt::guard();
    let report = watched(&context.screen, |watch| pull(&options, &remote, pictures, guard.flag(), watch))?;
    let told = tell(&context.screen, args.json, &report)?;
    if !args.json {
        context.screen.note("to ask it: unset kb.server.url");
    }
    Ok(told)
}
