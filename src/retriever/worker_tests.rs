//! The model thread over a tiny retriever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Once;

use candle_core::Device;
use image::{Rgb, RgbImage};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

#[cfg(any(feature = "cuda", feature = "metal"))]
use super::device::DeviceChoice;
use super::embedding::scores;
use super::encoder::Encoder;
use super::model::Side;
use super::{Embedding, Item, Picture, Retriever, RetrieverError, RetrieverFiles, tiny};

fn item(text: Option<&str>, shade: Option<u8>) -> Item {
    let image =
        shade.map(|s| Picture::from_rgb(RgbImage::from_fn(40, 30, |x, y| Rgb([s, (x * 5) as u8, (y * 3) as u8]))));
    Item { text: text.map(str::to_owned), image }
}

fn close(a: &Embedding, b: &Embedding) -> bool {
    let near = |(a, b): (&[f32], &[f32])| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    a.vectors().len() == b.vectors().len() && a.dim() == b.dim() && a.vectors().zip(b.vectors()).all(near)
}

#[test]
fn items_of_every_kind_in_one_call_equal_single_calls() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write(dir.path())).unwrap();
    let items = vec![
        item(Some("one"), Some(10)),
        item(None, Some(200)),
        item(Some("a longer text than the others"), None),
        item(Some(" "), Some(90)),
        item(Some("two"), Some(10)),
    ];
    let together = retriever.encode_documents(items.clone()).unwrap();
    for (item, embedding) in items.into_iter().zip(&together) {
        let alone = retriever.encode_documents(vec![item]).unwrap();
        assert!(close(&alone[0], embedding));
        for vector in embedding.vectors() {
            assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }
    assert!(!close(&together[0], &together[4]));
}

/// Needs a GPU, and a program that was built for it.
#[cfg(any(feature = "cuda", feature = "metal"))]
#[test]
fn a_gpu_gives_what_the_cpu_gives() {
    let choice = if cfg!(feature = "cuda") { DeviceChoice::Cuda } else { DeviceChoice::Metal };
    let dir = tempfile::tempdir().unwrap();
    for settings in [serde_json::json!({}), tiny::first_generation()] {
        let files = tiny::write_with(dir.path(), settings);
        let items = [item(Some("one"), Some(10)), item(None, Some(200)), item(Some("a longer text"), None)];
        let on = |device| Encoder::load(&RetrieverFiles { device, ..files.clone() }).unwrap();
        let (here, there) = (on(DeviceChoice::Cpu), on(choice));
        for side in [Side::Query, Side::Document] {
            let pairs = here.encode(side, &items).unwrap().into_iter().zip(there.encode(side, &items).unwrap());
            for (here, there) in pairs {
                for (here, there) in here.vectors().zip(there.vectors()) {
                    assert!(here.iter().zip(there).all(|(a, b)| (a - b).abs() < 1e-3), "{here:?} {there:?}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_opened_costs_its_own_place_alone() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write(dir.path())).unwrap();
    let shades: Vec<u8> = (0..11).map(|at| at * 20).collect();
    let open = |shade: u8| match shade {
        60 | 100 => Err(RetrieverError::EmptyItem),
        shade => Ok(item(Some(&"a".repeat(1 + usize::from(shade) % 7)), Some(shade))),
    };
    let found = retriever.encode_opened(shades.clone(), |shade| usize::from(*shade) % 7, open).unwrap();
    assert_eq!(found.len(), shades.len());
    for (shade, found) in shades.into_iter().zip(found) {
        match open(shade) {
            Ok(item) => assert!(close(&retriever.encode_documents(vec![item]).unwrap()[0], &found.unwrap())),
            Err(_) => assert!(matches!(found, Err(RetrieverError::EmptyItem))),
        }
    }
    let none = retriever.encode_opened(vec![60, 100], |_| 0, open).unwrap();
    assert!(none.iter().all(Result::is_err));
}

#[test]
fn many_callers_at_once_get_their_own_vectors_and_their_own_errors() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write(dir.path())).unwrap();
    let expected: Vec<_> =
        (0..4).map(|i| retriever.encode_documents(vec![item(None, Some(i * 50))]).unwrap()).collect();
    std::thread::scope(|scope| {
        for round in 0..24u8 {
            let (retriever, expected) = (retriever.clone(), &expected);
            scope.spawn(move || {
                if round % 6 == 5 {
                    assert!(retriever.encode_documents(vec![item(None, None)]).is_err());
                } else {
                    let kind = round % 4;
                    let got = retriever.encode_documents(vec![item(None, Some(kind * 50))]).unwrap();
                    assert!(close(&got[0], &expected[kind as usize][0]));
                }
            });
        }
    });
}

#[test]
fn the_instruction_stands_before_a_querys_text() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write(dir.path())).unwrap();
    let query = retriever.encode_query(item(Some("me"), None)).unwrap();
    assert!(close(&query, &retriever.encode_documents(vec![item(Some("find me"), None)]).unwrap()[0]));
}

#[test]
fn a_fingerprint_changes_with_any_file_and_with_the_instruction() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let before = files.fingerprint().unwrap();
    assert_eq!(before, files.fingerprint().unwrap());
    let mut other = files.clone();
    other.instruction = "seek".into();
    assert_ne!(before, other.fingerprint().unwrap());
    let mut bytes = fs_err::read(&files.weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&files.weights, bytes).unwrap();
    assert_ne!(before, files.fingerprint().unwrap());
}

