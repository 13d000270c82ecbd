//! The towers against reference numbers, and the mistakes that are easily made with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::bert::Bert;
use super::clip::{ClipText, ClipVision};
use super::dinov2::Dinov2;
use super::efficientnet::{self, EfficientNet, EfficientNetConfig};
use super::siglip::Siglip;
use super::{LayerFeatures, TextBackbone, TextBatch, TextConfig, VisionBackbone, VisionConfig, Wanted};
use crate::retriever::golden::{agree, ids, io, sets};
use crate::retriever::weights::Weights;

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// A set's configuration, its kind added.
fn described(mut json: Value, kind: &str) -> Value {
    json["kind"] = kind.into();
    json
}

fn weights(dir: &Path, file: &str) -> Weights {
    Weights::load(&dir.join(file), &Device::Cpu).unwrap()
}

/// A file's tensors in f32.
fn tensors(dir: &Path, file: &str) -> HashMap<String, Tensor> {
    let tensors = candle_core::safetensors::load(dir.join(file), &Device::Cpu).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap())).collect()
}

fn of(tensors: HashMap<String, Tensor>) -> Weights {
    Weights::from_tensors("here".into(), tensors, &Device::Cpu)
}

/// Every hidden state (`name.0` is what the blocks start from) and the pooled vector.
#[track_caller]
fn agree_on_all(io: &HashMap<String, Tensor>, name: &str, pooler: &str, embedded: &Tensor, out: &LayerFeatures) {
    agree(&format!("{name}.0"), embedded, &io[&format!("{name}.0")]);
    for (index, layer) in out.layers.iter().enumerate() {
        let name = format!("{name}.{}", index + 1);
        agree(&name, layer, &io[&name]);
    }
    assert!(!io.contains_key(&format!("{name}.{}", out.layers.len() + 1)));
    agree(pooler, out.pooled().unwrap(), &io[pooler]);
}

/// Our own set has OpenAI's activation; the towers of the set `ret2` have the other one.
fn clip_sets() -> Vec<PathBuf> {
    let sets = [sets("clip_quick_gelu"), sets("clip_gelu")].concat();
    assert!(!sets.is_empty());
    sets
}

fn clip_text(dir: &Path) -> (ClipText, usize) {
    let TextConfig::Clip(config) =
        TextConfig::read(&described(json_of(&dir.join("config.json"))["text"].take(), "clip")).unwrap()
    else {
        panic!("another tower")
    };
    let weights = weights(dir, "text.safetensors");
    let model = ClipText::load(&config, &weights).unwrap();
    weights.finish(&[]).unwrap();
    (model, config.num_hidden_layers)
}

#[test]
fn clip_text_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in clip_sets() {
        let (model, blocks) = clip_text(&dir);
        let io = io(&dir);
        let (input, mask) = (ids(&io["input_ids"]), ids(&io["attention_mask"]));
        let layers: Vec<usize> = (0..blocks).collect();
        let out = model.forward(&input, &mask, &Wanted { layers: &layers, pooled: true }).unwrap();
        agree_on_all(&io, "text_hidden", "text_pooler", &model.embed(&input).unwrap(), &out);
    }
}

#[test]
fn clip_vision_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in clip_sets() {
        let config = described(json_of(&dir.join("config.json"))["vision"].take(), "clip");
        let VisionConfig::Clip(config) = VisionConfig::read(&config).unwrap() else { panic!("another tower") };
        let weights = weights(&dir, "vision.safetensors");
        let model = ClipVision::load(&config, &weights).unwrap();
        weights.finish(&[]).unwrap();
        let io = io(&dir);
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let out = model.forward(&io["pixel_values"], &Wanted { layers: &layers, pooled: true }).unwrap();
        agree_on_all(&io, "vision_hidden", "vision_pooler", &model.embed(&io["pixel_values"]).unwrap(), &out);
    }
}

#[test]
fn siglip_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in sets("siglip_vision") {
        let config = described(json_of(&dir.join("config.json")), "siglip");
        let VisionConfig::Siglip(config) = VisionConfig::read(&config).unwrap() else { panic!("another tower") };
        let weights = weights(&dir, "model.safetensors");
        let model = Siglip::load(&config, &weights, true).unwrap();
        weights.finish(&[]).unwrap();
        let io = io(&dir);
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let out = model.forward(&io["pixel_values"], &Wanted { layers: &layers, pooled: true }).unwrap();
        agree_on_all(&io, "hidden", "pooler", &model.embed(&io["pixel_values"]).unwrap(), &out);
    }
}

