//! Runs of a few steps over real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device};
use image::{Rgb, RgbImage};
use serde_json::json;

use super::optimizer::Gradients;
use super::run::Run;
use super::{JsonlFiles, TrainError, TrainEvent, TrainOptions, train};
use crate::retriever::RetrieverFiles;
use crate::retriever::encoder::Encoder;
use crate::retriever::tiny;

/// Four entities of two pictures each.
pub(in crate::retriever) fn data(dir: &Path) {
    let mut images = String::from("entity_url,style,split,path\n");
    let mut kb = String::new();
    let mut questions = String::from("wikipedia_url,question,question_original\n");
    for entity in 0..4u8 {
        for style in ["a", "b"] {
            let name = format!("{entity}{style}.png");
            let picture =
                RgbImage::from_fn(30, 20, |x, _| Rgb([entity * 60, (x * 8) as u8, if style == "a" { 0 } else { 60 }]));
            picture.save(dir.join(&name)).unwrap();
            images += &format!("u{entity},{style},train,{name}\n");
        }
        kb += &format!("{{\"url\":\"u{entity}\",\"title\":\"entity {entity}\",\"image\":\"{entity}a.png\"}}\n");
        questions += &format!("u{entity},where is it,where is entity {entity}\n");
    }
    fs_err::write(dir.join("images.csv"), images).unwrap();
    fs_err::write(dir.join("kb.jsonl"), kb).unwrap();
    fs_err::write(dir.join("questions.csv"), questions).unwrap();
}

pub(in crate::retriever) fn options(data: &Path, out: &Path) -> TrainOptions {
    TrainOptions {
        data: data.into(),
        out: out.into(),
        steps: 12,
        batch: 4,
        views: 2,
        warmup: 2,
        checkpoint_every: 4,
        ..TrainOptions::default()
    }
}

/// The same entities as queries and passages, in M2KR's layout: every passage is right for two queries.
pub(in crate::retriever) fn jsonl(dir: &Path) -> TrainOptions {
    data(dir);
    let (mut passages, mut queries) = (String::new(), String::new());
    for entity in 0..4 {
        passages += &format!(
            "{{\"passage_id\":{entity},\"passage_text\":\"entity {entity}\",\"passage_image_path\":\"{entity}a.png\"}}\n"
        );
        for (style, question) in [("a", "null"), ("b", "\"what is it\"")] {
            queries += &format!(
                "{{\"instruction\":\"find\",\"question\":{question},\"image_path\":\"{entity}{style}.png\",\
                 \"passage_id\":[\"{entity}\"]}}\n"
            );
        }
    }
    fs_err::write(dir.join("passages.jsonl"), passages).unwrap();
    fs_err::write(dir.join("train.jsonl"), queries).unwrap();
    let files = JsonlFiles {
        passages: dir.join("passages.jsonl"),
        images: dir.into(),
        validation: Some(dir.join("train.jsonl")),
    };
    TrainOptions { data: dir.join("train.jsonl"), jsonl: Some(files), ..options(dir, &dir.join("run")) }
}

