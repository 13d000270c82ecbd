//! Lines of a file with their positions, each within a bound.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use super::Position;
use crate::io::hash::blake3_file;

/// A file read line by line.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufReader<fs_err::File>,
    position: Position,
    max_line: usize,
    stamp: Stamp,
}

/// What a file's directory entry says of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let meta = fs_err::metadata(path)?;
        Ok(Self { size: meta.len(), modified: meta.modified().ok() })
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It is in the buffer, its newline too.
    Whole(Position),
    /// Longer than the bound: skipped.
    TooLong(Position),
}

impl Lines {
    /// Opens `path`, and reads it once for its hash.
    pub(super) fn open(path: &Path, max_line: usize) -> std::io::Result<(Self, String)> {
        let stamp = Stamp::of(path)?;
        let hash = blake3_file(path)?;
        let file = fs_err::File::open(path)?;
        let file = BufReader::with_capacity(1 << 16, file);
        Ok((Self { file, position: Position::default(), max_line, stamp }, hash))
    }

    /// Goes on behind `position`.
    pub(super) fn resume_after(&mut self, position: Position) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(position.end))?;
        self.position = position;
        Ok(())
    }

    /// The entry's stamp when the file was opened.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Place behind the last line read.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Reads the next line into `buffer`; `None` at the end of the file.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<Option<Line>> {
        buffer.clear();
        let (mut length, mut ended) = (0_usize, false);
        while !ended {
            let piece = match self.file.fill_buf() {
                Ok([]) => break,
                Ok(piece) => piece,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let taken = match piece.iter().position(|b| *b == b'\n') {
                Some(at) => {
                    ended = true;
                    at + 1
                }
                None => piece.len(),
            };
            if length + taken <= self.max_line {
                buffer.extend_from_slice(&piece[..taken]);
            }
            length += taken;
            self.file.consume(taken);
        }
        if length == 0 {
            return Ok(None);
        }
        self.position = Position { record: self.position.record + 1, end: self.position.end + length as u64 };
        Ok(Some(if length > self.max_line { Line::TooLong(self.position) } else { Line::Whole(self.position) }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn positions_lead_back_to_every_line_and_a_long_one_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let long = "x".repeat(200_000);
        fs_err::write(&path, format!("one\n{long}\n\nfour")).unwrap();
        let (mut lines, _) = Lines::open(&path, 100).unwrap();
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        while let Some(line) = lines.next(&mut buffer).unwrap() {
            seen.push((line, String::from_utf8(buffer.clone()).unwrap()));
        }
        let at = |record, end| Position { record, end };
        assert_eq!(seen[0], (Line::Whole(at(1, 4)), "one\n".into()));
        assert_eq!(seen[1].0, Line::TooLong(at(2, 200_005)));
        assert_eq!(seen[2], (Line::Whole(at(3, 200_006)), "\n".into()));
        assert_eq!(seen[3], (Line::Whole(at(4, 200_010)), "four".into()));
        lines.resume_after(at(3, 200_006)).unwrap();
        assert_eq!(lines.next(&mut buffer).unwrap(), Some(Line::Whole(at(4, 200_010))));
        assert_eq!(lines.next(&mut buffer).unwrap(), None);
    }
}
