//! The archive of a build on its way from a server. What was begun is gone on with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Remote;
use super::collections::{Result, collection};
use crate::io;
use crate::kb::store::StoreError;
use crate::kb::store::server::{Archive, Fetched};

/// Which archive is on its way.
const BEGUN: &str = "archive.json";

/// What has arrived of it.
const ARRIVED: &str = "archive.tar";

#[derive(PartialEq, Serialize, Deserialize)]
struct Begun {
    url: String,
    archive: Archive,
}

impl Remote {
    /// Fetches the archive of a build in one part into `dir`. `seen` is told the bytes there and in all, and says whether to
    /// go on; `None` where it does not. A later call goes on, if the server still has it.
    pub(in crate::kb) fn fetch_archive(
        &self,
        name: &str,
        number: u32,
        dir: &Path,
        seen: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Option<PathBuf>> {
        let arrived = dir.join(ARRIVED);
        let of = collection(name, number);
        let old = begun(dir).filter(|begun| begun.url == self.url() && begun.archive.collection == of);
        if let Some(Begun { archive, .. }) = old {
            match self.server.fetch_archive(&archive, &arrived, |done| seen(done, archive.size))? {
                Fetched::Whole => return Ok(Some(arrived)),
                Fetched::Stopped => return Ok(None),
                Fetched::Gone => {}
            }
        }
        // One of an earlier build would lie on the server for ever.
        self.drop_archive(dir)?;
        let begun = Begun { url: self.url(), archive: self.server.make_archive(&of)? };
        let bytes = serde_json::to_vec(&begun).map_err(|e| StoreError::file(&dir.join(BEGUN), e.into()))?;
        io::write_atomic(&dir.join(BEGUN), &bytes).map_err(|e| StoreError::file(&dir.join(BEGUN), e))?;
        let archive = begun.archive;
        match self.server.fetch_archive(&archive, &arrived, |done| seen(done, archive.size))? {
            Fetched::Whole => Ok(Some(arrived)),
            Fetched::Stopped => Ok(None),
            Fetched::Gone => {
                let reason = format!("the server has lost {} as soon as it was made", archive.name);
                Err(StoreError::Engine { what: "fetch the archive", reason })
            }
        }
    }

    /// Removes what is there of an archive, here and on the server.
    pub(in crate::kb) fn drop_archive(&self, dir: &Path) -> Result<()> {
        if let Some(Begun { url, archive }) = begun(dir)
            && url == self.url()
        {
            self.server.remove_archive(&archive)?;
        }
        remove(&dir.join(ARRIVED))?;
        remove(&dir.join(BEGUN))
    }
}

fn begun(dir: &Path) -> Option<Begun> {
    serde_json::from_slice(&fs_err::read(dir.join(BEGUN)).ok()?).ok()
}

fn remove(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::file(path, e)),
        _ => Ok(()),
    }
}
