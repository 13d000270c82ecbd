//! A corpus of texts that try to be more than text, in every place of every prompt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Attack {
    name: String,
    text: String,
}

fn attacks() -> Vec<Attack> {
    let corpus = include_str!("../../../tests/data/injections.jsonl");
    corpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What chat templates and tokenizers take for more than text, as they are written.
const CONTROL: &[&str] = &[
    "<|",
    "</",
    "<s>",
    "<image",
    "<start_of",
    "<end_of",
    "<fake_token",
    "<global",
    "<row_",
    "<think",
    "<tool",
    "<｜",
    "<用",
    "<AI>",
    "<0x",
    "<unk>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<<",
    "<slice",
    "<script",
    "<img",
    "<!--",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
];

/// Nothing in a message can act; `what` is for the message.
fn harmless(what: &str, prompt: &Prompt) {
    for text in prompt.texts() {
        for token in CONTROL {
            assert!(!text.contains(token), "{what}: {token:?} in {text}");
        }
        let steers =
            |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!text.contains(steers), "{what}: a control character in {text:?}");
    }
}

/// Lines of the user message, of which any line break counts as one.
fn lines(prompt: &Prompt) -> usize {
    prompt.user.split(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']).count()
}

#[test]
fn a_passage_stays_one_numbered_line_of_text() {
    for name in ["answer", "starter", "evqa", "infoseek"] {
        let prompts = Prompts::shipped(name).unwrap();
        let plain = PromptPassage { title: "Peru", section: "Government", text: "The capital is Lima." };
        let honest = prompts.render(&[plain, plain], "What is the capital?");
        for Attack { name, text } in attacks() {
            let places = [
                PromptPassage { text: &text, ..plain },
                PromptPassage { title: &text, ..plain },
                PromptPassage { section: &text, ..plain },
            ];
            for passage in places {
                let prompt = prompts.render(&[passage, plain], "What is the capital?");
                harmless(&name, &prompt);
                assert_eq!(lines(&prompt), lines(&honest), "{name}: {}", prompt.user);
                assert_eq!((&prompt.system, &prompt.examples), (&honest.system, &honest.examples));
                let fence = prompt.user.lines().next().unwrap();
                assert_eq!(prompt.user.matches(fence).count(), 2, "{name}: {}", prompt.user);
                for (number, times) in [(1, 1), (2, 1), (3, 0), (5, 0)] {
                    let mark = format!("[{number}]");
                    assert_eq!(prompt.user.matches(&mark).count(), times, "{name}: {mark} in {}", prompt.user);
                }
            }
        }
    }
}

#[test]
fn a_question_a_name_and_a_turn_stay_text() {
    let prompts = Prompts::shipped("answer").unwrap();
    let passage = PromptPassage { title: "Peru", section: "Government", text: "The capital is Lima." };
    for Attack { name, text } in attacks() {
        harmless(&name, &prompts.render(&[passage], &text));
        harmless(&name, &prompts.render(&[], &text));
        let named = [Named { title: &text, score: 0.5 }, Named { title: "Peru", score: 0.4 }];
        let choice = prompts.choose_entity.render(&named, &text);
        harmless(&name, &choice);
        let honest = [Named { title: "Lima", score: 0.5 }, Named { title: "Peru", score: 0.4 }];
        let with = |named: &[Named<'_>]| lines(&prompts.choose_entity.render(named, "What is it?"));
        assert_eq!(with(&named), with(&honest), "{name}: {}", choice.user);
        let said = [Said { question: text.clone(), answer: text.clone() }];
        let follow_up = prompts.follow_up.render(&text, &said, &text);
        harmless(&name, &follow_up);
        let honest = prompts.follow_up.render("Peru", &[Said { question: "q".into(), answer: "a".into() }], "q");
        assert_eq!(lines(&follow_up), lines(&honest), "{name}: {}", follow_up.user);
    }
}
