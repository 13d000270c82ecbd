//! AdamW (arXiv 1711.05101) whose moments can be saved, so that a run resumes to the bit.

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Shape, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::TrainError;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPS: f64 = 1e-8;

/// Trainable tensors by name, with their moments.
pub struct Parameters {
    slots: BTreeMap<String, Slot>,
}

/// Gradients by name.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds what another batch gave, divided by `batches`.
    ///
    /// # Errors
    /// The engine's own.
    pub fn add(&mut self, other: Self, batches: usize) -> Result<(), TrainError> {
        for (name, grad) in other.0 {
            let part = if batches == 1 { grad } else { (grad / batches as f64)? };
            let sum = match self.0.remove(&name) {
                Some(sum) => (sum + part)?,
                None => part,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// One parameter's, if the loss depends on it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }
}

struct Slot {
    var: Var,
    first: Tensor,
    second: Tensor,
    /// Its learning rate as a share of the largest.
    share: f64,
}

impl Slot {
    fn new(tensor: &Tensor, share: f64) -> Result<Self, TrainError> {
        let zeros = Tensor::zeros(tensor.shape(), DType::F32, tensor.device())?;
        Ok(Self { var: Var::from_tensor(tensor)?, first: zeros.clone(), second: zeros, share })
    }
}

impl Parameters {
    /// Initial values by name and shape: norms 1, biases 0 (forget gates open), matrices scaled by their input.
    ///
    /// # Errors
    /// The engine's own.
    pub fn initialise(shapes: &BTreeMap<String, Shape>, seed: u64, device: &Device) -> Result<Self, TrainError> {
        let mut slots = BTreeMap::new();
        let mut rng = StdRng::seed_from_u64(seed);
        for (name, shape) in shapes {
            let count = shape.elem_count();
            let fan_in = shape.dims().last().copied().unwrap_or(1) as f32;
            let scale = match name.as_str() {
                "state" => 0.02,
                n if n == "log_temperature" || n.ends_with("bias") || n.ends_with("norm.weight") => 0.0,
                n if n.ends_with("fc2.weight") => 0.5 * fan_in.powf(-0.5),
                _ => fan_in.powf(-0.5),
            };
            let constant = match name.as_str() {
                "log_temperature" => (1.0f32 / 0.07).ln(),
                n if n.ends_with("norm.weight") => 1.0,
                n if n.ends_with("forget_gate.bias") => 0.5,
                _ => 0.0,
            };
            // Uniform with the variance of a normal of that scale.
            let bound = scale * 3f32.sqrt();
            let values: Vec<f32> = (0..count)
                .map(|_| if bound > 0.0 { rng.random_range(-bound..bound) } else { 0.0 } + constant)
                .collect();
            let tensor = Tensor::from_vec(values, shape.clone(), device)?;
            slots.insert(name.clone(), Slot::new(&tensor, 1.0)?);
        }
        Ok(Self { slots })
    }

    /// Takes a tensor as it is, to learn at `share` of the rate. Gives the live tensor.
    ///
    /// # Errors
    /// The engine's own.
    pub fn add(&mut self, name: String, tensor: &Tensor, share: f64) -> Result<Tensor, TrainError> {
        let slot = Slot::new(tensor, share)?;
        let live = slot.var.as_tensor().clone();
        self.slots.insert(name, slot);
        Ok(live)
    }

    /// The live tensors: they change with every step.
    #[must_use]
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        self.slots.iter().map(|(name, slot)| (name.clone(), slot.var.as_tensor().clone())).collect()
    }

    /// Everything that a resumed run needs, under `value.`, `first.` and `second.`.
    #[must_use]
    pub fn saved(&self) -> HashMap<String, Tensor> {
        let mut out = HashMap::new();
        for (name, slot) in &self.slots {
            out.insert(format!("value.{name}"), slot.var.as_tensor().clone());
            out.insert(format!("first.{name}"), slot.first.clone());
            out.insert(format!("second.{name}"), slot.second.clone());
        }
        out
    }

    /// Takes what [`Parameters::saved`] gave. `None` if a name or shape does not fit.
    pub fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Option<()> {
        for (name, slot) in &mut self.slots {
            let device = slot.var.device().clone();
            let part = |part: &str| saved.get(&format!("{part}.{name}"))?.to_device(&device).ok();
            slot.var.set(&part("value")?).ok()?;
            (slot.first, slot.second) = (part("first")?, part("second")?);
        }
        Some(())
    }

    /// The parameters' own of all gradients.
    #[must_use]
    pub fn gradients(&self, grads: &GradStore) -> Gradients {
        let own = self.slots.iter().filter_map(|(name, slot)| Some((name.clone(), grads.get(&slot.var)?.detach())));
        Gradients(own.collect())
    }

    /// One step (numbered from 1), the gradient clipped to norm `clip`. Returns the norm before clipping.
    ///
    /// # Errors
    /// The engine's own.
    pub fn step(
        &mut self,
        grads: &Gradients,
        step: usize,
        rate: f64,
        decay: f64,
        clip: f64,
    ) -> Result<f32, TrainError> {
        let mut squares = 0f32;
        for name in self.slots.keys() {
            if let Some(grad) = grads.get(name) {
                squares += grad.sqr()?.sum_all()?.to_scalar::<f32>()?;
            }
        }
        let norm = squares.sqrt();
        let scale = (clip / f64::from(norm).max(1e-12)).min(1.0);
        let (correct1, correct2) = (1.0 - BETA1.powi(step as i32), 1.0 - BETA2.powi(step as i32));
        for (name, slot) in &mut self.slots {
            let Some(grad) = grads.get(name) else { continue };
            let (grad, rate) = ((grad * scale)?.detach(), rate * slot.share);
            slot.first = ((&slot.first * BETA1)? + (&grad * (1.0 - BETA1))?)?.detach();
            slot.second = ((&slot.second * BETA2)? + (grad.sqr()? * (1.0 - BETA2))?)?.detach();
            let direction = ((&slot.first / correct1)? / ((&slot.second / correct2)?.sqrt()? + EPS)?)?;
            let value = slot.var.as_tensor();
            let kept = if value.rank() == 2 { (value * (1.0 - rate * decay))? } else { value.clone() };
            slot.var.set(&(kept - (direction * rate)?)?.detach())?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gradient_is_cut_to_the_given_norm_and_the_temperature_starts_where_clips_does() {
        let shapes = [("a.weight", vec![2, 3]), ("log_temperature", vec![])];
        let shapes = shapes.into_iter().map(|(name, shape)| (name.to_owned(), Shape::from(shape))).collect();
        let mut parameters = Parameters::initialise(&shapes, 1, &Device::Cpu).unwrap();
        let start = parameters.tensors()["log_temperature"].to_scalar::<f32>().unwrap().exp();
        assert!((start - 1.0 / 0.07).abs() < 1e-3, "{start}");
        let loss = (&parameters.tensors()["a.weight"] * 30.0).unwrap().sum_all().unwrap();
        let gradients = parameters.gradients(&loss.backward().unwrap());
        let norm = parameters.step(&gradients, 1, 1e-3, 0.0, 0.5).unwrap();
        assert!((norm - 30.0 * 6f32.sqrt()).abs() < 1e-3, "{norm}");
        let first = parameters.saved()["first.a.weight"].sqr().unwrap().sum_all().unwrap();
        let cut = first.to_scalar::<f32>().unwrap().sqrt() / (1.0 - BETA1) as f32;
        assert!((cut - 0.5).abs() < 1e-5, "{cut}");
    }
}
