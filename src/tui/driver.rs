//! The loop: events in, effects out, a frame when something changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ratatui::crossterm::event::{self as terminal_event, KeyEventKind, MouseEventKind};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::app::{App, Setup};
use super::event::{About, Choice, Choices, Effect, Entry, Event, Told};
use super::gallery::{Done, Gallery, Means};
use super::keymap::KeyMap;
use super::pasted::at_home;
use super::stop;
use super::store::{self, Order, Store};
use super::terminal::Screen;
use super::view::theme::Theme;
use super::view::{self, Kept};
use crate::io::pictures::is_picture;
use crate::rag::{Pipeline, Question};
use crate::retriever::{Item, Picture, PictureLimits};
use crate::text::sanitise;

/// Least time between two frames.
const FRAME: Duration = Duration::from_millis(16);

/// Time between two steps of what moves by itself.
const STEP: Duration = Duration::from_millis(100);

/// Events that are taken in before a frame is drawn.
const AT_ONCE: usize = 512;

/// Most that a terminal takes into its clipboard, bytes: xterm's limit is 100,000 of base64.
const CLIPBOARD: usize = 70_000;

/// Lines of the log that are shown.
const LOGGED: usize = 500;

/// Bytes of the log that are read.
const LOG_TAIL: u64 = 256 << 10;

/// Entries of a folder that are listed.
const MOST_ENTRIES: usize = 5000;

/// What answers, opened.
pub struct Opened {
    /// It.
    pub pipeline: Pipeline,
    /// What is told of it.
    pub about: About,
}

/// Opens what answers. Called on threads of their own.
pub trait Engines: Send + Sync {
    /// Opens what is chosen in place of what it opened before. `tell` hears what it is at, and says whether that is still
    /// wanted: where it is not, anything may be returned.
    ///
    /// # Errors
    /// What is missing or does not fit.
    fn open(&self, choice: &Choice, tell: &dyn Fn(String) -> bool) -> Result<Opened, Told>;

    /// What can be chosen.
    ///
    /// # Errors
    /// The system's.
    fn choices(&self) -> Result<Choices, Told>;
}

/// What the terminal UI is started with.
pub struct Ui {
    /// Keys.
    pub keys: KeyMap,
    /// Colours.
    pub theme: Theme,
    /// How pictures are shown, if they are.
    pub means: Option<Means>,
    /// Whether the wheel of the mouse scrolls.
    pub mouse: bool,
    /// Bounds of pictures.
    pub limits: PictureLimits,
    /// Folder of the sessions.
    pub sessions: PathBuf,
    /// File of the log.
    pub log: PathBuf,
    /// What an empty session says.
    pub welcome: String,
    /// A picture to try.
    pub example: Option<PathBuf>,
    /// A picture to begin with.
    pub picture: Option<PathBuf>,
    /// Opens what answers.
    pub engines: Arc<dyn Engines>,
    /// Whether the program is to panic when something is asked: a trial of what the terminal looks like afterwards.
    pub panic: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By a key.
    Quit,
    /// By a signal.
    Terminated,
}

/// What comes to the loop.
enum Message {
    Event(Event),
    Terminal(terminal_event::Event),
    Painted(Done),
    /// Of the order of this number.
    Loading(u64, String),
    /// Of the order of this number.
    Opened(u64, Box<Result<Opened, Told>>),
    Suspend,
    Gone,
}

/// Runs until the end. Must be called outside of the runtime of `handle`.
///
/// # Errors
/// The terminal's.
pub fn run(ui: Ui, handle: &Handle) -> std::io::Result<Ended> {
    let Ui { keys, theme, means, mouse, limits, sessions, log, welcome, example, picture, engines, panic } = ui;
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let epoch_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let asked = store::asked(&sessions);
    let process = std::process::id();
    let setup = Setup { keys, epoch_unix_s, process, folder: cwd.clone(), log: log.clone(), asked, welcome, example };
    let (to_loop, messages) = channel();
    let tell = |to_loop: &Sender<Message>| {
        let to_loop = to_loop.clone();
        move |event| drop(to_loop.send(Message::Event(event)))
    };
    let painted = to_loop.clone();
    let gallery = Gallery::new(means, limits, move |done| drop(painted.send(Message::Painted(done))));
    let screen = Screen::take(&log, mouse)?;
    listen(&to_loop, handle);
    let mut driver = Driver {
        app: App::new(setup),
        clock: Instant::now(),
        theme,
        gallery,
        kept: Kept::default(),
        screen,
        store: Store::start(sessions, tell(&to_loop)),
        handle: handle.clone(),
        engines,
        opened: 0,
        newest: Arc::default(),
        pipeline: None,
        asking: None,
        to_loop,
        cwd,
        log,
        limits,
        ended: None,
        panic,
    };
    driver.open(Choice::default())?;
    for effect in picture.map_or_else(Vec::new, |path| driver.app.look_at(path, None)) {
        driver.carry_out(effect)?;
    }
    driver.run(&messages)
}

