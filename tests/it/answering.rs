//! The whole path on shipped pictures, with every engine real.

use predicates::prelude::*;

use super::starter::{starter, starter_file};
use super::support::{cicerone, failure, fits, json, letters, stderr, stdout};

const CAPITAL: &str = "What is the capital of this country?";

#[test]
fn the_demo_answers_a_shipped_question_with_its_sources() {
    let starter = starter();
    let kenya = starter_file("images/twemoji/ke.png");
    let ask = |json: &[&str]| {
        let image = kenya.to_str().unwrap();
        cicerone(&starter.data).args(["demo", "--question", CAPITAL, "--image", image]).args(json).assert().success()
    };
    let text = ask(&[]);
    assert!(stdout(&text).contains("Nairobi"), "{}", stdout(&text));
    assert!(stdout(&text).contains("\nSources\n[1] Kenya — "), "{}", stdout(&text));
    assert!(stderr(&text).contains("does not see the picture"), "{}", stderr(&text));
    let document = json(&ask(&["--json"]), "ask");
    assert_eq!(document["outcome"], "answered");
    assert_eq!(document["entity"]["title"], "Kenya");
    assert!(document["plain"].as_str().unwrap().contains("Nairobi"), "{document:#}");
    let cited = document["citations"][0]["passage"].as_u64().unwrap();
    assert!(document["passages"].as_array().unwrap().iter().any(|p| p["number"] == cited), "{document:#}");
}

/// What the engine keeps of earlier prompts saves time and nothing else; 1 MiB is less than one prompt, so that it is
/// let go after every answer.
#[test]
fn what_is_kept_of_earlier_prompts_changes_no_answer() {
    let starter = starter();
    let (kenya, japan) = (starter_file("images/twemoji/ke.png"), starter_file("images/twemoji/jp.png"));
    let currency = "Which currency is used in this country?";
    let lines =
        format!("{}\n{CAPITAL}\n{currency}\n{}\n{CAPITAL}\n{currency}\n{CAPITAL}\n", kenya.display(), japan.display());
    let session = |mib: u32| {
        let set = format!("generator.prefix_cache_mb={mib}");
        let assert =
            cicerone(&starter.data).args(["--set", &set, "demo"]).write_stdin(lines.clone()).assert().success();
        stdout(&assert)
    };
    let without = session(0);
    assert!(without.contains("Nairobi") && without.contains("Tokyo"), "{without}");
    assert_eq!(session(512), without);
    assert_eq!(session(1), without);
}

#[test]
fn every_event_of_an_answer_is_a_line() {
    let starter = starter();
    let image = starter_file("images/twemoji/jp.png");
    let args = ["-c", "configs/starter.toml", "ask", CAPITAL, "--stream-json", "--image"];
    let assert = cicerone(&starter.data).args(args).arg(image).assert().success();
    let lines: Vec<serde_json::Value> = stdout(&assert).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().all(|line| line["schema_version"] == 1 && line["event"].is_string()));
    assert_eq!(lines[0]["event"], "started");
    let mut answer = lines.last().unwrap()["answer"].clone();
    answer["schema_version"] = 1.into();
    fits(&answer, "ask");
    let streamed: String =
        lines.iter().filter(|l| l["event"] == "token").map(|l| l["text"].as_str().unwrap()).collect();
    assert!(streamed.contains(answer["plain"].as_str().unwrap().split(' ').next().unwrap()), "{streamed:?} {answer:#}");
}

#[test]
fn without_a_generator_there_are_candidates_and_passages() {
    let starter = starter();
    let image = starter_file("images/twemoji/br.png");
    let ask = ["-c", "configs/starter.toml", "ask", CAPITAL, "--no-generate", "-k", "3", "--image"];
    let assert = cicerone(&starter.data).args(ask).arg(&image).assert().success();
    let text = stdout(&assert);
    assert!(text.starts_with("Candidates\n  1  0."), "{text}");
    assert!(text.contains("Brazil") && text.contains("\nPassages\n[1] "), "{text}");
    let assert = cicerone(&starter.data).args(ask).arg(&image).arg("--json").assert().success();
    let document = json(&assert, "ask");
    assert_eq!(document["outcome"], "passages-only");
    assert_eq!(document["candidates"].as_array().unwrap().len(), 3);
    assert!(document["generator"].is_null());
}

#[test]
fn a_search_finds_the_drawing_and_a_piped_session_goes_through() {
    let starter = starter();
    let image = starter_file("images/twemoji/ke.png");
    let search = ["-c", "configs/starter.toml", "kb", "search", CAPITAL, "--json", "-k", "5", "--image"];
    let found = json(&cicerone(&starter.data).args(search).arg(&image).assert().success(), "kb-search");
    assert_eq!(found["hits"].as_array().unwrap().len(), 5);
    assert_eq!(found["hits"][0]["title"], "Kenya");

    let lines = format!(":image {}\n{CAPITAL}\n:image nowhere.png\n:quit\n", image.display());
    let session = cicerone(&starter.data).arg("demo").write_stdin(lines).assert().code(5);
    assert!(stdout(&session).contains("Nairobi"), "{}", stdout(&session));
    assert!(stderr(&session).contains("nowhere.png"), "{}", stderr(&session));
}

