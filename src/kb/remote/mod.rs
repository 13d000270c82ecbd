//! Knowledge bases on a server: one collection a build, an alias that names the build in use.
//!
//! ```text
//! cicerone-<name>-000001     a collection: the points of one build, and its manifest once it is finished
//! cicerone-<name>            an alias: the build in use; repointed in one step
//! ```

#[cfg(feature = "server")]
mod archive;
#[cfg(feature = "server")]
mod collections;
#[cfg(not(feature = "server"))]
mod without;

#[cfg(feature = "server")]
pub use collections::Remote;
#[cfg(not(feature = "server"))]
pub use without::Remote;

#[cfg(all(test, feature = "server"))]
mod pull_tests;
#[cfg(all(test, feature = "server"))]
mod tests;
