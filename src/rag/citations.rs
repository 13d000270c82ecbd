//! What an answer rests on: the numbers a model wrote, resolved, or else the passage that holds its words.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Passage;

/// One passage that the answer rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// Number of the passage.
    pub passage: usize,
    /// The article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Heading of the section.
    pub section: String,
    /// Who says so.
    pub source: CitationSource,
    /// Share of the answer's words that the passage holds, 0 to 1.
    pub support: f32,
}

/// Who says that an answer rests on a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CitationSource {
    /// The model wrote its number.
    Model,
    /// The model cited nothing; the passage was found to hold the answer's words.
    Matched,
}

/// An answer with its citations resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// The text, its marks of unknown passages taken out.
    pub text: String,
    /// The text without any mark.
    pub plain: String,
    /// In the order of first mention, or of support.
    pub citations: Vec<Citation>,
    /// Numbers that no passage has, ascending.
    pub unknown: Vec<usize>,
}

/// Least share of an answer's words that a passage must hold to be called its source.
const MIN_SUPPORT: f32 = 0.6;

/// Resolves the citations of `answer`: `[1]`, `[1, 2]`, `[1-3]`, `[1][2]`, `【1】`, `[passage 1]`.
#[must_use]
pub fn resolve(answer: &str, passages: &[Passage]) -> Resolved {
    let known: BTreeMap<usize, &Passage> = passages.iter().map(|p| (p.number, p)).collect();
    let mut cited: Vec<usize> = Vec::new();
    let mut unknown: Vec<usize> = Vec::new();
    let mut text = String::new();
    let mut plain = String::new();
    let mut from = 0;
    for mark in marks(answer, |n| known.contains_key(&n)) {
        for (list, numbers) in [(&mut cited, &mark.known), (&mut unknown, &mark.unknown)] {
            for n in numbers {
                if !list.contains(n) {
                    list.push(*n);
                }
            }
        }
        push_piece(&mut plain, &answer[from..mark.range.start]);
        text.push_str(&answer[from..mark.range.start]);
        mark.push(&mut text);
        from = mark.range.end;
    }
    push_piece(&mut plain, &answer[from..]);
    text.push_str(&answer[from..]);
    let (text, plain) = (text.trim().to_owned(), plain.trim().to_owned());
    unknown.sort_unstable();

    let cite = |passage: &Passage, source, support| Citation {
        passage: passage.number,
        url: passage.url.clone(),
        title: passage.title.clone(),
        section: passage.section.clone(),
        source,
        support,
    };
    let citations = if cited.is_empty() {
        matched(&plain, passages).into_iter().map(|(p, support)| cite(p, CitationSource::Matched, support)).collect()
    } else {
        let words = content_words(&plain);
        cited
            .iter()
            .filter_map(|n| known.get(n))
            .map(|p| cite(p, CitationSource::Model, support(&plain, &words, p)))
            .collect()
    };
    Resolved { text, plain, citations, unknown }
}

/// One mark in a text.
struct Mark {
    range: Range<usize>,
    known: Vec<usize>,
    unknown: Vec<usize>,
}

impl Mark {
    /// Appends it as it is shown: with the numbers that a passage has, or not at all.
    fn push(&self, text: &mut String) {
        if self.known.is_empty() {
            text.truncate(text.trim_end_matches(' ').len());
        } else {
            let list: Vec<String> = self.known.iter().map(usize::to_string).collect();
            text.push_str(&format!("[{}]", list.join(", ")));
        }
    }
}

/// The marks of a text, in order.
fn marks(text: &str, is_known: impl Fn(usize) -> bool) -> Vec<Mark> {
    let captured = MARK.iter().flat_map(|mark| mark.captures_iter(text));
    let found = captured.filter_map(|found| {
        let (whole, list) = (found.get(0)?, found.get(1)?);
        let (known, unknown): (Vec<usize>, Vec<usize>) = numbers(list.as_str()).into_iter().partition(|n| is_known(*n));
        // Where nothing in it can be a passage, a bracketed year stays a year.
        let year = known.is_empty() && unknown.iter().all(|n| *n > 99);
        (!year).then(|| Mark { range: whole.range(), known, unknown })
    });
    found.collect()
}

/// Text on its way to the reader, piece by piece: what [`resolve`] will make of the whole, as early as that is certain.
///
/// An open bracket is held back until it is closed or can be no mark any more, and spaces until something follows.
#[derive(Debug)]
pub struct Shown {
    known: BTreeSet<usize>,
    held: String,
    begun: bool,
}

impl Shown {
    /// Longest mark that is waited for, bytes.
    const LONGEST: usize = 48;

    /// For an answer over these passages.
    #[must_use]
    pub fn new(passages: &[Passage]) -> Self {
        Self { known: passages.iter().map(|p| p.number).collect(), held: String::new(), begun: false }
    }

