//! Metrics. Each number carries the name of its metric: scores of different ones do not compare.

pub mod evqa;
pub mod infoseek;
pub mod interval;
pub mod recall;
mod words;

pub use interval::Interval;

/// Name of the exact match (list IoU for `multi_answer`) of Encyclopedic-VQA, without BEM: lower than published scores.
pub const EVQA_EXACT: &str = "E-VQA exact match (no BEM)";

/// Name of Encyclopedic-VQA's accuracy: exact match, else BEM of the official architecture.
pub const EVQA_BEM: &str = "E-VQA accuracy (exact match or BEM)";

/// The same with another training of BEM, whose numbers do not compare with those of the official one.
pub const EVQA_BEM_PORT: &str = "E-VQA accuracy (exact match or BEM (port))";

/// Name of InfoSeek's accuracy.
pub const INFOSEEK: &str = "InfoSeek accuracy";

/// Name of what InfoSeek is ranked by: the harmonic mean of its accuracy over unseen questions and over unseen entities.
pub const INFOSEEK_HARMONIC: &str = "InfoSeek harmonic mean";

/// Of questions that ask for passages, and whose answers nothing scores.
pub const NONE: &str = "not scored";

/// Cases that the official scripts scored: the committed ones, and a directory's own where `CICERONE_GOLDEN` names one.
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod golden {
    use std::path::{Path, PathBuf};

    pub(super) fn cases(scorer: &str) -> Vec<serde_json::Value> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
        let more = std::env::var_os("CICERONE_GOLDEN").map(PathBuf::from);
        let read = |dir: PathBuf| {
            let text = fs_err::read_to_string(dir.join("scores.jsonl")).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
        };
        std::iter::once(own).chain(more).flat_map(read).filter(|case| case["scorer"] == scorer).collect()
    }
}
