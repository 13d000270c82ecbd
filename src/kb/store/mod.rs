//! Stores: points with a vector and an article each, held by an engine.
//!
//! A store is written by one build, [sealed](Store::seal), and then only read; a copy of a sealed one may be written
//! again.

#[cfg(test)]
mod conformance;
#[cfg(feature = "edge")]
pub mod edge;
#[cfg(test)]
pub mod flat;
#[cfg(feature = "server")]
pub mod server;
pub mod server_error;
#[cfg(any(feature = "edge", feature = "server"))]
mod tuning;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::server_error::{ServerError, ServerErrorKind};
use super::{Article, PictureRef, Section};

/// An engine that holds points. Every method blocks.
pub trait Store: Send + Sync {
    /// Adds or replaces points by id. All are checked before the first is stored; [`Store::flush`] makes durable what
    /// is acknowledged.
    ///
    /// # Errors
    /// [`StoreError::BadVector`] (nothing stored) or the engine's.
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError>;
    /// Removes points; ids that are not there are passed over. Durable after [`Store::flush`].
    ///
    /// # Errors
    /// The engine's.
    fn delete(&self, ids: &[Uuid]) -> Result<(), StoreError>;
    /// Makes everything acknowledged durable.
    ///
    /// # Errors
    /// The engine's.
    fn flush(&self) -> Result<(), StoreError>;
    /// Merges and indexes. May take hours on millions of points, and cannot be stopped.
    ///
    /// # Errors
    /// The engine's.
    fn optimize(&self) -> Result<(), StoreError>;
    /// Whether the points of one graph ([`StoreConfig::graph`]) are there and in none yet: [`Store::optimize`] before
    /// more are stored, so that no graph becomes larger. Never where the engine sees to it itself.
    fn full(&self) -> bool {
        false
    }
    /// How far [`Store::optimize`] is, asked from another thread while it runs: vectors that are indexed, and all. `None`
    /// where the engine does not say.
    fn indexed(&self) -> Option<(u64, u64)> {
        None
    }
    /// Number of points, exactly.
    ///
    /// # Errors
    /// The engine's.
    fn count(&self) -> Result<u64, StoreError>;
    /// Number of points as the parts of an engine tell it, at once: one that a crash left in two of them counts twice.
    ///
    /// # Errors
    /// The engine's.
    fn tally(&self) -> Result<u64, StoreError> {
        self.count()
    }
    /// Number of points where `expected` are expected: only where the tally is another are they counted.
    ///
    /// # Errors
    /// The engine's.
    fn count_for(&self, expected: u64) -> Result<u64, StoreError> {
        let tally = self.tally()?;
        if tally == expected { Ok(tally) } else { self.count() }
    }
    /// The points nearest to a query, best first, with their scores.
    ///
    /// # Errors
    /// The engine's.
    fn search(&self, query: &Query<'_>) -> Result<Vec<(Payload, f32)>, StoreError>;
    /// Payloads by id, each at its id's place; `None` for an id that is not there.
    ///
    /// # Errors
    /// The engine's.
    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Payload>>, StoreError>;
    /// A page of points in the order of their ids, from `from` on, and the id that the next page begins with.
    ///
    /// # Errors
    /// The engine's.
    fn scan(&self, from: Option<Uuid>, limit: usize) -> Result<(Vec<Point>, Option<Uuid>), StoreError>;
    /// Ends writing: everything is on disk, and reading it later changes nothing there.
    ///
    /// # Errors
    /// The engine's.
    fn seal(self: Box<Self>) -> Result<(), StoreError>;
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// `[vectors, dim]` unit vectors, row by row.
    pub vectors: &'a [f32],
    /// Words, for a store with [`StoreConfig::words`]: its ranking by BM25 is fused with that by vectors.
    pub words: Option<&'a str>,
    /// Most points that are returned.
    pub limit: usize,
    /// Whether every point is compared, instead of walking a graph.
    pub exact: bool,
}

/// The engines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Qdrant in this process (cargo feature `edge`).
    #[default]
    Edge,
    /// A Qdrant server or cluster.
    Server,
    /// A plain file, for tests of what surrounds an engine.
    #[cfg(test)]
    Flat,
}

