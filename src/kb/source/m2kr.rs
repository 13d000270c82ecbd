//! Passages of M2KR (Lin et al. 2024) with the pictures that ReT adds (Caffagni et al. 2025, `aimagelab/ReT-M2KR`,
//! `{name}_passages_test.jsonl`): passage_id, passage_text, passage_image_path, one JSON object a line.
//!
//! One passage is one article, known by its id, so that recall can be counted over ids. Its text is kept as it is
//! written, `title: … content: …` and all, since that is what the published retrievers were given.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use super::names::first_words;
use crate::kb::{Article, PictureRef, Section};

pub(super) const SCHEMA: Schema = Schema {
    name: "m2kr",
    keyed: false,
    expected: "an object with passage_id, passage_text and passage_image_path",
    parse,
};

#[derive(Deserialize)]
struct Row {
    passage_id: Id,
    #[serde(alias = "passage_content")]
    passage_text: String,
    #[serde(default)]
    passage_image_path: Option<String>,
}

/// Ids of some parts are numbers; they are compared as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

fn parse(_: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let id = match row.passage_id {
        Id::Text(id) => id,
        Id::Number(id) => id.to_string(),
    };
    article(id, row.passage_text, row.passage_image_path)
}

/// The article of one passage.
pub(super) fn article(id: String, text: String, image: Option<String>) -> Result<Article, Fault> {
    let title = title_in(&text).or_else(|| title_of(&id)).unwrap_or_else(|| first_words(&text));
    let pictures = image.filter(|name| !name.is_empty()).map(|name| PictureRef { name, ..PictureRef::default() });
    let text = filled("passage_text", text)?;
    Ok(Article {
        url: filled("passage_id", id)?,
        sections: vec![Section { title: title.clone(), text }],
        title,
        pictures: pictures.into_iter().collect(),
    })
}

/// `X` of `title: X content: Y`.
fn title_in(text: &str) -> Option<String> {
    let (title, _) = text.trim_start().strip_prefix("title:")?.split_once(" content:")?;
    let title = title.trim();
    (!title.is_empty()).then(|| title.to_owned())
}

/// `X` of `WikiWeb_X_12`.
fn title_of(id: &str) -> Option<String> {
    let (title, number) = id.strip_prefix("WikiWeb_")?.rsplit_once('_')?;
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let title = title.replace('_', " ");
    (numbered && !title.trim().is_empty()).then(|| title.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_is_an_article_with_the_best_title_there_is() {
        let parsed = |row: &str| parse(None, row.as_bytes()).unwrap();
        let row = r#"{"passage_id":"WikiWeb_Scupi_2","passage_text":"title: Scupi (city) content: Old.","passage_image_path":"i/a.jpg"}"#;
        let article = parsed(row);
        assert_eq!((article.url.as_str(), article.title.as_str()), ("WikiWeb_Scupi_2", "Scupi (city)"));
        assert_eq!(article.sections[0].text, "title: Scupi (city) content: Old.");
        assert_eq!(article.lead_picture(), Some("i/a.jpg"));
        assert_eq!(parsed(&row.replace("title: Scupi (city) content: ", "")).title, "Scupi");
        let plain = parsed(r#"{"passage_id":7,"passage_content":"one two three four five six seven eight nine"}"#);
        assert_eq!((plain.url.as_str(), plain.title.as_str()), ("7", "one two three four five six seven eight…"));
        assert_eq!(title_of("WikiWeb_Edificio_España_0").unwrap(), "Edificio España");
        assert_eq!(title_of("WikiWeb_x_y"), None);
        assert!(parse(None, br#"{"passage_id":"a","passage_text":" "}"#).is_err());
    }
}
