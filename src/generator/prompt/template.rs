//! Text with places to fill, and the files that such texts come from.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::de::DeserializeOwned;

use super::PromptError;

/// A prompt file: where it is, for messages, and its text.
#[derive(Debug, Clone)]
pub struct PromptFile {
    /// Its path; of a shipped one, that in the source tree.
    pub path: PathBuf,
    /// TOML.
    pub text: String,
}

impl PromptFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PromptError::Read`].
    pub fn open(path: &Path) -> Result<Self, PromptError> {
        Ok(Self { path: path.to_owned(), text: fs_err::read_to_string(path)? })
    }

    /// One that is compiled in.
    #[must_use]
    pub(super) fn shipped(name: &str, text: &str) -> Self {
        Self { path: format!("configs/prompts/{name}.toml").into(), text: text.to_owned() }
    }

    /// Its keys.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, PromptError> {
        toml::from_str(&self.text)
            .map_err(|e| PromptError::Parse { path: self.path.clone(), reason: e.to_string().trim_end().to_owned() })
    }

    /// A template under one of its keys.
    pub(super) fn template(
        &self,
        key: &'static str,
        text: &str,
        needed: &[Slot],
        allowed: &[Slot],
    ) -> Result<Template, PromptError> {
        Template::parse(text.trim(), needed, allowed).map_err(|reason| self.problem(key, reason))
    }

    /// What is wrong with a key.
    pub(super) fn problem(&self, key: &'static str, reason: impl Into<String>) -> PromptError {
        PromptError::Placeholder { path: self.path.clone(), key, reason: reason.into() }
    }

    /// Strings that end an answer, as written.
    pub(super) fn checked_stop(&self, stop: Vec<String>) -> Result<Vec<String>, PromptError> {
        if stop.iter().any(String::is_empty) {
            return Err(self.problem("stop", "an empty string would end every answer; remove it"));
        }
        Ok(stop)
    }
}

/// A placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Nonce,
    Entity,
    Passages,
    Question,
    Number,
    Title,
    Section,
    Text,
    Candidates,
    Score,
    Turns,
    Answer,
}

impl Slot {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Nonce, "{nonce}"),
        (Self::Entity, "{entity}"),
        (Self::Passages, "{passages}"),
        (Self::Question, "{question}"),
        (Self::Number, "{number}"),
        (Self::Title, "{title}"),
        (Self::Section, "{section}"),
        (Self::Text, "{text}"),
        (Self::Candidates, "{candidates}"),
        (Self::Score, "{score}"),
        (Self::Turns, "{turns}"),
        (Self::Answer, "{answer}"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(slot, _)| *slot == self).map_or("", |(_, name)| name)
    }
}

/// Text with places to fill. It is cut up once, so that what is filled in is never looked at again.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    Slot(Slot),
}

impl Template {
    pub(super) fn parse(text: &str, needed: &[Slot], allowed: &[Slot]) -> Result<Self, String> {
        static PLACEHOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{[A-Za-z_]+\}").ok());
        let mut pieces = Vec::new();
        let mut from = 0;
        for found in PLACEHOLDER.iter().flat_map(|p| p.find_iter(text)) {
            let known = Slot::ALL
                .iter()
                .find(|(slot, name)| *name == found.as_str() && (needed.contains(slot) || allowed.contains(slot)));
            let Some((slot, _)) = known else {
                let names: Vec<&str> = needed.iter().chain(allowed).map(|slot| slot.name()).collect();
                let names = if names.is_empty() { "none".into() } else { names.join(" ") };
                return Err(format!("unknown placeholder {}; expected {names}", found.as_str()));
            };
            pieces.push(Piece::Literal(text[from..found.start()].to_owned()));
            pieces.push(Piece::Slot(*slot));
            from = found.end();
        }
        pieces.push(Piece::Literal(text[from..].to_owned()));
        let template = Self { pieces };
        match needed.iter().find(|slot| template.position(**slot).is_none()) {
            Some(missing) => Err(format!("placeholder {} is missing; put it in", missing.name())),
            None => Ok(template),
        }
    }

    pub(super) fn position(&self, slot: Slot) -> Option<usize> {
        self.pieces.iter().position(|piece| matches!(piece, Piece::Slot(s) if *s == slot))
    }

    pub(super) fn fill(&self, value: impl Fn(Slot) -> String) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Slot(slot) => out.push_str(&value(*slot)),
            }
        }
        out
    }
}