/// How an engine holds its points: part of what a knowledge base is built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreConfig {
    /// Length of a vector.
    pub dim: usize,
    /// Vectors of each embedded point, compared by MaxSim where there are several.
    pub vectors: usize,
    /// Whether the words of articles are indexed too.
    pub words: bool,
    /// Whether search reads shortened vectors first.
    pub quantization: Quantization,
    /// Links of a point in the graph (`m` of HNSW).
    pub hnsw_m: usize,
    /// Candidates that are looked at when a point is linked (`ef_construct`).
    pub hnsw_ef_construct: usize,
    /// Points of a graph, about: so many are indexed at once, and a search walks every graph. 0 for a single one,
    /// however many there are. A server sees to it itself.
    #[serde(default)]
    pub graph: usize,
    /// Whether vectors stay on disk, and memory holds what the system caches of them.
    pub on_disk: bool,
}

impl StoreConfig {
    /// The defaults, for `vectors` vectors of `dim` numbers.
    #[must_use]
    pub fn new(dim: usize, vectors: usize) -> Self {
        Self {
            dim,
            vectors,
            words: false,
            quantization: Quantization::None,
            hnsw_m: 16,
            hnsw_ef_construct: 100,
            graph: 100_000,
            on_disk: false,
        }
    }

    /// Whether so many points that are in no graph are enough for one.
    #[must_use]
    pub fn fill_a_graph(&self, points: usize) -> bool {
        self.graph > 0 && points >= self.graph
    }
}

/// Shortened vectors, beside the full ones: search reads the short, and the best are scored again by the full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantization {
    /// Full vectors only.
    #[default]
    None,
    /// A byte a number.
    Int8,
    /// A bit a number.
    Binary,
}

impl Quantization {
    /// All by name.
    pub const NAMES: [(&'static str, Self); 3] = [("none", Self::None), ("int8", Self::Int8), ("binary", Self::Binary)];
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, value)| value);
        found.ok_or_else(|| format!("unknown quantization {text:?}; expected none, int8 or binary"))
    }
}

impl Engine {
    /// Sees that this build has the engine.
    ///
    /// # Errors
    /// [`StoreError::NoEngine`].
    pub fn check(self) -> Result<(), StoreError> {
        if self == Self::Edge && cfg!(not(feature = "edge")) { Err(StoreError::NoEngine) } else { Ok(()) }
    }

    /// Makes an empty store in `dir`, which must not exist.
    ///
    /// # Errors
    /// [`StoreError::NoEngine`], or the engine's.
    pub fn create(self, dir: &Path, config: &StoreConfig) -> Result<Box<dyn Store>, StoreError> {
        match self {
            #[cfg(feature = "edge")]
            Self::Edge => Ok(Box::new(edge::EdgeStore::create(dir, config)?)),
            #[cfg(not(feature = "edge"))]
            Self::Edge => no_engine(dir, config),
            Self::Server => Err(StoreError::OnServer),
            #[cfg(test)]
            Self::Flat => Ok(Box::new(flat::FlatStore::create(dir, config)?)),
        }
    }

    /// Unpacks a server's archive of a collection of `config` into `dir`, which must not exist, and opens it.
    ///
    /// # Errors
    /// [`StoreError::NoEngine`] for one that [takes none](Self::takes_archives), or the engine's, for an archive of
    /// another version too.
    pub fn unpack(self, archive: &Path, dir: &Path, config: &StoreConfig) -> Result<Box<dyn Store>, StoreError> {
        match self {
            #[cfg(feature = "edge")]
            Self::Edge => Ok(Box::new(edge::EdgeStore::unpack(archive, dir, config)?)),
            _ => {
                let _ = (archive, dir, config);
                Err(StoreError::NoEngine)
            }
        }
    }

    /// Whether it takes a server's archives.
    #[must_use]
    pub fn takes_archives(self) -> bool {
        cfg!(feature = "edge") && self == Self::Edge
    }

    /// Opens the store in `dir`. The caller holds a lock on it.
    ///
    /// # Errors
    /// [`StoreError::NoEngine`], or the engine's; a panic of an engine over damaged files is an error too.
    pub fn open(self, dir: &Path, config: &StoreConfig) -> Result<Box<dyn Store>, StoreError> {
        match self {
            #[cfg(feature = "edge")]
            Self::Edge => Ok(Box::new(edge::EdgeStore::open(dir, config)?)),
            #[cfg(not(feature = "edge"))]
            Self::Edge => no_engine(dir, config),
            Self::Server => Err(StoreError::OnServer),
            #[cfg(test)]
            Self::Flat => Ok(Box::new(flat::FlatStore::open(dir, config)?)),
        }
    }
}

