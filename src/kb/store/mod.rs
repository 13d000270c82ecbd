//! Stores: points with a vector and an article each, held by an engine.
//!
//! A store is written by one build, [sealed](Store::seal), and then only read.

#[cfg(feature = "edge")]
pub mod edge;
#[cfg(test)]
pub mod flat;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Article, Section};

/// An engine that holds points. Every method blocks.
pub trait Store: Send + Sync {
    /// Adds or replaces points by id. All are checked before the first is stored; what is acknowledged survives the
    /// end of this process, and [`Store::flush`] makes it survive that of the machine.
    ///
    /// # Errors
    /// [`StoreError::BadVector`] (nothing stored) or the engine's.
    fn upsert(&self, points: Vec<Point>) -> Result<(), StoreError>;
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
    /// Number of points, exactly.
    ///
    /// # Errors
    /// The engine's.
    fn count(&self) -> Result<u64, StoreError>;
    /// The `k` points with the largest dot product with `vector` (`[dim]`), best first.
    ///
    /// # Errors
    /// The engine's.
    fn search(&self, vector: &[f32], k: usize) -> Result<Vec<(Record, f32)>, StoreError>;
    /// Payloads by id, each at the place of its id.
    ///
    /// # Errors
    /// The engine's.
    fn get(&self, ids: &[Uuid]) -> Result<Vec<Option<Record>>, StoreError>;
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

/// The engines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Qdrant in this process (cargo feature `edge`).
    #[default]
    Edge,
    /// A plain file, for tests of what surrounds an engine.
    #[cfg(test)]
    Flat,
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
    pub fn create(self, dir: &Path, dim: usize) -> Result<Box<dyn Store>, StoreError> {
        match self {
            #[cfg(feature = "edge")]
            Self::Edge => Ok(Box::new(edge::EdgeStore::create(dir, dim)?)),
            #[cfg(not(feature = "edge"))]
            Self::Edge => no_engine(dir, dim),
            #[cfg(test)]
            Self::Flat => Ok(Box::new(flat::FlatStore::create(dir, dim)?)),
        }
    }

    /// Opens the store in `dir`. The caller holds a lock on it.
    ///
    /// # Errors
    /// [`StoreError::NoEngine`], or the engine's; a panic of an engine over damaged files is an error too.
    pub fn open(self, dir: &Path, dim: usize) -> Result<Box<dyn Store>, StoreError> {
        match self {
            #[cfg(feature = "edge")]
            Self::Edge => Ok(Box::new(edge::EdgeStore::open(dir, dim)?)),
            #[cfg(not(feature = "edge"))]
            Self::Edge => no_engine(dir, dim),
            #[cfg(test)]
            Self::Flat => Ok(Box::new(flat::FlatStore::open(dir, dim)?)),
        }
    }
}

#[cfg(not(feature = "edge"))]
fn no_engine(_: &Path, _: usize) -> Result<Box<dyn Store>, StoreError> {
    Err(StoreError::NoEngine)
}

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// See [`point_id`].
    pub id: Uuid,
    /// Unit vector `[dim]`.
    pub vector: Vec<f32>,
    /// Payload.
    pub record: Record,
}

/// Payload of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// See [`Article::url`].
    pub url: String,
    /// See [`Article::title`].
    pub title: String,
    /// Headings.
    pub section_titles: Vec<String>,
    /// Bodies, as many.
    pub section_texts: Vec<String>,
    /// Lead picture, relative to the manifest's `picture_root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Line of the source.
    pub line: u64,
}

impl Record {
    /// The payload of `article`, read from `line`.
    #[must_use]
    pub fn new(article: Article, line: u64) -> Self {
        let (section_titles, section_texts) = article.sections.into_iter().map(|s| (s.title, s.text)).unzip();
        Self { url: article.url, title: article.title, section_titles, section_texts, image: article.image, line }
    }

