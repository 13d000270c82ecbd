//! From a key to a frame, while an answer comes and a picture is made ready beside it:
//! `cargo bench --bench terminal_ui`.
//!
//! A session of 200 answers, a screen of 120x40. Each round is what the driver does: a key and a piece of the answer are
//! taken in, a frame is drawn and turned into what a terminal reads. The painter has a picture of 12 megapixels at hand all
//! the time. Printed are milliseconds; a frame of a screen of 60 Hz has 16.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::io::sink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cicerone::rag::{self, Answer, Candidate, EntityChoice, Outcome, Passage, Stage};
use cicerone::retriever::{Picture, PictureLimits};
use cicerone::tui::app::{App, Setup};
use cicerone::tui::event::{About, Event};
use cicerone::tui::gallery::{Gallery, Means, Wish};
use cicerone::tui::view::theme::Theme;
use cicerone::tui::view::{self, Kept, Painted};
use image::{DynamicImage, Rgb, RgbImage, imageops};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Rect, Size};
use ratatui::{Terminal, TerminalOptions, Viewport};
use ratatui_image::protocol::Protocol;
use ratatui_image::protocol::halfblocks::Halfblocks;

const ROUNDS: usize = 5000;
const TURNS: usize = 200;

fn answer(question: &str) -> Answer {
    let passage = |number: usize| Passage {
        number,
        url: "https://example.org/kenya".into(),
        title: "Kenya".into(),
        section: "Government".into(),
        section_index: number,
        text: "The capital of Kenya is Nairobi. ".repeat(20),
        cut: false,
        score: Some(0.8),
        tokens: 160,
    };
    let candidate = |rank: usize| Candidate {
        rank,
        url: format!("https://example.org/{rank}"),
        title: format!("Country {rank}"),
        image: None,
        score: 1.0 / rank as f32,
        hits: 1,
    };
    Answer {
        outcome: Outcome::Answered,
        text: "The capital is **Nairobi** [1], a city of *several* million people. ".repeat(6),
        passages: (1..=3).map(passage).collect(),
        candidates: (1..=10).map(candidate).collect(),
        entity: Some(EntityChoice {
            url: "https://example.org/kenya".into(),
            title: "Kenya".into(),
            score: Some(0.9),
            margin: None,
            why: "the best score".into(),
        }),
        ..Answer::of(question)
    }
}

fn step(turn: u64, event: rag::Event) -> Event {
    Event::Rag { turn, event: Some(Box::new(event)) }
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn main() {
    let mut app = App::new(Setup::default());
    let clock = Instant::now();
    let about = About { kb: "starter".into(), articles: 249, reader: Some("a reader".into()), ..About::default() };
    app.update(Event::Ready(about), clock.elapsed());
    let ask = |app: &mut App| {
        app.update(Event::Paste("What is the capital of this country?".into()), clock.elapsed());
        app.update(key(KeyCode::Enter), clock.elapsed());
        app.running.unwrap()
    };
    for n in 0..TURNS {
        let turn = ask(&mut app);
        app.update(
            step(turn, rag::Event::Answer { answer: Box::new(answer(&format!("question {n}"))) }),
            clock.elapsed(),
        );
    }
    let turn = ask(&mut app);
    app.update(step(turn, rag::Event::Started { stage: Stage::Answering }), clock.elapsed());

    static PAINTED: AtomicU64 = AtomicU64::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    let large = Picture::from_rgb(RgbImage::from_fn(4000, 3000, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8])));
    let paint = Box::new(|picture: &Picture, size: Size| {
        while !OVER.load(Ordering::Relaxed) {
            let small = imageops::thumbnail(picture.rgb(), 400, 300);
            Halfblocks::new(DynamicImage::ImageRgb8(small), size).map(Protocol::Halfblocks).ok()?;
            PAINTED.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    let mut gallery = Gallery::new(Some(Means { paint, colour: None }), PictureLimits::default(), |_| {});
    gallery.wish(Wish { path: "large.png".into(), pixels: Some(large), size: Size::new(60, 30) });

    let viewport = Viewport::Fixed(Rect::new(0, 0, 120, 40));
    let mut terminal = Terminal::with_options(CrosstermBackend::new(sink()), TerminalOptions { viewport }).unwrap();
    let mut kept = Kept::default();
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let begin = Instant::now();
        app.update(key(if round % 60 < 59 { KeyCode::Char('x') } else { KeyCode::Backspace }), clock.elapsed());
        // An answer of some length, over and over.
        let text = if round % 300 == 299 { "\n\nNow **something** else [2]. " } else { "word " };
        app.update(step(turn, rag::Event::Token { text: text.into() }), clock.elapsed());
        let mut painted = Painted::default();
        terminal.draw(|frame| painted = view::draw(frame, &app, Theme::Dark, &gallery, &mut kept)).unwrap();
        app.update(Event::Seen(painted.seen), clock.elapsed());
        times.push(begin.elapsed());
        if round % 400 == 399 {
            app.turns.last_mut().unwrap().text.clear();
            app.composer.set("");
        }
    }
    OVER.store(true, Ordering::Relaxed);
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "key to frame, {ROUNDS} rounds over {TURNS} answers at 120x40, {} pictures made ready beside: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        PAINTED.load(Ordering::Relaxed),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
