//! Runs: questions are answered one by one, scored and kept as they come.
//!
//! Each outcome goes to a [`Log`] as soon as it is there. Answers are kept, not scores: what is in the log is scored anew
//! each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::abstention::Signals;
use super::log::Log;
use super::verdict::{Judge, Scored};
use super::{EvalError, Kind, Question};

/// What the reader is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The passages that were retrieved.
    Retrieved,
    /// Passages of the right article, ranked as usual.
    OracleEntity,
    /// The section that holds the answer.
    OraclePassage,
    /// No passage.
    NoRetrieval,
    /// Unknown: the answers are predictions of another system.
    Predicted,
}

impl Mode {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrieved => "retrieved",
            Self::OracleEntity => "oracle-entity",
            Self::OraclePassage => "oracle-passage",
            Self::NoRetrieval => "no-retrieval",
            Self::Predicted => "predicted",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer; empty for an abstention.
    pub answer: String,
    /// The article it is about, by URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// What the reader was given, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passages: Vec<Shown>,
    /// Why there is no answer, where it is "not in the knowledge base".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// Whether the reader was not asked, since an equal prompt had its answer.
    #[serde(skip)]
    pub remembered: bool,
    /// How sure it is, by signal: the entity's score, its margin, the best section's score.
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    pub signals: Signals,
}

/// A passage that was before the reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Heading of the section.
    pub section: String,
    /// Index of the section in the article.
    pub section_index: usize,
    /// What the reader read of it.
    pub text: String,
}

impl Outcome {
    /// Lets go of the texts of passages, which are most of it; they stay in the log.
    pub fn forget_texts(&mut self) {
        for passage in self.reply.iter_mut().flat_map(|reply| &mut reply.passages) {
            passage.text = String::new();
        }
    }
}

impl From<&str> for Reply {
    fn from(answer: &str) -> Self {
        Self { answer: answer.to_owned(), ..Self::default() }
    }
}

/// One answer, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The question.
    pub id: String,
    /// What the reader was given.
    pub mode: Mode,
    /// The question's text, to read along and to tell another data set.
    pub question: String,
    /// A reference, to read along.
    pub reference: String,
    /// The answer and what it rests on; `None` where it failed.
    #[serde(flatten)]
    pub reply: Option<Reply>,
    /// Why it failed. A failed question is asked again by the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From question to answer, seconds.
    pub seconds: f64,
    /// Whether the reader was not asked, since an equal prompt had its answer: the time says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remembered: bool,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Answers that are there, those of earlier runs included.
    pub done: usize,
    /// Answers that will be.
    pub total: usize,
    /// Of those done, taken from an earlier run.
    pub resumed: usize,
    /// Of those done, right.
    pub correct: usize,
    /// Of those done, failed.
    pub failed: usize,
    /// Where passages come from just now.
    pub mode: Mode,
    /// Answers in this mode.
    pub done_in_mode: usize,
    /// Of those, right.
    pub correct_in_mode: usize,
}

/// What a run gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Scored outcomes: by mode, in the order of the questions.
    pub outcomes: Vec<Scored>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// A part of the questions in which each type has its share, the same for the same seed whatever the order of the file;
/// in the file's order. All of them where there are no more than `n`.
#[must_use]
pub fn sample(questions: &[Question], n: usize, seed: u64) -> Vec<&Question> {
    if n >= questions.len() {
        return questions.iter().collect();
    }
    let mut by_kind: BTreeMap<Kind, Vec<(blake3::Hash, usize)>> = BTreeMap::new();
    for (i, question) in questions.iter().enumerate() {
        let hash = blake3::Hasher::new().update(&seed.to_le_bytes()).update(question.id.as_bytes()).finalize();
        by_kind.entry(question.kind).or_default().push((hash, i));
    }
    // Largest remainders: whole shares first, then one more for the types that lost most by rounding down.
    let share = |of: usize| (n * of / questions.len(), n * of % questions.len());
    let mut sizes: Vec<_> = by_kind.iter().map(|(kind, all)| (*kind, share(all.len()))).collect();
    sizes.sort_by_key(|(kind, (_, remainder))| (std::cmp::Reverse(*remainder), *kind));
    let mut left = n - sizes.iter().map(|(_, (whole, _))| whole).sum::<usize>();
    let mut chosen = BTreeSet::new();
    for (kind, (whole, _)) in sizes {
        let size = whole + usize::from(left > 0);
        left = left.saturating_sub(1);
        if let Some(all) = by_kind.get_mut(&kind) {
            all.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            chosen.extend(all.iter().take(size).map(|(_, i)| *i));
        }
    }
    chosen.into_iter().map(|i| &questions[i]).collect()
}

