//! EfficientNet-Lite0 (EfficientNet, arXiv 1905.11946, without squeeze-excite and with ReLU6): TensorFlow's SAME padding,
//! batch norm folded into the convolutions at load.
//!
//! Everything after the stem runs channels-last: a pointwise convolution is one matrix product over all positions, and a
//! block's map is its tokens.

use candle_core::{IndexOp, Tensor};
use serde::Serialize;

use super::transformer::walk;
use super::{LayerFeatures, Wanted};
use crate::retriever::error::Result;
use crate::retriever::fields::{self, Fields};
use crate::retriever::kernels::depthwise::{Depthwise, same_padding};
use crate::retriever::kernels::linear::{AddBias, BIAS_ALONE, BiasThenAct, add_bias};
use crate::retriever::layers::plain;
use crate::retriever::weights::Weights;

const BN_EPS: f64 = 1e-3;

/// Width of the pooled vector.
pub const POOLED: usize = 1280;

/// Classifier head and counters, which a retriever does not use.
pub const KNOWN_UNUSED: &[&str] = &["_fc.weight", "_fc.bias", "num_batches_tracked"];

/// Shape of one inverted-residual block.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Widening before it.
    pub expand: usize,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
}

const fn block(kernel: usize, stride: usize, expand: usize, input: usize, output: usize) -> BlockShape {
    BlockShape { kernel, stride, expand, input, output }
}

/// The sixteen blocks.
pub const BLOCKS: [BlockShape; 16] = [
    block(3, 1, 1, 32, 16),
    block(3, 2, 6, 16, 24),
    block(3, 1, 6, 24, 24),
    block(5, 2, 6, 24, 40),
    block(5, 1, 6, 40, 40),
    block(3, 2, 6, 40, 80),
    block(3, 1, 6, 80, 80),
    block(3, 1, 6, 80, 80),
    block(5, 1, 6, 80, 112),
    block(5, 1, 6, 112, 112),
    block(5, 1, 6, 112, 112),
    block(5, 2, 6, 112, 192),
    block(5, 1, 6, 192, 192),
    block(5, 1, 6, 192, 192),
    block(5, 1, 6, 192, 192),
    block(3, 1, 6, 192, 320),
];

/// What may be chosen of the tower.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EfficientNetConfig {
    /// Side of the picture, pixels.
    pub image_size: usize,
    /// A sampled map wider than this many tokens a side is averaged down to it, so that early layers do not drown
    /// the cost of the rest.
    pub max_grid: usize,
}

impl EfficientNetConfig {
    /// Reads our own form; both keys must be there.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(fields: &Fields) -> fields::Result<Self> {
        Ok(Self {
            image_size: fields.count("image_size", None, 1..=4096)?,
            max_grid: fields.count("max_grid", None, 1..=4096)?,
        })
    }
}

/// A convolution with its batch norm folded in.
#[derive(Debug)]
struct Folded {
    weight: Tensor,
    bias: Tensor,
}

impl Folded {
    /// Reads `conv.weight` of `shape` (output channels first) and the batch norm; scales the former by the latter.
    fn load(w: &Weights, conv: &str, norm: &str, shape: (usize, usize, usize, usize)) -> Result<Self> {
        let out = shape.0;
        let weight = w.get(&format!("{conv}.weight"), shape)?;
        let norm = w.pp(norm);
        let gamma = norm.get("weight", out)?;
        let beta = norm.get("bias", out)?;
        let mean = norm.get("running_mean", out)?;
        let variance = norm.get("running_var", out)?;
        let scale = (gamma / (variance + BN_EPS)?.sqrt()?)?;
        let bias = (beta - (mean * &scale)?)?;
        Ok(Self { weight: weight.broadcast_mul(&scale.reshape((out, 1, 1, 1))?)?, bias })
    }

    /// As the matrix `[in, out]` of a pointwise convolution.
    fn pointwise(self) -> Result<Self> {
        let weight = self.weight.flatten_from(1)?.t()?.contiguous()?;
        Ok(Self { weight, bias: self.bias })
    }

