//! ReT-2 and ReT as a whole against reference numbers (see [`super::golden`]), and what may be told wrong of their cell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::backbone::TextBatch;
use super::config::RetConfig;
use super::error::Result;
use super::golden::{TOLERANCE, agree, ids, io, sets};
use super::model::{Batch, Ret, Side};
use super::weights::Weights;
use crate::models::NameMap;
use crate::models::convert::{Float, rename};
use crate::models::names::Renamed;

/// Items of every set.
const ITEMS: usize = 3;

type Tensors = HashMap<String, Tensor>;

/// Cases of the sets, with the items that have a text and those that have a picture.
const CASES: [(&str, &[usize], &[usize]); 4] =
    [("both", &[0, 1, 2], &[0, 1, 2]), ("text_only", &[0, 1, 2], &[]), ("image_only", &[], &[0, 1, 2]), MIXED];
const MIXED: (&str, &[usize], &[usize]) = ("mixed", &[0, 2], &[0, 1]);

fn json_of(dir: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(dir.join("config.json")).unwrap()).unwrap()
}

/// All tensors of a set but the inputs and outputs; ours of ReT is cut into files.
fn tensors(dir: &Path) -> Tensors {
    let mut all = HashMap::new();
    for file in fs_err::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "safetensors") && !file.ends_with("io.safetensors") {
            all.extend(candle_core::safetensors::load(file, &Device::Cpu).unwrap());
        }
    }
    all
}

fn tower(mut tower: Value) -> Value {
    tower["kind"] = "clip".into();
    tower
}

/// A ReT-2 set's configuration, in our own form.
fn ret2_config(dir: &Path) -> RetConfig {
    let json = json_of(dir);
    let config = json!({
        "hidden_size": json["hidden_size"], "num_heads": json["num_heads"], "output_dim": json["output_dim"],
        "text": tower(json["text"].clone()), "text_layers": json["text_layers"],
        "vision": tower(json["vision"].clone()), "vision_layers": json["vision_layers"],
    });
    serde_json::from_value(config).unwrap()
}

/// A ReT set's configuration, in our own form.
fn ret_v1_config(dir: &Path) -> RetConfig {
    let json = json_of(dir);
    assert_eq!((&json["use_tanh"], &json["activation_fn"]), (&json!(false), &json!("gelu")));
    let config = json!({
        "hidden_size": json["hidden_size"], "num_heads": json["num_attention_heads"],
        "output_dim": json["late_proj_output_size"], "state_tokens": json["num_queries"],
        "self_attention": true, "positions": true, "global_injection": false,
        "shared_encoder": json["share_query_passage_models"],
        "text": tower(json["text"].clone()), "text_layers": json["text_layers"],
        "vision": tower(json["vision"].clone()), "vision_layers": json["vision_layers"], "weights_map": "ret-v1",
    });
    serde_json::from_value(config).unwrap()
}

fn ret_v1_map() -> NameMap {
    NameMap::open("ret-v1", Path::new("")).unwrap()
}

/// A model of which everything is in one file, in our layout.
fn load(config: &RetConfig, weights: &Weights) -> Result<Ret> {
    let model = Ret::load(config, &weights.pp("text_model"), &weights.pp("vision_model"), weights)?;
    weights.finish(&[])?;
    Ok(model)
}

fn in_memory(tensors: Tensors) -> Weights {
    Weights::from_tensors("a set".into(), tensors, &Device::Cpu)
}

fn ret2(dir: &Path) -> Ret {
    load(&ret2_config(dir), &in_memory(tensors(dir))).unwrap()
}

fn ret_v1(config: &RetConfig, published: Tensors) -> Result<Ret> {
    load(config, &in_memory(published).renamed(&ret_v1_map())?)
}

/// The items of `text` have their text, those of `vision` their picture.
fn batch(io: &Tensors, (_, text, vision): (&str, &[usize], &[usize])) -> Batch {
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
        len: ITEMS,
    }
}

