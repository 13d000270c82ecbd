//! Any data set, by its format and files.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::{DataSet, Dirty, Question, evqa, infoseek, m2kr, mbeir};
use crate::eval::EvalError;
use crate::io::IoError;
use crate::io::hash::blake3_file;

/// Format of a file of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// See [`evqa`].
    Evqa,
    /// See [`infoseek`].
    Infoseek,
    /// See [`m2kr`].
    M2kr,
    /// See [`mbeir`].
    Mbeir,
}

impl Format {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Self); 4] =
        [("evqa", Self::Evqa), ("infoseek", Self::Infoseek), ("m2kr", Self::M2kr), ("mbeir", Self::Mbeir)];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Format {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self, EvalError> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, format)| format);
        found.ok_or_else(|| EvalError::Format { found: text.to_owned() })
    }
}

/// Files of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// How they are written.
    pub format: Format,
    /// The questions.
    pub questions: PathBuf,
    /// InfoSeek: the types.
    pub qtype: Option<PathBuf>,
    /// InfoSeek: the entities.
    pub withkb: Option<PathBuf>,
    /// M-BEIR: which candidates are right.
    pub qrels: Option<PathBuf>,
    /// Encyclopedic-VQA: `2_hop` questions, too.
    pub two_hop: bool,
}

impl Files {
    /// Hash of everything that is read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String, EvalError> {
        let given = [Some(&self.questions), self.qtype.as_ref(), self.withkb.as_ref(), self.qrels.as_ref()];
        let mut hasher = blake3::Hasher::new();
        for path in given {
            hasher.update(path.map(hash_of).transpose()?.unwrap_or_default().as_bytes());
            hasher.update(b"\n");
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The file of questions, by its name alone.
    #[must_use]
    pub fn name(&self) -> String {
        self.questions.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// Hash of a file, or of the files of a directory in the order of their names.
fn hash_of(path: &PathBuf) -> Result<String, EvalError> {
    if !path.is_dir() {
        return Ok(blake3_file(path)?);
    }
    let entries = fs_err::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().filter(|path| path.is_file()).collect();
    files.sort();
    let hashes = files.iter().map(|file| blake3_file(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(blake3::hash(hashes.concat().as_bytes()).to_hex().to_string())
}

/// Reads a data set.
///
/// # Errors
/// Those of its reader.
pub fn open(files: &Files) -> Result<DataSet, EvalError> {
    let given = |path: &Option<PathBuf>| path.as_deref().map(Path::to_owned);
    match files.format {
        Format::Evqa => evqa::read(&files.questions, evqa::Options { two_hop: files.two_hop }),
        Format::Infoseek => {
            infoseek::read(&files.questions, given(&files.qtype).as_deref(), given(&files.withkb).as_deref())
        }
        Format::M2kr => m2kr::read(&files.questions),
        Format::Mbeir => mbeir::read(&files.questions, given(&files.qrels).as_deref()),
    }
}

impl DataSet {
    /// The questions of a file's rows, each with its line; what cannot be one, and a second one of an id, is dirty.
    ///
    /// # Errors
    /// A file that cannot be read on.
    pub(super) fn of_rows<T>(
        rows: impl Iterator<Item = Result<(usize, T), IoError>>,
        id: &str,
        question: impl Fn(T) -> Result<Question, String>,
    ) -> Result<Self, EvalError> {
        let mut set = Self::default();
        let mut ids = HashSet::new();
        for row in rows {
            let (line, read) = match row {
                Ok((line, record)) => (line, question(record)),
                Err(IoError::Line { line, reason, .. }) => (line, Err(reason)),
                Err(e) => return Err(e.into()),
            };
            match read {
                Ok(question) if !ids.insert(question.id.clone()) => {
                    let reason = format!("second row of {id} {:?}", question.id);
                    set.dirty.push(Dirty { line: line as u64, reason });
                }
                Ok(question) => set.questions.push(question),
                Err(reason) => set.dirty.push(Dirty { line: line as u64, reason }),
            }
        }
        Ok(set)
    }

    /// Itself, if there is a question in it.
    ///
    /// # Errors
    /// [`EvalError::Empty`].
    pub(super) fn or_empty(self, path: &Path, expected: &'static str) -> Result<Self, EvalError> {
        if self.questions.is_empty() {
            let (rows, first) = (self.dirty.len(), self.dirty.first().map(ToString::to_string));
            return Err(EvalError::Empty { path: path.to_owned(), rows, first, expected });
        }
        Ok(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name_and_files_by_what_is_in_them() {
        for (name, format) in Format::NAMES {
            assert_eq!((name.parse::<Format>().unwrap(), format.to_string()), (format, name.to_owned()));
        }
        let message = "coco".parse::<Format>().unwrap_err().to_string();
        assert!(message.contains("\"coco\"") && message.contains("evqa, infoseek, m2kr or mbeir"), "{message}");

        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            fs_err::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let questions = path("q.jsonl", r#"{"data_id":"a","question":"Q?","answer_eval":["x"],"data_split":"val"}"#);
        let mut files =
            Files { format: Format::Infoseek, questions, qtype: None, withkb: None, qrels: None, two_hop: false };
        let without = files.hash().unwrap();
        assert_eq!((open(&files).unwrap().questions.len(), files.name().as_str()), (1, "q.jsonl"));
        let table = Files { questions: dir.path().to_owned(), ..files.clone() };
        assert_eq!(table.hash().unwrap(), table.hash().unwrap(), "a directory of tables has a hash, too");
        files.qtype = Some(path("t.jsonl", r#"{"data_id":"a","question_type":"Time"}"#));
        assert_ne!(files.hash().unwrap(), without);
        assert_eq!(open(&files).unwrap().questions[0].kind.name(), "Time");
    }
}
