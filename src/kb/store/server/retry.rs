//! Which failures pass by themselves, and how long to wait for that.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use qdrant_client::QdrantError;
use tonic::{Code, Status};

use crate::kb::store::ServerErrorKind as Kind;

/// Pause after the first attempt; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause that is not asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Most that is repeated of what a server says.
const MOST_TOLD: usize = 600;

/// Begins the client's own message, under the code `Internal`.
const NO_CONNECTION: &str = "Failed to connect to";

/// What is said of the client's own timeout.
const NO_ANSWER: &str = "no answer";

/// What came of a call that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: Kind,
    pub reason: String,
    /// Whether the same call may succeed later.
    pub passes: bool,
    /// How long the server asks to be left alone.
    pub wait: Option<Duration>,
}

impl Failure {
    pub(super) fn lasting(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), passes: false, wait: None }
    }

    pub(super) fn passing(kind: Kind, reason: impl Into<String>) -> Self {
        Self { passes: true, ..Self::lasting(kind, reason) }
    }
}

impl From<QdrantError> for Failure {
    fn from(error: QdrantError) -> Self {
        match error {
            QdrantError::ResponseError { status } => read(&status),
            QdrantError::ResourceExhaustedError { status, retry_after_seconds } => {
                Self { wait: Some(Duration::from_secs(retry_after_seconds)), ..read(&status) }
            }
            QdrantError::Io(error) => Self::passing(Kind::Unreachable, error.to_string()),
            other => Self::lasting(Kind::Refused, other.to_string()),
        }
    }
}

/// Sorts an answer. The code alone does not tell: the client reports that nobody answers as `Internal` and its own
/// timeout as `Cancelled`, and the server reports a full disk as `Internal`.
fn read(status: &Status) -> Failure {
    let message = status.message();
    let says = |words: &[&str]| {
        let message = message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    };
    let reason = plain(message);
    let reason = if reason.is_empty() { status.code().description().to_owned() } else { reason };
    if message.starts_with(NO_CONNECTION) {
        // A certificate does not get better by waiting.
        if says(&["certificate", "native certs"]) {
            let advice = "its certificate is not trusted: SSL_CERT_FILE may name that of its authority";
            return Failure::lasting(Kind::Unreachable, format!("{advice} ({reason})"));
        }
        return Failure::passing(Kind::Unreachable, reason);
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Failure::lasting(Kind::Unauthorised, reason),
        Code::NotFound if says(&["collection"]) => Failure::lasting(Kind::NoCollection, reason),
        Code::AlreadyExists => Failure::lasting(Kind::Exists, reason),
        Code::InvalidArgument if says(&["already exists"]) => Failure::lasting(Kind::Exists, reason),
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented => {
            Failure::lasting(Kind::Refused, reason)
        }
        _ if says(&["no space left", "disk is full", "out of disk", "quota", "insufficient storage"]) => {
            Failure::lasting(Kind::OutOfSpace, reason)
        }
        Code::DeadlineExceeded => Failure::passing(Kind::Timeout, reason),
        Code::Cancelled if says(&["timeout"]) => Failure::passing(Kind::Timeout, NO_ANSWER),
        Code::ResourceExhausted => Failure::passing(Kind::Busy, reason),
        Code::Unavailable | Code::Cancelled => Failure::passing(Kind::Unreachable, reason),
        Code::Internal | Code::Unknown if says(&["transport", "h2 ", "http2", "connection", "broken pipe"]) => {
            Failure::passing(Kind::Unreachable, reason)
        }
        // A cluster whose replicas do not agree asks for it in words.
        Code::Aborted => Failure::passing(Kind::Failed, reason),
        Code::Internal if says(&["please retry", "try again"]) => Failure::passing(Kind::Failed, reason),
        _ => Failure::lasting(Kind::Failed, reason),
    }
}

/// What people can read of a message, and not pages of it. That nobody answers is said in a debug form, of which the
/// words of the system or of TLS are taken.
fn plain(message: &str) -> String {
    let between = |begin, end| message.rsplit_once(begin).and_then(|(_, rest)| rest.split_once(end));
    let inner = between("message: \"", "\"").or_else(|| between("error: ", " }")).map(|(inner, _)| inner);
    let text = inner.filter(|_| message.starts_with(NO_CONNECTION)).unwrap_or(message).trim();
    match text.char_indices().nth(MOST_TOLD) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

/// Pause before the attempt after number `attempt` (from 1): twice the one before, between half and all of it, so that
/// many who were sent away together do not come back together. What the server asks for is added.
fn pause(attempt: u32, asked: Option<Duration>) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    // The seeds of hash maps are random, which is enough here.
    let random = RandomState::new().build_hasher().finish() % 1000;
    asked.unwrap_or_default() + whole.mul_f64(0.5 + random as f64 / 2000.0)
}

