//! InfoNCE (arXiv 1807.03748) both ways, with soft labels.

use candle_core::{D, Tensor};

use super::TrainError;

/// What came of a batch.
#[derive(Debug)]
pub struct Contrast {
    /// Nats, 0-dim, differentiable.
    pub loss: Tensor,
    /// Share of the queries for which a right document scored highest.
    pub recall_at_1: f32,
}

/// Mean of the cross entropies of queries over documents and of documents over queries. Where several are right, the
/// target is spread evenly over them. A document that is right for no query is wrong for all, and has no say the other way.
///
/// `scores`: `[queries, documents]`; `right`: the same, row by row, with at least one in every row.
///
/// # Errors
/// The engine's.
pub fn contrast(scores: &Tensor, right: &[bool]) -> Result<Contrast, TrainError> {
    let (queries, documents) = scores.dims2()?;
    let forward = cross_entropy(scores, &targets(right.iter().copied(), documents))?;
    let turned = (0..right.len()).map(|at| right[at % queries * documents + at / queries]);
    let backward = cross_entropy(&scores.t()?.contiguous()?, &targets(turned, queries))?;
    let best = scores.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let hits = best.iter().enumerate().filter(|(row, best)| right[row * documents + **best as usize]).count();
    Ok(Contrast { loss: ((forward + backward)? * 0.5)?, recall_at_1: hits as f32 / queries.max(1) as f32 })
}

/// Rows of `width` that sum to one, evenly over what is right; zeros where nothing is.
fn targets(right: impl Iterator<Item = bool>, width: usize) -> Vec<f32> {
    let mut targets: Vec<f32> = right.map(|right| f32::from(u8::from(right))).collect();
    for row in targets.chunks_mut(width.max(1)) {
        let sum: f32 = row.iter().sum();
        if sum > 0.0 {
            row.iter_mut().for_each(|target| *target /= sum);
        }
    }
    targets
}

/// Mean over the rows that have a target.
fn cross_entropy(scores: &Tensor, targets: &[f32]) -> Result<Tensor, TrainError> {
    let (_, width) = scores.dims2()?;
    let rows = targets.chunks(width.max(1)).filter(|row| row.iter().any(|target| *target > 0.0)).count();
    let targets = Tensor::from_slice(targets, scores.dims(), scores.device())?;
    let logs = candle_nn::ops::log_softmax(scores, D::Minus1)?;
    let sum = (logs * targets)?.sum(D::Minus1)?.sum_all()?;
    Ok((sum * (-1.0 / rows.max(1) as f64))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::f32::consts::LN_2;

    use candle_core::{Device, Var};

    use super::*;

    /// Loss, recall and the gradient of the scores.
    fn of(scores: &[&[f32]], right: &[&[u8]]) -> (f32, f32, Vec<Vec<f32>>) {
        let rows: Vec<Vec<f32>> = scores.iter().map(|row| row.to_vec()).collect();
        let scores = Var::from_tensor(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap();
        let right: Vec<bool> = right.iter().flat_map(|row| row.iter().map(|right| *right == 1)).collect();
        let Contrast { loss, recall_at_1 } = contrast(scores.as_tensor(), &right).unwrap();
        let gradient = loss.backward().unwrap().get(&scores).unwrap().to_vec2().unwrap();
        (loss.to_scalar().unwrap(), recall_at_1, gradient)
    }

    #[track_caller]
    fn near(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    /// ln 2 = 0.693147, ln 3 = 1.098612; a softmax over (ln 3, 0) is (3/4, 1/4), with logarithms -0.287682, -1.386294.
    #[test]
    fn without_twins_it_is_the_mean_of_the_right_scores_cross_entropies() {
        let ln3 = 3f32.ln();
        let (loss, recall, gradient) = of(&[&[ln3, 0.0], &[0.0, 0.0]], &[&[1, 0], &[0, 1]]);
        // Rows: 0.287682 and 0.693147; columns: the same, of (ln 3, 0) and (0, 0).
        near(loss, (0.287_682 + LN_2) / 2.0);
        near(recall, 0.5);
        // Of the first score: ((3/4 - 1) + (3/4 - 1)) / 2 / 2.
        near(gradient[0][0], -0.125);
        // Of the score beside it: (1/4 of its row + 1/2 of its column) / 4.
        near(gradient[0][1], 0.1875);
    }

    #[test]
    fn the_target_is_spread_evenly_over_all_that_are_right() {
        let ln3 = 3f32.ln();
        // Both documents are right for the first query, the first alone for the second.
        let (loss, recall, gradient) = of(&[&[ln3, 0.0], &[0.0, 0.0]], &[&[1, 1], &[1, 0]]);
        let rows = ((0.287_682 + 1.386_294) / 2.0 + LN_2) / 2.0;
        // Columns: of (ln 3, 0) both are right, of (0, 0) the first.
        let columns = ((0.287_682 + 1.386_294) / 2.0 + LN_2) / 2.0;
        near(loss, (rows + columns) / 2.0);
        near(recall, 1.0);
        near(gradient[0][0], (0.75 - 0.5 + 0.75 - 0.5) / 4.0);
        near(gradient[1][1], (0.5 + 0.5) / 4.0);
    }

    #[test]
    fn a_document_that_is_right_for_nobody_is_wrong_for_all_and_has_no_say() {
        // One query, its document, and two others: 3 / (3 + 1 + 1).
        let (loss, recall, gradient) = of(&[&[3f32.ln(), 0.0, 0.0]], &[&[1, 0, 0]]);
        near(loss, (-(0.6f32).ln() + 0.0) / 2.0);
        near(recall, 1.0);
        near(gradient[0][0], (0.6 - 1.0) / 2.0);
        near(gradient[0][2], 0.2 / 2.0);
    }
}
