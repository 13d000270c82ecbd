//! The few layers that every part shares, written over [`Weights`].

use candle_core::{D, DType, Tensor};

use super::error::Result;
use super::kernels::Numbers;
use super::kernels::attention::Attention;
use super::kernels::gelu::Gelu;
use super::kernels::linear::{AddBias, BIAS_ALONE, BiasThenAct, Project, add_bias};
use super::kernels::math;
use super::kernels::mix::Mix;
use super::kernels::norm::{Normalise, Standardise};
use super::kernels::scale::ScaleShift;
use super::kernels::transpose::Transpose;
use super::weights::Weights;

/// Whether the kernels serve: f32 on the CPU, and no gradient is wanted.
pub fn plain(tensors: &[&Tensor]) -> bool {
    single(tensors) && tensors.iter().all(|t| !t.track_op())
}

/// Whether kernels with a gradient serve: f32 on the CPU.
fn single(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// `x Wᵀ (+ b)` over the last dimension.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`; see [`by_input`] for how it lies in memory.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` is `[out, in]`, `bias` is `[out]`.
    pub fn load(w: &Weights, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: by_input(w.get("weight", (output, input))?)?, bias: Some(w.get("bias", output)?) })
    }

    /// A projection without bias.
    pub fn load_no_bias(w: &Weights, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: by_input(w.get("weight", (output, input))?)?, bias: None })
    }

    /// Several projections of the same input to `output` numbers each, as one whose results stand side by side.
    pub fn load_side_by_side(parts: &[Weights], input: usize, output: usize, bias: bool) -> Result<Self> {
        let stacked = |name: &str, shape: &[usize]| -> Result<Tensor> {
            let tensors = parts.iter().map(|w| w.get(name, shape)).collect::<Result<Vec<_>>>()?;
            if tensors.iter().any(stands_in) {
                let shape = [&[parts.len() * shape[0]], &shape[1..]].concat();
                return Ok(Tensor::zeros((), DType::F32, tensors[0].device())?.broadcast_as(shape)?);
            }
            Ok(Tensor::cat(&tensors, 0)?)
        };
        Ok(Self {
            weight: by_input(stacked("weight", &[output, input])?)?,
            bias: bias.then(|| stacked("bias", &[output])).transpose()?,
        })
    }

    /// As [`Linear::load`], every channel of the result multiplied by `scale` `[out]`.
    pub fn load_scaled(w: &Weights, input: usize, output: usize, scale: &Tensor) -> Result<Self> {
        let (mut weight, mut bias) = (w.get("weight", (output, input))?, w.get("bias", output)?);
        if ![&weight, &bias, scale].into_iter().any(stands_in) {
            weight = weight.broadcast_mul(&scale.unsqueeze(1)?)?;
            bias = (bias * scale)?;
        }
        Ok(Self { weight: by_input(weight)?, bias: Some(bias) })
    }

    /// Query, key and value of torch's `MultiheadAttention`, whose weights are stacked: `in_proj_weight` `[3 dim, dim]`
    /// and `in_proj_bias` `[3 dim]`.
    pub fn load_stacked(w: &Weights, dim: usize) -> Result<[Self; 3]> {
        let weight = w.get("in_proj_weight", (3 * dim, dim))?;
        let bias = w.get("in_proj_bias", 3 * dim)?;
        let part = |i| -> Result<Self> {
            Ok(Self { weight: by_input(weight.narrow(0, i * dim, dim)?)?, bias: Some(bias.narrow(0, i * dim, dim)?) })
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// `[..., in]` to `[..., out]`.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let Some(bias) = &self.bias else { return self.product(xs) };
        if self.learns(xs) {
            return self.over_rows(xs, |xs| xs.contiguous()?.apply_op3(&self.weight.contiguous()?, bias, Project));
        }
        let out = self.product(xs)?;
        if plain(&[&out, bias]) {
            out.inplace_op2(bias, &AddBias(BIAS_ALONE))?;
            return Ok(out);
        }
        out.broadcast_add(bias)
    }

    /// `act(`[`Linear::forward`]`)`.
    pub fn forward_act(&self, xs: &Tensor, act: Activation) -> candle_core::Result<Tensor> {
        let Some(bias) = self.bias.as_ref().filter(|bias| plain(&[xs, &self.weight, bias])) else {
            return act.forward(&self.forward(xs)?);
        };
        let out = self.product(xs)?;
        out.inplace_op2(bias, &AddBias(act.after_bias()))?;
        Ok(out)
    }

    /// Whether a gradient is wanted that a kernel has: in f32 on the CPU.
    fn learns(&self, xs: &Tensor) -> bool {
        single(&[xs, &self.weight]) && (xs.track_op() || self.weight.track_op())
    }

    /// For a kernel; an error where the weight does not lie by input, or not in f32 on the CPU.
    ///
    /// # Errors
    /// See above.
    pub fn numbers(&self) -> candle_core::Result<(Numbers<'_>, Option<Numbers<'_>>)> {
        Ok((Numbers::of_transpose(&self.weight)?, self.bias.as_ref().map(Numbers::of).transpose()?))
    }

    /// Whether kernels serve for what is given, too.
    #[must_use]
    pub fn is_plain(&self, xs: &Tensor) -> bool {
        plain(&[xs, &self.weight]) && self.weight.layout().is_fortran_contiguous()
    }

    /// `x Wᵀ`.
    fn product(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.over_rows(xs, |xs| xs.matmul(&self.weight.t()?))
    }

    /// All leading dimensions go through one matrix product.
    fn over_rows(
        &self,
        xs: &Tensor,
        product: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let mut dims = xs.dims().to_vec();
        let input = dims.pop().unwrap_or(1);
        let out = product(&xs.reshape((dims.iter().product::<usize>(), input))?)?;
        dims.push(self.weight.dim(0)?);
        out.reshape(dims)
    }
}

