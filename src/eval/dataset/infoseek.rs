//! InfoSeek's questions: `infoseek_val.jsonl`, the types beside it (`*_qtype.jsonl`) and the entities
//! (`*_withkb.jsonl`).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Answer, DataSet, Dirty, Kind, Question};
use crate::eval::EvalError;
use crate::eval::metric::infoseek::{Item, Reference};
use crate::io::{IoError, JsonlReader};

#[derive(Deserialize)]
struct Record {
    data_id: String,
    #[serde(default)]
    image_id: String,
    question: String,
    #[serde(default)]
    answer: Value,
    #[serde(default)]
    answer_eval: Value,
    #[serde(default)]
    data_split: String,
}

#[derive(Deserialize)]
struct TypeRecord {
    data_id: String,
    question_type: String,
}

#[derive(Deserialize)]
struct EntityRecord {
    data_id: String,
    #[serde(default)]
    entity_id: String,
    #[serde(default)]
    entity_text: String,
}

/// Reads questions. Without `qtype` a type is told by the answer: a range is Numerical, anything else String (Time is
/// scored alike). Without `withkb` questions have no gold article.
///
/// # Errors
/// A file that cannot be read, a damaged line or an unknown type in `qtype` or `withkb`, a question that `qtype` does
/// not know, or no usable question. Rows of `questions` that cannot be used stand in [`DataSet::dirty`].
pub fn read(questions: &Path, qtype: Option<&Path>, withkb: Option<&Path>) -> Result<DataSet, EvalError> {
    let kinds = qtype.map(read_kinds).transpose()?;
    let entities: HashMap<String, EntityRecord> = match withkb {
        Some(path) => rows::<EntityRecord>(path)?.into_iter().map(|(_, e)| (e.data_id.clone(), e)).collect(),
        None => HashMap::new(),
    };
    let mut set = DataSet::default();
    let mut ids = HashSet::new();
    for row in JsonlReader::<Record>::open(questions)? {
        let (line, record) = match row {
            Ok(row) => row,
            Err(IoError::Line { line, reason, .. }) => {
                set.dirty.push(Dirty { line: line as u64, reason });
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let mut dirty = |reason: String| set.dirty.push(Dirty { line: line as u64, reason });
        let reference = match reference(&record.answer_eval) {
            Ok(reference) => reference,
            Err(reason) => {
                dirty(reason);
                continue;
            }
        };
        let by_answer = if matches!(reference, Reference::Range(..)) { Kind::Numerical } else { Kind::String };
        let kind = match &kinds {
            None => by_answer,
            Some(kinds) => {
                *kinds.get(&record.data_id).ok_or_else(|| EvalError::NoKind { id: record.data_id.clone() })?
            }
        };
        if (kind == Kind::Numerical) != (by_answer == Kind::Numerical) {
            dirty(format!("question type {kind} does not go with its answer_eval"));
            continue;
        }
        if record.question.trim().is_empty() {
            dirty("the question is empty".to_owned());
            continue;
        }
        if !ids.insert(record.data_id.clone()) {
            dirty(format!("second row of data_id {:?}", record.data_id));
            continue;
        }
        let entity = entities.get(&record.data_id);
        let known = |text: &String| (!text.is_empty()).then(|| text.clone());
        set.questions.push(Question {
            text: record.question.trim().to_owned(),
            instruction: String::new(),
            kind,
            written: written(&record.answer, &reference),
            picture: None,
            answer: Answer::InfoSeek(reference),
            urls: entity.and_then(|e| known(&e.entity_id)).map(article_url).into_iter().collect(),
            titles: entity.and_then(|e| known(&e.entity_text)).into_iter().collect(),
            section_ids: Vec::new(),
            image_ids: known(&record.image_id).into_iter().collect(),
            split: record.data_split,
            source: "oven".to_owned(),
            evidence: Vec::new(),
            id: record.data_id,
        });
    }
    set.or_empty(questions, "InfoSeek records with answer_eval (the test split has none)")
}

/// URL of an entity's article, as the reader of Wiki6M calls it; what is no Wikidata id stays as it is.
fn article_url(id: String) -> String {
    match id.strip_prefix('Q') {
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
            format!("https://www.wikidata.org/wiki/{id}")
        }
        _ => id,
    }
}

/// Answers as they are written: `answer`, or the texts of the reference.
fn written(answer: &Value, reference: &Reference) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).or_else(|| value.as_f64().map(|x| x.to_string()));
    let mut all: Vec<String> = match answer {
        Value::Array(list) => list.iter().filter_map(text).collect(),
        one => text(one).into_iter().collect(),
    };
    if let Reference::Texts(texts) = reference {
        all.extend(texts.iter().filter(|text| !all.contains(text)).cloned().collect::<Vec<_>>());
    }
    all
}

