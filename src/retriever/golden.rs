//! Agreement with reference numbers: `tests/data/golden`, and more sets of the same layout where `CICERONE_GOLDEN` names
//! their folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::backbone::{TextBatch, TextConfig};
use super::config::RetConfig;
use super::model::{Batch, Ret2};
use super::weights::Weights;

const TOLERANCE: f32 = 1e-4;

/// Folders of one kind of set: ours, if there is one, and those that are given.
pub fn sets(kind: &str) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let given = std::env::var_os("CICERONE_GOLDEN").map(PathBuf::from);
    [Some(own), given].into_iter().flatten().map(|dir| dir.join(kind)).filter(|dir| dir.is_dir()).collect()
}

/// Inputs and results of a set.
pub fn io(dir: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(dir.join("io.safetensors"), &Device::Cpu).unwrap()
}

/// Token numbers and masks as the towers take them.
pub fn ids(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::U32).unwrap()
}

/// Same shape, and every number within 1e-4.
#[track_caller]
pub fn agree(what: &str, ours: &Tensor, reference: &Tensor) {
    assert_eq!(ours.dims(), reference.dims(), "{what}");
    let far = (ours - reference).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let far = far.to_scalar::<f32>().unwrap();
    assert!(far <= TOLERANCE, "{what}: off by {far}");
}

/// The set's configuration, in our own form: the towers' kinds are implied there.
fn ret2(dir: &Path) -> (Ret2, HashMap<String, Tensor>) {
    let mut json: serde_json::Value = serde_json::from_slice(&fs_err::read(dir.join("config.json")).unwrap()).unwrap();
    json["text"]["kind"] = "clip".into();
    json["vision"]["kind"] = "clip".into();
    let config: RetConfig = serde_json::from_value(json).unwrap();
    assert!(matches!(config.text, TextConfig::Clip(_)));
    let weights = Weights::load(&dir.join("model.safetensors"), &Device::Cpu).unwrap();
    let model = Ret2::load(&config, &weights.pp("text_model"), &weights.pp("vision_model"), &weights).unwrap();
    weights.finish(&[]).unwrap();
    (model, io(dir))
}

fn batch(io: &HashMap<String, Tensor>, text: &[usize], vision: &[usize]) -> Batch {
    let rows = |t: &Tensor, rows: &[usize]| {
        let rows: Vec<u32> = rows.iter().map(|r| *r as u32).collect();
        t.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap()
    };
    let texts = || TextBatch {
        input_ids: ids(&rows(&io["input_ids"], text)),
        attention_mask: ids(&rows(&io["attention_mask"], text)),
    };
    Batch {
        text: (!text.is_empty()).then(|| (texts(), text.to_vec())),
        vision: (!vision.is_empty()).then(|| (rows(&io["pixel_values"], vision), vision.to_vec())),
        len: 3,
    }
}

#[test]
fn ret2_gives_every_gate_state_and_embedding() {
    for dir in sets("ret2") {
        let (model, io) = ret2(&dir);
        let all = [0, 1, 2];
        for (case, text, vision) in
            [("both", &all[..], &all[..]), ("text_only", &all[..], &[][..]), ("image_only", &[][..], &all[..])]
        {
            let batch = batch(&io, text, vision);
            agree(case, &model.encode(&batch).unwrap(), &io[case]);
            let text = batch.text.map(|(text, _)| model.text_features(&text).unwrap());
            let vision = batch.vision.map(|(pixels, _)| model.vision_features(&pixels).unwrap());
            let (_, steps) = model.head().trace(text.as_ref(), vision.as_ref()).unwrap();
            for (index, step) in steps.iter().enumerate() {
                for (name, ours) in [
                    ("forget", &step.forget),
                    ("state", &step.state),
                    ("text_input", &step.text_input),
                    ("vision_input", &step.vision_input),
                ] {
                    agree(&format!("{case} step {index} {name}"), ours, &io[&format!("{case}.step{index}.{name}")]);
                }
            }
        }
    }
}

/// In the set `mixed`, item 1 lacks its text and item 2 its picture; grouping must give what masking gives.
#[test]
fn ret2_groups_items_that_lack_a_modality() {
    for dir in sets("ret2") {
        let (model, io) = ret2(&dir);
        let mixed = model.encode(&batch(&io, &[0, 2], &[0, 1])).unwrap();
        agree("mixed", &mixed, &io["mixed"]);
    }
}

#[test]
fn a_batch_of_three_equals_single_runs() {
    for dir in sets("ret2") {
        let (model, io) = ret2(&dir);
        for row in 0..3 {
            let mut one = batch(&io, &[row], &[row]);
            one.len = 1;
            one.text.as_mut().unwrap().1 = vec![0];
            one.vision.as_mut().unwrap().1 = vec![0];
            agree("single", &model.encode(&one).unwrap(), &io["both"].narrow(0, row, 1).unwrap());
        }
    }
}

#[test]
fn an_item_without_text_and_picture_is_an_error() {
    let (model, io) = ret2(&sets("ret2")[0]);
    assert!(model.encode(&batch(&io, &[0, 1], &[0])).is_err());
}
