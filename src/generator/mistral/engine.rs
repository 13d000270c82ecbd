//! One request at a time through the engine, with what it does badly mended.
//!
//! The engine starts whatever waits for it together, and sequences that run together changed each other's answers. So
//! the next request is handed over only when nothing of the one before is left in it, cancelled or not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::DynamicImage;
use mistralrs::core::DetokenizationRequest;
use mistralrs::{
    Constraint as Grammar, MessageContent, Model, NormalRequest, RequestBuilder, RequestLike, RequestMessage, Response,
    SamplingParams, StopTokens, TextMessageRole,
};
use tokio::sync::mpsc;

use super::constraint;
use super::draw::{Canonical, Draw, Ends};
use super::picture::{self, Budget};
use super::stop::StopCutter;
use crate::generator::{Chunk, GeneratorError, Request, Usage};

/// How often an engine that has ended is asked for its new channel, and the pause in between.
const RESTART_ATTEMPTS: u32 = 100;
const RESTART_PAUSE: Duration = Duration::from_millis(20);

/// Pause between looks at whether the engine has let go of a request.
const RELEASE_PAUSE: Duration = Duration::from_millis(1);

/// Where pieces of an answer go.
pub(super) type Out = mpsc::Sender<Result<Chunk, GeneratorError>>;

pub(super) struct Engine {
    pub(super) model: Model,
    /// Whether messages must be lists of parts: some chat templates drop plain ones.
    pub(super) parts: bool,
    /// What pictures are made into before they are handed over.
    pub(super) budget: Budget,
    /// For models whose answers about pictures must be cut as the tokenizer cuts them.
    pub(super) canonical: Option<Arc<Canonical>>,
    /// Tokens that end an answer; `None` where grammars know no token for an end.
    pub(super) ends: Option<Ends>,
    /// The hooks of all requests.
    #[cfg(test)]
    pub(super) draws: std::sync::Mutex<Vec<Arc<Draw>>>,
    /// Leaves out what keeps answers canonical.
    #[cfg(test)]
    pub(super) bare: std::sync::atomic::AtomicBool,
    /// Keeps a shadow directory for as long as the engine may map its files.
    pub(super) _shadow: Option<tempfile::TempDir>,
}

/// What the engine holds of earlier prompts.
pub(super) struct Kept {
    pub(super) bytes: usize,
    /// Most of that; 0 where the engine was told to keep nothing.
    pub(super) limit: usize,
    /// Keys and values of one token in all layers.
    pub(super) bytes_per_token: usize,
}

impl Kept {
    /// Tokens by which the engine enlarges a sequence's keys and values.
    const BLOCK: usize = 512;

    fn add(&mut self, usage: &Usage) {
        let tokens = (usage.prompt_tokens + usage.completion_tokens).next_multiple_of(Self::BLOCK);
        self.bytes = self.bytes.saturating_add(tokens.saturating_mul(self.bytes_per_token));
    }
}

/// A request that the engine has.
struct Asked {
    chunks: mpsc::Receiver<Response>,
    /// Ours of the channel, by which is seen whether the engine still has the other.
    left: mpsc::WeakSender<Response>,
    engine: mpsc::Sender<mistralrs::Request>,
    draw: Arc<Draw>,
    most: usize,
    start: Instant,
}

impl Engine {
    /// Answers requests in the order in which they came, until nobody can ask any more. What nobody waits for when its
    /// turn comes is skipped.
    pub(super) async fn work(self: Arc<Self>, mut requests: mpsc::UnboundedReceiver<(Request, Out)>, mut kept: Kept) {
        while let Some((request, out)) = requests.recv().await {
            if out.is_closed() {
                continue;
            }
            if let Some(served) = self.serve(&request, &out, &mut kept).await {
                // Nobody left to hear the end: nothing to do.
                let _ = out.send(served.map(Chunk::Done)).await;
            }
        }
    }

    /// Answers one request; `None` where nobody listens any more. It comes back when the engine has let go.
    async fn serve(&self, request: &Request, out: &Out, kept: &mut Kept) -> Option<Result<Usage, GeneratorError>> {
        let mut asked = match self.ask(request, kept).await {
            Ok(asked) => asked,
            Err(error) => return Some(Err(error)),
        };
        let outcome = self.listen(request, &mut asked, out).await;
        asked.draw.cancel();
        asked.chunks.close();
        while asked.left.upgrade().is_some() {
            tokio::time::sleep(RELEASE_PAUSE).await;
        }
        if let Some(Ok(usage)) = &outcome {
            kept.add(usage);
        }
        outcome
    }

