//! M2KR's layout as ReT-M2KR has it: a file of queries and a file of passages, one JSON object a line, and a folder of
//! pictures.
//!
//! Query: `instruction`, `question`, `image_path`, `passage_id` (one or a list). Passage: `passage_id`, `passage_text`,
//! `passage_image_path`. What may lack is left out or `null`; fields that are not named here are ignored. Queries are
//! learned from as they are, without views.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Document, Draw, Draws, Query, Shown, TrainData};
use crate::io::IoError;
use crate::io::jsonl::JsonlReader;
use crate::retriever::train::features::pictures::Album;
use crate::retriever::train::{JsonlFiles, TrainError, TrainOptions};
use crate::retriever::worker::query_text;

#[derive(Deserialize)]
struct QueryLine {
    instruction: Option<String>,
    question: Option<String>,
    image_path: Option<String>,
    passage_id: Value,
}

#[derive(Deserialize)]
struct PassageLine {
    passage_id: Value,
    passage_text: Option<String>,
    passage_image_path: Option<String>,
}

/// A query and its right documents, by number; at least one.
struct Pair {
    shown: Shown,
    right: Vec<usize>,
}

/// Draws queries as they are, with one of their documents each.
struct Pairs {
    pairs: Vec<Pair>,
    documents: Vec<Document>,
}

impl Draws for Pairs {
    fn draw(&self, rng: &mut StdRng, batch: usize) -> Draw {
        let mut draw = Draw::default();
        for pair in rand::seq::index::sample(rng, self.pairs.len(), batch.min(self.pairs.len())) {
            let Pair { shown, right } = &self.pairs[pair];
            let document = self.documents[right[rng.random_range(0..right.len())]];
            draw.queries.push(Query { shown: *shown, right: self.classes(right) });
            // A passage that two queries share stands in the batch once.
            if !draw.documents.contains(&document) {
                draw.documents.push(document);
            }
        }
        draw
    }
}

impl Pairs {
    fn classes(&self, documents: &[usize]) -> Vec<usize> {
        documents.iter().map(|document| self.documents[*document].class).collect()
    }
}

/// Reads the files. The queries of an evaluation are those of `files.validation`, over the same passages.
///
/// # Errors
/// A line that is no such object, an id that no passage or that two passages have, a picture that is not there: each with
/// file and line.
pub fn read(options: &TrainOptions, files: &JsonlFiles, instruction: &str) -> Result<TrainData, TrainError> {
    let mut tables = Tables { images: files.images.clone(), ..Tables::default() };
    let documents = tables.passages(&files.passages)?;
    let pairs = tables.queries(&options.data, instruction)?;
    let evaluation = match &files.validation {
        Some(path) => tables.queries(path, instruction)?,
        None => Vec::new(),
    };
    let pairs = Pairs { pairs, documents: documents.clone() };
    let query = |pair: Pair| Query { shown: pair.shown, right: pairs.classes(&pair.right) };
    let evaluation = evaluation.into_iter().map(query).collect();
    let hashes = [&files.passages, &options.data].map(|path| crate::io::hash::blake3_file(path));
    let identity = hashes.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let album = Album { paths: tables.pictures.into_keys(), viewed: 0, views: 0, seed: options.seed };
    Ok(TrainData {
        texts: tables.texts.into_keys(),
        album: album.into(),
        documents,
        evaluation,
        identity,
        draws: Box::new(pairs),
    })
}

/// What has been read so far, each text and picture once.
#[derive(Default)]
struct Tables {
    images: PathBuf,
    texts: Numbered<String>,
    pictures: Numbered<PathBuf>,
    /// Number of each passage.
    passages: HashMap<String, usize>,
}

impl Tables {
    fn passages(&mut self, path: &Path) -> Result<Vec<Document>, TrainError> {
        let mut documents = Vec::new();
        let mut classes: HashMap<(Option<usize>, Option<usize>), usize> = HashMap::new();
        lines(path, |passage: PassageLine| {
            let id = id(&passage.passage_id).ok_or_else(|| wrong_id(&passage.passage_id, "a string or a number"))?;
            let shown = self.shown(passage.passage_text.unwrap_or_default(), passage.passage_image_path)?;
            // Passages that are alike in everything cannot be told apart.
            let class = *classes.entry((shown.text, shown.picture)).or_insert(documents.len());
            if self.passages.insert(id.clone(), documents.len()).is_some() {
                return Err(format!("passage_id `{id}` is that of an earlier passage"));
            }
            documents.push(Document { shown, class });
            Ok(())
        })?;
        Ok(documents)
    }

