//! JPEG's pixels as libjpeg gives them, on which Pillow and so every tower's training stands. Other decoders round the
//! spread of the colour planes differently, by up to nine steps of a byte.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

/// Decodes a whole file.
///
/// # Errors
/// The reason, for a file that is damaged or ends too early.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let ended = Cell::new(false);
    // libjpeg reports what it cannot go on from by unwinding.
    let decoded = catch_unwind(AssertUnwindSafe(|| rgb(Whole { rest: bytes, ended: &ended })));
    let reason = match decoded {
        Ok(Ok(picture)) => return Ok(picture),
        Ok(Err(error)) => error.to_string(),
        Err(fatal) => fatal.downcast_ref::<String>().cloned().unwrap_or_else(|| "not decodable".into()),
    };
    Err(if ended.get() { "the file ends before the picture does".into() } else { reason })
}

fn rgb(file: Whole) -> io::Result<RgbImage> {
    let decoder = Decompress::new_reader(file)?;
    let inks = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
    let mut lines = if inks { decoder.to_colorspace(ColorSpace::JCS_CMYK)? } else { decoder.rgb()? };
    let (width, height) = (lines.width() as u32, lines.height() as u32);
    let samples: Vec<u8> = lines.read_scanlines()?;
    let samples = if inks { samples.chunks_exact(4).flat_map(from_inks).collect() } else { samples };
    RgbImage::from_raw(width, height, samples).ok_or_else(|| io::Error::other("another size than its header says"))
}

/// Cyan, magenta, yellow and black, stored inverted as Adobe does, to RGB as Pillow converts them: each colour is
/// darkened by its ink, within what black leaves.
fn from_inks(stored: &[u8]) -> [u8; 3] {
    let light = u32::from(stored[3]);
    let colour = |at: usize| {
        let product = u32::from(255 - stored[at]) * light + 128;
        (light - ((product >> 8) + product) / 256) as u8 // product / 255, rounded
    };
    [colour(0), colour(1), colour(2)]
}

/// A file whose end is an error. (libjpeg fills a picture that is cut off with grey.)
struct Whole<'a> {
    rest: &'a [u8],
    ended: &'a Cell<bool>,
}

impl Read for Whole<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ended.set(true);
            return Err(io::Error::other("the file has ended"));
        }
        Ok(self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::decode;

    fn file(name: &str) -> Vec<u8> {
        fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures").join(name)).unwrap()
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for name in ["turned8.jpg", "cmyk.jpg", "grey.jpg"] {
            let whole = file(name);
            decode(&whole).unwrap();
            for length in 0..whole.len() - 2 {
                assert!(decode(&whole[..length]).is_err(), "{name} cut at {length}");
            }
            assert_eq!(decode(&whole[..whole.len() / 2]).unwrap_err(), "the file ends before the picture does");
        }
    }

    proptest! {
        #[test]
        fn a_file_with_other_bytes_never_panics(changes in prop::collection::vec((2usize..800, any::<u8>()), 1..6)) {
            let mut bytes = file("turned8.jpg");
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            // A size that such bytes may claim is bounded before a picture is decoded.
            let size = image::ImageReader::with_format(std::io::Cursor::new(&bytes), image::ImageFormat::Jpeg)
                .into_dimensions();
            if size.is_ok_and(|(width, height)| width * height < 1 << 20) {
                let _ = decode(&bytes);
            }
        }
    }
}