/// Asks every question in every mode, those apart that `log` has answers for.
///
/// # Arguments
/// `run` says what is evaluated (models, knowledge base, settings that change answers): a log of another run is
/// refused. `answer` makes one answer; its error fails that question alone. `progress` is told after each answer, and
/// stops the run with `Break`.
///
/// # Errors
/// A log that cannot be read or written, is damaged before its last line, or is of another run or data set.
pub fn run(
    questions: &[&Question],
    modes: &[Mode],
    log: Option<(&Path, &Value)>,
    mut answer: impl FnMut(&Question, Mode) -> Result<Reply, String>,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Answers, EvalError> {
    let mut kept: HashMap<(String, Mode), Outcome> = HashMap::new();
    let mut writer = None;
    if let Some((path, run)) = log {
        let texts: HashMap<&str, &str> = questions.iter().map(|q| (q.id.as_str(), q.text.as_str())).collect();
        writer = Some(Log::open(path, run, |outcome: Outcome| {
            let text = texts.get(outcome.id.as_str()).copied();
            keep(path, &mut kept, outcome, text)
        })?);
    }
    let mut answers = Answers::default();
    let (total, mode) = (questions.len() * modes.len(), Mode::Retrieved);
    let mut state =
        Progress { done: 0, total, resumed: 0, correct: 0, failed: 0, mode, done_in_mode: 0, correct_in_mode: 0 };
    'run: for mode in modes {
        (state.mode, state.done_in_mode, state.correct_in_mode) = (*mode, 0, 0);
        for question in questions {
            let outcome = match kept.remove(&(question.id.clone(), *mode)) {
                Some(outcome) => {
                    state.resumed += 1;
                    outcome
                }
                None => {
                    let outcome = ask(question, *mode, &mut answer);
                    if let Some(file) = &mut writer {
                        file.append(&outcome)?;
                    }
                    outcome
                }
            };
            let mut scored = Scored::new(question, outcome, &Judge::Text);
            scored.outcome.forget_texts();
            state.done += 1;
            let correct = usize::from(scored.correct == Some(true));
            state.correct += correct;
            state.done_in_mode += 1;
            state.correct_in_mode += correct;
            state.failed += usize::from(scored.outcome.error.is_some());
            answers.outcomes.push(scored);
            if progress(state).is_break() {
                answers.stopped = state.done < state.total;
                break 'run;
            }
        }
    }
    if let Some(file) = &mut writer {
        file.sync()?;
    }
    Ok(answers)
}

fn ask(question: &Question, mode: Mode, answer: &mut impl FnMut(&Question, Mode) -> Result<Reply, String>) -> Outcome {
    let start = Instant::now();
    let (reply, error) = match answer(question, mode) {
        Ok(reply) => (Some(reply), None),
        Err(reason) => (None, Some(reason)),
    };
    Outcome {
        id: question.id.clone(),
        mode,
        question: question.text.clone(),
        reference: question.reference(),
        remembered: reply.as_ref().is_some_and(|reply| reply.remembered),
        reply,
        error,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Takes over an answer of an earlier run, but not one that failed.
fn keep(
    path: &Path,
    kept: &mut HashMap<(String, Mode), Outcome>,
    mut outcome: Outcome,
    text: Option<&str>,
) -> Result<(), EvalError> {
    if let Some(text) = text.filter(|text| *text != outcome.question) {
        return Err(EvalError::OtherRun {
            path: path.to_owned(),
            field: format!("question {}", outcome.id),
            found: outcome.question,
            expected: text.to_owned(),
        });
    }
    if outcome.reply.is_some() {
        outcome.forget_texts();
        kept.insert((outcome.id.clone(), outcome.mode), outcome);
    }
    Ok(())
}

impl Answers {
    /// 1 for right and 0 for wrong or not scored, by one of the marks of an outcome, question by question in one mode, for
    /// [`super::metric::interval::paired_bootstrap`].
    #[must_use]
    pub fn values(&self, mode: Mode, mark: impl Fn(&Scored) -> Option<bool>) -> Vec<f64> {
        let of = self.outcomes.iter().filter(|s| s.outcome.mode == mode);
        of.map(|s| f64::from(mark(s) == Some(true))).collect()
    }
}

#[cfg(test)]
mod tests;
