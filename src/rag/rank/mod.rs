//! Rankers: the sections of an article, scored against a question.
//!
//! | ranker | how |
//! | --- | --- |
//! | [`BiEncoderRanker`] | question and section embedded apart, by a sentence encoder or the retriever's text side |
//! | [`CrossRanker`] | question and section read together, by a BERT with a score on top |
//! | [`NoRanker`] | in the order of the article: what ranking is worth is measured against it |

mod bi_encoder;
mod cross;
mod words;

use std::ops::Range;

pub use bi_encoder::{BiEncoderRanker, TextEncoder};
pub use cross::{CrossRanker, PairScorer};

use super::budget::sentences;
use super::{About, PartError, SectionRanker};
use crate::kb::Article;

/// How well a section fits a question.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionScore {
    /// Higher fits better.
    pub score: f32,
    /// Bytes of the section's text that fit best: where a section that is too long is cut around.
    pub focus: Range<usize>,
}

/// The order of the article.
pub struct NoRanker;

impl SectionRanker for NoRanker {
    fn about(&self) -> About {
        About::new("the order of the article", "")
    }

    fn rank(&self, _: &str, article: &Article) -> Result<Vec<SectionScore>, PartError> {
        let score = |at| SectionScore { score: 1.0 / (1.0 + at as f32), focus: 0..0 };
        Ok((0..article.sections.len()).map(score).collect())
    }
}

/// The windows of every section: index of the section, bytes of its text.
fn all_windows(article: &Article, chars: usize) -> Vec<(usize, Range<usize>)> {
    let of = |(i, section): (usize, &crate::kb::Section)| {
        windows(&section.text, chars).into_iter().map(move |window| (i, window)).collect::<Vec<_>>()
    };
    article.sections.iter().enumerate().flat_map(of).collect()
}

/// Each section's best window, by the windows' scores.
fn best_windows(sections: usize, windows: Vec<(usize, Range<usize>)>, scores: &[f32]) -> Vec<SectionScore> {
    let mut best = vec![SectionScore { score: f32::NEG_INFINITY, focus: 0..0 }; sections];
    for ((section, window), &score) in windows.into_iter().zip(scores) {
        if score > best[section].score {
            best[section] = SectionScore { score, focus: window };
        }
    }
    best
}

/// Windows of whole sentences of at most `chars` characters (a longer sentence is a window of its own); each begins
/// with the last sentence of the one before where that fits. A text without words has one empty window.
fn windows(text: &str, chars: usize) -> Vec<Range<usize>> {
    let sentences = sentences(text);
    let length = |range: &Range<usize>| text[range.clone()].chars().count();
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut current: Option<Range<usize>> = None;
    let mut last: Option<Range<usize>> = None;
    for sentence in sentences {
        current = Some(match current.take() {
            None => sentence.clone(),
            Some(window) if length(&(window.start..sentence.end)) <= chars => window.start..sentence.end,
            Some(window) => {
                let overlap = last
                    .take()
                    .filter(|last| last.start > window.start && length(&(last.start..sentence.end)) <= chars);
                out.push(window);
                overlap.map_or(sentence.start, |last| last.start)..sentence.end
            }
        });
        last = Some(sentence);
    }
    out.extend(current);
    if out.is_empty() {
        out.push(0..0);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_a_text_and_overlap_by_a_sentence() {
        let text = "Aa bb. Cc dd. Ee ff. Gg hh.";
        let found: Vec<&str> = windows(text, 14).into_iter().map(|r| text[r].trim()).collect();
        assert_eq!(found, ["Aa bb. Cc dd.", "Cc dd. Ee ff.", "Ee ff. Gg hh."]);
        assert_eq!(windows("", 10), vec![Range { start: 0, end: 0 }]);
    }

    #[test]
    fn without_a_ranker_the_first_section_comes_first() {
        let section = |text: &str| crate::kb::Section { title: String::new(), text: text.into() };
        let article = Article { sections: vec![section("a"), section("b")], ..Article::default() };
        let scores = NoRanker.rank("q", &article).unwrap();
        assert!(scores.len() == 2 && scores[0].score > scores[1].score);
    }
}
