//! Why a question has no answer here: "not in the knowledge base" is an outcome, not a failure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cause")]
pub enum Abstention {
    /// The search gave nothing.
    NothingFound,
    /// The best candidate scores too low.
    LowScore {
        /// Its name.
        title: String,
        /// Its score.
        score: f32,
        /// The least that is asked for.
        needed: f32,
    },
    /// The two best candidates score too much alike.
    SmallMargin {
        /// Name of the best.
        title: String,
        /// Name of the next.
        next: String,
        /// What lies between their scores.
        margin: f32,
        /// The least that is asked for.
        needed: f32,
    },
    /// No section of the entity fits the question well enough.
    NoSection {
        /// Name of the entity.
        title: String,
        /// The ranker's score of its best section.
        score: f32,
        /// The least that is asked for.
        needed: f32,
    },
    /// The entity was found, but its article holds no text.
    NoText {
        /// Name of the entity.
        title: String,
    },
}

impl fmt::Display for Abstention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingFound => f.write_str("nothing was found"),
            Self::LowScore { title, score, needed } => {
                write!(f, "the nearest article, {title}, scores {score:.3}, less than {needed:.3}")
            }
            Self::SmallMargin { title, next, margin, needed } => {
                write!(f, "{title} is only {margin:.3} before {next}, less than {needed:.3}")
            }
            Self::NoSection { title, score, needed } => {
                write!(f, "no section of {title} answers it: the best scores {score:.3}, less than {needed:.3}")
            }
            Self::NoText { title } => write!(f, "the article of {title} has no text"),
        }
    }
}