    async fn ask(&self, request: &Request, kept: &mut Kept) -> Result<Asked, GeneratorError> {
        // Where nothing is kept nothing needs to be dropped.
        if kept.limit > 0 && kept.bytes > kept.limit {
            self.forget().await?;
            kept.bytes = 0;
        }
        let budget = self.budget;
        let picture = match request.image.clone() {
            None => None,
            Some(path) => Some(
                tokio::task::spawn_blocking(move || picture::open(&path, &budget))
                    .await
                    .unwrap_or_else(|e| Err(GeneratorError::Engine(e.to_string())))?,
            ),
        };
        self.send(request, picture).await
    }

    /// Passes on what the engine says until it is done; `None` where nobody listens any more.
    async fn listen(&self, request: &Request, asked: &mut Asked, out: &Out) -> Option<Result<Usage, GeneratorError>> {
        let mut stops = StopCutter::new(if request.constraint.is_some() { Vec::new() } else { request.stop.clone() });
        let mut said_something = false;
        let mut first = None;
        loop {
            let response = tokio::select! {
                biased;
                () = out.closed() => return None,
                response = asked.chunks.recv() => response,
            };
            let chunk = match response {
                Some(Response::Chunk(chunk)) => chunk,
                Some(Response::ModelError(error, _)) => return Some(Err(GeneratorError::Engine(error))),
                Some(Response::InternalError(error) | Response::ValidationError(error)) => {
                    return Some(Err(GeneratorError::Engine(error.to_string())));
                }
                Some(_) => {
                    let reason = "it sent something that is not part of a stream";
                    return Some(Err(GeneratorError::Engine(reason.into())));
                }
                None => {
                    // An answer that ends within a character ends without a word, just as one whose engine died. Of a
                    // dying one the next request must not be given to what is left, and this waits for its end.
                    if alive(&asked.engine).await && asked.draw.tokens() > 0 && said_something {
                        let text = stops.finish();
                        if !text.is_empty() && out.send(Ok(Chunk::Text(text))).await.is_err() {
                            return None;
                        }
                        let truncated = asked.draw.tokens() >= asked.most;
                        return Some(Ok(asked.counted(first, truncated)));
                    }
                    let reason = "the stream ended without a reason; ask again, and see the log if it happens twice";
                    return Some(Err(GeneratorError::Engine(reason.into())));
                }
            };
            first.get_or_insert_with(Instant::now);
            let Some(choice) = chunk.choices.into_iter().next() else { continue };
            let mut text = stops.push(choice.delta.content.as_deref().unwrap_or_default());
            if choice.finish_reason.is_some() {
                text.push_str(&stops.finish());
            }
            if !text.is_empty() {
                said_something |= !text.trim().is_empty();
                if out.send(Ok(Chunk::Text(text))).await.is_err() {
                    return None;
                }
            }
            let empty = || Some(Err(GeneratorError::EmptyAnswer));
            let Some(reason) = choice.finish_reason else {
                if stops.stopped() {
                    return if said_something { Some(Ok(asked.counted(first, false))) } else { empty() };
                }
                continue;
            };
            if !matches!(reason.as_str(), "stop" | "length") {
                return Some(Err(GeneratorError::Engine(format!("it finished with `{reason}`"))));
            }
            if !said_something {
                return empty();
            }
            let truncated = reason == "length" && !stops.stopped();
            return Some(Ok(match chunk.usage {
                Some(usage) => Usage {
                    prompt_tokens: usage.prompt_tokens,
                    completion_tokens: usage.completion_tokens,
                    prompt_s: usage.total_prompt_time_sec,
                    completion_s: usage.total_completion_time_sec,
                    truncated,
                },
                None => asked.counted(first, truncated),
            }));
        }
    }

    /// Lets the engine's loop end, which drops what it kept; the weights stay. The next request starts it anew.
    async fn forget(&self) -> Result<(), GeneratorError> {
        let sender = self.model.inner().get_sender(None).map_err(|e| GeneratorError::Engine(e.to_string()))?;
        // It fails where the loop has ended already.
        let _ = sender.send(mistralrs::Request::Terminate).await;
        sender.closed().await;
        Ok(())
    }

