//! What a knowledge base holds: articles, each with its sections.

use serde::{Deserialize, Serialize};

/// One entity's article, in the shape that every reader of a source yields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// Identity within its knowledge base: the article's URL.
    pub url: String,
    /// Name of the entity.
    pub title: String,
    /// Sections in the source's order; `evidence_section_id` of Encyclopedic-VQA is an index into this.
    pub sections: Vec<Section>,
    /// Lead picture, relative to the source's picture directory; `None` for an article without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// One section of an article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Body, plain text.
    pub text: String,
}
