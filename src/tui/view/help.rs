//! Every key and what it does, from the key map itself.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::Brush;
use super::flow::{paragraph, wrapped};
use crate::text::{sanitise_line, width};
use crate::tui::keymap::Place;

/// Columns of the keys.
const KEYS: usize = 20;

impl Brush<'_> {
    pub(super) fn help(&mut self, frame: &mut Frame<'_>, area: Rect, top: usize) {
        let theme = self.theme;
        let inside = self.boxed(frame, area, "help", true);
        let columns = usize::from(inside.width);
        let keys_wide = KEYS.min(columns / 2);
        let mut lines: Vec<Line<'static>> = Vec::new();
        let mut place = None;
        for line in self.app.setup.keys.help() {
            if place != Some(line.place) {
                place = Some(line.place);
                if !lines.is_empty() {
                    lines.push(Line::default());
                }
                lines.push(Line::styled(name(line.place), theme.heading()));
            }
            let keys = format!("  {}", line.keys);
            let keys = format!("{keys}{} ", " ".repeat(keys_wide.saturating_sub(width(&keys) + 1)));
            let rest = (" ".repeat(keys_wide), theme.text());
            lines.extend(wrapped(&[(line.what.to_owned(), theme.text())], columns, &(keys, theme.accent()), &rest));
        }
        lines.push(Line::default());
        let log = format!("The log is {}.", sanitise_line(&self.app.setup.log.display().to_string()));
        lines.extend(paragraph(log, theme.dim(), columns));
        self.scrolled(frame, inside, &lines, top);
    }
}

fn name(place: Place) -> &'static str {
    match place {
        Place::Anywhere => "Anywhere",
        Place::Asking => "Asking",
        Place::Sources => "In the sources",
        Place::Opened => "In what is opened",
        Place::Reader => "Reading a source",
        Place::Inspector => "In the inspector",
        Place::Sessions => "Among the sessions",
    }
}
