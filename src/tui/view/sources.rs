//! The sources of an answer, beside it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::Brush;
use super::flow::{cut, paragraph};
use crate::rag::Passage;
use crate::text::sanitise_line;
use crate::tui::app::Focus;
use crate::tui::turn::Turn;

/// Least and most lines of a source: its heading, then what there is room for of its text.
const EACH: (u16, u16) = (4, 10);

/// Lines of its heading.
const HEADING: u16 = 3;

/// Columns of its picture.
const THUMBNAIL: u16 = 8;

impl Brush<'_> {
    pub(super) fn sources(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let app = self.app;
        let focused = app.focus == Focus::Sources;
        let inside = self.boxed(frame, area, "sources", focused);
        let Some(turn) = app.sourced() else { return };
        let many = u16::try_from(turn.passages().len().max(1)).unwrap_or(u16::MAX);
        let each = (inside.height / many).clamp(EACH.0, EACH.1);
        let fit = usize::from((inside.height / each).max(1));
        let first = if focused { app.source.saturating_sub(fit - 1) } else { 0 };
        for (n, passage) in turn.passages().iter().enumerate().skip(first).take(fit) {
            let row = u16::try_from(n - first).unwrap_or(0);
            let y = inside.y + row * each;
            let height = each.min((inside.y + inside.height).saturating_sub(y));
            let place = Rect { y, height, ..inside };
            self.source(frame, place, turn, passage, focused && n == app.source);
        }
    }

    fn source(&mut self, frame: &mut Frame<'_>, area: Rect, turn: &Turn, passage: &Passage, selected: bool) {
        let theme = self.theme;
        let picture = self.article_picture(turn, &passage.url).filter(|_| self.gallery.shows() && area.width >= 30);
        let text = match picture {
            Some(path) => {
                let [left, _, right] =
                    Layout::horizontal([Constraint::Length(THUMBNAIL), Constraint::Length(1), Constraint::Min(0)])
                        .areas(area);
                let left = Rect { height: left.height.min(HEADING), ..left };
                self.picture(frame, left, &path, None);
                right
            }
            None => area,
        };
        let room = usize::from(text.width);
        let cited = turn.cites(passage.number);
        let number = format!("[{}] ", passage.number);
        let title = cut(&sanitise_line(&passage.title), room.saturating_sub(number.len()));
        let name = if selected { theme.selected() } else { theme.heading() };
        let score = passage.score.map_or_else(String::new, |score| format!("{score:.2} · "));
        let said = match &turn.end {
            None => "read by the reader",
            Some(_) if cited => "cited",
            Some(_) => "not cited",
        };
        let cut_short = if passage.cut { " · cut" } else { "" };
        let mut lines = vec![
            Line::from(vec![
                Span::styled(number, if cited { theme.cite() } else { theme.dim() }),
                Span::styled(title, name),
            ]),
            Line::styled(cut(&sanitise_line(&passage.section), room), theme.text()),
            Line::styled(cut(&format!("{score}{said}{cut_short}"), room), theme.dim()),
        ];
        // The last line stays empty, between this source and the next.
        let rest = usize::from(text.height.saturating_sub(HEADING + 1));
        let words = paragraph(sanitise_line(&passage.text), theme.dim(), room);
        let many = words.len();
        lines.extend(words.into_iter().take(rest));
        if many > rest
            && rest > 0
            && let Some(last) = lines.last_mut()
        {
            let text: String = last.spans.iter().map(|span| span.content.as_ref()).collect();
            *last = Line::styled(cut(&format!("{text} …"), room), theme.dim());
        }
        frame.render_widget(Paragraph::new(lines), text);
    }
}
