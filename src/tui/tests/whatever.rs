//! Whatever happens, at whatever size: no panic, no control character on the screen, nothing lost.

use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::app::Focus;
use super::super::event::{Entry, Event, Told};
use super::world::{Person, events, picture, text};

fn any_key() -> impl Strategy<Value = KeyEvent> {
    let codes = prop_oneof![
        any::<char>().prop_map(KeyCode::Char),
        "[a-z ]".prop_map(|s| KeyCode::Char(s.chars().next().unwrap_or('x'))),
        proptest::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Backspace,
            KeyCode::Delete,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Left,
            KeyCode::Right,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::F(1),
            KeyCode::F(12),
        ]),
        // What opens something.
        proptest::sample::select(vec!['o', 't', 'n', 'r', 's', 'l', 'x', 'j']).prop_map(KeyCode::Char),
    ];
    let held = proptest::sample::select(vec![
        KeyModifiers::NONE,
        KeyModifiers::NONE,
        KeyModifiers::CONTROL,
        KeyModifiers::ALT,
    ]);
    (codes, held).prop_map(|(code, held)| KeyEvent::new(code, held))
}

fn any_text() -> impl Strategy<Value = String> {
    "(\\PC|\x1b\\[2J|[\x00-\x1f]|日本|👩\u{200d}👧|\u{202e}|e\u{301}|ا|\n|a\\.png){0,40}"
}

fn any_event() -> impl Strategy<Value = Event> {
    let answers = (0_u64..4, 0_usize..20, any_text()).prop_map(|(turn, at, text)| {
        let event = events(&text).into_iter().nth(at).unwrap_or(crate::rag::Event::Token { text });
        Event::Rag { turn, event: Some(Box::new(event)) }
    });
    prop_oneof![
        6 => any_key().prop_map(Event::Key),
        3 => answers,
        1 => any_text().prop_map(Event::Paste),
        1 => any_text().prop_map(|text| Event::Paste(format!("/x/{}.png", text.replace('\n', "")))),
        1 => (0_u64..4).prop_map(|turn| Event::Rag { turn, event: None }),
        1 => any::<i32>().prop_map(Event::Wheel),
        1 => Just(Event::Tick),
        1 => any_text().prop_map(Event::Loading),
        1 => Just(Event::Ready(super::world::about())),
        1 => any_text().prop_map(|text| Event::Unready(Told { message: text.clone(), hint: Some(text) })),
        1 => any_text().prop_map(|text| Event::Failed(Told::new(text))),
        1 => prop::collection::vec(any_text(), 0..30).prop_map(Event::Logged),
        1 => Just(Event::Sessions(Ok(Vec::new()))),
        1 => any_text().prop_map(|name| {
            let entry = Entry { name, folder: false };
            Event::Listed { folder: "/home/ada".into(), result: Ok(vec![entry.clone(), Entry { folder: true, ..entry }]) }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn nothing_breaks_it(
        happened in prop::collection::vec((any_event(), 1_u16..130, 1_u16..50), 1..60),
    ) {
        let mut person = Person::ready();
        for (event, columns, rows) in happened {
            person.sees(event);
            // A picture that was asked for comes.
            if let Some(path) = person.app.chip.as_ref().map(|chip| chip.path.clone()) {
                person.sees(Event::Picture { path, result: Ok(picture()) });
            }
            let (screen, cursor) = person.looks_at_cursor(columns, rows);
            let fits = columns >= 40 && rows >= 12;
            let written = person.app.opened.is_none() && person.app.focus == Focus::Question;
            prop_assert!(cursor.is_none_or(|at| screen.area.contains(at)), "{cursor:?}");
            if written {
                prop_assert_eq!(cursor.is_some(), fits, "{}", text(&screen));
            }
            for cell in screen.content() {
                prop_assert!(!cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", cell.symbol());
            }
            let running = person.app.running;
            prop_assert!(person.app.turns.iter().all(|turn| turn.end.is_some() || Some(turn.id) == running));
        }
    }

    #[test]
    fn any_size_will_do(columns in 1_u16..160, rows in 1_u16..60) {
        let mut person = Person::ready();
        person.shows("/flags/ke.png").asks("What is the capital?").is_answered();
        let screen = person.reads(columns, rows);
        if columns >= 40 && rows >= 12 {
            prop_assert!(screen.contains("Nairobi"), "{screen}");
        } else if columns >= 10 && rows >= 4 {
            prop_assert!(screen.contains("small"), "{screen}");
        }
        for key in ["tab", "enter", "esc", "ctrl+t", "right", "right", "esc", "ctrl+o", "esc", "ctrl+s", "esc", "f1", "f12"] {
            person.presses(key);
            person.looks(columns, rows);
        }
    }
}