/// Runs `options` undisturbed, and stopped after each of `stops` and resumed: the same weights and metrics come of both.
pub(super) fn resumes_exactly(dir: &Path, options: &TrainOptions, stops: &[usize]) {
    let files = tiny::write(dir);
    let never = AtomicBool::new(false);
    let run = |name: &str| TrainOptions { out: dir.join(name), ..options.clone() };
    let whole = train(&run("whole"), &files, &never, &mut |_| ()).unwrap();
    let parts = run("parts");
    for stop_after in stops {
        let cancel = AtomicBool::new(false);
        let stopped = train(&parts, &files, &cancel, &mut |event| {
            if let TrainEvent::Step { metrics, .. } = event
                && metrics.step == *stop_after
            {
                cancel.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(stopped, Err(TrainError::Interrupted { step }) if step == *stop_after), "{stopped:?}");
    }
    let mut resumed_at = None;
    let parts = train(&parts, &files, &never, &mut |event| {
        if let TrainEvent::Resumed { step } = event {
            resumed_at = Some(step);
        }
    })
    .unwrap();
    assert_eq!(resumed_at, stops.last().copied());
    assert_eq!(fs_err::read(&whole.weights).unwrap(), fs_err::read(&parts.weights).unwrap());
    let log = |run: &str| fs_err::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap();
    assert_eq!(log("whole"), log("parts"));
    assert_eq!(log("whole").lines().count(), 12);
}

#[test]
fn a_run_that_is_stopped_and_resumed_gives_the_weights_of_an_undisturbed_one() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    resumes_exactly(dir.path(), &options(dir.path(), dir.path()), &[3, 7]);
}

#[test]
fn so_does_one_with_hard_negatives_before_at_and_after_a_step_that_mines_them() {
    let dir = tempfile::tempdir().unwrap();
    let starter = options(dir.path(), dir.path());
    for options in [jsonl(dir.path()), starter] {
        let dir = tempfile::tempdir().unwrap();
        let options =
            TrainOptions { batch: 2, hard_negatives: 1, mine_every: 5, eval_every: 4, accumulate: 2, ..options };
        resumes_exactly(dir.path(), &options, &[4, 5, 6, 10]);
    }
}

/// What a killed process leaves: a checkpoint of the step at which it mined, and the vectors of the time before.
#[test]
fn a_run_killed_between_checkpoint_and_mining_gives_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let options = TrainOptions { batch: 2, hard_negatives: 1, mine_every: 4, ..jsonl(dir.path()) };
    let files = tiny::write(dir.path());
    let never = AtomicBool::new(false);
    let mut vectors = Vec::new();
    let mut checkpoint = Vec::new();
    let whole = train(&options, &files, &never, &mut |event| match event {
        TrainEvent::Step { metrics, .. } if metrics.step == 6 => {
            vectors = fs_err::read(options.out.join("negatives.safetensors")).unwrap();
        }
        TrainEvent::Step { metrics, .. } if metrics.step == 8 => {
            checkpoint = fs_err::read(options.out.join("checkpoint.safetensors")).unwrap();
        }
        _ => (),
    })
    .unwrap();
    let expected = fs_err::read(&whole.weights).unwrap();
    fs_err::write(options.out.join("negatives.safetensors"), vectors).unwrap();
    fs_err::write(options.out.join("checkpoint.safetensors"), checkpoint).unwrap();
    let again = train(&options, &files, &never, &mut |_| ()).unwrap();
    assert_eq!(fs_err::read(&again.weights).unwrap(), expected);
    // Others are refused.
    fs_err::write(options.out.join("negatives.safetensors"), []).unwrap();
    let checkpoint = options.out.join("checkpoint.safetensors");
    let cancel = AtomicBool::new(false);
    fs_err::remove_file(&checkpoint).unwrap();
    let stopped = train(&options, &files, &cancel, &mut |event| {
        if matches!(event, TrainEvent::Step { metrics, .. } if metrics.step == 6) {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(stopped, Err(TrainError::Interrupted { step: 6 })));
    fs_err::remove_file(options.out.join("negatives.safetensors")).unwrap();
    let message = train(&options, &files, &never, &mut |_| ()).unwrap_err().to_string();
    assert!(message.contains("negatives.safetensors"), "{message}");
}

#[test]
fn hard_negatives_come_into_a_batch_once_they_were_mined() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let plain = TrainOptions { batch: 2, ..jsonl(dir.path()) };
    let mined = TrainOptions { hard_negatives: 1, mine_every: 5, out: dir.path().join("mined"), ..plain.clone() };
    let losses = |options: &TrainOptions| {
        let mut losses = Vec::new();
        train(options, &files, &AtomicBool::new(false), &mut |event| {
            if let TrainEvent::Step { metrics, .. } = event {
                losses.push(metrics.loss);
            }
        })
        .unwrap();
        losses
    };
    let (plain, mined) = (losses(&plain), losses(&mined));
    assert_eq!(plain[..5], mined[..5]);
    // More wrong documents, more to be wrong about: the sixth step has the same weights and queries.
    assert!(mined[5] > plain[5] + 1e-3, "{mined:?}, {plain:?}");
}

#[test]
fn queries_and_passages_are_learned() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let options = TrainOptions { steps: 150, learning_rate: 3e-3, ..jsonl(dir.path()) };
    let mut last = None;
    train(&options, &files, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Step { metrics, .. } = event {
            last = metrics.evaluation.or(last);
        }
    })
    .unwrap();
    let recall = last.unwrap();
    assert_eq!((recall.queries, recall.recall_at_1), (8, 1.0));
}

