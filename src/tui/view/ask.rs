//! The session: answers, sources beside them, the question below.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;

use super::flow::{Piece, cut, wrapped};
use super::{Brush, PANEL_FROM};
use crate::text::sanitise_line;
use crate::tui::app::{Engines, Focus};
use crate::tui::keymap::{Action, Place};

/// Most lines of the question that are shown at once.
const MOST_LINES: u16 = 6;

/// Columns of the picture beside the question.
const THUMBNAIL: u16 = 8;

impl Brush<'_> {
    pub(super) fn ask(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let app = self.app;
        let thumbnail = app.chip.is_some() && self.gallery.shows() && area.height >= 18;
        let columns = usize::from(area.width.saturating_sub(if thumbnail { THUMBNAIL + 5 } else { 4 }));
        let written = app.composer.text();
        // Room for the cursor behind the last character.
        let lines: usize = written.split('\n').map(|line| crate::text::width(line) / columns.max(1) + 1).sum();
        let most = MOST_LINES.min(area.height / 3).max(1);
        let least = if thumbnail { 3 } else { 1 };
        let height = u16::try_from(lines).unwrap_or(u16::MAX).clamp(least, most.max(least));
        let [above, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(height + 2)]).areas(area);
        let panel = area.width >= PANEL_FROM && (app.sourced().is_some() || app.focus == Focus::Sources);
        let narrow = !panel && app.focus == Focus::Sources;
        if panel {
            let side = (area.width * 2 / 5).clamp(36, 60);
            let [answers, sources] = Layout::horizontal([Constraint::Min(0), Constraint::Length(side)]).areas(above);
            self.answers(frame, answers, true);
            self.sources(frame, sources);
        } else if narrow {
            self.sources(frame, above);
        } else {
            self.answers(frame, above, false);
        }
        self.question(frame, below, thumbnail);
    }

    fn answers(&mut self, frame: &mut Frame<'_>, area: Rect, panel: bool) {
        let inside = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
        if self.app.turns.is_empty() {
            self.welcome(frame, inside);
            return;
        }
        let lines = self.transcript(inside.width.into(), panel);
        let height = usize::from(inside.height);
        let last = lines.len().saturating_sub(height);
        let begins = |to| self.painted.seen.turns.iter().find(|(turn, _)| *turn == to).map(|(_, line)| *line);
        let top = self.app.scroll.to.and_then(begins).or(self.app.scroll.top).map_or(last, |top| top.min(last));
        self.scrolled(frame, inside, &lines, top);
        if self.app.scroll.top.is_some() && lines.len() > self.app.scroll.left_at && inside.height > 0 {
            let badge = " ↓ new below ";
            let width = u16::try_from(crate::text::width(badge)).unwrap_or(0).min(inside.width);
            let place = Rect { x: inside.x + inside.width - width, y: inside.y + inside.height - 1, width, height: 1 };
            frame.render_widget(Line::styled(badge, self.theme.selected()), place);
        }
    }

    /// What an empty session says.
    fn welcome(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let theme = self.theme;
        let keys = |action| self.app.setup.keys.hint(Place::Asking, action).map_or_else(String::new, |(key, _)| key);
        let mut pieces = Vec::new();
        if let Engines::Failed(told) = &self.app.engines {
            pieces.push((format!("{}\n", sanitise_line(&told.message)), theme.bad()));
            if let Some(hint) = &told.hint {
                pieces.push((format!("{}\n", sanitise_line(hint)), theme.text()));
            }
            pieces.push(("\n".to_owned(), theme.text()));
        }
        if !self.app.setup.welcome.is_empty() {
            pieces.push((format!("{}\n\n", sanitise_line(&self.app.setup.welcome)), theme.heading()));
        }
        let what = match &self.app.chip {
            Some(chip) => format!("Ask something about {} that it does not say itself.\n", sanitise_line(&chip.name())),
            None => format!(
                "Paste or drop the path of a picture here, or press {} to pick one. Then ask something that it does not say \
                 itself.\n",
                keys(Action::PickPicture)
            ),
        };
        pieces.push((what, theme.text()));
        if let Some(example) = self.app.setup.example.as_ref().filter(|_| self.app.chip.is_none()) {
            pieces.push(("\nFor example this picture:\n".to_owned(), theme.dim()));
            pieces.push((format!("{}\n", sanitise_line(&example.display().to_string())), theme.accent()));
        }
        let blank = Piece::default();
        let lines = wrapped(&pieces, usize::from(area.width).min(72), &blank, &blank);
        let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(area.height);
        let place = Rect { y: area.y + (area.height - height) / 3, height, ..area };
        frame.render_widget(Paragraph::new(Text::from(lines)), place);
        self.painted.seen.height = usize::from(area.height);
    }

    fn question(&mut self, frame: &mut Frame<'_>, area: Rect, thumbnail: bool) {
        let app = self.app;
        let focused = app.focus == Focus::Question;
        let title = app.chip.as_ref().map_or_else(String::new, |chip| {
            let size = match &chip.picture {
                Some(picture) => format!("{}×{}", picture.rgb().width(), picture.rgb().height()),
                None => format!("{} reading", self.spinner()),
            };
            let drop = app.setup.keys.hint(Place::Asking, Action::DropPicture);
            let drop = drop.map_or_else(String::new, |(key, _)| format!(" · {key} removes it"));
            format!("▣ {} · {size}{drop}", chip.name())
        });
        let inside = self.boxed(frame, area, &title, focused);
        let inside = match app.chip.as_ref().filter(|_| thumbnail) {
            Some(chip) => {
                let [left, _, right] =
                    Layout::horizontal([Constraint::Length(THUMBNAIL), Constraint::Length(1), Constraint::Min(0)])
                        .areas(inside);
                if let Some(pixels) = &chip.picture {
                    self.picture(frame, left, &chip.path, Some(pixels));
                }
                right
            }
            None => inside,
        };
        if app.composer.is_empty() && (!focused || app.turns.is_empty()) {
            let what = if app.turns.is_empty() { "Ask about the picture" } else { "" };
            frame.render_widget(Line::styled(cut(what, inside.width.into()), self.theme.dim()), inside);
            if !focused {
                return;
            }
        }
        let cursor = if app.composer.is_empty() && app.turns.is_empty() {
            // Over the first letter of what stands there instead.
            inside.as_position()
        } else {
            frame.render_widget(app.composer.area(), inside);
            let (at, (first, _)) = (app.composer.area().screen_cursor(), app.composer.area().scroll_offset());
            let within = |at: usize, many: u16| u16::try_from(at).unwrap_or(many).min(many.saturating_sub(1));
            let row = at.row.saturating_sub(first.into());
            Position::new(inside.x + within(at.col, inside.width), inside.y + within(row, inside.height))
        };
        // Left to the terminal: it shows its cursor as its user wants, and an input method opens there.
        if focused {
            frame.set_cursor_position(cursor);
        }
    }
}
