//! What can happen, and what can be asked of the driver.

use std::path::PathBuf;

use ratatui::crossterm::event::KeyEvent;

use super::session::{Form, Head, Saved};
use crate::rag::{self, Question};
use crate::retriever::Picture;

/// A failure, as a person is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Told {
    /// A failure without a hint.
    #[must_use]
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None }
    }
}

/// What answers, once it is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Name of the knowledge base.
    pub kb: String,
    /// Its articles.
    pub articles: u64,
    /// What reads; `None` where passages are all there is.
    pub reader: Option<String>,
    /// Whether that looks at the picture itself.
    pub sees_pictures: bool,
    /// Folder of the articles' pictures.
    pub pictures: PathBuf,
}

/// What can be asked instead: the names of knowledge bases and readers that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Knowledge bases.
    pub bases: Vec<Named>,
    /// Readers.
    pub readers: Vec<Named>,
    /// Memory that this process holds, bytes, where the system tells.
    pub memory: Option<u64>,
}

/// Something to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What is told of it.
    pub what: String,
}

/// What is asked: by name, where it is not what is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The knowledge base.
    pub kb: Option<String>,
    /// The reader.
    pub reader: Option<String>,
}

/// A line of the picture picker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Whether it is a folder itself.
    pub folder: bool,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The wheel was turned, by so many lines; upwards where negative.
    Wheel(i32),
    /// Time has passed: what moves is to move on.
    Tick,
    /// What was on the screen.
    Seen(Seen),
    /// The engines are being opened: what is at hand.
    Loading(String),
    /// They are open.
    Ready(About),
    /// They cannot be opened.
    Unready(Told),
    /// A step towards the answer of a turn.
    Rag {
        /// The turn.
        turn: u64,
        /// The step; `None` where there is none any more, and no end has come.
        event: Option<Box<rag::Event>>,
    },
    /// A picture was read, or not.
    Picture {
        /// Its file.
        path: PathBuf,
        /// Its pixels.
        result: Result<Picture, Told>,
    },
    /// A folder was read, or not.
    Listed {
        /// The folder.
        folder: PathBuf,
        /// What of it can be opened, by name.
        result: Result<Vec<Entry>, Told>,
    },
    /// What the retriever took in of the question of a turn.
    Gates {
        /// The turn.
        turn: u64,
        /// Step by step.
        result: Result<Vec<rag::Gate>, Told>,
    },
    /// What can be asked instead.
    Choices(Result<Choices, Told>),
    /// The sessions that are kept, newest first.
    Sessions(Result<Vec<Head>, Told>),
    /// Another program wrote into a session that is open here: this one goes on under another name.
    Parted {
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
    },
    /// A session to go on with.
    Resumed(Result<Box<Saved>, Told>),
    /// A session was written into a file.
    Exported(Result<PathBuf, Told>),
    /// The end of the log.
    Logged(Vec<String>),
    /// Something that is done in the background failed.
    Failed(Told),
    /// The program is asked to end.
    Terminated,
}

/// What the last frame held, for what moves by pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Lines of the scrolled part.
    pub lines: usize,
    /// Of these, how many are on the screen at once.
    pub height: usize,
    /// Where each turn begins among them, where they are the session's.
    pub turns: Vec<(u64, usize)>,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask.
    Ask {
        /// For this turn.
        turn: u64,
        /// The question.
        question: Box<Question>,
    },
    /// Stop answering.
    Stop,
    /// Look what the retriever takes in of a question.
    Gates {
        /// Of this turn.
        turn: u64,
        /// Its text.
        text: String,
        /// Its picture.
        picture: Option<PathBuf>,
    },
    /// See what can be asked instead.
    ListChoices,
    /// Open other engines in place of those that are open.
    Open(Choice),
    /// Read a picture.
    OpenPicture(PathBuf),
    /// Read a folder.
    List(PathBuf),
    /// Put into the clipboard.
    Copy(String),
    /// Keep the session as it is now.
    Keep(Box<Saved>),
    /// Remember a question.
    Remember(String),
    /// Write the session into a file.
    Export(Box<Saved>, Form),
    /// List the sessions that are kept.
    ListSessions,
    /// Read a session.
    Resume(String),
    /// Remove a session.
    Forget(String),
    /// Read the end of the log.
    ReadLog,
    /// Stop the program until the shell continues it.
    Suspend,
    /// End.
    Quit,
}
