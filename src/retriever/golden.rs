//! Agreement with reference numbers: `tests/data/golden`, and more sets of the same layout where `CICERONE_GOLDEN` names
//! their folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::backbone::bert::{Bert, BertConfig};
use super::backbone::efficientnet::{self, EfficientNet, EfficientNetConfig};
use super::weights::Weights;

/// Largest difference from a reference number.
pub(super) const TOLERANCE: f32 = 1e-4;

/// Folders of one kind of set: ours, and those that are given.
pub(super) fn sets(kind: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(kind);
    let given = std::env::var_os("CICERONE_GOLDEN").map(|dir| PathBuf::from(dir).join(kind)).filter(|dir| dir.is_dir());
    [Some(own), given].into_iter().flatten().collect()
}

pub(super) fn io(dir: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(dir.join("io.safetensors"), &Device::Cpu).unwrap()
}

pub(super) fn ids(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::U32).unwrap()
}

#[track_caller]
pub(super) fn agree(what: &str, ours: &Tensor, reference: &Tensor) {
    assert_eq!(ours.dims(), reference.dims(), "{what}");
    let far = (ours - reference).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let far = far.to_scalar::<f32>().unwrap();
    assert!(far <= TOLERANCE, "{what}: off by {far}");
}

#[test]
fn bert_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in sets("bert") {
        let config: BertConfig = serde_json::from_slice(&fs_err::read(dir.join("config.json")).unwrap()).unwrap();
        let weights = Weights::load(&dir.join("model.safetensors"), &Device::Cpu).unwrap();
        let model = Bert::load(&config, &weights).unwrap();
        weights.finish(&[]).unwrap();
        let io = io(&dir);
        let (input, types, mask) = (ids(&io["input_ids"]), ids(&io["token_type_ids"]), ids(&io["attention_mask"]));
        agree("hidden.0", &model.embed(&input, Some(&types)).unwrap(), &io["hidden.0"]);
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let out = model.forward(&input, Some(&types), &mask, &layers).unwrap();
        // Positions of padding are compared as well: the reference computes them the same way.
        for (index, layer) in out.layers.iter().enumerate() {
            let name = format!("hidden.{}", index + 1);
            agree(&name, layer, &io[&name]);
        }
        agree("pooler", &out.pooled, &io["pooler"]);
    }
}

#[test]
fn efficientnet_lite0_gives_the_reference_maps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let io = io(&root.join("tests/data/golden/efficientnet_lite0"));
    let weights = Weights::load(&root.join("data/starter/efficientnet-lite0.safetensors"), &Device::Cpu).unwrap();
    let model = EfficientNet::load(&EfficientNetConfig { image_size: 68, max_grid: 99 }, &weights).unwrap();
    weights.finish(efficientnet::KNOWN_UNUSED).unwrap();
    let out = model.forward(&io["pixels"], &[4, 10, 15]).unwrap();
    for (layer, block) in out.layers.iter().zip([4, 10, 15]) {
        agree(&format!("block {block}"), layer, &io[&format!("block.{block}")]);
    }
    agree("pooled", &out.pooled, &io["pooled"]);
}

#[test]
fn weights_that_do_not_fit_are_listed_by_name() {
    let dir = &sets("bert")[0];
    let config: BertConfig = serde_json::from_slice(&fs_err::read(dir.join("config.json")).unwrap()).unwrap();
    let mut tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap();
    let moved = tensors.remove("pooler.dense.bias").unwrap();
    tensors.insert("pooler.dense.offset".into(), moved);
    tensors.insert("pooler.dense.weight".into(), Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap());
    let weights = Weights::from_tensors("here".into(), tensors, &Device::Cpu);
    Bert::load(&config, &weights).unwrap();
    let message = weights.finish(&[]).unwrap_err().to_string();
    assert!(message.contains("missing: pooler.dense.bias"), "{message}");
    assert!(message.contains("not used: pooler.dense.offset"), "{message}");
    assert!(message.contains("pooler.dense.weight [2, 2], expected [48, 48]"), "{message}");
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let nan = Tensor::new(&[1f32, f32::NAN], &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("a.weight", nan)]), file.path()).unwrap();
    let message = Weights::load(file.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("not finite in a.weight"), "{message}");
}
