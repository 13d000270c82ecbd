//! Cicerone's own format: articles as they are, one JSON object a line, as `schemas/kb-article.json` says.
//!
//! A field that is not known is refused, since a misspelt one would be lost in silence.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use crate::kb::{Article, PictureRef, Section};

pub(super) const SCHEMA: Schema = Schema {
    name: "jsonl",
    keyed: false,
    expected: "an object with url, title, sections and pictures (schemas/kb-article.json)",
    parse,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    url: String,
    title: String,
    sections: Vec<RowSection>,
    #[serde(default)]
    pictures: Vec<RowPicture>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowSection {
    title: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowPicture {
    name: String,
    #[serde(default)]
    caption: String,
    #[serde(default)]
    section: usize,
}

fn parse(_: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let sections: Vec<Section> = row.sections.into_iter().map(|s| Section { title: s.title, text: s.text }).collect();
    let picture = |picture: RowPicture| {
        let RowPicture { name, caption, section } = picture;
        if section > 0 && section >= sections.len() {
            let count = sections.len();
            let reason = format!("picture {name:?} stands in section {section} of {count}; expected less, or none");
            return Err(Fault::Content(reason));
        }
        Ok(PictureRef { name: filled("name", name)?, caption, section })
    };
    let pictures = row.pictures.into_iter().map(picture).collect::<Result<_, _>>()?;
    Ok(Article { url: filled("url", row.url)?, title: filled("title", row.title)?, sections, pictures })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "url": "https://example.org/ruin", "title": "Ruin",
            "sections": [{"title": "Ruin", "text": "It stands."}, {"title": "History", "text": ""}],
            "pictures": [{"name": "a.png", "caption": "Front", "section": 1}, {"name": "b.png"}],
        })
    }

    #[test]
    fn a_row_is_the_article() {
        let article = parse(None, good().to_string().as_bytes()).unwrap();
        assert_eq!(article.sections[1].title, "History");
        let picture = PictureRef { name: "a.png".into(), caption: "Front".into(), section: 1 };
        assert_eq!(article.pictures[0], picture);
        assert_eq!(article.pictures[1].section, 0);
        let Err(Fault::Content(reason)) =
            parse(None, good().to_string().replace("\"section\":1", "\"section\":2").as_bytes())
        else {
            panic!("a picture in no section");
        };
        assert!(reason.contains("\"a.png\" stands in section 2 of 2"), "{reason}");
        let Err(Fault::Json(e)) = parse(None, good().to_string().replace("caption", "captoin").as_bytes()) else {
            panic!("a misspelt field");
        };
        assert!(e.to_string().contains("unknown field `captoin`, expected one of `name`, `caption`"), "{e}");
    }

    #[test]
    fn the_published_schema_and_the_reader_agree() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/kb-article.json");
        let mut schemas = boon::Schemas::new();
        let schema = boon::Compiler::new().compile(path, &mut schemas).unwrap();
        let changed = |pointer: &str, value: Value| {
            let mut row = good();
            match row.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => row[&pointer[1..]] = value,
            }
            row
        };
        let without = |field: &str| {
            let mut row = good();
            row.as_object_mut().unwrap().remove(field);
            row
        };
        let rows = [
            (true, good()),
            (true, without("pictures")),
            (true, json!({"url": "u", "title": "t", "sections": []})),
            (false, without("url")),
            (false, without("title")),
            (false, without("sections")),
            (false, changed("/url", json!(" "))),
            (false, changed("/title", json!(""))),
            (false, changed("/title", json!(null))),
            (false, changed("/pictures", json!(null))),
            (false, changed("/picture", json!([]))),
            (false, changed("/sections/0", json!({"title": "x"}))),
            (false, changed("/pictures/1", json!({"name": "b.png", "alt": "x"}))),
            (false, changed("/sections/0", json!("text"))),
            (false, json!({"url": "u", "title": "t", "sections": [{"title": "a", "text": "b", "level": 2}]})),
            (false, json!({"url": "u", "title": "t", "sections": [], "pictures": [{"name": "\t"}]})),
            (false, json!({"url": "u", "title": "t", "sections": [], "pictures": [{"name": "a", "section": -1}]})),
            (false, json!({"url": "u", "title": "t", "sections": [], "pictures": [{"name": "a", "section": 0.5}]})),
            (false, json!({"url": "u", "title": "t", "sections": [], "pictures": [{"caption": "a"}]})),
            (false, json!([])),
        ];
        for (expected, row) in rows {
            assert_eq!(schemas.validate(&row, schema).is_ok(), expected, "schema: {row}");
            assert_eq!(parse(None, row.to_string().as_bytes()).is_ok(), expected, "reader: {row}");
        }
    }
}
