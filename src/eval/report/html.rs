//! A report as one page that needs nothing else: tables, plots, and the questions to look through.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::{Inputs, Report, Row, Table, plot};
use crate::eval::Question;
use crate::eval::answers::{Mode, sample};
use crate::eval::metric::{EVQA_EXACT, INFOSEEK_HARMONIC, NONE};
use crate::eval::verdict::{Cause, Gold, Scored};

pub(super) const PAGE: &str = include_str!("page.html");

/// Candidates of a question that the page shows.
const CANDIDATES: usize = 5;

/// Longest passage that the page shows, characters.
const PASSAGE: usize = 3000;

/// Seed of the questions that are shown where there are too many.
const SEED: u64 = 1;

/// The pictures of the questions, small, and how many questions are shown.
pub struct Thumbnails<'a> {
    /// Most questions that the page holds; beyond, a part in which each type has its share.
    pub questions: usize,
    /// A small JPEG of a question's picture; `None` where there is none.
    pub jpeg: &'a dyn Fn(&Question) -> Option<Vec<u8>>,
}

/// The questions that a page of at most `n` holds.
#[must_use]
pub fn page_sample(questions: &[Question], n: usize) -> Vec<&Question> {
    sample(questions, n, SEED)
}

/// Text in HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What the page's script reads.
#[derive(Serialize)]
struct Data<'a> {
    modes: Vec<&'static str>,
    metric: &'a str,
    pictures: BTreeMap<&'a str, String>,
    questions: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    kind: &'static str,
    text: &'a str,
    references: Vec<String>,
    gold: Vec<&'a str>,
    picture: Option<&'a str>,
    candidates: Vec<Found<'a>>,
    answers: BTreeMap<&'static str, Said<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    title: &'a str,
    url: &'a str,
    score: f32,
    gold: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    answer: &'a str,
    verdict: &'static str,
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passages: Vec<Read<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

#[derive(Serialize)]
struct Read<'a> {
    title: &'a str,
    section: &'a str,
    text: &'a str,
    gold: bool,
}

/// The page.
pub(super) fn page(report: &Report, inputs: &Inputs, thumbnails: &Thumbnails) -> String {
    let metric = metric(inputs);
    let shown = page_sample(inputs.folder.questions(), thumbnails.questions);
    let data = serde_json::to_string(&data(inputs, metric, &shown, thumbnails)).unwrap_or_else(|_| "{}".to_owned());
    let mut summary = summary(report, metric);
    if shown.len() < report.questions {
        let text = format!("{} of {} questions are shown below, each kind by its share", shown.len(), report.questions);
        let _ = writeln!(summary, "<p class=\"note\">{text}</p>");
    }
    let tables: String = report.tables.iter().map(table).collect();
    let parts = [
        ("{{title}}", escaped(&report.title)),
        ("{{summary}}", summary),
        ("{{tables}}", tables),
        ("{{plots}}", plots(report, metric)),
        // Nothing in it can end the script's element.
        ("{{data}}", data.replace('<', "\\u003c")),
    ];
    fill(PAGE, &parts)
}

/// Puts each part in its place; what stands in a part is not a place.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(template.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut rest = template;
    while let Some((at, name, text)) =
        parts.iter().filter_map(|(name, text)| Some((rest.find(name)?, *name, text))).min_by_key(|(at, ..)| *at)
    {
        out.push_str(&rest[..at]);
        out.push_str(text);
        rest = &rest[at + name.len()..];
    }
    out.push_str(rest);
    out
}

fn metric<'a>(inputs: &Inputs<'a>) -> &'a str {
    inputs.asked.iter().map(|(_, s)| s.metric).find(|metric| *metric != NONE).unwrap_or(NONE)
}

