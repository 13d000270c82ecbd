//! The state as cells.
//!
//! [`draw`] reads the state and nothing else; pictures come from the [`Gallery`], and those that it lacks are wished for.
//! Text from a model, a knowledge base or a file is made safe where it is turned into lines.

mod ask;
pub(super) mod flow;
mod help;
mod inspector;
mod log;
mod markdown;
mod picker;
mod picture;
mod reader;
mod sessions;
mod sources;
mod switcher;
pub mod theme;
mod transcript;

use std::collections::HashMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::app::{App, Engines, Opened};
use super::event::Seen;
use super::gallery::{Gallery, Wish};
use crate::text::sanitise_line;
use flow::cut;
use theme::Theme;
use transcript::Memo;

/// Least columns and rows.
const LEAST: (u16, u16) = (40, 12);

/// Columns from which on the sources have a panel of their own.
const PANEL_FROM: u16 = 100;

/// What spins while something is done.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// What is kept from one frame to the next, so that it is made once.
#[derive(Debug, Default)]
pub struct Kept {
    turns: HashMap<u64, Memo>,
}

/// What came of a frame.
#[derive(Debug, Default)]
pub struct Painted {
    /// What it held.
    pub seen: Seen,
    /// Pictures that it lacked.
    pub wishes: Vec<Wish>,
}

/// What the parts of a frame are drawn with.
struct Brush<'a> {
    app: &'a App,
    theme: Theme,
    gallery: &'a Gallery,
    kept: &'a mut Kept,
    painted: Painted,
}

/// Draws a frame.
pub fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, gallery: &Gallery, kept: &mut Kept) -> Painted {
    let area = frame.area();
    if too_small(frame, area) {
        return Painted::default();
    }
    let mut brush = Brush { app, theme, gallery, kept, painted: Painted::default() };
    let [header, body, status] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    brush.header(frame, header);
    match &app.opened {
        None => brush.ask(frame, body),
        Some(Opened::Reader { turn, passage, top }) => brush.reader(frame, body, *turn, *passage, *top),
        Some(Opened::Inspector { turn, tab, selected, top }) => {
            brush.inspector(frame, body, *turn, *tab, *selected, *top);
        }
        Some(Opened::Picker(picker)) => brush.picker(frame, body, picker),
        Some(Opened::Switcher { choices, selected }) => brush.switcher(frame, body, choices.as_ref(), *selected),
        Some(Opened::Sessions { list, selected }) => brush.sessions(frame, body, list.as_deref(), *selected),
        Some(Opened::Help { top }) => brush.help(frame, body, *top),
        Some(Opened::Log { lines, top }) => brush.log(frame, body, lines, *top),
    }
    brush.status(frame, status);
    brush.painted
}

/// Whether there is no room for anything, which is then said.
pub(super) fn too_small(frame: &mut Frame<'_>, area: Rect) -> bool {
    let (columns, rows) = LEAST;
    if area.width >= columns && area.height >= rows {
        return false;
    }
    let text = format!("too small: {}x{}, needs {columns}x{rows}", area.width, area.height);
    frame.render_widget(Clear, area);
    let lines: Vec<Line<'_>> = crate::text::wrap(&text, area.width.into()).into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines), area);
    true
}

