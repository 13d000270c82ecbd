//! From a question that was asked to its end.

use super::super::app::{App, Engines};
use super::super::event::{About, Effect, Told};
use super::super::turn::{End, Turn};
use crate::rag;

impl App {
    pub(super) fn ready(&mut self, about: About) -> Vec<Effect> {
        let blind = about.reader.as_ref().filter(|_| !about.sees_pictures).cloned();
        let other = self.kb != about.kb;
        self.kb.clone_from(&about.kb);
        self.engines = Engines::Ready(about);
        if let Some(turn) = self.running.and_then(|id| self.turns.iter_mut().find(|turn| turn.id == id)) {
            turn.kb.clone_from(&self.kb);
        } else if other {
            self.take_up_conversation();
        }
        if let Some(reader) = blind.filter(|_| self.chip.is_some()) {
            self.tell_blind(&reader);
        }
        match (self.waiting.take(), self.running) {
            (Some(question), Some(turn)) => vec![Effect::Ask { turn, question }],
            _ => Vec::new(),
        }
    }

    /// A reader that does not see is told once, when there is something to be seen.
    pub(super) fn tell_blind(&mut self, reader: &str) {
        let reader = crate::text::sanitise_line(reader);
        self.tell(format!("{reader} does not see the picture; it reads what was found by it"));
    }

    pub(super) fn unready(&mut self, told: Told) -> Vec<Effect> {
        self.engines = Engines::Failed(told.clone());
        self.waiting = None;
        match self.running.take() {
            Some(turn) => self.end(turn, End::Failed { message: told.message }),
            None => Vec::new(),
        }
    }

    /// Asks, or waits for the engines to be there.
    pub(super) fn ask(&mut self, text: String) -> Vec<Effect> {
        if let Engines::Failed(told) = &self.engines {
            let told = told.clone();
            return self.fail(told);
        }
        if self.chip.as_ref().is_some_and(|chip| chip.picture.is_none()) {
            return self.tell("the picture is still being read");
        }
        self.before = self.conversation.clone();
        let question = Box::new(self.conversation.question(text.clone()));
        let turn = self.next_turn;
        self.next_turn += 1;
        let picture = self.chip.as_ref().map(|chip| chip.path.clone());
        self.turns.push(Turn::new(turn, text.clone(), picture).of(&self.kb));
        self.running = Some(turn);
        self.follow();
        let mut effects = vec![Effect::Remember(text), self.keep()];
        match self.engines {
            Engines::Ready(_) => effects.push(Effect::Ask { turn, question }),
            _ => self.waiting = Some(question),
        }
        effects
    }

    /// Takes in a step of a turn; one that is over hears no more.
    pub(super) fn answering(&mut self, id: u64, event: Option<Box<rag::Event>>) -> Vec<Effect> {
        if self.running != Some(id) {
            return Vec::new();
        }
        let now = self.now;
        let Some(event) = event else {
            return self.end(id, End::Failed { message: rag::RagError::Unfinished.to_string() });
        };
        let Some(turn) = self.turns.iter_mut().find(|turn| turn.id == id) else { return Vec::new() };
        turn.happened(*event, now);
        if let Some(answer) = turn.answer() {
            self.conversation.answered(answer);
        }
        if turn.end.is_none() {
            return Vec::new();
        }
        self.running = None;
        vec![self.keep()]
    }

    fn end(&mut self, id: u64, end: End) -> Vec<Effect> {
        if let Some(turn) = self.turns.iter_mut().find(|turn| turn.id == id) {
            turn.end = Some(end);
        }
        self.running = None;
        vec![self.keep()]
    }

    /// Stops the answer; what came of it is kept.
    pub(super) fn stop(&mut self) -> Vec<Effect> {
        let Some(id) = self.running else { return Vec::new() };
        self.waiting = None;
        let mut effects = vec![Effect::Stop];
        effects.extend(self.end(id, End::Stopped));
        effects
    }
}
