//! Logs: what came of each question, kept as it comes.
//!
//! A log is a file of JSON lines. The first says what run it is (settings, models, data); each of the others is one
//! entry, appended as soon as it is there. A second run over the same file goes on where the first ended; a run of other
//! settings is refused.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EvalError;
use crate::io::{AtomicFile, IoError, JsonlWriter, write_line};

/// How a log begins.
const START: &[u8] = b"{\"run\":";

/// First line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    run: Value,
}

/// A log that is written.
#[derive(Debug)]
pub struct Log {
    file: JsonlWriter,
}

impl Log {
    /// Opens the log of `run`, or begins it; what a crash tore off is cut. `take` is given each entry of earlier runs.
    ///
    /// # Errors
    /// A file that cannot be read or written, is damaged before its last line, is no log, or is of another run; or what
    /// `take` says.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        run: &Value,
        take: impl FnMut(T) -> Result<(), EvalError>,
    ) -> Result<Self, EvalError> {
        // Opening cuts off what a crash tore, which must not happen to a file of somebody else.
        refuse_other_files(path)?;
        let mut file = JsonlWriter::open(path)?;
        if fs_err::metadata(path)?.len() == 0 {
            file.append(&Header { run: run.clone() })?;
        } else {
            read(path, |found| refuse_other_run(path, found, run), take)?;
        }
        Ok(Self { file })
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// The system's.
    pub fn append<T: Serialize>(&mut self, entry: &T) -> Result<(), EvalError> {
        Ok(self.file.append(entry)?)
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> Result<(), EvalError> {
        Ok(self.file.sync()?)
    }
}

/// Reads a log: what run it is goes to `check`, each entry to `take`. A last line without an end, as a crash or somebody
/// who is writing leaves it, is not read.
///
/// # Errors
/// A file that cannot be read, a damaged line, or what either of them says.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&Value) -> Result<(), EvalError>,
    mut take: impl FnMut(T) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let bad = |line: usize, reason: String| IoError::Line { path: path.to_owned(), line, reason };
    let mut check = Some(check);
    for (n, line) in Lines::open(path)?.enumerate() {
        let line = line?;
        match check.take() {
            Some(check) => {
                let header: Header = serde_json::from_slice(&line)
                    .map_err(|e| bad(1, format!("{e}; expected the description of the run, {{\"run\":")))?;
                check(&header.run)?;
            }
            None if line.iter().all(u8::is_ascii_whitespace) => {}
            None => take(serde_json::from_slice(&line).map_err(|e| bad(n + 1, e.to_string()))?)?,
        }
    }
    Ok(())
}

/// Lines with their ends; not what stands behind the last end.
struct Lines(BufReader<fs_err::File>);

impl Lines {
    fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(BufReader::with_capacity(1 << 16, fs_err::File::open(path)?)))
    }
}

impl Iterator for Lines {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line) {
            Ok(_) => line.ends_with(b"\n").then_some(Ok(line)),
            Err(e) => Some(Err(e)),
        }
    }
}

/// Writes a log that is whole, in place of whatever was there.
///
/// # Errors
/// The system's.
pub fn write_whole<T: Serialize>(path: &Path, run: &Value, entries: impl Iterator<Item = T>) -> Result<(), EvalError> {
    let mut file = AtomicFile::create(path)?;
    write_line(&mut file, path, &Header { run: run.clone() })?;
    for entry in entries {
        write_line(&mut file, path, &entry)?;
    }
    Ok(file.commit()?)
}

/// Writes the entries of several logs of one run into one, as they are. `change` is given each first line; afterwards all
/// must be equal. `keep` is given each entry.
///
/// # Errors
/// A log that cannot be read, first lines that differ, or what cannot be written.
pub fn copy(
    from: &[PathBuf],
    into: &Path,
    change: impl Fn(&mut Value),
    mut keep: impl FnMut(&[u8]) -> bool,
) -> Result<(), EvalError> {
    let mut file = AtomicFile::create(into)?;
    let mut head: Option<Value> = None;
    for path in from {
        let mut lines = Lines::open(path)?;
        let line = lines.next().transpose()?.unwrap_or_default();
        let bad = |reason: String| IoError::Line { path: path.clone(), line: 1, reason };
        let mut found: Header = serde_json::from_slice(&line).map_err(|e| bad(e.to_string()))?;
        change(&mut found.run);
        match &head {
            Some(head) => refuse_other_run(path, &found.run, head)?,
            None => {
                write_line(&mut file, into, &found)?;
                head = Some(found.run);
            }
        }
        for line in lines {
            let line = line?;
            if keep(&line) {
                file.write_all(&line)?;
            }
        }
    }
    Ok(file.commit()?)
}

fn refuse_other_files(path: &Path) -> Result<(), EvalError> {
    let mut found = Vec::new();
    match fs_err::File::open(path) {
        Ok(file) => file.take(START.len() as u64).read_to_end(&mut found)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if START.starts_with(&found) {
        return Ok(());
    }
    let reason = "not the log of an evaluation; expected a file that begins with {\"run\":".to_owned();
    Err(IoError::Line { path: path.to_owned(), line: 1, reason }.into())
}

/// Refuses a file of a run that differs from `expected`.
///
/// # Errors
/// [`EvalError::OtherRun`], with the first thing that differs.
pub fn refuse_other_run(path: &Path, found: &Value, expected: &Value) -> Result<(), EvalError> {
    match differences("run", found, expected).into_iter().next() {
        None => Ok(()),
        Some(Difference { field, left, right }) => {
            Err(EvalError::OtherRun { path: PathBuf::from(path), field, found: left, expected: right })
        }
    }
}

/// A place where two values differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `run.reader.model`.
    pub field: String,
    /// There on the left.
    pub left: String,
    /// There on the right.
    pub right: String,
}

/// All places where two values differ, in the order of their names.
#[must_use]
pub fn differences(name: &str, left: &Value, right: &Value) -> Vec<Difference> {
    if let (Value::Object(a), Value::Object(b)) = (left, right) {
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let at = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
        return keys.into_iter().flat_map(|k| differences(&format!("{name}.{k}"), &at(a, k), &at(b, k))).collect();
    }
    if left == right {
        return Vec::new();
    }
    vec![Difference { field: name.to_owned(), left: left.to_string(), right: right.to_string() }]
}
