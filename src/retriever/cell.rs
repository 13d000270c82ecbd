//! The recurrent cell (ReT-2, arXiv 2509.08897, section 3; ReT, arXiv 2503.01980): one step per sampled layer, fusing
//! that layer of both towers into a state of n tokens through attention and element-wise gates.
//!
//! ReT-2 and ReT are one cell with different settings: ReT has several state tokens that attend to each other, and adds
//! their positions before every step.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::sigmoid;

use super::config::RetConfig;
use super::error::Result;
use super::layers::{Activation, LayerNorm, Linear, mix, softmax};
use super::weights::Weights;

const EPS: f64 = 1e-5;

/// One modality's tokens of one sampled layer, already brought to the model's width.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// `[B, N, H]`.
    pub xs: Tensor,
    /// What is added to attention scores, `[B, N]`; `None` where every token counts.
    pub padding: Option<Tensor>,
}

/// Gates and state of one step, for looking inside. An absent modality's input gate is zero.
#[derive(Debug, Clone)]
pub struct StepTrace {
    /// Input gate of the text, `[B, n, H]`.
    pub text_input: Tensor,
    /// Input gate of the picture, `[B, n, H]`.
    pub vision_input: Tensor,
    /// Forget gate, `[B, n, H]`.
    pub forget: Tensor,
    /// State after the step, `[B, n, H]`.
    pub state: Tensor,
}

/// Bias-free multi-head attention of the state over one modality's tokens, with the norm in front of keys and values.
///
/// Keys and values are linear in the tokens and there are few queries, so the projections are applied to the query and
/// to the weighted sum instead of to every token: the same numbers, at `n * heads` products a token instead of `2 H`.
#[derive(Debug)]
struct CrossAttention {
    norm: LayerNorm,
    q: Linear,
    /// Weights `[H, H]`.
    k: Tensor,
    v: Tensor,
    out: Linear,
    heads: usize,
}

impl CrossAttention {
    fn load(w: &Weights, modality: &str, dim: usize, heads: usize) -> Result<Self> {
        let a = w.pp(format!("{modality}_attn"));
        Ok(Self {
            norm: LayerNorm::load(&w.pp(format!("{modality}_norm")), dim, EPS)?,
            q: Linear::load_no_bias(&a.pp("q_proj"), dim, dim)?,
            k: a.get("k_proj.weight", (dim, dim))?,
            v: a.get("v_proj.weight", (dim, dim))?,
            out: Linear::load_no_bias(&a.pp("out_proj"), dim, dim)?,
            heads,
        })
    }

    /// Queries `[B, n, H]` over tokens `[B, N, H]`, to `[B, n, H]`.
    fn forward(&self, queries: &Tensor, tokens: &Tokens) -> Result<Tensor> {
        let (b, n, dim) = queries.dims3()?;
        let (heads, head_dim) = (self.heads, dim / self.heads);
        let rows = b * n;
        let scale = (head_dim as f64).powf(-0.5);
        // Per head: q_h W_k,h, [heads, B n, d] x [heads, d, H].
        let q = (self.q.forward(queries)? * scale)?.reshape((rows, heads, head_dim))?.transpose(0, 1)?.contiguous()?;
        let keys = self.k.reshape((heads, head_dim, dim))?;
        let absorbed = q.matmul(&keys)?; // [heads, B n, H]
        // norm(x) = x^ w + b: the scale goes to the query, and the shift adds the same to every token's score, which a
        // softmax does not see.
        let absorbed = absorbed.broadcast_mul(&self.norm.weight)?;
        let absorbed = absorbed.reshape((heads, b, n, dim))?.permute((1, 0, 2, 3))?.contiguous()?;
        let absorbed = absorbed.reshape((b, heads * n, dim))?;
        let xs = self.norm.standardise(&tokens.xs)?; // [B, N, H]
        let mixed = mix(&absorbed, &xs, tokens.padding.as_ref())?; // [B, heads n, H]
        let mixed = self.norm.scale_and_shift(&mixed)?;
        let mixed =
            mixed.reshape((b, heads, n, dim))?.permute((1, 0, 2, 3))?.contiguous()?.reshape((heads, rows, dim))?;
        let values = self.v.reshape((heads, head_dim, dim))?.transpose(1, 2)?;
        let out = mixed.matmul(&values)?; // [heads, B n, d]
        let out = out.transpose(0, 1)?.contiguous()?.reshape((b, n, dim))?;
        Ok(self.out.forward(&out)?)
    }
}

/// Multi-head attention of the state tokens among themselves, with biases.
#[derive(Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl SelfAttention {
    fn load(w: &Weights, dim: usize, heads: usize) -> Result<Self> {
        let linear = |name: &str| Linear::load(&w.pp(format!("self_attn.{name}_proj")), dim, dim);
        Ok(Self { q: linear("q")?, k: linear("k")?, v: linear("v")?, out: linear("out")?, heads })
    }

    /// Queries `[B, n, H]`, which are keys and values too, to `[B, n, H]`. Built of differentiable operations.
    fn forward(&self, queries: &Tensor) -> Result<Tensor> {
        let (b, n, dim) = queries.dims3()?;
        let head_dim = dim / self.heads;
        let split = |xs: Tensor| xs.reshape((b, n, self.heads, head_dim))?.transpose(1, 2)?.contiguous();
        let q = split((self.q.forward(queries)? * (head_dim as f64).powf(-0.5))?)?; // [B, heads, n, d]
        let (k, v) = (split(self.k.forward(queries)?)?, split(self.v.forward(queries)?)?);
        let mixed = softmax(&q.matmul(&k.t()?)?)?.matmul(&v)?; // [B, heads, n, d]
        Ok(self.out.forward(&mixed.transpose(1, 2)?.reshape((b, n, dim))?)?)
    }
}

