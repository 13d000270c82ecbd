//! Sections ranked by embeddings: all-MiniLM-L6-v2 as it is meant to be used (masked mean pooling, unit length, cosine),
//! or the retriever's own text side; with the share of the question's words as a tie-breaker that can be turned up.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::words::{content_words, shared};
use super::{SectionScore, all_windows, best_windows};
use crate::kb::Article;
use crate::rag::{About, PartError, SectionRanker};

/// Turns texts into vectors of one length.
pub trait TextEncoder: Send + Sync {
    /// One vector per text, at its place. Texts longer than the model takes are cut.
    ///
    /// # Errors
    /// What keeps the model from encoding.
    fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, PartError>;

    /// The vector of a question, where that is encoded in another way than what may answer it.
    ///
    /// # Errors
    /// What keeps the model from encoding.
    fn encode_question(&self, question: &str) -> Result<Vec<f32>, PartError> {
        let one = self.encode(&[question.to_owned()])?.into_iter().next();
        one.ok_or_else(|| PartError::failure("the text encoder gave no vector for the question"))
    }

    /// How well two vectors fit: by default their dot product.
    fn similarity(&self, question: &[f32], text: &[f32]) -> f32 {
        question.iter().zip(text).map(|(a, b)| a * b).sum()
    }
}

/// A ranker over a [`TextEncoder`].
///
/// A section is looked at through windows of whole sentences, each encoded as `{section title}. {window}`; its score is
/// that of its best window. Vectors of windows are kept, so a second question about an entity costs one encoding.
pub struct BiEncoderRanker {
    about: About,
    encoder: Arc<dyn TextEncoder>,
    /// Added per unit share of the question's content words that a window holds.
    lexical_weight: f32,
    /// Characters of a window; 800 are about 200 tokens of English.
    window_chars: usize,
    /// Whether the name of the entity stands before a section's.
    named: bool,
    kept: Mutex<Kept>,
}

/// Vectors kept, by the hash of their text; the oldest leave first.
#[derive(Default)]
struct Kept {
    vectors: HashMap<[u8; 32], Arc<[f32]>>,
    order: VecDeque<[u8; 32]>,
}

impl Kept {
    /// 16,384 vectors of 384 numbers are 25 MB.
    const MOST: usize = 16_384;

    fn insert(&mut self, key: [u8; 32], vector: Arc<[f32]>) {
        if self.vectors.insert(key, vector).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > Self::MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.vectors.remove(&oldest);
            }
        }
    }
}

impl BiEncoderRanker {
    /// Texts encoded at once, so that memory stays small.
    const BATCH: usize = 16;

    /// A ranker with windows of 800 characters and without lexical help.
    #[must_use]
    pub fn new(about: About, encoder: Arc<dyn TextEncoder>) -> Self {
        Self { about, encoder, lexical_weight: 0.0, window_chars: 800, named: false, kept: Mutex::default() }
    }

    /// Puts the name of the entity before the section's.
    #[must_use]
    pub fn with_names(mut self) -> Self {
        self.named = true;
        self
    }

    /// Changes the weight of shared words; 0 is off.
    #[must_use]
    pub fn with_lexical_weight(mut self, weight: f32) -> Self {
        self.lexical_weight = weight;
        self
    }

    /// Changes the length of a window, characters.
    #[must_use]
    pub fn with_window_chars(mut self, chars: usize) -> Self {
        self.window_chars = chars.max(1);
        self
    }

    /// Vectors of `texts`, from memory where they are.
    fn vectors(&self, texts: &[String]) -> Result<Vec<Arc<[f32]>>, PartError> {
        let keys: Vec<[u8; 32]> = texts.iter().map(|text| *blake3::hash(text.as_bytes()).as_bytes()).collect();
        let mut out: Vec<Option<Arc<[f32]>>> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| kept.vectors.get(key).cloned()).collect()
        };
        // Texts of similar length share a batch: padding costs time.
        let mut missing: Vec<usize> = (0..texts.len()).filter(|&i| out[i].is_none()).collect();
        missing.sort_by_key(|&i| texts[i].len());
        for batch in missing.chunks(Self::BATCH) {
            let wanted: Vec<String> = batch.iter().map(|&i| texts[i].clone()).collect();
            let vectors = self.encoder.encode(&wanted)?;
            if vectors.len() != wanted.len() {
                let (found, expected) = (vectors.len(), wanted.len());
                return Err(PartError::failure(format!("the text encoder gave {found} vectors for {expected} texts")));
            }
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for (&i, vector) in batch.iter().zip(vectors) {
                let vector: Arc<[f32]> = vector.into();
                kept.insert(keys[i], Arc::clone(&vector));
                out[i] = Some(vector);
            }
        }
        Ok(out.into_iter().flatten().collect())
    }
}

