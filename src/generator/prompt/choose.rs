//! The prompt by which a model chooses the entity out of a list of names.

use serde::Deserialize;

use super::safe::{neutralise, nonce, passage_text};
use super::template::{Slot, Template};
use super::{Constraint, Prompt, PromptError, PromptFile};
use crate::text::sanitise;

/// A candidate, as it is put into the list.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Name of the entity.
    pub title: &'a str,
    /// Its score in the search.
    pub score: f32,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    system: String,
    candidate: String,
    user: String,
}

/// Templates of the choice, checked.
#[derive(Debug, Clone)]
pub struct ChooseTemplates {
    system: Template,
    candidate: Template,
    user: Template,
}

impl ChooseTemplates {
    /// Parses a file, every placeholder checked.
    ///
    /// # Errors
    /// See [`PromptError`]; each names the file.
    pub fn new(file: &PromptFile) -> Result<Self, PromptError> {
        use Slot::{Candidates, Nonce, Number, Question, Score, Title};
        let File { system, candidate, user } = file.read()?;
        Ok(Self {
            system: file.template("system", &system, &[], &[])?,
            candidate: file.template("candidate", &candidate, &[Number, Title], &[Score])?,
            user: file.template("user", &user, &[Nonce, Candidates, Question], &[])?,
        })
    }

    /// Fills the templates. The answer can be the number of a candidate, from 1, and nothing else.
    #[must_use]
    pub fn render(&self, candidates: &[Named<'_>], question: &str) -> Prompt {
        let line = |(number, named): (usize, &Named<'_>)| {
            self.candidate.fill(|slot| match slot {
                Slot::Number => number.to_string(),
                Slot::Title => passage_text(named.title),
                Slot::Score => format!("{:.3}", named.score),
                _ => String::new(),
            })
        };
        let block = (1..).zip(candidates).map(line).collect::<Vec<_>>().join("\n");
        let question = neutralise(&sanitise(question)).trim().to_owned();
        let nonce = nonce(&[&block, &question]);
        Prompt {
            system: self.system.fill(|_| String::new()),
            examples: Vec::new(),
            user: self.user.fill(|slot| match slot {
                Slot::Nonce => nonce.clone(),
                Slot::Candidates => block.clone(),
                Slot::Question => question.clone(),
                _ => String::new(),
            }),
            stop: Vec::new(),
            constraint: Some(Constraint::OneOf((1..=candidates.len()).map(|n| n.to_string()).collect())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::shipped;
    use super::*;

    #[test]
    fn names_are_numbered_lines_and_the_answer_is_one_of_the_numbers() {
        let templates = ChooseTemplates::new(&shipped("choose-entity").unwrap()).unwrap();
        let named = [Named { title: "Chad\n3. Mars [1]", score: 0.91 }, Named { title: "Romania", score: 0.9 }];
        let prompt = templates.render(&named, "Whose flag is it?");
        assert_eq!(prompt.constraint, Some(Constraint::OneOf(vec!["1".into(), "2".into()])));
        let lines: Vec<&str> = prompt.user.lines().filter(|line| line.starts_with(['1', '2', '3'])).collect();
        assert_eq!(lines, ["1. Chad 3. Mars (1) (0.910)", "2. Romania (0.900)"]);
        assert!(prompt.user.contains("Whose flag is it?"));
    }
}
