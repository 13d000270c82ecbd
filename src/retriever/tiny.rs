//! A retriever small enough for unit tests, made of the golden sets' towers and real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::config::RetConfig;
use super::device::DeviceChoice;
use super::encoder::RetrieverFiles;
use super::model::Head;
use super::train::optimizer::Parameters;
use super::weights::Weights;

/// Letters and digits as tokens.
fn tokenizer() -> serde_json::Value {
    let mut vocab: BTreeMap<String, u32> =
        ["[PAD]", "[UNK]"].iter().enumerate().map(|(id, token)| ((*token).to_owned(), id as u32)).collect();
    for (at, letter) in ('a'..='z').chain('0'..='9').enumerate() {
        vocab.insert(letter.to_string(), at as u32 + 2);
    }
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}
    })
}

/// Writes the files of a tiny retriever with a random head into `dir`.
pub fn write(dir: &Path) -> RetrieverFiles {
    write_with(dir, serde_json::json!({}))
}

/// The settings of a retriever of the first generation: three tokens, and an encoder for each side.
pub fn first_generation() -> serde_json::Value {
    serde_json::json!({
        "state_tokens": 3, "self_attention": true, "positions": true, "global_injection": false,
        "shared_encoder": false, "input_gate_prior": 0.3, "forget_gate_prior": -0.2
    })
}

/// As [`write`], with some settings of its configuration replaced.
pub fn write_with(dir: &Path, settings: serde_json::Value) -> RetrieverFiles {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs_err::read(path).unwrap()).unwrap();
    let mut text = read(&golden.join("bert/config.json"));
    text["kind"] = "bert".into();
    let mut vision = read(&golden.join("ret2/config.json"))["vision"].take();
    vision["kind"] = "clip".into();
    let mut config = serde_json::json!({
        "hidden_size": 32, "num_heads": 4, "output_dim": 16, "text": text, "text_layers": [0, 3], "vision": vision,
        "vision_layers": [1, 4], "max_text_tokens": 24,
        "image_processor": {
            "size": {"height": 28, "width": 28}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]
        }
    });
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    let files = RetrieverFiles {
        config: dir.join("config.json"),
        text_weights: golden.join("bert/model.safetensors"),
        tokenizer: dir.join("tokenizer.json"),
        vision_weights: dir.join("vision.safetensors"),
        weights: dir.join("head.safetensors"),
        instruction: "find".into(),
        max_batch: 4,
        device: DeviceChoice::Cpu,
    };
    fs_err::write(&files.config, config.to_string()).unwrap();
    fs_err::write(&files.tokenizer, tokenizer().to_string()).unwrap();
    let all = candle_core::safetensors::load(golden.join("ret2/model.safetensors"), &Device::Cpu).unwrap();
    let vision: HashMap<String, Tensor> = all
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("vision_model.")?.to_owned(), tensor)))
        .collect();
    candle_core::safetensors::save(&vision, &files.vision_weights).unwrap();
    let probe = Weights::from_tensors("probe".into(), HashMap::new(), &Device::Cpu);
    let config = RetConfig::load(&files.config).unwrap();
    let sides = if config.shared_encoder { vec![probe.clone()] } else { vec![probe.pp("query"), probe.pp("document")] };
    for side in sides {
        Head::load(&config, &side).unwrap();
    }
    let head = Parameters::initialise(&probe.missing(), 3, &Device::Cpu).unwrap().tensors();
    candle_core::safetensors::save(&head, &files.weights).unwrap();
    files
}
