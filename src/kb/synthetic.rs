//! Articles and embeddings of no meaning, as many as are asked for: to measure what a machine does with a large
//! knowledge base before anybody spends days on embedding a real one.
//!
//! Embeddings are points of a mixture in 32 dimensions, carried into the wanted number of dimensions by a fixed map,
//! with noise on top: like real ones they lie near a surface of few dimensions, unlike evenly spread ones, which no
//! graph searches well.

use std::io::Write;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::KbError;
use super::vectors::keys_beside;
use crate::io::{AtomicFile, IoError};

/// Dimensions of the mixture.
const LATENT: usize = 32;

/// Centres of the mixture.
const CENTRES: usize = 1000;

/// How far a point is from its centre, where centres are 1 from the middle in each dimension.
const SPREAD: f32 = 0.6;

/// Noise in each of the wanted dimensions.
const NOISE: f32 = 0.15;

/// Queries that belong to it.
pub const QUERIES: usize = 200;

/// Sections of an article.
const SECTIONS: usize = 5;

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    /// Articles.
    pub articles: usize,
    /// Length of a vector.
    pub dim: usize,
    /// Text of each article, bytes, about.
    pub text_bytes: usize,
    /// Decides all of it.
    pub seed: u64,
}

/// Where it is.
#[derive(Debug, Clone)]
pub struct Files {
    /// Articles: one object in the format of Encyclopedic-VQA's knowledge base.
    pub articles: PathBuf,
    /// Embeddings, `[articles, dim]` in f32 (NumPy), their keys beside them.
    pub vectors: PathBuf,
    /// Queries, `[QUERIES, dim]` in f32 (NumPy), for another program to ask.
    pub queries: PathBuf,
}

impl Synthetic {
    /// Writes them into `dir`, unless an earlier call did.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, dir: &Path, mut seen: impl FnMut(u64)) -> Result<Files, KbError> {
        let Self { articles, dim, text_bytes, seed } = *self;
        let stem = format!("synthetic-{articles}-{dim}-{text_bytes}-{seed}");
        let [articles_path, vectors, queries] =
            [".json", ".npy", ".queries.npy"].map(|ending| dir.join(format!("{stem}{ending}")));
        let files = Files { articles: articles_path, vectors, queries };
        // The articles are finished last.
        if files.articles.exists() {
            return Ok(files);
        }
        let mut bytes = npy_header(QUERIES, dim);
        bytes.extend(self.queries().iter().flatten().flat_map(|value| value.to_le_bytes()));
        crate::io::write_atomic(&files.queries, &bytes)?;
        let mut text = AtomicFile::create(&files.articles)?;
        let mut numbers = AtomicFile::create(&files.vectors)?;
        let mut keys = AtomicFile::create(&keys_beside(&files.vectors))?;
        numbers.write_all(&npy_header(articles, dim))?;
        let space = Space::new(self);
        text.write_all(b"{")?;
        for n in 0..articles {
            let url = url(n);
            text.write_all(if n == 0 { b"\n" } else { b",\n" })?;
            let encode = |e: serde_json::Error| IoError::Encode { path: files.articles.clone(), reason: e.to_string() };
            serde_json::to_writer(&mut text, &url).map_err(encode)?;
            text.write_all(b": ")?;
            serde_json::to_writer(&mut text, &self.article(n)).map_err(encode)?;
            for value in space.article(n) {
                numbers.write_all(&value.to_le_bytes())?;
            }
            writeln!(keys, "{url}")?;
            seen(n as u64 + 1);
        }
        text.write_all(b"\n}\n")?;
        numbers.commit()?;
        keys.commit()?;
        text.commit()?;
        Ok(files)
    }

    /// [`QUERIES`] queries, `[dim]` each: points near articles spread over the whole.
    #[must_use]
    pub fn queries(&self) -> Vec<Vec<f32>> {
        let space = Space::new(self);
        (0..QUERIES).map(|n| space.query(n, n * self.articles / QUERIES)).collect()
    }

    fn article(&self, n: usize) -> serde_json::Value {
        const SYLLABLES: [&str; 16] =
            ["an", "be", "cor", "du", "el", "fa", "gri", "hos", "in", "ka", "lum", "mer", "no", "or", "pa", "ti"];
        let mut random = StdRng::seed_from_u64(self.seed ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let word = |random: &mut StdRng| {
            let syllables = random.random_range(1..4);
            (0..syllables).map(|_| SYLLABLES[random.random_range(0..SYLLABLES.len())]).collect::<String>()
        };
        let title = format!("Entity {n} {}", word(&mut random));
        let mut section = |_| {
            let mut text = String::with_capacity(self.text_bytes / SECTIONS + 16);
            while text.len() < self.text_bytes / SECTIONS {
                text.push_str(&word(&mut random));
                text.push(' ');
            }
            text
        };
        let texts: Vec<String> = (0..SECTIONS).map(&mut section).collect();
        let titles = [title.as_str(), "History", "Description", "Location", "See also"];
        serde_json::json!({
            "title": title, "section_titles": titles, "section_texts": texts, "image_urls": [],
            "image_reference_descriptions": [], "image_section_indices": [], "url": url(n),
        })
    }
}

