//! A picture as text that shows it in a place of some cells.

use image::{DynamicImage, imageops};
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::Color;
use ratatui::widgets::Widget;
use ratatui_image::picker::Picker;
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::halfblocks::Halfblocks;
use ratatui_image::{FilterType, FontSize, Image, Resize};

use crate::retriever::Picture;

/// Pixels of a cell of half blocks.
const HALVES: FontSize = FontSize::new(1, 2);

/// A picture is brought down to this many times the pixels of its place by the fastest filter, before a better one takes
/// it from there.
const COARSE: u32 = 4;

/// Colours that a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// 24 bits.
    True,
    /// The 256 of xterm.
    Indexed,
}

/// What pictures are drawn with.
pub enum Brush {
    /// Two pixels a cell, by the colours of a character that fills half of it.
    HalfBlocks(Depth),
    /// The pixels themselves, by a protocol that the terminal has said to know.
    Pixels(Picker),
}

/// A drawn picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drawing {
    /// Written where the picture's first row begins. The cursor is there again afterwards.
    pub before: String,
    /// One for each row of cells: takes the cursor from the picture's left edge to its right one.
    pub rows: Vec<String>,
    /// Width, cells.
    pub columns: u16,
}

impl Brush {
    /// Draws a picture as large as fits into `place` without a change of its shape; `None` for one without a pixel, or
    /// that cannot be encoded.
    pub fn draw(&self, picture: &Picture, place: Size) -> Option<Drawing> {
        let drawn = self.encode(picture, place)?;
        Some(Drawing::of(&drawn, if let Self::HalfBlocks(depth) = self { *depth } else { Depth::True }))
    }

    /// As [`Brush::draw`], for a screen of cells.
    pub fn encode(&self, picture: &Picture, place: Size) -> Option<Protocol> {
        let font = match self {
            Self::HalfBlocks(_) => HALVES,
            Self::Pixels(picker) => picker.font_size(),
        };
        let picture = coarse(picture, place, font)?;
        let resize = Resize::Scale(Some(FilterType::Triangle));
        let drawn = match self {
            // Not by a picker, which would leave a black margin where a picture ends within a cell.
            Self::HalfBlocks(_) => {
                let size = resize.size_for(&picture, font, place);
                Halfblocks::new(picture, size).map(Protocol::Halfblocks)
            }
            Self::Pixels(picker) => picker.new_protocol(picture, place, resize),
        };
        drawn.inspect_err(|e| tracing::debug!("no thumbnail: {e}")).ok()
    }
}

impl Drawing {
    fn of(encoded: &Protocol, depth: Depth) -> Self {
        match encoded {
            Protocol::Sixel(sixel) => pixels(&sixel.data, sixel.size),
            Protocol::ITerm2(iterm) => pixels(&iterm.data, iterm.size),
            Protocol::Halfblocks(_) | Protocol::Kitty(_) => {
                let Size { width, height } = encoded.size();
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                Image::new(encoded).render(buffer.area, &mut buffer);
                characters(&buffer, depth)
            }
        }
    }
}

/// A copy that is not much larger than what is shown of it, however large the picture is.
fn coarse(picture: &Picture, place: Size, font: FontSize) -> Option<DynamicImage> {
    let pixels = picture.rgb();
    let (width, height) = pixels.dimensions();
    if width == 0 || height == 0 {
        return None;
    }
    let bound = |cells: u16, font: u16| u32::from(cells) * u32::from(font) * COARSE;
    let (most_wide, most_high) = (bound(place.width, font.width), bound(place.height, font.height));
    let scale = f64::min(f64::from(most_wide) / f64::from(width), f64::from(most_high) / f64::from(height)).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    Some(DynamicImage::ImageRgb8(imageops::thumbnail(pixels, scaled(width), scaled(height))))
}

