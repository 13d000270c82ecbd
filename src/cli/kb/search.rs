//! `cicerone kb search`

use serde::Serialize;

use super::start_retriever;
use crate::cli::args::KbSearchArgs;
use crate::cli::context::{Context, open_picture};
use crate::cli::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::kb::{self, Found, Hit, KnowledgeBase};
use crate::rag::engines;
use crate::retriever::Item;
use crate::text::sanitise_line;

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
    /// Which part of it was found, where parts are embedded.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Found>,
}

/// Runs the command.
pub(super) fn run(context: &Context, args: &KbSearchArgs) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let text = args.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if text.is_none() && args.image.is_none() {
        return Err(Failure::new(Exit::Usage, "empty_query", "nothing to search for; give a text, a picture or both")
            .hint("cicerone kb search \"Which country is this?\" --image FLAG.png")
            .into());
    }
    let image = args.image.as_deref().map(|path| open_picture(&config, path)).transpose()?;
    let name = args.name.as_ref().unwrap_or(&config.kb.name);
    let home = engines::kb_home(&config)?;
    kb::status(&home, name)?;
    let retriever = start_retriever(&context.screen, &config)?;
    let base = KnowledgeBase::open(&home, name, Some(retriever.fingerprint()))?;
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
            part: hit.part,
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
    let section = hit.part.and_then(|part| hit.article.sections.get(part.section));
    let section = section.map(|section| format!(" > {}", sanitise_line(&section.title))).unwrap_or_default();
    format!("{rank:>3}  {:.3}  {title}{section}  {url}", hit.score)
}
