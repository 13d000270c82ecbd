//! Candidates of M-BEIR (Wei et al. 2024, UniIR; `cand_pool/**/mbeir_*_cand_pool.jsonl`): did, txt, img_path, modality
//! and src_content, one JSON object a line. A candidate has a text, a picture, or both.
//!
//! One candidate is one article, known by its `did`. Pictures are named as in the pool, `mbeir_images/…`, and lie below
//! the data set's folder.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use super::names::{first_words, spoken_stem};
use crate::kb::{Article, PictureRef, Section};

pub(super) const SCHEMA: Schema =
    Schema { name: "mbeir", keyed: false, expected: "an object with did, txt, img_path and modality", parse };

/// Longest first sentence that is taken for a title, bytes.
const LONGEST_TITLE: usize = 100;

#[derive(Deserialize)]
struct Row {
    did: String,
    #[serde(default)]
    txt: Option<String>,
    #[serde(default)]
    img_path: Option<String>,
}

fn parse(_: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let text = row.txt.filter(|text| !text.trim().is_empty());
    let image = row.img_path.filter(|path| !path.trim().is_empty());
    let title = match (&text, &image) {
        (Some(text), _) => title_in(text),
        (None, Some(image)) => spoken_stem(image),
        (None, None) => return Err(Fault::Content("neither txt nor img_path; expected one or both".to_owned())),
    };
    Ok(Article {
        url: filled("did", row.did)?,
        sections: text.map(|text| Section { title: title.clone(), text }).into_iter().collect(),
        title,
        pictures: image.map(|name| PictureRef { name, ..PictureRef::default() }).into_iter().collect(),
    })
}

/// Texts of encyclopedias are written as `{title}. {text}`; of others the first words serve.
fn title_in(text: &str) -> String {
    match text.trim().split_once(". ") {
        Some((title, _)) if !title.trim().is_empty() && title.len() <= LONGEST_TITLE => title.trim().to_owned(),
        _ => first_words(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn text_and_picture_may_each_be_missing_but_not_both() {
        let row = r#"{"did":"6:5001","txt":"Scupi. A site.","img_path":"mbeir_images/a_b-c.jpg","modality":"image,text","src_content":"{}"}"#;
        let both = parse(None, row.as_bytes()).unwrap();
        assert_eq!((both.url.as_str(), both.title.as_str()), ("6:5001", "Scupi"));
        assert_eq!(both.sections[0].text, "Scupi. A site.");
        let picture = parse(None, row.replace("\"Scupi. A site.\"", "null").as_bytes()).unwrap();
        assert_eq!((picture.title.as_str(), picture.sections.len()), ("a b c", 0));
        assert_eq!(picture.lead_picture(), Some("mbeir_images/a_b-c.jpg"));
        assert!(parse(None, br#"{"did":"1:1","txt":null,"img_path":null}"#).is_err());
        assert_eq!(title_in("no stop here"), "no stop here");
    }
}
