//! A Qdrant server or cluster, over gRPC (`qdrant-client` 1.20): one collection is one store.
//!
//! | noun | promise |
//! | --- | --- |
//! | [`connection`] | where a server is and how long is waited for it; a key that is never written anywhere |
//! | [`client`] | calls that block, try again where that helps, and end in a bounded time |
//! | [`store`] | a collection as a [`super::Store`], as the embedded engine is one |
//! | [`archive`] | a collection's files with their graph, fetched as the server packs them |
//! | [`collections`] | what lies around a collection: its name's alias, its manifest, the version of the server |
//!
//! What the client leaves to its caller is done here:
//! - it prints where versions differ: its own check is off, [`Server::check`] is ours;
//! - it has one timeout for everything: there is one client for queries and one for writes;
//! - a timeout surfaces as `Cancelled`, after the client itself has tried twice: a query ends after twice its timeout at
//!   the latest, whatever happens in between;
//! - it puts a malformed key into its error message: keys are checked before, and cut out of every message;
//! - an update that was only acknowledged, not applied, is no error to it: it is sent again.
//!
//! Distance is the dot product, so vectors come back bit by bit as they were given.

pub mod archive;
pub mod client;
pub mod collections;
pub mod connection;
mod encode;
mod retry;
mod schema;
mod settle;
pub mod store;
mod words;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
pub mod double;
#[cfg(test)]
mod fault_tests;

pub use archive::{Archive, Fetched};
pub use client::Server;
pub use collections::ServerVersion;
pub use connection::{ApiKey, Connection};
pub use schema::ServerOptions;
pub use store::ServerStore;
