//! Pictures, decoded within bounds.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Luma, LumaA, Rgb, RgbImage, Rgba,
};

use super::jpeg;

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
    /// Opens, bounds, decodes, turns upright by EXIF, and makes RGB of any colour type. Of an animation the first frame
    /// is taken.
    ///
    /// # Errors
    /// See [`PictureError`]; each names the file.
    #[allow(clippy::disallowed_methods)] // the errors name the path already; `fs_err` would name it twice
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
        let bytes = std::fs::read(path).map_err(open)?;
        let reader = ImageReader::new(Cursor::new(bytes.as_slice())).with_guessed_format().map_err(open)?;
        let format = reader.format();
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
        let pixels = if format == Some(ImageFormat::Jpeg) {
            jpeg::decode(&bytes).map_err(decode)?
        } else {
            to_rgb(DynamicImage::from_decoder(decoder).map_err(|e| decode(e.to_string()))?)
        };
        let mut pixels = DynamicImage::ImageRgb8(pixels);
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

/// RGB as Pillow's `convert("RGB")` makes it: alpha is dropped, grey is repeated. Of 16 bits in colour or with alpha the
/// upper 8 are kept; those of plain grey are cut off at 255, so that most such pictures become white, as they do there.
fn to_rgb(pixels: DynamicImage) -> RgbImage {
    fn upper(value: u16) -> u8 {
        (value >> 8) as u8
    }
    match pixels {
        DynamicImage::ImageLuma16(grey) => map_rgb(&grey, |Luma([grey])| [(*grey).min(255) as u8; 3]),
        DynamicImage::ImageLumaA16(grey) => map_rgb(&grey, |LumaA([grey, _])| [upper(*grey); 3]),
        DynamicImage::ImageRgb16(rgb) => map_rgb(&rgb, |Rgb(rgb)| rgb.map(upper)),
        DynamicImage::ImageRgba16(rgba) => map_rgb(&rgba, |Rgba([r, g, b, _])| [*r, *g, *b].map(upper)),
        other => other.into_rgb8(),
    }
}

fn map_rgb<P: image::Pixel>(pixels: &ImageBuffer<P, Vec<P::Subpixel>>, convert: impl Fn(&P) -> [u8; 3]) -> RgbImage {
    let (width, height) = pixels.dimensions();
    RgbImage::from_fn(width, height, |x, y| Rgb(convert(pixels.get_pixel(x, y))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// A PNG that claims a size and holds next to nothing.
    fn claiming(width: u32, height: u32) -> Vec<u8> {
        let mut small = Vec::new();
        let one = image::DynamicImage::new_rgb8(1, 1);
        one.write_to(&mut std::io::Cursor::new(&mut small), image::ImageFormat::Png).unwrap();
        small[16..20].copy_from_slice(&width.to_be_bytes());
        small[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&small[12..29]);
        small[29..33].copy_from_slice(&crc.to_be_bytes());
        small
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    fn opened(bytes: &[u8]) -> Result<Picture, PictureError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), bytes).unwrap();
        Picture::open(file.path(), &PictureLimits::default())
    }

    #[test]
    fn a_picture_of_60000_by_60000_is_refused_by_its_header() {
        let message = opened(&claiming(60_000, 60_000)).unwrap_err().to_string();
        assert!(message.contains("60000 x 60000 pixels"), "{message}");
        assert!(message.contains("retriever.max_picture_pixels"), "{message}");
    }

    #[test]
    fn a_picture_that_claims_more_than_it_holds_is_an_error() {
        assert!(matches!(opened(&claiming(4000, 4000)), Err(PictureError::Decode { .. })));
    }

    #[test]
    fn a_text_an_empty_file_a_folder_and_nothing_are_errors() {
        assert!(matches!(opened(b"hello"), Err(PictureError::Decode { .. })));
        assert!(matches!(opened(b""), Err(PictureError::Decode { .. })));
        let dir = tempfile::tempdir().unwrap();
        let limits = PictureLimits::default();
        assert!(matches!(Picture::open(dir.path(), &limits), Err(PictureError::Decode { .. })));
        assert!(matches!(Picture::open(&dir.path().join("none.png"), &limits), Err(PictureError::Open { .. })));
    }

    #[test]
    fn a_file_over_the_byte_limit_is_refused_unread() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), claiming(1, 1)).unwrap();
        let limits = PictureLimits { max_bytes: 10, ..PictureLimits::default() };
        assert!(matches!(Picture::open(file.path(), &limits), Err(PictureError::TooLarge { .. })));
    }
}
