//! `cicerone eval run`: a benchmark from its questions to its report, in stages that are kept apart: what is found, what is
//! answered in each mode, what BEM says.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::super::args::EvalRunArgs;
use super::super::context::Context;
use super::super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::super::interrupt::{self, Guard};
use super::super::progress::{Progress, Unit};
use super::super::starter;
use super::asking;
use super::opening::{self, Opened};
use super::reporting;
use crate::config::Config;
use crate::eval::Question;
use crate::eval::answers::{self, Mode};
use crate::eval::audit::Audit;
use crate::eval::retrieved::{self, Candidate, Options, Retrievals};
use crate::eval::run::{FORMAT, Manifest, RunFolder};
use crate::generator::{Generator, Remembering};
use crate::kb::{Article, Found, Hit};
use crate::rag::engines::{self, Engines};
use crate::rag::{About, FoundBefore, PartError, Parts, Pipeline, QueryEncoder, Settings};
use crate::retriever::Item;

/// Everything that decides what is found, of all that decides the answers.
const RETRIEVAL: [&str; 6] = ["data", "questions", "knowledge_base", "retriever", "candidates", "program"];

/// Runs the command.
pub fn run(context: &Context, args: &EvalRunArgs) -> anyhow::Result<Exit> {
    let opened = opening::open(context, &args.data, args.modes.as_deref(), (args.shard, true))?;
    if args.audit {
        return audit(context, &opened, args.print.json);
    }
    let config = &opened.config;
    let modes = if args.retrieval_only { Vec::new() } else { opening::modes(config) };
    let generate = !modes.is_empty();
    let missing = opened.facts.pictures.named - opened.facts.pictures.found;
    if missing > 0 {
        let named = opened.facts.pictures.named;
        context.screen.note(format_args!("{missing} of {named} pictures are missing; their questions will fail"));
    }

    engines::bem_files(config)?;
    let retriever = starter::prepare(context, config, generate)?;
    let runtime = context.runtime()?;
    let progress = Progress::new(&context.screen, "loading the models", Unit::Things(""));
    let engines = engines::open(config, retriever, generate, runtime.handle())?;
    drop(progress);

    let manifest = manifest(&opened, &engines, args, &modes);
    let dir = args.out.clone().unwrap_or_else(|| default_out(context, config, &manifest));
    let folder = RunFolder::open(&dir, manifest, opened.questions.clone())?;
    let (config, guard) = (&opened.config, interrupt::guard());
    let searched = args.retrieval_only || modes.contains(&Mode::Retrieved);
    let mut found = Retrievals::new();
    if searched {
        if let Some(from) = &args.retrieval {
            folder.take_over(&RunFolder::read(from)?)?;
        }
        let parts = engines.pipeline.parts();
        let encoder = Arc::new(OneByOne { encoder: Arc::clone(&parts.encoder), turn: Mutex::new(()) });
        let pipeline = Pipeline::new(Parts { encoder, ..parts.clone() }, engines.pipeline.settings().clone());
        found = search(context, &runtime, &pipeline, config, &folder, &guard)?;
    }
    if !guard.is_asked() && generate {
        answer(context, &runtime, engines, &folder, (&modes, &found), &guard)?;
    }
    if guard.is_asked() {
        let dir = folder.dir().display();
        context.screen.note(format_args!("stopped; the same command goes on from {dir}"));
    }
    reporting::finish(context, config, &folder, (&args.page, &args.print), &guard, true)
}

/// An encoder that never makes a batch of two questions. A neighbour in a batch moves the last bit of a score, and which
/// questions meet there is a matter of time: a run that was cut off would not find what a whole one finds.
struct OneByOne {
    encoder: Arc<dyn QueryEncoder>,
    turn: Mutex<()>,
}

impl QueryEncoder for OneByOne {
    fn about(&self) -> About {
        self.encoder.about()
    }

    fn encode(&self, item: Item) -> Result<Vec<f32>, PartError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.encoder.encode(item)
    }
}

