//! Articles of InfoSeek's Wikipedia dump (Chen et al. 2023, `Wiki6M_ver_1_0.jsonl.gz`; fields as UniIR's loader reads
//! them), one JSON object a line.
//!
//! The article's identity is its Wikidata entry, which InfoSeek's and OVEN's questions name. Its picture is where OVEN's
//! `wikipedia_images_full` has it, `Q378/Q3783438.jpg`.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use super::wiki;
use crate::kb::{Article, PictureRef, Section};

pub(super) const SCHEMA: Schema = Schema {
    name: "wiki6m",
    keyed: false,
    expected: "an object with wikidata_id, wikipedia_title, wikipedia_content and wikipedia_summary",
    parse,
};

#[derive(Deserialize)]
struct Row {
    wikidata_id: String,
    wikipedia_title: String,
    #[serde(default)]
    wikipedia_content: Option<String>,
    #[serde(default)]
    wikipedia_summary: Option<String>,
    #[serde(default)]
    wikipedia_image_url: Option<String>,
}

fn parse(_: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let id = row.wikidata_id;
    if id.strip_prefix('Q').is_none_or(|n| n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Fault::Content(format!("wikidata_id is {id:?}; expected `Q` and digits")));
    }
    let title = filled("wikipedia_title", row.wikipedia_title)?;
    let summary = row.wikipedia_summary.unwrap_or_default();
    let summary = summary.trim();
    let content = row.wikipedia_content.unwrap_or_default();
    let content = content.trim();
    let mut sections = Vec::new();
    if !summary.is_empty() {
        sections.push(Section { title: title.clone(), text: summary.to_owned() });
    }
    // Not where the summary ends within a word of the content.
    let rest = content.strip_prefix(summary).filter(|rest| !rest.starts_with(char::is_alphanumeric));
    sections.extend(wiki::sections(&title, rest.unwrap_or(content)));
    let name = format!("{}/{id}.jpg", &id[..id.len().min(4)]);
    let pictures = row.wikipedia_image_url.map(|_| PictureRef { name, ..PictureRef::default() });
    Ok(Article {
        url: format!("https://www.wikidata.org/wiki/{id}"),
        title,
        sections,
        pictures: pictures.into_iter().collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_comes_once_and_the_picture_is_where_oven_has_it() {
        let row = r#"{"wikidata_id":"Q3783438","wikipedia_title":"Harold Keeling","wikipedia_content":"A coach. He won.",
            "wikipedia_image_url":"https://x/y.jpg","wikipedia_summary":"A coach."}"#;
        let article = parse(None, row.as_bytes()).unwrap();
        assert_eq!(article.url, "https://www.wikidata.org/wiki/Q3783438");
        let texts: Vec<&str> = article.sections.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["A coach.", "He won."]);
        assert!(article.sections.iter().all(|s| s.title == "Harold Keeling"));
        let inside = row.replace("A coach.\"", "A coa\"");
        assert_eq!(parse(None, inside.as_bytes()).unwrap().sections[1].text, "A coach. He won.");
        assert_eq!(article.lead_picture(), Some("Q378/Q3783438.jpg"));
        let bare = r#"{"wikidata_id":"Q12","wikipedia_title":"x","wikipedia_content":null,"wikipedia_image_url":null}"#;
        let article = parse(None, bare.as_bytes()).unwrap();
        assert!(article.sections.is_empty() && article.pictures.is_empty());
        let short = bare.replace("_url\":null", "_url\":\"u\"");
        assert_eq!(parse(None, short.as_bytes()).unwrap().lead_picture(), Some("Q12/Q12.jpg"));
        for bad in ["Q", "12", "Q1/../2", "Qé"] {
            assert!(matches!(parse(None, bare.replace("Q12", bad).as_bytes()), Err(Fault::Content(_))), "{bad}");
        }
    }
}
