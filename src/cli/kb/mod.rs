//! `cicerone kb`: the life of knowledge bases.

mod build;
mod pull;
mod search;
mod stages;

use serde::Serialize;

pub use build::{build_with, options, sentence, start_retriever};
pub use stages::show_stage;

use super::args::{KbArgs, KbCommand, KbDropArgs, KbExportArgs, KbListArgs, KbStatusArgs, KbUseArgs, KbVerifyArgs};
use super::context::{Context, picture_limits};
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::progress::{Progress, Unit, bytes};
use super::screen::Screen;
use crate::kb::store::StoreConfig;
use crate::kb::verify::{Step, Verified};
use crate::kb::{self, Embedder, Manifest, Status};
use crate::rag::engines::{self, DocumentEmbedder};

/// Runs the command.
pub fn run(context: &Context, args: &KbArgs) -> anyhow::Result<Exit> {
    match &args.command {
        KbCommand::Build(args) => build::run(context, args),
        KbCommand::Status(args) => status(context, args),
        KbCommand::List(args) => list(context, args),
        KbCommand::Search(args) => search::run(context, args),
        KbCommand::Verify(args) => verify(context, args),
        KbCommand::Use(args) => use_build(context, args),
        KbCommand::Drop(args) => drop_build(context, args),
        KbCommand::Export(args) => export(context, args),
        KbCommand::Pull(args) => pull::run(context, args),
    }
}

fn describe(screen: &Screen, manifest: &Manifest) -> anyhow::Result<()> {
    let counts = &manifest.counts;
    screen.line(format_args!("  articles   {} ({} sections)", counts.articles, counts.sections))?;
    let (missing, unreadable) = (counts.pictures_missing, counts.pictures_unreadable);
    screen.line(format_args!("  pictures   {} ({missing} missing, {unreadable} unreadable)", counts.pictures))?;
    if counts.quarantined > 0 {
        screen.line(format_args!("  refused    {} (see {})", counts.quarantined, kb::build::QUARANTINE))?;
    }
    for source in &manifest.sources {
        screen.line(format_args!("  source     {}", source.spec()))?;
    }
    let StoreConfig { dim, vectors, .. } = manifest.store;
    let shape = if vectors == 1 { format!("{dim} numbers") } else { format!("{vectors} vectors of {dim} numbers") };
    screen.line(format_args!("  retriever  {} ({shape})", manifest.fingerprint))?;
    screen.line(format_args!("  content    {}", manifest.content_hash))
}

fn status(context: &Context, args: &KbStatusArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let status = kb::status(engines::kb_home(&config)?, name)?;
    if args.json {
        context.screen.json(&Versioned { schema_version: SCHEMA_VERSION, value: &status }, false)?;
    } else {
        context.screen.line(summary(&status))?;
        if let Some(manifest) = &status.manifest {
            describe(&context.screen, manifest)?;
        }
        if let Some(dir) = &status.dir {
            context.screen.line(format_args!("  directory  {}", dir.display()))?;
        }
        if status.builds.len() > 1 {
            let builds: Vec<String> = status.builds.iter().map(u32::to_string).collect();
            context
                .screen
                .line(format_args!("  builds     {} (cicerone kb use puts one in use)", builds.join(", ")))?;
        }
        if let Some(going) = &status.in_progress {
            context.screen.line(format_args!(
                "  unfinished {} records read, {} articles stored; `kb build` goes on from there",
                going.done, going.articles
            ))?;
        }
    }
    Ok(if status.damage.is_some() { Exit::Failed } else { Exit::Done })
}

fn summary(status: &Status) -> String {
    let state = match (&status.damage, &status.manifest, &status.in_progress) {
        (Some(damage), ..) => format!("damaged: {damage}"),
        (None, Some(manifest), _) => format!("{} articles, {}", manifest.counts.articles, bytes(status.bytes)),
        (None, None, Some(_)) => "not finished".to_owned(),
        (None, None, None) => "empty".to_owned(),
    };
    format!("{}: {state}", status.name)
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    value: &'a T,
}

