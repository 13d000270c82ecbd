//! Builds: a source and an embedder become a knowledge base.
//!
//! A build can be cut off anywhere. Before its manifest there is a checkpoint that claims only what is durable, and
//! the same call goes on from it, under an equal source, retriever and options; the result has the same content hash
//! as a build that was left alone. (Pictures are not hashed: one that changes between the two runs is embedded as the
//! run finds it that meets it.)

mod change;
#[cfg(test)]
mod change_tests;
mod checkpoint;
pub mod crash;
mod dry;
mod fill;
mod finish;
mod flow;
#[cfg(test)]
mod flow_tests;
mod prepare;
mod pull;
mod room;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::kb) mod toy;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use change::{add, remove};
pub use checkpoint::{Checkpoint, Key};
pub use dry::{Prospect, dry_run};
pub use flow::Flow;
pub use pull::pull;

use super::manifest::{FORMAT, Pictures};
use super::place::{Home, Place};
use super::source::Identity;
use super::store::{Engine, Store, StoreConfig, StoreError};
use super::{Counts, Embedder, KbError, Manifest, Recipe, Source};
use crate::io::DirLock;
use crate::io::pictures::PictureFiles;

/// Directory of the engine's files in that of a build.
pub const INDEX: &str = "index";

/// Articles that were refused, or embedded without their picture, one JSON object a line.
pub const QUARANTINE: &str = "quarantine.jsonl";

/// Most articles that are refused before a build stops, where nobody says how many.
pub const MOST_MALFORMED: u64 = 100;

/// What is to be built, where and how.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Where knowledge bases are.
    pub home: Home,
    /// Name of this one.
    pub name: String,
    /// What of an article is embedded.
    pub recipe: Recipe,
    /// Where pictures are; `None` for where the source says.
    pub pictures: Option<PictureFiles>,
    /// What holds it.
    pub engine: Engine,
    /// How; the shape of vectors is the retriever's.
    pub store: StoreConfig,
    /// Batches from checkpoint to checkpoint.
    pub checkpoint_every: usize,
    /// Most articles refused before the build stops; `None` for 1 % of them, at least 1 and at most
    /// [`MOST_MALFORMED`].
    pub max_malformed: Option<u64>,
    /// Starts anew, whatever is there.
    pub fresh: bool,
    /// Finished builds that are kept, the one in use included.
    pub keep: usize,
}

impl BuildOptions {
    /// The defaults.
    #[must_use]
    pub fn new(home: impl Into<Home>, name: &str) -> Self {
        Self {
            home: home.into(),
            name: name.to_owned(),
            recipe: Recipe::default(),
            pictures: None,
            engine: Engine::default(),
            store: StoreConfig::new(0, 0),
            checkpoint_every: 8,
            max_malformed: None,
            fresh: false,
            keep: 1,
        }
    }

    fn pictures_of(&self, source: &dyn Source) -> PictureFiles {
        self.pictures.clone().unwrap_or_else(|| PictureFiles::new(source.picture_root()))
    }
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// An archive comes from a server; counted in bytes.
    Fetch,
    /// Points come from a server; counted in points.
    Copy,
    /// Articles are embedded and stored; counted in bytes of the source, and in detail by each stage of it.
    Embed(Flow),
    /// Articles are removed; counted in points.
    Remove,
    /// The engine indexes; counted in vectors where it says how far it is, as a server does.
    Index,
    /// What is on disk is read back; counted in points.
    Verify,
    /// Files are hashed; counted in bytes.
    Hash,
}

/// What a build has to say. How far it is comes several times a second, whether or not there is progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// `done` of `total` in this stage.
    Progress {
        /// The stage.
        stage: Stage,
        /// Done, in the stage's own unit.
        done: u64,
        /// The whole, where it is known.
        total: Option<u64>,
    },
    /// A line for whoever watches: why it starts anew, what was refused.
    Note(String),
}

/// How a build came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// From the first record on.
    Built,
    /// From a checkpoint on.
    Resumed,
    /// It was finished already, and only had to be put in use.
    Swapped,
    /// The one in use is what was to be built.
    UpToDate,
}

/// What a build did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How.
    pub outcome: Outcome,
    /// Directory of the build in use.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Time taken by this call, seconds.
    pub seconds: f64,
    /// Where it went.
    pub timings: Timings,
}

