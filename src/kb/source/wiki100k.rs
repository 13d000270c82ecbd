//! Articles of the InfoSeek knowledge base of Wiki-LLaVA and ReflectiVA (`Wiki100k_ver_1_0-all.json`): one object, the
//! text of each article under its URL.

use serde::Deserialize;

use super::json::{Fault, Schema, filled};
use super::names::percent_decoded;
use super::wiki;
use crate::kb::Article;

pub(super) const SCHEMA: Schema = Schema {
    name: "wiki100k",
    keyed: true,
    expected: "an object with wikipedia_content, under the article's url",
    parse,
};

#[derive(Deserialize)]
struct Row {
    wikipedia_content: String,
    #[serde(default)]
    wikipedia_title: Option<String>,
    #[serde(default, alias = "wikipedia_url")]
    url: Option<String>,
}

fn parse(key: Option<&str>, record: &[u8]) -> Result<Article, Fault> {
    let row: Row = serde_json::from_slice(record)?;
    let url = key.map(str::to_owned).or(row.url);
    let url = url.ok_or_else(|| Fault::Content("it stands under no url, and has none".to_owned()))?;
    let url = filled("url", url)?;
    let title = row.wikipedia_title.filter(|title| !title.trim().is_empty()).unwrap_or_else(|| title_of(&url));
    let sections = wiki::sections(&title, &row.wikipedia_content);
    Ok(Article { title, sections, url, pictures: Vec::new() })
}

/// What the last segment of an article's URL says: `…/wiki/Edificio_Espa%C3%B1a` is `Edificio España`.
fn title_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    let last = path.rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or(url);
    let title = percent_decoded(last).replace('_', " ");
    if title.trim().is_empty() { url.to_owned() } else { title }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_title_is_written_or_that_of_the_url() {
        let url = "https://en.wikipedia.org/wiki/Edificio_Espa%C3%B1a";
        let article = parse(Some(url), br#"{"wikipedia_content":"A tower.\n\nOld."}"#).unwrap();
        assert_eq!((article.url.as_str(), article.title.as_str()), (url, "Edificio España"));
        assert_eq!(article.sections.len(), 1);
        let named = parse(Some(url), br#"{"wikipedia_content":"x","wikipedia_title":"Tower"}"#).unwrap();
        assert_eq!(named.title, "Tower");
        assert!(parse(None, br#"{"wikipedia_content":"x"}"#).is_err());
        assert_eq!(title_of("https://en.wikipedia.org/wiki/100%_a/#History"), "100% a");
        assert_eq!(title_of("a/%+1%zz%"), "%+1%zz%");
    }

    proptest! {
        #[test]
        fn any_url_has_a_title(url in "\\PC{1,20}|(%[0-9A-F+é]{0,2}|/){1,6}") {
            prop_assert!(!title_of(&url).trim().is_empty() || url.trim().is_empty());
        }
    }
}
