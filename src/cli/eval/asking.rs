//! Questions of a data set as they are asked, and what is kept of the answers.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::args::SampleArgs;
use super::super::context::{Background, Context};
use super::super::interrupt::Guard;
use super::super::progress::{Progress, Unit};
use super::super::starter;
use crate::config::Config;
use crate::eval::Question;
use crate::eval::abstention::Signals;
use crate::eval::answers::{self, Answers, Mode, Reply, Shown};
use crate::eval::dataset::pictures;
use crate::io::pictures::Layout;
use crate::rag::engines::{self, Engines};
use crate::rag::{self, Answer, Outcome, Pipeline, QuestionImage};

/// The questions of a folder, and what they are asked of.
pub struct Asking {
    /// The configuration that was opened.
    pub config: Config,
    /// Hash of the file of questions.
    pub data: String,
    /// Every question of it.
    pub all: Vec<Question>,
    /// Runs the engines.
    pub runtime: Background,
    /// The engines.
    pub engines: Engines,
}

impl Asking {
    /// Reads the questions, by default the starter's, and opens the engines.
    ///
    /// # Errors
    /// Those of the rooms that do it.
    pub fn open(context: &Context, data: Option<&Path>, generate: bool) -> anyhow::Result<Self> {
        let config = starter::config(context)?;
        let dir = starter::data_dir(data)?;
        let mut all = starter::questions(context, &dir)?;
        pictures::find(&mut all, &dir.join("images"), &Layout::Flat, None)?;
        let data = crate::io::hash::blake3_file(&dir.join("questions.csv"))?;
        let retriever = starter::prepare(context, &config, generate)?;
        let runtime = context.runtime()?;
        let _progress = Progress::new(&context.screen, "loading the models", Unit::Things(""));
        let engines = engines::open(&config, retriever, generate, runtime.handle())?;
        Ok(Self { config, data, all, runtime, engines })
    }

    /// The questions that are asked.
    pub fn sample(&self, args: &SampleArgs) -> Vec<&Question> {
        answers::sample(&self.all, args.limit, args.seed)
    }
}

/// The picture of a question; `None` for one that names none.
///
/// # Errors
/// A picture that is not there.
pub fn picture(question: &Question) -> anyhow::Result<Option<QuestionImage>> {
    match (&question.picture, question.image_ids.first()) {
        (Some(path), _) => Ok(Some(QuestionImage::Path(path.clone()))),
        (None, Some(id)) => Err(anyhow::anyhow!("its picture {id} is not there; see `eval.pictures`")),
        (None, None) => Ok(None),
    }
}

/// A question as it is searched for: its text may be empty where its picture is the query.
///
/// # Errors
/// A picture that is not there.
pub fn query(question: &Question) -> anyhow::Result<rag::Question> {
    Ok(rag::Question::new(&question.text, picture(question)?))
}

/// A question as it is asked.
///
/// # Errors
/// A picture that is not there; a mode that asks for an article where the question names none.
pub fn ask(question: &Question, mode: Mode) -> anyhow::Result<rag::Question> {
    let image = picture(question)?;
    let url = || question.urls.first().cloned();
    let entity = |url: Option<String>| match url {
        Some(url) => Ok(rag::Mode::OracleEntity { url }),
        None => Err(anyhow::anyhow!("question {} names no article", question.id)),
    };
    let mode = match mode {
        Mode::Retrieved | Mode::Predicted => rag::Mode::Retrieved,
        Mode::NoRetrieval => rag::Mode::NoRetrieval,
        Mode::OracleEntity => entity(url())?,
        Mode::OraclePassage => match (url(), question.section_ids.first()) {
            (Some(url), Some(section)) => rag::Mode::OraclePassage { url, section: *section },
            (url, _) => entity(url)?,
        },
    };
    Ok(rag::Question::new(&question.text, image).with_mode(mode))
}

/// What is kept of an answer.
pub fn reply(answer: &Answer) -> Reply {
    let shown = |passage: &rag::Passage| Shown {
        url: passage.url.clone(),
        title: passage.title.clone(),
        section: passage.section.clone(),
        section_index: passage.section_index,
        text: passage.text.clone(),
    };
    Reply {
        answer: answer.plain.clone(),
        remembered: false,
        passages: answer.passages.iter().map(shown).collect(),
        entity: answer.entity.as_ref().map(|entity| entity.url.clone()),
        abstained: match &answer.outcome {
            Outcome::NotInKnowledgeBase { reason, .. } => Some(reason.clone()),
            _ => None,
        },
        signals: Signals {
            score: answer.candidates.first().map(|candidate| candidate.score),
            margin: answer.entity.as_ref().and_then(|entity| entity.margin),
            section: answer.section_score,
        },
    }
}

/// Everything that decides the answers, for the head of a log: a log of another run is refused.
pub fn about(pipeline: &Pipeline, config: &Config, data: &str, questions: usize, seed: u64) -> Value {
    let parts = pipeline.parts();
    let mut rag = json!(config.rag);
    // Longer patience changes no answer.
    if let Some(rag) = rag.as_object_mut() {
        rag.remove("timeout_s");
    }
    json!({
        "data": data,
        "questions": { "number": questions, "seed": seed },
        "knowledge_base": parts.search.about(),
        "retriever": parts.encoder.about(),
        "ranker": parts.ranker.about(),
        "reader": parts.generator.as_ref().map(|generator| generator.info().clone()),
        "prompts": parts.prompts.fingerprint(),
        "rag": rag,
        "max_tokens": config.generator.max_tokens,
        "sampling": { "temperature": config.generator.temperature, "seed": config.generator.seed },
    })
}

/// Asks every question in every mode, shows how far it is, and stops at Ctrl-C. `log` is a file and what stands at its
/// head.
///
/// # Errors
/// Those of [`answers::run`].
pub fn run(
    context: &Context,
    runtime: &Runtime,
    pipeline: &Pipeline,
    (questions, modes): (&[&Question], &[Mode]),
    log: Option<(PathBuf, Value)>,
    what: &str,
    guard: &Guard,
) -> anyhow::Result<Answers> {
    let mut progress = Progress::new(&context.screen, what, Unit::Things("answers"));
    if let Some(folder) = log.as_ref().and_then(|(path, _)| path.parent()) {
        fs_err::create_dir_all(folder)?;
    }
    let done = answers::run(
        questions,
        modes,
        log.as_ref().map(|(path, run)| (path.as_path(), run)),
        |question, mode| {
            let asked = ask(question, mode).map_err(|e| e.to_string())?;
            runtime.block_on(pipeline.answer(asked)).map(|answer| reply(&answer)).map_err(|e| e.to_string())
        },
        |state| {
            progress.set_with(state.done as u64, Some(state.total as u64), vec![running(&state)]);
            if guard.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )?;
    Ok(done)
}

/// How it looks so far.
pub fn running(state: &answers::Progress) -> String {
    let right = state.correct_in_mode as f64 / state.done_in_mode.max(1) as f64;
    let failed = if state.failed > 0 { format!(", {} failed", state.failed) } else { String::new() };
    format!("{}: {right:.3} right of {}{failed}", state.mode, state.done_in_mode)
}
