//! The architecture of a retriever, as its JSON file says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::backbone::{TextConfig, VisionConfig, Wanted};
use super::error::{Result, RetrieverError};
use super::preprocess::{Fixed, ImageProcessor};

/// A ReT-2 model: towers, sampled layers, widths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetConfig {
    /// Width H of state and cell.
    pub hidden_size: usize,
    /// Heads of the cell's attentions; divides `hidden_size`.
    pub num_heads: usize,
    /// Length D of an embedding.
    pub output_dim: usize,
    /// Text tower.
    pub text: TextConfig,
    /// Its sampled blocks, 0-based, increasing.
    pub text_layers: Vec<usize>,
    /// Picture tower.
    pub vision: VisionConfig,
    /// Its sampled blocks, 0-based, increasing; as many as `text_layers`.
    pub vision_layers: Vec<usize>,
    /// Whether pooled features are added to the state after the last step.
    #[serde(default = "yes")]
    pub global_injection: bool,
    /// How a picture becomes pixels.
    #[serde(default)]
    pub image_processor: ImageProcessor,
    /// Longest text in tokens; longer ones are cut. At most what the text tower takes.
    #[serde(default = "default_max_tokens")]
    pub max_text_tokens: usize,
}

fn yes() -> bool {
    true
}
fn default_max_tokens() -> usize {
    77
}

impl RetConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// An unreadable file, or the key that does not fit.
    pub fn load(path: &Path) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let text = fs_err::read_to_string(path).map_err(|e| read(e.to_string()))?;
        let config: Self = serde_json::from_str(&text).map_err(|e| read(e.to_string()))?;
        config.check().map_err(|(key, reason)| RetrieverError::Config {
            path: path.to_owned(),
            key: key.into(),
            reason,
        })?;
        Ok(config)
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

    /// The key at fault and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        const LIMIT: usize = 1 << 16;
        let widths =
            [("hidden_size", self.hidden_size), ("num_heads", self.num_heads), ("output_dim", self.output_dim)];
        for (key, value) in widths {
            if value == 0 || value > LIMIT {
                return Err((key, format!("found {value}, expected 1 to {LIMIT}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(("num_heads", format!("{} does not divide hidden_size {}", self.num_heads, self.hidden_size)));
        }
        if self.text_layers.is_empty() || self.text_layers.len() != self.vision_layers.len() {
            let found = (self.text_layers.len(), self.vision_layers.len());
            return Err((
                "text_layers",
                format!("{} of text against {} of vision, expected as many, at least one", found.0, found.1),
            ));
        }
        for (key, layers, blocks) in [
            ("text_layers", &self.text_layers, self.text.blocks()),
            ("vision_layers", &self.vision_layers, self.vision.blocks()),
        ] {
            let increasing = layers.windows(2).all(|pair| pair[0] < pair[1]);
            if !increasing || layers.iter().any(|layer| *layer >= blocks) {
                return Err((key, format!("found {layers:?}, expected increasing block numbers below {blocks}")));
            }
        }
        if self.max_text_tokens < 4 || self.max_text_tokens > self.text.max_tokens() {
            let limit = self.text.max_tokens();
            return Err(("max_text_tokens", format!("found {}, expected 4 to {limit}", self.max_text_tokens)));
        }
        let expected = format!("{0} x {0} pixels, the picture tower's", self.vision.image_size());
        match self.image_processor.output_size() {
            None => Err(("image_processor.crop_size", format!("found nothing, expected {expected}"))),
            Some(Fixed { height, width }) if !self.vision.takes(height as usize, width as usize) => {
                Err(("image_processor", format!("gives pictures of {width} x {height} pixels, expected {expected}")))
            }
            Some(_) => Ok(()),
        }
    }
}
