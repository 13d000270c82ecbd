//! The screens, as text, in three sizes. `CICERONE_NEW_SCREENS=1` writes them anew.

use super::super::event::{Choices, Entry, Event, Named};
use super::world::{Person, abstained, picture};
use crate::rag;

const SIZES: [(u16, u16); 3] = [(120, 40), (80, 24), (40, 12)];

/// Compares a screen with the one that is kept.
fn is_as_kept(name: &str, person: &mut Person) {
    for (columns, rows) in SIZES {
        // The first frame tells how much there is to scroll.
        person.looks(columns, rows);
        let screen = person.reads(columns, rows);
        assert_as_kept(name, columns, rows, &screen);
    }
}

fn assert_as_kept(name: &str, columns: u16, rows: u16, screen: &str) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens");
    let path = folder.join(format!("{name}-{columns}x{rows}.txt"));
    if std::env::var_os("CICERONE_NEW_SCREENS").is_some() {
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(&path, screen).unwrap();
    }
    let kept = fs_err::read_to_string(&path).unwrap();
    assert_eq!(screen, kept, "{name} at {columns}x{rows} is not as in {}:\n{screen}", path.display());
}

fn at_the_flag() -> Person {
    let mut person = Person::ready();
    person.shows("/flags/ke.png");
    // What was told about the reader is gone.
    person.now += std::time::Duration::from_secs(10);
    person.sees(Event::Tick);
    person
}

fn with_end(end: rag::Event) -> Person {
    let mut person = at_the_flag();
    person.asks("What is the capital of this country?").hears(5);
    person.sees(Event::Rag { turn: 1, event: Some(Box::new(end)) });
    person
}

#[test]
fn empty() {
    is_as_kept("empty", &mut Person::ready());
    is_as_kept("loading", &mut Person::new());
}

#[test]
fn with_a_picture() {
    let mut person = at_the_flag();
    is_as_kept("picture", person.types("What is the capital of"));
}

#[test]
fn every_stage() {
    for (name, steps) in [("encoding", 1), ("searching", 3), ("ranking", 7), ("reading", 11), ("streaming", 15)] {
        let mut person = at_the_flag();
        is_as_kept(name, person.asks("What is the capital of this country?").hears(steps));
    }
}

#[test]
fn answered_and_a_follow_up() {
    let mut person = at_the_flag();
    is_as_kept("answered", person.asks("What is the capital of this country?").is_answered());
    is_as_kept("sources", person.presses("tab").presses("down"));
    is_as_kept("reader", person.presses("enter"));
    is_as_kept("follow-up", person.presses("esc").presses("tab").asks("And its currency?").is_answered());
    person.presses("ctrl+t");
    is_as_kept("inspector-candidates", &mut person);
    is_as_kept("inspector-prompt", person.presses("right"));
    is_as_kept("inspector-times", person.presses("right"));
    let gate = |text_layer, image_layer, text, image, kept| rag::Gate { text_layer, image_layer, text, image, kept };
    let gates = vec![
        gate(0, 4, Some(0.29), Some(0.58), 0.68),
        gate(2, 10, Some(0.39), Some(0.61), 0.54),
        gate(5, 15, None, Some(0.45), 1.0),
    ];
    person.presses("right").sees(Event::Gates { turn: 2, result: Ok(gates) });
    is_as_kept("inspector-gates", &mut person);
}

#[test]
fn abstained_failed_stopped() {
    let answer = Box::new(abstained("What is the capital of this country?"));
    is_as_kept("abstained", &mut with_end(rag::Event::Answer { answer }));
    is_as_kept("failed", &mut with_end(rag::Event::Failed { error: rag::RagError::Crashed("the reader") }));
    let mut person = at_the_flag();
    is_as_kept("stopped", person.asks("What is the capital of this country?").hears(15).presses("esc"));
}

#[test]
fn opened() {
    let mut person = at_the_flag();
    is_as_kept("help", person.presses("f1"));
    person.presses("esc").presses("ctrl+o");
    let names = ["flags", "ke.png", "mw.png", "a picture with a long name that goes on and on.jpeg"];
    let entries = names.iter().map(|name| Entry { name: (*name).into(), folder: !name.contains('.') }).collect();
    person.sees(Event::Listed { folder: "/home/ada".into(), result: Ok(entries) }).presses("down");
    person.sees(Event::Picture { path: "/home/ada/ke.png".into(), result: Ok(picture()) });
    is_as_kept("picker", &mut person);
    person.presses("esc").asks("What is the capital of this country?").is_answered().presses("ctrl+s");
    let head = person.app.saved().head();
    person.sees(Event::Sessions(Ok(vec![head])));
    is_as_kept("sessions", &mut person);
    let named = |name: &str, what: &str| Named { name: name.into(), what: what.into() };
    let choices = Choices {
        bases: vec![named("ruins", "12 articles, 0.3 MB"), named("starter", "249 articles, 1.4 MB")],
        readers: vec![named("SmolLM2-135M-Instruct", "a small reader, 272.6 MB")],
        memory: Some(1_470_000_000),
    };
    person.presses("esc").presses("ctrl+b").sees(Event::Choices(Ok(choices)));
    is_as_kept("switcher", &mut person);
}

#[test]
fn any_script() {
    let mut person = at_the_flag();
    let text = "首都は**ナイロビ**です [1]。👩\u{200d}👩\u{200d}👧 العاصمة هي نيروبي. Ένα πολύ μακρύ κείμενο \
                 που δεν χωράει σε μία γραμμή, und-ein-wort-das-länger-ist-als-die-zeile-in-der-es-steht-und-noch-länger";
    person.asks("この国の首都はどこですか？ 👩\u{200d}👩\u{200d}👧 ما هي عاصمة هذا البلد؟").hears(10);
    let mut answer = super::world::answer("q");
    answer.text = text.into();
    person.sees(Event::Rag { turn: 1, event: Some(Box::new(rag::Event::Answer { answer: Box::new(answer) })) });
    is_as_kept("scripts", &mut person);
}

#[test]
fn long_work_on_the_whole_screen() {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::live::{Work, draw};
    use super::super::view::theme::Theme;
    use crate::text::Unit;

    let at = Duration::from_secs;
    let mut work = Work::new("eval run --live");
    work.begin("searching", Unit::Things("questions"), at(0));
    work.set(0, Some(1953), Vec::new(), at(0));
    work.set(1953, Some(1953), Vec::new(), at(52));
    work.note("3 of 1,953 pictures are missing; their questions \x1b[2Jwill fail\n");
    work.begin("answering", Unit::Things("answers"), at(52));
    work.set(400, Some(7812), vec!["retrieved: 0.481 right of 400".into()], at(53));
    for second in 54..200 {
        work.set(
            400 + (second - 53) * (1 + second % 3),
            Some(7812),
            vec!["retrieved: 0.481 right of 730".into()],
            at(second),
        );
        work.tick(at(second));
    }
    for (columns, rows) in SIZES {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, &work, Theme::Mono)).unwrap();
        let screen = super::world::text(terminal.backend().buffer());
        assert_as_kept("live", columns, rows, &screen);
    }
    for (columns, rows) in [(1, 1), (39, 12), (40, 3), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, &work, Theme::Dark)).unwrap();
    }
}
