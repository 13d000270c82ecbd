//! What a terminal can show: by the environment, and by asking it.

use std::io::{IsTerminal, Write};
use std::sync::mpsc;
use std::time::Duration;

use ratatui::crossterm::terminal;
use ratatui_image::picker::cap_parser::QueryStdioOptions;
use ratatui_image::picker::{Picker, ProtocolType};

use super::drawing::Depth;
use crate::cli::args::ThumbnailChoice;
use crate::cli::failure::{Exit, Failure};
use crate::cli::interrupt;

/// How long a terminal may take to answer; a distant one is reached within it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Largest cell that is believed, pixels; what a terminal answers decides how much memory a thumbnail takes.
const LARGEST_CELL: u16 = 256;

/// What is known without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Width of the screen, or what to take for it.
    pub columns: u16,
    /// Height of the screen; the largest number where there is none.
    pub rows: u16,
    /// Whether stdout is a terminal.
    output: bool,
    /// Whether stdin is a terminal that this process may read from.
    input: bool,
    /// `TERM`
    term: String,
    /// `COLORTERM`
    colorterm: String,
    /// Whether `NO_COLOR` is set.
    no_color: bool,
    /// A program between this one and the terminal that has a screen and a history of its own.
    multiplexer: Option<Multiplexer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Multiplexer {
    Tmux,
    Screen,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Print text alone.
    Text,
    /// Draw with half blocks.
    HalfBlocks(Depth),
    /// Ask the terminal for something better, and do otherwise where there is nothing.
    Ask {
        /// Half blocks in these colours, or text alone.
        otherwise: Option<Depth>,
    },
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let output = std::io::stdout().is_terminal();
        let size = if output { terminal::size().ok() } else { None };
        let (columns, rows) = size.unwrap_or_else(|| {
            let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok());
            (columns.unwrap_or(80), u16::MAX)
        });
        let term = variable("TERM").unwrap_or_default();
        let multiplexer = if variable("TMUX").is_some() || term.starts_with("tmux") {
            Some(Multiplexer::Tmux)
        } else if variable("STY").is_some() || term.starts_with("screen") {
            Some(Multiplexer::Screen)
        } else {
            None
        };
        Self {
            columns,
            rows,
            output,
            input: std::io::stdin().is_terminal() && modes::in_foreground(),
            term,
            colorterm: variable("COLORTERM").unwrap_or_default(),
            no_color: variable("NO_COLOR").is_some(),
            multiplexer,
        }
    }

    /// How thumbnails are drawn here, if they are.
    pub fn plan(&self, choice: ThumbnailChoice) -> Plan {
        let fit = self.output && !self.no_color && self.term != "dumb";
        let otherwise = match choice {
            ThumbnailChoice::Never => return Plan::Text,
            ThumbnailChoice::Auto if !fit => return Plan::Text,
            ThumbnailChoice::Auto => self.depth(),
            ThumbnailChoice::Always => Some(self.depth().unwrap_or(Depth::True)),
        };
        // What a multiplexer hands through to its terminal is missing from its own screen and history, and the query
        // would change the settings of its pane.
        if self.output && self.input && self.term != "dumb" && self.multiplexer.is_none() {
            return Plan::Ask { otherwise };
        }
        otherwise.map_or(Plan::Text, Plan::HalfBlocks)
    }

    /// Colours by the usual variables; `None` for too few.
    fn depth(&self) -> Option<Depth> {
        // Terminals that do not say so by a second variable, which a remote shell would not have.
        let by_name = ["-direct", "alacritty", "foot", "ghostty", "kitty", "wezterm"];
        let full = matches!(self.colorterm.as_str(), "truecolor" | "24bit")
            || by_name.iter().any(|name| self.term.contains(name));
        // Screen takes the variable of the shell that it was started from, and only 256 colours.
        if full && self.multiplexer != Some(Multiplexer::Screen) {
            Some(Depth::True)
        } else if full || self.term.contains("256color") {
            Some(Depth::Indexed)
        } else {
            None
        }
    }
}

/// Asks the terminal for a protocol that shows pixels; `None` where it knows none, or does not answer.
///
/// # Errors
/// [`Failure`] with exit code 130 for a Ctrl-C meanwhile.
pub fn ask() -> anyhow::Result<Option<Picker>> {
    // The program does not end before the terminal is as it was.
    let guard = interrupt::guard();
    let answer = {
        let _modes = modes::Modes::now();
        modes::answer(PATIENCE)
    };
    let picker = answer.and_then(|answer| query(&answer));
    // A terminal that does not know a question may have printed it.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(b"\r\x1b[K").and_then(|()| out.flush());
    if guard.is_asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
    }
    Ok(picker.filter(shows_pixels))
}

