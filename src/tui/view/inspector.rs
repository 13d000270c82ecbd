//! How an answer came to be: what was found, what the reader was asked, where the time went.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::flow::{cut, paragraph};
use super::{Brush, time};
use crate::text::{sanitise, sanitise_line, width};
use crate::tui::app::Tab;
use crate::tui::turn::{Gates, Turn};

/// Widest bar, columns.
const BAR: usize = 24;

impl Brush<'_> {
    pub(super) fn inspector(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        turn: u64,
        tab: Tab,
        selected: usize,
        top: usize,
    ) {
        let app = self.app;
        let Some(turn) = app.turn(turn) else { return };
        let inside = self.boxed(frame, area, &turn.question, true);
        let [tabs, body] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(inside);
        let names = Tab::ALL.iter().flat_map(|each| {
            let style = if *each == tab { self.theme.selected() } else { self.theme.dim() };
            [Span::styled(format!(" {} ", each.name()), style), Span::raw(" ")]
        });
        frame.render_widget(Line::from(names.collect::<Vec<_>>()), tabs);
        match tab {
            Tab::Candidates => self.candidates(frame, body, turn, selected),
            Tab::Prompt => {
                let lines = self.prompt(turn, body.width.into());
                self.scrolled(frame, body, &lines, top);
            }
            Tab::Times => {
                let lines = self.times(turn, body.width.into());
                self.scrolled(frame, body, &lines, top);
            }
            Tab::Gates => {
                let lines = self.gates(turn, body.width.into());
                self.scrolled(frame, body, &lines, top);
            }
        }
    }

    fn candidates(&mut self, frame: &mut Frame<'_>, area: Rect, turn: &Turn, selected: usize) {
        let theme = self.theme;
        let app = self.app;
        let candidates = app.candidates(turn);
        let picture = candidates.get(selected).and_then(|candidate| self.article_picture(turn, &candidate.url));
        let list = match picture.filter(|_| self.gallery.shows() && area.width >= 70) {
            Some(path) => {
                let [list, _, right] =
                    Layout::horizontal([Constraint::Min(0), Constraint::Length(1), Constraint::Length(24)]).areas(area);
                self.picture(frame, Rect { height: right.height.min(12), ..right }, &path, None);
                list
            }
            None => area,
        };
        let columns = usize::from(list.width);
        let best = candidates.iter().map(|candidate| candidate.score).fold(f32::MIN_POSITIVE, f32::max);
        let bars = if columns >= 60 { BAR.min(columns / 4) } else { 8 };
        let entity = turn.entity().map(|entity| entity.url.as_str());
        self.list(frame, list, candidates.len(), selected, |n| {
            let candidate = &candidates[n];
            let chosen = entity == Some(candidate.url.as_str());
            let share = (candidate.score / best).clamp(0.0, 1.0);
            let bar = bar(share, bars);
            let head = format!("{} {:>2} ", if chosen { "▸" } else { " " }, candidate.rank);
            let room = columns.saturating_sub(width(&head) + bars + 8);
            let title = cut(&sanitise_line(&candidate.title), room);
            let name = match (n == selected, chosen) {
                (true, _) => theme.selected(),
                (_, true) => theme.heading(),
                _ => theme.text(),
            };
            Line::from(vec![
                Span::styled(head, theme.cite()),
                Span::styled(bar, theme.good()),
                Span::styled(format!(" {:.3} ", candidate.score), theme.dim()),
                Span::styled(title, name),
            ])
        });
        if candidates.is_empty() {
            frame.render_widget(Line::styled("nothing was searched for", theme.dim()), list);
        }
    }

    fn prompt(&self, turn: &Turn, columns: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let Some(prompt) = &turn.prompt else {
            return vec![Line::styled("the reader was not asked", theme.dim())];
        };
        let mut lines = Vec::new();
        let tokens = turn.answer().and_then(|answer| answer.prompt);
        let parts = tokens.map_or_else(String::new, |parts| {
            let crate::rag::PromptTokens { system, examples, passages, question } = parts;
            format!(": system {system}, examples {examples}, passages {passages}, question {question}")
        });
        let head = format!("{} tokens{parts}", prompt.tokens);
        lines.extend(paragraph(head, theme.dim(), columns));
        let mut part = |name: &str, text: &str| {
            lines.push(Line::default());
            lines.push(Line::styled(name.to_owned(), theme.heading()));
            lines.extend(paragraph(sanitise(text), theme.text(), columns));
        };
        part("system", &prompt.system);
        for (user, assistant) in &prompt.examples {
            part("example: user", user);
            part("example: assistant", assistant);
        }
        part("user", &prompt.user);
        lines
    }

    fn times(&self, turn: &Turn, columns: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let Some(answer) = turn.answer() else {
            return turn
                .steps
                .iter()
                .map(|step| {
                    let took = step.ms.map_or_else(|| "…".to_owned(), time);
                    Line::styled(cut(&format!("{}  {took}", step.stage.label()), columns), theme.text())
                })
                .collect();
        };
        let total = answer.timings.total_ms.max(1e-9);
        let widest = answer.stages.iter().map(|stage| width(stage.stage.label())).max().unwrap_or(0);
        let room = columns.saturating_sub(widest + 12).clamp(1, 60);
        let mut begin = 0.0;
        let mut lines = Vec::new();
        for stage in &answer.stages {
            let label = stage.stage.label();
            let space = " ".repeat(widest - width(label) + 1);
            let ms = stage.ms.unwrap_or(0.0);
            let column = |at: f64| ((at / total) * room as f64).round().clamp(0.0, room as f64) as usize;
            let (from, to) = (column(begin), column(begin + ms));
            begin += ms;
            let bar = if stage.ms.is_some() { "█".repeat(to.saturating_sub(from).max(1)) } else { String::new() };
            let took = stage.ms.map_or_else(String::new, time);
            lines.push(Line::from(vec![
                Span::styled(format!("{label}{space}"), theme.text()),
                Span::styled(format!("{took:>9}  "), theme.dim()),
                Span::raw(" ".repeat(from.min(room - 1))),
                Span::styled(bar, theme.good()),
            ]));
            let by = sanitise_line(&stage.by);
            if !by.is_empty() {
                lines.push(Line::styled(cut(&format!("  {by}"), columns), theme.dim()));
            }
        }
        let space = " ".repeat((widest + 1).saturating_sub("together".len()));
        lines.push(Line::styled(format!("together{space}{:>9}", time(answer.timings.total_ms)), theme.heading()));
        if let Some(usage) = &answer.usage {
            lines.push(Line::default());
            let text = format!("{} tokens read, {} written", usage.prompt_tokens, usage.completion_tokens);
            lines.push(Line::styled(cut(&text, columns), theme.dim()));
        }
        lines
    }
}

