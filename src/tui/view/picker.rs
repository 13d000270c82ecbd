//! A choice of pictures, with the one selected beside it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::Brush;
use super::flow::{cut, paragraph};
use crate::text::sanitise_line;
use crate::tui::app::Picker;

impl Brush<'_> {
    pub(super) fn picker(&mut self, frame: &mut Frame<'_>, area: Rect, picker: &Picker) {
        let theme = self.theme;
        let inside = self.boxed(frame, area, &picker.folder.display().to_string(), true);
        let [filter, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
        let typed = sanitise_line(&picker.filter);
        let line = if typed.is_empty() {
            Line::styled(cut("type to filter; backspace leads up", filter.width.into()), theme.dim())
        } else {
            Line::styled(cut(&format!("› {typed}"), filter.width.into()), theme.accent())
        };
        frame.render_widget(line, filter);
        let list = match &picker.preview {
            Some((path, preview)) if body.width >= 60 => {
                let side = body.width / 2;
                let [list, _, right] =
                    Layout::horizontal([Constraint::Min(0), Constraint::Length(1), Constraint::Length(side)])
                        .areas(body);
                self.preview(frame, right, path, preview.as_ref());
                list
            }
            _ => body,
        };
        let columns = usize::from(list.width);
        let shown = picker.shown();
        self.list(frame, list, shown.len(), picker.selected, |n| {
            let entry = shown[n];
            let name = sanitise_line(&entry.name);
            let name = if entry.folder { format!("{name}/") } else { name };
            let style = match (n == picker.selected, entry.folder) {
                (true, _) => theme.selected(),
                (_, true) => theme.accent(),
                _ => theme.text(),
            };
            Line::from(Span::styled(cut(&name, columns), style))
        });
        if shown.is_empty() {
            let told = match (&picker.failed, &picker.entries) {
                (Some(told), _) => sanitise_line(&told.message),
                (None, None) => format!("{} reading", self.spinner()),
                (None, Some(all)) if all.is_empty() => "no pictures here".to_owned(),
                _ => "nothing is named so".to_owned(),
            };
            frame.render_widget(Paragraph::new(paragraph(told, theme.dim(), columns)), list);
        }
    }

    fn preview(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        path: &std::path::Path,
        preview: Result<&crate::retriever::Picture, &crate::tui::event::Told>,
    ) {
        let theme = self.theme;
        match preview {
            Ok(picture) => {
                let [above, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(area);
                self.picture(frame, above, path, Some(picture));
                let size = format!("{}×{}", picture.rgb().width(), picture.rgb().height());
                frame.render_widget(Line::styled(size, theme.dim()).centered(), below);
            }
            Err(told) => {
                let lines = paragraph(sanitise_line(&told.message), theme.bad(), area.width.into());
                frame.render_widget(Paragraph::new(lines), area);
            }
        }
    }
}
