//! From pictures to pixels and from texts to tokens, as Hugging Face's processors do it.

use std::path::Path;

use candle_core::{Device, Tensor};
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

use super::backbone::TextBatch;
use super::error::{Result, RetrieverError};
use super::picture::Picture;

/// Fields of `preprocessor_config.json` that decide pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageProcessor {
    /// Size after resizing.
    pub size: Size,
    /// Pillow's number of the filter: 2 bilinear, 3 bicubic, 1 Lanczos.
    #[serde(default = "bicubic")]
    pub resample: u8,
    /// Square cut from the middle after resizing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<Fixed>,
    /// Subtracted per channel, after division by 255.
    pub image_mean: [f32; 3],
    /// Divided by per channel.
    pub image_std: [f32; 3],
}

/// Target of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// The shorter side gets this length, the other follows.
    ShortestEdge {
        /// Pixels.
        shortest_edge: u32,
    },
    /// Both sides are given; the picture is squeezed.
    Fixed(Fixed),
}

/// Height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
}

fn bicubic() -> u8 {
    3
}

impl Default for ImageProcessor {
    /// OpenAI CLIP's.
    fn default() -> Self {
        Self {
            size: Size::ShortestEdge { shortest_edge: 224 },
            resample: 3,
            crop_size: Some(Fixed { height: 224, width: 224 }),
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl ImageProcessor {
    /// One picture as planes `[3, H, W]`, row by row.
    pub fn pixels(&self, picture: &Picture) -> Result<Vec<f32>> {
        let rgb = picture.rgb();
        let (width, height) = rgb.dimensions();
        let (to_width, to_height) = match self.size {
            Size::Fixed(fixed) => (fixed.width, fixed.height),
            Size::ShortestEdge { shortest_edge } => {
                let scale = |long: u32, short: u32| {
                    (u64::from(long) * u64::from(shortest_edge) / u64::from(short.max(1))) as u32
                };
                if width <= height {
                    (shortest_edge, scale(height, width))
                } else {
                    (scale(width, height), shortest_edge)
                }
            }
        };
        let resized = resize(rgb, to_width.max(1), to_height.max(1), self.resample)?;
        let cropped = match self.crop_size {
            Some(crop) => center_crop(&resized, crop),
            None => resized,
        };
        let area = (cropped.width() * cropped.height()) as usize;
        let mut planes = vec![0f32; 3 * area];
        for (at, pixel) in cropped.pixels().enumerate() {
            for channel in 0..3 {
                let value = f32::from(pixel.0[channel]) / 255.0;
                planes[channel * area + at] = (value - self.image_mean[channel]) / self.image_std[channel];
            }
        }
        Ok(planes)
    }

    /// Height and width of what [`ImageProcessor::pixels`] gives; `None` where it depends on the picture.
    #[must_use]
    pub fn output_size(&self) -> Option<Fixed> {
        match (self.crop_size, self.size) {
            (Some(crop), _) => Some(crop),
            (None, Size::Fixed(fixed)) => Some(fixed),
            (None, Size::ShortestEdge { .. }) => None,
        }
    }

    /// A batch `[B, 3, H, W]`; pictures are prepared in parallel.
    pub fn batch(&self, pictures: &[Picture], device: &Device) -> Result<Tensor> {
        use rayon::prelude::*;
        let planes = pictures.par_iter().map(|picture| self.pixels(picture)).collect::<Result<Vec<_>>>()?;
        let side = self.output_size().ok_or_else(|| {
            candle_core::Error::Msg("image_processor: pictures of a batch would differ in size; give crop_size".into())
        })?;
        let shape = (pictures.len(), 3, side.height as usize, side.width as usize);
        Ok(Tensor::from_vec(planes.concat(), shape, device)?)
    }
}

/// Pillow's antialiased resize.
fn resize(rgb: &RgbImage, width: u32, height: u32, resample: u8) -> Result<RgbImage> {
    if rgb.dimensions() == (width, height) {
        return Ok(rgb.clone());
    }
    let filter = match resample {
        1 => FilterType::Lanczos3,
        2 => FilterType::Bilinear,
        _ => FilterType::CatmullRom,
    };
    let engine = |e: String| RetrieverError::Engine(candle_core::Error::Msg(format!("resize: {e}")));
    let source = Image::from_vec_u8(rgb.width(), rgb.height(), rgb.as_raw().clone(), PixelType::U8x3)
        .map_err(|e| engine(e.to_string()))?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| engine(e.to_string()))?;
    RgbImage::from_raw(width, height, target.into_vec()).ok_or_else(|| engine("size of the result".into()))
}

/// The middle, with black where the picture is smaller (as Hugging Face pads).
fn center_crop(rgb: &RgbImage, crop: Fixed) -> RgbImage {
    let (left, top) = (
        (i64::from(rgb.width()) - i64::from(crop.width)).div_euclid(2),
        (i64::from(rgb.height()) - i64::from(crop.height)).div_euclid(2),
    );
    let mut out = RgbImage::new(crop.width, crop.height);
    imageops::replace(&mut out, rgb, -left, -top);
    out
}

/// A tokenizer with the model's limits.
pub struct TextProcessor {
    tokenizer: Tokenizer,
}

impl TextProcessor {
    /// Reads `tokenizer.json`; longer texts will be cut to `max_tokens`, shorter ones padded to the longest of a batch.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let bytes = fs_err::read(path).map_err(|e| read(e.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| read(format!("not a tokenizer ({e})")))?;
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| read(e.to_string()))?;
        let pad = tokenizer.get_padding().cloned().unwrap_or_default();
        let padding = PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_to_multiple_of: None, ..pad };
        tokenizer.with_padding(Some(padding));
        Ok(Self { tokenizer })
    }

    /// A batch of texts. A text of megabytes is cut before it is tokenised: no token is shorter than a byte of it.
    pub fn batch(&self, texts: &[&str], device: &Device) -> Result<TextBatch> {
        const MOST_BYTES: usize = 1 << 16;
        let cut: Vec<&str> = texts.iter().map(|text| &text[..text.floor_char_boundary(MOST_BYTES)]).collect();
        let encodings = self.tokenizer.encode_batch(cut, true).map_err(|e| RetrieverError::Tokenizer(e.to_string()))?;
        let length = encodings.first().map_or(0, |encoding| encoding.get_ids().len());
        let ids: Vec<u32> = encodings.iter().flat_map(|e| e.get_ids().iter().copied()).collect();
        let mask: Vec<u32> = encodings.iter().flat_map(|e| e.get_attention_mask().iter().copied()).collect();
        let shape = (texts.len(), length);
        Ok(TextBatch {
            input_ids: Tensor::from_vec(ids, shape, device)?,
            attention_mask: Tensor::from_vec(mask, shape, device)?,
        })
    }
}
