//! Which tower, and its sizes: read from Hugging Face's `config.json` as it is, or from our own form, in which `kind`
//! names the tower and its keys stand beside it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{bert, clip, dinov2, efficientnet, siglip};
use crate::retriever::fields::{self, Fields};
use crate::retriever::layers::Activation;

/// Which text tower, with its own configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextConfig {
    /// BERT and its relatives (MiniLM, ColBERT).
    Bert(bert::BertConfig),
    /// CLIP's causal text tower.
    Clip(clip::ClipTextConfig),
}

/// Which picture tower, with its own configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VisionConfig {
    /// EfficientNet-Lite0.
    EfficientnetLite0(efficientnet::EfficientNetConfig),
    /// CLIP's vision transformer.
    Clip(clip::ClipVisionConfig),
    /// SigLIP's, and SigLIP2's of a fixed size.
    Siglip(siglip::SiglipConfig),
    /// DINOv2.
    Dinov2(dinov2::Dinov2Config),
}

impl TextConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(json: &Value) -> fields::Result<Self> {
        const KNOWN: &str = "bert, clip or clip_text_model";
        let fields = Fields::top(json)?;
        match family(&fields)? {
            (_, "bert") => bert::BertConfig::read(&fields).map(Self::Bert),
            ("model_type", "clip") => clip::ClipTextConfig::read(&half(&fields, "text")?).map(Self::Clip),
            (_, "clip" | "clip_text_model") => clip::ClipTextConfig::read(&fields).map(Self::Clip),
            (key, _) => Err(fields.error(key, KNOWN)),
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::Bert(c) => c.num_hidden_layers,
            Self::Clip(c) => c.num_hidden_layers,
        }
    }

    /// Width of every block and of the pooled vector.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Bert(c) => c.hidden_size,
            Self::Clip(c) => c.hidden_size,
        }
    }

    /// Size of the vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Bert(c) => c.vocab_size,
            Self::Clip(c) => c.vocab_size,
        }
    }

    /// Longest text in tokens.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Bert(c) => c.max_position_embeddings,
            Self::Clip(c) => c.max_position_embeddings,
        }
    }

    /// Tensors of published checkpoints that the tower does not read (see [`crate::retriever::weights`]).
    #[must_use]
    pub fn known_unused(&self) -> &'static [&'static str] {
        match self {
            Self::Bert(_) => bert::KNOWN_UNUSED,
            Self::Clip(_) => clip::TEXT_KNOWN_UNUSED,
        }
    }
}

impl VisionConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(json: &Value) -> fields::Result<Self> {
        // A model of type `siglip2` takes pictures of any shape (NaFlex); SigLIP2's checkpoints of a fixed size say
        // `siglip`, and are read.
        const KNOWN: &str = "clip, clip_vision_model, siglip, siglip_vision_model, dinov2 or efficientnet_lite0 \
                             (siglip2 is its variant of any picture shape, which is not known here)";
        let fields = Fields::top(json)?;
        match family(&fields)? {
            (_, "efficientnet_lite0") => efficientnet::EfficientNetConfig::read(&fields).map(Self::EfficientnetLite0),
            ("model_type", "clip") => clip::ClipVisionConfig::read(&half(&fields, "vision")?).map(Self::Clip),
            (_, "clip" | "clip_vision_model") => clip::ClipVisionConfig::read(&fields).map(Self::Clip),
            ("model_type", "siglip") => siglip::SiglipConfig::read(&half(&fields, "vision")?).map(Self::Siglip),
            (_, "siglip" | "siglip_vision_model") => siglip::SiglipConfig::read(&fields).map(Self::Siglip),
            (_, "dinov2") => dinov2::Dinov2Config::read(&fields).map(Self::Dinov2),
            (key, _) => Err(fields.error(key, KNOWN)),
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::BLOCKS.len(),
            Self::Clip(c) => c.num_hidden_layers,
            Self::Siglip(c) => c.num_hidden_layers,
            Self::Dinov2(c) => c.num_hidden_layers,
        }
    }

    /// Width of one block.
    #[must_use]
    pub fn width(&self, block: usize) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::BLOCKS.get(block).map_or(0, |b| b.output),
            Self::Clip(c) => c.hidden_size,
            Self::Siglip(c) => c.hidden_size,
            Self::Dinov2(c) => c.hidden_size,
        }
    }

    /// Width of the pooled vector.
    #[must_use]
    pub fn pooled_width(&self) -> usize {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::POOLED,
            Self::Clip(c) => c.hidden_size,
            Self::Siglip(c) => c.hidden_size,
            Self::Dinov2(c) => c.hidden_size,
        }
    }

    /// Side of the square picture it was trained on, in pixels.
    #[must_use]
    pub fn image_size(&self) -> usize {
        match self {
            Self::EfficientnetLite0(c) => c.image_size,
            Self::Clip(c) => c.image_size,
            Self::Siglip(c) => c.image_size,
            Self::Dinov2(c) => c.image_size,
        }
    }

    /// Whether it takes pictures of this size, in pixels. DINOv2 bends its position grid to any size of at least a
    /// patch, the others have one.
    #[must_use]
    pub fn takes(&self, height: usize, width: usize) -> bool {
        match self {
            Self::Dinov2(c) => height >= c.patch_size && width >= c.patch_size,
            other => (height, width) == (other.image_size(), other.image_size()),
        }
    }

    /// Tensors of published checkpoints that the tower does not read (see [`crate::retriever::weights`]).
    #[must_use]
    pub fn known_unused(&self) -> &'static [&'static str] {
        match self {
            Self::EfficientnetLite0(_) => efficientnet::KNOWN_UNUSED,
            Self::Clip(_) => clip::VISION_KNOWN_UNUSED,
            Self::Siglip(_) => siglip::KNOWN_UNUSED,
            Self::Dinov2(_) => dinov2::KNOWN_UNUSED,
        }
    }
}

