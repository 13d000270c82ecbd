//! Views of a picture as another hand might have drawn, waved, cropped or saved it.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage, imageops};
use rand::Rng;

/// Side of a view, pixels; the processor takes it from there.
const SIDE: u32 = 160;

/// One random view.
pub fn view(source: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let mut out = warp(&small(source, rng), rng);
    colour(&mut out, rng);
    if rng.random_bool(0.25) {
        out = imageops::blur(&out, rng.random_range(0.4..1.6));
    }
    if rng.random_bool(0.3) { jpeg(&out, rng.random_range(25..85)) } else { out }
}

/// Small drawings lose detail: now and then the picture goes through a few dozen pixels.
fn small(source: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    if !rng.random_bool(0.6) || source.width() < 65 {
        return source.clone();
    }
    let width = rng.random_range(28..96);
    let height = (width * source.height()).div_ceil(source.width()).max(8);
    imageops::resize(source, width, height, imageops::FilterType::Triangle)
}

/// Background, margins, rounded corners, rotation, perspective and waves, in one inverse mapping.
fn warp(source: &RgbImage, rng: &mut impl Rng) -> RgbImage {
    let (width, height) = (source.width() as f32, source.height() as f32);
    let background = match rng.random_range(0..10) {
        0..6 => [255.0; 3],
        6 => [0.0; 3],
        _ => [rng.random_range(0.0..255.0), rng.random_range(0.0..255.0), rng.random_range(0.0..255.0f32)],
    };
    let framed = rng.random_bool(0.75);
    // Half sizes of the picture in the view, 1 filling it; drawings usually keep wide margins above and below.
    let (half_w, half_h) = if framed {
        (rng.random_range(0.72..1.02f32), rng.random_range(0.5..1.02f32))
    } else {
        (rng.random_range(0.98..1.2f32), rng.random_range(0.98..1.2f32))
    };
    let (shift_x, shift_y) = (rng.random_range(-0.06..0.06f32), rng.random_range(-0.06..0.06f32));
    let angle = if rng.random_bool(0.4) { rng.random_range(-0.16..0.16f32) } else { 0.0 };
    let (sin, cos) = angle.sin_cos();
    let tilt = if rng.random_bool(0.3) { rng.random_range(-0.18..0.18f32) } else { 0.0 };
    let lean = if rng.random_bool(0.3) { rng.random_range(-0.18..0.18f32) } else { 0.0 };
    let wave = if rng.random_bool(0.35) { rng.random_range(0.02..0.1f32) } else { 0.0 };
    let (frequency, phase) = (rng.random_range(2.0..6.0f32), rng.random_range(0.0..6.3f32));
    let corner = if framed && rng.random_bool(0.5) { rng.random_range(0.03..0.22f32) } else { 0.0 };
    let shade = if wave > 0.0 { rng.random_range(0.0..0.2f32) } else { 0.0 };
    RgbImage::from_fn(SIDE, SIDE, |px, py| {
        let x = (px as f32 + 0.5) / SIDE as f32 * 2.0 - 1.0 - shift_x;
        let y = (py as f32 + 0.5) / SIDE as f32 * 2.0 - 1.0 - shift_y;
        let (x, y) = (x * cos + y * sin, y * cos - x * sin);
        let depth = 1.0 + tilt * x + lean * y;
        let (u, v) = (x / (half_w * depth), y / (half_h * depth));
        let bend = (u * frequency + phase).sin();
        let v = v + wave * bend;
        if u.abs() > 1.0 || v.abs() > 1.0 || outside_corner(u, v, corner) {
            return Rgb(background.map(|c| c as u8));
        }
        let colour = sample(source, (u + 1.0) / 2.0 * width - 0.5, (v + 1.0) / 2.0 * height - 0.5);
        let light = 1.0 + shade * (u * frequency + phase).cos();
        Rgb(colour.map(|c| (c * light).clamp(0.0, 255.0) as u8))
    })
}

fn outside_corner(u: f32, v: f32, radius: f32) -> bool {
    let (dx, dy) = (u.abs() - (1.0 - radius), v.abs() - (1.0 - radius));
    radius > 0.0 && dx > 0.0 && dy > 0.0 && dx * dx + dy * dy > radius * radius
}

/// Bilinear, edges repeated.
fn sample(source: &RgbImage, x: f32, y: f32) -> [f32; 3] {
    let (width, height) = (source.width() as i32, source.height() as i32);
    let (x0, y0) = (x.floor(), y.floor());
    let (fx, fy) = (x - x0, y - y0);
    let at = |x: i32, y: i32| source.get_pixel(x.clamp(0, width - 1) as u32, y.clamp(0, height - 1) as u32).0;
    let (x0, y0) = (x0 as i32, y0 as i32);
    let (a, b, c, d) = (at(x0, y0), at(x0 + 1, y0), at(x0, y0 + 1), at(x0 + 1, y0 + 1));
    let mut out = [0.0; 3];
    for channel in 0..3 {
        let mix = |p: u8, q: u8, t: f32| f32::from(p) * (1.0 - t) + f32::from(q) * t;
        out[channel] = mix(a[channel], b[channel], fx) * (1.0 - fy) + mix(c[channel], d[channel], fx) * fy;
    }
    out
}

/// Brightness, contrast, saturation and a tint per channel: palettes differ between drawings.
fn colour(picture: &mut RgbImage, rng: &mut impl Rng) {
    let gain: [f32; 3] = std::array::from_fn(|_| rng.random_range(0.82..1.18f32));
    let (contrast, shift) = (rng.random_range(0.75..1.2f32), rng.random_range(-25.0..25.0f32));
    let saturation = rng.random_range(0.65..1.3f32);
    for pixel in picture.pixels_mut() {
        let [r, g, b] = pixel.0.map(f32::from);
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        for (channel, value) in [r, g, b].into_iter().enumerate() {
            let value = grey + (value - grey) * saturation;
            let value = (value * gain[channel] - 128.0) * contrast + 128.0 + shift;
            pixel.0[channel] = value.clamp(0.0, 255.0) as u8;
        }
    }
}

/// Through a JPEG and back; a codec that fails leaves the picture as it was.
fn jpeg(picture: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    let done = JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(picture);
    match done.and_then(|()| image::ImageReader::with_format(Cursor::new(bytes), image::ImageFormat::Jpeg).decode()) {
        Ok(decoded) => decoded.into_rgb8(),
        Err(_) => picture.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn views_depend_on_the_seed_alone() {
        let source = RgbImage::from_fn(90, 60, |x, y| Rgb([x as u8, y as u8, 9]));
        let of = |seed| view(&source, &mut StdRng::seed_from_u64(seed));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(3).dimensions(), (SIDE, SIDE));
    }

    #[test]
    fn a_picture_of_one_pixel_has_views() {
        let source = RgbImage::new(1, 1);
        for seed in 0..50 {
            view(&source, &mut StdRng::seed_from_u64(seed));
        }
    }
}
