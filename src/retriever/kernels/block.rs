//! A transformer's block. Every thread takes a piece of the batch's rows through all that needs no other row, so that what
//! lies between stays in its cache and threads meet twice a block, before attention and after it.

use rayon::prelude::*;

use super::attention::{Bias, Heads, Tokens};
use super::linear::add_bias;
use super::norm::normalise;
use super::pieces;
use super::product::{Matrix, Write, product};

/// Columns of the feed-forward part that are computed at a time.
const INNER: usize = 1024;

/// A projection of rows.
#[derive(Debug)]
pub struct Projection<'a> {
    /// `[in, out]`, row by row.
    pub weight: &'a [f32],
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
    /// Numbers of a row of its result.
    pub output: usize,
}

impl Projection<'_> {
    fn input(&self) -> usize {
        self.weight.len() / self.output
    }

    /// Some columns of the weight.
    fn columns(&self, from: usize, count: usize) -> Matrix<'_> {
        Matrix::new(&self.weight[from..], self.input(), count, self.output)
    }

    /// Some rows of the weight.
    fn rows(&self, from: usize, count: usize) -> Matrix<'_> {
        Matrix::new(&self.weight[from * self.output..], count, self.output, self.output)
    }

    /// Adds the product of rows `xs` to `out`, the bias too.
    fn add_to(&self, out: &mut [f32], xs: &[f32]) {
        self.add_bias(out);
        let xs = Matrix::new(xs, out.len() / self.output, self.input(), self.input());
        product(Write::Add, out, self.output, xs, self.columns(0, self.output));
    }

    fn add_bias(&self, out: &mut [f32]) {
        if let Some(bias) = self.bias {
            add_bias(out, bias, std::convert::identity);
        }
    }
}

/// LayerNorm of rows.
#[derive(Debug)]
pub struct Norm<'a> {
    /// `[D]`.
    pub scale: &'a [f32],
    /// `[D]`.
    pub shift: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

impl Norm<'_> {
    fn apply(&self, xs: &mut [f32]) {
        normalise(xs, self.scale, self.shift, self.eps);
    }
}

/// Adds a bias to rows as long as it is, and acts on every number.
pub type BiasThenAct = fn(&mut [f32], &[f32]);

/// A block: with norms before attention and feed-forward part (`y = x + out(attention(norm1 x))`, then
/// `y + fc2 act(fc1 norm2 y)`), or with `norm_after` after them (`y = norm1(x + out(attention x))`, then
/// `norm2(y + fc2 act(fc1 y))`).
#[derive(Debug)]
pub struct Block<'a> {
    /// To queries, keys and values side by side.
    pub qkv: Projection<'a>,
    /// After attention.
    pub out: Projection<'a>,
    /// Into the feed-forward part, where its bias is added with the activation.
    pub fc1: Projection<'a>,
    /// That bias.
    pub fc1_bias: &'a [f32],
    /// Out of it.
    pub fc2: Projection<'a>,
    /// The two norms.
    pub norms: [Norm<'a>; 2],
    /// Where the norms stand.
    pub norm_after: bool,
    /// Attention heads.
    pub heads: usize,
    /// Activation of the feed-forward part.
    pub act: BiasThenAct,
}

impl Block<'_> {
    /// Tokens `[B, n, D]`, row by row, to the same shape.
    #[must_use]
    pub fn forward(&self, xs: &[f32], n: usize, bias: Option<Bias>) -> Vec<f32> {
        let dim = self.out.output;
        let rows = pieces(xs.len() / dim);
        let mut qkv = vec![0f32; 3 * xs.len()];
        qkv.par_chunks_mut(rows * 3 * dim).zip(xs.par_chunks(rows * dim)).for_each(|(qkv, xs)| {
            if self.norm_after {
                self.qkv.add_to(qkv, xs);
            } else {
                let mut normed = xs.to_vec();
                self.norms[0].apply(&mut normed);
                self.qkv.add_to(qkv, &normed);
            }
        });
        let tokens = |at: usize| Tokens { data: &qkv[at * dim..], item: n * 3 * dim, token: 3 * dim };
        let width = dim / self.heads;
        let heads = Heads { qkv: [tokens(0), tokens(1), tokens(2)], keys: n, heads: self.heads, width, bias };
        let mut out = vec![0f32; xs.len()];
        let with_input = out.par_chunks_mut(rows * dim).zip(xs.par_chunks(rows * dim));
        with_input.enumerate().for_each(|(piece, (out, xs))| {
            out.copy_from_slice(xs);
            let mut own = vec![0f32; out.len()];
            let mut scratch = Vec::new();
            heads.attend_rows(n, piece * rows, &mut own, &mut scratch);
            self.out.add_to(out, &own);
            if self.norm_after {
                self.norms[0].apply(out);
            }
            own.copy_from_slice(out);
            if !self.norm_after {
                self.norms[1].apply(&mut own);
            }
            self.feed_forward(&own, out, &mut scratch);
            if self.norm_after {
                self.norms[1].apply(out);
            }
        });
        out
    }

    /// Adds `fc2 act(fc1 xs)` to `out`.
    fn feed_forward(&self, xs: &[f32], out: &mut [f32], scratch: &mut Vec<f32>) {
        let (dim, rows) = (self.fc2.output, out.len() / self.fc2.output);
        self.fc2.add_bias(out);
        for from in (0..self.fc1.output).step_by(INNER) {
            let count = INNER.min(self.fc1.output - from);
            scratch.resize(rows * count, 0.0);
            product(Write::Set(1.0), scratch, count, Matrix::new(xs, rows, dim, dim), self.fc1.columns(from, count));
            let bias = &self.fc1_bias[from..from + count];
            (self.act)(scratch, bias);
            product(Write::Add, out, dim, Matrix::new(scratch, rows, count, count), self.fc2.rows(from, count));
        }
    }
}
