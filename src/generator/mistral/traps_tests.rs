//! What the engine is known to do badly, each seen from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::tests::{answer, load, pictures, request, text};
use super::tiny::{CONTEXT, Kind, Tiny};
use super::*;

async fn refused(path: &Path) -> String {
    match MistralGenerator::load(path, MistralSettings::default()).await {
        Ok(_) => panic!("{} was loaded", path.display()),
        Err(error) => {
            assert!(matches!(error, GeneratorError::Load { .. }), "{error:?}");
            error.to_string()
        }
    }
}

/// Loads a model of which one file was replaced; `None` removes it.
async fn refused_with(kind: Kind, name: &str, content: Option<&[u8]>) -> String {
    let tiny = Tiny::write(kind);
    match content {
        Some(content) => fs_err::write(tiny.file(name), content).unwrap(),
        None => fs_err::remove_file(tiny.file(name)).unwrap(),
    }
    refused(tiny.path()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_no_name_on_a_hub() {
    let said = refused(Path::new("HuggingFaceTB/SmolVLM-256M-Instruct")).await;
    assert!(said.contains("no such directory"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_named() {
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"] {
        let said = refused_with(Kind::Idefics3, name, None).await;
        assert!(said.contains(name), "{name}: {said}");
    }
    let said = refused_with(Kind::Llama, "model.safetensors", None).await;
    assert!(said.contains("safetensors"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_corrupt_is_an_error() {
    for kind in [Kind::Llama, Kind::Gemma3] {
        for (name, content) in [
            ("config.json", &b"{\"architectures\": "[..]),
            ("config.json", b"[]"),
            ("config.json", b"{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\"}"),
            ("tokenizer.json", b"{\"version\": \"1.0\"}"),
            ("tokenizer_config.json", b"{"),
            ("generation_config.json", b"{"),
            ("model.safetensors", b"no tensors"),
            ("model.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{\"a\": 1"),
        ] {
            let said = refused_with(kind, name, Some(content)).await;
            assert!(!said.is_empty(), "{kind:?} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_that_are_cut_off_are_an_error() {
    let tiny = Tiny::write(Kind::Llama);
    let whole = fs_err::read(tiny.file("model.safetensors")).unwrap();
    for part in [9, whole.len() / 2, whole.len() - 1] {
        fs_err::write(tiny.file("model.safetensors"), &whole[..part]).unwrap();
        let said = refused(tiny.path()).await;
        assert!(said.contains(&*tiny.path().to_string_lossy()), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_architecture_that_nobody_knows_is_an_error() {
    for kind in [Kind::Llama, Kind::Qwen3Vl] {
        let tiny = Tiny::write(kind);
        tiny.edit("config.json", |config| config["architectures"] = json!(["NobodyForCausalLM"]));
        let said = refused(tiny.path()).await;
        assert!(said.contains("Nobody"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_not_split() {
    let tiny = Tiny::write(Kind::Idefics3);
    let written = fs_err::read_to_string(tiny.file("preprocessor_config.json")).unwrap();
    assert!(written.contains("\"do_image_splitting\": true"));
    let generator = load(&tiny).await;
    let [red, _] = pictures(&tiny);
    assert!(!text(&generator, request("What is it?", Some(&red))).await.is_empty());
    // The engine splits, and panics, where the file says nothing of it.
    tiny.edit("preprocessor_config.json", |config| drop(config.as_object_mut().unwrap().remove("do_image_splitting")));
    assert!(!text(&load(&tiny).await, request("What is it?", Some(&red))).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sliver_of_a_picture_is_seen() {
    for kind in Kind::SEEING {
        let tiny = Tiny::write(kind);
        let generator = load(&tiny).await;
        for (width, height) in [(3, 3), (2000, 4)] {
            let path = tiny.file("sliver.png");
            image::RgbImage::from_pixel(width, height, image::Rgb([200, 10, 10])).save(&path).unwrap();
            let said = answer(&generator, request("What is it?", Some(&path))).await;
            assert!(said.is_ok(), "{kind:?} {width} x {height}: {said:?}");
        }
    }
}

/// Control tokens in a question or a passage are neither tokens nor places for a picture: the prompt has as many tokens
/// as the harmless text has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_tokens_in_texts_are_only_text() {
    for kind in Kind::SEEING {
        let tiny = Tiny::write(kind);
        let generator = load(&tiny).await;
        let [red, _] = pictures(&tiny);
        let (plain, usage) = answer(&generator, request("x", Some(&red))).await.unwrap();
        let base = usage.prompt_tokens - generator.count_tokens("x");
        assert!(generator.specials.len() >= 9, "{:?}", generator.specials);
        for special in &generator.specials {
            let evil = format!("x {special}{special} y");
            let harmless = break_specials(&evil, &generator.specials);
            let short = Request { max_tokens: 2, ..request("x", Some(&red)) };
            let asked = [Request { user: evil.clone(), ..short.clone() }, Request { system: evil, ..short }];
            for (asked, without) in asked.into_iter().zip(["", "Answer from the passages."]) {
                let (_, usage) = answer(&generator, asked).await.unwrap();
                let before = if without.is_empty() { base } else { base + 1 - generator.count_tokens(without) };
                assert_eq!(usage.prompt_tokens, before + generator.count_tokens(&harmless), "{kind:?} {special}");
            }
        }
        assert_eq!(text(&generator, request("x", Some(&red))).await, plain);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_message_is_read() {
    for kind in Kind::SEEING {
        let tiny = Tiny::write(kind);
        let generator = load(&tiny).await;
        let [red, _] = pictures(&tiny);
        for image in [None, Some(&red)] {
            let asked = request("What is it?", image);
            let longer = Request { system: format!("{} One word.", asked.system), ..asked.clone() };
            let added = generator.count_tokens(&longer.system) - generator.count_tokens(&asked.system);
            let (first, before) = answer(&generator, asked).await.unwrap();
            let (second, after) = answer(&generator, longer).await.unwrap();
            assert_eq!(after.prompt_tokens, before.prompt_tokens + added, "{kind:?}");
            assert_ne!(first, second, "{kind:?}");
        }
    }
}

/// The engine unwraps a setting of the processor when the first picture comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_panics_is_an_error_and_goes_on() {
    let tiny = Tiny::write(Kind::Gemma3);
    tiny.edit("preprocessor_config.json", |config| drop(config.as_object_mut().unwrap().remove("do_resize")));
    let generator = load(&tiny).await;
    let [red, _] = pictures(&tiny);
    let before = text(&generator, request("What is it?", None)).await;
    for _ in 0..2 {
        let panicked = answer(&generator, request("What is it?", Some(&red))).await;
        assert!(matches!(panicked, Err(GeneratorError::Engine(_))), "{panicked:?}");
        assert_eq!(text(&generator, request("What is it?", None)).await, before);
    }
    // Those that wait behind it are answered.
    let streams = [Some(&red), None, Some(&red), None].map(|image| generator.generate(request("What is it?", image)));
    for (at, stream) in streams.into_iter().enumerate() {
        let heard = super::tests::heard(stream).await;
        assert_eq!(heard.is_ok(), at % 2 == 1, "{at}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_does_not_fit_is_refused_and_one_that_fits_is_not() {
    let tiny = Tiny::write(Kind::Llama);
    let generator = load(&tiny).await;
    assert_eq!(generator.info().context_length, CONTEXT);
    let long = |tokens: usize| Request { max_tokens: 8, ..request(&"! ".repeat(tokens / 2), None) };
    let refused = answer(&generator, long(CONTEXT)).await;
    assert!(matches!(refused, Err(GeneratorError::TooLong { limit: CONTEXT, .. })), "{refused:?}");
    let (_, usage) = answer(&generator, long(CONTEXT - 150)).await.unwrap();
    assert!(usage.prompt_tokens > CONTEXT - 160, "{usage:?}");

    // Keys and values grow by 512 tokens, so of another number only the multiple below can be used.
    tiny.edit("config.json", |config| config["max_position_embeddings"] = json!(1300));
    let generator = load(&tiny).await;
    assert_eq!(generator.info().context_length, 1024);
    assert!(answer(&generator, long(900)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_is_none_is_an_error_and_the_next_is_answered() {
    let tiny = Tiny::write(Kind::Idefics3);
    let generator = load(&tiny).await;
    let broken = tiny.file("broken.png");
    fs_err::write(&broken, b"\x89PNG\r\n\x1a\nno more").unwrap();
    let said = answer(&generator, request("What is it?", Some(&broken))).await.unwrap_err().to_string();
    assert!(said.contains("broken.png"), "{said}");
    assert!(answer(&generator, request("What is it?", None)).await.is_ok());
}
