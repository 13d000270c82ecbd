//! The sessions that are kept.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::Brush;
use super::flow::cut;
use crate::text::{sanitise_line, width};
use crate::tui::session::Head;

impl Brush<'_> {
    pub(super) fn sessions(&mut self, frame: &mut Frame<'_>, area: Rect, list: Option<&[Head]>, selected: usize) {
        let theme = self.theme;
        let inside = self.boxed(frame, area, "sessions", true);
        let Some(list) = list else {
            frame.render_widget(Line::styled(format!("{} reading", self.spinner()), theme.dim()), inside);
            return;
        };
        if list.is_empty() {
            frame.render_widget(Line::styled("none is kept yet", theme.dim()), inside);
        }
        let columns = usize::from(inside.width);
        let now = self.app.setup.epoch_unix_s + self.app.now.as_secs();
        let own = &self.app.id;
        self.list(frame, inside, list.len(), selected, |n| {
            let head = &list[n];
            let when = format!("{:>10}  ", ago(now.saturating_sub(head.began_unix_s)));
            let many = format!("  {} asked", head.turns);
            let room = columns.saturating_sub(width(&when) + width(&many));
            let title = cut(&sanitise_line(&head.title), room);
            let style = match (n == selected, head.id == *own) {
                (true, _) => theme.selected(),
                (_, true) => theme.heading(),
                _ => theme.text(),
            };
            Line::from(vec![
                Span::styled(when, theme.dim()),
                Span::styled(title, style),
                Span::styled(many, theme.dim()),
            ])
        });
    }
}

/// How long ago, in the largest unit that fits.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}
