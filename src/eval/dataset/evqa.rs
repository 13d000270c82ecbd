//! Encyclopedic-VQA's questions: a CSV file, read by column name. Other projects reorder its columns, put `data_id`
//! before or after them and add their own; all of that is fine. InfoSeek's questions in the same columns, as EchoSight
//! publishes them, are read too.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use csv::StringRecord;

use super::{Answer, DataSet, Dirty, Kind, Question};
use crate::eval::EvalError;
use crate::eval::metric::evqa::items;
use crate::eval::metric::infoseek::Reference;

/// What is taken of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Takes `2_hop` questions too; most publications leave them out.
    pub two_hop: bool,
}

/// What stands in columns of EchoSight's InfoSeek that have no meaning there.
const NOTHING: &str = "0";

/// Columns without which there is no question.
const NEEDED: [&str; 4] = ["question", "question_type", "answer", "wikipedia_url"];

/// Reads a file. Questions without a `data_id` are named `E-VQA_{i}`, where i counts all rows that are not `2_hop`, as
/// in the result files of other projects; `2_hop` rows are named `E-VQA_2_hop_{i}`.
///
/// # Errors
/// A file that cannot be read, lacks a needed column, or holds no usable question. Rows that cannot be used are no
/// error but stand in [`DataSet::dirty`].
pub fn read(path: &Path, options: Options) -> Result<DataSet, EvalError> {
    let file = fs_err::File::open(path)?;
    let mut reader = csv::ReaderBuilder::new().from_reader(file);
    let failed = |e: csv::Error| EvalError::Csv { path: path.to_owned(), reason: e.to_string() };
    let header = reader.headers().map_err(failed)?.clone();
    let columns: HashMap<&str, usize> = header.iter().enumerate().map(|(i, name)| (name.trim(), i)).collect();
    if let Some(missing) = NEEDED.into_iter().find(|name| !columns.contains_key(name)) {
        let found = header.iter().take(20).collect::<Vec<_>>().join(", ");
        return Err(EvalError::Column { path: path.to_owned(), missing, found });
    }
    let mut set = DataSet::default();
    let (mut single, mut double) = (0, 0);
    let mut ids = HashSet::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(e) if e.is_io_error() => return Err(failed(e)),
            Err(e) => {
                let line = e.position().map_or(0, csv::Position::line);
                set.dirty.push(Dirty { line, reason: reason(&e) });
                // Its type cannot be read, and nearly all are of one hop.
                single += 1;
                continue;
            }
        };
        let row = Fields { columns: &columns, record: &record };
        let two_hop = row.get("question_type") == Kind::TwoHop.name();
        let number = if two_hop { &mut double } else { &mut single };
        let name = format!("{}{number}", if two_hop { "E-VQA_2_hop_" } else { "E-VQA_" });
        *number += 1;
        if two_hop && !options.two_hop {
            set.two_hop += 1;
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        match question(&row, name) {
            Ok(question) if !ids.insert(question.id.clone()) => {
                set.dirty.push(Dirty { line, reason: format!("second row of data_id {:?}", question.id) });
            }
            Ok(question) => set.questions.push(question),
            Err(reason) => set.dirty.push(Dirty { line, reason }),
        }
    }
    if set.questions.is_empty() && set.two_hop == 0 {
        return Err(EvalError::Empty {
            path: path.to_owned(),
            rows: set.dirty.len(),
            first: set.dirty.first().map(ToString::to_string),
            expected: "questions in Encyclopedic-VQA's columns",
        });
    }
    Ok(set)
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields; expected {expected_len}, as in the header")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8 text", err.field() + 1),
        _ => error.to_string(),
    }
}

struct Fields<'a> {
    columns: &'a HashMap<&'a str, usize>,
    record: &'a StringRecord,
}

impl Fields<'_> {
    /// A field without blanks around it; empty where there is no such column.
    fn get(&self, column: &str) -> &str {
        self.columns.get(column).and_then(|i| self.record.get(*i)).unwrap_or("").trim()
    }

    /// What stands between bars.
    fn list(&self, column: &str) -> Vec<String> {
        self.get(column).split('|').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }
}