fn data<'a>(inputs: &Inputs<'a>, metric: &'a str, shown: &[&'a Question], thumbnails: &Thumbnails) -> Data<'a> {
    let wanted: HashSet<&str> = shown.iter().map(|q| q.id.as_str()).collect();
    let mut by_question: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    let mut modes: Vec<Mode> = Vec::new();
    for (question, scored) in inputs.asked {
        if wanted.contains(question.id.as_str()) {
            by_question.entry(&question.id).or_default().push(scored);
        }
        if !modes.contains(&scored.outcome.mode) {
            modes.push(scored.outcome.mode);
        }
    }
    let mut pictures: BTreeMap<&str, String> = BTreeMap::new();
    let mut questions = Vec::with_capacity(shown.len());
    for question in shown.iter().copied() {
        let picture = question.image_ids.first().map(String::as_str).filter(|_| question.picture.is_some());
        if let Some(id) = picture.filter(|id| !pictures.contains_key(id))
            && let Some(jpeg) = (thumbnails.jpeg)(question)
        {
            pictures.insert(id, format!("data:image/jpeg;base64,{}", STANDARD.encode(&jpeg)));
        }
        let gold = Gold::of(question);
        let found = inputs.retrievals.get(&question.id).map_or(&[][..], |found| &found.first);
        let mut seen = HashSet::new();
        let found = found.iter().filter(|candidate| seen.insert(candidate.url.as_str())).take(CANDIDATES);
        let candidates = found.map(|candidate| Found {
            title: &candidate.title,
            url: &candidate.url,
            score: candidate.score,
            gold: gold.is_article(&candidate.url),
        });
        let of_question = by_question.get(question.id.as_str()).map_or(&[][..], Vec::as_slice);
        let answers =
            of_question.iter().map(|scored| (scored.outcome.mode.name(), said(scored, &gold, inputs.times))).collect();
        questions.push(Shown {
            id: &question.id,
            kind: question.kind.name(),
            text: &question.text,
            references: question.references(),
            gold: question
                .titles
                .iter()
                .chain(&question.urls)
                .take(question.urls.len().max(1))
                .map(String::as_str)
                .collect(),
            picture: picture.filter(|id| pictures.contains_key(id)),
            candidates: candidates.collect(),
            answers,
        });
    }
    Data { modes: modes.into_iter().map(Mode::name).collect(), metric, pictures, questions }
}

fn said<'a>(scored: &'a Scored, gold: &Gold, times: bool) -> Said<'a> {
    let (outcome, cause) = (&scored.outcome, scored.cause());
    let reply = outcome.reply.as_ref();
    let verdict = match cause {
        Cause::Right => "right",
        Cause::EntityMissed | Cause::SectionMissed | Cause::ReaderWrong | Cause::Wrong => "wrong",
        Cause::Abstained => "abstained",
        Cause::Failed => "failed",
        Cause::Unscored => "unscored",
    };
    let passages = reply.map_or(&[][..], |reply| &reply.passages);
    let entity = passages.iter().find(|p| Some(&p.url) == reply.and_then(|reply| reply.entity.as_ref()));
    Said {
        answer: reply.map_or("", |reply| &reply.answer),
        verdict,
        cause: cause.name(),
        entity: entity.map(|p| p.title.as_str()).or_else(|| reply.and_then(|reply| reply.entity.as_deref())),
        passages: passages
            .iter()
            .map(|p| Read {
                title: &p.title,
                section: &p.section,
                text: p.text.char_indices().nth(PASSAGE).map_or(&*p.text, |(at, _)| &p.text[..at]),
                gold: gold.is_section(&p.url, p.section_index),
            })
            .collect(),
        seconds: times.then(|| (outcome.seconds * 1000.0).round() / 1000.0),
        note: outcome.error.as_deref().or_else(|| reply.and_then(|reply| reply.abstained.as_deref())),
    }
}

fn summary(report: &Report, metric: &str) -> String {
    let mut out = String::from("<dl class=\"headline\">\n");
    let all = |row: &&Row| row.name.ends_with(", all") && row.metric == metric;
    let shares = report.tables.iter().flat_map(|table| &table.rows).filter(all);
    let recall = report.tables.iter().flat_map(|t| &t.rows).filter(|row| row.metric == "R@1" || row.metric == "R@5");
    // What a benchmark is ranked by comes first.
    let ranked = report.tables.iter().flat_map(|t| &t.rows).filter(|row| row.metric == INFOSEEK_HARMONIC);
    for row in ranked.chain(shares).chain(recall).take(6) {
        let within = row.bootstrap.map_or_else(String::new, |i| {
            format!("<small>{:.1} to {:.1} %, {} questions</small>", i.low * 100.0, i.high * 100.0, row.n)
        });
        let name = row.name.strip_suffix(", all").unwrap_or(&row.name);
        let label = match &*row.metric {
            of if of == metric => name.to_owned(),
            INFOSEEK_HARMONIC => format!("{name}, harmonic mean"),
            of => of.to_owned(),
        };
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{:.1} %{within}</dd></div>", escaped(&label), row.value * 100.0);
    }
    out.push_str("</dl>\n<dl class=\"facts\">\n");
    for (key, value) in facts(report, metric) {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(&key), escaped(&value));
    }
    out.push_str("</dl>\n");
    for (mode, score) in &report.infoseek {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escaped(&super::official(*mode, score)));
    }
    for note in &report.notes {
        let warns = !note.starts_with("95 %") && !note.contains("as in most publications");
        let _ = writeln!(out, "<p class=\"note{}\">{}</p>", if warns { " warn" } else { "" }, escaped(note));
    }
    out
}

