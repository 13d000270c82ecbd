//! Two runs over the same questions: what one gains over the other, and whether that could be chance.

use std::collections::HashMap;

use serde::Serialize;

use super::EvalError;
use super::answers::Mode;
use super::judged::Bem;
use super::log::{Difference, differences};
use super::metric::interval::{Mean, mcnemar, paired_bootstrap};
use super::report::{Asked, Row};
use super::run::Manifest;

/// Resamples of the interval of a difference, and their seed.
const RESAMPLES: usize = 2000;
const SEED: u64 = 20_261_130;

/// One side.
pub struct Side<'a> {
    /// Its name.
    pub name: &'a str,
    /// The run.
    pub manifest: &'a Manifest,
    /// What was answered.
    pub asked: &'a [Asked<'a>],
    /// The model that judged answers, if one did.
    pub bem: Option<&'a Bem>,
    /// Answers that it was to judge, and has not.
    pub unjudged: usize,
}

/// A question that one run answered right and the other wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The question's id.
    pub id: String,
    /// Its text.
    pub question: String,
    /// A reference.
    pub reference: String,
    /// What the first run answered.
    pub first: String,
    /// What the second one answered.
    pub second: String,
}

/// What both runs came to where the passages came from the same place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Where the passages came from, on each side.
    pub modes: [Mode; 2],
    /// Name of the metric.
    pub metric: &'static str,
    /// Questions that both were asked.
    pub questions: usize,
    /// The first run.
    pub first: Row,
    /// The second one.
    pub second: Row,
    /// The second less the first, with the interval of the paired bootstrap.
    pub difference: Option<Mean>,
    /// McNemar's exact test.
    pub mcnemar_p: f64,
    /// Right in the second run alone.
    pub gained: Vec<Changed>,
    /// Right in the first run alone.
    pub lost: Vec<Changed>,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Names of both runs.
    pub names: [String; 2],
    /// What makes the numbers less comparable than they look.
    pub warnings: Vec<String>,
    /// Everything that differs between both runs' settings, the first on the left.
    pub differences: Vec<Difference>,
    /// The numbers, by mode.
    pub pairs: Vec<Pair>,
}

impl Comparison {
    /// Compares two runs mode by mode; where they have no mode in common and one each, those.
    ///
    /// # Errors
    /// [`EvalError::Compare`] for runs of different metrics, without a question in common, or whose questions of the same
    /// id are others.
    pub fn new(first: &Side, second: &Side) -> Result<Self, EvalError> {
        let differences = differences("run", &first.manifest.run, &second.manifest.run);
        let mut warnings = warnings(first, second, &differences);
        let mut pairs = Vec::new();
        for modes in modes(first, second)? {
            pairs.push(pair(first, second, modes, &mut warnings)?);
        }
        Ok(Self { names: [first.name.to_owned(), second.name.to_owned()], warnings, differences, pairs })
    }
}

fn refused(reason: String) -> EvalError {
    EvalError::Compare { reason }
}

fn modes(first: &Side, second: &Side) -> Result<Vec<[Mode; 2]>, EvalError> {
    let of = |side: &Side| {
        let mut modes: Vec<Mode> = side.asked.iter().map(|(_, s)| s.outcome.mode).collect();
        modes.sort();
        modes.dedup();
        modes
    };
    let (a, b) = (of(first), of(second));
    let common: Vec<[Mode; 2]> = a.iter().filter(|mode| b.contains(mode)).map(|mode| [*mode; 2]).collect();
    match (&common[..], &a[..], &b[..]) {
        ([], [one], [other]) => Ok(vec![[*one, *other]]),
        ([], [], _) | ([], _, []) => Err(refused("a run without an answer; run it first".to_owned())),
        ([], ..) => {
            let names = |modes: &[Mode]| modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
            Err(refused(format!("their modes are {} and {}; expected one in common", names(&a), names(&b))))
        }
        _ => Ok(common),
    }
}

/// What is found in another knowledge base, or asked of other data, is another experiment.
fn warnings(first: &Side, second: &Side, differences: &[Difference]) -> Vec<String> {
    let differs = |part: &str| {
        differences.iter().any(|d| d.field == format!("run.{part}") || d.field.starts_with(&format!("run.{part}.")))
    };
    let mut warnings = Vec::new();
    if differs("knowledge_base") {
        warnings.push(
            "the knowledge bases differ: what is gained or lost may be theirs, and not the readers' or retrievers'"
                .into(),
        );
    }
    if differs("data") {
        warnings.push("the data differ: only questions of the same id and text are compared".into());
    }
    if let (Some(one), Some(other)) = (first.bem, second.bem)
        && one.fingerprint != other.fingerprint
    {
        warnings.push(format!("the answers were judged by two models, {} and {}", one.model, other.model));
    }
    for side in [first, second].into_iter().filter(|side| side.unjudged > 0) {
        warnings
            .push(format!("{}: {} answers were not judged by BEM yet and count as wrong", side.name, side.unjudged));
    }
    if first.manifest.shard != second.manifest.shard {
        warnings.push("the parts differ: only the questions that both have are compared".into());
    }
    warnings
}

