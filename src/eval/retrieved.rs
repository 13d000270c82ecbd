//! What the search finds for each question, kept: it is searched once, and read by as many readers as there are.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::log::{Log, read};
use super::verdict::Gold;
use super::{EvalError, Question};

/// Something that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The article.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// The search's score.
    pub score: f32,
    /// Which section of it was found, where parts of articles are embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<usize>,
    /// Which picture, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<usize>,
    /// Whether its text holds an answer: the section's, or of an article that is embedded whole the article's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    id: String,
    question: String,
    candidates: Vec<Candidate>,
    /// Why nothing was found. A question that failed is searched for again by the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    seconds: f64,
}

/// What was found for one question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retrieval {
    /// The first candidates, those of as many articles as are read on.
    pub first: Vec<Candidate>,
    /// Place of the right article among the articles found, from 1.
    pub article: Option<usize>,
    /// Place of a right section among the parts found, where parts are embedded and the data set names sections.
    pub section: Option<usize>,
    /// Place of the first candidate whose text holds an answer.
    pub holds: Option<usize>,
    /// Candidates found.
    pub found: usize,
    /// Whether parts of articles were found.
    pub parts: bool,
    /// Why nothing was found.
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Retrieval {
    fn new(question: &Question, line: Line, keep: usize) -> Self {
        let gold = Gold::of(question);
        let mut articles: Vec<&str> = Vec::new();
        let mut kept = 0;
        let mut retrieval =
            Self { found: line.candidates.len(), error: line.error, seconds: line.seconds, ..Self::default() };
        for (n, candidate) in line.candidates.iter().enumerate() {
            if !articles.contains(&candidate.url.as_str()) {
                articles.push(&candidate.url);
                if retrieval.article.is_none() && gold.is_article(&candidate.url) {
                    retrieval.article = Some(articles.len());
                }
            }
            if articles.len() <= keep {
                kept = n + 1;
            }
            if let Some(section) = candidate.section {
                retrieval.parts = true;
                if retrieval.section.is_none() && gold.is_section(&candidate.url, section) {
                    retrieval.section = Some(n + 1);
                }
            }
            if retrieval.holds.is_none() && candidate.holds {
                retrieval.holds = Some(n + 1);
            }
        }
        retrieval.first = line.candidates.into_iter().take(kept).collect();
        retrieval
    }
}

/// How a search is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Questions that are under way at once.
    pub concurrency: usize,
    /// Articles of each question whose candidates are kept in memory.
    pub keep: usize,
}

/// What a search gave, by question.
pub type Retrievals = HashMap<String, Retrieval>;

