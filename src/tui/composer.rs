//! The question that is being written, and those that were asked before.

use ratatui::crossterm::event::KeyEvent;
use ratatui::style::Style;
use ratatui_textarea::{CursorMove, TextArea, WrapMode};

use crate::text::sanitise;

/// Longest question, characters: far beyond any that a reader takes.
const LONGEST: usize = 16 << 10;

/// The question that is being written.
#[derive(Debug, Clone)]
pub struct Composer {
    area: TextArea<'static>,
    /// Asked before, oldest first.
    asked: Vec<String>,
    /// Which of them is shown, and what was being written instead.
    shown: Option<(usize, String)>,
}

impl Composer {
    /// An empty one, with questions that were asked before, oldest first.
    #[must_use]
    pub fn new(asked: Vec<String>) -> Self {
        Self { area: area(""), asked, shown: None }
    }

    /// What is written, as it stands.
    #[must_use]
    pub fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.area.is_empty()
    }

    /// Writes `text` in place of what is there.
    pub fn set(&mut self, text: &str) {
        self.area = area(text);
        self.shown = None;
    }

    /// Adds what was pasted, where the cursor is.
    pub fn insert(&mut self, text: &str) {
        let room = LONGEST.saturating_sub(self.text().chars().count());
        let text: String = sanitise(text).chars().take(room).collect();
        self.area.insert_str(text);
    }

    /// Takes a key that is no action: writing, moving, removing, undoing. Whether anything changed.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if self.text().chars().count() >= LONGEST && super::keymap::Chord::of(key).writes() {
            return false;
        }
        self.area.input(key)
    }

    /// Begins a new line.
    pub fn new_line(&mut self) {
        self.area.insert_newline();
    }

    /// The line above; in the first one, the question before.
    pub fn up(&mut self) {
        if self.area.screen_cursor().row > 0 {
            self.area.move_cursor(CursorMove::Up);
            return;
        }
        let at = self.shown.as_ref().map_or(self.asked.len(), |(at, _)| *at);
        if let Some(before) = at.checked_sub(1) {
            let draft = self.shown.take().map_or_else(|| self.text(), |(_, draft)| draft);
            self.area = area(&self.asked[before]);
            self.shown = Some((before, draft));
        }
    }

    /// The line below; in the last one, the question after, and after the last the one that was being written.
    pub fn down(&mut self) {
        let row = self.area.screen_cursor().row;
        self.area.move_cursor(CursorMove::Down);
        if self.area.screen_cursor().row > row {
            return;
        }
        if let Some((at, draft)) = self.shown.take() {
            match self.asked.get(at + 1) {
                Some(next) => {
                    self.area = area(next);
                    self.shown = Some((at + 1, draft));
                }
                None => self.area = area(&draft),
            }
        }
    }

    /// Takes the question, and remembers it.
    pub fn take(&mut self) -> String {
        let text = self.text().trim().to_owned();
        self.remember(&text);
        self.set("");
        text
    }

    /// Adds a question to those that were asked.
    pub fn remember(&mut self, text: &str) {
        if !text.is_empty() && self.asked.last().is_none_or(|last| last != text) {
            self.asked.push(text.to_owned());
        }
    }

    /// To be drawn.
    #[must_use]
    pub fn area(&self) -> &TextArea<'static> {
        &self.area
    }
}

fn area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(sanitise(text).split('\n').map(str::to_owned).collect());
    area.set_wrap_mode(WrapMode::WordOrGlyph);
    area.set_cursor_line_style(Style::new());
    area.set_cursor_style(Style::new());
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use ratatui::crossterm::event::{KeyCode, KeyModifiers};

    use super::*;

    #[test]
    fn earlier_questions_come_back_and_the_draft_too() {
        let mut composer = Composer::new(vec!["one".into(), "two".into()]);
        composer.insert("dra\x1b[2Jft");
        composer.up();
        assert_eq!(composer.text(), "two");
        composer.up();
        composer.up();
        assert_eq!(composer.text(), "one", "there is none before");
        composer.down();
        composer.down();
        assert_eq!(composer.text(), "draft", "and no sequence");
        composer.down();
        assert_eq!(composer.text(), "draft");
        assert_eq!(composer.take(), "draft");
        assert!(composer.is_empty());
        composer.up();
        assert_eq!(composer.text(), "draft");
    }

    #[test]
    fn lines_are_walked_before_questions() {
        let mut composer = Composer::new(vec!["one".into()]);
        composer.set("a\nb");
        composer.up();
        assert_eq!(composer.text(), "a\nb");
        composer.up();
        assert_eq!(composer.text(), "one");
        composer.down();
        assert_eq!(composer.text(), "a\nb");
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut composer = Composer::new(Vec::new());
        composer.insert(&"x".repeat(3 * LONGEST));
        assert_eq!(composer.text().len(), LONGEST);
        assert!(!composer.key(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::NONE)));
        assert!(composer.key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE)));
    }
}
