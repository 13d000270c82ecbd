//! Hard negatives: wrong documents that the present head takes for right ones.
//!
//! Every so many steps all documents are embedded; until the next time, every query of a batch brings the wrong ones that
//! are nearest to it. The vectors are a file of their own beside the checkpoint, written after a checkpoint of the same
//! step: whichever of the two an interruption leaves, a run goes on with the very vectors that it would have had.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::TrainError;
use super::data::{Document, Draw, Query, Shown};
use super::learner::Learner;
use crate::io::atomic::write_atomic;
use crate::retriever::model::maxsim;

const STEP: &str = "step";
const VECTORS: &str = "documents";

/// All documents as a head saw them.
#[derive(Debug)]
pub struct Negatives {
    /// `[C, n, D]`.
    vectors: Tensor,
    /// Wrong documents that each query brings.
    per_query: usize,
}

impl Negatives {
    /// Embeds all documents and writes them to `path`.
    ///
    /// # Errors
    /// The engine's and the disk's.
    pub fn mine(
        path: &Path,
        learner: &mut Learner,
        documents: &[Document],
        per_query: usize,
        step: usize,
    ) -> Result<Self, TrainError> {
        let shown: Vec<Shown> = documents.iter().map(|document| document.shown).collect();
        let vectors = learner.embed_all(&shown)?;
        let facts = HashMap::from([(STEP.to_owned(), step.to_string())]);
        let bytes = safetensors::serialize([(VECTORS, &vectors)], Some(facts)).map_err(std::io::Error::other)?;
        write_atomic(path, &bytes)?;
        Ok(Self { vectors, per_query })
    }

    /// Takes up what [`Negatives::mine`] wrote at `step`.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of another step.
    pub fn load(path: &Path, per_query: usize, step: usize, device: &Device) -> Result<Self, TrainError> {
        let bytes = fs_err::read(path)?;
        let bad = |reason: String| TrainError::Data { path: path.to_owned(), reason };
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let found = header.metadata().as_ref().and_then(|facts| facts.get(STEP)).cloned().unwrap_or_default();
        if found != step.to_string() {
            let reason = format!("found vectors of step `{found}`, expected {step}; remove the folder to start over");
            return Err(bad(reason));
        }
        let mut saved = candle_core::safetensors::load_buffer(&bytes, device)?;
        let vectors =
            saved.remove(VECTORS).ok_or_else(|| bad("found no vectors; remove the folder to start over".into()))?;
        Ok(Self { vectors, per_query })
    }

    /// Adds to a batch what its queries, whose vectors are `queries`, take for right.
    ///
    /// # Errors
    /// The engine's.
    pub fn add(&self, draw: &mut Draw, queries: &Tensor, documents: &[Document]) -> Result<(), TrainError> {
        let scores = maxsim(&queries.detach(), &self.vectors)?.to_vec2::<f32>()?;
        let mut present: BTreeSet<usize> = draw.documents.iter().map(|document| document.class).collect();
        for (query, scores) in draw.queries.iter().zip(scores) {
            for document in nearest_wrong(query, &scores, documents, self.per_query) {
                if present.insert(documents[document].class) {
                    draw.documents.push(documents[document]);
                }
            }
        }
        Ok(())
    }
}

/// The `count` wrong documents of the highest scores, best first; of equal scores the earlier one.
fn nearest_wrong(query: &Query, scores: &[f32], documents: &[Document], count: usize) -> Vec<usize> {
    let mut wrong: Vec<usize> = (0..scores.len()).filter(|document| !query.wants(&documents[*document])).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if count < wrong.len() {
        wrong.select_nth_unstable_by(count, order);
        wrong.truncate(count);
    }
    wrong.sort_unstable_by(order);
    wrong
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn document(text: usize, class: usize) -> Document {
        Document { shown: Shown { text: Some(text), picture: None }, class }
    }

    fn query(right: usize) -> Query {
        Query { shown: Shown { text: Some(9), picture: None }, right: vec![right] }
    }

    #[test]
    fn the_nearest_wrong_documents_are_neither_right_nor_twins_of_what_is_right() {
        // The second is a twin of the first.
        let documents = [document(0, 0), document(1, 0), document(2, 2), document(3, 3), document(4, 4)];
        let scores = [0.5, 0.9, 0.1, 0.4, 0.4];
        assert_eq!(nearest_wrong(&query(0), &scores, &documents, 2), [3, 4]);
        assert_eq!(nearest_wrong(&query(0), &scores, &documents, 9), [3, 4, 2]);
        assert_eq!(nearest_wrong(&query(4), &scores, &documents, 1), [1]);
    }

    #[test]
    fn a_batch_gets_each_of_them_once() {
        let documents = [document(0, 0), document(1, 0), document(2, 2), document(3, 3), document(4, 4)];
        // Documents lie on a circle, at 0, 10, 20, 80 and 90 degrees; both queries at 5.
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let vectors = Tensor::new(&[0.0, 10.0, 20.0, 80.0, 90.0].map(|degrees| [at(degrees)]), &Device::Cpu).unwrap();
        let queries = Tensor::new(&[[at(5.0)], [at(5.0)]], &Device::Cpu).unwrap();
        let negatives = Negatives { vectors, per_query: 2 };
        let mut draw = Draw { queries: vec![query(0), query(3)], documents: vec![documents[0], documents[3]] };
        negatives.add(&mut draw, &queries, &documents).unwrap();
        // The first query wants 2, and 3 which is there; the second 0 and its twin, which are there.
        assert_eq!(draw.documents, [documents[0], documents[3], documents[2]]);
    }
}
