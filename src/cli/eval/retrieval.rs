//! `cicerone eval retrieval`: every held-out picture against every article, exactly, in memory.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::args::EvalRetrievalArgs;
use super::super::context::{Context, picture_limits};
use super::super::failure::{Exit, Failure};
use super::super::progress::{Progress, Unit};
use super::super::{interrupt, kb as kb_command, starter};
use super::{Form, show};
use crate::config::Config;
use crate::eval::Table;
use crate::eval::retrieval::{Groups, Ranking, evaluate};
use crate::kb::{self, Article};
use crate::rag::engines;
use crate::retriever::config::RetConfig;
use crate::retriever::embedding::scores;
use crate::retriever::{Embedding, Item, Picture, PictureLimits, Retriever, RetrieverFiles};

/// Cut-offs of recall.
const KS: &[usize] = &[1, 5];

/// Items encoded between two looks at the clock and at Ctrl-C.
const CHUNK: usize = 32;

/// Runs the command.
pub fn run(context: &Context, args: &EvalRetrievalArgs) -> anyhow::Result<Exit> {
    let config = starter::config(context)?;
    let dir = starter::data_dir(args.data.as_deref())?;
    let drawings = starter::drawings(&dir, &args.split)?;
    let given = compared(&args.compare)?;
    starter::fetch(context, &config)?;
    let files = engines::retriever_files(&config)?;
    let architecture = RetConfig::load(&files.config)?;
    let compared = if given.is_empty() { last_layer_only(&files, &architecture, &dir) } else { given };

    let limits = picture_limits(&config);
    let articles = articles(&dir, &config, &limits)?;
    let queries = starter::items(context, &dir, &drawings, &limits, !args.no_question)?;
    let gold: Vec<&str> = drawings.iter().map(|drawing| drawing.entity_url.as_str()).collect();
    let style = drawings.first().map_or("", |drawing| &drawing.style);
    let groups = if dir.join("identical.csv").is_file() { Some(Groups::of_starter(&dir, style)?) } else { None };

    let set = Set { context, articles: &articles, queries: &queries, gold: &gold, groups: groups.as_ref() };
    let retriever = kb_command::start_retriever(&context.screen, &config)?;
    let name = match architecture.state_tokens {
        1 => "ReT-2".to_owned(),
        n => format!("ReT, {n} vectors by MaxSim"),
    };
    let mut models = vec![json!({ "name": name, "fingerprint": retriever.fingerprint() })];
    let mut table = set.model(&name, &retriever)?;
    set.add(&mut table, set.pooled(&retriever)?);
    drop(retriever);
    for (name, architecture, weights) in compared {
        let head = RetrieverFiles { config: architecture, weights, ..files.clone() };
        let retriever = Retriever::start(head)?;
        models.push(json!({ "name": name, "fingerprint": retriever.fingerprint() }));
        set.add(&mut table, set.model(&name, &retriever)?);
    }
    let (queries, articles) = (queries.len(), articles.len());
    let with = if args.no_question { "the picture alone" } else { "the picture and a question" };
    table.title = format!("{queries} pictures of split {:?} against {articles} articles; query: {with}", args.split);
    let about = json!({
        "data": dir, "split": args.split, "style": style, "queries": queries, "articles": articles,
        "question": !args.no_question, "models": models,
    });
    show(context, &table, &about, Form::of(args.json, args.markdown))?;
    Ok(Exit::Done)
}

/// The shipped last-layer model, where it is, has the measured one's towers, and is not that one itself.
fn last_layer_only(files: &RetrieverFiles, measured: &RetConfig, dir: &Path) -> Vec<(String, PathBuf, PathBuf)> {
    let baselines = dir.with_file_name("baselines");
    let (path, weights) = (baselines.join("ret2-last-layer.json"), baselines.join("ret2-last-layer.safetensors"));
    let fits = RetConfig::load(&path).is_ok_and(|own| own.text == measured.text && own.vision == measured.vision);
    if fits && weights.is_file() && path != files.config {
        vec![("last layer only".to_owned(), path, weights)]
    } else {
        Vec::new()
    }
}

/// Further heads that are given: name, description, weights.
fn compared(given: &[String]) -> anyhow::Result<Vec<(String, PathBuf, PathBuf)>> {
    let read = |text: &String| {
        let parts = text.split_once('=').and_then(|(name, files)| Some((name, files.split_once(':')?)));
        let Some((name, (architecture, weights))) = parts else {
            let message = format!("--compare {text:?}: expected NAME=CONFIG.json:WEIGHTS.safetensors");
            return Err(Failure::new(Exit::Usage, "usage", message).into());
        };
        for file in [architecture, weights] {
            if !Path::new(file).is_file() {
                let message = format!("--compare {text:?}: {file} is not there");
                return Err(Failure::new(Exit::Usage, "usage", message).into());
            }
        }
        Ok((name.to_owned(), architecture.into(), weights.into()))
    };
    given.iter().map(read).collect()
}