/// The set's pictures are smaller than its grid of positions.
#[test]
fn dinov2_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in sets("dinov2") {
        let config = described(json_of(&dir.join("config.json")), "dinov2");
        let VisionConfig::Dinov2(config) = VisionConfig::read(&config).unwrap() else { panic!("another tower") };
        let weights = weights(&dir, "model.safetensors");
        let model = Dinov2::load(&config, &weights).unwrap();
        let known_unused = VisionConfig::Dinov2(config.clone()).known_unused();
        weights.finish(known_unused).unwrap();
        let io = io(&dir);
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let out = model.forward(&io["pixel_values"], &Wanted { layers: &layers, pooled: true }).unwrap();
        agree_on_all(&io, "hidden", "pooler", &model.embed(&io["pixel_values"]).unwrap(), &out);
    }
}

#[test]
fn bert_gives_every_hidden_state_and_the_pooled_vector() {
    for dir in sets("bert") {
        let config = described(json_of(&dir.join("config.json")), "bert");
        let TextConfig::Bert(config) = TextConfig::read(&config).unwrap() else { panic!("another tower") };
        let weights = weights(&dir, "model.safetensors");
        let model = Bert::load(&config, &weights, true).unwrap();
        weights.finish(&[]).unwrap();
        let io = io(&dir);
        let (input, types, mask) = (ids(&io["input_ids"]), ids(&io["token_type_ids"]), ids(&io["attention_mask"]));
        assert!(types.to_vec2::<u32>().unwrap().concat().contains(&2), "the set has three token types");
        let layers: Vec<usize> = (0..config.num_hidden_layers).collect();
        let wanted = Wanted { layers: &layers, pooled: true };
        // Positions of padding are compared as well: the reference computes them the same way.
        let out = model.forward(&input, Some(&types), &mask, &wanted).unwrap();
        agree_on_all(&io, "hidden", "pooler", &model.embed(&input, Some(&types)).unwrap(), &out);
    }
}

#[test]
fn efficientnet_lite0_gives_the_reference_maps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let io = io(&root.join("tests/data/golden/efficientnet_lite0"));
    let weights = weights(&root.join("data/starter"), "efficientnet-lite0.safetensors");
    let model = EfficientNet::load(&EfficientNetConfig { image_size: 68, max_grid: 99 }, &weights).unwrap();
    weights.finish(efficientnet::KNOWN_UNUSED).unwrap();
    let out = model.forward(&io["pixels"], &Wanted { layers: &[4, 10, 15], pooled: true }).unwrap();
    for (layer, block) in out.layers.iter().zip([4, 10, 15]) {
        agree(&format!("block {block}"), layer, &io[&format!("block.{block}")]);
    }
    agree("pooled", out.pooled().unwrap(), &io["pooled"]);
}

/// Towers of every architecture over the golden sets' weights, with a batch each.
enum Tower {
    Text(TextBackbone, TextBatch),
    Vision(VisionBackbone, Tensor),
}

impl Tower {
    fn forward(&self, wanted: &Wanted) -> crate::retriever::error::Result<LayerFeatures> {
        match self {
            Self::Text(tower, batch) => tower.forward(batch, wanted),
            Self::Vision(tower, pixels) => tower.forward(pixels, wanted),
        }
    }
}

/// Name, tensors, prefix of the blocks, and what makes a tower of tensors.
type Case = (&'static str, HashMap<String, Tensor>, &'static str, Box<dyn Fn(HashMap<String, Tensor>) -> Tower>);

fn towers() -> Vec<Case> {
    towers_with(None)
}