    /// What can be shown after this piece.
    #[must_use]
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let open = self.held.rfind(['[', '【']).filter(|at| {
            let tail = &self.held[*at..];
            tail.len() < Self::LONGEST && !tail.contains([']', '】', '\n'])
        });
        let certain = self.held[..open.unwrap_or(self.held.len())].trim_end().len();
        let rest = self.held.split_off(certain);
        let shown = std::mem::replace(&mut self.held, rest);
        self.rewrite(&shown)
    }

    /// The rest.
    #[must_use]
    pub fn finish(mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        self.rewrite(rest.trim_end())
    }

    fn rewrite(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut from = 0;
        for mark in marks(text, |n| self.known.contains(&n)) {
            out.push_str(&text[from..mark.range.start]);
            mark.push(&mut out);
            from = mark.range.end;
        }
        out.push_str(&text[from..]);
        if !self.begun {
            out = out.trim_start().to_owned();
            self.begun = !out.is_empty();
        }
        out
    }
}

static MARK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)[\[【]\s*(?:passages?\s*)?(\d{1,4}(?:\s*(?:[,;&–-]|and)\s*\d{1,4})*)\s*[\]】]").ok()
});

/// The numbers of a list; `1-3` is a range where it is a short one.
fn numbers(list: &str) -> Vec<usize> {
    let mut out = Vec::new();
    for part in list.split([',', ';', '&']).flat_map(|part| part.split("and")) {
        let ends: Vec<usize> = part.split(['-', '–']).filter_map(|n| n.trim().parse().ok()).collect();
        match ends.as_slice() {
            [first, .., last] if first <= last && last - first < 20 => out.extend(*first..=*last),
            ends => out.extend_from_slice(ends),
        }
    }
    out
}

/// Appends what stands between two marks, without the space that the mark leaves before a full stop.
fn push_piece(out: &mut String, piece: &str) {
    let trimmed = piece.trim_start_matches(' ');
    if trimmed.starts_with(['.', ',', ';', ':', '!', '?']) || out.ends_with(' ') {
        out.truncate(out.trim_end_matches(' ').len());
        if !trimmed.starts_with(['.', ',', ';', ':', '!', '?']) && !trimmed.is_empty() {
            out.push(' ');
        }
        out.push_str(trimmed);
    } else {
        out.push_str(piece);
    }
}

/// The passages that hold the answer's words best: all whose support is the highest, if that is enough.
fn matched<'a>(answer: &str, passages: &'a [Passage]) -> Vec<(&'a Passage, f32)> {
    let words = content_words(answer);
    if words.is_empty() {
        return Vec::new();
    }
    let scored: Vec<(&Passage, f32)> = passages.iter().map(|p| (p, support(answer, &words, p))).collect();
    let best = scored.iter().map(|(_, s)| *s).fold(0.0, f32::max);
    if best < MIN_SUPPORT {
        return Vec::new();
    }
    scored.into_iter().filter(|(_, s)| best - s < 1e-6).take(1).collect()
}

/// 1 where the passage holds the answer word by word; else the share of its content words that it holds, and 0 where a
/// number of the answer is missing.
fn support(answer: &str, words: &HashSet<String>, passage: &Passage) -> f32 {
    if words.is_empty() {
        return 0.0;
    }
    let held = tokens(&format!("{} {}", passage.section, passage.text));
    let phrase = format!(" {} ", tokens(answer).join(" "));
    if format!(" {} ", held.join(" ")).contains(&phrase) {
        return 1.0;
    }
    let title = tokens(&passage.title);
    let has = |word: &String| held.contains(word) || title.contains(word);
    if words.iter().any(|word| word.chars().any(|c| c.is_ascii_digit()) && !has(word)) {
        return 0.0;
    }
    // The entity's name alone supports nothing: of two sections of one article both bear it.
    let telling: Vec<&String> = words.iter().filter(|word| !title.contains(word)).collect();
    let counted: Vec<&String> = if telling.is_empty() { words.iter().collect() } else { telling };
    counted.iter().filter(|word| held.contains(word)).count() as f32 / counted.len() as f32
}

