//! The state of the screen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::composer::Composer;
use super::event::{About, Choice, Choices, Entry, Named, Seen, Told};
use super::keymap::{Action, KeyMap, Place};
use super::session::{Head, Saved, VERSION};
use super::turn::Turn;
use crate::rag::{Candidate, Conversation, Question, QuestionImage};
use crate::retriever::Picture;

/// A picture beside the question.
#[derive(Debug, Clone)]
pub struct Chip {
    /// Its file.
    pub path: PathBuf,
    /// Its pixels; `None` while they are read.
    pub picture: Option<Picture>,
    /// What to write back if it cannot be read: the text that named it.
    pub named: Option<String>,
    /// What was looked at before, and is again if this cannot be read.
    pub before: Option<Box<Chip>>,
}

impl Chip {
    /// Its name without its folder.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(&self.path)
    }
}

/// A file's name without its folder.
#[must_use]
pub fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The engines behind the questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engines {
    /// Being opened: what is at hand, and since when.
    Loading(String, Duration),
    /// Open.
    Ready(About),
    /// Not to be had.
    Failed(Told),
}

/// What the keys go to, where nothing is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// The question.
    Question,
    /// The sources.
    Sources,
}

/// What is opened over the session.
#[derive(Debug, Clone)]
pub enum Opened {
    /// A source, whole.
    Reader {
        /// Of this turn.
        turn: u64,
        /// Which passage, from 0.
        passage: usize,
        /// First line shown.
        top: usize,
    },
    /// How an answer came to be.
    Inspector {
        /// Of this turn.
        turn: u64,
        /// What is shown of it.
        tab: Tab,
        /// The candidate selected.
        selected: usize,
        /// First line shown.
        top: usize,
    },
    /// A choice of pictures.
    Picker(Picker),
    /// What is asked: knowledge bases, then readers.
    Switcher {
        /// All of them; `None` while they are looked for.
        choices: Option<Choices>,
        /// Which is selected, readers counted on from the knowledge bases.
        selected: usize,
    },
    /// Earlier sessions.
    Sessions {
        /// Newest first; `None` while they are read.
        list: Option<Vec<Head>>,
        /// Which is selected.
        selected: usize,
    },
    /// Every key.
    Help {
        /// First line shown.
        top: usize,
    },
    /// The end of the log.
    Log {
        /// Its lines.
        lines: Vec<String>,
        /// First line shown; `None` for the last ones.
        top: Option<usize>,
    },
}

/// Parts of the inspector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tab {
    /// Articles found, with their scores.
    #[default]
    Candidates,
    /// The very prompt.
    Prompt,
    /// Where the time went.
    Times,
    /// What the retriever took in of the question.
    Gates,
}

impl Tab {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Candidates, Self::Prompt, Self::Times, Self::Gates];

    /// For its heading.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Candidates => "candidates",
            Self::Prompt => "prompt",
            Self::Times => "times",
            Self::Gates => "gates",
        }
    }

    /// The one so many places further, around the end.
    #[must_use]
    pub fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// A choice of pictures.
#[derive(Debug, Clone, Default)]
pub struct Picker {
    /// The folder.
    pub folder: PathBuf,
    /// What is in it; `None` while it is read.
    pub entries: Option<Vec<Entry>>,
    /// Why it cannot be read.
    pub failed: Option<Told>,
    /// What names must hold.
    pub filter: String,
    /// Which of those that do is selected.
    pub selected: usize,
    /// The picture selected, once it is read.
    pub preview: Option<(PathBuf, Result<Picture, Told>)>,
}

impl Picker {
    /// What the filter lets through.
    #[must_use]
    pub fn shown(&self) -> Vec<&Entry> {
        let wanted = self.filter.to_lowercase();
        let fits = |entry: &&Entry| entry.name.to_lowercase().contains(&wanted);
        self.entries.iter().flatten().filter(fits).collect()
    }

    /// What is selected.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.shown().get(self.selected).copied()
    }
}

impl Choices {
    /// What stands at a place: whether it is a knowledge base, and its name.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<(bool, &Named)> {
        let base = self.bases.get(place).map(|base| (true, base));
        base.or_else(|| self.readers.get(place.checked_sub(self.bases.len())?).map(|reader| (false, reader)))
    }
}

/// A line about what happened, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub told: Told,
    /// Whether something went wrong.
    pub bad: bool,
    /// Until when.
    pub until: Duration,
}