/// A picture that the terminal paints over its cells at once.
fn pixels(data: &str, size: Size) -> Drawing {
    let Size { width, height } = size;
    // Its rows are made first, by line feeds, so that nothing scrolls while it is painted. Terminals do not agree where
    // the cursor is afterwards, so it is put back.
    let before = format!("{}\x1b[{height}A\x1b7{data}\x1b8", "\n".repeat(usize::from(height)));
    Drawing { before, rows: vec![format!("\x1b[{width}C"); usize::from(height)], columns: width }
}

/// A picture out of coloured characters.
fn characters(buffer: &Buffer, depth: Depth) -> Drawing {
    let columns = buffer.area.width;
    let rows = buffer.content.chunks(usize::from(columns).max(1)).map(|cells| {
        let mut row = String::new();
        let mut pen = (String::new(), String::new());
        for cell in cells {
            let wanted = (colour(38, cell.fg, depth), colour(48, cell.bg, depth));
            if pen.0 != wanted.0 {
                row.push_str(&wanted.0);
            }
            if pen.1 != wanted.1 {
                row.push_str(&wanted.1);
            }
            pen = wanted;
            row.push_str(cell.symbol());
        }
        row.push_str("\x1b[0m");
        row
    });
    Drawing { before: String::new(), rows: rows.collect(), columns }
}

/// The sequence that sets a colour, of the character (38) or behind it (48); empty for the terminal's own.
fn colour(layer: u8, colour: Color, depth: Depth) -> String {
    match (colour, depth) {
        (Color::Rgb(r, g, b), Depth::True) => format!("\x1b[{layer};2;{r};{g};{b}m"),
        (Color::Rgb(r, g, b), Depth::Indexed) => format!("\x1b[{layer};5;{}m", nearest([r, g, b])),
        _ => String::new(),
    }
}

/// The nearest of xterm's 256 colours; any but a colour of 24 bits as it is.
pub fn indexed(colour: Color) -> Color {
    match colour {
        Color::Rgb(r, g, b) => Color::Indexed(nearest([r, g, b])),
        other => other,
    }
}

/// Brightness of the six steps of each side of xterm's cube of colours.
const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The nearest of xterm's 256 colours: of its cube, from 16 on, or of its 24 greys, from 232 on.
fn nearest(colour: [u8; 3]) -> u8 {
    let step = |value: u8| (0..6u8).min_by_key(|&n| STEPS[usize::from(n)].abs_diff(value)).unwrap_or_default();
    let [r, g, b] = colour.map(step);
    let mean = colour.iter().map(|&c| u16::from(c)).sum::<u16>() / 3;
    let grey = (mean.saturating_sub(3) / 10).min(23) as u8;
    let in_cube = [r, g, b].map(|n| STEPS[usize::from(n)]);
    if apart(colour, [8 + 10 * grey; 3]) < apart(colour, in_cube) { 232 + grey } else { 16 + 36 * r + 6 * g + b }
}

