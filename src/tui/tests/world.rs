//! Things to test with.

use std::path::PathBuf;
use std::time::Duration;

use image::{Rgb, RgbImage};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Position;

use super::super::app::{App, Setup};
use super::super::event::{About, Effect, Event};
use super::super::gallery::Gallery;
use super::super::turn::{End, Turn};
use super::super::view::theme::Theme;
use super::super::view::{self, Kept};
use crate::generator::{GeneratorInfo, Usage};
use crate::rag::{
    self, Abstention, Answer, Candidate, Citation, CitationSource, EntityChoice, Outcome, Passage, PromptTokens, Stage,
    StageReport, Timings,
};
use crate::retriever::Picture;

pub fn url(name: &str) -> String {
    format!("https://example.org/{}", name.to_lowercase())
}

pub fn candidates() -> Vec<Candidate> {
    let all = [("Kenya", 0.93), ("Malawi", 0.71), ("South Sudan", 0.655), ("Jordan", 0.41)];
    let candidate = |(n, (name, score)): (usize, &(&str, f32))| Candidate {
        rank: n + 1,
        url: url(name),
        title: (*name).into(),
        image: Some(format!("{}.png", name.to_lowercase())),
        score: *score,
        hits: 1,
    };
    all.iter().enumerate().map(candidate).collect()
}

pub fn passages() -> Vec<Passage> {
    let passage = |number, section: &str, text: &str, score| Passage {
        number,
        url: url("Kenya"),
        title: "Kenya".into(),
        section: section.into(),
        section_index: number,
        text: text.into(),
        cut: number == 2,
        score: Some(score),
        tokens: 40,
    };
    vec![
        passage(1, "Government", "The capital of Kenya is Nairobi. Its area is 696 square kilometres.", 0.83),
        passage(2, "Economy", "Tea and coffee are exported.", 0.31),
    ]
}

pub fn entity() -> EntityChoice {
    EntityChoice {
        url: url("Kenya"),
        title: "Kenya".into(),
        score: Some(0.93),
        margin: Some(0.22),
        why: "the best score".into(),
    }
}

pub fn answer(question: &str) -> Answer {
    let report = |stage, by: &str, ms| StageReport { stage, by: by.into(), ms: Some(ms) };
    let cited = Citation {
        passage: 1,
        url: url("Kenya"),
        title: "Kenya".into(),
        section: "Government".into(),
        source: CitationSource::Model,
        support: 1.0,
    };
    Answer {
        outcome: Outcome::Answered,
        text: "The capital is **Nairobi** [1].".into(),
        plain: "The capital is Nairobi.".into(),
        citations: vec![cited],
        passages: passages(),
        candidates: candidates(),
        entity: Some(entity()),
        stages: vec![
            report(Stage::Encoding, "ret2-starter", 21.0),
            report(Stage::Searching, "starter", 2.4),
            report(Stage::Ranking, "bi-encoder", 340.0),
            report(Stage::ReadingPrompt, "SmolLM2", 900.0),
            report(Stage::Answering, "SmolLM2", 450.0),
        ],
        timings: Timings { total_ms: 1713.4, ..Timings::default() },
        prompt_tokens: 420,
        prompt: Some(PromptTokens { system: 60, examples: 200, passages: 80, question: 80 }),
        usage: Some(Usage {
            prompt_tokens: 450,
            completion_tokens: 9,
            prompt_s: 0.9,
            completion_s: 0.45,
            truncated: false,
        }),
        generator: Some(GeneratorInfo {
            model: "SmolLM2-135M-Instruct".into(),
            format: "f32".into(),
            fingerprint: "00".into(),
            sees_pictures: false,
            context_length: 2048,
        }),
        ..Answer::of(question)
    }
}

pub fn abstained(question: &str) -> Answer {
    let why = Abstention::LowScore { title: "Kenya".into(), score: 0.61, needed: 0.7 };
    let mut answer = answer(question);
    answer.outcome = Outcome::NotInKnowledgeBase { reason: why.to_string(), why };
    (answer.text, answer.plain) = (String::new(), String::new());
    (answer.citations, answer.passages, answer.entity) = (Vec::new(), Vec::new(), None);
    answer
}

pub fn answered(id: u64, question: &str, picture: Option<&str>) -> Turn {
    let mut turn = Turn::new(id, question.into(), picture.map(PathBuf::from));
    for event in events(question) {
        turn.happened(event, Duration::ZERO);
    }
    assert!(matches!(turn.end, Some(End::Answered(_))));
    turn
}

/// All that happens on the way to an answer.
pub fn events(question: &str) -> Vec<rag::Event> {
    use rag::Event::{Answer, Candidates, Entity, Finished, Passages, Prompt, Started, Token};
    let token = |text: &str| Token { text: text.into() };
    vec![
        Started { stage: Stage::Encoding },
        Finished { stage: Stage::Encoding, ms: 21.0 },
        Started { stage: Stage::Searching },
        Finished { stage: Stage::Searching, ms: 2.4 },
        Candidates { candidates: candidates() },
        Entity { entity: entity() },
        Started { stage: Stage::Ranking },
        Finished { stage: Stage::Ranking, ms: 340.0 },
        Passages { passages: passages() },
        Prompt {
            tokens: 420,
            system: "Answer from the passages.".into(),
            examples: vec![crate::generator::Turn { user: "Q?".into(), assistant: "A [1].".into() }],
            user: format!("[1] Kenya\nQuestion: {question}"),
        },
        Started { stage: Stage::ReadingPrompt },
        Finished { stage: Stage::ReadingPrompt, ms: 900.0 },
        Started { stage: Stage::Answering },
        token(" The capital"),
        token(" is **Nairobi"),
        token("** [1]."),
        Finished { stage: Stage::Answering, ms: 450.0 },
        Answer { answer: Box::new(self::answer(question)) },
    ]
}

