//! The screen, taken and given back: at the end, for the time that the shell has it, and when the program breaks off.

use std::io::{self, Write, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::crossterm::cursor;
use ratatui::crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::prelude::CrosstermBackend;
use ratatui::{Frame, Terminal};

use super::stop;

/// Whether the screen is this program's now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the wheel of the mouse is listened to.
static MOUSE: AtomicBool = AtomicBool::new(false);

/// The screen, for as long as this lives.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    _errors: Errors,
}

impl Screen {
    /// Takes the screen. What this process writes to stderr goes into the file `log` until it is given back; a panic of
    /// the calling thread gives it back before it is told.
    ///
    /// # Errors
    /// The system's.
    pub fn take(log: &Path, mouse: bool) -> io::Result<Self> {
        let errors = Errors::into_file(log)?;
        MOUSE.store(mouse, Ordering::SeqCst);
        let own = std::thread::current().id();
        let before = std::panic::take_hook();
        let restore = errors.restorer();
        std::panic::set_hook(Box::new(move |info| {
            // Another thread's panic is caught where it matters, and told in the log.
            if std::thread::current().id() == own && TAKEN.load(Ordering::SeqCst) {
                give_back();
                restore();
            }
            before(info);
        }));
        let terminal = enter().and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        // What was half taken is given back.
        let terminal = terminal.inspect_err(|_| give_back())?;
        Ok(Self { terminal, _errors: errors })
    }

    /// Draws a frame, which the terminal shows whole.
    ///
    /// # Errors
    /// The system's.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        // It was given back by a panic of the thread that took it.
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        queue!(stdout(), BeginSynchronizedUpdate)?;
        let drawn = self.terminal.draw(draw).map(|_| ());
        execute!(stdout(), EndSynchronizedUpdate)?;
        drawn
    }

    /// Leaves the screen to the shell, and takes it again when the shell continues this process. False where there is no
    /// shell that would, and nothing was done.
    ///
    /// # Errors
    /// The system's.
    pub fn suspend(&mut self) -> io::Result<bool> {
        if !stop::is_continued() {
            return Ok(false);
        }
        give_back();
        let stopped = stop::now();
        enter()?;
        // A new one knows nothing of what was on the screen; to clear this one would ask the terminal for its cursor, and its
        // answer would come to who reads the keys.
        self.terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        stopped.map(|()| true)
    }

    /// Puts text into the clipboard, by the terminal (OSC 52).
    ///
    /// # Errors
    /// The system's.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        use base64::Engine;
        let coded = base64::engine::general_purpose::STANDARD.encode(text);
        write!(stdout(), "\x1b]52;c;{coded}\x07")?;
        stdout().flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide, Clear(ClearType::All))?;
    if MOUSE.load(Ordering::SeqCst) {
        execute!(stdout(), EnableMouseCapture)?;
    }
    Ok(())
}

/// Gives the screen back where it was taken, once; a terminal that has gone needs nothing.
pub fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    if MOUSE.load(Ordering::SeqCst) {
        let _ = execute!(stdout(), DisableMouseCapture);
    }
    let _ = execute!(stdout(), EndSynchronizedUpdate, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

/// Where stderr goes: libraries that write to it would write over the screen.
#[cfg(unix)]
struct Errors(Option<std::sync::Arc<std::os::fd::OwnedFd>>);

#[cfg(unix)]
impl Errors {
    fn into_file(path: &Path) -> io::Result<Self> {
        let before = rustix::io::dup(io::stderr())?;
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        rustix::stdio::dup2_stderr(file.file())?;
        Ok(Self(Some(std::sync::Arc::new(before))))
    }

    fn restorer(&self) -> impl Fn() + Send + Sync + 'static {
        let before = self.0.clone();
        move || {
            if let Some(before) = &before {
                let _ = rustix::stdio::dup2_stderr(before.as_ref());
            }
        }
    }
}

#[cfg(unix)]
impl Drop for Errors {
    fn drop(&mut self) {
        self.restorer()();
    }
}

/// Where stderr goes.
#[cfg(not(unix))]
struct Errors;

#[cfg(not(unix))]
impl Errors {
    fn into_file(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    fn restorer(&self) -> impl Fn() + Send + Sync + 'static {
        || {}
    }
}
