//! The long part of a build: read, embed, store, batch by batch.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use uuid::Uuid;

use super::{BuildEvent, BuildOptions, Job, QUARANTINE, Stage, crash};
use crate::io::{JsonlWriter, safe_join};
use crate::kb::source::SourceError;
use crate::kb::store::{Point, Record, bad_vector, point_id};
use crate::kb::{Article, Document, Embedder, KbError, Position, Source};

/// An article that was refused (`kept: false`), or kept without its picture.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    reason: &'a str,
    kept: bool,
}

/// One article on its way into the store.
struct Entry {
    line: u64,
    id: Uuid,
    article: Article,
    document: Document,
}

/// Reads the source to its end, from the job's checkpoint on.
pub(super) fn fill(
    job: &mut Job,
    options: &BuildOptions,
    source: &mut dyn Source,
    embedder: &dyn Embedder,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<(), KbError> {
    let total = source.identity().lines;
    let limit = options.max_malformed.unwrap_or_else(|| total.div_ceil(100).clamp(1, 100));
    let mut filler = Filler::new(job, source, embedder, limit)?;
    filler.source.resume_after(filler.job.checkpoint.position)?;
    let mut batches = 0;
    while !filler.job.checkpoint.complete {
        let done = filler.job.checkpoint.position.line;
        watch(BuildEvent::Progress { stage: Stage::Embed, done, total: Some(total) });
        if cancel.load(Ordering::Relaxed) {
            filler.save()?;
            return Err(KbError::Interrupted { done, total });
        }
        let more = filler.step()?;
        batches += 1;
        if !more || batches % options.checkpoint_every.max(1) == 0 {
            filler.job.checkpoint.complete = !more;
            filler.save()?;
        }
    }
    watch(BuildEvent::Progress { stage: Stage::Embed, done: total, total: Some(total) });
    filler.check_not_empty()
}

struct Filler<'a> {
    job: &'a mut Job,
    source: &'a mut dyn Source,
    embedder: &'a dyn Embedder,
    limit: u64,
    quarantine: JsonlWriter,
    quarantine_path: PathBuf,
}

impl<'a> Filler<'a> {
    fn new(
        job: &'a mut Job,
        source: &'a mut dyn Source,
        embedder: &'a dyn Embedder,
        limit: u64,
    ) -> Result<Self, KbError> {
        let quarantine_path = job.dir.join(QUARANTINE);
        // What was written behind the checkpoint will be written again.
        let file = fs_err::OpenOptions::new().create(true).write(true).truncate(false).open(&quarantine_path)?;
        file.set_len(job.checkpoint.quarantine_bytes)?;
        drop(file);
        let quarantine = JsonlWriter::open(&quarantine_path)?;
        Ok(Self { job, source, embedder, limit, quarantine, quarantine_path })
    }

    /// Stores the next batch; false at the end of the source.
    fn step(&mut self) -> Result<bool, KbError> {
        let (articles, mut position, more) = self.read()?;
        let entries = self.prepare(articles)?;
        let points = self.embed(entries)?;
        if !points.is_empty() {
            let articles = points.len() as u64;
            let sections: u64 = points.iter().map(|p| p.record.section_titles.len() as u64).sum();
            self.job.store.upsert(points)?;
            crash::at("in-upsert");
            let counts = &mut self.job.checkpoint.counts;
            counts.articles += articles;
            counts.sections += sections;
        }
        position = position.max(self.job.checkpoint.position);
        self.job.checkpoint.position = position;
        Ok(more)
    }

    /// Up to a batch of well-formed articles, and the place behind the last line read.
    fn read(&mut self) -> Result<(Vec<(Position, Article)>, Position, bool), KbError> {
        let size = self.job.checkpoint.key.recipe.batch;
        let mut articles = Vec::with_capacity(size);
        let mut position = self.job.checkpoint.position;
        while articles.len() < size {
            match self.source.next() {
                None => return Ok((articles, position, false)),
                Some(Ok((at, article))) => {
                    position = at;
                    articles.push((at, article));
                }
                Some(Err(SourceError::Malformed(bad))) => {
                    position = bad.position;
                    self.refuse(bad.position.line, None, &bad.reason)?;
                }
                Some(Err(e)) => return Err(e.into()),
            }
        }
        Ok((articles, position, true))
    }

