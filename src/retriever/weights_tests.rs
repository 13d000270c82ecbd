//! Checkpoints that are whole, in pieces, and damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::json;

use super::backbone::TextConfig;
use super::backbone::bert::Bert;
use super::golden::{agree, sets};
use super::shards;
use super::weights::Weights;

fn bert() -> (TextConfig, PathBuf) {
    let dir = sets("bert").remove(0);
    let mut json: serde_json::Value = serde_json::from_slice(&fs_err::read(dir.join("config.json")).unwrap()).unwrap();
    json["kind"] = "bert".into();
    (TextConfig::read(&json).unwrap(), dir.join("model.safetensors"))
}

/// Loads the tower from a file, to the last check.
fn load(path: &Path) -> Result<(), String> {
    let TextConfig::Bert(config) = bert().0 else { panic!("another tower") };
    let weights = Weights::load(path, &Device::Cpu).map_err(|e| e.to_string())?;
    Bert::load(&config, &weights, true).map_err(|e| e.to_string())?;
    weights.finish(&[]).map_err(|e| e.to_string())
}

fn tensors() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(bert().1, &Device::Cpu).unwrap()
}

fn saved(dir: &Path, tensors: &HashMap<String, Tensor>) -> PathBuf {
    let path = dir.join("model.safetensors");
    candle_core::safetensors::save(tensors, &path).unwrap();
    path
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.safetensors");
    let whole = fs_err::read(bert().1).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let near = |at: usize| at.saturating_sub(3)..(at + 4).min(whole.len());
    let cuts = (0..40).chain(near(header)).chain((0..whole.len()).step_by(4099)).chain(near(whole.len()));
    for at in cuts.filter(|at| *at < whole.len()) {
        fs_err::write(&path, &whole[..at]).unwrap();
        let message = load(&path).unwrap_err();
        assert!(message.contains("cut.safetensors"), "cut at {at}: {message}");
        assert!(message.contains("models pull"), "cut at {at}: {message}");
    }
    fs_err::write(&path, &whole).unwrap();
    load(&path).unwrap();
    fs_err::write(&path, [whole.as_slice(), b"more"].concat()).unwrap();
    assert!(load(&path).unwrap_err().contains("cut.safetensors"));
}

