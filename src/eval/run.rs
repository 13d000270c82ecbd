//! The folder of a run: what was asked, of what, and everything that came of it.
//!
//! | file | holds | made anew |
//! | --- | --- | --- |
//! | `run.json` | the [`Manifest`] | never, but for the modes |
//! | `questions.jsonl` | the questions that are asked, with their references and pictures | never |
//! | `retrieval.jsonl` | what the search found, a [`super::log`] | never: appended |
//! | `answers.jsonl` | what was answered, in every mode, a [`super::log`] | never: appended |
//! | `bem.jsonl` | what BEM said, a [`super::log`] | never: appended |
//! | `report.*` | what is made of all that | by each `eval run` and `eval report` |
//!
//! A run may be split over machines by [`Shard`]; [`merge`] puts the parts together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers::{Mode, Outcome};
use super::dataset::pictures::Pictures;
use super::log::{copy, read, refuse_other_run, write_whole};
use super::{EvalError, Question};
use crate::io::{AtomicFile, DirLock, IoError, JsonlReader, write_atomic, write_line};

/// Format of the folder that is written and read.
pub const FORMAT: u32 = 1;

const MANIFEST: &str = "run.json";
const QUESTIONS: &str = "questions.jsonl";
const RETRIEVAL: &str = "retrieval.jsonl";
const ANSWERS: &str = "answers.jsonl";
const BEM: &str = "bem.jsonl";

/// A part of a run: of `of` parts the one with this number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// The questions of this part: every `of`-th one.
    #[must_use]
    pub fn questions(self, all: Vec<Question>) -> Vec<Question> {
        all.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(format!("{text:?}; expected i/n with i from 1 to n, such as 1/4")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// The beginning of every entry.
#[derive(Deserialize)]
struct Id {
    id: String,
}

/// What was read of the data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Its name.
    pub name: String,
    /// Questions of it that can be asked.
    pub usable: usize,
    /// Rows that cannot be used.
    pub dirty: usize,
    /// The first of them, with the reason.
    pub first_dirty: Option<String>,
    /// `2_hop` questions that were left out.
    pub two_hop: usize,
    /// Pictures of the questions that are asked.
    pub pictures: Pictures,
}

/// What a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of the program that began it.
    pub program_version: String,
    /// Everything that decides what is found: data, knowledge base, retriever.
    pub retrieval: Value,
    /// Everything that decides the answers, the former included: reader, ranker, prompts, settings.
    pub run: Value,
    /// The part of it that is here.
    pub shard: Option<Shard>,
    /// Where passages came from, so far.
    pub modes: Vec<Mode>,
    /// What was read.
    pub data: DataFacts,
    /// What was searched, as its own manifest says it, for the record.
    pub knowledge_base: Value,
}

impl Manifest {
    fn read(dir: &Path) -> Result<Self, EvalError> {
        let path = dir.join(MANIFEST);
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(EvalError::NoRun { path: dir.to_owned() });
            }
            Err(e) => return Err(e.into()),
        };
        let bad = |reason: String| IoError::Line { path: path.clone(), line: 1, reason };
        let manifest: Self = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(bad(format!("a run of format {}; expected {FORMAT}", manifest.format)).into());
        }
        Ok(manifest)
    }

    fn write(&self, dir: &Path) -> Result<(), EvalError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| IoError::Encode { path: dir.join(MANIFEST), reason: e.to_string() })?;
        Ok(write_atomic(&dir.join(MANIFEST), &text)?)
    }

    /// What a log's first line says: the part of the run that is here belongs to it.
    fn head(&self, of: &Value) -> Value {
        let mut head = of.clone();
        if let (Some(shard), Some(map)) = (self.shard, head.as_object_mut()) {
            map.insert("shard".to_owned(), json!(shard));
        }
        head
    }
}

/// The folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    manifest: Manifest,
    questions: Vec<Question>,
    /// Held while it is written to.
    lock: Option<DirLock>,
}

