//! `cicerone models`: model files.

use std::path::Path;

use serde::Serialize;

use super::args::{FloatArg, ModelsArgs, ModelsCommand, ModelsConvertArgs, ModelsListArgs};
use super::context::Context;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::interrupt;
use super::progress::{Progress, Unit, bytes};
use crate::config::{Config, starter_dir};
use crate::io::IoError;
use crate::models::convert::{self, Float};
use crate::models::{Models, ModelsError, NameMap, PullOptions, State, Step};

/// Runs the command.
pub fn run(context: &Context, args: &ModelsArgs) -> anyhow::Result<Exit> {
    match &args.command {
        ModelsCommand::List(args) => list(context, args),
        ModelsCommand::Pull(args) => pull(context, &args.names),
        ModelsCommand::Verify(args) => verify(context, &args.names),
        ModelsCommand::Convert(args) => convert(context, args),
    }
}

fn list(context: &Context, args: &ModelsListArgs) -> anyhow::Result<Exit> {
    let models = Models::open(&context.config()?.models_dir(), None)?;
    let listed = models.list();
    if args.json {
        #[derive(Serialize)]
        struct List<'a> {
            schema_version: u32,
            directory: &'a Path,
            models: &'a [crate::models::Listed],
        }
        let list = List { schema_version: SCHEMA_VERSION, directory: models.dir(), models: &listed };
        context.screen.json(&list, false)?;
        return Ok(Exit::Done);
    }
    for model in &listed {
        let state = match model.state {
            State::Present => "here",
            State::Absent => "not here",
            State::Partial => "partly here",
            State::Damaged => "damaged",
        };
        let (name, size, licence) = (&model.name, bytes(model.bytes), &model.licence);
        context.screen.line(format_args!("{name:<24} {state:<12} {size:>9}  {licence:<12} {}", model.title))?;
        if let Some(reason) = &model.reason {
            context.screen.line(format_args!("    {reason}"))?;
        }
        if model.state == State::Present && !model.unverified.is_empty() {
            context.screen.line(format_args!("    {}", not_verified(&model.unverified)))?;
        }
    }
    Ok(Exit::Done)
}

/// What is said of files that came without a hash to hold them to.
fn not_verified<S: AsRef<str>>(files: &[S]) -> String {
    let files: Vec<&str> = files.iter().map(AsRef::as_ref).collect();
    format!("not verified: no hash known of {}", files.join(", "))
}

fn pull(context: &Context, names: &[String]) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (name, dir) in fetch(context, &config, &names)? {
        context.screen.line(format_args!("{name}  {dir}"))?;
    }
    Ok(Exit::Done)
}

/// Fetches those of `names` (models or groups) that are not here whole.
///
/// # Errors
/// [`ModelsError`].
pub fn fetch_missing(context: &Context, config: &Config, names: &[&str]) -> anyhow::Result<()> {
    let models = Models::open(&config.models_dir(), None)?;
    let wanted = models.catalogue().select(names)?;
    if wanted.iter().any(|entry| models.find(&entry.name).is_err()) {
        let size = wanted.iter().filter(|entry| models.find(&entry.name).is_err()).map(|entry| entry.bytes).sum();
        context.screen.note(format_args!(
            "fetching models into {} (about {}, once)",
            models.dir().display(),
            bytes(size)
        ));
        fetch(context, config, names)?;
    }
    Ok(())
}

/// Pulls with progress, stopping in good order on Ctrl-C; names and directories of what is ready.
fn fetch(context: &Context, config: &Config, names: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let models = Models::open(&config.models_dir(), None)?;
    let guard = interrupt::guard();
    let mut options = PullOptions { cancel: guard.shared(), ..PullOptions::from_env() };
    options.offline |= context.global.offline;
    // What comes with the program is looked for where the configuration finds it, too.
    if let Some(root) = starter_dir()?.ancestors().nth(2) {
        options.shipped.push(root.to_owned());
    }
    let mut progress = Progress::new(&context.screen, "models", Unit::Bytes);
    let ready = models.pull(names, &options, &mut |told| {
        let what = match told.step {
            Step::Fetch => "fetching",
            Step::Unpack => "unpacking",
            Step::Check => "checking",
            Step::Convert => "converting",
            Step::Ready => "ready:",
        };
        if told.step != Step::Ready {
            progress.rename(&format!("{what} {} {}", told.model, told.file), Unit::Bytes);
            progress.set(told.done, told.total);
        }
    })?;
    drop(progress);
    for model in &ready {
        let unverified = models.catalogue().entry(&model.record.name)?.unverified();
        if !unverified.is_empty() {
            context.screen.note(format_args!("{}: {}", model.record.name, not_verified(&unverified)));
        }
    }
    Ok(ready.into_iter().map(|model| (model.record.name, model.path.display().to_string())).collect())
}

