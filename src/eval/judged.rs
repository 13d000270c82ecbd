//! What BEM says of answers that no reference equals: Encyclopedic-VQA's second stage (Bulian et al. 2022;
//! `evaluation_utils.py` of google-research/encyclopedic_vqa).
//!
//! Each answer stands beside each reference of its question. What a model has said of the three texts is kept in a
//! [`Log`], by their hash, and is not asked again.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dataset::Answer;
use super::log::{Log, read};
use super::{EvalError, Question};

/// From here on an answer is equivalent to its reference.
const EQUIVALENT: f32 = 0.5;

/// Triples asked at once.
const PART: usize = 64;

/// What a model of BEM is asked: whether `candidate` says what `reference` says, as an answer to `question`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Triple {
    /// The answer that was given.
    pub candidate: String,
    /// A reference; the items of a list with commas between them.
    pub reference: String,
    /// The question.
    pub question: String,
}

impl Triple {
    fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.candidate, &self.reference, &self.question] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bem {
    /// Its name.
    pub model: String,
    /// Hash of its weights.
    pub fingerprint: String,
    /// Whether it is another training than the official one: it has two types of segments instead of three.
    pub port: bool,
}

/// A line of the log.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    probability: f32,
}

/// What a model has said.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    bem: Bem,
    probabilities: HashMap<String, f32>,
}

impl Judged {
    /// Whether the model is another training than the official one.
    #[must_use]
    pub fn is_port(&self) -> bool {
        self.bem.port
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Bem {
        &self.bem
    }

    /// Whether an answer was judged beside every reference.
    #[must_use]
    pub fn knows(&self, question: &Question, answer: &str) -> bool {
        triples(question, answer).all(|triple| self.probabilities.contains_key(&triple.key()))
    }

    /// Whether an answer is equivalent to any reference; `None` where none was judged.
    #[must_use]
    pub fn accepts(&self, question: &Question, answer: &str) -> Option<bool> {
        let said = triples(question, answer).filter_map(|triple| self.probabilities.get(&triple.key()).copied());
        said.fold(None, |any, probability| Some(any == Some(true) || probability >= EQUIVALENT))
    }

    /// What a log holds.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn load(path: &Path) -> Result<Self, EvalError> {
        let (mut bem, mut probabilities) = (None, HashMap::new());
        let check = |run: &Value| {
            bem = Some(serde_json::from_value(run["bem"].clone()).map_err(|e| EvalError::Judge(e.to_string()))?);
            Ok(())
        };
        read(path, check, |line: Line| {
            probabilities.insert(line.key, line.probability);
            Ok(())
        })?;
        let bem = bem.ok_or_else(|| EvalError::Judge(format!("{}: nothing is in it", path.display())))?;
        Ok(Self { bem, probabilities })
    }

