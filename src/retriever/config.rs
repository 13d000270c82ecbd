//! The architecture of a retriever, as its JSON file says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::backbone::{TextConfig, VisionConfig, Wanted};
use super::error::{Result, RetrieverError};
use super::layer_choice::Layers;
use super::preprocess::{Fixed, ImageProcessor};

/// A retriever: towers, sampled layers, and the settings of what stands above them. Left out, a setting is ReT-2's;
/// `configs/retrievers` holds those of ReT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetConfig {
    /// Width H of state and cell.
    pub hidden_size: usize,
    /// Heads of the cell's attentions; divides `hidden_size`.
    pub num_heads: usize,
    /// Length D of each vector of an embedding.
    pub output_dim: usize,
    /// Learned state tokens n: an embedding is as many unit vectors. With one, items are compared by dot product, with
    /// several by MaxSim.
    #[serde(default = "one")]
    pub state_tokens: usize,
    /// Whether the state tokens attend to each other in every step.
    #[serde(default)]
    pub self_attention: bool,
    /// Whether sinusoidal positions are added to the state before every step.
    #[serde(default)]
    pub positions: bool,
    /// Added to every input gate before its sigmoid, unless the weights hold a value of their own.
    #[serde(default)]
    pub input_gate_prior: f32,
    /// Added to the forget gate before its sigmoid, unless the weights hold a value of their own.
    #[serde(default)]
    pub forget_gate_prior: f32,
    /// What every forget gate is multiplied by after its sigmoid: below 1 the state fades faster than was learned.
    #[serde(default = "unscaled")]
    pub forget_gate_scale: f32,
    /// Whether pooled features are added to the state after the last step.
    #[serde(default = "yes")]
    pub global_injection: bool,
    /// Whether queries and documents share everything; else each side has a cell, adapters and a projection of its own,
    /// below `query` and `document` in the weights, over the same towers.
    #[serde(default = "yes")]
    pub shared_encoder: bool,
    /// Text tower.
    pub text: TextConfig,
    /// Its sampled blocks, 0-based, increasing.
    pub text_layers: Vec<usize>,
    /// Picture tower.
    pub vision: VisionConfig,
    /// Its sampled blocks, 0-based, increasing; as many as `text_layers`.
    pub vision_layers: Vec<usize>,
    /// How a picture becomes pixels.
    #[serde(default)]
    pub image_processor: ImageProcessor,
    /// Longest text in tokens; longer ones are cut. At most what the text tower takes.
    #[serde(default = "default_max_tokens")]
    pub max_text_tokens: usize,
    /// Map of tensor names, where the weights are of a foreign layout: a shipped one by name, or a TOML file, a relative
    /// path starting from this file's folder (see [`crate::models::names`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_map: Option<String>,
}

fn one() -> usize {
    1
}
fn unscaled() -> f32 {
    1.0
}
fn yes() -> bool {
    true
}
fn default_max_tokens() -> usize {
    77
}

/// The files of `configs/retrievers`.
pub const SHIPPED: [(&str, &str); 5] = [
    ("clip-vit-l-14", include_str!("../../configs/retrievers/clip-vit-l-14.json")),
    ("dinov2-small", include_str!("../../configs/retrievers/dinov2-small.json")),
    ("ret-clip-vit-l-14", include_str!("../../configs/retrievers/ret-clip-vit-l-14.json")),
    ("ret-openclip-vit-g-14", include_str!("../../configs/retrievers/ret-openclip-vit-g-14.json")),
    ("ret-openclip-vit-h-14", include_str!("../../configs/retrievers/ret-openclip-vit-h-14.json")),
];

/// Largest width.
const WIDEST: usize = 1 << 16;
/// Most state tokens.
const MOST_TOKENS: usize = 1024;
/// Largest factor on the forget gates.
const MOST_SCALE: f32 = 16.0;

