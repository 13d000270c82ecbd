//! A generator that says what it was told to say: for tests and for replaying a recorded answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::{Chunk, Generator, GeneratorError, GeneratorInfo, Request, Usage};

/// Answers every request with the same chunks. Tokens are counted as words.
pub struct Scripted {
    info: GeneratorInfo,
    chunks: Vec<String>,
    fail_at: Option<(usize, GeneratorError)>,
    end_silently: bool,
    delay: Duration,
    seen: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicUsize>,
}

impl Scripted {
    /// Streams `chunks`, one after another, then [`Chunk::Done`].
    #[must_use]
    pub fn new<S: Into<String>>(chunks: impl IntoIterator<Item = S>) -> Self {
        Self {
            info: GeneratorInfo {
                model: "scripted".into(),
                format: "script".into(),
                fingerprint: "0".into(),
                sees_pictures: false,
                context_length: 4096,
            },
            chunks: chunks.into_iter().map(Into::into).collect(),
            fail_at: None,
            end_silently: false,
            delay: Duration::ZERO,
            seen: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// Fails in place of chunk `n` (0 is the first).
    #[must_use]
    pub fn failing_at(mut self, n: usize, error: GeneratorError) -> Self {
        self.fail_at = Some((n, error));
        self
    }

    /// Closes the stream without [`Chunk::Done`], as an engine that died does.
    #[must_use]
    pub fn ending_silently(mut self) -> Self {
        self.end_silently = true;
        self
    }

    /// Waits before each chunk.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Changes what it says it is.
    #[must_use]
    pub fn with_info(mut self, info: GeneratorInfo) -> Self {
        self.info = info;
        self
    }

    /// The requests that came, shared with the running generator.
    #[must_use]
    pub fn requests(&self) -> Arc<Mutex<Vec<Request>>> {
        Arc::clone(&self.seen)
    }

    /// Number of chunks that were taken by somebody, over all requests.
    #[must_use]
    pub fn sent(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.sent)
    }
}

impl Generator for Scripted {
    fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    fn count_tokens(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn generate(&self, request: Request) -> mpsc::Receiver<Result<Chunk, GeneratorError>> {
        let (tx, rx) = mpsc::channel(1);
        let chunks = self.chunks.clone();
        let fail_at = self.fail_at.clone();
        let (end_silently, delay) = (self.end_silently, self.delay);
        let (seen, sent) = (Arc::clone(&self.seen), Arc::clone(&self.sent));
        let prompt_tokens = self.count_tokens(&request.system) + self.count_tokens(&request.user);
        let script = async move {
            let limit = request.max_tokens;
            seen.lock().await.push(request);
            for (n, chunk) in chunks.iter().take(limit).enumerate() {
                tokio::time::sleep(delay).await;
                let item = match &fail_at {
                    Some((at, error)) if *at == n => Err(error.clone()),
                    _ => Ok(Chunk::Text(chunk.clone())),
                };
                let failed = item.is_err();
                if tx.send(item).await.is_err() || failed {
                    return;
                }
                sent.fetch_add(1, Ordering::SeqCst);
            }
            if !end_silently {
                let usage = Usage {
                    prompt_tokens,
                    completion_tokens: chunks.len().min(limit),
                    truncated: chunks.len() > limit,
                    ..Usage::default()
                };
                // Nobody left to hear the end: nothing to do.
                let _ = tx.send(Ok(Chunk::Done(usage))).await;
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(script);
                rx
            }
            Err(_) => super::failed(GeneratorError::Engine("no tokio runtime here".into())),
        }
    }
}
