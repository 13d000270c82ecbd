//! Long work on the whole screen: how far it is, how fast, what there is to say of it, what was told. It is told what a bar of
//! one line is told, and nobody waits for it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Gauge, Paragraph, Sparkline};

use super::stop;
use super::terminal::Screen;
use super::view::flow::{cut, paragraph};
use super::view::theme::Theme;
use super::view::too_small;
use crate::text::{Unit, duration, sanitise_line};

/// Between two frames.
const STEP: Duration = Duration::from_millis(200);

/// Time over which the pace is measured for the curve, and how many of them are kept.
const PACE: (Duration, usize) = (Duration::from_secs(1), 600);

/// Notes that are kept.
const NOTES: usize = 500;

/// A piece of the work.
#[derive(Debug, Clone)]
struct Piece {
    label: String,
    unit: Unit,
    done: u64,
    total: Option<u64>,
    details: Vec<String>,
    began: Duration,
    /// Where it stood when it was first told: what is behind that says nothing of the pace.
    first: Option<(u64, Duration)>,
    /// Done in each of the last seconds.
    paces: VecDeque<u64>,
    /// Where it stood at the last of them, and when.
    last: (u64, Duration),
}

/// What is shown.
#[derive(Debug, Clone, Default)]
pub struct Work {
    title: String,
    now: Duration,
    piece: Option<Piece>,
    /// Pieces that are over: what, how much, how long.
    over: Vec<(String, String, Duration)>,
    notes: VecDeque<String>,
}

impl Work {
    /// Nothing yet of what is called `title`.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Another piece begins.
    pub fn begin(&mut self, label: &str, unit: Unit, now: Duration) {
        self.end(now);
        self.now = now;
        self.piece = Some(Piece {
            label: label.to_owned(),
            unit,
            done: 0,
            total: None,
            details: Vec::new(),
            began: now,
            first: None,
            paces: VecDeque::new(),
            last: (0, now),
        });
    }

    /// The piece at hand is over.
    pub fn end(&mut self, now: Duration) {
        let Some(piece) = self.piece.take() else { return };
        let took = now.saturating_sub(piece.began);
        let amount = format!("{}{}", piece.unit.amount(piece.done), piece.unit.name());
        let amount = if piece.done == 0 { String::new() } else { amount };
        self.over.push((piece.label, amount, took));
    }

    /// How far it is, and what there is to say of it.
    pub fn set(&mut self, done: u64, total: Option<u64>, details: Vec<String>, now: Duration) {
        self.now = now;
        let Some(piece) = &mut self.piece else { return };
        (piece.done, piece.total, piece.details) = (done, total, details);
        if piece.first.is_none() {
            piece.first = Some((done, now));
            piece.last = (done, now);
        }
    }

    /// Something is told.
    pub fn note(&mut self, text: &str) {
        if self.notes.len() >= NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(text.to_owned());
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        let Some(piece) = &mut self.piece else { return };
        if now.saturating_sub(piece.last.1) >= PACE.0 {
            if piece.paces.len() >= PACE.1 {
                piece.paces.pop_front();
            }
            piece.paces.push_back(piece.done.saturating_sub(piece.last.0));
            piece.last = (piece.done, now);
        }
    }
}

impl Piece {
    /// How many a second, over all that this run did.
    fn pace(&self, now: Duration) -> Option<f64> {
        let (from, since) = self.first?;
        let time = now.saturating_sub(since).as_secs_f64();
        (self.done > from && time > 0.0).then(|| (self.done - from) as f64 / time)
    }

    fn sentence(&self, now: Duration) -> String {
        let amount = |n| self.unit.amount(n);
        let name = self.unit.name();
        let mut parts = vec![match self.total {
            Some(total) => format!("{} of {}{name}", amount(self.done), amount(total)),
            None if self.done > 0 => format!("{}{name}", amount(self.done)),
            None => "at work".to_owned(),
        }];
        if let Some(pace) = self.pace(now) {
            parts.push(match self.unit {
                Unit::Bytes => format!("{}/s", crate::text::bytes(pace as u64)),
                Unit::Things(_) if pace < 10.0 => format!("{pace:.1}/s"),
                Unit::Things(_) => format!("{pace:.0}/s"),
            });
            if let Some(left) = self.total.map(|total| total.saturating_sub(self.done)) {
                parts.push(format!("{} left", duration(left as f64 / pace)));
            }
        }
        parts.push(format!("{} so far", duration(now.saturating_sub(self.began).as_secs_f64())));
        parts.join(" · ")
    }
}

