//! Encyclopedic-VQA's textual metric: exact match after normalisation, list IoU for `multi_answer`
//! (`evaluation_utils.py` of google-research/encyclopedic_vqa). Its second stage, BEM, is not part of this.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::words::{blank_phrases, collapse, is_space};
use crate::eval::Kind;

/// One line per contraction: without its apostrophe, with it.
static CONTRACTIONS: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| include_str!("contractions.tsv").lines().filter_map(|line| line.split_once('\t')).collect());

/// Score of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// For each reference whether it is met; `None` where nothing is left of it after normalisation, which the
    /// official code refuses to score.
    pub per_reference: Vec<Option<bool>>,
}

impl Score {
    /// Whether any reference is met; `None` where none can be scored.
    #[must_use]
    pub fn correct(&self) -> Option<bool> {
        let scored: Vec<bool> = self.per_reference.iter().copied().flatten().collect();
        (!scored.is_empty()).then(|| scored.contains(&true))
    }
}

/// `preprocess_answer`.
#[must_use]
pub fn normalize(answer: &str) -> String {
    let lower = answer.to_lowercase().replace(['\n', '\t'], " ");
    let stripped = lower.trim_matches(is_space);
    let stripped = stripped.strip_prefix("<extra_id_0> ").unwrap_or(stripped);
    let plain: String =
        stripped.chars().filter(|c| !c.is_ascii_punctuation() && !matches!(c, '‘' | '’' | '´')).collect();
    let words = blank_phrases(&plain, &["the answer is", "a", "an", "the"]);
    let mapped: Vec<&str> = words.split(is_space).filter(|w| !w.is_empty()).map(map_word).collect();
    collapse(&mapped.join(" "))
}

fn map_word(word: &str) -> &str {
    let digit = match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        "entailment" | "true" => "yes",
        "contradiction" | "false" => "no",
        other => other,
    };
    CONTRACTIONS.get(digit).copied().unwrap_or(digit)
}

/// Items of one reference: those between `&&` for `multi_answer`, else the reference as a whole.
#[must_use]
pub fn items(kind: Kind, reference: &str) -> Vec<String> {
    match kind {
        Kind::MultiAnswer => reference.split("&&").map(str::to_owned).collect(),
        _ => vec![reference.to_owned()],
    }
}

/// Scores a candidate against references that [`items`] has split.
#[must_use]
pub fn score(kind: Kind, references: &[Vec<String>], candidate: &str) -> Score {
    let per_reference = match kind {
        Kind::MultiAnswer => {
            let parts = candidate.replace(" and ", ",").replace(" & ", ",");
            let given = set(parts.split(','));
            let met = |reference: &Vec<String>| {
                let wanted = set(reference.iter().map(String::as_str));
                let common = wanted.intersection(&given).count();
                // IoU of at least one half. With both sides empty there is no IoU, and no match.
                let union = wanted.len() + given.len() - common;
                Some(union > 0 && 2 * common >= union)
            };
            references.iter().map(met).collect()
        }
        _ => {
            let given = normalize(candidate);
            let met = |reference: &Vec<String>| {
                let wanted = normalize(&reference.concat());
                (!wanted.is_empty()).then(|| wanted == given)
            };
            references.iter().map(met).collect()
        }
    };
    Score { per_reference }
}

fn set<'a>(items: impl Iterator<Item = &'a str>) -> HashSet<String> {
    items.map(normalize).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::metric::golden;

    #[test]
    fn agrees_with_the_official_code() {
        let cases = golden::cases("evqa_text");
        assert!(cases.len() >= 200, "{} cases", cases.len());
        for case in cases {
            let kind: Kind = case["question_type"].as_str().unwrap().parse().unwrap();
            let candidate = case["candidate"].as_str().unwrap();
            assert_eq!(normalize(candidate), case["normalized"], "{case}");
            let references: Vec<_> =
                case["references"].as_array().unwrap().iter().map(|r| items(kind, r.as_str().unwrap())).collect();
            let score = score(kind, &references, candidate);
            let found: Vec<bool> = score.per_reference.iter().map(|r| r.unwrap_or(false)).collect();
            assert_eq!(serde_json::json!(found), case["per_reference"], "{case}");
            assert_eq!(score.correct().unwrap_or(false), case["score"], "{case}");
        }
    }

    #[test]
    fn normalises_as_written() {
        assert_eq!(normalize(" <extra_id_0> The answer is: two dogs\n"), "2 dogs");
        assert_eq!(normalize("It's ENTAILMENT, don't"), "its yes don't");
        assert_eq!(normalize("L’Hôpital´s `x_y`"), "lhôpitals xy");
        assert_eq!(normalize("the"), "");
    }

    #[test]
    fn a_reference_of_which_nothing_is_left_is_not_scored() {
        let refs = [vec!["The".to_owned()], vec!["sea".to_owned()]];
        assert_eq!(score(Kind::Automatic, &refs, "a sea").per_reference, [None, Some(true)]);
        assert_eq!(score(Kind::Automatic, &refs[..1], "").correct(), None);
    }

    #[test]
    fn lists_match_from_one_half_on() {
        let refs = [items(Kind::MultiAnswer, "red&&green&&blue&&red")];
        let correct = |candidate| score(Kind::MultiAnswer, &refs, candidate).correct().unwrap();
        assert!(correct("blue, Red and green"));
        assert!(correct("green & red"), "2 of 3");
        assert!(!correct("green"), "1 of 3");
        assert!(correct("green, red, grey"), "2 of 4");
        assert!(!correct("green, red, grey, pink"), "2 of 5");
        assert!(!correct(""));
    }
}