impl Brush<'_> {
    fn spinner(&self) -> &'static str {
        SPINNER[usize::try_from(self.app.now.as_millis() / 100).unwrap_or(0) % SPINNER.len()]
    }

    fn header(&self, frame: &mut Frame<'_>, area: Rect) {
        let theme = self.theme;
        let mut spans = vec![Span::styled(" Cicerone", theme.heading())];
        let told = match &self.app.engines {
            Engines::Ready(about) => {
                let articles = if about.articles == 1 { "article" } else { "articles" };
                let kb = format!("{} · {} {articles}", sanitise_line(&about.kb), about.articles);
                let reader =
                    about.reader.as_ref().map_or_else(|| "passages only".to_owned(), |name| sanitise_line(name));
                format!("{kb} · {reader}")
            }
            Engines::Loading(what, since) => {
                let seconds = self.app.now.saturating_sub(*since).as_secs();
                format!("{} {} ({seconds} s)", self.spinner(), sanitise_line(what))
            }
            Engines::Failed(_) => "not ready".to_owned(),
        };
        let style = if matches!(self.app.engines, Engines::Failed(_)) { theme.bad() } else { theme.dim() };
        let room = usize::from(area.width).saturating_sub(12);
        spans.push(Span::styled(format!("  {}", cut(&told, room)), style));
        frame.render_widget(Line::from(spans), area);
    }

    /// The last line: what was told, or what the keys do.
    fn status(&self, frame: &mut Frame<'_>, area: Rect) {
        let theme = self.theme;
        let room = usize::from(area.width).saturating_sub(1);
        let line = if self.app.quitting.is_some() {
            let (key, _) = self
                .app
                .setup
                .keys
                .hint(self.app.place(), super::keymap::Action::Quit)
                .unwrap_or_else(|| (String::new(), ""));
            Line::styled(cut(&format!(" {key} again quits"), room), theme.warn())
        } else if let Some(notice) = &self.app.notice {
            let hint = notice.told.hint.as_ref().map_or_else(String::new, |hint| format!(" — {hint}"));
            let text = format!(" {}{hint}", notice.told.message);
            let style = if notice.bad { theme.bad() } else { theme.accent() };
            Line::styled(cut(&format!(" {}", sanitise_line(&text)), room), style)
        } else {
            let mut hints = self.app.hints();
            let wide = |(key, what): &(String, &str)| crate::text::width(key) + crate::text::width(what) + 3;
            // The last one leads on or back, and makes room for itself.
            let last = hints.pop();
            let mut used = last.as_ref().map_or(0, wide);
            hints.retain(|hint| {
                used += wide(hint);
                used <= room
            });
            hints.extend(last);
            let spans = hints.into_iter().flat_map(|(key, what)| {
                [Span::styled(format!(" {key}"), theme.accent()), Span::styled(format!(" {what} "), theme.dim())]
            });
            Line::from(spans.collect::<Vec<_>>())
        };
        frame.render_widget(line, area);
    }

    /// A frame with a title; what is inside.
    fn boxed(&self, frame: &mut Frame<'_>, area: Rect, title: &str, focused: bool) -> Rect {
        let room = usize::from(area.width).saturating_sub(4);
        let title = cut(&sanitise_line(title), room);
        let style = self.theme.frame(focused);
        let block = Block::bordered().border_type(BorderType::Rounded).border_style(style);
        let title =
            if title.is_empty() { Line::default() } else { Line::styled(format!(" {title} "), self.theme.heading()) };
        let block = block.title(title);
        let inside = block.inner(area);
        frame.render_widget(block, area);
        inside
    }

    /// Rows of which one is selected, which stays in sight.
    fn list(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        many: usize,
        selected: usize,
        row: impl FnMut(usize) -> Line<'static>,
    ) {
        let height = usize::from(area.height);
        let first = (selected + 1).saturating_sub(height);
        let shown: Vec<Line<'static>> = (first..many).take(height).map(row).collect();
        frame.render_widget(Paragraph::new(shown), area);
        (self.painted.seen.lines, self.painted.seen.height) = (many, height);
    }

    /// Lines from `top` on, and how many there are.
    fn scrolled(&mut self, frame: &mut Frame<'_>, area: Rect, lines: &[Line<'static>], top: usize) {
        let height = usize::from(area.height);
        let top = top.min(lines.len().saturating_sub(height));
        let shown: Vec<Line<'static>> = lines.iter().skip(top).take(height).cloned().collect();
        frame.render_widget(Paragraph::new(shown), area);
        (self.painted.seen.lines, self.painted.seen.height) = (lines.len(), height);
    }
}

/// Milliseconds as a person reads them.
fn time(ms: f64) -> String {
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}
