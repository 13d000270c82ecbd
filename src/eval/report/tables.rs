//! The tables of a report.

use std::collections::{BTreeSet, HashSet};

use super::{Asked, Inputs, Row, Table};
use crate::eval::answers::Mode;
use crate::eval::dataset::{Answer, infoseek as infoseek_data};
use crate::eval::metric::infoseek::{self, FileScore, Missing};
use crate::eval::metric::interval::{bootstrap, bootstrap_of_two, percentile};
use crate::eval::metric::recall::{hits, reciprocal};
use crate::eval::metric::{INFOSEEK_HARMONIC, NONE};
use crate::eval::verdict::{Cause, Scored};
use crate::eval::{EvalError, Kind};

/// Resamples of the intervals that are drawn, and their seed.
const RESAMPLES: usize = 2000;
const SEED: u64 = 20_261_129;

/// Cut-offs of recall.
const KS: [usize; 7] = [1, 5, 10, 20, 50, 100, 500];

/// Shares of right answers, articles and sections: for each mode over all questions and by type.
#[must_use]
pub fn answers(asked: &[Asked]) -> Table {
    let mut rows = Vec::new();
    let kinds: BTreeSet<Kind> = asked.iter().map(|(_, s)| s.kind).collect();
    let metrics: BTreeSet<&str> = asked.iter().map(|(_, s)| s.metric).filter(|metric| *metric != NONE).collect();
    let hops = kinds.contains(&Kind::TwoHop) && kinds.len() > 1;
    for mode in modes(asked) {
        let of_mode = || asked.iter().map(|(_, s)| s).filter(move |s| s.outcome.mode == mode);
        for metric in &metrics {
            let mut row = |name: &str, keep: &dyn Fn(&Scored) -> bool| {
                let scored: Vec<bool> =
                    of_mode().filter(|s| s.metric == *metric && keep(s)).filter_map(|s| s.correct).collect();
                if !scored.is_empty() {
                    let right = scored.iter().filter(|right| **right).count();
                    rows.push(Row::proportion(&format!("{mode}, {name}"), metric, right, scored.len()));
                }
            };
            row("all", &|_| true);
            if hops {
                row("single-hop", &|s| s.kind != Kind::TwoHop);
            }
            for kind in &kinds {
                row(kind.name(), &|s| s.kind == *kind);
            }
        }
        let mut row = |metric: &str, of: &dyn Fn(&Scored) -> Option<bool>| {
            let found: Vec<bool> = of_mode().filter_map(of).collect();
            if !found.is_empty() {
                let right = found.iter().filter(|right| **right).count();
                rows.push(Row::proportion(&format!("{mode}, all"), metric, right, found.len()));
            }
        };
        row("right entity", &|s| s.entity);
        row("right section", &Scored::section_found);
        let most = of_mode().filter_map(|s| s.outcome.reply.as_ref()).map(|r| r.passages.len()).max().unwrap_or(0);
        if most > 1 {
            row("right section first", &|s| s.section.map(|place| place == Some(1)));
        }
    }
    let mut notes = Vec::new();
    let failed = asked.iter().filter(|(_, s)| s.outcome.error.is_some()).count();
    if failed > 0 {
        let again = if modes(asked).contains(&Mode::Predicted) { "" } else { "; run again to ask them again" };
        notes.push(format!("{failed} answers failed and count as wrong{again}"));
    }
    let unscored = asked.iter().filter(|(_, s)| s.correct.is_none() && s.metric != NONE).count();
    if unscored > 0 {
        notes.push(format!("{unscored} answers are left out: the metric cannot score their questions"));
    }
    Table { title: "Right answers".to_owned(), rows, notes }
}

fn modes(asked: &[Asked]) -> BTreeSet<Mode> {
    asked.iter().map(|(_, s)| s.outcome.mode).collect()
}

