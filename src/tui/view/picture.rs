//! A picture in its place, or what stands there until it is ready.

use std::path::{Path, PathBuf};

use ratatui::Frame;
use ratatui::layout::{Rect, Size};
use ratatui::widgets::Paragraph;
use ratatui_image::Image;

use super::Brush;
use crate::retriever::Picture;
use crate::tui::gallery::{Shown, Wish};

impl Brush<'_> {
    /// Shows the picture of a file in `area`; its pixels are read where they are not given.
    pub(super) fn picture(&mut self, frame: &mut Frame<'_>, area: Rect, path: &Path, pixels: Option<&Picture>) {
        if area.width == 0 || area.height == 0 || !self.gallery.shows() {
            return;
        }
        let size = Size::new(area.width, area.height);
        match self.gallery.get(path, size) {
            Some(Shown::Drawn(protocol)) => {
                let of = protocol.size();
                let left = area.width.saturating_sub(of.width) / 2;
                let place = Rect {
                    x: area.x + left,
                    width: of.width.min(area.width),
                    height: of.height.min(area.height),
                    ..area
                };
                frame.render_widget(Image::new(protocol).allow_clipping(true), place);
                if let Some(colour) = self.gallery.colour() {
                    let buffer = frame.buffer_mut();
                    for position in place.positions() {
                        if let Some(cell) = buffer.cell_mut(position) {
                            (cell.fg, cell.bg) = (colour(cell.fg), colour(cell.bg));
                        }
                    }
                }
            }
            Some(Shown::Failed) => self.stand_in(frame, area, "×"),
            None => {
                self.painted.wishes.push(Wish { path: path.to_owned(), pixels: pixels.cloned(), size });
                self.stand_in(frame, area, "…");
            }
        }
    }

    fn stand_in(&self, frame: &mut Frame<'_>, area: Rect, what: &'static str) {
        let middle = Rect { y: area.y + area.height / 2, height: 1, ..area };
        frame.render_widget(Paragraph::new(what).centered().style(self.theme.dim()), middle);
    }

    /// File of an article's picture, by its URL, where the turn found it.
    pub(super) fn article_picture(&self, turn: &crate::tui::turn::Turn, url: &str) -> Option<PathBuf> {
        // Another knowledge base has other pictures.
        let folder = &self.app.about().filter(|about| about.kb == turn.kb)?.pictures;
        let candidate = self.app.candidates(turn).iter().find(|candidate| candidate.url == url)?;
        crate::io::safe_join(folder, candidate.image.as_deref()?).ok()
    }
}