#[cfg(not(feature = "edge"))]
fn no_engine(_: &Path, _: &StoreConfig) -> Result<Box<dyn Store>, StoreError> {
    Err(StoreError::NoEngine)
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// See [`point_id`] and [`part_id`].
    pub id: Uuid,
    /// Unit vectors `[vectors, dim]`, row by row; none for an article that is found by its parts.
    pub vectors: Vec<f32>,
    /// What a store with [`StoreConfig::words`] finds it by; an engine keeps no more of it than it needs for that, so
    /// that a point which is read has none.
    pub words: Option<String>,
    /// What it stands for.
    pub payload: Payload,
}

/// What a point stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Payload {
    /// A whole article.
    Article(Record),
    /// A part of one.
    Part(Part),
}

/// A part of an article that has an embedding of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// [`Article::url`] of the article.
    pub part_of: String,
    /// Number of the part, from 0; see [`part_id`].
    pub number: usize,
    /// Index of its section; of a picture, that of the section it stands in.
    pub section: usize,
    /// Index of the picture, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<usize>,
}

/// A whole article, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// See [`Article::url`].
    pub url: String,
    /// See [`Article::title`].
    pub title: String,
    /// See [`Article::sections`].
    pub sections: Vec<Section>,
    /// See [`Article::pictures`]; their names are paths below the manifest's `pictures.root`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<PictureRef>,
    /// Index of its source in the manifest's `sources`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source: usize,
    /// Number of its record there.
    pub record: u64,
    /// Parts of it that may have points of their own; see [`part_id`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parts: usize,
}

// The signature that serde asks for.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Record {
    /// The payload of `article`, which is record number `record` of source number `source`.
    #[must_use]
    pub fn new(article: Article, source: usize, record: u64, parts: usize) -> Self {
        let Article { url, title, sections, pictures } = article;
        Self { url, title, sections, pictures, source, record, parts }
    }

    /// The article.
    #[must_use]
    pub fn into_article(self) -> Article {
        let Self { url, title, sections, pictures, .. } = self;
        Article { url, title, sections, pictures }
    }
}

impl Payload {
    /// Reads what an engine kept of point `id`.
    ///
    /// # Errors
    /// [`StoreError::BadPayload`].
    pub fn from_json(id: Uuid, json: serde_json::Map<String, serde_json::Value>) -> Result<Self, StoreError> {
        let is_part = json.contains_key("part_of");
        let json = serde_json::Value::Object(json);
        let read = if is_part {
            serde_json::from_value(json).map(Self::Part)
        } else {
            serde_json::from_value(json).map(Self::Article)
        };
        read.map_err(|e| StoreError::BadPayload { id: id.to_string(), reason: e.to_string() })
    }

    /// What vectors made elsewhere are looked up by: [`super::Document::key`].
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Article(record) => record.url.clone(),
            Self::Part(part) => part_key(&part.part_of, part.number),
        }
    }

    /// URL of the article that it stands for or belongs to.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Article(record) => &record.url,
            Self::Part(part) => &part.part_of,
        }
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This build lacks the engine.
    #[error("this build has no knowledge-base engine; build it with the cargo feature `edge`")]
    NoEngine,
    /// This build lacks the client of a server.
    #[error("this build speaks to no server; build it with the cargo feature `server`, or set kb.server.url to \"\"")]
    NoClient,
    /// A knowledge base of a server, looked for in a directory.
    #[error("it is on a server; set kb.server.url to reach it")]
    OnServer,
    /// The engine's reason.
    #[error("the engine failed to {what}: {reason}")]
    Engine {
        /// What it was to do.
        what: &'static str,
        /// Its reason.
        reason: String,
    },
    /// The engine panicked: its files are damaged.
    #[error("the engine broke off while it was to {what}: {reason}")]
    Panicked {
        /// What it was to do.
        what: &'static str,
        /// Its message.
        reason: String,
    },
    /// A vector that no search could ever find.
    #[error("vector of {url}: {reason}")]
    BadVector {
        /// The article.
        url: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A payload that is not ours.
    #[error("point {id}: {reason}")]
    BadPayload {
        /// The point.
        id: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file beside the engine's own.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A server's.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl StoreError {
    /// The system's `source`, with the path that it is about.
    #[must_use]
    pub fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// Identity of an article's point: UUIDv5 of its URL.
#[must_use]
pub fn point_id(url: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes())
}

/// Identity of the point of an article's `n`-th part, within the article's own.
#[must_use]
pub fn part_id(article: Uuid, n: usize) -> Uuid {
    Uuid::new_v5(&article, &(n as u64).to_le_bytes())
}

/// Name of an article's `n`-th part.
#[must_use]
pub fn part_key(url: &str, n: usize) -> String {
    format!("{url}#{n}")
}

/// Says what is wrong with an embedding `[vectors, dim]`, if anything.
#[must_use]
pub fn bad_vectors(values: &[f32], config: &StoreConfig) -> Option<String> {
    let StoreConfig { dim, vectors, .. } = *config;
    if values.len() != dim * vectors {
        let expected = if vectors == 1 { dim.to_string() } else { format!("{vectors} times {dim}") };
        return Some(format!("{} numbers, expected {expected}", values.len()));
    }
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Some(format!("{} at place {at}, expected finite numbers", values[at]));
    }
    values.chunks_exact(dim.max(1)).find_map(|vector| {
        let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        ((norm - 1.0).abs() > 1e-2).then(|| format!("length {norm:.4}, expected 1"))
    })
}

/// Checks a whole batch.
///
/// # Errors
/// [`StoreError::BadVector`] for the first that is wrong.
pub fn check_points(points: &[Point], config: &StoreConfig) -> Result<(), StoreError> {
    points.iter().filter(|point| !point.vectors.is_empty()).try_for_each(|point| {
        match bad_vectors(&point.vectors, config) {
            None => Ok(()),
            Some(reason) => Err(StoreError::BadVector { url: point.payload.url().to_owned(), reason }),
        }
    })
}

/// What a store holds, by reading all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3 over all points in the order of their ids: id, payload, vector bits. Equal hashes are equal contents,
    /// however they came to be and wherever the engine put them.
    pub hash: String,
    /// Points.
    pub points: u64,
    /// Points that stand for whole articles.
    pub articles: u64,
    /// Sections of those.
    pub sections: u64,
    /// Points with vectors.
    pub embeddings: u64,
}