/// With another epsilon in their configuration.
fn towers_with(eps: Option<f64>) -> Vec<Case> {
    let described = |json: Value, kind: &str| {
        let mut json = described(json, kind);
        if let Some(eps) = eps {
            json["layer_norm_eps"] = eps.into();
        }
        json
    };
    let mut cases: Vec<Case> = Vec::new();
    let text = |kind: &str, dir: &Path, json: Value| -> Box<dyn Fn(HashMap<String, Tensor>) -> Tower> {
        let config = TextConfig::read(&described(json, kind)).unwrap();
        let io = io(dir);
        let batch = TextBatch { input_ids: ids(&io["input_ids"]), attention_mask: ids(&io["attention_mask"]) };
        Box::new(move |tensors| Tower::Text(TextBackbone::load(&config, &of(tensors), true).unwrap(), batch.clone()))
    };
    let vision = |kind: &str, dir: &Path, json: Value| -> Box<dyn Fn(HashMap<String, Tensor>) -> Tower> {
        let config = VisionConfig::read(&described(json, kind)).unwrap();
        let pixels = io(dir).remove("pixel_values").unwrap();
        Box::new(move |tensors| {
            Tower::Vision(VisionBackbone::load(&config, &of(tensors), true).unwrap(), pixels.clone())
        })
    };
    let dir = &sets("bert")[0];
    let config = json_of(&dir.join("config.json"));
    cases.push(("bert", tensors(dir, "model.safetensors"), "encoder.layer", text("bert", dir, config)));
    let dir = &sets("clip_quick_gelu")[0];
    let config = json_of(&dir.join("config.json"));
    let blocks = ["text_model.encoder.layers", "vision_model.encoder.layers"];
    cases.push(("clip text", tensors(dir, "text.safetensors"), blocks[0], text("clip", dir, config["text"].clone())));
    let make = vision("clip", dir, config["vision"].clone());
    cases.push(("clip vision", tensors(dir, "vision.safetensors"), blocks[1], make));
    let dir = &sets("siglip_vision")[0];
    let make = vision("siglip", dir, json_of(&dir.join("config.json")));
    cases.push(("siglip", tensors(dir, "model.safetensors"), blocks[1], make));
    let dir = &sets("dinov2")[0];
    let make = vision("dinov2", dir, json_of(&dir.join("config.json")));
    cases.push(("dinov2", tensors(dir, "model.safetensors"), "encoder.layer", make));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pixels = io(&root.join("tests/data/golden/efficientnet_lite0")).remove("pixels").unwrap();
    let config = VisionConfig::EfficientnetLite0(EfficientNetConfig { image_size: 68, max_grid: 99 });
    let make = Box::new(move |tensors| {
        Tower::Vision(VisionBackbone::load(&config, &of(tensors), true).unwrap(), pixels.clone())
    });
    let all = tensors(&root.join("data/starter"), "efficientnet-lite0.safetensors");
    cases.push(("efficientnet", all, "_blocks", make));
    cases
}

/// Blocks from the third on get weights of a type in which nothing here computes, so that running one fails.
fn broken_from_the_third(tensors: &HashMap<String, Tensor>, blocks: &str) -> HashMap<String, Tensor> {
    let deep = |name: &str| {
        let index = name.strip_prefix(blocks).and_then(|rest| rest[1..].split('.').next()?.parse::<usize>().ok());
        index.is_some_and(|index| index >= 2)
    };
    tensors
        .iter()
        .map(|(name, tensor)| {
            let dtype = if deep(name) { DType::F64 } else { tensor.dtype() };
            (name.clone(), tensor.to_dtype(dtype).unwrap())
        })
        .collect()
}

#[test]
fn blocks_after_the_last_wanted_one_do_not_run_unless_the_pooled_vector_is_wanted() {
    for (name, tensors, blocks, make) in towers() {
        let broken = make(broken_from_the_third(&tensors, blocks));
        let whole = make(tensors);
        let early = broken.forward(&Wanted { layers: &[0, 1], pooled: false }).unwrap();
        assert!(early.pooled.is_none() && early.layers.len() == 2, "{name}");
        let all = whole.forward(&Wanted { layers: &[0, 1, 2], pooled: true }).unwrap();
        for (early, all) in early.layers.iter().zip(&all.layers) {
            agree(name, early, all);
        }
        assert!(broken.forward(&Wanted { layers: &[0, 1, 2], pooled: false }).is_err(), "{name}");
        assert!(broken.forward(&Wanted { layers: &[0, 1], pooled: true }).is_err(), "{name}");
        let pooled = whole.forward(&Wanted { layers: &[], pooled: true }).unwrap();
        assert!(pooled.layers.is_empty(), "{name}");
        agree(name, pooled.pooled().unwrap(), all.pooled().unwrap());
    }
}

#[test]
fn an_item_gets_in_a_batch_what_it_gets_alone() {
    for (name, tensors, _, make) in towers() {
        let wanted = Wanted { layers: &[0, 2], pooled: true };
        let tower = make(tensors);
        let all = tower.forward(&wanted).unwrap();
        let rows = all.batch().unwrap();
        for row in 0..rows {
            // A text alone has no padding.
            let (alone, tokens) = match &tower {
                Tower::Text(tower, batch) => {
                    let mask = batch.attention_mask.narrow(0, row, 1).unwrap();
                    let tokens = mask.to_vec2::<u32>().unwrap()[0].iter().sum::<u32>() as usize;
                    let cut = |t: &Tensor| t.narrow(0, row, 1).unwrap().narrow(1, 0, tokens).unwrap();
                    let one =
                        TextBatch { input_ids: cut(&batch.input_ids), attention_mask: cut(&batch.attention_mask) };
                    (tower.forward(&one, &wanted).unwrap(), Some(tokens))
                }
                Tower::Vision(tower, pixels) => {
                    (tower.forward(&pixels.narrow(0, row, 1).unwrap(), &wanted).unwrap(), None)
                }
            };
            agree(name, alone.pooled().unwrap(), &all.pooled().unwrap().narrow(0, row, 1).unwrap());
            for (alone, all) in alone.layers.iter().zip(&all.layers) {
                let all = all.narrow(0, row, 1).unwrap();
                agree(name, alone, &all.narrow(1, 0, tokens.unwrap_or(all.dim(1).unwrap())).unwrap());
            }
        }
    }
}