/// InfoSeek's official numbers, by mode. A question that failed counts as wrong, one that was not asked yet not at all.
pub(super) fn infoseek(inputs: &Inputs) -> Result<Vec<(Mode, FileScore)>, EvalError> {
    let questions = inputs.folder.questions();
    let items = infoseek_data::items(questions);
    // The official number is a mean of two splits: of one alone there is none.
    let split =
        |question: bool| items.iter().any(|i| !i.split.is_empty() && i.split.ends_with("unseen_question") == question);
    if !split(true) || !split(false) {
        return Ok(Vec::new());
    }
    let score = |mode: Mode| {
        let of_mode = || inputs.asked.iter().filter(|(_, s)| s.outcome.mode == mode);
        let said = of_mode().filter_map(|(q, s)| {
            let reply = s.outcome.reply.as_ref().filter(|_| matches!(q.answer, Answer::InfoSeek(_)))?;
            // An abstention says nothing that could be right.
            Some((q.id.clone(), if s.abstained() { String::new() } else { reply.answer.clone() }))
        });
        let said: Vec<(String, String)> = said.collect();
        let there: HashSet<&str> = of_mode().map(|(q, _)| q.id.as_str()).collect();
        let of_there: Vec<_> = items.iter().filter(|item| there.contains(item.id.as_str())).cloned().collect();
        let score = infoseek::score_file(&of_there, &said, Missing::Wrong)?;
        Ok((mode, FileScore { missing: items.len() - said.len(), ..score }))
    };
    modes(inputs.asked).into_iter().map(score).collect()
}

/// The same numbers as shares, with intervals.
pub(super) fn infoseek_intervals(inputs: &Inputs) -> Option<Table> {
    let of = |mode: Mode, question: bool| {
        let right: Vec<bool> = inputs
            .asked
            .iter()
            .filter(|(q, s)| {
                s.outcome.mode == mode
                    && matches!(q.answer, Answer::InfoSeek(_))
                    && !q.split.is_empty()
                    && q.split.ends_with("unseen_question") == question
            })
            .filter_map(|(_, s)| s.correct)
            .collect();
        (right.iter().filter(|right| **right).count(), right.len())
    };
    let mut rows = Vec::new();
    for mode in modes(inputs.asked) {
        let parts = [of(mode, true), of(mode, false)];
        for ((right, n), name) in parts.into_iter().zip(["unseen question", "unseen entity"]) {
            if n > 0 {
                rows.push(Row::proportion(&format!("{mode}, {name}"), crate::eval::metric::INFOSEEK, right, n));
            }
        }
        if let [(a, n), (b, m)] = parts
            && n > 0
            && m > 0
        {
            let mean = |a: f64, b: f64| if a > 0.0 && b > 0.0 { 2.0 / (1.0 / a + 1.0 / b) } else { 0.0 };
            let value = mean(a as f64 / n as f64, b as f64 / m as f64);
            let interval = bootstrap_of_two(parts, mean, RESAMPLES, SEED);
            rows.push(Row::mean(&format!("{mode}, all"), INFOSEEK_HARMONIC, value, interval, n + m));
        }
    }
    (!rows.is_empty()).then(|| Table { title: "InfoSeek, by split".to_owned(), rows, notes: Vec::new() })
}

/// Recall at each cut-off, of articles, of sections, and of texts that hold an answer.
pub(super) fn retrieval(inputs: &Inputs) -> Option<Table> {
    const NAME: &str = "retrieved";
    let searched: Vec<_> =
        inputs.folder.questions().iter().filter_map(|q| Some((q, inputs.retrievals.get(&q.id)?))).collect();
    let deepest = searched.iter().map(|(_, r)| r.found).max()?;
    let mut rows = Vec::new();
    let mut add = |metric: &str, ranks: &[Option<usize>]| {
        for k in KS.into_iter().filter(|k| *k <= deepest) {
            if !ranks.is_empty() {
                rows.push(Row::proportion(NAME, &format!("{metric}@{k}"), hits(ranks, k), ranks.len()));
            }
        }
    };
    let articles: Vec<_> = searched.iter().filter(|(q, _)| !q.urls.is_empty()).map(|(_, r)| r.article).collect();
    add("R", &articles);
    let parts = searched.iter().any(|(_, r)| r.parts);
    let sections: Vec<_> =
        searched.iter().filter(|(q, _)| parts && !q.section_ids.is_empty()).map(|(_, r)| r.section).collect();
    add("section R", &sections);
    let holding: Vec<_> = searched.iter().filter(|(q, _)| !q.written.is_empty()).map(|(_, r)| r.holds).collect();
    add("pseudo-recall", &holding);
    if !articles.is_empty() {
        let reciprocals: Vec<f64> = articles.iter().copied().map(reciprocal).collect();
        if let Some(mean) = bootstrap(&reciprocals, RESAMPLES, SEED) {
            rows.push(Row::mean(NAME, "MRR", mean.mean, Some(mean.interval), articles.len()));
        }
    }
    let mut notes = vec![format!("R is recall by article, MRR over the first {deepest} candidates")];
    let left = inputs.folder.questions().len() - searched.len();
    if left > 0 {
        notes.push(format!("{left} questions were not searched for yet; `cicerone eval run` goes on"));
    }
    let without = searched.len() - articles.len();
    if without > 0 {
        notes.push(format!("{without} questions name no article and are left out of recall"));
    }
    let failed = searched.iter().filter(|(_, r)| r.error.is_some()).count();
    if failed > 0 {
        notes.push(format!("{failed} searches failed and found nothing; run again to repeat them"));
    }
    Some(Table { title: "Retrieval".to_owned(), rows, notes })
}