impl Brush<'_> {
    /// What each step of the retriever took in, as bars.
    fn gates(&self, turn: &Turn, columns: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let told = match &turn.gates {
            _ if !turn.was_encoded() => "nothing was encoded: the question goes on with the entity".to_owned(),
            Gates::Seen(Ok(gates)) if gates.is_empty() => "this retriever has no gates".to_owned(),
            Gates::Seen(Err(told)) => sanitise_line(&told.message),
            Gates::Unknown => "the models are not there yet".to_owned(),
            Gates::Asked => format!("{} encoding the question once more", self.spinner()),
            Gates::Seen(Ok(gates)) => {
                let wide = (columns.saturating_sub(24) / 3).clamp(3, BAR);
                let head = format!("{:<14}{:<a$}{:<a$}kept", "layers", "text", "picture", a = wide + 6);
                let mut lines = vec![Line::styled(cut(&head, columns), theme.heading())];
                for gate in gates {
                    let mut spans = vec![Span::styled(
                        format!("{:<14}", format!("{} / {}", gate.text_layer, gate.image_layer)),
                        theme.dim(),
                    )];
                    for mean in [gate.text, gate.image, Some(gate.kept)] {
                        match mean {
                            Some(mean) => {
                                spans.push(Span::styled(bar(mean as f32, wide), theme.good()));
                                spans.push(Span::styled(format!(" {mean:.2} "), theme.dim()));
                            }
                            None => spans.push(Span::raw(" ".repeat(wide + 6))),
                        }
                    }
                    lines.push(Line::from(spans));
                }
                lines.push(Line::default());
                let what = "Mean of each gate: how much a step takes in of the text and of the picture, and how much it keeps of \
                            what came before. Layers of the text and the picture backbone.";
                lines.extend(paragraph(what, theme.dim(), columns));
                return lines;
            }
        };
        paragraph(told, theme.dim(), columns)
    }
}

/// A bar of `share` of `columns`, by eighths.
fn bar(share: f32, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share * columns as f32 * 8.0).round().max(0.0) as usize;
    let (whole, part) = ((eighths / 8).min(columns), eighths % 8);
    let part = if whole == columns { "" } else { EIGHTHS[part] };
    let text = format!("{}{part}", "█".repeat(whole));
    let wide = width(&text);
    format!("{text}{}", " ".repeat(columns.saturating_sub(wide)))
}
