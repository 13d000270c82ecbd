//! What of an article is embedded: the part of a build's options that decides its vectors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Article;

/// Decides the documents of a build. Two builds of one source under one fingerprint and one recipe are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Text side.
    pub embed_text: EmbedText,
    /// Whether the lead picture is embedded.
    pub embed_image: bool,
    /// Where the summary (the first section) is cut, in characters.
    pub summary_chars: usize,
    /// Documents embedded at once. Part of the recipe, since the last bits of an embedding may depend on it.
    pub batch: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self { embed_text: EmbedText::Title, embed_image: true, summary_chars: 500, batch: 32 }
    }
}

/// Text side of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbedText {
    /// `{title}`
    #[serde(rename = "title")]
    Title,
    /// `{title}. {first section}`, the section cut to [`Recipe::summary_chars`].
    #[serde(rename = "title+summary")]
    TitleSummary,
    /// No text.
    #[serde(rename = "none")]
    None,
}

impl FromStr for EmbedText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "title" => Ok(Self::Title),
            "title+summary" => Ok(Self::TitleSummary),
            "none" => Ok(Self::None),
            other => Err(format!("unknown text {other:?}; expected `title`, `title+summary` or `none`")),
        }
    }
}

impl fmt::Display for EmbedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Title => "title",
            Self::TitleSummary => "title+summary",
            Self::None => "none",
        })
    }
}

impl Recipe {
    /// Text side of an article's document; `None` for a recipe without text.
    #[must_use]
    pub fn text(&self, article: &Article) -> Option<String> {
        match self.embed_text {
            EmbedText::None => None,
            EmbedText::Title => Some(article.title.clone()),
            EmbedText::TitleSummary => {
                let summary = article.sections.first().map_or("", |s| s.text.trim());
                let summary: String = summary.chars().take(self.summary_chars).collect();
                let summary = summary.trim_end();
                Some(if summary.is_empty() { article.title.clone() } else { format!("{}. {summary}", article.title) })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::kb::Section;

    fn article(text: &str) -> Article {
        Article {
            url: "https://example.org/scupi".into(),
            title: "Scupi".into(),
            sections: vec![Section { title: "Scupi".into(), text: text.into() }],
            image: None,
        }
    }

    #[test]
    fn the_text_follows_the_recipe_and_is_cut_between_characters() {
        let with = |embed_text, summary_chars| Recipe { embed_text, summary_chars, ..Recipe::default() };
        assert_eq!(with(EmbedText::None, 9).text(&article("x")), None);
        assert_eq!(with(EmbedText::Title, 9).text(&article("x")).unwrap(), "Scupi");
        assert_eq!(with(EmbedText::TitleSummary, 4).text(&article("čđšžα")).unwrap(), "Scupi. čđšž");
        assert_eq!(with(EmbedText::TitleSummary, 4).text(&article("  ")).unwrap(), "Scupi");
    }

    #[test]
    fn names_read_back() {
        for text in [EmbedText::Title, EmbedText::TitleSummary, EmbedText::None] {
            assert_eq!(text.to_string().parse::<EmbedText>().unwrap(), text);
            assert_eq!(serde_json::to_value(text).unwrap(), text.to_string());
        }
        assert!("titel".parse::<EmbedText>().unwrap_err().contains("expected `title`"));
    }
}
