//! What of an article is embedded: the part of a build's options that decides its vectors.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::store::part_key;
use super::{Article, Document};
use crate::io::safe_join;

/// Decides the documents of a build. Two builds of one source under one fingerprint and one recipe are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// What gets an embedding.
    pub unit: EmbedUnit,
    /// Text side.
    pub embed_text: Template,
    /// Whether pictures are embedded.
    pub embed_image: bool,
    /// Where the text of a section is cut for its embedding, in characters.
    pub text_chars: usize,
    /// Headings of sections whose text is left out; letters' case does not count.
    pub drop_sections: Vec<String>,
    /// Documents embedded at once. Part of the recipe, since the last bits of an embedding may depend on it.
    pub batch: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            unit: EmbedUnit::Article,
            embed_text: Template::title(),
            embed_image: true,
            text_chars: 500,
            drop_sections: Vec::new(),
            batch: 32,
        }
    }
}

/// What gets an embedding of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmbedUnit {
    /// The article: its lead picture, its title and the text of its first section.
    #[default]
    Article,
    /// Each picture, with its caption and the section that it stands in.
    Picture,
    /// Each section, with the first picture that stands in it, or the lead picture.
    Section,
}

impl EmbedUnit {
    /// All by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("article", Self::Article), ("picture", Self::Picture), ("section", Self::Section)];
}

impl FromStr for EmbedUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, unit)| unit);
        found.ok_or_else(|| format!("unknown unit {text:?}; expected article, picture or section"))
    }
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Text side; `None` for a recipe without text.
    pub text: Option<String>,
    /// Index of the picture that is its picture side.
    pub picture: Option<usize>,
    /// Index of the section.
    pub section: usize,
}

impl Recipe {
    /// Empties the sections that are dropped; they keep their places, which questions refer to.
    pub fn drop_from(&self, article: &mut Article) {
        let dropped = |title: &str| {
            let title = title.trim().to_lowercase();
            self.drop_sections.iter().any(|name| name.trim().to_lowercase() == title)
        };
        // The first section carries the article's own title and is its summary.
        for section in article.sections.iter_mut().skip(1).filter(|section| dropped(&section.title)) {
            section.text = String::new();
        }
    }

    /// What of `article` is embedded, its pictures being those that are there; for [`EmbedUnit::Article`] at most one.
    /// What would have neither side is left out.
    #[must_use]
    pub fn units(&self, article: &Article) -> Vec<Unit> {
        let usable = if self.embed_image { article.pictures.len() } else { 0 };
        let lead = (usable > 0).then_some(0);
        let unit = |section, picture| Unit { text: self.text(article, section, picture), picture, section };
        let mut units: Vec<Unit> = match self.unit {
            EmbedUnit::Article => vec![unit(0, lead)],
            EmbedUnit::Picture => (0..usable).map(|n| unit(article.pictures[n].section, Some(n))).collect(),
            EmbedUnit::Section => {
                let own = |section| article.pictures[..usable].iter().position(|p| p.section == section).or(lead);
                let filled = |n: &usize| !article.sections[*n].text.trim().is_empty();
                (0..article.sections.len()).filter(filled).map(|n| unit(n, own(n))).collect()
            }
        };
        units.retain(|unit| unit.text.is_some() || unit.picture.is_some());
        units
    }

    /// The `n`-th unit of `article` as it is embedded, its picture below `pictures`.
    #[must_use]
    pub fn document(&self, article: &Article, n: usize, unit: &Unit, pictures: &Path) -> Document {
        let key = match self.unit {
            EmbedUnit::Article => article.url.clone(),
            _ => part_key(&article.url, n),
        };
        let picture = unit.picture.and_then(|n| article.pictures.get(n));
        let image = picture.and_then(|picture| safe_join(pictures, &picture.name).ok());
        Document { key, text: unit.text.clone(), image }
    }

    fn text(&self, article: &Article, section: usize, picture: Option<usize>) -> Option<String> {
        let section = article.sections.get(section);
        let body = section.map_or("", |s| s.text.trim());
        let body: String = body.chars().take(self.text_chars).collect();
        self.embed_text.fill(|name| match name {
            Field::Title => article.title.trim(),
            Field::Section => section.map_or("", |s| s.title.trim()),
            Field::Text => body.trim_end(),
            Field::Caption => picture.and_then(|n| article.pictures.get(n)).map_or("", |p| p.caption.trim()),
        })
    }
}

/// A text with places for parts of an article: `{title}`, `{section}` (its heading), `{text}` (of the section) and
/// `{caption}` (of the picture). The name of a usual one serves too: `title`, `title+summary` or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    written: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Title,
    Section,
    Text,
    Caption,
}

