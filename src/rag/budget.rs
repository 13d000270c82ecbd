//! Passages within a budget of tokens, cut at the ends of sentences.

use std::ops::Range;

/// What is kept of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The text, with `…` where something was left out.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Whether anything was left out.
    pub cut: bool,
}

/// Keeps of `text` what fits `budget` tokens: all of it, or whole sentences around `focus` (a byte range of `text`; the
/// start where it is empty), grown to the right first and then to the left. Something is always kept of a text that
/// has anything: a first sentence that is too long is cut between words, and one word stays even if it does not fit.
///
/// `count` counts tokens.
pub fn fit(text: &str, focus: Range<usize>, budget: usize, count: &dyn Fn(&str) -> usize) -> Cut {
    let text_end = text.trim_end();
    let tokens = count(text_end);
    if tokens <= budget {
        return Cut { text: text_end.to_owned(), tokens, cut: false };
    }
    let sentences = sentences(text_end);
    let Some(start) = sentences.iter().position(|s| s.end > focus.start).or(sentences.len().checked_sub(1)) else {
        return Cut { text: String::new(), tokens: 0, cut: false };
    };
    let render = |from: usize, to: usize| {
        let body = text_end[sentences[from].start..sentences[to - 1].end].trim();
        let before = if from > 0 { "… " } else { "" };
        let after = if to < sentences.len() { " …" } else { "" };
        format!("{before}{body}{after}")
    };
    let (mut from, mut to) = (start, start + 1);
    let mut best = render(from, to);
    let mut best_tokens = count(&best);
    if best_tokens > budget {
        return cut_words(&text_end[sentences[start].clone()], start > 0, budget, count);
    }
    loop {
        // The side that is tried first is the one that reads on.
        let grown = [(from, to + 1), (from.wrapping_sub(1), to)]
            .into_iter()
            .filter(|&(f, t)| f < sentences.len() && t <= sentences.len())
            .find_map(|(f, t)| {
                let text = render(f, t);
                let tokens = count(&text);
                (tokens <= budget).then_some((f, t, text, tokens))
            });
        let Some((f, t, text, tokens)) = grown else {
            return Cut { text: best, tokens: best_tokens, cut: true };
        };
        (from, to, best, best_tokens) = (f, t, text, tokens);
    }
}

/// The longest run of words from the start of a sentence that fits; at least one.
fn cut_words(sentence: &str, inside: bool, budget: usize, count: &dyn Fn(&str) -> usize) -> Cut {
    let sentence = sentence.trim();
    let ends: Vec<usize> =
        sentence.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at).chain([sentence.len()]).collect();
    let render = |end: usize| format!("{}{} …", if inside { "… " } else { "" }, sentence[..end].trim_end());
    // More words never take fewer tokens but by a hair, so halving finds the place.
    let fitting = ends.partition_point(|&end| count(&render(end)) <= budget);
    let text = render(ends[fitting.saturating_sub(1)]);
    Cut { tokens: count(&text), text, cut: true }
}

/// Byte ranges of the sentences of `text`, white space that follows included, so that they cover it without gaps.
///
/// A sentence ends at `.`, `!`, `?`, `;` or an ideographic stop before white space (or the end), at a line feed, but
/// not after a single letter or a short abbreviation (`U.S.`, `St.`), nor before a small letter.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, c)| c);
        let ends = match c {
            '\n' | '。' | '！' | '？' => true,
            '!' | '?' | ';' => next.is_none_or(char::is_whitespace),
            '.' => next.is_none_or(char::is_whitespace) && !abbreviated(&text[from..at], &text[at + 1..]),
            _ => false,
        };
        if ends {
            let mut end = at + c.len_utf8();
            while let Some((at, c)) = chars.next_if(|(_, c)| c.is_whitespace()) {
                end = at + c.len_utf8();
            }
            if !text[from..end].trim().is_empty() {
                ranges.push(from..end);
                from = end;
            }
        }
    }
    if from < text.len() {
        ranges.push(from..text.len());
    }
    ranges
}

fn abbreviated(before: &str, after: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let short = matches!(
        word,
        "St" | "Mt" | "Dr" | "Mr" | "Mrs" | "Ms" | "No" | "ca" | "c" | "approx" | "est" | "Ft" | "vs" | "e.g" | "i.e"
    );
    let small_next = after.trim_start().starts_with(|c: char| c.is_lowercase());
    short
        || small_next
        || (letters == 1 && word.chars().count() == 1 && word != "I")
        || (word.contains('.') && letters <= 3 && letters > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn sentences_end_where_a_reader_would_say_so() {
        let text =
            "The U.S. and St. Lucia met. It cost 3.5 million! Why? ca. 1900 it fell\nnew line. J. Smith came; he won.";
        let found: Vec<&str> = sentences(text).into_iter().map(|r| text[r].trim()).collect();
        assert_eq!(
            found,
            [
                "The U.S. and St. Lucia met.",
                "It cost 3.5 million!",
                "Why?",
                "ca. 1900 it fell",
                "new line.",
                "J. Smith came;",
                "he won."
            ]
        );
    }

    #[test]
    fn a_text_that_fits_is_left_alone() {
        assert_eq!(
            fit("One two. Three.", 0..0, 3, &words),
            Cut { text: "One two. Three.".into(), tokens: 3, cut: false }
        );
    }

    #[test]
    fn a_long_text_is_cut_at_sentence_ends_and_marked() {
        let text = "A one. Bb two. Cc three. Dd four.";
        assert_eq!(fit(text, 0..0, 5, &words).text, "A one. Bb two. …");
        let middle = text.find("Cc").unwrap();
        assert_eq!(fit(text, middle..middle + 2, 5, &words).text, "… Cc three. Dd four.");
        assert_eq!(fit(text, middle..middle + 2, 4, &words).text, "… Cc three. …");
    }

    #[test]
    fn something_is_always_kept() {
        let cut = fit("one two three four five", 0..0, 3, &words);
        assert_eq!(cut.text, "one two …");
        assert!(cut.cut);
        assert_eq!(fit("one two three", 0..0, 0, &words).text, "one …");
    }

    proptest! {
        #[test]
        fn within_the_budget_and_never_empty(text in "([A-Za-zé]{1,6}[ .\n;]{1,2}){1,40}", at in 0_usize..300, budget in 3_usize..30) {
            prop_assume!(!text.trim().is_empty());
            let cut = fit(&text, at..at + 1, budget, &words);
            prop_assert!(!cut.text.is_empty());
            prop_assert!(words(&cut.text) <= budget, "{:?}", cut);
            prop_assert_eq!(cut.tokens, words(&cut.text));
            let covered: String = sentences(&text).into_iter().map(|r| text[r].to_owned()).collect();
            prop_assert_eq!(covered, text);
        }
    }
}