/// Shows the state.
pub fn draw(frame: &mut Frame<'_>, work: &Work, theme: Theme) {
    let area = frame.area();
    if too_small(frame, area) {
        return;
    }
    let [header, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let title = cut(&sanitise_line(&work.title), usize::from(area.width).saturating_sub(12));
    frame.render_widget(
        Line::from(vec![Span::styled(" Cicerone  ", theme.heading()), Span::styled(title, theme.dim())]),
        header,
    );
    frame.render_widget(
        Line::from(vec![Span::styled(" ctrl+c", theme.accent()), Span::styled(" stop in good order", theme.dim())]),
        foot,
    );
    let inside = Rect { x: body.x + 1, width: body.width.saturating_sub(2), ..body };
    let columns = usize::from(inside.width);
    let mut below = inside;
    if let Some(piece) = &work.piece {
        let details: Vec<Line<'static>> =
            piece.details.iter().flat_map(|detail| paragraph(sanitise_line(detail), theme.text(), columns)).collect();
        let many = u16::try_from(details.len()).unwrap_or(u16::MAX).min(inside.height / 3);
        let curve = if inside.height >= 20 && !piece.paces.is_empty() { 6 } else { 0 };
        let [label, bar, sentence, said, pace, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(many),
            Constraint::Length(curve),
            Constraint::Min(0),
        ])
        .areas(inside);
        frame.render_widget(Line::styled(cut(&sanitise_line(&piece.label), columns), theme.heading()), label);
        if let Some(total) = piece.total {
            let share = (piece.done as f64 / total.max(1) as f64).clamp(0.0, 1.0);
            let gauge =
                Gauge::default().ratio(share).gauge_style(theme.good()).label(format!("{:.0} %", share * 100.0));
            frame.render_widget(gauge.use_unicode(true), bar);
        }
        frame.render_widget(Line::styled(cut(&piece.sentence(work.now), columns), theme.text()), sentence);
        frame.render_widget(Paragraph::new(details), said);
        if curve > 0 {
            let block =
                Block::bordered().border_type(BorderType::Rounded).border_style(theme.dim()).title(" each second ");
            let fit = usize::from(pace.width.saturating_sub(2));
            let from = piece.paces.len().saturating_sub(fit);
            let paces: Vec<u64> = piece.paces.iter().skip(from).copied().collect();
            frame.render_widget(Sparkline::default().data(paces).style(theme.accent()).block(block), pace);
        }
        below = rest;
    }
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (label, amount, took) in &work.over {
        let amount = if amount.is_empty() { String::new() } else { format!(", {amount}") };
        let text = format!("✓ {}{amount}, {}", sanitise_line(label), duration(took.as_secs_f64()));
        lines.push(Line::styled(cut(&text, columns), theme.dim()));
    }
    for note in &work.notes {
        for line in note.lines() {
            lines.extend(paragraph(sanitise_line(line), theme.text(), columns));
        }
    }
    let room = usize::from(below.height.saturating_sub(1));
    let from = lines.len().saturating_sub(room);
    let below = Rect { y: below.y + below.height.min(1), height: below.height.saturating_sub(1), ..below };
    frame.render_widget(Paragraph::new(lines.into_iter().skip(from).collect::<Vec<_>>()), below);
}

