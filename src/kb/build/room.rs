//! Room on the disk: an engine that maps its files into memory does not survive a disk that is full, so it is looked
//! for before the engine writes.

use std::collections::HashMap;
use std::path::Path;

use super::INDEX;
use crate::io::space::{free_space, on_disk};
use crate::kb::KbError;
use crate::kb::integrity::files_below;
use crate::kb::store::{Payload, Point, StoreConfig};

/// Left free in any case, bytes: for the log and the pieces in which an engine's files grow.
const SPARE: u64 = 64 << 20;

/// Names in a path from the index on that tell a segment: `index/segments/ID`.
const SEGMENT: usize = 3;

/// Sees that the disk of `dir` has room for `points`, which an engine writes into its log and then into its files.
///
/// # Errors
/// [`KbError::NoRoom`].
pub(super) fn for_points(dir: &Path, points: &[Point]) -> Result<(), KbError> {
    let text = |payload: &Payload| match payload {
        Payload::Article(record) => record.sections.iter().map(|s| s.title.len() + s.text.len()).sum::<usize>(),
        Payload::Part(part) => part.part_of.len(),
    };
    let bytes: usize = points.iter().map(|point| point.vectors.len() * 4 + text(&point.payload) + 200).sum();
    require(dir, 3 * bytes as u64)
}

/// Sees that the disk has room for indexing the build in `dir`, which holds so many `embeddings`.
///
/// # Errors
/// [`KbError::NoRoom`], or the system's.
pub(super) fn for_indexing(dir: &Path, config: &StoreConfig, embeddings: u64) -> Result<(), KbError> {
    let mut segments: HashMap<String, u64> = HashMap::new();
    for path in files_below(dir, INDEX)? {
        let segment = path.split('/').take(SEGMENT).collect::<Vec<_>>().join("/");
        *segments.entry(segment).or_default() += on_disk(&dir.join(&path)).unwrap_or(0);
    }
    let segments: Vec<u64> = segments.into_values().collect();
    require(dir, once_more(&segments, config.graph as u64, embeddings))
}

/// Bytes that are written before what they are written from goes: what belongs to the embeddings of one graph, or a whole
/// segment of which much was removed, whichever is more, and links beside it.
fn once_more(segments: &[u64], graph: u64, embeddings: u64) -> u64 {
    let there: u64 = segments.iter().sum();
    let largest = segments.iter().max().copied().unwrap_or(0);
    let share = if graph == 0 { 1.0 } else { (graph as f64 / embeddings.max(1) as f64).min(1.0) };
    let most = largest.max((there as f64 * share) as u64);
    most + most / 4
}

/// Sees that the disk of `dir` has room for what is to come of an archive, and for the `whole` that is unpacked from it.
///
/// # Errors
/// [`KbError::NoRoom`].
pub(super) fn for_archive(dir: &Path, to_come: u64, whole: u64) -> Result<(), KbError> {
    require(dir, to_come + whole)
}

fn require(dir: &Path, bytes: u64) -> Result<(), KbError> {
    let needed = bytes + SPARE;
    match free_space(dir) {
        Some(free) if free < needed => Err(KbError::NoRoom { dir: dir.to_owned(), free, needed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_written_once_more_and_not_the_whole() {
        assert_eq!(once_more(&[400, 400, 0], 0, 1000), 1000, "one graph of all");
        assert_eq!(once_more(&[100; 10], 100, 1000), 125);
        assert_eq!(once_more(&[400, 40], 10, 1000), 500, "a large one may be made anew");
        assert_eq!(once_more(&[400], 1000, 10), 500);
        assert_eq!(once_more(&[400], 1000, 0), 500);
        assert_eq!(once_more(&[], 1000, 0), 0);
    }
}
