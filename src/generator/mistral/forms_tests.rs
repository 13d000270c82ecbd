//! Forms of answers, and forms of weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::quantized::GgmlDType;
use mistralrs::{IsqType, ModelDType, MultimodalModelBuilder, TextModelBuilder, TokenSource};

use super::tests::{answer, load, load_as, pictures, request, text};
use super::tiny::{Kind, Tiny, llama};
use super::*;
use crate::generator::{Constraint, Sampling};

fn one_of(texts: &[&str]) -> Option<Constraint> {
    Some(Constraint::OneOf(texts.iter().map(|text| (*text).to_owned()).collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_one_of_the_list_whatever_the_model_would_say() {
    let texts = ["yes", "no", "I cannot \"tell\" (at all)", "Ōsaka\\n", "a", "ab", "abc"];
    for kind in [Kind::Llama, Kind::Idefics3, Kind::Qwen25Vl, Kind::Gemma3] {
        let tiny = Tiny::write(kind);
        let generator = load(&tiny).await;
        let [red, _] = pictures(&tiny);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..24 {
            let asked = Request {
                // Too few for the longest text: a form is kept whole.
                max_tokens: 1,
                stop: vec!["e".into()],
                constraint: one_of(&texts),
                sampling: (n % 2 == 1).then_some(Sampling { temperature: 3.0, seed: n }),
                ..request(&format!("Question {n}?"), (n % 3 == 0).then_some(&red))
            };
            let (said, usage) = answer(&generator, asked).await.unwrap();
            assert!(texts.contains(&said.as_str()), "{kind:?}: {said:?}");
            assert!(!usage.truncated, "{kind:?}: {said:?} {usage:?}");
            seen.insert(said);
        }
        assert!(seen.len() > 1, "{kind:?} says only {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_matches_its_pattern_as_a_whole() {
    let tiny = Tiny::write(Kind::Llama);
    let generator = load(&tiny).await;
    let pattern = "(1[0-9]{3}|20[0-2][0-9])(/[a-c]{2})?";
    let whole = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
    for seed in 0..16 {
        let asked = Request {
            constraint: Some(Constraint::Regex(pattern.into())),
            sampling: Some(Sampling { temperature: 1.5, seed }),
            ..request("In which year?", None)
        };
        let said = text(&generator, asked).await;
        assert!(whole.is_match(&said), "{said:?}");
    }
    for refused in [Constraint::Regex("(".into()), Constraint::OneOf(vec![])] {
        let said = answer(&generator, Request { constraint: Some(refused), ..request("?", None) }).await;
        assert!(matches!(said, Err(GeneratorError::Engine(_))), "{said:?}");
    }
    assert!(answer(&generator, request("And after a refusal?", None)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_seeds_have_equal_answers_and_others_others() {
    for kind in [Kind::Llama, Kind::Qwen3Vl] {
        let tiny = Tiny::write(kind);
        let generator = load(&tiny).await;
        let [red, _] = pictures(&tiny);
        let image = (kind != Kind::Llama).then_some(&red);
        let drawn = |temperature, seed| Request {
            sampling: Some(Sampling { temperature, seed }),
            ..request("A story?", image)
        };
        let greedy = text(&generator, request("A story?", image)).await;
        let first = text(&generator, drawn(1.0, 7)).await;
        // What the engine kept in between changes no draw.
        assert_eq!(text(&generator, drawn(1.0, 7)).await, first, "{kind:?}");
        let mut others = std::collections::BTreeSet::new();
        for seed in 0..6 {
            others.insert(text(&generator, drawn(1.0, seed)).await);
        }
        assert!(others.len() > 4, "{kind:?}: {others:?}");
        assert_eq!(text(&generator, drawn(1e-6, 7)).await, greedy, "{kind:?}");
        assert_eq!(text(&generator, request("A story?", image)).await, greedy, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gguf_file_says_what_its_directory_says() {
    let tiny = Tiny::write(Kind::Llama);
    let expected = text(&load(&tiny).await, request("A story?", None)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny-f32.gguf");
    llama::gguf(&file, GgmlDType::F32);
    for path in [&file, dir.path()] {
        let generator = load_as(path, MistralSettings::default()).await;
        let info = generator.info();
        assert_eq!((info.model.as_str(), info.format.as_str(), info.sees_pictures), ("tiny-f32", "f32", false));
        assert_eq!(info.context_length, super::tiny::CONTEXT);
        assert_eq!(generator.count_tokens("the<|im_end|>"), 3);
        assert_eq!(text(&generator, request("A story?", None)).await, expected);
        let said = text(&generator, Request { constraint: one_of(&["yes", "no"]), ..request("?", None) }).await;
        assert!(said == "yes" || said == "no", "{said}");
    }
    let half = dir.path().join("tiny-q8.gguf");
    llama::gguf(&half, GgmlDType::Q8_0);
    let generator = load_as(&half, MistralSettings::default()).await;
    assert_eq!(generator.info().format, "q8_0");
    assert!(text(&generator, request("A story?", None)).await.len() > 10);
    let refused = |path: &Path, settings| {
        let path = path.to_owned();
        async move { MistralGenerator::load(&path, settings).await.map(|_| ()).unwrap_err().to_string() }
    };
    let said = refused(dir.path(), MistralSettings::default()).await;
    assert!(said.contains("tiny-f32.gguf, tiny-q8.gguf"), "{said}");
    let said = refused(&half, MistralSettings { format: Format::Q4k, ..MistralSettings::default() }).await;
    assert!(said.contains("auto"), "{said}");
    let whole = fs_err::read(&half).unwrap();
    for part in [0, 3, 200, whole.len() / 2, whole.len() - 1] {
        fs_err::write(&half, &whole[..part]).unwrap();
        let said = refused(&half, MistralSettings::default()).await;
        assert!(said.contains("tiny-q8.gguf"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_quantised_while_loading() {
    let tiny = Tiny::write(Kind::Llama);
    let generator = load_as(tiny.path(), MistralSettings { format: Format::Q8_0, ..MistralSettings::default() }).await;
    assert_eq!(generator.info().format, "q8_0");
    assert!(!text(&generator, request("A story?", None)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uqff_file_says_what_quantising_while_loading_says() {
    for kind in [Kind::Llama, Kind::Idefics3] {
        let tiny = Tiny::write(kind);
        let [red, _] = pictures(&tiny);
        let image = (kind != Kind::Llama).then_some(&red);
        let q8 = MistralSettings { format: Format::Q8_0, ..MistralSettings::default() };
        let expected = text(&load_as(tiny.path(), q8).await, request("A story?", image)).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tiny-q8.uqff");
        macro_rules! written {
            ($builder:expr) => {
                $builder
                    .with_dtype(ModelDType::F32)
                    .with_token_source(TokenSource::None)
                    .with_force_cpu()
                    .with_isq(IsqType::Q8_0)
                    .write_uqff(file.clone())
                    .build()
                    .await
                    .unwrap()
            };
        }
        // The engine writes as a part of loading; splitting is turned off as the loader here does it.
        if kind == Kind::Llama {
            drop(written!(TextModelBuilder::new(tiny.path().display())));
        } else {
            drop(written!(MultimodalModelBuilder::new(tiny.path().display())));
        }
        let written: Vec<String> =
            fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into()).collect();
        let generator = load_as(dir.path(), MistralSettings::default()).await;
        assert_eq!(generator.info().format, "uqff", "{written:?}");
        assert_eq!(text(&generator, request("A story?", image)).await, expected, "{kind:?} {written:?}");
    }
}