/// Asks on, a terminal that said this of itself.
fn query(told: &[u8]) -> Option<Picker> {
    let _modes = modes::Modes::now();
    let (sender, answer) = mpsc::channel();
    let blacklist_protocols = unbelieved(told);
    let options = QueryStdioOptions { timeout: PATIENCE, blacklist_protocols, ..QueryStdioOptions::default() };
    let asking = std::thread::Builder::new().name("terminal".into()).spawn(move || {
        // Nobody waits any more for one that comes too late.
        let _ = sender.send(Picker::from_query_stdio_with_options(options));
    });
    // Its own time starts again with each key that is pressed, and without an answer it goes on reading: so in a thread,
    // and no longer than this.
    asking.ok().and_then(|_| answer.recv_timeout(PATIENCE * 2).ok()?.ok())
}

/// Protocols that a terminal of this name and version (XTVERSION: `ESC P > | NAME ESC \\`) answers for and does not show:
/// by kitty's, pictures stand for characters of their own, which kitty has since 0.28.0, and others have not at all; these
/// are no better at sixel.
fn unbelieved(told: &[u8]) -> Vec<ProtocolType> {
    let told = String::from_utf8_lossy(told);
    let Some((_, name)) = told.split_once("\x1bP>|") else { return Vec::new() };
    let old = |version: &str| {
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
        matches!((numbers.next().flatten(), numbers.next().flatten()), (Some(0), Some(0..28)))
    };
    if name.strip_prefix("kitty(").is_some_and(old) {
        vec![ProtocolType::Kitty]
    } else if name.starts_with("Konsole") || name.starts_with("WezTerm") {
        vec![ProtocolType::Kitty, ProtocolType::Sixel]
    } else {
        Vec::new()
    }
}

fn shows_pixels(picker: &Picker) -> bool {
    let font = picker.font_size();
    let believed = |side| (1..=LARGEST_CELL).contains(&side);
    picker.protocol_type() != ProtocolType::Halfblocks && believed(font.width) && believed(font.height)
}

/// The terminal's modes, which a query changes.
#[cfg(unix)]
mod modes {
    use std::io::{Write, stdin, stdout};
    use std::time::{Duration, Instant};

    use rustix::process::getpgrp;
    use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};

    /// Whether this process may change the modes; one in the background would be stopped.
    pub fn in_foreground() -> bool {
        tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// What the terminal answers to a question for its name, and to one that every terminal knows, for its attributes; `None`
    /// where the latter is not answered. Who reads on for an answer that does not come would take what is typed later, and
    /// change the modes again.
    pub fn answer(patience: Duration) -> Option<Vec<u8>> {
        let mut modes = tcgetattr(stdin()).ok()?;
        modes.make_raw();
        // A read ends after a tenth of a second without a byte.
        modes.special_codes[SpecialCodeIndex::VMIN] = 0;
        modes.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(stdin(), OptionalActions::Now, &modes).ok()?;
        let asked = stdout().write_all(b"\x1b[>q\x1b[c").and_then(|()| stdout().flush());
        let (begin, mut answer) = (Instant::now(), Vec::new());
        let answered = |answer: &[u8]| {
            let begins = answer.windows(2).position(|two| two == b"\x1b[");
            begins.is_some_and(|at| answer[at..].contains(&b'c'))
        };
        while asked.is_ok() && !answered(&answer) && begin.elapsed() < patience {
            let mut bytes = [0; 64];
            match rustix::io::read(stdin(), &mut bytes) {
                Ok(n) => answer.extend_from_slice(&bytes[..n]),
                Err(_) => break,
            }
        }
        answered(&answer).then_some(answer)
    }

    /// Modes to go back to. A query that gets no answer leaves the terminal without echo.
    pub struct Modes(Option<Termios>);

    impl Modes {
        /// Those of now.
        pub fn now() -> Self {
            Self(tcgetattr(stdin()).ok())
        }
    }

    impl Drop for Modes {
        fn drop(&mut self) {
            if let Some(modes) = &self.0 {
                // A terminal that has gone needs no modes.
                let _ = tcsetattr(stdin(), OptionalActions::Now, modes);
            }
        }
    }
}