/// As weights of half precision are held on a device that computes in it. (EfficientNet's kernels are the CPU's alone.)
#[test]
fn towers_of_half_precision_give_nearly_the_same_in_single() {
    for (name, tensors, _, make) in towers().into_iter().filter(|(name, ..)| *name != "efficientnet") {
        let half = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(DType::F16).unwrap())).collect();
        let wanted = Wanted { layers: &[3], pooled: true };
        let (half, single) = (make(half).forward(&wanted).unwrap(), make(tensors).forward(&wanted).unwrap());
        let pairs = [(&half.layers[0], &single.layers[0]), (half.pooled().unwrap(), single.pooled().unwrap())];
        for (half, single) in pairs {
            let far = (half - single).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(far > 0.0 && far < 0.05, "{name}: off by {far}");
        }
    }
}

/// The tower is causal, so a text that goes on after its end pools to what its beginning alone does.
#[test]
fn clip_pools_at_the_first_end_token_or_for_the_historic_value_at_the_largest() {
    let dir = &sets("clip_quick_gelu")[0];
    let pooled = |eos: u32, text: &[u32]| {
        let mut config = described(json_of(&dir.join("config.json"))["text"].take(), "clip");
        config["eos_token_id"] = eos.into();
        let config = TextConfig::read(&config).unwrap();
        let tower = TextBackbone::load(&config, &weights(dir, "text.safetensors"), true).unwrap();
        let input_ids = Tensor::new(text, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let batch = TextBatch { attention_mask: input_ids.ones_like().unwrap(), input_ids };
        tower.forward(&batch, &Wanted { layers: &[], pooled: true }).unwrap().pooled().unwrap().clone()
    };
    agree("first end token", &pooled(50, &[40, 7, 50, 50, 98]), &pooled(50, &[40, 7, 50]));
    agree("largest", &pooled(2, &[40, 7, 97, 2, 97, 2]), &pooled(2, &[40, 7, 97]));
}

#[test]
fn bert_below_another_name_and_without_pooler_loads() {
    let dir = &sets("bert")[0];
    let TextConfig::Bert(config) = TextConfig::read(&described(json_of(&dir.join("config.json")), "bert")).unwrap()
    else {
        panic!("another tower")
    };
    // ColBERT: `bert.*`, and the projection of its token vectors beside it.
    let renamed = tensors(dir, "model.safetensors").into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor));
    let mut colbert: HashMap<String, Tensor> = renamed.collect();
    colbert.insert("linear.weight".into(), Tensor::zeros((16, 48), DType::F32, &Device::Cpu).unwrap());
    colbert.insert(
        "bert.embeddings.position_ids".into(),
        Tensor::arange(0i64, 32, &Device::Cpu).unwrap().unsqueeze(0).unwrap(),
    );
    let known_unused = TextConfig::Bert(config.clone()).known_unused();
    let colbert = of(colbert);
    let model = Bert::load(&config, &colbert, true).unwrap();
    colbert.finish(known_unused).unwrap();
    let io = io(dir);
    let (input, types, mask) = (ids(&io["input_ids"]), ids(&io["token_type_ids"]), ids(&io["attention_mask"]));
    let out = model.forward(&input, Some(&types), &mask, &Wanted { layers: &[3], pooled: true }).unwrap();
    agree("hidden.4", &out.layers[0], &io["hidden.4"]);
    agree("pooler", out.pooled().unwrap(), &io["pooler"]);

    let mut bare = tensors(dir, "model.safetensors");
    bare.retain(|name, _| !name.starts_with("pooler"));
    let weights = of(bare.clone());
    let model = Bert::load(&config, &weights, false).unwrap();
    weights.finish(&[]).unwrap();
    let out = model.forward(&input, Some(&types), &mask, &Wanted { layers: &[3], pooled: false }).unwrap();
    agree("hidden.4", &out.layers[0], &io["hidden.4"]);
    let refused = model.forward(&input, None, &mask, &Wanted { layers: &[3], pooled: true }).unwrap_err();
    assert!(refused.to_string().contains("have no pooler"), "{refused}");
    let weights = of(bare);
    Bert::load(&config, &weights, true).unwrap();
    let message = weights.finish(&[]).unwrap_err().to_string();
    assert!(message.contains("missing: pooler.dense.bias, pooler.dense.weight"), "{message}");
}

