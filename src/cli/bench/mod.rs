//! `cicerone bench`: speed and memory on this machine, on the shipped questions.

mod encode;
mod kb;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::args::{BenchArgs, BenchWhat};
use super::context::{Context, picture_limits};
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::progress::{Progress, Unit, bytes};
use super::stats::{Table, peak_memory};
use super::{interrupt, starter};
use crate::config::Config;
use crate::eval::metric::interval::percentile;
use crate::eval::{Question, answers};
use crate::generator::{GeneratorInfo, Turn, Usage};
use crate::kb::KnowledgeBase;
use crate::rag::engines::{self, Engines};
use crate::rag::{self, Event, Pipeline, QuestionImage, RagError};
use crate::retriever::{Embedding, Item, Picture, Retriever, RetrieverFiles};

/// Batches that are measured.
const BATCHES: [usize; 3] = [1, 8, 32];

/// Items of each measurement of encoding.
const ITEMS: usize = 64;

/// Searches that are timed.
const SEARCHES: usize = 300;

/// Which questions are asked.
const SEED: u64 = 1;

/// `schemas/bench.json`
#[derive(Serialize)]
struct Report {
    schema_version: u32,
    machine: Machine,
    /// Of the configured retriever, from pictures and texts to embeddings.
    encode: Option<Vec<Encode>>,
    /// Of a model of random weights, from tokens and pixels to embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<encode::Model>,
    search: Option<Search>,
    /// Of a synthetic knowledge base.
    #[serde(skip_serializing_if = "Option::is_none")]
    kb: Option<kb::Synthesis>,
    answer: Option<Answers>,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Machine {
    arch: &'static str,
    os: &'static str,
    threads: usize,
}

#[derive(Serialize)]
struct Encode {
    batch: usize,
    items_per_s: f64,
}

#[derive(Serialize)]
struct Search {
    articles: u64,
    k: usize,
    p50_ms: f64,
    p95_ms: f64,
}

#[derive(Serialize)]
struct Answers {
    reader: Option<GeneratorInfo>,
    questions: usize,
    prompt_tokens_p50: f64,
    /// Of the first prompt, of which nothing was kept from an earlier one.
    prefill_tokens_per_s: Option<f64>,
    decode_tokens_per_s: Option<f64>,
    encoding_ms: Spread,
    ranking_ms: Spread,
    first_token_ms: Spread,
    total_ms: Spread,
    /// Every question in the order asked, with the one that warmed up.
    asked: Vec<Asked>,
}

/// A question, for another program to be asked the same.
#[derive(Serialize)]
struct Asked {
    /// The very prompt.
    system: String,
    examples: Vec<Turn>,
    user: String,
    /// The answer as it was written.
    text: String,
    timings: rag::Timings,
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Spread {
    p50: f64,
    p95: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self { p50: percentile(values, 50.0).unwrap_or(0.0), p95: percentile(values, 95.0).unwrap_or(0.0) }
    }
}

impl Default for Report {
    fn default() -> Self {
        let machine = Machine {
            arch: std::env::consts::ARCH,
            os: std::env::consts::OS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        };
        Self {
            schema_version: SCHEMA_VERSION,
            machine,
            encode: None,
            model: None,
            search: None,
            kb: None,
            answer: None,
            peak_memory_bytes: None,
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &BenchArgs) -> anyhow::Result<Exit> {
    let mut report = Report::default();
    if let Some(name) = &args.model {
        report.model = Some(encode::random_model(context, args, name)?);
        report.peak_memory_bytes = peak_memory();
    } else if args.what == BenchWhat::Kb {
        report.kb = Some(kb::run(context, args)?);
        report.peak_memory_bytes = peak_memory();
    } else {
        starter_parts(context, args, &mut report)?;
    }
    if args.json {
        context.screen.json(&report, false)?;
    } else {
        context.screen.put(table(&report).text())?;
    }
    Ok(Exit::Done)
}

/// Whatever is asked for of the configured retriever, knowledge base and reader.
fn starter_parts(context: &Context, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let mut config = starter::config(context)?;
    if let Some(format) = &args.format {
        config.generator.format.clone_from(format);
    }
    let dir = starter::data_dir(None)?;
    let all = starter::questions(context, &dir)?;
    let asked = answers::sample(&all, args.questions.into(), SEED);
    let wants = |what| args.what == BenchWhat::All || args.what == what;
    let retriever = starter::prepare(context, &config, wants(BenchWhat::Answer))?;
    let items = items(&config, &dir, &all)?;
    if wants(BenchWhat::Search) {
        report.search = Some(search(&config, &retriever, &items)?);
    }
    if wants(BenchWhat::Answer) {
        report.answer = Some(answer(context, &config, &dir, retriever, &asked)?);
    } else {
        drop(retriever);
    }
    // Memory of what a user runs: taken before the large batches below.
    report.peak_memory_bytes = peak_memory();
    if wants(BenchWhat::Encode) {
        report.encode = Some(encode(context, &config, &items)?);
        if args.what == BenchWhat::Encode {
            report.peak_memory_bytes = peak_memory();
        }
    }
    Ok(())
}

/// Shipped pictures, each with a question.
fn items(config: &Config, dir: &Path, questions: &[Question]) -> anyhow::Result<Vec<Item>> {
    let limits = picture_limits(config);
    let mut items = Vec::with_capacity(ITEMS);
    for question in answers::sample(questions, ITEMS, SEED) {
        let image = starter::picture(dir, question)?.map(|path| Picture::open(&path, &limits)).transpose()?;
        items.push(Item { text: Some(question.text.clone()), image });
    }
    Ok(items)
}

fn encode(context: &Context, config: &Config, items: &[Item]) -> anyhow::Result<Vec<Encode>> {
    let _progress = Progress::new(&context.screen, "encoding", Unit::Things(""));
    let most = BATCHES.into_iter().max().unwrap_or(1);
    let files = RetrieverFiles { max_batch: most, ..engines::retriever_files(config)? };
    let retriever = Retriever::start(files)?;
    let mut measured = Vec::new();
    for batch in BATCHES {
        let some = if batch == 1 { &items[..items.len().min(16)] } else { items };
        // The first batch of a shape warms up.
        retriever.encode_documents(some[..some.len().min(batch)].to_vec())?;
        let start = Instant::now();
        for chunk in some.chunks(batch) {
            retriever.encode_documents(chunk.to_vec())?;
        }
        measured.push(Encode { batch, items_per_s: some.len() as f64 / start.elapsed().as_secs_f64() });
    }
    Ok(measured)
}

fn search(config: &Config, retriever: &Retriever, items: &[Item]) -> anyhow::Result<Search> {
    let base = KnowledgeBase::open(engines::kb_home(config)?, &config.kb.name, Some(retriever.fingerprint()))?;
    let queries = items.iter().take(16).cloned().collect();
    let vectors: Vec<Vec<f32>> = retriever.encode_queries(queries)?.into_iter().map(Embedding::into_values).collect();
    let k = config.rag.candidates;
    let mut times = Vec::with_capacity(SEARCHES);
    for vector in vectors.iter().cycle().take(SEARCHES) {
        let start = Instant::now();
        base.search(vector, None, k)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let Spread { p50, p95 } = Spread::of(&times);
    Ok(Search { articles: base.manifest().counts.articles, k, p50_ms: p50, p95_ms: p95 })
}

fn answer(
    context: &Context,
    config: &Config,
    dir: &Path,
    retriever: Retriever,
    questions: &[&Question],
) -> anyhow::Result<Answers> {
    let runtime = context.runtime()?;
    let mut progress = Progress::new(&context.screen, "loading the answering model", Unit::Things(""));
    let Engines { pipeline, generator, .. } = engines::open(config, retriever, true, runtime.handle())?;
    let guard = interrupt::guard();
    let mut asked = Vec::new();
    // The first answer warms up and is not counted. Every token of its prompt is read; later prompts begin like it, and
    // the reader may have kept that part.
    let order = questions.first().into_iter().chain(questions);
    for (i, question) in order.enumerate() {
        let image = starter::picture(dir, question)?.map(QuestionImage::Path);
        asked.push(runtime.block_on(ask(&pipeline, rag::Question::new(&question.text, image)))?);
        progress.rename("answering", Unit::Things("questions"));
        progress.set(i as u64, Some(questions.len() as u64));
        if guard.is_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        }
    }
    let done = asked.get(1..).unwrap_or_default();
    let times = |of: fn(&rag::Timings) -> Option<f64>| -> Vec<f64> {
        done.iter().filter_map(|answer| of(&answer.timings)).collect()
    };
    let usages: Vec<_> = done.iter().filter_map(|answer| answer.usage).collect();
    let rate = |tokens: usize, seconds: f32| (seconds > 0.0).then(|| tokens as f64 / f64::from(seconds));
    let prefill = asked.first().and_then(|answer| answer.usage).and_then(|u| rate(u.prompt_tokens, u.prompt_s));
    let decode = rate(usages.iter().map(|u| u.completion_tokens).sum(), usages.iter().map(|u| u.completion_s).sum());
    let prompt: Vec<f64> = usages.iter().map(|usage| usage.prompt_tokens as f64).collect();
    Ok(Answers {
        reader: generator.map(|generator| generator.info().clone()),
        questions: done.len(),
        prompt_tokens_p50: percentile(&prompt, 50.0).unwrap_or(0.0),
        prefill_tokens_per_s: prefill,
        decode_tokens_per_s: decode,
        encoding_ms: Spread::of(&times(|t| t.encoding_ms)),
        ranking_ms: Spread::of(&times(|t| t.ranking_ms)),
        first_token_ms: Spread::of(&times(|t| t.first_token_ms)),
        total_ms: Spread::of(&times(|t| Some(t.total_ms))),
        asked,
    })
}

async fn ask(pipeline: &Pipeline, question: rag::Question) -> Result<Asked, RagError> {
    let mut events = pipeline.ask(question);
    let mut prompt = (String::new(), Vec::new(), String::new());
    while let Some(event) = events.recv().await {
        match event {
            Event::Prompt { system, examples, user, .. } => prompt = (system, examples, user),
            Event::Failed { error } => return Err(error),
            Event::Answer { answer } => {
                let (system, examples, user) = prompt;
                let rag::Answer { text, timings, usage, .. } = *answer;
                return Ok(Asked { system, examples, user, text, timings, usage });
            }
            _ => {}
        }
    }
    Err(RagError::Unfinished)
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&["measure", "p50", "p95", "unit"]);
    for encode in report.encode.iter().flatten() {
        table.row([
            format!("encode, batch {}", encode.batch),
            format!("{:.1}", encode.items_per_s),
            String::new(),
            "items/s".into(),
        ]);
    }
    if let Some(model) = &report.model {
        encode::tell(model, &mut table);
    }
    if let Some(kb) = &report.kb {
        kb::tell(kb, &mut table);
    }
    if let Some(search) = &report.search {
        let name = format!("search, {} of {} articles", search.k, search.articles);
        table.row([name, format!("{:.2}", search.p50_ms), format!("{:.2}", search.p95_ms), "ms".into()]);
    }
    if let Some(answer) = &report.answer {
        let reader = answer.reader.as_ref().map_or_else(String::new, |info| format!("{}, {}", info.model, info.format));
        let prompt = answer.prompt_tokens_p50;
        let mut speed = |name: &str, value: Option<f64>| {
            let value = value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0}"));
            table.row([format!("{name} ({reader})"), value, String::new(), "tokens/s".into()]);
        };
        speed("prefill", answer.prefill_tokens_per_s);
        speed("decode", answer.decode_tokens_per_s);
        let mut spread = |name: String, spread: &Spread| {
            table.row([name, format!("{:.0}", spread.p50), format!("{:.0}", spread.p95), "ms".into()]);
        };
        spread("encoding the question".into(), &answer.encoding_ms);
        spread("ranking sections".into(), &answer.ranking_ms);
        spread(format!("question to first token ({prompt:.0} prompt tokens)"), &answer.first_token_ms);
        spread(format!("question to whole answer ({} questions)", answer.questions), &answer.total_ms);
    }
    if let Some(peak) = report.peak_memory_bytes {
        table.row(["peak memory".to_owned(), bytes(peak), String::new(), String::new()]);
    }
    table
}
