//! A picture on its way to the engine: opened within bounds, upright, and no larger than the model can use.
//!
//! What a model can use stands in its `preprocessor_config.json`, in words that differ by family. The engine would
//! shrink a larger picture itself, on its one thread, after every pixel was copied and hashed.

use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader};
use serde_json::Value;

use crate::generator::GeneratorError;

/// Longest side of a picture that is handed over, whatever a model asks for.
const LONGEST_SIDE: u32 = 2048;

/// Most pixels of a picture that is handed over to a model that takes pictures of any size, whatever it asks for: a
/// token of a prompt is a thousand pixels, and the ranges that models state (16 million) are of no use to a question.
const MOST_PIXELS: u64 = 1 << 20;

/// What a model can use of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::generator) struct Budget {
    size: Size,
    /// Most tokens that one picture takes in a prompt.
    pub(super) tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    /// Its longest side.
    Longest(u32),
    /// Squeezed or stretched to a rectangle: more than this much of width and height is lost.
    Exact(u32, u32),
    /// The number of its pixels; neither side may be shorter than `least`.
    Pixels { most: u64, least: u32 },
}

/// A side more than 200 times the other makes the engine panic for models that take any shape.
const STEEPEST: u32 = 190;

impl Budget {
    /// Reads the `preprocessor_config.json` and the `processor_config.json` of a model, and its `config.json`.
    ///
    /// - Idefics3 (SmolVLM): without splitting, a square of `max_image_size.longest_edge`;
    /// - Qwen-VL: any shape of at most `max_pixels`, which newer files call `size.longest_edge`;
    /// - Gemma 3, SigLIP: exactly `size.height` x `size.width`;
    /// - others: `size.longest_edge`, or nothing that is known.
    pub(in crate::generator) fn read(preprocessor: &Value, processor: &Value, config: &Value) -> Self {
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).filter(|n| *n > 0);
        let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).min(LONGEST_SIDE);
        let size = preprocessor.get("size");
        let edge = |key: &str| number(size.and_then(|size| size.get(key)));
        let tile = number(preprocessor.pointer("/max_image_size/longest_edge"));
        let merge = number(preprocessor.get("merge_size"));
        let patch = number(preprocessor.get("patch_size"));
        if let (Some(merge), Some(patch)) = (merge, patch) {
            let pixels = number(preprocessor.get("max_pixels")).or_else(|| edge("longest_edge")).unwrap_or(MOST_PIXELS);
            let pixels = pixels.min(MOST_PIXELS);
            let per_token = merge.saturating_mul(patch).saturating_pow(2).max(1);
            let tokens = usize::try_from(pixels.div_ceil(per_token)).unwrap_or(usize::MAX);
            let size = Size::Pixels { most: pixels, least: side(merge.saturating_mul(patch)) };
            return Self { size, tokens: tokens.saturating_add(2) };
        }
        let tokens = [
            processor.get("image_seq_len"),
            processor.get("image_seq_length"),
            config.get("mm_tokens_per_image"),
            preprocessor.get("image_seq_len"),
            preprocessor.get("image_seq_length"),
        ];
        let tokens = tokens.into_iter().find_map(number).unwrap_or(256).saturating_add(8);
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
        let size = match (tile, edge("width").zip(edge("height")), edge("longest_edge")) {
            (Some(tile), _, _) => Size::Exact(side(tile), side(tile)),
            (None, Some((width, height)), _) => Size::Exact(side(width), side(height)),
            (None, None, Some(longest)) => Size::Longest(side(longest)),
            (None, None, None) => Size::Longest(LONGEST_SIDE),
        };
        Self { size, tokens }
    }

    /// Width and height that a picture is handed over with: in its own shape, and never more than it has, but for
    /// slivers that the engine would panic at.
    fn fit(&self, width: u32, height: u32) -> (u32, u32) {
        let (w, h) = (f64::from(width.max(1)), f64::from(height.max(1)));
        let scale = match self.size {
            Size::Longest(longest) => f64::from(longest) / w.max(h),
            Size::Exact(width, height) => (f64::from(width) / w).max(f64::from(height) / h),
            Size::Pixels { most, .. } => (most as f64 / (w * h)).sqrt(),
        };
        let scale = scale.min(f64::from(LONGEST_SIDE) / w.max(h));
        let scaled = |side: f64| ((side * scale.min(1.0)).floor() as u32).max(1);
        let (width, height) = (scaled(w), scaled(h));
        match self.size {
            Size::Pixels { most, least } => {
                let (width, height) = (width.max(least), height.max(least));
                // Within the pixels, or the engine shrinks it once more, and the shorter side to nothing.
                let longest = |other: u32| {
                    let within = u32::try_from(most / u64::from(other.max(1))).unwrap_or(u32::MAX);
                    other.saturating_mul(STEEPEST).min(within).max(least)
                };
                (width.min(longest(height)), height.min(longest(width)))
            }
            _ => (width, height),
        }
    }
}

