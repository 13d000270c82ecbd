//! What is kept of a session, and how it leaves the program.

use std::fmt::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::turn::{End, Turn};
use crate::rag::{Conversation, Outcome, QuestionImage, Said};
use crate::text::{sanitise, sanitise_line};

/// Version of the file.
pub const VERSION: u32 = 1;

/// Longest title, characters.
const TITLE: usize = 60;

/// A session, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    /// [`VERSION`].
    pub version: u32,
    /// Its name, which is its file's too.
    pub id: String,
    /// When it began, seconds since 1970.
    pub began_unix_s: u64,
    /// The knowledge base that was asked.
    #[serde(default)]
    pub kb: String,
    /// The picture that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PathBuf>,
    /// The question that was being written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub draft: String,
    /// What was asked, in order.
    pub turns: Vec<Turn>,
}

/// A line of the list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub id: String,
    /// When it began, seconds since 1970.
    pub began_unix_s: u64,
    /// Its first question.
    pub title: String,
    /// How many were asked.
    pub turns: usize,
}

/// What a session is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Markdown,
    /// For programs: the file that is kept.
    Json,
}

impl Form {
    /// Of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Json => "json",
        }
    }
}

impl Saved {
    /// Its line of the list.
    #[must_use]
    pub fn head(&self) -> Head {
        let title = self.turns.first().map_or(&self.draft, |turn| &turn.question);
        let title = sanitise_line(title).chars().take(TITLE).collect();
        Head { id: self.id.clone(), began_unix_s: self.began_unix_s, title, turns: self.turns.len() }
    }

    /// Whether there is nothing in it to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.draft.trim().is_empty()
    }

    /// The conversation where it was left: about the picture, or the entity of the last answer. What another knowledge base
    /// answered is not gone on with.
    #[must_use]
    pub fn conversation(&self, image: Option<QuestionImage>) -> Conversation {
        let answered: Vec<_> = self
            .turns
            .iter()
            .filter(|turn| turn.picture == self.picture && turn.kb == self.kb)
            .filter_map(Turn::answer)
            .filter(|answer| answer.outcome == Outcome::Answered)
            .collect();
        match answered.last().and_then(|answer| answer.entity.as_ref()) {
            Some(entity) => {
                let about =
                    answered.iter().filter(|answer| answer.entity.as_ref().is_some_and(|e| e.url == entity.url));
                let said = about.map(|a| Said { question: a.standalone.clone(), answer: a.plain.clone() }).collect();
                Conversation::after(image, entity.url.clone(), said)
            }
            None => Conversation::new(image),
        }
    }

    /// As it leaves the program.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn export(&self, form: Form) -> Result<String, serde_json::Error> {
        match form {
            Form::Json => serde_json::to_string_pretty(self),
            Form::Markdown => {
                let mut out = String::new();
                // Writing into a string cannot fail.
                let _ = self.markdown(&mut out);
                Ok(out)
            }
        }
    }

    fn markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# {}\n", self.head().title)?;
        if !self.kb.is_empty() {
            writeln!(out, "Knowledge base: {}\n", sanitise_line(&self.kb))?;
        }
        let mut picture = None;
        for turn in &self.turns {
            if turn.picture.is_some() && turn.picture != picture {
                picture.clone_from(&turn.picture);
                let path = turn.picture.as_deref().unwrap_or_else(|| std::path::Path::new(""));
                writeln!(out, "![the picture](<{}>)\n", sanitise_line(&path.display().to_string()))?;
            }
            writeln!(out, "**{}**\n", sanitise_line(&turn.question))?;
            match &turn.end {
                Some(End::Failed { message }) => writeln!(out, "Failed: {}\n", sanitise_line(message))?,
                Some(End::Stopped) => writeln!(out, "{} (stopped)\n", sanitise(&turn.text))?,
                _ => writeln!(out, "{}\n", sanitise(&turn.said()))?,
            }
            for passage in turn.passages() {
                let [title, section, url] = [&passage.title, &passage.section, &passage.url].map(|s| sanitise_line(s));
                writeln!(out, "- [{}] {title}, {section}: <{url}>", passage.number)?;
            }
            if !turn.passages().is_empty() {
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::tui::tests::world;

    fn saved() -> Saved {
        let mut stopped = Turn::new(2, "And then?".into(), Some("a b.png".into()));
        stopped.text = "It\x1b[2J is".into();
        stopped.end = Some(End::Stopped);
        Saved {
            version: VERSION,
            id: "7-0".into(),
            began_unix_s: 7,
            kb: "starter".into(),
            picture: Some("a b.png".into()),
            draft: "and".into(),
            turns: vec![world::answered(1, "What is the capital?", Some("a b.png")).of("starter"), stopped],
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let saved = saved();
        let json = saved.export(Form::Json).unwrap();
        let back: Saved = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&saved).unwrap());
        assert_eq!(back.turns[0].passages().len(), 2);
        assert_eq!(
            back.head(),
            Head { id: "7-0".into(), began_unix_s: 7, title: "What is the capital?".into(), turns: 2 }
        );
    }

    #[test]
    fn the_conversation_goes_on_with_the_entity() {
        let saved = saved();
        let question = saved.conversation(None).question("And its currency?");
        let follow_up = question.follow_up.unwrap();
        assert_eq!(follow_up.entity, "https://example.org/kenya");
        assert_eq!(follow_up.before.len(), 1);
        // With another picture or another knowledge base it begins anew.
        let other = Saved { picture: Some("c.png".into()), ..saved.clone() };
        assert!(other.conversation(None).question("?").follow_up.is_none());
        let other = Saved { kb: "ruins".into(), ..saved };
        assert!(other.conversation(None).question("?").follow_up.is_none());
    }

    #[test]
    fn markdown_has_pictures_answers_and_sources_and_cannot_steer() {
        let text = saved().export(Form::Markdown).unwrap();
        assert!(
            text.starts_with("# What is the capital?\n\nKnowledge base: starter\n\n![the picture](<a b.png>)\n"),
            "{text}"
        );
        assert_eq!(text.matches("![the picture]").count(), 1);
        assert!(text.contains("The capital is **Nairobi** [1]."), "{text}");
        assert!(text.contains("- [1] Kenya, Government: <https://example.org/kenya>\n"), "{text}");
        assert!(text.contains("It is (stopped)"), "{text}");
        assert!(!text.contains('\x1b'));
    }
}