    /// Hands a request to the engine. An engine that has ended is started anew by asking for its channel again, as soon
    /// as its thread is gone.
    async fn send(&self, request: &Request, picture: Option<DynamicImage>) -> Result<Asked, GeneratorError> {
        let engine = |e: &dyn std::fmt::Display| GeneratorError::Engine(e.to_string());
        let category = self.model.config().map_err(|e| engine(&e))?.category;
        let bounds = request.constraint.as_ref().map(constraint::bounds).transpose()?;
        let ends = match (&bounds, &self.ends) {
            (None, _) => None,
            (Some(_), Some(ends)) => Some(ends.clone()),
            (Some(_), None) => {
                let reason = "its tokenizer has no end token by a usual name, so answers cannot be held to a form";
                return Err(GeneratorError::Engine(reason.into()));
            }
        };
        let most = match &bounds {
            Some(bounds) => request.max_tokens.max(bounds.tokens.unwrap_or(0)),
            None => request.max_tokens,
        };
        let canonical = picture.as_ref().and(self.canonical.clone());
        #[cfg(test)]
        let canonical = canonical.filter(|_| !self.bare.load(std::sync::atomic::Ordering::Relaxed));
        let mut last = GeneratorError::Engine("it does not take requests".into());
        for attempt in 0..RESTART_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            let mut builder = RequestBuilder::new().add_message(TextMessageRole::System, &request.system);
            for turn in &request.examples {
                builder = builder
                    .add_message(TextMessageRole::User, &turn.user)
                    .add_message(TextMessageRole::Assistant, &turn.assistant);
            }
            builder = match &picture {
                Some(picture) => builder.add_image_message(TextMessageRole::User, &request.user, vec![picture.clone()]),
                None => builder.add_message(TextMessageRole::User, &request.user),
            };
            builder.resolve_pending_prefixes(&category);
            let mut messages = builder.take_messages();
            if self.parts {
                into_parts(&mut messages);
            }
            if let RequestMessage::Chat { enable_thinking, .. }
            | RequestMessage::MultimodalChat { enable_thinking, .. } = &mut messages
            {
                *enable_thinking = Some(false);
            }
            let sampling = SamplingParams {
                max_len: Some(most.max(1)),
                stop_toks: stop_tokens(request, ends.as_ref()),
                ..SamplingParams::deterministic()
            };
            let draw = Arc::new(Draw::new(request.sampling, canonical.clone(), ends.clone()));
            #[cfg(test)]
            self.draws.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(draw.clone());
            let (tx, rx) = mpsc::channel(8);
            let left = tx.downgrade();
            let mut normal = NormalRequest::new_simple(messages, sampling, tx, 0, None, None);
            normal.is_streaming = true;
            normal.logits_processors = Some(vec![draw.clone()]);
            normal.constraint = bounds.as_ref().map_or(Grammar::None, |bounds| bounds.grammar.clone());
            let sender = self.model.inner().get_sender(None).map_err(|e| engine(&e))?;
            let start = Instant::now();
            match sender.send(mistralrs::Request::Normal(Box::new(normal))).await {
                Ok(()) => return Ok(Asked { chunks: rx, left, engine: sender, draw, most, start }),
                Err(error) => last = engine(&error),
            }
        }
        Err(last)
    }
}

impl Asked {
    /// What was counted here, for where the engine says nothing.
    fn counted(&self, first: Option<Instant>, truncated: bool) -> Usage {
        let first = first.unwrap_or(self.start);
        Usage {
            prompt_tokens: self.draw.prompt(),
            completion_tokens: self.draw.tokens(),
            prompt_s: first.duration_since(self.start).as_secs_f32(),
            completion_s: first.elapsed().as_secs_f32(),
            truncated,
        }
    }
}

/// Whether the engine still answers. It is asked for the text of no tokens.
async fn alive(engine: &mpsc::Sender<mistralrs::Request>) -> bool {
    let (tx, mut rx) = mpsc::channel(1);
    let ask = DetokenizationRequest { tokens: Vec::new(), skip_special_tokens: true, response: tx };
    engine.send(mistralrs::Request::Detokenize(ask)).await.is_ok() && rx.recv().await.is_some()
}

/// What the engine itself ends an answer at. A stop string of white space is not for it: it would end an answer that
/// begins with one before it has begun.
fn stop_tokens(request: &Request, ends: Option<&Ends>) -> Option<StopTokens> {
    if let Some(ends) = ends {
        return Some(StopTokens::Ids(vec![ends.grammar]));
    }
    let words: Vec<String> = request.stop.iter().filter(|stop| !stop.trim().is_empty()).cloned().collect();
    (!words.is_empty()).then_some(StopTokens::Seqs(words))
}

/// Turns plain messages into lists of one part.
fn into_parts(messages: &mut RequestMessage) {
    let (RequestMessage::Chat { messages, .. } | RequestMessage::MultimodalChat { messages, .. }) = messages else {
        return;
    };
    for message in messages {
        if let Some(content) = message.get_mut("content")
            && let MessageContent::Left(text) = content
        {
            let part = [("type", "text"), ("text", text.as_str())]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), serde_json::Value::from(value)))
                .collect();
            *content = MessageContent::Right(vec![part]);
        }
    }
}
