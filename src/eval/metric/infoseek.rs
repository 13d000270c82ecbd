//! InfoSeek's official metric (`infoseek_eval.py` of edchengg/infoseek_eval).

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::words::{blank_phrases, collapse};
use crate::eval::{EvalError, Kind};

/// What is right, of one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub enum Reference {
    /// `String` and `Time`: any of these.
    Texts(Vec<String>),
    /// `Numerical`: within [lo, hi].
    Range(f64, f64),
}

/// A reference in a file. Numbers as texts, so that what is read is what was written, to the last bit.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Texts(Vec<String>),
    Range(String, String),
}

impl From<Reference> for Written {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Texts(texts) => Self::Texts(texts),
            Reference::Range(low, high) => Self::Range(low.to_string(), high.to_string()),
        }
    }
}

impl TryFrom<Written> for Reference {
    type Error = std::num::ParseFloatError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Ok(match written {
            Written::Texts(texts) => Self::Texts(texts),
            Written::Range(low, high) => Self::Range(low.parse()?, high.parse()?),
        })
    }
}

/// Numbers found in a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Parsed {
    /// One.
    Number(f64),
    /// Two, the smaller first.
    Range(f64, f64),
}

/// `normalize_answer`.
#[must_use]
pub fn normalize(answer: &str) -> String {
    let plain: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    collapse(&blank_phrases(&plain, &["a", "an", "the"]))
}

// Literals that compile; without them no number is found.
static NUMBER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[-+]?[.]?[\d]+(?:,\d\d\d)*[\.]?\d*(?:[eE][-+]?\d+)?").ok());
static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\d$").ok());

/// Value of a decimal digit of any script: digits stand in runs of ten.
fn digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    let is_digit = |c: char| DIGIT.as_ref().is_some_and(|d| d.is_match(c.encode_utf8(&mut [0; 4])));
    if !is_digit(c) {
        return None;
    }
    let before = (1..).map_while(|n| char::from_u32((c as u32).checked_sub(n)?)).take_while(|c| is_digit(*c)).count();
    char::from_digit(before as u32 % 10, 10)
}

/// `str.isdigit`, which takes superscripts and subscripts too.
fn is_digit(c: char) -> bool {
    digit(c).is_some() || matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉')
}

/// Numbers of a prediction, as the official code reads them: a hyphen after a digit is a dash between two numbers.
#[must_use]
pub fn parse(prediction: &str) -> Parsed {
    let mut text = String::with_capacity(prediction.len());
    let mut previous = ' ';
    for c in prediction.chars() {
        match c {
            '-' if is_digit(previous) => text.push_str(" - "),
            other => text.push(other),
        }
        previous = c;
    }
    let mut numbers = NUMBER.iter().flat_map(|n| n.find_iter(&text)).map(|m| {
        let number: String = m.as_str().chars().filter(|c| *c != ',').map(|c| digit(c).unwrap_or(c)).collect();
        let number = number.trim_matches('.');
        let number = if number.matches('.').count() > 1 { number.split('.').next().unwrap_or("") } else { number };
        number.parse().unwrap_or(0.0)
    });
    match (numbers.next(), numbers.next()) {
        (None, _) => Parsed::Range(0.0, 0.0),
        (Some(a), Some(b)) if a <= b => Parsed::Range(a, b),
        (Some(a), _) => Parsed::Number(a),
    }
}

/// Whether a prediction is right.
#[must_use]
pub fn is_correct(reference: &Reference, prediction: &str) -> bool {
    match reference {
        Reference::Texts(texts) => {
            let given = normalize(prediction);
            texts.iter().any(|t| normalize(t) == given)
        }
        Reference::Range(lo, hi) => {
            let inside = |x: f64| *lo <= x && x <= *hi;
            match parse(prediction) {
                Parsed::Number(x) => inside(x),
                Parsed::Range(a, b) => (inside(a) && inside(b)) || iou((a, b), (*lo, *hi)) >= 0.5 - 1e-12,
            }
        }
    }
}

fn iou(a: (f64, f64), b: (f64, f64)) -> f64 {
    let overlap = (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
    overlap / ((a.1 - a.0 + 1e-12) + (b.1 - b.0 + 1e-12) - overlap)
}

/// One question as the file scorer needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// `data_id`.
    pub id: String,
    /// `data_split`; what does not end in `unseen_question` counts as unseen entity.
    pub split: String,
    /// [`Kind::String`], [`Kind::Time`] or [`Kind::Numerical`].
    pub kind: Kind,
    /// What is right.
    pub reference: Reference,
}

