//! The model thread over a tiny retriever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use image::{Rgb, RgbImage};

use super::{Item, Picture, Retriever, tiny};

fn item(text: Option<&str>, shade: Option<u8>) -> Item {
    let image =
        shade.map(|s| Picture::from_rgb(RgbImage::from_fn(40, 30, |x, y| Rgb([s, (x * 5) as u8, (y * 3) as u8]))));
    Item { text: text.map(str::to_owned), image }
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
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
    let together = retriever.encode(items.clone()).unwrap();
    for (item, vector) in items.into_iter().zip(&together) {
        let alone = retriever.encode(vec![item]).unwrap();
        assert!(close(&alone[0], vector));
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
    assert!(!close(&together[0], &together[4]));
}

#[test]
fn many_callers_at_once_get_their_own_vectors_and_their_own_errors() {
    let dir = tempfile::tempdir().unwrap();
    let retriever = Retriever::start(tiny::write(dir.path())).unwrap();
    let expected: Vec<_> = (0..4).map(|i| retriever.encode(vec![item(None, Some(i * 50))]).unwrap()).collect();
    std::thread::scope(|scope| {
        for round in 0..24u8 {
            let (retriever, expected) = (retriever.clone(), &expected);
            scope.spawn(move || {
                if round % 6 == 5 {
                    assert!(retriever.encode(vec![item(None, None)]).is_err());
                } else {
                    let kind = round % 4;
                    let got = retriever.encode(vec![item(None, Some(kind * 50))]).unwrap();
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
    assert!(close(&query, &retriever.encode(vec![item(Some("find me"), None)]).unwrap()[0]));
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
