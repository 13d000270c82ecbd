//! Questions of a benchmark, in one shape whatever file they came from.
//!
//! | format | files | file here |
//! | --- | --- | --- |
//! | `evqa` | Encyclopedic-VQA's CSV, and InfoSeek's in the same columns (EchoSight, ARA) | `evqa` |
//! | `infoseek` | InfoSeek's JSON lines, with `withkb` and `qtype` | `infoseek` |
//! | `m2kr` | M2KR's and ReT-M2KR's queries, JSON lines (or parquet tables, with the feature) | `m2kr` |
//! | `mbeir` | M-BEIR's queries and their qrels | `mbeir` |
//!
//! [`open`] reads any of them; [`pictures`] finds their pictures.

pub mod evqa;
pub mod infoseek;
pub mod m2kr;
pub mod mbeir;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
pub mod pictures;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use open::{Files, Format, open};

use serde::{Deserialize, Serialize};

use super::EvalError;
use super::metric::{self, infoseek::Reference};

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Identity within its data set.
    pub id: String,
    /// The question, as it is asked; empty where a picture alone is the query.
    pub text: String,
    /// What the data set puts before it when it is encoded; empty where it says nothing of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instruction: String,
    /// Decides how an answer is scored.
    pub kind: Kind,
    /// What is right.
    pub answer: Answer,
    /// Gold articles, by URL (of InfoSeek's entities that on Wikidata, of passages their ids); two for `2_hop`, none where the
    /// data set names none.
    pub urls: Vec<String>,
    /// Titles of the gold articles.
    pub titles: Vec<String>,
    /// Sections of the gold article that hold the answer: indices into its sections.
    pub section_ids: Vec<usize>,
    /// Pictures, by the data set's own ids.
    pub image_ids: Vec<String>,
    /// Part of the data set: `test`, `val_unseen_question`, …
    pub split: String,
    /// Where its picture is from: `inaturalist`, `landmarks`, `oven`, …
    pub source: String,
    /// Texts that hold the answer, where the data set quotes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Answers as a passage would hold them, for pseudo-recall.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<String>,
    /// The file of its picture, once it was looked for ([`pictures::find`]) and found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PathBuf>,
}

/// What is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Encyclopedic-VQA: any of these references; the items of a list stand apart.
    Evqa(Vec<Vec<String>>),
    /// InfoSeek.
    InfoSeek(Reference),
    /// Passages are looked for, and no answer.
    Passages,
}

impl Question {
    /// Whether a prediction is right by the official metric of the question's data set (without BEM); `None` where
    /// that metric cannot score it.
    #[must_use]
    pub fn score(&self, prediction: &str) -> Option<bool> {
        match &self.answer {
            Answer::Evqa(references) => metric::evqa::score(self.kind, references, prediction).correct(),
            Answer::InfoSeek(reference) => Some(metric::infoseek::is_correct(reference, prediction)),
            Answer::Passages => None,
        }
    }

    /// Name of the metric of [`Question::score`].
    #[must_use]
    pub fn metric(&self) -> &'static str {
        match self.answer {
            Answer::Evqa(_) => metric::EVQA_EXACT,
            Answer::InfoSeek(_) => metric::INFOSEEK,
            Answer::Passages => metric::NONE,
        }
    }

    /// Every reference in words; the items of a list with commas between them.
    #[must_use]
    pub fn references(&self) -> Vec<String> {
        let mut all: Vec<String> = match &self.answer {
            Answer::Evqa(references) => references.iter().map(|r| r.join(", ").trim().to_owned()).collect(),
            Answer::InfoSeek(Reference::Texts(texts)) => texts.clone(),
            Answer::InfoSeek(Reference::Range(..)) => vec![self.reference()],
            Answer::Passages => Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        all.retain(|text| seen.insert(text.clone()));
        all
    }

    /// Whether a text holds an answer, in whatever case: what pseudo-recall counts (Lin et al. 2024).
    #[must_use]
    pub fn is_held_by(&self, lowercase_text: &str) -> bool {
        let held = |answer: &String| {
            let answer = answer.trim().to_lowercase();
            !answer.is_empty() && lowercase_text.contains(&answer)
        };
        self.written.iter().any(held)
    }

    /// One reference in words, to show beside an answer.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.answer {
            Answer::Evqa(references) => references.first().map_or(String::new(), |r| r.join(", ").trim().to_owned()),
            Answer::InfoSeek(Reference::Texts(texts)) => texts.first().cloned().unwrap_or_default(),
            Answer::InfoSeek(Reference::Range(low, high)) => format!("{low} to {high}"),
            Answer::Passages => self.written.first().cloned().unwrap_or_default(),
        }
    }
}

/// Kinds of question, as the data sets name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// E-VQA: from a template.
    #[serde(rename = "templated")]
    Templated,
    /// E-VQA: generated.
    #[serde(rename = "automatic")]
    Automatic,
    /// E-VQA: the answer is a list.
    #[serde(rename = "multi_answer")]
    MultiAnswer,
    /// E-VQA: over two articles.
    #[serde(rename = "2_hop")]
    TwoHop,
    /// InfoSeek: a text.
    String,
    /// InfoSeek: a number within a range.
    Numerical,
    /// InfoSeek: a date, scored as a text.
    Time,
    /// M2KR, M-BEIR: a query, whose passages are known.
    #[serde(rename = "query")]
    Query,
}

impl Kind {
    /// As in the files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Templated => "templated",
            Self::Automatic => "automatic",
            Self::MultiAnswer => "multi_answer",
            Self::TwoHop => "2_hop",
            Self::String => "String",
            Self::Numerical => "Numerical",
            Self::Time => "Time",
            Self::Query => "query",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self, EvalError> {
        const ALL: [Kind; 8] = [
            Kind::Templated,
            Kind::Automatic,
            Kind::MultiAnswer,
            Kind::TwoHop,
            Kind::String,
            Kind::Numerical,
            Kind::Time,
            Kind::Query,
        ];
        ALL.into_iter().find(|k| k.name() == text).ok_or_else(|| EvalError::Kind {
            found: text.to_owned(),
            expected: "templated, automatic, multi_answer, 2_hop, String, Numerical, Time or query",
        })
    }
}

/// What a file gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataSet {
    /// Usable questions in the file's order.
    pub questions: Vec<Question>,
    /// Rows that were left out.
    pub dirty: Vec<Dirty>,
    /// `2_hop` questions that were left out, as in most publications.
    pub two_hop: usize,
}

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dirty {
    /// Line the row begins in, counted from 1.
    pub line: u64,
    /// What was found and what was expected.
    pub reason: String,
}

impl fmt::Display for Dirty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}
