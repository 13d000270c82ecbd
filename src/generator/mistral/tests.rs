#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use super::tiny::{Kind, Says, Tiny, picture};
use super::*;
use crate::generator::{Turn, Usage};

pub(super) async fn load(tiny: &Tiny) -> MistralGenerator {
    load_as(tiny.path(), MistralSettings::default()).await
}

pub(super) async fn load_as(path: &Path, settings: MistralSettings) -> MistralGenerator {
    MistralGenerator::load(path, settings).await.unwrap()
}

pub(super) fn request(user: &str, image: Option<&PathBuf>) -> Request {
    Request {
        system: "Answer from the passages.".into(),
        examples: vec![Turn { user: "What is it?".into(), assistant: "A cat.".into() }],
        user: user.into(),
        image: image.cloned(),
        max_tokens: 24,
        stop: vec![],
        constraint: None,
        sampling: None,
    }
}

/// All that a request says, and its counts; or its error.
pub(super) async fn heard(
    mut chunks: mpsc::Receiver<Result<Chunk, GeneratorError>>,
) -> Result<(Vec<String>, Usage), GeneratorError> {
    let mut pieces = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        match chunk? {
            Chunk::Text(text) => pieces.push(text),
            Chunk::Done(usage) => {
                assert!(chunks.recv().await.is_none(), "something after the end");
                return Ok((pieces, usage));
            }
        }
    }
    panic!("a stream ended without an end")
}

pub(super) async fn answer(generator: &MistralGenerator, request: Request) -> Result<(String, Usage), GeneratorError> {
    heard(generator.generate(request)).await.map(|(pieces, usage)| (pieces.concat(), usage))
}

pub(super) async fn text(generator: &MistralGenerator, request: Request) -> String {
    answer(generator, request).await.unwrap().0
}

const RED: [[u8; 3]; 2] = [[220, 20, 20], [250, 250, 250]];
const BLUE: [[u8; 3]; 2] = [[10, 10, 40], [30, 60, 230]];

/// Two pictures beside the model.
pub(super) fn pictures(tiny: &Tiny) -> [PathBuf; 2] {
    [picture(tiny.path(), "red.png", true, RED), picture(tiny.path(), "blue.png", false, BLUE)]
}

async fn streams_what_it_sees(kind: Kind) {
    let tiny = Tiny::write(kind);
    let generator = load(&tiny).await;
    assert!(generator.info().sees_pictures && generator.picture_tokens() > 0);
    let [red, blue] = pictures(&tiny);
    let asked = request("What is the colour?", Some(&red));
    let (pieces, usage) = heard(generator.generate(asked.clone())).await.unwrap();
    assert!(pieces.len() > 10, "it comes in pieces: {pieces:?}");
    assert_eq!((usage.completion_tokens, usage.truncated), (24, true));
    let first = pieces.concat();
    let (again, counted) = answer(&generator, asked).await.unwrap();
    assert_eq!(again, first, "the same again");
    assert_eq!(counted.prompt_tokens, usage.prompt_tokens);
    let (other, _) = answer(&generator, request("What is the colour?", Some(&blue))).await.unwrap();
    assert_ne!(other, first, "another picture");
    let (none, without) = answer(&generator, request("What is the colour?", None)).await.unwrap();
    assert!(none != first && none != other, "no picture");
    let picture = usage.prompt_tokens - without.prompt_tokens;
    assert!((1..=generator.picture_tokens()).contains(&picture), "{picture} of {}", generator.picture_tokens());
    assert_ne!(text(&generator, request("Who is the man?", Some(&red))).await, first, "another question");
}

async fn stops_when_nobody_listens(kind: Kind) {
    let tiny = Tiny::write(kind);
    let generator = load(&tiny).await;
    let [red, blue] = pictures(&tiny);
    let alone = text(&generator, request("Afterwards?", Some(&blue))).await;
    let long = Request { max_tokens: 1500, ..request("A long story?", Some(&red)) };

    let mut left = generator.generate(long.clone());
    // Waits behind it, and its caller goes too: what is next must not run together with either.
    let waiting = generator.generate(long);
    for _ in 0..3 {
        assert!(matches!(left.recv().await, Some(Ok(Chunk::Text(_)))));
    }
    drop(left);
    drop(waiting);
    let at_drop = generator.engine.draws.lock().unwrap()[1].tokens();
    let next = tokio::time::timeout(Duration::from_secs(20), answer(&generator, request("Afterwards?", Some(&blue))));
    assert_eq!(next.await.expect("answered promptly").unwrap().0, alone);
    let draws = generator.engine.draws.lock().unwrap();
    let tokens: Vec<usize> = draws.iter().map(|draw| draw.tokens()).collect();
    // A token that is being computed, and eight that the engine may have sent before it was told.
    assert!(tokens[1] <= at_drop + 8 + 3, "{tokens:?} after {at_drop}");
    assert!(tokens[1] < 1500, "{tokens:?}");
    assert_eq!(tokens.len(), 3, "what nobody waits for is not begun: {tokens:?}");
}

async fn answers_each_as_if_alone(kind: Kind) {
    let tiny = Tiny::write(kind);
    let generator = load(&tiny).await;
    let [red, blue] = pictures(&tiny);
    let requests = [
        request("What is the colour?", Some(&red)),
        request("What is the colour?", Some(&blue)),
        request("Which way do the stripes go, and how many are there?", Some(&red)),
        request("What is the colour?", None),
    ];
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(text(&generator, request.clone()).await);
    }
    for backwards in [false, true] {
        let mut streams: Vec<_> =
            requests.iter().map(|request| generator.generate(request.clone())).enumerate().collect();
        if backwards {
            // The last is listened to before the first.
            streams.reverse();
        }
        for (at, stream) in streams {
            assert_eq!(heard(stream).await.unwrap().0.concat(), alone[at], "{at}");
        }
    }
}

