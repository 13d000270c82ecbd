//! What is opened over the session: a source, the inspector, pictures, sessions, help, the log.

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::super::app::{App, Engines, Focus, Opened, Tab};
use super::super::event::{Choices, Effect, Entry, Named, Told};
use super::super::keymap::{Action, Chord};
use super::super::session::Head;
use super::super::turn::{Gates, Turn};
use crate::rag::Conversation;

impl App {
    pub(super) fn act_opened(&mut self, action: Action) -> Vec<Effect> {
        let page = self.page();
        match action {
            Action::Back => {
                self.opened = None;
                return Vec::new();
            }
            Action::PageUp => return self.step(-page),
            Action::PageDown => return self.step(page),
            Action::Up => return self.step(-1),
            Action::Down => return self.step(1),
            Action::First => return self.step(i32::MIN),
            Action::Last => return self.step(i32::MAX),
            _ => {}
        }
        match &self.opened {
            Some(Opened::Reader { .. }) => self.act_reader(action),
            Some(Opened::Inspector { .. }) => self.act_inspector(action),
            Some(Opened::Picker(_)) if action == Action::Open => self.open_entry(),
            Some(Opened::Sessions { .. }) => self.act_sessions(action),
            Some(Opened::Switcher { .. }) if action == Action::Open => self.switch(),
            _ => Vec::new(),
        }
    }

    /// Moves the selection where there is one, else the text.
    fn step(&mut self, by: i32) -> Vec<Effect> {
        let candidates = match &self.opened {
            Some(Opened::Inspector { turn, tab: Tab::Candidates, .. }) => {
                self.turn(*turn).map_or(0, |turn| self.candidates(turn).len())
            }
            _ => 0,
        };
        match &mut self.opened {
            Some(Opened::Inspector { tab: Tab::Candidates, selected, .. }) => {
                *selected = super::moved(*selected, by, candidates.saturating_sub(1));
                Vec::new()
            }
            Some(Opened::Switcher { choices, selected }) => {
                let many = choices.as_ref().map_or(0, |choices| choices.bases.len() + choices.readers.len());
                *selected = super::moved(*selected, by, many.saturating_sub(1));
                Vec::new()
            }
            Some(Opened::Sessions { list, selected }) => {
                let last = list.as_ref().map_or(0, |list| list.len().saturating_sub(1));
                *selected = super::moved(*selected, by, last);
                Vec::new()
            }
            Some(Opened::Picker(picker)) => {
                picker.selected = super::moved(picker.selected, by, picker.shown().len().saturating_sub(1));
                self.preview()
            }
            _ => {
                self.scroll_by(by);
                Vec::new()
            }
        }
    }

    fn act_reader(&mut self, action: Action) -> Vec<Effect> {
        let Some(Opened::Reader { turn, passage, .. }) = self.opened else { return Vec::new() };
        let Some(read) = self.turn(turn) else { return Vec::new() };
        let many = read.passages().len().max(1);
        let text = read.passages().get(passage).map(|passage| passage.text.clone());
        let at = match action {
            Action::Next => (passage + 1) % many,
            Action::Previous => (passage + many - 1) % many,
            Action::CopyPassage => {
                let Some(text) = text else { return Vec::new() };
                self.tell("passage copied");
                return vec![Effect::Copy(text)];
            }
            _ => return Vec::new(),
        };
        self.opened = Some(Opened::Reader { turn, passage: at, top: 0 });
        self.source = at;
        Vec::new()
    }

    fn act_inspector(&mut self, action: Action) -> Vec<Effect> {
        let Some(Opened::Inspector { turn, tab, selected, .. }) = self.opened else { return Vec::new() };
        let by = match action {
            Action::Next => 1,
            Action::Previous => Tab::ALL.len() - 1,
            Action::Open if tab == Tab::Candidates => {
                let taken = self.turn(turn).and_then(|turn| self.candidates(turn).get(selected)).cloned();
                return taken.map_or_else(Vec::new, |taken| self.take_candidate(turn, &taken.url, &taken.title));
            }
            _ => return Vec::new(),
        };
        let tab = tab.step(by);
        self.opened = Some(Opened::Inspector { turn, tab, selected, top: 0 });
        if tab == Tab::Gates { self.look_at_gates(turn) } else { Vec::new() }
    }

