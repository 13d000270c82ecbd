//! From hits to the entity that the question is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Abstention, Thresholds};
use crate::kb::{Article, Hit};

/// An article that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Place among the candidates, from 1.
    pub rank: usize,
    /// The article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Its picture, relative to the knowledge base's picture directory.
    pub image: Option<String>,
    /// Best score among its hits.
    pub score: f32,
    /// How many hits it had.
    pub hits: usize,
}

/// The entity that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityChoice {
    /// The article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Score; `None` where the entity was given.
    pub score: Option<f32>,
    /// Score less that of the next candidate; `None` where there is none.
    pub margin: Option<f32>,
    /// In words.
    pub why: String,
}

/// Candidates merged by article, and the articles themselves in the same order.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// Best first; equal scores in the order of the search.
    pub candidates: Vec<Candidate>,
    /// The article of each.
    pub articles: Vec<Article>,
    /// Of each, the best score of every section that was found as one; empty where whole articles are embedded.
    pub sections: Vec<BTreeMap<usize, f32>>,
}

impl Merged {
    /// The search's score of a section of a candidate: its own where it was found, else no more than any that was; of
    /// an article that is embedded whole, the article's.
    #[must_use]
    pub fn section_score(&self, candidate: usize, section: usize) -> f32 {
        let found = self.sections.get(candidate);
        let least = || found.and_then(|all| all.values().copied().min_by(f32::total_cmp));
        let whole = || self.candidates.get(candidate).map(|candidate| candidate.score);
        found.and_then(|all| all.get(&section).copied()).or_else(least).or_else(whole).unwrap_or_default()
    }
}

