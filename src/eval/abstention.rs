//! When to answer: thresholds chosen on some questions and measured on others.
//!
//! An answer is given where every signal reaches its threshold. *Coverage* is the share of questions that are answered,
//! *risk* the share of wrong ones among those (El-Yaniv and Wiener, JMLR 2010); *effective reliability* counts an answer
//! that is right as 1, one that is wrong as -1 and an abstention as 0 (Whitehead et al., ECCV 2022, with a cost of 1).

use serde::{Deserialize, Serialize};

/// How sure an answer is. What a pipeline did not measure is `None` and stops nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signals {
    /// Score of the best candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Its lead over the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f32>,
    /// Score of the best section, in the ranker's measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<f32>,
}

impl Signals {
    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn get(&self, signal: Signal) -> Option<f32> {
        match signal {
            Signal::Score => self.score,
            Signal::Margin => self.margin,
            Signal::Section => self.section,
        }
    }

    fn set(&mut self, signal: Signal, value: Option<f32>) {
        match signal {
            Signal::Score => self.score = value,
            Signal::Margin => self.margin = value,
            Signal::Section => self.section = value,
        }
    }

    /// Whether an answer of these signals is given under `thresholds`.
    #[must_use]
    pub fn reach(&self, thresholds: &Self) -> bool {
        Signal::ALL.into_iter().all(|signal| match (self.get(signal), thresholds.get(signal)) {
            (Some(found), Some(needed)) => found >= needed,
            _ => true,
        })
    }
}

/// One of [`Signals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// [`Signals::score`]
    Score,
    /// [`Signals::margin`]
    Margin,
    /// [`Signals::section`]
    Section,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Score, Self::Margin, Self::Section];

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Margin => "margin",
            Self::Section => "section",
        }
    }
}

/// A question, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// How sure its answer is.
    pub signals: Signals,
    /// Whether that answer is right; of a question that cannot be answered none is.
    pub right: bool,
    /// Whether the knowledge base holds what it asks for.
    pub answerable: bool,
}

/// What thresholds come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kept {
    /// Questions.
    pub questions: usize,
    /// Of those, answered.
    pub answered: usize,
    /// Of those, right.
    pub right: usize,
    /// Questions that cannot be answered.
    pub unanswerable: usize,
    /// Of those, answered all the same.
    pub fooled: usize,
    /// Answerable questions whose answer would be right, answered or not.
    pub could: usize,
}

impl Kept {
    /// Counts.
    #[must_use]
    pub fn of(cases: &[Case], thresholds: &Signals) -> Self {
        let count = |keep: &dyn Fn(&Case) -> bool| cases.iter().filter(|case| keep(case)).count();
        let answered = |case: &Case| case.signals.reach(thresholds);
        Self {
            questions: cases.len(),
            answered: count(&answered),
            right: count(&|case| answered(case) && case.right),
            unanswerable: count(&|case| !case.answerable),
            fooled: count(&|case| answered(case) && !case.answerable),
            could: count(&|case| case.right),
        }
    }

