//! Attention of a few queries over the tokens themselves: the weighted sums of tokens, with its gradient. What the recurrent
//! cell does with every layer of a tower, most of a training step.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Write, product};
use super::softmax::softmax;
use super::{Numbers, contiguous};

/// `softmax(Q Xᵀ + padding) X` of every item: queries `[B, m, H]` and tokens `[B, N, H]` to `[B, m, H]`.
pub struct Mix {
    /// Added to the scores of every query, `[B, N]`, contiguous.
    pub padding: Option<Tensor>,
}

/// The sizes B, m, N and H.
type Sizes = (usize, usize, usize, usize);

fn sizes(queries: &Layout, tokens: &Layout) -> Result<Sizes> {
    let ((b, m, dim), (items, n, width)) = (queries.shape().dims3()?, tokens.shape().dims3()?);
    if (b, dim) != (items, width) || b * m * n * dim == 0 {
        candle_core::bail!("queries {:?} over tokens {:?}", queries.shape(), tokens.shape());
    }
    Ok((b, m, n, dim))
}

/// The weights `[m, N]` of an item.
fn weights(queries: Matrix, tokens: Matrix, padding: Option<&[f32]>, n: usize, out: &mut [f32]) {
    product(Write::Set(1.0), out, n, queries, tokens.transposed());
    if let Some(padding) = padding {
        for row in out.chunks_mut(n) {
            row.iter_mut().zip(padding).for_each(|(score, padding)| *score += padding);
        }
    }
    softmax(out, n);
}

fn padding_of<'a>(padding: Option<&'a Numbers<'_>>, item: usize, n: usize) -> Option<&'a [f32]> {
    padding.map(|padding| &padding.get()[item * n..][..n])
}

impl CustomOp2 for Mix {
    fn name(&self) -> &'static str {
        "mix"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, m, n, dim) = sizes(l1, l2)?;
        let (queries, tokens) = (contiguous(s1, l1, self.name())?, contiguous(s2, l2, self.name())?);
        let padding = self.padding.as_ref().map(Numbers::of).transpose()?;
        let mut out = vec![0f32; b * m * dim];
        out.par_chunks_mut(m * dim).enumerate().for_each(|(item, out)| {
            let queries = Matrix::new(&queries[item * m * dim..], m, dim, dim);
            let tokens = Matrix::new(&tokens[item * n * dim..], n, dim, dim);
            let mut scores = vec![0f32; m * n];
            weights(queries, tokens, padding_of(padding.as_ref(), item, n), n, &mut scores);
            product(Write::Set(1.0), out, dim, Matrix::new(&scores, m, n, n), tokens);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        tokens: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (m, n) = (queries.dim(1)?, tokens.dim(1)?);
        let op = MixGradient { padding: self.padding.clone() };
        let both = queries.contiguous()?.apply_op3_no_bwd(&tokens.contiguous()?, &grad.contiguous()?, &op)?;
        Ok((Some(both.narrow(1, 0, m)?.contiguous()?), Some(both.narrow(1, m, n)?.contiguous()?)))
    }
}

/// From queries, tokens and the gradient of [`Mix`]'s result to those of the two, one after the other: `[B, m + N, H]`.
struct MixGradient {
    padding: Option<Tensor>,
}

impl CustomOp3 for MixGradient {
    fn name(&self) -> &'static str {
        "mix-gradient"
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
        let (b, m, n, dim) = sizes(l1, l2)?;
        let (queries, tokens) = (contiguous(s1, l1, self.name())?, contiguous(s2, l2, self.name())?);
        let grad = contiguous(s3, l3, self.name())?;
        let padding = self.padding.as_ref().map(Numbers::of).transpose()?;
        let mut out = vec![0f32; b * (m + n) * dim];
        out.par_chunks_mut((m + n) * dim).enumerate().for_each(|(item, out)| {
            let queries = Matrix::new(&queries[item * m * dim..], m, dim, dim);
            let tokens = Matrix::new(&tokens[item * n * dim..], n, dim, dim);
            let grad = Matrix::new(&grad[item * m * dim..], m, dim, dim);
            let (of_queries, of_tokens) = out.split_at_mut(m * dim);
            let mut shares = vec![0f32; m * n];
            weights(queries, tokens, padding_of(padding.as_ref(), item, n), n, &mut shares);
            // Of the sum of tokens.
            let mut scores = vec![0f32; m * n];
            product(Write::Set(1.0), &mut scores, n, grad, tokens.transposed());
            product(Write::Set(1.0), of_tokens, dim, Matrix::new(&shares, m, n, n).transposed(), grad);
            // Of the softmax: p (g - sum of p g).
            for (scores, shares) in scores.chunks_mut(n).zip(shares.chunks(n)) {
                let along: f32 = scores.iter().zip(shares).map(|(g, p)| g * p).sum();
                scores.iter_mut().zip(shares).for_each(|(g, p)| *g = p * (*g - along));
            }
            // Of the scores.
            let scores = Matrix::new(&scores, m, n, n);
            product(Write::Set(1.0), of_queries, dim, scores, tokens);
            product(Write::Add, of_tokens, dim, scores.transposed(), queries);
        });
        Ok((CpuStorage::F32(out), Shape::from((b, m + n, dim))))
    }
}
