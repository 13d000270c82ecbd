//! The pipeline over a scripted generator and parts that live in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::generator::{GeneratorError, Scripted};
use crate::kb::{Article, Hit, Section};
use crate::rag::{
    About, Abstention, Conversation, EntityMethod, FollowUpMethod, Limits, Mode, NameEntity, Outcome, PartError,
    PartErrorKind, QuestionImage, SectionScore, Stage, Thresholds,
};
use crate::retriever::{Item, Picture};

struct Encoder;
impl QueryEncoder for Encoder {
    fn about(&self) -> About {
        About::new("encoder", "e")
    }
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
    fn about(&self) -> About {
        About::new("memory", "m")
    }
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
    fn about(&self) -> About {
        About::new("words", "w")
    }
    fn rank(&self, question: &str, article: &Article) -> Result<Vec<SectionScore>, PartError> {
        let question = question.to_lowercase();
        Ok(article
            .sections
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
    let parts = Parts {
        encoder: Arc::new(Encoder),
        search: Arc::new(Memory(hits())),
        ranker: Arc::new(Words),
        generator: generator.map(|g| Arc::new(g) as Arc<dyn Generator>),
        prompts: Arc::new(Prompts::shipped("answer").unwrap()),
    };
    Pipeline::new(parts, settings)
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
    let settings =
        Settings { thresholds: Thresholds { score: Some(0.95), ..Thresholds::default() }, ..Settings::default() };
    let answer = pipeline(Some(script), settings).answer(ask("the capital")).await.unwrap();
    assert!(
        matches!(&answer.outcome, Outcome::NotInKnowledgeBase { reason, .. } if reason.contains("0.900")),
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

/// Every way in which a reader can misbehave ends in a clear state within its time.
#[tokio::test]
async fn a_reader_that_fails_or_hangs_anywhere_ends_the_question_in_its_time() {
    let words = ["Oran", "jestad", " [1]", "."];
    let limit = Duration::from_millis(150);
    let limits = Limits { first_token: limit, answer: limit, ..Limits::default() };
    let settings = Settings { limits, ..Settings::default() };
    for n in 0..words.len() {
        let script = Scripted::new(words).failing_at(n, GeneratorError::Engine("out of memory".into()));
        let error = pipeline(Some(script), settings.clone()).answer(ask("the capital")).await.unwrap_err();
        assert_eq!((error.code(), error.kind()), ("engine", PartErrorKind::Failure), "chunk {n}");
    }
    for n in 0..=words.len() {
        let script = Scripted::new(words).hanging_at(n);
        let began = std::time::Instant::now();
        let mut events = pipeline(Some(script), settings.clone()).ask(ask("the capital"));
        let (mut said, mut last) = (String::new(), None);
        while let Some(event) = events.recv().await {
            if let Event::Token { text } = &event {
                said.push_str(text);
            }
            last = Some(event);
        }
        let Some(Event::Failed { error }) = last else { panic!("{last:?}") };
        assert_eq!((error.code(), error.kind()), ("timed-out", PartErrorKind::Unreachable));
        let expected = if n == 0 { Stage::ReadingPrompt } else { Stage::Answering };
        assert!(matches!(error, RagError::TimedOut { stage, .. } if stage == expected), "{error}");
        assert!("Oranjestad [1].".starts_with(&said) && said.is_empty() == (n == 0), "what came is kept: {said:?}");
        assert!(began.elapsed() < limit * 8, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn endless_output_is_cut_at_what_was_asked_for() {
    let settings = Settings { max_tokens: 7, ..Settings::default() };
    let script = Scripted::new(["word "]).endless();
    let sent = script.sent();
    let answer = pipeline(Some(script), settings.clone()).answer(ask("the capital")).await.unwrap();
    assert_eq!(answer.plain.split(' ').count(), 7);
    assert!(answer.usage.unwrap().truncated && sent.load(Ordering::SeqCst) < 12);
    let long = "x".repeat(1 << 20);
    let answer =
        pipeline(Some(Scripted::new(["Lima ".into(), long])), settings.clone()).answer(ask("the capital")).await;
    let plain = answer.unwrap().plain;
    assert!(plain.starts_with("Lima xxx") && plain.len() <= 7 * 64, "{} bytes", plain.len());
    for nothing in ["", " ", "\u{200b}", "\x1b[0m"] {
        let script = Scripted::new([nothing]).endless();
        let error = pipeline(Some(script), settings.clone()).answer(ask("the capital")).await.unwrap_err();
        assert_eq!(error.code(), "empty-answer");
    }
}

#[tokio::test]
async fn escape_sequences_and_halves_of_letters_never_reach_the_screen() {
    let pieces = ["\x1b]0;pwned\x07Oran", "je\x1b[31", "mstad\x1b[0m\u{9b}2J", " \u{202e}[1]\u{fffd}", "\r\x08"];
    let mut events = pipeline(Some(Scripted::new(pieces)), Settings::default()).ask(ask("the capital"));
    let mut shown = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Token { text } => shown.push_str(&text),
            Event::Answer { answer } => {
                assert!(answer.text.chars().all(|c| !c.is_control()), "{:?}", answer.text);
                assert!(answer.text.ends_with("[1]\u{fffd}"), "{:?}", answer.text);
            }
            Event::Failed { error } => panic!("{error}"),
            _ => {}
        }
    }
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()) && !shown.contains('\u{202e}'), "{shown:?}");
}

/// Takes longer than it may.
struct Slow;
impl QueryEncoder for Slow {
    fn about(&self) -> About {
        About::default()
    }
    fn encode(&self, _: Item) -> Result<Vec<f32>, PartError> {
        std::thread::sleep(Duration::from_millis(400));
        Ok(vec![])
    }
}
impl Search for Slow {
    fn about(&self) -> About {
        About::default()
    }
    fn search(&self, _: &[f32], _: &str, _: usize) -> Result<Vec<Hit>, PartError> {
        std::thread::sleep(Duration::from_millis(400));
        Ok(hits())
    }
    fn article(&self, _: &str) -> Result<Option<Article>, PartError> {
        Err(PartError::new(PartErrorKind::Unreachable, "http://x: no answer within 5 s"))
    }
}
impl SectionRanker for Slow {
    fn about(&self) -> About {
        About::default()
    }
    fn rank(&self, _: &str, _: &Article) -> Result<Vec<SectionScore>, PartError> {
        std::thread::sleep(Duration::from_millis(400));
        Ok(vec![])
    }
}

#[tokio::test]
async fn a_part_that_does_not_come_back_ends_the_question_in_its_time() {
    let limits = Limits { stage: Duration::from_millis(50), ..Limits::default() };
    let base = pipeline(Some(Scripted::new(["x"])), Settings { limits, ..Settings::default() });
    let slow_encoder =
        Pipeline::new(Parts { encoder: Arc::new(Slow), ..base.parts().clone() }, base.settings().clone());
    let slow = [
        (Stage::Encoding, slow_encoder),
        (Stage::Searching, base.with_search(Arc::new(Slow))),
        (Stage::Ranking, base.with_ranker(Arc::new(Slow))),
    ];
    for (expected, pipeline) in slow {
        let began = std::time::Instant::now();
        let error = pipeline.answer(ask("the capital")).await.unwrap_err();
        assert!(matches!(error, RagError::TimedOut { stage, .. } if stage == expected), "{error}");
        assert!(error.to_string().contains("rag.timeout_s") && began.elapsed() < Duration::from_millis(350));
    }
    let given = ask("x").with_mode(Mode::OracleEntity { url: "aruba".into() });
    let error = base.with_search(Arc::new(Slow)).answer(given).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("unreachable", PartErrorKind::Unreachable));
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
}

#[tokio::test]
async fn the_reader_chooses_the_entity_from_names_and_nothing_else() {
    let settings = Settings { entity: EntityMethod::Model, ..Settings::default() };
    let script = Scripted::new(["2"]).then(["Brasilia [1]"]);
    let requests = script.requests();
    let answer = pipeline(Some(script), settings.clone()).answer(ask("what is the capital")).await.unwrap();
    let entity = answer.entity.clone().unwrap();
    assert_eq!((entity.title.as_str(), answer.plain.as_str()), ("BRAZIL", "Brasilia"));
    assert!(entity.why.contains("chosen by scripted") && entity.margin.unwrap() < 0.0, "{entity:?}");
    assert_eq!(answer.passages[0].url, "brazil");
    let requests = requests.lock().await;
    assert!(requests[0].user.contains("1. ARUBA") && requests[0].user.contains("2. BRAZIL"), "{}", requests[0].user);
    assert!(!requests[0].user.contains("florin"), "no text is read before the choice");
    let allowed = crate::generator::Constraint::OneOf(vec!["1".into(), "2".into()]);
    assert_eq!(requests[0].constraint, Some(allowed));
    assert!(answer.timings.choosing_ms.is_some());
    for nonsense in ["Mars", "7", ""] {
        let script = Scripted::new([nonsense]).then(["Oranjestad"]);
        let entity = pipeline(Some(script), settings.clone()).answer(ask("x")).await.unwrap().entity.unwrap();
        assert!(entity.url == "aruba" && entity.why.contains("named none of the list"), "{entity:?}");
    }
}

#[tokio::test]
async fn what_is_not_good_enough_is_told_with_its_cause() {
    let abstains = |thresholds| async move {
        let settings = Settings { thresholds, ..Settings::default() };
        let script = Scripted::new(["x"]);
        let requests = script.requests();
        let answer = pipeline(Some(script), settings).answer(ask("what is the capital")).await.unwrap();
        assert!(requests.lock().await.is_empty(), "nothing is generated");
        let json = serde_json::to_value(&answer).unwrap();
        match answer.outcome {
            Outcome::NotInKnowledgeBase { why, .. } => (why, json["cause"].as_str().unwrap().to_owned(), answer.entity),
            other => panic!("{other:?}"),
        }
    };
    let (why, cause, entity) = abstains(Thresholds { margin: Some(0.4), ..Thresholds::default() }).await;
    assert!(matches!(why, Abstention::SmallMargin { .. }) && cause == "small-margin" && entity.is_none());
    let (why, cause, entity) = abstains(Thresholds { section: Some(9.0), ..Thresholds::default() }).await;
    assert!(matches!(why, Abstention::NoSection { score, .. } if score > 1.0) && cause == "no-section", "{why:?}");
    assert_eq!(entity.unwrap().url, "aruba", "the entity was found");
    let nothing = pipeline(None, Settings::default()).with_search(Arc::new(Memory(vec![])));
    let answer = nothing.answer(ask("x")).await.unwrap();
    assert!(matches!(answer.outcome, Outcome::NotInKnowledgeBase { why: Abstention::NothingFound, .. }));
    let bare = Hit { article: article("bare", &[("Intro", " ")]), score: 0.9, part: None };
    let answer = pipeline(None, Settings::default()).with_search(Arc::new(Memory(vec![bare]))).answer(ask("x")).await;
    assert!(matches!(answer.unwrap().outcome, Outcome::NotInKnowledgeBase { why: Abstention::NoText { .. }, .. }));
}

#[tokio::test]
async fn a_follow_up_keeps_the_entity_and_is_ranked_in_its_own_words() {
    let script = Scripted::new(["Oranjestad [1]"]).then(["the florin [1]"]);
    let requests = script.requests();
    let pipeline = pipeline(Some(script), Settings::default());
    let mut conversation = Conversation::new(None);
    let first = pipeline.answer(conversation.question("what is the capital")).await.unwrap();
    conversation.answered(&first);
    assert_eq!(conversation.entity(), Some("aruba"));
    let second = pipeline.answer(conversation.question("and its currency?")).await.unwrap();
    assert_eq!(second.standalone, "What is ARUBA's currency?");
    assert_eq!((second.passages[0].section.as_str(), second.before.len()), ("Economy", 1));
    assert_eq!(second.entity.as_ref().unwrap().why, "kept from the question before");
    assert!(second.timings.encoding_ms.is_none(), "nothing is retrieved again");
    assert!(requests.lock().await[1].user.contains("What is ARUBA's currency?"));
    conversation.answered(&second);
    assert_eq!(conversation.reject().map(|other| other.url.as_str()), Some("brazil"));
    let third = pipeline.answer(conversation.question("what is the capital")).await.unwrap();
    assert_eq!((third.entity.unwrap().url.as_str(), third.before.len()), ("brazil", 0));
    assert!(conversation.reject().is_none(), "there are two candidates");
}

#[tokio::test]
async fn the_reader_can_write_the_question_and_rules_do_where_it_writes_nothing() {
    let settings = Settings { follow_up: FollowUpMethod::Model, ..Settings::default() };
    let base = |script: Scripted| pipeline(Some(script), settings.clone());
    let said = || vec![crate::rag::Said { question: "what is the capital".into(), answer: "Oranjestad".into() }];
    let ask = || Conversation::after(None, "aruba".into(), said()).question("and its money?");
    let script = Scripted::new(["Which currency is used in Aruba?"]).then(["florin"]);
    let answer = base(script).answer(ask()).await.unwrap();
    assert_eq!(answer.standalone, "Which currency is used in Aruba?");
    assert!(answer.timings.rewriting_ms.is_some());
    for useless in ["", "?!", &"very ".repeat(100)] {
        let answer = base(Scripted::new([useless]).then(["florin"])).answer(ask()).await.unwrap();
        assert_eq!(answer.standalone, "What is ARUBA's money?", "{useless:?}");
        let told = answer.stages.iter().find(|stage| stage.stage == Stage::Rewriting).unwrap();
        assert!(told.by.contains("nothing usable"), "{told:?}");
    }
}

#[tokio::test]
async fn every_stage_and_part_is_told_with_the_answer() {
    let answer =
        pipeline(Some(Scripted::new(["Oranjestad [1]"])), Settings::default()).answer(ask("capital")).await.unwrap();
    let told: Vec<(Stage, &str)> = answer.stages.iter().map(|stage| (stage.stage, stage.by.as_str())).collect();
    assert_eq!(
        told,
        [
            (Stage::Encoding, "encoder"),
            (Stage::Searching, "memory, 20 candidates"),
            (Stage::Choosing, "the best score"),
            (Stage::Ranking, "words"),
            (Stage::ReadingPrompt, "scripted, script"),
            (Stage::Answering, "scripted, script"),
        ]
    );
    let fingerprints =
        [&answer.retriever, &answer.knowledge_base, &answer.ranker].map(|part| part.fingerprint.as_str());
    assert_eq!(fingerprints, ["e", "m", "w"]);
    let prompt = answer.prompt.unwrap();
    assert_eq!(prompt.passages, answer.passages[0].tokens);
    assert_eq!(answer.prompt_tokens, prompt.system + prompt.examples + prompt.passages + prompt.question);
}

#[tokio::test]
async fn the_searchs_score_counts_beside_the_rankers_where_it_is_given_weight() {
    let settings = Settings { entities: 2, retrieval_weight: 10.0, ..Settings::default() };
    let ask_with = |settings: Settings| async move {
        pipeline(None, settings).answer(ask("the capital Brasilia")).await.unwrap().passages[0].url.clone()
    };
    assert_eq!(ask_with(Settings { retrieval_weight: 0.0, ..settings.clone() }).await, "brazil");
    assert_eq!(ask_with(settings).await, "aruba");
}

#[tokio::test]
async fn the_entity_is_named_where_the_settings_say_so() {
    // "shown" leads to the section that speaks of showing, unless the entity's name stands in its place.
    let sections = [("Show", "The show is shown in this country."), ("Capital", "The capital of ARUBA is Oranjestad.")];
    let hit = Hit { article: article("aruba", &sections), score: 0.9, part: None };
    let question = "the capital of the country whose show is shown";
    for (name_entity, first, asked) in [
        (NameEntity::Never, "Show", question),
        (NameEntity::Ranking, "Capital", question),
        (NameEntity::Always, "Capital", "the capital of ARUBA"),
    ] {
        let script = Scripted::new(["x"]);
        let requests = script.requests();
        let settings = Settings { name_entity, ..Settings::default() };
        let pipeline = pipeline(Some(script), settings).with_search(Arc::new(Memory(vec![hit.clone()])));
        let answer = pipeline.answer(ask(question)).await.unwrap();
        assert_eq!((answer.passages[0].section.as_str(), answer.standalone.as_str()), (first, asked));
        assert!(requests.lock().await[0].user.ends_with(asked), "{name_entity:?}");
    }
}

/// Random weights would say anything; the list holds them to a candidate, whatever the picture.
#[cfg(feature = "mistral")]
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_sees_can_choose_nothing_but_a_candidate() {
    use crate::generator::mistral::tiny::{Kind, Tiny, picture};
    let tiny = Tiny::write(Kind::Qwen3Vl);
    let reader = crate::generator::MistralGenerator::load(tiny.path(), Default::default()).await.unwrap();
    let settings = Settings { entity: EntityMethod::Model, max_tokens: 8, ..Settings::default() };
    let pipeline = pipeline(None, settings).with_generator(Some(Arc::new(reader)));
    for (n, colours) in [[[200, 0, 0], [0, 0, 0]], [[0, 0, 250], [250, 250, 250]]].into_iter().enumerate() {
        let image = picture(tiny.path(), &format!("{n}.png"), true, colours);
        let mut events = pipeline.ask(Question::new("what is it", Some(QuestionImage::Path(image))));
        let mut chosen = None;
        while let Some(event) = events.recv().await {
            match event {
                Event::Entity { entity } => chosen = Some(entity),
                Event::Failed { error } if chosen.is_none() => panic!("{error}"),
                _ => {}
            }
        }
        let entity = chosen.unwrap();
        assert!(entity.why.starts_with("chosen by ") && ["aruba", "brazil"].contains(&&*entity.url), "{entity:?}");
    }
}