fn url(n: usize) -> String {
    format!("https://example.org/wiki/Entity_{n}")
}

fn npy_header(rows: usize, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // The numbers begin at a multiple of 64.
    let length = (text.len() + 11).next_multiple_of(64) - 10;
    text.push_str(&" ".repeat(length - 1 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// The mixture and the map out of it.
struct Space {
    seed: u64,
    dim: usize,
    centres: Vec<f32>,
    /// `[LATENT, dim]`
    map: Vec<f32>,
}

impl Space {
    fn new(of: &Synthetic) -> Self {
        let mut random = StdRng::seed_from_u64(of.seed);
        let centres = (0..CENTRES * LATENT).map(|_| normal(&mut random)).collect();
        let scale = 1.0 / (LATENT as f32).sqrt();
        let map = (0..LATENT * of.dim).map(|_| normal(&mut random) * scale).collect();
        Self { seed: of.seed, dim: of.dim, centres, map }
    }

    fn article(&self, n: usize) -> Vec<f32> {
        let mut random = self.random(n);
        let latent = self.latent(&mut random);
        self.carry(&latent, &mut random)
    }

    /// Near article `n`, and another one for each `seed`.
    fn query(&self, seed: usize, n: usize) -> Vec<f32> {
        let mut latent = self.latent(&mut self.random(n));
        let mut random = self.random(seed.wrapping_add(1 << 40));
        latent.iter_mut().for_each(|value| *value += 0.3 * SPREAD * normal(&mut random));
        self.carry(&latent, &mut random)
    }

    fn random(&self, n: usize) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(1) ^ (n as u64).wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn latent(&self, random: &mut StdRng) -> Vec<f32> {
        let centre = random.random_range(0..CENTRES) * LATENT;
        self.centres[centre..centre + LATENT].iter().map(|value| value + SPREAD * normal(random)).collect()
    }

    fn carry(&self, latent: &[f32], random: &mut StdRng) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..self.dim).map(|_| NOISE * normal(random)).collect();
        for (value, row) in latent.iter().zip(self.map.chunks_exact(self.dim)) {
            vector.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        vector
    }
}

/// A normal number, by the sum of twelve even ones: exact tails do not matter here.
fn normal(random: &mut StdRng) -> f32 {
    (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::kb::vectors::VectorFile;
    use crate::kb::{Document, Embedder};

    #[test]
    fn the_same_is_made_every_time_and_queries_are_near_their_articles() {
        let dir = tempfile::tempdir().unwrap();
        let made = Synthetic { articles: 40, dim: 24, text_bytes: 300, seed: 7 };
        let files = made.write(dir.path(), |_| {}).unwrap();
        let other = tempfile::tempdir().unwrap();
        let again = made.write(other.path(), |_| {}).unwrap();
        for (a, b) in [(&files.articles, &again.articles), (&files.vectors, &again.vectors)] {
            assert_eq!(fs_err::read(a).unwrap(), fs_err::read(b).unwrap());
        }
        let json: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&fs_err::read(&files.articles).unwrap()).unwrap();
        assert_eq!(json.len(), 40);
        let vectors = VectorFile::open(&files.vectors, None, Some("f")).unwrap();
        let document = |n| Document { key: url(n), text: None, image: None };
        let all = vectors.embed((0..40).map(document).collect()).unwrap();
        let all: Vec<Vec<f32>> = all.into_iter().map(Result::unwrap).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert!(all.iter().all(|v| (dot(v, v) - 1.0).abs() < 1e-4));
        let queries = made.queries();
        let near = queries.iter().enumerate().filter(|(n, query)| {
            let best = (0..40).max_by(|a, b| dot(&all[*a], query).total_cmp(&dot(&all[*b], query)));
            best == Some(n * 40 / QUERIES)
        });
        assert!(near.count() >= QUERIES * 9 / 10);
    }
}