impl RunFolder {
    /// Begins a run in `dir`, or goes on with the one that is there. Nobody else writes to it until this is dropped.
    ///
    /// # Errors
    /// [`EvalError::OtherRun`] where another run is there, [`IoError::Locked`] where it is being written to, or the system's.
    pub fn open(dir: &Path, manifest: Manifest, questions: Vec<Question>) -> Result<Self, EvalError> {
        fs_err::create_dir_all(dir)?;
        let lock = DirLock::acquire(dir)?;
        let mut manifest = manifest;
        if dir.join(MANIFEST).exists() {
            let before = Manifest::read(dir)?;
            let path = dir.join(MANIFEST);
            refuse_other_run(&path, &json!({ "shard": before.shard }), &json!({ "shard": manifest.shard }))?;
            refuse_other_run(&path, &before.run, &manifest.run)?;
            let modes: BTreeSet<Mode> = before.modes.iter().chain(&manifest.modes).copied().collect();
            manifest.modes = modes.into_iter().collect();
        }
        // The pictures may lie elsewhere by now; the questions are the same.
        write_questions(dir, &questions)?;
        manifest.write(dir)?;
        Ok(Self { dir: dir.to_owned(), manifest, questions, lock: Some(lock) })
    }

    /// Opens a run to read it.
    ///
    /// # Errors
    /// [`EvalError::NoRun`], or a file that cannot be read.
    pub fn read(dir: &Path) -> Result<Self, EvalError> {
        let manifest = Manifest::read(dir)?;
        let rows = JsonlReader::<Question>::open(&dir.join(QUESTIONS))?;
        let questions = rows.map(|row| Ok(row?.1)).collect::<Result<_, IoError>>()?;
        Ok(Self { dir: dir.to_owned(), manifest, questions, lock: None })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is asked.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The log of what was found.
    #[must_use]
    pub fn retrieval_log(&self) -> PathBuf {
        self.dir.join(RETRIEVAL)
    }

    /// The log of what was answered.
    #[must_use]
    pub fn answer_log(&self) -> PathBuf {
        self.dir.join(ANSWERS)
    }

    /// The log of what BEM said.
    #[must_use]
    pub fn bem_log(&self) -> PathBuf {
        self.dir.join(BEM)
    }

    /// First line of [`RunFolder::retrieval_log`].
    #[must_use]
    pub fn retrieval_head(&self) -> Value {
        self.manifest.head(&self.manifest.retrieval)
    }

    /// First line of [`RunFolder::answer_log`].
    #[must_use]
    pub fn answer_head(&self) -> Value {
        self.manifest.head(&self.manifest.run)
    }

    /// Writes outcomes that are all there at once, in place of whatever was.
    ///
    /// # Errors
    /// The system's.
    pub fn write_outcomes(&self, outcomes: impl Iterator<Item = Outcome>) -> Result<(), EvalError> {
        write_whole(&self.answer_log(), &self.answer_head(), outcomes)
    }

    /// Takes over what another run found, of this run's questions, where nothing has been searched for yet.
    ///
    /// # Errors
    /// [`EvalError::OtherRun`] for a search of other data, by another retriever, or in another knowledge base: nothing is then
    /// taken over. [`EvalError::NoRun`] for a run that has not searched.
    pub fn take_over(&self, from: &Self) -> Result<(), EvalError> {
        let log = from.retrieval_log();
        if !log.is_file() {
            return Err(EvalError::NoRun { path: log });
        }
        let (mut theirs, head) = (from.retrieval_head(), self.retrieval_head());
        forget_shard(&mut theirs);
        refuse_other_run(&log, &theirs, &self.manifest.retrieval)?;
        if self.retrieval_log().exists() {
            return Ok(());
        }
        let ids: HashSet<&str> = self.questions.iter().map(|question| question.id.as_str()).collect();
        let ours = |line: &[u8]| serde_json::from_slice::<Id>(line).is_ok_and(|line| ids.contains(&*line.id));
        copy(&[log], &self.retrieval_log(), |found| found.clone_from(&head), ours)
    }

    /// Keeps others from writing to a run that was opened to be read.
    ///
    /// # Errors
    /// [`IoError::Locked`].
    pub fn lock(&mut self) -> Result<(), EvalError> {
        if self.lock.is_none() {
            self.lock = Some(DirLock::acquire(&self.dir)?);
        }
        Ok(())
    }

    /// The answers that are there: the last one of each question in each mode, by mode, in the order of the questions. The
    /// texts of passages, which are most of it, are kept of those questions alone whose id `with_texts` takes.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn outcomes(&self, with_texts: impl Fn(&str) -> bool) -> Result<Vec<(&Question, Outcome)>, EvalError> {
        let path = self.answer_log();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let mut found = HashMap::new();
        read(
            &path,
            |_| Ok(()),
            |mut outcome: Outcome| {
                if !with_texts(&outcome.id) {
                    outcome.forget_texts();
                }
                found.insert((outcome.id.clone(), outcome.mode), outcome);
                Ok(())
            },
        )?;
        let modes: BTreeSet<Mode> = found.keys().map(|(_, mode)| *mode).collect();
        let mut all = Vec::with_capacity(found.len());
        for mode in modes {
            for question in &self.questions {
                if let Some(outcome) = found.remove(&(question.id.clone(), mode)) {
                    all.push((question, outcome));
                }
            }
        }
        Ok(all)
    }
}