fn verify(context: &Context, names: &[String]) -> anyhow::Result<Exit> {
    let models = Models::open(&context.config()?.models_dir(), None)?;
    let all: Vec<String> = if names.is_empty() {
        models.list().into_iter().filter(|model| model.state != State::Absent).map(|model| model.name).collect()
    } else {
        models.catalogue().select(names)?.into_iter().map(|entry| entry.name.clone()).collect()
    };
    if all.is_empty() {
        let missing = format!("no model is in {}", models.dir().display());
        return Err(Failure::new(Exit::Unreachable, "model_missing", missing)
            .hint("cicerone models pull starter")
            .into());
    }
    let mut first = None;
    for name in &all {
        match models.verify(name) {
            Ok(model) => {
                let (size, unverified) = (bytes(model.record.bytes()), models.catalogue().entry(name)?.unverified());
                if unverified.is_empty() {
                    context.screen.line(format_args!("{name}: whole ({size})"))?;
                } else {
                    let told = not_verified(&unverified);
                    context.screen.line(format_args!("{name}: as it was fetched ({size}); {told}"))?;
                }
            }
            Err(error) => {
                context.screen.line(format_args!("{name}: {error}"))?;
                first.get_or_insert(error);
            }
        }
    }
    match first {
        None => Ok(Exit::Done),
        Some(error) => Err(error.into()),
    }
}

fn convert(context: &Context, args: &ModelsConvertArgs) -> anyhow::Result<Exit> {
    let float = match args.float {
        FloatArg::Keep => Float::Keep,
        FloatArg::F32 => Float::F32,
        FloatArg::F16 => Float::F16,
    };
    let done = match &args.map {
        Some(named) => {
            let map = NameMap::open(named, Path::new(""))?;
            convert::rename::convert(&args.input, &args.output, &map, float)?
        }
        None => convert::file(&args.input, &args.output, float, &args.leave_out)?,
    };
    let output = args.output.display();
    context.screen.line(format_args!("{output}: {} tensors, {}", done.tensors, bytes(done.bytes)))?;
    if !done.dropped.is_empty() {
        context.screen.note(format_args!("left out: {}", done.dropped.join(", ")));
    }
    Ok(Exit::Done)
}

/// How an error of the models ends a command.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    error.downcast_ref().map(of)
}

/// The failure of an error of the models.
#[must_use]
pub fn of(error: &ModelsError) -> Failure {
    let whole = error.to_string();
    let split =
        |at: &str| whole.rsplit_once(at).map_or((whole.clone(), None), |(m, h)| (m.to_owned(), Some(h.to_owned())));
    let (exit, code, (message, hint)) = match error {
        ModelsError::Unknown { .. } => {
            (Exit::Usage, "model_unknown", (whole.clone(), Some("cicerone models list".into())))
        }
        ModelsError::Catalogue { .. } => (Exit::Usage, "model_catalogue", (whole.clone(), None)),
        ModelsError::Absent { pull, .. } => {
            let (message, _) = split("; fetch it with ");
            (Exit::Unreachable, "model_missing", (message, Some(format!("cicerone models pull {pull}"))))
        }
        ModelsError::Damaged { name, .. } => {
            let (message, _) = split("; mend it with ");
            (Exit::Failed, "model_damaged", (message, Some(format!("cicerone models pull {name}"))))
        }
        ModelsError::Mismatch { .. } => (Exit::Failed, "model_mismatch", (whole.clone(), None)),
        ModelsError::Unreachable { .. } => (Exit::Unreachable, "unreachable", split("\n")),
        ModelsError::Unavailable { .. } => (Exit::Failed, "model_unavailable", (whole.clone(), None)),
        ModelsError::Convert { .. } => (Exit::Failed, "convert", (whole.clone(), None)),
        ModelsError::NameMap { .. } => (Exit::Usage, "name_map", (whole.clone(), None)),
        ModelsError::Interrupted => (Exit::Interrupted, "interrupted", split("; ")),
        ModelsError::Io(IoError::Locked { .. }) => (Exit::Unreachable, "models_locked", (whole.clone(), None)),
        ModelsError::Io(_) => (Exit::Failed, "io", (whole.clone(), None)),
    };
    Failure { code: code.to_owned(), message, hint, exit }
}
