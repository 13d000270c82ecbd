//! Articles become points: who comes twice is refused, pictures are looked for, what is to be embedded is put together
//! and embedded.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

use super::fill::Batch;
use super::flow::Meters;
use super::{BuildOptions, Checkpoint, Job, MOST_MALFORMED};
use crate::io::pictures::PictureFiles;
use crate::io::{IoError, JsonlWriter};
use crate::kb::recipe::Unit;
use crate::kb::source::{Identity, RecordUnit};
use crate::kb::store::{Part, Payload, Point, Record, Store, bad_vectors, part_id, point_id};
use crate::kb::words::{words_of, words_of_part};
use crate::kb::{Article, Document, EmbedUnit, Embedder, KbError, PictureRef, Position, Recipe};

/// Batches that the store may not have yet: those in the queue, the one being stored, and one to be safe.
const ON_THE_WAY: usize = 4;

/// Something that was left out (`kept: false`), or an article that lost its picture.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    record: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    reason: &'a str,
    kept: bool,
}

/// One article on its way into the store.
struct Entry {
    record: u64,
    id: Uuid,
    article: Article,
    /// What is to be embedded, and then the vectors; a part without either is left out.
    units: Vec<(Unit, Option<Vec<f32>>)>,
    /// Parts of the article whose place it takes, if it takes one's.
    replaces: Option<usize>,
}

/// A unit of an entry of the batch, as it is embedded.
struct Task {
    entry: usize,
    unit: usize,
    document: Document,
}