/// Where a run goes that is not told where: to a folder called as its configuration and by its settings, so that the same
/// command goes on and another one does not meet it.
fn default_out(context: &Context, config: &Config, manifest: &Manifest) -> PathBuf {
    let file = context.global.config.as_deref().and_then(Path::file_stem);
    let name = file.map_or_else(|| "starter".into(), |stem| stem.to_string_lossy().into_owned());
    let settings = json!({ "run": manifest.run, "shard": manifest.shard }).to_string();
    let hash = blake3::hash(settings.as_bytes()).to_hex();
    config.paths.data_dir.join("runs").join(format!("{name}-{}", &hash[..8]))
}

fn manifest(opened: &Opened, engines: &Engines, args: &EvalRunArgs, modes: &[Mode]) -> Manifest {
    let (config, seed) = (&opened.config, args.data.seed);
    let mut run = asking::about(&engines.pipeline, config, &opened.hash, opened.sampled, seed);
    let files = &opened.files;
    run["data"] = json!({
        "name": files.name(), "format": files.format, "hash": opened.hash, "two_hop": files.two_hop,
    });
    run["candidates"] = json!(config.eval.candidates.max(config.rag.candidates));
    run["program"] = json!(env!("CARGO_PKG_VERSION"));
    let retrieval: Value =
        RETRIEVAL.into_iter().map(|key| (key.to_owned(), run[key].clone())).collect::<serde_json::Map<_, _>>().into();
    let mut knowledge_base = json!(engines.kb.manifest());
    if let Some(of) = knowledge_base.as_object_mut() {
        // Its files are told by its hash, and where its pictures lie is this machine's.
        of.retain(|key, _| key != "files" && key != "pictures");
    }
    Manifest {
        format: FORMAT,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        retrieval,
        run,
        shard: args.shard,
        modes: modes.to_vec(),
        data: opened.facts.clone(),
        knowledge_base,
    }
}