/// Searches for every question that `log` has nothing for.
///
/// # Arguments
/// `run` says what is searched and by what. `search` makes the candidates of one question; it is called from several
/// threads, and its error fails that question alone. `progress` is told how many are done, of how many, and stops with
/// `Break`.
///
/// # Errors
/// A log that cannot be read or written, is damaged, or is of another run or data set.
pub fn run(
    questions: &[&Question],
    log: (&Path, &Value),
    options: Options,
    search: impl Fn(&Question) -> Result<Vec<Candidate>, String> + Sync,
    mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Retrievals, EvalError> {
    let (path, about) = log;
    let by_id: HashMap<&str, &Question> = questions.iter().map(|q| (q.id.as_str(), *q)).collect();
    let mut found = Retrievals::new();
    let mut log = Log::open(path, about, |line| take(path, &by_id, &mut found, line, options.keep))?;
    // What failed is searched for again.
    found.retain(|_, found| found.error.is_none());
    let left: Vec<&Question> = questions.iter().copied().filter(|q| !found.contains_key(&q.id)).collect();
    let total = questions.len();
    if progress(found.len(), total).is_break() || left.is_empty() {
        return Ok(found);
    }
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = options.concurrency.clamp(1, left.len());
    let (lines, received) = mpsc::sync_channel(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (lines, next, stop, left, search) = (lines.clone(), &next, &stop, &left, &search);
            scope.spawn(move || {
                while let Some(question) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) || lines.send(one(question, search)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(lines);
        let mut done = Ok(());
        for line in received {
            if done.is_ok() {
                done = log.append(&line);
                if let Some(question) = by_id.get(line.id.as_str()) {
                    found.insert(line.id.clone(), Retrieval::new(question, line, options.keep));
                }
            }
            // The others are heard to their end, so that what they have found is kept.
            if done.is_err() || progress(found.len(), total).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        done
    })?;
    log.sync()?;
    Ok(found)
}

/// Reads what an earlier run found, whatever it was.
///
/// # Errors
/// A log that cannot be read.
pub fn load(path: &Path, questions: &[&Question], keep: usize) -> Result<Retrievals, EvalError> {
    let by_id: HashMap<&str, &Question> = questions.iter().map(|q| (q.id.as_str(), *q)).collect();
    let mut found = Retrievals::new();
    read(path, |_| Ok(()), |line| take(path, &by_id, &mut found, line, keep))?;
    Ok(found)
}

fn take(
    path: &Path,
    questions: &HashMap<&str, &Question>,
    found: &mut Retrievals,
    line: Line,
    keep: usize,
) -> Result<(), EvalError> {
    let Some(question) = questions.get(line.id.as_str()) else { return Ok(()) };
    if question.text != line.question {
        return Err(EvalError::OtherRun {
            path: path.to_owned(),
            field: format!("question {}", line.id),
            found: line.question,
            expected: question.text.clone(),
        });
    }
    // A later line of the same question takes the place of one that failed.
    found.insert(line.id.clone(), Retrieval::new(question, line, keep));
    Ok(())
}

fn one(question: &Question, search: &impl Fn(&Question) -> Result<Vec<Candidate>, String>) -> Line {
    let start = Instant::now();
    let (candidates, error) = match search(question) {
        Ok(candidates) => (candidates, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let seconds = start.elapsed().as_secs_f64();
    Line { id: question.id.clone(), question: question.text.clone(), candidates, error, seconds }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::dataset::evqa;
    use serde_json::json;

    fn questions(n: usize) -> Vec<Question> {
        let header = "question,question_type,answer,wikipedia_url,evidence_section_id";
        let rows: Vec<String> = (0..n).map(|i| format!("Q {i}?,automatic,answer {i},https://w/A{i},1")).collect();
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("q.csv"), format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions
    }

    /// Its own article third, after two parts of the one before.
    fn search(question: &Question) -> Result<Vec<Candidate>, String> {
        let n: usize = question.text[2..question.text.len() - 1].parse().unwrap();
        let of = |n: usize, section| Candidate {
            url: format!("http://w/A{n}"),
            section: Some(section),
            score: 0.1 + n as f32 / 7.0,
            ..Candidate::default()
        };
        Ok(vec![of(n + 1, 1), of(n + 1, 2), of(n, 0), Candidate { holds: true, ..of(n, 1) }])
    }

    const OPTIONS: Options = Options { concurrency: 4, keep: 2 };
    const GO: fn(usize, usize) -> ControlFlow<()> = |_, _| ControlFlow::Continue(());

    #[test]
    fn places_are_counted_by_article_by_part_and_by_what_holds_an_answer() {
        let all = questions(3);
        let refs: Vec<_> = all.iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("r.jsonl");
        let found = run(&refs, (&log, &json!(1)), OPTIONS, search, GO).unwrap();
        let first = &found["E-VQA_0"];
        assert_eq!((first.article, first.section, first.holds, first.found), (Some(2), Some(4), Some(4), 4));
        assert!(first.parts && first.first.len() == 4, "two articles, two parts of each");
        let read = load(&log, &refs, 2).unwrap();
        assert_eq!(read, found, "scores are read as they were written");
    }

    #[test]
    fn a_search_stopped_anywhere_goes_on_and_finds_nothing_twice() {
        let all = questions(23);
        let refs: Vec<_> = all.iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let whole = run(&refs, (&dir.path().join("whole"), &json!({"k": 4})), OPTIONS, search, GO).unwrap();
        for stop_at in [1, 7, 22] {
            let log = dir.path().join(format!("{stop_at}"));
            let stop =
                |done: usize, _| if done >= stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let part = run(&refs, (&log, &json!({"k": 4})), OPTIONS, search, stop).unwrap();
            assert!((stop_at..stop_at + 2 * OPTIONS.concurrency + 1).contains(&part.len()), "{}", part.len());
            let text = fs_err::read_to_string(&log).unwrap();
            fs_err::write(&log, &text[..text.len() - 5]).unwrap();
            let asked = AtomicUsize::new(0);
            let counting = |q: &Question| {
                asked.fetch_add(1, Ordering::Relaxed);
                search(q)
            };
            let second = run(&refs, (&log, &json!({"k": 4})), OPTIONS, counting, GO).unwrap();
            assert_eq!(asked.into_inner(), 23 - (part.len() - 1));
            let same = |a: &Retrieval, b: &Retrieval| {
                Retrieval { seconds: 0.0, ..a.clone() } == Retrieval { seconds: 0.0, ..b.clone() }
            };
            assert!(second.len() == 23 && whole.iter().all(|(id, found)| same(found, &second[id])));
        }
        let other = run(&refs, (&dir.path().join("7"), &json!({"k": 5})), OPTIONS, search, GO).unwrap_err();
        assert!(other.to_string().contains("run.k: 4, now 5"), "{other}");
    }

    #[test]
    fn what_fails_is_told_and_searched_for_again() {
        let all = questions(3);
        let refs: Vec<_> = all.iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("r.jsonl");
        let failing = |q: &Question| if q.id == "E-VQA_1" { Err("no picture".to_owned()) } else { search(q) };
        let found = run(&refs, (&log, &json!(1)), OPTIONS, failing, GO).unwrap();
        assert_eq!((found["E-VQA_1"].error.as_deref(), found["E-VQA_1"].article), (Some("no picture"), None));
        let again = run(&refs, (&log, &json!(1)), OPTIONS, search, GO).unwrap();
        assert_eq!((again["E-VQA_1"].error.as_ref(), again["E-VQA_1"].article), (None, Some(2)));
    }
}