fn question(row: &Fields<'_>, name: String) -> Result<Question, String> {
    let kind: Kind = row.get("question_type").parse().map_err(|e: EvalError| e.to_string())?;
    let text = row.get("question");
    if text.is_empty() {
        return Err("the question is empty".to_owned());
    }
    let urls = row.list("wikipedia_url");
    if urls.is_empty() {
        return Err("wikipedia_url is empty".to_owned());
    }
    // References go to the scorer as they are written, blanks and all.
    let answers = row.columns.get("answer").and_then(|i| row.record.get(*i)).unwrap_or("");
    let written: Vec<&str> = answers.split('|').filter(|a| !a.trim().is_empty()).collect();
    if written.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let answer = match kind {
        Kind::Query => return Err("question_type is `query`, which has no answer".to_owned()),
        Kind::String | Kind::Time => Answer::InfoSeek(texts(&written)),
        Kind::Numerical => Answer::InfoSeek(about(&written)),
        _ => Answer::Evqa(written.iter().map(|a| items(kind, a)).collect()),
    };
    let section = |id: &String| {
        id.parse().map_err(|_| format!("evidence_section_id holds {id:?}; expected the number of a section"))
    };
    let id = Some(row.get("data_id")).filter(|id| !id.is_empty()).map_or(name, str::to_owned);
    Ok(Question {
        id,
        text: text.to_owned(),
        instruction: String::new(),
        kind,
        written: written.iter().flat_map(|a| items(kind, a)).collect(),
        picture: None,
        answer,
        titles: match urls.len() {
            1 => vec![row.get("wikipedia_title").to_owned()],
            _ => row.list("wikipedia_title"),
        },
        urls,
        section_ids: match (row.get("evidence_section_title"), row.get("evidence")) {
            // Where a section is named, 0 is its number.
            (NOTHING, NOTHING) => Vec::new(),
            _ => row.list("evidence_section_id").iter().map(section).collect::<Result<_, _>>()?,
        },
        image_ids: row.list("dataset_image_ids"),
        split: Some(row.get("encyclopedic_vqa_split")).filter(|split| *split != NOTHING).unwrap_or_default().to_owned(),
        source: row.get("dataset_name").to_owned(),
        evidence: row.list("evidence").into_iter().fold(Vec::new(), |mut all, text| {
            if !all.contains(&text) && text != NOTHING {
                all.push(text);
            }
            all
        }),
    })
}

fn texts(written: &[&str]) -> Reference {
    Reference::Texts(written.iter().map(|text| text.trim().to_owned()).collect())
}

