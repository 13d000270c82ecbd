//! How much a tower computes for one item: additions and multiplications of its matrix products and convolutions, each
//! counted as one. Norms, activations and softmax are left out, as is usual.

use super::Wanted;
use super::config::{TextConfig, VisionConfig};
use super::efficientnet::{BLOCKS, POOLED};

impl TextConfig {
    /// Operations for a text of `tokens` tokens.
    #[must_use]
    pub fn operations(&self, tokens: usize, wanted: &Wanted) -> f64 {
        let (width, inner) = match self {
            Self::Bert(c) => (c.hidden_size, c.intermediate_size),
            Self::Clip(c) => (c.hidden_size, c.intermediate_size),
        };
        transformer(wanted.depth(self.blocks()), tokens, width, inner)
    }
}

impl VisionConfig {
    /// Operations for a picture of this many pixels.
    #[must_use]
    pub fn operations(&self, (height, width): (usize, usize), wanted: &Wanted) -> f64 {
        let depth = wanted.depth(self.blocks());
        let (dim, inner, patch, class) = match self {
            Self::EfficientnetLite0(_) => return efficientnet((height, width), depth, wanted.pooled),
            Self::Clip(c) => (c.hidden_size, c.intermediate_size, c.patch_size, 1),
            Self::Siglip(c) => (c.hidden_size, c.intermediate_size, c.patch_size, 0),
            Self::Dinov2(c) => (c.hidden_size, (c.hidden_size as f64 * c.mlp_ratio) as usize, c.patch_size, 1),
        };
        let patches = (height / patch) * (width / patch);
        let embedding = product(patches, 3 * patch * patch, dim);
        embedding + transformer(depth, patches + class, dim, inner)
    }
}

/// `[rows, input]` times `[input, output]`.
fn product(rows: usize, input: usize, output: usize) -> f64 {
    2.0 * rows as f64 * input as f64 * output as f64
}

fn transformer(blocks: usize, tokens: usize, width: usize, inner: usize) -> f64 {
    let projections = 4.0 * product(tokens, width, width);
    let attention = 2.0 * product(tokens, width, tokens);
    blocks as f64 * (projections + attention + 2.0 * product(tokens, width, inner))
}

fn efficientnet((height, width): (usize, usize), depth: usize, pooled: bool) -> f64 {
    let (mut h, mut w) = (height.div_ceil(2), width.div_ceil(2));
    let mut sum = product(h * w, 27, 32);
    for block in &BLOCKS[..depth] {
        let inner = block.input * block.expand;
        if block.expand > 1 {
            sum += product(h * w, block.input, inner);
        }
        (h, w) = (h.div_ceil(block.stride), w.div_ceil(block.stride));
        sum += product(h * w, block.kernel * block.kernel, inner) + product(h * w, inner, block.output);
    }
    if pooled {
        sum += product(h * w, BLOCKS[BLOCKS.len() - 1].output, POOLED);
    }
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::retriever::config::RetConfig;

    #[test]
    fn published_figures_are_met() {
        // CLIP ViT-L/14 at 224: 80.7 G multiply-adds (EVA-CLIP, arXiv 2303.15389, and others count 162 GFLOP a picture).
        let config = RetConfig::shipped("clip-vit-l-14").unwrap().unwrap();
        let picture = config.vision.operations((224, 224), &config.vision_wanted());
        assert!((picture / 1e9 - 162.0).abs() < 2.0, "{picture}");
        // EfficientNet-Lite0 at 224: 407 M multiply-adds, 1.28 M of them in the classifier that is not here.
        let all = Wanted { layers: &[], pooled: true };
        let lite = efficientnet((224, 224), all.depth(BLOCKS.len()), true);
        assert!((lite / 2e6 - 405.0).abs() < 25.0, "{lite}");
        let half = config.vision.operations((224, 224), &Wanted { layers: &[11], pooled: false });
        assert!((half / picture - 0.5).abs() < 0.01);
    }
}
