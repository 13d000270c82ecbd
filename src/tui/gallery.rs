//! Pictures made ready for the terminal, on a thread of their own: no frame waits for one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use ratatui::layout::Size;
use ratatui::style::Color;
use ratatui_image::protocol::Protocol;

use crate::retriever::{Picture, PictureLimits};

/// Pictures that are kept ready; the oldest makes way.
const KEPT: usize = 48;

/// Wishes that wait: older ones are no longer looked at.
const WAITING: usize = 16;

/// Makes a picture ready for a place of some cells; `None` where it cannot be shown.
pub type Paint = Box<dyn Fn(&Picture, Size) -> Option<Protocol> + Send>;

/// How pictures are shown.
pub struct Means {
    /// Makes them ready.
    pub paint: Paint,
    /// What becomes of a colour in a terminal that does not have all of them.
    pub colour: Option<fn(Color) -> Color>,
}

/// A picture that is to be made ready.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its file, which names it.
    pub path: PathBuf,
    /// Its pixels; read from the file where they are not given.
    pub pixels: Option<Picture>,
    /// For a place of this size, in cells.
    pub size: Size,
}

/// What became of a wish.
pub enum Shown {
    /// It is ready.
    Drawn(Protocol),
    /// It cannot be shown.
    Failed,
}

type Key = (PathBuf, Size);

/// What the painter gives back.
pub struct Done {
    key: Key,
    /// `None` for a wish that made way for newer ones.
    shown: Option<Shown>,
}

/// Pictures that are ready.
#[derive(Default)]
pub struct Gallery {
    ready: HashMap<Key, Shown>,
    order: VecDeque<Key>,
    asked: HashSet<Key>,
    painter: Option<Sender<Wish>>,
    colour: Option<fn(Color) -> Color>,
}

impl Gallery {
    /// Starts the painter, which tells `done` of each picture; without means nothing is shown.
    #[must_use]
    pub fn new(means: Option<Means>, limits: PictureLimits, done: impl Fn(Done) + Send + 'static) -> Self {
        let Some(Means { paint, colour }) = means else { return Self::default() };
        let (painter, wishes) = channel();
        let thread = std::thread::Builder::new().name("painter".into());
        let started = thread.spawn(move || work(&wishes, &paint, limits, done));
        Self { painter: started.ok().map(|_| painter), colour, ..Self::default() }
    }

    /// Whether pictures are shown at all.
    #[must_use]
    pub fn shows(&self) -> bool {
        self.painter.is_some()
    }

    /// The picture of a file for a place of this size, if it is ready.
    #[must_use]
    pub fn get(&self, path: &Path, size: Size) -> Option<&Shown> {
        self.ready.get(&(path.to_owned(), size))
    }

    /// What becomes of a picture's colours.
    #[must_use]
    pub fn colour(&self) -> Option<fn(Color) -> Color> {
        self.colour
    }

    /// Has a picture made ready, once.
    pub fn wish(&mut self, wish: Wish) {
        let key = (wish.path.clone(), wish.size);
        if self.ready.contains_key(&key) || !self.asked.insert(key) {
            return;
        }
        // A painter that has gone leaves the place empty.
        let _ = self.painter.as_ref().map(|painter| painter.send(wish));
    }

    /// The picture of a file may have changed: what is ready of it is made anew.
    pub fn forget(&mut self, path: &Path) {
        self.ready.retain(|(of, _), _| of != path);
        self.order.retain(|(of, _)| of != path);
    }

    /// Takes a picture in.
    pub fn take(&mut self, done: Done) {
        let Done { key, shown } = done;
        self.asked.remove(&key);
        let Some(shown) = shown else { return };
        if self.order.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ready.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.ready.insert(key, shown);
    }
}

fn work(wishes: &Receiver<Wish>, paint: &Paint, limits: PictureLimits, done: impl Fn(Done)) {
    let mut waiting: VecDeque<Wish> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match wishes.recv() {
                Ok(wish) => waiting.push_back(wish),
                Err(_) => return,
            }
        }
        waiting.extend(wishes.try_iter());
        while waiting.len() > WAITING {
            if let Some(Wish { path, size, .. }) = waiting.pop_front() {
                done(Done { key: (path, size), shown: None });
            }
        }
        // The newest is what is looked at.
        let Some(Wish { path, pixels, size }) = waiting.pop_back() else { continue };
        // One that breaks the painter is one that cannot be shown.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            pixels.or_else(|| Picture::open(&path, &limits).ok()).and_then(|pixels| paint(&pixels, size))
        }));
        let drawn = drawn.unwrap_or_default();
        done(Done { key: (path, size), shown: Some(drawn.map_or(Shown::Failed, Shown::Drawn)) });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use image::{DynamicImage, Rgb, RgbImage};
    use ratatui_image::protocol::halfblocks::Halfblocks;

    use super::*;

    fn means() -> Means {
        let paint: Paint = Box::new(|picture, size| {
            let image = DynamicImage::ImageRgb8(picture.rgb().clone());
            Halfblocks::new(image, size).map(Protocol::Halfblocks).ok()
        });
        Means { paint, colour: None }
    }

    fn wish(path: &str, size: u16) -> Wish {
        let pixels = Picture::from_rgb(RgbImage::from_pixel(8, 8, Rgb([9, 9, 9])));
        Wish { path: path.into(), pixels: Some(pixels), size: Size::new(size, size) }
    }

    #[test]
    fn pictures_come_once_and_the_oldest_make_way() {
        let (done, all) = channel();
        let limits = PictureLimits::default();
        let mut gallery = Gallery::new(Some(means()), limits, move |one| drop(done.send(one)));
        assert!(gallery.shows());
        for n in 0..KEPT as u16 + 3 {
            gallery.wish(wish("a.png", n + 1));
            gallery.wish(wish("a.png", n + 1));
            gallery.take(all.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        assert!(gallery.get(Path::new("a.png"), Size::new(1, 1)).is_none());
        assert!(matches!(gallery.get(Path::new("a.png"), Size::new(9, 9)), Some(Shown::Drawn(_))));
        assert_eq!(gallery.ready.len(), KEPT);
        assert!(all.try_recv().is_err(), "each was asked for once");
        // A file that is not there, and one that is wished for again after it made way.
        gallery.wish(Wish { pixels: None, ..wish("none.png", 4) });
        gallery.take(all.recv_timeout(Duration::from_secs(20)).unwrap());
        assert!(matches!(gallery.get(Path::new("none.png"), Size::new(4, 4)), Some(Shown::Failed)));
        gallery.take(Done { key: ("b.png".into(), Size::new(2, 2)), shown: None });
        assert!(gallery.get(Path::new("b.png"), Size::new(2, 2)).is_none());
    }

    #[test]
    fn a_picture_that_breaks_the_painter_is_one_that_cannot_be_shown() {
        let (done, all) = channel();
        let means = Means { paint: Box::new(|_, _| panic!("as it was asked to")), colour: None };
        let mut gallery = Gallery::new(Some(means), PictureLimits::default(), move |one| drop(done.send(one)));
        for path in ["a.png", "b.png"] {
            gallery.wish(wish(path, 4));
            gallery.take(all.recv_timeout(Duration::from_secs(20)).unwrap());
            assert!(matches!(gallery.get(Path::new(path), Size::new(4, 4)), Some(Shown::Failed)));
        }
    }

    #[test]
    fn without_means_nothing_is_shown_or_asked() {
        let mut gallery = Gallery::new(None, PictureLimits::default(), |_| {});
        gallery.wish(wish("a.png", 3));
        assert!(!gallery.shows());
    }
}
