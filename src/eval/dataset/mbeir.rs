//! Queries of M-BEIR (Wei et al. 2024, UniIR; `query/**/mbeir_*.jsonl`) and their qrels: which candidates of the pool are
//! right. A candidate is an article of a knowledge base that was built from the pool, known by its `did`.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::{Answer, DataSet, Kind, Question};
use crate::eval::EvalError;
use crate::io::{IoError, JsonlReader};

#[derive(Deserialize)]
struct Record {
    qid: String,
    #[serde(default)]
    query_txt: Option<String>,
    #[serde(default)]
    query_img_path: Option<String>,
    #[serde(default)]
    pos_cand_list: Vec<String>,
}

/// Reads queries; their right candidates are those of `qrels` where it is given, else those that each names itself.
///
/// # Errors
/// A file that cannot be read, a damaged line of `qrels`, or no usable query.
pub fn read(path: &Path, qrels: Option<&Path>) -> Result<DataSet, EvalError> {
    let right = qrels.map(read_qrels).transpose()?;
    let rows = JsonlReader::<Record>::open(path)?;
    DataSet::of_rows(rows, "qid", |record| question(record, right.as_ref()))?
        .or_empty(path, "queries of M-BEIR with their qrels")
}

fn question(record: Record, right: Option<&HashMap<String, Vec<String>>>) -> Result<Question, String> {
    let text = formatted(record.query_txt.as_deref().unwrap_or_default());
    let image: Vec<String> = record.query_img_path.filter(|path| !path.is_empty()).into_iter().collect();
    if text.is_empty() && image.is_empty() {
        return Err("neither query_txt nor query_img_path".to_owned());
    }
    let urls = match right {
        Some(right) => right.get(&record.qid).cloned().unwrap_or_default(),
        None => record.pos_cand_list,
    };
    // As UniIR's own evaluation: of OVEN (5) and InfoSeek (6) only candidates of the same data set count.
    let set = record.qid.split_once(':').map(|(set, _)| set).filter(|set| matches!(*set, "5" | "6"));
    let own = |did: &String| set.is_none_or(|set| did.split_once(':').is_none_or(|(of, _)| of == set));
    let urls: Vec<String> = urls.into_iter().filter(own).collect();
    if urls.is_empty() {
        return Err(format!(
            "no candidate is right for {:?}; expected one in the qrels or in pos_cand_list",
            record.qid
        ));
    }
    Ok(Question {
        id: record.qid,
        text,
        instruction: String::new(),
        kind: Kind::Query,
        answer: Answer::Passages,
        urls,
        titles: Vec::new(),
        section_ids: Vec::new(),
        image_ids: image,
        split: String::new(),
        source: String::new(),
        evidence: Vec::new(),
        written: Vec::new(),
        picture: None,
    })
}

/// As UniIR's `format_string`: no carriage returns and quotation marks around it, a capital, and a full stop where no mark ends
/// it.
fn formatted(text: &str) -> String {
    let text = text.replace('\r', "");
    let text = text.trim().trim_matches('"');
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut text: String = first.to_uppercase().chain(chars).collect();
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

/// Right candidates by query: lines `qid 0 did relevance [task]`, of which those with a relevance above 0 count.
fn read_qrels(path: &Path) -> Result<HashMap<String, Vec<String>>, EvalError> {
    let text = fs_err::read_to_string(path)?;
    let mut right: HashMap<String, Vec<String>> = HashMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let relevance = parts.get(3).and_then(|relevance| relevance.parse::<i64>().ok());
        let (Some(relevance), [qid, _, did, ..]) = (relevance, &parts[..]) else {
            let reason = format!("{:?}; expected qid, 0, did and relevance", line.chars().take(80).collect::<String>());
            return Err(IoError::Line { path: path.to_owned(), line: n + 1, reason }.into());
        };
        if relevance > 0 {
            right.entry((*qid).to_owned()).or_default().push((*did).to_owned());
        }
    }
    Ok(right)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const QUERIES: &str = r#"{"qid":"6:1","query_txt":"which place is this","query_img_path":"mbeir_images/a.jpg","query_modality":"image,text","pos_cand_list":["6:9"]}
{"qid":"6:2","query_txt":null,"query_img_path":"mbeir_images/b.jpg","pos_cand_list":[]}
{"qid":"6:3","query_txt":" "}"#;

    fn read_with(qrels: Option<&str>) -> Result<DataSet, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.jsonl");
        fs_err::write(&path, QUERIES).unwrap();
        let file = dir.path().join("qrels.txt");
        if let Some(text) = qrels {
            fs_err::write(&file, text).unwrap();
        }
        read(&path, qrels.map(|_| file.as_path()))
    }

    #[test]
    fn qrels_say_what_is_right() {
        let set = read_with(Some("6:1 0 6:5001 1 6\n6:1 0 5:77 1 6\n6:1 0 6:5002 0 6\n6:2 0 6:7 2 6\n\n")).unwrap();
        let [first, second] = &set.questions[..] else { panic!("{set:?}") };
        assert_eq!((first.text.as_str(), &first.urls[..]), ("Which place is this.", &["6:5001".to_owned()][..]));
        assert_eq!((second.text.as_str(), &second.urls[..]), ("", &["6:7".to_owned()][..]));
        assert_eq!(set.dirty[0].to_string(), "line 3: neither query_txt nor query_img_path");
        let own = read_with(None).unwrap();
        assert_eq!((&own.questions[0].urls[..], own.dirty.len()), (&["6:9".to_owned()][..], 2));
        let message = read_with(Some("6:1 0 6:5001\n")).unwrap_err().to_string();
        assert!(
            message.contains("qrels.txt, line 1: \"6:1 0 6:5001\"; expected qid, 0, did and relevance"),
            "{message}"
        );
    }
}
