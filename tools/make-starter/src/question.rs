//! Questions about a picture, made from the facts of the article, in the forms of the two benchmarks.

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::article::{Answer, Article, Fact, Kind};
use crate::country::Country;
use crate::text::{fold, words};

/// Facts that every entity is asked; of the others, `ROTATED` each, taken in turn.
const ALWAYS: [Kind; 5] = [Kind::Capital, Kind::Currency, Kind::Languages, Kind::Borders, Kind::IndependenceYear];
const POOL: [Kind; 9] = [
    Kind::HighestPoint,
    Kind::Domain,
    Kind::Anthem,
    Kind::Demonym,
    Kind::OfficialName,
    Kind::Government,
    Kind::Symbol,
    Kind::Calling,
    Kind::IndependenceFrom,
];
const ROTATED: usize = 4;

/// A row in the column order of Encyclopedic-VQA.
#[derive(Debug, Serialize)]
pub struct Row {
    pub wikipedia_title: String,
    pub wikipedia_url: String,
    pub question_original: String,
    pub question: String,
    pub question_type: &'static str,
    pub answer: String,
    pub evidence: String,
    pub evidence_section_id: usize,
    pub evidence_section_title: String,
    pub dataset_name: &'static str,
    pub dataset_category_id: u32,
    pub wikipedia_url_used_in_train: &'static str,
    pub encyclopedic_vqa_split: &'static str,
    pub dataset_image_ids: String,
}

/// One question in InfoSeek's three files.
#[derive(Debug)]
pub struct Seek {
    pub question: Value,
    pub kind: Value,
    pub entity: Value,
}

/// What is asked, with `{x}` for the entity. Several forms are taken in turn; `all` stands where the answer is a list.
fn forms(kind: Kind, all: bool) -> &'static [&'static str] {
    match (kind, all) {
        (Kind::Capital, false) => &["What is the capital of {x}?", "Which city is the capital of {x}?", "Name the capital city of {x}."],
        (Kind::Capital, true) => &["Which cities are the capitals of {x}?", "What are the capitals of {x}?"],
        (Kind::Currency, false) => &["What is the currency of {x}?", "Which currency is used in {x}?", "What money do people pay with in {x}?"],
        (Kind::Currency, true) => &["Which currencies are used in {x}?", "What are the currencies of {x}?"],
        (Kind::Languages, false) => &["What is the main or official language of {x}?", "Which language is the official one in {x}?", "What language do people mainly speak in {x}?"],
        (Kind::Languages, true) => &["What are the official languages of {x}?", "Which languages are official in {x}?"],
        (Kind::Borders, false) => &["Which is the only neighbour of {x} by land?", "With which one does {x} share its only land border?"],
        (Kind::Borders, true) => &["Which countries border {x}?", "With which countries does {x} share a land border?", "What are the neighbours of {x} by land?"],
        (Kind::IndependenceYear, _) => &["In what year did {x} become independent?", "When did {x} gain independence?", "In which year was the independence of {x}?"],
        (Kind::IndependenceFrom, _) => &["From which state did {x} become independent?", "Whom did {x} gain independence from?"],
        (Kind::HighestPoint, _) => &["What is the highest point of {x}?", "What is the name of the highest place in {x}?"],
        (Kind::Domain, _) => &["What is the internet domain of {x}?", "Which internet top-level domain belongs to {x}?"],
        (Kind::Calling, _) => &["What is the telephone calling code of {x}?", "Which code do you dial first to telephone {x} from abroad?"],
        (Kind::Anthem, _) => &["What is the national anthem of {x}?", "Which song is the national anthem of {x}?"],
        (Kind::Demonym, _) => &["What is a person from {x} called?", "What do you call someone from {x}?"],
        (Kind::OfficialName, _) => &["What is the official name of {x}?", "What is {x} officially called?"],
        (Kind::Government, _) => &["What form of government does {x} have?", "What is the form of government of {x}?"],
        (Kind::Symbol, false) => &["What is the national symbol of {x}?", "Which thing is the national symbol of {x}?"],
        (Kind::Symbol, true) => &["What are the national symbols of {x}?", "Which things are the national symbols of {x}?"],
        (Kind::Area, _) => &["What is the area of {x} in square kilometres?", "How large is {x} in square kilometres?", "How many square kilometres does {x} cover?"],
        (Kind::Population, _) => &["What is the population of {x}?", "How many people live in {x}?", "How many inhabitants does {x} have?"],
        (Kind::Elevation, _) => &["How high is the highest point of {x} in metres?", "What is the elevation in metres of the highest point of {x}?"],
    }
}

fn places(noun: &str) -> [String; 4] {
    [
        format!("this {noun}"),
        format!("the {noun} with this flag"),
        format!("the {noun} whose flag is shown"),
        format!("the {noun} this flag belongs to"),
    ]
}

/// A choice that is spread over entities and kinds, and the same in every run.
fn turn(index: usize, kind: Kind, salt: usize, of: usize) -> usize {
    (index * 7 + kind as usize * 5 + index / 4 + salt * 3) % of
}

