//! Several questions about one picture: the picture and the entity stay.

use super::{Answer, Candidate, FollowUp, Mode, Outcome, Question, QuestionImage, Said};

/// A conversation. It begins anew with another picture.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    image: Option<QuestionImage>,
    entity: Option<String>,
    candidates: Vec<Candidate>,
    rejected: Vec<String>,
    said: Vec<Said>,
}

impl Conversation {
    /// Turns of it that a question is understood from.
    const REMEMBERED: usize = 6;

    /// A conversation about a picture, or about what its first question names.
    #[must_use]
    pub fn new(image: Option<QuestionImage>) -> Self {
        Self { image, ..Self::default() }
    }

    /// A conversation that goes on from an answer.
    #[must_use]
    pub fn after(image: Option<QuestionImage>, entity: String, said: Vec<Said>) -> Self {
        Self { image, entity: Some(entity), said, ..Self::default() }
    }

    /// The next question of it.
    #[must_use]
    pub fn question(&self, text: impl Into<String>) -> Question {
        let from = self.said.len().saturating_sub(Self::REMEMBERED);
        let follow_up =
            self.entity.as_ref().map(|entity| FollowUp { entity: entity.clone(), before: self.said[from..].to_vec() });
        Question { text: text.into(), image: self.image.clone(), mode: Mode::Retrieved, follow_up, found: None }
    }

    /// Takes an answer in. One that is not in the knowledge base changes nothing but the candidates: as long as no entity
    /// was found the next question searches again, and afterwards it stays with that entity.
    pub fn answered(&mut self, answer: &Answer) {
        if !answer.candidates.is_empty() {
            self.candidates.clone_from(&answer.candidates);
        }
        let Some(entity) = answer.entity.as_ref().filter(|_| answer.outcome == Outcome::Answered) else { return };
        self.entity = Some(entity.url.clone());
        self.said.push(Said { question: answer.standalone.clone(), answer: answer.plain.clone() });
    }

    /// "Not this one": the best candidate that was not yet rejected becomes the entity, and what was said of the other
    /// is forgotten; where none was good enough, the best one is taken all the same. `None` where there is no other; then
    /// nothing changes.
    pub fn reject(&mut self) -> Option<&Candidate> {
        let current = self.entity.as_ref();
        let next = self.candidates.iter().find(|c| Some(&c.url) != current && !self.rejected.contains(&c.url))?;
        self.rejected.extend(current.cloned());
        self.entity = Some(next.url.clone());
        self.said.clear();
        Some(next)
    }

    /// "That one": the article of this URL becomes the entity, and what was said of another is forgotten.
    pub fn take(&mut self, url: &str) {
        if self.entity.as_deref() == Some(url) {
            return;
        }
        self.rejected.retain(|rejected| rejected != url);
        self.rejected.extend(self.entity.replace(url.to_owned()));
        self.said.clear();
    }

    /// URL of the article it is about, once one was found.
    #[must_use]
    pub fn entity(&self) -> Option<&str> {
        self.entity.as_deref()
    }
}