    fn queries(&mut self, path: &Path, instruction: &str) -> Result<Vec<Pair>, TrainError> {
        let mut pairs = Vec::new();
        lines(path, |query: QueryLine| {
            let text =
                query_text(query.instruction.as_deref().unwrap_or(instruction), &query.question.unwrap_or_default());
            let shown = self.shown(text, query.image_path)?;
            let ids = match &query.passage_id {
                Value::Array(ids) => ids.iter().map(id).collect(),
                one => id(one).map(|id| vec![id]),
            };
            let ids: Vec<String> = ids
                .filter(|ids: &Vec<String>| !ids.is_empty())
                .ok_or_else(|| wrong_id(&query.passage_id, "a string, a number, or a list of them"))?;
            let right = ids.iter().map(|id| {
                let found = self.passages.get(id).copied();
                found.ok_or_else(|| format!("passage_id `{id}` is that of no passage"))
            });
            pairs.push(Pair { shown, right: right.collect::<Result<_, _>>()? });
            Ok(())
        })?;
        if pairs.is_empty() {
            let reason = "found no line, expected one query a line".to_owned();
            return Err(TrainError::Data { path: path.to_owned(), reason });
        }
        Ok(pairs)
    }

    fn shown(&mut self, text: String, picture: Option<String>) -> Result<Shown, String> {
        let text = (!text.trim().is_empty()).then(|| self.texts.number(text));
        let picture = match picture.filter(|name| !name.is_empty()) {
            Some(name) => {
                let path = crate::io::safe_join(&self.images, &name).map_err(|e| e.to_string())?;
                let meta = fs_err::metadata(&path).map_err(|e| e.to_string())?;
                if !meta.is_file() {
                    return Err(format!("picture {}: not a file", path.display()));
                }
                Some(self.pictures.number(path))
            }
            None => None,
        };
        if text.is_none() && picture.is_none() {
            return Err("found neither a text nor a picture, expected at least one".into());
        }
        Ok(Shown { text, picture })
    }
}

