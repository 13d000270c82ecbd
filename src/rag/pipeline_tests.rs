//! The pipeline over a scripted generator and parts that live in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::generator::{GeneratorError, Scripted};
use crate::kb::{Hit, Section};
use crate::rag::PartErrorKind;

struct Encoder;
impl QueryEncoder for Encoder {
    fn encode(&self, item: Item) -> Result<Vec<f32>, PartError> {
        match item.text.as_deref() {
            Some(text) if text.contains("panic") => panic!("as told"),
            Some(text) if text.contains("fail") => {
                Err(PartError::new(PartErrorKind::Mismatch, "built with other weights; run `kb build`"))
            }
            _ => Ok(vec![1.0, 0.0]),
        }
    }
}

struct Memory(Vec<Hit>);
impl Search for Memory {
    fn search(&self, _: &[f32], _: &str, k: usize) -> Result<Vec<Hit>, PartError> {
        Ok(self.0.iter().take(k).cloned().collect())
    }
    fn article(&self, url: &str) -> Result<Option<Article>, PartError> {
        Ok(self.0.iter().find(|hit| hit.article.url == url).map(|hit| hit.article.clone()))
    }
}

/// Scores a section by the words it shares with the question.
struct Words;
impl SectionRanker for Words {
    fn rank(&self, question: &str, sections: &[Section]) -> Result<Vec<SectionScore>, PartError> {
        let question = question.to_lowercase();
        Ok(sections
            .iter()
            .map(|section| {
                let text = format!("{} {}", section.title, section.text).to_lowercase();
                let score = question.split_whitespace().filter(|word| text.contains(*word)).count() as f32;
                SectionScore { score, focus: 0..0 }
            })
            .collect())
    }
}

fn article(url: &str, sections: &[(&str, &str)]) -> Article {
    Article {
        url: url.into(),
        title: url.to_uppercase(),
        sections: sections
            .iter()
            .map(|(title, text)| Section { title: (*title).into(), text: (*text).into() })
            .collect(),
        ..Article::default()
    }
}

fn hits() -> Vec<Hit> {
    vec![
        Hit {
            article: article(
                "aruba",
                &[
                    ("Intro", ""),
                    ("Economy", "The currency is the florin. It is stable."),
                    ("Government", "The capital is Oranjestad. The king reigns."),
                ],
            ),
            score: 0.9,
            part: None,
        },
        Hit { article: article("brazil", &[("Government", "The capital is Brasilia.")]), score: 0.6, part: None },
    ]
}

fn pipeline(generator: Option<Scripted>, settings: Settings) -> Pipeline {
    Pipeline::new(
        Arc::new(Encoder),
        Arc::new(Memory(hits())),
        Arc::new(Words),
        generator.map(|g| Arc::new(g) as Arc<dyn Generator>),
        Templates::built_in().unwrap(),
        settings,
    )
}

fn ask(text: &str) -> Question {
    Question::new(text, None)
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_answer() {
    let pipeline = pipeline(Some(Scripted::new(["Oranje", "stad", " [1]."])), Settings::default());
    let mut events = pipeline.ask(ask("what is the capital"));
    let mut names = Vec::new();
    let mut answer = None;
    while let Some(event) = events.recv().await {
        let json = serde_json::to_value(&event).unwrap();
        let stage = json.get("stage").and_then(|s| s.as_str()).unwrap_or_default();
        names.push(format!("{} {stage}", json["event"].as_str().unwrap()).trim().to_owned());
        if let Event::Answer { answer: whole } = event {
            answer = Some(whole);
        }
    }
    assert_eq!(
        names,
        [
            "started encoding",
            "finished encoding",
            "started searching",
            "finished searching",
            "candidates",
            "entity",
            "started ranking",
            "finished ranking",
            "passages",
            "prompt",
            "started reading-prompt",
            "finished reading-prompt",
            "started answering",
            "token",
            "token",
            "token",
            "finished answering",
            "answer"
        ]
    );
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.plain.as_str()), ("Oranjestad [1].", "Oranjestad."));
    assert_eq!(answer.passages[0].section_index, 2);
    assert_eq!(answer.citations[0].section, "Government");
    assert_eq!(answer.citations[0].source, crate::rag::CitationSource::Model);
    assert_eq!(answer.candidates.len(), 2);
    let timings = answer.timings;
    assert!(timings.first_token_ms.unwrap() <= timings.total_ms);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((&json["outcome"], &json["mode"]), (&"answered".into(), &"retrieved".into()));
}

#[tokio::test]
async fn an_answer_without_marks_is_matched_and_says_so() {
    let answer =
        pipeline(Some(Scripted::new(["Oranjestad"])), Settings::default()).answer(ask("the capital")).await.unwrap();
    assert_eq!(answer.citations[0].source, crate::rag::CitationSource::Matched);
}

#[tokio::test]
async fn dropping_the_events_stops_the_generator_within_a_token() {
    let script = Scripted::new(vec!["word "; 40]).with_delay(Duration::from_millis(5));
    let sent = script.sent();
    let mut events = pipeline(Some(script), Settings::default()).ask(ask("the capital"));
    while let Some(event) = events.recv().await {
        if matches!(event, Event::Token { .. }) {
            break;
        }
    }
    drop(events);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let then = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(sent.load(Ordering::SeqCst), then);
    assert!(then < 10, "{then} tokens after the caller had gone");
}

#[tokio::test]
async fn an_error_in_the_stream_is_the_error_of_the_answer() {
    let script = Scripted::new(["a", "b", "c"]).failing_at(1, GeneratorError::Engine("out of memory".into()));
    let error = pipeline(Some(script), Settings::default()).answer(ask("the capital")).await.unwrap_err();
    assert_eq!(error.to_string(), "answering: the engine stopped: out of memory");
}

