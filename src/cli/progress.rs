//! Progress on stderr: a bar on a terminal, a plain line now and then elsewhere, nothing with `--no-progress`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::Screen;

/// Between two plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, by their plural.
    Things(&'static str),
    /// Bytes.
    Bytes,
}

/// One piece of work that takes time. Dropping it clears its bar.
pub struct Progress {
    screen: Screen,
    bar: ProgressBar,
    label: String,
    unit: Unit,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// Begins to show work called `label`.
    #[must_use]
    pub fn new(screen: &Screen, label: &str, unit: Unit) -> Self {
        let bar = ProgressBar::no_length();
        let target = if screen.bars() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        bar.set_message(label.to_owned());
        if screen.bars() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        let now = Instant::now();
        let progress = Self { screen: screen.clone(), bar, label: label.to_owned(), unit, started: now, told: now };
        progress.style(false);
        progress
    }

    /// Other work begins.
    pub fn rename(&mut self, label: &str, unit: Unit) {
        if self.label != label || self.unit != unit {
            self.label = label.to_owned();
            self.unit = unit;
            self.bar.set_message(label.to_owned());
            self.bar.unset_length();
            self.bar.reset();
            self.started = Instant::now();
            self.style(false);
        }
    }

    /// `done` of `total`.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        if total != self.bar.length() {
            match total {
                Some(total) => self.bar.set_length(total),
                None => self.bar.unset_length(),
            }
            self.style(total.is_some());
        }
        self.bar.set_position(done);
        if self.screen.lines() && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            self.screen.note(self.sentence(done, total));
        }
    }

    /// A line that stays, above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| self.screen.note(text));
    }

    fn style(&self, known: bool) {
        let template = match (known, self.unit) {
            (true, Unit::Bytes) => "{msg} [{bar:28}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
            (true, Unit::Things(_)) => "{msg} [{bar:28}] {pos}/{len} {per_sec} eta {eta}",
            (false, Unit::Bytes) => "{spinner} {msg} {bytes} {bytes_per_sec}",
            (false, Unit::Things("")) => "{spinner} {msg} {elapsed}",
            (false, Unit::Things(_)) => "{spinner} {msg} {pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    fn sentence(&self, done: u64, total: Option<u64>) -> String {
        let amount = |n: u64| match self.unit {
            Unit::Bytes => bytes(n),
            Unit::Things(_) => n.to_string(),
        };
        let things = match self.unit {
            Unit::Things(things) if !things.is_empty() => format!(" {things}"),
            _ => String::new(),
        };
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = done as f64 / seconds.max(1e-9);
        match total {
            Some(total) if done > 0 && total >= done => {
                let left = (total - done) as f64 / rate;
                format!("{}: {} of {}{things}, {left:.0} s left", self.label, amount(done), amount(total))
            }
            Some(total) => format!("{}: {} of {}{things}", self.label, amount(done), amount(total)),
            None => format!("{}: {}{things}, {seconds:.0} s", self.label, amount(done)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes for people: `1.5 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_three_or_four_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(98_400_000), "98.4 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn a_plain_line_names_work_amount_and_time_left() {
        let progress = Progress::new(&Screen::plain(), "embedding", Unit::Things("lines"));
        let line = progress.sentence(10, Some(20));
        assert!(line.starts_with("embedding: 10 of 20 lines, ") && line.ends_with(" s left"), "{line}");
        assert_eq!(progress.sentence(0, Some(20)), "embedding: 0 of 20 lines");
    }
}