/// The screen while work goes on; given back when this is dropped.
pub struct Live {
    work: Arc<Mutex<Work>>,
    clock: Instant,
    over: Arc<AtomicBool>,
    /// Whether the screen was given back, by its end or because its terminal has gone.
    gone: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl Live {
    /// Takes the screen; `log` gets what is written to stderr meanwhile.
    ///
    /// # Errors
    /// The terminal's.
    pub fn start(title: &str, log: &Path, theme: Theme) -> io::Result<Self> {
        let screen = Screen::take(log, false)?;
        let (work, over, clock) =
            (Arc::new(Mutex::new(Work::new(title))), Arc::new(AtomicBool::new(false)), Instant::now());
        let (shown, ends) = (Arc::clone(&work), Arc::clone(&over));
        let to_stop = Arc::new(AtomicBool::new(false));
        let gone = Arc::new(AtomicBool::new(false));
        listen(&to_stop, &gone)?;
        let given_back = Gone(Arc::clone(&gone));
        let thread = std::thread::Builder::new().name("live".into()).spawn(move || {
            // After the screen, however this ends.
            let _given_back = given_back;
            let mut screen = screen;
            while !ends.load(Ordering::SeqCst) {
                if to_stop.swap(false, Ordering::SeqCst) {
                    match screen.suspend() {
                        Ok(true) => {}
                        Ok(false) => shown.lock().unwrap_or_else(PoisonError::into_inner).note(stop::NO_SHELL),
                        // As below.
                        Err(_) => return,
                    }
                }
                let frame = {
                    let mut work = shown.lock().unwrap_or_else(PoisonError::into_inner);
                    work.tick(clock.elapsed());
                    work.clone()
                };
                // A terminal that has gone ends the program by its own signal.
                if screen.draw(|f| draw(f, &frame, theme)).is_err() {
                    return;
                }
                if event::poll(STEP).unwrap_or(false)
                    && let Ok(event::Event::Key(key)) = event::read()
                    && key.modifiers.contains(KeyModifiers::CONTROL)
                {
                    match key.code {
                        KeyCode::Char('c') => interrupt(),
                        KeyCode::Char('z') => to_stop.store(true, Ordering::SeqCst),
                        _ => {}
                    }
                }
            }
        })?;
        Ok(Self { work, clock, over, gone, thread: Mutex::new(Some(thread)) })
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Work::begin`].
    pub fn begin(&self, label: &str, unit: Unit) {
        self.work().begin(label, unit, self.clock.elapsed());
    }

    /// As [`Work::end`].
    pub fn end(&self) {
        self.work().end(self.clock.elapsed());
    }

    /// As [`Work::set`].
    pub fn set(&self, done: u64, total: Option<u64>, details: Vec<String>) {
        self.work().set(done, total, details, self.clock.elapsed());
    }

    /// As [`Work::note`].
    pub fn note(&self, text: &str) {
        self.work().note(text);
    }

    /// Whether the screen is still taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.over.load(Ordering::SeqCst) && !self.gone.load(Ordering::SeqCst)
    }

    /// Gives the screen back, once; what was told meanwhile.
    pub fn close(&self) -> Vec<String> {
        if self.over.swap(true, Ordering::SeqCst) {
            return Vec::new();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        std::mem::take(&mut self.work().notes).into()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

/// Says when it goes that the screen was given back.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Hears, from a thread of its own, when this process is asked to stop: `to_stop` is set until the screen has `gone`, since
/// it has to be given back first.
fn listen(to_stop: &Arc<AtomicBool>, gone: &Arc<AtomicBool>) -> io::Result<()> {
    let (to_stop, gone) = (Arc::clone(to_stop), Arc::clone(gone));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = std::thread::Builder::new().name("stop".into());
    listener.spawn(move || {
        runtime.block_on(stop::on_signal(|| {
            if !gone.load(Ordering::SeqCst) {
                to_stop.store(true, Ordering::SeqCst);
            } else if stop::is_continued() {
                // Who asked sees whether it came to it.
                let _ = stop::now();
            }
            true
        }));
    })?;
    Ok(())
}

/// What Ctrl-C does where the terminal is not in raw mode.
fn interrupt() {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
    #[cfg(not(unix))]
    super::terminal::give_back();
    #[cfg(not(unix))]
    std::process::exit(130);
}
