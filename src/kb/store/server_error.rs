//! Why a Qdrant server did not do what it was asked. Here in every build, so that a caller can tell the kinds apart
//! without knowing whether it was built with a client.

use std::fmt;

/// A failure of a server, or of the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Qdrant server at {url} did not {what}: {reason}; {}", .kind.next_step())]
pub struct ServerError {
    /// What kind it is.
    pub kind: ServerErrorKind,
    /// Where the server was looked for; never with a key.
    pub url: String,
    /// What it was to do.
    pub what: &'static str,
    /// What was found, and what was expected where that is known.
    pub reason: String,
}

impl ServerError {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ServerErrorKind {
        self.kind
    }
}

/// The kinds of failure. Each has a next step of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerErrorKind {
    /// Nobody answers there, or the connection broke.
    Unreachable,
    /// No key, a wrong one, or one that may not do this.
    Unauthorised,
    /// Its version is older than the client works with.
    TooOld,
    /// There is no such collection.
    NoCollection,
    /// There is such a collection already.
    Exists,
    /// The request is one that it does not take.
    Refused,
    /// It did not answer, or did not get on, in time.
    Timeout,
    /// Its disk is full, or a quota is used up.
    OutOfSpace,
    /// It takes no more requests for now.
    Busy,
    /// A failure of its own.
    Failed,
}

impl ServerErrorKind {
    /// What can be done about it: the end of a message.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Unreachable => "see that it runs, and that the URL names its gRPC port (6334 unless it was changed)",
            Self::Unauthorised => "set CICERONE_QDRANT_API_KEY to a key that may do this",
            Self::TooOld => "update the server",
            Self::NoCollection => "see that this is the right server, or build the knowledge base there",
            Self::Exists => "choose another name, or remove that collection first",
            Self::Refused => "compare the server's version and the collection's settings with what was asked for",
            Self::Timeout => "try again when the server has less to do, or allow it more time",
            Self::OutOfSpace => "free disk space or raise the quota there, then run the same command again",
            Self::Busy => "try again later, or raise the server's rate limit",
            Self::Failed => "see the server's log",
        }
    }
}

impl fmt::Display for ServerErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorised => "unauthorised",
            Self::TooOld => "too old",
            Self::NoCollection => "no such collection",
            Self::Exists => "exists already",
            Self::Refused => "refused",
            Self::Timeout => "timed out",
            Self::OutOfSpace => "out of space",
            Self::Busy => "busy",
            Self::Failed => "failed",
        })
    }
}
