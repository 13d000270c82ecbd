//! Collections of a server as grounds for the cases, and what only servers have.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Ground;
use super::cases::{by_vector, config, points, vector};
use crate::kb::store::server::double::Double;
use crate::kb::store::server::{ApiKey, Connection, Server, ServerOptions, ServerStore};
use crate::kb::store::{ServerErrorKind, Store, StoreConfig, StoreError, content};

pub(super) struct Remote {
    server: Server,
    collection: String,
    _double: Option<Double>,
}

impl Remote {
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn collection(&self) -> &str {
        &self.collection
    }

    /// Another collection of the same server.
    pub(super) fn beside(&self) -> Self {
        Self { server: self.server.clone(), collection: format!("{}-b", self.collection), _double: None }
    }
}

impl Ground for Remote {
    fn create(&self, config: &StoreConfig) -> Box<dyn Store> {
        let options = ServerOptions::default();
        Box::new(ServerStore::create(&self.server, &self.collection, config, &options).unwrap())
    }

    fn open(&self, config: &StoreConfig) -> Box<dyn Store> {
        Box::new(ServerStore::open(&self.server, &self.collection, config).unwrap())
    }

    fn words(&self) -> bool {
        cfg!(feature = "edge")
    }

    fn graphs(&self) -> bool {
        false
    }
}

impl Drop for Remote {
    // Also when a case fails.
    fn drop(&mut self) {
        let removed = self.server.delete_collection(&self.collection);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn collection() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("cicerone-test-{}-{now}-{number}", process::id())
}

pub(super) fn double() -> Option<Remote> {
    let double = Double::start();
    Some(Remote { server: double.server(), collection: collection(), _double: Some(double) })
}

pub(super) fn real() -> Option<Remote> {
    let url = std::env::var("CICERONE_TEST_QDRANT_URL").ok()?;
    let key = std::env::var("CICERONE_TEST_QDRANT_API_KEY").ok();
    let connection = Connection::new(&url).with_key(key.as_deref().map(ApiKey::new));
    Some(Remote { server: Server::connect(connection).unwrap(), collection: collection(), _double: None })
}

#[test]
fn over_the_double() {
    aliases_and_manifests(&double().unwrap());
}

#[test]
fn over_a_server() {
    if let Some(remote) = real() {
        aliases_and_manifests(&remote);
    }
}

fn aliases_and_manifests(first: &Remote) {
    let (server, second) = (first.server(), first.beside());
    server.check().unwrap();
    let (one, two) = (first.create(&config()), second.create(&config()));
    one.upsert(points(0..10)).unwrap();
    two.upsert(points(0..20)).unwrap();
    let names = server.collections(first.collection()).unwrap();
    assert_eq!(names, [first.collection(), second.collection()]);
    assert!(server.has_collection(second.collection()).unwrap());

    let alias = format!("{}-alias", first.collection());
    assert_eq!(server.alias(&alias).unwrap(), None);
    assert!(!server.has_collection(&alias).unwrap());
    for remote in [first, &second] {
        server.point_alias(&alias, remote.collection()).unwrap();
        assert_eq!(server.alias(&alias).unwrap().as_deref(), Some(remote.collection()));
    }
    assert_eq!(ServerStore::open(server, &alias, &config()).unwrap().count().unwrap(), 20);

    let before = content(&*one, |_| {}).unwrap();
    assert_eq!(server.manifest(first.collection()).unwrap(), None);
    let text = serde_json::json!({"name": "ruïnes", "files": "x".repeat(1 << 20)}).to_string();
    server.put_manifest(first.collection(), "{}").unwrap();
    server.put_manifest(first.collection(), &text).unwrap();
    assert_eq!(server.manifest(first.collection()).unwrap(), Some(text));
    assert_eq!(server.manifest(&alias).unwrap(), None);
    assert_eq!(content(&*one, |_| {}).unwrap(), before);
    assert_eq!(one.count().unwrap(), 10);
    assert_eq!(one.search(&by_vector(&vector("question"), 100)).unwrap().len(), 10);
    one.optimize().unwrap();
    one.seal().unwrap();

    server.delete_alias(&alias).unwrap();
    assert_eq!(server.alias(&alias).unwrap(), None);
    server.delete_collection(second.collection()).unwrap();
    let kind = |error: StoreError| match error {
        StoreError::Server(error) => error.kind(),
        other => panic!("{other}"),
    };
    assert_eq!(kind(two.count().unwrap_err()), ServerErrorKind::NoCollection);
    assert_eq!(kind(server.manifest(second.collection()).unwrap_err()), ServerErrorKind::NoCollection);
    let taken = ServerStore::create(server, first.collection(), &config(), &Default::default()).unwrap_err();
    assert_eq!(kind(taken), ServerErrorKind::Exists);
}
