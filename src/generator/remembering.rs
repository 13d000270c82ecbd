//! A generator that gives equal requests the answer of the first of them: for measurements that ask the same again and
//! again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{Chunk, Generator, GeneratorError, GeneratorInfo, Request};

/// Answers that were whole, by the hash of their request.
type Kept = Arc<Mutex<HashMap<[u8; 32], Vec<Chunk>>>>;

/// A generator whose answers are kept for as long as it lives: text, so a few hundred bytes a request. What another says
/// to equal requests must be equal, as it is where the likeliest token is taken each time.
pub struct Remembering {
    inner: Arc<dyn Generator>,
    kept: Kept,
    asked: AtomicUsize,
    recalled: AtomicUsize,
}

impl Remembering {
    /// Remembers what `inner` says.
    #[must_use]
    pub fn new(inner: Arc<dyn Generator>) -> Self {
        Self { inner, kept: Kept::default(), asked: AtomicUsize::new(0), recalled: AtomicUsize::new(0) }
    }

    /// Requests so far: those that the other was asked, and those that were remembered.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::Relaxed), self.recalled.load(Ordering::Relaxed))
    }

    /// Identity of a request, with the very bytes of its picture; `None` where that cannot be read.
    fn key(request: &Request) -> Option<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        // Every field stands in it, texts in quotation marks.
        hasher.update(format!("{:?}", Request { image: None, ..request.clone() }).as_bytes());
        if let Some(path) = &request.image {
            hasher.update(&fs_err::read(path).ok()?);
        }
        Some(*hasher.finalize().as_bytes())
    }
}

impl Generator for Remembering {
    fn info(&self) -> &GeneratorInfo {
        self.inner.info()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.inner.count_tokens(text)
    }

    fn picture_tokens(&self) -> usize {
        self.inner.picture_tokens()
    }

    fn generate(&self, request: Request) -> mpsc::Receiver<Result<Chunk, GeneratorError>> {
        let key = Self::key(&request);
        let known = key.and_then(|key| self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.inner.generate(request);
        };
        let (tx, rx) = mpsc::channel(8);
        if let Some(chunks) = known {
            self.recalled.fetch_add(1, Ordering::Relaxed);
            runtime.spawn(async move {
                for chunk in chunks {
                    if tx.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
            });
            return rx;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut chunks = self.inner.generate(request);
        let kept = Arc::clone(&self.kept);
        runtime.spawn(async move {
            let mut heard = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                if let Ok(chunk) = &chunk {
                    heard.push(chunk.clone());
                }
                if tx.send(chunk).await.is_err() {
                    return;
                }
            }
            if let (Some(key), Some(Chunk::Done(_))) = (key, heard.last()) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, heard);
            }
        });
        rx
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::generator::Scripted;

    fn request(user: &str) -> Request {
        Request {
            system: String::new(),
            examples: vec![],
            user: user.into(),
            image: None,
            max_tokens: 9,
            stop: vec![],
            constraint: None,
            sampling: None,
        }
    }

    async fn said(generator: &Remembering, request: Request) -> Vec<Result<Chunk, String>> {
        let mut chunks = generator.generate(request);
        let mut out = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            out.push(chunk.map_err(|e| e.to_string()));
        }
        out
    }

    #[tokio::test]
    async fn equal_requests_are_asked_once_and_others_anew() {
        let script = Scripted::new(["a", "b"]).then(["c"]);
        let requests = script.requests();
        let generator = Remembering::new(Arc::new(script));
        let first = said(&generator, request("x")).await;
        assert_eq!(said(&generator, request("x")).await, first);
        let other = said(&generator, Request { max_tokens: 8, ..request("x") }).await;
        assert!(first.len() == 3 && other.len() == 2, "{first:?} {other:?}");
        assert_eq!(requests.lock().await.len(), 2);
    }

    #[tokio::test]
    async fn an_answer_that_was_not_whole_is_not_kept() {
        let script = Scripted::new(["a", "b"]).failing_at(1, GeneratorError::Engine("x".into()));
        let (sent, generator) = (script.sent(), Remembering::new(Arc::new(script)));
        for times in 1..3 {
            assert!(said(&generator, request("x")).await.last().unwrap().is_err());
            assert_eq!(sent.load(Ordering::SeqCst), times);
        }
    }
}