#[test]
fn damaged_weights_are_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = tiny::write(dir.path());
    let bytes = fs_err::read(&files.weights).unwrap();
    fs_err::write(&files.weights, &bytes[..bytes.len() / 2]).unwrap();
    let message = Retriever::start(files).err().unwrap().to_string();
    assert!(message.contains("head.safetensors"), "{message}");
}

#[test]
fn several_state_tokens_become_several_unit_vectors_and_each_side_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write_with(dir.path(), tiny::first_generation())).unwrap();
    let items = vec![item(Some("one"), Some(10)), item(None, Some(200)), item(Some("text alone"), None)];
    let documents = retriever.encode_documents(items.clone()).unwrap();
    for (item, together) in items.iter().zip(&documents) {
        assert_eq!((together.vectors().len(), together.dim()), (3, 16));
        for vector in together.vectors() {
            assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
        }
        assert!(close(&retriever.encode_documents(vec![item.clone()]).unwrap()[0], together));
        assert!((together.score(together) - 3.0).abs() < 1e-4);
    }
    let instructed = item(Some("find one"), Some(10));
    let query = retriever.encode_query(items[0].clone()).unwrap();
    assert_eq!(query.vectors().len(), 3);
    assert!(!close(&query, &retriever.encode_documents(vec![instructed]).unwrap()[0]));
    let ranked = scores(&[query], &documents);
    assert!(ranked[0].iter().all(|score| (-3.0..=3.0).contains(score)), "{ranked:?}");
}

/// Rows that each tower is told to run for, as the log says it.
fn tower_rows(work: impl FnOnce()) -> HashMap<String, u64> {
    #[derive(Default)]
    struct Told {
        message: String,
        rows: u64,
    }
    impl Visit for Told {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                self.message = format!("{value:?}");
            }
        }
        fn record_u64(&mut self, field: &Field, value: u64) {
            if field.name() == "rows" {
                self.rows = value;
            }
        }
    }
    thread_local! {
        static COUNTED: RefCell<HashMap<String, u64>> = RefCell::default();
    }
    struct Counter;
    impl<S: tracing::Subscriber> Layer<S> for Counter {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut told = Told::default();
            event.record(&mut told);
            COUNTED.with_borrow_mut(|counted| *counted.entry(told.message).or_default() += told.rows);
        }
    }
    // One for the whole process: with one that comes and goes, what other threads log meanwhile may switch events off.
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Counter)).unwrap();
    });
    COUNTED.take();
    work();
    COUNTED.take().into_iter().filter(|(name, _)| name.ends_with("tower")).collect()
}

