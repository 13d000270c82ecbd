//! Runs: questions are answered one by one, scored and kept as they come.
//!
//! Each outcome is appended to a file of JSON lines as soon as it is there; the first line says what run it is. A second
//! run over the same file goes on where the first ended, and a run with other settings is refused. Answers are kept,
//! not scores: what is in the file is scored anew each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::abstention::Signals;
use super::{EvalError, Kind, Question, Row, Table};
use crate::io::{IoError, JsonlReader, JsonlWriter};

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
    /// Sections of it that the reader was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<usize>,
    /// Why there is no answer, where it is "not in the knowledge base".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// How sure it is, by signal: the entity's score, its margin, the best section's score.
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    pub signals: Signals,
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
}

/// First line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    run: Value,
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Header(Header),
    Outcome(Outcome),
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
}

/// What a run gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Scored outcomes: by mode, in the order of the questions.
    pub outcomes: Vec<Scored>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// An outcome with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// What was answered.
    pub outcome: Outcome,
    /// The question's type.
    pub kind: Kind,
    /// Name of the metric.
    pub metric: &'static str,
    /// Whether it is right; a failed one is wrong. `None` where the metric cannot score the question.
    pub correct: Option<bool>,
    /// Whether it is about the right article, which an abstention need not be; `None` where nothing was looked for.
    pub entity: Option<bool>,
    /// Whether a section that holds the answer was before the reader; `None` where nothing was looked for, or the data set
    /// names none.
    pub section: Option<bool>,
}