pub(super) struct Preparer<'a> {
    /// What holds when everything prepared so far is stored.
    pub checkpoint: Checkpoint,
    store: &'a dyn Store,
    embedder: &'a dyn Embedder,
    meters: &'a Meters,
    pictures: PictureFiles,
    limit: u64,
    quarantine: JsonlWriter,
    quarantine_path: PathBuf,
    source: PathBuf,
    unit: RecordUnit,
    /// Index of this source among those of the knowledge base.
    generation: usize,
    /// Numbers of records by id, of the batches on the way.
    recent: VecDeque<HashMap<Uuid, u64>>,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(
        job: &'a Job,
        options: &BuildOptions,
        source: &Identity,
        pictures: PictureFiles,
        embedder: &'a dyn Embedder,
        meters: &'a Meters,
    ) -> Result<Self, KbError> {
        let (checkpoint, quarantine_path) = (&job.checkpoint, job.quarantine());
        // What was written behind the checkpoint will be written again.
        let file = fs_err::OpenOptions::new().create(true).write(true).truncate(false).open(&quarantine_path)?;
        file.set_len(checkpoint.quarantine_bytes)?;
        drop(file);
        Ok(Self {
            checkpoint: checkpoint.clone(),
            store: job.store.as_ref(),
            embedder,
            meters,
            pictures,
            limit: options.max_malformed.unwrap_or(MOST_MALFORMED),
            quarantine: JsonlWriter::open(&quarantine_path)?,
            quarantine_path,
            source: source.path.clone(),
            unit: source.unit,
            generation: checkpoint.sources.len(),
            recent: VecDeque::new(),
        })
    }

    fn recipe(&self) -> &Recipe {
        &self.checkpoint.key.recipe
    }

    /// The points of a batch, and those that they take the place of.
    pub(super) fn points(&mut self, batch: Batch) -> Result<(Vec<Uuid>, Vec<Point>), KbError> {
        let meters = self.meters;
        let mut entries = meters.preparing.time(|| {
            let mut articles = Vec::with_capacity(batch.rows.len());
            for row in batch.rows {
                match row {
                    Ok(row) => articles.push(row),
                    Err(bad) => self.refuse(bad.position, None, &bad.reason)?,
                }
            }
            self.entries(articles)
        })?;
        meters.embedding.time(|| self.embed(&mut entries))?;
        self.checkpoint.position = batch.position;
        self.checkpoint.complete = !batch.more;
        meters.preparing.time(|| self.encode(entries))
    }

    /// What holds when everything prepared so far is stored.
    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint, KbError> {
        self.checkpoint.quarantine_bytes = fs_err::metadata(&self.quarantine_path)?.len();
        Ok(self.checkpoint.clone())
    }

    /// Refuses articles whose URL came before, and looks for pictures.
    fn entries(&mut self, articles: Vec<(Position, Article)>) -> Result<Vec<Entry>, KbError> {
        let ids: Vec<Uuid> = articles.iter().map(|(_, article)| point_id(&article.url)).collect();
        let stored = self.store.get(&ids)?;
        let mut seen: HashMap<Uuid, u64> = HashMap::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(articles.len());
        for (((position, mut article), id), stored) in articles.into_iter().zip(ids).zip(stored) {
            let record = position.record;
            let earlier = self.recent.iter().chain([&seen]).find_map(|batch| batch.get(&id).copied());
            let (first, old) = match (earlier, stored) {
                (Some(record), _) => (Some(record), None),
                (None, Some(Payload::Article(own))) if own.source == self.generation => (Some(own.record), None),
                // It is of the build that is added to.
                (None, Some(Payload::Article(old))) => (None, Some(old)),
                (None, _) => (None, None),
            };
            // A run that was cut off may have stored this very record already.
            if let Some(first) = first.filter(|first| *first < record) {
                let reason = format!("the same url stands in {} {first} already", self.unit);
                self.refuse(position, Some(&article.url), &reason)?;
                continue;
            }
            self.recipe().drop_from(&mut article);
            let missing = match self.find_pictures(&mut article) {
                Ok(missing) => missing,
                Err(e) => {
                    self.refuse(position, Some(&article.url), &e.to_string())?;
                    continue;
                }
            };
            let replaces = old.as_ref().map(|old| old.parts);
            if old.is_some_and(|old| old.into_article() == article) && !self.has_newer_picture(&article) {
                seen.insert(id, record);
                continue;
            }
            self.count_pictures(record, &article, &missing)?;
            let units = self.recipe().units(&article);
            if units.is_empty() && self.recipe().unit == EmbedUnit::Article {
                self.refuse(position, Some(&article.url), "it has no picture, and text is not embedded")?;
                continue;
            }
            seen.insert(id, record);
            let units = units.into_iter().map(|unit| (unit, None)).collect();
            entries.push(Entry { record, id, article, units, replaces });
        }
        self.recent.push_back(seen);
        if self.recent.len() > ON_THE_WAY {
            self.recent.pop_front();
        }
        Ok(entries)
    }

    /// Leaves an article the pictures that are there, by their paths, and gives the names of the others.
    fn find_pictures(&self, article: &mut Article) -> Result<Vec<String>, IoError> {
        let mut missing = Vec::new();
        for picture in std::mem::take(&mut article.pictures) {
            match self.pictures.find(&picture.name)? {
                Some(name) => article.pictures.push(PictureRef { name, ..picture }),
                None => missing.push(picture.name),
            }
        }
        Ok(missing)
    }

    fn count_pictures(&mut self, record: u64, article: &Article, missing: &[String]) -> Result<(), KbError> {
        let counts = &mut self.checkpoint.counts;
        counts.pictures_missing += missing.len() as u64;
        counts.articles_without_picture += u64::from(article.pictures.is_empty());
        let Some(name) = missing.first() else { return Ok(()) };
        let (lost, named, root) = (missing.len(), missing.len() + article.pictures.len(), self.pictures.root());
        let reason = format!("{lost} of {named} pictures are not in {}, among them {name}", root.display());
        self.note(record, &article.url, &reason)
    }

    /// Whether a picture was written since the build that is added to was made.
    fn has_newer_picture(&self, article: &Article) -> bool {
        let made = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.checkpoint.base_unix_s);
        article.pictures.iter().any(|picture| {
            let meta = fs_err::metadata(self.pictures.root().join(&picture.name));
            meta.and_then(|meta| meta.modified()).map_or(true, |modified| modified >= made)
        })
    }

    /// Embeds the units; one whose picture cannot be read a second time, by its text alone.
    fn embed(&mut self, entries: &mut [Entry]) -> Result<(), KbError> {
        let mut tasks = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            for (m, (unit, _)) in entry.units.iter().enumerate() {
                let document = self.recipe().document(&entry.article, m, unit, self.pictures.root());
                tasks.push(Task { entry: n, unit: m, document });
            }
        }
        let mut again = Vec::new();
        for (task, outcome) in self.call(tasks, entries)? {
            let entry = &mut entries[task.entry];
            match outcome {
                Err(reason) if task.document.image.is_some() => {
                    self.checkpoint.counts.pictures_unreadable += 1;
                    if task.document.text.is_some() {
                        let (record, url) = (entry.record, entry.article.url.clone());
                        self.note(record, &url, &reason)?;
                        again.push(Task { document: Document { image: None, ..task.document }, ..task });
                    } else {
                        self.lose(entry, &reason)?;
                    }
                }
                outcome => self.take(entry, &task, outcome)?,
            }
        }
        for (task, outcome) in self.call(again, entries)? {
            self.take(&mut entries[task.entry], &task, outcome)?;
        }
        Ok(())
    }

    fn call(&self, tasks: Vec<Task>, entries: &[Entry]) -> Result<Vec<(Task, Result<Vec<f32>, String>)>, KbError> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        let mut tasks = tasks.into_iter();
        loop {
            let part: Vec<Task> = tasks.by_ref().take(self.recipe().batch.max(1)).collect();
            let (Some(first), Some(last)) = (part.first(), part.last()) else { return Ok(outcomes) };
            let (from, to) = (entries[first.entry].record, entries[last.entry].record);
            let failed = |reason| KbError::Embed { unit: self.unit, from, to, reason };
            let found = self.embedder.embed(part.iter().map(|t| t.document.clone()).collect()).map_err(failed)?;
            if found.len() != part.len() {
                return Err(failed(format!("{} embeddings of {} documents", found.len(), part.len())));
            }
            self.meters.have_embedded(found.iter().flatten().count() as u64);
            outcomes.extend(part.into_iter().zip(found));
        }
    }

    fn take(&mut self, entry: &mut Entry, task: &Task, outcome: Result<Vec<f32>, String>) -> Result<(), KbError> {
        let store = &self.checkpoint.key.store;
        let outcome = outcome.and_then(|vectors| match bad_vectors(&vectors, store) {
            None => Ok(vectors),
            Some(reason) => Err(format!("its embedding has {reason}")),
        });
        match outcome {
            Ok(vectors) => {
                self.checkpoint.counts.pictures += u64::from(task.document.image.is_some());
                entry.units[task.unit].1 = Some(vectors);
                Ok(())
            }
            Err(reason) => self.lose(entry, &reason),
        }
    }

    /// A unit has no embedding: its article is refused, or does without that part.
    fn lose(&mut self, entry: &Entry, reason: &str) -> Result<(), KbError> {
        if self.recipe().unit == EmbedUnit::Article {
            let position = Position { record: entry.record, end: 0 };
            self.refuse(position, Some(&entry.article.url), reason)
        } else {
            self.note(entry.record, &entry.article.url, reason)
        }
    }

    /// What is stored, and what makes way for it: an article that is refused takes nobody's place.
    fn encode(&mut self, entries: Vec<Entry>) -> Result<(Vec<Uuid>, Vec<Point>), KbError> {
        let (mut delete, mut points) = (Vec::new(), Vec::with_capacity(entries.len()));
        let (words, kind) = (self.checkpoint.key.store.words, self.recipe().unit);
        let counts = &mut self.checkpoint.counts;
        for Entry { record, id, article, units, replaces } in entries {
            let before = points.len();
            let mut own = Vec::new();
            let parts = match kind {
                EmbedUnit::Article => match units.into_iter().next() {
                    Some((_, Some(vectors))) => {
                        own = vectors;
                        counts.embeddings += 1;
                        0
                    }
                    // It was refused.
                    _ => continue,
                },
                _ => {
                    let parts = units.len();
                    for (n, (unit, vectors)) in units.into_iter().enumerate() {
                        let Some(vectors) = vectors else { continue };
                        let (section, picture) = (unit.section, unit.picture);
                        let part = Part { part_of: article.url.clone(), number: n, section, picture };
                        let words = words.then(|| words_of_part(&article, &part));
                        points.push(Point { id: part_id(id, n), vectors, words, payload: Payload::Part(part) });
                        counts.embeddings += 1;
                    }
                    parts
                }
            };
            if let Some(parts) = replaces {
                delete.extend((0..parts).map(|n| part_id(id, n)));
                delete.push(id);
            }
            let words = (words && parts == 0).then(|| words_of(&article));
            counts.articles += 1;
            counts.sections += article.sections.len() as u64;
            let record = Record::new(article, self.generation, record, parts);
            points.push(Point { id, vectors: own, words, payload: Payload::Article(record) });
            counts.points += (points.len() - before) as u64;
        }
        Ok((delete, points))
    }

    fn refuse(&mut self, position: Position, url: Option<&str>, reason: &str) -> Result<(), KbError> {
        let Position { record, end } = position;
        let offset = (end > 0).then_some(end);
        self.quarantine.append(&Refusal { record, offset, url, reason, kept: false })?;
        let counts = &mut self.checkpoint.counts;
        counts.quarantined += 1;
        if counts.quarantined > self.limit {
            return Err(KbError::TooManyMalformed {
                found: counts.quarantined,
                limit: self.limit,
                source_path: self.source.clone(),
                quarantine: self.quarantine_path.clone(),
            });
        }
        Ok(())
    }

    fn note(&mut self, record: u64, url: &str, reason: &str) -> Result<(), KbError> {
        Ok(self.quarantine.append(&Refusal { record, offset: None, url: Some(url), reason, kept: true })?)
    }
}
