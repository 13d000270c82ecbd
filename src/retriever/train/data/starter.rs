//! The starter's layout: pictures by entity and style, titles, questions. A query is a picture of an entity in any style, a
//! question, or both; its document is the article's title with a picture.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;

use super::{Document, Draw, Draws, Query, Shown, TrainData};
use crate::retriever::train::features::pictures::Album;
use crate::retriever::train::{TrainError, TrainOptions};
use crate::retriever::worker::query_text;

/// One picture of an entity.
struct StylePicture {
    entity: usize,
    path: PathBuf,
}

/// What the files say.
struct Files {
    /// Titles by entity.
    titles: Vec<String>,
    /// Entities that share a picture with an earlier one have its number; others their own.
    look: Vec<usize>,
    /// Pictures to learn from.
    pictures: Vec<StylePicture>,
    /// Pictures of the style that is left out, if any.
    held_out: Vec<StylePicture>,
    /// Question texts that name no entity.
    questions: Vec<String>,
    /// Question texts that do, by entity.
    named_questions: Vec<Vec<String>>,
}

/// Makes queries of an entity's pictures and texts.
struct Entities {
    look: Vec<usize>,
    /// Pictures of each entity, by number in the album.
    pictures: Vec<Vec<usize>>,
    views: usize,
    /// Rows of the questions that name no entity.
    questions: std::ops::Range<usize>,
    /// Rows of each entity's questions that do.
    named: Vec<Vec<usize>>,
    drop_text: f64,
    drop_image: f64,
}

impl Draws for Entities {
    fn draw(&self, rng: &mut StdRng, batch: usize) -> Draw {
        let mut entities: Vec<usize> = (0..self.look.len()).collect();
        entities.shuffle(rng);
        entities.truncate(batch);
        let mut draw = Draw::default();
        let per_picture = self.views + 1;
        for entity in entities {
            let pictures = &self.pictures[entity];
            let any = |rng: &mut StdRng| pictures[rng.random_range(0..pictures.len())];
            let record = any(rng) * per_picture + rng.random_range(0..per_picture);
            let question = self.questions.start + rng.random_range(0..self.questions.len().max(1));
            let named = &self.named[entity];
            let named = named[rng.random_range(0..named.len())];
            let kind: f64 = rng.random();
            let shown = if kind < self.drop_image {
                Shown { text: Some(named), picture: None }
            } else if kind < self.drop_image + self.drop_text || self.questions.is_empty() {
                Shown { text: None, picture: Some(record) }
            } else {
                Shown { text: Some(question), picture: Some(record) }
            };
            draw.queries.push(Query { shown, right: vec![self.look[entity]] });
            // Half of the documents are the article's own picture (the first of an entity) as it is.
            let nth = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..per_picture) };
            let picture = if nth == 0 { pictures[0] } else { any(rng) };
            let shown = Shown { text: Some(entity), picture: Some(picture * per_picture + nth) };
            draw.documents.push(Document { shown, class: self.look[entity] });
        }
        draw
    }
}

/// Reads `images.csv` (split `train`, and the style left out of whatever split), `kb.jsonl` and `questions.csv` of a folder.
/// Documents are every entity's first picture and title; the queries of an evaluation are the pictures of the style left
/// out with the first question.
///
/// # Errors
/// The file, and what was wrong with it.
pub fn read(options: &TrainOptions, instruction: &str) -> Result<TrainData, TrainError> {
    let files = Files::read(&options.data, options.validate.as_deref())?;
    let identity = crate::io::hash::blake3_bytes(format!("{:?}", files.titles).as_bytes());
    let entities = files.titles.len();
    // Rows of texts: titles, then questions, then named questions.
    let mut texts = files.titles;
    texts.extend(files.questions.iter().map(|question| query_text(instruction, question)));
    let questions = entities..texts.len();
    let mut named = Vec::with_capacity(entities);
    for own in &files.named_questions {
        let from = texts.len();
        texts.extend(own.iter().map(|question| query_text(instruction, question)));
        named.push((from..texts.len()).collect());
    }
    let mut pictures = vec![Vec::new(); entities];
    for (number, picture) in files.pictures.iter().enumerate() {
        pictures[picture.entity].push(number);
    }
    let album = Album {
        viewed: files.pictures.len(),
        paths: files
            .pictures
            .into_iter()
            .map(|p| p.path)
            .chain(files.held_out.iter().map(|p| p.path.clone()))
            .collect(),
        views: options.views,
        seed: options.seed,
    };
    let document = |entity: usize| {
        let shown = Shown { text: Some(entity), picture: Some(album.record(pictures[entity][0], 0)) };
        Document { shown, class: files.look[entity] }
    };
    let documents = (0..entities).map(document).collect();
    let question = (!questions.is_empty()).then_some(questions.start);
    let held_out = files.held_out.iter().enumerate().map(|(at, picture)| {
        let shown = Shown { text: question, picture: Some(album.record(album.viewed + at, 0)) };
        Query { shown, right: vec![files.look[picture.entity]] }
    });
    let evaluation = held_out.collect();
    let draws = Entities {
        look: files.look,
        pictures,
        views: options.views,
        questions,
        named,
        drop_text: options.drop_text,
        drop_image: options.drop_image,
    };
    Ok(TrainData { texts, album: album.into(), documents, evaluation, identity, draws: Box::new(draws) })
}

