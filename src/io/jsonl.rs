//! JSON lines: one value a line, appended and read in order.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IoError;

/// Longest line that is read, bytes. A longer one is an error of that line.
pub const MAX_LINE: u64 = 256 << 20;

/// Appends values to a file, one line each. A line is one write, so a crash tears at most the last one.
#[derive(Debug)]
pub struct JsonlWriter {
    path: PathBuf,
    file: fs_err::File,
    cut: u64,
}

impl JsonlWriter {
    /// Opens or makes `path` for appending. What a crash left of a last line (no newline at its end) is cut off,
    /// unless it is a whole object or array: then the newline is added.
    ///
    /// # Errors
    /// The system's reason with the path.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let mut file = fs_err::OpenOptions::new().create(true).read(true).write(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        let whole = end_of_last_line(&mut file, len)?;
        let mut cut = 0;
        if whole < len {
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(whole))?;
            Read::by_ref(&mut file).take(MAX_LINE).read_to_end(&mut tail)?;
            if is_whole_value(&tail) {
                file.seek(SeekFrom::End(0))?;
                file.write_all(b"\n")?;
            } else {
                file.set_len(whole)?;
                cut = len - whole;
            }
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, cut })
    }

    /// Bytes of a torn line that [`JsonlWriter::open`] cut off; 0 where the file was whole.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Appends one value as one line, in one write.
    ///
    /// # Errors
    /// [`IoError::Encode`] for a value that JSON cannot hold (nothing is written), or the system's reason.
    pub fn append<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), IoError> {
        write_line(&mut self.file, &self.path, value)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// The system's reason with the path.
    pub fn sync(&mut self) -> Result<(), IoError> {
        Ok(self.file.sync_data()?)
    }
}

/// Writes one value as one line of the file `path`, in one write.
///
/// # Errors
/// [`IoError::Encode`] for a value that JSON cannot hold (nothing is written), or the system's reason.
pub fn write_line<T: Serialize + ?Sized>(file: &mut impl Write, path: &Path, value: &T) -> Result<(), IoError> {
    let mut line =
        serde_json::to_vec(value).map_err(|e| IoError::Encode { path: path.to_owned(), reason: e.to_string() })?;
    line.push(b'\n');
    Ok(file.write_all(&line)?)
}

fn is_whole_value(tail: &[u8]) -> bool {
    let open = tail.iter().find(|b| !b.is_ascii_whitespace());
    matches!(open, Some(b'{' | b'[')) && serde_json::from_slice::<serde::de::IgnoredAny>(tail).is_ok()
}

/// Offset after the last newline of the first `len` bytes, found from the end.
fn end_of_last_line(file: &mut fs_err::File, len: u64) -> std::io::Result<u64> {
    const PIECE: u64 = 1 << 16;
    let mut buffer = vec![0; PIECE as usize];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let piece = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(at) = piece.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Reads values with their line numbers. Blank lines are skipped; an error names its line and ends nothing: the next
/// call goes on with the next line.
#[derive(Debug)]
pub struct JsonlReader<T> {
    path: PathBuf,
    file: BufReader<fs_err::File>,
    line: usize,
    buffer: Vec<u8>,
    done: bool,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonlReader<T> {
    /// Opens `path`.
    ///
    /// # Errors
    /// The system's reason with the path.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let file = BufReader::with_capacity(1 << 16, fs_err::File::open(path)?);
        Ok(Self { path: path.to_owned(), file, line: 0, buffer: Vec::new(), done: false, value: PhantomData })
    }

    fn error(&self, reason: String) -> IoError {
        IoError::Line { path: self.path.clone(), line: self.line, reason }
    }
}

impl<T: DeserializeOwned> Iterator for JsonlReader<T> {
    /// Line number, counted from 1, and value.
    type Item = Result<(usize, T), IoError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            self.buffer.clear();
            self.line += 1;
            match Read::by_ref(&mut self.file).take(MAX_LINE).read_until(b'\n', &mut self.buffer) {
                Ok(0) => self.done = true,
                Ok(n) if n as u64 == MAX_LINE && self.buffer.last() != Some(&b'\n') => {
                    self.done = true;
                    return Some(Err(self.error(format!("longer than {MAX_LINE} bytes; expected one JSON value"))));
                }
                Ok(_) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => {
                    let value = serde_json::from_slice(&self.buffer);
                    return Some(value.map(|v| (self.line, v)).map_err(|e| self.error(e.to_string())));
                }
                Err(e) => {
                    self.done = true;
                    return Some(Err(e.into()));
                }
            }
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn values(path: &Path) -> Vec<(usize, Value)> {
        JsonlReader::open(path).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_file_cut_at_any_byte_reopens_to_its_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let rows = [json!({"id": 1, "text": "a\nb"}), json!({"id": 2, "text": "ü"}), json!({"id": 3})];
        let mut writer = JsonlWriter::open(&path).unwrap();
        for row in &rows {
            writer.append(row).unwrap();
        }
        writer.sync().unwrap();
        let bytes = fs_err::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs_err::write(&path, &bytes[..cut]).unwrap();
            let mut writer = JsonlWriter::open(&path).unwrap();
            writer.append(&json!({"id": 9})).unwrap();
            // A line that lacks nothing but its newline is whole.
            let mut kept = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            let before_newline = bytes.get(cut) == Some(&b'\n');
            kept += usize::from(before_newline);
            assert_eq!(writer.cut() > 0, cut > 0 && bytes[cut - 1] != b'\n' && !before_newline, "cut at {cut}");
            let found = values(&path);
            assert_eq!(found.len(), kept + 1, "cut at {cut}");
            assert!(found[..kept].iter().map(|(_, v)| v).eq(&rows[..kept]), "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_line_longer_than_one_piece_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut bytes = b"{\"id\":1}\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 200_000));
        fs_err::write(&path, &bytes).unwrap();
        assert_eq!(JsonlWriter::open(&path).unwrap().cut(), 200_000);
        assert_eq!(values(&path), [(1, json!({"id": 1}))]);
    }

    #[test]
    fn errors_name_the_line_and_reading_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        fs_err::write(&path, "{\"id\":1}\n\n{oops}\r\n{\"id\":4}").unwrap();
        let read: Vec<_> = JsonlReader::<Value>::open(&path).unwrap().collect();
        assert_eq!(read.len(), 3);
        let message = read[1].as_ref().unwrap_err().to_string();
        assert!(message.contains("rows.jsonl, line 3: "), "{message}");
        assert_eq!(read[2].as_ref().unwrap(), &(4, json!({"id": 4})));
    }

    #[test]
    fn a_value_that_json_cannot_hold_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut writer = JsonlWriter::open(&path).unwrap();
        let bad = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(writer.append(&bad), Err(IoError::Encode { .. })));
        assert_eq!(fs_err::metadata(&path).unwrap().len(), 0);
    }
}
