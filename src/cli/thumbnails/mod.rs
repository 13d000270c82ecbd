//! Pictures beside lines of text, on the ordinary screen of a terminal: what was printed scrolls back as text does.
//!
//! | noun | promise |
//! | --- | --- |
//! | `terminal` | what the terminal can show, by its environment and by asking it once |
//! | `drawing` | a picture as text that shows it in a place of some cells |

pub mod drawing;
mod terminal;

use ratatui::layout::Size;

use super::args::ThumbnailChoice;
use crate::retriever::Picture;
use crate::text::{sanitise_line, wrap};
use drawing::{Brush, Drawing};
use terminal::{Plan, Surroundings};

/// Columns between a picture and the text at its right.
const GAP: u16 = 2;

/// Pictures at the left, text at the right, within the width of a terminal.
pub struct Thumbnails {
    brush: Brush,
    columns: u16,
    place: Size,
}

impl Thumbnails {
    /// For the terminal that this process writes to; `None` where text alone is to be printed. The terminal may be asked
    /// what it can show: it answers at once, or is given up after two seconds at most. What is typed meanwhile is lost.
    ///
    /// # Errors
    /// [`super::failure::Failure`] with exit code 130 for a Ctrl-C meanwhile.
    pub fn here(choice: ThumbnailChoice) -> anyhow::Result<Option<Self>> {
        let surroundings = Surroundings::here();
        let Some(place) = place(surroundings.columns, surroundings.rows) else { return Ok(None) };
        let brush = brush(&surroundings, choice)?;
        Ok(brush.map(|brush| Self { brush, columns: surroundings.columns, place }))
    }

    /// A picture with these lines at its right, each wrapped and made safe to show; ends with a line feed. Without a
    /// picture its place stays empty.
    #[must_use]
    pub fn row(&self, picture: Option<&Picture>, lines: &[impl AsRef<str>]) -> String {
        let drawing = picture.and_then(|picture| self.brush.draw(picture, self.place)).unwrap_or_default();
        let left = self.place.width + GAP;
        let room = usize::from(self.columns.saturating_sub(left));
        let lines: Vec<_> = lines.iter().flat_map(|line| wrap(&sanitise_line(line.as_ref()), room)).collect();
        let Drawing { before, rows, columns } = drawing;
        let mut out = before;
        for n in 0..rows.len().max(lines.len()) {
            let drawn = rows.get(n);
            out.push_str(drawn.map_or("", String::as_str));
            if let Some(line) = lines.get(n).filter(|line| !line.is_empty()) {
                let drawn = if drawn.is_some() { columns } else { 0 };
                out.push_str(&" ".repeat(usize::from(left.saturating_sub(drawn))));
                out.push_str(line);
            }
            out.push('\n');
        }
        out
    }
}

/// What pictures are drawn with on the terminal that this process writes to, as [`Thumbnails::here`] finds it.
///
/// # Errors
/// As there.
pub fn brush_here(choice: ThumbnailChoice) -> anyhow::Result<Option<Brush>> {
    brush(&Surroundings::here(), choice)
}

fn brush(surroundings: &Surroundings, choice: ThumbnailChoice) -> anyhow::Result<Option<Brush>> {
    Ok(match surroundings.plan(choice) {
        Plan::Text => None,
        Plan::HalfBlocks(depth) => Some(Brush::HalfBlocks(depth)),
        Plan::Ask { otherwise } => terminal::ask()?.map(Brush::Pixels).or(otherwise.map(Brush::HalfBlocks)),
    })
}

/// Room for a picture on a screen of this size, in cells; `None` where the text needs all of it.
fn place(columns: u16, rows: u16) -> Option<Size> {
    let place = match columns {
        0..50 => return None,
        50..70 => Size::new(8, 4),
        70.. => Size::new(12, 6),
    };
    // A picture that is taller than the screen would be cut off where it scrolls.
    (rows > place.height + 1).then_some(place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
