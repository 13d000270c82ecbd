//! A report as tables for a spreadsheet: its numbers, and its questions.

use std::path::Path;

use super::{Inputs, Report};
use crate::eval::EvalError;
use crate::eval::metric::Interval;

type Written = Result<Vec<u8>, EvalError>;

fn written(path: &Path, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Written {
    let failed = |reason: String| EvalError::Csv { path: path.to_owned(), reason };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(|e| failed(e.to_string()))?;
    for row in rows {
        writer.write_record(row).map_err(|e| failed(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| failed(e.to_string()))
}

/// Every number of a report.
pub(super) fn numbers(path: &Path, report: &Report) -> Written {
    const HEADER: [&str; 9] =
        ["table", "name", "metric", "value", "low", "high", "bootstrap_low", "bootstrap_high", "n"];
    let ends = |interval: Option<Interval>| {
        interval.map_or([String::new(), String::new()], |i| [i.low.to_string(), i.high.to_string()])
    };
    let rows = report.tables.iter().flat_map(|table| {
        table.rows.iter().map(move |row| {
            let ([low, high], [from, to]) = (ends(row.interval), ends(row.bootstrap));
            let (name, metric, value) = (row.name.clone(), row.metric.clone(), row.value.to_string());
            vec![table.title.clone(), name, metric, value, low, high, from, to, row.n.to_string()]
        })
    });
    written(path, &HEADER, rows)
}

/// Every question in every mode.
pub(super) fn answers(path: &Path, inputs: &Inputs) -> Written {
    const HEADER: [&str; 15] = [
        "id",
        "mode",
        "question_type",
        "question",
        "reference",
        "answer",
        "metric",
        "correct",
        "outcome",
        "entity",
        "right_entity",
        "section_place",
        "article_rank",
        "error",
        "seconds",
    ];
    let rows = inputs.asked.iter().map(|(question, scored)| {
        let outcome = &scored.outcome;
        let reply = outcome.reply.as_ref();
        let mark = |mark: Option<bool>| mark.map_or(String::new(), |mark| mark.to_string());
        let place = |place: Option<usize>| place.map_or(String::new(), |place| place.to_string());
        let rank = inputs.retrievals.get(&question.id).and_then(|found| found.article);
        let why = outcome.error.clone().or_else(|| reply.and_then(|reply| reply.abstained.clone()));
        vec![
            question.id.clone(),
            outcome.mode.to_string(),
            question.kind.to_string(),
            question.text.clone(),
            question.references().join(" | "),
            reply.map_or(String::new(), |reply| reply.answer.clone()),
            scored.metric.to_owned(),
            mark(scored.correct),
            scored.cause().name().to_owned(),
            reply.and_then(|reply| reply.entity.clone()).unwrap_or_default(),
            mark(scored.entity),
            place(scored.section.flatten()),
            place(rank),
            why.unwrap_or_default(),
            if inputs.times { format!("{:.3}", outcome.seconds) } else { String::new() },
        ]
    });
    written(path, &HEADER, rows)
}
