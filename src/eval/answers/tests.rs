#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::eval::dataset::Answer;
use serde_json::json;

fn question(id: &str, kind: Kind, reference: &str) -> Question {
    Question {
        id: id.to_owned(),
        text: format!("What is {id}?"),
        kind,
        answer: Answer::Evqa(vec![vec![reference.to_owned()]]),
        urls: vec![],
        titles: vec![],
        section_ids: vec![],
        image_ids: vec![],
        split: "test".to_owned(),
        source: String::new(),
        evidence: vec![],
        instruction: String::new(),
        written: vec![],
        picture: None,
    }
}

fn table(questions: &[&Question], answers: &Answers) -> crate::eval::Table {
    let asked: Vec<_> = questions.iter().copied().cycle().zip(answers.outcomes.iter().cloned()).collect();
    crate::eval::report::answers(&asked)
}

fn questions() -> Vec<Question> {
    let kind = |i: usize| if i.is_multiple_of(3) { Kind::Templated } else { Kind::Automatic };
    (0..9).map(|i| question(&format!("q{i}"), kind(i), &format!("answer {i}"))).collect()
}

const GO: fn(Progress) -> ControlFlow<()> = |_| ControlFlow::Continue(());
const MODES: [Mode; 2] = [Mode::Retrieved, Mode::NoRetrieval];

/// Right with passages; without them only on even questions.
fn reader(question: &Question, mode: Mode) -> Result<Reply, String> {
    let even = question.id[1..].parse::<usize>().unwrap() % 2 == 0;
    let answer = if mode == Mode::Retrieved || even { question.reference() } else { "no idea".to_owned() };
    Ok(Reply::from(answer.as_str()))
}

#[test]
fn entity_and_section_are_counted_where_they_are_known() {
    let mut all = questions();
    for question in &mut all {
        question.urls = vec!["right".into()];
        question.section_ids = vec![2];
    }
    let refs: Vec<_> = all.iter().collect();
    let place = |question: &Question, mode: Mode| {
        let n: usize = question.id[1..].parse().unwrap();
        let (entity, section_index) = if n < 6 { ("right", n % 4) } else { ("wrong", 2) };
        let passages = vec![Shown { url: entity.into(), section_index, ..Shown::default() }];
        Ok(Reply { entity: Some(entity.into()), passages, ..reader(question, mode)? })
    };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("run.jsonl");
    for _ in 0..2 {
        let table = table(&refs, &run(&refs, &MODES[..1], Some((&log, &json!(1))), place, GO).unwrap());
        let found: Vec<_> = table.rows.iter().filter(|r| r.metric.starts_with("right")).collect();
        let of = |n: usize| (found[n].metric.as_str(), (found[n].value * 9.0).round() as usize, found[n].n);
        assert_eq!((of(0), of(1)), (("right entity", 6, 9), ("right section", 1, 9)), "kept and read again");
    }
}

#[test]
fn answers_are_counted_by_mode_and_type() {
    let all = questions();
    let refs: Vec<_> = all.iter().collect();
    let answers = run(&refs, &MODES, None, reader, GO).unwrap();
    let table = table(&refs, &answers);
    let found: Vec<_> =
        table.rows.iter().map(|r| (r.name.as_str(), (r.value * r.n as f64).round() as usize, r.n)).collect();
    assert_eq!(
        found,
        [
            ("retrieved, all", 9, 9),
            ("retrieved, templated", 3, 3),
            ("retrieved, automatic", 6, 6),
            ("no-retrieval, all", 5, 9),
            ("no-retrieval, templated", 2, 3),
            ("no-retrieval, automatic", 3, 6),
        ]
    );
    assert!(table.rows.iter().all(|r| r.metric == "E-VQA exact match (no BEM)" && r.interval.is_some()));
    assert_eq!(answers.values(Mode::NoRetrieval, |scored| scored.correct).iter().sum::<f64>(), 5.0);
    assert!(table.notes.is_empty());
}