/// The gates of one modality.
#[derive(Debug)]
struct Gates {
    input: Linear,
    forget: Linear,
}

/// The cell.
#[derive(Debug)]
pub struct Cell {
    /// `[1, n, H]`.
    positions: Option<Tensor>,
    state_norm: LayerNorm,
    self_attention: Option<SelfAttention>,
    text_attention: CrossAttention,
    vision_attention: CrossAttention,
    text_gates: Gates,
    vision_gates: Gates,
    input_prior: f64,
    forget_prior: f64,
    forget_scale: f64,
    mlp_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Cell {
    /// Takes the tensors of a cell.
    ///
    /// Positions and priors are constants: where the weights hold them (ReT's do, as buffers; priors are 0-dim), theirs
    /// are taken, else positions are computed and priors are those of the configuration.
    pub fn load(c: &RetConfig, w: &Weights) -> Result<Self> {
        let (dim, heads) = (c.hidden_size, c.num_heads);
        let gates = |modality: &str| -> Result<Gates> {
            Ok(Gates {
                input: Linear::load(&w.pp(format!("{modality}_input_gate")), dim, dim)?,
                forget: Linear::load(&w.pp(format!("{modality}_forget_gate")), dim, dim)?,
            })
        };
        let prior = |name: &str, configured: f32| -> Result<f64> {
            if !w.has(name) {
                return Ok(configured.into());
            }
            Ok(w.get(name, ())?.to_dtype(DType::F32)?.to_scalar::<f32>()?.into())
        };
        let state_norm = LayerNorm::load(&w.pp("state_norm"), dim, EPS)?;
        let positions = match c.positions {
            true if w.has("positions") => Some(w.get("positions", (1, c.state_tokens, dim))?),
            true => Some(sinusoid(c.state_tokens, dim, state_norm.weight.device())?),
            false => None,
        };
        Ok(Self {
            positions,
            state_norm,
            self_attention: c.self_attention.then(|| SelfAttention::load(w, dim, heads)).transpose()?,
            text_attention: CrossAttention::load(w, "text", dim, heads)?,
            vision_attention: CrossAttention::load(w, "vision", dim, heads)?,
            text_gates: gates("text")?,
            vision_gates: gates("vision")?,
            input_prior: prior("input_gate_prior", c.input_gate_prior)?,
            forget_prior: prior("forget_gate_prior", c.forget_gate_prior)?,
            forget_scale: c.forget_gate_scale.into(),
            mlp_norm: LayerNorm::load(&w.pp("mlp_norm"), dim, EPS)?,
            fc1: Linear::load(&w.pp("mlp.fc1"), dim, 4 * dim)?,
            fc2: Linear::load(&w.pp("mlp.fc2"), 4 * dim, dim)?,
        })
    }

    /// One step: state `[B, n, H]` and a layer of each modality that is present, to the next state.
    ///
    /// All attentions read the same queries. A modality that is absent adds nothing, its gates' biases included, exactly
    /// as if it were masked.
    pub fn step(&self, state: &Tensor, text: Option<&Tokens>, vision: Option<&Tokens>) -> Result<StepTrace> {
        let state = match &self.positions {
            Some(positions) => state.broadcast_add(positions)?,
            None => state.clone(),
        };
        let queries = self.state_norm.forward(&state)?; // [B, n, H]
        let kept = match &self.self_attention {
            Some(attention) => (&state + attention.forward(&queries)?)?,
            None => state.clone(),
        };
        let mut forget = (Tensor::zeros(state.dims(), DType::F32, state.device())? + self.forget_prior)?;
        let mut taken = state.zeros_like()?;
        let mut inputs = [state.zeros_like()?, state.zeros_like()?];
        let towers =
            [(&self.text_attention, &self.text_gates, text), (&self.vision_attention, &self.vision_gates, vision)];
        for ((attention, gates, tokens), input) in towers.into_iter().zip(&mut inputs) {
            let Some(tokens) = tokens else { continue };
            let z = attention.forward(&queries, tokens)?;
            *input = sigmoid(&(gates.input.forward(&z)? + self.input_prior)?)?;
            forget = (forget + gates.forget.forward(&z)?)?;
            taken = (taken + (&*input * z)?)?;
        }
        let mut forget = sigmoid(&forget)?;
        if self.forget_scale != 1.0 {
            forget = (forget * self.forget_scale)?;
        }
        let mixed = ((&forget * kept)? + taken)?;
        let inner = self.fc1.forward_act(&self.mlp_norm.forward(&mixed)?, Activation::Gelu)?;
        let state = (&mixed + self.fc2.forward(&inner)?)?;
        let [text_input, vision_input] = inputs;
        Ok(StepTrace { text_input, vision_input, forget, state })
    }
}

/// Positions of n state tokens (arXiv 1706.03762, section 3.5), `[1, n, H]`: sines in even places, cosines in odd ones.
fn sinusoid(n: usize, dim: usize, device: &Device) -> Result<Tensor> {
    let value = |at: usize| {
        let (position, place) = (at / dim, at % dim);
        let angle = position as f64 / 10_000f64.powf((place - place % 2) as f64 / dim as f64);
        (if place % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
    };
    Ok(Tensor::from_vec((0..n * dim).map(value).collect(), (1, n, dim), device)?)
}