/// Whether a tensor only stands for one that the weights lack: all its numbers are one and the same in memory, and stay so
/// until the error is told.
fn stands_in(tensor: &Tensor) -> bool {
    !tensor.is_contiguous()
}

/// A weight `[out, in]` laid out in memory by input, as products read it fastest: a few rows of tokens are multiplied up to
/// half as fast again. One that training changes stays where it is.
fn by_input(weight: Tensor) -> candle_core::Result<Tensor> {
    if stands_in(&weight) || !plain(&[&weight]) {
        return Ok(weight);
    }
    weight.apply_op1_no_bwd(&Transpose)?.t()
}

/// LayerNorm over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// Scale, `[dim]`.
    pub weight: Tensor,
    /// Shift, `[dim]`.
    pub bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias` of one dimension.
    pub fn load(w: &Weights, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: w.get("weight", dim)?, bias: w.get("bias", dim)?, eps })
    }

    /// `[..., dim]` to the same shape; differentiable.
    pub fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        if plain(&[xs, &self.weight, &self.bias]) {
            let op = Normalise { eps: self.eps };
            return xs.contiguous()?.apply_op3_no_bwd(&self.weight, &self.bias, &op);
        }
        self.scale_and_shift(&self.standardise(xs)?)
    }

    /// For a kernel: scale and shift, and what is added to the variance.
    ///
    /// # Errors
    /// One that is not of f32 on the CPU.
    pub fn numbers(&self) -> candle_core::Result<(Numbers<'_>, Numbers<'_>, f64)> {
        Ok((Numbers::of(&self.weight)?, Numbers::of(&self.bias)?, self.eps))
    }

    /// What follows [`LayerNorm::standardise`], `[..., dim]` to the same shape; differentiable.
    pub fn scale_and_shift(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        if single(&[xs, &self.weight, &self.bias]) {
            return xs.contiguous()?.apply_op3(&self.weight, &self.bias, ScaleShift);
        }
        xs.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }

    /// The part before scale and shift: zero mean, unit variance, computed in f32.
    pub fn standardise(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        let wide = xs.to_dtype(DType::F32)?.contiguous()?;
        let out = if wide.device().is_cpu() {
            wide.apply_op1(Standardise { eps: self.eps })?
        } else {
            standardise(&wide, self.eps)?
        };
        out.to_dtype(xs.dtype())
    }
}

/// What [`Standardise`] does on the CPU, of operations that every device has.
fn standardise(xs: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    let centred = xs.broadcast_sub(&xs.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

/// Activation of a feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact, by the error function.
    Gelu,
    /// OpenAI CLIP's `x sigmoid(1.702 x)`.
    QuickGelu,
    /// GELU's approximation by the hyperbolic tangent.
    GeluPytorchTanh,
}

impl Activation {
    /// The names that [`Activation::named`] knows.
    pub const NAMES: &str = "gelu, quick_gelu or gelu_pytorch_tanh";

    /// The activation that Hugging Face's `config.json` calls so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu_pytorch_tanh" | "gelu_new" => Some(Self::GeluPytorchTanh),
            _ => None,
        }
    }
}

impl Activation {
    /// For a kernel: adds a bias to rows, then acts on them.
    #[must_use]
    pub fn after_bias(self) -> BiasThenAct {
        match self {
            Self::Gelu => |xs, bias| add_bias(xs, bias, math::gelu),
            Self::QuickGelu => |xs, bias| add_bias(xs, bias, math::quick_gelu),
            Self::GeluPytorchTanh => |xs, bias| add_bias(xs, bias, math::gelu_tanh),
        }
    }

    /// Any shape to the same.
    pub fn forward(self, xs: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu if single(&[xs]) => xs.contiguous()?.apply_op1(Gelu),
            Self::Gelu => xs.gelu_erf(),
            Self::QuickGelu => xs * candle_nn::ops::sigmoid(&(xs * 1.702)?)?,
            Self::GeluPytorchTanh => xs.gelu(),
        }
    }
}

/// Multi-head attention of queries `[B, n, D]` over keys and values `[B, N, D]`; `bias` is added to the scores
/// `[B, heads, n, N]`, over whose dimensions but the last it may be 1 long.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let (b, n, dim) = q.dims3()?;
    let head_dim = dim / heads;
    let scale = (head_dim as f64).powf(-0.5);
    if plain(&[q, k, v]) && bias.is_none_or(|bias| plain(&[bias])) {
        let bias = bias.map(Tensor::contiguous).transpose()?;
        return q.apply_op3_no_bwd(k, v, &Attention { heads, bias: bias.as_ref() });
    }
    let split = |x: &Tensor| x.reshape((b, (), heads, head_dim))?.transpose(1, 2)?.contiguous(); // [B, heads, N, d]
    let (q, k, v) = (split(&(q * scale)?)?, split(k)?, split(v)?);
    let scores = q.matmul(&k.t()?)?; // [B, heads, n, N]
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias.to_dtype(scores.dtype())?)?,
        None => scores,
    };
    let out = softmax(&scores)?.matmul(&v)?;
    out.transpose(1, 2)?.reshape((b, n, dim))
}

/// [`attention`] of tokens over themselves: `qkv` is `[B, N, 3 D]`, queries, keys and values side by side.
pub fn self_attention(qkv: &Tensor, heads: usize, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let dim = qkv.dim(D::Minus1)? / 3;
    let part = |at: usize| qkv.narrow(D::Minus1, at * dim, dim);
    attention(&part(0)?, &part(1)?, &part(2)?, heads, bias)
}

/// `softmax(Q Xᵀ + padding) X`: queries `[B, m, H]`, tokens `[B, N, H]` and, added to the scores, padding `[B, N]`, to
/// `[B, m, H]`. Differentiable.
pub fn mix(queries: &Tensor, tokens: &Tensor, padding: Option<&Tensor>) -> candle_core::Result<Tensor> {
    if single(&[queries, tokens]) && padding.is_none_or(|padding| single(&[padding])) {
        let op = Mix { padding: padding.map(Tensor::contiguous).transpose()? };
        return queries.contiguous()?.apply_op2(&tokens.contiguous()?, op);
    }
    mix_composed(queries, tokens, padding)
}

/// What [`Mix`] does on the CPU, of operations that every device has.
fn mix_composed(queries: &Tensor, tokens: &Tensor, padding: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let scores = queries.matmul(&tokens.t()?)?; // [B, m, N]
    let scores = match padding {
        Some(padding) => scores.broadcast_add(&padding.unsqueeze(1)?)?,
        None => scores,
    };
    softmax(&scores)?.matmul(tokens)
}

/// Scores' bias that shuts padding out: 0 where `mask [B, N]` is 1, a large negative number where it is 0.
pub fn padding_bias(mask: &Tensor) -> candle_core::Result<Tensor> {
    let mask = mask.to_dtype(DType::F32)?;
    (mask - 1.0)? * 1e9 // [B, N]
}

/// Softmax over the last dimension, differentiable.
pub fn softmax(xs: &Tensor) -> candle_core::Result<Tensor> {
    candle_nn::ops::softmax(xs, D::Minus1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    /// Runs `f` by the kernels and, over a variable, by composed operations.
    #[track_caller]
    fn both_ways(what: &str, xs: &Tensor, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) {
        let variable = Var::from_tensor(xs).unwrap();
        assert!(plain(&[xs]) && !plain(&[variable.as_tensor()]));
        let (fast, composed) = (f(xs).unwrap(), f(variable.as_tensor()).unwrap());
        assert_eq!(fast.dims(), composed.dims(), "{what}");
        let far = (fast - composed.detach()).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let far = far.to_scalar::<f32>().unwrap();
        assert!(far < 2e-5, "{what}: {far}");
    }

    #[test]
    fn kernels_give_what_composed_operations_give() {
        // Widths that no vector register divides, and enough rows for several pieces of work.
        for (rows, input, output) in [(1, 3, 5), (7, 8, 16), (700, 40, 77)] {
            let linear = Linear { weight: by_input(random(&[output, input])).unwrap(), bias: Some(random(&[output])) };
            let xs = random(&[2, rows, input]);
            both_ways("linear", &xs, |xs| linear.forward(xs));
            both_ways("gelu", &xs, |xs| linear.forward_act(xs, Activation::Gelu));
            both_ways("quick gelu", &xs, |xs| linear.forward_act(xs, Activation::QuickGelu));
            both_ways("gelu by tanh", &xs, |xs| linear.forward_act(xs, Activation::GeluPytorchTanh));
            let norm = LayerNorm { weight: random(&[input]), bias: random(&[input]), eps: 1e-5 };
            both_ways("norm", &xs, |xs| norm.forward(xs));
        }
    }

    #[test]
    fn attention_by_item_gives_what_attention_of_the_batch_gives() {
        let (b, n, heads, dim) = (3, 19, 4, 24);
        let (k, v) = (random(&[b, n, dim]), random(&[b, n, dim]));
        for queries in [1, n] {
            let q = random(&[b, queries, dim]);
            both_ways("alone", &q, |q| attention(q, &k, &v, heads, None));
            let mask = (random(&[b, 1, 1, n]).gt(0.5).unwrap().to_dtype(DType::F32).unwrap() * -1e9).unwrap();
            both_ways("masked", &q, |q| attention(q, &k, &v, heads, Some(&mask)));
            let causal = random(&[b, 1, queries, n]);
            both_ways("biased by query", &q, |q| attention(q, &k, &v, heads, Some(&causal)));
            both_ways("one bias for all", &q, |q| attention(q, &k, &v, heads, Some(&causal.narrow(0, 1, 1).unwrap())));
        }
    }

    #[test]
    fn standardising_by_common_operations_is_what_the_kernel_does() {
        let xs = Tensor::randn(3f32, 2.0, (2, 5, 24), &Device::Cpu).unwrap();
        let kernel = xs.apply_op1(Standardise { eps: 1e-5 }).unwrap();
        let far = (standardise(&xs, 1e-5).unwrap() - kernel).unwrap().abs().unwrap().max_all().unwrap();
        assert!(far.to_scalar::<f32>().unwrap() < 1e-5);
    }

    /// Gradients of `f` weighed by random numbers, with respect to all of `inputs`.
    fn gradients(inputs: &[&Var], f: impl Fn() -> Tensor, along: &Tensor) -> Vec<Vec<f32>> {
        let grads = (f() * along).unwrap().sum_all().unwrap().backward().unwrap();
        inputs.iter().map(|var| grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    #[track_caller]
    fn near(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
        for (input, (found, expected)) in found.iter().zip(expected).enumerate() {
            let largest = expected.iter().fold(1f32, |most, x| most.max(x.abs()));
            assert!(found.len() == expected.len(), "{what}, input {input}");
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 2e-5 * largest, "{what}, input {input}: {a}, expected {b}");
            }
        }
    }

    #[test]
    fn a_mix_and_its_gradients_are_those_of_composed_operations() {
        for (b, m, n, dim) in [(1, 1, 1, 3), (2, 5, 7, 12), (3, 40, 19, 24)] {
            let (queries, tokens) = (random(&[b, m, dim]), random(&[b, n, dim]));
            let [queries, tokens] = [queries, tokens].map(|tensor| Var::from_tensor(&tensor).unwrap());
            // The last token of every item but the first is padding.
            let mask: Vec<f32> =
                (0..b * n).map(|at| if at >= n && at % n == n - 1 && n > 1 { -1e9 } else { 0.0 }).collect();
            let padding = Tensor::from_vec(mask, (b, n), &Device::Cpu).unwrap();
            for padding in [None, Some(&padding)] {
                let along = random(&[b, m, dim]);
                let kernel = || mix(queries.as_tensor(), tokens.as_tensor(), padding).unwrap();
                let composed = || mix_composed(queries.as_tensor(), tokens.as_tensor(), padding).unwrap();
                let flat = |tensor: Tensor| vec![tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()];
                near("mix", &flat(kernel()), &flat(composed()));
                let inputs = [&queries, &tokens];
                near("its gradient", &gradients(&inputs, kernel, &along), &gradients(&inputs, composed, &along));
            }
        }
    }

    #[test]
    fn a_projection_that_learns_has_the_gradients_of_composed_operations() {
        for (rows, input, output) in [(1, 3, 5), (1300, 17, 9)] {
            let [xs, weight, bias] = [vec![2, rows, input], vec![output, input], vec![output]]
                .map(|shape| Var::from_tensor(&random(&shape)).unwrap());
            let along = random(&[2, rows, output]);
            let linear = |weight: &Tensor| Linear { weight: weight.clone(), bias: Some(bias.as_tensor().clone()) };
            let composed = |xs: &Tensor| {
                let flat = xs.reshape((2 * rows, input)).unwrap().matmul(&weight.as_tensor().t().unwrap()).unwrap();
                flat.broadcast_add(bias.as_tensor()).unwrap().reshape((2, rows, output)).unwrap()
            };
            let learns = || linear(weight.as_tensor()).forward(xs.as_tensor()).unwrap();
            let inputs = [&xs, &weight, &bias];
            let expected = gradients(&inputs, || composed(xs.as_tensor()), &along);
            near("all", &gradients(&inputs, learns, &along), &expected);
            // Features that do not learn.
            let features = xs.as_tensor().detach();
            let frozen = || linear(weight.as_tensor()).forward(&features).unwrap();
            near("head", &gradients(&inputs[1..], frozen, &along), &expected[1..]);
            // A frozen tower below something that learns.
            let kept = linear(&weight.as_tensor().detach());
            let kept = Linear { bias: kept.bias.map(|bias| bias.detach()), ..kept };
            let below = || kept.forward(xs.as_tensor()).unwrap();
            near("input", &gradients(&inputs[..1], below, &along), &expected[..1]);
        }
    }

    #[test]
    fn a_norm_and_a_gelu_that_learn_have_the_gradients_of_composed_operations() {
        for (rows, dim) in [(1, 3), (700, 40)] {
            let [xs, scale, shift] =
                [vec![2, rows, dim], vec![dim], vec![dim]].map(|shape| Var::from_tensor(&random(&shape)).unwrap());
            let along = random(&[2, rows, dim]);
            let norm = LayerNorm { weight: scale.as_tensor().clone(), bias: shift.as_tensor().clone(), eps: 1e-5 };
            let composed = || {
                let standard = standardise(xs.as_tensor(), 1e-5).unwrap();
                standard.broadcast_mul(scale.as_tensor()).unwrap().broadcast_add(shift.as_tensor()).unwrap()
            };
            let inputs = [&xs, &scale, &shift];
            let expected = gradients(&inputs, composed, &along);
            near("norm", &gradients(&inputs, || norm.forward(xs.as_tensor()).unwrap(), &along), &expected);
            let gelu = || Activation::Gelu.forward(xs.as_tensor()).unwrap();
            let expected = gradients(&[&xs], || xs.as_tensor().gelu_erf().unwrap(), &along);
            near("gelu", &gradients(&[&xs], gelu, &along), &expected);
        }
    }
}