/// Opens a picture and makes it no larger than the model can use.
///
/// # Errors
/// [`GeneratorError::Engine`] with the path.
pub(super) fn open(path: &Path, budget: &Budget) -> Result<DynamicImage, GeneratorError> {
    let failed = |e: &dyn std::fmt::Display| GeneratorError::Engine(format!("picture {}: {e}", path.display()));
    let reader = ImageReader::open(path).map_err(|e| failed(&e))?.with_guessed_format().map_err(|e| failed(&e))?;
    let mut decoder = reader.into_decoder().map_err(|e| failed(&e))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(30_000);
    limits.max_image_height = Some(30_000);
    limits.max_alloc = Some(1 << 30);
    decoder.set_limits(limits).map_err(|e| failed(&e))?;
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| failed(&e))?;
    picture.apply_orientation(orientation);
    let (width, height) = budget.fit(picture.width(), picture.height());
    if (width, height) != (picture.width(), picture.height()) {
        picture = picture.resize_exact(width, height, FilterType::CatmullRom);
    }
    Ok(DynamicImage::ImageRgb8(picture.into_rgb8()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(preprocessor: Value) -> Budget {
        Budget::read(&preprocessor, &Value::Null, &Value::Null)
    }

    #[test]
    fn what_a_model_can_use_is_read_from_its_own_files() {
        let smolvlm = json!({"max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048}});
        let smolvlm = Budget::read(&smolvlm, &json!({"image_seq_len": 64}), &Value::Null);
        assert_eq!((smolvlm.size, smolvlm.tokens), (Size::Exact(512, 512), 72));
        // The shorter side fills the square, so that nothing is lost that the model would have seen.
        assert_eq!(smolvlm.fit(4000, 2000), (1024, 512));

        let qwen = json!({"max_pixels": 401_408, "min_pixels": 3136, "patch_size": 14, "merge_size": 2});
        let (width, height) = read(qwen).fit(4000, 3000);
        assert!(width * height <= 401_408 && width * height > 399_000, "{width} x {height}");

        let newer =
            json!({"size": {"longest_edge": 16_777_216, "shortest_edge": 65_536}, "patch_size": 16, "merge_size": 2});
        let newer = read(newer);
        assert_eq!(
            (newer.size, newer.tokens),
            (Size::Pixels { most: MOST_PIXELS, least: 32 }, 1026),
            "16,384 tokens else"
        );
        // Slivers: the engine's own code panics where a side is below a token's or 200 times the other.
        assert_eq!(newer.fit(5, 5), (32, 32));
        assert_eq!(newer.fit(9000, 10), (2048, 32));
        assert_eq!(newer.fit(5, 2000), (32, 2000));
        let small = read(json!({"max_pixels": 28 * 28 * 16, "patch_size": 14, "merge_size": 2}));
        assert_eq!(small.fit(2000, 4), (448, 28));

        let gemma = json!({"size": {"height": 896, "width": 896}, "image_seq_length": 256});
        assert_eq!(read(gemma).fit(3000, 1500), (1792, 896));

        assert_eq!(read(json!({"size": {"longest_edge": 980}})).fit(1960, 1000), (980, 500));
        assert_eq!(read(Value::Null).fit(4096, 4096), (LONGEST_SIDE, LONGEST_SIDE));
        assert_eq!(read(json!({"size": {"longest_edge": "many"}, "patch_size": 0})).fit(10, 10), (10, 10));
    }

    #[test]
    fn a_picture_is_opened_upright_and_within_its_budget() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wide.png");
        image::RgbImage::from_fn(300, 100, |x, _| image::Rgb([(x % 256) as u8, 0, 0])).save(&path).unwrap();
        let budget = read(json!({"size": {"height": 32, "width": 32}}));
        let picture = open(&path, &budget).unwrap();
        assert_eq!((picture.width(), picture.height()), (96, 32));
        let missing = open(&dir.path().join("gone.png"), &budget).unwrap_err().to_string();
        assert!(missing.contains("gone.png"), "{missing}");
        fs_err::write(&path, b"no picture").unwrap();
        assert!(open(&path, &budget).unwrap_err().to_string().contains("wide.png"));
    }

    proptest! {
        #[test]
        fn a_picture_never_grows_and_never_vanishes(width in 1_u32..9000, height in 1_u32..9000, side in 1_u64..3000, pixels in 1_u64..1 << 21) {
            let budgets = [
                read(json!({"size": {"longest_edge": side}})),
                read(json!({"size": {"height": side, "width": 7}})),
                read(json!({"max_pixels": pixels, "patch_size": 14, "merge_size": 2})),
            ];
            for budget in budgets {
                let (w, h) = budget.fit(width, height);
                prop_assert!(w >= 1 && h >= 1 && w <= width.max(28) && h <= height.max(28) && w.max(h) <= LONGEST_SIDE);
            }
        }
    }
}