    /// The article.
    #[must_use]
    pub fn into_article(self) -> Article {
        let sections = self.section_titles.into_iter().zip(self.section_texts);
        Article {
            url: self.url,
            title: self.title,
            sections: sections.map(|(title, text)| Section { title, text }).collect(),
            image: self.image,
        }
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This build lacks the engine.
    #[error("this build has no knowledge-base engine; build it with the cargo feature `edge`")]
    NoEngine,
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
}

/// Identity of an article's point: UUIDv5 of its URL.
#[must_use]
pub fn point_id(url: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes())
}

/// Says what is wrong with an embedding, if anything.
#[must_use]
pub fn bad_vector(vector: &[f32], dim: usize) -> Option<String> {
    if vector.len() != dim {
        return Some(format!("{} numbers, expected {dim}", vector.len()));
    }
    if let Some(at) = vector.iter().position(|v| !v.is_finite()) {
        return Some(format!("{} at place {at}, expected finite numbers", vector[at]));
    }
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    ((norm - 1.0).abs() > 1e-2).then(|| format!("length {norm:.4}, expected 1"))
}

/// Checks a whole batch.
///
/// # Errors
/// [`StoreError::BadVector`] for the first that is wrong.
pub fn check_points(points: &[Point], dim: usize) -> Result<(), StoreError> {
    points.iter().try_for_each(|point| match bad_vector(&point.vector, dim) {
        None => Ok(()),
        Some(reason) => Err(StoreError::BadVector { url: point.record.url.clone(), reason }),
    })
}

/// BLAKE3 over all points in the order of their ids: id, payload, vector bits. Equal hashes are equal contents,
/// however they came to be and wherever the engine put them.
///
/// # Errors
/// The engine's.
pub fn content_hash(store: &dyn Store, mut seen: impl FnMut(u64)) -> Result<String, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let text = |hasher: &mut blake3::Hasher, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    let (mut from, mut total) = (None, 0);
    loop {
        let (points, next) = store.scan(from, 256)?;
        for Point { id, vector, record } in &points {
            hasher.update(id.as_bytes());
            text(&mut hasher, &record.url);
            text(&mut hasher, &record.title);
            hasher.update(&(record.section_titles.len() as u64).to_le_bytes());
            for part in record.section_titles.iter().chain(&record.section_texts) {
                text(&mut hasher, part);
            }
            hasher.update(&[u8::from(record.image.is_some())]);
            text(&mut hasher, record.image.as_deref().unwrap_or_default());
            hasher.update(&record.line.to_le_bytes());
            hasher.update(&(vector.len() as u64).to_le_bytes());
            for value in vector {
                hasher.update(&value.to_bits().to_le_bytes());
            }
        }
        total += points.len() as u64;
        seen(total);
        match next {
            Some(next) => from = Some(next),
            None => return Ok(hasher.finalize().to_hex().to_string()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_no_search_would_find_are_told() {
        assert_eq!(bad_vector(&[0.6, 0.8], 2), None);
        assert!(bad_vector(&[0.6, 0.8], 3).unwrap().contains("2 numbers, expected 3"));
        assert!(bad_vector(&[f32::NAN, 1.0], 2).unwrap().contains("NaN at place 0"));
        assert!(bad_vector(&[0.0, 0.0], 2).unwrap().contains("length 0.0000"));
        assert!(bad_vector(&[3.0, 4.0], 2).unwrap().contains("length 5.0000"));
    }

    #[test]
    fn ids_are_fixed_for_ever() {
        assert_eq!(point_id("https://en.wikipedia.org/wiki/Scupi").get_version_num(), 5);
        assert_eq!(point_id("http://www.example.com/").to_string(), "fcde3c85-2270-590f-9e7c-ee003d65e0e2");
    }

    #[cfg(not(feature = "edge"))]
    #[test]
    fn without_the_engine_the_feature_is_named() {
        let error = Engine::Edge.create(Path::new("nowhere"), 2).err().unwrap();
        assert!(error.to_string().contains("cargo feature `edge`"), "{error}");
    }
}
