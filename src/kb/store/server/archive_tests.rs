//! Archives over the double: what breaks off goes on, and what is wrong is not taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::double::Double;
use super::{ApiKey, Connection, Fetched, Server};
use crate::kb::store::{ServerErrorKind, StoreError};

fn content() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251) as u8).collect()
}

fn kind(error: StoreError) -> ServerErrorKind {
    match error {
        StoreError::Server(error) => error.kind(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_broken_connection_goes_on_where_it_was() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let (server, path) = (double.server(), dir.path().join("archive"));
    double.archive("c", content());
    let archive = server.make_archive("c").unwrap();
    assert_eq!((archive.size, archive.checksum.as_ref().map(String::len)), (3_000_000, Some(64)));
    double.cut_archives([1_000_000, 0, 500_000]);
    let mut told = Vec::new();
    let seen = |done| {
        told.push(done);
        true
    };
    assert_eq!(server.fetch_archive(&archive, &path, seen).unwrap(), Fetched::Whole);
    assert_eq!(fs_err::read(&path).unwrap(), content());
    assert_eq!(double.asked(), [0, 1_000_000, 1_000_000, 1_500_000]);
    assert!(told.is_sorted() && told.last() == Some(&3_000_000));
    // Nothing more is asked for of what is there.
    assert_eq!(server.fetch_archive(&archive, &path, |_| true).unwrap(), Fetched::Whole);
    assert_eq!(double.asked().len(), 4);
    server.remove_archive(&archive).unwrap();
    server.remove_archive(&archive).unwrap();
    assert_eq!(double.archives(), 0);
}

#[test]
fn a_fetch_that_is_stopped_is_taken_up_by_another() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let (server, path) = (double.server(), dir.path().join("archive"));
    double.archive("c", content());
    let archive = server.make_archive("c").unwrap();
    assert_eq!(server.fetch_archive(&archive, &path, |done| done < 1_000_000).unwrap(), Fetched::Stopped);
    let there = fs_err::metadata(&path).unwrap().len();
    assert!((1_000_000..3_000_000).contains(&there), "{there}");
    assert_eq!(server.fetch_archive(&archive, &path, |_| true).unwrap(), Fetched::Whole);
    assert_eq!(double.asked(), [0, there]);
    assert_eq!(fs_err::read(&path).unwrap(), content());
    server.remove_archive(&archive).unwrap();
    fs_err::remove_file(&path).unwrap();
    assert_eq!(server.fetch_archive(&archive, &path, |_| true).unwrap(), Fetched::Gone);
}

#[test]
fn what_is_not_what_was_sent_is_thrown_away() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    let (server, path) = (double.server(), dir.path().join("archive"));
    double.archive("c", content());
    double.shelf(|shelf| shelf.lies = true);
    let archive = server.make_archive("c").unwrap();
    let error = server.fetch_archive(&archive, &path, |_| true).unwrap_err();
    assert!(error.to_string().contains("its SHA-256 is"), "{error}");
    assert_eq!(kind(error), ServerErrorKind::Failed);
    assert!(!path.exists());
}

#[test]
fn what_no_archive_comes_from_is_told() {
    let (double, dir) = (Double::start(), tempfile::tempdir().unwrap());
    double.archive("c", content());
    assert_eq!(double.server().make_archive("d").unwrap_err().kind(), ServerErrorKind::NoCollection);
    double.shelf(|shelf| shelf.key = Some("sesame".into()));
    assert_eq!(double.server().make_archive("c").unwrap_err().kind(), ServerErrorKind::Unauthorised);
    let with = |key| Server::connect(double.connection().with_key(Some(ApiKey::new(key)))).unwrap();
    let archive = with("sesame").make_archive("c").unwrap();
    let error = with("other").fetch_archive(&archive, &dir.path().join("archive"), |_| true).unwrap_err();
    assert!(!error.to_string().contains("other"), "{error}");
    assert_eq!(kind(error), ServerErrorKind::Unauthorised);
    let nobody = Connection { rest_url: Some("http://127.0.0.1:1".into()), ..double.connection() };
    let error = Server::connect(nobody).unwrap().make_archive("c").unwrap_err();
    assert_eq!(error.kind(), ServerErrorKind::Unreachable);
    assert!(error.to_string().contains("kb.server.rest_url"), "{error}");
}