/// Different values by number, in the order in which they came.
struct Numbered<T>(HashMap<T, usize>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + std::hash::Hash> Numbered<T> {
    fn number(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    fn into_keys(self) -> Vec<T> {
        let mut values: Vec<(T, usize)> = self.0.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        values.into_iter().map(|(value, _)| value).collect()
    }
}

/// Ids are compared as strings.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn wrong_id(found: &Value, expected: &str) -> String {
    format!("passage_id: found {found}, expected {expected}")
}

/// Reads a file line by line; an error gets the file and the line.
fn lines<T: DeserializeOwned>(path: &Path, mut take: impl FnMut(T) -> Result<(), String>) -> Result<(), TrainError> {
    let bad = |line: usize, reason: String| {
        let reason = format!("line {line}: {reason}");
        TrainError::Data { path: path.to_owned(), reason }
    };
    for row in JsonlReader::<T>::open(path).map_err(std::io::Error::other)? {
        match row {
            Ok((line, row)) => take(row).map_err(|reason| bad(line, reason))?,
            Err(IoError::Line { line, reason, .. }) => return Err(bad(line, reason)),
            Err(error) => return Err(std::io::Error::other(error).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const PASSAGES: &str = "{\"passage_id\": \"a\", \"passage_text\": \"one\", \"passage_image_path\": \"x.png\"}\n\
                            {\"passage_id\": 7, \"passage_text\": \"two\"}\n\
                            {\"passage_id\": \"b\", \"passage_text\": \"one\", \"passage_image_path\": \"x.png\"}\n\
                            {\"passage_id\": \"c\", \"passage_text\": null, \"passage_image_path\": \"y.png\"}\n";

    fn data(passages: &str, queries: &str) -> Result<TrainData, TrainError> {
        let dir = tempfile::tempdir().unwrap();
        for picture in ["x.png", "y.png"] {
            image::RgbImage::new(2, 2).save(dir.path().join(picture)).unwrap();
        }
        let files = JsonlFiles { passages: dir.path().join("p.jsonl"), images: dir.path().into(), validation: None };
        fs_err::write(&files.passages, passages).unwrap();
        let options = TrainOptions { data: dir.path().join("q.jsonl"), batch: 8, ..TrainOptions::default() };
        fs_err::write(&options.data, queries).unwrap();
        read(&options, &files, "find")
    }

    #[test]
    fn queries_and_passages_are_read_as_ret_m2kr_has_them() {
        let data = data(
            PASSAGES,
            "{\"data_id\": 1, \"instruction\": \"Look up:\", \"question\": \"which?\", \"image_path\": \"y.png\", \
             \"passage_id\": [\"7\", \"a\"], \"passage_text\": [\"two\"], \"answer\": [\"x\"]}\n\
             {\"data_id\": 2, \"instruction\": \"Look up:\", \"question\": null, \"image_path\": null, \"passage_id\": 7}\n\
             {\"question\": \"why?\", \"image_path\": \"\", \"passage_id\": \"b\"}\n",
        )
        .unwrap();
        assert_eq!(data.texts, ["one", "two", "Look up: which?", "Look up:", "find why?"]);
        assert_eq!(data.album.paths.len(), 2);
        let shown = |text, picture| Shown { text, picture };
        // The third is the first under another name.
        let documents = [(Some(0), Some(0), 0), (Some(1), None, 1), (Some(0), Some(0), 0), (None, Some(1), 3)];
        let documents = documents.map(|(text, picture, class)| Document { shown: shown(text, picture), class });
        assert_eq!(data.documents, documents);
        let draw = data.draw(0, &TrainOptions { batch: 8, ..TrainOptions::default() });
        let mut queries = draw.queries.clone();
        queries.sort_by_key(|query| query.shown.text);
        let query = |text, picture, right: &[usize]| Query { shown: shown(Some(text), picture), right: right.to_vec() };
        assert_eq!(queries, [query(2, Some(1), &[1, 0]), query(3, None, &[1]), query(4, None, &[0])]);
        assert!(draw.queries.iter().all(|query| draw.documents.iter().any(|document| query.wants(document))));
    }

    #[test]
    fn what_does_not_fit_is_told_with_file_and_line() {
        let query = |rest: &str| format!("\n{{\"question\": \"q\", {rest}}}\n");
        for (passages, queries, expected) in [
            (PASSAGES, query("\"passage_id\": \"z\""), "q.jsonl: line 2: passage_id `z` is that of no passage"),
            (PASSAGES, query("\"passage_id\": []"), "q.jsonl: line 2: passage_id: found [], expected a string"),
            (PASSAGES, query("\"passage_id\": {}"), "line 2: passage_id: found {}, expected a string"),
            (PASSAGES, query("\"image_path\": \"a\""), "q.jsonl: line 2: missing field `passage_id`"),
            (PASSAGES, query("\"passage_id\": \"a\", \"image_path\": \"none.png\""), "line 2: failed to"),
            (PASSAGES, query("\"passage_id\": \"a\", \"image_path\": \"../x.png\""), "line 2: unsafe file name"),
            (PASSAGES, "{oops\n".into(), "q.jsonl: line 1: key must be a string"),
            (PASSAGES, String::new(), "q.jsonl: found no line"),
            ("{\"passage_id\": \"a\"}\n", String::new(), "p.jsonl: line 1: found neither a text nor a picture"),
            (
                "{\"passage_id\": 7, \"passage_text\": \"x\"}\n{\"passage_id\": \"7\", \"passage_text\": \"y\"}\n",
                String::new(),
                "p.jsonl: line 2: passage_id `7` is that of an earlier passage",
            ),
        ] {
            let message = data(passages, &queries).err().unwrap().to_string();
            assert!(message.contains(expected), "{message}\nexpected {expected}");
        }
    }
}
