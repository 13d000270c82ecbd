//! Writing a question, its picture, and what is done with the last answer.

use std::path::PathBuf;

use super::super::app::{App, Chip, Engines, Focus, Opened, Picker, Tab, session_id};
use super::super::event::{Effect, Told};
use super::super::keymap::Action;
use super::super::pasted::path_of;
use super::super::session::{Form, Saved};
use crate::io::pictures::is_picture;
use crate::rag::Conversation;
use crate::retriever::Picture;
use crate::text::sanitise_line;

impl App {
    pub(super) fn act_asking(&mut self, action: Action) -> Vec<Effect> {
        let page = self.page();
        match action {
            Action::Send => return self.send(),
            Action::NewLine => self.composer.new_line(),
            Action::Stop => {
                self.notice = None;
                if self.looked_at.is_some() {
                    self.follow();
                    return Vec::new();
                }
                return self.stop();
            }
            Action::Up => self.composer.up(),
            Action::Down => self.composer.down(),
            Action::PageUp => self.scroll_by(-page),
            Action::PageDown => self.scroll_by(page),
            Action::First => self.scroll_by(i32::MIN),
            Action::Last => self.follow(),
            Action::Focus => {
                let Some(turn) = self.sourced() else { return self.tell("there are no sources yet") };
                let Some(last) = turn.passages().len().checked_sub(1) else {
                    return self.tell("this answer has no sources");
                };
                self.source = self.source.min(last);
                self.focus = Focus::Sources;
            }
            Action::PickPicture => {
                let folder = self.folder.clone();
                self.opened = Some(Opened::Picker(Picker { folder: folder.clone(), ..Picker::default() }));
                return vec![Effect::List(folder)];
            }
            Action::DropPicture => {
                (self.chip, self.send_then) = (None, false);
                self.converse(Conversation::default());
            }
            Action::Inspect => match self.looked_at().map(|turn| turn.id) {
                Some(turn) => return self.inspect(turn, Tab::default()),
                None => return self.tell("there is nothing to inspect yet"),
            },
            Action::OtherEntity => return self.other_entity(),
            Action::AskAgain => return self.ask_again(),
            Action::EditLast => {
                let Some(turn) = self.turns.last() else { return self.tell("nothing was asked yet") };
                let question = turn.question.clone();
                let effects = self.stop();
                self.conversation = self.before.clone();
                self.composer.set(&question);
                return effects;
            }
            Action::NewSession => return self.new_session(),
            Action::Switch => {
                self.opened = Some(Opened::Switcher { choices: None, selected: 0 });
                return vec![Effect::ListChoices];
            }
            Action::Sessions => {
                self.opened = Some(Opened::Sessions { list: None, selected: 0 });
                return vec![Effect::ListSessions];
            }
            Action::ExportMarkdown | Action::ExportJson => {
                if self.turns.is_empty() {
                    return self.tell("there is nothing to export yet");
                }
                let form = if action == Action::ExportJson { Form::Json } else { Form::Markdown };
                return vec![Effect::Export(Box::new(self.saved()), form)];
            }
            Action::CopyAnswer | Action::CopyWithSources => {
                let Some(turn) = self.looked_at() else { return self.tell("there is nothing to copy yet") };
                let text = if action == Action::CopyAnswer { turn.said() } else { turn.said_with_sources() };
                if text.trim().is_empty() {
                    return self.tell("there is nothing to copy yet");
                }
                self.tell("copied");
                return vec![Effect::Copy(text)];
            }
            _ => {}
        }
        Vec::new()
    }

    /// Keys of the list of sources.
    pub(super) fn act_sources(&mut self, action: Action) -> Vec<Effect> {
        let Some(turn) = self.sourced().filter(|turn| !turn.passages().is_empty()) else {
            self.focus = Focus::Question;
            return Vec::new();
        };
        let (id, last) = (turn.id, turn.passages().len().saturating_sub(1));
        let passage = turn.passages().get(self.source).map(|passage| passage.text.clone());
        match action {
            Action::Up => self.source = self.source.saturating_sub(1),
            Action::Down => self.source = (self.source + 1).min(last),
            Action::Open => self.opened = Some(Opened::Reader { turn: id, passage: self.source.min(last), top: 0 }),
            Action::CopyPassage => {
                if let Some(text) = passage {
                    self.tell("passage copied");
                    return vec![Effect::Copy(text)];
                }
            }
            Action::Focus => self.focus = Focus::Question,
            _ => {}
        }
        Vec::new()
    }

