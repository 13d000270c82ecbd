//! Embeddings: one or several unit vectors of an item, and how two items are compared by them.

use rayon::prelude::*;

/// What an item becomes: n unit vectors of length D.
///
/// Two embeddings are compared by MaxSim (late interaction; ColBERT, arXiv 2004.12832, section 3.3): for each vector of
/// the query its largest dot product with any of the document's, summed. With one vector each that is the dot product.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[n, D]`, row by row.
    values: Vec<f32>,
    dim: usize,
}

impl Embedding {
    /// Takes `[n, D]` row by row; nothing for a length that D does not divide, or for no vector at all.
    #[must_use]
    pub fn new(values: Vec<f32>, dim: usize) -> Option<Self> {
        (dim > 0 && !values.is_empty() && values.len().is_multiple_of(dim)).then_some(Self { values, dim })
    }

    /// The vectors, each of length D.
    pub fn vectors(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }

    /// Length D of a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All vectors, `[n, D]` row by row.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Score of a document for this query, from -n to n. Both have one D; scores of others mean nothing.
    #[must_use]
    pub fn score(&self, document: &Self) -> f32 {
        self.vectors()
            .map(|query| document.vectors().map(|own| dot(query, own)).fold(f32::NEG_INFINITY, f32::max))
            .sum()
    }
}

/// Scores of every document for every query, `[queries][documents]`, on all cores. One allocation a query.
#[must_use]
pub fn scores(queries: &[Embedding], documents: &[Embedding]) -> Vec<Vec<f32>> {
    let of = |query: &Embedding| documents.par_iter().with_min_len(16).map(|document| query.score(document)).collect();
    queries.par_iter().map(of).collect()
}

/// Dot product. The sums run side by side, since one that waits for the other leaves most of a core idle; their order is
/// fixed, so that equal vectors get equal scores wherever they stand.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 32;
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0f32; LANES];
    for (a, b) in a.zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::retriever::model::{maxsim, normalise};

    fn random(n: usize, dim: usize) -> (Embedding, Tensor) {
        let tensor = normalise(&Tensor::randn(0f32, 1., (n, dim), &Device::Cpu).unwrap()).unwrap();
        let values = tensor.flatten_all().unwrap().to_vec1().unwrap();
        (Embedding::new(values, dim).unwrap(), tensor)
    }

    #[test]
    fn maxsim_is_the_sum_of_each_query_vectors_best() {
        // By hand: the first query vector meets (1, 0) best, the second (0.6, 0.8).
        let query = Embedding::new(vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let document = Embedding::new(vec![1.0, 0.0, 0.6, 0.8, -1.0, 0.0], 2).unwrap();
        assert!((query.score(&document) - 1.8).abs() < 1e-6);
        // Not symmetric: each of the document's three finds its best in the query.
        assert!((document.score(&query) - (1.0 + 0.8 + 0.0)).abs() < 1e-6);
        // Nor in the sum: 1.8 one way and 2.6 the other.
        let document = Embedding::new(vec![1.0, 0.0, 0.6, 0.8, 0.8, -0.6], 2).unwrap();
        assert!((query.score(&document) - 1.8).abs() < 1e-6);
        assert!((document.score(&query) - 2.6).abs() < 1e-6);
    }

    #[test]
    fn scores_agree_with_matrix_products_for_every_shape() {
        for (n, m, dim) in [(1, 1, 256), (4, 4, 24), (32, 32, 128), (3, 7, 33), (2, 1, 1)] {
            let queries: Vec<_> = (0..3).map(|_| random(n, dim)).collect();
            let documents: Vec<_> = (0..40).map(|_| random(m, dim)).collect();
            let only = |pairs: &[(Embedding, Tensor)]| pairs.iter().map(|(e, _)| e.clone()).collect::<Vec<_>>();
            let found = scores(&only(&queries), &only(&documents));
            for ((_, query), found) in queries.iter().zip(&found) {
                assert_eq!(found.len(), documents.len());
                for ((_, document), found) in documents.iter().zip(found) {
                    let best = query.matmul(&document.t().unwrap()).unwrap().max(1).unwrap();
                    let expected = best.sum_all().unwrap().to_scalar::<f32>().unwrap();
                    assert!((expected - found).abs() < 1e-4, "{n} {m} {dim}: {expected} {found}");
                    // Training's own, with gradients.
                    let (query, document) = (query.unsqueeze(0).unwrap(), document.unsqueeze(0).unwrap());
                    let trained = maxsim(&query, &document).unwrap().to_vec2::<f32>().unwrap();
                    assert!((expected - trained[0][0]).abs() < 1e-4, "{n} {m} {dim}: {expected} {trained:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_document_scores_the_same_at_every_place() {
        let (query, _) = random(4, 100);
        let (document, _) = random(4, 100);
        let found = scores(&[query], &vec![document; 70]);
        assert!(found[0].iter().all(|score| *score == found[0][0]));
    }

    #[test]
    fn an_embedding_has_whole_vectors_and_at_least_one() {
        assert!(Embedding::new(vec![1.0; 6], 4).is_none());
        assert!(Embedding::new(Vec::new(), 4).is_none());
        assert!(Embedding::new(vec![1.0], 0).is_none());
        let two = Embedding::new(vec![1.0; 6], 3).unwrap();
        assert_eq!((two.vectors().len(), two.dim(), two.into_values().len()), (2, 3, 6));
        assert_eq!(Embedding::new(vec![1.0; 3], 3).unwrap().into_values(), vec![1.0; 3]);
    }
}