/// A number that stands alone allows a tenth to either side, as the official scorer does where no range is given.
fn about(written: &[&str]) -> Reference {
    let number = written.first().and_then(|text| text.trim().replace(',', "").parse::<f64>().ok());
    match number.filter(|x| x.is_finite()) {
        Some(x) => Reference::Range((x * 0.9).min(x * 1.1), (x * 0.9).max(x * 1.1)),
        None => texts(written),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn excerpt() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/evqa_excerpt.csv")
    }

    fn read_text(text: &[u8]) -> Result<DataSet, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.csv");
        fs_err::write(&path, text).unwrap();
        read(&path, Options::default())
    }

    #[test]
    fn reads_real_rows() {
        let set = read(&excerpt(), Options::default()).unwrap();
        assert_eq!((set.questions.len(), set.dirty.len(), set.two_hop), (20, 0, 0));
        let first = &set.questions[0];
        assert_eq!((first.id.as_str(), first.kind), ("E-VQA_0", Kind::Templated));
        assert_eq!(first.text, "When were the first excavations in this area?");
        assert_eq!(first.urls, ["https://en.wikipedia.org/wiki/Scupi"]);
        assert_eq!((&first.titles[..], &first.section_ids[..]), (&["Scupi".to_owned()][..], &[2][..]));
        assert_eq!((first.image_ids[0].as_str(), first.source.as_str()), ("ae67170774ef5750", "landmarks"));
        assert_eq!(first.answer, Answer::Evqa(vec![vec!["1925 ".to_owned()]]));
        assert_eq!(first.score("In 1925"), Some(false));
        assert_eq!(first.score("The answer is 1925."), Some(true));
        let cockle = set.questions.iter().find(|q| q.id == "E-VQA_3750").unwrap();
        let Answer::Evqa(references) = &cockle.answer else { panic!("{cockle:?}") };
        assert_eq!((references.len(), &references[1][..]), (4, &["estuaries".to_owned(), "harbours".to_owned()][..]));
        assert_eq!(cockle.score("harbours and estuaries"), Some(true));
    }

    #[test]
    fn reads_the_whole_file_where_it_is_at_hand() {
        let Some(path) = std::env::var_os("CICERONE_EVQA_CSV") else { return };
        let set = read(Path::new(&path), Options::default()).unwrap();
        assert_eq!((set.questions.len(), set.dirty.len()), (4750, 0), "{:?}", set.dirty.first());
        let count = |kind| set.questions.iter().filter(|q| q.kind == kind).count();
        assert_eq!([Kind::Templated, Kind::Automatic, Kind::MultiAnswer].map(count), [1000, 2750, 1000]);
        let urls: HashSet<_> = set.questions.iter().flat_map(|q| &q.urls).collect();
        let images: HashSet<_> = set.questions.iter().flat_map(|q| &q.image_ids).collect();
        assert_eq!((urls.len(), images.len()), (1843, 3118));
        // A perfect reader is right everywhere but where nothing can be scored.
        let perfect = |q: &&Question| q.score(&q.reference()) == Some(true);
        let wrong: Vec<_> = set.questions.iter().filter(|q| !perfect(q)).collect();
        assert!(wrong.len() < 30, "{} of them, first {:?}", wrong.len(), wrong.first());
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_among_others() {
        let text = "\u{feff}note,answer,question_type,wikipedia_url,question\nx,\"a, b|c\",automatic,u,\"q\n1\"\n\
                    y,d,2_hop,u|v,q2\nz,e&&f,multi_answer,u,q3\n";
        let set = read_text(text.as_bytes()).unwrap();
        assert_eq!(set.two_hop, 1);
        let ids: Vec<_> = set.questions.iter().map(|q| q.id.as_str()).collect();
        assert_eq!(ids, ["E-VQA_0", "E-VQA_1"], "2_hop rows do not count");
        assert_eq!(set.questions[0].answer, Answer::Evqa(vec![vec!["a, b".to_owned()], vec!["c".to_owned()]]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.csv");
        fs_err::write(&path, text).unwrap();
        let all = read(&path, Options { two_hop: true }).unwrap();
        assert_eq!(
            (all.questions[1].id.as_str(), &all.questions[1].urls[..]),
            ("E-VQA_2_hop_0", &["u".to_owned(), "v".to_owned()][..])
        );
    }

    #[test]
    fn dirty_rows_are_reported_with_their_line_and_the_rest_is_read() {
        let rows: [&[u8]; 9] = [
            b"data_id,question,question_type,answer,wikipedia_url,evidence_section_id",
            b"1,\"two\nlines\",automatic,a,u,1",
            b"2,q,automatic, | ,u,",
            b"3,q,magic,a,u,",
            b"4,q,automatic,a,u,one",
            b"5,q,automatic,a",
            b"6,\xff,automatic,a,u,",
            b"1,again,automatic,a,u,",
            b"7,q,automatic,a,u,3|4",
        ];
        let set = read_text(&rows.join(&b"\n"[..])).unwrap();
        let ids: Vec<_> = set.questions.iter().map(|q| q.id.as_str()).collect();
        assert_eq!(ids, ["1", "7"]);
        assert_eq!(set.questions[1].section_ids, [3, 4]);
        let dirty: Vec<_> = set.dirty.iter().map(ToString::to_string).collect();
        assert_eq!(
            dirty,
            [
                "line 4: the answer is empty",
                "line 5: unknown question type \"magic\"; expected templated, automatic, multi_answer, 2_hop, String, \
                 Numerical, Time or query",
                "line 6: evidence_section_id holds \"one\"; expected the number of a section",
                "line 7: 4 fields; expected 6, as in the header",
                "line 8: field 2 is not UTF-8 text",
                "line 9: second row of data_id \"1\"",
            ]
        );
    }

    #[test]
    fn files_that_hold_no_questions_are_refused() {
        let message = |text: &str| read_text(text.as_bytes()).unwrap_err().to_string();
        let missing = message("question,answer\nq,a\n");
        assert!(missing.ends_with("q.csv: no column `question_type`; found question, answer"), "{missing}");
        let empty = message("question,question_type,answer,wikipedia_url\n,automatic,a,u\n");
        assert!(empty.contains("no usable question in 1 rows (first: line 2: the question is empty)"), "{empty}");
        let absent = read(Path::new("no/such.csv"), Options::default()).unwrap_err().to_string();
        assert!(absent.contains("no/such.csv"), "{absent}");
    }
}
