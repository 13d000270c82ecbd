//! The retriever's own thread: one model, a bounded queue, batches by budget.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rayon::prelude::*;

use super::Item;
use super::batches::{in_batches, overlapped};
use super::embedding::Embedding;
use super::encoder::{Encoder, Prepared, RetrieverFiles};
use super::error::{Result, RetrieverError};
use super::model::Side;
use super::picture::Picture;
use super::preprocess::ImageProcessor;
use super::probe::gates::{self, GateStep};

/// Requests waiting at most; a caller beyond that waits in turn.
const QUEUE: usize = 64;

/// A handle to a retriever on its own thread; cloning it is cheap. The thread ends with the last handle.
#[derive(Clone)]
pub struct Retriever {
    commands: SyncSender<Command>,
    facts: Arc<Facts>,
}

struct Facts {
    fingerprint: String,
    dim: usize,
    vectors: usize,
    instruction: String,
    max_batch: usize,
    processor: ImageProcessor,
}

type Embeddings = Result<Vec<Embedding>>;

enum Command {
    Encode(Side, Vec<Prepared>, SyncSender<Embeddings>),
    Pooled(Vec<Picture>, SyncSender<Embeddings>),
    Gates(Box<Item>, SyncSender<Result<Vec<GateStep>>>),
}

impl Retriever {
    /// Loads the model on a new thread and waits until it is ready.
    ///
    /// # Errors
    /// Those of [`Encoder::load`].
    pub fn start(files: RetrieverFiles) -> Result<Self> {
        let (commands, queue) = sync_channel(QUEUE);
        let (ready, loaded) = sync_channel(1);
        let max_batch = files.max_batch.max(1);
        let instruction = files.instruction.clone();
        let run = move || match files.fingerprint().and_then(|fingerprint| Ok((Encoder::load(&files)?, fingerprint))) {
            Err(error) => drop(ready.send(Err(error))),
            Ok((encoder, fingerprint)) => {
                let config = encoder.model.config();
                if ready
                    .send(Ok((fingerprint, config.output_dim, config.state_tokens, config.image_processor.clone())))
                    .is_ok()
                {
                    serve(&encoder, &queue, max_batch);
                }
            }
        };
        thread::Builder::new().name("retriever".into()).spawn(run).map_err(|_| RetrieverError::Stopped)?;
        let (fingerprint, dim, vectors, processor) = loaded.recv().map_err(|_| RetrieverError::Stopped)??;
        Ok(Self { commands, facts: Arc::new(Facts { fingerprint, dim, vectors, instruction, max_batch, processor }) })
    }