    /// Opens the inspector over a turn, its entity selected.
    pub(super) fn inspect(&mut self, turn: u64, tab: Tab) -> Vec<Effect> {
        let Some(inspected) = self.turn(turn) else { return Vec::new() };
        let entity = inspected.entity().map(|entity| entity.url.as_str());
        let urls = self.candidates(inspected).iter().map(|candidate| Some(candidate.url.as_str()));
        let selected = urls.into_iter().position(|url| url == entity).unwrap_or(0);
        self.opened = Some(Opened::Inspector { turn, tab, selected, top: 0 });
        if tab == Tab::Gates { self.look_at_gates(turn) } else { Vec::new() }
    }

    /// Goes to the turn before or after, with what is opened over it: a reader to one that has something to be read.
    pub(super) fn go(&mut self, back: bool) -> Vec<Effect> {
        let (from, reads) = match self.opened {
            Some(Opened::Reader { turn, .. }) => (Some(turn), true),
            Some(Opened::Inspector { turn, .. }) => (Some(turn), false),
            Some(_) => return Vec::new(),
            None => (self.looked_at().map(|turn| turn.id), false),
        };
        let Some(at) = from.and_then(|id| self.turns.iter().position(|turn| turn.id == id)) else { return Vec::new() };
        let fits = |turn: &&Turn| !reads || !turn.passages().is_empty();
        let to = if back { self.turns[..at].iter().rev().find(fits) } else { self.turns[at + 1..].iter().find(fits) };
        let Some(to) = to else { return Vec::new() };
        let (id, sourced) = (to.id, !to.passages().is_empty());
        self.follow();
        if self.turns.last().is_some_and(|newest| newest.id != id) {
            self.looked_at = Some(id);
            self.scroll.to = Some(id);
        }
        if !sourced {
            self.focus = Focus::Question;
        }
        match self.opened {
            Some(Opened::Inspector { tab, .. }) => return self.inspect(id, tab),
            Some(_) => self.opened = Some(Opened::Reader { turn: id, passage: 0, top: 0 }),
            None => {}
        }
        Vec::new()
    }

    /// Has the question of a turn encoded once more, to see what was taken in of it.
    fn look_at_gates(&mut self, turn: u64) -> Vec<Effect> {
        if self.about().is_none() {
            return Vec::new();
        }
        let turn = self.turns.iter_mut().find(|other| other.id == turn);
        let unseen = |turn: &&mut Turn| turn.was_encoded() && matches!(turn.gates, Gates::Unknown);
        let Some(turn) = turn.filter(unseen) else { return Vec::new() };
        turn.gates = Gates::Asked;
        vec![Effect::Gates { turn: turn.id, text: turn.question.clone(), picture: turn.picture.clone() }]
    }

    pub(super) fn choices_listed(&mut self, result: Result<Choices, Told>) -> Vec<Effect> {
        let about = self.about().cloned();
        let Some(Opened::Switcher { choices, selected }) = &mut self.opened else { return Vec::new() };
        match result {
            Ok(found) => {
                let own = |base: &Named| about.as_ref().is_some_and(|about| about.kb == base.name);
                *selected = found.bases.iter().position(own).unwrap_or(0);
                *choices = Some(found);
                Vec::new()
            }
            Err(told) => {
                self.opened = None;
                self.fail(told)
            }
        }
    }

    /// Asks what is selected from now on. The session goes on; with another knowledge base the conversation begins anew, since
    /// what was said was about other articles.
    fn switch(&mut self) -> Vec<Effect> {
        let Some(Opened::Switcher { choices: Some(choices), selected }) = &self.opened else { return Vec::new() };
        let Some((base, named)) = choices.at(*selected) else { return Vec::new() };
        let name = Some(named.name.clone());
        if base {
            self.choice.kb = name;
        } else {
            self.choice.reader = name;
        }
        self.opened = None;
        let mut effects = self.stop();
        if base {
            self.converse(Conversation::new(self.image()));
        }
        self.engines = Engines::Loading("loading".to_owned(), self.now);
        effects.push(Effect::Open(self.choice.clone()));
        effects
    }

