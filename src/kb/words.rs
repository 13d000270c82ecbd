//! What articles and their parts are found by in a ranking of words.

use super::Article;
use super::store::Part;

/// Words of a whole article: its title, headings and texts.
#[must_use]
pub fn words_of(article: &Article) -> String {
    let mut words = article.title.clone();
    for section in &article.sections {
        for text in [&section.title, &section.text] {
            words.push(' ');
            words.push_str(text);
        }
    }
    words
}

/// Words of a part: the title with its heading, caption and text.
#[must_use]
pub fn words_of_part(article: &Article, part: &Part) -> String {
    let section = article.sections.get(part.section);
    let caption = part.picture.and_then(|n| article.pictures.get(n)).map_or("", |picture| &picture.caption);
    let (heading, text) = section.map_or(("", ""), |section| (&section.title, &section.text));
    [&article.title, heading, caption, text].join(" ")
}