    /// Identity of everything that decides an embedding.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.facts.fingerprint
    }

    /// Length of each vector of an embedding.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.facts.dim
    }

    /// Vectors of an embedding.
    #[must_use]
    pub fn vectors(&self) -> usize {
        self.facts.vectors
    }

    /// Documents to embeddings, their texts as they are. Blocks; any number of items.
    ///
    /// # Errors
    /// See [`Encoder::encode`].
    pub fn encode_documents(&self, items: Vec<Item>) -> Embeddings {
        self.encode(Side::Document, items)
    }

    /// Queries to embeddings, the instruction before their texts. Blocks; any number of items.
    ///
    /// # Errors
    /// See [`Encoder::encode`].
    pub fn encode_queries(&self, items: Vec<Item>) -> Embeddings {
        self.encode(Side::Query, items.into_iter().map(|item| self.as_query(item)).collect())
    }

    /// The instruction before the text. An empty text is none, unless there is an instruction to be read.
    fn as_query(&self, mut item: Item) -> Item {
        let text = item.text.take().map(|text| query_text(&self.facts.instruction, &text));
        item.text = text.filter(|text| !text.is_empty() || item.image.is_none());
        item
    }

    /// One query.
    ///
    /// # Errors
    /// See [`Encoder::encode`].
    pub fn encode_query(&self, item: Item) -> Result<Embedding> {
        let mut embeddings = self.encode_queries(vec![item])?;
        embeddings.pop().ok_or(RetrieverError::Stopped)
    }

    /// The gates of one query, at each sampled layer in order. Blocks.
    ///
    /// # Errors
    /// See [`Encoder::encode`].
    pub fn query_gates(&self, item: Item) -> Result<Vec<GateStep>> {
        let item = self.as_query(item);
        let (reply, answer) = sync_channel(1);
        self.commands.send(Command::Gates(Box::new(item), reply)).map_err(|_| RetrieverError::Stopped)?;
        answer.recv().map_err(|_| RetrieverError::Stopped)?
    }

    /// Pooled features of the picture tower, unit length. Blocks.
    ///
    /// # Errors
    /// See [`Encoder::encode_pooled`].
    pub fn encode_pooled(&self, pictures: Vec<Picture>) -> Embeddings {
        in_batches(pictures, self.facts.max_batch, |_| 0, |part| self.ask(|reply| Command::Pooled(part, reply)))
    }

    /// As [`Retriever::encode_documents`], of what `open` makes items of, such as files of pictures; the outcome of each
    /// stands at its place. The next part of them is opened, on all cores, while the model is at work on the last one, and
    /// no more than two parts are held. `length` is that of a text.
    ///
    /// # Errors
    /// The engine's own. What `open` says of one concerns that one alone.
    pub fn encode_opened<T: Send, E: From<RetrieverError> + Send>(
        &self,
        inputs: Vec<T>,
        length: impl Fn(&T) -> usize,
        open: impl Fn(T) -> Result<Item, E> + Sync,
    ) -> Result<Vec<Result<Embedding, E>>> {
        let prepare = |input: T| Ok(Prepared::new(open(input)?, &self.facts.processor)?);
        let start = |part: Vec<T>| {
            let prepared: Vec<Result<Prepared, E>> = part.into_par_iter().map(prepare).collect();
            let mut outcomes = Vec::with_capacity(prepared.len());
            let mut whole = Vec::with_capacity(prepared.len());
            for prepared in prepared {
                outcomes.push(prepared.map(|prepared| whole.push(prepared)));
            }
            let answer =
                if whole.is_empty() { None } else { Some(self.send(|to| Command::Encode(Side::Document, whole, to))?) };
            Ok((outcomes, answer))
        };
        let finish = |(outcomes, answer): (Vec<Result<(), E>>, Option<Answer>)| {
            let mut embeddings = answer.map(receive).transpose()?.unwrap_or_default().into_iter();
            let next = |outcome: Result<(), E>| match outcome {
                Ok(()) => Ok(Ok(embeddings.next().ok_or(RetrieverError::Stopped)?)),
                Err(error) => Ok(Err(error)),
            };
            outcomes.into_iter().map(next).collect()
        };
        overlapped(inputs, self.facts.max_batch, length, start, finish)
    }

    fn encode(&self, side: Side, items: Vec<Item>) -> Embeddings {
        let length = |item: &Item| item.text.as_ref().map_or(0, String::len);
        let start = |part: Vec<Item>| {
            let prepared = part.into_par_iter().map(|item| Prepared::new(item, &self.facts.processor));
            let prepared = prepared.collect::<Result<_>>()?;
            self.send(|to| Command::Encode(side, prepared, to))
        };
        overlapped(items, self.facts.max_batch, length, start, receive)
    }

    fn ask(&self, command: impl FnOnce(SyncSender<Embeddings>) -> Command) -> Embeddings {
        receive(self.send(command)?)
    }

    fn send(&self, command: impl FnOnce(SyncSender<Embeddings>) -> Command) -> Result<Answer> {
        let (reply, answer) = sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| RetrieverError::Stopped)?;
        Ok(answer)
    }
}

/// Where an answer will come.
type Answer = Receiver<Embeddings>;

fn receive(answer: Answer) -> Embeddings {
    answer.recv().map_err(|_| RetrieverError::Stopped)?
}

/// "{instruction} {question}", the instruction alone for an empty question.
#[must_use]
pub fn query_text(instruction: &str, question: &str) -> String {
    format!("{instruction} {question}").trim().to_owned()
}

/// Takes what waits, up to the budget, as one batch; a reply that nobody waits for any more costs a failed send.
fn serve(encoder: &Encoder, queue: &Receiver<Command>, max_batch: usize) {
    let mut held = None;
    while let Some(command) = held.take().or_else(|| queue.recv().ok()) {
        match command {
            Command::Pooled(pictures, reply) => drop(reply.send(encoder.encode_pooled(&pictures))),
            Command::Gates(item, reply) => drop(reply.send(gates::of_query(encoder, *item))),
            Command::Encode(side, items, reply) => {
                let mut callers = vec![(items.len(), reply)];
                let mut batch = items;
                while batch.len() < max_batch {
                    match queue.try_recv() {
                        Ok(Command::Encode(other, items, reply))
                            if other == side && batch.len() + items.len() <= max_batch =>
                        {
                            callers.push((items.len(), reply));
                            batch.extend(items);
                        }
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                answer(encoder, side, batch, callers);
            }
        }
    }
}

fn answer(encoder: &Encoder, side: Side, batch: Vec<Prepared>, callers: Vec<(usize, SyncSender<Embeddings>)>) {
    match encoder.encode_prepared(side, &batch) {
        Ok(embeddings) => {
            let mut embeddings = embeddings.into_iter();
            for (count, reply) in callers {
                drop(reply.send(Ok(embeddings.by_ref().take(count).collect())));
            }
        }
        // One caller's bad item must not fail the others: each is tried alone.
        Err(_) if callers.len() > 1 => {
            let mut items = batch.into_iter();
            for (count, reply) in callers {
                let own: Vec<_> = items.by_ref().take(count).collect();
                drop(reply.send(encoder.encode_prepared(side, &own)));
            }
        }
        Err(error) => {
            if let Some((_, reply)) = callers.into_iter().next() {
                drop(reply.send(Err(error)));
            }
        }
    }
}
