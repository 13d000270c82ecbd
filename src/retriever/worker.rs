//! The retriever's own thread: one model, a bounded queue, batches by budget.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Item;
use super::batches::in_batches;
use super::embedding::Embedding;
use super::encoder::{Encoder, RetrieverFiles};
use super::error::{Result, RetrieverError};
use super::model::Side;
use super::picture::Picture;

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
    instruction: String,
    max_batch: usize,
}

type Embeddings = Result<Vec<Embedding>>;

enum Command {
    Encode(Side, Vec<Item>, SyncSender<Embeddings>),
    Pooled(Vec<Picture>, SyncSender<Embeddings>),
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
                let dim = encoder.model.config().output_dim;
                if ready.send(Ok((fingerprint, dim))).is_ok() {
                    serve(&encoder, &queue, max_batch);
                }
            }
        };
        thread::Builder::new().name("retriever".into()).spawn(run).map_err(|_| RetrieverError::Stopped)?;
        let (fingerprint, dim) = loaded.recv().map_err(|_| RetrieverError::Stopped)??;
        Ok(Self { commands, facts: Arc::new(Facts { fingerprint, dim, instruction, max_batch }) })
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
    pub fn encode_queries(&self, mut items: Vec<Item>) -> Embeddings {
        for item in &mut items {
            item.text = item.text.take().map(|text| query_text(&self.facts.instruction, &text));
        }
        self.encode(Side::Query, items)
    }

    /// One query.
    ///
    /// # Errors
    /// See [`Encoder::encode`].
    pub fn encode_query(&self, item: Item) -> Result<Embedding> {
        let mut embeddings = self.encode_queries(vec![item])?;
        embeddings.pop().ok_or(RetrieverError::Stopped)
    }

    /// Pooled features of the picture tower, unit length. Blocks.
    ///
    /// # Errors
    /// See [`Encoder::encode_pooled`].
    pub fn encode_pooled(&self, pictures: Vec<Picture>) -> Embeddings {
        in_batches(pictures, self.facts.max_batch, |_| 0, |part| self.ask(|reply| Command::Pooled(part, reply)))
    }

    fn encode(&self, side: Side, items: Vec<Item>) -> Embeddings {
        let length = |item: &Item| item.text.as_ref().map_or(0, String::len);
        in_batches(items, self.facts.max_batch, length, |part| self.ask(|reply| Command::Encode(side, part, reply)))
    }

    fn ask(&self, command: impl FnOnce(SyncSender<Embeddings>) -> Command) -> Embeddings {
        let (reply, answer) = sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| RetrieverError::Stopped)?;
        answer.recv().map_err(|_| RetrieverError::Stopped)?
    }
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

fn answer(encoder: &Encoder, side: Side, batch: Vec<Item>, callers: Vec<(usize, SyncSender<Embeddings>)>) {
    match encoder.encode(side, &batch) {
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
                drop(reply.send(encoder.encode(side, &own)));
            }
        }
        Err(error) => {
            if let Some((_, reply)) = callers.into_iter().next() {
                drop(reply.send(Err(error)));
            }
        }
    }
}
