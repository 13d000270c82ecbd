//! What a run came to: tables of numbers, each with the name of its metric, as text, JSON, CSV, Markdown and one page of
//! HTML.
//!
//! A [`Report`] is made of what a run's folder holds, and of nothing else: the same answers give the same report, to the
//! byte, but for the times, which may be left out.

mod csv;
mod html;
mod plot;
mod table;
mod tables;

use serde::Serialize;

pub use html::{Thumbnails, page_sample};
pub use table::{Row, Table};
pub use tables::{answers, causes};

use super::answers::Mode;
use super::judged::Bem;
use super::metric::infoseek::FileScore;
use super::retrieved::Retrievals;
use super::run::{Manifest, RunFolder};
use super::verdict::Scored;
use super::{EvalError, Question};
use crate::io::write_atomic;
use crate::text::sanitise_line;

/// A question, and what came of it in one mode.
pub type Asked<'a> = (&'a Question, Scored);

/// What a report is made of.
pub struct Inputs<'a> {
    /// The run.
    pub folder: &'a RunFolder,
    /// What was found.
    pub retrievals: &'a Retrievals,
    /// What was answered, by mode, in the order of the questions.
    pub asked: &'a [Asked<'a>],
    /// The model that judged answers, if one did.
    pub bem: Option<&'a Bem>,
    /// Answers that it was to judge, and has not.
    pub unjudged: usize,
    /// Whether times are told.
    pub times: bool,
}

/// The numbers of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was evaluated.
    pub title: String,
    /// Everything that decides the numbers.
    pub manifest: Manifest,
    /// The model that judged answers; `None` for exact match alone.
    pub bem: Option<Bem>,
    /// Questions of this run.
    pub questions: usize,
    /// Whether every one of them was searched for, asked in every mode, and judged.
    pub complete: bool,
    /// The official numbers of InfoSeek, percent, by mode.
    pub infoseek: Vec<(Mode, FileScore)>,
    /// The numbers.
    pub tables: Vec<Table>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Report {
    /// Counts.
    ///
    /// # Errors
    /// Two answers to one question.
    pub fn new(inputs: &Inputs) -> Result<Self, EvalError> {
        let manifest = inputs.folder.manifest().clone();
        let questions = inputs.folder.questions().len();
        let official = tables::infoseek(inputs)?;
        let mut tables = vec![answers(inputs.asked)];
        tables.extend(tables::infoseek_intervals(inputs));
        tables.extend(tables::retrieval(inputs));
        tables.extend(tables::causes(inputs.asked));
        tables.extend(tables::abstention(inputs.asked));
        if inputs.times {
            tables.extend(tables::times(inputs));
        }
        tables.retain(|table| !table.rows.is_empty());
        let expected = questions * manifest.modes.len();
        let searched = inputs.retrievals.is_empty() || inputs.retrievals.len() == questions;
        let complete = inputs.asked.len() == expected && searched && inputs.unjudged == 0;
        let notes = notes(inputs, &manifest, expected);
        let title = format!("{questions} questions of {}", sanitise_line(&manifest.data.name));
        let bem = inputs.bem.cloned();
        Ok(Self { title, manifest, bem, questions, complete, infoseek: official, tables, notes })
    }

    /// All tables as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.written(Table::to_text, "")
    }

    /// All tables as Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        format!("# {}", self.written(Table::to_markdown, "\n"))
    }

    fn written(&self, table: impl Fn(&Table) -> String, between: &str) -> String {
        let mut parts = vec![format!("{}\n", self.title)];
        parts.extend(self.tables.iter().map(table));
        parts.extend(self.infoseek.iter().map(|(mode, score)| format!("{}\n", official(*mode, score))));
        if !self.notes.is_empty() {
            parts.push(self.notes.iter().map(|note| format!("{note}\n")).collect::<Vec<_>>().join(between));
        }
        parts.join("\n")
    }

    /// Writes `report.json`, `report.md`, `report.csv` (the numbers), `answers.csv` (the questions) and `report.html` into the
    /// run's folder, each whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, inputs: &Inputs, json: &[u8], page: &Thumbnails) -> Result<(), EvalError> {
        let dir = inputs.folder.dir();
        write_atomic(&dir.join("report.json"), json)?;
        write_atomic(&dir.join("report.md"), self.to_markdown().as_bytes())?;
        let path = dir.join("report.csv");
        write_atomic(&path, &csv::numbers(&path, self)?)?;
        let path = dir.join("answers.csv");
        write_atomic(&path, &csv::answers(&path, inputs)?)?;
        write_atomic(&dir.join("report.html"), html::page(self, inputs, page).as_bytes())?;
        Ok(())
    }
}

/// The official numbers as a paper quotes them.
fn official(mode: Mode, score: &FileScore) -> String {
    format!(
        "InfoSeek official, {mode}: {:.2} (unseen question {:.2}, unseen entity {:.2})",
        score.final_score, score.unseen_question_score.score, score.unseen_entity_score.score
    )
}

fn notes(inputs: &Inputs, manifest: &Manifest, expected: usize) -> Vec<String> {
    let data = &manifest.data;
    let mut notes = Vec::new();
    if let Some(shard) = manifest.shard {
        notes.push(format!("part {shard} of a run; `cicerone eval merge` puts the parts together"));
    }
    if inputs.asked.len() < expected {
        let (there, left) = (inputs.asked.len(), expected - inputs.asked.len());
        notes.push(if manifest.modes == [Mode::Predicted] {
            format!(
                "{left} of {expected} questions have no prediction and are left out: no number to compare with others"
            )
        } else {
            format!("{left} of {expected} answers are not there yet ({there} are); `cicerone eval run` goes on")
        });
    }
    if inputs.bem.is_none() && inputs.asked.iter().any(|(_, s)| s.metric == super::metric::EVQA_EXACT) {
        notes.push("EM only: published numbers of Encyclopedic-VQA accept what BEM finds equivalent, too".to_owned());
    }
    if inputs.unjudged > 0 {
        notes.push(format!("{} answers were not judged by BEM yet and count as wrong", inputs.unjudged));
    }
    if data.two_hop > 0 {
        notes.push(format!("{} 2_hop questions are left out, as in most publications", data.two_hop));
    }
    if data.dirty > 0 {
        let first = sanitise_line(data.first_dirty.as_deref().unwrap_or_default());
        notes.push(format!("{} rows of the data set cannot be used (first: {first})", data.dirty));
    }
    let seen = manifest.modes != [Mode::Predicted];
    let missing = if seen { data.pictures.named - data.pictures.found } else { 0 };
    if missing > 0 {
        let first = sanitise_line(data.pictures.missing.first().map_or("", |(_, picture)| picture));
        let named = data.pictures.named;
        notes.push(format!("{missing} of {named} pictures are missing (first: {first}); their questions fail"));
    }
    notes.push("95 % intervals: Wilson's of proportions, the percentile bootstrap's of everything".to_owned());
    notes
}

#[cfg(test)]
mod tests;