fn search(
    context: &Context,
    runtime: &Runtime,
    pipeline: &Pipeline,
    config: &Config,
    folder: &RunFolder,
    guard: &Guard,
) -> anyhow::Result<Retrievals> {
    let questions: Vec<&Question> = folder.questions().iter().collect();
    let k = config.eval.candidates.max(config.rag.candidates);
    let options = Options { concurrency: config.eval.concurrency, keep: config.rag.candidates };
    let head = folder.retrieval_head();
    let mut progress = Progress::new(&context.screen, "searching", Unit::Things("questions"));
    let find = |question: &Question| -> Result<Vec<Candidate>, String> {
        let asked = asking::query(question).map_err(|e| e.to_string())?;
        let pipeline = instructed(pipeline, config, question);
        let hits = runtime.block_on(pipeline.search(&asked, k)).map_err(|e| e.to_string())?;
        Ok(hits.into_iter().filter(|hit| hit.score.is_finite()).map(|hit| candidate(question, hit)).collect())
    };
    let found = retrieved::run(&questions, (&folder.retrieval_log(), &head), options, find, |done, total| {
        progress.set(done as u64, Some(total as u64));
        if guard.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// The pipeline with the instruction of a question that has its own, where the configuration has none.
fn instructed(pipeline: &Pipeline, config: &Config, question: &Question) -> Pipeline {
    if question.instruction.is_empty() || !config.retriever.instruction.is_empty() {
        return pipeline.clone();
    }
    let instruction = question.instruction.clone();
    pipeline.with_settings(Settings { instruction, ..pipeline.settings().clone() })
}

fn candidate(question: &Question, hit: Hit) -> Candidate {
    let part = hit.part;
    let lower = |text: &str| text.to_lowercase();
    let sections = &hit.article.sections;
    let holds = !question.written.is_empty()
        && match part {
            Some(Found { section, picture: None }) => {
                sections.get(section).is_some_and(|section| question.is_held_by(&lower(&section.text)))
            }
            _ => sections.iter().any(|section| question.is_held_by(&lower(&section.text))),
        };
    Candidate {
        section: part.filter(|part| part.picture.is_none()).map(|part| part.section),
        picture: part.and_then(|part| part.picture),
        url: hit.article.url,
        title: hit.article.title,
        score: hit.score,
        holds,
    }
}

/// Articles that were found, each with its best part, as a search for articles gives them.
fn best_of_each(found: &[Candidate]) -> Vec<FoundBefore> {
    let first = |n: &usize| found[..*n].iter().all(|before| before.url != found[*n].url);
    (0..found.len()).filter(first).map(|n| before(&found[n])).collect()
}

fn before(candidate: &Candidate) -> FoundBefore {
    let part = match (candidate.section, candidate.picture) {
        (None, None) => None,
        (section, picture) => Some(Found { section: section.unwrap_or_default(), picture }),
    };
    FoundBefore { url: candidate.url.clone(), score: candidate.score, part }
}

fn answer(
    context: &Context,
    runtime: &Runtime,
    engines: Engines,
    folder: &RunFolder,
    (modes, found): (&[Mode], &Retrievals),
    guard: &Guard,
) -> anyhow::Result<()> {
    // Where the right article was found, it gives the same prompt as being told of it.
    let greedy = engines.pipeline.settings().sampling.is_none();
    let remembering = engines.generator.filter(|_| greedy).map(|generator| Arc::new(Remembering::new(generator)));
    let pipeline = match &remembering {
        Some(generator) => engines.pipeline.with_generator(Some(Arc::clone(generator) as Arc<dyn Generator>)),
        None => engines.pipeline,
    };
    let counts = || remembering.as_ref().map_or((0, 0), |generator| generator.counts());
    let questions: Vec<&Question> = folder.questions().iter().collect();
    let (log, head) = (folder.answer_log(), folder.answer_head());
    let mut progress = Progress::new(&context.screen, "answering", Unit::Things("answers"));
    let ask = |question: &Question, mode: Mode| {
        let mut asked = asking::ask(question, mode).map_err(|e| e.to_string())?;
        if mode == Mode::Retrieved {
            match found.get(&question.id) {
                Some(found) if found.error.is_none() => {
                    asked = asked.with_found(best_of_each(&found.first));
                }
                Some(found) => return Err(found.error.clone().unwrap_or_default()),
                None => return Err("it was not searched for".to_owned()),
            }
        }
        let before = counts();
        let answer = runtime.block_on(pipeline.answer(asked)).map_err(|e| e.to_string())?;
        let mut reply = asking::reply(&answer);
        // Where the reader was asked for anything at all, it took its time.
        let after = counts();
        reply.remembered = after.0 == before.0 && after.1 > before.1;
        Ok(reply)
    };
    answers::run(&questions, modes, Some((&log, &head)), ask, |state| {
        progress.set_with(state.done as u64, Some(state.total as u64), vec![asking::running(&state)]);
        if guard.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(())
}

/// Sees whether data and knowledge base fit.
fn audit(context: &Context, opened: &Opened, json: bool) -> anyhow::Result<Exit> {
    if context.global.config.is_none() {
        starter::prepare(context, &opened.config, false)?;
    }
    let kb = engines::open_kb(&opened.config)?;
    let mut progress = Progress::new(&context.screen, "looking at the questions", Unit::Things("questions"));
    let total = opened.questions.len() as u64;
    let guard = interrupt::guard();
    let article = |url: &str| -> anyhow::Result<Option<Article>> {
        if guard.is_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        }
        Ok(kb.article(url)?)
    };
    let audit = Audit::new(&opened.questions, &opened.facts, article, |n| progress.set(n as u64, Some(total)))?;
    drop(progress);
    if json {
        context
            .screen
            .json(&json!({ "schema_version": SCHEMA_VERSION, "audit": audit, "clean": audit.is_clean() }), false)?;
    } else {
        for line in audit.lines() {
            context.screen.line(crate::text::sanitise_line(&line))?;
        }
    }
    Ok(if audit.is_clean() { Exit::Done } else { Exit::Partial })
}