macro_rules! architecture {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn it_streams_what_it_sees() {
                streams_what_it_sees($kind).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn it_stops_when_nobody_listens() {
                stops_when_nobody_listens($kind).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn it_answers_each_as_if_alone() {
                answers_each_as_if_alone($kind).await;
            }
        }
    };
}

architecture!(idefics3, Kind::Idefics3);
architecture!(qwen2_5_vl, Kind::Qwen25Vl);
architecture!(qwen3_vl, Kind::Qwen3Vl);
architecture!(gemma3, Kind::Gemma3);

/// The engine writes the tokens of an answer as text after each of them, and cuts that text anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qwens_engine_fails_where_an_answer_is_cut_otherwise_and_the_mend_prevents_it() {
    let tiny = Tiny::write(Kind::Qwen25Vl);
    let generator = load(&tiny).await;
    let [red, _] = pictures(&tiny);
    let asked = Request { max_tokens: 200, ..request("A long story?", Some(&red)) };
    let (mended, usage) = answer(&generator, asked.clone()).await.unwrap();
    assert_eq!(usage.completion_tokens, 200);
    assert_eq!(generator.count_tokens(&mended), 200, "its tokens come back");
    generator.engine.bare.store(true, std::sync::atomic::Ordering::Relaxed);
    let bare = answer(&generator, asked).await;
    println!("without the mend: {bare:?}");
    assert!(bare.is_err(), "the engine survives it now: the mend can go. {bare:?}");
}

/// Its code for Qwen2-VL looks for the tokens of a whole prompt behind that prompt's end, from the second token on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qwen2_vl_is_refused_where_it_would_be_shown_pictures() {
    let tiny = Tiny::write(Kind::Qwen2Vl);
    let refused = MistralGenerator::load(tiny.path(), MistralSettings::default()).await.map(|_| ());
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("Qwen2.5-VL") && said.contains("sees_pictures"), "{said}");

    let blind = MistralSettings { show_pictures: false, ..MistralSettings::default() };
    let mut generator = load_as(tiny.path(), blind).await;
    let [red, _] = pictures(&tiny);
    let (without, _) = answer(&generator, request("What is it?", None)).await.unwrap();
    assert_eq!(text(&generator, request("What is it?", Some(&red))).await, without, "no picture is shown");
    generator.info.sees_pictures = true;
    let shown = answer(&generator, request("What is it?", Some(&red))).await;
    let error = shown.expect_err("the engine shows it pictures now: it need not be refused").to_string();
    assert!(error.contains("index-select"), "{error}");
    assert_eq!(text(&generator, request("What is it?", None)).await, without);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_within_a_character_ends_well() {
    let tiny = Tiny::saying(Kind::Llama, Says::Bytes);
    let generator = load(&tiny).await;
    let mut before = String::new();
    let mut held = 0;
    for most in 2..=24 {
        let asked = Request { max_tokens: most, ..request("A story?", None) };
        let (said, usage) = match answer(&generator, asked).await {
            Ok(answer) => answer,
            Err(error) if before.is_empty() => {
                assert!(error.to_string().contains("without a reason"), "{error}");
                continue;
            }
            Err(error) => panic!("{most} tokens: {error}"),
        };
        assert_eq!((usage.completion_tokens, usage.truncated), (most, true));
        assert!(said.starts_with(&before), "{said:?} after {before:?}");
        held += usize::from(said == before);
        before = said;
    }
    assert!(held > 0, "no answer ended within a character");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_string_ends_an_answer_and_is_no_part_of_it() {
    let tiny = Tiny::write(Kind::Llama);
    let generator = load(&tiny).await;
    let asked = Request { max_tokens: 60, ..request("A story?", None) };
    let (whole, _) = answer(&generator, asked.clone()).await.unwrap();
    let stop: String = whole.chars().skip(10).take(3).collect();
    let at = whole.find(&stop).unwrap();
    let (cut, usage) = answer(&generator, Request { stop: vec![stop, "\n\n".into()], ..asked }).await.unwrap();
    assert_eq!(cut, whole[..at]);
    assert!(!usage.truncated && usage.completion_tokens < 20, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_of_earlier_prompts_changes_no_answer() {
    let tiny = Tiny::write(Kind::Llama);
    let keeps = load(&tiny).await;
    let forgets = load_as(tiny.path(), MistralSettings { prefix_cache: 0, ..MistralSettings::default() }).await;
    let passages = "The capital of Aruba is Oranjestad. ".repeat(10);
    let mut shared = Vec::new();
    for question in ["What is the capital?", "Where is it?", "What is the capital?"] {
        let asked = request(&format!("{passages}{question}"), None);
        let (kept, usage) = answer(&keeps, asked.clone()).await.unwrap();
        assert_eq!(kept, text(&forgets, asked).await);
        shared.push(usage.prompt_tokens);
    }
    assert_eq!(shared[0], shared[2], "counts do not depend on what was kept");
}

#[test]
fn control_tokens_of_the_model_are_broken() {
    let specials = ["<|im_end|>".to_owned(), "[TOOL]".to_owned()];
    let out = break_specials("a<|im_end|>b [TOOL]", &specials);
    assert_eq!(out, "a< |im_end|>b [ TOOL]");
}
