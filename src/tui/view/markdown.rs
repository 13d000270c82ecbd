//! Markdown as models write it: emphasis, code, lists, headings, and the numbers of sources.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::flow::{Piece, wrapped};
use super::theme::Theme;
use crate::text::sanitise;

/// Lines of `text`, each at most `columns` columns behind `indent` blanks. Of a text that still comes, what is open is
/// taken for closed at its end, so that nothing jumps when it is.
#[must_use]
pub fn rendered(text: &str, columns: usize, indent: usize, coming: bool, theme: Theme) -> Vec<Line<'static>> {
    let text = sanitise(text);
    let closed = if coming { closed(&text) } else { text.into_owned() };
    let mut page = Page {
        theme,
        columns,
        indent,
        lines: Vec::new(),
        pieces: Vec::new(),
        styles: Vec::new(),
        lists: Vec::new(),
        code: false,
    };
    for event in Parser::new_ext(&closed, Options::ENABLE_STRIKETHROUGH) {
        page.take(event);
    }
    page.flush("");
    while page.lines.last().is_some_and(|line| line.width() == 0) {
        page.lines.pop();
    }
    page.lines
}

/// The text with what is open at its end closed.
fn closed(text: &str) -> String {
    let last = text.rsplit("\n\n").next().unwrap_or(text);
    let mut out = text.to_owned();
    if last.matches('`').count() % 2 == 1 {
        out.push('`');
        return out;
    }
    // A mark at the very end opens nothing yet.
    let trimmed = out.trim_end_matches(['*', '_']).len();
    let marks = last.len().min(out.len() - trimmed);
    out.truncate(trimmed);
    let body = &last[..last.len() - marks];
    if body.matches("**").count() % 2 == 1 {
        out.push_str("**");
    } else if body.replace("**", "").matches('*').count() % 2 == 1 && !body.trim_start().starts_with("* ") {
        out.push('*');
    }
    out
}

struct Page {
    theme: Theme,
    columns: usize,
    indent: usize,
    lines: Vec<Line<'static>>,
    pieces: Vec<Piece>,
    styles: Vec<Style>,
    /// The number of the next entry of each list that is open; `None` for one without numbers.
    lists: Vec<Option<u64>>,
    code: bool,
}

impl Page {
    fn style(&self) -> Style {
        self.styles.iter().fold(self.theme.text(), |all, style| all.patch(*style))
    }

    fn push(&mut self, text: &str) {
        let style = self.style();
        // Numbers of sources stand out; their brackets come as pieces of their own.
        match self.pieces.last_mut() {
            Some((last, of)) if *of == style => last.push_str(text),
            _ => self.pieces.push((text.to_owned(), style)),
        }
    }

    /// Ends a paragraph or an entry, which begins with `mark`.
    fn flush(&mut self, mark: &str) {
        if self.pieces.is_empty() {
            return;
        }
        let pieces = cited(std::mem::take(&mut self.pieces), self.theme);
        let depth = self.indent + 2 * self.lists.len().saturating_sub(1);
        let first = (format!("{}{mark}", " ".repeat(depth)), self.theme.dim());
        let rest = (" ".repeat(depth + crate::text::width(mark)), self.theme.text());
        self.lines.extend(wrapped(&pieces, self.columns, &first, &rest));
    }

