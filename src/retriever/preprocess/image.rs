//! `preprocessor_config.json`, and the pixels it asks for.

use candle_core::{Device, Tensor};
use image::{RgbImage, imageops};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::resize::{Axis, Resample, resize};
use crate::retriever::error::{Result, RetrieverError};
use crate::retriever::fields::{self, Fields};
use crate::retriever::picture::Picture;

/// Longest side of what is asked for, pixels.
const LONGEST: usize = 4096;
/// Means and deviations of OpenAI CLIP's training pictures, the default of its processor and of BiT's.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How a picture becomes pixels. Reads Hugging Face's `preprocessor_config.json` of CLIP, SigLIP and BiT (DINOv2's), and
/// our own form, which is what this structure is written as.
///
/// A picture is always made RGB, whatever `do_convert_rgb` says, since the towers take nothing else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageProcessor {
    /// Size after resizing; without it the picture stays as large as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// The filter of resizing.
    pub resample: Resample,
    /// Cut from the middle after resizing, black where the picture is smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_size: Option<Fixed>,
    /// What a byte is multiplied with.
    pub rescale_factor: f32,
    /// Subtracted per channel, after that.
    pub image_mean: [f32; 3],
    /// Divided by per channel.
    pub image_std: [f32; 3],
}

/// Target of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Pixels.
    pub height: u32,
    /// Pixels.
    pub width: u32,
}

impl Fixed {
    fn square(side: u32) -> Self {
        Self { height: side, width: side }
    }
}

impl Default for ImageProcessor {
    /// OpenAI CLIP's.
    fn default() -> Self {
        Self {
            size: Some(Size::ShortestEdge { shortest_edge: 224 }),
            resample: Resample::Bicubic,
            crop_size: Some(Fixed::square(224)),
            rescale_factor: 1.0 / 255.0,
            image_mean: CLIP_MEAN,
            image_std: CLIP_STD,
        }
    }
}

/// Whose defaults hold for keys that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// CLIP's and BiT's: by the shortest edge, then cropped.
    Clip,
    /// SigLIP's: squeezed to a fixed size.
    Siglip,
    /// A file that does not say: what is missing is not done.
    Unnamed,
}

impl Family {
    fn read(fields: &Fields) -> fields::Result<Self> {
        let key = if fields.get("image_processor_type").is_some() {
            "image_processor_type"
        } else {
            "feature_extractor_type" // until 2022
        };
        let Some(name) = fields.word(key)? else { return Ok(Self::Unnamed) };
        match name.strip_suffix("Fast").unwrap_or(name) {
            "CLIPImageProcessor" | "CLIPFeatureExtractor" | "BitImageProcessor" => Ok(Self::Clip),
            "SiglipImageProcessor" => Ok(Self::Siglip),
            _ => Err(fields.error(key, "CLIPImageProcessor, BitImageProcessor or SiglipImageProcessor")),
        }
    }
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// Names the key that does not fit.
    pub fn read(json: &Value) -> fields::Result<Self> {
        let fields = Fields::top(json)?;
        let family = Family::read(&fields)?;
        fields.flag("do_convert_rgb", true)?;
        let number = fields.count("resample", Some(Resample::Bicubic as usize), 0..=5)?;
        let rescale = if fields.flag("do_rescale", true)? {
            fields.number("rescale_factor", Some(1.0 / 255.0), 1e-6..=1.0)?
        } else {
            1.0
        };
        let (size, crop_size) = (size(&fields, family)?, crop_size(&fields, family)?);
        let (image_mean, image_std) = normalisation(&fields, family)?;
        Ok(Self {
            size,
            resample: Resample::numbered(number).unwrap_or(Resample::Bicubic),
            crop_size,
            rescale_factor: rescale as f32,
            image_mean,
            image_std,
        })
    }

