//! A source, whole.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::Brush;
use super::flow::paragraph;
use crate::text::{sanitise, sanitise_line};

impl Brush<'_> {
    pub(super) fn reader(&mut self, frame: &mut Frame<'_>, area: Rect, turn: u64, passage: usize, top: usize) {
        let theme = self.theme;
        let app = self.app;
        let Some(turn) = app.turn(turn) else { return };
        let Some(read) = turn.passages().get(passage) else { return };
        let title = format!(
            "[{}] {} — {} ({} of {})",
            read.number,
            read.title,
            read.section,
            passage + 1,
            turn.passages().len()
        );
        let inside = self.boxed(frame, area, &title, true);
        let picture = self.article_picture(turn, &read.url).filter(|_| self.gallery.shows());
        let text = match picture {
            Some(path) if inside.width >= 70 => {
                let side = (inside.width / 3).min(48);
                let [text, _, right] =
                    Layout::horizontal([Constraint::Min(0), Constraint::Length(1), Constraint::Length(side)])
                        .areas(inside);
                let right = Rect { height: right.height.min(side / 2 + 2), ..right };
                self.picture(frame, right, &path, None);
                text
            }
            _ => inside,
        };
        let columns = usize::from(text.width);
        let mut lines = paragraph(sanitise_line(&read.url), theme.accent(), columns);
        let mut facts = Vec::new();
        if let Some(score) = read.score {
            facts.push(format!("score {score:.3}"));
        }
        facts.push(format!("section {}", read.section_index));
        facts.push(format!("{} tokens", read.tokens));
        facts.push(if turn.cites(read.number) { "cited".to_owned() } else { "not cited".to_owned() });
        if read.cut {
            facts.push("the reader saw a part of the section".to_owned());
        }
        lines.extend(paragraph(facts.join(" · "), theme.dim(), columns));
        lines.push(Line::default());
        lines.extend(paragraph(sanitise(&read.text), theme.text(), columns));
        self.scrolled(frame, text, &lines, top);
    }
}
