//! The words of a question that a text shares.

use std::collections::HashSet;

/// Words that say what a question is about.
pub(super) fn content_words(text: &str) -> HashSet<String> {
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
pub(super) fn shared(words: &HashSet<String>, text: &str) -> f32 {
    if words.is_empty() {
        return 0.0;
    }
    let held: HashSet<String> = self::words(text).collect();
    words.iter().filter(|word| held.contains(*word)).count() as f32 / words.len() as f32
}