impl SectionRanker for BiEncoderRanker {
    fn about(&self) -> About {
        let mut about = self.about.clone();
        if self.lexical_weight != 0.0 {
            about.name.push_str(&format!(", and shared words times {}", self.lexical_weight));
        }
        about
    }

    fn rank(&self, question: &str, article: &Article) -> Result<Vec<SectionScore>, PartError> {
        let asked = self.encoder.encode_question(question)?;
        let windows = all_windows(article, self.window_chars);
        let text = |(i, window): &(usize, Range<usize>)| {
            let section = &article.sections[*i];
            let text = format!("{}. {}", section.title, section.text[window.clone()].trim());
            if self.named { format!("{}. {text}", article.title) } else { text }
        };
        let texts: Vec<String> = windows.iter().map(text).collect();
        let vectors = self.vectors(&texts)?;
        let words = content_words(question);
        let score = |(vector, text): (&Arc<[f32]>, &String)| {
            self.encoder.similarity(&asked, vector) + self.lexical_weight * shared(&words, text)
        };
        let scores: Vec<f32> = vectors.iter().zip(&texts).map(score).collect();
        Ok(best_windows(article.sections.len(), windows, &scores))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kb::Section;

    /// Counts letters: near enough to meaning for a test.
    #[derive(Default)]
    struct Letters {
        texts: AtomicUsize,
    }

    impl TextEncoder for Letters {
        fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, PartError> {
            self.texts.fetch_add(texts.len(), Ordering::SeqCst);
            Ok(texts
                .iter()
                .map(|text| {
                    let mut v = [0.0_f32; 26];
                    for c in text.to_lowercase().bytes().filter(u8::is_ascii_lowercase) {
                        v[usize::from(c - b'a')] += 1.0;
                    }
                    let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
                    v.iter().map(|x| x / norm).collect()
                })
                .collect())
        }
    }

    fn article(sections: &[(&str, &str)]) -> Article {
        let section = |(title, text): &(&str, &str)| Section { title: (*title).into(), text: (*text).into() };
        Article { sections: sections.iter().map(section).collect(), ..Article::default() }
    }

    fn ranker(encoder: &Arc<Letters>) -> BiEncoderRanker {
        BiEncoderRanker::new(About::new("letters", ""), Arc::clone(encoder) as Arc<dyn TextEncoder>)
    }

    #[test]
    fn the_section_that_says_the_same_wins_and_its_window_is_the_focus() {
        let ranker = ranker(&Arc::default()).with_window_chars(30);
        let long = "Zzz zzz zzz. Xxx xxx xxx xxx. The capital is here. Qqq qqq qqq qqq.";
        let sections = article(&[("X", "vvv vvv"), ("X", long), ("X", "")]);
        let scores = ranker.rank("the capital is here", &sections).unwrap();
        assert!(scores[1].score > scores[0].score && scores[1].score > scores[2].score, "{scores:?}");
        assert!(long[scores[1].focus.clone()].contains("capital"), "{scores:?}");
    }

    #[test]
    fn windows_are_encoded_once() {
        let encoder = Arc::new(Letters::default());
        let ranker = ranker(&encoder);
        let sections = article(&[("A", "one."), ("B", "two.")]);
        let first = ranker.rank("q", &sections).unwrap();
        assert_eq!(encoder.texts.load(Ordering::SeqCst), 3);
        assert_eq!(ranker.rank("q", &sections).unwrap(), first);
        assert_eq!(encoder.texts.load(Ordering::SeqCst), 4, "the second time only the question");
    }

    #[test]
    fn shared_words_can_decide() {
        let sections = article(&[("A", "currency"), ("B", "yrcnercu")]);
        let ranker = ranker(&Arc::default()).with_lexical_weight(0.2);
        let scores = ranker.rank("currency", &sections).unwrap();
        assert!(scores[0].score > scores[1].score + 0.1);
    }
}
