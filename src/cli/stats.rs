//! Figures for tables: memory, columns that line up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most memory that this process has held so far, bytes (`VmHWM`); `None` where the system does not tell.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Memory that this process holds now, bytes (`VmRSS`); `None` where the system does not tell.
#[must_use]
pub fn memory() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Looks, ten times a second, how much memory of its own this process has: not what it maps of files.
pub struct MemorySampler {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Option<u64>>>,
}

impl MemorySampler {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = None;
            while !seen.load(Ordering::Relaxed) {
                peak = peak.max(own_memory());
                std::thread::sleep(Duration::from_millis(100));
            }
            peak.max(own_memory())
        });
        Self { stop, thread: Some(thread) }
    }

    /// Most that was seen, bytes; `None` where the system does not tell.
    pub fn peak(mut self) -> Option<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()?
    }
}

/// `RssAnon`, bytes.
fn own_memory() -> Option<u64> {
    status_bytes("RssAnon:")
}

/// Rows under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        Self { heading: heading.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// For a terminal: columns line up.
    #[must_use]
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let cells = std::iter::once(&self.heading).chain(&self.rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        std::iter::once(&self.heading).chain(&self.rows).map(line).collect()
    }

    /// For a document.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = vec!["---".to_owned(); self.heading.len()];
        [&self.heading, &rule].into_iter().chain(&self.rows).map(line).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["a", "long"]);
        table.row(["xyz", "1"]);
        assert_eq!(table.text(), "a    long\nxyz  1\n");
        assert_eq!(table.markdown(), "| a | long |\n| --- | --- |\n| xyz | 1 |\n");
    }
}
