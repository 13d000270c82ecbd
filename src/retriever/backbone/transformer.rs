//! The transformer block that all towers but EfficientNet share: with norms before its parts as CLIP, SigLIP and DINOv2
//! have it (ViT, arXiv 2010.11929), or after them (BERT, arXiv 1810.04805); and the walk over blocks that every tower takes.

use candle_core::Tensor;

use super::Wanted;
use crate::retriever::error::Result;
use crate::retriever::kernels::attention::Bias;
use crate::retriever::kernels::block::{Norm, Projection};
use crate::retriever::kernels::{self, Numbers};
use crate::retriever::layers::{Activation, LayerNorm, Linear, self_attention};
use crate::retriever::weights::Weights;

/// What an architecture calls the tensors of a block, below the block's own prefix.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    /// Norm before attention, or after it.
    pub norm1: &'static str,
    /// Projections to query, key and value.
    pub qkv: [&'static str; 3],
    /// Projection after attention.
    pub out: &'static str,
    /// Norm before the feed-forward part, or after it.
    pub norm2: &'static str,
    /// The two projections of the feed-forward part.
    pub mlp: [&'static str; 2],
    /// Per-channel scales of the two branches (layer scale, arXiv 2103.17239), where the architecture has them.
    pub scales: Option<[&'static str; 2]>,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    /// Width D.
    pub dim: usize,
    /// Width inside the feed-forward part.
    pub inner: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Activation of the feed-forward part.
    pub act: Activation,
    /// Added to the variance in both norms.
    pub eps: f64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
    /// Whether the norms stand after attention and feed-forward part.
    pub norm_after: bool,
}

/// `y = x + s1 Attn(norm1 x)`, then `y + s2 MLP(norm2 y)`, `s1` and `s2` only with layer scale; or, with norms after the
/// parts, `y = norm1(x + Attn x)`, then `norm2(y + MLP y)`.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    /// With the layer scale in it.
    out: Linear,
    norm2: LayerNorm,
    /// With the layer scale in it.
    mlp: Mlp,
    heads: usize,
    norm_after: bool,
}

impl Block {
    /// Takes the tensors below `w`'s prefix.
    pub fn load(shape: &BlockShape, names: &BlockNames, w: &Weights) -> Result<Self> {
        let dim = shape.dim;
        let qkv = names.qkv.map(|name| w.pp(name));
        let scaled = |name: &str, input: usize, at: usize| match names.scales {
            Some(scales) => Linear::load_scaled(&w.pp(name), input, dim, &w.get(scales[at], dim)?),
            None => Linear::load(&w.pp(name), input, dim),
        };
        let [fc1, fc2] = names.mlp;
        Ok(Self {
            norm1: LayerNorm::load(&w.pp(names.norm1), dim, shape.eps)?,
            qkv: Linear::load_side_by_side(&qkv, dim, dim, shape.qkv_bias)?,
            out: scaled(names.out, dim, 0)?,
            norm2: LayerNorm::load(&w.pp(names.norm2), dim, shape.eps)?,
            mlp: Mlp {
                fc1: Linear::load(&w.pp(fc1), dim, shape.inner)?,
                fc2: scaled(fc2, shape.inner, 1)?,
                act: shape.act,
            },
            heads: shape.heads,
            norm_after: shape.norm_after,
        })
    }

    /// Tokens `[B, N, D]` to the same shape; `bias` is added to the attention scores `[B, heads, N, N]`.
    pub fn forward(&self, xs: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if [&self.qkv, &self.out, &self.mlp.fc1, &self.mlp.fc2].into_iter().all(|linear| linear.is_plain(xs)) {
            return Ok(self.by_kernel(&xs.contiguous()?, bias)?);
        }
        let attend = |xs: &Tensor| -> Result<Tensor> {
            Ok(self.out.forward(&self_attention(&self.qkv.forward(xs)?, self.heads, bias)?)?)
        };
        if self.norm_after {
            let xs = self.norm1.forward(&(xs + attend(xs)?)?)?;
            return Ok(self.norm2.forward(&(&xs + self.mlp.forward(&xs)?)?)?);
        }
        let xs = (xs + attend(&self.norm1.forward(xs)?)?)?;
        Ok((&xs + self.mlp.forward(&self.norm2.forward(&xs)?)?)?)
    }

    /// The same without a gradient, in f32 on the CPU.
    fn by_kernel(&self, xs: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let (b, n, dim) = xs.dims3()?;
        let (qkv, out) = (self.qkv.numbers()?, self.out.numbers()?);
        let (fc1, fc2) = (self.mlp.fc1.numbers()?, self.mlp.fc2.numbers()?);
        let norms = [self.norm1.numbers()?, self.norm2.numbers()?];
        fn projection<'a>((weight, bias): &'a (Numbers<'_>, Option<Numbers<'_>>), output: usize) -> Projection<'a> {
            Projection { weight: weight.get(), bias: bias.as_ref().map(Numbers::get), output }
        }
        let bias = bias.map(Tensor::contiguous).transpose()?;
        let kernel = kernels::block::Block {
            qkv: projection(&qkv, 3 * dim),
            out: projection(&out, dim),
            fc1: Projection { weight: fc1.0.get(), bias: None, output: fc1.0.get().len() / dim },
            fc1_bias: fc1.1.as_ref().map_or(&[], Numbers::get),
            fc2: projection(&fc2, dim),
            norms: norms.each_ref().map(|(scale, shift, eps)| Norm {
                scale: scale.get(),
                shift: shift.get(),
                eps: *eps,
            }),
            norm_after: self.norm_after,
            heads: self.heads,
            act: self.mlp.act.after_bias(),
        };
        let bias = bias.as_ref().map(|bias| Bias::of(bias, [b, self.heads, n, n])).transpose()?;
        Tensor::from_vec(kernel.forward(Numbers::of(xs)?.get(), n, bias.as_ref()), (b, n, dim), xs.device())
    }
}