    /// One picture as planes `[3, H, W]`, row by row.
    ///
    /// # Errors
    /// A picture without pixels, or one that would become too large.
    pub fn pixels(&self, picture: &Picture) -> Result<Vec<f32>> {
        let cut = self.cut(picture.rgb())?;
        let area = (cut.width() * cut.height()) as usize;
        let mut planes = vec![0f32; 3 * area];
        for (at, pixel) in cut.pixels().enumerate() {
            for channel in 0..3 {
                let value = f32::from(pixel.0[channel]) * self.rescale_factor;
                planes[channel * area + at] = (value - self.image_mean[channel]) / self.image_std[channel];
            }
        }
        Ok(planes)
    }

    /// The picture resized and cropped, in one go.
    fn cut(&self, rgb: &RgbImage) -> Result<RgbImage> {
        let (width, height) = rgb.dimensions();
        let (to_width, to_height) = self.resized(width, height);
        let crop = |to: u64, crop: Option<u32>| crop.map_or(to, u64::from);
        let out_width = crop(to_width, self.crop_size.map(|c| c.width));
        let out_height = crop(to_height, self.crop_size.map(|c| c.height));
        if width == 0 || height == 0 || out_width.max(out_height) > LONGEST as u64 {
            return Err(RetrieverError::Pixels { width, height, out_width, out_height, longest: LONGEST });
        }
        let (x, left) = middle(width, to_width, out_width as u32);
        let (y, top) = middle(height, to_height, out_height as u32);
        let part = resize(rgb, x, y, self.resample)?;
        if (part.width(), part.height()) == (out_width as u32, out_height as u32) {
            return Ok(part);
        }
        let mut out = RgbImage::new(out_width as u32, out_height as u32);
        imageops::replace(&mut out, &part, i64::from(left), i64::from(top));
        Ok(out)
    }

    /// Width and height after resizing.
    fn resized(&self, width: u32, height: u32) -> (u64, u64) {
        let (width, height) = (u64::from(width), u64::from(height));
        match self.size {
            None => (width, height),
            Some(Size::Fixed(fixed)) => (fixed.width.into(), fixed.height.into()),
            Some(Size::ShortestEdge { shortest_edge }) => {
                let edge = u64::from(shortest_edge);
                let long = |long: u64, short: u64| edge * long / short.max(1);
                if width <= height { (edge, long(height, width)) } else { (long(width, height), edge) }
            }
        }
    }

    /// Height and width of what [`ImageProcessor::pixels`] gives; `None` where it depends on the picture.
    #[must_use]
    pub fn output_size(&self) -> Option<Fixed> {
        match (self.crop_size, self.size) {
            (Some(crop), _) => Some(crop),
            (None, Some(Size::Fixed(fixed))) => Some(fixed),
            (None, _) => None,
        }
    }

    /// A batch `[B, 3, H, W]`; pictures are prepared in parallel.
    ///
    /// # Errors
    /// Those of [`ImageProcessor::pixels`]; pictures that differ in size.
    pub fn batch(&self, pictures: &[Picture], device: &Device) -> Result<Tensor> {
        let planes = pictures.par_iter().map(|picture| self.pixels(picture)).collect::<Result<Vec<_>>>()?;
        self.stack(&planes, device)
    }

    /// As [`ImageProcessor::batch`], of what [`ImageProcessor::pixels`] gave.
    ///
    /// # Errors
    /// Pictures that differ in size.
    pub fn stack<P: AsRef<[f32]>>(&self, planes: &[P], device: &Device) -> Result<Tensor> {
        let side = self.output_size().ok_or_else(|| {
            candle_core::Error::Msg("image_processor: pictures of a batch would differ in size; give crop_size".into())
        })?;
        let shape = (planes.len(), 3, side.height as usize, side.width as usize);
        let values: Vec<f32> = planes.iter().flat_map(|planes| planes.as_ref()).copied().collect();
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}

impl<'de> Deserialize<'de> for ImageProcessor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Self::read(&json).map_err(|e| serde::de::Error::custom(format!("image processor: {e}")))
    }
}

/// The window of an axis that a crop from the middle keeps, and where it lies in the crop (not at its start where the
/// picture is smaller). Halves are rounded as Hugging Face rounds them: down, and up for the border.
fn middle(source: u32, target: u64, crop: u32) -> (Axis, u32) {
    let crop = u64::from(crop);
    let (first, at) = if target >= crop { ((target - crop) / 2, 0) } else { (0, (crop - target).div_ceil(2)) };
    let count = target.min(crop) as u32;
    (Axis { source, target, first, count }, at as u32)
}