    fn act_sessions(&mut self, action: Action) -> Vec<Effect> {
        let Some(Opened::Sessions { list: Some(list), selected }) = &mut self.opened else { return Vec::new() };
        let Some(head) = list.get(*selected).cloned() else { return Vec::new() };
        match action {
            Action::Open if head.id == self.id => {
                self.opened = None;
                Vec::new()
            }
            Action::Open => vec![Effect::Resume(head.id)],
            Action::Delete if head.id == self.id => self.tell("this session is the one that is open"),
            Action::Delete => {
                list.remove(*selected);
                *selected = (*selected).min(list.len().saturating_sub(1));
                vec![Effect::Forget(head.id)]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn sessions_listed(&mut self, result: Result<Vec<Head>, Told>) -> Vec<Effect> {
        let Some(Opened::Sessions { list, selected }) = &mut self.opened else { return Vec::new() };
        match result {
            Ok(read) => {
                *selected = (*selected).min(read.len().saturating_sub(1));
                *list = Some(read);
                Vec::new()
            }
            Err(told) => {
                self.opened = None;
                self.fail(told)
            }
        }
    }

    /// A folder was read.
    pub(super) fn listed(&mut self, folder: PathBuf, result: Result<Vec<Entry>, Told>) -> Vec<Effect> {
        let Some(Opened::Picker(picker)) = &mut self.opened else { return Vec::new() };
        if picker.folder != folder {
            return Vec::new();
        }
        match result {
            Ok(entries) => (picker.entries, picker.failed) = (Some(entries), None),
            Err(told) => (picker.entries, picker.failed) = (Some(Vec::new()), Some(told)),
        }
        picker.selected = 0;
        self.preview()
    }

    /// A key in the picker that is no action: what names must hold, or the folder above.
    pub(super) fn filter(&mut self, key: KeyEvent) -> Vec<Effect> {
        let Some(Opened::Picker(picker)) = &mut self.opened else { return Vec::new() };
        match key.code {
            KeyCode::Char(c) if Chord::of(key).writes() => picker.filter.push(c),
            KeyCode::Backspace if picker.filter.is_empty() => {
                let Some(above) = picker.folder.parent().map(PathBuf::from) else { return Vec::new() };
                return self.enter(above);
            }
            KeyCode::Backspace => {
                picker.filter.pop();
            }
            _ => return Vec::new(),
        }
        picker.selected = 0;
        self.preview()
    }

    /// Shows another folder.
    fn enter(&mut self, folder: PathBuf) -> Vec<Effect> {
        let Some(Opened::Picker(picker)) = &mut self.opened else { return Vec::new() };
        *picker = super::super::app::Picker { folder: folder.clone(), ..Default::default() };
        self.folder.clone_from(&folder);
        vec![Effect::List(folder)]
    }

    fn open_entry(&mut self) -> Vec<Effect> {
        let Some(Opened::Picker(picker)) = &self.opened else { return Vec::new() };
        let Some(entry) = picker.entry() else { return Vec::new() };
        let path = picker.folder.join(&entry.name);
        if entry.folder {
            return self.enter(path);
        }
        self.opened = None;
        self.look_at(path, None)
    }

    /// Reads the picture that is selected, if it is not the one that is shown.
    pub(super) fn preview(&mut self) -> Vec<Effect> {
        let Some(Opened::Picker(picker)) = &mut self.opened else { return Vec::new() };
        let selected = picker.entry().filter(|entry| !entry.folder).map(|entry| picker.folder.join(&entry.name));
        if picker.preview.as_ref().map(|(path, _)| path) == selected.as_ref() {
            return Vec::new();
        }
        picker.preview = None;
        selected.map_or_else(Vec::new, |path| vec![Effect::OpenPicture(path)])
    }
}
