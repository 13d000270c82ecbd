//! Words as Python's `re` sees them, since both official normalisers are written with it.

use std::sync::LazyLock;

use regex::Regex;

// A literal that compiles; without it only ASCII counts as words.
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]$").ok());

/// `\w`: a letter, a number of any kind, or the underscore; combining marks are none.
fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    WORD.as_ref().is_some_and(|w| w.is_match(c.encode_utf8(&mut [0; 4])))
}

/// White space of `str.split` and `str.strip`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `re.sub(r"\b(p1|p2|…)\b", " ", text)` for phrases that begin and end with a word character; the first that fits wins.
pub(super) fn blank_phrases(text: &str, phrases: &[&str]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = false;
    while let Some(c) = rest.chars().next() {
        let fits = |p: &&&str| rest.strip_prefix(**p).is_some_and(|after| !after.starts_with(is_word));
        let found = if before { None } else { phrases.iter().find(fits) };
        let taken = match found {
            Some(phrase) => {
                out.push(' ');
                phrase.len()
            }
            None => {
                out.push(c);
                c.len_utf8()
            }
        };
        before = rest[..taken].chars().next_back().is_some_and(is_word);
        rest = &rest[taken..];
    }
    out
}

/// `" ".join(text.split())`
pub(super) fn collapse(text: &str) -> String {
    text.split(is_space).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_blanked_as_whole_words_only() {
        let blank = |text| blank_phrases(text, &["the answer is", "a", "an", "the"]);
        assert_eq!(blank("the answer is a panther"), "    panther");
        assert_eq!(blank("the answer isle"), "  answer isle");
        assert_eq!(blank("anthem"), "anthem");
        assert_eq!(blank("a-an_the"), " -an_the");
        assert_eq!(blank("a2 éa a² ña"), "a2 éa a² ña", "letters and numbers of any script join words");
        assert_eq!(blank("a\u{301}"), " \u{301}", "a combining mark ends a word");
        assert_eq!(blank(""), "");
    }

    #[test]
    fn white_space_is_that_of_python() {
        assert_eq!(collapse(" a\u{a0}b\u{1f}c\n\td\u{200b} "), "a b c d\u{200b}");
    }
}
