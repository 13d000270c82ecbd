//! Asking: the question, its picture, the answer as it comes, and what is done with it.

use std::path::Path;
use std::time::Duration;

use super::super::app::{Engines, Focus};
use super::super::event::{Effect, Event, Told};
use super::super::session::Form;
use super::super::turn::End;
use super::world::{Person, picture, url};
use crate::rag::{QuestionImage, RagError};

/// The question that is to be asked, and of which turn.
fn asked(effects: &[Effect]) -> Option<(u64, &crate::rag::Question)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ask { turn, question } => Some((*turn, question.as_ref())),
        _ => None,
    })
}

fn kept(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Keep(_))).count()
}

#[test]
fn a_question_about_a_picture_is_asked_remembered_and_kept() {
    let mut person = Person::ready();
    person.pastes("'/flags/ke.png'\n");
    assert!(matches!(&person.effects()[..], [Effect::OpenPicture(path)] if path == Path::new("/flags/ke.png")));
    assert!(person.app.composer.is_empty(), "a path is no question");
    person.sees(Event::Picture { path: "/flags/ke.png".into(), result: Ok(picture()) });
    person.asks("What is the capital?");
    let effects = person.effects();
    let (turn, question) = asked(&effects).unwrap();
    assert_eq!((turn, question.text.as_str()), (1, "What is the capital?"));
    assert!(matches!(question.image, Some(QuestionImage::Decoded(_))));
    assert!(matches!(&effects[0], Effect::Remember(text) if text == "What is the capital?"));
    assert_eq!(kept(&effects), 1);
    person.is_answered();
    assert_eq!(kept(&person.effects()), 1);
    let turn = &person.app.turns[0];
    assert_eq!(turn.text, "The capital is **Nairobi** [1].");
    assert!(turn.cites(1) && !turn.cites(2));
    assert_eq!(person.app.running, None);
}

#[test]
fn a_question_waits_for_its_picture_and_for_the_models() {
    let mut person = Person::new();
    person.pastes("/flags/ke.png").asks("Capital?");
    assert!(asked(&person.effects()).is_none());
    assert!(person.app.turns.is_empty() && !person.app.composer.is_empty());
    person.sees(Event::Picture { path: "/flags/ke.png".into(), result: Ok(picture()) });
    assert!(asked(&person.effects()).is_none());
    assert_eq!(person.app.turns.len(), 1, "it stands there while the models load");
    person.sees(Event::Loading("loading the retriever".into()));
    person.sees(Event::Ready(super::world::about()));
    assert_eq!(asked(&person.effects()).unwrap().0, 1);
}

#[test]
fn models_that_cannot_be_had_are_told_and_the_question_fails() {
    let mut person = Person::new();
    person.asks("Capital?");
    person.sees(Event::Unready(Told { message: "no model".into(), hint: Some("pull it".into()) }));
    assert!(matches!(&person.app.turns[0].end, Some(End::Failed { message }) if message == "no model"));
    assert!(matches!(person.app.engines, Engines::Failed(_)));
    person.asks("Again?");
    assert_eq!(person.app.turns.len(), 1);
    assert_eq!(person.app.notice.as_ref().unwrap().told.message, "no model");
}

#[test]
fn a_picture_that_cannot_be_read_gives_its_text_back() {
    let mut person = Person::ready();
    person.pastes("/flags/none.png");
    person.sees(Event::Picture { path: "/flags/none.png".into(), result: Err(Told::new("no such file")) });
    assert!(person.app.chip.is_none());
    assert_eq!(person.app.composer.text(), "/flags/none.png");
    assert!(person.app.notice.as_ref().unwrap().bad);
    // The same where it was typed.
    person.presses("enter");
    assert!(matches!(&person.effects()[..], [Effect::OpenPicture(_), Effect::OpenPicture(_)]));
    assert!(person.app.composer.is_empty() && person.app.turns.is_empty());
}

#[test]
fn text_with_a_path_in_it_is_text() {
    let mut person = Person::ready();
    person.pastes("What is in a.png?").pastes("\n/x/a.png is one");
    assert_eq!(person.app.composer.text(), "What is in a.png?\n/x/a.png is one");
    assert!(person.effects().is_empty());
}