/// Squared distance of two colours.
fn apart(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use image::{Rgb, RgbImage};
    use proptest::prelude::*;
    use ratatui_image::protocol::{iterm2::Iterm2, kitty::Kitty, sixel::Sixel};

    use super::*;

    const PLACE: Size = Size::new(12, 6);
    const WHOLE: Brush = Brush::HalfBlocks(Depth::True);

    fn plain(width: u32, height: u32) -> Picture {
        Picture::from_rgb(RgbImage::from_pixel(width, height, Rgb([255, 0, 0])))
    }

    #[test]
    fn one_colour_is_set_once_a_row_and_taken_back() {
        let drawing = WHOLE.draw(&plain(30, 20), PLACE).unwrap();
        let row = format!("\x1b[38;2;255;0;0m\x1b[48;2;255;0;0m{}\x1b[0m", " ".repeat(12));
        assert_eq!(drawing, Drawing { before: String::new(), rows: vec![row; 4], columns: 12 });
        let drawing = Brush::HalfBlocks(Depth::Indexed).draw(&plain(20, 40), PLACE).unwrap();
        assert_eq!(drawing.rows, vec![format!("\x1b[38;5;196m\x1b[48;5;196m{}\x1b[0m", " ".repeat(6)); 6]);
    }

    #[test]
    fn a_picture_without_pixels_is_not_drawn() {
        assert_eq!(WHOLE.draw(&plain(0, 0), PLACE), None);
        assert_eq!(WHOLE.draw(&plain(7, 0), PLACE), None);
    }

    #[test]
    fn pixels_are_painted_over_rows_that_are_there() {
        let (picture, size) = (DynamicImage::new_rgb8(20, 40), Size::new(2, 2));
        let sixel = Protocol::Sixel(Sixel::new(picture.clone(), size, false).unwrap());
        let iterm = Protocol::ITerm2(Iterm2::new(picture, size, false).unwrap());
        for (protocol, begins) in [(sixel, "\x1bP"), (iterm, "\x1b]1337;File=")] {
            let Drawing { before, rows, columns } = Drawing::of(&protocol, Depth::True);
            let painted = before.strip_prefix("\n\n\x1b[2A\x1b7").and_then(|rest| rest.strip_suffix("\x1b8"));
            assert!(painted.unwrap().contains(begins), "{before:?}");
            assert_eq!((rows, columns), (vec!["\x1b[2C".to_owned(); 2], 2));
        }
    }

    #[test]
    fn kitty_gets_the_picture_with_its_first_character() {
        let picture = DynamicImage::new_rgb8(20, 40);
        let kitty = Protocol::Kitty(Kitty::new(picture, Size::new(2, 2), 0x0102_0304, false, false).unwrap());
        // The number of the picture is a colour, whatever colours there are.
        let Drawing { before, rows, columns } = Drawing::of(&kitty, Depth::True);
        assert_eq!((before.as_str(), rows.len(), columns), ("", 2, 2));
        assert!(rows[0].starts_with("\x1b[38;2;2;3;4m\x1b_G"), "{:?}", rows[0]);
        assert!(rows[1].starts_with("\x1b[38;2;2;3;4m\u{10eeee}"), "{:?}", rows[1]);
        for row in rows {
            assert_eq!(row.matches('\u{10eeee}').count(), 2);
            assert!(row.ends_with("\x1b[0m"));
        }
    }

    #[test]
    fn colours_become_the_nearest_of_256() {
        for (colour, number) in [
            ([0, 0, 0], 16),
            ([255, 255, 255], 231),
            ([255, 0, 0], 196),
            ([0, 0, 250], 21),
            ([9, 8, 7], 232),
            ([128, 128, 128], 244),
            ([239, 238, 238], 255),
            ([95, 135, 175], 67),
        ] {
            assert_eq!(nearest(colour), number, "{colour:?}");
        }
    }

    proptest! {
        #[test]
        fn any_picture_fits_into_its_place(width in 1_u32..100, height in 1_u32..100, long in 1_u32..50, small: bool) {
            let place = if small { Size::new(8, 4) } else { PLACE };
            let Drawing { rows, columns, .. } = WHOLE.draw(&plain(width, height * long), place).unwrap();
            prop_assert!((1..=place.width).contains(&columns));
            prop_assert!((1..=usize::from(place.height)).contains(&rows.len()));
            prop_assert!(columns == place.width || rows.len() == usize::from(place.height));
        }

        #[test]
        fn no_colour_is_far_from_its_number(colour: [u8; 3]) {
            // The middle of the widest step is the worst that can be met.
            let number = nearest(colour);
            prop_assert!(number >= 16);
            let n = number - 16;
            let shown = match number {
                232.. => [8 + 10 * (number - 232); 3],
                _ => [n / 36, n / 6 % 6, n % 6].map(|n| STEPS[usize::from(n)]),
            };
            let off = apart(colour, shown);
            prop_assert!(off <= 3 * 48 * 48, "{colour:?} became {number}, {shown:?}");
        }
    }
}