#[derive(Deserialize)]
struct ImageRow {
    entity_url: String,
    style: String,
    split: String,
    path: String,
}

#[derive(Deserialize)]
struct ArticleRow {
    url: String,
    title: String,
    image: String,
}

#[derive(Deserialize)]
struct QuestionRow {
    wikipedia_url: String,
    question: String,
    question_original: String,
}

/// Named questions kept of each entity; more would only repeat their wording.
const NAMED_QUESTIONS: usize = 4;

impl Files {
    fn read(dir: &Path, validate: Option<&str>) -> Result<Self, TrainError> {
        let bad = |path: &Path, reason: String| TrainError::Data { path: path.to_owned(), reason };
        let kb = dir.join("kb.jsonl");
        let mut entity_of = HashMap::new();
        let mut titles = Vec::new();
        let mut look = Vec::new();
        let mut first_with: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (number, line) in fs_err::read_to_string(&kb)?.lines().enumerate() {
            let row: ArticleRow =
                serde_json::from_str(line).map_err(|e| bad(&kb, format!("line {}: {e}", number + 1)))?;
            let entity = titles.len();
            let picture = fs_err::read(dir.join(&row.image))?;
            look.push(*first_with.entry(picture).or_insert(entity));
            entity_of.insert(row.url, entity);
            titles.push(row.title);
        }
        let images = dir.join("images.csv");
        let mut pictures = Vec::new();
        let mut held_out = Vec::new();
        let rows = read_csv::<ImageRow>(&images)?;
        if let Some(style) = validate.filter(|style| rows.iter().all(|row| row.style != *style)) {
            let styles: BTreeSet<&str> = rows.iter().map(|row| row.style.as_str()).collect();
            let found = styles.into_iter().collect::<Vec<_>>().join(", ");
            return Err(bad(&images, format!("no picture of style `{style}`; found {found}")));
        }
        for row in rows {
            let left_out = validate == Some(&row.style);
            if row.split != "train" && !left_out {
                continue;
            }
            let Some(entity) = entity_of.get(&row.entity_url) else {
                return Err(bad(&images, format!("entity {} has no article in kb.jsonl", row.entity_url)));
            };
            let picture = StylePicture { entity: *entity, path: dir.join(&row.path) };
            let target = if left_out { &mut held_out } else { &mut pictures };
            target.push(picture);
        }
        let with_picture: BTreeSet<_> = pictures.iter().map(|p| p.entity).collect();
        if with_picture.len() != titles.len() {
            let without = (0..titles.len()).find(|e| !with_picture.contains(e)).and_then(|e| titles.get(e));
            return Err(bad(&images, format!("no training picture of {}", without.map_or("any entity", |t| t))));
        }
        let path = dir.join("questions.csv");
        let mut questions = BTreeSet::new();
        let mut named_questions = vec![Vec::new(); titles.len()];
        for row in read_csv::<QuestionRow>(&path)? {
            questions.insert(row.question.clone());
            if let Some(entity) = entity_of.get(&row.wikipedia_url) {
                let named = &mut named_questions[*entity];
                if row.question_original != row.question && named.len() < NAMED_QUESTIONS {
                    named.push(row.question_original);
                }
            }
        }
        for (named, title) in named_questions.iter_mut().zip(&titles) {
            if named.is_empty() {
                named.push(title.clone());
            }
        }
        Ok(Self { titles, look, pictures, held_out, questions: questions.into_iter().collect(), named_questions })
    }
}

fn read_csv<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, TrainError> {
    let bad = |reason: String| TrainError::Data { path: path.to_owned(), reason };
    let file = fs_err::File::open(path)?;
    csv::Reader::from_reader(file).into_deserialize().collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))
}
