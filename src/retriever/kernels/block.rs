//! A transformer's block. Every thread takes a piece of the batch's rows through all that needs no other row, so that what
//! lies between stays in its cache and threads meet twice a block, before attention and after it.

use std::ops::Range;

use rayon::prelude::*;

use super::attention::{Bias, Heads, Tokens};
use super::linear::{BIAS_ALONE, BiasThenAct};
use super::norm::normalise;
use super::pieces;
use super::product::{Matrix, Write, product};

/// Columns of the feed-forward part that are computed at a time.
const INNER: usize = 1024;

/// Fewer rows than this for each thread are not cut into pieces.
const FEW: usize = 192;

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

    /// Adds the product of rows `xs` to `out`.
    fn add_to(&self, out: &mut [f32], xs: &[f32]) {
        let xs = Matrix::new(xs, out.len() / self.output, self.input(), self.input());
        product(Write::Add, out, self.output, xs, self.columns(0, self.output));
    }

    fn add_bias(&self, out: &mut [f32]) {
        if let Some(bias) = self.bias {
            BIAS_ALONE(out, bias);
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
    pub fn forward(&self, xs: &[f32], n: usize, bias: Option<&Bias>) -> Vec<f32> {
        let rows = xs.len() / self.out.output;
        if rows < FEW * rayon::current_num_threads() { self.by_columns(xs, n, bias) } else { self.by_rows(xs, n, bias) }
    }

    /// Every thread takes pieces of the rows.
    fn by_rows(&self, xs: &[f32], n: usize, bias: Option<&Bias>) -> Vec<f32> {
        let dim = self.out.output;
        let rows = pieces(xs.len() / dim);
        let mut qkv = vec![0f32; 3 * xs.len()];
        qkv.par_chunks_mut(rows * 3 * dim).zip(xs.par_chunks(rows * dim)).for_each(|(qkv, xs)| {
            self.qkv.add_bias(qkv);
            self.qkv.add_to(qkv, &self.before(0, xs));
        });
        let heads = self.heads_of(&qkv, n, 0..self.heads, bias);
        let mut out = vec![0f32; xs.len()];
        let with_input = out.par_chunks_mut(rows * dim).zip(xs.par_chunks(rows * dim));
        with_input.enumerate().for_each(|(piece, (out, xs))| {
            let mut own = vec![0f32; out.len()];
            let mut scratch = Vec::new();
            heads.attend_rows(n, piece * rows, &mut own, &mut scratch);
            out.copy_from_slice(xs);
            self.out.add_bias(out);
            self.out.add_to(out, &own);
            self.after(0, out);
            own = self.before(1, out);
            self.fc2.add_bias(out);
            self.feed_forward(&own, 0..self.fc1.output, out, &mut scratch);
            self.after(1, out);
        });
        out
    }

    /// Every thread takes some heads and some of the feed-forward part's columns, for all rows: so few rows, cut further,
    /// would have every thread read all weights for the work of a handful.
    fn by_columns(&self, xs: &[f32], n: usize, bias: Option<&Bias>) -> Vec<f32> {
        let (dim, width) = (self.out.output, self.out.output / self.heads);
        let rows = xs.len() / dim;
        let input = self.before(0, xs);
        let attended = shares(self.heads).map(|heads| {
            let (from, count) = (heads.start * width, heads.len() * width);
            let mut qkv = vec![0f32; rows * 3 * count];
            for part in 0..3 {
                let columns = part * dim + from;
                if let Some(bias) = self.qkv.bias {
                    let bias = &bias[columns..columns + count];
                    qkv.chunks_mut(3 * count).for_each(|row| row[part * count..][..count].copy_from_slice(bias));
                }
                let weight = self.qkv.columns(columns, count);
                product(Write::Add, &mut qkv[part * count..], 3 * count, Matrix::new(&input, rows, dim, dim), weight);
            }
            let mut own = vec![0f32; rows * count];
            self.heads_of(&qkv, n, heads, bias).attend_rows(n, 0, &mut own, &mut Vec::new());
            let mut out = vec![0f32; rows * dim];
            let own = Matrix::new(&own, rows, count, count);
            product(Write::Set(1.0), &mut out, dim, own, self.out.rows(from, count));
            out
        });
        let mut out = xs.to_vec();
        self.out.add_bias(&mut out);
        add_all(&mut out, attended.collect());
        self.after(0, &mut out);
        let input = self.before(1, &out);
        let fed = shares(self.fc1.output).map(|columns| {
            let mut out = vec![0f32; rows * dim];
            self.feed_forward(&input, columns, &mut out, &mut Vec::new());
            out
        });
        self.fc2.add_bias(&mut out);
        add_all(&mut out, fed.collect());
        self.after(1, &mut out);
        out
    }

    /// What the first or second part reads of the rows.
    fn before(&self, part: usize, xs: &[f32]) -> Vec<f32> {
        let mut xs = xs.to_vec();
        if !self.norm_after {
            self.norms[part].apply(&mut xs);
        }
        xs
    }

    /// What the first or second part leaves, its residual added.
    fn after(&self, part: usize, xs: &mut [f32]) {
        if self.norm_after {
            self.norms[part].apply(xs);
        }
    }

    /// Some heads, whose queries, keys and values stand side by side.
    fn heads_of<'a>(&self, qkv: &'a [f32], n: usize, heads: Range<usize>, bias: Option<&'a Bias<'a>>) -> Heads<'a> {
        let width = self.out.output / self.heads;
        let count = heads.len() * width;
        let tokens = |at: usize| Tokens { data: &qkv[at * count..], item: n * 3 * count, token: 3 * count };
        Heads { qkv: [tokens(0), tokens(1), tokens(2)], keys: n, heads: heads.len(), first: heads.start, width, bias }
    }

    /// Adds `fc2 act(fc1 xs)` to `out`, of some columns of what lies between, without the second bias.
    fn feed_forward(&self, xs: &[f32], columns: Range<usize>, out: &mut [f32], scratch: &mut Vec<f32>) {
        let (dim, rows) = (self.fc2.output, out.len() / self.fc2.output);
        for from in columns.clone().step_by(INNER) {
            let count = INNER.min(columns.end - from);
            scratch.resize(rows * count, 0.0);
            product(Write::Set(1.0), scratch, count, Matrix::new(xs, rows, dim, dim), self.fc1.columns(from, count));
            let bias = &self.fc1_bias[from..from + count];
            (self.act)(scratch, bias);
            product(Write::Add, out, dim, Matrix::new(scratch, rows, count, count), self.fc2.rows(from, count));
        }
    }
}

/// `count` things in as many ranges as there are threads.
fn shares(count: usize) -> impl ParallelIterator<Item = Range<usize>> {
    let size = count.div_ceil(rayon::current_num_threads().max(1)).max(1);
    (0..count.div_ceil(size)).into_par_iter().map(move |at| at * size..count.min((at + 1) * size))
}

/// Adds all parts to `out`.
fn add_all(out: &mut [f32], parts: Vec<Vec<f32>>) {
    for part in parts {
        out.iter_mut().zip(part).for_each(|(x, y)| *x += y);
    }
}