/// An article as it is embedded.
struct Document {
    url: String,
    item: Item,
}

fn articles(dir: &Path, config: &Config, limits: &PictureLimits) -> anyhow::Result<Vec<Document>> {
    let recipe = kb_command::options(config, &config.kb.name)?.recipe;
    let mut source =
        kb::source::open(&format!("evqa:{}", dir.join("kb.jsonl").display())).map_err(kb::KbError::from)?;
    let root = source.picture_root().to_owned();
    let document = |article: Article| {
        let image = match article.lead_picture().filter(|_| recipe.embed_image) {
            Some(name) => Some(Picture::open(&crate::io::safe_join(&root, name)?, limits)?),
            None => None,
        };
        let text = recipe.units(&article).into_iter().next().and_then(|unit| unit.text);
        let item = Item { text, image };
        Ok(Document { url: article.url, item })
    };
    let mut documents = Vec::new();
    for row in source.by_ref() {
        let (_, article) = row.map_err(kb::KbError::from)?;
        documents.push(document(article).map_err(|e: anyhow::Error| e)?);
    }
    Ok(documents)
}

/// What all models are measured on.
struct Set<'a> {
    context: &'a Context,
    articles: &'a [Document],
    queries: &'a [Item],
    gold: &'a [&'a str],
    groups: Option<&'a Groups>,
}

impl Set<'_> {
    fn model(&self, name: &str, retriever: &Retriever) -> anyhow::Result<Table> {
        let documents: Vec<Item> = self.articles.iter().map(|document| document.item.clone()).collect();
        let documents = self.encode(name, documents, |items| retriever.encode_documents(items))?;
        let queries = self.encode(name, self.queries.to_vec(), |items| retriever.encode_queries(items))?;
        let urls: Vec<&str> = self.articles.iter().map(|document| document.url.as_str()).collect();
        Ok(evaluate(name, &self.rank(&urls, &documents, &queries), KS, self.groups))
    }

    /// The picture tower's pooled features alone, untrained.
    fn pooled(&self, retriever: &Retriever) -> anyhow::Result<Table> {
        const NAME: &str = "pooled feature";
        let (urls, pictures): (Vec<&str>, Vec<Picture>) =
            self.articles.iter().filter_map(|d| Some((d.url.as_str(), d.item.image.clone()?))).unzip();
        let documents = self.encode(NAME, pictures, |pictures| retriever.encode_pooled(pictures))?;
        let queries = self.queries.iter().filter_map(|query| query.image.clone()).collect();
        let queries = self.encode(NAME, queries, |pictures| retriever.encode_pooled(pictures))?;
        Ok(evaluate(NAME, &self.rank(&urls, &documents, &queries), KS, self.groups))
    }

    fn encode<T, E>(
        &self,
        name: &str,
        mut rest: Vec<T>,
        encode: impl Fn(Vec<T>) -> Result<Vec<Embedding>, E>,
    ) -> anyhow::Result<Vec<Embedding>>
    where
        anyhow::Error: From<E>,
    {
        let guard = interrupt::guard();
        let total = rest.len() as u64;
        let mut progress = Progress::new(&self.context.screen, &format!("encoding, {name}"), Unit::Things("items"));
        let mut embeddings = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            if guard.is_asked() {
                return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
            }
            let tail = rest.split_off(rest.len().min(CHUNK));
            embeddings.extend(encode(rest)?);
            rest = tail;
            progress.set(embeddings.len() as u64, Some(total));
        }
        Ok(embeddings)
    }

    /// All articles for each query by MaxSim (of single vectors the dot product), ties by URL.
    fn rank(&self, urls: &[&str], documents: &[Embedding], queries: &[Embedding]) -> Vec<Ranking> {
        let ranking = |(scores, gold): (Vec<f32>, &&str)| {
            let mut scored: Vec<(f32, &str)> = scores.into_iter().zip(urls.iter().copied()).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            let ranked = scored.into_iter().map(|(_, url)| url.to_owned()).collect();
            Ranking { id: (*gold).to_owned(), ranked, gold: vec![(*gold).to_owned()] }
        };
        scores(queries, documents).into_iter().zip(self.gold).map(ranking).collect()
    }

    fn add(&self, table: &mut Table, more: Table) {
        table.rows.extend(more.rows);
        for note in more.notes {
            if !table.notes.contains(&note) {
                table.notes.push(note);
            }
        }
    }
}
