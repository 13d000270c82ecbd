//! Looking inside the starter's retriever.

use super::starter::{models, starter, starter_file};
use super::support::{cicerone, failure, json, stdout};
use super::training::m2kr;

#[test]
fn gates_are_told_by_layer_for_every_condition() {
    let starter = starter();
    let plot = starter.data.join("gates.svg");
    let args = ["probe", "gates", "--limit", "3", "--json", "--svg", plot.to_str().unwrap()];
    let document = json(&cicerone(&starter.data).args(args).assert().success(), "probe-gates");
    let gates = document["gates"].as_array().unwrap();
    let given: Vec<_> = gates.iter().map(|g| g["given"].as_str().unwrap()).collect();
    assert_eq!(given, ["both", "text-only", "image-only"]);
    assert!(gates.iter().all(|g| g["items"] == 3 && g["steps"].as_array().unwrap().len() == 3), "{document:#}");
    assert!(gates[1]["steps"][0]["vision_input"].is_null() && gates[2]["steps"][0]["text_input"].is_null());
    let svg = fs_err::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("picture only, 3 items"), "{svg}");
    let table = cicerone(&starter.data).args(["probe", "gates", "--limit", "1"]).assert().success();
    assert_eq!(stdout(&table).lines().count(), 1 + 3 * 3, "{}", stdout(&table));
}

#[test]
fn variants_stand_side_by_side_and_an_unknown_one_is_an_error() {
    let starter = models();
    let dir = tempfile::tempdir().unwrap();
    m2kr(dir.path());
    let images = starter_file("images").parent().unwrap().display().to_string();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (out, queries, passages) = (file("out"), file("train.jsonl"), file("passages.jsonl"));
    let run = |only: &str, json: bool| {
        let mut command = cicerone(&starter.data);
        command.args(["probe", "ablate", "--out", &out, "--data", &queries, "--passages", &passages]);
        command.args(["--images", &images, "--validation", &queries, "--batch", "4", "--steps", "2", "--only", only]);
        if json {
            command.arg("--json");
        }
        command.assert()
    };
    let found = json(&run("base,tokens-4,forget-0.5", true).success(), "probe-ablate");
    let variants = found["variants"].as_array().unwrap();
    let bytes: Vec<_> = variants.iter().map(|v| v["index_bytes_per_item"].as_u64().unwrap()).collect();
    assert_eq!(bytes, [256 * 4, 4 * 128 * 4, 256 * 4]);
    assert!(found["queries"] == 8 && variants[0]["against_first"].is_null() && !variants[1]["against_first"].is_null());
    let table = stdout(&run("base,forget-0.5", false).success());
    assert!(table.lines().count() == 4 && table.contains("R@1 less base's"), "{table}");
    let refused = failure(run("base,more", true), 2, "usage");
    assert!(refused["error"]["message"].as_str().unwrap().contains("no variant `more`: expected base, no-global"));
}
