//! `cicerone train` on a few of the starter's pictures, in M2KR's layout.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::starter::{models, starter_file};
use super::support::{background, cicerone, failure, stdout};

/// Queries and passages of four countries, below `dir`.
pub fn m2kr(dir: &Path) {
    let (mut passages, mut queries) = (String::new(), String::new());
    for code in ["ad", "ae", "af", "ag"] {
        passages += &format!(
            "{}\n",
            json!({ "passage_id": code, "passage_text": format!("Country {code}"),
                "passage_image_path": format!("images/iso/{code}.png") })
        );
        for question in [json!("Which country is this?"), json!(null)] {
            queries += &format!(
                "{}\n",
                json!({ "data_id": code, "instruction": "Find the article:", "question": question,
                    "image_path": format!("images/iso/{code}.png"), "passage_id": [code], "answer": ["x"] })
            );
        }
    }
    fs_err::write(dir.join("passages.jsonl"), passages).unwrap();
    fs_err::write(dir.join("train.jsonl"), queries).unwrap();
}

fn arguments(dir: &Path, out: &str, steps: usize) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let images = starter_file("images").parent().map(PathBuf::from).unwrap();
    let words = [
        "-c",
        "configs/starter.toml",
        "train",
        "--json",
        "--out",
        &file(out),
        "--data",
        &file("train.jsonl"),
        "--passages",
        &file("passages.jsonl"),
        "--images",
        &images.display().to_string(),
        "--validation",
        &file("train.jsonl"),
        "--features",
        &file("features"),
        "--layers",
        "early,late",
        "--batch",
        "4",
        "--steps",
        &steps.to_string(),
        "--warmup",
        "2",
        "--checkpoint-every",
        "2",
        "--eval-every",
        "3",
        "--hard-negatives",
        "1",
        "--mine-every",
        "3",
    ];
    words.map(str::to_owned).to_vec()
}

#[test]
fn a_run_killed_at_work_goes_on_to_the_weights_of_an_undisturbed_one() {
    let starter = models();
    let dir = tempfile::tempdir().unwrap();
    m2kr(dir.path());
    let whole = cicerone(&starter.data).args(arguments(dir.path(), "whole", 8)).assert().success();
    let report: serde_json::Value = serde_json::from_str(&stdout(&whole)).unwrap();
    assert_eq!((&report["steps"], &report["whole"]), (&json!(8), &json!(false)));

    let log = dir.path().join("parts/metrics.jsonl");
    let mut run = background(&starter.data, arguments(dir.path(), "parts", 8));
    // kill -9 once some steps are made, wherever it is then.
    let steps = || fs_err::read_to_string(&log).map_or(0, |log| log.lines().count());
    while steps() < 4 && run.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    cicerone(&starter.data).args(arguments(dir.path(), "parts", 8)).assert().success();
    for name in ["head.safetensors", "metrics.jsonl", "retriever.json"] {
        let of = |run: &str| fs_err::read(dir.path().join(run).join(name)).unwrap();
        assert_eq!(of("whole"), of("parts"), "{name}");
    }
    let log = fs_err::read_to_string(&log).unwrap();
    assert_eq!(log.lines().count(), 8);
    assert_eq!(log.matches("\"recall_at_5\":1.0").count(), 3, "{log}");
}

#[test]
fn data_that_do_not_fit_are_told_with_file_and_line() {
    let starter = models();
    let dir = tempfile::tempdir().unwrap();
    m2kr(dir.path());
    fs_err::write(dir.path().join("train.jsonl"), "\n{\"question\":\"q\",\"passage_id\":\"zz\"}\n").unwrap();
    let refused = failure(cicerone(&starter.data).args(arguments(dir.path(), "run", 8)).assert(), 2, "training_data");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("train.jsonl: line 2: passage_id `zz` is that of no passage"), "{message}");
}
