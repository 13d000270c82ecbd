//! Multi-head attention whose scores never leave a core's own cache.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Write, product};
use super::softmax::softmax;
use super::{Numbers, pieces};

/// Tokens of a batch where they lie: as many of each item, their numbers side by side.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// All numbers, from the first one on.
    pub data: &'a [f32],
    /// Numbers from one item to the next.
    pub item: usize,
    /// Numbers from one token to the next.
    pub token: usize,
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

/// What is added to the scores, where it lies.
#[derive(Debug)]
pub struct Bias<'a> {
    numbers: Numbers<'a>,
    /// Numbers from one item, head and query to the next; 0 where one serves for all.
    strides: [usize; 3],
}

impl<'a> Bias<'a> {
    /// `bias` is contiguous and, but for dimensions that are 1 long, `[B, heads, n, N]`.
    ///
    /// # Errors
    /// Another shape, or not of the CPU.
    pub fn of(bias: &'a Tensor, [b, heads, n, tokens]: [usize; 4]) -> Result<Self> {
        let dims = bias.dims4()?;
        let one_or = |len: usize, all: usize| len == 1 || len == all;
        if !(one_or(dims.0, b) && one_or(dims.1, heads) && one_or(dims.2, n) && dims.3 == tokens) {
            candle_core::bail!("a bias of {dims:?} for scores of {:?}", (b, heads, n, tokens));
        }
        let stride = |len: usize, stride: usize| if len == 1 { 0 } else { stride };
        let strides =
            [stride(dims.0, dims.1 * dims.2 * dims.3), stride(dims.1, dims.2 * dims.3), stride(dims.2, dims.3)];
        Ok(Self { numbers: Numbers::of(bias)?, strides })
    }

    fn row(&self, item: usize, head: usize, query: usize, width: usize) -> &[f32] {
        let [items, heads, queries] = self.strides;
        &self.numbers.get()[item * items + head * heads + query * queries..][..width]
    }
}

/// Queries, keys and values of a batch.
#[derive(Debug)]
pub struct Heads<'a> {
    /// Queries, keys and values.
    pub qkv: [Tokens<'a>; 3],
    /// Keys of an item.
    pub keys: usize,
    /// How many heads.
    pub heads: usize,
    /// Number of the first one, where they are some of many.
    pub first: usize,
    /// Numbers of a head.
    pub width: usize,
    /// Added to the scores.
    pub bias: Option<&'a Bias<'a>>,
}

impl Heads<'_> {
    /// The queries of an item from number `from` on, as many as there are rows of `heads * width` numbers in `out`.
    pub fn attend(&self, item: usize, from: usize, out: &mut [f32], scores: &mut Vec<f32>) {
        let Self { qkv: [q, k, v], keys, heads, first, width, bias } = self;
        let (keys, width, dim) = (*keys, *width, heads * width);
        let rows = out.len() / dim;
        let scale = (width as f64).powf(-0.5) as f32;
        scores.resize(rows * keys, 0.0);
        for head in 0..*heads {
            let keys_of = k.head(item, 0, keys, head, width);
            product(Write::Set(scale), scores, keys, q.head(item, from, rows, head, width), keys_of.transposed());
            if let Some(bias) = bias {
                for (row, scores) in scores.chunks_mut(keys.max(1)).enumerate() {
                    for (score, bias) in scores.iter_mut().zip(bias.row(item, first + head, from + row, keys)) {
                        *score += bias;
                    }
                }
            }
            softmax(scores, keys);
            let weights = Matrix::new(scores, rows, keys, keys);
            product(Write::Set(1.0), &mut out[head * width..], dim, weights, v.head(item, 0, keys, head, width));
        }
    }

    /// As [`Heads::attend`] for rows of a batch of `n` queries an item, which may be of several items.
    pub fn attend_rows(&self, n: usize, from: usize, out: &mut [f32], scores: &mut Vec<f32>) {
        let dim = self.heads * self.width;
        let (mut row, mut rest) = (from, out);
        while !rest.is_empty() {
            let (item, query) = (row / n, row % n);
            let (own, more) = rest.split_at_mut((n - query).min(rest.len() / dim) * dim);
            row += own.len() / dim;
            self.attend(item, query, own, scores);
            rest = more;
        }
    }
}

/// Attention of queries `[B, n, D]` over keys and values `[B, N, D]`, to `[B, n, D]`. The three may be parts of wider
/// tensors, as long as the numbers of a token lie side by side. Without a gradient.
pub struct Attention<'a> {
    /// Heads, which divide D.
    pub heads: usize,
    /// Added to the scores; see [`Bias::of`].
    pub bias: Option<&'a Tensor>,
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
        let (name, heads) = (self.name(), self.heads);
        let ((b, n, dim), (_, keys, _)) = (l1.shape().dims3()?, l2.shape().dims3()?);
        if heads == 0 || dim % heads != 0 || l2.shape() != l3.shape() || l2.shape().dims() != [b, keys, dim] {
            candle_core::bail!("{name}: {:?} over {:?} and {:?}", l1.shape(), l2.shape(), l3.shape());
        }
        let bias = self.bias.map(|bias| Bias::of(bias, [b, heads, n, keys])).transpose()?;
        let of = Heads {
            qkv: [Tokens::of(s1, l1, name)?, Tokens::of(s2, l2, name)?, Tokens::of(s3, l3, name)?],
            keys,
            heads,
            first: 0,
            width: dim / heads,
            bias: bias.as_ref(),
        };
        let mut out = vec![0f32; b * n * dim];
        let rows = pieces(b * n);
        out.par_chunks_mut((rows * dim).max(1)).enumerate().for_each(|(piece, out)| {
            of.attend_rows(n, piece * rows, out, &mut Vec::new());
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}
