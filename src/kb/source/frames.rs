//! The records of a file of JSON: one a line, or the entries of one large object.

use std::io;
use std::path::Path;

use super::input::Input;
use super::{Position, RecordUnit, lines, object};

/// Longest record, bytes.
pub(super) const MAX_RECORD: usize = 64 << 20;

/// How records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// One a line.
    Lines,
    /// The entries of an object that is the whole file.
    Object,
}

impl Framing {
    pub(super) fn unit(self) -> RecordUnit {
        match self {
            Self::Lines => RecordUnit::Line,
            Self::Object => RecordUnit::Entry,
        }
    }
}

/// One record. Its position is that of the [`Frames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// It is in the buffer; its first byte stands at `start` of the content.
    Whole { start: u64 },
    /// Longer than the bound: skipped.
    TooLong,
}

/// An input read record by record.
#[derive(Debug)]
pub(super) struct Frames {
    input: Input,
    framing: Framing,
    position: Position,
    max: usize,
    key: Vec<u8>,
    buffer: Vec<u8>,
}

impl Frames {
    /// Opens `path` and looks at its beginning; an object can only be told from lines where its entries are objects,
    /// which `keyed` says.
    ///
    /// # Errors
    /// The input's.
    pub(super) fn open(path: &Path, keyed: bool) -> io::Result<Self> {
        Self::with_max(path, keyed, MAX_RECORD)
    }

    fn with_max(path: &Path, keyed: bool, max: usize) -> io::Result<Self> {
        let mut input = Input::open(path)?;
        let mut framing = Framing::Lines;
        if keyed && object::sniff(&mut input, max)? {
            framing = Framing::Object;
        }
        input.go_to(0)?;
        Ok(Self { input, framing, position: Position::default(), max, key: Vec::new(), buffer: Vec::new() })
    }

    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Place behind the last record read.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Longest record, bytes.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Goes on behind `position`.
    ///
    /// # Errors
    /// The input's.
    pub(super) fn resume_after(&mut self, position: Position) -> io::Result<()> {
        self.input.go_to(position.end)?;
        self.position = position;
        Ok(())
    }

    /// Reads the next record; `None` at the end.
    ///
    /// # Errors
    /// The input's, and where an object is not whole.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let Self { input, framing, position, max, key, buffer } = self;
        match framing {
            Framing::Lines => lines::next(input, position, buffer, *max),
            Framing::Object => object::next(input, position, key, buffer, *max),
        }
    }

    /// What [`Frames::next`] read: in an object the key, as it is written, and the value.
    pub(super) fn record(&self) -> (Option<&[u8]>, &[u8]) {
        let key = (self.framing == Framing::Object).then_some(self.key.as_slice());
        (key, &self.buffer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// Every record with its position, one that is too long as `None`.
    fn records(text: &str, max: usize) -> Vec<(Position, Option<String>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        fs_err::write(&path, text).unwrap();
        let mut frames = Frames::with_max(&path, true, max).unwrap();
        let mut all = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            let text = String::from_utf8(frames.record().1.to_vec()).unwrap();
            all.push((frames.position(), matches!(frame, Frame::Whole { .. }).then_some(text)));
        }
        all
    }

    #[test]
    fn a_long_line_is_skipped() {
        let long = "x".repeat(300_000);
        let found = records(&format!("one\n{long}\n\nfour"), 100);
        let at = |record, end| Position { record, end };
        let expected =
            [(at(1, 4), Some("one\n".to_owned())), (at(2, 300_005), None), (at(4, 300_010), Some("four".to_owned()))];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_long_entry_is_skipped() {
        let long = "}\\\"".repeat(100_000);
        let text = format!("{{\"a\":{{}},\"b\":\"{long}\",\"c\":[2]}}");
        let at = |record, end: usize| Position { record, end: end as u64 };
        let expected = [
            (at(1, 7), Some("{}".to_owned())),
            (at(2, 14 + long.len()), None),
            (at(3, text.len() - 1), Some("[2]".to_owned())),
        ];
        assert_eq!(records(&text, 100), expected);
    }
}
