//! What happens, taken in: the state changes, and what is to be done is said.
//!
//! Nothing here reads a clock or a file, or writes to a terminal: time comes with each event, and all else goes out as an
//! [`Effect`].

mod answering;
mod asking;
mod opened;

use std::time::Duration;

use super::app::{App, Engines, Focus, Notice, Opened, Scroll};
use super::event::{Effect, Event, Told};
use super::keymap::{Action, Place};
use super::turn::Gates;

/// How long a notice is shown.
const NOTICED: Duration = Duration::from_secs(6);

/// Within what time the key that quits must be pressed again.
const TWICE: Duration = Duration::from_secs(2);

/// Lines of a turn of the wheel.
const WHEEL: i32 = 3;

impl App {
    /// Takes in what happened at `now`, on the session's clock.
    pub fn update(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.notice.as_ref().is_some_and(|notice| notice.until <= self.now) {
            self.notice = None;
        }
        if self.quitting.is_some_and(|until| until <= self.now) {
            self.quitting = None;
        }
        match event {
            Event::Key(key) => {
                let action = self.setup.keys.action(self.place(), key);
                if action != Some(Action::Quit) {
                    self.quitting = None;
                }
                match action {
                    Some(action) => self.act(action),
                    None => self.typed(key),
                }
            }
            Event::Paste(text) => self.pasted(&text),
            Event::Wheel(by) => {
                self.scroll_by(by.saturating_mul(WHEEL));
                Vec::new()
            }
            Event::Tick => Vec::new(),
            Event::Seen(seen) => {
                let begins = |to| seen.turns.iter().find(|(turn, _)| *turn == to).map(|(_, line)| *line);
                if let Some(line) = self.scroll.to.and_then(begins) {
                    self.scroll = Scroll { top: Some(line), left_at: seen.lines, to: None };
                }
                self.seen = seen;
                Vec::new()
            }
            Event::Loading(what) => {
                self.engines = Engines::Loading(what, self.now);
                Vec::new()
            }
            Event::Ready(about) => self.ready(about),
            Event::Unready(told) => self.unready(told),
            Event::Rag { turn, event } => self.answering(turn, event),
            Event::Picture { path, result } => self.picture_read(path, result),
            Event::Listed { folder, result } => self.listed(folder, result),
            Event::Gates { turn, result } => {
                if let Some(turn) = self.turns.iter_mut().find(|t| t.id == turn) {
                    turn.gates = Gates::Seen(result);
                }
                Vec::new()
            }
            Event::Choices(result) => self.choices_listed(result),
            Event::Sessions(result) => self.sessions_listed(result),
            Event::Parted { from, to } => {
                if self.id == from {
                    self.id = to;
                    return self.tell("this session was gone on with in another window; this one is kept beside it");
                }
                self.tell("an earlier session was gone on with in another window; both are kept")
            }
            Event::Resumed(result) => match result {
                Ok(saved) => self.resume(*saved),
                Err(told) => self.fail(told),
            },
            Event::Exported(Ok(path)) => self.tell(format!("written to {}", path.display())),
            Event::Exported(Err(told)) | Event::Failed(told) => self.fail(told),
            Event::Logged(read) => {
                if let Some(Opened::Log { lines, .. }) = &mut self.opened {
                    *lines = read;
                }
                Vec::new()
            }
            Event::Terminated => self.leave().into_iter().chain([Effect::Quit]).collect(),
        }
    }

    fn act(&mut self, action: Action) -> Vec<Effect> {
        match action {
            Action::Quit => return self.quit(),
            Action::Suspend => return vec![Effect::Suspend],
            Action::Help => {
                let shown = matches!(self.opened, Some(Opened::Help { .. }));
                self.opened = if shown { None } else { Some(Opened::Help { top: 0 }) };
                return Vec::new();
            }
            Action::Log => {
                if matches!(self.opened, Some(Opened::Log { .. })) {
                    self.opened = None;
                    return Vec::new();
                }
                self.opened = Some(Opened::Log { lines: Vec::new(), top: None });
                return vec![Effect::ReadLog];
            }
            Action::Older => return self.go(true),
            Action::Newer => return self.go(false),
            _ => {}
        }
        match self.place() {
            Place::Asking => self.act_asking(action),
            Place::Sources => self.act_sources(action),
            _ => self.act_opened(action),
        }
    }

