//! The double's REST interface: archives of collections, as far as they are asked for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};

use crate::io::hash::hex;

#[derive(Default)]
pub struct Shelf {
    /// What an archive of a collection would hold.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Archives by name.
    pub archives: BTreeMap<String, Vec<u8>>,
    /// After how many bytes of its body the next answer breaks off, each in turn.
    pub cuts: VecDeque<usize>,
    /// First byte that each fetch asked for.
    pub asked: Vec<u64>,
    /// The key that it asks for.
    pub key: Option<String>,
    /// Whether it says another checksum than is right.
    pub lies: bool,
}

/// The interface. Its threads end with the process.
pub struct Rest {
    pub(super) address: SocketAddr,
    pub(super) shelf: Arc<Mutex<Shelf>>,
}

impl Rest {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rest = Self { address: listener.local_addr().unwrap(), shelf: Arc::default() };
        let shelf = Arc::clone(&rest.shelf);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shelf = Arc::clone(&shelf);
                thread::spawn(move || serve(stream, &shelf));
            }
        });
        rest
    }
}

fn serve(stream: TcpStream, shelf: &Mutex<Shelf>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
    }
    let header =
        |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
    let mut body = vec![0; header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut words = lines.first()?.split(' ');
    let (method, path) = (words.next()?, words.next()?.split('?').next()?.to_owned());
    let mut parts = path.trim_start_matches('/').split('/');
    let (collection, name) = (parts.nth(1)?.to_owned(), parts.nth(3).map(str::to_owned));
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut status, mut extra, mut content) = ("404 Not Found", String::new(), Vec::new());
    if shelf.key.is_some() && header("api-key") != shelf.key {
        status = "401 Unauthorized";
    } else if method == "post" {
        if let Some(bytes) = shelf.contents.get(&collection).cloned() {
            let name = format!("{collection}-{}.snapshot", shelf.archives.len());
            let mut checksum = hex(&Sha256::digest(&bytes));
            if shelf.lies {
                checksum.replace_range(0..1, "x");
            }
            let made = serde_json::json!({"name": name, "size": bytes.len(), "checksum": checksum});
            content = serde_json::json!({"result": made, "status": "ok"}).to_string().into_bytes();
            shelf.archives.insert(name, bytes);
            status = "200 OK";
        } else {
            content = br#"{"status":{"error":"Not found: Collection doesn't exist!"}}"#.to_vec();
        }
    } else if let Some(bytes) = shelf.archives.get(&name?).cloned() {
        let name = path.rsplit('/').next()?.to_owned();
        if method == "delete" {
            shelf.archives.remove(&name);
            (status, content) = ("200 OK", b"{}".to_vec());
        } else {
            let from = header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            shelf.asked.push(from.unwrap_or(0));
            let from = from.unwrap_or(0) as usize;
            status = "200 OK";
            if from > 0 {
                status = "206 Partial Content";
                extra = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            }
            content = bytes.get(from..)?.to_vec();
        }
    }
    let cut = if method == "get" { shelf.cuts.pop_front() } else { None };
    drop(shelf);
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}connection: close\r\n\r\n", content.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&content[..cut.unwrap_or(content.len()).min(content.len())]).ok()
}
