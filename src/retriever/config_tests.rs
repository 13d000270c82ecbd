//! A retriever's description made of Hugging Face's own files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::backbone::{TextConfig, VisionConfig};
use super::config::RetConfig;

/// Towers and processor as their `config.json` and `preprocessor_config.json` say them.
fn description() -> Value {
    json!({
        "hidden_size": 64, "num_heads": 4, "output_dim": 16, "global_injection": false,
        "text": {"model_type": "clip", "text_config": {"hidden_size": 768, "num_attention_heads": 12},
            "vision_config": {"patch_size": 14}},
        "text_layers": [2, 5, 11],
        "vision": {"model_type": "siglip", "vision_config": {"image_size": 384, "patch_size": 14}},
        "vision_layers": [2, 5, 11],
        "image_processor": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}}
    })
}

fn load(json: &Value) -> Result<RetConfig, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), json.to_string()).unwrap();
    RetConfig::load(file.path()).map_err(|e| e.to_string().replace(file.path().to_str().unwrap(), "FILE"))
}

#[test]
fn hugging_faces_files_stand_in_it_as_they_are() {
    let config = load(&description()).unwrap();
    let (TextConfig::Clip(text), VisionConfig::Siglip(vision)) = (&config.text, &config.vision) else {
        panic!("other towers")
    };
    assert_eq!((text.hidden_size, text.max_position_embeddings, vision.num_hidden_layers), (768, 77, 12));
    assert!(!config.text_wanted().pooled);
    assert_eq!(config.max_text_tokens, 77);
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(load(&written).unwrap(), config);
}

#[test]
fn what_does_not_fit_is_told_by_file_and_key() {
    let with = |at: &str, value: Value| {
        let mut json = description();
        *json.pointer_mut(at).unwrap() = value;
        load(&json).unwrap_err()
    };
    for (message, expected) in [
        (
            with("/text/text_config/num_attention_heads", json!(5)),
            "cannot read FILE: text tower: `text_config.num_attention_heads`: found 5, expected a divisor",
        ),
        (with("/vision/model_type", json!("vit")), "picture tower: `model_type`: found \"vit\""),
        (with("/image_processor/size/width", json!(0)), "image processor: `size.width`: found 0"),
        (
            with("/image_processor/size", json!({"height": 224, "width": 224})),
            "`image_processor`: gives pictures of 224 x 224 pixels, expected 384 x 384 pixels",
        ),
        (
            with("/image_processor", json!({"size": {"shortest_edge": 384}, "do_normalize": false})),
            "`image_processor.crop_size`: found nothing, expected 384 x 384 pixels",
        ),
    ] {
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
}
