//! The program under test, and what its output is compared with.

use std::collections::BTreeMap;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::{Value, json};

/// The program, with nothing of this machine's configuration and its data in `data`.
pub fn cicerone(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cicerone"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CICERONE_")) {
        command.env_remove(name);
    }
    command.env("CICERONE_DATA_DIR", data).env("XDG_CONFIG_HOME", data).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// The program at work in the background, silent, in the source tree, with its data in `data`: something to kill.
pub fn background<S: AsRef<std::ffi::OsStr>>(data: &Path, args: impl IntoIterator<Item = S>) -> std::process::Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_cicerone"))
        .args(args)
        .env("CICERONE_DATA_DIR", data)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// stdout as text.
pub fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// stderr as text.
pub fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// stdout as one JSON document that fits `schemas/NAME.json`.
pub fn json(assert: &Assert, schema: &str) -> Value {
    let value: Value = serde_json::from_str(&stdout(assert)).unwrap_or_else(|e| panic!("{e}: {:?}", stdout(assert)));
    fits(&value, schema);
    value
}

/// Panics where `value` does not fit `schemas/NAME.json`.
pub fn fits(value: &Value, schema: &str) {
    let path = format!("{}/schemas/{schema}.json", env!("CARGO_MANIFEST_DIR"));
    let mut schemas = boon::Schemas::new();
    let compiled = boon::Compiler::new().compile(&path, &mut schemas).unwrap();
    if let Err(error) = schemas.validate(value, compiled) {
        panic!("{error}\n{value:#}");
    }
}

/// The JSON error of a command that ended with `exit`.
pub fn failure(assert: Assert, exit: i32, code: &str) -> Value {
    let assert = assert.code(exit);
    let value = json(&assert, "error");
    assert_eq!(value["error"]["code"], code, "{value:#}");
    value
}

/// A tokenizer of letters, for models of random weights.
pub fn letters() -> Value {
    let letters: BTreeMap<String, u32> = ('a'..='z')
        .enumerate()
        .map(|(at, letter)| (letter.to_string(), at as u32 + 2))
        .chain([("[UNK]".into(), 1)])
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": letters, "unk_token": "[UNK]"}
    })
}
