//! A generator that says what it was told to say: for tests and for replaying a recorded answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::{Chunk, Generator, GeneratorError, GeneratorInfo, Request, Usage};

/// Answers every request with the same chunks, or each with its own. Tokens are counted as words.
pub struct Scripted {
    info: GeneratorInfo,
    /// Chunks of the first answer, the second, …; the last stays.
    scripts: Vec<Vec<String>>,
    begun: AtomicUsize,
    fail_at: Option<(usize, GeneratorError)>,
    hang_at: Option<usize>,
    end_silently: bool,
    endless: bool,
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
            scripts: vec![chunks.into_iter().map(Into::into).collect()],
            begun: AtomicUsize::new(0),
            fail_at: None,
            hang_at: None,
            end_silently: false,
            endless: false,
            delay: Duration::ZERO,
            seen: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// Streams `chunks` to the request after those that have theirs, and to all that come later.
    #[must_use]
    pub fn then<S: Into<String>>(mut self, chunks: impl IntoIterator<Item = S>) -> Self {
        self.scripts.push(chunks.into_iter().map(Into::into).collect());
        self
    }

    /// Sends nothing from chunk `n` on, and does not end, as an engine that hangs.
    #[must_use]
    pub fn hanging_at(mut self, n: usize) -> Self {
        self.hang_at = Some(n);
        self
    }

    /// Begins anew after its last chunk, whatever was asked for.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
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
        let at = self.begun.fetch_add(1, Ordering::SeqCst).min(self.scripts.len() - 1);
        let chunks = self.scripts[at].clone();
        let (fail_at, hang_at, endless) = (self.fail_at.clone(), self.hang_at, self.endless);
        let (end_silently, delay) = (self.end_silently, self.delay);
        let (seen, sent) = (Arc::clone(&self.seen), Arc::clone(&self.sent));
        let prompt_tokens = self.count_tokens(&request.system) + self.count_tokens(&request.user);
        let script = async move {
            let limit = request.max_tokens;
            seen.lock().await.push(request);
            let shown = if endless { usize::MAX } else { limit.min(chunks.len()) };
            for (n, chunk) in chunks.iter().cycle().take(shown).enumerate() {
                tokio::time::sleep(delay).await;
                if hang_at == Some(n) {
                    tx.closed().await;
                    return;
                }
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
            if hang_at.is_some_and(|at| at >= chunks.len()) {
                tx.closed().await;
                return;
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
