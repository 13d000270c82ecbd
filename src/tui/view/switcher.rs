//! What can be asked instead: another knowledge base, another reader.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::Brush;
use super::flow::cut;
use crate::text::{sanitise_line, width};
use crate::tui::event::{Choices, Named};

impl Brush<'_> {
    pub(super) fn switcher(&mut self, frame: &mut Frame<'_>, area: Rect, choices: Option<&Choices>, selected: usize) {
        let theme = self.theme;
        let inside = self.boxed(frame, area, "what is asked", true);
        let Some(choices) = choices else {
            frame.render_widget(Line::styled(format!("{} looking", self.spinner()), theme.dim()), inside);
            return;
        };
        let [list, below] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(inside);
        let about = self.app.about();
        let columns = usize::from(list.width);
        let line = |n: usize, named: &Named, own: bool| {
            let head = if own { "▸ " } else { "  " };
            let name = cut(&sanitise_line(&named.name), columns.saturating_sub(2));
            let style = match (n == selected, own) {
                (true, _) => theme.selected(),
                (_, true) => theme.heading(),
                _ => theme.text(),
            };
            let what = cut(&sanitise_line(&named.what), columns.saturating_sub(4 + width(&name)));
            Line::from(vec![
                Span::styled(head, theme.cite()),
                Span::styled(name, style),
                Span::styled(format!("  {what}"), theme.dim()),
            ])
        };
        let bases = choices.bases.len();
        let mut lines = vec![Line::styled("Knowledge bases", theme.heading())];
        let own = |base: &Named| about.is_some_and(|about| about.kb == base.name);
        lines.extend(choices.bases.iter().enumerate().map(|(n, base)| line(n, base, own(base))));
        lines.push(Line::default());
        lines.push(Line::styled("Readers", theme.heading()));
        let own = |reader: &Named| about.is_some_and(|about| about.reader.as_ref() == Some(&reader.name));
        lines.extend(choices.readers.iter().enumerate().map(|(n, reader)| line(bases + n, reader, own(reader))));
        // Below its heading.
        let at = 1 + selected + if selected >= bases { 2 } else { 0 };
        self.list(frame, list, lines.len(), at, |n| lines[n].clone());
        if let Some(memory) = choices.memory {
            let text = format!("this program holds {:.2} GB of memory", memory as f64 / 1e9);
            frame.render_widget(Line::styled(cut(&text, columns), theme.dim()), below);
        }
    }
}
