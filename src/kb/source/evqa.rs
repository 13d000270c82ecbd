//! Articles in the schema of Encyclopedic-VQA (Mensink et al. 2023, section 3; `encyclopedic_kb_wiki.json` as its
//! README describes it), with our own optional `image`: a picture relative to the file's folder, put first.
//!
//! The official file is one object of 2 million entries under their URLs; others made of it have an entry a line, under
//! its URL (mKG-RAG) or without one. EchoSight's 100 K articles for InfoSeek (`wiki_100_dict_v4.json`) have this schema
//! too. `section_titles` and `section_texts` are parallel, and so are the three lists of pictures; of those the later
//! ones may be shorter or hold nulls.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use crate::kb::{Article, PictureRef, Section};

pub(super) const SCHEMA: Schema = Schema {
    name: "evqa",
    keyed: true,
    expected: "an object with title, url, section_titles and section_texts",
    parse,
};

#[derive(Deserialize)]
struct Row {
    title: String,
    #[serde(default)]
    url: Option<String>,
    section_titles: Vec<Option<String>>,
    section_texts: Vec<Option<String>>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    image_urls: Option<Vec<Option<String>>>,
    #[serde(default)]
    image_reference_descriptions: Option<Vec<Option<String>>>,
    #[serde(default)]
    image_section_indices: Option<Vec<Option<i64>>>,
}

fn parse(key: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let (titles, texts) = (row.section_titles.len(), row.section_texts.len());
    if titles != texts {
        let reason = format!("{titles} section_titles but {texts} section_texts; expected as many");
        return Err(Fault::Content(reason));
    }
    let url = row.url.or_else(|| key.map(str::to_owned));
    let url = url.ok_or_else(|| Fault::Content("missing field `url`, and it stands under none".to_owned()))?;
    let mut captions = row.image_reference_descriptions.unwrap_or_default().into_iter();
    let mut places = row.image_section_indices.unwrap_or_default().into_iter();
    let mut pictures: Vec<PictureRef> = Vec::new();
    for name in row.image_urls.unwrap_or_default() {
        let caption = captions.next().flatten().unwrap_or_default();
        let section = places.next().flatten().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < titles);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            pictures.push(PictureRef { name, caption, section: section.unwrap_or(0) });
        }
    }
    if let Some(name) = row.image.filter(|name| !name.is_empty()) {
        // Where it is one of the others it brings its caption.
        let known = pictures.iter().position(|picture| picture.name == name);
        let lead = known.map_or_else(|| PictureRef { name, ..PictureRef::default() }, |at| pictures.remove(at));
        pictures.insert(0, lead);
    }
    let sections = row.section_titles.into_iter().zip(row.section_texts);
    let section = |(title, text): (Option<String>, Option<String>)| Section {
        title: title.unwrap_or_default(),
        text: text.unwrap_or_default(),
    };
    Ok(Article {
        url: filled("url", url)?,
        title: filled("title", row.title)?,
        sections: sections.map(section).collect(),
        pictures,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn reason(record: &str) -> String {
        match parse(None, record.as_bytes()).unwrap_err() {
            Fault::Json(e) => e.to_string(),
            Fault::Content(reason) => reason,
        }
    }

    #[test]
    fn pictures_have_their_captions_and_sections_and_ours_comes_first() {
        let row = r#"{"title":"Scupi","section_titles":["Scupi","History"],"section_texts":["A site.",null],
            "image_urls":["https://x/a.jpg","https://x/b.jpg",null,"images/scupi.png"],
            "image_reference_descriptions":["Theatre",null,"lost","Walls"],"image_section_indices":[1,9],
            "image":"images/scupi.png"}"#;
        let article = parse(Some("https://en.wikipedia.org/wiki/Scupi"), row.as_bytes()).unwrap();
        assert_eq!(article.url, "https://en.wikipedia.org/wiki/Scupi");
        let picture =
            |name: &str, caption: &str, section| PictureRef { name: name.into(), caption: caption.into(), section };
        let expected = [
            picture("images/scupi.png", "Walls", 0),
            picture("https://x/a.jpg", "Theatre", 1),
            picture("https://x/b.jpg", "", 0),
        ];
        assert_eq!(article.pictures, expected);
        assert_eq!(article.sections[1], Section { title: "History".into(), text: String::new() });
        let own = row.replace("\"title\"", "\"url\":\"https://own\",\"title\"");
        assert_eq!(parse(Some("https://key"), own.as_bytes()).unwrap().url, "https://own");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let good = r#"{"title":"a","url":"u","section_titles":["a"],"section_texts":["b"]}"#;
        assert_eq!(parse(None, good.as_bytes()).unwrap().lead_picture(), None);
        assert!(reason(&good.replace("[\"b\"]", "[]")).contains("1 section_titles but 0 section_texts"));
        assert!(reason(&good.replace("\"url\":\"u\",", "")).contains("missing field `url`"));
        assert!(reason(&good.replace("\"u\"", "\" \"")).contains("`url` is empty"));
        assert!(reason(&good.replace("section_titles", "headings")).contains("missing field `section_titles`"));
    }
}
