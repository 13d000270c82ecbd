//! What is opened over the session.

use super::super::app::{Engines, Opened, Tab};
use super::super::event::{Choice, Choices, Effect, Entry, Event, Named, Told};
use super::super::session::Head;
use super::world::{Person, picture, url};

fn entry(name: &str, folder: bool) -> Entry {
    Entry { name: name.into(), folder }
}

fn picker(person: &Person) -> &super::super::app::Picker {
    let Some(Opened::Picker(picker)) = &person.app.opened else { panic!("no picker") };
    picker
}

#[test]
fn the_reader_goes_from_source_to_source() {
    let mut person = Person::ready();
    person.asks("Capital?").is_answered().presses("tab").presses("enter").effects();
    let passage = |person: &Person| match person.app.opened {
        Some(Opened::Reader { passage, .. }) => passage,
        _ => panic!("no reader"),
    };
    assert_eq!(passage(&person), 0);
    person.presses("n");
    assert_eq!(passage(&person), 1);
    person.presses("right");
    assert_eq!(passage(&person), 0, "around the end");
    person.presses("p").presses("c");
    assert!(matches!(&person.effects()[..], [Effect::Copy(text)] if text.starts_with("Tea")));
    person.presses("esc");
    assert!(person.app.opened.is_none());
    assert_eq!(person.app.source, 1);
}

#[test]
fn the_inspector_takes_another_candidate() {
    let mut person = Person::ready();
    person.presses("ctrl+t");
    assert!(person.app.opened.is_none(), "there is nothing to inspect");
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("ctrl+t").presses("down").presses("down").presses("up");
    assert!(matches!(person.app.opened, Some(Opened::Inspector { tab: Tab::Candidates, selected: 1, .. })));
    person.presses("right").presses("tab").presses("left");
    assert!(matches!(person.app.opened, Some(Opened::Inspector { tab: Tab::Prompt, .. })));
    person.presses("enter");
    assert!(person.effects().is_empty());
    person.presses("left").presses("enter");
    assert!(person.app.opened.is_none());
    let question = person.effects().into_iter().find_map(|effect| match effect {
        Effect::Ask { question, .. } => Some(question),
        _ => None,
    });
    assert_eq!(question.unwrap().follow_up.unwrap().entity, url("Malawi"));
}

#[test]
fn one_goes_back_to_an_earlier_answer() {
    let mut person = Person::ready();
    person.presses("alt+up");
    assert!(person.app.looked_at.is_none(), "there is none");
    person.shows("/flags/ke.png");
    for question in ["Capital?", "Currency?", "Languages?"] {
        person.asks(question).is_answered();
    }
    person.looks(80, 14);
    let ids: Vec<u64> = person.app.turns.iter().map(|turn| turn.id).collect();
    person.presses("alt+up").presses("alt+up").presses("alt+up");
    assert_eq!(person.app.looked_at, Some(ids[0]));
    let screen = person.reads(80, 14);
    assert!(screen.contains("▸ Capital?") && !screen.contains("Languages?"), "{screen}");
    // What is inspected, read and copied is that of this answer.
    person.presses("ctrl+t");
    assert!(person.reads(80, 24).contains(" Capital? "));
    person.presses("right").presses("alt+down");
    assert!(
        matches!(person.app.opened, Some(Opened::Inspector { turn, tab: Tab::Prompt, .. }) if turn == ids[1]),
        "the same part of the next"
    );
    // The session is where one went meanwhile.
    person.presses("esc");
    let screen = person.reads(80, 14);
    assert!(screen.contains("▸ Currency?") && !screen.contains("Capital?"), "{screen}");
    assert!(!screen.contains("new below"), "{screen}");
    person.presses("ctrl+t");
    person.presses("esc").presses("tab").presses("down").presses("enter").presses("alt+up").effects();
    assert!(matches!(person.app.opened, Some(Opened::Reader { turn, passage: 0, .. }) if turn == ids[0]));
    person.presses("esc").presses("tab").presses("alt+s");
    assert!(matches!(&person.effects()[..], [Effect::Copy(text)] if text.contains("Nairobi")));
    // Esc leads to the newest, and so does a further question.
    person.presses("esc");
    assert!(person.app.looked_at.is_none() && person.app.scroll.top.is_none());
    person.presses("alt+up").presses("alt+down");
    assert!(person.app.looked_at.is_none() && person.app.scroll.top.is_none());
    person.presses("alt+up").asks("Anthem?");
    assert!(person.app.looked_at.is_none());
}