fn size(fields: &Fields, family: Family) -> fields::Result<Option<Size>> {
    const KEY: &str = "size";
    if !fields.flag("do_resize", true)? {
        return Ok(None);
    }
    match (fields.get(KEY), family) {
        (None, Family::Clip) => Ok(Some(Size::ShortestEdge { shortest_edge: 224 })),
        (None, Family::Siglip) => Ok(Some(Size::Fixed(Fixed::square(224)))),
        (None, Family::Unnamed) => Ok(None),
        (Some(Value::Number(_)), Family::Clip) => Ok(Some(Size::ShortestEdge { shortest_edge: side(fields, KEY)? })),
        (Some(Value::Number(_)), Family::Siglip) => Ok(Some(Size::Fixed(Fixed::square(side(fields, KEY)?)))),
        (Some(Value::Number(_)), Family::Unnamed) => Err(fields.error(
            KEY,
            "shortest_edge, or height and width: what a number alone means depends on image_processor_type",
        )),
        (Some(_), _) => {
            let inner = fields.object(KEY)?;
            match (inner.get("shortest_edge"), inner.get("longest_edge"), inner.get("height"), inner.get("width")) {
                (Some(_), None, None, None) => {
                    Ok(Some(Size::ShortestEdge { shortest_edge: side(&inner, "shortest_edge")? }))
                }
                (None, None, Some(_), Some(_)) => fixed(&inner).map(|fixed| Some(Size::Fixed(fixed))),
                _ => Err(fields.error(KEY, "shortest_edge alone, or height and width")),
            }
        }
    }
}

fn crop_size(fields: &Fields, family: Family) -> fields::Result<Option<Fixed>> {
    const KEY: &str = "crop_size";
    let by_default = match family {
        Family::Clip => true,
        // The processor knows no crop, and leaves the keys of one unread.
        Family::Siglip => return Ok(None),
        Family::Unnamed => fields.get(KEY).is_some(),
    };
    if !fields.flag("do_center_crop", by_default)? {
        return Ok(None);
    }
    match (fields.get(KEY), family) {
        (None, Family::Clip) => Ok(Some(Fixed::square(224))),
        (Some(Value::Object(_)), _) => fixed(&fields.object(KEY)?).map(Some),
        _ => Ok(Some(Fixed::square(side(fields, KEY)?))),
    }
}

fn side(fields: &Fields, key: &str) -> fields::Result<u32> {
    Ok(fields.count(key, None, 1..=LONGEST)? as u32)
}

fn fixed(fields: &Fields) -> fields::Result<Fixed> {
    Ok(Fixed { height: side(fields, "height")?, width: side(fields, "width")? })
}

/// Mean and deviation per channel.
fn normalisation(fields: &Fields, family: Family) -> fields::Result<([f32; 3], [f32; 3])> {
    if !fields.flag("do_normalize", true)? {
        return Ok(([0.0; 3], [1.0; 3]));
    }
    let (mean, std) = match family {
        Family::Clip => (Some(CLIP_MEAN), Some(CLIP_STD)),
        Family::Siglip => (Some([0.5; 3]), Some([0.5; 3])),
        Family::Unnamed => (None, None),
    };
    let triple = |key: &str, default: Option<[f32; 3]>, least: f64| {
        let expected = || format!("three numbers from {least} to 1000");
        let Some(value) = fields.get(key) else { return default.ok_or_else(|| fields.error(key, expected())) };
        let bounded = |value: &Value| value.as_f64().filter(|number| (least..=1000.0).contains(number));
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|numbers| numbers.iter().map(bounded).collect());
        match numbers.as_deref() {
            Some([red, green, blue]) => Ok([*red as f32, *green as f32, *blue as f32]),
            _ => Err(fields.error(key, expected())),
        }
    };
    Ok((triple("image_mean", mean, -1000.0)?, triple("image_std", std, 1e-6)?))
}