/// Starts what listens to keys and signals.
fn listen(to_loop: &Sender<Message>, handle: &Handle) {
    let keys = to_loop.clone();
    let reader = std::thread::Builder::new().name("keys".into());
    let _ = reader.spawn(move || {
        while let Ok(event) = terminal_event::read() {
            if keys.send(Message::Terminal(event)).is_err() {
                return;
            }
        }
        // The terminal has gone.
        drop(keys.send(Message::Gone));
    });
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind: SignalKind, message: fn() -> Message| {
            let to_loop = to_loop.clone();
            handle.spawn(async move {
                let Ok(mut signals) = signal(kind) else { return };
                while signals.recv().await.is_some() {
                    if to_loop.send(message()).is_err() {
                        return;
                    }
                }
            });
        };
        on(SignalKind::terminate(), || Message::Event(Event::Terminated));
        on(SignalKind::hangup(), || Message::Event(Event::Terminated));
        on(SignalKind::interrupt(), || Message::Event(Event::Terminated));
    }
    let to_loop = to_loop.clone();
    handle.spawn(stop::on_signal(move || to_loop.send(Message::Suspend).is_ok()));
}

struct Driver {
    app: App,
    clock: Instant,
    theme: Theme,
    gallery: Gallery,
    kept: Kept,
    screen: Screen,
    store: Store,
    handle: Handle,
    engines: Arc<dyn Engines>,
    /// Orders to open something: what comes of any but the last is not wanted any more.
    opened: u64,
    /// The same, for those who open.
    newest: Arc<AtomicU64>,
    pipeline: Option<Pipeline>,
    /// The task that hands on what happens to the question at hand.
    asking: Option<JoinHandle<()>>,
    to_loop: Sender<Message>,
    cwd: PathBuf,
    log: PathBuf,
    limits: PictureLimits,
    ended: Option<Ended>,
    panic: bool,
}

