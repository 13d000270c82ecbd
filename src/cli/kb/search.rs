//! `cicerone kb search`

use std::path::PathBuf;

use serde::Serialize;

use super::start_retriever;
use crate::cli::args::KbSearchArgs;
use crate::cli::context::{Context, open_picture, picture_limits};
use crate::cli::failure::{Exit, Failure, SCHEMA_VERSION};
use crate::cli::interrupt;
use crate::cli::screen::Screen;
use crate::cli::thumbnails::Thumbnails;
use crate::kb::{self, Found, Hit, KnowledgeBase};
use crate::rag::engines;
use crate::retriever::{Item, Picture, PictureLimits};
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
    image: Option<PathBuf>,
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
    // The terminal is asked before the model is loaded, while nobody has begun to type what comes next.
    let thumbnails = if args.json { None } else { Thumbnails::here(args.thumbnails)? };
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
        return Ok(Exit::Done);
    }
    let pictures: Vec<_> = hits.iter().map(|hit| base.picture_of(hit).filter(|file| file.is_file())).collect();
    match thumbnails.filter(|_| pictures.iter().any(Option::is_some)) {
        Some(thumbnails) => show(&context.screen, &thumbnails, &hits, &pictures, &picture_limits(&config))?,
        None => {
            for (i, hit) in hits.iter().enumerate() {
                context.screen.line(hit_line(i + 1, hit))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn hit_line(rank: usize, hit: &Hit) -> String {
    let (title, url) = (sanitise_line(&hit.article.title), sanitise_line(&hit.article.url));
    let section = found_section(hit).map(|section| format!(" > {}", sanitise_line(section))).unwrap_or_default();
    format!("{rank:>3}  {:.3}  {title}{section}  {url}", hit.score)
}

/// Title of the section that was found, where parts are embedded.
fn found_section(hit: &Hit) -> Option<&str> {
    let section = hit.part.and_then(|part| hit.article.sections.get(part.section));
    section.map(|section| section.title.as_str())
}

/// Prints the hits beside their pictures. One that cannot be read is nothing that concerns the search.
fn show(
    screen: &Screen,
    thumbnails: &Thumbnails,
    hits: &[Hit],
    pictures: &[Option<PathBuf>],
    limits: &PictureLimits,
) -> anyhow::Result<()> {
    // A picture that was begun is drawn to its end.
    let guard = interrupt::guard();
    for (i, (hit, file)) in hits.iter().zip(pictures).enumerate() {
        if guard.is_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        }
        let opened = file.as_ref().map(|file| Picture::open(file, limits)).transpose();
        let picture = opened.unwrap_or_else(|e| {
            tracing::debug!("no thumbnail: {e}");
            None
        });
        let head = format!("{} ({:.3})", i + 1, hit.score);
        let lines = [&head, &hit.article.title, found_section(hit).unwrap_or_default(), &hit.article.url];
        let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let between = if i == 0 { "" } else { "\n" };
        screen.put(format_args!("{between}{}", thumbnails.row(picture.as_ref(), &lines)))?;
    }
    Ok(())
}