#[test]
fn a_run_stopped_anywhere_goes_on_to_the_same_result_and_asks_nothing_twice() {
    let all = questions();
    let refs: Vec<_> = all.iter().collect();
    let settings = json!({"model": "m", "kb": "k"});
    let whole = run(&refs, &MODES, None, reader, GO).unwrap();
    for stop_at in 1..=18 {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("run.jsonl");
        let stop = |p: Progress| if p.done == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let first = run(&refs, &MODES, Some((&log, &settings)), reader, stop).unwrap();
        assert_eq!((first.outcomes.len(), first.stopped), (stop_at, stop_at < 18));
        // A crash tears the last line.
        let text = fs_err::read_to_string(&log).unwrap();
        fs_err::write(&log, &text[..text.len() - 9]).unwrap();
        let mut asked = 0;
        let mut last = None;
        let counting = |q: &Question, m| {
            asked += 1;
            reader(q, m)
        };
        let second = run(&refs, &MODES, Some((&log, &settings)), counting, |p| {
            last = Some(p);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(asked, 18 - (stop_at - 1));
        let Progress { done, resumed, correct, mode, correct_in_mode, .. } = last.unwrap();
        assert_eq!((done, resumed, correct, mode, correct_in_mode), (18, stop_at - 1, 14, Mode::NoRetrieval, 5));
        assert_eq!((table(&refs, &second), second.stopped), (table(&refs, &whole), false));
    }
}

#[test]
fn failures_count_as_wrong_and_are_asked_again() {
    let all = questions();
    let refs: Vec<_> = all.iter().collect();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("run.jsonl");
    let failing = |q: &Question, m| if q.id == "q4" { Err("engine stopped".to_owned()) } else { reader(q, m) };
    let first = run(&refs, &MODES[..1], Some((&log, &json!(1))), failing, GO).unwrap();
    assert_eq!(table(&refs, &first).rows[0].value, 8.0 / 9.0);
    assert_eq!(table(&refs, &first).notes, ["1 answers failed and count as wrong; run again to ask them again"]);
    let mut asked = Vec::new();
    let second = run(
        &refs,
        &MODES[..1],
        Some((&log, &json!(1))),
        |q, m| {
            asked.push(q.id.clone());
            reader(q, m)
        },
        GO,
    )
    .unwrap();
    assert_eq!(asked, ["q4"]);
    assert_eq!(table(&refs, &second).rows[0].value, 1.0);
}

#[test]
fn a_log_of_another_run_is_refused_and_left_alone() {
    let all = questions();
    let refs: Vec<_> = all.iter().collect();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("run.jsonl");
    run(&refs, &MODES, Some((&log, &json!({"kb": "k", "model": "m"}))), reader, GO).unwrap();
    let before = fs_err::read(&log).unwrap();
    let refuse = |refs: &[&Question], settings: &Value| {
        let message = run(refs, &MODES, Some((&log, settings)), reader, GO).unwrap_err().to_string();
        assert_eq!(fs_err::read(&log).unwrap(), before);
        message
    };
    let other = refuse(&refs, &json!({"model": "n", "kb": "k"}));
    assert!(other.contains("run.jsonl holds results of other settings (run.model: \"m\", now \"n\")"), "{other}");
    let mut changed = all.clone();
    changed[2].text = "Who?".to_owned();
    let refs: Vec<_> = changed.iter().collect();
    let other = refuse(&refs, &json!({"model": "m", "kb": "k"}));
    assert!(other.contains("(question q2: What is q2?, now Who?)"), "{other}");
}

#[test]
fn a_file_that_is_no_log_is_refused() {
    let all = questions();
    let refs: Vec<_> = all.iter().collect();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("notes.txt");
    fs_err::write(&log, "my notes\nmore").unwrap();
    let message = run(&refs, &MODES, Some((&log, &json!(1))), reader, GO).unwrap_err().to_string();
    assert!(message.contains("notes.txt, line 1: not the log of an evaluation"), "{message}");
    assert_eq!(fs_err::read_to_string(&log).unwrap(), "my notes\nmore");
}

#[test]
fn a_sample_has_each_types_share_and_does_not_depend_on_the_order() {
    let kind = |i: usize| match i % 10 {
        0 => Kind::MultiAnswer,
        1..=3 => Kind::Templated,
        _ => Kind::Automatic,
    };
    let mut all: Vec<_> = (0..1000).map(|i| question(&format!("q{i}"), kind(i), "a")).collect();
    let ids = |picked: Vec<&Question>| picked.iter().map(|q| q.id.clone()).collect::<Vec<_>>();
    let picked = sample(&all, 55, 1);
    let count = |k| picked.iter().filter(|q| q.kind == k).count();
    let counts = [Kind::MultiAnswer, Kind::Templated, Kind::Automatic].map(count);
    assert_eq!(counts.iter().sum::<usize>(), 55);
    assert!(counts[0].abs_diff(5) <= 1 && counts[1].abs_diff(16) <= 1 && counts[2] == 33, "{counts:?}");
    let first = ids(picked);
    assert_ne!(first, ids(sample(&all, 55, 2)));
    assert_eq!(sample(&all, 5000, 1).len(), 1000);
    assert!(sample(&all, 0, 1).is_empty());
    all.reverse();
    let mut again = ids(sample(&all, 55, 1));
    again.reverse();
    assert_eq!(first, again);
}
