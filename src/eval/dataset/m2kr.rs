//! Queries of M2KR (Lin et al. 2024) as JSON lines, and as ReT-M2KR has them (Caffagni et al. 2025): a query and the
//! ids of its right passages. A passage is an article of a knowledge base that was built from the same data set, known by
//! its id.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Answer, DataSet, Kind, Question, infoseek};
use crate::eval::EvalError;
use crate::eval::metric::evqa::items;
use crate::eval::metric::infoseek::Reference;
use crate::io::{IoError, JsonlReader};

#[derive(Deserialize)]
struct Record {
    #[serde(alias = "question_id")]
    data_id: Value,
    #[serde(default)]
    instruction: Option<String>,
    #[serde(default)]
    question: Option<String>,
    #[serde(default, alias = "img_path")]
    image_path: Option<String>,
    #[serde(alias = "pos_item_ids")]
    passage_id: Value,
    #[serde(default, alias = "answers")]
    answer: Value,
    #[serde(default)]
    question_type: Option<String>,
}

/// Reads queries. Those of a type of Encyclopedic-VQA or InfoSeek have answers that are scored; of all others passages
/// are looked for alone.
///
/// # Errors
/// A file that cannot be read, or holds no usable query.
pub fn read(path: &Path) -> Result<DataSet, EvalError> {
    DataSet::of_rows(records(path)?, "data_id", question)?
        .or_empty(path, "queries of M2KR with passage_id or pos_item_ids")
}

type Records = Box<dyn Iterator<Item = Result<(usize, Record), IoError>>>;

#[cfg(not(feature = "parquet"))]
fn records(path: &Path) -> Result<Records, EvalError> {
    if path.is_dir() || path.extension().is_some_and(|ending| ending == "parquet") {
        let reason =
            "this build reads no parquet; expected JSON lines, or a build with the feature `parquet`".to_owned();
        return Err(EvalError::Csv { path: path.to_owned(), reason });
    }
    Ok(Box::new(JsonlReader::open(path)?))
}

#[cfg(feature = "parquet")]
fn records(path: &Path) -> Result<Records, EvalError> {
    const COLUMNS: [&str; 7] =
        ["question_id", "instruction", "question", "img_path", "pos_item_ids", "answers", "question_type"];
    if !super::parquet::is_table(path) {
        return Ok(Box::new(JsonlReader::open(path)?));
    }
    let rows = super::parquet::rows(path, &COLUMNS)?;
    let path = path.to_owned();
    let record = move |(n, row): (usize, Value)| {
        let bad = |e: serde_json::Error| IoError::Line { path: path.clone(), line: n + 1, reason: e.to_string() };
        serde_json::from_value(row).map(|record| (n + 1, record)).map_err(bad)
    };
    Ok(Box::new(rows.into_iter().enumerate().map(record)))
}

fn question(record: Record) -> Result<Question, String> {
    let id = text(&record.data_id).ok_or("data_id is neither a text nor a number")?;
    let passages = texts(&record.passage_id);
    if passages.is_empty() {
        return Err("no passage_id: nothing would be right".to_owned());
    }
    let asked = record.question.unwrap_or_default().trim().to_owned();
    let instruction = record.instruction.unwrap_or_default().trim().to_owned();
    let image: Vec<String> = record.image_path.filter(|path| !path.is_empty()).into_iter().collect();
    if asked.is_empty() && image.is_empty() && instruction.is_empty() {
        return Err("neither question nor image_path".to_owned());
    }
    // Where an answer is a number, the dictionary of InfoSeek holds it.
    let number = record.answer.get("wikidata").filter(|_| record.answer.is_object());
    let written = number.map_or_else(|| texts(&record.answer), texts);
    let kind = record.question_type.and_then(|kind| kind.parse().ok()).unwrap_or(Kind::Query);
    let answer = match kind {
        _ if written.is_empty() => Answer::Passages,
        Kind::Templated | Kind::Automatic | Kind::MultiAnswer | Kind::TwoHop => {
            Answer::Evqa(written.iter().map(|a| items(kind, a)).collect())
        }
        Kind::String | Kind::Time => Answer::InfoSeek(Reference::Texts(written.clone())),
        Kind::Numerical => infoseek::reference(&record.answer).map_or(Answer::Passages, Answer::InfoSeek),
        Kind::Query => Answer::Passages,
    };
    Ok(Question {
        id,
        text: asked,
        instruction,
        kind: if answer == Answer::Passages { Kind::Query } else { kind },
        answer,
        urls: passages,
        titles: Vec::new(),
        section_ids: Vec::new(),
        image_ids: image,
        split: String::new(),
        source: String::new(),
        evidence: Vec::new(),
        written,
        picture: None,
    })
}

/// Ids of some parts are numbers; they are compared as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<DataSet, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        fs_err::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn both_spellings_are_read() {
        let rows = r#"{"data_id":"EVQA_1","instruction":"Find it:","question":"When?","image_path":"a/1.jpg","passage_id":["WikiWeb_Scupi_2","WikiWeb_Scupi_3"],"answer":["1925"]}
{"question_id":7,"pos_item_ids":["p"],"img_path":"b.jpg","question":null,"answers":[],"instruction":"Identify:"}
{"question_id":"t","pos_item_ids":["p"],"question":"Where?","answers":["harbours&&estuaries"],"question_type":"multi_answer"}
{"data_id":"n","passage_id":5,"question":"How long?","question_type":"Numerical","answer":{"wikidata":6.9,"range":[6.21,7.59]}}
{"data_id":"x","question":"What?","passage_id":[]}
{"data_id":"n","question":"Again?","passage_id":"1"}
{"data_id":"y","#;
        let set = read_text(rows).unwrap();
        let [both, alone, list, number] = &set.questions[..] else { panic!("{set:?}") };
        assert_eq!((both.urls.len(), both.instruction.as_str(), both.kind), (2, "Find it:", Kind::Query));
        assert!(both.is_held_by("dug up in 1925.") && !both.is_held_by("1926") && both.score("1925").is_none());
        assert_eq!(
            (alone.id.as_str(), alone.text.as_str(), &alone.image_ids[..]),
            ("7", "", &["b.jpg".to_owned()][..])
        );
        assert_eq!(list.score("estuaries and harbours"), Some(true));
        assert_eq!((&number.urls[..], &number.written[..]), (&["5".to_owned()][..], &["6.9".to_owned()][..]));
        assert_eq!((number.score("about 7 m"), number.kind), (Some(true), Kind::Numerical));
        let dirty: Vec<String> = set.dirty.iter().map(ToString::to_string).collect();
        assert_eq!(
            dirty[..2],
            ["line 5: no passage_id: nothing would be right", "line 6: second row of data_id \"n\""]
        );
        assert!(dirty[2].starts_with("line 7: "), "{dirty:?}");
    }

    #[test]
    fn a_file_of_passages_is_refused() {
        let message = read_text(r#"{"passage_id":"p","passage_text":"t"}"#).unwrap_err().to_string();
        assert!(message.contains("no usable question in 1 rows") && message.contains("data_id"), "{message}");
    }
}