/// Makes a call until it succeeds, fails for good, or `total` has passed. The call is told the number of the attempt,
/// from 1.
pub(super) async fn persist<T, F, R>(total: Duration, again: bool, call: F) -> Result<T, Failure>
where
    F: Fn(u32) -> R,
    R: Future<Output = Result<T, Failure>>,
{
    let started = Instant::now();
    let mut last: Option<Failure> = None;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let left = total.saturating_sub(started.elapsed());
        let failure = match tokio::time::timeout(left, call(attempt)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let before = last.map(|last| format!("; before that: {}", last.reason)).unwrap_or_default();
                let reason = format!("{NO_ANSWER} within {}{before}", seconds(total));
                return Err(Failure::lasting(Kind::Timeout, reason));
            }
        };
        let pause = pause(attempt, failure.wait);
        if !again || !failure.passes || started.elapsed() + pause >= total {
            return Err(ended(failure, attempt, started.elapsed()));
        }
        tracing::debug!(attempt, ?pause, kind = %failure.kind, reason = %failure.reason, "Qdrant is called again");
        tokio::time::sleep(pause).await;
        last = Some(failure);
    }
}

/// The failure as it is told in the end.
fn ended(failure: Failure, attempts: u32, elapsed: Duration) -> Failure {
    if failure.reason == NO_ANSWER {
        // The client's timeout and ours end together: whichever was first says the same.
        return Failure { reason: format!("{NO_ANSWER} within {}", seconds(elapsed)), ..failure };
    }
    let asked = failure.wait.map(|wait| format!(" (it asks to be left alone for {} s)", wait.as_secs()));
    let tried = (attempts > 1).then(|| format!(" ({attempts} attempts in {})", seconds(elapsed)));
    let reason = format!("{}{}{}", failure.reason, asked.unwrap_or_default(), tried.unwrap_or_default());
    Failure { reason, ..failure }
}

pub(super) fn seconds(time: Duration) -> String {
    if time >= Duration::from_secs(10) {
        format!("{} s", time.as_secs())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn kind(code: Code, message: &str) -> (Kind, bool) {
        let failure = read(&Status::new(code, message));
        (failure.kind, failure.passes)
    }

    #[test]
    fn answers_are_sorted_by_what_can_be_done() {
        let refused = "Failed to connect to http://a/: tonic::transport::Error(Transport, ConnectError(ConnectError(\
                       \"tcp connect error\", Os { code: 111, message: \"Connection refused\" })))";
        assert_eq!(kind(Code::Internal, refused), (Kind::Unreachable, true));
        assert_eq!(read(&Status::internal(refused)).reason, "Connection refused");
        let certificate = "Failed to connect to https://a/: tonic::transport::Error(Transport, ConnectError(Custom { \
                           kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }))";
        assert_eq!(kind(Code::Internal, certificate), (Kind::Unreachable, false));
        assert!(read(&Status::internal(certificate)).reason.ends_with("(InvalidCertificate(UnknownIssuer))"));
        assert_eq!(kind(Code::Unauthenticated, "Must provide an API key"), (Kind::Unauthorised, false));
        assert_eq!(kind(Code::NotFound, "Not found: Collection `a` doesn't exist!"), (Kind::NoCollection, false));
        assert_eq!(kind(Code::InvalidArgument, "Wrong input: Collection `a` already exists!"), (Kind::Exists, false));
        assert_eq!(kind(Code::InvalidArgument, "Wrong input: Vector dimension error"), (Kind::Refused, false));
        let full = "Service internal error: No space left on device: WAL buffer size exceeds available disk space";
        assert_eq!(kind(Code::Internal, full), (Kind::OutOfSpace, false));
        assert_eq!(kind(Code::Cancelled, "Timeout expired"), (Kind::Timeout, true));
        assert_eq!(kind(Code::DeadlineExceeded, "Timeout: 60 s"), (Kind::Timeout, true));
        assert_eq!(kind(Code::ResourceExhausted, "Rate limiting exceeded"), (Kind::Busy, true));
        assert_eq!(kind(Code::Unknown, "transport error"), (Kind::Unreachable, true));
        assert_eq!(kind(Code::Internal, "Service internal error: a bug"), (Kind::Failed, false));
        let replicas = "Service internal error: Consistency of this update is not guaranteed. Please retry.";
        assert_eq!(kind(Code::Internal, replicas), (Kind::Failed, true));
        let quoted = "Wrong input: error: { message: \"a\" }";
        assert_eq!(read(&Status::invalid_argument(quoted)).reason, quoted);
    }

    #[test]
    fn pauses_grow_and_end() {
        for attempt in 1..40 {
            let pause = pause(attempt, None);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
        assert!(pause(8, None) > pause(1, None));
        assert!(pause(1, Some(Duration::from_secs(3))) > Duration::from_secs(3));
    }

    #[test]
    fn a_page_of_text_is_cut() {
        assert_eq!(plain(&"ä".repeat(10_000)).chars().count(), MOST_TOLD + 2);
    }
}
