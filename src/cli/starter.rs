//! The starter, made ready: models fetched, knowledge base built, its pictures and questions read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{kb as kb_command, models};
use crate::config::{Config, starter_dir};
use crate::eval::dataset::evqa;
use crate::eval::{DataSet, EvalError, Question};
use crate::io::safe_join;
use crate::kb::{self, Outcome};
use crate::rag::engines;
use crate::retriever::{Item, Picture, PictureLimits, Retriever};
use crate::text::sanitise_line;

/// The configuration of commands that measure: the starter's, unless `--config` names a file.
///
/// # Errors
/// [`crate::config::ConfigError`].
pub fn config(context: &Context) -> anyhow::Result<Config> {
    config_with(context, &[])
}

/// As [`config`], with further keys set.
///
/// # Errors
/// [`crate::config::ConfigError`].
pub fn config_with(context: &Context, set: &[&str]) -> anyhow::Result<Config> {
    let all: Vec<String> = context.global.set.iter().cloned().chain(set.iter().map(|key| (*key).to_owned())).collect();
    Ok(match &context.global.config {
        Some(file) => Config::load(Some(file), &all)?.config,
        None => Config::load_starter(&all)?.config,
    })
}

/// Fetches the starter's models where some are missing. Nothing is fetched for a configuration of the user's own.
///
/// # Errors
/// [`crate::models::ModelsError`].
pub fn fetch(context: &Context, config: &Config) -> anyhow::Result<()> {
    if context.global.config.is_none() { models::fetch_missing(context, config, &["starter"]) } else { Ok(()) }
}

/// Fetches the models, starts the retriever, and builds the knowledge base where it is not up to date.
///
/// # Errors
/// Those of the rooms that do it.
pub fn prepare(context: &Context, config: &Config, generate: bool) -> anyhow::Result<Retriever> {
    fetch(context, config)?;
    engines::check_files(config, generate && cfg!(feature = "mistral"))?;
    let retriever = kb_command::start_retriever(&context.screen, config)?;
    if context.global.config.is_none() {
        let file = starter_dir()?.join("kb.jsonl");
        let mut source = kb::source::open(&format!("evqa:{}", file.display())).map_err(kb::KbError::from)?;
        let options = kb_command::options(config, &config.kb.name)?;
        let report = kb_command::build_with(&context.screen, config, &options, source.as_mut(), &retriever)?;
        if report.outcome != Outcome::UpToDate {
            context.screen.note(kb_command::sentence(&report));
        }
    }
    Ok(retriever)
}

/// Folder of pictures, articles and questions: as named, or the starter's.
///
/// # Errors
/// Exit code 2 for one without `kb.jsonl`.
pub fn data_dir(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match named {
        Some(dir) => dir.to_owned(),
        None => starter_dir()?,
    };
    if dir.join("kb.jsonl").is_file() {
        return Ok(dir);
    }
    let message = format!("{}: no kb.jsonl in it; expected kb.jsonl, images.csv and questions.csv", dir.display());
    Err(Failure::new(Exit::Usage, "data", message)
        .hint("set CICERONE_STARTER_DIR to the source tree's data/starter")
        .into())
}

/// A picture of an entity, a row of `images.csv`.
#[derive(Debug, Clone, Deserialize)]
pub struct Drawing {
    /// The entity's article.
    pub entity_url: String,
    /// Style it is drawn in.
    pub style: String,
    /// `train` or `test`.
    pub split: String,
    /// Relative to the folder.
    pub path: String,
}

/// Rows of `images.csv` that are of `split`.
///
/// # Errors
/// [`EvalError`], or exit code 2 for a split without pictures.
pub fn drawings(dir: &Path, split: &str) -> anyhow::Result<Vec<Drawing>> {
    let path = dir.join("images.csv");
    let failed = |e: csv::Error| EvalError::Csv { path: path.clone(), reason: e.to_string() };
    let mut reader = csv::Reader::from_reader(fs_err::File::open(&path).map_err(EvalError::from)?);
    let rows: Vec<Drawing> = reader.deserialize().collect::<Result<_, _>>().map_err(failed)?;
    let mut splits: Vec<String> = rows.iter().map(|row| row.split.clone()).collect();
    let found: Vec<Drawing> = rows.into_iter().filter(|row| row.split == split).collect();
    if found.is_empty() {
        splits.sort();
        splits.dedup();
        let message = format!("{}: no picture of split {split:?}; found {}", path.display(), splits.join(", "));
        return Err(Failure::new(Exit::Usage, "split", message).into());
    }
    Ok(found)
}

/// The pictures of `split` as items, each with a question about its entity, or alone.
///
/// # Errors
/// [`EvalError`], [`crate::retriever::PictureError`], or exit code 2 for a name that leads elsewhere.
pub fn items(
    context: &Context,
    dir: &Path,
    drawings: &[Drawing],
    limits: &PictureLimits,
    with_question: bool,
) -> anyhow::Result<Vec<Item>> {
    let questions = questions(context, dir)?;
    let texts = question_of_each(&questions);
    let item = |drawing: &Drawing| {
        let image = Some(Picture::open(&safe_join(dir, &drawing.path)?, limits)?);
        let text = texts.get(drawing.entity_url.as_str()).filter(|_| with_question).map(|&text| text.to_owned());
        Ok(Item { text, image })
    };
    drawings.iter().map(item).collect()
}

/// The shipped questions.
///
/// # Errors
/// [`EvalError`].
pub fn questions(context: &Context, dir: &Path) -> anyhow::Result<Vec<Question>> {
    let DataSet { questions, dirty, .. } = evqa::read(&dir.join("questions.csv"), evqa::Options::default())?;
    if let Some(first) = dirty.first() {
        let first = sanitise_line(&first.to_string());
        context.screen.note(format_args!("questions.csv: {} rows left out (first: {first})", dirty.len()));
    }
    Ok(questions)
}

/// The picture of a question, if it names one.
///
/// # Errors
/// Exit code 2 for a name that leads elsewhere.
pub fn picture(dir: &Path, question: &Question) -> anyhow::Result<Option<PathBuf>> {
    match question.image_ids.first() {
        Some(id) => Ok(Some(safe_join(&dir.join("images"), &format!("{id}.png"))?)),
        None => Ok(None),
    }
}

/// One question of each entity: always the same one, but not of the same kind for all.
#[must_use]
pub fn question_of_each(questions: &[Question]) -> HashMap<&str, &str> {
    let mut by_entity: HashMap<&str, Vec<&str>> = HashMap::new();
    for question in questions {
        if let [url] = question.urls.as_slice() {
            by_entity.entry(url).or_default().push(&question.text);
        }
    }
    let mut chosen = HashMap::new();
    for (url, texts) in by_entity {
        let at = usize::from(blake3::hash(url.as_bytes()).as_bytes()[0]) % texts.len();
        chosen.insert(url, texts[at]);
    }
    chosen
}
