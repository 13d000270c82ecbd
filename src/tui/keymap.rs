//! Keys to actions. Hints and help are made from the same table, so that they cannot say anything else.

use std::fmt;
use std::str::FromStr;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Where a key is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    Anywhere,
    /// Where a question is written: keys that write are none of the table's.
    Asking,
    /// The list of sources beside the answers.
    Sources,
    /// Whatever is opened over the session.
    Opened,
    /// The reader of a source.
    Reader,
    /// The inspector.
    Inspector,
    /// The sessions that are kept.
    Sessions,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    Send,
    NewLine,
    Stop,
    Focus,
    PickPicture,
    DropPicture,
    Inspect,
    OtherEntity,
    AskAgain,
    EditLast,
    NewSession,
    Sessions,
    Switch,
    ExportMarkdown,
    ExportJson,
    CopyAnswer,
    CopyWithSources,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    Back,
    Next,
    Previous,
    CopyPassage,
    Delete,
    Help,
    Log,
    Older,
    Newer,
    Suspend,
    Quit,
}

/// A line of the table.
struct Row {
    place: Place,
    action: Action,
    name: &'static str,
    keys: &'static str,
    /// For hints: a word or two.
    short: &'static str,
    /// For help.
    long: &'static str,
}

const fn row(
    place: Place,
    action: Action,
    name: &'static str,
    keys: &'static str,
    short: &'static str,
    long: &'static str,
) -> Row {
    Row { place, action, name, keys, short, long }
}