#[test]
fn esc_stops_and_keeps_what_came() {
    let mut person = Person::ready();
    person.asks("Capital?").hears(15);
    person.effects();
    person.presses("esc");
    let effects = person.effects();
    assert!(matches!(effects[0], Effect::Stop));
    assert_eq!(kept(&effects), 1);
    let turn = &person.app.turns[0];
    assert!(matches!(turn.end, Some(End::Stopped)));
    assert_eq!(turn.text, "The capital is **Nairobi");
    // What is still on its way is not heard.
    let late = super::world::events("Capital?").pop().unwrap();
    person.sees(Event::Rag { turn: 1, event: Some(Box::new(late)) });
    assert!(matches!(person.app.turns[0].end, Some(End::Stopped)));
    assert!(person.app.conversation.entity().is_none());
    person.presses("esc");
    assert!(person.effects().is_empty(), "there is nothing to stop");
}

#[test]
fn a_second_question_waits_for_nobody_and_is_not_lost() {
    let mut person = Person::ready();
    person.asks("One?").hears(3).asks("Two?");
    assert_eq!(person.app.turns.len(), 1);
    assert_eq!(person.app.composer.text(), "Two?");
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("esc stops it"));
}

#[test]
fn failures_end_the_turn_and_so_does_silence() {
    let mut person = Person::ready();
    person.asks("One?");
    let failed = crate::rag::Event::Failed { error: RagError::Crashed("the reader") };
    person.sees(Event::Rag { turn: 1, event: Some(Box::new(failed)) });
    assert!(matches!(person.app.turns[0].end, Some(End::Failed { .. })));
    person.asks("Two?").sees(Event::Rag { turn: 2, event: None });
    assert!(matches!(person.app.turns[1].end, Some(End::Failed { .. })));
    assert_eq!(person.app.running, None);
    // The end of a stream after its answer says nothing.
    person.asks("Three?").is_answered().sees(Event::Rag { turn: 3, event: None });
    assert!(person.app.turns[2].answer().is_some());
}

#[test]
fn a_follow_up_goes_on_with_the_entity_until_another_picture() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.asks("And its currency?");
    let effects = person.effects();
    let follow_up = asked(&effects).unwrap().1.follow_up.clone().unwrap();
    assert_eq!((follow_up.entity, follow_up.before.len()), (url("Kenya"), 1));
    person.is_answered().effects();
    person.shows("/flags/mw.png").asks("Capital?");
    assert!(asked(&person.effects()).unwrap().1.follow_up.is_none());
    person.is_answered().presses("ctrl+x").asks("Capital?");
    let effects = person.effects();
    let question = asked(&effects[effects.len() - 3..]).unwrap().1;
    assert!(question.image.is_none() && question.follow_up.is_none());
}

#[test]
fn not_this_one_takes_the_next_candidate_and_asks_the_same() {
    let mut person = Person::ready();
    person.presses("ctrl+n");
    assert!(person.effects().is_empty());
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("ctrl+n");
    let effects = person.effects();
    let (_, question) = asked(&effects).unwrap();
    assert_eq!(question.text, "Capital?");
    assert_eq!(question.follow_up.as_ref().unwrap().entity, url("Malawi"));
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("Malawi"));
    person.presses("ctrl+n");
    assert!(asked(&person.effects()).is_none(), "an answer is being written");
}

#[test]
fn asking_again_and_editing_forget_the_answer() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("ctrl+r");
    let effects = person.effects();
    assert!(asked(&effects).unwrap().1.follow_up.is_none(), "as it was asked at first");
    person.hears(4).presses("alt+e");
    assert!(person.effects().iter().any(|effect| matches!(effect, Effect::Stop)));
    assert_eq!(person.app.composer.text(), "Capital?");
    person.types(" Now?").presses("enter");
    assert_eq!(asked(&person.effects()).unwrap().1.text, "Capital? Now?");
}

#[test]
fn a_new_picture_is_what_is_asked_about_again() {
    let other = || crate::retriever::Picture::from_rgb(image::RgbImage::new(5, 5));
    let size = |effects: &[Effect]| match &asked(effects).unwrap().1.image {
        Some(QuestionImage::Decoded(picture)) => picture.rgb().width(),
        _ => 0,
    };
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered();
    person.pastes("/flags/mw.png").effects();
    person.presses("ctrl+r");
    assert!(asked(&person.effects()).is_none(), "it is still being read");
    person.sees(Event::Picture { path: "/flags/mw.png".into(), result: Ok(other()) }).presses("ctrl+r");
    let effects = person.effects();
    assert_eq!(size(&effects), 5);
    assert!(asked(&effects).unwrap().1.follow_up.is_none());
    assert_eq!(person.app.turns[1].picture.as_deref(), Some(Path::new("/flags/mw.png")));
    // Without any, there is none; and what was said about the first is gone on with when it comes back.
    person.is_answered().presses("ctrl+x").effects();
    person.presses("ctrl+r");
    assert_eq!(size(&person.effects()), 0);
    person.is_answered().shows("/flags/ke.png").effects();
    person.asks("And its currency?");
    let effects = person.effects();
    assert_eq!((size(&effects), asked(&effects).unwrap().1.follow_up.as_ref().unwrap().before.len()), (32, 1));
}

