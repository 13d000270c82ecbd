//! Training data in the starter's layout: pictures by entity and style, titles, questions.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::TrainError;

/// One picture of an entity.
#[derive(Debug, Clone)]
pub struct TrainPicture {
    /// Index of the entity.
    pub entity: usize,
    /// Style it is drawn in.
    pub style: String,
    /// The file.
    pub path: PathBuf,
}

/// All that training reads.
#[derive(Debug)]
pub struct TrainData {
    /// Titles by entity.
    pub titles: Vec<String>,
    /// Entities that share a picture with an earlier one have its number; others their own.
    pub look: Vec<usize>,
    /// Pictures to learn from.
    pub pictures: Vec<TrainPicture>,
    /// Pictures of the style that is left out, if any.
    pub held_out: Vec<TrainPicture>,
    /// Question texts that name no entity.
    pub questions: Vec<String>,
    /// Question texts that do, by entity.
    pub named_questions: Vec<Vec<String>>,
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

impl TrainData {
    /// Reads `images.csv` (split `train` alone), `kb.jsonl` and `questions.csv` of a folder.
    ///
    /// # Errors
    /// The file, and what was wrong with it.
    pub fn read(dir: &Path, validate: Option<&str>) -> Result<Self, TrainError> {
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
        for row in read_csv::<ImageRow>(&images)? {
            if row.split != "train" {
                continue;
            }
            let Some(entity) = entity_of.get(&row.entity_url) else {
                return Err(bad(&images, format!("entity {} has no article in kb.jsonl", row.entity_url)));
            };
            let picture = TrainPicture { entity: *entity, path: dir.join(&row.path), style: row.style };
            let target = if validate == Some(&picture.style) { &mut held_out } else { &mut pictures };
            target.push(picture);
        }
        let with_picture: std::collections::BTreeSet<_> = pictures.iter().map(|p| p.entity).collect();
        if with_picture.len() != titles.len() {
            let without = (0..titles.len()).find(|e| !with_picture.contains(e)).and_then(|e| titles.get(e));
            return Err(bad(&images, format!("no training picture of {}", without.map_or("any entity", |t| t))));
        }
        let path = dir.join("questions.csv");
        let mut questions = std::collections::BTreeSet::new();
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