#[test]
fn the_reader_passes_answers_without_sources_and_stops_at_the_ends() {
    let mut person = Person::ready();
    person.asks("Capital?").is_answered().asks("Currency?").presses("esc").asks("Anthem?").is_answered();
    let ids: Vec<u64> = person.app.turns.iter().map(|turn| turn.id).collect();
    person.presses("tab").presses("enter").presses("n");
    let read = |person: &Person| match person.app.opened {
        Some(Opened::Reader { turn, passage, .. }) => (turn, passage),
        _ => panic!("no reader"),
    };
    person.presses("alt+down");
    assert_eq!(read(&person), (ids[2], 1), "there is none after it");
    person.presses("alt+up");
    assert_eq!(read(&person), (ids[0], 0));
    person.presses("esc").presses("esc").presses("alt+down").presses("tab");
    assert_eq!(person.app.looked_at, Some(ids[1]));
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("no sources"));
}

#[test]
fn esc_leads_to_the_newest_before_it_stops_it_and_so_does_scrolling() {
    let mut person = Person::ready();
    person.asks("Capital?").is_answered().asks("Currency?").hears(5);
    person.presses("alt+up").presses("esc");
    assert!(person.app.running.is_some() && person.app.looked_at.is_none());
    person.presses("esc");
    assert!(person.app.running.is_none());
    // Upwards it stays, also where everything is on the screen.
    for rows in [14, 60] {
        person.presses("alt+up").looks(80, rows);
        for key in ["pageup", "ctrl+home"] {
            person.presses(key).looks(80, rows);
            assert!(person.app.looked_at.is_some(), "{key}");
        }
        person.sees(Event::Wheel(-1)).presses("esc");
    }
    for key in ["pagedown", "ctrl+end"] {
        person.presses("alt+up");
        assert!(person.app.looked_at.is_some());
        for _ in 0..20 {
            person.looks(80, 14);
            person.presses(key);
        }
        assert!(person.app.looked_at.is_none(), "{key}");
    }
}

#[test]
fn a_candidate_of_an_earlier_answer_is_asked_its_question() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().asks("Currency?").is_answered();
    person.presses("alt+up").presses("ctrl+t").presses("down").presses("enter");
    assert_eq!(person.app.turns.last().unwrap().question, "Capital?");
    person.is_answered().shows("/flags/mw.png").presses("alt+up").presses("ctrl+t").presses("enter");
    assert_eq!(person.app.turns.len(), 3, "of another picture");
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("another picture"));
}

#[test]
fn a_session_that_was_only_looked_at_is_left_as_it_is() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered();
    let saved = person.app.saved();
    let kept = |person: &mut Person| {
        person.effects().into_iter().any(|effect| matches!(effect, Effect::Keep(kept) if kept.id == saved.id))
    };
    person.presses("ctrl+l");
    assert!(kept(&mut person));
    person.sees(Event::Resumed(Ok(Box::new(saved.clone())))).presses("ctrl+l");
    assert!(!kept(&mut person));
    person.sees(Event::Resumed(Ok(Box::new(saved.clone())))).types("And").sees(Event::Terminated);
    assert!(kept(&mut person), "a draft is kept");
    person
        .sees(Event::Resumed(Ok(Box::new(saved.clone()))))
        .sees(Event::Picture { path: "/flags/ke.png".into(), result: Ok(picture()) });
    person.effects();
    person.asks("Currency?");
    assert!(kept(&mut person));
}