#[test]
fn a_knowledge_base_of_another_retriever_is_refused_with_the_command_that_mends_it() {
    let starter = starter();
    let other = ["-c", "configs/starter.toml", "--set", "retriever.instruction=Other words:"];
    let ask = cicerone(&starter.data).args(other).args(["ask", CAPITAL, "--no-generate", "--json"]).assert();
    let error = failure(ask, 4, "kb_fingerprint_mismatch");
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("cicerone kb build --name starter --source evqa:"), "{hint}");
}

#[test]
fn a_finished_build_is_up_to_date_and_whole() {
    let starter = starter();
    let source = format!("evqa:{}", starter_file("kb.jsonl").display());
    let build = ["-c", "configs/starter.toml", "kb", "build", "--json", "--source", &source];
    let built: serde_json::Value =
        serde_json::from_str(&stdout(&cicerone(&starter.data).args(build).assert().success())).unwrap();
    assert_eq!(built["outcome"], "up-to-date");
    assert_eq!(built["manifest"]["counts"]["articles"], 249);
    let verify = cicerone(&starter.data).args(["kb", "verify", "starter"]).assert().success();
    assert!(predicate::str::contains("starter: whole (249 articles").eval(&stdout(&verify)));
    cicerone(&starter.data).args(["models", "verify"]).assert().success();
}

#[test]
fn searches_are_timed() {
    let starter = starter();
    let bench = cicerone(&starter.data).args(["bench", "search", "--json"]).assert().success();
    let report = json(&bench, "bench");
    assert_eq!(report["search"]["articles"], 249);
    assert!(report["answer"].is_null());
}

#[test]
fn a_conversation_keeps_its_entity_until_it_is_another_one() {
    let starter = starter();
    let kenya = starter_file("images/twemoji/ke.png");
    let lines = format!("{}\n{CAPITAL}\nand its currency?\n:other\n:new\n{CAPITAL}\n", kenya.display());
    let assert = cicerone(&starter.data).arg("demo").write_stdin(lines).assert().success();
    let (text, notes) = (stdout(&assert), stderr(&assert));
    let answers: Vec<&str> = text.split("\nSources\n").collect();
    assert_eq!(answers.len(), 5, "{text}");
    assert!(answers[0].contains("Nairobi") && answers[1].contains("hilling"), "{text}");
    assert!(answers[2].starts_with("[1] Kenya — Currency"), "{text}");
    assert!(notes.contains("taking it for ") && !answers[3].starts_with("[1] Kenya"), "{notes}\n{text}");
    assert!(answers[3].contains("Nairobi"), "{text}");
}