    /// Asks what is written. A picture's path alone is looked at.
    fn send(&mut self) -> Vec<Effect> {
        let text = self.composer.text().trim().to_owned();
        if text.is_empty() {
            return Vec::new();
        }
        if let Some(path) = picture_path(&text) {
            self.composer.set("");
            return self.look_at(path, Some(text));
        }
        if self.running.is_some() {
            // The next key that stops should not only lead back to it.
            self.follow();
            let stop = self.setup.keys.hint(self.place(), Action::Stop).map_or_else(String::new, |(key, _)| key);
            return self.tell(format!("an answer is being written; {stop} stops it"));
        }
        if self.chip.as_ref().is_some_and(|chip| chip.picture.is_none()) {
            self.send_then = true;
            return Vec::new();
        }
        if let Engines::Failed(told) = &self.engines {
            let told = told.clone();
            return self.fail(told);
        }
        let text = self.composer.take();
        self.ask(text)
    }

    /// What further questions go on from, and what the last one is asked again from.
    pub(super) fn converse(&mut self, conversation: Conversation) {
        self.before = conversation.clone();
        self.conversation = conversation;
    }

    /// Goes on with what was said about the picture that is looked at, to the knowledge base that is asked.
    pub(super) fn take_up_conversation(&mut self) {
        self.converse(self.saved().conversation(self.image()));
    }

    /// Text that was pasted: a picture's path is looked at.
    pub(super) fn pasted(&mut self, text: &str) -> Vec<Effect> {
        match &mut self.opened {
            Some(Opened::Picker(picker)) => {
                picker.filter.push_str(&sanitise_line(text));
                picker.selected = 0;
                return self.preview();
            }
            Some(_) => return Vec::new(),
            None => self.focus = Focus::Question,
        }
        match picture_path(text) {
            Some(path) => self.look_at(path, Some(text.trim().to_owned())),
            None => {
                self.composer.insert(text);
                Vec::new()
            }
        }
    }

    /// Reads a picture, to look at it from then on.
    pub fn look_at(&mut self, path: PathBuf, named: Option<String>) -> Vec<Effect> {
        // One that is still read makes way itself.
        let before = self.chip.take();
        let before = before.and_then(|chip| if chip.picture.is_some() { Some(Box::new(chip)) } else { chip.before });
        self.chip = Some(Chip { path: path.clone(), picture: None, named, before });
        vec![Effect::OpenPicture(path)]
    }

    /// A picture was read: the one to look at, or the one selected in the picker.
    pub(super) fn picture_read(&mut self, path: PathBuf, result: Result<Picture, Told>) -> Vec<Effect> {
        if let Some(Opened::Picker(picker)) = &mut self.opened
            && picker.entry().is_some_and(|entry| picker.folder.join(&entry.name) == path)
        {
            picker.preview = Some((path.clone(), result.clone()));
        }
        let Some(chip) = self.chip.as_mut().filter(|chip| chip.path == path && chip.picture.is_none()) else {
            return Vec::new();
        };
        match result {
            Ok(picture) => {
                (chip.picture, chip.before) = (Some(picture), None);
                self.take_up_conversation();
                let reader = self.about().filter(|about| !about.sees_pictures).and_then(|about| about.reader.clone());
                if let Some(reader) = reader.filter(|_| self.turns.is_empty()) {
                    self.tell_blind(&reader);
                }
                if std::mem::take(&mut self.send_then) { self.send() } else { Vec::new() }
            }
            Err(told) => {
                let (named, before) = (chip.named.take(), chip.before.take());
                (self.chip, self.send_then) = (before.map(|before| *before), false);
                // What was pasted may have been meant as text.
                if let Some(named) = named {
                    self.composer.insert(&named);
                }
                self.fail(told)
            }
        }
    }