/// The key that names the tower, and the name. Our own form says `kind`, Hugging Face's `model_type`.
fn family<'a>(fields: &Fields<'a>) -> fields::Result<(&'static str, &'a str)> {
    let key = if fields.get("kind").is_some() { "kind" } else { "model_type" };
    Ok((key, fields.word(key)?.unwrap_or_default()))
}

/// One half of a two-tower file. Old files have `text_config_dict` beside `text_config`; where it is there, it alone
/// counts, completed by the defaults, as `transformers` reads it.
fn half<'a>(fields: &Fields<'a>, side: &str) -> fields::Result<Fields<'a>> {
    let old = format!("{side}_config_dict");
    fields.object(if fields.get(&old).is_some() { &old } else { &old[..old.len() - "_dict".len()] })
}

impl<'de> Deserialize<'de> for TextConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::read(&json).map_err(|e| serde::de::Error::custom(format!("text tower: {e}")))
    }
}

impl<'de> Deserialize<'de> for VisionConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::read(&json).map_err(|e| serde::de::Error::custom(format!("picture tower: {e}")))
    }
}

/// A width, number of words or length.
pub(super) fn size(fields: &Fields, key: &str, default: usize) -> fields::Result<usize> {
    fields.count(key, Some(default), 1..=1 << 22)
}

/// Number of blocks.
pub(super) fn blocks(fields: &Fields, default: usize) -> fields::Result<usize> {
    fields.count("num_hidden_layers", Some(default), 1..=512)
}

/// Number of attention heads, which share the width.
pub(super) fn heads(fields: &Fields, default: usize, width: usize) -> fields::Result<usize> {
    let heads = fields.count("num_attention_heads", Some(default), 1..=width)?;
    if width.is_multiple_of(heads) {
        return Ok(heads);
    }
    Err(fields.error("num_attention_heads", format!("a divisor of hidden_size, {width}")))
}

/// Activation of the feed-forward part.
pub(super) fn activation(fields: &Fields, default: Activation) -> fields::Result<Activation> {
    match fields.word("hidden_act")? {
        None => Ok(default),
        Some(name) => Activation::named(name).ok_or_else(|| fields.error("hidden_act", Activation::NAMES)),
    }
}

/// What is added to the variance in every LayerNorm.
pub(super) fn eps(fields: &Fields, default: f64) -> fields::Result<f64> {
    fields.number("layer_norm_eps", Some(default), 0.0..=1.0)
}

