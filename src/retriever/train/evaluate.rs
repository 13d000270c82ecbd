//! Recall of queries that are not learned from, over all documents.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::data::{Shown, TrainData};
use super::learner::Learner;
use crate::retriever::model::maxsim;

/// Queries scored at once.
const BATCH: usize = 64;

/// Share of queries with a right document among the first K.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// How many queries.
    pub queries: usize,
    /// K = 1.
    pub recall_at_1: f32,
    /// K = 5.
    pub recall_at_5: f32,
    /// K = 10.
    pub recall_at_10: f32,
}

/// What a head makes of an evaluation's queries and of all documents.
pub struct Embedded {
    /// `[Q, n, D]`.
    pub queries: Tensor,
    /// `[C, n, D]`.
    pub documents: Tensor,
}

impl Embedded {
    /// Embeds both; `None` where `data` has no evaluation.
    ///
    /// # Errors
    /// Those of [`Learner::embed`].
    pub fn of(learner: &mut Learner, data: &TrainData) -> Result<Option<Self>, TrainError> {
        if data.evaluation.is_empty() {
            return Ok(None);
        }
        let documents: Vec<Shown> = data.documents.iter().map(|document| document.shown).collect();
        let queries: Vec<Shown> = data.evaluation.iter().map(|query| query.shown).collect();
        Ok(Some(Self { queries: learner.embed_all(&queries)?, documents: learner.embed_all(&documents)? }))
    }

    /// For each query how many wrong documents stand before its best right one.
    ///
    /// # Errors
    /// The engine's.
    pub fn places(&self, data: &TrainData) -> Result<Vec<usize>, TrainError> {
        let mut places = Vec::with_capacity(data.evaluation.len());
        for (at, queries) in data.evaluation.chunks(BATCH).enumerate() {
            let scores = maxsim(&self.queries.narrow(0, at * BATCH, queries.len())?, &self.documents)?;
            for (query, scores) in queries.iter().zip(scores.to_vec2::<f32>()?) {
                places.push(place(&scores, |document| query.wants(&data.documents[document])));
            }
        }
        Ok(places)
    }
}

/// Recall of `data`'s evaluation, `None` where it has none.
///
/// # Errors
/// Those of [`Learner::embed`].
pub fn evaluate(learner: &mut Learner, data: &TrainData) -> Result<Option<Recall>, TrainError> {
    let Some(embedded) = Embedded::of(learner, data)? else { return Ok(None) };
    let places = embedded.places(data)?;
    let within = |k: usize| places.iter().filter(|place| **place < k).count() as f32 / places.len() as f32;
    Ok(Some(Recall { queries: places.len(), recall_at_1: within(1), recall_at_5: within(5), recall_at_10: within(10) }))
}

/// How many wrong documents stand before the best right one. Of equal scores the wrong one stands first, so that vectors
/// that are all alike find nothing.
fn place(scores: &[f32], right: impl Fn(usize) -> bool) -> usize {
    let best = scores.iter().enumerate().filter(|(at, _)| right(*at)).map(|(_, score)| *score);
    let best = best.fold(f32::NEG_INFINITY, f32::max);
    scores.iter().enumerate().filter(|(at, score)| **score >= best && !right(*at)).count()
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_place_is_that_of_the_best_right_document_behind_its_equals() {
        let scores = [0.1, 0.9, 0.5, 0.7, 0.5];
        assert_eq!(place(&scores, |at| at == 1), 0);
        assert_eq!(place(&scores, |at| at == 3 || at == 0), 1);
        assert_eq!(place(&scores, |at| at == 2), 3);
        assert_eq!(place(&[0.3; 5], |at| at == 0), 4);
    }
}
