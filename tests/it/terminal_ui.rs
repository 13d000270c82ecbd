//! The terminal UI in a pseudo-terminal: keys in, a screen out, and the terminal as it was afterwards.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::screen_svg::{DARK, LIGHT, Palette, svg};
use super::starter::{Starter, starter, starter_file};

const CAPITAL: &str = "What is the capital of this country?";

/// How long anything may take: models are loaded, beside other tests.
const PATIENCE: Duration = Duration::from_secs(300);

fn some(side: u16) -> NonZero<u16> {
    NonZero::new(side).unwrap()
}

struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    fn demo(starter: &Starter, arguments: &[&str], rows: u16, cols: u16) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_cicerone"));
        command.arg("demo");
        command.args(arguments);
        Self::of(command, starter, rows, cols)
    }

    /// A shell, which has jobs.
    #[cfg(target_os = "linux")]
    fn shell(starter: &Starter, rows: u16, cols: u16) -> Self {
        let mut command = CommandBuilder::new("/bin/sh");
        command.arg("-i");
        command.env("PS1", "ready> ");
        command.env_remove("ENV");
        Self::of(command, starter, rows, cols)
    }

    fn of(mut command: CommandBuilder, starter: &Starter, rows: u16, cols: u16) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        command.env("CICERONE_DATA_DIR", &starter.data);
        // No questions to a terminal that would not answer them.
        command.env("TERM", "tmux-256color");
        command.cwd(env!("CARGO_MANIFEST_DIR"));
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(cols), 0)));
        let (mut output, into) = (pty.master.try_clone_reader().unwrap(), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            // It ends with an error where the other side has gone.
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                into.lock().unwrap().process(&bytes[..n]);
            }
        });
        let keys = pty.master.take_writer().unwrap();
        Self { master: pty.master, keys, child, screen, reader: Some(reader) }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn paste(&mut self, text: &str) {
        self.press(&format!("\x1b[200~{text}\x1b[201~"));
    }

    fn ask(&mut self, question: &str) {
        self.press(question);
        self.press("\r");
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(some(rows), some(cols));
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn wait_until(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) {
        let begin = Instant::now();
        while !holds(self.screen.lock().unwrap().screen()) {
            assert!(begin.elapsed() < PATIENCE, "no {what} on the screen:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |screen| screen.contents().contains(text));
    }

    /// Waits for the end of the program; its exit code, and what is left on the screen, which must be as it was.
    fn ends(mut self) -> (u32, String) {
        let begin = Instant::now();
        let code = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status.exit_code(),
                None => assert!(begin.elapsed() < PATIENCE, "it does not end:\n{}", self.text()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        #[cfg(unix)]
        {
            let modes = format!("{:?}", self.master.get_termios().unwrap().local_flags);
            assert!(modes.contains("ICANON") && modes.contains("ECHO"), "what is typed is shown again: {modes}");
        }
        drop(self.master);
        self.reader.take().unwrap().join().unwrap();
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "the ordinary screen is back");
        assert!(!screen.hide_cursor(), "and its cursor");
        assert!(!screen.bracketed_paste(), "and it is pasted into as before");
        (code, screen.contents())
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        signal(self.child.process_id().unwrap(), name);
    }

    /// What the shell runs.
    #[cfg(target_os = "linux")]
    fn job(&self) -> u32 {
        child(self.child.process_id().unwrap())
    }

    /// Waits until the shell has the terminal, for so many times now, and has it go on with what it ran.
    #[cfg(target_os = "linux")]
    fn is_stopped_and_continued(&mut self, times: usize) {
        self.wait_until("the shell's own screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
        self.wait_until("the shell", |screen| screen.contents().matches("topped").count() == times);
        self.press("fg\r");
    }
}

/// The first process that another one started.
#[cfg(target_os = "linux")]
fn child(pid: u32) -> u32 {
    let children = fs_err::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[cfg(unix)]
fn signal(pid: u32, name: &str) {
    assert!(std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Sessions that were kept, each a whole JSON document.
fn sessions(data: &Path) -> Vec<serde_json::Value> {
    let Ok(folder) = fs_err::read_dir(data.join("sessions")) else { return Vec::new() };
    let names = folder.map(|entry| entry.unwrap().path());
    let is_session = |name: &str| name.ends_with(".json") && name != "asked.json" && !name.starts_with('.');
    let files = names.filter(|path| is_session(path.file_name().unwrap().to_str().unwrap()));
    files.map(|path| serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn a_session_from_the_first_picture_to_the_last_key() {
    let starter = starter();
    let _ = fs_err::remove_dir_all(starter.data.join("sessions"));
    let mut terminal = Terminal::demo(&starter, &[], 30, 110);
    terminal.wait_for("Paste or drop the path of a picture");
    terminal.paste(&format!("'{}'", starter_file("images/twemoji/ke.png").display()));
    terminal.wait_for("ke.png · 64×64");
    // Before the models are there, or after: the question waits.
    terminal.ask(CAPITAL);
    terminal.wait_for("ranking");
    terminal.press("\x1b");
    terminal.wait_for("stopped");
    // Ctrl-R: again.
    terminal.press("\x12");
    terminal.wait_for("Nairobi");
    terminal.wait_for("tokens/s");
    // The first source, and back.
    terminal.press("\t\r");
    terminal.wait_for("en.wikipedia.org/wiki/Kenya");
    terminal.press("\x1b");
    // Another key right behind it would be one with Alt.
    terminal.wait_until("the session again", |screen| !screen.contents().contains("1 of 1"));
    // While an answer comes, the terminal changes its size.
    terminal.press("\t");
    terminal.press("\x12");
    terminal.resize(14, 50);
    terminal.wait_for("ranking");
    terminal.resize(24, 80);
    terminal.wait_until("both answers", |screen| screen.contents().matches("tokens/s").count() == 2);
    terminal.press("\x03");
    terminal.wait_for("ctrl+c again quits");
    terminal.press("\x03");
    let (code, _) = terminal.ends();
    assert_eq!(code, 0);
    let kept = sessions(&starter.data);
    assert_eq!(kept.len(), 1);
    let ends: Vec<&str> = kept[0]["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| match &turn["end"] {
            serde_json::Value::String(text) => text.as_str(),
            other => other.as_object().unwrap().keys().next().unwrap(),
        })
        .collect();
    assert_eq!(ends, ["stopped", "answered", "answered"]);
    assert!(kept[0]["turns"][1]["text"].as_str().unwrap().contains("Nairobi"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_shell_has_the_terminal_while_it_is_stopped() {
    let starter = starter();
    let mut terminal = Terminal::shell(&starter, 24, 80);
    terminal.wait_for("ready>");
    terminal.press(concat!("'", env!("CARGO_BIN_EXE_cicerone"), "' demo\r"));
    terminal.wait_for("Paste or drop");
    for (n, signalled) in [false, true].into_iter().enumerate() {
        if signalled {
            signal(terminal.job(), "-TSTP");
        } else {
            terminal.press("\x1a");
        }
        terminal.is_stopped_and_continued(n + 1);
        terminal.wait_until("its own screen", vt100::Screen::alternate_screen);
        terminal.wait_for("Paste or drop");
    }
    terminal.press("\x03\x03");
    terminal.wait_until("the shell", |screen| {
        !screen.alternate_screen() && screen.contents().trim_end().ends_with("ready>")
    });
    terminal.press("exit 7\r");
    assert_eq!(terminal.ends().0, 7);
}

/// A build on the whole screen, started by a script, so that the shell's job is more than one process.
#[cfg(target_os = "linux")]
#[test]
fn a_build_on_the_whole_screen_is_stopped_gone_on_with_and_ended() {
    let starter = starter();
    // Enough to take its time.
    let articles = fs_err::read_to_string(starter_file("kb.jsonl")).unwrap();
    let many: String = (0..40).map(|n| articles.replace("wikipedia.org/wiki/", &format!("example.org/{n}/"))).collect();
    let home = tempfile::tempdir().unwrap();
    let (source, script) = (home.path().join("many.jsonl"), home.path().join("build.sh"));
    fs_err::write(&source, many).unwrap();
    let command = format!(
        "'{}' -c configs/starter.toml kb build --live --name many --source 'evqa:{}' --pictures '{}' --fresh\n",
        env!("CARGO_BIN_EXE_cicerone"),
        source.display(),
        starter_file("").display(),
    );
    fs_err::write(&script, format!("{command}exit $?\n")).unwrap();
    let mut terminal = Terminal::shell(&starter, 24, 100);
    terminal.wait_for("ready>");
    terminal.press(&format!("sh '{}'\r", script.display()));
    for (n, signalled) in [false, true].into_iter().enumerate() {
        terminal.wait_until("the build", |screen| screen.alternate_screen() && screen.contents().contains("embedding"));
        if signalled {
            signal(child(terminal.job()), "-TSTP");
        } else {
            terminal.press("\x1a");
        }
        terminal.is_stopped_and_continued(n + 1);
    }
    terminal.wait_until("the build", vt100::Screen::alternate_screen);
    terminal.press("\x03");
    terminal.wait_until("the shell", |screen| !screen.alternate_screen() && screen.contents().contains("interrupted"));
    terminal.press("exit $?\r");
    let (code, left) = terminal.ends();
    assert_eq!(code, 130, "{left}");
    // Left unfinished.
    fs_err::remove_dir_all(starter.data.join("kb/many")).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn what_no_shell_would_continue_does_not_stop() {
    let starter = starter();
    let mut terminal = Terminal::demo(&starter, &[], 24, 80);
    terminal.wait_for("Paste or drop");
    terminal.press("\x1a");
    terminal.wait_for("no shell");
    terminal.wait_until("the hints", |screen| !screen.contents().contains("no shell"));
    terminal.signal("-TSTP");
    terminal.wait_for("no shell");
    terminal.press("a question");
    terminal.wait_for("a question");
    terminal.press("\x03\x03");
    assert_eq!(terminal.ends().0, 0);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_in_good_order() {
    let starter = starter();
    let _ = fs_err::remove_dir_all(starter.data.join("sessions"));
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut terminal = Terminal::demo(&starter, &["--image", "data/starter/images/twemoji/ke.png"], 24, 80);
        terminal.wait_for("64×64");
        terminal.ask(CAPITAL);
        terminal.wait_for(CAPITAL);
        terminal.signal(signal);
        assert_eq!(terminal.ends().0, 130, "{signal}");
    }
    assert_eq!(sessions(&starter.data).len(), 3, "what was asked is kept");
}

/// Not a test: writes the pictures of README, by `cargo test --release --test it -- --ignored pictures_of_the_screen`.
#[test]
#[ignore = "writes into docs/"]
fn pictures_of_the_screen() {
    let starter = starter();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs_err::create_dir_all(&docs).unwrap();
    let picture = |terminal: &Terminal, name: &str, palette: &Palette| {
        let svg = svg(terminal.screen.lock().unwrap().screen(), palette);
        fs_err::write(docs.join(format!("terminal-{name}.svg")), svg).unwrap();
    };
    for (theme, palette) in [("dark", &DARK), ("light", &LIGHT)] {
        let set = format!("tui.theme={theme}");
        let image = starter_file("images/twemoji/ke.png").display().to_string();
        let arguments = ["--set", &set, "--set", "tui.pictures=halfblocks", "--image", &image];
        let mut terminal = Terminal::demo(&starter, &arguments, 30, 112);
        terminal.wait_for("64×64");
        terminal.ask(CAPITAL);
        terminal.wait_for("tokens/s");
        terminal.press("\x14");
        terminal.wait_for("candidates");
        terminal.press("\x1b[D");
        terminal.wait_for("Mean of each gate");
        picture(&terminal, &format!("gates-{theme}"), palette);
        terminal.press("\x1b");
        terminal.wait_for("tokens/s");
        terminal.ask("Which languages are spoken there?");
        terminal.wait_until("two answers", |screen| screen.contents().matches("tokens/s").count() == 2);
        // Pictures are made ready beside it.
        std::thread::sleep(Duration::from_secs(2));
        picture(&terminal, theme, palette);
        terminal.press("\x14");
        terminal.wait_for("candidates");
        std::thread::sleep(Duration::from_secs(2));
        picture(&terminal, &format!("inspector-{theme}"), palette);
        terminal.press("\x03\x03");
        terminal.ends();
    }
}

#[test]
fn a_panic_is_told_on_a_terminal_that_is_as_it_was() {
    let starter = starter();
    let mut terminal = Terminal::demo(&starter, &["--panic"], 24, 80);
    terminal.wait_for("Paste or drop");
    terminal.ask(CAPITAL);
    let (code, left) = terminal.ends();
    assert_eq!(code, 101);
    assert!(left.contains("as it was asked to"), "{left}");
}