#[test]
fn a_tower_runs_for_the_items_that_need_it_and_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    for files in [tiny::write(dir.path()), tiny::write_with(dir.path(), tiny::first_generation())] {
        let encoder = Encoder::load(&files).unwrap();
        let rows = |items: &[Item]| {
            let counted = tower_rows(|| drop(encoder.encode(Side::Document, items).unwrap()));
            let of = |tower: &str| counted.get(tower).copied();
            (of("text tower"), of("picture tower"))
        };
        assert_eq!(rows(&[item(Some("a"), None), item(Some("b"), None)]), (Some(2), None));
        assert_eq!(rows(&[item(None, Some(1)), item(Some("  "), Some(2))]), (None, Some(2)));
        let mixed = [item(Some("a"), Some(1)), item(None, Some(2)), item(Some("c"), None), item(Some("d"), None)];
        assert_eq!(rows(&mixed), (Some(3), Some(2)));
        let counted = tower_rows(|| drop(encoder.trace(Side::Query, &mixed[2..]).unwrap()));
        assert_eq!(counted.keys().map(String::as_str).collect::<Vec<_>>(), ["text tower"]);
    }
}

/// What a look inside shows of items of every kind, through the same door as their embeddings.
#[test]
fn a_trace_has_a_row_for_each_item_and_the_embeddings_of_an_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = Encoder::load(&tiny::write_with(dir.path(), tiny::first_generation())).unwrap();
    let items = [item(Some("a"), Some(1)), item(None, Some(2)), item(Some("c"), None)];
    let trace = encoder.trace(Side::Query, &items).unwrap();
    assert_eq!(trace.embeddings.dims(), [3, 3, 16]);
    assert_eq!(trace.steps.len(), 2);
    let encoded = encoder.encode(Side::Query, &items).unwrap();
    let rows = trace.embeddings.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    for (row, encoded) in rows.into_iter().zip(&encoded) {
        assert!(close(&Embedding::new(row, 16).unwrap(), encoded));
    }
    for step in &trace.steps {
        for gate in [&step.text_input, &step.vision_input, &step.forget] {
            assert_eq!(gate.dims(), [3, 3, 32]);
            let values = gate.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}

#[test]
fn one_file_may_hold_everything_in_our_layout_and_in_a_foreign_one() {
    let dir = tempfile::tempdir().unwrap();
    let apart = tiny::write_with(dir.path(), tiny::first_generation());
    let query = item(Some("one"), Some(10));
    let expected = Retriever::start(apart.clone()).unwrap().encode_query(query.clone()).unwrap();
    let load = |path: &Path| candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut all = load(&apart.weights);
    all.extend(load(&apart.text_weights).into_iter().map(|(name, tensor)| (format!("text_model.{name}"), tensor)));
    all.extend(load(&apart.vision_weights).into_iter().map(|(name, tensor)| (format!("vision_model.{name}"), tensor)));
    let whole = dir.path().join("whole.safetensors");
    candle_core::safetensors::save(&all, &whole).unwrap();
    let one = RetrieverFiles {
        text_weights: whole.clone(),
        vision_weights: whole.clone(),
        weights: whole.clone(),
        ..apart.clone()
    };
    assert!(close(&Retriever::start(one.clone()).unwrap().encode_query(query.clone()).unwrap(), &expected));

    let foreign: HashMap<String, _> = all.into_iter().map(|(name, t)| (format!("net.{name}"), t)).collect();
    candle_core::safetensors::save(&foreign, &whole).unwrap();
    let message = Retriever::start(one.clone()).err().unwrap().to_string();
    assert!(message.contains("net.query.state") && message.contains("missing: document.cell."), "{message}");
    fs_err::write(dir.path().join("net.toml"), "[[rename]]\nfrom = 'net\\.(.+)'\nto = '$1'\n").unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&one.config).unwrap()).unwrap();
    config["weights_map"] = "net.toml".into();
    fs_err::write(&one.config, config.to_string()).unwrap();
    let retriever = Retriever::start(one.clone()).unwrap();
    assert!(close(&retriever.encode_query(query).unwrap(), &expected));
    fs_err::write(dir.path().join("net.toml"), "[[rename]]\nfrom = 'net\\.(.*)'\nto = '$1'\n").unwrap();
    assert_ne!(one.fingerprint().unwrap(), retriever.fingerprint(), "the map is part of what decides an embedding");
}
