#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::eval::answers::{Outcome, Reply, Shown};
use crate::eval::dataset::evqa;
use crate::eval::run::{DataFacts, FORMAT};
use crate::eval::verdict::Judge;

const NASTY: &str = "</script><img src=x onerror=alert(1)>{{plots}}\u{202e}&\"'";

fn folder(dir: &Path, csv: &str) -> RunFolder {
    fs_err::write(dir.join("q.csv"), csv).unwrap();
    let set = evqa::read(&dir.join("q.csv"), evqa::Options::default()).unwrap();
    let manifest = Manifest {
        format: FORMAT,
        program_version: "1".into(),
        retrieval: Value::Null,
        run: json!({"data": {"hash": "0123456789abcdef"}, "knowledge_base": {"name": NASTY, "fingerprint": "f"}}),
        shard: None,
        modes: vec![Mode::Retrieved, Mode::NoRetrieval],
        data: DataFacts {
            name: NASTY.into(),
            usable: 9,
            dirty: 1,
            first_dirty: Some("line 3".into()),
            two_hop: 2,
            ..DataFacts::default()
        },
        knowledge_base: Value::Null,
    };
    RunFolder::open(&dir.join("run"), manifest, set.questions).unwrap()
}

fn outcome(question: &Question, mode: Mode, reply: Result<Reply, &str>) -> Outcome {
    let (reply, error) = reply.map_or_else(|e| (None, Some(e.to_owned())), |reply| (Some(reply), None));
    let (id, text, reference) = (question.id.clone(), question.text.clone(), question.reference());
    Outcome { id, mode, question: text, reference, reply, error, seconds: 0.25, remembered: false }
}

fn value(report: &Report, table: &str, name: &str, metric: &str) -> (f64, usize) {
    let table = report.tables.iter().find(|t| t.title == table).unwrap_or_else(|| panic!("no table {table}"));
    let row = table.rows.iter().find(|r| r.name == name && r.metric == metric);
    let row = row.unwrap_or_else(|| panic!("no row {name}, {metric} in {table:#?}"));
    (row.value, row.n)
}

#[test]
fn a_report_tells_what_became_of_every_question_and_its_page_shows_texts_as_texts() {
    let dir = tempfile::tempdir().unwrap();
    let nasty = NASTY.replace('"', "\"\"");
    let csv = format!(
        "question,question_type,answer,wikipedia_url,evidence_section_id\n\
         \"{nasty}\",automatic,yes,https://w/A,1\nB?,automatic,yes,https://w/B,1\nC?,templated,yes,https://w/C,1\n\
         D?,multi_answer,a&&b,https://w/D,1\n"
    );
    let folder = folder(dir.path(), &csv);
    let [a, b, c, d] = folder.questions() else { panic!() };
    let shown = |url: &str, section| Shown {
        url: url.into(),
        title: NASTY.into(),
        section_index: section,
        text: "t".repeat(5000),
        ..Shown::default()
    };
    let reply = |answer: &str, url: &str, sections: &[usize]| Reply {
        answer: answer.into(),
        entity: Some(url.into()),
        passages: sections.iter().map(|section| shown(url, *section)).collect(),
        ..Reply::default()
    };
    let silent = Reply { abstained: Some("too far".into()), ..Reply::default() };
    let outcomes = [
        (a, outcome(a, Mode::Retrieved, Ok(reply(NASTY, "https://w/A", &[0, 1])))),
        (b, outcome(b, Mode::Retrieved, Ok(reply("Yes.", "http://w/B", &[0])))),
        (c, outcome(c, Mode::Retrieved, Ok(silent))),
        (d, outcome(d, Mode::Retrieved, Err("no picture"))),
        (a, outcome(a, Mode::NoRetrieval, Ok(Reply::from("no")))),
    ];
    let asked: Vec<Asked> = outcomes.into_iter().map(|(q, o)| (q, Scored::new(q, o, &Judge::Text))).collect();
    let retrievals = Retrievals::new();
    let inputs =
        Inputs { folder: &folder, retrievals: &retrievals, asked: &asked, bem: None, unjudged: 0, times: true };
    let report = Report::new(&inputs).unwrap();

    const EXACT: &str = "E-VQA exact match (no BEM)";
    assert_eq!(value(&report, "Right answers", "retrieved, all", EXACT), (0.25, 4));
    assert_eq!(value(&report, "Right answers", "retrieved, automatic", EXACT), (0.5, 2));
    assert_eq!(value(&report, "Right answers", "retrieved, all", "right section"), (1.0 / 3.0, 3));
    assert_eq!(value(&report, "Right answers", "retrieved, all", "right section first"), (0.0, 3));
    for cause in ["right", "reader wrong", "abstained", "failed"] {
        assert_eq!(value(&report, "What became of the questions", "retrieved", cause), (0.25, 4), "{cause}");
    }
    assert_eq!(value(&report, "Abstention", "retrieved", "coverage"), (0.5, 4));
    assert_eq!(value(&report, "Abstention", "retrieved", "right of the answered"), (0.5, 2));
    assert_eq!(value(&report, "Abstention", "retrieved", "effective reliability"), (0.0, 4));
    assert_eq!(value(&report, "Times", "retrieved", "seconds, median"), (0.25, 3));
    let notes = report.notes.join("\n");
    for note in ["3 of 8 answers are not there yet (5 are)", "EM only", "2 2_hop questions", "1 rows of the data set"] {
        assert!(notes.contains(note), "{notes}");
    }
    assert!(!report.complete && report.to_text().contains("right section first"));

    let jpeg = |_: &Question| None;
    report.write(&inputs, b"{}", &Thumbnails { questions: 3, jpeg: &jpeg }).unwrap();
    let read = |name: &str| fs_err::read_to_string(folder.dir().join(name)).unwrap();
    let page = read("report.html");
    assert_eq!(page.matches("<img src=x").count(), 0);
    assert_eq!(page.matches("</script>").count(), super::html::PAGE.matches("</script>").count());
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    assert_eq!(
        (data["questions"].as_array().unwrap().len(), &data["modes"]),
        (3, &json!(["retrieved", "no-retrieval"]))
    );
    let first = data["questions"].as_array().unwrap().iter().find(|q| q["id"] == "E-VQA_0").unwrap();
    let said = &first["answers"]["retrieved"];
    assert_eq!(
        (first["text"].as_str(), said["answer"].as_str(), &said["cause"]),
        (Some(NASTY), Some(NASTY), &json!("reader wrong"))
    );
    assert_eq!((&said["passages"][0]["gold"], &said["passages"][1]["gold"]), (&json!(false), &json!(true)));
    assert_eq!(said["passages"][0]["text"].as_str().unwrap().len(), 3000);
    assert!(
        page.contains("plot-causes") && page.contains("plot-answers") && page.contains("3 of 4 questions are shown")
    );

    let mut rows = ::csv::Reader::from_path(folder.dir().join("answers.csv")).unwrap();
    let rows: Vec<::csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!((rows.len(), &rows[0][3], &rows[1][8], &rows[3][13]), (5, NASTY, "right", "no picture"));
    assert!(read("report.csv").contains("Abstention,retrieved,coverage,0.5,"));
    assert!(read("report.md").starts_with("# 4 questions of "));
    let without = Report::new(&Inputs { times: false, ..inputs }).unwrap();
    assert!(without.tables.iter().all(|table| table.title != "Times"));
}
