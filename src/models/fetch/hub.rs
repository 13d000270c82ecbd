//! Files of a model hub over HTTP, resumed where they broke off.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::{Miss, Report};
use crate::models::catalogue::FileEntry;
use crate::models::pull::{PullOptions, Step};

/// Connections that may break in a row without one new byte.
const ATTEMPTS: u32 = 3;

/// A file in a repository.
pub(super) struct Address<'a> {
    pub repo: &'a str,
    pub revision: &'a str,
    pub file: &'a str,
}

/// One hub.
pub(super) struct Hub<'o> {
    options: &'o PullOptions,
    agent: Agent,
    /// Why it could not be reached; it is not tried again in this pull.
    down: Option<String>,
}

enum Broken {
    Miss(Miss),
    /// No answer came at all.
    Silent(String),
    /// The connection broke; what came is in the part.
    Connection(String),
}

impl From<crate::models::ModelsError> for Broken {
    fn from(error: crate::models::ModelsError) -> Self {
        Self::Miss(Miss::Fatal(error))
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Miss(Miss::Fatal(error.into()))
    }
}

impl<'o> Hub<'o> {
    pub(super) fn new(options: &'o PullOptions) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("cicerone/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build();
        Self { options, agent: config.into(), down: None }
    }

    /// Fetches a file to `target`, by way of `<target>.part`, which a later call takes up.
    pub(super) fn get(
        &mut self,
        address: &Address<'_>,
        file: &FileEntry,
        target: &Path,
        report: &mut Report<'_>,
    ) -> Result<(), Miss> {
        if let Some(down) = &self.down {
            return Err(Miss::Unreachable(down.clone()));
        }
        let Address { repo, revision, file: member } = address;
        let url = format!("{}/{repo}/resolve/{revision}/{}", self.options.hub, member.replace(' ', "%20"));
        let part = suffixed(target, ".part");
        let tag = suffixed(target, ".part.etag");
        let mut left = ATTEMPTS;
        loop {
            let before = length(&part);
            match self.attempt(&url, file, &part, &tag, report) {
                Ok(()) => break,
                Err(Broken::Miss(miss)) => return Err(miss),
                Err(Broken::Silent(reason)) if before == 0 => {
                    self.down = Some(reason.clone());
                    return Err(Miss::Unreachable(reason));
                }
                Err(Broken::Connection(reason) | Broken::Silent(reason)) => {
                    let after = length(&part);
                    left = if after > before { ATTEMPTS } else { left - 1 };
                    if left == 0 {
                        return Err(Miss::Unreachable(reason));
                    }
                    tracing::debug!("{url}: {reason}, {after} bytes so far, trying again");
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
        fs_err::rename(&part, target)?;
        let _ = fs_err::remove_file(&tag);
        Ok(())
    }

    fn attempt(
        &self,
        url: &str,
        file: &FileEntry,
        part: &Path,
        tag: &Path,
        report: &mut Report<'_>,
    ) -> Result<(), Broken> {
        let mut have = length(part);
        if file.bytes.is_some_and(|bytes| have > bytes) {
            fs_err::remove_file(part)?;
            have = 0;
        }
        if have > 0 && file.bytes == Some(have) {
            return Ok(());
        }
        let mut request = self.agent.get(url);
        if let Some(token) = self.token() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
            // Without a tag the hash at the end tells whether the two halves belong together.
            if let Ok(tag) = fs_err::read_to_string(tag) {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let response = request.call().map_err(|e| Broken::Silent(e.to_string()))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(have) => {}
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                if response.status() == StatusCode::PARTIAL_CONTENT {
                    let _ = fs_err::remove_file(part);
                    return Err(Broken::Connection("the server sent another range than it was asked for".into()));
                }
                have = 0;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // The part is no beginning of this file.
                fs_err::remove_file(part)?;
                return Err(Broken::Connection("the server refused to go on from the part".into()));
            }
            status => return Err(refused(status, self.token().is_some())),
        }
        if let Some(etag) = response.headers().get(header::ETAG).and_then(|v| v.to_str().ok()) {
            // Weak tags do not identify bytes.
            if !etag.starts_with("W/") {
                fs_err::write(tag, etag)?;
            }
        }
        let total = response.body().content_length().map(|n| n + have);
        self.body(response, file, part, have, total, report)
    }

    /// The token, where the way to the hub is closed to listeners.
    fn token(&self) -> Option<&str> {
        let safe = ["https://", "http://127.0.0.1", "http://localhost"];
        self.options.hub_token.as_deref().filter(|_| safe.iter().any(|start| self.options.hub.starts_with(start)))
    }

    fn body(
        &self,
        response: Response<Body>,
        file: &FileEntry,
        part: &Path,
        have: u64,
        total: Option<u64>,
        report: &mut Report<'_>,
    ) -> Result<(), Broken> {
        let mut out =
            fs_err::OpenOptions::new().create(true).write(true).truncate(have == 0).append(have > 0).open(part)?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut done = have;
        loop {
            self.options.check_cancel()?;
            report(&file.name, Step::Fetch, done, file.bytes.or(total));
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Broken::Connection(e.to_string())),
            };
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n])?;
            done += n as u64;
            if file.bytes.is_some_and(|bytes| done > bytes) {
                // Longer than it can be: the check at the end says so, without filling the disk.
                return Ok(());
            }
        }
        match total {
            Some(total) if done < total => {
                Err(Broken::Connection(format!("the connection broke at {done} of {total} bytes")))
            }
            _ => Ok(()),
        }
    }
}

fn refused(status: StatusCode, with_token: bool) -> Broken {
    let code = status.as_u16();
    Broken::Miss(match code {
        401 | 403 if with_token => {
            Miss::Unavailable(format!("status {code}: HF_TOKEN does not open it (accept its licence on the hub?)"))
        }
        401 | 403 => Miss::Unavailable(format!("status {code}: it is closed, or not there; set HF_TOKEN")),
        408 | 429 | 500..=599 => Miss::Unreachable(format!("status {code}")),
        _ => Miss::Unavailable(format!("status {code}")),
    })
}

/// First byte of `Content-Range: bytes first-last/total`.
fn starts_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

fn length(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |m| m.len())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