/// What a missing prediction counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing, as in the official code: a file of easy questions alone scores high.
    Ignored,
    /// As a wrong answer.
    Wrong,
}

/// Score of a split, percent, rounded to two digits as the official code does.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct SplitScore {
    /// All questions.
    pub score: f64,
    /// `Time` questions; 0 where there are none.
    pub score_time: f64,
    /// `Numerical` questions.
    pub score_num: f64,
    /// `String` questions.
    pub score_string: f64,
}

/// Score of a whole file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileScore {
    /// Harmonic mean of both splits, percent.
    pub final_score: f64,
    /// Unseen questions.
    pub unseen_question_score: SplitScore,
    /// Unseen entities.
    pub unseen_entity_score: SplitScore,
    /// Questions without a prediction. More than none makes the official number incomparable.
    pub missing: usize,
    /// Predictions whose question is not in the reference; they count nothing.
    pub unknown: usize,
}

/// Scores a file of predictions (`data_id`, text).
///
/// # Errors
/// [`EvalError::TwoPredictions`] for an id that comes twice.
pub fn score_file(items: &[Item], predictions: &[(String, String)], missing: Missing) -> Result<FileScore, EvalError> {
    let mut given = HashMap::new();
    for (id, text) in predictions {
        if given.insert(id.as_str(), text.as_str()).is_some() {
            return Err(EvalError::TwoPredictions { id: id.clone() });
        }
    }
    let known: HashSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let split = |question: bool| {
        let mut right: HashMap<Kind, (usize, usize)> = HashMap::new();
        for item in items.iter().filter(|item| item.split.ends_with("unseen_question") == question) {
            let correct = match (given.get(item.id.as_str()), missing) {
                (Some(text), _) => is_correct(&item.reference, text),
                (None, Missing::Wrong) => false,
                (None, Missing::Ignored) => continue,
            };
            let (sum, n) = right.entry(item.kind).or_default();
            *sum += usize::from(correct);
            *n += 1;
        }
        let of = |kinds: &[Kind]| {
            let parts = kinds.iter().filter_map(|k| right.get(k));
            let (sum, n) = parts.fold((0, 0), |(s, n), (ps, pn)| (s + ps, n + pn));
            if n == 0 { 0.0 } else { round2(sum as f64 / n as f64 * 100.0) }
        };
        SplitScore {
            score: of(&[Kind::Time, Kind::Numerical, Kind::String]),
            score_time: of(&[Kind::Time]),
            score_num: of(&[Kind::Numerical]),
            score_string: of(&[Kind::String]),
        }
    };
    let (unseen_question_score, unseen_entity_score) = (split(true), split(false));
    Ok(FileScore {
        final_score: harmonic_mean(unseen_question_score.score, unseen_entity_score.score),
        unseen_question_score,
        unseen_entity_score,
        missing: items.iter().filter(|item| !given.contains_key(item.id.as_str())).count(),
        unknown: given.keys().filter(|id| !known.contains(*id)).count(),
    })
}

fn harmonic_mean(a: f64, b: f64) -> f64 {
    let safe = |x: f64| if x == 0.0 { 1e-12 } else { x };
    round2(2.0 / (1.0 / safe(a) + 1.0 / safe(b)))
}