/// The terminal's modes, which a query changes and puts back by itself.
#[cfg(not(unix))]
mod modes {
    /// Whether this process may change the modes.
    pub fn in_foreground() -> bool {
        true
    }

    /// Taken for granted.
    pub fn answer(_: std::time::Duration) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    /// Nothing to go back to.
    pub struct Modes;

    impl Modes {
        /// Those of now.
        pub fn now() -> Self {
            Self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ThumbnailChoice::{Always, Auto, Never};
    use super::*;

    /// An ordinary terminal of 256 colours.
    fn usual() -> Surroundings {
        Surroundings {
            columns: 80,
            rows: 24,
            output: true,
            input: true,
            term: "xterm-256color".into(),
            colorterm: String::new(),
            no_color: false,
            multiplexer: None,
        }
    }

    #[test]
    fn a_terminal_is_asked_where_both_ends_are_there() {
        let full = Surroundings { colorterm: "truecolor".into(), ..usual() };
        let few = Surroundings { term: "xterm".into(), ..usual() };
        assert_eq!(usual().plan(Auto), Plan::Ask { otherwise: Some(Depth::Indexed) });
        assert_eq!(full.plan(Auto), Plan::Ask { otherwise: Some(Depth::True) });
        assert_eq!(few.plan(Auto), Plan::Ask { otherwise: None });
        assert_eq!(few.plan(Always), Plan::Ask { otherwise: Some(Depth::True) });
        let fed = Surroundings { input: false, ..usual() };
        assert_eq!(fed.plan(Auto), Plan::HalfBlocks(Depth::Indexed), "nothing can be read from it");
    }

    #[test]
    fn what_would_show_boxes_is_known_by_its_name() {
        let told = |name: &str| unbelieved(format!("\x1bP>|{name}\x1b\\\x1b[?62;c").as_bytes());
        for name in ["kitty(0.26.5)", "kitty(0.9.1)"] {
            assert_eq!(told(name), [ProtocolType::Kitty], "{name}");
        }
        for name in ["Konsole 23.08.1", "WezTerm 20240203-110809-5046fc22"] {
            assert_eq!(told(name), [ProtocolType::Kitty, ProtocolType::Sixel], "{name}");
        }
        for name in
            ["kitty(0.28.0)", "kitty(0.41.1)", "kitty(1.0.0)", "ghostty 1.1.3", "XTerm(379)", "foot(1.16.2)", ""]
        {
            assert!(told(name).is_empty(), "{name}");
        }
        assert!(unbelieved(b"\x1b[?62;4c").is_empty(), "one that does not tell");
    }

    #[test]
    fn text_alone_where_nobody_looks_or_colours_are_not_wanted() {
        let [mut pipe, mut no_color, mut dumb] = [usual(), usual(), usual()];
        pipe.output = false;
        no_color.no_color = true;
        dumb.term = "dumb".into();
        for surroundings in [&pipe, &no_color, &dumb] {
            assert_eq!(surroundings.plan(Auto), Plan::Text, "{surroundings:?}");
        }
        assert_eq!(pipe.plan(Always), Plan::HalfBlocks(Depth::Indexed));
        assert_eq!(dumb.plan(Always), Plan::HalfBlocks(Depth::True), "it would print a query");
        assert_eq!(usual().plan(Never), Plan::Text);
    }

    #[test]
    fn a_multiplexer_gets_characters_and_screen_no_more_colours_than_it_has() {
        let inside = |multiplexer, colorterm: &str| Surroundings {
            multiplexer: Some(multiplexer),
            colorterm: colorterm.into(),
            ..usual()
        };
        assert_eq!(inside(Multiplexer::Tmux, "truecolor").plan(Auto), Plan::HalfBlocks(Depth::True));
        assert_eq!(inside(Multiplexer::Tmux, "").plan(Auto), Plan::HalfBlocks(Depth::Indexed));
        assert_eq!(inside(Multiplexer::Screen, "truecolor").plan(Auto), Plan::HalfBlocks(Depth::Indexed));
    }

    #[test]
    fn terminals_of_full_colour_are_known_by_name() {
        for term in ["xterm-kitty", "alacritty", "foot", "xterm-ghostty", "wezterm", "xterm-direct"] {
            let named = Surroundings { term: term.into(), input: false, ..usual() };
            assert_eq!(named.plan(Auto), Plan::HalfBlocks(Depth::True), "{term}");
        }
    }
}