/// What became of the questions, by mode.
#[must_use]
pub fn causes(asked: &[Asked]) -> Option<Table> {
    let mut rows = Vec::new();
    for mode in modes(asked) {
        let found: Vec<Cause> = asked.iter().filter(|(_, s)| s.outcome.mode == mode).map(|(_, s)| s.cause()).collect();
        for cause in Cause::ALL {
            let count = found.iter().filter(|found| **found == cause).count();
            if count > 0 {
                rows.push(Row::proportion(mode.name(), cause.name(), count, found.len()));
            }
        }
    }
    let told = rows.iter().any(|row| row.metric != Cause::Unscored.name());
    told.then(|| Table { title: "What became of the questions".to_owned(), rows, notes: Vec::new() })
}

/// How often there is no answer, and what the others are worth; nothing where there is one always.
pub(super) fn abstention(asked: &[Asked]) -> Option<Table> {
    let mut rows = Vec::new();
    for mode in modes(asked) {
        let of: Vec<&Scored> = asked.iter().map(|(_, s)| s).filter(|s| s.outcome.mode == mode).collect();
        let answered: Vec<&Scored> =
            of.iter().copied().filter(|s| !s.abstained() && s.outcome.reply.is_some()).collect();
        if of.iter().all(|s| !s.abstained()) {
            continue;
        }
        let right = answered.iter().filter(|s| s.correct == Some(true)).count();
        let wrong = answered.iter().filter(|s| s.correct == Some(false)).count();
        rows.push(Row::proportion(mode.name(), "coverage", answered.len(), of.len()));
        rows.push(Row::proportion(mode.name(), "right of the answered", right, right + wrong));
        let worth = |s: &&Scored| match s.correct {
            _ if s.abstained() || s.outcome.reply.is_none() => 0.0,
            Some(true) => 1.0,
            Some(false) => -1.0,
            None => 0.0,
        };
        let worths: Vec<f64> = of.iter().map(worth).collect();
        if let Some(mean) = bootstrap(&worths, RESAMPLES, SEED) {
            rows.push(Row::mean(mode.name(), "effective reliability", mean.mean, Some(mean.interval), of.len()));
        }
    }
    let notes = vec!["effective reliability: right answers less wrong ones (Whitehead et al. 2022)".to_owned()];
    (!rows.is_empty()).then(|| Table { title: "Abstention".to_owned(), rows, notes })
}

/// How long it took, seconds.
pub(super) fn times(inputs: &Inputs) -> Option<Table> {
    let mut rows = Vec::new();
    let mut add = |name: &str, seconds: &[f64]| {
        for (metric, p) in [("seconds, median", 50.0), ("seconds, 95th percentile", 95.0), ("seconds, longest", 100.0)]
        {
            if let Some(value) = percentile(seconds, p) {
                rows.push(Row::mean(name, metric, value, None, seconds.len()));
            }
        }
    };
    let searched: Vec<f64> =
        inputs.folder.questions().iter().filter_map(|q| Some(inputs.retrievals.get(&q.id)?.seconds)).collect();
    add("search", &searched);
    for mode in modes(inputs.asked).into_iter().filter(|mode| *mode != Mode::Predicted) {
        let of_mode = inputs
            .asked
            .iter()
            .filter(|(_, s)| s.outcome.mode == mode && s.outcome.error.is_none() && !s.outcome.remembered);
        add(mode.name(), &of_mode.map(|(_, s)| s.outcome.seconds).collect::<Vec<_>>());
    }
    let mut notes = vec!["of a search with others beside it; of answers one by one, from what was found".to_owned()];
    let remembered = inputs.asked.iter().filter(|(_, s)| s.outcome.remembered).count();
    if remembered > 0 {
        notes.push(format!("{remembered} answers to a prompt that had been asked already are left out"));
    }
    (!rows.is_empty()).then(|| Table { title: "Times".to_owned(), rows, notes })
}