#[test]
fn accumulated_gradients_are_the_mean_of_those_of_their_batches() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let one = options(dir.path(), &dir.path().join("run"));
    let three = TrainOptions { accumulate: 3, ..one.clone() };
    fs_err::create_dir_all(&one.out).unwrap();
    let mut run = Run::open(&one, &files, &AtomicBool::new(false), &mut |_| ()).unwrap();
    let (mean, together) = run.gradients(&three, 1).unwrap();
    let alone: Vec<_> = (3..6).map(|step| run.gradients(&one, step).unwrap()).collect();
    assert!((mean.loss - alone.iter().map(|(mean, _)| mean.loss).sum::<f32>() / 3.0).abs() < 1e-5);
    for name in ["state", "proj.weight", "text_adapter.0.weight", "vision_global.bias", "log_temperature"] {
        let flat =
            |gradients: &Gradients| gradients.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let parts: Vec<Vec<f32>> = alone.iter().map(|(_, gradients)| flat(gradients)).collect();
        assert!(parts[0].iter().zip(&parts[1]).any(|(a, b)| (a - b).abs() > 1e-4), "{name}: batches are alike");
        for (at, sum) in flat(&together).into_iter().enumerate() {
            let expected = parts.iter().map(|part| part[at]).sum::<f32>() / 3.0;
            assert!((sum - expected).abs() < 1e-5 * expected.abs().max(1.0), "{name}: {sum}, expected {expected}");
        }
    }
}

#[test]
fn what_is_left_out_is_measured_now_and_then_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let options = TrainOptions {
        validate: Some("b".into()),
        accumulate: 2,
        eval_every: 5,
        ..options(dir.path(), &dir.path().join("run"))
    };
    let mut measured = Vec::new();
    train(&options, &files, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Step { metrics, .. } = event
            && let Some(recall) = metrics.evaluation
        {
            measured.push((metrics.step, recall));
        }
    })
    .unwrap();
    assert_eq!(measured.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [5, 10, 12]);
    // Five places for four documents.
    assert!(measured.iter().all(|(_, recall)| recall.queries == 4 && recall.recall_at_5 == 1.0), "{measured:?}");
    let log = fs_err::read_to_string(options.out.join("metrics.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"recall_at_10\":1.0")).count(), 3);
    let plot = fs_err::read_to_string(options.out.join("training.svg")).unwrap();
    for name in ["loss", "batch recall@1", "recall@1", "recall@5", "recall@10"] {
        assert!(plot.contains(&format!(">{name}</text>")), "{name}");
    }
}

#[test]
fn a_loss_falls_with_one_state_token_and_with_several() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let several = json!({ "state_tokens": 3, "self_attention": true, "positions": true });
    for (run, settings) in [("one", json!({})), ("several", several)] {
        let files = tiny::write_with(dir.path(), settings);
        let options = TrainOptions {
            steps: 150,
            learning_rate: 3e-3,
            drop_image: 0.0,
            ..options(dir.path(), &dir.path().join(run))
        };
        let mut losses = Vec::new();
        let report = train(&options, &files, &AtomicBool::new(false), &mut |event| {
            if let TrainEvent::Step { metrics, .. } = event {
                losses.push(metrics.loss);
            }
        })
        .unwrap();
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        assert!(mean(&losses[140..]) < 0.7 * mean(&losses[..5]), "{run}: {losses:?}");
        let trained = candle_core::safetensors::load(&report.weights, &Device::Cpu).unwrap();
        assert_eq!(trained.contains_key("cell.self_attn.q_proj.bias"), run == "several");
        // Biases begin at zero: one that is still there was not reached by the gradient.
        for name in ["cell.self_attn.q_proj.bias", "cell.self_attn.out_proj.bias", "cell.mlp.fc1.bias"] {
            if let Some(bias) = trained.get(name) {
                let moved = bias.to_dtype(DType::F32).unwrap().abs().unwrap().sum_all().unwrap();
                assert!(moved.to_scalar::<f32>().unwrap() > 1e-3, "{run}: {name}");
            }
        }
    }
}

/// Trains and says how many records were computed for it: of pictures, then of texts.
fn computed(options: &TrainOptions, files: &RetrieverFiles) -> Vec<usize> {
    let mut records = Vec::new();
    train(options, files, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Features { done, total } = event
            && done == total
        {
            records.push(total);
        }
    })
    .unwrap();
    records
}

#[test]
fn runs_over_fewer_layers_read_the_features_of_one_over_more() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let features = dir.path().join("features");
    let run = |name: &str, text: &str, vision: &str| {
        let options = TrainOptions {
            features: Some(features.clone()),
            text_layers: Some(text.parse().unwrap()),
            vision_layers: Some(vision.parse().unwrap()),
            ..options(dir.path(), &dir.path().join(name))
        };
        let computed = computed(&options, &files);
        (computed, fs_err::read(options.out.join("head.safetensors")).unwrap())
    };
    let own = TrainOptions {
        text_layers: Some("3".parse().unwrap()),
        vision_layers: Some("4".parse().unwrap()),
        ..options(dir.path(), &dir.path().join("own"))
    };
    assert_eq!(computed(&own, &files), [24, 9]);
    let (records, _) = run("both", "0,3", "1,4");
    assert_eq!(records, [24, 9]);
    let (records, last) = run("last", "3", "4");
    assert_eq!(records, [0; 0]);
    assert_eq!(last, fs_err::read(own.out.join("head.safetensors")).unwrap());
    // A layer that is not held: computed together with those that are, which are held once.
    assert_eq!(run("other", "0", "2").0, [24]);
    assert_eq!(run("again", "0,3", "1,2").0, [0; 0]);
    let names = fs_err::read_dir(&features).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().ends_with(".bin")).count(), 2);
}

