//! What was asked and answered, as lines.

use ratatui::text::{Line, Span};

use super::flow::{Piece, cut, wrapped};
use super::markdown::rendered;
use super::{Brush, time};
use crate::rag::Outcome;
use crate::text::sanitise_line;
use crate::tui::app::name_of;
use crate::tui::turn::{End, Turn};

/// The lines of a turn that has ended, and what they were made for.
#[derive(Debug)]
pub struct Memo {
    columns: usize,
    panel: bool,
    picture: bool,
    gone_to: bool,
    lines: Vec<Line<'static>>,
}

/// Candidates that are shown where there is no answer.
const NEAREST: usize = 3;

impl Brush<'_> {
    /// All lines of the session.
    pub(super) fn transcript(&mut self, columns: usize, panel: bool) -> Vec<Line<'static>> {
        let mut all = Vec::new();
        let mut picture = None;
        let app = self.app;
        for turn in &app.turns {
            let new = turn.picture.is_some() && turn.picture != picture;
            picture.clone_from(&turn.picture);
            if !all.is_empty() {
                all.push(Line::default());
            }
            self.painted.seen.turns.push((turn.id, all.len()));
            if turn.end.is_none() {
                all.extend(self.turn(turn, columns, panel, new));
                continue;
            }
            let gone_to = app.looked_at == Some(turn.id);
            let fits =
                |memo: &&Memo| (memo.columns, memo.panel, memo.picture, memo.gone_to) == (columns, panel, new, gone_to);
            match self.kept.turns.get(&turn.id).filter(fits) {
                Some(memo) => all.extend(memo.lines.iter().cloned()),
                None => {
                    let lines = self.turn(turn, columns, panel, new);
                    all.extend(lines.iter().cloned());
                    self.kept.turns.insert(turn.id, Memo { columns, panel, picture: new, gone_to, lines });
                }
            }
        }
        self.kept.turns.retain(|id, _| app.turn(*id).is_some());
        all
    }

    fn turn(&self, turn: &Turn, columns: usize, panel: bool, picture: bool) -> Vec<Line<'static>> {
        let theme = self.theme;
        let mut lines = Vec::new();
        let gone_to = self.app.looked_at == Some(turn.id);
        let mark = if gone_to { ("▸ ".to_owned(), theme.cite()) } else { ("› ".to_owned(), theme.accent()) };
        let blank = ("  ".to_owned(), theme.text());
        let question = crate::text::sanitise(&turn.question).into_owned();
        lines.extend(wrapped(&[(question, theme.heading())], columns, &mark, &blank));
        if let Some(path) = turn.picture.as_ref().filter(|_| picture) {
            let name = format!("  ▣ {}", sanitise_line(&name_of(path)));
            lines.push(Line::styled(cut(&name, columns), theme.dim()));
        }
        if let Some(entity) = turn.entity() {
            let score = entity.score.map_or_else(String::new, |score| format!(" {score:.2}"));
            let title = sanitise_line(&entity.title);
            let mut spans = vec![Span::styled(cut(&format!("  {title}"), columns), theme.good())];
            spans.push(Span::styled(cut(&score, columns.saturating_sub(spans[0].width())), theme.dim()));
            lines.push(Line::from(spans));
        }
        match &turn.end {
            None => {
                lines.extend(self.steps(turn, columns));
                lines.extend(rendered(&turn.text, columns, 2, true, theme));
            }
            Some(End::Stopped) => {
                lines.extend(rendered(&turn.text, columns, 2, true, theme));
                lines.push(Line::styled("  stopped", theme.warn()));
            }
            Some(End::Failed { message }) => {
                lines.extend(rendered(&turn.text, columns, 2, true, theme));
                let first = ("  failed: ".to_owned(), theme.bad());
                lines.extend(wrapped(&[(sanitise_line(message), theme.text())], columns, &first, &blank));
            }
            Some(End::Answered(answer)) => {
                match &answer.outcome {
                    Outcome::Answered => lines.extend(rendered(&turn.text, columns, 2, false, theme)),
                    Outcome::NotInKnowledgeBase { reason, .. } => {
                        lines.push(Line::styled("  Not in the knowledge base", theme.warn()));
                        lines.extend(wrapped(&[(sanitise_line(reason), theme.text())], columns, &blank, &blank));
                        for candidate in answer.candidates.iter().take(NEAREST) {
                            let title = sanitise_line(&candidate.title);
                            let text = format!("  {:>2}. {:.2}  {title}", candidate.rank, candidate.score);
                            lines.push(Line::styled(cut(&text, columns), theme.dim()));
                        }
                    }
                    Outcome::PassagesOnly => {
                        for passage in &answer.passages {
                            let first: Piece = (format!("  [{}] ", passage.number), theme.cite());
                            let heading =
                                format!("{} — {}\n", sanitise_line(&passage.title), sanitise_line(&passage.section));
                            let text = crate::text::sanitise(&passage.text).into_owned();
                            let pieces = [(heading, theme.heading()), (text, theme.text())];
                            let rest = ("      ".to_owned(), theme.text());
                            lines.extend(wrapped(&pieces, columns, &first, &rest));
                        }
                    }
                }
                if !panel && answer.outcome == Outcome::Answered {
                    lines.extend(self.sources_below(turn, columns));
                }
                lines.push(Line::styled(cut(&format!("  {}", took(answer)), columns), theme.dim()));
            }
        }
        lines
    }

    /// The stages that were gone through, and the one at hand.
    fn steps(&self, turn: &Turn, columns: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let blank = ("  ".to_owned(), theme.text());
        let mut pieces: Vec<Piece> = Vec::new();
        for (n, step) in turn.steps.iter().enumerate() {
            if n > 0 {
                pieces.push((" · ".to_owned(), theme.dim()));
            }
            let label = step.stage.label().replace(' ', "\u{a0}");
            match step.ms {
                Some(ms) => pieces.push((format!("{label}\u{a0}{}", time(ms).replace(' ', "\u{a0}")), theme.dim())),
                None => {
                    let since = self.app.now.saturating_sub(step.began).as_secs_f64() * 1000.0;
                    let since =
                        if since < 950.0 { String::new() } else { format!("\u{a0}{:.0}\u{a0}s", since / 1000.0) };
                    pieces.push((format!("{}\u{a0}{label}{since}", self.spinner()), theme.accent()));
                }
            }
        }
        if pieces.is_empty() {
            let waits = if self.app.waiting.is_some() { "waiting for the models" } else { "asking" };
            pieces.push((format!("{} {waits}", self.spinner()), theme.accent()));
        }
        wrapped(&pieces, columns, &blank, &blank)
    }

    /// The sources as lines of the answer, where they have no panel.
    fn sources_below(&self, turn: &Turn, columns: usize) -> Vec<Line<'static>> {
        let theme = self.theme;
        let line = |passage: &crate::rag::Passage| {
            let cited = if turn.cites(passage.number) { theme.cite() } else { theme.dim() };
            let name = format!("{} — {}", sanitise_line(&passage.title), sanitise_line(&passage.section));
            let number = format!("  [{}] ", passage.number);
            let room = columns.saturating_sub(number.len());
            Line::from(vec![Span::styled(number, cited), Span::styled(cut(&name, room), theme.dim())])
        };
        turn.passages().iter().map(line).collect()
    }
}

/// How long an answer took, and how fast it was written.
fn took(answer: &crate::rag::Answer) -> String {
    let mut text = time(answer.timings.total_ms);
    if let Some(usage) = answer.usage.filter(|usage| usage.completion_tokens > 1 && usage.completion_s > 0.0) {
        text.push_str(&format!(" · {:.0} tokens/s", usage.completion_tokens as f32 / usage.completion_s));
        if usage.truncated {
            text.push_str(" · cut at the most it may have");
        }
    }
    text
}