/// Where the answers are scrolled to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scroll {
    /// First line shown; `None` follows the newest.
    pub top: Option<usize>,
    /// Lines there were when the newest was left.
    pub left_at: usize,
    /// The turn to be shown from its first line on, once it is known which that is.
    pub to: Option<u64>,
}

/// What does not change while the program runs.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Keys.
    pub keys: KeyMap,
    /// Seconds since 1970 when the clock of events stood at zero.
    pub epoch_unix_s: u64,
    /// Number of this process, so that two of one second keep different sessions.
    pub process: u32,
    /// Where the picker begins.
    pub folder: PathBuf,
    /// Where the log is, for help.
    pub log: PathBuf,
    /// Questions of earlier runs, oldest first.
    pub asked: Vec<String>,
    /// A line for an empty session: what can be asked.
    pub welcome: String,
    /// A picture to begin with.
    pub example: Option<PathBuf>,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct App {
    /// What does not change.
    pub setup: Setup,
    /// The session's clock.
    pub now: Duration,
    /// What answers.
    pub engines: Engines,
    /// Which of them was chosen, where it is not what is configured.
    pub choice: Choice,
    /// The knowledge base that is asked, or was last.
    pub kb: String,
    /// What was asked.
    pub turns: Vec<Turn>,
    /// What a further question goes on from.
    pub conversation: Conversation,
    /// The same before the last question: for asking it again.
    pub before: Conversation,
    /// The turn that is being answered.
    pub running: Option<u64>,
    /// Its question, where it waits for the engines.
    pub waiting: Option<Box<Question>>,
    /// Whether the question is to be asked as soon as its picture is read.
    pub send_then: bool,
    /// The question that is being written.
    pub composer: Composer,
    /// Its picture.
    pub chip: Option<Chip>,
    /// What the keys go to.
    pub focus: Focus,
    /// Where pictures are picked.
    pub folder: PathBuf,
    /// Which source is selected, from 0.
    pub source: usize,
    /// The turn that was gone back to; `None` for the newest.
    pub looked_at: Option<u64>,
    /// What is opened over the session.
    pub opened: Option<Opened>,
    /// Where the answers are scrolled to.
    pub scroll: Scroll,
    /// What the last frame held.
    pub seen: Seen,
    /// A line about what happened.
    pub notice: Option<Notice>,
    /// Until when a second press of the key that quits does.
    pub quitting: Option<Duration>,
    /// How many turns and what draft a session had that was gone on with.
    pub came: Option<(usize, String)>,
    /// The session's name.
    pub id: String,
    /// When it began, seconds since 1970.
    pub began_unix_s: u64,
    pub(super) next_turn: u64,
    pub(super) next_session: u64,
}

