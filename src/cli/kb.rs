//! `cicerone kb`: the life of knowledge bases.

use std::path::Path;

use serde::Serialize;

use super::args::{KbArgs, KbBuildArgs, KbCommand, KbListArgs, KbSearchArgs, KbStatusArgs};
use super::context::{Context, open_picture, picture_limits};
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::interrupt;
use super::progress::{Progress, Unit, bytes};
use super::screen::Screen;
use crate::config::Config;
use crate::kb::build::Stage;
use crate::kb::store::StoreConfig;
use crate::kb::{self, BuildEvent, BuildOptions, Hit, KnowledgeBase, Manifest, Outcome, Recipe, Report, Status};
use crate::rag::engines::{self, DocumentEmbedder};
use crate::retriever::{Item, Retriever};
use crate::text::sanitise_line;

/// Runs the command.
pub fn run(context: &Context, args: &KbArgs) -> anyhow::Result<Exit> {
    match &args.command {
        KbCommand::Build(args) => build(context, args),
        KbCommand::Status(args) => status(context, args),
        KbCommand::List(args) => list(context, args),
        KbCommand::Search(args) => search(context, args),
        KbCommand::Verify(args) => verify(context, args),
    }
}

fn build(context: &Context, args: &KbBuildArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let mut options = options(&config, name)?;
    options.fresh = args.fresh;
    options.keep = args.keep.map_or(options.keep, usize::from);
    options.max_malformed = args.max_malformed.or(options.max_malformed);
    // The source is opened first: a wrong name should not cost the loading of models.
    let mut source = kb::source::open(&args.source).map_err(kb::KbError::from)?;
    let retriever = start_retriever(&context.screen, &config)?;
    let report = build_with(&context.screen, &config, &options, source.as_mut(), &retriever)?;
    if args.json {
        #[derive(Serialize)]
        struct Built<'a> {
            schema_version: u32,
            #[serde(flatten)]
            report: &'a Report,
        }
        context.screen.json(&Built { schema_version: SCHEMA_VERSION, report: &report }, false)?;
    } else {
        context.screen.line(sentence(&report))?;
        describe(&context.screen, &report.manifest)?;
    }
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
        on_disk: build.on_disk,
        ..StoreConfig::new(0, 0)
    };
    Ok(BuildOptions {
        recipe,
        store,
        max_malformed: build.max_malformed(),
        keep: build.keep,
        ..BuildOptions::new(&config.kb_root(), name)
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
/// [`kb::KbError`].
pub fn build_with(
    screen: &Screen,
    config: &Config,
    options: &BuildOptions,
    source: &mut dyn kb::Source,
    retriever: &Retriever,
) -> anyhow::Result<Report> {
    let embedder = DocumentEmbedder::new(retriever.clone(), picture_limits(config));
    let guard = interrupt::guard();
    let mut progress = Progress::new(screen, "embedding", Unit::Bytes);
    let report = kb::build(options, source, &embedder, guard.flag(), &mut |event| match event {
        BuildEvent::Note(text) => progress.note(&text),
        BuildEvent::Progress { stage, done, total } => {
            match stage {
                Stage::Embed => progress.rename("embedding", Unit::Bytes),
                Stage::Index => progress.rename("indexing", Unit::Things("")),
                Stage::Verify => progress.rename("reading back", Unit::Things("points")),
                Stage::Hash => progress.rename("hashing", Unit::Bytes),
            }
            progress.set(done, total);
        }
    })?;
    Ok(report)
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
    let status = kb::status(&config.kb_root(), name)?;
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
    let all = kb::list(&config.kb_root())?;
    if args.json {
        #[derive(Serialize)]
        struct List {
            schema_version: u32,
            knowledge_bases: Vec<Status>,
        }
        context.screen.json(&List { schema_version: SCHEMA_VERSION, knowledge_bases: all }, false)?;
    } else if all.is_empty() {
        context.screen.note(format_args!(
            "no knowledge base in {}; build one with cicerone kb build",
            config.kb_root().display()
        ));
    } else {
        for status in &all {
            context.screen.line(summary(status))?;
        }
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct SearchOutput<'a> {
    schema_version: u32,
    knowledge_base: &'a str,
    fingerprint: &'a str,
    hits: Vec<HitOutput<'a>>,
}

#[derive(Serialize)]
struct HitOutput<'a> {
    rank: usize,
    score: f32,
    title: &'a str,
    url: &'a str,
    image: Option<std::path::PathBuf>,
    sections: usize,
}

fn search(context: &Context, args: &KbSearchArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let text = args.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if text.is_none() && args.image.is_none() {
        return Err(Failure::new(Exit::Usage, "empty_query", "nothing to search for; give a text, a picture or both")
            .hint("cicerone kb search \"Which country is this?\" --image FLAG.png")
            .into());
    }
    let image = args.image.as_deref().map(|path| open_picture(&config, path)).transpose()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    kb::status(&config.kb_root(), name)?;
    let retriever = start_retriever(&context.screen, &config)?;
    let base = KnowledgeBase::open(&config.kb_root(), name, Some(retriever.fingerprint()))?;
    let embedding = retriever.encode_query(Item { text: text.map(str::to_owned), image })?;
    let hits = base.search(&embedding.into_values(), text, args.top_k.map_or(config.kb.top_k, usize::from))?;
    if args.json {
        let hits = hits.iter().enumerate().map(|(i, hit)| HitOutput {
            rank: i + 1,
            score: hit.score,
            title: &hit.article.title,
            url: &hit.article.url,
            image: base.picture(&hit.article),
            sections: hit.article.sections.len(),
        });
        let output = SearchOutput {
            schema_version: SCHEMA_VERSION,
            knowledge_base: name,
            fingerprint: retriever.fingerprint(),
            hits: hits.collect(),
        };
        context.screen.json(&output, false)?;
    } else {
        for (i, hit) in hits.iter().enumerate() {
            context.screen.line(hit_line(i + 1, hit))?;
        }
    }
    Ok(Exit::Done)
}

fn hit_line(rank: usize, hit: &Hit) -> String {
    let (title, url) = (sanitise_line(&hit.article.title), sanitise_line(&hit.article.url));
    format!("{rank:>3}  {:.3}  {title}  {url}", hit.score)
}

fn verify(context: &Context, args: &KbStatusArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let root = config.kb_root();
    let total = total_bytes(&root, name);
    let mut progress = Progress::new(&context.screen, "hashing", Unit::Bytes);
    let base = KnowledgeBase::verify(&root, name, |done| progress.set(done, total))?;
    drop(progress);
    let manifest = base.manifest();
    if args.json {
        context.screen.json(&Versioned { schema_version: SCHEMA_VERSION, value: manifest }, false)?;
    } else {
        let files = manifest.files.len();
        context.screen.line(format_args!("{name}: whole ({} articles in {files} files)", manifest.counts.articles))?;
    }
    Ok(Exit::Done)
}

fn total_bytes(root: &Path, name: &str) -> Option<u64> {
    let manifest = kb::status(root, name).ok()?.manifest?;
    Some(manifest.files.iter().map(|file| file.size).sum())
}