/// Python's `round(x, 2)`: by the exact value, ties to even.
fn round2(x: f64) -> f64 {
    format!("{x:.2}").parse().unwrap_or(x)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::dataset::infoseek::reference;
    use crate::eval::metric::golden;

    #[test]
    fn agrees_with_the_official_code_per_question() {
        let cases = golden::cases("infoseek");
        assert!(cases.len() >= 100, "{} cases", cases.len());
        for case in cases {
            let prediction = case["prediction"].as_str().unwrap();
            let reference = if let Some(range) = case["answer_range"].as_array() {
                let parsed = match parse(prediction) {
                    Parsed::Number(x) => vec![x],
                    Parsed::Range(a, b) => vec![a, b],
                };
                let expected = match case["parsed"].as_array() {
                    Some(pair) => pair.iter().map(|x| x.as_f64().unwrap()).collect(),
                    None => vec![case["parsed"].as_f64().unwrap()],
                };
                assert_eq!(parsed, expected, "{case}");
                Reference::Range(range[0].as_f64().unwrap(), range[1].as_f64().unwrap())
            } else {
                assert_eq!(normalize(prediction), case["normalized"], "{case}");
                serde_json::from_value(case["answer_eval"].clone()).map(Reference::Texts).unwrap()
            };
            assert_eq!(i64::from(is_correct(&reference, prediction)), case["score"], "{case}");
        }
    }

    #[test]
    fn agrees_with_the_official_code_on_whole_files() {
        let cases = golden::cases("infoseek_file");
        assert!(cases.len() >= 2, "{} cases", cases.len());
        for case in cases {
            let text = |v: &serde_json::Value, key: &str| v[key].as_str().unwrap().to_owned();
            let rows = |key: &str| case[key].as_array().unwrap();
            let kinds: HashMap<_, Kind> =
                rows("qtype").iter().map(|q| (text(q, "data_id"), text(q, "question_type").parse().unwrap())).collect();
            let item = |r: &serde_json::Value| Item {
                id: text(r, "data_id"),
                split: text(r, "data_split"),
                kind: kinds[r["data_id"].as_str().unwrap()],
                reference: reference(&r["answer_eval"]).unwrap(),
            };
            let items: Vec<_> = rows("reference").iter().map(item).collect();
            let predictions: Vec<_> =
                rows("predictions").iter().map(|p| (text(p, "data_id"), text(p, "prediction"))).collect();
            let score = score_file(&items, &predictions, Missing::Ignored).unwrap();
            let expected = &case["result"];
            assert_eq!(Some(score.final_score), expected["final_score"].as_f64());
            for (split, found) in [
                ("unseen_question_score", score.unseen_question_score),
                ("unseen_entity_score", score.unseen_entity_score),
            ] {
                let found = serde_json::to_value(found).unwrap();
                for (key, value) in expected[split].as_object().unwrap() {
                    assert_eq!(found[key].as_f64(), value.as_f64(), "{split}.{key}");
                }
            }
            assert_eq!(score.missing, items.len() - predictions.len());
            let strict = score_file(&items, &predictions, Missing::Wrong).unwrap();
            assert!(strict.final_score <= score.final_score + if score.missing == 0 { 0.0 } else { 100.0 });
            assert_eq!(strict == score, score.missing == 0);
        }
    }

    #[test]
    fn numbers_are_read_as_the_official_code_reads_them() {
        assert_eq!(parse("1,234.5 km"), Parsed::Number(1234.5));
        assert_eq!(parse("9-10"), Parsed::Range(9.0, 10.0));
        assert_eq!(parse("-9 to -3"), Parsed::Range(-9.0, -3.0));
        assert_eq!(parse("10 - 9"), Parsed::Number(10.0));
        assert_eq!(parse("1.2.3"), Parsed::Range(1.2, 3.0), "the second match begins with its dot");
        assert_eq!(parse(".5"), Parsed::Number(5.0), "dots at the ends go");
        assert_eq!(parse("2e3"), Parsed::Number(2000.0));
        assert_eq!(parse("none"), Parsed::Range(0.0, 0.0));
        assert_eq!(parse("٣٥"), Parsed::Number(35.0));
    }

    #[test]
    fn ranges_are_right_inside_or_with_half_the_union() {
        let reference = Reference::Range(10.0, 20.0);
        for (prediction, right) in
            [("10", true), ("20.01", false), ("12 to 13", true), ("15 to 25", false), ("12 to 22", true), ("0", false)]
        {
            assert_eq!(is_correct(&reference, prediction), right, "{prediction}");
        }
    }

    #[test]
    fn rounding_is_that_of_python() {
        assert_eq!([3.125, 9.375, 0.005, 2.675, 66.666_666].map(round2), [3.12, 9.38, 0.01, 2.67, 66.67]);
        assert_eq!(harmonic_mean(0.0, 50.0), 0.0);
    }

    #[test]
    fn two_predictions_for_one_question_are_refused() {
        let twice = [("q".to_owned(), "a".to_owned()), ("q".to_owned(), "b".to_owned())];
        assert!(
            matches!(score_file(&[], &twice, Missing::Ignored), Err(EvalError::TwoPredictions { id }) if id == "q")
        );
    }
}