/// The whole run's first line, of one of its parts.
fn forget_shard(head: &mut Value) {
    if let Some(head) = head.as_object_mut() {
        head.remove("shard");
    }
}

fn write_questions(dir: &Path, questions: &[Question]) -> Result<(), EvalError> {
    let path = dir.join(QUESTIONS);
    let mut file = AtomicFile::create(&path)?;
    for question in questions {
        write_line(&mut file, &path, question)?;
    }
    Ok(file.commit()?)
}

/// Puts the parts of a run together in `into`, a folder that does not exist yet.
///
/// # Errors
/// Parts of different runs, a part that is missing or there twice, or a file that cannot be read or written.
pub fn merge(parts: &[PathBuf], into: &Path) -> Result<RunFolder, EvalError> {
    if into.join(MANIFEST).exists() {
        return Err(EvalError::Merge {
            reason: format!("{}: a run is there already; name another folder", into.display()),
        });
    }
    let mut folders = parts.iter().map(|dir| RunFolder::read(dir)).collect::<Result<Vec<_>, _>>()?;
    let numbered = |folder: &RunFolder| folder.manifest.shard.map_or((0, 0), |shard| (shard.of, shard.number));
    folders.sort_by_key(numbered);
    let found: Vec<String> =
        folders.iter().map(|f| f.manifest.shard.map_or_else(|| "a whole run".to_owned(), |s| s.to_string())).collect();
    let expected: Vec<String> = (1..=folders.len()).map(|n| format!("{n}/{}", folders.len())).collect();
    if found != expected {
        let reason = format!("found {}; expected every part of one run once, as in 1/2, 2/2", found.join(", "));
        return Err(EvalError::Merge { reason });
    }
    let Some(first) = folders.first() else {
        return Err(EvalError::Merge { reason: "no part is named".to_owned() });
    };
    let mut manifest = Manifest { shard: None, ..first.manifest.clone() };
    let mut modes = BTreeSet::new();
    for folder in &folders {
        refuse_other_run(&folder.dir.join(MANIFEST), &folder.manifest.run, &manifest.run)?;
        modes.extend(&folder.manifest.modes);
    }
    manifest.modes = modes.into_iter().collect();
    fs_err::create_dir_all(into)?;
    for name in [RETRIEVAL, ANSWERS, BEM] {
        let parts: Vec<PathBuf> = parts.iter().map(|dir| dir.join(name)).filter(|path| path.exists()).collect();
        if !parts.is_empty() {
            copy(&parts, &into.join(name), forget_shard, |_| true)?;
        }
    }
    // Dealt out one by one, they are gathered one by one.
    let mut rows: Vec<_> = folders.iter_mut().map(|f| std::mem::take(&mut f.questions).into_iter()).collect();
    let mut questions = Vec::new();
    loop {
        let before = questions.len();
        questions.extend(rows.iter_mut().filter_map(Iterator::next));
        if questions.len() == before {
            break;
        }
    }
    manifest.data.pictures = Pictures::of(&questions);
    RunFolder::open(into, manifest, questions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::eval::answers::{self, Reply};
    use crate::eval::dataset::evqa;

    fn questions(n: usize) -> Vec<Question> {
        let rows: Vec<String> = (0..n).map(|i| format!("Q {i}?,automatic,{i},u")).collect();
        let dir = tempfile::tempdir().unwrap();
        let text = format!("question,question_type,answer,wikipedia_url\n{}\n", rows.join("\n"));
        fs_err::write(dir.path().join("q.csv"), text).unwrap();
        evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions
    }

    fn manifest(shard: Option<&str>) -> Manifest {
        Manifest {
            format: FORMAT,
            program_version: "1".into(),
            retrieval: json!({"kb": "k"}),
            run: json!({"kb": "k", "reader": "r"}),
            shard: shard.map(|text| text.parse().unwrap()),
            modes: vec![Mode::NoRetrieval],
            data: DataFacts::default(),
            knowledge_base: Value::Null,
        }
    }

    fn answered(dir: &Path, manifest: Manifest, questions: Vec<Question>) {
        let folder = RunFolder::open(dir, manifest, questions).unwrap();
        let asked: Vec<&Question> = folder.questions().iter().collect();
        let (log, head) = (folder.answer_log(), folder.answer_head());
        let answer = |question: &Question, _| Ok(Reply::from(question.id.as_str()));
        let modes = folder.manifest().modes.clone();
        answers::run(&asked, &modes, Some((&log, &head)), answer, |_| ControlFlow::Continue(())).unwrap();
    }

    #[test]
    fn parts_put_together_are_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        answered(&at("whole"), manifest(None), questions(11));
        let mut parts = Vec::new();
        for number in [3, 1, 2] {
            let shard: Shard = format!("{number}/3").parse().unwrap();
            parts.push(at(&format!("part-{number}")));
            answered(parts.last().unwrap(), manifest(Some(&shard.to_string())), shard.questions(questions(11)));
        }
        let merged = merge(&parts, &at("merged")).unwrap();
        let whole = RunFolder::read(&at("whole")).unwrap();
        assert_eq!((merged.questions(), merged.manifest()), (whole.questions(), whole.manifest()));
        let plain = |folder: &RunFolder| -> Vec<(String, Reply)> {
            folder.outcomes(|_| true).unwrap().into_iter().map(|(_, o)| (o.id, o.reply.unwrap())).collect()
        };
        assert_eq!(plain(&merged), plain(&whole));
        drop(merged);
        // What was put together can be gone on with.
        let mut more = manifest(None);
        more.modes = vec![Mode::OracleEntity];
        answered(&at("merged"), more, questions(11));
        let both = RunFolder::read(&at("merged")).unwrap();
        assert_eq!(both.manifest().modes, [Mode::OracleEntity, Mode::NoRetrieval]);
        assert_eq!(both.outcomes(|_| true).unwrap().len(), 22);

        let said = |parts: &[PathBuf]| merge(parts, &at("other")).unwrap_err().to_string();
        assert!(said(&parts[..2]).contains("found 1/3, 3/3; expected every part"), "{}", said(&parts[..2]));
        assert!(said(&[parts[0].clone(), parts[0].clone(), parts[1].clone()]).contains("1/3, 3/3, 3/3"));
        assert!(said(&[at("whole")]).contains("found a whole run"));
        assert!(said(&[at("nowhere")]).contains("no run"));
        assert!(merge(&parts, &at("merged")).unwrap_err().to_string().contains("a run is there already"));
        let mut strange = manifest(Some("2/3"));
        strange.run = json!({"kb": "k", "reader": "s"});
        answered(&at("strange"), strange, questions(1));
        let message = said(&[parts[1].clone(), at("strange"), parts[0].clone()]);
        assert!(message.contains("run.reader"), "{message}");
    }

    #[test]
    fn a_folder_is_of_one_run_and_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = RunFolder::open(dir.path(), manifest(None), questions(2)).unwrap();
        let busy = RunFolder::open(dir.path(), manifest(None), questions(2)).unwrap_err().to_string();
        assert!(busy.contains("is in use by process"), "{busy}");
        drop(held);
        let mut other = manifest(None);
        other.run = json!({"kb": "l", "reader": "r"});
        let refused = RunFolder::open(dir.path(), other, questions(2)).unwrap_err().to_string();
        assert!(refused.contains("run.kb: \"k\", now \"l\""), "{refused}");
        let part = RunFolder::open(dir.path(), manifest(Some("1/2")), questions(2)).unwrap_err().to_string();
        assert!(part.contains("run.shard: null, now \"1/2\""), "{part}");
        assert!("0/2".parse::<Shard>().is_err() && "3/2".parse::<Shard>().is_err() && "1".parse::<Shard>().is_err());
    }
}
