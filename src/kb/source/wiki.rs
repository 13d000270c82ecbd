//! What the two plain dumps of Wikipedia have in common: the whole text of an article in one string.

use crate::kb::Section;

/// Text that is left in one section, bytes.
const ONE_SECTION: usize = 2_000;

/// Sections of a long text: its paragraphs, as many together as a section holds, all under the article's title. A
/// paragraph is never cut.
pub(super) fn sections(title: &str, text: &str) -> Vec<Section> {
    let text = text.trim();
    let section = |text: &str| Section { title: title.to_owned(), text: text.to_owned() };
    if text.len() <= ONE_SECTION {
        return if text.is_empty() { Vec::new() } else { vec![section(text)] };
    }
    let mut sections = Vec::new();
    let mut current = String::new();
    for paragraph in paragraphs(text) {
        if !current.is_empty() && current.len() + paragraph.len() > ONE_SECTION {
            sections.push(section(&current));
            current.clear();
        }
        if !current.is_empty() {
            current.push_str("\n\n");
        }
        current.push_str(paragraph);
    }
    if !current.is_empty() {
        sections.push(section(&current));
    }
    sections
}

/// Parts between blank lines.
fn paragraphs(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            found.push(text[start..at].trim());
            start = at + line.len();
        }
        at += line.len();
    }
    found.push(text[start..].trim());
    found.retain(|paragraph| !paragraph.is_empty());
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_split_at_blank_lines_and_a_short_one_is_left_alone() {
        assert_eq!(sections("T", " one\n\ntwo ").len(), 1);
        assert_eq!(sections("T", " \n "), []);
        let long = "x".repeat(1_500);
        let texts: Vec<String> =
            sections("T", &format!("{long}\n \r\n{long}\n\nshort\nline")).into_iter().map(|s| s.text).collect();
        assert_eq!(texts, [long.clone(), format!("{long}\n\nshort\nline")]);
    }

    proptest! {
        #[test]
        fn no_word_is_lost(text in "(a{1,900}|é|\n| ){0,40}") {
            let found: Vec<Section> = sections("T", &text);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let all: Vec<String> = found.iter().flat_map(|section| words(&section.text)).collect();
            prop_assert_eq!(all, words(&text));
        }
    }
}
