//! Which layers of a tower are sampled, as a user says it: by number, or by depth.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How deep in a tower, whatever its number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// The last block of the first quarter.
    Early,
    /// The last block of the first half.
    Middle,
    /// The last block.
    Late,
}

impl Depth {
    /// Its name and what divides the number of blocks L: the block is L / divisor - 1 (ReT-2, arXiv 2509.08897).
    const ALL: [(Self, &str, usize); 3] =
        [(Self::Early, "early", 4), (Self::Middle, "middle", 2), (Self::Late, "late", 1)];

    fn facts(self) -> (&'static str, usize) {
        Self::ALL
            .into_iter()
            .find(|(depth, ..)| *depth == self)
            .map_or(("late", 1), |(_, name, divisor)| (name, divisor))
    }
}

/// A choice of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// Block numbers, 0-based.
    Blocks(Vec<usize>),
    /// Depths.
    Depths(Vec<Depth>),
}

impl Layers {
    /// Block numbers in a tower of `blocks`. Of a tower too shallow to tell two depths apart, both are the same block.
    #[must_use]
    pub fn of(&self, blocks: usize) -> Vec<usize> {
        match self {
            Self::Blocks(layers) => layers.clone(),
            Self::Depths(depths) => depths.iter().map(|d| (blocks / d.facts().1).saturating_sub(1)).collect(),
        }
    }
}

/// What a list of layers should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, expected block numbers or `early`, `middle`, `late`, separated by commas")]
pub struct LayersError(String);

impl FromStr for Layers {
    type Err = LayersError;

    fn from_str(text: &str) -> Result<Self, LayersError> {
        let words = || text.split(',').map(str::trim);
        if let Ok(blocks) = words().map(str::parse).collect() {
            return Ok(Self::Blocks(blocks));
        }
        let depth = |word: &str| Depth::ALL.into_iter().find(|(_, name, _)| *name == word).map(|(depth, ..)| depth);
        words().map(depth).collect::<Option<_>>().map(Self::Depths).ok_or_else(|| LayersError(text.to_owned()))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = match self {
            Self::Blocks(layers) => layers.iter().map(ToString::to_string).collect(),
            Self::Depths(depths) => depths.iter().map(|depth| depth.facts().0.to_owned()).collect(),
        };
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_depths_are_read_and_written_alike() {
        let of = |text: &str, blocks| text.parse::<Layers>().unwrap().of(blocks);
        assert_eq!(of("0, 2,5", 6), [0, 2, 5]);
        assert_eq!(of("early,middle,late", 24), [5, 11, 23]);
        assert_eq!(of("early,middle,late", 16), [3, 7, 15]);
        assert_eq!(of("early, late", 6), [0, 5]);
        assert_eq!(of("early", 1), [0]);
        for text in ["4,10,15", "early,late"] {
            assert_eq!(text.parse::<Layers>().unwrap().to_string(), text);
        }
        for text in ["", "1,late", "deep", "-1", "1,,2"] {
            assert!(text.parse::<Layers>().unwrap_err().to_string().contains(&format!("`{text}`")));
        }
    }
}