#[test]
fn features_that_were_interrupted_are_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let options = TrainOptions { views: 20, ..options(dir.path(), &dir.path().join("run")) };
    let cancel = AtomicBool::new(false);
    let mut done = Vec::new();
    let stopped = train(&options, &files, &cancel, &mut |event| {
        if let TrainEvent::Features { done: now, .. } = event {
            done.push(now);
            cancel.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(stopped, Err(TrainError::Interrupted { step: 0 })), "{stopped:?}");
    train(&options, &files, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Features { done: now, .. } = event {
            done.push(now);
        }
    })
    .unwrap();
    assert_eq!(done, [64, 128, 168, 9]);
}

#[test]
fn the_architecture_of_a_run_goes_with_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let late = Some("late".parse().unwrap());
    let options =
        TrainOptions { text_layers: late.clone(), vision_layers: late, ..options(dir.path(), &dir.path().join("run")) };
    let report = train(&options, &files, &AtomicBool::new(false), &mut |_| ()).unwrap();
    let trained = RetrieverFiles { config: report.architecture, weights: report.weights, ..files };
    let encoder = Encoder::load(&trained).unwrap();
    assert_eq!(encoder.model.config().text_layers, [encoder.model.config().text.blocks() - 1]);
    assert_eq!(encoder.model.config().vision_layers, [encoder.model.config().vision.blocks() - 1]);
}

#[test]
fn encoders_of_two_sides_are_not_trained() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write_with(dir.path(), tiny::first_generation());
    let refused = train(&options(dir.path(), &dir.path().join("run")), &files, &AtomicBool::new(false), &mut |_| ());
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("`shared_encoder`: found false, expected true"), "{message}");
}

#[test]
fn a_checkpoint_of_other_options_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let options = options(dir.path(), &dir.path().join("run"));
    train(&options, &files, &AtomicBool::new(false), &mut |_| ()).unwrap();
    let other = TrainOptions { seed: 99, ..options };
    let refused = train(&other, &files, &AtomicBool::new(false), &mut |_| ());
    assert!(matches!(refused, Err(TrainError::OtherRun { .. })), "{refused:?}");
}

#[test]
fn the_factor_on_the_scores_is_at_most_100_and_every_right_document_counts() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let options = jsonl(dir.path());
    let data = super::data::TrainData::open(&options, &files.instruction).unwrap();
    let never = AtomicBool::new(false);
    let mut learner = super::learner::Learner::trained(&options, &files, &data, &never).unwrap();
    let mut scale = |log: f32| {
        learner.log_scale = candle_core::Tensor::new(log, &Device::Cpu).unwrap();
        learner.scale().unwrap().to_scalar::<f32>().unwrap()
    };
    assert!((scale(9.0) - 100.0).abs() < 1e-3);
    assert!((scale(14f32.ln()) - 14.0).abs() < 1e-3);
    // Two documents that are right for one query, in either order.
    let query = data.evaluation[0].clone();
    let mut documents = vec![data.documents[0], data.documents[1]];
    for document in &mut documents {
        document.class = query.right[0];
    }
    let mut loss = |documents: Vec<super::data::Document>| {
        let draw = super::data::Draw { queries: vec![query.clone()], documents };
        let queries = learner.embed(&[query.shown]).unwrap();
        learner.contrast(&draw, &queries).unwrap().loss.to_scalar::<f32>().unwrap()
    };
    let reversed = documents.iter().rev().cloned().collect();
    let (one, other) = (loss(documents), loss(reversed));
    assert!((one - other).abs() < 1e-5, "{one}, {other}");
}

#[test]
fn the_rate_rises_in_a_line_and_falls_along_a_cosine() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = tiny::write(dir.path());
    let options = options(dir.path(), &dir.path().join("run"));
    let mut rates = Vec::new();
    train(&options, &files, &AtomicBool::new(false), &mut |event| {
        if let TrainEvent::Step { metrics, .. } = event {
            rates.push(metrics.learning_rate / options.learning_rate);
        }
    })
    .unwrap();
    for (step, expected) in [(0, 0.5), (1, 1.0), (2, 1.0), (7, 0.5), (11, 0.024_471_7)] {
        assert!((rates[step] - expected).abs() < 1e-6, "{rates:?}");
    }
}
