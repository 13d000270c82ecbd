//! The four drawings of each flag: on white, as small as lossless PNG goes.

use anyhow::{Context, Result, ensure};
use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// Width and height of the two large styles.
pub const LARGE: (u32, u32) = (320, 240);

/// Decodes a PNG and lays it on white.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    Ok(on_white(&image::load_from_memory_with_format(bytes, ImageFormat::Png)?.to_rgba8()))
}

/// Draws an SVG at 320x240 on white.
pub fn draw(svg: &[u8]) -> Result<RgbImage> {
    let tree = usvg::Tree::from_data(svg, &usvg::Options::default())?;
    let (width, height) = LARGE;
    let mut map = Pixmap::new(width, height).context("no pixmap")?;
    let size = tree.size();
    let scale = Transform::from_scale(width as f32 / size.width(), height as f32 / size.height());
    resvg::render(&tree, scale, &mut map.as_mut());
    let pixels = map.pixels().iter().flat_map(|p| {
        let p = p.demultiply();
        [p.red(), p.green(), p.blue(), p.alpha()]
    });
    let picture = RgbaImage::from_raw(width, height, pixels.collect()).context("pixels and size disagree")?;
    Ok(on_white(&picture))
}

fn on_white(picture: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0;
        let lay = |c: u8| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255) as u8;
        image::Rgb([lay(r), lay(g), lay(b)])
    })
}

/// Encodes as PNG and minimises it without loss.
pub fn encode(picture: &RgbImage) -> Result<Vec<u8>> {
    ensure!(picture.width() <= LARGE.0 && picture.height() <= LARGE.1, "a picture is larger than {LARGE:?}");
    let mut plain = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture.clone()).write_to(&mut plain, ImageFormat::Png)?;
    let mut options = oxipng::Options::from_preset(2);
    options.strip = oxipng::StripChunks::All;
    Ok(oxipng::optimize_from_memory(plain.get_ref(), &options)?)
}

/// Whether no eye could tell the two apart: the mean difference of a channel is below one of 255 steps.
pub fn alike(a: &RgbImage, b: &RgbImage) -> bool {
    if a.dimensions() != b.dimensions() {
        return false;
    }
    let limit = a.as_raw().len() as u64;
    let mut sum = 0;
    for (a, b) in a.as_raw().chunks(960).zip(b.as_raw().chunks(960)) {
        sum += a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
        if sum >= limit {
            return false;
        }
    }
    true
}
