//! Metrics. Each number carries the name of its metric: scores of different ones do not compare.

pub mod evqa;
pub mod infoseek;
pub mod interval;
pub mod recall;
mod words;

pub use interval::Interval;

/// Name of the exact match (list IoU for `multi_answer`) of Encyclopedic-VQA, without BEM: lower than published scores.
pub const EVQA_EXACT: &str = "E-VQA exact match (no BEM)";

/// Name of InfoSeek's accuracy.
pub const INFOSEEK: &str = "InfoSeek accuracy";

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
