//! Progress on stderr: a bar on a terminal, a plain line now and then elsewhere, nothing with `--no-progress`; with `--live` the
//! whole screen.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::interrupt;
use super::screen::Screen;
pub use crate::text::{Unit, bytes, duration, grouped};

/// Between two plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// One piece of work that takes time. Dropping it clears its bar.
pub struct Progress {
    screen: Screen,
    bar: ProgressBar,
    label: String,
    unit: Unit,
    /// Lines below the bar.
    details: Vec<String>,
    started: Instant,
    /// Where it stood when it was first told: what is behind that says nothing of the pace.
    first: Option<(u64, Instant)>,
    told: Instant,
}

impl Progress {
    /// Begins to show work called `label`.
    #[must_use]
    pub fn new(screen: &Screen, label: &str, unit: Unit) -> Self {
        let bar = ProgressBar::no_length();
        let target = if screen.bars() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        let now = Instant::now();
        let (screen, label, details) = (screen.clone(), label.to_owned(), Vec::new());
        let progress = Self { screen, bar, label, unit, details, started: now, first: None, told: now };
        // Each of the others draws.
        progress.style(false);
        progress.bar.set_message(progress.label.clone());
        if progress.screen.bars() {
            progress.bar.enable_steady_tick(Duration::from_millis(120));
        }
        if let Some(live) = progress.screen.live() {
            live.begin(&progress.label, unit);
        }
        progress
    }

    /// Other work begins.
    pub fn rename(&mut self, label: &str, unit: Unit) {
        if self.label != label || self.unit != unit {
            self.label = label.to_owned();
            self.unit = unit;
            self.details.clear();
            self.started = Instant::now();
            self.first = None;
            // Each of the others draws.
            self.style(false);
            self.bar.set_message(label.to_owned());
            self.bar.unset_length();
            self.bar.reset();
            if let Some(live) = self.screen.live() {
                live.begin(label, unit);
            }
        }
    }

    /// `done` of `total`.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        self.set_with(done, total, Vec::new());
    }

    /// `done` of `total`, and what there is to say of it: each a line below the bar, or a part of the plain line.
    pub fn set_with(&mut self, done: u64, total: Option<u64>, details: Vec<String>) {
        // A step may be long: whoever asked for the end should not think that nobody heard.
        if interrupt::is_news() {
            self.note("Ctrl-C: this ends where it can in good order; once more ends it at once");
        }
        if let Some(live) = self.screen.live() {
            live.set(done, total, details.clone());
        }
        self.bar.set_position(done);
        let restyled = total != self.bar.length() || details.len() != self.details.len();
        if total != self.bar.length() {
            match total {
                Some(total) => self.bar.set_length(total),
                None => self.bar.unset_length(),
            }
        }
        if self.first.is_none() {
            self.first = Some((done, Instant::now()));
            // The bar looks at its position when it is given a length; from there its pace is counted.
            self.bar.reset_eta();
        }
        if details != self.details {
            self.bar.set_prefix(details.join("\n  "));
            self.details = details;
        }
        if restyled {
            self.style(total.is_some());
        }
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
            (true, Unit::Bytes) => {
                "{msg} [{bar:28}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}"
            }
            (true, Unit::Things(_)) => "{msg} [{bar:28}] {pos}/{len} {per_sec} eta {eta}",
            (false, Unit::Bytes) => "{spinner} {msg} {decimal_bytes} {decimal_bytes_per_sec}",
            (false, Unit::Things("")) => "{spinner} {msg} {elapsed}",
            (false, Unit::Things(_)) => "{spinner} {msg} {pos}",
        };
        let below = if self.details.is_empty() { "" } else { "\n  {prefix}" };
        if let Ok(style) = ProgressStyle::with_template(&format!("{template}{below}")) {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    fn sentence(&self, done: u64, total: Option<u64>) -> String {
        let amount = |n: u64| self.unit.amount(n);
        let things = self.unit.name();
        let mut parts = Vec::new();
        match total {
            Some(total) => {
                let share = done as f64 * 100.0 / total.max(1) as f64;
                parts.push(format!("{share:.0} % ({} of {}{things})", amount(done), amount(total)));
                let (from, since) = self.first.unwrap_or((0, self.started));
                if done > from && total >= done {
                    let per_s = (done - from) as f64 / since.elapsed().as_secs_f64().max(1e-9);
                    parts.push(format!("{} left", duration((total - done) as f64 / per_s)));
                }
            }
            None => {
                if self.unit != Unit::Things("") {
                    parts.push(format!("{}{things}", amount(done)));
                }
                parts.push(duration(self.started.elapsed().as_secs_f64()));
            }
        }
        let details = self.details.iter().map(|detail| format!("; {detail}"));
        format!("{}: {}{}", self.label, parts.join(", "), details.collect::<String>())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some(live) = self.screen.live() {
            live.end();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_names_work_amount_and_time_left() {
        let mut progress = Progress::new(&Screen::plain(), "embedding", Unit::Things("lines"));
        let line = progress.sentence(10, Some(20));
        assert!(line.starts_with("embedding: 50 % (10 of 20 lines), ") && line.ends_with(" s left"), "{line}");
        assert_eq!(progress.sentence(0, Some(20)), "embedding: 0 % (0 of 20 lines)");
        assert_eq!(progress.sentence(1200, None), "embedding: 1,200 lines, 0 s");
        progress.set_with(0, Some(20), vec!["read 3".into(), "busy".into()]);
        assert_eq!(progress.sentence(0, Some(20)), "embedding: 0 % (0 of 20 lines); read 3; busy");
        progress.rename("indexing", Unit::Things(""));
        assert_eq!(progress.sentence(0, None), "indexing: 0 s");
    }

    #[test]
    fn the_pace_of_work_that_goes_on_is_that_of_this_run() {
        let mut progress = Progress::new(&Screen::plain(), "embedding", Unit::Bytes);
        progress.set(900_000, Some(1_000_000));
        assert_eq!(progress.sentence(900_000, Some(1_000_000)), "embedding: 90 % (900.0 kB of 1.0 MB)");
        std::thread::sleep(Duration::from_millis(100));
        progress.set(900_010, Some(1_000_000));
        assert!(progress.bar.per_sec() < 1000.0, "{} bytes a second", progress.bar.per_sec());
        let line = progress.sentence(900_010, Some(1_000_000));
        let minutes = line.strip_suffix(" min left").and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        assert!(minutes.is_some_and(|minutes| minutes >= 16), "{line}");
    }
}
