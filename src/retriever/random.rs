//! Models and batches of random numbers, for measuring speed without a checkpoint. What they compute means nothing.

use candle_core::{DType, Device, Shape, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::backbone::TextBatch;
use super::config::RetConfig;
use super::error::Result;
use super::model::{Batch, Ret};
use super::weights::Weights;

/// Numbers of a piece, which has a seed of its own.
const PIECE: usize = 1 << 16;

/// A model of the architecture whose matrices are random, whose scales are 1 and whose shifts are 0.
///
/// # Errors
/// The engine's own.
pub fn model(config: &RetConfig, device: &Device) -> Result<Ret> {
    let weights = Weights::made("random weights".into(), device, tensor);
    Ret::load(config, &weights.pp("text_model"), &weights.pp("vision_model"), &weights)
}

/// The same for the same name and shape.
fn tensor(name: &str, shape: &Shape, device: &Device) -> candle_core::Result<Tensor> {
    if shape.rank() <= 1 {
        let shift = ["bias", "mean"].iter().any(|shift| name.ends_with(shift));
        return if shift { Tensor::zeros(shape, DType::F32, device) } else { Tensor::ones(shape, DType::F32, device) };
    }
    let bound = (shape.elem_count() as f32 / shape.dims()[0] as f32).powf(-0.5);
    let seed = blake3::hash(name.as_bytes());
    let mut values = vec![0f32; shape.elem_count()];
    values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
        let mut seed = *seed.as_bytes();
        seed[..8].copy_from_slice(&(piece as u64).to_le_bytes());
        let mut rng = StdRng::from_seed(seed);
        values.iter_mut().for_each(|value| *value = rng.random_range(-bound..bound));
    });
    Tensor::from_vec(values, shape, device)
}

/// `len` items, each with a text of `tokens` tokens and a picture.
///
/// # Errors
/// The engine's own.
pub fn batch(config: &RetConfig, len: usize, tokens: usize, seed: u64, device: &Device) -> Result<Batch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (height, width) = config.picture_size();
    let pixels: Vec<f32> = (0..len * 3 * height * width).map(|_| rng.random_range(-2.0..2.0)).collect();
    let vocabulary = config.text.vocabulary() as u32;
    let ids: Vec<u32> = (0..len * tokens).map(|_| rng.random_range(0..vocabulary)).collect();
    let text = TextBatch {
        input_ids: Tensor::from_vec(ids, (len, tokens), device)?,
        attention_mask: Tensor::ones((len, tokens), DType::U32, device)?,
    };
    let rows: Vec<usize> = (0..len).collect();
    let pixels = Tensor::from_vec(pixels, (len, 3, height, width), device)?;
    Ok(Batch { text: Some((text, rows.clone())), vision: Some((pixels, rows)), len })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::retriever::model::Side;
    use crate::retriever::tiny;

    #[test]
    fn a_random_model_of_any_generation_gives_unit_vectors() {
        let dir = tempfile::tempdir().unwrap();
        for settings in [serde_json::json!({}), tiny::first_generation()] {
            let config = RetConfig::load(&tiny::write_with(dir.path(), settings).config).unwrap();
            let model = model(&config, &Device::Cpu).unwrap();
            let batch = batch(&config, 2, 5, 1, &Device::Cpu).unwrap();
            let found = model.encode(Side::Document, &batch).unwrap();
            assert_eq!(found.dims(), [2, config.state_tokens, config.output_dim]);
            let norms = found.sqr().unwrap().sum(2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(norms.iter().all(|norm| (norm - 1.0).abs() < 1e-5), "{norms:?}");
        }
    }
}