    /// A key that is no action.
    fn typed(&mut self, key: ratatui::crossterm::event::KeyEvent) -> Vec<Effect> {
        match (&self.opened, self.focus) {
            (Some(Opened::Picker(_)), _) => self.filter(key),
            (Some(_), _) => Vec::new(),
            // Writing leads back to the question.
            (None, Focus::Sources) if super::keymap::Chord::of(key).writes() => {
                self.focus = Focus::Question;
                self.composer.key(key);
                Vec::new()
            }
            (None, Focus::Sources) => Vec::new(),
            (None, Focus::Question) => {
                self.composer.key(key);
                Vec::new()
            }
        }
    }

    fn quit(&mut self) -> Vec<Effect> {
        if self.quitting.is_some() {
            return [Effect::Stop].into_iter().chain(self.leave()).chain([Effect::Quit]).collect();
        }
        self.quitting = Some(self.now + TWICE);
        if self.running.is_some() { self.stop() } else { Vec::new() }
    }

    /// The session is to be kept, as it is.
    fn keep(&self) -> Effect {
        Effect::Keep(Box::new(self.saved()))
    }

    /// The same before the session is left: one that was only looked at stays as another window may have it by now.
    fn leave(&self) -> Option<Effect> {
        let as_it_came = self
            .came
            .as_ref()
            .is_some_and(|(turns, draft)| *turns == self.turns.len() && *draft == self.composer.text());
        (!as_it_came).then(|| self.keep())
    }

    /// Tells something.
    fn tell(&mut self, message: impl std::fmt::Display) -> Vec<Effect> {
        self.notice = Some(Notice { told: Told::new(message), bad: false, until: self.now + NOTICED });
        Vec::new()
    }

    /// Tells that something went wrong.
    fn fail(&mut self, told: Told) -> Vec<Effect> {
        self.notice = Some(Notice { told, bad: true, until: self.now + NOTICED });
        Vec::new()
    }

    /// Moves the answers, or what is opened over them.
    fn scroll_by(&mut self, by: i32) {
        match &mut self.opened {
            Some(Opened::Reader { top, .. } | Opened::Help { top } | Opened::Inspector { top, .. }) => {
                *top = moved(*top, by, self.seen.lines.saturating_sub(self.seen.height));
            }
            Some(Opened::Log { top, .. }) => {
                let last = self.seen.lines.saturating_sub(self.seen.height);
                let next = moved(top.unwrap_or(last), by, last);
                *top = (next < last).then_some(next);
            }
            Some(Opened::Picker(_) | Opened::Sessions { .. } | Opened::Switcher { .. }) => {}
            // The answers, where they are on the screen.
            None if self.seen.turns.is_empty() => {}
            None => {
                let last = self.seen.lines.saturating_sub(self.seen.height);
                let next = moved(self.scroll.top.map_or(last, |top| top.min(last)), by, last);
                if self.scroll.top.is_none() {
                    self.scroll.left_at = self.seen.lines;
                }
                match next < last {
                    true => self.scroll.top = Some(next),
                    false if by > 0 => self.follow(),
                    // There is nothing above: what was gone back to stays.
                    false => {}
                }
            }
        }
    }

    /// The newest answer is looked at, and shown as it comes.
    fn follow(&mut self) {
        (self.looked_at, self.source, self.scroll) = (None, 0, Scroll::default());
    }

    /// Lines of a page, one of them kept in sight.
    fn page(&self) -> i32 {
        i32::try_from(self.seen.height.saturating_sub(1).max(1)).unwrap_or(i32::MAX)
    }
}

/// `from` moved `by`, within 0 and `last`.
fn moved(from: usize, by: i32, last: usize) -> usize {
    let by_lines = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
    let to = if by < 0 { from.saturating_sub(by_lines) } else { from.saturating_add(by_lines) };
    to.min(last)
}