impl Scored {
    fn new(question: &Question, outcome: Outcome) -> Self {
        let reply = outcome.reply.as_ref();
        let correct = reply.map_or(Some(false), |reply| question.score(&reply.answer));
        let about = reply.and_then(|reply| reply.entity.as_ref());
        // Whoever abstains has found neither.
        let abstained = reply.is_some_and(|reply| reply.abstained.is_some());
        let found = about.is_some() || abstained;
        let entity = (found && !question.urls.is_empty()).then(|| about.is_some_and(|url| question.urls.contains(url)));
        let section = (found && !question.section_ids.is_empty()).then(|| {
            let shown = reply.map_or(&[][..], |reply| &reply.sections);
            entity == Some(true) && question.section_ids.iter().any(|section| shown.contains(section))
        });
        Self { outcome, kind: question.kind, metric: question.metric(), correct, entity, section }
    }
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
    let mut kept = HashMap::new();
    let mut writer = None;
    if let Some((path, run)) = log {
        refuse_other_files(path)?;
        let mut file = JsonlWriter::open(path)?;
        kept = resume(path, run, questions)?.unwrap_or_default();
        if fs_err::metadata(path)?.len() == 0 {
            file.append(&Header { run: run.clone() })?;
        }
        writer = Some(file);
    }
    let mut answers = Answers::default();
    let mut state = Progress { done: 0, total: questions.len() * modes.len(), resumed: 0, correct: 0, failed: 0 };
    'run: for mode in modes {
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
            let scored = Scored::new(question, outcome);
            state.done += 1;
            state.correct += usize::from(scored.correct == Some(true));
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
        reply,
        error,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Opening a log cuts off what a crash tore, which must not happen to a file of somebody else.
fn refuse_other_files(path: &Path) -> Result<(), EvalError> {
    const START: &[u8] = b"{\"run\":";
    let mut found = Vec::new();
    match fs_err::File::open(path) {
        Ok(file) => file.take(START.len() as u64).read_to_end(&mut found)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if START.starts_with(&found) {
        return Ok(());
    }
    let reason = "not the log of an evaluation; expected a file that begins with {\"run\":".to_owned();
    Err(IoError::Line { path: path.to_owned(), line: 1, reason }.into())
}

/// Answers of an earlier run; `None` for an empty file.
fn resume(
    path: &Path,
    run: &Value,
    questions: &[&Question],
) -> Result<Option<HashMap<(String, Mode), Outcome>>, EvalError> {
    let texts: HashMap<&str, &str> = questions.iter().map(|q| (q.id.as_str(), q.text.as_str())).collect();
    let other = |field: &str, found: String, expected: String| EvalError::OtherRun {
        path: path.to_owned(),
        field: field.to_owned(),
        found,
        expected,
    };
    let mut kept: Option<HashMap<_, _>> = None;
    for line in JsonlReader::<Line>::open(path)? {
        match (line?.1, &mut kept) {
            (Line::Header(header), None) => {
                if let Some((field, found, expected)) = difference("run", &header.run, run) {
                    return Err(other(&field, found, expected));
                }
                kept = Some(HashMap::new());
            }
            (Line::Outcome(outcome), Some(kept)) => {
                if let Some(text) = texts.get(outcome.id.as_str()).filter(|t| **t != outcome.question) {
                    return Err(other(&format!("question {}", outcome.id), outcome.question, (*text).to_owned()));
                }
                if outcome.reply.is_some() {
                    kept.insert((outcome.id.clone(), outcome.mode), outcome);
                }
            }
            (Line::Header(_), Some(_)) => {
                return Err(other("first line", "a second one".to_owned(), "one".to_owned()));
            }
            (Line::Outcome(_), None) => {
                return Err(other("first line", "an answer".to_owned(), "the description of the run".to_owned()));
            }
        }
    }
    Ok(kept)
}

/// The first place where two values differ: its name and both values.
fn difference(name: &str, found: &Value, expected: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(a), Value::Object(b)) = (found, expected) {
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let at = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
        return keys.into_iter().find_map(|k| difference(&format!("{name}.{k}"), &at(a, k), &at(b, k)));
    }
    (found != expected).then(|| (name.to_owned(), found.to_string(), expected.to_string()))
}

impl Answers {
    /// Shares of right answers: for each mode over all questions and by type.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut rows = Vec::new();
        let modes: BTreeSet<_> = self.outcomes.iter().map(|s| s.outcome.mode).collect();
        let kinds: BTreeSet<_> = self.outcomes.iter().map(|s| s.kind).collect();
        let metrics: BTreeSet<_> = self.outcomes.iter().map(|s| s.metric).collect();
        for mode in modes {
            for metric in &metrics {
                let count = |kind: Option<Kind>| {
                    let of =
                        |s: &&Scored| s.outcome.mode == mode && s.metric == *metric && kind.is_none_or(|k| s.kind == k);
                    let scored: Vec<_> = self.outcomes.iter().filter(of).filter_map(|s| s.correct).collect();
                    (scored.iter().filter(|c| **c).count(), scored.len())
                };
                let (right, n) = count(None);
                rows.push(Row::proportion(&format!("{mode}, all"), metric, right, n));
                for kind in &kinds {
                    let (right, n) = count(Some(*kind));
                    if n > 0 {
                        rows.push(Row::proportion(&format!("{mode}, {kind}"), metric, right, n));
                    }
                }
            }
            let places: [(&str, fn(&Scored) -> Option<bool>); 2] =
                [("right entity", |scored| scored.entity), ("right section", |scored| scored.section)];
            for (name, place) in places {
                let found: Vec<bool> =
                    self.outcomes.iter().filter(|s| s.outcome.mode == mode).filter_map(place).collect();
                if !found.is_empty() {
                    let right = found.iter().filter(|right| **right).count();
                    rows.push(Row::proportion(&format!("{mode}, all"), name, right, found.len()));
                }
            }
        }
        let mut notes = Vec::new();
        let failed = self.outcomes.iter().filter(|s| s.outcome.error.is_some()).count();
        if failed > 0 {
            notes.push(format!("{failed} answers failed and count as wrong; run again to ask them again"));
        }
        let unscored = self.outcomes.iter().filter(|s| s.correct.is_none()).count();
        if unscored > 0 {
            notes.push(format!("{unscored} answers are left out: the metric cannot score their questions"));
        }
        if self.stopped {
            notes.push("stopped before the end; run again to go on".to_owned());
        }
        Table { title: String::new(), rows, notes }
    }

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