/// Words in lower case; digit groups (`1,234`) are one word, and possessive endings go.
fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase().replace('’', "'");
    let mut out = Vec::new();
    for raw in lower.split(|c: char| !c.is_alphanumeric() && !matches!(c, ',' | '.' | '\'')) {
        let word = raw.trim_matches([',', '.', '\'']);
        let word = word.strip_suffix("'s").unwrap_or(word);
        if word.chars().any(|c| c.is_ascii_digit()) {
            out.push(word.replace(',', ""));
        } else {
            out.extend(word.split([',', '.', '\'']).filter(|w| !w.is_empty()).map(str::to_owned));
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

fn content_words(text: &str) -> HashSet<String> {
    const STOP: &[&str] = &[
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "had",
        "has",
        "have",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "there",
        "they",
        "this",
        "to",
        "was",
        "were",
        "which",
        "with",
        "country",
        "territory",
        "answer",
        "yes",
        "no",
        "not",
    ];
    tokens(text).into_iter().filter(|word| !STOP.contains(&word.as_str())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passages() -> Vec<Passage> {
        let texts = [
            ("Government", "Capital: Oranjestad. Head of state: the King's governor since 1986."),
            ("Economy", "The currency is the Aruban florin. GDP was $3,805,000 in 2021."),
            ("Geography", "Area 180 sq km; an island in the Caribbean Sea."),
        ];
        (1..)
            .zip(texts)
            .map(|(number, (section, text))| Passage {
                number,
                url: "https://example.org/aruba".into(),
                title: "Aruba".into(),
                section: section.into(),
                section_index: number - 1,
                text: text.into(),
                cut: false,
                score: None,
                tokens: 10,
            })
            .collect()
    }

    #[test]
    fn the_forms_that_models_write() {
        let cases: &[(&str, &[usize], &[usize], &str)] = &[
            ("Oranjestad [1].", &[1], &[], "Oranjestad."),
            ("Oranjestad. [1]", &[1], &[], "Oranjestad."),
            ("[1] Oranjestad", &[1], &[], "Oranjestad"),
            ("It is so [1, 2] and so [3].", &[1, 2, 3], &[], "It is so and so."),
            ("So [1][2].", &[1, 2], &[], "So."),
            ("So [1-3].", &[1, 2, 3], &[], "So."),
            ("So [1 and 2].", &[1, 2], &[], "So."),
            ("So 【2】 it is", &[2], &[], "So it is"),
            ("So [Passage 2] it is", &[2], &[], "So it is"),
            ("florin [2] [7]", &[2], &[7], "florin"),
            ("florin [9]", &[], &[9], "florin"),
            ("In [1986] it was", &[], &[], "In [1986] it was"),
            ("a [x] b [] c [1", &[], &[], "a [x] b [] c [1"),
        ];
        for (answer, cited, unknown, plain) in cases {
            let resolved = resolve(answer, &passages());
            let model: Vec<usize> =
                resolved.citations.iter().filter(|c| c.source == CitationSource::Model).map(|c| c.passage).collect();
            assert_eq!(
                (model.as_slice(), resolved.unknown.as_slice(), resolved.plain.as_str()),
                (*cited, *unknown, *plain),
                "{answer}"
            );
        }
    }

    fn streamed(pieces: &[&str]) -> String {
        let mut shown = Shown::new(&passages());
        let mut out: String = pieces.iter().map(|piece| shown.push(piece)).collect();
        out.push_str(&shown.finish());
        out
    }

    #[test]
    fn a_mark_of_no_passage_is_never_shown_however_it_comes() {
        assert_eq!(streamed(&["Nairobi", " [", "9", "]", ".", "\n"]), "Nairobi.");
        assert_eq!(streamed(&["\nNairobi", " ", "[", "2]"]), "Nairobi [2]");
        assert_eq!(streamed(&["a [", "x", " b"]), "a [x b");
        let mut shown = Shown::new(&passages());
        assert_eq!((shown.push("so [").as_str(), shown.push("1].").as_str()), ("so", " [1]."));
    }

    proptest! {
        #[test]
        fn what_is_streamed_is_what_is_resolved(pieces in prop::collection::vec("[a-c .]{0,3}|\\[|\\]|[1-9]|\\[[1-9]\\]", 0..12)) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(streamed(&pieces), resolve(&pieces.concat(), &passages()).text);
        }
    }

    #[test]
    fn unknown_marks_leave_the_text_and_known_ones_stay() {
        assert_eq!(resolve("florin [2, 7], not [9].", &passages()).text, "florin [2], not.");
    }

    #[test]
    fn an_answer_without_marks_is_matched_to_the_passage_that_holds_it() {
        let source = |answer: &str| {
            let found = resolve(answer, &passages()).citations;
            assert!(found.iter().all(|c| c.source == CitationSource::Matched));
            found.iter().map(|c| c.passage).collect::<Vec<_>>()
        };
        assert_eq!(source("Oranjestad"), [1]);
        assert_eq!(source("The capital of Aruba is Oranjestad."), [1]);
        assert_eq!(source("The Aruban florin"), [2]);
        assert_eq!(source("3805000"), [2]);
        assert_eq!(source("180 sq km"), [3]);
        assert_eq!(source("1987"), [0_usize; 0], "a number that is nowhere supports nothing");
        assert_eq!(source("Paris, of course"), [0_usize; 0]);
        assert_eq!(source(""), [0_usize; 0]);
    }

    #[test]
    fn a_wrong_citation_shows_no_support() {
        let resolved = resolve("Paris [1]", &passages());
        assert_eq!(resolved.citations[0].support, 0.0);
    }

    proptest! {
        #[test]
        fn every_citation_has_its_passage_and_no_known_mark_stays_in_plain(answer in "([\\[\\]【】0-9 ,.-]|and|word|\\PC){0,40}") {
            let all = passages();
            let resolved = resolve(&answer, &all);
            for citation in &resolved.citations {
                prop_assert!(all.iter().any(|p| p.number == citation.passage));
                prop_assert!((0.0..=1.0).contains(&citation.support));
            }
            prop_assert!(resolved.unknown.iter().all(|n| all.iter().all(|p| p.number != *n)));
        }
    }
}