#[tokio::test]
async fn an_empty_or_unfinished_stream_is_never_a_success() {
    let fail = |script| async {
        pipeline(Some(script), Settings::default()).answer(ask("the capital")).await.unwrap_err().code()
    };
    assert_eq!(fail(Scripted::new(Vec::<String>::new())).await, "empty-answer");
    assert_eq!(fail(Scripted::new([" ", "\x1b[0m"])).await, "empty-answer");
    assert_eq!(fail(Scripted::new(["Oranjestad"]).ending_silently()).await, "unfinished");
}

#[tokio::test]
async fn errors_of_the_parts_keep_their_kind_and_a_panic_is_one() {
    let pipeline = pipeline(Some(Scripted::new(["x"])), Settings::default());
    let error = pipeline.answer(ask("fail")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (PartErrorKind::Mismatch, "mismatch"));
    assert!(error.to_string().contains("kb build"));
    assert_eq!(pipeline.answer(ask("panic")).await.unwrap_err().code(), "failure");
    assert_eq!(pipeline.answer(ask("  ")).await.unwrap_err().code(), "empty-question");
    let picture = Question::new("x", Some(QuestionImage::Path("no/such.png".into())));
    let error = pipeline.answer(picture).await.unwrap_err();
    assert!(error.code() == "bad-picture" && error.to_string().contains("no/such.png"), "{error}");
}

#[tokio::test]
async fn below_the_threshold_nothing_is_generated() {
    let script = Scripted::new(["x"]);
    let requests = script.requests();
    let settings = Settings { min_score: Some(0.95), ..Settings::default() };
    let answer = pipeline(Some(script), settings).answer(ask("the capital")).await.unwrap();
    assert!(
        matches!(&answer.outcome, Outcome::NotInKnowledgeBase { reason } if reason.contains("0.900")),
        "{answer:?}"
    );
    assert_eq!(answer.candidates.len(), 2);
    assert!(requests.lock().await.is_empty());
}

#[tokio::test]
async fn the_modes_differ_in_their_passages_alone() {
    let script = Scripted::new(["Oranjestad"]);
    let requests = script.requests();
    let pipeline = pipeline(Some(script), Settings::default());
    let mode = |mode| ask("what is the capital").with_mode(mode);
    let gold = Mode::OraclePassage { url: "aruba".into(), section: 1 };
    let answer = pipeline.answer(mode(gold)).await.unwrap();
    assert_eq!((answer.passages.len(), answer.passages[0].section_index), (1, 1));
    let entity = Mode::OracleEntity { url: "brazil".into() };
    assert_eq!(pipeline.answer(mode(entity)).await.unwrap().passages[0].text, "The capital is Brasilia.");
    let none = pipeline.answer(mode(Mode::NoRetrieval)).await.unwrap();
    assert!(none.passages.is_empty() && none.citations.is_empty());
    let users: Vec<String> = requests.lock().await.iter().map(|r| r.user.clone()).collect();
    assert!(users[0].contains("florin") && users[1].contains("Brasilia") && !users[2].contains("[1]"), "{users:?}");
    for missing in [
        Mode::OracleEntity { url: "x".into() },
        Mode::OraclePassage { url: "aruba".into(), section: 9 },
        Mode::OraclePassage { url: "aruba".into(), section: 0 },
    ] {
        assert_eq!(pipeline.answer(mode(missing)).await.unwrap_err().code(), "no-such-article");
    }
}

#[tokio::test]
async fn passages_keep_to_the_budget_and_one_always_stays() {
    let settings = Settings { passages: 3, passage_tokens: 9, tokens_per_passage: 5, ..Settings::default() };
    let base = pipeline(Some(Scripted::new(["x"])), settings.clone());
    let answer = base.answer(ask("the capital")).await.unwrap();
    assert!(answer.passages.iter().map(|p| p.tokens).sum::<usize>() <= 9, "{:?}", answer.passages);
    assert_eq!(answer.passages[0].text, "The capital is Oranjestad. …");
    assert!(answer.passages[0].cut);
    let tiny = base.with_settings(Settings { passage_tokens: 0, ..settings });
    assert_eq!(tiny.answer(ask("the capital")).await.unwrap().passages.len(), 1);
}

#[tokio::test]
async fn without_a_generator_the_passages_are_the_answer() {
    let answer = pipeline(None, Settings::default()).answer(ask("the capital")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::PassagesOnly);
    assert_eq!(answer.passages[0].section, "Government");
}

#[tokio::test]
async fn a_generator_that_sees_gets_the_picture_and_another_does_not() {
    let picture = Picture::from_rgb(image::RgbImage::new(4, 3));
    for sees in [true, false] {
        let plain = Scripted::new(["x"]);
        let info = crate::generator::GeneratorInfo { sees_pictures: sees, ..plain.info().clone() };
        let script = plain.with_info(info);
        let requests = script.requests();
        let question = Question::new("the capital", Some(QuestionImage::Decoded(picture.clone())));
        pipeline(Some(script), Settings::default()).answer(question).await.unwrap();
        assert_eq!(requests.lock().await[0].image.is_some(), sees);
    }
}

#[test]
fn outside_of_a_runtime_the_answer_is_an_error() {
    let mut events = pipeline(None, Settings::default()).ask(ask("x"));
    assert!(matches!(events.blocking_recv(), Some(Event::Failed { error: RagError::NoRuntime })));
}