pub fn picture() -> Picture {
    Picture::from_rgb(RgbImage::from_pixel(32, 24, Rgb([200, 30, 30])))
}

pub fn about() -> About {
    About {
        kb: "starter".into(),
        articles: 249,
        reader: Some("SmolLM2-135M-Instruct".into()),
        sees_pictures: false,
        pictures: "/kb".into(),
    }
}

/// A person at the program.
pub struct Person {
    pub app: App,
    pub now: Duration,
    pub effects: Vec<Effect>,
}

impl Person {
    /// Before an empty session whose engines are loading.
    pub fn new() -> Self {
        let setup = Setup {
            epoch_unix_s: 1_000_000,
            folder: "/home/ada".into(),
            log: "/home/ada/cicerone.log".into(),
            welcome: "The flags of 249 countries".into(),
            example: Some("/flags/mk.png".into()),
            ..Setup::default()
        };
        Self { app: App::new(setup), now: Duration::ZERO, effects: Vec::new() }
    }

    /// The same with engines.
    pub fn ready() -> Self {
        let mut person = Self::new();
        person.sees(Event::Ready(about()));
        person
    }

    /// Something happens a tenth of a second later.
    pub fn sees(&mut self, event: Event) -> &mut Self {
        self.now += Duration::from_millis(100);
        let effects = self.app.update(event, self.now);
        self.effects.extend(effects);
        self
    }

    pub fn presses(&mut self, key: &str) -> &mut Self {
        let key = match key.rsplit_once('+') {
            Some(("ctrl", c)) => KeyEvent::new(code(c), KeyModifiers::CONTROL),
            Some(("alt", c)) => KeyEvent::new(code(c), KeyModifiers::ALT),
            _ => KeyEvent::new(code(key), KeyModifiers::NONE),
        };
        self.sees(Event::Key(key))
    }

    pub fn types(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            self.sees(Event::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)));
        }
        self
    }

    pub fn pastes(&mut self, text: &str) -> &mut Self {
        self.sees(Event::Paste(text.into()))
    }

    /// A picture is pasted and read.
    pub fn shows(&mut self, path: &str) -> &mut Self {
        self.pastes(path);
        self.sees(Event::Picture { path: path.into(), result: Ok(picture()) })
    }

    pub fn asks(&mut self, question: &str) -> &mut Self {
        self.types(question).presses("enter")
    }

    /// The first `n` steps towards the answer.
    pub fn hears(&mut self, n: usize) -> &mut Self {
        let Some(turn) = self.app.running else { panic!("nothing was asked") };
        let question = self.app.turns.last().unwrap().question.clone();
        for event in events(&question).into_iter().take(n) {
            self.sees(Event::Rag { turn, event: Some(Box::new(event)) });
        }
        self
    }

    /// The whole answer.
    pub fn is_answered(&mut self) -> &mut Self {
        self.hears(usize::MAX)
    }

    /// What was to be done since the last look.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The screen.
    pub fn looks(&mut self, columns: u16, rows: u16) -> Buffer {
        self.looks_at_cursor(columns, rows).0
    }

    /// The screen, and where its cursor is, if it has one.
    pub fn looks_at_cursor(&mut self, columns: u16, rows: u16) -> (Buffer, Option<Position>) {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let mut painted = view::Painted::default();
        let (gallery, mut kept) = (Gallery::default(), Kept::default());
        terminal.draw(|frame| painted = view::draw(frame, &self.app, Theme::Mono, &gallery, &mut kept)).unwrap();
        self.app.update(Event::Seen(painted.seen), self.now);
        let screen = terminal.backend();
        (screen.buffer().clone(), screen.cursor_visible().then(|| screen.cursor_position()))
    }

    /// The screen as text, its lines without blanks at their ends.
    pub fn reads(&mut self, columns: u16, rows: u16) -> String {
        text(&self.looks(columns, rows))
    }
}

/// The cells of a screen as text.
pub fn text(buffer: &Buffer) -> String {
    let columns = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(columns).map(|cells| {
        let mut line = String::new();
        let mut skip = 0;
        for cell in cells {
            // A wide character covers the cell behind it.
            if skip > 0 {
                skip -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            skip = crate::text::width(cell.symbol()).saturating_sub(1);
        }
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn code(name: &str) -> KeyCode {
    match name {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "pageup" => KeyCode::PageUp,
        "pagedown" => KeyCode::PageDown,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        "backspace" => KeyCode::Backspace,
        "delete" => KeyCode::Delete,
        "f1" => KeyCode::F(1),
        "f12" => KeyCode::F(12),
        single => KeyCode::Char(single.chars().next().unwrap()),
    }
}