impl Driver {
    fn run(mut self, messages: &Receiver<Message>) -> std::io::Result<Ended> {
        let mut due = Instant::now();
        let mut dirty = true;
        loop {
            let now = Instant::now();
            if dirty && now >= due {
                self.draw()?;
                (dirty, due) = (false, Instant::now() + FRAME);
            }
            let wait = if dirty {
                due.saturating_duration_since(Instant::now())
            } else if self.app.moves() {
                STEP
            } else {
                Duration::MAX
            };
            let first = match wait {
                Duration::MAX => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                wait => messages.recv_timeout(wait),
            };
            match first {
                Ok(message) => {
                    self.take(message)?;
                    for _ in 0..AT_ONCE {
                        match messages.try_recv() {
                            Ok(message) => self.take(message)?,
                            Err(_) => break,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.happened(Event::Tick)?,
                Err(RecvTimeoutError::Disconnected) => self.ended = Some(Ended::Terminated),
            }
            dirty = true;
            if let Some(ended) = self.ended {
                return Ok(ended);
            }
        }
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let Self { app, theme, gallery, kept, screen, .. } = self;
        let mut painted = view::Painted::default();
        screen.draw(|frame| painted = view::draw(frame, app, *theme, gallery, kept))?;
        for wish in painted.wishes {
            self.gallery.wish(wish);
        }
        self.happened(Event::Seen(painted.seen))
    }

    fn take(&mut self, message: Message) -> std::io::Result<()> {
        match message {
            Message::Event(Event::Terminated) => {
                self.ended = Some(Ended::Terminated);
                self.happened(Event::Terminated)
            }
            Message::Event(event) => {
                if let Event::Picture { path, .. } = &event {
                    self.gallery.forget(path);
                }
                self.happened(event)
            }
            Message::Loading(number, _) if number != self.opened => Ok(()),
            Message::Loading(_, what) => self.happened(Event::Loading(what)),
            Message::Painted(done) => {
                self.gallery.take(done);
                Ok(())
            }
            Message::Opened(number, _) if number != self.opened => Ok(()),
            Message::Opened(_, opened) => match *opened {
                Ok(Opened { pipeline, about }) => {
                    self.pipeline = Some(pipeline);
                    self.happened(Event::Ready(about))
                }
                Err(told) => self.happened(Event::Unready(told)),
            },
            Message::Suspend => self.carry_out(Effect::Suspend),
            Message::Gone => {
                self.ended = Some(Ended::Terminated);
                self.happened(Event::Terminated)
            }
            Message::Terminal(event) => match event {
                terminal_event::Event::Key(key) if key.kind != KeyEventKind::Release => self.happened(Event::Key(key)),
                terminal_event::Event::Paste(text) => self.happened(Event::Paste(text)),
                terminal_event::Event::Mouse(mouse) => match mouse.kind {
                    MouseEventKind::ScrollUp => self.happened(Event::Wheel(-1)),
                    MouseEventKind::ScrollDown => self.happened(Event::Wheel(1)),
                    _ => Ok(()),
                },
                // A new size is seen by the next frame.
                _ => Ok(()),
            },
        }
    }

    fn happened(&mut self, event: Event) -> std::io::Result<()> {
        for effect in self.app.update(event, self.clock.elapsed()) {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> std::io::Result<()> {
        match effect {
            Effect::Ask { turn, question } => {
                #[allow(clippy::panic)]
                if self.panic {
                    panic!("as it was asked to");
                }
                self.ask(turn, *question);
            }
            Effect::Stop => {
                if let Some(asking) = self.asking.take() {
                    // The receiver goes with the task, and the work with the receiver.
                    asking.abort();
                }
            }
            Effect::Open(choice) => self.open(choice)?,
            Effect::ListChoices => {
                let engines = Arc::clone(&self.engines);
                self.beside(move || Event::Choices(engines.choices()));
            }
            Effect::Gates { turn, text, picture } => {
                let Some(pipeline) = self.pipeline.clone() else { return Ok(()) };
                let (file, limits) = (picture.map(|path| self.found(&path)), self.limits);
                self.beside(move || {
                    let gates = || {
                        let image = file.map(|file| Picture::open(&file, &limits).map_err(Told::new)).transpose()?;
                        pipeline.parts().encoder.gates(Item { text: Some(text), image }).map_err(Told::new)
                    };
                    Event::Gates { turn, result: gates() }
                });
            }
            Effect::OpenPicture(path) => {
                let (file, limits) = (self.found(&path), self.limits);
                self.beside(move || {
                    let result = Picture::open(&file, &limits).map_err(Told::new);
                    Event::Picture { path, result }
                });
            }
            Effect::List(folder) => self.beside(move || {
                let result = entries(&folder).map_err(Told::new);
                Event::Listed { folder, result }
            }),
            Effect::Copy(text) if text.len() > CLIPBOARD => {
                self.happened(Event::Failed(Told::new("too long for the terminal's clipboard")))?;
            }
            Effect::Copy(text) => self.screen.copy(&sanitise(&text))?,
            Effect::Keep(saved) => self.store.order(Order::Keep(saved)),
            Effect::Remember(question) => self.store.order(Order::Remember(question)),
            Effect::Export(saved, form) => self.store.order(Order::Export(saved, form, self.cwd.clone())),
            Effect::ListSessions => self.store.order(Order::List),
            Effect::Resume(id) => self.store.order(Order::Resume(id)),
            Effect::Forget(id) => self.store.order(Order::Forget(id)),
            Effect::ReadLog => {
                let log = self.log.clone();
                self.beside(move || Event::Logged(tail(&log)));
            }
            Effect::Suspend => {
                if !self.screen.suspend()? {
                    self.happened(Event::Failed(Told::new(stop::NO_SHELL)))?;
                }
            }
            Effect::Quit => self.ended = Some(self.ended.unwrap_or(Ended::Quit)),
        }
        Ok(())
    }

    /// Opens what is chosen, on a thread of its own.
    fn open(&mut self, choice: Choice) -> std::io::Result<()> {
        self.opened += 1;
        self.newest.store(self.opened, Ordering::SeqCst);
        self.pipeline = None;
        let newest = Arc::clone(&self.newest);
        let (number, engines, to_loop) = (self.opened, Arc::clone(&self.engines), self.to_loop.clone());
        let loader = std::thread::Builder::new().name("loader".into());
        loader.spawn(move || {
            let tell = |what| {
                drop(to_loop.send(Message::Loading(number, what)));
                newest.load(Ordering::SeqCst) == number
            };
            let opened = engines.open(&choice, &tell);
            drop(to_loop.send(Message::Opened(number, Box::new(opened))));
        })?;
        Ok(())
    }

    fn ask(&mut self, turn: u64, question: Question) {
        let Some(pipeline) = self.pipeline.clone() else { return };
        let to_loop = self.to_loop.clone();
        self.asking = Some(self.handle.spawn(async move {
            let mut events = pipeline.ask(question);
            while let Some(event) = events.recv().await {
                let message = Message::Event(Event::Rag { turn, event: Some(Box::new(event)) });
                if to_loop.send(message).is_err() {
                    return;
                }
            }
            drop(to_loop.send(Message::Event(Event::Rag { turn, event: None })));
        }));
    }

    /// Does something that may take a while, and tells what came of it.
    fn beside(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let to_loop = self.to_loop.clone();
        self.handle.spawn_blocking(move || drop(to_loop.send(Message::Event(work()))));
    }

    /// A path as it was written, from where the program was started.
    fn found(&self, path: &Path) -> PathBuf {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        self.cwd.join(at_home(path.to_owned(), home.as_deref()))
    }
}

/// Folders and pictures of a folder, folders first, by name.
fn entries(folder: &Path) -> std::io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in fs_err::read_dir(folder)?.take(MOST_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is linked to counts as what it is.
        let folder = entry.path().is_dir();
        if !name.starts_with('.') && (folder || is_picture(&name)) {
            all.push(Entry { name, folder });
        }
    }
    all.sort_by(|a, b| b.folder.cmp(&a.folder).then_with(|| a.name.cmp(&b.name)));
    Ok(all)
}

/// The last lines of a file.
fn tail(path: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = fs_err::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|e| e.to_string());
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LOGGED)..].to_vec()
}