/// Every action and its keys, as help lists them.
const TABLE: &[Row] = &[
    row(Place::Asking, Action::Send, "send", "enter", "ask", "ask the question; a path alone is looked at"),
    row(Place::Asking, Action::NewLine, "new-line", "alt+enter ctrl+j", "new line", "begin a new line"),
    row(
        Place::Asking,
        Action::Stop,
        "stop",
        "esc",
        "stop",
        "stop the answer and keep what came; back to the newest answer",
    ),
    row(Place::Asking, Action::PickPicture, "pick-picture", "ctrl+o", "picture", "pick a picture"),
    row(Place::Asking, Action::DropPicture, "drop-picture", "ctrl+x", "no picture", "take the picture away"),
    row(Place::Asking, Action::Focus, "focus", "tab", "sources", "to the sources and back"),
    row(Place::Asking, Action::Inspect, "inspect", "ctrl+t", "inspect", "candidates, prompt and times of the answer"),
    row(
        Place::Asking,
        Action::OtherEntity,
        "other-entity",
        "ctrl+n",
        "not this one",
        "not this one: the next candidate",
    ),
    row(Place::Asking, Action::AskAgain, "ask-again", "ctrl+r", "again", "ask the last question again"),
    row(Place::Asking, Action::EditLast, "edit-last", "alt+e", "edit", "take the last question back to edit it"),
    row(Place::Asking, Action::CopyAnswer, "copy-answer", "alt+c", "copy", "copy the answer"),
    row(
        Place::Asking,
        Action::CopyWithSources,
        "copy-with-sources",
        "alt+s",
        "copy all",
        "copy the answer with its sources",
    ),
    row(Place::Asking, Action::NewSession, "new-session", "ctrl+l", "new", "begin a new session"),
    row(Place::Asking, Action::Sessions, "sessions", "ctrl+s", "sessions", "go on with an earlier session"),
    row(Place::Asking, Action::Switch, "switch", "ctrl+b", "switch", "another knowledge base or reader"),
    row(Place::Asking, Action::ExportMarkdown, "export-markdown", "alt+m", "export", "write the session as Markdown"),
    row(Place::Asking, Action::ExportJson, "export-json", "alt+j", "export", "write the session as JSON"),
    row(
        Place::Asking,
        Action::Up,
        "history-back",
        "up",
        "earlier",
        "the line above; in the first, an earlier question",
    ),
    row(Place::Asking, Action::Down, "history-on", "down", "later", "the line below; in the last, a later question"),
    row(Place::Asking, Action::PageUp, "scroll-up", "pageup", "scroll", "scroll up, also while text comes"),
    row(Place::Asking, Action::PageDown, "scroll-down", "pagedown", "scroll", "scroll down"),
    row(Place::Asking, Action::First, "scroll-first", "ctrl+home", "first", "to the beginning"),
    row(Place::Asking, Action::Last, "scroll-last", "ctrl+end", "newest", "to the newest"),
    row(Place::Sources, Action::Up, "source-up", "up k", "up", "the source above"),
    row(Place::Sources, Action::Down, "source-down", "down j", "down", "the source below"),
    row(Place::Sources, Action::Open, "source-open", "enter", "read", "read the source"),
    row(Place::Sources, Action::CopyPassage, "source-copy", "c", "copy", "copy the passage"),
    row(Place::Sources, Action::Focus, "source-focus", "tab esc", "back", "back to the question"),
    row(Place::Reader, Action::Next, "next-source", "right n", "next", "the next source"),
    row(Place::Reader, Action::Previous, "previous-source", "left p", "previous", "the source before"),
    row(Place::Reader, Action::CopyPassage, "copy-passage", "c", "copy", "copy the passage"),
    row(Place::Inspector, Action::Next, "next-tab", "right tab", "next", "the next tab"),
    row(Place::Inspector, Action::Previous, "previous-tab", "left backtab", "previous", "the tab before"),
    row(
        Place::Inspector,
        Action::Open,
        "take-candidate",
        "enter",
        "take it",
        "ask about the selected candidate instead",
    ),
    row(Place::Sessions, Action::Delete, "delete-session", "delete d", "remove", "remove the session"),
    row(Place::Opened, Action::Up, "up", "up", "up", "up"),
    row(Place::Opened, Action::Down, "down", "down", "down", "down"),
    row(Place::Opened, Action::PageUp, "page-up", "pageup", "up", "a page up"),
    row(Place::Opened, Action::PageDown, "page-down", "pagedown", "down", "a page down"),
    row(Place::Opened, Action::First, "first", "home", "first", "to the beginning"),
    row(Place::Opened, Action::Last, "last", "end", "last", "to the end"),
    row(Place::Opened, Action::Open, "open", "enter", "open", "open what is selected"),
    row(Place::Opened, Action::Back, "back", "esc", "back", "back"),
    row(Place::Anywhere, Action::Older, "older-answer", "alt+up", "older", "to the answer before, and its sources"),
    row(Place::Anywhere, Action::Newer, "newer-answer", "alt+down", "newer", "to the answer after"),
    row(Place::Anywhere, Action::Help, "help", "f1", "help", "this"),
    row(Place::Anywhere, Action::Log, "log", "f12", "log", "the end of the log"),
    row(Place::Anywhere, Action::Suspend, "suspend", "ctrl+z", "suspend", "back to the shell; fg comes back"),
    row(Place::Anywhere, Action::Quit, "quit", "ctrl+c", "quit", "stop the answer; twice: quit"),
];

/// A key with what is held beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chord {
    code: KeyCode,
    modifiers: KeyModifiers,
}

impl Chord {
    /// What was pressed. Shift is part of a letter, not held beside it.
    #[must_use]
    pub fn of(key: KeyEvent) -> Self {
        let held = KeyModifiers::CONTROL | KeyModifiers::ALT;
        let code = match key.code {
            KeyCode::Char(c) if key.modifiers.intersects(held) => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        Self { code, modifiers: key.modifiers & held }
    }

    /// Whether it writes something.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self.code, KeyCode::Char(_)) && self.modifiers.is_empty()
    }
}

/// Keys by name, both ways.
const NAMED: [(&str, KeyCode); 15] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("space", KeyCode::Char(' ')),
];