    fn mark(&mut self) -> String {
        match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number += 1;
                mark
            }
            Some(None) => "• ".to_owned(),
            None => String::new(),
        }
    }

    fn gap(&mut self) {
        if self.lines.last().is_some_and(|line| line.width() > 0) {
            self.lines.push(Line::default());
        }
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) if self.code => {
                let style = self.theme.accent();
                let indent = (" ".repeat(self.indent + 2), style);
                for line in text.lines() {
                    self.lines.extend(wrapped(&[(line.replace(' ', "\u{a0}"), style)], self.columns, &indent, &indent));
                }
            }
            Event::Text(text) => self.push(&text),
            Event::Code(text) => {
                self.styles.push(self.theme.accent());
                self.push(&text);
                self.styles.pop();
            }
            Event::Html(text) | Event::InlineHtml(text) => self.push(&text),
            Event::SoftBreak => self.push(" "),
            Event::HardBreak => self.push("\n"),
            Event::Rule => self.gap(),
            Event::Start(tag) => match tag {
                Tag::Emphasis => self.styles.push(Style::new().add_modifier(Modifier::ITALIC)),
                Tag::Strong => self.styles.push(Style::new().add_modifier(Modifier::BOLD)),
                Tag::Strikethrough => self.styles.push(Style::new().add_modifier(Modifier::CROSSED_OUT)),
                Tag::Heading { .. } => {
                    self.gap();
                    self.styles.push(self.theme.heading());
                }
                Tag::List(first) => {
                    if self.lists.is_empty() {
                        self.flush("");
                    } else {
                        let mark = self.mark();
                        self.flush(&mark);
                    }
                    self.lists.push(first);
                }
                Tag::CodeBlock(_) => {
                    self.flush("");
                    self.code = true;
                }
                Tag::Paragraph if self.lists.is_empty() => self.gap(),
                _ => {}
            },
            Event::End(tag) => match tag {
                TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                    self.styles.pop();
                }
                TagEnd::Heading(_) => {
                    self.flush("");
                    self.styles.pop();
                }
                TagEnd::Paragraph if self.lists.is_empty() => self.flush(""),
                TagEnd::Item => {
                    let mark = if self.pieces.is_empty() { String::new() } else { self.mark() };
                    self.flush(&mark);
                }
                TagEnd::List(_) => {
                    self.lists.pop();
                }
                TagEnd::CodeBlock => self.code = false,
                _ => {}
            },
            _ => {}
        }
    }
}

/// The same pieces, with the numbers of sources (`[2]`) in their own style.
fn cited(pieces: Vec<Piece>, theme: Theme) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pieces.len());
    for (text, style) in pieces {
        let mut rest = text.as_str();
        while let Some(at) = rest.find('[') {
            let inside = &rest[at + 1..];
            let digits = inside.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || !inside[digits..].starts_with(']') {
                out.push((rest[..=at].to_owned(), style));
                rest = inside;
                continue;
            }
            out.push((rest[..at].to_owned(), style));
            out.push((rest[at..at + digits + 2].to_owned(), theme.cite()));
            rest = &inside[digits + 1..];
        }
        out.push((rest.to_owned(), style));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str, coming: bool) -> Vec<String> {
        let lines = rendered(text, 30, 2, coming, Theme::Dark);
        lines.iter().map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect()).collect()
    }

    #[test]
    fn marks_become_styles() {
        let all = rendered("The **capital** is *Nairobi* [1].", 60, 0, false, Theme::Dark);
        let spans: Vec<_> = all[0].spans.iter().map(|span| (span.content.as_ref(), span.style)).collect();
        assert_eq!(spans[1], ("capital", Style::new().add_modifier(Modifier::BOLD)));
        assert_eq!(spans[3], ("Nairobi", Style::new().add_modifier(Modifier::ITALIC)));
        assert!(spans.contains(&("[1]", Theme::Dark.cite())));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn lists_headings_and_code_keep_their_shape() {
        let text =
            "# Title\n\nFirst words that are longer than a line.\n\n- one\n- two\n\n1. a\n2. b\n\n```\nlet x = 1;\n```";
        assert_eq!(
            lines(text, false),
            [
                "  Title",
                "",
                "  First words that are longer",
                "  than a line.",
                "  • one",
                "  • two",
                "  1. a",
                "  2. b",
                "    let\u{a0}x\u{a0}=\u{a0}1;",
            ]
        );
    }

    #[test]
    fn what_is_open_while_it_comes_is_shown_as_it_will_be() {
        for (coming, shown) in
            [("The **cap", "  The cap"), ("The **", "  The"), ("a `co", "  a co"), ("an *emph", "  an emph")]
        {
            assert_eq!(lines(coming, true), [shown], "{coming}");
        }
        assert_eq!(lines("5 * 3", false), ["  5 * 3"]);
    }

    #[test]
    fn brackets_that_are_no_source_stay() {
        assert_eq!(lines("a [b] [12] [ [3", false), ["  a [b] [12] [ [3"]);
    }

    proptest! {
        #[test]
        fn any_text_fits_and_is_safe(text in "([a-z *_`#>\\[\\]0-9\n-]|\x1b|日){0,80}", columns in 6_usize..40, coming: bool) {
            for line in rendered(&text, columns, 2, coming, Theme::Mono) {
                prop_assert!(line.width() <= columns, "{line:?}");
                prop_assert!(line.spans.iter().all(|span| !span.content.chars().any(char::is_control)));
            }
        }
    }
}