/// Rows of Encyclopedic-VQA for one entity.
pub fn rows(index: usize, c: &Country, article: &Article, style: &str) -> Result<Vec<Row>> {
    let find = |kind: &Kind| article.facts.iter().find(|f| f.kind == *kind);
    let mut chosen: Vec<&Fact> = ALWAYS.iter().filter_map(find).collect();
    let pool: Vec<&Fact> = POOL.iter().filter_map(find).collect();
    for i in 0..ROTATED.min(pool.len()) {
        chosen.push(pool[(index * 2 + i) % pool.len()]);
    }
    let mut out = Vec::new();
    for fact in chosen {
        let all = matches!(fact.answer, Answer::All(_));
        let forms = forms(fact.kind, all);
        let form = forms[turn(index, fact.kind, 0, forms.len())];
        let place = places(c.noun());
        let question = form.replace("{x}", &place[turn(index, fact.kind, 1, place.len())]);
        let (question_type, original) = match fact.kind {
            _ if all => ("multi_answer", form.replace("{x}", &c.title)),
            Kind::Capital | Kind::Currency | Kind::Languages | Kind::Domain | Kind::IndependenceYear => {
                ("templated", question.clone())
            }
            _ => ("automatic", form.replace("{x}", &c.title)),
        };
        check(c, article, fact, &question)?;
        out.push(Row {
            wikipedia_title: c.title.clone(),
            wikipedia_url: c.url.clone(),
            question_original: original,
            question,
            question_type,
            answer: references(&fact.answer),
            evidence: fact.sentence.clone(),
            evidence_section_id: fact.section,
            evidence_section_title: article.sections[fact.section].title.clone(),
            dataset_name: "starter",
            dataset_category_id: c.numeric,
            wikipedia_url_used_in_train: "False",
            encyclopedic_vqa_split: "test",
            dataset_image_ids: format!("{style}/{}", c.code),
        });
    }
    Ok(out)
}

/// `a|b` for alternatives; for lists `x&&y|y&&x`, and a third reference where the scorer, which splits a candidate at
/// "and", would otherwise cut a name in two.
fn references(answer: &Answer) -> String {
    match answer {
        Answer::One(names) => names.join("|"),
        Answer::Number(_, shown) => shown.clone(),
        Answer::All(items) => {
            let mut references = vec![items.join("&&")];
            references.push(items.iter().rev().cloned().collect::<Vec<_>>().join("&&"));
            if items.iter().any(|i| i.contains(" and ")) {
                references.push(items.join("&&").replace(" and ", "&&"));
            }
            references.join("|")
        }
    }
}

/// InfoSeek's facts for one entity. `next` is the number of the next question.
pub fn seeks(next: &mut usize, index: usize, c: &Country, article: &Article, style: &str) -> Result<Vec<Seek>> {
    const KINDS: [Kind; 6] =
        [Kind::Area, Kind::Population, Kind::Elevation, Kind::IndependenceYear, Kind::Capital, Kind::Currency];
    let split = if index.is_multiple_of(2) { "val_unseen_entity" } else { "val_unseen_question" };
    let mut out = Vec::new();
    for kind in KINDS {
        let Some(fact) = article.facts.iter().find(|f| f.kind == kind) else { continue };
        let (answer, eval, name) = match &fact.answer {
            Answer::Number(value, shown) => {
                let round = |v: f64| (v * 100.0).round() / 100.0;
                let eval = json!([{"wikidata": value, "range": [round(value * 0.9), round(value * 1.1)]}]);
                (json!([shown.replace(',', "")]), eval, "Numerical")
            }
            Answer::One(names) => {
                let name = if kind == Kind::IndependenceYear { "Time" } else { "String" };
                (json!([names[0]]), json!(names), name)
            }
            Answer::All(_) => continue,
        };
        let forms = forms(kind, false);
        let place = places(c.noun());
        let question = forms[turn(index, kind, 2, forms.len())].replace("{x}", &place[turn(index, kind, 3, place.len())]);
        check(c, article, fact, &question)?;
        let id = format!("starter_val_{next:08}");
        *next += 1;
        out.push(Seek {
            question: json!({
                "data_id": id, "image_id": format!("{style}/{}", c.code), "question": question,
                "answer": answer, "answer_eval": eval, "data_split": split,
            }),
            kind: json!({"data_id": id, "question_type": name}),
            entity: json!({"data_id": id, "entity_id": c.url, "entity_text": c.title}),
        });
    }
    Ok(out)
}

/// The question must not name the entity, and its section must state the answer.
fn check(c: &Country, article: &Article, fact: &Fact, question: &str) -> Result<()> {
    let section = &article.sections[fact.section];
    ensure!(section.title != "Flag", "{}: a question rests on the flag's description", c.code);
    ensure!(!fold(question).contains(&fold(&c.title)), "{}: the question names the entity: {question}", c.code);
    ensure!(section.text.contains(&fact.sentence), "{}: {:?} has lost its sentence", c.code, section.title);
    let text = format!(" {} ", fold(&section.text));
    let stated = |answer: &str| text.contains(&format!(" {} ", fold(answer))) && !fold(answer).is_empty();
    match &fact.answer {
        Answer::One(names) | Answer::All(names) => {
            for name in names {
                ensure!(stated(name), "{}: {:?} does not state {name:?}: {}", c.code, section.title, section.text);
                ensure!(!name.contains(['|', '\n']) && !name.contains("&&"), "{}: {name:?} cannot be an answer", c.code);
                ensure!(words(name) <= 20, "{}: {name:?} is too long an answer", c.code);
            }
        }
        Answer::Number(_, shown) => ensure!(section.text.contains(shown), "{}: no {shown} in {:?}", c.code, section.title),
    }
    Ok(())
}