impl FromStr for Chord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut modifiers = KeyModifiers::empty();
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("ctrl+") {
                (modifiers, rest) = (modifiers | KeyModifiers::CONTROL, after);
            } else if let Some(after) = rest.strip_prefix("alt+") {
                (modifiers, rest) = (modifiers | KeyModifiers::ALT, after);
            } else {
                break;
            }
        }
        let named = NAMED.iter().find(|(name, _)| *name == rest).map(|(_, code)| *code);
        let function =
            rest.strip_prefix('f').and_then(|n| n.parse().ok()).filter(|n| (1..=24).contains(n)).map(KeyCode::F);
        let mut chars = rest.chars();
        let single = chars.next().filter(|c| chars.next().is_none() && !c.is_control()).map(KeyCode::Char);
        let code = named.or(function).or(single);
        let code =
            code.ok_or_else(|| format!("{text:?} is no key; expected one like ctrl+o, alt+enter, pageup or f2"))?;
        Ok(Self { code, modifiers })
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modifiers.contains(KeyModifiers::CONTROL) {
            f.write_str("ctrl+")?;
        }
        if self.modifiers.contains(KeyModifiers::ALT) {
            f.write_str("alt+")?;
        }
        match (NAMED.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, KeyCode::F(n)) => write!(f, "f{n}"),
            (None, other) => write!(f, "{other}"),
        }
    }
}

/// A line of help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Help {
    /// Where it holds.
    pub place: Place,
    /// Its keys.
    pub keys: String,
    /// What they do.
    pub what: &'static str,
}

/// Which keys do what.
#[derive(Debug, Clone)]
pub struct KeyMap {
    /// Keys of each line of the table.
    keys: Vec<Vec<Chord>>,
}

impl Default for KeyMap {
    fn default() -> Self {
        let chords = |row: &Row| row.keys.split_whitespace().filter_map(|key| key.parse().ok()).collect();
        Self { keys: TABLE.iter().map(chords).collect() }
    }
}

impl KeyMap {
    /// The usual keys, but for those that `changes` names: `send = ctrl+s, copy-answer = f5 alt+y`. An action without
    /// keys has none.
    ///
    /// # Errors
    /// An action or key that does not exist; two actions of one place under one key; a key that writes, where a question
    /// is written.
    pub fn parse(changes: &str) -> Result<Self, String> {
        let mut map = Self::default();
        for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
            let (name, keys) = change.split_once('=').ok_or_else(|| format!("{change:?}: expected ACTION = KEYS"))?;
            let name = name.trim();
            let at = TABLE.iter().position(|row| row.name == name).ok_or_else(|| {
                let all: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
                format!("{name:?} is no action; expected one of {}", all.join(", "))
            })?;
            let keys: Result<Vec<Chord>, String> = keys.split_whitespace().map(str::parse).collect();
            map.keys[at] = keys.map_err(|e| format!("{name}: {e}"))?;
        }
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<(), String> {
        for (n, (row, keys)) in TABLE.iter().zip(&self.keys).enumerate() {
            for key in keys {
                if matches!(row.place, Place::Asking | Place::Anywhere) && key.writes() {
                    return Err(format!("{} cannot have {key}: it writes", row.name));
                }
                let other = TABLE.iter().zip(&self.keys).take(n).find(|(other, keys)| {
                    keys.contains(key)
                        && row.action != other.action
                        && (meet(row.place, other.place) || meet(other.place, row.place))
                });
                if let Some((other, _)) = other {
                    return Err(format!("{key} is both {} and {}; give one of them another key", other.name, row.name));
                }
            }
        }
        Ok(())
    }

    /// What a key does in a place.
    #[must_use]
    pub fn action(&self, place: Place, key: KeyEvent) -> Option<Action> {
        let chord = Chord::of(key);
        let rows = || TABLE.iter().zip(&self.keys);
        rows().find(|(row, keys)| meet(place, row.place) && keys.contains(&chord)).map(|(row, _)| row.action)
    }