/// What the numbers are of.
fn facts(report: &Report, metric: &str) -> Vec<(String, String)> {
    let run = &report.manifest.run;
    let named = |part: &str| {
        let name = run[part]["name"].as_str().or_else(|| run[part]["model"].as_str())?;
        let fingerprint = run[part]["fingerprint"].as_str().unwrap_or_default();
        let short: String = fingerprint.chars().take(12).collect();
        Some(if short.is_empty() { name.to_owned() } else { format!("{name} ({short})") })
    };
    let data = format!("{}, {}", report.manifest.data.name, of_hash(&run["data"]["hash"]));
    let mut facts = vec![("Data".to_owned(), data)];
    if metric != NONE {
        facts.push(("Metric".to_owned(), metric.to_owned()));
    }
    for (key, part) in [
        ("Knowledge base", "knowledge_base"),
        ("Retriever", "retriever"),
        ("Section ranker", "ranker"),
        ("Reader", "reader"),
        ("System", "system"),
    ] {
        facts.extend(named(part).map(|value| (key.to_owned(), value)));
    }
    facts.push(("Questions".to_owned(), format!("{} of {}", report.questions, report.manifest.data.usable)));
    if let Some(bem) = report.bem.as_ref().filter(|_| metric != EVQA_EXACT) {
        facts.push((
            "BEM".to_owned(),
            format!("{} ({})", bem.model, bem.fingerprint.chars().take(12).collect::<String>()),
        ));
    }
    facts.push(("Program".to_owned(), format!("Cicerone {}", report.manifest.program_version)));
    facts
}

fn of_hash(hash: &Value) -> String {
    hash.as_str().map_or_else(String::new, |hash| hash.chars().take(12).collect())
}

fn table(table: &Table) -> String {
    let mut out = format!(
        "<figure><figcaption><b>{title}</b></figcaption><div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"{title}\"><table>\n<thead><tr>",
        title = escaped(&table.title)
    );
    let cells = table.cells();
    for (n, cell) in cells[0].iter().enumerate() {
        let class = if n < 2 { "" } else { " class=\"num\"" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escaped(cell));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &cells[1..] {
        let total = if row[0].ends_with(", all") { " class=\"total\"" } else { "" };
        let _ = write!(out, "<tr{total}><th scope=\"row\">{}</th>", escaped(&row[0]));
        for (n, cell) in row.iter().enumerate().skip(1) {
            let class = [None, Some("num"), Some("num ci"), Some("num ci"), Some("num")][n - 1];
            let class = class.map_or_else(String::new, |class| format!(" class=\"{class}\""));
            let _ = write!(out, "<td{class}>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>");
    for note in &table.notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escaped(note));
    }
    out.push_str("</figure>\n");
    out
}

fn plots(report: &Report, metric: &str) -> String {
    let by_title = |title: &str| report.tables.iter().find(|table| table.title == title);
    let answers = by_title("Right answers").and_then(|table| plot::answers(table, metric));
    let recall = by_title("Retrieval").and_then(plot::recall);
    let causes = by_title("What became of the questions").and_then(plot::causes);
    let figure = |(svg, caption, class): (String, &str, &str)| {
        format!(
            "<figure class=\"plot{class}\"><figcaption>{caption}</figcaption><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">{svg}</div></figure>\n"
        )
    };
    [
        answers.map(|svg| (svg, "Right answers, with 95 % intervals", "")),
        recall.map(|svg| (svg, "Recall over the number of candidates", "")),
        causes.map(|svg| (svg, "What became of the questions", " wide")),
    ]
    .into_iter()
    .flatten()
    .map(figure)
    .collect()
}
