//! Calls of a server that block, try again where that helps, and end in a bounded time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use qdrant_client::{Qdrant, QdrantError};
use tokio::runtime::{Builder, Runtime};

use super::connection::Connection;
use super::retry::{Failure, persist};
use crate::kb::store::{ServerError, ServerErrorKind};

/// Which client makes a call, and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Queries' timeout, once: whether somebody is there at all.
    Once,
    /// Queries' timeout, tried again within twice that.
    Query,
    /// Writes' timeout, tried again for as long as [`Connection::patience`] says.
    Write,
}

/// A server. Clones share connections; no call is made before the first method that needs one.
///
/// Every method blocks, and may be called from any thread but one that drives asynchronous tasks (as with all of
/// `kb`, use `spawn_blocking` there).
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    queries: Qdrant,
    writes: Qdrant,
    connection: Connection,
    worker: Worker,
}

/// Threads of its own for what the client does, so that it does not matter what the caller's thread is.
struct Worker(Option<Runtime>);

impl Drop for Worker {
    fn drop(&mut self) {
        // Waiting for the threads here would panic in an asynchronous task.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connection", &self.inner.connection).finish_non_exhaustive()
    }
}

impl Server {
    /// Prepares calls of a server, without making one. Says once (through `tracing`) where the key would be readable
    /// on the way.
    ///
    /// # Errors
    /// [`ServerErrorKind::Unreachable`] for a URL and [`ServerErrorKind::Unauthorised`] for a key that cannot be used.
    pub fn connect(connection: Connection) -> Result<Self, ServerError> {
        let refuse = |Failure { kind, reason, .. }: Failure| {
            let url = connection.shown();
            ServerError { kind, url, what: "take a connection", reason }
        };
        let unusable = |reason: String| refuse(Failure::lasting(ServerErrorKind::Failed, reason));
        let address = connection.address().map_err(refuse)?;
        static WARNED: AtomicBool = AtomicBool::new(false);
        if connection.sends_key_in_the_clear() && !WARNED.swap(true, Ordering::Relaxed) {
            let url = connection.shown();
            tracing::warn!(
                "the API key for {url} goes over the network unencrypted; use https:// where the server can"
            );
        }
        let client = |timeout: Duration| {
            Qdrant::from_url(&address)
                .api_key(connection.api_key.as_ref().map(|key| key.text().to_owned()))
                .timeout(timeout)
                .connect_timeout(connection.query_timeout)
                // Its own check of versions prints to the screen.
                .skip_compatibility_check()
                .build()
        };
        let queries = client(connection.query_timeout).map_err(|e| unusable(e.to_string()))?;
        let writes = client(connection.write_timeout).map_err(|e| unusable(e.to_string()))?;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("qdrant").enable_all().build();
        let worker = Worker(Some(runtime.map_err(|e| unusable(e.to_string()))?));
        Ok(Self { inner: Arc::new(Inner { queries, writes, connection, worker }) })
    }

    /// Where it is looked for, as messages name it.
    #[must_use]
    pub fn url(&self) -> String {
        self.inner.connection.shown()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Makes a call and waits for what comes of it. `request` is told the number of the attempt, from 1.
    pub(super) fn call<T, F, R>(&self, lane: Lane, what: &'static str, request: F) -> Result<T, ServerError>
    where
        T: Send + 'static,
        F: Fn(Qdrant, u32) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, Failure>> + Send,
    {
        let Connection { query_timeout, write_timeout, patience, .. } = self.inner.connection;
        let (client, total) = match lane {
            Lane::Once | Lane::Query => (&self.inner.queries, query_timeout.saturating_mul(2)),
            Lane::Write => (&self.inner.writes, patience.max(write_timeout.saturating_mul(2))),
        };
        let client = client.clone();
        let made = async move { persist(total, lane != Lane::Once, |attempt| request(client.clone(), attempt)).await };
        self.wait(made).map_err(|failure| self.error(what, failure))
    }

    /// Runs a task on the worker's threads and waits on this one. (Entering the runtime from here instead would panic
    /// on a thread that has one already.)
    fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let broken = || Failure::lasting(ServerErrorKind::Failed, "the client broke off without an answer");
        let (sender, receiver) = sync_channel(1);
        let Some(runtime) = &self.inner.worker.0 else {
            return Err(broken());
        };
        runtime.spawn(async move {
            // Nobody waits any more where this fails.
            let _ = sender.send(task.await);
        });
        receiver.recv().unwrap_or_else(|_| Err(broken()))
    }

    /// A failure as callers see it; the key is cut out of whatever was said.
    pub(super) fn error(&self, what: &'static str, failure: Failure) -> ServerError {
        let reason = match &self.inner.connection.api_key {
            Some(key) => failure.reason.replace(key.text(), "***"),
            None => failure.reason,
        };
        ServerError { kind: failure.kind, url: self.url(), what, reason }
    }
}

/// An answer of the client as an outcome.
pub(super) fn answer<T>(answered: Result<T, QdrantError>) -> Result<T, Failure> {
    answered.map_err(Failure::from)
}