#[test]
fn dinov2_takes_pictures_of_any_shape_and_its_own_size_without_bending() {
    let dir = &sets("dinov2")[0];
    let config = VisionConfig::read(&described(json_of(&dir.join("config.json")), "dinov2")).unwrap();
    let VisionConfig::Dinov2(own) = &config else { panic!("another tower") };
    let all = tensors(dir, "model.safetensors");
    let model = Dinov2::load(own, &of(all.clone())).unwrap();
    // 42 pixels are the grid of 6 x 6 that is stored.
    let pixels = Tensor::zeros((1, 3, 42, 42), DType::F32, &Device::Cpu).unwrap();
    let bias = &all["embeddings.patch_embeddings.projection.bias"];
    let stored = all["embeddings.position_embeddings"].narrow(1, 1, 36).unwrap().broadcast_add(bias).unwrap();
    agree("stored grid", &model.embed(&pixels).unwrap().narrow(1, 1, 36).unwrap(), &stored);
    let wide = Tensor::zeros((1, 3, 21, 56), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(model.embed(&wide).unwrap().dims(), [1, 1 + 3 * 8, 64]);
    assert!(config.takes(21, 56) && !config.takes(6, 56));
    // Positions that tell the rows of the stored grid apart do so in a picture that is wider than high.
    let mut by_row = all.clone();
    let table = &all["embeddings.position_embeddings"];
    let rows = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((1, 6, 1, 1)).unwrap();
    let rows = rows.broadcast_as((1, 6, 6, 64)).unwrap().reshape((1, 36, 64)).unwrap();
    let first = table.narrow(1, 0, 1).unwrap();
    by_row.insert("embeddings.position_embeddings".into(), Tensor::cat(&[&first, &rows], 1).unwrap());
    let embedded = Dinov2::load(own, &of(by_row)).unwrap().embed(&wide).unwrap().narrow(1, 1, 24).unwrap();
    let values = embedded.narrow(2, 0, 1).unwrap().reshape((3, 8)).unwrap().to_vec2::<f32>().unwrap();
    assert!(values.iter().all(|row| row.iter().all(|value| (value - row[0]).abs() < 1e-5)), "{values:?}");
    assert!(values[1][0] > values[0][0] + 1.0 && values[2][0] > values[1][0] + 1.0, "{values:?}");
}

/// A norm does not see that all it is given, and the root of its epsilon, are a thousand times smaller. So a tower with
/// such states gives the same but for that factor, unless one of its norms has another epsilon than the configured one.
#[test]
fn every_norm_adds_the_configured_epsilon() {
    const DOWN: f64 = 1.0 / 1024.0; // a power of two: nothing is rounded otherwise than before
    const EPS: f64 = 1e-5;
    let small = ["embeddings", "pre_layrnorm", "LayerNorm", "out_proj", "output.dense", "fc2"];
    // BERT's projections read the states, and no norm between.
    let large = [
        "self.query.weight",
        "self.key.weight",
        "self.value.weight",
        "intermediate.dense.weight",
        "pooler.dense.weight",
    ];
    let shrunk = |(name, tensor): (String, Tensor)| {
        let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        let factor = if is(&small) {
            DOWN
        } else if is(&large) {
            1.0 / DOWN
        } else {
            1.0
        };
        (name, (tensor * factor).unwrap())
    };
    for (whole, small) in towers_with(Some(EPS)).into_iter().zip(towers_with(Some(EPS * DOWN * DOWN))) {
        let ((name, tensors, _, whole), (.., small)) = (whole, small);
        if name == "efficientnet" {
            continue;
        }
        let wanted = Wanted { layers: &[0, 1, 2, 3], pooled: true };
        let whole = whole(tensors.clone()).forward(&wanted).unwrap();
        let small = small(tensors.into_iter().map(shrunk).collect()).forward(&wanted).unwrap();
        for (whole, small) in whole.layers.iter().zip(&small.layers) {
            agree(name, &(small / DOWN).unwrap(), whole);
        }
        // SigLIP's head has no norm behind its last sum.
        let factor = if name == "siglip" { DOWN } else { 1.0 };
        agree(name, &(small.pooled().unwrap() / factor).unwrap(), whole.pooled().unwrap());
    }
}
