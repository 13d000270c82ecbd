//! What stands for a server in a build without a client.

use std::path::{Path, PathBuf};

use crate::kb::store::{Store, StoreConfig, StoreError};

/// A server that holds knowledge bases: this build speaks to none (cargo feature `server`).
#[derive(Debug, Clone)]
pub enum Remote {}

type Result<T> = std::result::Result<T, StoreError>;

impl Remote {
    /// Where it is, as messages name it.
    #[must_use]
    pub fn url(&self) -> String {
        match *self {}
    }

    pub(in crate::kb) fn names(&self) -> Result<Vec<String>> {
        match *self {}
    }

    pub(in crate::kb) fn numbers(&self, _: &str) -> Result<Vec<u32>> {
        match *self {}
    }

    pub(in crate::kb) fn current(&self, _: &str) -> Result<Option<u32>> {
        match *self {}
    }

    pub(in crate::kb) fn set_current(&self, _: &str, _: u32) -> Result<()> {
        match *self {}
    }

    pub(in crate::kb) fn clear_current(&self, _: &str) -> Result<()> {
        match *self {}
    }

    pub(in crate::kb) fn manifest(&self, _: &str, _: u32) -> Result<Option<String>> {
        match *self {}
    }

    pub(in crate::kb) fn put_manifest(&self, _: &str, _: u32, _: &str) -> Result<()> {
        match *self {}
    }

    pub(in crate::kb) fn create(&self, _: &str, _: u32, _: &StoreConfig, _: Option<u32>) -> Result<Box<dyn Store>> {
        match *self {}
    }

    pub(in crate::kb) fn open(&self, _: &str, _: u32, _: &StoreConfig) -> Result<Box<dyn Store>> {
        match *self {}
    }

    pub(in crate::kb) fn is_in_one_part(&self, _: &str, _: u32) -> Result<bool> {
        match *self {}
    }

    pub(in crate::kb) fn tidy(&self, _: &dyn Store) -> Result<()> {
        match *self {}
    }

    pub(in crate::kb) fn fetch_archive(
        &self,
        _: &str,
        _: u32,
        _: &Path,
        _: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Option<PathBuf>> {
        match *self {}
    }

    pub(in crate::kb) fn drop_archive(&self, _: &Path) -> Result<()> {
        match *self {}
    }

    pub(in crate::kb) fn remove(&self, _: &str, _: u32) -> Result<()> {
        match *self {}
    }
}