/// Questions as the file scorer takes them.
#[must_use]
pub fn items(questions: &[Question]) -> Vec<Item> {
    let item = |q: &Question| match &q.answer {
        Answer::InfoSeek(reference) => {
            Some(Item { id: q.id.clone(), split: q.split.clone(), kind: q.kind, reference: reference.clone() })
        }
        Answer::Evqa(_) | Answer::Passages => None,
    };
    questions.iter().filter_map(item).collect()
}

fn read_kinds(path: &Path) -> Result<HashMap<String, Kind>, EvalError> {
    let mut kinds = HashMap::new();
    for (line, row) in rows::<TypeRecord>(path)? {
        let kind: Kind = row.question_type.parse().map_err(|e: EvalError| {
            EvalError::Io(IoError::Line { path: path.to_owned(), line, reason: e.to_string() })
        })?;
        kinds.insert(row.data_id, kind);
    }
    Ok(kinds)
}

fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>, EvalError> {
    Ok(JsonlReader::open(path)?.collect::<Result<_, _>>()?)
}

/// What `answer_eval` says is right: a list of texts, `[{"range": [lo, hi]}]`, or that object alone. A range that is
/// one number is widened by 10 %.
///
/// # Errors
/// What was found and what was expected.
pub fn reference(answer_eval: &Value) -> Result<Reference, String> {
    let shape =
        || "answer_eval is neither a list of texts nor a range; expected [\"…\"] or [{\"range\": [lo, hi]}]".to_owned();
    let object = match answer_eval {
        Value::Array(list) if list.is_empty() => return Err("answer_eval is empty".to_owned()),
        Value::Array(list) => match &list[0] {
            Value::Object(object) => object,
            _ => {
                let texts = list.iter().map(|t| t.as_str().map(str::to_owned)).collect::<Option<_>>();
                return texts.map(Reference::Texts).ok_or_else(shape);
            }
        },
        Value::Object(object) => object,
        Value::Null => return Err("there is no answer_eval".to_owned()),
        _ => return Err(shape()),
    };
    match object.get("range") {
        Some(Value::Array(range)) => {
            match (range.first().and_then(Value::as_f64), range.get(1).and_then(Value::as_f64)) {
                (Some(low), Some(high)) => Ok(Reference::Range(low, high)),
                _ => Err(shape()),
            }
        }
        Some(Value::Number(number)) => {
            let x = number.as_f64().ok_or_else(shape)?;
            let (a, b) = (x * 0.9, x * 1.1);
            Ok(Reference::Range(a.min(b), a.max(b)))
        }
        _ => Err(shape()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::json;

    const QUESTIONS: &str = r#"
{"data_id":"v_0","image_id":"oven_01","question":"Which place is this animal endemic to?","answer":["China"],"answer_eval":["cn","China","🇨🇳"],"data_split":"val_unseen_question"}
{"data_id":"v_1","image_id":"oven_02","question":"How long is it?","answer":["6.9"],"answer_eval":[{"wikidata":6.9,"range":[6.21,7.59]}],"data_split":"val_unseen_entity"}
{"data_id":"v_2","question":"When?","answer_eval":["1925"],"data_split":"val_unseen_entity"}
{"data_id":"v_3","question":"Where?","answer_eval":[]}
{"data_id":"v_2","question":"Twice?","answer_eval":["x"]}
{"data_id":"v_4""#;

    const KINDS: &str = r#"{"data_id":"v_0","question_type":"String"}
{"data_id":"v_1","question_type":"Numerical"}
{"data_id":"v_2","question_type":"Time"}
{"data_id":"v_3","question_type":"String"}"#;

    fn read_texts(questions: &str, kinds: Option<&str>, entities: Option<&str>) -> Result<DataSet, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs_err::write(&path, text).unwrap();
            path
        };
        let questions = write("val.jsonl", questions);
        let kinds = kinds.map(|t| write("val_qtype.jsonl", t));
        let entities = entities.map(|t| write("val_withkb.jsonl", t));
        read(&questions, kinds.as_deref(), entities.as_deref())
    }

    #[test]
    fn joins_the_three_files_and_reports_dirty_lines() {
        let entities = r#"{"data_id":"v_1","entity_id":"Q178185","entity_text":"Heat engine"}"#;
        let set = read_texts(QUESTIONS, Some(KINDS), Some(entities)).unwrap();
        let [first, length, when] = &set.questions[..] else { panic!("{set:?}") };
        assert_eq!((first.kind, length.kind, when.kind), (Kind::String, Kind::Numerical, Kind::Time));
        assert_eq!(
            (&length.urls[..], &length.titles[..]),
            (&["https://www.wikidata.org/wiki/Q178185".to_owned()][..], &["Heat engine".to_owned()][..])
        );
        assert!(first.urls.is_empty() && when.image_ids.is_empty());
        assert_eq!(first.score("the China!"), Some(true));
        assert_eq!((length.score("about 7 m"), length.score("8")), (Some(true), Some(false)));
        let lines: Vec<_> = set.dirty.iter().map(|d| d.line).collect();
        assert_eq!(lines, [5, 6, 7], "{:?}", set.dirty);
        assert_eq!(set.dirty[0].to_string(), "line 5: answer_eval is empty");
        assert_eq!(items(&set.questions)[1].split, "val_unseen_entity");
    }

    #[test]
    fn types_are_told_by_the_answer_without_a_type_file() {
        let set = read_texts(QUESTIONS, None, None).unwrap();
        let kinds: Vec<_> = set.questions.iter().map(|q| q.kind).collect();
        assert_eq!(kinds, [Kind::String, Kind::Numerical, Kind::String]);
    }

    #[test]
    fn a_type_file_that_does_not_fit_is_refused() {
        let message = |kinds| read_texts(QUESTIONS, Some(kinds), None).unwrap_err().to_string();
        assert_eq!(
            message(r#"{"data_id":"v_1","question_type":"Numerical"}"#),
            "no question type for v_0; expected a line of it in the qtype file"
        );
        let unknown = message("\n{\"data_id\":\"v_0\",\"question_type\":\"Date\"}");
        assert!(unknown.contains("val_qtype.jsonl, line 2: unknown question type \"Date\""), "{unknown}");
        let swapped = KINDS.replace("\"Numerical\"", "\"Time\"");
        let set = read_texts(QUESTIONS, Some(&swapped), None).unwrap();
        assert_eq!(set.dirty[0].to_string(), "line 3: question type Time does not go with its answer_eval");
    }

    #[test]
    fn references_come_in_three_shapes() {
        assert_eq!(reference(&json!({"range": [1, 2.5]})), Ok(Reference::Range(1.0, 2.5)));
        assert_eq!(reference(&json!([{"range": -10}])), Ok(Reference::Range(-11.0, -9.0)));
        for bad in [json!(null), json!([]), json!([1]), json!([{"range": []}]), json!({"wikidata": 3}), json!("x")] {
            assert!(reference(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_answers_is_refused() {
        let test = r#"{"data_id":"t","question":"Q?","data_split":"test"}"#;
        let message = read_texts(test, None, None).unwrap_err().to_string();
        assert!(message.contains("(first: line 1: there is no answer_eval); expected InfoSeek records"), "{message}");
    }
}
