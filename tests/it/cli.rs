//! The command line without any model: usage, exit codes, errors.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::support::{cicerone, failure, json, stderr, stdout};

fn empty() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A configuration whose model files are there, but hold nothing.
fn hollow(dir: &Path) -> String {
    let file = |name: &str| {
        fs_err::write(dir.join(name), "").unwrap();
        format!("./{name}")
    };
    fs_err::create_dir(dir.join("ranker")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        file(&format!("ranker/{name}"));
    }
    let text = format!(
        "[retriever]\nconfig = {:?}\nweights = {:?}\ntext_weights = {:?}\ntext_tokenizer = {:?}\nimage_weights = {:?}\n\
         [rag]\nranker = \"./ranker\"\n[generator]\nmodel = \"./ranker\"\n",
        file("ret2.json"),
        file("ret2.safetensors"),
        file("text.safetensors"),
        file("tokenizer.json"),
        file("image.safetensors"),
    );
    let path = dir.join("hollow.toml");
    fs_err::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_are_results() {
    let dir = empty();
    let help = cicerone(dir.path()).arg("--help").assert().success();
    for word in ["ask", "demo", "kb", "models", "train", "bench", "eval", "config", "doctor", "Exit codes"] {
        assert!(stdout(&help).contains(word), "{word} is not in the help");
    }
    assert!(stderr(&help).is_empty());
    let version = cicerone(dir.path()).arg("--version").assert().success();
    assert_eq!(stdout(&version), format!("cicerone {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_so_on_stderr() {
    let dir = empty();
    for args in [&[] as &[&str], &["answer"], &["ask", "q", "--nonsense"], &["kb"], &["ask", "q", "-k", "0"]] {
        let assert = cicerone(dir.path()).args(args).assert().code(2);
        assert!(stdout(&assert).is_empty() && !stderr(&assert).is_empty(), "{args:?}");
    }
    failure(cicerone(dir.path()).args(["ask", "q", "--json", "--nonsense"]).assert(), 2, "usage");
    let drawn = ["kb", "search", "x", "--json", "--thumbnails", "always"];
    failure(cicerone(dir.path()).args(drawn).assert(), 2, "usage");
}

#[test]
fn an_empty_question_is_told_before_anything_is_loaded() {
    let dir = empty();
    for question in ["", " \n\t"] {
        failure(cicerone(dir.path()).args(["ask", question, "--json"]).assert(), 2, "empty_question");
        failure(cicerone(dir.path()).args(["ask", "-", "--json"]).write_stdin(question).assert(), 2, "empty_question");
        failure(cicerone(dir.path()).args(["ask", "--json"]).write_stdin(question).assert(), 2, "empty_question");
        failure(cicerone(dir.path()).args(["demo", "--json", "--question", question]).assert(), 2, "empty_question");
    }
    let assert = cicerone(dir.path()).args(["ask", ""]).assert().code(2);
    assert!(stderr(&assert).starts_with("error: the question is empty\n  hint: cicerone ask "), "{}", stderr(&assert));
}

#[test]
fn a_bad_picture_is_told_before_anything_is_loaded() {
    let dir = empty();
    let whole = fs_err::read(super::starter::starter_file("images/twemoji/ke.png")).unwrap();
    let files: [(&str, &[u8], &str); 5] = [
        ("text.png", b"not a picture", "picture_unreadable"),
        ("empty.jpg", b"", "picture_unreadable"),
        ("cut.png", &whole[..whole.len() / 2], "picture_unreadable"),
        ("vast.png", &png(60_000, 60_000), "picture_too_large"),
        ("vast.bmp", &bmp(60_000, 60_000), "picture_too_large"),
    ];
    for (name, bytes, code) in files {
        let path = dir.path().join(name);
        fs_err::write(&path, bytes).unwrap();
        for command in
            [&["ask", "q", "--json"] as &[&str], &["kb", "search", "--json"], &["demo", "--question", "q", "--json"]]
        {
            let error = failure(cicerone(dir.path()).args(command).arg("--image").arg(&path).assert(), 2, code);
            assert!(error["error"]["message"].as_str().unwrap().contains(name), "{error:#}");
        }
    }
    let missing = cicerone(dir.path()).args(["ask", "q", "--json", "--image", "nowhere.png"]).assert();
    failure(missing, 2, "picture_not_found");
    failure(cicerone(dir.path()).args(["ask", "q", "--json", "--image", "."]).assert(), 2, "picture_unreadable");
}

/// A PNG that says it has `width` x `height` pixels and holds none.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let crc = header.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(header);
    bytes.extend((!crc).to_be_bytes());
    bytes.extend(b"\0\0\0\x01IDAT\0\0\0\0\0");
    bytes
}

/// A BMP of the same kind.
fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend(54_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(54_u32.to_le_bytes());
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes
}

#[test]
fn without_models_the_command_that_fetches_them_is_named() {
    let dir = empty();
    for args in [&["ask", "q", "--json"] as &[&str], &["ask", "q", "--json", "--no-generate"]] {
        let error = failure(cicerone(dir.path()).args(args).assert(), 3, "model_missing");
        assert_eq!(error["error"]["hint"], "cicerone models pull starter");
    }
    let assert = cicerone(dir.path()).args(["models", "verify"]).assert().code(3);
    assert!(stderr(&assert).contains("hint: cicerone models pull starter"), "{}", stderr(&assert));
}

#[test]
fn offline_a_pull_can_be_tried_again_later() {
    let dir = empty();
    let assert = cicerone(dir.path()).args(["models", "pull", "starter", "--offline"]).assert().code(3);
    assert!(stderr(&assert).contains("all-MiniLM-L6-v2"), "{}", stderr(&assert));
    failure(cicerone(dir.path()).args(["demo", "--question", "q", "--json", "--offline"]).assert(), 3, "unreachable");
}

#[test]
fn without_a_knowledge_base_the_command_that_builds_it_is_named() {
    let dir = empty();
    let config = hollow(dir.path());
    let ask = cicerone(dir.path()).args(["-c", &config, "ask", "q", "--json"]).assert();
    let error = failure(ask, 2, "kb_not_found");
    assert_eq!(error["error"]["hint"], "cicerone kb build --name main --source KIND:PATH");
    failure(cicerone(dir.path()).args(["kb", "status", "--json"]).assert(), 2, "kb_not_found");
    failure(cicerone(dir.path()).args(["kb", "verify", "--json"]).assert(), 2, "kb_not_found");
    failure(cicerone(dir.path()).args(["kb", "search", "x", "--json"]).assert(), 2, "kb_not_found");
    failure(cicerone(dir.path()).args(["kb", "status", "../x", "--json"]).assert(), 2, "kb_name");
    let list = cicerone(dir.path()).args(["kb", "list", "--json"]).assert().success();
    assert!(stdout(&list).contains("\"knowledge_bases\": []"), "{}", stdout(&list));
}

#[test]
fn a_build_needs_a_source_that_is_there() {
    let dir = empty();
    for source in ["evqa:nowhere.jsonl", "csv:x", "nowhere.jsonl"] {
        failure(cicerone(dir.path()).args(["kb", "build", "--json", "--source", source]).assert(), 2, "kb_source");
    }
}

#[test]
fn an_empty_search_is_a_usage_error() {
    let dir = empty();
    failure(cicerone(dir.path()).args(["kb", "search", "--json", " "]).assert(), 2, "empty_query");
}

#[test]
fn errors_of_the_configuration_name_key_and_line() {
    let dir = empty();
    let file = dir.path().join("bad.toml");
    fs_err::write(&file, "[rag]\npassages = 21\npasages = 2\n").unwrap();
    let assert = cicerone(dir.path()).args(["config", "check", "-c"]).arg(&file).assert().code(2);
    let text = stderr(&assert);
    assert!(text.contains("bad.toml, line 2") && text.contains("bad.toml, line 3"), "{text}");
    assert!(text.contains("did you mean `rag.passages`"), "{text}");
    let assert = cicerone(dir.path()).args(["config", "check", "--set", "rag.passages=many"]).assert().code(2);
    assert!(stderr(&assert).contains("--set rag.passages=many"), "{}", stderr(&assert));
    failure(cicerone(dir.path()).args(["ask", "q", "--json", "-c", "nowhere.toml"]).assert(), 2, "config");
    cicerone(dir.path()).env("CICERONE_RAG__PASSAGES", "x").args(["config", "check"]).assert().code(2);
}

#[test]
fn what_config_show_prints_loads_again() {
    let dir = empty();
    let shown = cicerone(dir.path()).args(["config", "show", "--set", "rag.passages=2"]).assert().success();
    let file = dir.path().join("shown.toml");
    fs_err::write(&file, stdout(&shown)).unwrap();
    let again = cicerone(dir.path()).args(["config", "show", "--json", "-c"]).arg(&file).assert().success();
    let value: serde_json::Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(value["config"]["rag"]["passages"], 2);
    let path = cicerone(dir.path()).args(["config", "path"]).assert().success();
    assert!(stdout(&path).contains(dir.path().to_str().unwrap()), "{}", stdout(&path));
}

#[test]
fn the_demo_without_terminal_or_question_says_how_to_ask() {
    let dir = empty();
    let assert = cicerone(dir.path()).arg("demo").write_stdin("").assert().code(2);
    assert!(stderr(&assert).contains("hint: cicerone demo --question"), "{}", stderr(&assert));
    cicerone(dir.path()).args(["demo", "-c", "configs/starter.toml", "--question", "q"]).assert().code(2);
}

#[test]
fn doctor_finds_what_is_missing_and_models_are_listed() {
    let dir = empty();
    let doctor = cicerone(dir.path()).args(["doctor", "--json"]).assert().success();
    let value: serde_json::Value = serde_json::from_str(&stdout(&doctor)).unwrap();
    let models = value["checks"].as_array().unwrap().iter().find(|check| check["name"] == "models").unwrap();
    assert_eq!(models["good"], false);
    assert_eq!(models["hint"], "cicerone models pull starter");
    cicerone(dir.path()).arg("doctor").assert().success();
    let list = cicerone(dir.path()).args(["models", "list", "--json"]).assert().success();
    let value: serde_json::Value = serde_json::from_str(&stdout(&list)).unwrap();
    assert!(value["models"].as_array().unwrap().iter().all(|model| model["state"] == "absent"), "{value:#}");
}

#[test]
fn evaluations_check_their_arguments_first() {
    let dir = empty();
    let retrieval = |args: &[&str]| cicerone(dir.path()).args(["eval", "retrieval", "--json"]).args(args).assert();
    failure(retrieval(&["--split", "nowhere"]), 2, "split");
    failure(retrieval(&["--compare", "x"]), 2, "usage");
    failure(retrieval(&["--data", dir.path().to_str().unwrap()]), 2, "data");
}

#[test]
fn completions_are_printed_and_a_closed_stdout_ends_quietly() {
    let dir = empty();
    let script = cicerone(dir.path()).args(["completions", "bash"]).assert().success();
    assert!(stdout(&script).contains("complete -F _cicerone"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cicerone"))
        .args(["completions", "zsh"])
        .env("CICERONE_DATA_DIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn logs_go_to_stderr_or_to_a_file() {
    let dir = empty();
    let nowhere = dir.path().join("nowhere/log");
    cicerone(dir.path()).args(["config", "check", "--log-file"]).arg(nowhere).assert().code(2);
    let log = dir.path().join("log");
    cicerone(dir.path()).args(["config", "check", "-vv", "--log-file"]).arg(&log).assert().success();
    assert!(log.is_file());
    cicerone(dir.path()).env("CICERONE_LOG", "no=such=filter").args(["config", "check"]).assert().code(2);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130() {
    let dir = empty();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cicerone"))
        .args(["ask", "-"])
        .env("CICERONE_DATA_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Waiting closes a stdin that the child still has, and an empty question would be the end before Ctrl-C is.
    let _open = child.stdin.take();
    std::thread::sleep(Duration::from_secs(1));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_model_of_random_weights_is_measured_from_its_description_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.json");
    let architecture = serde_json::json!({
        "hidden_size": 32, "num_heads": 4, "output_dim": 16, "text_layers": [0, 1], "vision_layers": [0, 1],
        "text": {"kind": "bert", "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 64, "max_position_embeddings": 32},
        "vision": {"kind": "dinov2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14},
        "image_processor": {"size": {"height": 28, "width": 28}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        "max_text_tokens": 16
    });
    fs_err::write(&path, architecture.to_string()).unwrap();
    let bench = |model: &str| {
        let mut command = cicerone(dir.path());
        command.args(["bench", "encode", "--random-weights", "--seconds", "0", "--json", "--model", model]);
        command.assert()
    };
    let report = json(&bench(path.to_str().unwrap()).success(), "bench");
    // Texts are no longer than the model takes.
    assert_eq!(report["model"]["text_tokens"], 16);
    let rows = report["model"]["batches"].as_array().unwrap();
    let found: Vec<_> =
        rows.iter().map(|row| (row["given"].as_str().unwrap(), row["batch"].as_u64().unwrap())).collect();
    assert_eq!(found, [("both", 1), ("both", 8), ("both", 32), ("text-only", 8), ("image-only", 8)]);
    // An absent modality's tower does not run.
    assert!(rows[3]["vision_ms_per_item"].is_null() && rows[4]["text_ms_per_item"].is_null());
    let refused = failure(bench("nothing"), 2, "model");
    assert!(refused["error"]["message"].as_str().unwrap().contains("clip-vit-l-14"), "{refused:#}");
}

/// The recipes of the README name models that are known and keys that can be set.
#[test]
fn the_readme_names_what_there_is() {
    let data = empty();
    let readme = fs_err::read_to_string("README.md").unwrap();
    let words: Vec<&str> =
        readme.split_whitespace().map(|word| word.trim_matches(['`', ',', ';', ')', '(', '.'])).collect();
    let listed = stdout(&cicerone(data.path()).args(["models", "list", "--json"]).assert().success());
    let pulled: Vec<&str> = words.windows(3).filter(|w| w[0] == "models" && w[1] == "pull").map(|w| w[2]).collect();
    assert!(pulled.len() >= 4 && !readme.contains("@@"), "{pulled:?}");
    for name in pulled {
        assert!(listed.contains(&format!("\"{name}\"")), "{name} is not in the catalogue");
    }
    let set: Vec<&str> = words.windows(2).filter(|w| w[0] == "--set").map(|w| w[1]).collect();
    assert!(set.len() >= 4, "{set:?}");
    for key in set {
        cicerone(data.path()).args(["config", "check", "--set", key]).assert().success();
    }
}
