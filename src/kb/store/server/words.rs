//! Words as sparse vectors for BM25. The same code as in the embedded engine makes them, so that a collection finds
//! what a directory would; the server adds how rare each word is.

use qdrant_client::qdrant::SparseVector;

use crate::kb::store::StoreError;

/// The model that turns text into words.
pub(super) struct Words {
    #[cfg(feature = "edge")]
    model: qdrant_edge::bm25_embed::EdgeBm25,
}

#[cfg(feature = "edge")]
impl Words {
    /// The model.
    ///
    /// # Errors
    /// Its reason.
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self { model: crate::kb::store::tuning::words_model()? })
    }

    /// Words of an article, weighed by how often they stand there.
    pub(super) fn document(&self, text: &str) -> SparseVector {
        let vector = self.model.embed_document(text);
        SparseVector { indices: vector.indices, values: vector.values }
    }

    /// Words of a question.
    pub(super) fn query(&self, text: &str) -> SparseVector {
        let vector = self.model.embed_query(text);
        SparseVector { indices: vector.indices, values: vector.values }
    }
}

#[cfg(not(feature = "edge"))]
impl Words {
    /// Says what this build lacks.
    ///
    /// # Errors
    /// Always.
    pub(super) fn new() -> Result<Self, StoreError> {
        let reason = "this build has no BM25; build it with the cargo feature `edge`".to_owned();
        Err(StoreError::Engine { what: "index words", reason })
    }

    /// Never called.
    pub(super) fn document(&self, _: &str) -> SparseVector {
        SparseVector::default()
    }

    /// Never called.
    pub(super) fn query(&self, _: &str) -> SparseVector {
        SparseVector::default()
    }
}
