//! The answers of another system: a file of predictions, whatever its shape.
//!
//! | shape | looks like |
//! | --- | --- |
//! | JSON lines | `{"data_id": "…", "prediction": "…"}` a line (InfoSeek's own) |
//! | a JSON list | `[{"data_id": "…", "prediction": "…"}, …]` |
//! | a JSON object | `{"…": "…", …}`, from id to answer |
//! | CSV | two columns of those names, among others |
//!
//! The id may be called `data_id`, `question_id`, `id` or `qid`, the answer `prediction`, `pred`,
//! `output` or `answer`; where there are several, the first of these counts.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::answers::{Mode, Outcome, Reply};
use super::{EvalError, Question};

const IDS: [&str; 4] = ["data_id", "question_id", "id", "qid"];
// Some write the reference beside the prediction, and call it `answer`.
const ANSWERS: [&str; 4] = ["prediction", "pred", "output", "answer"];

/// What to do about questions without a prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Partial {
    /// Refuse the file: a file of easy questions alone scores high.
    #[default]
    Refuse,
    /// They are wrong.
    Wrong,
    /// They are left out, as InfoSeek's official code does.
    LeftOut,
}

/// Predictions by the id of their question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Predictions(HashMap<String, String>);

impl Predictions {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or is of no shape that is known, with the line; or two predictions for one question.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let text = fs_err::read_to_string(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let bad = |reason: String| EvalError::Predictions { path: path.to_owned(), reason };
        let pairs = match text.trim_start().chars().next() {
            None => return Err(bad("the file is empty; expected predictions".to_owned())),
            Some('[') => list(text),
            Some('{') => object(text),
            Some(_) => columns(text),
        };
        let mut all = HashMap::new();
        for (id, answer) in pairs.map_err(bad)? {
            if all.insert(id.clone(), answer).is_some() {
                return Err(EvalError::TwoPredictions { id });
            }
        }
        Ok(Self(all))
    }

    /// Predictions of no question that is known.
    #[must_use]
    pub fn unknown(&self, questions: &[Question]) -> usize {
        self.0.len() - questions.iter().filter(|q| self.0.contains_key(&q.id)).count()
    }

    /// The questions with their predictions, as a run has them. Of those without one, what `partial` says.
    ///
    /// # Errors
    /// [`EvalError::Missing`].
    pub fn outcomes<'q>(
        &self,
        path: &Path,
        questions: &'q [Question],
        partial: Partial,
    ) -> Result<Vec<(&'q Question, Outcome)>, EvalError> {
        let without: Vec<&Question> = questions.iter().filter(|q| !self.0.contains_key(&q.id)).collect();
        if let (Partial::Refuse, Some(first)) = (partial, without.first()) {
            let (missing, questions, first) = (without.len(), questions.len(), first.id.clone());
            return Err(EvalError::Missing { path: path.to_owned(), missing, questions, first });
        }
        let outcome = |question: &'q Question| {
            let reply = match (self.0.get(&question.id), partial) {
                (Some(answer), _) => Some(Reply::from(answer.as_str())),
                (None, Partial::LeftOut) => return None,
                (None, _) => None,
            };
            let error = reply.is_none().then(|| "no prediction".to_owned());
            let (id, text, reference) = (question.id.clone(), question.text.clone(), question.reference());
            let outcome = Outcome {
                id,
                mode: Mode::Predicted,
                question: text,
                reference,
                reply,
                error,
                seconds: 0.0,
                remembered: false,
            };
            Some((question, outcome))
        };
        Ok(questions.iter().filter_map(outcome).collect())
    }
}

/// An object's entries as they are written: a map would keep the last of two under one id.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

type Pairs = Result<Vec<(String, String)>, String>;

fn expected() -> String {
    format!("expected an id ({}) and an answer ({})", IDS.join(", "), ANSWERS.join(", "))
}

/// A scalar as text.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn pair(value: &Value) -> Option<(String, String)> {
    let of = |names: &[&str]| names.iter().find_map(|name| value.get(name)).and_then(text_of);
    Some((of(&IDS)?, of(&ANSWERS)?))
}

fn list(text: &str) -> Pairs {
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let row = |(n, row): (usize, &Value)| pair(row).ok_or_else(|| format!("entry {}: {}", n + 1, expected()));
    rows.iter().enumerate().map(row).collect()
}