    /// The first key of an action in a place, and what to call it in a hint.
    #[must_use]
    pub fn hint(&self, place: Place, action: Action) -> Option<(String, &'static str)> {
        let found = TABLE.iter().zip(&self.keys).find(|(row, _)| row.action == action && meet(place, row.place))?;
        found.1.first().map(|key| (key.to_string(), found.0.short))
    }

    /// All of it, place by place.
    pub fn help(&self) -> impl Iterator<Item = Help> + '_ {
        TABLE.iter().zip(&self.keys).filter(|(_, keys)| !keys.is_empty()).map(|(row, keys)| {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            Help { place: row.place, keys: keys.join(" "), what: row.long }
        })
    }
}

/// Whether what holds in `general` holds in `place`.
fn meet(place: Place, general: Place) -> bool {
    let opened = matches!(place, Place::Reader | Place::Inspector | Place::Sessions);
    place == general || general == Place::Anywhere || (general == Place::Opened && opened)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyEvent {
        let chord: Chord = text.parse().unwrap();
        KeyEvent::new(chord.code, chord.modifiers)
    }

    #[test]
    fn the_table_is_without_conflict_and_every_key_is_one() {
        let map = KeyMap::parse("").unwrap();
        for (row, keys) in TABLE.iter().zip(&map.keys) {
            assert_eq!(keys.len(), row.keys.split_whitespace().count(), "{}", row.name);
        }
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn a_key_does_what_its_place_says_and_then_what_holds_anywhere() {
        let map = KeyMap::default();
        assert_eq!(map.action(Place::Asking, key("enter")), Some(Action::Send));
        assert_eq!(map.action(Place::Sources, key("enter")), Some(Action::Open));
        assert_eq!(map.action(Place::Reader, key("enter")), Some(Action::Open));
        assert_eq!(map.action(Place::Reader, key("n")), Some(Action::Next));
        assert_eq!(map.action(Place::Opened, key("n")), None);
        assert_eq!(map.action(Place::Asking, key("n")), None, "it writes");
        assert_eq!(map.action(Place::Inspector, key("f1")), Some(Action::Help));
        // A terminal may say that shift is held, and send the letter as it is on the key.
        let shifted = KeyEvent::new(KeyCode::Char('O'), KeyModifiers::CONTROL | KeyModifiers::SHIFT);
        assert_eq!(map.action(Place::Asking, shifted), Some(Action::PickPicture));
    }

    #[test]
    fn keys_can_be_changed_and_hints_follow() {
        let map = KeyMap::parse("send = ctrl+enter, help =, new-line = enter f2").unwrap();
        assert_eq!(map.action(Place::Asking, key("ctrl+enter")), Some(Action::Send));
        assert_eq!(map.action(Place::Asking, key("enter")), Some(Action::NewLine));
        assert_eq!(map.action(Place::Asking, key("f1")), None);
        assert_eq!(map.hint(Place::Asking, Action::Send), Some(("ctrl+enter".to_owned(), "ask")));
        assert_eq!(map.hint(Place::Asking, Action::Help), None);
        assert!(map.help().all(|line| line.what != "this"));
        assert!(map.help().any(|line| line.keys == "enter f2"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (changes, expected) in [
            ("send", "\"send\": expected ACTION = KEYS"),
            ("sent = f2", "\"sent\" is no action; expected one of send, new-line"),
            ("send = hyper+x", "send: \"hyper+x\" is no key"),
            ("send = f25", "send: \"f25\" is no key"),
            ("send = s", "send cannot have s: it writes"),
            ("help = q", "help cannot have q: it writes"),
            ("send = esc", "esc is both send and stop; give one of them another key"),
            ("help = enter", "enter is both send and help"),
            ("next-source = up", "up is both next-source and up"),
            ("quit = ctrl+z", "ctrl+z is both suspend and quit"),
        ] {
            let error = KeyMap::parse(changes).unwrap_err();
            assert!(error.contains(expected), "{changes}: {error}");
        }
        // The reader and the sessions are never on the screen at once.
        KeyMap::parse("delete-session = n").unwrap();
    }
}