/// Sides of the picture and of a patch, in pixels, of a tower over colour pictures.
pub(super) fn picture_and_patch(fields: &Fields, patch: usize) -> fields::Result<(usize, usize)> {
    fields.only("num_channels", &3.into())?;
    let image_size = fields.count("image_size", Some(224), 1..=4096)?;
    Ok((image_size, fields.count("patch_size", Some(patch), 1..=image_size)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clip_text(json: Value) -> clip::ClipTextConfig {
        let TextConfig::Clip(config) = TextConfig::read(&json).unwrap() else { panic!("another tower") };
        config
    }

    fn clip_vision(json: Value) -> clip::ClipVisionConfig {
        let VisionConfig::Clip(config) = VisionConfig::read(&json).unwrap() else { panic!("another tower") };
        config
    }

    /// Old files, such as openai/clip-vit-large-patch14: `text_config_dict` has what is not a default, and `text_config`
    /// an earlier version's defaults. `transformers` completes the former by its own defaults.
    #[test]
    fn an_old_file_of_clip_is_read_as_transformers_reads_it() {
        let json = json!({
            "architectures": ["CLIPModel"], "logit_scale_init_value": 2.6592, "model_type": "clip",
            "projection_dim": 768,
            "text_config": {"hidden_size": 768, "num_attention_heads": 12, "hidden_act": "quick_gelu",
                "eos_token_id": 2, "layer_norm_eps": 1e-5, "vocab_size": 49408, "top_k": 50},
            "text_config_dict": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                "num_hidden_layers": 12, "projection_dim": 768},
            "vision_config": {"hidden_size": 1, "patch_size": 1},
            "vision_config_dict": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768}
        });
        let text = clip_text(json.clone());
        assert_eq!((text.hidden_size, text.intermediate_size, text.num_attention_heads), (768, 3072, 12));
        assert_eq!((text.vocab_size, text.max_position_embeddings, text.eos_token_id), (49_408, 77, 49_407));
        assert_eq!((text.hidden_act, text.layer_norm_eps), (Activation::QuickGelu, 1e-5));
        let vision = clip_vision(json);
        assert_eq!((vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads), (1024, 24, 16));
        assert_eq!((vision.image_size, vision.patch_size, vision.hidden_act), (224, 14, Activation::QuickGelu));
    }

    /// New files, such as laion/CLIP-ViT-H-14: only what differs from the defaults.
    #[test]
    fn a_new_file_of_clip_is_completed_by_the_defaults() {
        let json = json!({
            "model_type": "clip", "torch_dtype": "float16",
            "text_config": {"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096,
                "model_type": "clip_text_model", "num_attention_heads": 16, "num_hidden_layers": 24},
            "vision_config": {"hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120,
                "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 32,
                "patch_size": 14, "image_size": 336}
        });
        let text = clip_text(json.clone());
        assert_eq!((text.hidden_act, text.num_hidden_layers, text.eos_token_id), (Activation::Gelu, 24, 49_407));
        let vision = clip_vision(json);
        assert_eq!((vision.hidden_act, vision.hidden_size, vision.image_size), (Activation::Gelu, 1280, 336));

        let bare = clip_text(json!({"model_type": "clip"}));
        assert_eq!((bare.hidden_size, bare.num_attention_heads, bare.num_hidden_layers), (512, 8, 12));
        let alone = clip_text(json!({"model_type": "clip_text_model", "hidden_size": 768, "num_attention_heads": 12,
            "eos_token_id": 2}));
        assert_eq!((alone.hidden_size, alone.eos_token_id), (768, 2));
        let alone = clip_vision(json!({"model_type": "clip_vision_model", "patch_size": 16}));
        assert_eq!((alone.hidden_size, alone.patch_size), (768, 16));
    }

    #[test]
    fn siglip_dinov2_bert_and_colbert_are_read_from_their_own_files() {
        // google/siglip2-so400m-patch14-384.
        let json = json!({"model_type": "siglip", "text_config": {"hidden_size": 1152, "vocab_size": 256000},
            "vision_config": {"hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
                "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27,
                "patch_size": 14}});
        let VisionConfig::Siglip(siglip) = VisionConfig::read(&json).unwrap() else { panic!("another tower") };
        assert_eq!((siglip.hidden_size, siglip.image_size, siglip.patch_size), (1152, 384, 14));
        assert_eq!((siglip.hidden_act, siglip.layer_norm_eps), (Activation::GeluPytorchTanh, 1e-6));
        // facebook/dinov2-small.
        let json = json!({"model_type": "dinov2", "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu",
            "hidden_size": 384, "image_size": 518, "layer_norm_eps": 1e-6, "layerscale_value": 1.0, "mlp_ratio": 4,
            "num_attention_heads": 6, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 14, "qkv_bias": true,
            "use_swiglu_ffn": false});
        let VisionConfig::Dinov2(dinov2) = VisionConfig::read(&json).unwrap() else { panic!("another tower") };
        assert_eq!((dinov2.hidden_size, dinov2.image_size, dinov2.mlp_ratio), (384, 518, 4.0));
        // colbert-ir/colbertv2.0.
        let json = json!({"architectures": ["HF_ColBERT"], "model_type": "bert", "gradient_checkpointing": false,
            "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
            "position_embedding_type": "absolute", "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522});
        let TextConfig::Bert(colbert) = TextConfig::read(&json).unwrap() else { panic!("another tower") };
        let bare = TextConfig::read(&json!({"model_type": "bert"})).unwrap();
        assert_eq!(TextConfig::Bert(colbert), bare);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for json in [json!({"model_type": "bert", "hidden_act": "gelu_new"}), json!({"model_type": "clip"})] {
            let config = TextConfig::read(&json).unwrap();
            let written = serde_json::to_value(&config).unwrap();
            assert_eq!(serde_json::from_value::<TextConfig>(written).unwrap(), config);
        }
        for kind in ["clip", "siglip", "dinov2"] {
            let config = VisionConfig::read(&json!({"model_type": kind})).unwrap();
            let written = serde_json::to_value(&config).unwrap();
            assert_eq!(serde_json::from_value::<VisionConfig>(written).unwrap(), config);
        }
    }

    #[test]
    fn values_that_are_not_known_are_refused_by_their_key() {
        let text = |json: Value| TextConfig::read(&json).unwrap_err().to_string();
        let vision = |json: Value| VisionConfig::read(&json).unwrap_err().to_string();
        for (message, expected) in [
            (text(json!({})), "`model_type`: found nothing, expected bert, clip or clip_text_model"),
            (text(json!({"model_type": "t5"})), "`model_type`: found \"t5\""),
            (text(json!({"kind": "gru"})), "`kind`: found \"gru\""),
            (text(json!([1])), "`(top)`: found [1], expected an object"),
            (
                text(json!({"model_type": "bert", "hidden_act": "swish"})),
                "`hidden_act`: found \"swish\", expected gelu",
            ),
            (text(json!({"model_type": "bert", "hidden_size": "768"})), "`hidden_size`: found \"768\""),
            (text(json!({"model_type": "bert", "num_hidden_layers": 1e9})), "`num_hidden_layers`: found 1000000000.0"),
            (text(json!({"model_type": "bert", "num_hidden_layers": 0})), "`num_hidden_layers`: found 0"),
            (
                text(json!({"model_type": "bert", "position_embedding_type": "relative_key"})),
                "`position_embedding_type`",
            ),
            (text(json!({"model_type": "bert", "num_attention_heads": 7})), "expected a divisor of hidden_size, 768"),
            (
                text(json!({"model_type": "clip", "text_config": {"hidden_act": "tanh"}})),
                "`text_config.hidden_act`: found \"tanh\"",
            ),
            (text(json!({"model_type": "clip", "text_config": 3})), "`text_config`: found 3, expected an object"),
            (text(json!({"model_type": "clip", "text_config": {"eos_token_id": -1}})), "`text_config.eos_token_id`"),
            (
                vision(json!({"model_type": "clip", "vision_config": {"patch_size": 225}})),
                "`vision_config.patch_size`: found 225, expected a whole number from 1 to 224",
            ),
            (vision(json!({"model_type": "siglip2"})), "which is not known here"),
            (
                vision(json!({"model_type": "siglip", "vision_config": {"num_channels": 1}})),
                "`vision_config.num_channels`",
            ),
            (
                vision(json!({"model_type": "dinov2", "use_swiglu_ffn": true})),
                "`use_swiglu_ffn`: found true, expected false",
            ),
            (vision(json!({"model_type": "dinov2", "mlp_ratio": 1e6})), "`mlp_ratio`: found 1000000.0"),
            (vision(json!({"model_type": "dinov2", "image_size": 1_000_000})), "`image_size`: found 1000000"),
            (vision(json!({"model_type": "dinov2", "layer_norm_eps": -1.0})), "`layer_norm_eps`: found -1.0"),
            (vision(json!({"kind": "efficientnet_lite0", "max_grid": 8})), "`image_size`: found nothing"),
        ] {
            assert!(message.contains(expected), "{message}\nexpected {expected}");
        }
    }

    #[test]
    fn epsilon_is_that_of_the_file_and_else_of_the_family() {
        for (family, default) in [("clip_vision_model", 1e-5), ("siglip_vision_model", 1e-6), ("dinov2", 1e-6)] {
            for (given, expected) in [(Some(0.25), 0.25), (None, default)] {
                let mut json = json!({"model_type": family});
                if let Some(given) = given {
                    json["layer_norm_eps"] = given.into();
                }
                let eps = match VisionConfig::read(&json).unwrap() {
                    VisionConfig::Clip(config) => config.layer_norm_eps,
                    VisionConfig::Siglip(config) => config.layer_norm_eps,
                    VisionConfig::Dinov2(config) => config.layer_norm_eps,
                    other => panic!("{other:?}"),
                };
                assert_eq!(eps, expected, "{family}");
            }
        }
        let bert = json!({"model_type": "bert", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 1, "intermediate_size": 4, "max_position_embeddings": 8, "layer_norm_eps": 0.25});
        let TextConfig::Bert(bert) = TextConfig::read(&bert).unwrap() else { panic!("another tower") };
        assert_eq!(bert.layer_norm_eps, 0.25);
        assert_eq!(clip_text(json!({"model_type": "clip_text_model", "layer_norm_eps": 0.25})).layer_norm_eps, 0.25);
    }
}
