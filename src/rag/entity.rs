//! From hits to the entity that the question is about.

use serde::Serialize;

use crate::kb::{Article, Hit};

/// An article that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
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
}

/// Merges hits by article: an article's score is that of its best hit. Hits without a finite score are left out.
#[must_use]
pub fn merge(hits: Vec<Hit>) -> Merged {
    let mut found: Vec<(Article, f32, usize)> = Vec::new();
    for hit in hits.into_iter().filter(|hit| hit.score.is_finite()) {
        match found.iter_mut().find(|(article, ..)| article.url == hit.article.url) {
            Some((_, score, hits)) => {
                *score = score.max(hit.score);
                *hits += 1;
            }
            None => found.push((hit.article, hit.score, 1)),
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut merged = Merged::default();
    for (n, (article, score, hits)) in found.into_iter().enumerate() {
        merged.candidates.push(Candidate {
            rank: n + 1,
            url: article.url.clone(),
            title: article.title.clone(),
            image: article.lead_picture().map(str::to_owned),
            score,
            hits,
        });
        merged.articles.push(article);
    }
    merged
}

/// Chooses the best candidate, or says why none is good enough.
///
/// # Errors
/// The reason, in words, when there is no candidate or the best one scores below `min_score`.
pub fn choose(candidates: &[Candidate], min_score: Option<f32>) -> Result<EntityChoice, String> {
    let Some(best) = candidates.first() else {
        return Err("nothing was found".into());
    };
    if let Some(needed) = min_score.filter(|needed| best.score < *needed) {
        return Err(format!("the nearest article, {}, scores {:.3}, less than {needed:.3}", best.title, best.score));
    }
    let margin = candidates.get(1).map(|next| best.score - next.score);
    let why = match (margin, candidates.get(1)) {
        (Some(margin), Some(next)) => {
            format!("best of {} with {:.3}, {margin:.3} before {}", candidates.len(), best.score, next.title)
        }
        _ => format!("the only candidate, with {:.3}", best.score),
    };
    Ok(EntityChoice { url: best.url.clone(), title: best.title.clone(), score: Some(best.score), margin, why })
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
    fn the_choice_tells_its_margin_and_abstains_below_the_threshold() {
        let merged = merge(vec![hit("a", 0.5), hit("b", 0.75)]);
        let choice = choose(&merged.candidates, Some(0.75)).unwrap();
        assert_eq!((choice.title.as_str(), choice.margin), ("B", Some(0.25)));
        let reason = choose(&merged.candidates, Some(0.8)).unwrap_err();
        assert_eq!(reason, "the nearest article, B, scores 0.750, less than 0.800");
        assert!(choose(&[], None).is_err());
    }
}
