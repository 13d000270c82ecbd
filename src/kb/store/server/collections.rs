//! What lies around a collection: its name and alias, its manifest, and the version of the server.

use std::collections::HashMap;
use std::fmt;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::value::Kind as Value;
use qdrant_client::qdrant::{
    Condition, CreateAlias, DeleteAlias, DeleteCollection, Filter, GetPoints, HasIdCondition, UpsertPoints,
};
use uuid::Uuid;

use super::client::{Lane, Server, answer};
use super::encode;
use super::retry::Failure;
use super::store::applied;
use crate::kb::store::{ServerError, ServerErrorKind, StoreError};

/// Version of the client, the same as in `Cargo.toml`: major and minor.
pub const CLIENT_VERSION: (u32, u32) = (1, 20);

/// Minor versions that a server may be behind.
const BEHIND: u32 = 2;

/// Id of the point that holds the manifest. Those of articles are version 5, so that none is the same.
pub const MANIFEST: Uuid = Uuid::from_u128(0x6369_6365_726f_8e65_ad61_6e69_6665_7374);

/// Key of its payload.
const KEY: &str = "manifest";

/// Lets every point through but the manifest's.
pub(super) fn articles() -> Filter {
    let manifest = HasIdCondition { has_id: vec![encode::id(MANIFEST)] };
    let must_not = vec![Condition { condition_one_of: Some(ConditionOneOf::HasId(manifest)) }];
    Filter { must_not, ..Filter::default() }
}

/// Version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// As it says.
    pub text: String,
    /// Major and minor number, where it says them in the usual way.
    pub numbers: Option<(u32, u32)>,
}

