//! The end of the log.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::Brush;
use super::flow::wrapped;
use crate::text::sanitise_line;

impl Brush<'_> {
    pub(super) fn log(&mut self, frame: &mut Frame<'_>, area: Rect, log: &[String], top: Option<usize>) {
        let theme = self.theme;
        let inside = self.boxed(frame, area, &self.app.setup.log.display().to_string(), true);
        let columns = usize::from(inside.width);
        let (first, rest) = ((String::new(), theme.text()), ("  ".to_owned(), theme.text()));
        let mut lines: Vec<Line<'static>> = Vec::new();
        for line in log {
            lines.extend(wrapped(&[(sanitise_line(line), theme.text())], columns, &first, &rest));
        }
        if lines.is_empty() {
            lines.push(Line::styled("nothing was logged", theme.dim()));
        }
        let last = lines.len().saturating_sub(inside.height.into());
        self.scrolled(frame, inside, &lines, top.unwrap_or(last));
    }
}
