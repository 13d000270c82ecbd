//! Benchmarks from their questions to their reports, with every engine real.

use std::path::Path;

use serde_json::Value;

use super::starter::{Starter, starter};
use super::support::{background, cicerone, failure, json, stderr, stdout};

const REPORTS: [&str; 5] = ["report.json", "report.md", "report.csv", "answers.csv", "report.html"];

/// A run of six questions in three modes, into a folder.
fn arguments<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["eval", "run", "--limit", "6", "--seed", "2", "--no-times", "--out", out.to_str().unwrap()];
    args.extend(["--modes", "retrieved,oracle-entity,no-retrieval"]);
    args.extend(more);
    args
}

fn reports(dir: &Path) -> Vec<(&'static str, Vec<u8>)> {
    REPORTS.iter().map(|name| (*name, fs_err::read(dir.join(name)).unwrap())).collect()
}

fn lines(path: &Path) -> usize {
    fs_err::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Kills a run once its answers have grown to `at_least` lines.
fn kill(starter: &Starter, args: &[&str], log: &Path, at_least: usize) {
    let mut run = background(&starter.data, args);
    let began = std::time::Instant::now();
    while lines(log) < at_least {
        assert!(began.elapsed().as_secs() < 300, "no answer comes");
        assert!(run.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_run_that_is_killed_and_one_that_is_split_end_in_the_report_of_one_that_is_not() {
    let starter = starter();
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    let (whole, killed) = (at("whole"), at("killed"));
    let report = json(&cicerone(&starter.data).args(arguments(&whole, &["--json"])).assert().success(), "eval-report");
    assert_eq!((report["questions"].as_u64(), report["complete"].as_bool()), (Some(6), Some(true)), "{report:#}");
    let value = |table: &str, name: &str, metric: &str| {
        let tables = report["tables"].as_array().unwrap();
        let rows = tables.iter().find(|t| t["title"] == table).unwrap()["rows"].as_array().unwrap();
        rows.iter().find(|r| r["name"] == name && r["metric"] == metric).unwrap()["value"].as_f64().unwrap()
    };
    const EXACT: &str = "E-VQA exact match (no BEM)";
    assert!(value("Right answers", "retrieved, all", EXACT) > value("Right answers", "no-retrieval, all", EXACT));
    assert!(value("Retrieval", "retrieved", "R@1") > 0.5 && value("Retrieval", "retrieved", "R@50") > 0.9);
    assert!(value("Retrieval", "retrieved", "pseudo-recall@5") > 0.5);
    let notes = report["notes"].to_string();
    assert!(notes.contains("EM only") && !notes.contains("failed"), "{notes}");

    // Killed in the search, while it answers, and once more; then to the end.
    let args = arguments(&killed, &[]);
    kill(&starter, &args, &killed.join("retrieval.jsonl"), 3);
    kill(&starter, &args, &killed.join("answers.jsonl"), 4);
    let partial = json(
        &cicerone(&starter.data).args(["eval", "report", "--json"]).arg(&killed).assert().success(),
        "eval-report",
    );
    assert_eq!(partial["complete"], false, "{partial:#}");
    kill(&starter, &args, &killed.join("answers.jsonl"), 9);
    cicerone(&starter.data).args(&args).assert().success();
    for ((name, expected), (_, found)) in reports(&whole).iter().zip(reports(&killed)) {
        assert!(*expected == found, "{name} differs after a kill");
    }
    assert_eq!(lines(&killed.join("answers.jsonl")), 19, "nothing was answered twice");

    // Two machines' parts, put together.
    let parts = [at("part-1"), at("part-2")];
    for (part, shard) in parts.iter().zip(["1/2", "2/2"]) {
        cicerone(&starter.data).args(arguments(part, &["--shard", shard])).assert().success();
    }
    let merged = at("merged");
    let merge = |parts: &[std::path::PathBuf], into: &Path| {
        cicerone(&starter.data).args(["eval", "merge", "--out"]).arg(into).args(parts).assert()
    };
    merge(&parts[..1], &at("other")).code(2);
    merge(&parts, &merged).success();
    cicerone(&starter.data).args(["eval", "report", "--no-times"]).arg(&merged).assert().success();
    for ((name, expected), (_, found)) in reports(&whole).iter().zip(reports(&merged)) {
        assert!(*expected == found, "{name} differs after a merge");
    }

    // Another reader over what was found already; and settings that differ are not mixed.
    let short = at("short");
    let mut args = arguments(&short, &["--set", "generator.max_tokens=2", "--retrieval"]);
    args.push(whole.to_str().unwrap());
    cicerone(&starter.data).args(&args).assert().success();
    let found = |dir: &Path| fs_err::read(dir.join("retrieval.jsonl")).unwrap();
    assert_eq!(found(&short), found(&whole), "nothing was searched for again");
    let mixed =
        cicerone(&starter.data).args(arguments(&whole, &["--set", "generator.max_tokens=3", "--json"])).assert();
    let message = failure(mixed, 2, "other_run")["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("run.max_tokens: 48, now 3"), "{message}");

    let compare = |b: &Path, more: &[&str]| {
        cicerone(&starter.data).args(["eval", "compare"]).arg(&whole).arg(b).args(more).assert().success()
    };
    let same = json(&compare(&killed, &["--json"]), "eval-compare");
    assert_eq!((same["warnings"].to_string().as_str(), same["differences"].to_string().as_str()), ("[]", "[]"));
    assert!(same["pairs"].as_array().unwrap().iter().all(|pair| pair["mcnemar_p"] == 1.0), "{same:#}");
    let text = stdout(&compare(&short, &[]));
    assert!(text.contains("run.max_tokens: 48 | 2") && text.contains("McNemar p"), "{text}");
}

#[test]
fn runs_over_different_knowledge_bases_are_compared_with_a_warning_alone() {
    let starter = starter();
    let out = tempfile::tempdir().unwrap();
    let folder = |name: &str| out.path().join(name);
    let run = |name: &str, kb: &str| {
        let (dir, key) = (folder(name), format!("kb.name={kb}"));
        let args = ["eval", "run", "--limit", "4", "--modes", "retrieved", "--set", &key, "--out"];
        cicerone(&starter.data).args(args).arg(&dir).assert().success();
    };
    run("a", "starter");
    run("b", "starter");
    let run_json = folder("b").join("run.json");
    // As a run over another knowledge base would have it.
    let mut manifest: Value = serde_json::from_slice(&fs_err::read(&run_json).unwrap()).unwrap();
    manifest["run"]["knowledge_base"]["fingerprint"] = "another".into();
    fs_err::write(&run_json, manifest.to_string()).unwrap();
    let compare =
        |b: &str| cicerone(&starter.data).args(["eval", "compare"]).arg(folder("a")).arg(folder(b)).assert().success();
    assert!(stderr(&compare("b")).contains("warning: the knowledge bases differ"), "{}", stderr(&compare("b")));
    assert!(!stderr(&compare("a")).contains("warning"), "{}", stderr(&compare("a")));
}

#[test]
fn predictions_of_another_system_are_scored_alike() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = data.path().join(name);
        fs_err::write(&path, text).unwrap();
        path
    };
    let questions = r#"{"data_id":"a","question":"Where?","answer_eval":["China","PRC"],"data_split":"val_unseen_question"}
{"data_id":"b","question":"How long?","answer_eval":[{"wikidata":6.9,"range":[6.21,7.59]}],"data_split":"val_unseen_question"}
{"data_id":"c","question":"When?","answer_eval":["1925"],"data_split":"val_unseen_entity"}
{"data_id":"d","question":"What?","answer_eval":["x"],"data_split":"val_unseen_entity"}"#;
    let questions = at("val.jsonl", questions);
    let score = |predictions: &Path, more: &[&str]| {
        let mut command = cicerone(data.path());
        command.args(["eval", "score", "--json", "--dataset", "infoseek", "--questions"]).arg(&questions);
        command.args(more).arg(predictions).assert()
    };
    let all = at("all.json", r#"{"a": "the PRC!", "b": "about 7 m", "c": "1926", "d": "x"}"#);
    let out = data.path().join("scored");
    let report = json(&score(&all, &["--out", out.to_str().unwrap(), "--name", "theirs"]).success(), "eval-report");
    let official = &report["infoseek"][0][1];
    assert_eq!((official["final_score"].as_f64(), official["missing"].as_u64()), (Some(66.67), Some(0)), "{report:#}");
    assert!(fs_err::read_to_string(out.join("report.html")).unwrap().contains("InfoSeek official, predicted: 66.67"));
    let some =
        at("some.jsonl", "{\"data_id\":\"a\",\"prediction\":\"china\"}\n{\"data_id\":\"z\",\"prediction\":\"?\"}\n");
    let refused = failure(score(&some, &[]), 2, "partial_predictions");
    assert!(refused["error"]["message"].as_str().unwrap().contains("3 of 4 questions have no prediction (first: b)"));
    assert!(refused["error"]["hint"].as_str().unwrap().contains("--partial wrong"));
    let left_out = score(&some, &["--partial", "left-out"]).success();
    assert!(stderr(&left_out).contains("1 predictions are of no question"), "{}", stderr(&left_out));
    let wrong = json(&score(&some, &["--partial", "wrong"]).code(5), "eval-report");
    assert_eq!(wrong["infoseek"][0][1]["unseen_question_score"]["score"], 50.0, "{wrong:#}");
    failure(score(&data.path().join("nowhere"), &[]), 1, "io");
    let other = cicerone(data.path()).args(["eval", "report", "--json"]).arg(data.path()).assert();
    failure(other, 2, "no_run");
}

#[test]
fn what_does_not_fit_is_told_before_anything_is_asked() {
    let starter = starter();
    let clean = cicerone(&starter.data).args(["eval", "run", "--audit", "--json"]).assert();
    let clean = json(&clean.success(), "eval-audit");
    assert_eq!((clean["clean"].as_bool(), clean["audit"]["articles"].as_u64()), (Some(true), Some(243)), "{clean:#}");
    let csv = "question,question_type,answer,wikipedia_url,evidence_section_id,dataset_image_ids\n\
               Q?,automatic,a,https://en.wikipedia.org/wiki/Kenya,999,twemoji/ke\n\
               R?,automatic,a,https://en.wikipedia.org/wiki/Atlantis,0,twemoji/none\n,automatic,a,u,0,\n";
    let out = tempfile::tempdir().unwrap();
    let questions = out.path().join("q.csv");
    fs_err::write(&questions, csv).unwrap();
    let assert = cicerone(&starter.data).args(["eval", "run", "--audit", "--questions"]).arg(&questions).assert();
    let text = stdout(&assert.code(5));
    for expected in [
        "2 questions of q.csv, 2 articles, 1 of 2 pictures found",
        "1 rows cannot be used (first: line 4: the question is empty)",
        "the right article is not in the knowledge base (E-VQA_1: https://en.wikipedia.org/wiki/Atlantis)",
        "the right section is not in the article (E-VQA_0: section 999 of",
        "the picture is missing (E-VQA_1: twemoji/none)",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    // The same, asked: a missing picture fails its question and nothing else.
    let run = out.path().join("run");
    let args = ["eval", "run", "--retrieval-only", "--json", "--questions"];
    let assert = cicerone(&starter.data).args(args).arg(&questions).arg("--out").arg(&run).assert();
    let report = json(&assert.code(5), "eval-report");
    assert!(report["notes"].to_string().contains("1 of 2 pictures are missing (first: twemoji/none)"), "{report:#}");
    let rows = &report["tables"][0]["rows"];
    assert_eq!(
        (rows[0]["metric"].as_str(), rows[0]["value"].as_f64(), rows[0]["n"].as_u64()),
        (Some("R@1"), Some(0.5), Some(2))
    );
    let none = cicerone(&starter.data).args(["-c", "configs/default.toml", "eval", "run", "--json"]).assert();
    assert!(failure(none, 2, "data")["error"]["message"].as_str().unwrap().contains("`eval.questions` names no file"));
}