/// The feed-forward part: `fc2 act(fc1 x)`.
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    act: Activation,
}

impl Mlp {
    /// Takes `fc1` and `fc2` below `w`'s prefix.
    pub fn load(dim: usize, inner: usize, act: Activation, w: &Weights) -> Result<Self> {
        Ok(Self { fc1: Linear::load(&w.pp("fc1"), dim, inner)?, fc2: Linear::load(&w.pp("fc2"), inner, dim)?, act })
    }

    /// `[..., D]` to the same shape.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_act(xs, self.act)?)
    }
}

/// Runs as many blocks as `wanted` needs. Gives the sampled outputs and what the last block that ran gave.
///
/// # Errors
/// A block's own.
pub fn walk<B>(
    blocks: &[B],
    mut xs: Tensor,
    wanted: &Wanted,
    mut step: impl FnMut(&B, &Tensor) -> Result<Tensor>,
) -> Result<(Vec<Tensor>, Tensor)> {
    let mut sampled = Vec::with_capacity(wanted.layers.len());
    for (index, block) in blocks.iter().take(wanted.depth(blocks.len())).enumerate() {
        xs = step(block, &xs)?;
        if wanted.layers.contains(&index) {
            sampled.push(xs.clone());
        }
    }
    Ok((sampled, xs))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Var};

    use super::*;

    const NAMES: BlockNames = BlockNames {
        norm1: "norm1",
        qkv: ["q", "k", "v"],
        out: "out",
        norm2: "norm2",
        mlp: ["fc1", "fc2"],
        scales: Some(["scale1", "scale2"]),
    };

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 0.5, shape, &Device::Cpu).unwrap()
    }

    /// Random weights by the names and shapes that a block asks for.
    fn block(shape: &BlockShape, names: &BlockNames) -> Block {
        let asked = Weights::from_tensors("none".into(), HashMap::new(), &Device::Cpu);
        Block::load(shape, names, &asked).unwrap();
        let tensors = asked.missing().into_iter().map(|(name, shape)| (name, random(shape.dims()))).collect();
        let weights = Weights::from_tensors("random".into(), tensors, &Device::Cpu);
        let block = Block::load(shape, names, &weights).unwrap();
        weights.finish(&[]).unwrap();
        block
    }

    #[test]
    fn the_kernel_gives_what_composed_operations_give() {
        // More columns in the feed-forward part than are computed at a time, and more rows than a thread takes at a time.
        let shape = BlockShape {
            dim: 24,
            inner: 1100,
            heads: 4,
            act: Activation::Gelu,
            eps: 1e-5,
            qkv_bias: true,
            norm_after: false,
        };
        let cases = [
            (shape, NAMES),
            (BlockShape { qkv_bias: false, act: Activation::QuickGelu, ..shape }, BlockNames { scales: None, ..NAMES }),
            (BlockShape { norm_after: true, act: Activation::GeluPytorchTanh, ..shape }, NAMES),
        ];
        for (shape, names) in &cases {
            let block = block(shape, names);
            for (b, n) in [(1, 1), (3, 7), (9, 70), (1, 300)] {
                let xs = random(&[b, n, shape.dim]);
                let variable = Var::from_tensor(&xs).unwrap();
                for bias in [None, Some(random(&[b, 1, 1, n])), Some(random(&[1, 1, n, n]))] {
                    let kernel = block.forward(&xs, bias.as_ref()).unwrap();
                    let composed = block.forward(variable.as_tensor(), bias.as_ref()).unwrap().detach();
                    assert_eq!(kernel.dims(), composed.dims());
                    let far =
                        (kernel - &composed).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                    let scale = composed.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap().max(1.0);
                    assert!(far < 1e-5 * scale, "{shape:?} {b} {n}: {far} of {scale}");
                }
            }
        }
    }

    /// A checkpoint that lacks what an absurd configuration asks for costs a message and no memory.
    #[test]
    fn nothing_is_allocated_for_tensors_that_are_not_there() {
        let shape = BlockShape {
            dim: 1 << 20,
            inner: 1 << 22,
            heads: 1,
            act: Activation::Gelu,
            eps: 1e-5,
            qkv_bias: true,
            norm_after: false,
        };
        let asked = Weights::from_tensors("none".into(), HashMap::new(), &Device::Cpu);
        Block::load(&shape, &NAMES, &asked).unwrap();
        let message = asked.finish(&[]).unwrap_err().to_string();
        assert!(message.contains("missing: fc1.bias, fc1.weight"), "{message}");
    }
}