fn pair(first: &Side, second: &Side, modes: [Mode; 2], warnings: &mut Vec<String>) -> Result<Pair, EvalError> {
    let before: Vec<&Asked> = first.asked.iter().filter(|(_, s)| s.outcome.mode == modes[0]).collect();
    let after: HashMap<&str, &Asked> = second
        .asked
        .iter()
        .filter(|(_, s)| s.outcome.mode == modes[1])
        .map(|asked| (asked.0.id.as_str(), asked))
        .collect();
    let mut both: Vec<(&Asked, &Asked)> = Vec::new();
    for a in &before {
        let Some(b) = after.get(a.0.id.as_str()) else { continue };
        if a.0.text != b.0.text {
            return Err(refused(format!(
                "question {} is {:?} in one and {:?} in the other",
                a.0.id, a.0.text, b.0.text
            )));
        }
        if a.1.metric != b.1.metric {
            return Err(refused(format!("one is scored by {}, the other by {}", a.1.metric, b.1.metric)));
        }
        if a.0.answer != b.0.answer {
            return Err(refused(format!("question {} has other references in the other run", a.0.id)));
        }
        both.push((a, b));
    }
    let left = before.len() + after.len() - 2 * both.len();
    if both.is_empty() {
        return Err(refused("they have no question in common".to_owned()));
    }
    if left > 0 {
        warnings.push(format!("{}: {left} questions are in one run alone and are left out", modes[0]));
    }
    // A question that the metric cannot score is scored in neither.
    both.retain(|(a, b)| a.1.correct.is_some() && b.1.correct.is_some());
    let right = |asked: &Asked| asked.1.correct == Some(true);
    let metric = both.first().map_or("", |(a, _)| a.1.metric);
    let values = |of: &dyn Fn(&(&Asked, &Asked)) -> bool| -> Vec<f64> {
        both.iter().map(|pair| f64::from(u8::from(of(pair)))).collect()
    };
    let (a, b) = (values(&|(a, _)| right(a)), values(&|(_, b)| right(b)));
    let changed = |keep: &dyn Fn(bool, bool) -> bool| -> Vec<Changed> {
        let answer = |asked: &Asked| asked.1.outcome.reply.as_ref().map_or(String::new(), |reply| reply.answer.clone());
        let kept = both.iter().filter(|(a, b)| keep(right(a), right(b)));
        kept.map(|(a, b)| Changed {
            id: a.0.id.clone(),
            question: a.0.text.clone(),
            reference: a.0.reference(),
            first: answer(a),
            second: answer(b),
        })
        .collect()
    };
    let (gained, lost) = (changed(&|a, b| !a && b), changed(&|a, b| a && !b));
    let row =
        |name: &str, values: &[f64]| Row::proportion(name, metric, values.iter().sum::<f64>() as usize, values.len());
    Ok(Pair {
        modes,
        metric,
        questions: both.len(),
        first: row(first.name, &a),
        second: row(second.name, &b),
        difference: paired_bootstrap(&a, &b, RESAMPLES, SEED),
        mcnemar_p: mcnemar(gained.len(), lost.len()),
        gained,
        lost,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::eval::Question;
    use crate::eval::answers::{Outcome, Reply};
    use crate::eval::dataset::evqa;
    use crate::eval::run::{DataFacts, FORMAT};
    use crate::eval::verdict::{Judge, Scored};

    fn questions(answer: &str) -> Vec<Question> {
        let rows: Vec<String> = (0..20).map(|i| format!("Q {i}?,automatic,{answer},u")).collect();
        let dir = tempfile::tempdir().unwrap();
        let text = format!("question,question_type,answer,wikipedia_url\n{}\n", rows.join("\n"));
        fs_err::write(dir.path().join("q.csv"), text).unwrap();
        evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions
    }

    fn asked(questions: &[Question], mode: Mode, right: impl Fn(usize) -> bool) -> Vec<Asked<'_>> {
        let one = |(n, question): (usize, &'_ Question)| {
            let reply = Some(Reply::from(if right(n) { "yes" } else { "no" }));
            let (id, text, reference) = (question.id.clone(), question.text.clone(), question.reference());
            Outcome { id, mode, question: text, reference, reply, error: None, seconds: 0.0, remembered: false }
        };
        questions.iter().enumerate().map(|(n, q)| (q, Scored::new(q, one((n, q)), &Judge::Text))).collect()
    }

    fn manifest(kb: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            program_version: "1".into(),
            retrieval: Value::Null,
            run: json!({"data": {"hash": "d"}, "knowledge_base": {"fingerprint": kb}, "reader": kb}),
            shard: None,
            modes: vec![],
            data: DataFacts::default(),
            knowledge_base: Value::Null,
        }
    }

    #[test]
    fn gains_and_losses_are_paired_and_tested() {
        let all = questions("yes");
        let (one, two) = (manifest("k"), manifest("k"));
        let a = asked(&all, Mode::Retrieved, |n| n < 10);
        let b = asked(&all, Mode::Retrieved, |n| n < 17 && n != 0);
        let a = Side { name: "a", manifest: &one, asked: &a, bem: None, unjudged: 0 };
        let b = Side { name: "b", manifest: &two, asked: &b, bem: None, unjudged: 0 };
        let compared = Comparison::new(&a, &b).unwrap();
        assert!(compared.warnings.is_empty() && compared.differences.is_empty(), "{:?}", compared.warnings);
        let pair = &compared.pairs[0];
        assert_eq!((pair.first.value, pair.second.value, pair.questions), (0.5, 0.8, 20));
        assert_eq!((pair.gained.len(), pair.lost.len()), (7, 1));
        assert!((pair.mcnemar_p - 0.0703125).abs() < 1e-12);
        assert_eq!((pair.lost[0].id.as_str(), pair.lost[0].second.as_str()), ("E-VQA_0", "no"));
        let difference = pair.difference.unwrap();
        assert!((difference.mean - 0.3).abs() < 1e-12 && difference.interval.low < 0.3, "{difference:?}");
    }

    #[test]
    fn other_knowledge_bases_are_warned_of() {
        let all = questions("yes");
        let (one, two) = (manifest("k"), manifest("l"));
        let answers = asked(&all, Mode::Retrieved, |_| true);
        let a = Side { name: "a", manifest: &one, asked: &answers, bem: None, unjudged: 0 };
        let b = Side { name: "b", manifest: &two, asked: &answers[..5], bem: None, unjudged: 0 };
        let compared = Comparison::new(&a, &b).unwrap();
        assert!(compared.warnings[0].starts_with("the knowledge bases differ"), "{:?}", compared.warnings);
        assert!(compared.warnings[1].contains("15 questions are in one run alone"), "{:?}", compared.warnings);
        assert_eq!(compared.differences.len(), 2);
        assert_eq!(compared.pairs[0].mcnemar_p, 1.0);
        let bem = |fingerprint: &str| Bem { model: "m".into(), fingerprint: fingerprint.into(), port: true };
        let (x, y) = (bem("x"), bem("y"));
        let judged = Comparison::new(&Side { bem: Some(&x), ..a }, &Side { bem: Some(&y), unjudged: 3, ..b }).unwrap();
        let warned = judged.warnings.join("; ");
        assert!(warned.contains("judged by two models") && warned.contains("b: 3 answers were not judged"), "{warned}");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let (all, other) = (questions("yes"), questions("no"));
        let run = manifest("k");
        let a = asked(&all, Mode::Retrieved, |_| true);
        let b = asked(&other, Mode::Retrieved, |_| true);
        let mut c = a.clone();
        c.iter_mut().for_each(|(_, s)| s.metric = "another");
        fn side<'a>(run: &'a Manifest, asked: &'a [Asked<'a>]) -> Side<'a> {
            Side { name: "x", manifest: run, asked, bem: None, unjudged: 0 }
        }
        let said = |b: &[Asked]| Comparison::new(&side(&run, &a), &side(&run, b)).unwrap_err().to_string();
        assert!(said(&b).contains("has other references"), "{}", said(&b));
        assert!(said(&c).contains("one is scored by E-VQA exact match (no BEM), the other by another"), "{}", said(&c));
        assert!(said(&[]).contains("without an answer"));
        // One mode on each side is what is meant.
        let none = asked(&all, Mode::NoRetrieval, |_| false);
        let across = Comparison::new(&side(&run, &a), &side(&run, &none)).unwrap();
        assert_eq!(across.pairs[0].modes, [Mode::Retrieved, Mode::NoRetrieval]);
    }
}
