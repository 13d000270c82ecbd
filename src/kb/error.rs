//! Why a knowledge base could not be built, opened or searched.

use std::path::PathBuf;

use super::source::{RecordUnit, SourceError};
use super::store::{ServerErrorKind as Kind, StoreError};
use crate::io::IoError;

/// One error for the room. Each message says what to do next, where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum KbError {
    /// Not a name.
    #[error(
        "{name:?} cannot name a knowledge base; expected 1 to 64 of a-z, 0-9, `-`, `_` and `.`, the first a letter or digit"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// Nothing of that name.
    #[error(
        "no knowledge base {name:?} in {place} ({there}); build it: cicerone kb build --name {name} --source KIND:PATH",
        there = listed(.existing)
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where it was looked for: a directory or a server.
        place: String,
        /// Those that are there.
        existing: Vec<String>,
    },
    /// Built under one retriever, to be searched under another.
    #[error(
        "knowledge base {name:?} was built with retriever {built_with}, the current one is {current}; build it again: {mend}"
    )]
    FingerprintMismatch {
        /// The knowledge base.
        name: String,
        /// Fingerprint in its manifest.
        built_with: String,
        /// Fingerprint of the caller.
        current: String,
        /// The command that mends it.
        mend: String,
    },
    /// The files are not those that were built.
    #[error("knowledge base {name:?} is damaged: {reason}; restore {dir}, or: {mend}", dir = .dir.display())]
    Damaged {
        /// The knowledge base.
        name: String,
        /// Directory of the build.
        dir: PathBuf,
        /// What was found and what was expected.
        reason: String,
        /// The command that mends it.
        mend: String,
    },
    /// A disk that is nearly full.
    #[error(
        "{free} bytes are free on the disk of {dir}, {needed} are needed to go on; make room, and the same command goes on from the last checkpoint",
        dir = .dir.display()
    )]
    NoRoom {
        /// Directory of the build.
        dir: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Stopped by the caller. What was done is kept.
    #[error("interrupted with {articles} articles stored; the same command goes on from there")]
    Interrupted {
        /// Articles stored.
        articles: u64,
    },
    /// Too many articles of the source were refused.
    #[error(
        "{found} articles of {source_path} were refused, more than the limit of {limit}; see {quarantine}, mend the source or raise the limit (a raised limit goes on where this stopped)",
        source_path = .source_path.display(), quarantine = .quarantine.display()
    )]
    TooManyMalformed {
        /// Refused so far.
        found: u64,
        /// The limit.
        limit: u64,
        /// The source.
        source_path: PathBuf,
        /// Where the reasons stand.
        quarantine: PathBuf,
    },
    /// Nothing to build from.
    #[error("{source_path} holds no usable article ({refused} refused); see {quarantine}", source_path = .source_path.display(), quarantine = .quarantine.display())]
    Empty {
        /// The source.
        source_path: PathBuf,
        /// Refused articles.
        refused: u64,
        /// Where the reasons stand.
        quarantine: PathBuf,
    },
    /// The retriever failed.
    #[error("embedding {unit} {from} to {to}: {reason}; the same command goes on from the last checkpoint")]
    Embed {
        /// What is counted.
        unit: RecordUnit,
        /// First record of the batch.
        from: u64,
        /// Last record of the batch.
        to: u64,
        /// Its reason.
        reason: String,
    },
    /// The engine does not hold what was given to it.
    #[error("the engine holds {found} {what} after {expected} were stored; build again with --fresh")]
    Count {
        /// What was counted.
        what: &'static str,
        /// Counted.
        found: u64,
        /// Stored.
        expected: u64,
    },
    /// What came from a server is not what its manifest says.
    #[error(
        "knowledge base {name:?} arrived with the content {found}, its manifest says {expected}; nothing was put in use: check it where it is with cicerone kb verify"
    )]
    OtherContent {
        /// The knowledge base.
        name: String,
        /// Content hash of what arrived.
        found: String,
        /// Content hash in its manifest.
        expected: String,
    },
    /// A thread of the build ended without a word.
    #[error("a thread of the build broke off; the same command goes on from the last checkpoint")]
    Thread,
    /// A build that is not there, or not finished.
    #[error(
        "knowledge base {name:?} has no finished build {number}; finished are {builds}",
        builds = .finished.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
    )]
    NoBuild {
        /// The knowledge base.
        name: String,
        /// What was asked for.
        number: u32,
        /// Those that are finished.
        finished: Vec<u32>,
    },
    /// The build in use was to be removed.
    #[error(
        "build {number} of knowledge base {name:?} is in use; put another in use first (cicerone kb use), or remove all of it without --build"
    )]
    InUse {
        /// The knowledge base.
        name: String,
        /// The build.
        number: u32,
    },
    /// A file of embeddings that cannot be used.
    #[error("embeddings in {path}: {reason}", path = .path.display())]
    Vectors {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// Articles are to be added whose pictures lie elsewhere.
    #[error(
        "its pictures are in {found}, those of the knowledge base in {expected}; put them there, or name it with --pictures",
        found = .found.display(), expected = .expected.display()
    )]
    OtherPictures {
        /// Directory of what is to be added.
        found: PathBuf,
        /// Directory of the knowledge base.
        expected: PathBuf,
    },
    /// An article to be removed that is not there.
    #[error("there is no article {url} in knowledge base {name:?}; nothing was removed")]
    NoSuchArticle {
        /// What was asked for.
        url: String,
        /// The knowledge base.
        name: String,
    },
    /// Every article was to be removed.
    #[error("no article of knowledge base {name:?} would be left; remove all of it: cicerone kb drop {name}")]
    NothingLeft {
        /// The knowledge base.
        name: String,
    },
    /// Not a query for this knowledge base.
    #[error("query embedding: {0}")]
    Query(String),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The engine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files around the engine; among them a lock that another process holds.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl From<std::io::Error> for KbError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.into())
    }
}

