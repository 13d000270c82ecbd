//! A Qdrant server in this process that does as much as a store asks of one, and fails when it is told to: for tests
//! of how failures are handled. It says nothing about what Qdrant itself does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collections;
mod points;
mod rest;
mod wire;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use qdrant_client::qdrant::{CreateCollection, PointStruct, QueryPoints, UpsertPoints};
use tokio::runtime::Runtime;
use tonic::transport::Server as Transport;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use self::rest::{Rest, Shelf};
use self::wire::Wire;
use super::{Connection, Server};

/// What happens to a request, once.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The server takes this long before it begins.
    Delay(Duration),
    /// It answers so, and does nothing.
    Answer(Code, &'static str),
    /// It asks to be left alone for so many seconds.
    Busy(u64),
    /// The connection breaks before anything is done.
    Cut,
    /// It does what it was asked, and the connection breaks before the answer.
    CutAfter,
    /// It takes note of an update, and says so, without doing it.
    Acknowledge,
}

/// A collection.
pub(super) struct Held {
    pub config: CreateCollection,
    pub points: BTreeMap<Uuid, PointStruct>,
    /// From how many KB on a segment is indexed; 0 for never.
    pub threshold: u64,
    /// Looks at it that still find it at work.
    pub looks: u32,
}

#[derive(Default)]
pub(super) struct State {
    pub collections: BTreeMap<String, Held>,
    pub aliases: BTreeMap<String, String>,
    /// By name of the method: what happens to its next calls.
    pub faults: HashMap<&'static str, VecDeque<Fault>>,
    /// Requests by name of the method, failed ones too.
    pub calls: HashMap<&'static str, usize>,
    /// The last query.
    pub query: Option<QueryPoints>,
    /// Points of each upsert.
    pub upserts: Vec<usize>,
    /// Version that it says it is.
    pub version: String,
    /// The key that it asks for.
    pub key: Option<String>,
    /// Looks at a collection that find it at work after indexing begins.
    pub looks: u32,
    /// Whether its optimiser has stopped, and why.
    pub broken: Option<String>,
    /// Whether it is at work without end.
    pub stuck: bool,
    /// Whether its work waits for a change of settings.
    pub pending: bool,
}

/// What answers.
#[derive(Clone)]
pub(super) struct Handler {
    pub state: Arc<Mutex<State>>,
    pub wire: Arc<Wire>,
}

/// The server. It ends with this value.
pub struct Double {
    handler: Handler,
    runtime: Option<Runtime>,
    address: SocketAddr,
    rest: Rest,
}

impl Default for Double {
    fn default() -> Self {
        Self::start()
    }
}

impl Double {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let wire = Wire::to(incoming.local_addr().unwrap());
        let address = wire.address;
        let state = State { version: "1.20.0".to_owned(), ..State::default() };
        let handler = Handler { state: Arc::new(Mutex::new(state)), wire };
        let points = PointsServer::new(handler.clone()).max_decoding_message_size(usize::MAX);
        let serving = Transport::builder()
            .add_service(points.max_encoding_message_size(usize::MAX))
            .add_service(CollectionsServer::new(handler.clone()))
            .add_service(QdrantServer::new(handler.clone()))
            .serve_with_incoming(incoming);
        runtime.spawn(serving);
        Self { handler, runtime: Some(runtime), address, rest: Rest::start() }
    }

    /// Where it is, with short times.
    pub fn connection(&self) -> Connection {
        Connection {
            query_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(20),
            stall: Duration::from_secs(5),
            rest_url: Some(format!("http://{}", self.rest.address)),
            ..Connection::new(&format!("http://{}", self.address))
        }
    }

    /// A client of it.
    pub fn server(&self) -> Server {
        Server::connect(self.connection()).unwrap()
    }

    /// Tells what happens to the next calls of a method, each in turn.
    pub fn fail(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.with(|state| state.faults.entry(method).or_default().extend(faults));
    }

    /// Calls of a method so far.
    pub fn calls(&self, method: &str) -> usize {
        self.with(|state| state.calls.get(method).copied().unwrap_or(0))
    }

    /// Gives a collection the content of its archives. Without one it has none.
    pub fn archive(&self, collection: &str, content: Vec<u8>) {
        self.shelf(|shelf| shelf.contents.insert(collection.to_owned(), content));
    }

    /// Breaks off the answer to each of the next fetches of an archive after so many bytes.
    pub fn cut_archives(&self, after: impl IntoIterator<Item = usize>) {
        self.shelf(|shelf| shelf.cuts.extend(after));
    }

    /// First byte that each fetch of an archive asked for.
    pub fn asked(&self) -> Vec<u64> {
        self.shelf(|shelf| shelf.asked.clone())
    }

    /// Archives that lie on it.
    pub fn archives(&self) -> usize {
        self.shelf(|shelf| shelf.archives.len())
    }

    /// Looks into the archives, or changes them.
    pub(super) fn shelf<T>(&self, f: impl FnOnce(&mut Shelf) -> T) -> T {
        f(&mut self.rest.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks into it, or changes it.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        self.handler.with(f)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.handler.wire.cut();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Handler {
    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What stands before every method: the key, and what it was told to do. `Some` is a fault that comes after.
    pub async fn gate<T>(&self, method: &'static str, request: &Request<T>) -> Result<Option<Fault>, Status> {
        let given = request.metadata().get("api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let (fault, key) = self.with(|state| {
            *state.calls.entry(method).or_default() += 1;
            (state.faults.get_mut(method).and_then(VecDeque::pop_front), state.key.clone())
        });
        match (key, given) {
            (Some(_), None) => {
                return Err(Status::unauthenticated("Must provide an API key or an Authorization token"));
            }
            (Some(key), Some(given)) if key != given => {
                return Err(Status::unauthenticated(format!("Invalid API key or JWT: {given}")));
            }
            _ => {}
        }
        match fault {
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Answer(code, message)) => return Err(Status::new(code, message)),
            Some(Fault::Busy(seconds)) => {
                let mut status = Status::resource_exhausted("Rate limiting exceeded: Write rate limit exceeded");
                status.metadata_mut().insert("retry-after", seconds.into());
                return Err(status);
            }
            Some(Fault::Cut) => {
                self.wire.cut();
                pending::<()>().await;
            }
            after => return Ok(after),
        }
        Ok(None)
    }

    /// What stands after every method.
    pub async fn after(&self, fault: Option<Fault>) {
        if fault == Some(Fault::CutAfter) {
            self.wire.cut();
            pending::<()>().await;
        }
    }
}

impl State {
    /// The collection of that name, or that an alias of that name points at.
    pub fn held(&mut self, name: &str) -> Result<&mut Held, Status> {
        let name = self.aliases.get(name).map_or(name, String::as_str).to_owned();
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get_mut(&name).ok_or_else(missing)
    }

    pub fn note(&mut self, request: &UpsertPoints) {
        self.upserts.push(request.points.len());
    }
}
