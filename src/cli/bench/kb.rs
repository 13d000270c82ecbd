//! `cicerone bench kb`: how fast this machine builds and searches a large knowledge base.

use std::time::Instant;

use serde::Serialize;

use super::Spread;
use crate::cli::args::BenchArgs;
use crate::cli::context::Context;
use crate::cli::interrupt;
use crate::cli::kb::show_stage;
use crate::cli::progress::{Progress, Unit, bytes};
use crate::cli::stats::{MemorySampler, Table};
use crate::kb::build::Timings;
use crate::kb::store::{Quantization, StoreConfig};
use crate::kb::synthetic::{QUERIES, Synthetic};
use crate::kb::vectors::VectorFile;
use crate::kb::{self, BuildOptions, KbError, KnowledgeBase, Recipe};

/// Hits that are compared with those of an exact search.
const K: usize = 10;

const SEED: u64 = 1;

/// A synthetic knowledge base, from a file of articles and one of embeddings to answers of a search.
#[derive(Serialize)]
pub(super) struct Synthesis {
    articles: u64,
    dim: usize,
    quantization: Quantization,
    source_bytes: u64,
    parse_mb_per_s: f64,
    build_s: f64,
    articles_per_s: f64,
    stages_s: Timings,
    /// Memory of its own at the most while it was built; pages of the engine's files come and go beside it.
    peak_anonymous_bytes: Option<u64>,
    disk_bytes_per_article: f64,
    open_s: f64,
    searches: usize,
    recall_at_10: f64,
    search_ms: Spread,
    exact_ms: Spread,
}

/// Makes, builds and searches one.
pub(super) fn run(context: &Context, args: &BenchArgs) -> anyhow::Result<Synthesis> {
    let quantization = args.quantization.parse().map_err(anyhow::Error::msg)?;
    let made = Synthetic {
        articles: args.articles as usize,
        dim: args.dim.into(),
        text_bytes: args.text_bytes as usize,
        seed: SEED,
    };
    let temp = tempfile::tempdir()?;
    let dir = args.dir.as_deref().unwrap_or(temp.path());
    fs_err::create_dir_all(dir)?;
    let guard = interrupt::guard();
    let mut progress = Progress::new(&context.screen, "making articles", Unit::Things("articles"));
    let files = made.write(dir, |done| progress.set(done, Some(u64::from(args.articles))))?;
    progress.rename("parsing", Unit::Bytes);

    let spec = format!("evqa:{}", files.articles.display());
    let mut source = kb::source::open(&spec).map_err(KbError::from)?;
    let bytes = source.identity().bytes;
    let begin = Instant::now();
    let mut articles = 0_u64;
    for row in source.by_ref() {
        row.map_err(KbError::from)?;
        articles += 1;
    }
    let parse_mb_per_s = bytes as f64 / 1e6 / begin.elapsed().as_secs_f64();

    let graph = context.config()?.kb.build.graph;
    let store = StoreConfig { quantization, graph, ..StoreConfig::new(0, 0) };
    let recipe = Recipe { batch: 512, ..Recipe::default() };
    let options =
        BuildOptions { recipe, store, fresh: true, ..BuildOptions::new(dir.join("kb").as_path(), "synthetic") };
    let embedder = VectorFile::open(&files.vectors, None, Some("synthetic"))?;
    let mut source = kb::source::open(&spec).map_err(KbError::from)?;
    let sampler = MemorySampler::start();
    let report = kb::build(&options, source.as_mut(), &embedder, guard.flag(), &mut |event| {
        show_stage(&mut progress, event);
    })?;
    let peak_anonymous_bytes = sampler.peak();
    let status = kb::status(&options.home, &options.name)?;

    progress.rename("searching", Unit::Things("queries"));
    let begin = Instant::now();
    let base = KnowledgeBase::open(&options.home, &options.name, None)?;
    let open_s = begin.elapsed().as_secs_f64();
    let (mut walked_ms, mut exact_ms, mut found, mut wanted) = (Vec::new(), Vec::new(), 0, 0);
    for query in made.queries() {
        let begin = Instant::now();
        let walked = base.search(&query, None, K)?;
        walked_ms.push(begin.elapsed().as_secs_f64() * 1000.0);
        let begin = Instant::now();
        let exact = base.search_all(&query, K)?;
        exact_ms.push(begin.elapsed().as_secs_f64() * 1000.0);
        wanted += exact.len();
        found += exact.iter().filter(|hit| walked.iter().any(|own| own.article.url == hit.article.url)).count();
    }
    Ok(Synthesis {
        articles,
        dim: made.dim,
        quantization,
        source_bytes: bytes,
        parse_mb_per_s,
        build_s: report.seconds,
        articles_per_s: articles as f64 / report.seconds,
        stages_s: report.timings,
        peak_anonymous_bytes,
        disk_bytes_per_article: status.bytes as f64 / articles.max(1) as f64,
        open_s,
        searches: QUERIES,
        recall_at_10: found as f64 / wanted.max(1) as f64,
        search_ms: Spread::of(&walked_ms),
        exact_ms: Spread::of(&exact_ms),
    })
}

/// Adds its figures to the table of all.
pub(super) fn tell(of: &Synthesis, table: &mut Table) {
    let mut row = |name: String, value: String, p95: String, unit: &str| table.row([name, value, p95, unit.to_owned()]);
    let mut one = |name: &str, value: String, unit: &str| row(name.to_owned(), value, String::new(), unit);
    one("articles", of.articles.to_string(), "");
    one("parse", format!("{:.0}", of.parse_mb_per_s), "MB/s");
    one("build", format!("{:.0}", of.articles_per_s), "articles/s");
    for (name, time) in of.stages_s.by_name() {
        one(&format!("build, {name}"), format!("{:.1}", time.as_secs_f64()), "s");
    }
    if let Some(peak) = of.peak_anonymous_bytes {
        one("peak memory of its own in building", bytes(peak), "");
    }
    one("on disk", format!("{:.0}", of.disk_bytes_per_article), "bytes an article");
    one("open", format!("{:.2}", of.open_s), "s");
    one("recall@10 of an exact search", format!("{:.3}", of.recall_at_10), "");
    for (name, Spread { p50, p95 }) in [("search", &of.search_ms), ("exact search", &of.exact_ms)] {
        row(format!("{name}, {K} of {} articles", of.articles), format!("{p50:.2}"), format!("{p95:.2}"), "ms");
    }
}
