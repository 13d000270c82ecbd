//! Where a run stands: one safetensors file, replaced atomically, with the step and the options in its metadata.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::optimizer::Parameters;
use super::{TrainError, TrainOptions};
use crate::io::atomic::write_atomic;

const STEP: &str = "step";
const OPTIONS: &str = "options";

/// What of the options decides the numbers; a checkpoint fits only a run with the same.
fn identity(options: &TrainOptions, model: &str) -> Result<String, TrainError> {
    let same = TrainOptions {
        out: Default::default(),
        data: Default::default(),
        jsonl: None,
        features: None,
        checkpoint_every: 0,
        eval_every: 0,
        ..options.clone()
    };
    Ok(format!("{model} {}", serde_json::to_string(&same).map_err(std::io::Error::from)?))
}

/// Writes values, moments and the number of finished steps. `model` identifies architecture and data.
pub fn save(
    path: &Path,
    parameters: &Parameters,
    step: usize,
    options: &TrainOptions,
    model: &str,
) -> Result<(), TrainError> {
    let facts = HashMap::from([(STEP.to_owned(), step.to_string()), (OPTIONS.to_owned(), identity(options, model)?)]);
    let bytes = safetensors::serialize(parameters.saved(), Some(facts)).map_err(std::io::Error::other)?;
    Ok(write_atomic(path, &bytes)?)
}

/// Takes up a checkpoint and says how many steps it has finished; 0 where there is none.
///
/// # Errors
/// A file that is damaged, or of a run with other options.
pub fn resume(
    path: &Path,
    parameters: &mut Parameters,
    options: &TrainOptions,
    model: &str,
) -> Result<usize, TrainError> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let bad = |reason: String| TrainError::Data { path: path.to_owned(), reason };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
    let facts = header.metadata().clone().unwrap_or_default();
    if facts.get(OPTIONS) != Some(&identity(options, model)?) {
        let reason = "seed, batch, steps, views, rates, data or architecture".to_owned();
        return Err(TrainError::OtherRun { path: path.to_owned(), reason });
    }
    let step = facts.get(STEP).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no step".into()))?;
    let saved = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    parameters.restore(&saved).ok_or_else(|| bad("tensors that do not fit the model".into()))?;
    Ok(step)
}

/// Writes what was trained, without the temperature, which only training knows: a head alone as f16, or a `whole`
/// retriever as f32, so that it gives what training saw. `constants` are tensors of the towers that did not learn.
pub fn export(
    path: &Path,
    parameters: &Parameters,
    whole: bool,
    constants: &HashMap<String, Tensor>,
) -> Result<(), TrainError> {
    let mut tensors: HashMap<String, Tensor> = parameters.tensors();
    tensors.remove("log_temperature");
    let dtype = if whole { DType::F32 } else { DType::F16 };
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(dtype)?;
    }
    tensors.extend(constants.clone());
    let bytes = safetensors::serialize(tensors, None).map_err(std::io::Error::other)?;
    Ok(write_atomic(path, &bytes)?)
}
