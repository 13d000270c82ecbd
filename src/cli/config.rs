//! `cicerone config`: what is set, whether it is good, and where it is.

use serde::Serialize;

use super::args::{ConfigArgs, ConfigCommand, ConfigShowArgs};
use super::context::Context;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::config::{Config, ConfigError, Surroundings};

/// Runs the command.
pub fn run(context: &Context, args: &ConfigArgs) -> anyhow::Result<Exit> {
    let loaded = context.load()?;
    match &args.command {
        ConfigCommand::Show(ConfigShowArgs { json: false }) => context.screen.put(loaded.show())?,
        ConfigCommand::Show(ConfigShowArgs { json: true }) => {
            #[derive(Serialize)]
            struct Shown<'a> {
                schema_version: u32,
                config: &'a Config,
            }
            context.screen.json(&Shown { schema_version: SCHEMA_VERSION, config: &loaded.config }, false)?;
        }
        ConfigCommand::Check => {
            let file = loaded.file.as_deref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
            context.screen.line(format_args!("the configuration is good ({file})"))?;
        }
        ConfigCommand::Path => {
            let around = Surroundings::of_process()?;
            let file = loaded.file.clone().or_else(|| around.config_file());
            let state = if loaded.file.is_some() { "" } else { " (not there; defaults are used)" };
            let file = file.map_or_else(|| "none".to_owned(), |path| format!("{}{state}", path.display()));
            context.screen.line(format_args!("file     {file}"))?;
            context.screen.line(format_args!("models   {}", loaded.config.models_dir().display()))?;
            context.screen.line(format_args!("kb       {}", loaded.config.kb_root().display()))?;
            context.screen.line(format_args!("starter  {}", around.starter_dir().display()))?;
        }
    }
    Ok(Exit::Done)
}

/// How an error of the configuration ends a command.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let error: &ConfigError = error.downcast_ref()?;
    Some(Failure::new(Exit::Usage, "config", error).hint("cicerone config show prints every key with its value"))
}
