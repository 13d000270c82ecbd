//! What a knowledge base holds: articles, each with its sections and pictures.

use serde::{Deserialize, Serialize};

/// One entity's article, in the shape that every reader of a source yields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// Identity within its knowledge base: the article's URL.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Sections in the source's order; `evidence_section_id` of Encyclopedic-VQA is an index into this.
    pub sections: Vec<Section>,
    /// Pictures in the source's order, the lead picture first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<PictureRef>,
}

/// One section of an article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Body, plain text; empty for a section that was dropped from a knowledge base but keeps its place.
    pub text: String,
}

/// A picture of an article.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRef {
    /// As a source names it, a path, a URL or an id; in a knowledge base, a path below its directory of pictures.
    pub name: String,
    /// Caption; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caption: String,
    /// Index of the section that it stands in.
    #[serde(default)]
    pub section: usize,
}

impl Article {
    /// Name of the lead picture.
    #[must_use]
    pub fn lead_picture(&self) -> Option<&str> {
        self.pictures.first().map(|picture| picture.name.as_str())
    }
}