    /// "Not this one": the next candidate, asked the same.
    fn other_entity(&mut self) -> Vec<Effect> {
        let Some(question) = self.turns.last().map(|turn| turn.question.clone()) else {
            return self.tell("nothing was asked yet");
        };
        if self.running.is_some() {
            return self.tell("an answer is being written");
        }
        match self.conversation.reject() {
            Some(other) => {
                let title = sanitise_line(&other.title);
                self.tell(format!("taking it for {title}"));
                self.ask(question)
            }
            None => self.tell("there is no other candidate"),
        }
    }

    /// Takes the candidate of this URL as the entity, and asks the question of a turn about it.
    pub(super) fn take_candidate(&mut self, turn: u64, url: &str, title: &str) -> Vec<Effect> {
        let Some(turn) = self.turn(turn) else { return Vec::new() };
        let question = turn.question.clone();
        let same_picture = turn.picture.as_ref() == self.looked_at_picture().map(|chip| &chip.path);
        let same_kb = turn.kb.is_empty() || turn.kb == self.kb;
        if self.running.is_some() {
            return self.tell("an answer is being written");
        }
        if self.about().is_none() {
            return self.tell("the models are not there yet");
        }
        if self.chip.as_ref().is_some_and(|chip| chip.picture.is_none()) {
            return self.tell("the picture is still being read");
        }
        if !same_picture || !same_kb {
            return self.tell("that was asked about another picture, or of another knowledge base");
        }
        self.opened = None;
        self.conversation.take(url);
        self.tell(format!("taking it for {}", sanitise_line(title)));
        self.ask(question)
    }

    fn ask_again(&mut self) -> Vec<Effect> {
        let Some(question) = self.turns.last().map(|turn| turn.question.clone()) else {
            return self.tell("nothing was asked yet");
        };
        let mut effects = self.stop();
        self.conversation = self.before.clone();
        effects.extend(self.ask(question));
        effects
    }

    fn new_session(&mut self) -> Vec<Effect> {
        let mut effects = self.stop();
        if !self.turns.is_empty() {
            effects.extend(self.leave());
        }
        self.begin();
        self.tell("a new session");
        effects
    }

    /// An empty session, with the picture that is looked at.
    fn begin(&mut self) {
        self.turns.clear();
        self.focus = Focus::Question;
        self.follow();
        self.came = None;
        self.id = session_id(self.setup.epoch_unix_s, self.setup.process, self.next_session);
        self.began_unix_s = self.setup.epoch_unix_s + self.now.as_secs();
        self.next_session += 1;
        self.converse(Conversation::new(self.image()));
    }

    /// Goes on with a session that was kept.
    pub(super) fn resume(&mut self, saved: Saved) -> Vec<Effect> {
        let mut effects = self.stop();
        if !self.turns.is_empty() {
            effects.extend(self.leave());
        }
        self.begin();
        self.opened = None;
        self.chip = None;
        self.composer.set(&saved.draft);
        self.came = Some((saved.turns.len(), self.composer.text()));
        self.turns = saved.turns;
        for turn in &mut self.turns {
            turn.id = self.next_turn;
            self.next_turn += 1;
            // One that was cut off has not ended.
            turn.end.get_or_insert(super::super::turn::End::Stopped);
        }
        (self.id, self.began_unix_s) = (saved.id, saved.began_unix_s);
        self.take_up_conversation();
        if !saved.kb.is_empty() && saved.kb != self.kb {
            let other = sanitise_line(&saved.kb);
            self.tell(format!("this session asked {other}; what is asked now is another knowledge base"));
        }
        if let Some(path) = saved.picture {
            effects.extend(self.look_at(path, None));
        }
        effects
    }
}

/// The path that a text is, where that is all and it is named as a picture.
fn picture_path(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    if text.is_empty() || text.len() > 4096 || text.contains('\n') {
        return None;
    }
    // A question may end in a picture's name.
    let begins = ["/", "~", ".", "'", "\"", "file:"].iter().any(|begin| text.starts_with(begin));
    if !begins && text.replace("\\ ", "").contains(char::is_whitespace) {
        return None;
    }
    let path = path_of(text);
    is_picture(&path.to_string_lossy()).then_some(path)
}
