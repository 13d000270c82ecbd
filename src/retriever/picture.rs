//! Pictures, decoded within bounds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

/// Bounds of decoding, so that a hostile file costs an error and no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// Largest file, bytes.
    pub max_bytes: u64,
    /// Most pixels, width times height.
    pub max_pixels: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_pixels: 100_000_000 }
    }
}

/// An upright RGB picture. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Picture {
    pixels: Arc<RgbImage>,
}

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be opened.
    #[error("picture {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Not a picture, or a damaged one.
    #[error("picture {path}: {reason}; expected a whole PNG, JPEG, WebP, GIF, BMP or TIFF file")]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// Larger than the bounds.
    #[error("picture {path}: {found}, more than the limit of {limit}; make it smaller or raise `{key}`")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What is allowed.
        limit: String,
        /// The configuration key of the limit.
        key: &'static str,
    },
}

impl Picture {
    /// Opens, bounds, decodes, turns upright by EXIF, and makes RGB of any colour type (alpha is dropped, as
    /// Pillow's `convert("RGB")` does). Of an animation the first frame is taken.
    ///
    /// # Errors
    /// See [`PictureError`]; each names the file.
    pub fn open(path: &Path, limits: &PictureLimits) -> Result<Self, PictureError> {
        let open = |source| PictureError::Open { path: path.to_owned(), source };
        let decode = |reason: String| PictureError::Decode { path: path.to_owned(), reason };
        let meta = std::fs::metadata(path).map_err(open)?;
        if !meta.is_file() {
            return Err(decode("not a file".into()));
        }
        if meta.len() > limits.max_bytes {
            return Err(PictureError::TooLarge {
                path: path.to_owned(),
                found: format!("{} bytes", meta.len()),
                limit: format!("{} bytes", limits.max_bytes),
                key: "retriever.max_picture_bytes",
            });
        }
        let reader = ImageReader::open(path).map_err(open)?.with_guessed_format().map_err(open)?;
        let mut decoder = reader.into_decoder().map_err(|e| decode(e.to_string()))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > limits.max_pixels {
            return Err(PictureError::TooLarge {
                path: path.to_owned(),
                found: format!("{width} x {height} pixels"),
                limit: format!("{} pixels", limits.max_pixels),
                key: "retriever.max_picture_pixels",
            });
        }
        let mut bounds = Limits::default();
        bounds.max_alloc = Some(limits.max_pixels.saturating_mul(16));
        decoder.set_limits(bounds).map_err(|e| decode(e.to_string()))?;
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut pixels = DynamicImage::from_decoder(decoder).map_err(|e| decode(e.to_string()))?;
        pixels.apply_orientation(orientation);
        Ok(Self::from_rgb(pixels.into_rgb8()))
    }

    /// Takes pixels that are decoded already.
    #[must_use]
    pub fn from_rgb(pixels: RgbImage) -> Self {
        Self { pixels: Arc::new(pixels) }
    }

    /// The pixels.
    #[must_use]
    pub fn rgb(&self) -> &RgbImage {
        &self.pixels
    }
}