#[test]
fn a_picture_that_cannot_be_read_leaves_the_one_before() {
    let mut person = Person::ready();
    person.shows("/flags/ke.png").asks("Capital?").is_answered().pastes("/flags/none.png");
    assert_eq!(person.app.saved().picture.as_deref(), Some(Path::new("/flags/ke.png")));
    person.pastes("/flags/none-either.png");
    person.sees(Event::Picture { path: "/flags/none-either.png".into(), result: Err(Told::new("no such file")) });
    assert!(person.app.image().is_some());
    person.app.composer.set("");
    person.effects();
    person.asks("And its currency?");
    let effects = person.effects();
    let question = asked(&effects).unwrap().1;
    assert!(question.image.is_some() && question.follow_up.is_some());
    assert_eq!(person.app.turns[1].picture.as_deref(), Some(Path::new("/flags/ke.png")));
}

#[test]
fn a_question_may_end_in_the_name_of_a_picture() {
    let mut person = Person::ready();
    person.asks("Is this the same as photo.jpg");
    assert!(asked(&person.effects()).is_some());
    person.is_answered();
    for path in
        ["photo.jpg", "my\\ photo.jpg", "'my photo.jpg'", "~/my photo.jpg", "./my photo.jpg", "file:///my%20photo.jpg"]
    {
        person.pastes(path);
        assert!(matches!(person.effects().last(), Some(Effect::OpenPicture(_))), "{path}");
    }
}

#[test]
fn without_a_reader_the_passages_are_what_is_copied() {
    let mut person = Person::ready();
    person.asks("Capital?").presses("alt+c");
    assert!(!person.effects().iter().any(|effect| matches!(effect, Effect::Copy(_))), "nothing has come");
    let mut answer = super::world::answer("Capital?");
    answer.outcome = crate::rag::Outcome::PassagesOnly;
    (answer.text, answer.plain) = (String::new(), String::new());
    person.sees(Event::Rag { turn: 1, event: Some(Box::new(crate::rag::Event::Answer { answer: Box::new(answer) })) });
    person.presses("alt+c");
    assert!(
        matches!(&person.effects()[..], [.., Effect::Copy(text)] if text.contains("Nairobi") && text.contains("Tea"))
    );
}

#[test]
fn answers_are_copied_with_and_without_sources() {
    let mut person = Person::ready();
    person.presses("alt+c");
    assert!(person.effects().is_empty());
    person.asks("Capital?").is_answered().effects();
    person.presses("alt+c").presses("alt+s");
    let copied: Vec<String> = person
        .effects()
        .into_iter()
        .filter_map(|effect| if let Effect::Copy(text) = effect { Some(text) } else { None })
        .collect();
    assert_eq!(copied[0], "The capital is **Nairobi** [1].");
    let sources =
        "\n[1] Kenya — Government <https://example.org/kenya>\n[2] Kenya — Economy <https://example.org/kenya>";
    assert_eq!(copied[1], format!("{}{sources}", copied[0]));
}

#[test]
fn sessions_are_exported_and_begun_anew() {
    let mut person = Person::ready();
    person.presses("alt+m");
    assert!(person.effects().is_empty(), "there is nothing yet");
    person.shows("/flags/ke.png").asks("Capital?").is_answered().effects();
    person.presses("alt+m").presses("alt+j");
    let forms: Vec<Form> = person
        .effects()
        .into_iter()
        .filter_map(|effect| if let Effect::Export(_, form) = effect { Some(form) } else { None })
        .collect();
    assert_eq!(forms, [Form::Markdown, Form::Json]);
    person.sees(Event::Exported(Ok("/home/ada/x.md".into())));
    assert!(person.app.notice.as_ref().unwrap().told.message.contains("/home/ada/x.md"));
    let before = person.app.id.clone();
    person.presses("ctrl+l");
    assert_eq!(kept(&person.effects()), 1);
    assert!(person.app.turns.is_empty() && person.app.id != before);
    assert!(person.app.chip.is_some(), "the picture stays");
    assert!(person.app.conversation.entity().is_none());
}