impl RetConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// An unreadable file, or the key that does not fit.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&fs_err::read_to_string(path).map_err(|e| RetrieverError::unreadable(path, &e))?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let config: Self = serde_json::from_str(text).map_err(|e| read(e.to_string()))?;
        config.check().map_err(|(key, reason)| RetrieverError::Config { path: path.to_owned(), key, reason })?;
        Ok(config)
    }

    /// The same retriever over other layers of its towers; `None` keeps a tower's. `path` is named in the error.
    ///
    /// # Errors
    /// Block numbers that do not increase or that the tower lacks, or not as many of one tower as of the other.
    pub fn sampling(mut self, text: Option<&Layers>, vision: Option<&Layers>, path: &Path) -> Result<Self> {
        if let Some(layers) = text {
            self.text_layers = layers.of(self.text.blocks());
        }
        if let Some(layers) = vision {
            self.vision_layers = layers.of(self.vision.blocks());
        }
        self.check().map_err(|(key, reason)| RetrieverError::Config { path: path.to_owned(), key, reason })?;
        Ok(self)
    }

    /// An architecture that comes with the program, by the name of its file in `configs/retrievers`; `None` if there is
    /// none of that name.
    ///
    /// # Errors
    /// As [`RetConfig::load`].
    pub fn shipped(name: &str) -> Option<Result<Self>> {
        let (_, text) = SHIPPED.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text, &Path::new("configs/retrievers").join(format!("{name}.json"))))
    }

    /// Height and width of what the picture tower is given, in pixels.
    #[must_use]
    pub fn picture_size(&self) -> (usize, usize) {
        let side = self.vision.image_size();
        self.image_processor.output_size().map_or((side, side), |size| (size.height as usize, size.width as usize))
    }

    /// What the text tower is asked for.
    #[must_use]
    pub fn text_wanted(&self) -> Wanted<'_> {
        Wanted { layers: &self.text_layers, pooled: self.global_injection }
    }

    /// What the picture tower is asked for.
    #[must_use]
    pub fn vision_wanted(&self) -> Wanted<'_> {
        Wanted { layers: &self.vision_layers, pooled: self.global_injection }
    }

    /// The key at fault and why. Nothing is allocated for a configuration that does not pass.
    fn check(&self) -> Result<(), (String, String)> {
        let sizes = [
            ("hidden_size", self.hidden_size, WIDEST),
            ("num_heads", self.num_heads, WIDEST),
            ("output_dim", self.output_dim, WIDEST),
            ("state_tokens", self.state_tokens, MOST_TOKENS),
        ];
        for (key, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err((key.into(), format!("found {value}, expected 1 to {limit}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            let reason = format!("{} does not divide hidden_size {}", self.num_heads, self.hidden_size);
            return Err(("num_heads".into(), reason));
        }
        for (key, prior) in [("input_gate_prior", self.input_gate_prior), ("forget_gate_prior", self.forget_gate_prior)]
        {
            if !prior.is_finite() {
                return Err((key.into(), format!("found {prior}, expected a finite number")));
            }
        }
        if !(0.0..=MOST_SCALE).contains(&self.forget_gate_scale) {
            let reason = format!("found {}, expected 0 to {MOST_SCALE}", self.forget_gate_scale);
            return Err(("forget_gate_scale".into(), reason));
        }
        if self.text_layers.is_empty() || self.text_layers.len() != self.vision_layers.len() {
            let found = (self.text_layers.len(), self.vision_layers.len());
            return Err((
                "text_layers".into(),
                format!("{} of text against {} of vision, expected as many, at least one", found.0, found.1),
            ));
        }
        for (key, layers, blocks) in [
            ("text_layers", &self.text_layers, self.text.blocks()),
            ("vision_layers", &self.vision_layers, self.vision.blocks()),
        ] {
            let increasing = layers.windows(2).all(|pair| pair[0] < pair[1]);
            if !increasing || layers.iter().any(|layer| *layer >= blocks) {
                return Err((
                    key.into(),
                    format!("found {layers:?}, expected increasing block numbers below {blocks}"),
                ));
            }
        }
        if self.max_text_tokens < 4 || self.max_text_tokens > self.text.max_tokens() {
            let limit = self.text.max_tokens();
            return Err(("max_text_tokens".into(), format!("found {}, expected 4 to {limit}", self.max_text_tokens)));
        }
        let side = self.vision.image_size();
        if side == 0 || side > 4096 {
            return Err(("vision.image_size".into(), format!("found {side}, expected 1 to 4096")));
        }
        let expected = format!("{side} x {side} pixels, the picture tower's");
        match self.image_processor.output_size() {
            None => Err(("image_processor.crop_size".into(), format!("found nothing, expected {expected}"))),
            Some(Fixed { height, width }) if !self.vision.takes(height as usize, width as usize) => {
                let found = format!("gives pictures of {width} x {height} pixels, expected {expected}");
                Err(("image_processor".into(), found))
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn starter() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter/ret2-starter.json");
        serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
    }

    fn load(text: &str) -> Result<RetConfig> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        RetConfig::load(file.path())
    }

    #[test]
    fn settings_that_are_left_out_are_those_of_ret_2() {
        let config = load(&starter().to_string()).unwrap();
        assert_eq!((config.state_tokens, config.self_attention, config.positions), (1, false, false));
        assert_eq!((config.input_gate_prior, config.forget_gate_prior, config.forget_gate_scale), (0.0, 0.0, 1.0));
        assert!(config.global_injection && config.shared_encoder && config.weights_map.is_none());
    }

    #[test]
    fn every_absurd_value_is_an_error_that_names_its_key() {
        for (key, value, reason) in [
            ("num_heads", json!(0), "found 0, expected 1 to"),
            ("num_heads", json!(7), "7 does not divide hidden_size 384"),
            ("hidden_size", json!(1_000_000_000), "found 1000000000"),
            ("output_dim", json!(0), "found 0"),
            ("state_tokens", json!(1_000_000_000), "found 1000000000, expected 1 to 1024"),
            ("state_tokens", json!(0), "found 0"),
            ("text_layers", json!([0, 2, 6]), "increasing block numbers below 6"),
            ("vision_layers", json!([4, 10, 1_000_000_000]), "increasing block numbers below 16"),
            ("vision_layers", json!([10, 4, 15]), "increasing"),
            ("text_layers", json!([]), "0 of text against 3 of vision"),
            ("input_gate_prior", json!(1e39), "found inf, expected a finite number"),
            ("forget_gate_prior", json!(-1e39), "found -inf, expected a finite number"),
            ("forget_gate_scale", json!(-0.5), "found -0.5, expected 0 to 16"),
            ("max_text_tokens", json!(100_000), "found 100000, expected 4 to 512"),
            ("text.num_attention_heads", json!(0), "text tower: `num_attention_heads`: found 0"),
            ("text.num_attention_heads", json!(7), "found 7, expected a divisor of hidden_size, 384"),
            ("text.num_hidden_layers", json!(u64::MAX), "text tower: `num_hidden_layers`: found 18446744073709551615"),
            ("text.vocab_size", json!(1_000_000_000_000u64), "text tower: `vocab_size`: found 1000000000000"),
            ("vision.image_size", json!(100_000), "found 100000"),
        ] {
            let mut config = starter();
            let pointer = format!("/{}", key.replace('.', "/"));
            match config.pointer_mut(&pointer) {
                Some(slot) => *slot = value,
                None => config[key] = value,
            }
            let message = load(&config.to_string()).unwrap_err().to_string();
            let last = key.rsplit('.').next().unwrap();
            let named = [key, last].iter().any(|key| message.contains(&format!("`{key}`")));
            assert!(named && message.contains(reason), "{key}: {message}");
        }
    }

    #[test]
    fn a_mistyped_setting_and_no_number_are_errors() {
        let mut config = starter();
        config["state_token"] = json!(4);
        let message = load(&config.to_string()).unwrap_err().to_string();
        assert!(message.contains("state_token"), "{message}");
        let nan = starter().to_string().replacen('{', "{\"input_gate_prior\":NaN,", 1);
        assert!(matches!(load(&nan), Err(RetrieverError::Read { .. })));
    }

    #[test]
    fn the_shipped_descriptions_are_whole_and_sample_the_published_layers() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/retrievers");
        let step = |from: usize, to: usize, by: usize| (from..=to).step_by(by).collect::<Vec<_>>();
        let mut vision_h = vec![0];
        vision_h.extend(step(2, 29, 3));
        vision_h.push(31);
        let mut text_g = step(0, 28, 2);
        text_g.push(31);
        for (name, text, vision) in [
            ("ret-clip-vit-l-14", step(0, 11, 1), step(0, 22, 2)),
            ("ret-openclip-vit-h-14", step(1, 23, 2), vision_h),
            ("ret-openclip-vit-g-14", text_g, step(2, 47, 3)),
        ] {
            let config = RetConfig::load(&dir.join(format!("{name}.json"))).unwrap();
            assert_eq!((&config.text_layers, &config.vision_layers), (&text, &vision), "{name}");
            assert_eq!((config.state_tokens, config.output_dim), (32, 128));
            assert!(config.self_attention && config.positions && !config.global_injection && !config.shared_encoder);
            assert_eq!(config.weights_map.as_deref(), Some("ret-v1"));
        }
    }
}