/// How long each stage of a build was at work. Reading and storing run beside the two that stand between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// Reading and parsing the source.
    #[serde(serialize_with = "as_seconds")]
    pub read: Duration,
    /// Looking for pictures and for what came before, and putting points together.
    #[serde(serialize_with = "as_seconds")]
    pub prepare: Duration,
    /// Decoding and embedding: the embedder does both, one picture's decoding beside another's embedding, and says of
    /// neither how long it took.
    #[serde(serialize_with = "as_seconds")]
    pub embed: Duration,
    /// Storing, and writing checkpoints.
    #[serde(serialize_with = "as_seconds")]
    pub store: Duration,
    /// The engine's indexing, of each graph as soon as there are enough points for it and of the rest in the end.
    #[serde(serialize_with = "as_seconds")]
    pub index: Duration,
    /// Reading back and hashing.
    #[serde(serialize_with = "as_seconds")]
    pub verify: Duration,
}

impl Timings {
    /// Each stage and its time.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, Duration); 6] {
        let Self { read, prepare, embed, store, index, verify } = *self;
        [
            ("read", read),
            ("prepare", prepare),
            ("embed", embed),
            ("store", store),
            ("index", index),
            ("read back", verify),
        ]
    }
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Builds `options.name` out of `source`, or finishes what an earlier call began, and puts it in use.
///
/// `cancel` is looked at between batches; `watch` is told how it goes. Memory is bounded by a few batches.
///
/// # Errors
/// [`KbError::Interrupted`] after `cancel`; after this and every other error the same call goes on from the last
/// checkpoint, and what was in use before still is.
pub fn build(
    options: &BuildOptions,
    source: &mut dyn Source,
    embedder: &dyn Embedder,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Report, KbError> {
    let pictures = options.pictures_of(source);
    let task = Task::begin(options)?;
    let key = Key {
        format: FORMAT,
        base: None,
        input_hash: source.identity().hash.clone(),
        fingerprint: embedder.fingerprint().to_owned(),
        recipe: Recipe { batch: options.recipe.batch.max(1), ..options.recipe.clone() },
        engine: task.place.engine(options.engine),
        store: StoreConfig { dim: embedder.dim(), vectors: embedder.vectors(), ..options.store.clone() },
        pictures: Pictures::of(&pictures),
    };
    task.run(&key, None, &mut task.over(&key, None), watch, &mut |job, watch| {
        let timings = fill::fill(job, options, source, pictures.clone(), embedder, cancel, watch)?;
        source.check_unchanged()?;
        Ok(Filled { sources: vec![source.identity().clone()], timings, content_hash: None })
    })
}

/// What a build and a change have in common: a place that nobody else builds in, and the way to a finished build.
struct Task<'a> {
    options: &'a BuildOptions,
    place: Place,
    start: Instant,
    _lock: DirLock,
}

/// Makes the store of the build of this number.
type Beginning<'a> = dyn FnMut(u32, &mut dyn FnMut(BuildEvent)) -> Result<Box<dyn Store>, KbError> + 'a;

/// Fills a job.
type Filling<'a> = dyn FnMut(&mut Job, &mut dyn FnMut(BuildEvent)) -> Result<Filled, KbError> + 'a;

/// What a job was filled with.
struct Filled {
    /// Where its articles came from.
    sources: Vec<Identity>,
    timings: Timings,
    /// [`Manifest::content_hash`] that it ought to have, where that is known.
    content_hash: Option<String>,
}

impl<'a> Task<'a> {
    fn begin(options: &'a BuildOptions) -> Result<Self, KbError> {
        let (start, place) = (Instant::now(), Place::new(&options.home, &options.name)?);
        place.engine(options.engine).check()?;
        fs_err::create_dir_all(place.builds())?;
        let lock = DirLock::acquire(&place.dir())?;
        Ok(Self { options, place, start, _lock: lock })
    }

    /// Makes an empty store, or a copy of that of the build `base`.
    fn over<'b>(
        &'b self,
        key: &'b Key,
        base: Option<u32>,
    ) -> impl FnMut(u32, &mut dyn FnMut(BuildEvent)) -> Result<Box<dyn Store>, KbError> + 'b {
        move |number, _| self.place.create_store(number, key.engine, &key.store, base)
    }

    /// Takes a finished build under `key` as it is, goes on with an unfinished one, or begins, with what `begin` makes
    /// and `base` describes.
    fn run(
        &self,
        key: &Key,
        base: Option<&Manifest>,
        begin: &mut Beginning<'_>,
        watch: &mut dyn FnMut(BuildEvent),
        fill: &mut Filling<'_>,
    ) -> Result<Report, KbError> {
        let (options, place) = (self.options, &self.place);
        if !options.fresh
            && let Some((number, manifest)) = finished(place, key)?
        {
            let in_use = place.current().ok().flatten() == Some(number);
            finish::put_in_use(place, number, options.keep, watch)?;
            let outcome = if in_use { Outcome::UpToDate } else { Outcome::Swapped };
            return Ok(self.report(outcome, number, manifest, Timings::default()));
        }
        let (mut job, outcome) = match resume(options, place, key, base, watch)? {
            Some(job) => (job, Outcome::Resumed),
            None => (
                Job::create(place, Checkpoint::new(key.clone(), base), base, &mut |number| begin(number, watch))?,
                Outcome::Built,
            ),
        };
        let mut filled = fill(&mut job, watch)?;
        let number = job.number;
        let manifest = finish::finish(job, place, &mut filled, watch)?;
        finish::put_in_use(place, number, options.keep, watch)?;
        Ok(self.report(outcome, number, manifest, filled.timings))
    }

    fn report(&self, outcome: Outcome, number: u32, manifest: Manifest, timings: Timings) -> Report {
        let seconds = self.start.elapsed().as_secs_f64();
        Report { outcome, dir: self.place.build(number), manifest, seconds, timings }
    }
}

