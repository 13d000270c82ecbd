//! BERT (arXiv 1810.04805) as in Hugging Face `BertModel`: MiniLM, ColBERTv2's body, BEM.

use candle_core::{IndexOp, Tensor};
use serde::Serialize;

use super::transformer::{Block, BlockNames, BlockShape, walk};
use super::{LayerFeatures, Wanted, config};
use crate::retriever::error::{Result, RetrieverError};
use crate::retriever::fields::{self, Fields};
use crate::retriever::layers::{Activation, LayerNorm, Linear, padding_bias};
use crate::retriever::weights::Weights;

/// Fields of `config.json` that decide the computation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BertConfig {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of every block.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Longest input.
    pub max_position_embeddings: usize,
    /// Number of segment types: 2 as published, 3 in BEM.
    pub type_vocab_size: usize,
    /// Activation of the feed-forward part.
    pub hidden_act: Activation,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
}

impl BertConfig {
    /// Reads a file's keys; those that are missing get the defaults of `transformers`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        fields.only("position_embedding_type", &"absolute".into())?;
        fields.only("is_decoder", &false.into())?;
        let hidden_size = config::size(fields, "hidden_size", 768)?;
        Ok(Self {
            vocab_size: config::size(fields, "vocab_size", 30_522)?,
            hidden_size,
            num_hidden_layers: config::blocks(fields, 12)?,
            num_attention_heads: config::heads(fields, 12, hidden_size)?,
            intermediate_size: config::size(fields, "intermediate_size", 3072)?,
            max_position_embeddings: config::size(fields, "max_position_embeddings", 512)?,
            type_vocab_size: config::size(fields, "type_vocab_size", 2)?,
            hidden_act: config::activation(fields, Activation::Gelu)?,
            layer_norm_eps: config::eps(fields, 1e-12)?,
        })
    }
}

/// What published checkpoints hold beside the model: the numbers 0, 1, 2, …, ColBERT's projection of its token vectors
/// (arXiv 2112.01488), and the heads of BERT's own training.
pub const KNOWN_UNUSED: &[&str] = &["embeddings.position_ids", "linear.weight", "cls.*"];

const NAMES: BlockNames = BlockNames {
    norm1: "attention.output.LayerNorm",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    norm2: "output.LayerNorm",
    mlp: ["intermediate.dense", "output.dense"],
    scales: None,
};

/// The model: embeddings, blocks, pooler.
#[derive(Debug)]
pub struct Bert {
    words: Tensor,
    positions: Tensor,
    types: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
    pooler: Option<Linear>,
}

impl Bert {
    /// Takes the tensors of a `BertModel` below `w`'s prefix, or below `bert` there, where larger models keep it. A
    /// checkpoint without pooler is whole unless `pooled` says that its output will be wanted.
    pub fn load(c: &BertConfig, w: &Weights, pooled: bool) -> Result<Self> {
        let w = w.below("bert");
        let e = w.pp("embeddings");
        let d = c.hidden_size;
        let shape = BlockShape {
            dim: d,
            inner: c.intermediate_size,
            heads: c.num_attention_heads,
            act: c.hidden_act,
            eps: c.layer_norm_eps,
            qkv_bias: true,
            norm_after: true,
        };
        let block = |i| Block::load(&shape, &NAMES, &w.pp(format!("encoder.layer.{i}")));
        Ok(Self {
            words: e.get("word_embeddings.weight", (c.vocab_size, d))?,
            positions: e.get("position_embeddings.weight", (c.max_position_embeddings, d))?,
            types: e.get("token_type_embeddings.weight", (c.type_vocab_size, d))?,
            norm: LayerNorm::load(&e.pp("LayerNorm"), d, c.layer_norm_eps)?,
            blocks: (0..c.num_hidden_layers).map(block).collect::<Result<_>>()?,
            pooler: if pooled || w.has("pooler.dense.weight") {
                Some(Linear::load(&w.pp("pooler.dense"), d, d)?)
            } else {
                None
            },
        })
    }

    /// Output of the embedding layer, `[B, N, D]`.
    pub fn embed(&self, input_ids: &Tensor, token_types: Option<&Tensor>) -> Result<Tensor> {
        let (b, n) = input_ids.dims2()?;
        let dim = self.words.dim(1)?;
        let words = self.words.index_select(&input_ids.flatten_all()?, 0)?.reshape((b, n, dim))?;
        let types = match token_types {
            Some(types) => self.types.index_select(&types.flatten_all()?, 0)?.reshape((b, n, dim))?,
            None => self.types.i(0)?.broadcast_as((b, n, dim))?,
        };
        let xs = (words + types)?.broadcast_add(&self.positions.narrow(0, 0, n)?)?;
        Ok(self.norm.forward(&xs)?)
    }

    /// `input_ids`, `token_types`, `attention_mask`: `[B, N]`. `pooled` is `tanh(W last[CLS] + b)`.
    pub fn forward(
        &self,
        input_ids: &Tensor,
        token_types: Option<&Tensor>,
        attention_mask: &Tensor,
        wanted: &Wanted,
    ) -> Result<LayerFeatures> {
        let xs = self.embed(input_ids, token_types)?;
        let bias = padding_bias(attention_mask)?.unsqueeze(1)?.unsqueeze(1)?; // [B, 1, 1, N]
        let (layers, last) = walk(&self.blocks, xs, wanted, |block, xs| block.forward(xs, Some(&bias)))?;
        let pooled = if wanted.pooled {
            let pooler = self.pooler.as_ref().ok_or(RetrieverError::NoPooler)?;
            Some(pooler.forward(&last.i((.., 0))?)?.tanh()?)
        } else {
            None
        };
        Ok(LayerFeatures { layers, pooled })
    }
}
