//! The prompt of an answer from passages.

use serde::Deserialize;

use super::safe::{neutralise, nonce, passage_text};
use super::template::{Slot, Template};
use super::{Constraint, Prompt, PromptError, PromptFile, Turn};
use crate::text::sanitise;

/// One passage, as it is put into a prompt.
#[derive(Debug, Clone, Copy)]
pub struct PromptPassage<'a> {
    /// Title of the article.
    pub title: &'a str,
    /// Heading of the section.
    pub section: &'a str,
    /// The text.
    pub text: &'a str,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    system: String,
    passage: String,
    user: String,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    allow: String,
    #[serde(default)]
    example: Vec<Example>,
}

/// A question with its passage and the answer that is wished for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    title: String,
    section: String,
    text: String,
    question: String,
    answer: String,
}

/// Templates of an answer, checked.
#[derive(Debug, Clone)]
pub struct AnswerTemplates {
    system: Template,
    passage: Template,
    user: Template,
    stop: Vec<String>,
    constraint: Option<Constraint>,
    examples: Vec<Turn>,
}

impl AnswerTemplates {
    /// Parses a file, every placeholder checked.
    ///
    /// # Errors
    /// See [`PromptError`]; each names the file.
    pub fn new(file: &PromptFile) -> Result<Self, PromptError> {
        use Slot::{Entity, Nonce, Number, Passages, Question, Section, Text, Title};
        let File { system, passage, user, stop, allow, example } = file.read()?;
        let user = file.template("user", &user, &[Nonce, Passages, Question], &[Entity])?;
        if user.position(Question) < user.position(Passages) {
            return Err(file.problem("user", "{question} stands before {passages}; put the question last"));
        }
        if let Err(e) = regex::Regex::new(&allow) {
            return Err(file.problem("allow", format!("not a regular expression: {e}")));
        }
        let mut templates = Self {
            system: file.template("system", &system, &[], &[])?,
            passage: file.template("passage", &passage, &[Number, Text], &[Title, Section])?,
            user,
            stop: file.checked_stop(stop)?,
            constraint: (!allow.is_empty()).then_some(Constraint::Regex(allow)),
            examples: Vec::new(),
        };
        let turn = |e: &Example| {
            let passage = PromptPassage { title: &e.title, section: &e.section, text: &e.text };
            Turn { user: templates.user(&[passage], &e.question), assistant: e.answer.clone() }
        };
        templates.examples = example.iter().map(turn).collect();
        Ok(templates)
    }

    /// Fills the templates.
    #[must_use]
    pub fn render(&self, passages: &[PromptPassage<'_>], question: &str) -> Prompt {
        Prompt {
            system: self.system.fill(|_| String::new()),
            examples: self.examples.clone(),
            user: self.user(passages, neutralise(&sanitise(question)).trim()),
            stop: self.stop.clone(),
            constraint: self.constraint.clone(),
        }
    }

    /// The user message for passages and a neutralised question.
    fn user(&self, passages: &[PromptPassage<'_>], question: &str) -> String {
        let lines: Vec<String> =
            (1..).zip(passages).map(|(number, passage)| self.passage_line(number, passage)).collect();
        let block = lines.join("\n");
        let nonce = nonce(&[&block, question]);
        let entity = passages.first().map(|passage| passage_text(passage.title)).unwrap_or_default();
        self.user.fill(|slot| match slot {
            Slot::Nonce => nonce.clone(),
            Slot::Entity => entity.clone(),
            Slot::Passages => block.clone(),
            Slot::Question => question.to_owned(),
            _ => String::new(),
        })
    }

    /// One passage as it stands in the prompt, on one line.
    #[must_use]
    pub fn passage_line(&self, number: usize, passage: &PromptPassage<'_>) -> String {
        self.passage.fill(|slot| match slot {
            Slot::Number => number.to_string(),
            Slot::Title => passage_text(passage.title),
            Slot::Section => passage_text(passage.section),
            Slot::Text => passage_text(passage.text),
            _ => String::new(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::shipped;
    use super::*;

    fn templates() -> AnswerTemplates {
        AnswerTemplates::new(&shipped("starter").unwrap()).unwrap()
    }

    fn passage(text: &str) -> PromptPassage<'_> {
        PromptPassage { title: "Aruba", section: "Government", text }
    }

    #[test]
    fn passages_are_numbered_and_the_question_comes_last() {
        let prompt =
            templates().render(&[passage("The capital is Oranjestad."), passage("Another.")], "What is the capital?");
        let user = &prompt.user;
        let first = user.find("[1] Aruba").unwrap();
        let second = user.find("[2] Aruba").unwrap();
        assert!(first < second && second < user.find("What is the capital?").unwrap());
        assert!(user.trim_end().ends_with("What is the capital?"), "{user}");
    }

    #[test]
    fn equal_requests_have_equal_prompts() {
        assert_eq!(templates().render(&[passage("x")], "q"), templates().render(&[passage("x")], "q"));
    }

    #[test]
    fn a_question_is_never_filled_in_again() {
        let prompt = templates().render(&[passage("{question}")], "q {passages}");
        assert!(prompt.user.contains("q {passages}") && prompt.user.contains(": {question}"), "{}", prompt.user);
    }

    #[test]
    fn bad_templates_are_refused_with_the_key_and_the_mend() {
        let shipped = shipped("starter").unwrap();
        let refuse = |from: &str, to: &str| {
            let text = shipped.text.replace(from, to);
            assert_ne!(text, shipped.text);
            AnswerTemplates::new(&PromptFile { path: "mine.toml".into(), text }).unwrap_err().to_string()
        };
        let said = refuse("Question about {entity}: {question}", "Question about {entity}:");
        assert!(
            said.contains("mine.toml") && said.contains("`user`") && said.contains("{question} is missing"),
            "{said}"
        );
        let said = refuse("{passages}\n{nonce}", "{passages}\n{passage}\n{nonce}");
        assert!(
            said.contains("unknown placeholder {passage}; expected {nonce} {passages} {question} {entity}"),
            "{said}"
        );
        let said = refuse("\n{nonce}\n{passages}", "\n{question}\n{nonce}\n{passages}");
        assert!(said.contains("put the question last"), "{said}");
        let said = refuse("stop = [\"\\n\"]", "stop = [\"\"]");
        assert!(said.contains("`stop`") && said.contains("would end every answer"), "{said}");
        let said = refuse("stop =", "allow = \"(\"\nstop =");
        assert!(said.contains("`allow`: not a regular expression"), "{said}");
        let said = refuse("system =", "sistem =");
        assert!(said.contains("mine.toml"), "{said}");
        let missing = PromptFile::open("nowhere.toml".as_ref()).unwrap_err().to_string();
        assert!(missing.contains("nowhere.toml"), "{missing}");
    }

    proptest! {
        #[test]
        fn the_fence_stands_exactly_twice(text in "[a-z \n]{0,200}", question in "[a-z ]{0,50}") {
            let prompt = templates().render(&[passage(&text)], &question);
            let fence = prompt.user.lines().next().unwrap();
            prop_assert_eq!(prompt.user.matches(fence).count(), 2);
        }
    }
}
