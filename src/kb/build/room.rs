//! Room on the disk: an engine that maps its files into memory does not survive a disk that is full, so it is looked
//! for before the engine writes.

use std::path::Path;

use super::INDEX;
use crate::io::space::{free_space, on_disk};
use crate::kb::KbError;
use crate::kb::integrity::files_below;
use crate::kb::store::{Payload, Point};

/// Left free in any case, bytes: for the log and the pieces in which an engine's files grow.
const SPARE: u64 = 64 << 20;

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

/// Sees that the disk has room for indexing the build in `dir`: everything is written once more, with its graph.
///
/// # Errors
/// [`KbError::NoRoom`], or the system's.
pub(super) fn for_indexing(dir: &Path) -> Result<(), KbError> {
    let files = files_below(dir, INDEX)?;
    let there: u64 = files.iter().filter_map(|path| on_disk(&dir.join(path))).sum();
    require(dir, there + there / 4)
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