    /// As the kernel `[k, k, C]` of a depthwise convolution.
    fn depthwise(self) -> Result<Self> {
        let weight = self.weight.squeeze(1)?.permute((1, 2, 0))?.contiguous()?;
        Ok(Self { weight, bias: self.bias })
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`.
    fn apply_pointwise(&self, xs: &Tensor, relu6: bool) -> Result<Tensor> {
        let (b, h, w, c) = xs.dims4()?;
        let out = xs.reshape((b * h * w, c))?.matmul(&self.weight)?;
        Ok(self.add_bias(out, relu6)?.reshape((b, h, w, ()))?)
    }

    /// Adds the bias to what this layer has just made, and cuts it to [0, 6] where it is asked to: in place where no
    /// gradient is wanted.
    fn add_bias(&self, out: Tensor, relu6: bool) -> Result<Tensor> {
        if !plain(&[&out, &self.bias]) {
            let out = out.broadcast_add(&self.bias)?;
            return Ok(if relu6 { out.clamp(0f32, 6f32)? } else { out });
        }
        let cut: BiasThenAct = |xs, bias| add_bias(xs, bias, |x| x.clamp(0.0, 6.0));
        out.inplace_op2(&self.bias, &AddBias(if relu6 { cut } else { BIAS_ALONE }))?;
        Ok(out)
    }
}

#[derive(Debug)]
struct Block {
    shape: BlockShape,
    expand: Option<Folded>,
    depthwise: Folded,
    project: Folded,
}

impl Block {
    fn load(shape: BlockShape, w: &Weights) -> Result<Self> {
        let inner = shape.input * shape.expand;
        let expand = if shape.expand == 1 {
            None
        } else {
            Some(Folded::load(w, "_expand_conv", "_bn0", (inner, shape.input, 1, 1))?.pointwise()?)
        };
        Ok(Self {
            shape,
            expand,
            depthwise: Folded::load(w, "_depthwise_conv", "_bn1", (inner, 1, shape.kernel, shape.kernel))?
                .depthwise()?,
            project: Folded::load(w, "_project_conv", "_bn2", (shape.output, inner, 1, 1))?.pointwise()?,
        })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => expand.apply_pointwise(xs, true)?,
            None => xs.clone(),
        };
        let op = Depthwise { kernel: self.shape.kernel, stride: self.shape.stride };
        let wide = self.depthwise.add_bias(op.apply(&wide, &self.depthwise.weight)?, true)?;
        let out = self.project.apply_pointwise(&wide, false)?;
        if self.shape.stride == 1 && self.shape.input == self.shape.output {
            return Ok((out + xs)?);
        }
        Ok(out)
    }
}

/// The tower.
#[derive(Debug)]
pub struct EfficientNet {
    stem: Folded,
    blocks: Vec<Block>,
    head: Folded,
    max_grid: usize,
}

impl EfficientNet {
    /// Takes the tensors in the names of the published PyTorch port.
    pub fn load(c: &EfficientNetConfig, w: &Weights) -> Result<Self> {
        let blocks = BLOCKS.iter().enumerate().map(|(i, shape)| Block::load(*shape, &w.pp(format!("_blocks.{i}"))));
        Ok(Self {
            stem: Folded::load(w, "_conv_stem", "_bn0", (32, 3, 3, 3))?,
            blocks: blocks.collect::<Result<_>>()?,
            head: Folded::load(w, "_conv_head", "_bn1", (POOLED, 320, 1, 1))?.pointwise()?,
            max_grid: c.max_grid,
        })
    }

    /// Pixels `[B, 3, S, S]`; the tokens of a layer are its map row by row. `pooled` is the mean of the head's map.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted) -> Result<LayerFeatures> {
        let (_, _, height, width) = pixels.dims4()?;
        let (oh, top) = same_padding(height, 3, 2);
        let (ow, left) = same_padding(width, 3, 2);
        let bottom = ((oh - 1) * 2 + 3).saturating_sub(height + top);
        let right = ((ow - 1) * 2 + 3).saturating_sub(width + left);
        let padded = pixels.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
        let xs = padded.conv2d(&self.stem.weight, 0, 2, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()?; // [B, H, W, 32]
        let xs = self.stem.add_bias(xs, true)?;
        let (maps, last) = walk(&self.blocks, xs, wanted, Block::forward)?;
        let layers = maps.iter().map(|map| self.tokens(map)).collect::<Result<_>>()?;
        let pooled = if wanted.pooled {
            let head = self.head.apply_pointwise(&last, true)?;
            Some(head.flatten(1, 2)?.mean(1)?)
        } else {
            None
        };
        Ok(LayerFeatures { layers, pooled })
    }

    /// `[B, H, W, C]` to `[B, N, C]`, averaged down to at most `max_grid` a side.
    fn tokens(&self, map: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = map.dims4()?;
        let factor = h.div_ceil(self.max_grid.max(1)).max(w.div_ceil(self.max_grid.max(1)));
        if factor <= 1 {
            return Ok(map.flatten(1, 2)?);
        }
        let (th, tw) = (h / factor, w / factor);
        let map = map.i((.., ..th * factor, ..tw * factor))?.contiguous()?;
        let rows = map.reshape((b, th, factor, tw * factor * c))?.mean(2)?; // [B, th, tw * factor * C]
        Ok(rows.reshape((b, th * tw, factor, c))?.mean(2)?)
    }
}
