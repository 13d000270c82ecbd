//! Sections ranked by a model that reads question and section together, as in Nogueira and Cho (arXiv 1901.04085).

use std::ops::Range;
use std::sync::Arc;

use super::{SectionScore, all_windows, best_windows};
use crate::kb::Article;
use crate::rag::{About, PartError, SectionRanker};

/// Scores texts against a question.
pub trait PairScorer: Send + Sync {
    /// One score per text, at its place, 0 to 1. Texts longer than the model takes are cut.
    ///
    /// # Errors
    /// What keeps the model from reading.
    fn score(&self, question: &str, texts: &[String]) -> Result<Vec<f32>, PartError>;
}

/// A ranker over a [`PairScorer`]. A section is looked at through windows of whole sentences, each read as
/// `{title}. {section title}. {window}`; its score is that of its best window.
pub struct CrossRanker {
    about: About,
    scorer: Arc<dyn PairScorer>,
    window_chars: usize,
}

impl CrossRanker {
    /// A ranker with windows of `window_chars` characters.
    #[must_use]
    pub fn new(about: About, scorer: Arc<dyn PairScorer>, window_chars: usize) -> Self {
        Self { about, scorer, window_chars: window_chars.max(1) }
    }
}

impl SectionRanker for CrossRanker {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn rank(&self, question: &str, article: &Article) -> Result<Vec<SectionScore>, PartError> {
        let windows = all_windows(article, self.window_chars);
        let text = |(i, window): &(usize, Range<usize>)| {
            let section = &article.sections[*i];
            format!("{}. {}. {}", article.title, section.title, section.text[window.clone()].trim())
        };
        let texts: Vec<String> = windows.iter().map(text).collect();
        let scores = self.scorer.score(question, &texts)?;
        if scores.len() != texts.len() {
            let (found, expected) = (scores.len(), texts.len());
            return Err(PartError::failure(format!("the cross-encoder gave {found} scores for {expected} texts")));
        }
        Ok(best_windows(article.sections.len(), windows, &scores))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::kb::Section;

    /// Likes short texts that hold the question.
    struct Holds;
    impl PairScorer for Holds {
        fn score(&self, question: &str, texts: &[String]) -> Result<Vec<f32>, PartError> {
            let of = |text: &String| if text.contains(question) { 1.0 / text.len() as f32 } else { 0.0 };
            Ok(texts.iter().map(of).collect())
        }
    }

    /// Forgets one.
    struct Short;
    impl PairScorer for Short {
        fn score(&self, _: &str, texts: &[String]) -> Result<Vec<f32>, PartError> {
            Ok(vec![0.0; texts.len() - 1])
        }
    }

    #[test]
    fn a_section_counts_as_its_best_window_and_scores_must_be_whole() {
        let section = |text: &str| Section { title: "S".into(), text: text.into() };
        let long = "Aa aa aa. The florin is used. Bb bb bb.";
        let article =
            Article { title: "T".into(), sections: vec![section("none"), section(long)], ..Article::default() };
        let rank = |scorer| CrossRanker::new(About::default(), scorer, 20).rank("florin", &article);
        let scores = rank(Arc::new(Holds)).unwrap();
        assert!(scores[1].score > scores[0].score && long[scores[1].focus.clone()].contains("florin"), "{scores:?}");
        let short = rank(Arc::new(Short)).unwrap_err().to_string();
        assert!(short.contains("3 scores for 4 texts"), "{short}");
    }
}