impl Field {
    const NAMES: [(&'static str, Self); 4] =
        [("title", Self::Title), ("section", Self::Section), ("text", Self::Text), ("caption", Self::Caption)];
}

/// Templates with a name.
const NAMED: [(&str, &str); 3] = [("title", "{title}"), ("title+summary", "{title}. {text}"), ("none", "")];

impl Template {
    /// `{title}`
    #[must_use]
    pub fn title() -> Self {
        Self { written: "title".to_owned(), pieces: vec![Piece::Field(Field::Title)] }
    }

    /// The text, or `None` where nothing but fixed words would stand in it. Fixed words before an empty part are left
    /// out.
    fn fill<'a>(&self, value: impl Fn(Field) -> &'a str) -> Option<String> {
        let (mut text, mut pending, mut any) = (String::new(), "", false);
        for piece in &self.pieces {
            match piece {
                Piece::Text(words) => pending = words,
                Piece::Field(field) => {
                    let value = value(*field);
                    if !value.is_empty() {
                        text.push_str(pending);
                        text.push_str(value);
                        any = true;
                    }
                    pending = "";
                }
            }
        }
        text.push_str(pending);
        any.then(|| text.trim().to_owned())
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let named = NAMED.iter().find(|(name, _)| *name == written).map(|(_, template)| *template);
        let mut rest = named.unwrap_or(written);
        if named.is_none() && !written.contains('{') {
            return Err(format!(
                "unknown text {written:?}; expected `title`, `title+summary`, `none`, or a template such as \"{{title}}. {{section}}: {{text}}\""
            ));
        }
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let Some((words, tail)) = rest.split_once('{') else {
                pieces.push(Piece::Text(rest.to_owned()));
                break;
            };
            if !words.is_empty() {
                pieces.push(Piece::Text(words.to_owned()));
            }
            let (name, tail) = tail.split_once('}').ok_or_else(|| format!("`{{` without `}}` in {written:?}"))?;
            let field = Field::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field);
            let field = field.ok_or_else(|| {
                format!("unknown `{{{name}}}` in {written:?}; expected {{title}}, {{section}}, {{text}} or {{caption}}")
            })?;
            pieces.push(Piece::Field(field));
            rest = tail;
        }
        Ok(Self { written: written.to_owned(), pieces })
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.written
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::kb::{PictureRef, Section};

    fn article() -> Article {
        let section = |title: &str, text: &str| Section { title: title.into(), text: text.into() };
        let picture =
            |name: &str, caption: &str, section| PictureRef { name: name.into(), caption: caption.into(), section };
        Article {
            url: "https://example.org/scupi".into(),
            title: "Scupi".into(),
            sections: vec![section("Scupi", "čđšžα"), section("History", " Old. "), section("See also", "Stobi")],
            pictures: vec![picture("a.png", "", 0), picture("b.png", "Theatre", 1)],
        }
    }

    fn texts(recipe: &Recipe) -> Vec<String> {
        recipe.units(&article()).into_iter().map(|unit| unit.text.unwrap_or_default()).collect()
    }

    #[test]
    fn the_text_follows_the_recipe_and_is_cut_between_characters() {
        let with =
            |text: &str, text_chars| Recipe { embed_text: text.parse().unwrap(), text_chars, ..Recipe::default() };
        assert_eq!(with("none", 9).units(&article())[0], Unit { text: None, picture: Some(0), section: 0 });
        assert_eq!(texts(&with("title", 9)), ["Scupi"]);
        assert_eq!(texts(&with("title+summary", 4)), ["Scupi. čđšž"]);
        let bare = Article { sections: Vec::new(), ..article() };
        assert_eq!(with("title+summary", 4).units(&bare)[0].text.as_deref(), Some("Scupi"));
    }

    #[test]
    fn each_kind_of_unit_is_put_together() {
        let recipe = |unit, text: &str| Recipe { unit, embed_text: text.parse().unwrap(), ..Recipe::default() };
        let sections = recipe(EmbedUnit::Section, "{title}. {section}: {text}");
        assert_eq!(texts(&sections), ["Scupi. Scupi: čđšžα", "Scupi. History: Old.", "Scupi. See also: Stobi"]);
        let pictures: Vec<_> = sections.units(&article()).iter().map(|unit| unit.picture).collect();
        assert_eq!(pictures, [Some(0), Some(1), Some(0)], "its own picture, or the lead");
        let pictures = recipe(EmbedUnit::Picture, "{caption} ({title})");
        assert_eq!(texts(&pictures), ["(Scupi)", "Theatre (Scupi)"]);
        assert_eq!(pictures.units(&article())[1].section, 1);
        let blind = Recipe { embed_image: false, ..pictures };
        assert!(blind.units(&article()).is_empty());
        // A section without a heading would have neither side.
        let headings = Recipe { embed_image: false, ..recipe(EmbedUnit::Section, "{section}") };
        let mut article = article();
        article.sections[1].title.clear();
        let sections: Vec<_> = headings.units(&article).iter().map(|unit| unit.section).collect();
        assert_eq!(sections, [0, 2]);
    }

    #[test]
    fn dropped_sections_keep_their_places() {
        let recipe = Recipe { drop_sections: vec!["SEE ALSO ".into(), "scupi".into()], ..Recipe::default() };
        let mut article = article();
        recipe.drop_from(&mut article);
        let texts: Vec<&str> = article.sections.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["čđšžα", " Old. ", ""]);
        let recipe = Recipe { unit: EmbedUnit::Section, ..recipe };
        assert_eq!(recipe.units(&article).len(), 2);
    }

    #[test]
    fn templates_read_back_and_their_mistakes_are_named() {
        for text in ["title", "title+summary", "none", "{title} | {text}"] {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.to_string().parse::<Template>().unwrap(), template);
            assert_eq!(serde_json::to_value(&template).unwrap(), text);
        }
        let reason = |text: &str| text.parse::<Template>().unwrap_err();
        assert!(reason("titel").contains("expected `title`"));
        assert!(reason("{titel}").contains("unknown `{titel}`"));
        assert!(reason("{title").contains("without `}`"));
    }
}
