//! The whole path, as its callers hold it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::run::{Extent, Run};
use super::{Answer, Event, QueryEncoder, Question, RagError, Search, SectionRanker, Settings};
use crate::generator::{Generator, Prompts};
use crate::kb::Hit;

/// Events that wait for a slow reader before the work pauses.
const QUEUE: usize = 64;

/// What a pipeline is put together from.
#[derive(Clone)]
pub struct Parts {
    /// Encodes the question and its picture.
    pub encoder: Arc<dyn QueryEncoder>,
    /// Finds candidates.
    pub search: Arc<dyn Search>,
    /// Ranks sections.
    pub ranker: Arc<dyn SectionRanker>,
    /// Answers. Without one an answer has passages only.
    pub generator: Option<Arc<dyn Generator>>,
    /// What it is asked with.
    pub prompts: Arc<Prompts>,
}

/// The whole path. Cloning is cheap; clones share the parts.
#[derive(Clone)]
pub struct Pipeline {
    pub(super) parts: Parts,
    pub(super) settings: Arc<Settings>,
}

impl Pipeline {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts, settings: Settings) -> Self {
        Self { parts, settings: Arc::new(settings) }
    }

    /// Another ranker, everything else as it is.
    #[must_use]
    pub fn with_ranker(&self, ranker: Arc<dyn SectionRanker>) -> Self {
        Self { parts: Parts { ranker, ..self.parts.clone() }, ..self.clone() }
    }

    /// Other prompts, everything else as it is.
    #[must_use]
    pub fn with_prompts(&self, prompts: Prompts) -> Self {
        Self { parts: Parts { prompts: Arc::new(prompts), ..self.parts.clone() }, ..self.clone() }
    }

    /// Another search, everything else as it is.
    #[must_use]
    pub fn with_search(&self, search: Arc<dyn Search>) -> Self {
        Self { parts: Parts { search, ..self.parts.clone() }, ..self.clone() }
    }

    /// Another reader, or none: then passages are the answer.
    #[must_use]
    pub fn with_generator(&self, generator: Option<Arc<dyn Generator>>) -> Self {
        Self { parts: Parts { generator, ..self.parts.clone() }, ..self.clone() }
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The same parts with other settings.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self { settings: Arc::new(settings), ..self.clone() }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks one question. Must be called within a tokio runtime. The last event is [`Event::Answer`] or
    /// [`Event::Failed`]; dropping the receiver cancels the work.
    #[must_use]
    pub fn ask(&self, question: Question) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(QUEUE);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The channel is new and has room: this cannot fail.
            let _ = events.try_send(Event::Failed { error: RagError::NoRuntime });
            return receiver;
        };
        let cancelled = events.clone();
        let run = Run::new(self.clone(), events);
        runtime.spawn(async move {
            tokio::select! {
                () = cancelled.closed() => {}
                () = run.drive(question) => {}
            }
        });
        receiver
    }

    /// What the knowledge base holds that is nearest to a question: its `k` best, or of an index of parts the `k` best parts.
    /// The question may lack a text where it has a picture.
    ///
    /// # Errors
    /// A picture that cannot be read, or what the retriever or the knowledge base says.
    pub async fn search(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        // Nobody listens to the events.
        let (events, _) = mpsc::channel(QUEUE);
        Run::new(self.clone(), events).search(question.text.trim(), question.image.as_ref(), k, Extent::Parts).await
    }

    /// As [`Self::ask`], for a caller that wants the end alone.
    ///
    /// # Errors
    /// What the last event says.
    pub async fn answer(&self, question: Question) -> Result<Answer, RagError> {
        let mut events = self.ask(question);
        while let Some(event) = events.recv().await {
            match event {
                Event::Answer { answer } => return Ok(*answer),
                Event::Failed { error } => return Err(error),
                _ => {}
            }
        }
        Err(RagError::Crashed("the pipeline"))
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
