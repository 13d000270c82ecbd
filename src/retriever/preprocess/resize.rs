//! Resizing as Pillow does it: a filter widened to the scale (so that shrinking smooths), one axis after the other, with
//! rounding to bytes between.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U16x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{Rgb, RgbImage, imageops};
use serde::Serialize;

use crate::retriever::error::{Result, RetrieverError};

/// A filter by Pillow's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub enum Resample {
    /// The pixel at the place.
    Nearest = 0,
    /// Lanczos over three pixels.
    Lanczos = 1,
    /// Triangle.
    Bilinear = 2,
    /// Cubic convolution, a = -0.5.
    Bicubic = 3,
    /// Mean.
    Box = 4,
    /// Hamming window.
    Hamming = 5,
}

impl From<Resample> for u8 {
    fn from(resample: Resample) -> Self {
        resample as Self
    }
}

impl Resample {
    /// The filter of Pillow's number.
    #[must_use]
    pub fn numbered(number: usize) -> Option<Self> {
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming].get(number).copied()
    }

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Self::Nearest => return ResizeAlg::Nearest,
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Box => FilterType::Box,
            Self::Hamming => FilterType::Hamming,
        })
    }

    /// How far the filter reaches on either side, in pixels of a picture that is not shrunk.
    fn reach(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }
}

/// One axis of a resize: the picture's length, the length it would be resized to, and the window of the latter that is
/// computed. A long thin picture would become an enormous one of which a crop keeps little; so the crop comes first.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Length of the picture, pixels.
    pub source: u32,
    /// Length after resizing, pixels.
    pub target: u64,
    /// First pixel of the target that is computed.
    pub first: u64,
    /// Number of pixels computed.
    pub count: u32,
}

impl Axis {
    /// Pixels of the source for one of the target.
    fn scale(&self) -> f64 {
        f64::from(self.source) / self.target as f64
    }

    /// The window in the source.
    fn window(&self) -> (f64, f64) {
        let from = self.first as f64 * self.scale();
        // Rounding must not lead out of the picture.
        (from, (f64::from(self.count) * self.scale()).min(f64::from(self.source) - from))
    }

    /// First pixel and number of pixels of the source that the window is made of.
    fn needed(&self, resample: Resample) -> (u32, u32) {
        let (from, length) = self.window();
        let margin = resample.reach() * self.scale().max(1.0) + 1.0;
        let first = (from - margin).floor().max(0.0) as u32;
        let last = (from + length + margin).ceil().min(f64::from(self.source)) as u32;
        (first, last - first)
    }
}

/// The window of a picture resized along both axes.
///
/// # Errors
/// The engine's own.
pub fn resize(rgb: &RgbImage, x: Axis, y: Axis, resample: Resample) -> Result<RgbImage> {
    let (left, columns) = x.needed(resample);
    let (top, rows) = y.needed(resample);
    let part = if (columns, rows) == rgb.dimensions() {
        None
    } else {
        Some(imageops::crop_imm(rgb, left, top, columns, rows).to_image())
    };
    let part = part.as_ref().unwrap_or(rgb);
    let (from_x, width) = x.window();
    let (from_y, height) = y.window();
    let (from_x, from_y) = (from_x - f64::from(left), from_y - f64::from(top));
    let across = |rgb: &RgbImage| {
        let size = (x.count, rgb.height());
        one_axis(rgb, size, (from_x, 0.0, width, f64::from(rgb.height())), resample)
    };
    let down = |rgb: &RgbImage| {
        let size = (rgb.width(), y.count);
        one_axis(rgb, size, (0.0, from_y, f64::from(rgb.width()), height), resample)
    };
    if down_first(&x, &y) { across(&down(part)?) } else { down(&across(part)?) }
}

/// Which axis comes first matters by a few steps of brightness, since bytes are rounded and clipped between. Pillow
/// starts across, but (from version 13 on, `ImagingResample`) starts down where the height shrinks by more than twice
/// of what the width does.
fn down_first(x: &Axis, y: &Axis) -> bool {
    let lost = |axis: &Axis| i128::from(axis.source) - i128::from(axis.target);
    lost(y) > 0 && lost(y) > 2 * lost(x)
}

/// `area` is left, top, width and height of what is taken of `rgb`. Computed in 16 bits, since the engine's weights for
/// bytes are too coarse: a sum of many is off by a step or two.
fn one_axis(rgb: &RgbImage, size: (u32, u32), area: (f64, f64, f64, f64), resample: Resample) -> Result<RgbImage> {
    const WIDER: u16 = 257; // 255 * 257 = 65535
    let engine = |e: &dyn std::fmt::Display| RetrieverError::Engine(candle_core::Error::Msg(format!("resize: {e}")));
    let wide: Vec<U16x3> = rgb.pixels().map(|Rgb(rgb)| U16x3::new(rgb.map(|byte| u16::from(byte) * WIDER))).collect();
    let source = TypedImageRef::new(rgb.width(), rgb.height(), &wide).map_err(|e| engine(&e))?;
    let mut target = TypedImage::<U16x3>::new(size.0, size.1);
    let options = ResizeOptions::new().resize_alg(resample.algorithm()).crop(area.0, area.1, area.2, area.3);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|e| engine(&e))?;
    let byte = |value: u16| ((u32::from(value) + u32::from(WIDER) / 2) / u32::from(WIDER)) as u8;
    let bytes = target.pixels().iter().flat_map(|pixel| pixel.0.map(byte)).collect();
    RgbImage::from_raw(size.0, size.1, bytes).ok_or_else(|| engine(&"size of the result"))
}
