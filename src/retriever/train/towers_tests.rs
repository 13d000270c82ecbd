//! Gradients through the towers, and runs in which they learn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor, Var};
use serde_json::{Value, json};

use super::data::Shown;
use super::run::Run;
use super::tests::{data, jsonl, options, resumes_exactly};
use super::{TrainEvent, TrainOptions, checkpoint, train};
use crate::retriever::backbone::{
    LayerFeatures, TextBackbone, TextBatch, TextConfig, VisionBackbone, VisionConfig, Wanted,
};
use crate::retriever::encoder::Encoder;
use crate::retriever::model::Side;
use crate::retriever::weights::Weights;
use crate::retriever::{Item, RetrieverFiles, tiny};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

fn config(path: &Path, part: Option<&str>, kind: &str) -> Value {
    let mut json: Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
    if let Some(part) = part {
        json = json[part].take();
    }
    json["kind"] = kind.into();
    json
}

/// One number of all features, different for every one of them.
fn number(features: &LayerFeatures) -> Tensor {
    let parts = features.layers.iter().chain(&features.pooled).map(|part| {
        let flat = part.flatten_all().unwrap();
        let at = Tensor::arange(0f32, flat.dims()[0] as f32, &Device::Cpu).unwrap();
        (flat * at.sin().unwrap()).unwrap().sum_all().unwrap()
    });
    parts.reduce(|sum, part| (sum + part).unwrap()).unwrap()
}

/// The gradients of `names` are what a step along them changes; its length is a `share` of the tensor's.
#[track_caller]
fn leads_to(names: &[&str], path: &Path, share: f32, forward: impl Fn(&Weights) -> LayerFeatures) {
    let file = Weights::load(path, &Device::Cpu).unwrap();
    forward(&file);
    let tensors = file.taken().unwrap();
    let vars: HashMap<String, Var> =
        tensors.iter().map(|(name, tensor)| (name.clone(), Var::from_tensor(tensor).unwrap())).collect();
    let of = |tensors: HashMap<String, Tensor>| {
        number(&forward(&Weights::from_tensors("a test".into(), tensors, &Device::Cpu)))
    };
    let live = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let grads = of(live).backward().unwrap();
    for name in names {
        let grad = grads.get(&vars[*name]).unwrap_or_else(|| panic!("{name}: no gradient"));
        let norm = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        let value = &tensors[*name];
        let length = value.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        let step = f64::from(share * length.max(0.1));
        let along = (grad / f64::from(norm)).unwrap();
        let moved = |step: f64| {
            let mut tensors = tensors.clone();
            tensors.insert((*name).to_owned(), (value + (&along * step).unwrap()).unwrap());
            f64::from(of(tensors).to_scalar::<f32>().unwrap())
        };
        let found = (moved(step) - moved(-step)) / (2.0 * step);
        let expected = f64::from(norm);
        assert!(expected > 1e-3 && (found / expected - 1.0).abs() < 0.05, "{name}: {found}, expected {expected}");
    }
}

fn pixels(side: usize) -> Tensor {
    let at = Tensor::arange(0f32, (2 * 3 * side * side) as f32, &Device::Cpu).unwrap();
    at.affine(0.37, 0.1).unwrap().sin().unwrap().reshape((2, 3, side, side)).unwrap()
}

#[track_caller]
fn picture_tower(json: &Value, path: &Path, names: &[&str]) {
    let config = VisionConfig::read(json).unwrap();
    let layers: Vec<usize> = (0..config.blocks()).collect();
    let pixels = pixels(config.image_size());
    // EfficientNet's activations have corners, over which a long step leads.
    let share = if matches!(config, VisionConfig::EfficientnetLite0(_)) { 1e-4 } else { 2e-3 };
    leads_to(names, path, share, |weights| {
        let tower = VisionBackbone::load(&config, weights, true).unwrap();
        tower.forward(&pixels, &Wanted { layers: &layers, pooled: true }).unwrap()
    });
}

#[track_caller]
fn text_tower(json: &Value, path: &Path, names: &[&str]) {
    let config = TextConfig::read(json).unwrap();
    let batch = TextBatch {
        input_ids: Tensor::new(&[[1u32, 5, 7, 2], [3, 4, 2, 0]], &Device::Cpu).unwrap(),
        attention_mask: Tensor::new(&[[1u32, 1, 1, 1], [1, 1, 1, 0]], &Device::Cpu).unwrap(),
    };
    let layers: Vec<usize> = (0..config.blocks()).collect();
    leads_to(names, path, 2e-3, |weights| {
        let tower = TextBackbone::load(&config, weights, true).unwrap();
        tower.forward(&batch, &Wanted { layers: &layers, pooled: true }).unwrap()
    });
}

#[test]
fn gradients_reach_the_first_block_of_bert() {
    let json = config(&golden("bert/config.json"), None, "bert");
    let names = [
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.attention.output.LayerNorm.weight",
        "encoder.layer.0.intermediate.dense.bias",
        "embeddings.word_embeddings.weight",
        "pooler.dense.weight",
    ];
    text_tower(&json, &golden("bert/model.safetensors"), &names);
}