/// A build in progress: its store is open.
struct Job {
    number: u32,
    dir: PathBuf,
    store: Box<dyn Store>,
    checkpoint: Checkpoint,
    /// What it began with: nothing, or what the knowledge base holds that it changes.
    base: Counts,
}

impl Job {
    fn create(
        place: &Place,
        checkpoint: Checkpoint,
        base: Option<&Manifest>,
        begin: &mut dyn FnMut(u32) -> Result<Box<dyn Store>, KbError>,
    ) -> Result<Self, KbError> {
        let number = place.next_number()?;
        let dir = place.build(number);
        fs_err::create_dir(&dir)?;
        let store = begin(number)?;
        crash::at("after-create");
        checkpoint.write(&dir)?;
        Ok(Self { number, dir, store, checkpoint, base: Self::held(base) })
    }

    fn open(place: &Place, number: u32, checkpoint: Checkpoint, base: Option<&Manifest>) -> Result<Self, StoreError> {
        let dir = place.build(number);
        let store = place.open_store(number, checkpoint.key.engine, &checkpoint.key.store)?;
        let expected = checkpoint.counts.points;
        let found = store.count_for(expected)?;
        // What is added may take the place of more points than it has.
        if found < expected && checkpoint.key.base.is_none() {
            let reason = format!("it holds {found} points, its checkpoint says {expected}");
            return Err(StoreError::Engine { what: "resume", reason });
        }
        Ok(Self { number, dir, store, checkpoint, base: Self::held(base) })
    }

    fn held(base: Option<&Manifest>) -> Counts {
        base.map(|base| base.counts).unwrap_or_default()
    }

    fn quarantine(&self) -> PathBuf {
        self.dir.join(QUARANTINE)
    }
}

/// The newest finished build under `key` whose files are there.
fn finished(place: &Place, key: &Key) -> Result<Option<(u32, Manifest)>, KbError> {
    for number in place.numbers()?.into_iter().rev() {
        if let Ok(Some(manifest)) = place.manifest(number)
            && key.differences(&Key::of(&manifest)).is_empty()
            && manifest.check(&place.build(number)).is_ok()
        {
            return Ok(Some((number, manifest)));
        }
    }
    Ok(None)
}

/// Takes up the newest unfinished build, if it is one of `key`; removes all other unfinished ones.
fn resume(
    options: &BuildOptions,
    place: &Place,
    key: &Key,
    base: Option<&Manifest>,
    watch: &mut dyn FnMut(BuildEvent),
) -> Result<Option<Job>, KbError> {
    let mut job = None;
    for number in place.numbers()?.into_iter().rev() {
        if !place.is_unfinished(number) {
            continue;
        }
        let dir = place.build(number);
        let mut why = "it had not begun to store".to_owned();
        if let Some(checkpoint) = Checkpoint::read(&dir) {
            let (differs, record) = (key.differences(&checkpoint.key), checkpoint.position.record);
            if options.fresh {
                why = "a fresh start was asked for".to_owned();
            } else if job.is_some() {
                why = "a newer one goes on".to_owned();
            } else if !differs.is_empty() {
                why = format!("{differs} changed");
            } else {
                match Job::open(place, number, checkpoint, base) {
                    Ok(opened) => {
                        watch(BuildEvent::Note(format!("going on behind record {record}")));
                        job = Some(opened);
                        continue;
                    }
                    Err(e) => why = format!("{e}"),
                }
            }
            watch(BuildEvent::Note(format!("starting anew instead of going on behind record {record}: {why}")));
        }
        tracing::info!("removing the unfinished build {}: {why}", dir.display());
        place.remove(number)?;
    }
    Ok(job)
}