impl KbError {
    /// Exit code of a command that ends with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Name { .. } | Self::NotFound { .. } | Self::Query(_) => 2,
            Self::Vectors { .. }
            | Self::OtherPictures { .. }
            | Self::NoSuchArticle { .. }
            | Self::NothingLeft { .. } => 2,
            Self::Source(SourceError::Kind { .. } | SourceError::Unclear { .. } | SourceError::Read { .. }) => 2,
            Self::Io(IoError::Locked { .. }) => 3,
            Self::Store(StoreError::Server(error)) => match error.kind() {
                Kind::Unreachable | Kind::Timeout | Kind::Busy => 3,
                Kind::Unauthorised | Kind::Refused | Kind::Exists => 2,
                Kind::TooOld | Kind::NoCollection | Kind::OutOfSpace | Kind::Failed => 1,
            },
            Self::FingerprintMismatch { .. } => 4,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }

    /// Stable name for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "kb_name",
            Self::NotFound { .. } => "kb_not_found",
            Self::FingerprintMismatch { .. } => "kb_fingerprint_mismatch",
            Self::Damaged { .. } => "kb_damaged",
            Self::NoRoom { .. } => "disk_full",
            Self::Interrupted { .. } => "interrupted",
            Self::TooManyMalformed { .. } => "kb_too_many_malformed",
            Self::Empty { .. } => "kb_empty",
            Self::Embed { .. } => "kb_embed",
            Self::Count { .. } => "kb_count",
            Self::OtherContent { .. } => "kb_other_content",
            Self::Thread => "kb_thread",
            Self::NoBuild { .. } => "kb_no_build",
            Self::InUse { .. } => "kb_in_use",
            Self::Vectors { .. } => "kb_vectors",
            Self::OtherPictures { .. } => "kb_other_pictures",
            Self::NoSuchArticle { .. } => "kb_no_such_article",
            Self::NothingLeft { .. } => "kb_nothing_left",
            Self::Query(_) => "kb_query",
            Self::Source(_) => "kb_source",
            Self::Store(StoreError::Server(error)) => match error.kind() {
                Kind::Unreachable => "kb_server_unreachable",
                Kind::Unauthorised => "kb_server_unauthorised",
                Kind::TooOld => "kb_server_too_old",
                Kind::NoCollection => "kb_server_no_collection",
                Kind::Exists => "kb_server_exists",
                Kind::Refused => "kb_server_refused",
                Kind::Timeout => "kb_server_timeout",
                Kind::OutOfSpace => "kb_server_out_of_space",
                Kind::Busy => "kb_server_busy",
                Kind::Failed => "kb_server",
            },
            Self::Store(_) => "kb_engine",
            Self::Io(IoError::Locked { .. }) => "kb_locked",
            Self::Io(_) => "io",
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "there is none".to_owned() } else { format!("there is {}", names.join(", ")) }
}