#[test]
fn gradients_reach_the_first_block_of_both_clip_towers() {
    let dir = golden("clip_quick_gelu");
    let block = ["encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.0.mlp.fc1.weight"];
    let of = |tower: &str, first: &str| {
        block.iter().map(|name| format!("{tower}.{name}")).chain([format!("{tower}.{first}")]).collect::<Vec<_>>()
    };
    let text = of("text_model", "embeddings.token_embedding.weight");
    let json = config(&dir.join("config.json"), Some("text"), "clip");
    text_tower(&json, &dir.join("text.safetensors"), &text.iter().map(String::as_str).collect::<Vec<_>>());
    let vision = of("vision_model", "embeddings.patch_embedding.weight");
    let json = config(&dir.join("config.json"), Some("vision"), "clip");
    picture_tower(&json, &dir.join("vision.safetensors"), &vision.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn gradients_reach_the_first_block_of_siglip_and_its_pooling_head() {
    let names = [
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.head.attention.in_proj_weight",
        "vision_model.head.probe",
    ];
    let json = config(&golden("siglip_vision/config.json"), None, "siglip");
    picture_tower(&json, &golden("siglip_vision/model.safetensors"), &names);
}

#[test]
fn gradients_reach_the_first_block_of_dinov2_and_its_grid() {
    let names = [
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.layer_scale1.lambda1",
        "embeddings.position_embeddings",
        "embeddings.cls_token",
    ];
    let json = config(&golden("dinov2/config.json"), None, "dinov2");
    picture_tower(&json, &golden("dinov2/model.safetensors"), &names);
}

#[test]
fn gradients_reach_the_first_block_of_efficientnet() {
    let names = [
        "_conv_stem.weight",
        "_blocks.0._depthwise_conv.weight",
        "_blocks.0._bn1.bias",
        "_blocks.0._project_conv.weight",
        "_blocks.1._expand_conv.weight",
        "_conv_head.weight",
    ];
    let json = json!({ "kind": "efficientnet_lite0", "image_size": 33, "max_grid": 4 });
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter/efficientnet-lite0.safetensors");
    picture_tower(&json, &starter, &names);
}

/// What a run's head and towers make of its documents, against what the exported file gives.
#[track_caller]
fn exported_as_trained(options: &TrainOptions, files: &RetrieverFiles) {
    let never = AtomicBool::new(false);
    let report = train(options, files, &never, &mut |_| ()).unwrap();
    assert!(report.whole);
    let weights = report.weights;
    let whole = RetrieverFiles {
        config: report.architecture,
        text_weights: weights.clone(),
        vision_weights: weights.clone(),
        weights,
        ..files.clone()
    };
    let encoder = Encoder::load(&whole).unwrap();
    let mut run = Run::open(options, files, &never, &mut |_| ()).unwrap();
    let saved = options.out.join("checkpoint.safetensors");
    checkpoint::resume(&saved, &mut run.parameters, options, &run.identity).unwrap();
    let shown: Vec<Shown> = run.data.documents.iter().map(|document| document.shown).collect();
    let trained = run.learner.embed_all(&shown).unwrap().squeeze(1).unwrap().to_vec2::<f32>().unwrap();
    let items = shown.iter().map(|shown| Item {
        text: shown.text.map(|row| run.data.texts[row].clone()),
        image: shown.picture.map(|record| run.data.album.open(record).unwrap()),
    });
    let loaded = encoder.encode(Side::Document, &items.collect::<Vec<_>>()).unwrap();
    for (loaded, trained) in loaded.iter().zip(&trained) {
        let far = loaded.vectors().flatten().zip(trained).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        // Features of a tower that stayed frozen are kept in half precision.
        let most = if options.unfreeze_vision { 1e-5 } else { 2e-3 };
        assert!(far < most, "{far}");
    }
}

#[test]
fn an_exported_retriever_gives_what_training_saw() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    for (run, text, vision) in [("both", true, true), ("text", true, false), ("vision", false, true)] {
        let options =
            TrainOptions { unfreeze_text: text, unfreeze_vision: vision, ..options(dir.path(), &dir.path().join(run)) };
        exported_as_trained(&options, &files);
    }
}

#[test]
fn towers_that_learn_resume_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let options = TrainOptions { unfreeze_text: true, unfreeze_vision: true, ..jsonl(dir.path()) };
    let options = TrainOptions { batch: 2, hard_negatives: 1, mine_every: 5, ..options };
    resumes_exactly(dir.path(), &options, &[3, 5]);
}

#[test]
fn a_loss_falls_faster_where_the_towers_learn_and_their_first_blocks_move() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let frozen = TrainOptions { steps: 40, learning_rate: 5e-4, ..jsonl(dir.path()) };
    let learning = TrainOptions {
        unfreeze_text: true,
        unfreeze_vision: true,
        tower_rate: Some(5e-4),
        out: dir.path().join("learning"),
        ..frozen.clone()
    };
    let last = |options: &TrainOptions| {
        let mut losses = Vec::new();
        let report = train(options, &files, &AtomicBool::new(false), &mut |event| {
            if let TrainEvent::Step { metrics, .. } = event {
                losses.push(metrics.loss);
            }
        })
        .unwrap();
        (losses[..5].iter().sum::<f32>(), losses[35..].iter().sum::<f32>(), report.weights)
    };
    let (_, with_frozen, _) = last(&frozen);
    let (first, with_learning, weights) = last(&learning);
    assert!(with_learning < 0.8 * first && with_learning < with_frozen, "{first}, {with_learning}, {with_frozen}");
    let trained = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    for (tower, path, name) in [
        ("text_model", &files.text_weights, "encoder.layer.0.attention.self.query.weight"),
        ("vision_model", &files.vision_weights, "vision_model.encoder.layers.0.self_attn.q_proj.weight"),
    ] {
        let before = candle_core::safetensors::load(path, &Device::Cpu).unwrap()[name].to_dtype(DType::F32).unwrap();
        let moved = (&trained[&format!("{tower}.{name}")] - before).unwrap().abs().unwrap();
        assert!(moved.max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-4, "{tower}");
    }
}