    /// Refuses articles whose URL came before, and puts the documents together.
    fn prepare(&mut self, articles: Vec<(Position, Article)>) -> Result<Vec<Entry>, KbError> {
        let ids: Vec<Uuid> = articles.iter().map(|(_, article)| point_id(&article.url)).collect();
        let stored = self.job.store.get(&ids)?;
        let mut first_lines: HashMap<Uuid, u64> = HashMap::new();
        for (id, record) in ids.iter().zip(stored) {
            first_lines.extend(record.map(|record| (*id, record.line)));
        }
        let recipe = self.job.checkpoint.key.recipe.clone();
        let mut entries = Vec::with_capacity(articles.len());
        for ((position, article), id) in articles.into_iter().zip(ids) {
            let line = position.line;
            // A run that was cut off may have stored this very line already.
            let first = *first_lines.entry(id).or_insert(line);
            if first < line {
                self.refuse(line, Some(&article.url), &format!("the same url stands in line {first} already"))?;
                continue;
            }
            let mut image = None;
            if let (true, Some(name)) = (recipe.embed_image, &article.image) {
                match safe_join(self.source.picture_root(), name) {
                    Ok(path) if path.is_file() => image = Some(path),
                    Ok(path) => {
                        self.job.checkpoint.counts.pictures_missing += 1;
                        self.note(line, &article.url, &format!("there is no picture {}", path.display()))?;
                    }
                    Err(e) => {
                        self.refuse(line, Some(&article.url), &e.to_string())?;
                        continue;
                    }
                }
            }
            let document = Document { text: recipe.text(&article), image };
            if document.text.is_none() && document.image.is_none() {
                self.refuse(line, Some(&article.url), "it has no picture, and text is not embedded")?;
                continue;
            }
            entries.push(Entry { line, id, article, document });
        }
        Ok(entries)
    }

    /// Embeds the documents; one whose picture cannot be read a second time, by its text alone.
    fn embed(&mut self, entries: Vec<Entry>) -> Result<Vec<Point>, KbError> {
        let mut points = Vec::with_capacity(entries.len());
        let mut again = Vec::new();
        for (entry, outcome) in self.call(entries)? {
            match outcome {
                Err(reason) if entry.document.image.is_some() && entry.document.text.is_some() => {
                    self.job.checkpoint.counts.pictures_unreadable += 1;
                    self.note(entry.line, &entry.article.url, &reason)?;
                    again.push(Entry { document: Document { image: None, ..entry.document }, ..entry });
                }
                outcome => self.take(&mut points, entry, outcome)?,
            }
        }
        if !again.is_empty() {
            for (entry, outcome) in self.call(again)? {
                self.take(&mut points, entry, outcome)?;
            }
        }
        Ok(points)
    }

    fn call(&self, entries: Vec<Entry>) -> Result<Vec<(Entry, Result<Vec<f32>, String>)>, KbError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
        let (from, to) = (first.line, last.line);
        let failed = |reason| KbError::Embed { from, to, reason };
        let outcomes = self.embedder.embed(entries.iter().map(|e| e.document.clone()).collect()).map_err(failed)?;
        if outcomes.len() != entries.len() {
            return Err(failed(format!("{} embeddings of {} documents", outcomes.len(), entries.len())));
        }
        Ok(entries.into_iter().zip(outcomes).collect())
    }

    fn take(
        &mut self,
        points: &mut Vec<Point>,
        entry: Entry,
        outcome: Result<Vec<f32>, String>,
    ) -> Result<(), KbError> {
        let Entry { line, id, article, document } = entry;
        let dim = self.job.checkpoint.key.dim;
        let outcome = outcome.and_then(|vector| match bad_vector(&vector, dim) {
            None => Ok(vector),
            Some(reason) => Err(format!("its embedding has {reason}")),
        });
        match outcome {
            Ok(vector) => {
                self.job.checkpoint.counts.pictures += u64::from(document.image.is_some());
                points.push(Point { id, vector, record: Record::new(article, line) });
                Ok(())
            }
            Err(reason) => self.refuse(line, Some(&article.url), &reason),
        }
    }

    fn refuse(&mut self, line: u64, url: Option<&str>, reason: &str) -> Result<(), KbError> {
        self.quarantine.append(&Refusal { line, url, reason, kept: false })?;
        let counts = &mut self.job.checkpoint.counts;
        counts.quarantined += 1;
        if counts.quarantined > self.limit {
            return Err(KbError::TooManyMalformed {
                found: counts.quarantined,
                limit: self.limit,
                source_path: self.source.identity().path.clone(),
                quarantine: self.quarantine_path.clone(),
            });
        }
        Ok(())
    }

    fn note(&mut self, line: u64, url: &str, reason: &str) -> Result<(), KbError> {
        Ok(self.quarantine.append(&Refusal { line, url: Some(url), reason, kept: true })?)
    }

    /// Makes everything so far durable, then says so in the checkpoint.
    fn save(&mut self) -> Result<(), KbError> {
        self.job.store.flush()?;
        self.quarantine.sync()?;
        crash::at("before-checkpoint");
        self.job.checkpoint.quarantine_bytes = fs_err::metadata(&self.quarantine_path)?.len();
        self.job.checkpoint.write(&self.job.dir)?;
        crash::at("after-checkpoint");
        Ok(())
    }

    fn check_not_empty(&self) -> Result<(), KbError> {
        let counts = &self.job.checkpoint.counts;
        if counts.articles > 0 {
            return Ok(());
        }
        Err(KbError::Empty {
            source_path: self.source.identity().path.clone(),
            refused: counts.quarantined,
            quarantine: self.quarantine_path.clone(),
        })
    }
}
