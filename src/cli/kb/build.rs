//! `cicerone kb build`

use super::stages::watched;
use super::{Versioned, describe};
use crate::cli::args::KbBuildArgs;
use crate::cli::context::{Context, picture_limits};
use crate::cli::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::cli::interrupt;
use crate::cli::progress::{Progress, Unit};
use crate::cli::screen::Screen;
use crate::config::Config;
use crate::io::pictures::PictureFiles;
use crate::kb::build::{Prospect, Timings, add, dry_run, remove};
use crate::kb::store::StoreConfig;
use crate::kb::vectors::VectorFile;
use crate::kb::{self, BuildEvent, BuildOptions, Embedder, KbError, Outcome, Recipe, Report, Source};
use crate::rag::engines::{self, DocumentEmbedder};
use crate::retriever::Retriever;
use crate::text::sanitise_line;

/// Runs the command.
pub(super) fn run(context: &Context, args: &KbBuildArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let mut options = options(&config, name)?;
    options.fresh = args.fresh;
    options.keep = args.keep.map_or(options.keep, usize::from);
    options.max_malformed = args.max_malformed.or(options.max_malformed);
    let urls = doomed(args)?;
    if !urls.is_empty() {
        let report = watched(&context.screen, |watch| remove(&options, &urls, watch))?;
        return tell(&context.screen, args.json, &report);
    }
    let spec = args.source.as_deref().ok_or_else(nothing_to_do)?;
    // The source is opened first: a wrong name should not cost the loading of models.
    let mut source = kb::source::open(spec).map_err(KbError::from)?;
    if args.pictures.is_some() || args.picture_layout.is_some() {
        let root = args.pictures.as_deref().unwrap_or(source.picture_root());
        let root = fs_err::canonicalize(root)?;
        let layout = args.picture_layout.clone().unwrap_or_default();
        options.pictures = Some(PictureFiles::with_layout(&root, layout)?);
    }
    if args.dry_run {
        let prospect = prospect(context, &config, &options, source.as_mut())?;
        return tell_prospect(context, args, &prospect);
    }
    let report = match &args.vectors {
        Some(path) => {
            let given = match &args.fingerprint {
                Some(fingerprint) => Some(fingerprint.clone()),
                None => engines::retriever_files(&config).ok().and_then(|files| files.fingerprint().ok()),
            };
            let vectors = VectorFile::open(path, args.keys.as_deref(), given.as_deref())?;
            build_over(&context.screen, &options, source.as_mut(), &vectors, args.add)?
        }
        None => {
            let retriever = start_retriever(&context.screen, &config)?;
            let embedder = DocumentEmbedder::new(retriever, picture_limits(&config));
            build_over(&context.screen, &options, source.as_mut(), &embedder, args.add)?
        }
    };
    tell(&context.screen, args.json, &report)
}

fn nothing_to_do() -> Failure {
    Failure::new(Exit::Usage, "no_source", "nothing to build from; name a source with --source KIND:PATH")
}