impl ServerVersion {
    fn read(text: &str) -> Self {
        let mut parts = text.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().ok());
        let numbers = match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Some((major, minor)),
            _ => None,
        };
        Self { text: text.to_owned(), numbers }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Server {
    /// Sees that a server is there, takes the key, and is of a version that the client works with: its own or up to
    /// two minor versions older. A newer one, or one that does not say, is warned of through `tracing`.
    ///
    /// # Errors
    /// [`ServerErrorKind::TooOld`] with both versions, [`ServerErrorKind::Unreachable`] at once,
    /// [`ServerErrorKind::Unauthorised`].
    pub fn check(&self) -> Result<ServerVersion, ServerError> {
        let health = self.call(Lane::Once, "answer", |client, _| async move { answer(client.health_check().await) })?;
        let version = ServerVersion::read(&health.version);
        let (major, minor) = CLIENT_VERSION;
        match version.numbers {
            Some(found) if found < (major, minor.saturating_sub(BEHIND)) => {
                let reason = format!(
                    "it is version {version}, and the client of this build is {major}.{minor}, which works with \
                     {major}.{} and later",
                    minor.saturating_sub(BEHIND)
                );
                return Err(self.error("agree to work", Failure::lasting(ServerErrorKind::TooOld, reason)));
            }
            Some(found) if found > CLIENT_VERSION => {
                tracing::warn!(%version, client = %format!("{major}.{minor}"), "this Qdrant server is newer than the client");
            }
            None => tracing::warn!(%version, "this Qdrant server does not say its version in the usual way"),
            Some(_) => {}
        }
        Ok(version)
    }

    /// Names of the collections that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// The server's.
    pub fn collections(&self, prefix: &str) -> Result<Vec<String>, ServerError> {
        let found =
            self.call(
                Lane::Query,
                "list collections",
                |client, _| async move { answer(client.list_collections().await) },
            )?;
        let mut names: Vec<String> = found.collections.into_iter().map(|found| found.name).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        Ok(names)
    }

    /// Whether there is such a collection, or an alias for one.
    ///
    /// # Errors
    /// The server's.
    pub fn has_collection(&self, collection: &str) -> Result<bool, ServerError> {
        let collection = collection.to_owned();
        self.call(Lane::Query, "look for a collection", move |client, _| {
            let collection = collection.clone();
            async move { answer(client.collection_exists(collection).await) }
        })
    }

    /// Removes a collection with all that it holds, and the aliases for it. One that is not there is passed over.
    ///
    /// # Errors
    /// The server's.
    pub fn delete_collection(&self, collection: &str) -> Result<(), ServerError> {
        let request = DeleteCollection { collection_name: collection.to_owned(), timeout: None };
        self.call(Lane::Write, "remove a collection", move |client, _| {
            let request = request.clone();
            async move {
                match answer(client.delete_collection(request).await) {
                    Err(failure) if failure.kind == ServerErrorKind::NoCollection => Ok(()),
                    answered => answered.map(|_| ()),
                }
            }
        })
    }

    /// Points `alias` at a collection, away from any other, in one step: readers find the one or the other.
    ///
    /// # Errors
    /// [`ServerErrorKind::NoCollection`], or the server's.
    pub fn point_alias(&self, alias: &str, collection: &str) -> Result<(), ServerError> {
        // One call repoints an alias; to delete and create it would leave a moment without.
        let request = CreateAlias { collection_name: collection.to_owned(), alias_name: alias.to_owned() };
        self.call(Lane::Write, "point an alias at a collection", move |client, _| {
            let request = request.clone();
            async move { answer(client.create_alias(request).await).map(|_| ()) }
        })
    }

    /// Removes an alias; the collection stays.
    ///
    /// # Errors
    /// The server's.
    pub fn delete_alias(&self, alias: &str) -> Result<(), ServerError> {
        let request = DeleteAlias { alias_name: alias.to_owned() };
        self.call(Lane::Write, "remove an alias", move |client, _| {
            let request = request.clone();
            async move { answer(client.delete_alias(request).await).map(|_| ()) }
        })
    }

    /// The collection that an alias points at, if there is such an alias.
    ///
    /// # Errors
    /// The server's.
    pub fn alias(&self, alias: &str) -> Result<Option<String>, ServerError> {
        Ok(self.aliases()?.into_iter().find(|(name, _)| name == alias).map(|(_, collection)| collection))
    }

    /// Every alias with its collection, sorted.
    ///
    /// # Errors
    /// The server's.
    pub fn aliases(&self) -> Result<Vec<(String, String)>, ServerError> {
        let found =
            self.call(Lane::Query, "list aliases", |client, _| async move { answer(client.list_aliases().await) })?;
        let mut names: Vec<_> = found.aliases.into_iter().map(|a| (a.alias_name, a.collection_name)).collect();
        names.sort();
        Ok(names)
    }

    /// Keeps a text with a collection, in place of an earlier one: a point without vectors, which no search, scan or
    /// count of a store sees.
    ///
    /// # Errors
    /// [`ServerErrorKind::NoCollection`], or the server's.
    pub fn put_manifest(&self, collection: &str, manifest: &str) -> Result<(), ServerError> {
        let payload = HashMap::from([(KEY.to_owned(), manifest.into())]);
        let points = vec![encode::with_vectors(MANIFEST, payload, HashMap::new())];
        let collection_name = collection.to_owned();
        let request = UpsertPoints { collection_name, wait: Some(true), points, ..UpsertPoints::default() };
        self.call(Lane::Write, "keep the manifest", move |client, _| {
            let request = request.clone();
            async move { applied(answer(client.upsert_points(request).await)?) }
        })
    }

    /// The text that is kept with a collection, or with the one that an alias points at.
    ///
    /// # Errors
    /// [`ServerErrorKind::NoCollection`], or the server's; [`StoreError::BadPayload`] where something else is kept in
    /// its place.
    pub fn manifest(&self, collection: &str) -> Result<Option<String>, StoreError> {
        let request = GetPoints {
            collection_name: collection.to_owned(),
            ids: vec![encode::id(MANIFEST)],
            with_payload: Some(true.into()),
            ..GetPoints::default()
        };
        let found = self.call(Lane::Query, "read the manifest", move |client, _| {
            let request = request.clone();
            async move { Ok(answer(client.get_points(request).await)?.result) }
        })?;
        let Some(mut point) = found.into_iter().next() else {
            return Ok(None);
        };
        match point.payload.remove(KEY).and_then(|value| value.kind) {
            Some(Value::StringValue(text)) => Ok(Some(text)),
            _ => {
                let reason = format!("it has no text under {KEY:?}, expected the manifest of {collection:?}");
                Err(StoreError::BadPayload { id: MANIFEST.to_string(), reason })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        assert_eq!(ServerVersion::read("1.18.3").numbers, Some((1, 18)));
        assert_eq!(ServerVersion::read("v1.20.0-dev").numbers, Some((1, 20)));
        assert_eq!(ServerVersion::read("dev").numbers, None);
    }

    #[test]
    fn the_client_is_the_one_that_is_built_in() {
        let lock = include_str!("../../../../Cargo.lock");
        let (_, after) = lock.split_once("name = \"qdrant-client\"\nversion = \"").unwrap();
        assert_eq!(ServerVersion::read(after.split_once('"').unwrap().0).numbers, Some(CLIENT_VERSION));
    }

    #[test]
    fn no_article_has_the_id_of_the_manifest() {
        assert_eq!(MANIFEST.get_version_num(), 8);
        assert_eq!(MANIFEST.get_variant(), uuid::Variant::RFC4122);
    }
}