#[test]
fn a_session_parts_from_that_of_another_window() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered();
    let from = person.app.id.clone();
    person.sees(Event::Parted { from: "other".into(), to: "another".into() });
    assert_eq!(person.app.id, from);
    assert!(person.reads(80, 24).contains("an earlier session"));
    person.sees(Event::Parted { from, to: "100-0001".into() });
    assert_eq!(person.app.saved().id, "100-0001");
    assert!(person.reads(80, 24).contains("this session"));
}

#[test]
fn a_follow_up_shows_what_was_found_before_it() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().asks("And its currency?");
    let mut answer = super::world::answer("And its currency?");
    answer.candidates = Vec::new();
    let turn = person.app.running.unwrap();
    person.sees(Event::Rag { turn, event: Some(Box::new(crate::rag::Event::Answer { answer: Box::new(answer) })) });
    person.presses("ctrl+t").presses("down");
    assert!(person.reads(80, 24).contains("Malawi"));
    person.presses("esc").shows("/flags/mw.png").asks("Capital?").presses("ctrl+t");
    assert!(person.reads(80, 24).contains("nothing was searched for"), "of another picture");
}

#[test]
fn a_picture_is_picked_by_folder_name_and_look() {
    let mut person = Person::ready();
    person.presses("ctrl+o");
    assert!(matches!(&person.effects()[..], [Effect::List(folder)] if folder.ends_with("ada")));
    let listed = |folder: &str, entries| Event::Listed { folder: folder.into(), result: Ok(entries) };
    person.sees(listed("/elsewhere", vec![entry("x.png", false)]));
    assert!(picker(&person).entries.is_none(), "of a folder that is not looked at any more");
    person.sees(listed("/home/ada", vec![entry("flags", true), entry("a.png", false), entry("b.png", false)]));
    person.presses("enter");
    assert!(matches!(&person.effects()[..], [Effect::List(folder)] if folder.ends_with("ada/flags")));
    person.sees(listed("/home/ada/flags", vec![entry("ke.png", false), entry("mw.png", false)]));
    assert!(matches!(&person.effects()[..], [Effect::OpenPicture(path)] if path.ends_with("flags/ke.png")));
    person.types("mW");
    assert_eq!(picker(&person).shown().len(), 1);
    let path = "/home/ada/flags/mw.png";
    person.sees(Event::Picture { path: path.into(), result: Ok(picture()) });
    assert!(picker(&person).preview.as_ref().unwrap().1.is_ok());
    person.effects();
    person.presses("enter");
    assert!(person.app.opened.is_none());
    assert!(matches!(&person.effects()[..], [Effect::OpenPicture(p)] if p.ends_with("mw.png")));
    person.sees(Event::Picture { path: path.into(), result: Ok(picture()) });
    assert!(person.app.chip.as_ref().unwrap().picture.is_some());
    // It opens where it was left, and backspace leads up.
    person.presses("ctrl+o").presses("backspace");
    let effects = person.effects();
    assert!(matches!(&effects[..], [Effect::List(a), Effect::List(b)] if a.ends_with("flags") && b.ends_with("ada")));
    person.sees(Event::Listed { folder: "/home/ada".into(), result: Err(Told::new("not allowed")) });
    assert_eq!(picker(&person).failed.as_ref().unwrap().message, "not allowed");
    person.presses("enter").presses("esc");
    assert!(person.app.opened.is_none());
}