#[test]
fn scrolling_leaves_the_newest_until_it_is_asked_for() {
    let mut person = Person::ready();
    for n in 0..6 {
        person.asks(&format!("Question {n}?")).is_answered();
    }
    person.looks(80, 24);
    assert!(person.app.scroll.top.is_none());
    person.presses("pageup").presses("pageup");
    let top = person.app.scroll.top.unwrap();
    assert!(!person.reads(80, 24).contains("new below"));
    person.asks("Another?");
    assert!(person.app.scroll.top.is_none(), "what is asked is looked at");
    person.looks(80, 24);
    person.presses("pageup").presses("pageup").hears(15);
    assert!(person.reads(80, 24).contains("new below"));
    assert!(person.app.scroll.top.unwrap() >= top);
    person.presses("ctrl+end");
    assert!(person.app.scroll.top.is_none());
    person.presses("ctrl+home");
    assert_eq!(person.app.scroll.top, Some(0));
    person.sees(Event::Wheel(1));
    assert_eq!(person.app.scroll.top, Some(3));
    for _ in 0..20 {
        person.presses("pagedown");
    }
    assert!(person.app.scroll.top.is_none());
}

#[test]
fn quitting_takes_two_presses_and_stops_the_answer_first() {
    let mut person = Person::ready();
    person.asks("Capital?").hears(4).effects();
    person.presses("ctrl+c");
    assert!(matches!(person.effects()[..], [Effect::Stop, Effect::Keep(_)]));
    person.now += Duration::from_secs(3);
    person.presses("ctrl+c");
    assert!(person.effects().is_empty(), "too late for the second");
    person.types("x").presses("ctrl+c");
    assert!(person.effects().is_empty(), "another key lay between");
    person.presses("ctrl+c");
    assert!(matches!(person.effects()[..], [Effect::Stop, Effect::Keep(_), Effect::Quit]));
    person.sees(Event::Terminated);
    assert!(matches!(person.effects()[..], [Effect::Keep(_), Effect::Quit]));
    person.presses("ctrl+z");
    assert!(matches!(person.effects()[..], [Effect::Suspend]));
}

#[test]
fn notices_go_by_themselves() {
    let mut person = Person::ready();
    person.presses("alt+c");
    assert!(person.app.notice.is_some() && person.app.moves());
    person.now += Duration::from_secs(7);
    person.sees(Event::Tick);
    assert!(person.app.notice.is_none() && !person.app.moves(), "nothing moves when nothing happens");
}

#[test]
fn sources_are_walked_and_read() {
    let mut person = Person::ready();
    person.presses("tab");
    assert_eq!(person.app.focus, Focus::Question, "there are none yet");
    person.asks("Capital?").is_answered().effects();
    person.presses("tab").presses("down").presses("down");
    assert_eq!((person.app.focus, person.app.source), (Focus::Sources, 1));
    person.presses("c");
    assert!(matches!(&person.effects()[..], [Effect::Copy(text)] if text == "Tea and coffee are exported."));
    person.types("w");
    assert_eq!(person.app.focus, Focus::Question, "who writes means the question");
    assert_eq!(person.app.composer.text(), "w");
}

#[test]
fn the_cursor_is_where_the_next_letter_will_be() {
    // 40 columns leave 38 for the question, in the third line from below, or above it where there are more.
    let at = |text: &str, keys: &[&str]| {
        let mut person = Person::ready();
        person.pastes(text).looks(40, 12);
        for key in keys {
            person.presses(key);
        }
        let (_, cursor) = person.looks_at_cursor(40, 12);
        cursor.map(|at| (at.x, at.y))
    };
    assert_eq!(at("", &[]), Some((1, 9)));
    assert_eq!(at("Who?", &[]), Some((5, 9)));
    assert_eq!(at("日本", &[]), Some((5, 9)), "two columns each");
    assert_eq!(at("日本", &["left"]), Some((3, 9)));
    assert_eq!(at("cafe\u{301}", &[]), Some((5, 9)), "an accent has none");
    assert_eq!(at(&"word ".repeat(9), &[]), Some((11, 9)), "in the second of two lines");
    assert_eq!(at(&"word\n".repeat(9), &[]), Some((1, 9)), "in the last of more than are shown");
    assert_eq!(at(&"word\n".repeat(9), &["up", "up", "up", "up"]), Some((1, 7)), "in the first that is shown");
    assert_eq!(at("Who?", &["f1"]), None);
}