/// URLs of the articles to be removed, as given and as listed.
fn doomed(args: &KbBuildArgs) -> anyhow::Result<Vec<String>> {
    let mut urls = args.remove.clone();
    if let Some(path) = &args.remove_listed {
        let text = fs_err::read_to_string(path)?;
        urls.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(urls)
}

/// Tells what was done.
pub(super) fn tell(screen: &Screen, json: bool, report: &Report) -> anyhow::Result<Exit> {
    if json {
        screen.json(&Versioned { schema_version: SCHEMA_VERSION, value: report }, false)?;
    } else {
        screen.line(sentence(report))?;
        describe(screen, &report.manifest)?;
        if matches!(report.outcome, Outcome::Built | Outcome::Resumed) {
            screen.line(format_args!("  time       {}", spent(&report.timings)))?;
        }
    }
    Ok(Exit::Done)
}

/// Seconds of each stage.
fn spent(timings: &Timings) -> String {
    let stages = timings.by_name().map(|(name, time)| format!("{name} {:.1} s", time.as_secs_f64()));
    stages.join(", ")
}

/// Reads everything and says what would be built.
fn prospect(
    context: &Context,
    config: &Config,
    options: &BuildOptions,
    source: &mut dyn Source,
) -> anyhow::Result<Prospect> {
    let texts = engines::document_texts(config)?;
    let beyond = |text: &str| texts.beyond(text).unwrap_or(0);
    let guard = interrupt::guard();
    // Nothing is embedded or stored, so that there is nothing to tell of it.
    let mut progress = Progress::new(&context.screen, "reading", Unit::Bytes);
    Ok(dry_run(options, source, &beyond, guard.flag(), &mut |event| match event {
        BuildEvent::Progress { done, total, .. } => progress.set(done, total),
        BuildEvent::Note(text) => progress.note(&text),
    })?)
}

fn tell_prospect(context: &Context, args: &KbBuildArgs, prospect: &Prospect) -> anyhow::Result<Exit> {
    let screen = &context.screen;
    if args.json {
        screen.json(&Versioned { schema_version: SCHEMA_VERSION, value: prospect }, false)?;
        return Ok(Exit::Done);
    }
    let Prospect { source, counts, refused, texts_cut, tokens_cut, problems, timings } = prospect;
    screen.line(format_args!("{} would become", source.spec()))?;
    screen.line(format_args!("  articles   {} ({} sections)", counts.articles, counts.sections))?;
    screen.line(format_args!("  embeddings {} ({} with a picture)", counts.embeddings, counts.pictures))?;
    let without = counts.articles_without_picture;
    screen.line(format_args!("  pictures   {} missing, {without} articles without one", counts.pictures_missing))?;
    screen.line(format_args!("  cut        {tokens_cut} tokens of {texts_cut} texts"))?;
    screen.line(format_args!("  refused    {refused}"))?;
    for problem in problems {
        screen.line(format_args!("    {}", sanitise_line(problem)))?;
    }
    screen.line(format_args!("  time       read {:.1} s", timings.read.as_secs_f64()))?;
    Ok(Exit::Done)
}

/// Options of a build of `name`, as configured.
///
/// # Errors
/// A key of `[kb.build]` that the builder does not take.
pub fn options(config: &Config, name: &str) -> anyhow::Result<BuildOptions> {
    fn parsed<T: std::str::FromStr<Err = String>>(key: &str, text: &str) -> Result<T, Failure> {
        text.parse().map_err(|e| Failure::new(Exit::Usage, "config", format!("kb.build.{key}: {e}")))
    }
    let build = &config.kb.build;
    let recipe = Recipe {
        unit: parsed("unit", &build.unit)?,
        embed_text: parsed("embed_text", &build.embed_text)?,
        embed_image: build.embed_image,
        text_chars: build.text_chars,
        drop_sections: build.drop_sections().map(str::to_owned).collect(),
        batch: build.batch,
    };
    // The shape of its vectors comes from the retriever.
    let store = StoreConfig {
        words: build.words,
        quantization: parsed("quantization", &build.quantization)?,
        hnsw_m: build.hnsw_m,
        hnsw_ef_construct: build.hnsw_ef_construct,
        graph: build.graph,
        on_disk: build.on_disk,
        ..StoreConfig::new(0, 0)
    };
    Ok(BuildOptions {
        recipe,
        store,
        max_malformed: build.max_malformed(),
        keep: build.keep,
        ..BuildOptions::new(engines::kb_home(config)?, name)
    })
}

/// Starts the retriever's thread under a spinner.
///
/// # Errors
/// Missing or unusable files.
pub fn start_retriever(screen: &Screen, config: &Config) -> anyhow::Result<Retriever> {
    let _progress = Progress::new(screen, "loading the retriever", Unit::Things(""));
    Ok(engines::start_retriever(config)?)
}

/// Builds with progress, stopping in good order on Ctrl-C.
///
/// # Errors
/// [`KbError`].
pub fn build_with(
    screen: &Screen,
    config: &Config,
    options: &BuildOptions,
    source: &mut dyn Source,
    retriever: &Retriever,
) -> anyhow::Result<Report> {
    let embedder = DocumentEmbedder::new(retriever.clone(), picture_limits(config));
    Ok(build_over(screen, options, source, &embedder, false)?)
}

fn build_over(
    screen: &Screen,
    options: &BuildOptions,
    source: &mut dyn Source,
    embedder: &dyn Embedder,
    adds: bool,
) -> Result<Report, KbError> {
    let guard = interrupt::guard();
    watched(screen, |watch| {
        let run = if adds { add } else { kb::build };
        run(options, source, embedder, guard.flag(), watch)
    })
}

/// What a build did, in a sentence.
#[must_use]
pub fn sentence(report: &Report) -> String {
    let how = match report.outcome {
        Outcome::Built => "built",
        Outcome::Resumed => "built, going on from where it had stopped,",
        Outcome::Swapped => "put in use (it was finished already)",
        Outcome::UpToDate => "is up to date",
    };
    format!("knowledge base {:?} {how} in {:.1} s", report.manifest.name, report.seconds)
}