fn object(text: &str) -> Pairs {
    // One object from id to answer, unless it has the names of a row.
    if let Ok(Entries(entries)) = serde_json::from_str(text)
        && ![&IDS, &ANSWERS].iter().all(|names| entries.iter().any(|(name, _)| names.contains(&name.as_str())))
    {
        let entry = |(id, answer): (String, Value)| match text_of(&answer) {
            Some(answer) => Ok((id, answer)),
            None => Err(format!("the answer of {id:?} is no text; expected an object from id to answer")),
        };
        return entries.into_iter().map(entry).collect();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let value: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", n + 1))?;
            pair(&value).ok_or_else(|| format!("line {}: {}", n + 1, expected()))
        })
        .collect()
}

fn columns(text: &str) -> Pairs {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let at = |names: &[&str]| names.iter().find_map(|name| header.iter().position(|found| found.trim() == *name));
    let (Some(id), Some(answer)) = (at(&IDS), at(&ANSWERS)) else {
        return Err(format!(
            "its columns are {}; {}",
            header.iter().take(20).collect::<Vec<_>>().join(", "),
            expected()
        ));
    };
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|e| e.to_string())?;
        Ok((record[id].to_owned(), record[answer].to_owned()))
    };
    reader.records().map(row).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::dataset::evqa;

    fn read_text(text: &str) -> Result<Predictions, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        fs_err::write(&path, text).unwrap();
        Predictions::read(&path)
    }

    #[test]
    fn every_shape_gives_the_same() {
        let expected = Predictions(HashMap::from([("a".into(), "x, y".into()), ("7".into(), "3.5".into())]));
        for text in [
            "{\"data_id\":\"a\",\"prediction\":\"x, y\"}\n\n{\"question_id\":7,\"answer\":3.5}\n",
            "[{\"id\":\"a\",\"pred\":\"x, y\"},{\"qid\":\"7\",\"output\":\"3.5\"}]",
            "{\"a\": \"x, y\", \"7\": 3.5}",
            "\u{feff}note,prediction,data_id\nn,\"x, y\",a\nm,3.5,7\n",
        ] {
            assert_eq!(read_text(text).unwrap(), expected, "{text}");
        }
        let beside = read_text("data_id,question,answer,pred\na,q,gold,x\n").unwrap();
        assert_eq!(beside.0["a"], "x", "what is called a prediction is one");
        let one = read_text("{\"data_id\":\"a\",\"prediction\":\"x\"}").unwrap();
        assert_eq!(one.0["a"], "x", "one line is no object from id to answer");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        let said = |text: &str| read_text(text).unwrap_err().to_string();
        assert!(
            said("{\"data_id\":\"a\",\"prediction\":\"x\"}\n{\"data_id\":\"b\"}").contains("line 2: expected an id")
        );
        assert!(said("[{\"data_id\":\"a\"}]").contains("entry 1: expected an id"));
        assert!(said("{\"a\": [1]}").contains("the answer of \"a\" is no text"));
        assert!(said("{\"a\": \"x\", \"a\": \"y\"}").contains("two predictions for question a"));
        assert!(said("{\"id\":\"a\",\"prediction\":null,\"answer\":\"gold\"}").contains("line 1: expected an id"));
        assert!(said("question,answer\nq,a").contains("its columns are question, answer; expected an id (data_id"));
        assert!(said(" \n").contains("the file is empty"));
        assert!(
            said("{\"data_id\":\"a\",\"prediction\":\"x\"}\n{\"data_id\":\"a\",\"prediction\":\"y\"}").contains("two")
        );
    }

    #[test]
    fn a_part_of_the_questions_is_refused_unless_it_is_asked_for() {
        let csv = "data_id,question,question_type,answer,wikipedia_url\na,q,automatic,x,u\nb,r,automatic,y,u\n";
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("q.csv"), csv).unwrap();
        let questions = evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions;
        let some = read_text("{\"a\": \"x\", \"z\": \"w\"}").unwrap();
        let of = |partial| some.outcomes(Path::new("p.json"), &questions, partial);
        let refused = of(Partial::Refuse).unwrap_err().to_string();
        assert_eq!(refused, "p.json: 1 of 2 questions have no prediction (first: b)");
        assert_eq!(of(Partial::LeftOut).unwrap().len(), 1);
        let wrong = of(Partial::Wrong).unwrap();
        assert_eq!((wrong.len(), wrong[1].1.error.as_deref()), (2, Some("no prediction")));
        assert_eq!(some.unknown(&questions), 1);
    }
}