/// Reads everything in a store. `seen` is told the points read so far.
///
/// # Errors
/// The engine's.
pub fn content(store: &dyn Store, mut seen: impl FnMut(u64)) -> Result<Content, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let mut content = Content::default();
    let mut from = None;
    loop {
        let (points, next) = store.scan(from, 256)?;
        for Point { id, vectors, payload, words: _ } in &points {
            hasher.update(id.as_bytes());
            // Fields of a struct are written in the order of its declaration, whatever the engine did to them.
            let bytes = serde_json::to_vec(payload)
                .map_err(|e| StoreError::BadPayload { id: id.to_string(), reason: e.to_string() })?;
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
            hasher.update(&(vectors.len() as u64).to_le_bytes());
            for value in vectors {
                hasher.update(&value.to_bits().to_le_bytes());
            }
            content.embeddings += u64::from(!vectors.is_empty());
            if let Payload::Article(record) = payload {
                content.articles += 1;
                content.sections += record.sections.len() as u64;
            }
        }
        content.points += points.len() as u64;
        seen(content.points);
        match next {
            Some(next) => from = Some(next),
            None => {
                content.hash = hasher.finalize().to_hex().to_string();
                return Ok(content);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_no_search_would_find_are_told() {
        let bad = |values: &[f32], dim, vectors| bad_vectors(values, &StoreConfig::new(dim, vectors));
        assert_eq!(bad(&[0.6, 0.8], 2, 1), None);
        assert_eq!(bad(&[0.6, 0.8, 1.0, 0.0], 2, 2), None);
        assert!(bad(&[0.6, 0.8], 3, 1).unwrap().contains("2 numbers, expected 3"));
        assert!(bad(&[0.6, 0.8], 2, 3).unwrap().contains("2 numbers, expected 3 times 2"));
        assert!(bad(&[f32::NAN, 1.0], 2, 1).unwrap().contains("NaN at place 0"));
        assert!(bad(&[0.0, 0.0], 2, 1).unwrap().contains("length 0.0000"));
        assert!(bad(&[0.6, 0.8, 3.0, 4.0], 2, 2).unwrap().contains("length 5.0000"));
    }

    #[test]
    fn ids_are_fixed_for_ever() {
        assert_eq!(point_id("https://en.wikipedia.org/wiki/Scupi").get_version_num(), 5);
        assert_eq!(point_id("http://www.example.com/").to_string(), "fcde3c85-2270-590f-9e7c-ee003d65e0e2");
    }

    #[cfg(not(feature = "edge"))]
    #[test]
    fn without_the_engine_the_feature_is_named() {
        let error = Engine::Edge.create(Path::new("nowhere"), &StoreConfig::new(2, 1)).err().unwrap();
        assert!(error.to_string().contains("cargo feature `edge`"), "{error}");
    }
}