/// Largest difference between two tensors.
fn off(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn ret2_gives_every_gate_state_and_embedding() {
    for dir in sets("ret2") {
        let (model, io) = (ret2(&dir), io(&dir));
        for case in CASES {
            let (name, batch) = (case.0, batch(&io, case));
            let expected = io[name].unsqueeze(1).unwrap();
            agree(name, &model.encode(Side::Query, &batch).unwrap(), &expected);
            let trace = model.trace(Side::Document, &batch).unwrap();
            agree(name, &trace.embeddings, &expected);
            assert_eq!(trace.steps.len(), 3);
            for (index, step) in trace.steps.iter().enumerate() {
                for (what, ours) in [
                    ("forget", &step.forget),
                    ("state", &step.state),
                    ("text_input", &step.text_input),
                    ("vision_input", &step.vision_input),
                ] {
                    agree(&format!("{name} step {index} {what}"), ours, &io[&format!("{name}.step{index}.{what}")]);
                }
            }
        }
    }
}

#[test]
fn ret_v1_gives_every_embedding_of_both_sides() {
    for dir in sets("ret_v1") {
        let (config, io) = (ret_v1_config(&dir), io(&dir));
        let model = ret_v1(&config, tensors(&dir)).unwrap();
        for (side, prefix) in [(Side::Query, "query"), (Side::Document, "passage")] {
            for case in CASES {
                let (name, batch) = (format!("{prefix}.{}", case.0), batch(&io, case));
                agree(&name, &model.encode(side, &batch).unwrap(), &io[&name]);
            }
        }
    }
}

/// The gates of several state tokens, with and without a modality: a mixed batch shows what single ones show.
#[test]
fn ret_v1_is_looked_into_item_by_item() {
    let dir = &sets("ret_v1")[0];
    let (config, io) = (ret_v1_config(dir), io(dir));
    let model = ret_v1(&config, tensors(dir)).unwrap();
    let mixed = model.trace(Side::Document, &batch(&io, MIXED)).unwrap();
    agree("embeddings", &mixed.embeddings, &io["passage.mixed"]);
    assert_eq!(mixed.steps.len(), config.text_layers.len());
    for (case, row) in [(CASES[0], 0), (CASES[2], 1), (CASES[1], 2)] {
        let whole = model.trace(Side::Document, &batch(&io, case)).unwrap();
        for (step, alone) in mixed.steps.iter().zip(&whole.steps) {
            let shape = [ITEMS, config.state_tokens, config.hidden_size];
            for (ours, alone) in [
                (&step.text_input, &alone.text_input),
                (&step.vision_input, &alone.vision_input),
                (&step.forget, &alone.forget),
                (&step.state, &alone.state),
            ] {
                assert_eq!(ours.dims(), shape);
                assert!(off(&ours.get(row).unwrap(), &alone.get(row).unwrap()) < 1e-5, "{} row {row}", case.0);
            }
        }
    }
    let none = |gate: &Tensor, row: usize| gate.get(row).unwrap().abs().unwrap().sum_all().unwrap();
    for step in &mixed.steps {
        assert_eq!(none(&step.text_input, 1).to_scalar::<f32>().unwrap(), 0.0);
        assert_eq!(none(&step.vision_input, 2).to_scalar::<f32>().unwrap(), 0.0);
        assert!(none(&step.text_input, 2).to_scalar::<f32>().unwrap() > 0.0);
    }
}

#[test]
fn a_batch_of_three_equals_single_runs() {
    for dir in sets("ret2") {
        let (model, io) = (ret2(&dir), io(&dir));
        for row in 0..ITEMS {
            let mut one = batch(&io, ("", &[row], &[row]));
            one.len = 1;
            one.text.as_mut().unwrap().1 = vec![0];
            one.vision.as_mut().unwrap().1 = vec![0];
            let expected = io["both"].narrow(0, row, 1).unwrap().unsqueeze(1).unwrap();
            agree("single", &model.encode(Side::Query, &one).unwrap(), &expected);
        }
    }
}

#[test]
fn an_item_without_text_and_picture_is_an_error() {
    let dir = &sets("ret2")[0];
    let (model, io) = (ret2(dir), io(dir));
    assert!(model.encode(Side::Query, &batch(&io, ("", &[0, 1], &[0]))).is_err());
    assert!(model.encode(Side::Query, &batch(&io, ("", &[], &[]))).is_err());
    let mut beyond = batch(&io, CASES[0]);
    beyond.len = 2;
    let message = model.encode(Side::Query, &beyond).unwrap_err().to_string();
    assert!(message.contains("row 2 of a batch of 2"), "{message}");
}

/// The two sides must not be mixed up: with the published encoders exchanged, each gives what the other gave.
#[test]
fn each_side_has_an_encoder_of_its_own() {
    let dir = &sets("ret_v1")[0];
    let (config, io) = (ret_v1_config(dir), io(dir));
    let exchanged = tensors(dir).into_iter().map(|(name, tensor)| {
        let tower = name.contains("_model.text_model.") || name.contains("_model.vision_model.");
        let name = match name.strip_prefix("query_model.") {
            _ if tower => name,
            Some(rest) => format!("passage_model.{rest}"),
            None => name.replacen("passage_model.", "query_model.", 1),
        };
        (name, tensor)
    });
    let model = ret_v1(&config, exchanged.collect()).unwrap();
    let both = batch(&io, CASES[0]);
    agree("query", &model.encode(Side::Query, &both).unwrap(), &io["passage.both"]);
    agree("document", &model.encode(Side::Document, &both).unwrap(), &io["query.both"]);
}

/// A checkpoint may hold the constants or not: positions are computed to the same, priors are the configuration's.
#[test]
fn positions_and_priors_are_the_same_from_the_weights_and_without() {
    let dir = &sets("ret_v1")[0];
    let (mut config, io, json) = (ret_v1_config(dir), io(dir), json_of(dir));
    let without: Tensors = tensors(dir)
        .into_iter()
        .filter(|(name, _)| !name.ends_with("query_state_ids") && !name.ends_with("gate_bias_prior"))
        .collect();
    assert_eq!(tensors(dir).len() - without.len(), 6);
    let both = batch(&io, CASES[0]);
    let zero = ret_v1(&config, without.clone()).unwrap().encode(Side::Query, &both).unwrap();
    assert!(off(&zero, &io["query.both"]) > 10.0 * TOLERANCE);
    config.input_gate_prior = json["input_gate_bias_prior"].as_f64().unwrap() as f32;
    config.forget_gate_prior = json["forget_gate_bias_prior"].as_f64().unwrap() as f32;
    let model = ret_v1(&config, without).unwrap();
    agree("query", &model.encode(Side::Query, &both).unwrap(), &io["query.both"]);
    // Where the weights hold them, those of the configuration do not count.
    config.input_gate_prior = 7.0;
    let model = ret_v1(&config, tensors(dir)).unwrap();
    agree("query", &model.encode(Side::Query, &both).unwrap(), &io["query.both"]);
}

#[test]
fn the_stored_norm_of_self_attention_is_never_read() {
    let dir = &sets("ret_v1")[0];
    let (config, io) = (ret_v1_config(dir), io(dir));
    let mut changed = tensors(dir);
    for (name, tensor) in &mut changed {
        if name.contains(".sa_ln.") {
            *tensor = (&*tensor * 100.0).unwrap();
        }
    }
    let model = ret_v1(&config, changed).unwrap();
    agree("query", &model.encode(Side::Query, &batch(&io, CASES[0])).unwrap(), &io["query.both"]);
}

#[test]
fn a_published_checkpoint_converts_to_ours_and_loads_to_the_same_numbers() {
    let dir = &sets("ret_v1")[0];
    let (mut config, io) = (ret_v1_config(dir), io(dir));
    let mapped = ret_v1(&config, tensors(dir)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("model.safetensors"), temp.path().join("ours.safetensors"));
    candle_core::safetensors::save(&tensors(dir), &from).unwrap();
    let done = rename::convert(&from, &to, &ret_v1_map(), Float::Keep).unwrap();
    assert_eq!(done.dropped.len(), 4, "{:?}", done.dropped);
    config.weights_map = None;
    let converted = load(&config, &Weights::load(&to, &Device::Cpu).unwrap()).unwrap();
    for side in [Side::Query, Side::Document] {
        for case in CASES {
            let batch = batch(&io, case);
            let numbers = |model: &Ret| model.encode(side, &batch).unwrap().flatten_all().unwrap().to_vec1::<f32>();
            assert_eq!(numbers(&mapped).unwrap(), numbers(&converted).unwrap(), "{}", case.0);
        }
    }
}

#[test]
fn every_name_of_the_published_layout_reads_backwards() {
    let map = ret_v1_map();
    let weights = in_memory(tensors(&sets("ret_v1")[0]));
    load(&ret_v1_config(&sets("ret_v1")[0]), &weights.renamed(&map).unwrap()).unwrap();
    for name in tensors(&sets("ret_v1")[0]).into_keys() {
        let ours = match map.apply(&name) {
            Renamed::To(one) => vec![one],
            Renamed::Rows(parts) => parts,
            Renamed::LeftOut => continue,
            Renamed::Unknown => panic!("{name}"),
        };
        for ours in ours {
            assert_eq!(map.original(&ours).as_deref(), Some(name.as_str()));
        }
    }
}

#[test]
fn a_published_checkpoint_that_does_not_fit_is_told_in_its_own_names_at_once() {
    let dir = &sets("ret_v1")[0];
    let config = ret_v1_config(dir);
    let small = Tensor::zeros((6, 128), DType::F32, &Device::Cpu).unwrap();
    let mut wrong = tensors(dir);
    wrong.remove("query_model.ret_cell.text_xa.in_proj_weight").unwrap();
    wrong.remove("passage_model.late_proj.weight").unwrap();
    wrong.insert("passage_model.ret_cell.sa.in_proj_weight".into(), small.clone());
    wrong.insert("query_model.ret_cell.input_gate_bias_prior".into(), Tensor::new(&[0.3f32], &Device::Cpu).unwrap());
    wrong.insert("query_model.text_adapter.3.weight".into(), small.clone());
    wrong.insert("query_model.ret_cell.new_ln.weight".into(), small);
    let message = ret_v1(&config, wrong).unwrap_err().to_string();
    for part in [
        "missing: passage_model.late_proj.weight, query_model.ret_cell.text_xa.in_proj_weight;",
        "passage_model.ret_cell.sa.in_proj_weight (read as document.cell.self_attn.q_proj.weight) [2, 128], expected [128, 128]",
        "query_model.ret_cell.input_gate_bias_prior (read as query.cell.input_gate_prior) [1], expected []",
        "not used: query_model.ret_cell.new_ln.weight, query_model.text_adapter.3.weight",
    ] {
        assert!(message.contains(part), "{part}\n{message}");
    }
    assert!(!message.contains("sa_ln"), "{message}");
}

/// A published checkpoint of another setting than the configuration's is refused, whichever differs.
#[test]
fn settings_that_the_weights_do_not_have_are_refused() {
    let dir = &sets("ret_v1")[0];
    let told = |change: fn(&mut RetConfig)| {
        let mut config = ret_v1_config(dir);
        change(&mut config);
        ret_v1(&config, tensors(dir)).unwrap_err().to_string()
    };
    let without_attention = told(|c| c.self_attention = false);
    assert!(without_attention.contains("not used: ") && without_attention.contains("ret_cell.sa.in_proj_weight"));
    assert!(told(|c| c.positions = false).contains("not used: passage_model.ret_cell.query_state_ids"));
    assert!(told(|c| c.global_injection = true).contains("missing: document.text_global.bias"));
    assert!(told(|c| c.shared_encoder = true).contains("missing: cell.mlp.fc1.bias"));
    let tokens = told(|c| c.state_tokens = 5);
    assert!(tokens.contains("query_model.ret_cell.query_hidden_states"), "{tokens}");
    assert!(tokens.contains("[1, 4, 128], expected [1, 5, 128]"), "{tokens}");
}