/// Merges hits by article: an article's score is that of its best hit. Hits without a finite score are left out.
#[must_use]
pub fn merge(hits: Vec<Hit>) -> Merged {
    let mut found: Vec<(Article, f32, usize, BTreeMap<usize, f32>)> = Vec::new();
    for hit in hits.into_iter().filter(|hit| hit.score.is_finite()) {
        // A picture's section is where it stands, and says nothing of what that section tells.
        let section = hit.part.filter(|part| part.picture.is_none()).map(|part| part.section);
        let at = match found.iter().position(|(article, ..)| article.url == hit.article.url) {
            Some(at) => {
                found[at].1 = found[at].1.max(hit.score);
                found[at].2 += 1;
                at
            }
            None => {
                found.push((hit.article, hit.score, 1, BTreeMap::new()));
                found.len() - 1
            }
        };
        if let Some(section) = section {
            let best = found[at].3.entry(section).or_insert(hit.score);
            *best = best.max(hit.score);
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut merged = Merged::default();
    for (n, (article, score, hits, sections)) in found.into_iter().enumerate() {
        merged.candidates.push(Candidate {
            rank: n + 1,
            url: article.url.clone(),
            title: article.title.clone(),
            image: article.lead_picture().map(str::to_owned),
            score,
            hits,
        });
        merged.articles.push(article);
        merged.sections.push(sections);
    }
    merged
}

/// Whether the best candidate is near enough to be looked at.
///
/// # Errors
/// The reason to abstain: there is no candidate, or the best one scores too low.
pub fn near_enough(candidates: &[Candidate], thresholds: &Thresholds) -> Result<(), Abstention> {
    let best = candidates.first().ok_or(Abstention::NothingFound)?;
    match thresholds.score.filter(|needed| best.score < *needed) {
        Some(needed) => Err(Abstention::LowScore { title: best.title.clone(), score: best.score, needed }),
        None => Ok(()),
    }
}

/// Chooses the best candidate by its score.
///
/// # Errors
/// The reason to abstain: there is no candidate, or the next one is too near.
pub fn choose(candidates: &[Candidate], thresholds: &Thresholds) -> Result<EntityChoice, Abstention> {
    let best = candidates.first().ok_or(Abstention::NothingFound)?;
    let Some(next) = candidates.get(1) else {
        return Ok(choice(candidates, 0, format!("the only candidate, with {:.3}", best.score)));
    };
    let margin = best.score - next.score;
    if let Some(needed) = thresholds.margin.filter(|needed| margin < *needed) {
        let (title, next) = (best.title.clone(), next.title.clone());
        return Err(Abstention::SmallMargin { title, next, margin, needed });
    }
    let why = format!("best of {} with {:.3}, {margin:.3} before {}", candidates.len(), best.score, next.title);
    Ok(choice(candidates, 0, why))
}

/// A candidate as the chosen one. Its margin is its lead over the best of the others; negative where that scores higher.
#[must_use]
pub fn choice(candidates: &[Candidate], at: usize, why: String) -> EntityChoice {
    let chosen = &candidates[at];
    let other = candidates.iter().enumerate().find(|(n, _)| *n != at).map(|(_, other)| other.score);
    EntityChoice {
        url: chosen.url.clone(),
        title: chosen.title.clone(),
        score: Some(chosen.score),
        margin: other.map(|other| chosen.score - other),
        why,
    }
}

/// The place of the candidate that a model's answer names: by its number, else by its name alone.
#[must_use]
pub fn named(candidates: &[Candidate], answer: &str) -> Option<usize> {
    let answer = answer.trim();
    let digits: String = answer.chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|at| *at < candidates.len());
    number.or_else(|| {
        let lower = answer.to_lowercase();
        let mut found = candidates.iter().enumerate().filter(|(_, c)| {
            let title = c.title.trim().to_lowercase();
            !title.is_empty() && lower.contains(&title)
        });
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Some(at),
            _ => None,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn hit(url: &str, score: f32) -> Hit {
        let article = Article { url: url.into(), title: url.to_uppercase(), ..Article::default() };
        Hit { article, score, part: None }
    }

    #[test]
    fn hits_of_one_article_become_one_candidate_with_the_best_score() {
        let merged = merge(vec![hit("a", 0.5), hit("b", 0.7), hit("a", 0.8), hit("c", f32::NAN)]);
        let seen: Vec<_> = merged.candidates.iter().map(|c| (c.rank, c.url.as_str(), c.score, c.hits)).collect();
        assert_eq!(seen, [(1, "a", 0.8, 2), (2, "b", 0.7, 1)]);
        assert_eq!(merged.articles[1].url, "b");
    }

    #[test]
    fn the_choice_tells_its_margin_and_abstains_below_the_thresholds() {
        let merged = merge(vec![hit("a", 0.5), hit("b", 0.75)]);
        let at_least = |score, margin| Thresholds { score: Some(score), margin: Some(margin), section: None };
        let choice = choose(&merged.candidates, &at_least(0.75, 0.25)).unwrap();
        assert_eq!((choice.title.as_str(), choice.margin), ("B", Some(0.25)));
        near_enough(&merged.candidates, &at_least(0.75, 0.0)).unwrap();
        let reason = near_enough(&merged.candidates, &at_least(0.8, 0.0)).unwrap_err();
        assert_eq!(reason.to_string(), "the nearest article, B, scores 0.750, less than 0.800");
        let reason = choose(&merged.candidates, &at_least(0.0, 0.3)).unwrap_err();
        assert_eq!(reason.to_string(), "B is only 0.250 before A, less than 0.300");
        assert_eq!(choose(&[], &Thresholds::default()), Err(Abstention::NothingFound));
        assert_eq!(near_enough(&[], &Thresholds::default()), Err(Abstention::NothingFound));
    }

    #[test]
    fn an_answer_names_a_candidate_by_number_or_by_name_and_no_other() {
        let merged = merge(vec![hit("chad", 0.9), hit("mali", 0.8), hit("south mali", 0.7)]);
        let of = |answer: &str| named(&merged.candidates, answer);
        assert_eq!((of("2"), of(" 1. Chad"), of("3\n")), (Some(1), Some(0), Some(2)));
        assert_eq!((of("It is Chad."), of("4"), of("0"), of("Peru"), of("")), (Some(0), None, None, None, None));
        assert_eq!(of("south mali"), None, "two names stand in it");
        let second = choice(&merged.candidates, 1, String::new());
        assert!((second.margin.unwrap() + 0.1).abs() < 1e-6, "{second:?}");
    }

    #[test]
    fn a_section_that_was_found_keeps_its_own_score() {
        let part = |section, score| Hit { part: Some(crate::kb::Found { section, picture: None }), ..hit("a", score) };
        let merged = merge(vec![part(2, 0.9), part(0, 0.6), part(2, 0.7), hit("b", 0.5)]);
        let score = |candidate, section| merged.section_score(candidate, section);
        assert_eq!((score(0, 2), score(0, 0), score(0, 5)), (0.9, 0.6, 0.6));
        assert_eq!((score(1, 0), score(9, 0)), (0.5, 0.0));
    }
}
