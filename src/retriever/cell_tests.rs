//! A step of the cell against the same in plain arithmetic, written down from the formulas in 64 bits, on numbers that
//! the reference sets do not have: states and features so small that the norms' epsilon decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cell::{Cell, Tokens};
use super::config::RetConfig;
use super::layers::padding_bias;
use super::weights::Weights;

const H: usize = 8;
const HEADS: usize = 2;
const N: usize = 3;
const TEXT: usize = 4;
const PATCHES: usize = 5;
/// Text tokens that are not padding.
const WORDS: usize = 3;
const INPUT_PRIOR: f64 = 0.3;
const FORGET_PRIOR: f64 = -0.2;
const FORGET_SCALE: f64 = 0.75;

type Row = Vec<f64>;

/// The cell's tensors by name, in 64 bits, and what is computed from them.
struct Plain(HashMap<String, (Vec<usize>, Row)>);

impl Plain {
    /// Values of about 1, but outputs of attentions of a thousandth: everything stays as small as the state.
    fn draw(rng: &mut StdRng) -> Self {
        let mut all = HashMap::new();
        let mut put = |name: String, shape: Vec<usize>, scale: f64, shift: f64| {
            let values = (0..shape.iter().product::<usize>()).map(|_| shift + scale * rng.random_range(-1.0..1.0));
            let values = values.map(|x| f64::from(x as f32)).collect();
            all.insert(name, (shape, values));
        };
        for norm in ["state_norm", "text_norm", "vision_norm", "mlp_norm"] {
            put(format!("{norm}.weight"), vec![H], 0.3, 1.0);
            put(format!("{norm}.bias"), vec![H], 0.3, 0.0);
        }
        for attention in ["self_attn", "text_attn", "vision_attn"] {
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                let scale = if part == "out_proj" { 1e-3 } else { 0.7 };
                put(format!("{attention}.{part}.weight"), vec![H, H], scale, 0.0);
                if attention == "self_attn" {
                    put(format!("{attention}.{part}.bias"), vec![H], scale, 0.0);
                }
            }
        }
        for gate in ["text_input_gate", "vision_input_gate", "text_forget_gate", "vision_forget_gate"] {
            put(format!("{gate}.weight"), vec![H, H], 50.0, 0.0);
            put(format!("{gate}.bias"), vec![H], 0.5, 0.2);
        }
        put("mlp.fc1.weight".into(), vec![4 * H, H], 1.0, 0.0);
        put("mlp.fc1.bias".into(), vec![4 * H], 1.0, 0.0);
        put("mlp.fc2.weight".into(), vec![H, 4 * H], 1.0, 0.0);
        put("mlp.fc2.bias".into(), vec![H], 1.0, 0.0);
        Self(all)
    }

    fn weights(&self) -> Weights {
        let tensor = |(shape, values): &(Vec<usize>, Row)| {
            let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
            Tensor::from_vec(values, shape.clone(), &Device::Cpu).unwrap()
        };
        let tensors = self.0.iter().map(|(name, value)| (name.clone(), tensor(value))).collect();
        Weights::from_tensors("drawn".into(), tensors, &Device::Cpu)
    }

    fn linear(&self, name: &str, x: &[f64]) -> Row {
        let rows = self.0[&format!("{name}.weight")].1.chunks(x.len());
        let mut out: Row = rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        if let Some((_, bias)) = self.0.get(&format!("{name}.bias")) {
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
        out
    }

    fn norm(&self, name: &str, x: &[f64]) -> Row {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let (weight, bias) = (&self.0[&format!("{name}.weight")].1, &self.0[&format!("{name}.bias")].1);
        let value = |((x, w), b): ((&f64, &f64), &f64)| (x - mean) / (variance + 1e-5).sqrt() * w + b;
        x.iter().zip(weight).zip(bias).map(value).collect()
    }

    fn attention(&self, name: &str, queries: &[Row], keys: &[Row]) -> Vec<Row> {
        let part = |part: &str, xs: &[Row]| -> Vec<Row> {
            xs.iter().map(|x| self.linear(&format!("{name}.{part}_proj"), x)).collect()
        };
        let (q, k, v) = (part("q", queries), part("k", keys), part("v", keys));
        let size = H / HEADS;
        let mixed = q.iter().map(|q| {
            let mut row = vec![0.0; H];
            for head in 0..HEADS {
                let own = head * size..(head + 1) * size;
                let dot = |k: &Row| q[own.clone()].iter().zip(&k[own.clone()]).map(|(q, k)| q * k).sum::<f64>();
                let shares: Row = k.iter().map(|k| (dot(k) / (size as f64).sqrt()).exp()).collect();
                let total: f64 = shares.iter().sum();
                for (share, v) in shares.iter().zip(&v) {
                    own.clone().for_each(|at| row[at] += share / total * v[at]);
                }
            }
            row
        });
        part("out", &mixed.collect::<Vec<_>>())
    }

    /// Next state, from the formulas; a modality of no tokens is absent.
    fn step(&self, state: &[Row], text: &[Row], vision: &[Row]) -> Vec<Row> {
        let queries: Vec<Row> = state.iter().map(|h| self.norm("state_norm", h)).collect();
        let own = self.attention("self_attn", &queries, &queries);
        let over = |modality: &str, tokens: &[Row]| -> Option<Vec<Row>> {
            let tokens: Vec<Row> = tokens.iter().map(|x| self.norm(&format!("{modality}_norm"), x)).collect();
            (!tokens.is_empty()).then(|| self.attention(&format!("{modality}_attn"), &queries, &tokens))
        };
        let z = [("text", over("text", text)), ("vision", over("vision", vision))];
        let next = |at: usize| {
            let mut forget = [FORGET_PRIOR; H];
            let mut mixed = [0.0; H];
            for (modality, z) in &z {
                let Some(z) = z.as_ref().map(|z| &z[at]) else { continue };
                let input = self.linear(&format!("{modality}_input_gate"), z);
                let gate = self.linear(&format!("{modality}_forget_gate"), z);
                for i in 0..H {
                    mixed[i] += sigmoid(input[i] + INPUT_PRIOR) * z[i];
                    forget[i] += gate[i];
                }
            }
            (0..H).for_each(|i| mixed[i] += FORGET_SCALE * sigmoid(forget[i]) * (state[at][i] + own[at][i]));
            let inner: Row = self.linear("mlp.fc1", &self.norm("mlp_norm", &mixed)).into_iter().map(gelu).collect();
            self.linear("mlp.fc2", &inner).iter().zip(&mixed).map(|(out, mixed)| out + mixed).collect()
        };
        (0..N).map(next).collect()
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x Phi(x)`, the error function by Simpson's rule.
fn gelu(x: f64) -> f64 {
    const PARTS: usize = 400;
    let (end, f) = (x / 2f64.sqrt(), |t: f64| (-t * t).exp());
    let step = end / PARTS as f64;
    let weight = |i: usize| if i == 0 || i == PARTS { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    let area: f64 = (0..=PARTS).map(|i| weight(i) * f(step * i as f64)).sum::<f64>() * step / 3.0;
    0.5 * x * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * area)
}

fn rows(rng: &mut StdRng, n: usize, scale: f64) -> Vec<Row> {
    (0..n).map(|_| (0..H).map(|_| f64::from((scale * rng.random_range(-1.0..1.0)) as f32)).collect()).collect()
}

fn tensor(rows: &[Row]) -> Tensor {
    let values: Vec<f32> = rows.iter().flatten().map(|x| *x as f32).collect();
    Tensor::from_vec(values, (1, rows.len(), H), &Device::Cpu).unwrap()
}

fn config() -> RetConfig {
    let starter = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter/ret2-starter.json");
    RetConfig {
        hidden_size: H,
        num_heads: HEADS,
        state_tokens: N,
        self_attention: true,
        input_gate_prior: INPUT_PRIOR as f32,
        forget_gate_prior: FORGET_PRIOR as f32,
        forget_gate_scale: FORGET_SCALE as f32,
        ..RetConfig::load(&starter).unwrap()
    }
}

#[test]
fn a_step_is_what_the_formulas_say_where_epsilon_decides() {
    let mut rng = StdRng::seed_from_u64(11);
    let plain = Plain::draw(&mut rng);
    let weights = plain.weights();
    let cell = Cell::load(&config(), &weights).unwrap();
    weights.finish(&[]).unwrap();
    let state = rows(&mut rng, N, 4e-3);
    let (text, vision) = (rows(&mut rng, TEXT, 4e-3), rows(&mut rng, PATCHES, 4e-3));
    let mask: Vec<u32> = (0..TEXT).map(|at| u32::from(at < WORDS)).collect();
    let padding = padding_bias(&Tensor::from_vec(mask, (1, TEXT), &Device::Cpu).unwrap()).unwrap();
    let words = Tokens { xs: tensor(&text), padding: Some(padding) };
    let patches = Tokens { xs: tensor(&vision), padding: None };
    for (case, with_text, with_vision) in [("both", true, true), ("text", true, false), ("picture", false, true)] {
        let expected =
            plain.step(&state, if with_text { &text[..WORDS] } else { &[] }, if with_vision { &vision } else { &[] });
        let step = cell.step(&tensor(&state), with_text.then_some(&words), with_vision.then_some(&patches)).unwrap();
        let found = step.state.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        for (token, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{case}, token {token}: {found}, not {expected}");
            }
        }
    }
}
