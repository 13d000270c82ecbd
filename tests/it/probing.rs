//! Looking inside the starter's retriever.

use super::starter::starter;
use super::support::{cicerone, json, stdout};

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
