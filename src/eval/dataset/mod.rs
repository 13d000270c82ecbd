//! Questions of a benchmark, in one shape whatever file they came from.

pub mod evqa;
pub mod infoseek;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EvalError;
use super::metric::{self, infoseek::Reference};

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Identity within its data set.
    pub id: String,
    /// The question, as it is asked.
    pub text: String,
    /// Decides how an answer is scored.
    pub kind: Kind,
    /// What is right.
    pub answer: Answer,
    /// Gold articles, by URL (InfoSeek: by `entity_id`); two for `2_hop`, none where the data set names none.
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
    pub evidence: Vec<String>,
}

/// What is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Encyclopedic-VQA: any of these references; the items of a list stand apart.
    Evqa(Vec<Vec<String>>),
    /// InfoSeek.
    InfoSeek(Reference),
}

impl Question {
    /// Whether a prediction is right by the official metric of the question's data set (without BEM); `None` where
    /// that metric cannot score it.
    #[must_use]
    pub fn score(&self, prediction: &str) -> Option<bool> {
        match &self.answer {
            Answer::Evqa(references) => metric::evqa::score(self.kind, references, prediction).correct(),
            Answer::InfoSeek(reference) => Some(metric::infoseek::is_correct(reference, prediction)),
        }
    }

    /// Name of the metric of [`Question::score`].
    #[must_use]
    pub fn metric(&self) -> &'static str {
        match self.answer {
            Answer::Evqa(_) => metric::EVQA_EXACT,
            Answer::InfoSeek(_) => metric::INFOSEEK,
        }
    }

    /// One reference in words, to show beside an answer.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.answer {
            Answer::Evqa(references) => references.first().map_or(String::new(), |r| r.join(", ").trim().to_owned()),
            Answer::InfoSeek(Reference::Texts(texts)) => texts.first().cloned().unwrap_or_default(),
            Answer::InfoSeek(Reference::Range(low, high)) => format!("{low} to {high}"),
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
        const ALL: [Kind; 7] = [
            Kind::Templated,
            Kind::Automatic,
            Kind::MultiAnswer,
            Kind::TwoHop,
            Kind::String,
            Kind::Numerical,
            Kind::Time,
        ];
        ALL.into_iter().find(|k| k.name() == text).ok_or_else(|| EvalError::Kind {
            found: text.to_owned(),
            expected: "templated, automatic, multi_answer, 2_hop, String, Numerical or Time",
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