    /// Asks a model about each of `wanted` that the log does not hold.
    ///
    /// # Arguments
    /// `judge` says for each triple how probable it is that both answers are equivalent. `progress` is told how many are
    /// done of how many, and stops with `Break`: what was not asked counts as not equivalent.
    ///
    /// # Errors
    /// A log that cannot be used, or what `judge` says.
    pub fn ask(
        bem: Bem,
        wanted: &[Triple],
        log: Option<&Path>,
        mut judge: impl FnMut(&[Triple]) -> Result<Vec<f32>, EvalError>,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self, EvalError> {
        let mut probabilities = HashMap::new();
        let run: Value = json!({ "bem": bem });
        let mut log = match log {
            Some(path) => Some(Log::open(path, &run, |line: Line| {
                probabilities.insert(line.key, line.probability);
                Ok(())
            })?),
            None => None,
        };
        let mut seen = HashSet::new();
        let left: Vec<(String, &Triple)> = wanted
            .iter()
            .map(|triple| (triple.key(), triple))
            .filter(|(key, _)| !probabilities.contains_key(key) && seen.insert(key.clone()))
            .collect();
        let total = left.len();
        for (n, part) in left.chunks(PART).enumerate() {
            if progress(n * PART, total).is_break() {
                break;
            }
            let triples: Vec<Triple> = part.iter().map(|(_, triple)| (*triple).clone()).collect();
            for ((key, triple), probability) in part.iter().zip(judge(&triples)?) {
                if !probability.is_finite() {
                    let (text, model) = (&triple.candidate, &bem.model);
                    return Err(EvalError::Judge(format!(
                        "{model} says {probability} of {text:?}; see whether its weights are whole"
                    )));
                }
                let line = Line { key: key.clone(), probability };
                if let Some(log) = &mut log {
                    log.append(&line)?;
                }
                probabilities.insert(line.key, line.probability);
            }
        }
        if let Some(log) = &mut log {
            log.sync()?;
        }
        Ok(Self { bem, probabilities })
    }
}

/// An answer beside each reference of its question; none where the question is not Encyclopedic-VQA's.
pub fn triples<'a>(question: &'a Question, answer: &'a str) -> impl Iterator<Item = Triple> + 'a {
    let references = match &question.answer {
        Answer::Evqa(references) => &references[..],
        _ => &[],
    };
    references.iter().map(move |items| Triple {
        candidate: answer.to_owned(),
        reference: items.join(","),
        question: question.text.clone(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::dataset::evqa;
    use crate::eval::metric;
    use crate::eval::verdict::Judge;

    fn questions() -> Vec<Question> {
        let csv = "question,question_type,answer,wikipedia_url\nWho?,automatic,the Menger family|Mengers,u\n\
                   Where?,multi_answer,a&&b,u\nThe?,automatic,The,u\n";
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("q.csv"), csv).unwrap();
        evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions
    }

    fn bem(port: bool) -> Bem {
        Bem { model: "bem".into(), fingerprint: "f".into(), port }
    }

    /// Takes whatever shares its last letter for equivalent.
    fn judge(triples: &[Triple]) -> Result<Vec<f32>, EvalError> {
        let last = |text: &str| text.chars().last();
        Ok(triples.iter().map(|t| f32::from(u8::from(last(&t.candidate) == last(&t.reference))) * 0.5).collect())
    }

    const GO: fn(usize, usize) -> ControlFlow<()> = |_, _| ControlFlow::Continue(());

    #[test]
    fn what_no_reference_equals_is_judged_beside_each_of_them() {
        let all = questions();
        let asked: Vec<Triple> = triples(&all[0], "William and Mary").chain(triples(&all[1], "b")).collect();
        assert_eq!(asked.len(), 3);
        assert_eq!((asked[2].reference.as_str(), asked[2].question.as_str()), ("a,b", "Where?"));
        let judged = Judged::ask(bem(false), &asked, None, judge, GO).unwrap();
        assert_eq!(judged.accepts(&all[0], "William and Mary"), Some(true), "one reference is enough");
        assert_eq!(judged.accepts(&all[0], "nobody"), None);
        assert!(judged.knows(&all[0], "William and Mary") && !judged.knows(&all[0], "nobody"));
        let broken = Judged::ask(bem(false), &asked, None, |t| Ok(vec![f32::NAN; t.len()]), GO).unwrap_err();
        assert!(broken.to_string().contains("bem says NaN of \"William and Mary\""), "{broken}");
        let with = Judge::Bem(&judged);
        assert_eq!(with.score(&all[0], "William and Mary"), Some(true));
        assert_eq!(with.score(&all[0], "menger family"), Some(true), "an exact match is not asked about");
        assert_eq!(with.score(&all[0], "nobody"), Some(false), "what was not judged stays as it is");
        assert_eq!(with.score(&all[1], "b"), Some(true));
        assert_eq!(with.metric(&all[0]), metric::EVQA_BEM);
        let the = Judged::ask(bem(true), &triples(&all[2], "xe").collect::<Vec<_>>(), None, judge, GO).unwrap();
        let port = Judge::Bem(&the);
        assert_eq!((port.score(&all[2], "xe"), port.metric(&all[2])), (Some(true), metric::EVQA_BEM_PORT));
        assert_eq!(Judge::Text.score(&all[2], "xe"), None, "nothing is left of the reference");
    }

    #[test]
    fn nothing_is_asked_twice_and_another_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("bem.jsonl");
        let question = &questions()[0];
        let texts: Vec<String> = (0..100).map(|n| format!("answer {n}")).collect();
        let mut asked: Vec<Triple> = texts.iter().flat_map(|text| triples(question, text)).collect();
        asked.extend(asked.clone());
        let mut count = 0;
        let mut counting = |triples: &[Triple]| {
            count += triples.len();
            judge(triples)
        };
        let stop = |done: usize, total: usize| {
            assert_eq!(total, 200);
            if done >= 128 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        Judged::ask(bem(false), &asked, Some(&log), &mut counting, stop).unwrap();
        let whole = Judged::ask(bem(false), &asked, Some(&log), &mut counting, GO).unwrap();
        assert_eq!((count, whole.probabilities.len()), (200, 200));
        let again = Judged::ask(bem(false), &asked, Some(&log), |_| panic!("asked again"), GO).unwrap();
        assert_eq!(again, whole);
        assert_eq!(Judged::load(&log).unwrap(), whole);
        let other = Judged::ask(bem(true), &asked, Some(&log), judge, GO).unwrap_err().to_string();
        assert!(other.contains("run.bem.port: false, now true"), "{other}");
    }
}