fn with_header(length: u64, header: &str, data: usize) -> Vec<u8> {
    [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn a_header_that_claims_the_absurd_is_an_error_and_no_allocation() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let honest = |header: String, data: usize| with_header(header.len() as u64, &header, data);
    for (what, bytes) in [
        ("a header of 2^64 bytes", with_header(u64::MAX, "{}", 0)),
        ("a header of 2^63 bytes", with_header(1 << 63, "{}", 0)),
        ("a header of 99 MB", with_header(99_000_000, "{}", 0)),
        ("2^60 numbers", honest(tensor("[1152921504606846976]", 0, 4), 4)),
        ("2^126 numbers", honest(tensor("[9223372036854775808,9223372036854775808]", 0, 4), 4)),
        ("no numbers, 2^63 wide", honest(tensor("[9223372036854775808,9223372036854775808,0]", 0, 0), 0)),
        ("a place behind the end", honest(tensor("[1]", 1 << 62, (1 << 62) + 4), 4)),
        ("an end before the start", honest(tensor("[1]", 4, 0), 4)),
        ("numbers beyond the file", honest(tensor("[1000000000]", 0, 4_000_000_000), 4)),
        ("a negative shape", honest(tensor("[-1]", 0, 4), 4)),
        ("a type of no name", honest(tensor("[1]", 0, 4).replace("F32", "F33"), 4)),
        ("a list", honest("[]".into(), 0)),
        ("no JSON", honest("weights".into(), 0)),
    ] {
        fs_err::write(file.path(), bytes).unwrap();
        let message = Weights::load(file.path(), &Device::Cpu).err().unwrap_or_else(|| panic!("{what}")).to_string();
        assert!(message.contains(file.path().to_str().unwrap()), "{what}: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_file_with_other_bytes_never_panics(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        let small = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let path = saved(dir.path(), &HashMap::from([("a.weight".into(), small.clone()), ("a.bias".into(), small)]));
        let mut bytes = fs_err::read(&path).unwrap();
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[at % length] = byte;
        }
        fs_err::write(&path, bytes).unwrap();
        if let Ok(weights) = Weights::load(&path, &Device::Cpu) {
            weights.pp("a").get("weight", (2, 2)).unwrap();
            weights.pp("a").get("bias", (2, 2)).unwrap();
            let _ = weights.finish(&[]);
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_listed_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = tensors();
    let moved = all.remove("pooler.dense.bias").unwrap();
    all.insert("pooler.dense.offset".into(), moved);
    all.insert("pooler.dense.weight".into(), Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap());
    all.insert("extra".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    let numbers = Tensor::zeros(48, DType::I64, &Device::Cpu).unwrap();
    all.insert("embeddings.LayerNorm.bias".into(), numbers);
    let path = saved(dir.path(), &all);
    let message = load(&path).unwrap_err();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("missing: pooler.dense.bias;"), "{message}");
    assert!(message.contains("not used: extra, pooler.dense.offset"), "{message}");
    assert!(message.contains("of another shape: pooler.dense.weight [2, 2], expected [48, 48]"), "{message}");
    assert!(message.contains("not of a floating-point type: embeddings.LayerNorm.bias"), "{message}");
}

#[test]
fn weights_that_are_not_numbers_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut all = tensors();
        let mut bias = vec![0f32; 48];
        bias[47] = value;
        all.insert("pooler.dense.bias".into(), Tensor::new(bias, &Device::Cpu).unwrap());
        let filled = Tensor::full(value, (48, 48), &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
        all.insert("pooler.dense.weight".into(), filled);
        let message = load(&saved(dir.path(), &all)).unwrap_err();
        let expected = "with values that are not finite: pooler.dense.bias, pooler.dense.weight";
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn half_and_double_precision_arrive_on_the_cpu_as_single() {
    let dir = tempfile::tempdir().unwrap();
    let values = [0.5f32, -1.25, 3.0];
    let path = saved(
        dir.path(),
        &HashMap::from([
            ("f16".into(), Tensor::new(values.map(f16::from_f32).as_slice(), &Device::Cpu).unwrap()),
            ("bf16".into(), Tensor::new(values.map(bf16::from_f32).as_slice(), &Device::Cpu).unwrap()),
            ("f64".into(), Tensor::new(values.map(f64::from).as_slice(), &Device::Cpu).unwrap()),
        ]),
    );
    let weights = Weights::load(&path, &Device::Cpu).unwrap();
    for name in ["f16", "bf16", "f64"] {
        assert_eq!(weights.get(name, 3).unwrap().to_vec1::<f32>().unwrap(), values, "{name}");
    }
    weights.finish(&[]).unwrap();
}

#[test]
fn a_known_unused_tensor_is_known_by_whole_words_and_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
    let names = ["linear.weight", "bert.linear.weight", "text_model.a", "text_model.b.c"];
    let path = saved(dir.path(), &names.into_iter().map(|name| (name.into(), nan.clone())).collect());
    let finish = |known: &[&str]| Weights::load(&path, &Device::Cpu).unwrap().finish(known).map_err(|e| e.to_string());
    finish(&["linear.weight", "text_model.*"]).unwrap();
    let message = finish(&["near.weight", "model.*"]).unwrap_err();
    for name in names {
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_part_is_found_below_another_name_only_where_there_is_one() {
    let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let of = |name: &str| Weights::from_tensors("here".into(), [(name.into(), one.clone())].into(), &Device::Cpu);
    assert!(of("bert.a").below("bert").has("a"));
    assert!(of("a").below("bert").has("a"));
    assert!(of("berta.a").below("bert").has("berta.a"));
    assert!(of("x.bert.a").pp("x").below("bert").has("a"));
}

/// The tower in three shards with their index; gives the index.
fn sharded(dir: &Path) -> PathBuf {
    let mut shards: [HashMap<String, Tensor>; 3] = Default::default();
    let mut map = serde_json::Map::new();
    let mut all: Vec<_> = tensors().into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (at, (name, tensor)) in all.into_iter().enumerate() {
        map.insert(name.clone(), shard_name(at % 3).into());
        shards[at % 3].insert(name, tensor);
    }
    for (at, shard) in shards.iter().enumerate() {
        candle_core::safetensors::save(shard, dir.join(shard_name(at))).unwrap();
    }
    let index = dir.join("model.safetensors.index.json");
    fs_err::write(&index, json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()).unwrap();
    index
}

fn shard_name(at: usize) -> String {
    format!("model-{:05}-of-00003.safetensors", at + 1)
}

#[test]
fn shards_load_as_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let index = sharded(dir.path());
    load(&index).unwrap();
    let weights = Weights::load(&index, &Device::Cpu).unwrap();
    for (name, tensor) in tensors() {
        agree(&name, &weights.get(&name, tensor.shape()).unwrap(), &tensor);
    }
    let names =
        [index.clone(), dir.path().join(shard_name(0)), dir.path().join(shard_name(1)), dir.path().join(shard_name(2))];
    assert_eq!(shards::files(&index).unwrap(), names);
}

#[test]
fn a_shard_that_is_missing_cut_or_does_not_hold_what_the_index_says_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let index = sharded(dir.path());
    let second = dir.path().join(shard_name(1));
    let whole = fs_err::read(&second).unwrap();

    fs_err::write(&second, &whole[..whole.len() - 1]).unwrap();
    let message = load(&index).unwrap_err();
    assert!(message.contains(&shard_name(1)) && message.contains("model.safetensors.index.json names it"), "{message}");

    fs_err::remove_file(&second).unwrap();
    let message = load(&index).unwrap_err();
    assert!(message.contains(&shard_name(1)) && message.contains("index.json names it"), "{message}");

    let mut tensors = candle_core::safetensors::load_buffer(&whole, &Device::Cpu).unwrap();
    let name = tensors.keys().next().unwrap().clone();
    let moved = tensors.remove(&name).unwrap();
    tensors.insert("extra".into(), moved);
    candle_core::safetensors::save(&tensors, &second).unwrap();
    let message = load(&index).unwrap_err();
    assert!(message.contains(&format!("not in its shard: {name};")), "{message}");
    assert!(message.contains("not in the index: extra"), "{message}");
}

#[test]
fn an_index_that_is_none_or_leads_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    for (json, expected) in [
        (json!({"weight_map": {"a": "../a.safetensors"}}), "`..`"),
        (json!({"weight_map": {"a": "/etc/passwd"}}), "absolute"),
        (json!({"weight_map": {"a": 1}}), "not an index of shards"),
        (json!({}), "weight_map"),
    ] {
        fs_err::write(&index, json.to_string()).unwrap();
        let message = Weights::load(&index, &Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("index.json"), "{message}");
    }
}
