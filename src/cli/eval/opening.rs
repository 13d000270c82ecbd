//! The questions of an evaluation, as they are configured, and what is said of them.

use std::path::PathBuf;

use super::super::args::DataArgs;
use super::super::context::Context;
use super::super::failure::{Exit, Failure};
use super::super::starter;
use crate::config::Config;
use crate::eval::Question;
use crate::eval::answers::{Mode, sample};
use crate::eval::dataset::pictures::{self, Pictures};
use crate::eval::dataset::{self, Files};
use crate::eval::run::{DataFacts, Shard};

/// What is asked.
pub struct Opened {
    /// The configuration, with what the command line says over it.
    pub config: Config,
    /// The files.
    pub files: Files,
    /// Their hash.
    pub hash: String,
    /// The questions that are asked, each with its picture's file where there is one.
    pub questions: Vec<Question>,
    /// How many there are of all parts.
    pub sampled: usize,
    /// What was read.
    pub facts: DataFacts,
}

/// Reads the questions and looks for their pictures, where these are wanted.
///
/// # Errors
/// The configuration's, the data set's, or exit code 2 where no questions are named.
pub fn open(
    context: &Context,
    args: &DataArgs,
    modes: Option<&str>,
    (shard, look_for_pictures): (Option<Shard>, bool),
) -> anyhow::Result<Opened> {
    let path = |key: &str, path: &Option<PathBuf>| path.as_ref().map(|path| format!("eval.{key}={}", path.display()));
    let text = |key: &str, text: Option<&str>| text.map(|text| format!("eval.{key}={text}"));
    let set: Vec<String> = [
        path("questions", &args.questions),
        path("pictures", &args.pictures),
        text("dataset", args.dataset.as_deref()),
        text("modes", modes),
    ]
    .into_iter()
    .flatten()
    .collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let config = starter::config_with(context, &set)?;
    let part = &config.eval;
    let given = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    let Some(questions) = given(&part.questions) else {
        let message = "`eval.questions` names no file; there are no questions to ask";
        return Err(Failure::new(Exit::Usage, "data", message)
            .hint("--questions FILE, or set it in the configuration")
            .into());
    };
    let files = Files {
        format: part.dataset.parse()?,
        questions,
        qtype: given(&part.qtype),
        withkb: given(&part.withkb),
        qrels: given(&part.qrels),
        two_hop: part.two_hop,
    };
    let set = dataset::open(&files)?;
    let hash = files.hash()?;
    let mut asked: Vec<Question> =
        sample(&set.questions, args.limit.unwrap_or(usize::MAX), args.seed).into_iter().cloned().collect();
    let sampled = asked.len();
    if let Some(shard) = shard {
        asked = shard.questions(asked);
    }
    let found = match given(&part.pictures).filter(|_| look_for_pictures) {
        Some(root) => {
            // The configuration allows no other layouts.
            let layout = part.picture_layout.parse().unwrap_or_default();
            pictures::find(&mut asked, &root, &layout, given(&part.picture_map).as_deref())?
        }
        None => Pictures::of(&asked),
    };
    let facts = DataFacts {
        name: files.name(),
        usable: set.questions.len(),
        dirty: set.dirty.len(),
        first_dirty: set.dirty.first().map(ToString::to_string),
        two_hop: set.two_hop,
        pictures: found,
    };
    Ok(Opened { config, files, hash, questions: asked, sampled, facts })
}

/// Where the passages are to come from; the configuration allows no other words.
pub fn modes(config: &Config) -> Vec<Mode> {
    const ALL: [Mode; 4] = [Mode::Retrieved, Mode::OracleEntity, Mode::OraclePassage, Mode::NoRetrieval];
    let wanted: Vec<&str> = config.eval.modes().collect();
    ALL.into_iter().filter(|mode| wanted.contains(&mode.name())).collect()
}