impl App {
    /// An empty session.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            now: Duration::ZERO,
            engines: Engines::Loading("loading".to_owned(), Duration::ZERO),
            choice: Choice::default(),
            kb: String::new(),
            turns: Vec::new(),
            conversation: Conversation::default(),
            before: Conversation::default(),
            running: None,
            waiting: None,
            send_then: false,
            composer: Composer::new(setup.asked.clone()),
            chip: None,
            focus: Focus::Question,
            folder: setup.folder.clone(),
            source: 0,
            looked_at: None,
            opened: None,
            scroll: Scroll::default(),
            seen: Seen::default(),
            notice: None,
            quitting: None,
            came: None,
            id: session_id(setup.epoch_unix_s, setup.process, 0),
            began_unix_s: setup.epoch_unix_s,
            next_turn: 1,
            next_session: 1,
            setup,
        }
    }

    /// Where a key is pressed.
    #[must_use]
    pub fn place(&self) -> Place {
        match (&self.opened, self.focus) {
            (Some(Opened::Reader { .. }), _) => Place::Reader,
            (Some(Opened::Inspector { .. }), _) => Place::Inspector,
            (Some(Opened::Sessions { .. }), _) => Place::Sessions,
            (Some(_), _) => Place::Opened,
            (None, Focus::Question) => Place::Asking,
            (None, Focus::Sources) => Place::Sources,
        }
    }

    /// Hints for where the keys go now: what may be done next, most useful first, and what leads on or back at the end.
    #[must_use]
    pub fn hints(&self) -> Vec<(String, &'static str)> {
        let place = self.place();
        let actions: &[Action] = match place {
            Place::Asking if self.looked_at.is_some() => &[
                Action::Older,
                Action::Newer,
                Action::Focus,
                Action::Inspect,
                Action::CopyAnswer,
                Action::CopyWithSources,
                Action::Help,
            ],
            Place::Asking if self.running.is_some() => {
                &[Action::Stop, Action::PageUp, Action::Focus, Action::Quit, Action::Help]
            }
            Place::Asking if self.turns.is_empty() => {
                &[Action::Send, Action::PickPicture, Action::Sessions, Action::Quit, Action::Help]
            }
            Place::Asking => &[
                Action::Send,
                Action::Focus,
                Action::OtherEntity,
                Action::Inspect,
                Action::PickPicture,
                Action::CopyAnswer,
                Action::Switch,
                Action::Older,
                Action::Help,
            ],
            Place::Sources => &[Action::Open, Action::CopyPassage, Action::Focus, Action::Help],
            Place::Reader => &[Action::Next, Action::Previous, Action::CopyPassage, Action::Back],
            Place::Inspector => &[Action::Next, Action::Open, Action::Back],
            Place::Sessions => &[Action::Open, Action::Delete, Action::Back],
            Place::Opened | Place::Anywhere => &[Action::Open, Action::Back],
        };
        let useful = |action: &&Action| match self.opened {
            _ if **action == Action::Older => self.turns.len() > 1,
            _ if **action == Action::Newer => self.looked_at.is_some(),
            Some(Opened::Help { .. } | Opened::Log { .. }) => **action != Action::Open,
            Some(Opened::Inspector { tab, .. }) => **action != Action::Open || tab == Tab::Candidates,
            _ => true,
        };
        actions.iter().filter(useful).filter_map(|action| self.setup.keys.hint(place, *action)).collect()
    }

    /// The turn of this number.
    #[must_use]
    pub fn turn(&self, id: u64) -> Option<&Turn> {
        self.turns.iter().find(|turn| turn.id == id)
    }

    /// Articles that were found for a turn: a follow-up goes on with those that were found for the question before it, about
    /// the same picture.
    #[must_use]
    pub fn candidates(&self, turn: &Turn) -> &[Candidate] {
        let before = self.turns.iter().rev().skip_while(|other| other.id != turn.id);
        let same = before.take_while(|other| other.picture == turn.picture);
        same.map(Turn::candidates).find(|candidates| !candidates.is_empty()).unwrap_or_default()
    }

    /// The turn that is looked at: the one that was gone back to, or the newest.
    #[must_use]
    pub fn looked_at(&self) -> Option<&Turn> {
        self.looked_at.and_then(|id| self.turn(id)).or_else(|| self.turns.last())
    }

    /// The turn whose sources are shown: the one that was gone back to, or the newest that has some.
    #[must_use]
    pub fn sourced(&self) -> Option<&Turn> {
        let chosen = self.looked_at.and_then(|id| self.turn(id));
        chosen.or_else(|| self.turns.iter().rev().find(|turn| !turn.passages().is_empty()))
    }

    /// What reads, if anything does.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        match &self.engines {
            Engines::Ready(about) => Some(about),
            _ => None,
        }
    }

    /// The picture of a question, as the pipeline takes it.
    #[must_use]
    pub fn image(&self) -> Option<QuestionImage> {
        self.chip.as_ref()?.picture.clone().map(QuestionImage::Decoded)
    }

    /// The picture that questions are about: while another is read, the one before.
    #[must_use]
    pub fn looked_at_picture(&self) -> Option<&Chip> {
        let chip = self.chip.as_ref()?;
        if chip.picture.is_some() { Some(chip) } else { chip.before.as_deref() }
    }

    /// Whether something on the screen moves by itself.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.running.is_some()
            || self.notice.is_some()
            || self.quitting.is_some()
            || matches!(self.engines, Engines::Loading(..))
            || self.chip.as_ref().is_some_and(|chip| chip.picture.is_none())
    }

    /// The session as it is kept.
    #[must_use]
    pub fn saved(&self) -> Saved {
        Saved {
            version: VERSION,
            id: self.id.clone(),
            began_unix_s: self.began_unix_s,
            kb: self.kb.clone(),
            picture: self.looked_at_picture().map(|chip| chip.path.clone()),
            draft: self.composer.text(),
            turns: self.turns.clone(),
        }
    }
}

/// Name of a session: when the program began, which process it was, and which of its sessions.
pub(super) fn session_id(when: impl std::fmt::Display, process: u32, number: u64) -> String {
    format!("{when}-{process}{number:03}")
}
