//! Multi-head attention whose scores never leave a core's own cache.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

use super::contiguous;
use super::product::{Matrix, product};
use super::softmax::softmax;

/// Queries whose scores are held at a time by a thread; a head's of 257 tokens are then 132 KB.
const ROWS: usize = 128;

/// Attention of queries `[B, n, D]` over keys and values `[B, N, D]`, to `[B, n, D]`. The three may be parts of wider
/// tensors, as long as the numbers of a token lie side by side. Without a gradient.
pub struct Attention<'a> {
    /// Heads, which divide D.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Added to the scores `[B, heads, n, N]`, over whose dimensions but the last it may be 1 long; contiguous.
    pub bias: Option<&'a Tensor>,
}

/// Tokens of a batch where they lie.
struct Tokens<'a> {
    data: &'a [f32],
    /// Numbers from one item to the next.
    item: usize,
    /// Numbers from one token to the next.
    token: usize,
}

impl<'a> Tokens<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<Self> {
        let &[item, token, 1] = layout.stride() else {
            candle_core::bail!("{op}: the numbers of a token must lie side by side")
        };
        Ok(Self { data: &storage.as_slice::<f32>()?[layout.start_offset()..], item, token })
    }

    /// A head's part of some tokens of an item.
    fn head(&self, item: usize, from: usize, rows: usize, head: usize, width: usize) -> Matrix<'a> {
        Matrix::new(&self.data[item * self.item + from * self.token + head * width..], rows, width, self.token)
    }
}

/// The bias where it lies.
struct Bias<'a> {
    data: &'a [f32],
    /// Numbers from one item, head and query to the next; 0 where one serves for all.
    strides: [usize; 3],
}

impl Bias<'_> {
    fn row(&self, item: usize, head: usize, query: usize, width: usize) -> &[f32] {
        let [items, heads, queries] = self.strides;
        &self.data[item * items + head * heads + query * queries..][..width]
    }
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let ((b, n, dim), (_, tokens, _)) = (l1.shape().dims3()?, l2.shape().dims3()?);
        if self.heads == 0 || dim % self.heads != 0 || l2.shape() != l3.shape() || l2.shape().dims() != [b, tokens, dim]
        {
            candle_core::bail!("{name}: {:?} over {:?} and {:?}", l1.shape(), l2.shape(), l3.shape());
        }
        let (q, k, v) = (Tokens::of(s1, l1, name)?, Tokens::of(s2, l2, name)?, Tokens::of(s3, l3, name)?);
        let held = self.bias.map(Tensor::storage_and_layout);
        let bias = match &held {
            None => None,
            Some((storage, layout)) => {
                let Storage::Cpu(storage) = &**storage else { candle_core::bail!("{name}: a bias on another device") };
                let (items, heads, queries, width) = layout.shape().dims4()?;
                let one_or = |len: usize, all: usize| len == 1 || len == all;
                if !(one_or(items, b) && one_or(heads, self.heads) && one_or(queries, n) && width == tokens) {
                    candle_core::bail!("{name}: a bias of {:?}", layout.shape());
                }
                let stride = |len: usize, stride: usize| if len == 1 { 0 } else { stride };
                let strides =
                    [stride(items, heads * queries * width), stride(heads, queries * width), stride(queries, width)];
                Some(Bias { data: contiguous(storage, layout, name)?, strides })
            }
        };
        let width = dim / self.heads;
        // Pieces of like size.
        let rows = n.div_ceil(n.div_ceil(ROWS).max(1)).max(1);
        let mut out = vec![0f32; b * n * dim];
        out.par_chunks_mut((n * dim).max(1)).enumerate().for_each(|(item, out)| {
            out.par_chunks_mut((rows * dim).max(1)).enumerate().for_each(|(piece, out)| {
                let (from, rows) = (piece * rows, out.len() / dim);
                let mut scores = vec![0f32; rows * tokens];
                for head in 0..self.heads {
                    let keys = k.head(item, 0, tokens, head, width);
                    product(&mut scores, tokens, q.head(item, from, rows, head, width), keys, true, self.scale);
                    for (row, scores) in scores.chunks_mut(tokens.max(1)).enumerate() {
                        if let Some(bias) = &bias {
                            for (score, bias) in scores.iter_mut().zip(bias.row(item, head, from + row, tokens)) {
                                *score += bias;
                            }
                        }
                        softmax(scores);
                    }
                    let weights = Matrix::new(&scores, rows, tokens, tokens);
                    let values = v.head(item, 0, tokens, head, width);
                    product(&mut out[head * width..], dim, weights, values, false, 1.0);
                }
            });
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
