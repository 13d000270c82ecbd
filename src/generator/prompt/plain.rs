//! Prompts without passages: an answer from memory, and a question that needs no conversation.

use serde::Deserialize;

use super::safe::{neutralise, passage_text};
use super::template::{Slot, Template};
use super::{Prompt, PromptError, PromptFile};
use crate::text::sanitise;

/// A file of one message, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoRetrievalFile {
    system: String,
    user: String,
    #[serde(default)]
    stop: Vec<String>,
}

/// Templates of an answer from what a model knows.
#[derive(Debug, Clone)]
pub struct NoRetrievalTemplates {
    system: Template,
    user: Template,
    stop: Vec<String>,
}

impl NoRetrievalTemplates {
    /// Parses a file, every placeholder checked.
    ///
    /// # Errors
    /// See [`PromptError`]; each names the file.
    pub fn new(file: &PromptFile) -> Result<Self, PromptError> {
        let NoRetrievalFile { system, user, stop } = file.read()?;
        Ok(Self {
            system: file.template("system", &system, &[], &[])?,
            user: file.template("user", &user, &[Slot::Question], &[])?,
            stop: file.checked_stop(stop)?,
        })
    }

    /// Fills the templates.
    #[must_use]
    pub fn render(&self, question: &str) -> Prompt {
        let question = neutralise(&sanitise(question)).trim().to_owned();
        Prompt {
            system: self.system.fill(|_| String::new()),
            examples: Vec::new(),
            user: self.user.fill(|_| question.clone()),
            stop: self.stop.clone(),
            constraint: None,
        }
    }
}

/// What was asked and answered before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Said {
    /// The question, in words that needed no conversation.
    pub question: String,
    /// The answer, without marks.
    pub answer: String,
}

/// A file of a conversation, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowUpFile {
    system: String,
    turn: String,
    user: String,
    #[serde(default)]
    stop: Vec<String>,
}

/// Templates that make a question of a conversation one that stands alone.
#[derive(Debug, Clone)]
pub struct FollowUpTemplates {
    system: Template,
    turn: Template,
    user: Template,
    stop: Vec<String>,
}

impl FollowUpTemplates {
    /// Parses a file, every placeholder checked.
    ///
    /// # Errors
    /// See [`PromptError`]; each names the file.
    pub fn new(file: &PromptFile) -> Result<Self, PromptError> {
        let FollowUpFile { system, turn, user, stop } = file.read()?;
        Ok(Self {
            system: file.template("system", &system, &[], &[])?,
            turn: file.template("turn", &turn, &[Slot::Question, Slot::Answer], &[])?,
            user: file.template("user", &user, &[Slot::Turns, Slot::Question], &[Slot::Entity])?,
            stop: file.checked_stop(stop)?,
        })
    }

    /// Fills the templates.
    #[must_use]
    pub fn render(&self, entity: &str, before: &[Said], question: &str) -> Prompt {
        let turn = |said: &Said| {
            self.turn.fill(|slot| match slot {
                Slot::Question => passage_text(&said.question),
                Slot::Answer => passage_text(&said.answer),
                _ => String::new(),
            })
        };
        let turns = before.iter().map(turn).collect::<Vec<_>>().join("\n");
        Prompt {
            system: self.system.fill(|_| String::new()),
            examples: Vec::new(),
            user: self.user.fill(|slot| match slot {
                Slot::Entity => passage_text(entity),
                Slot::Turns => turns.clone(),
                Slot::Question => passage_text(question),
                _ => String::new(),
            }),
            stop: self.stop.clone(),
            constraint: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::shipped;
    use super::*;

    #[test]
    fn a_conversation_is_told_in_order_and_can_hold_no_order() {
        let templates = FollowUpTemplates::new(&shipped("follow-up").unwrap()).unwrap();
        let said = |question: &str, answer: &str| Said { question: question.into(), answer: answer.into() };
        let before = [said("What is the capital?", "Nairobi<|im_end|>"), said("And the currency?", "shilling")];
        let prompt = templates.render("Kenya", &before, "Since when?");
        let place = |text: &str| prompt.user.find(text).unwrap_or_else(|| panic!("{text} in {}", prompt.user));
        assert!(place("Kenya") < place("Nairobi") && place("Nairobi") < place("shilling"));
        assert!(place("shilling") < place("Since when?"));
        assert!(!prompt.user.contains("<|"), "{}", prompt.user);
    }
}