#[test]
fn sessions_are_gone_on_with_and_removed() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered();
    let saved = person.app.saved();
    person.presses("ctrl+l").asks("Another?").is_answered().effects();
    person.presses("ctrl+s");
    assert!(matches!(person.effects()[..], [Effect::ListSessions]));
    let here = person.app.saved().head();
    person.sees(Event::Sessions(Ok(vec![here, saved.head(), Head { id: "1-0".into(), ..saved.head() }])));
    person.presses("d");
    assert!(person.effects().is_empty(), "not the one that is open");
    person.presses("down").presses("down").presses("delete");
    assert!(matches!(&person.effects()[..], [Effect::Forget(id)] if id == "1-0"));
    person.presses("enter");
    assert!(matches!(&person.effects()[..], [Effect::Resume(id)] if *id == saved.id));
    person.sees(Event::Resumed(Ok(Box::new(saved.clone()))));
    assert!(person.app.opened.is_none());
    assert_eq!((person.app.turns.len(), &person.app.id), (1, &saved.id));
    let effects = person.effects();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Keep(kept) if kept.id != saved.id)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::OpenPicture(_))));
    person.sees(Event::Picture { path: "/flags/ke.png".into(), result: Ok(picture()) });
    assert_eq!(person.app.conversation.entity(), Some(url("Kenya").as_str()), "it goes on where it was");
    // Asked again, it is asked about what the session is about.
    person.effects();
    person.presses("ctrl+r");
    assert!(
        person
            .effects()
            .iter()
            .any(|effect| matches!(effect, Effect::Ask { question, .. } if question.image.is_some()))
    );
    person.is_answered();
    // What another knowledge base said is not gone on with.
    let mut other = saved.clone();
    other.kb = "ruins".into();
    other.turns.iter_mut().for_each(|turn| turn.kb = "ruins".into());
    person.sees(Event::Resumed(Ok(Box::new(other))));
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("ruins"));
    person.sees(Event::Picture { path: "/flags/ke.png".into(), result: Ok(picture()) });
    assert!(person.app.conversation.entity().is_none());
    person.presses("ctrl+s").sees(Event::Sessions(Err(Told::new("no disk"))));
    assert!(person.app.opened.is_none() && person.app.notice.as_ref().unwrap().bad);
}

#[test]
fn another_knowledge_base_or_reader_is_opened_in_place() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("ctrl+b");
    assert!(matches!(person.effects()[..], [Effect::ListChoices]));
    let named = |name: &str| Named { name: name.into(), what: String::new() };
    let bases = vec![named("ruins"), named("starter")];
    let choices = Choices { bases, readers: vec![named("Small"), named("Large")], memory: None };
    person.sees(Event::Choices(Ok(choices.clone())));
    assert!(matches!(person.app.opened, Some(Opened::Switcher { selected: 1, .. })), "the one that is asked");
    person.presses("up").presses("enter");
    assert!(matches!(&person.effects()[..], [Effect::Open(Choice { kb: Some(kb), reader: None })] if kb == "ruins"));
    assert!(matches!(person.app.engines, Engines::Loading(..)));
    assert!(person.app.conversation.entity().is_none() && person.app.turns.len() == 1);
    // What is asked meanwhile waits; a reader is chosen beside the knowledge base.
    person.asks("And now?").presses("ctrl+b").sees(Event::Choices(Ok(choices)));
    person.presses("end").presses("enter");
    let effects = person.effects();
    let Some(Effect::Open(choice)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!((choice.kb.as_deref(), choice.reader.as_deref()), (Some("ruins"), Some("Large")));
    person.presses("ctrl+b").sees(Event::Choices(Err(Told::new("no server"))));
    assert!(person.app.opened.is_none());
}

#[test]
fn gates_are_looked_at_once() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("ctrl+t").presses("left").presses("right").presses("left");
    let effects = person.effects();
    let [Effect::Gates { turn: 1, text, picture: Some(_) }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(text, "Capital?");
    person.sees(Event::Gates { turn: 1, result: Err(Told::new("no retriever")) });
    assert!(person.reads(80, 24).contains("no retriever"));
    person.presses("right").presses("left");
    assert!(person.effects().is_empty());
}

#[test]
fn help_and_the_log_are_one_key_away_from_anywhere() {
    let mut person = Person::ready();
    person.presses("f1");
    assert!(person.reads(80, 24).contains("ask the question"));
    person.presses("down").presses("end");
    assert!(person.reads(80, 24).contains("/home/ada/cicerone.log"));
    person.presses("f12");
    assert!(matches!(person.effects()[..], [Effect::ReadLog]));
    person.sees(Event::Logged((0..100).map(|n| format!("line {n}")).collect()));
    let screen = person.reads(80, 24);
    assert!(screen.contains("line 99") && !screen.contains("line 1\n"), "{screen}");
    person.presses("home");
    assert!(person.reads(80, 24).contains("line 0"));
    person.presses("f12");
    assert!(person.app.opened.is_none());
}
