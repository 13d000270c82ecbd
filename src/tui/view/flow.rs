//! Styled text broken into lines, by what a terminal shows.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use crate::text::width;

/// A piece of text in one style.
pub type Piece = (String, Style);

/// Breaks pieces into lines of at most `columns` columns, at white space where there is some; a word that is longer than
/// a line is broken inside. The first line begins with `first`, the others with `rest`.
#[must_use]
pub fn wrapped(pieces: &[Piece], columns: usize, first: &Piece, rest: &Piece) -> Vec<Line<'static>> {
    let mut lines = Lines { done: Vec::new(), line: vec![first.clone()], used: width(&first.0), columns, rest };
    let mut blank: Option<Style> = None;
    for (text, style) in pieces {
        for part in text.split_inclusive(breaks) {
            let word = part.trim_end_matches(breaks);
            if !word.is_empty() {
                lines.word(word, *style, blank.take());
            }
            if part.ends_with('\n') {
                lines.end();
                blank = None;
            } else if part.len() > word.len() {
                blank = Some(*style);
            }
        }
    }
    lines.end();
    lines.done
}

/// The same for text in one style, all its lines alike.
#[must_use]
pub fn paragraph(text: impl Into<String>, style: Style, columns: usize) -> Vec<Line<'static>> {
    let blank = Piece::default();
    wrapped(&[(text.into(), style)], columns, &blank, &blank)
}

/// Whether a line may end here.
fn breaks(c: char) -> bool {
    c.is_whitespace() && c != '\u{a0}'
}

struct Lines<'a> {
    done: Vec<Line<'static>>,
    line: Vec<Piece>,
    used: usize,
    columns: usize,
    rest: &'a Piece,
}

impl Lines<'_> {
    fn end(&mut self) {
        let spans = std::mem::take(&mut self.line).into_iter().filter(|(text, _)| !text.is_empty());
        self.done.push(Line::from(spans.map(|(text, style)| Span::styled(text, style)).collect::<Vec<_>>()));
        self.line.push(self.rest.clone());
        self.used = width(&self.rest.0);
    }

    /// Whether only the beginning of the line is there.
    fn fresh(&self) -> bool {
        self.line.len() == 1
    }

    fn push(&mut self, text: &str, style: Style) {
        self.used += width(text);
        match self.line.last_mut() {
            Some((last, of)) if *of == style => last.push_str(text),
            _ => self.line.push((text.to_owned(), style)),
        }
    }

    fn word(&mut self, word: &str, style: Style, blank: Option<Style>) {
        let wide = width(word);
        match blank.filter(|_| !self.fresh()) {
            Some(blank) if self.used + 1 + wide <= self.columns => self.push(" ", blank),
            Some(_) => self.end(),
            // A word in several styles stays together where it can; else it is broken where the style changes.
            None if self.used + wide > self.columns && !self.fresh() => self.end(),
            None => {}
        }
        if self.used + wide <= self.columns {
            // Its own piece, so that the beginning of the line is told from the text.
            if self.fresh() {
                self.line.push((String::new(), style));
            }
            self.push(word, style);
            return;
        }
        for read_as_one in word.graphemes(true) {
            if self.used + width(read_as_one) > self.columns && !self.fresh() {
                self.end();
            }
            if self.fresh() {
                self.line.push((String::new(), style));
            }
            self.push(read_as_one, style);
        }
    }
}

/// `text` within `columns` columns, its end replaced by an ellipsis where it is too long.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for read_as_one in text.graphemes(true) {
        if used + width(read_as_one) + 1 > columns {
            break;
        }
        used += width(read_as_one);
        out.push_str(read_as_one);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> Piece {
        (text.to_owned(), Style::new())
    }

    fn text_of(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect()).collect()
    }

    #[test]
    fn styles_do_not_break_words_and_prefixes_stand() {
        let bold = Style::new().add_modifier(ratatui::style::Modifier::BOLD);
        let pieces = [plain("The capital is "), ("Nai".into(), bold), plain("robi, a city.\nNew")];
        let lines = wrapped(&pieces, 16, &plain("- "), &plain("  "));
        assert_eq!(text_of(&lines), ["- The capital is", "  Nairobi, a", "  city.", "  New"]);
        assert_eq!(lines[1].spans[1], Span::styled("Nai", bold));
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("ab", 0), "");
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(
            words in prop::collection::vec(("[a-z日é👩]{1,8}", any::<bool>()), 0..20),
            columns in 4_usize..20,
        ) {
            let bold = Style::new().add_modifier(ratatui::style::Modifier::BOLD);
            let pieces: Vec<Piece> = words
                .iter()
                .map(|(word, heavy)| (format!("{word} "), if *heavy { bold } else { Style::new() }))
                .collect();
            let lines = wrapped(&pieces, columns, &plain("> "), &plain("  "));
            for line in text_of(&lines) {
                prop_assert!(width(&line) <= columns, "{line:?}");
            }
            let squeeze = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let all: String = words.iter().map(|(word, _)| word.as_str()).collect();
            prop_assert_eq!(squeeze(&text_of(&lines).concat()), format!(">{}", squeeze(&all)));
        }
    }
}