#[test]
fn an_answer_is_explained_and_gone_on_from() {
    let starter = starter();
    let kenya = starter_file("images/twemoji/ke.png");
    let ask = |question: &str, args: &[&str]| {
        let base = ["-c", "configs/starter.toml", "ask", question];
        cicerone(&starter.data).args(base).args(args).assert()
    };
    let image = kenya.to_str().unwrap();
    let explained = stdout(&ask(CAPITAL, &["--image", image, "--explain"]).success());
    for expected in [
        "Candidates\n>  1  0.",
        "Passages\n[1]  ",
        "Prompt        ",
        "\nStages\nencoding",
        "\nknowledge base  starter ",
    ] {
        assert!(explained.contains(expected), "{expected:?} in {explained}");
    }
    let first = ask(CAPITAL, &["--image", image, "--json"]).success();
    let document = json(&first, "ask");
    let stages: Vec<&str> =
        document["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["encoding", "searching", "choosing", "ranking", "reading-prompt", "answering"]);
    for part in ["retriever", "knowledge_base", "ranker", "prompts"] {
        assert!(document[part]["fingerprint"].as_str().is_some_and(|f| f.len() >= 16), "{part}: {document:#}");
    }

    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("answer.json");
    fs_err::write(&path, stdout(&first)).unwrap();
    let after = path.to_str().unwrap();
    let second = json(&ask("and its currency?", &["--after", after, "--json"]).success(), "ask");
    assert_eq!(
        (second["standalone"].as_str(), second["entity"]["title"].as_str()),
        (Some("What is Kenya's currency?"), Some("Kenya"))
    );
    assert!(second["plain"].as_str().unwrap().contains("hilling") && second["before"].as_array().unwrap().len() == 1);
    fs_err::write(&path, "{}").unwrap();
    let error = failure(ask("x", &["--after", after, "--json"]), 2, "bad_answer");
    assert!(error["error"]["message"].as_str().unwrap().contains("answer.json"), "{error:#}");
}

/// A BERT with a score on top, of random weights: what it is worth is measured with a trained one.
#[test]
fn a_cross_encoder_ranks_sections_where_its_files_are() {
    use candle_core::{Device, Tensor};
    let starter = starter();
    let model = tempfile::tempdir().unwrap();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/bert");
    let mut tensors = candle_core::safetensors::load(golden.join("model.safetensors"), &Device::Cpu).unwrap();
    tensors.insert("classifier.weight".into(), Tensor::ones((1, 48), candle_core::DType::F32, &Device::Cpu).unwrap());
    tensors.insert("classifier.bias".into(), Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, model.path().join("model.safetensors")).unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs_err::read(golden.join("config.json")).unwrap()).unwrap();
    config["id2label"] = serde_json::json!({ "0": "SCORE" });
    fs_err::write(model.path().join("config.json"), config.to_string()).unwrap();
    fs_err::write(model.path().join("tokenizer.json"), letters().to_string()).unwrap();

    let image = starter_file("images/twemoji/ke.png");
    let ask = |set: &[String]| {
        let mut command = cicerone(&starter.data);
        command.args(["-c", "configs/starter.toml", "--set", "rag.ranking=cross-encoder"]);
        for key in set {
            command.args(["--set", key]);
        }
        command.args(["ask", CAPITAL, "--no-generate", "--json", "--image"]).arg(&image).assert()
    };
    let document = json(&ask(&[format!("rag.cross_encoder={}", model.path().display())]).success(), "ask");
    assert!(document["ranker"]["name"].as_str().unwrap().starts_with("cross-encoder "), "{document:#}");
    let score = document["passages"][0]["score"].as_f64().unwrap();
    assert!(score > 0.0 && score < 1.0, "{document:#}");
    let missing = failure(ask(&[]), 3, "model_missing");
    assert!(missing["error"]["hint"].as_str().unwrap().ends_with("models pull ms-marco-MiniLM-L6-v2"), "{missing:#}");
}

#[test]
fn stages_and_thresholds_are_measured_by_one_command_each() {
    let starter = starter();
    let run = |args: &[&str]| cicerone(&starter.data).arg("eval").args(args).assert();
    let args = ["ablate", "--limit", "16", "--no-generate", "--only", "no-ranking,oracle-entity", "--json"];
    let ablation = json(&run(&args).success(), "eval-ablate");
    let value = |variant: usize, metric: &str| {
        let rows = ablation["variants"][variant]["rows"].as_array().unwrap();
        rows.iter().find(|row| row["metric"] == metric).unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!(ablation["variants"][0]["name"], "full");
    assert!(value(0, "right entity") > 0.8 && value(0, "right section") > value(1, "right section"), "{ablation:#}");
    assert_eq!(value(2, "right entity"), 1.0);
    failure(run(&["ablate", "--only", "nonsense", "--json"]), 2, "usage");

    let args = ["abstention", "--limit", "24", "--no-generate", "--json"];
    let abstention = json(&run(&args).success(), "eval-abstention");
    let reliability = |policy: usize| abstention["policies"][policy]["reliability"].as_f64().unwrap();
    assert!(reliability(4) > reliability(0), "{abstention:#}");
    let kept = &abstention["policies"][0]["kept"];
    assert_eq!(
        (kept["answered"].as_u64(), kept["unanswerable"].as_u64()),
        (kept["questions"].as_u64(), kept["fooled"].as_u64())
    );
}

#[test]
fn a_reader_is_measured_on_the_evidence_that_a_data_set_quotes() {
    let starter = starter();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let args = ["eval", "evidence", "tests/data/evqa_excerpt.csv", "--limit", "3", "--json", "--out", folder];
    let run = || cicerone(&starter.data).args(args).assert().success();
    let table: serde_json::Value = serde_json::from_str(&stdout(&run())).unwrap();
    assert_eq!(
        (table["rows"][0]["n"].as_u64(), table["rows"][0]["metric"].as_str()),
        (Some(3), Some("E-VQA exact match (no BEM)"))
    );
    let log = fs_err::read_to_string(out.path().join("evidence.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 4, "{log}");
    let again: serde_json::Value = serde_json::from_str(&stdout(&run())).unwrap();
    assert_eq!(again["rows"], table["rows"]);
    let bare = out.path().join("bare.csv");
    fs_err::write(&bare, "question,question_type,answer,wikipedia_url\nWhat?,automatic,this,u\n").unwrap();
    let error = failure(cicerone(&starter.data).args(["eval", "evidence", "--json"]).arg(&bare).assert(), 2, "data");
    assert!(error["error"]["message"].as_str().unwrap().contains("evidence"), "{error:#}");
}
