//! Rows as a terminal shows them.

use image::{Rgb, RgbImage};
use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::drawing::Depth;
use super::*;
use crate::text::width;

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const URL: &str =
    "https://example.org/wiki/A_page_with_a_name_that_is_longer_than_the_place_of_it_in_a_narrow_terminal";

/// A cell of the screen: what stands in it, and the colours of its upper and lower half.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    text: String,
    halves: [Option<[u8; 3]>; 2],
}

/// The screen after `text`, line by line; of a character of two columns the second cell is empty.
fn screen(text: &str) -> Vec<Vec<Cell>> {
    text.strip_suffix('\n').unwrap().split('\n').map(line).collect()
}

fn line(mut text: &str) -> Vec<Cell> {
    let (mut cells, mut ink, mut paper) = (Vec::new(), None, None);
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix("\x1b[") {
            let (sequence, rest) = rest.split_once('m').unwrap();
            match sequence.split(';').collect::<Vec<_>>()[..] {
                ["0"] => (ink, paper) = (None, None),
                ["38", "2", r, g, b] => ink = Some([r, g, b].map(|c| c.parse().unwrap())),
                ["48", "2", r, g, b] => paper = Some([r, g, b].map(|c| c.parse().unwrap())),
                _ => panic!("unexpected sequence {sequence:?}"),
            }
            text = rest;
            continue;
        }
        let character = text.graphemes(true).next().unwrap();
        text = &text[character.len()..];
        let halves = match character {
            "▀" => [ink, paper],
            "▄" => [paper, ink],
            _ => [paper, paper],
        };
        cells.push(Cell { text: character.into(), halves });
        cells.extend((1..width(character)).map(|_| Cell { text: String::new(), halves }));
    }
    cells
}

/// What is written from `column` on.
fn written(line: &[Cell], column: usize) -> String {
    line.iter().skip(column).map(|cell| cell.text.as_str()).collect()
}

fn thumbnails(columns: u16) -> Thumbnails {
    Thumbnails { brush: Brush::HalfBlocks(Depth::True), columns, place: place(columns, 24).unwrap() }
}

/// Red above blue.
fn flag(width: u32, height: u32) -> Picture {
    Picture::from_rgb(RgbImage::from_fn(width, height, |_, y| Rgb(if y < height / 2 { RED } else { BLUE })))
}

#[test]
fn colours_stand_where_they_are_in_the_picture_and_text_beside_it() {
    for columns in [80, 120] {
        let shown = screen(&thumbnails(columns).row(Some(&flag(240, 120)), &["1 (0.873)", "Kenya", URL]));
        // Twice as wide as high, as 12 x 3 cells are.
        assert_eq!(shown.len(), if columns == 80 { 4 } else { 3 });
        for cell in &shown[0][..12] {
            assert_eq!(cell.halves, [Some(RED); 2]);
        }
        for cell in &shown[2][..12] {
            assert_eq!(cell.halves, [Some(BLUE); 2]);
        }
        // The border runs through the middle of a row, a little blurred.
        for cell in &shown[1][..12] {
            let [Some([r, _, b]), Some([r2, _, b2])] = cell.halves else { panic!("{cell:?}") };
            assert!(r > 180 && b < 75 && r2 < 75 && b2 > 180, "{cell:?}");
        }
        assert_eq!(written(&shown[0], 12), "  1 (0.873)");
        assert_eq!(written(&shown[1], 12), "  Kenya");
        assert!(written(&shown[2], 12).starts_with("  https://example.org/"));
        assert!(shown.iter().all(|line| line[12..].iter().all(|cell| cell.halves == [None; 2])));
    }
}

#[test]
fn a_tall_picture_and_a_missing_one_leave_the_text_where_it_is() {
    let tall = screen(&thumbnails(80).row(Some(&flag(100, 200)), &["1 (0.873)", "Kenya"]));
    assert_eq!((tall.len(), tall[0][5].halves, tall[0][6].halves), (6, [Some(RED); 2], [None; 2]));
    assert_eq!(written(&tall[1], 6), format!("{}Kenya", " ".repeat(8)));
    assert_eq!(tall[5].len(), 6, "nothing behind the picture where the text has ended");

    let missing = thumbnails(80).row(None, &["1 (0.873)", "Kenya"]);
    assert_eq!(missing, format!("{0}1 (0.873)\n{0}Kenya\n", " ".repeat(14)));
}

#[test]
fn narrow_and_low_screens_have_smaller_pictures_or_none() {
    assert_eq!(place(40, 24), None);
    assert_eq!(place(49, 24), None);
    assert_eq!(place(50, 24), Some(Size::new(8, 4)));
    assert_eq!(place(80, 24), Some(Size::new(12, 6)));
    assert_eq!(place(80, 7), None);
    assert_eq!(place(0, 0), None);
}

#[test]
fn what_steers_a_terminal_is_not_passed_on() {
    let row = thumbnails(80).row(None, &["\x1b[2Jtitle\x1b]0;owned\x07", "a\nb"]);
    assert_eq!(row, format!("{0}title\n{0}a b\n", " ".repeat(14)));
}

proptest! {
    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_lost(
        title in "([a-z ]|[日本語ケニア]|👩\u{200d}👩\u{200d}👧|❤\u{fe0f}|🇰🇪|👍🏽|e\u{301}){0,60}",
        columns in 50_u16..=120,
        drawn: bool,
    ) {
        let thumbnails = thumbnails(columns);
        let picture = flag(30, 20);
        let left = usize::from(thumbnails.place.width + GAP);
        let shown = screen(&thumbnails.row(drawn.then_some(&picture), &[title.as_str(), URL]));
        let mut text = String::new();
        for line in &shown {
            prop_assert!(line.len() <= usize::from(columns), "{line:?}");
            text.push_str(&written(line, left));
        }
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        prop_assert_eq!(squeeze(&text), squeeze(&format!("{title}{URL}")));
    }
}