fn list(context: &Context, args: &KbListArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let home = engines::kb_home(&config)?;
    let all = kb::list(&home)?;
    if args.json {
        #[derive(Serialize)]
        struct List {
            schema_version: u32,
            knowledge_bases: Vec<Status>,
        }
        context.screen.json(&List { schema_version: SCHEMA_VERSION, knowledge_bases: all }, false)?;
    } else if all.is_empty() {
        context.screen.note(format_args!("no knowledge base in {}; build one with cicerone kb build", home.place()));
    } else {
        for status in &all {
            context.screen.line(summary(status))?;
        }
    }
    Ok(Exit::Done)
}

fn verify(context: &Context, args: &KbVerifyArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let home = engines::kb_home(&config)?;
    let manifest = kb::status(&home, name)?.manifest;
    // Embeddings are made again where there is what makes them.
    let retriever = match (args.without_retriever, engines::retriever_files(&config)) {
        (false, Ok(_)) if manifest.is_some() => Some(start_retriever(&context.screen, &config)?),
        _ => None,
    };
    let embedder = retriever.map(|retriever| DocumentEmbedder::new(retriever, picture_limits(&config)));
    let embedder = embedder.as_ref().map(|embedder| embedder as &dyn Embedder);
    let mut progress = Progress::new(&context.screen, "hashing", Unit::Bytes);
    let size = manifest.as_ref().map(|manifest| manifest.files.iter().map(|file| file.size).sum());
    let points = manifest.as_ref().map(|manifest| manifest.counts.points);
    let verified = kb::verify::verify(&home, name, embedder, |step| match step {
        Step::Hash(done) => progress.set(done, size),
        Step::Read(done) => {
            progress.rename("reading back", Unit::Things("points"));
            progress.set(done, points);
        }
    })?;
    drop(progress);
    if args.json {
        context.screen.json(&Versioned { schema_version: SCHEMA_VERSION, value: &verified }, false)?;
        return Ok(Exit::Done);
    }
    let Verified { manifest, embedded_again, orphans } = &verified;
    let files = manifest.files.len();
    context.screen.line(format_args!("{name}: whole ({} articles in {files} files)", manifest.counts.articles))?;
    match embedded_again {
        Some(n) => context.screen.line(format_args!("  {n} embeddings made again, and equal"))?,
        None => context.screen.line("  no embedding made again: there is no retriever to do it")?,
    }
    for orphan in orphans {
        context.screen.line(format_args!("  orphan: {orphan}"))?;
    }
    Ok(Exit::Done)
}

fn use_build(context: &Context, args: &KbUseArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let manifest = kb::manage::use_build(engines::kb_home(&config)?, &args.name, args.build)?;
    context.screen.line(format_args!("build {} of knowledge base {:?} is in use", args.build, args.name))?;
    describe(&context.screen, &manifest)?;
    Ok(Exit::Done)
}

fn drop_build(context: &Context, args: &KbDropArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let what = match args.build {
        Some(build) => format!("build {build} of knowledge base {:?}", args.name),
        None => format!("knowledge base {:?} with all its builds", args.name),
    };
    if !args.yes {
        return Err(Failure::new(Exit::Usage, "not_confirmed", format!("this removes {what} for good"))
            .hint("say so with --yes")
            .into());
    }
    kb::manage::drop_build(engines::kb_home(&config)?, &args.name, args.build)?;
    context.screen.line(format_args!("removed {what}"))?;
    Ok(Exit::Done)
}

fn export(context: &Context, args: &KbExportArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let home = engines::kb_home(&config)?;
    let total = kb::status(&home, name)?.manifest.map(|manifest| manifest.counts.points);
    let mut progress = Progress::new(&context.screen, "writing", Unit::Things("points"));
    let manifest = kb::manage::export(&home, name, &args.out, |done| progress.set(done, total))?;
    drop(progress);
    let (articles, vectors) = (args.out.join(kb::manage::ARTICLES), args.out.join(kb::manage::VECTORS));
    let kb::Counts { articles: n, embeddings, .. } = manifest.counts;
    context.screen.line(format_args!(
        "{n} articles in {}, {embeddings} embeddings in {}",
        articles.display(),
        vectors.display()
    ))?;
    context.screen.note(format_args!(
        "to build from them: cicerone kb build --source jsonl:{} --vectors {} --pictures {}",
        articles.display(),
        vectors.display(),
        manifest.pictures.root.display()
    ));
    Ok(Exit::Done)
}
