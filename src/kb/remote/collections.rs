//! The builds of knowledge bases among a server's collections.

use crate::kb::store::server::collections::MANIFEST;
use crate::kb::store::server::{Server, ServerOptions, ServerStore};
use crate::kb::store::{Store, StoreConfig, StoreError};
use crate::kb::transfer;

/// What the names of our collections and aliases begin with.
const PREFIX: &str = "cicerone-";

pub(super) type Result<T> = std::result::Result<T, StoreError>;

/// A server that holds knowledge bases.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) server: Server,
    options: ServerOptions,
}

impl Remote {
    /// Knowledge bases of `server`; those that are built there get `options`.
    #[must_use]
    pub fn new(server: Server, options: ServerOptions) -> Self {
        Self { server, options }
    }

    /// Where it is, as messages name it.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Names of all knowledge bases, finished or not.
    pub(in crate::kb) fn names(&self) -> Result<Vec<String>> {
        let found = self.server.collections(PREFIX)?;
        Ok(found.iter().filter_map(|collection| Some(parts(collection)?.0.to_owned())).collect())
    }

    /// Numbers of the builds of `name`, finished or not.
    pub(in crate::kb) fn numbers(&self, name: &str) -> Result<Vec<u32>> {
        let found = self.server.collections(&format!("{PREFIX}{name}-"))?;
        let own = found.iter().filter_map(|collection| parts(collection).filter(|(of, _)| *of == name));
        Ok(own.map(|(_, number)| number).collect())
    }

    /// Number of the build in use.
    pub(in crate::kb) fn current(&self, name: &str) -> Result<Option<u32>> {
        let alias = alias(name);
        let Some(collection) = self.server.alias(&alias)? else { return Ok(None) };
        match parts(&collection) {
            Some((of, number)) if of == name => Ok(Some(number)),
            _ => {
                let reason = format!("alias {alias:?} points at {collection:?}, expected a build of {name:?}");
                Err(StoreError::Engine { what: "find the build in use", reason })
            }
        }
    }

    /// Puts a build in use: readers find the one before or this one.
    pub(in crate::kb) fn set_current(&self, name: &str, number: u32) -> Result<()> {
        Ok(self.server.point_alias(&alias(name), &collection(name, number))?)
    }

    /// Takes the alias away, if there is one.
    pub(in crate::kb) fn clear_current(&self, name: &str) -> Result<()> {
        if self.server.alias(&alias(name))?.is_some() {
            self.server.delete_alias(&alias(name))?;
        }
        Ok(())
    }

    /// Manifest of a build; `None` for one that has not finished, or is not there.
    pub(in crate::kb) fn manifest(&self, name: &str, number: u32) -> Result<Option<String>> {
        let collection = collection(name, number);
        if self.server.has_collection(&collection)? { self.server.manifest(&collection) } else { Ok(None) }
    }

    /// Makes a build a finished one.
    pub(in crate::kb) fn put_manifest(&self, name: &str, number: u32, manifest: &str) -> Result<()> {
        Ok(self.server.put_manifest(&collection(name, number), manifest)?)
    }

    /// Makes the empty store of a build, or a copy of that of the build `base`.
    pub(in crate::kb) fn create(
        &self,
        name: &str,
        number: u32,
        config: &StoreConfig,
        base: Option<u32>,
    ) -> Result<Box<dyn Store>> {
        let store = ServerStore::create(&self.server, &collection(name, number), config, &self.options)?;
        if let Some(base) = base {
            transfer::copy(self.open(name, base, config)?.as_ref(), &store, config, None, &mut |_| true)?;
        }
        Ok(Box::new(store))
    }

    /// Opens the store of a build.
    pub(in crate::kb) fn open(&self, name: &str, number: u32, config: &StoreConfig) -> Result<Box<dyn Store>> {
        Ok(Box::new(ServerStore::open(&self.server, &collection(name, number), config)?))
    }

    /// Whether a build is in one part.
    pub(in crate::kb) fn is_in_one_part(&self, name: &str, number: u32) -> Result<bool> {
        Ok(self.server.parts(&collection(name, number))? == 1)
    }

    /// Removes from a copy of a build what is kept beside its points.
    pub(in crate::kb) fn tidy(&self, store: &dyn Store) -> Result<()> {
        store.delete(&[MANIFEST])?;
        store.flush()
    }

    /// Removes a build; one that is not there is passed over.
    pub(in crate::kb) fn remove(&self, name: &str, number: u32) -> Result<()> {
        Ok(self.server.delete_collection(&collection(name, number))?)
    }
}

fn alias(name: &str) -> String {
    format!("{PREFIX}{name}")
}

pub(super) fn collection(name: &str, number: u32) -> String {
    format!("{PREFIX}{name}-{number:06}")
}

/// Name and number of one of our collections.
fn parts(collection: &str) -> Option<(&str, u32)> {
    let (name, number) = collection.strip_prefix(PREFIX)?.rsplit_once('-')?;
    let digits = number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit());
    if digits && !name.is_empty() { Some((name, number.parse().ok()?)) } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_of_collections_lead_back() {
        for name in ["flags", "a-b", "a-000001", "x.y_z"] {
            assert_eq!(parts(&collection(name, 7)), Some((name, 7)));
        }
        assert_eq!(collection("flags", 12), "cicerone-flags-000012");
        for other in
            ["cicerone-flags", "flags-000001", "cicerone-flags-00001", "cicerone-flags-00000x", "cicerone--000001"]
        {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
