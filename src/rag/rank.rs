//! Sections of an article ranked against a question by a sentence encoder (all-MiniLM-L6-v2: masked mean pooling, unit
//! length, cosine), with the share of the question's words as a tie-breaker that can be turned up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{PartError, SectionRanker, budget::sentences};
use crate::kb::Section;

/// Turns texts into unit vectors of one length.
pub trait TextEncoder: Send + Sync {
    /// One vector per text, at its place. Texts longer than the model takes are cut.
    ///
    /// # Errors
    /// What keeps the model from encoding.
    fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, PartError>;
}

/// How well a section fits a question.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionScore {
    /// Higher fits better.
    pub score: f32,
    /// Bytes of the section's text that fit best: where a section that is too long is cut around.
    pub focus: Range<usize>,
}

/// A ranker over a [`TextEncoder`].
///
/// A section is looked at through windows of whole sentences, each encoded as `{section title}. {window}`; its score is
/// that of its best window. Vectors of windows are kept, so a second question about an entity costs one encoding.
pub struct BiEncoderRanker {
    encoder: Arc<dyn TextEncoder>,
    /// Added per unit share of the question's content words that a window holds.
    lexical_weight: f32,
    /// Characters of a window; 800 are about 200 tokens of English.
    window_chars: usize,
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
    pub fn new(encoder: Arc<dyn TextEncoder>) -> Self {
        Self { encoder, lexical_weight: 0.0, window_chars: 800, kept: Mutex::default() }
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
    fn rank(&self, question: &str, sections: &[Section]) -> Result<Vec<SectionScore>, PartError> {
        let asked = self.encoder.encode(&[question.to_owned()])?;
        let Some(asked) = asked.first() else {
            return Err(PartError::failure("the text encoder gave no vector for the question"));
        };
        let mut owner: Vec<(usize, Range<usize>)> = Vec::new();
        let mut texts = Vec::new();
        for (i, section) in sections.iter().enumerate() {
            for window in windows(&section.text, self.window_chars) {
                texts.push(format!("{}. {}", section.title, section.text[window.clone()].trim()));
                owner.push((i, window));
            }
        }
        let vectors = self.vectors(&texts)?;
        let words = content_words(question);
        let mut scores = vec![SectionScore { score: f32::NEG_INFINITY, focus: 0..0 }; sections.len()];
        for (((section, window), vector), text) in owner.into_iter().zip(&vectors).zip(&texts) {
            let cosine: f32 = asked.iter().zip(vector.iter()).map(|(a, b)| a * b).sum();
            let score = cosine + self.lexical_weight * shared(&words, text);
            if score > scores[section].score {
                scores[section] = SectionScore { score, focus: window };
            }
        }
        Ok(scores)
    }
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

fn content_words(text: &str) -> HashSet<String> {
    const STOP: &[&str] = &[
        "the",
        "and",
        "for",
        "are",
        "was",
        "were",
        "what",
        "which",
        "who",
        "whom",
        "when",
        "where",
        "how",
        "does",
        "did",
        "this",
        "that",
        "these",
        "those",
        "with",
        "from",
        "has",
        "have",
        "had",
        "many",
        "much",
        "its",
        "there",
        "here",
        "country",
        "territory",
        "flag",
        "picture",
        "image",
        "shown",
        "name",
    ];
    words(text).filter(|word| word.len() > 2 && !STOP.contains(&word.as_str())).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Share of `words` that `text` holds, 0 to 1.
fn shared(words: &HashSet<String>, text: &str) -> f32 {
    if words.is_empty() {
        return 0.0;
    }
    let held: HashSet<String> = self::words(text).collect();
    words.iter().filter(|word| held.contains(*word)).count() as f32 / words.len() as f32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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

    fn section(title: &str, text: &str) -> Section {
        Section { title: title.into(), text: text.into() }
    }

    #[test]
    fn the_section_that_says_the_same_wins_and_its_window_is_the_focus() {
        let ranker = BiEncoderRanker::new(Arc::new(Letters::default())).with_window_chars(30);
        let long = "Zzz zzz zzz. Xxx xxx xxx xxx. The capital is here. Qqq qqq qqq qqq.";
        let sections = [section("X", "vvv vvv"), section("X", long), section("X", "")];
        let scores = ranker.rank("the capital is here", &sections).unwrap();
        assert!(scores[1].score > scores[0].score && scores[1].score > scores[2].score, "{scores:?}");
        assert!(long[scores[1].focus.clone()].contains("capital"), "{scores:?}");
    }

    #[test]
    fn windows_are_encoded_once() {
        let encoder = Arc::new(Letters::default());
        let ranker = BiEncoderRanker::new(Arc::clone(&encoder) as Arc<dyn TextEncoder>);
        let sections = [section("A", "one."), section("B", "two.")];
        let first = ranker.rank("q", &sections).unwrap();
        assert_eq!(encoder.texts.load(Ordering::SeqCst), 3);
        assert_eq!(ranker.rank("q", &sections).unwrap(), first);
        assert_eq!(encoder.texts.load(Ordering::SeqCst), 4, "the second time only the question");
    }

    #[test]
    fn shared_words_can_decide() {
        let sections = [section("A", "currency"), section("B", "yrcnercu")];
        let ranker = BiEncoderRanker::new(Arc::new(Letters::default())).with_lexical_weight(0.2);
        let scores = ranker.rank("currency", &sections).unwrap();
        assert!(scores[0].score > scores[1].score + 0.1);
    }

    #[test]
    fn windows_cover_a_text_and_overlap_by_a_sentence() {
        let text = "Aa bb. Cc dd. Ee ff. Gg hh.";
        let found: Vec<&str> = windows(text, 14).into_iter().map(|r| text[r].trim()).collect();
        assert_eq!(found, ["Aa bb. Cc dd.", "Cc dd. Ee ff.", "Ee ff. Gg hh."]);
        assert_eq!(windows("", 10), vec![Range { start: 0, end: 0 }]);
    }
}