    /// Share of the questions that are answered.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        share(self.answered, self.questions)
    }

    /// Share of the answers that are wrong.
    #[must_use]
    pub fn risk(&self) -> f64 {
        share(self.answered - self.right, self.answered)
    }

    /// Right answers less wrong ones, over all questions.
    #[must_use]
    pub fn reliability(&self) -> f64 {
        (2.0 * self.right as f64 - self.answered as f64) / self.questions.max(1) as f64
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Thresholds of the given signals with the highest effective reliability on `cases`: each in turn is set to the best
/// of its own values while the others stay, until none gains. Of equal ones the lowest is taken.
#[must_use]
pub fn calibrate(cases: &[Case], signals: &[Signal]) -> Signals {
    let mut best = Signals::default();
    let mut reliability = Kept::of(cases, &best).reliability();
    loop {
        let before = reliability;
        for &signal in signals {
            let mut values: Vec<f32> = cases.iter().filter_map(|case| case.signals.get(signal)).collect();
            values.sort_by(f32::total_cmp);
            values.dedup();
            // A hundred places along the values are as good as all of them.
            let step = values.len().div_ceil(100).max(1);
            // Above all of them nothing is answered.
            let above = values.last().map(|value| value.next_up());
            let tried = [None, above].into_iter().chain(values.into_iter().step_by(step).map(Some));
            let mut current = best;
            for value in tried {
                current.set(signal, value);
                let found = Kept::of(cases, &current).reliability();
                if found > reliability + 1e-12 {
                    (best, reliability) = (current, found);
                }
            }
        }
        if reliability <= before + 1e-12 {
            return best;
        }
    }
}

/// Risk at each coverage, most certain answers first, by one signal: (coverage, risk), one point a question. Questions of
/// equal certainty share the risk of all of them, so that their order does not matter.
#[must_use]
pub fn risk_coverage(cases: &[Case], signal: Signal) -> Vec<(f64, f64)> {
    let mut sorted: Vec<(f32, bool)> =
        cases.iter().map(|case| (case.signals.get(signal).unwrap_or(f32::NEG_INFINITY), case.right)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut points = Vec::with_capacity(sorted.len());
    let (mut seen, mut wrong) = (0usize, 0f64);
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        let bad = group.iter().filter(|(_, right)| !right).count() as f64 / group.len() as f64;
        for _ in group {
            seen += 1;
            wrong += bad;
            points.push((seen as f64 / sorted.len() as f64, wrong / seen as f64));
        }
    }
    points
}

/// Area under the risk-coverage curve, 0 to 1: the mean risk over all coverages. Lower is better; a signal that says
/// nothing gives the share of wrong answers.
#[must_use]
pub fn area(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, risk)| risk).sum::<f64>() / points.len().max(1) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn case(score: f32, section: f32, right: bool, answerable: bool) -> Case {
        Case { signals: Signals { score: Some(score), margin: None, section: Some(section) }, right, answerable }
    }

    fn cases() -> Vec<Case> {
        vec![
            case(0.9, 0.7, true, true),
            case(0.8, 0.6, true, true),
            case(0.7, 0.2, false, true),
            case(0.6, 0.8, true, true),
            case(0.3, 0.9, false, false),
            case(0.2, 0.1, false, false),
        ]
    }

    #[test]
    fn both_thresholds_together_keep_the_wrong_answers_back() {
        let all = Kept::of(&cases(), &Signals::default());
        assert_eq!((all.coverage(), all.risk(), all.reliability()), (1.0, 0.5, 0.0));
        assert_eq!((all.unanswerable, all.fooled, all.could), (2, 2, 3));
        let by_score = calibrate(&cases(), &[Signal::Score]);
        assert_eq!((by_score.score, by_score.section), (Some(0.6), None));
        assert_eq!(Kept::of(&cases(), &by_score).reliability(), 2.0 / 6.0);
        let by_both = calibrate(&cases(), &Signal::ALL);
        let kept = Kept::of(&cases(), &by_both);
        assert_eq!((kept.answered, kept.right, kept.fooled), (3, 3, 0), "{by_both:?}");
    }

    #[test]
    fn the_curve_rises_to_the_share_of_wrong_answers() {
        let points = risk_coverage(&cases(), Signal::Score);
        assert_eq!(points.len(), 6);
        assert_eq!((points[1], points[5]), ((2.0 / 6.0, 0.0), (1.0, 0.5)));
        assert!(area(&points) < 0.5 && area(&risk_coverage(&cases(), Signal::Margin)) == 0.5);
    }

    #[test]
    fn signals_of_a_log_without_any_are_empty() {
        let read: Signals = serde_json::from_str("{}").unwrap();
        assert!(read.is_empty() && read.reach(&Signals { score: Some(2.0), ..Signals::default() }));
    }

    proptest! {
        #[test]
        fn of_one_signal_the_best_threshold_is_found(
            drawn in prop::collection::vec((0f32..1.0, any::<bool>(), any::<bool>()), 1..40)
        ) {
            let cases: Vec<Case> = drawn.iter().map(|(a, right, can)| case(*a, 0.0, *right && *can, *can)).collect();
            let reliability = |score: Option<f32>| {
                Kept::of(&cases, &Signals { score, ..Signals::default() }).reliability()
            };
            let tried = drawn.iter().map(|(a, ..)| Some(*a)).chain([None, Some(f32::INFINITY)]);
            let best = tried.map(reliability).fold(f64::NEG_INFINITY, f64::max);
            let found = Kept::of(&cases, &calibrate(&cases, &[Signal::Score])).reliability();
            prop_assert!((found - best).abs() < 1e-9, "{found} {best}");
        }
    }
}
