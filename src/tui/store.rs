//! The one writer of sessions and of the history of questions: a thread with a queue, so that no two writes meet and no
//! frame waits for a disk.
//!
//! Another process may have the same session open. Each writes while it holds the folder, and sees first whether the file
//! is as it left it: if it is not, the session goes on beside it under another name, and neither loses anything.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::app::session_id;
use super::event::{Event, Told};
use super::session::{Form, Head, Saved, VERSION};
use crate::io::{DirLock, safe_join, write_atomic};

/// Sessions that are kept; the oldest make way.
const MOST_SESSIONS: usize = 500;

/// Questions that are remembered.
const MOST_ASKED: usize = 1000;

/// File of the questions, beside the sessions.
const ASKED: &str = "asked.json";

/// How long it is waited for another process that writes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Numbers of sessions that parted from one of another process.
const PARTED_FROM: u64 = 900;

/// What is to be done.
pub enum Order {
    /// Write a session.
    Keep(Box<Saved>),
    /// Add a question to the history.
    Remember(String),
    /// Write a session into a file in a folder of the user's.
    Export(Box<Saved>, Form, PathBuf),
    /// List the sessions.
    List,
    /// Read a session.
    Resume(String),
    /// Remove a session.
    Forget(String),
}

/// The writer.
pub struct Store {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Starts it over a folder, which is made where it is not there; `tell` hears what comes of orders.
    #[must_use]
    pub fn start(folder: PathBuf, tell: impl Fn(Event) + Send + 'static) -> Self {
        let (orders, queue) = channel();
        let thread =
            std::thread::Builder::new().name("sessions".into()).spawn(move || work(&folder, &queue, tell)).ok();
        Self { orders: Some(orders), thread }
    }

    /// Hands over an order.
    pub fn order(&self, order: Order) {
        // A writer that has gone has told why.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Drop for Store {
    /// Waits until everything that was ordered is done.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Questions of earlier runs, oldest first; none where they cannot be read.
#[must_use]
pub fn asked(folder: &Path) -> Vec<String> {
    asked_or_told(folder).unwrap_or_default()
}

/// The same, for who writes it anew: one that cannot be read is left as it is.
fn asked_or_told(folder: &Path) -> Result<Vec<String>, Told> {
    let path = folder.join(ASKED);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs_err::read_to_string(&path).map_err(told)?;
    serde_json::from_str(&text)
        .map_err(|e| Told::new(format!("{}: no list of questions: {e}; move it away", path.display())))
}

fn work(folder: &Path, queue: &Receiver<Order>, tell: impl Fn(Event)) {
    let mut pruned = false;
    let mut files = Files::default();
    for order in queue {
        let event = match order {
            Order::Keep(saved) if saved.is_empty() => None,
            Order::Keep(saved) => {
                let outcome = files.keep(folder, *saved);
                if outcome.is_ok() && !std::mem::replace(&mut pruned, true) {
                    prune(folder);
                }
                match outcome {
                    Ok(None) => None,
                    Ok(Some((from, to))) => Some(Event::Parted { from, to }),
                    Err(told) => Some(Event::Failed(told)),
                }
            }
            Order::Remember(question) => remember(folder, question).err().map(Event::Failed),
            Order::Export(saved, form, into) => Some(Event::Exported(export(&into, &saved, form))),
            Order::List => Some(Event::Sessions(list(folder))),
            Order::Resume(id) => Some(Event::Resumed(files.resume(folder, &id).map(Box::new))),
            Order::Forget(id) => files.forget(folder, &id).err().map(Event::Failed),
        };
        if let Some(event) = event {
            tell(event);
        }
    }
}

fn told(error: impl std::fmt::Display) -> Told {
    Told::new(error)
}

fn file(folder: &Path, id: &str) -> Result<PathBuf, Told> {
    safe_join(folder, &format!("{id}.json")).map_err(told)
}

/// The folder, held against other processes and made where it is not there. Where nobody can be held off (a file system
/// without locks, another process that is stopped) it is gone on without: better two of one name than none at all.
fn hold(folder: &Path) -> Result<Option<DirLock>, Told> {
    fs_err::create_dir_all(folder).map_err(told)?;
    Ok(DirLock::wait(folder, PATIENCE).inspect_err(|e| tracing::warn!("{e}")).ok())
}

/// Files of sessions as this process knows them, by name.
#[derive(Default)]
struct Files {
    /// What stands in them by this process: what it read or wrote last, and what it tried to write since then.
    own: HashMap<String, Vec<blake3::Hash>>,
    /// Names under which those go on that another process wrote into.
    parted: HashMap<String, String>,
}

impl Files {
    /// Writes a session; the name it had and the one it has, where another process wrote into the one it had.
    fn keep(&mut self, folder: &Path, mut saved: Saved) -> Result<Option<(String, String)>, Told> {
        let _held = hold(folder)?;
        while let Some(to) = self.parted.get(&saved.id) {
            saved.id.clone_from(to);
        }
        let from = saved.id.clone();
        let there = match fs_err::read(file(folder, &from)?) {
            Ok(bytes) => Some(blake3::hash(&bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(told(e)),
        };
        let is_own = |hash| self.own.get(&from).is_some_and(|own| own.contains(&hash));
        let mut text = saved.export(Form::Json).map_err(told)?;
        if there != Some(blake3::hash(text.as_bytes())) && !there.is_none_or(is_own) {
            saved.id = beside(folder, &from)?;
            // A name that was one's own once, and whose file is gone.
            self.parted.remove(&saved.id);
            text = saved.export(Form::Json).map_err(told)?;
        }
        let hash = blake3::hash(text.as_bytes());
        // What could not be made durable may stand there nevertheless.
        self.own.entry(saved.id.clone()).or_default().push(hash);
        write_atomic(&file(folder, &saved.id)?, text.as_bytes()).map_err(told)?;
        self.own.insert(saved.id.clone(), vec![hash]);
        if saved.id == from {
            return Ok(None);
        }
        self.parted.insert(from.clone(), saved.id.clone());
        Ok(Some((from, saved.id)))
    }

    /// Reads a session to go on with.
    fn resume(&mut self, folder: &Path, id: &str) -> Result<Saved, Told> {
        let (saved, text) = read(folder, id)?;
        self.own.insert(id.to_owned(), vec![blake3::hash(text.as_bytes())]);
        self.parted.remove(id);
        Ok(saved)
    }

    fn forget(&mut self, folder: &Path, id: &str) -> Result<(), Told> {
        self.own.remove(id);
        forget(folder, id)
    }
}

/// A free name for what parts from a session: of the same second, and of this process, whose own sessions are counted
/// from 0.
fn beside(folder: &Path, id: &str) -> Result<String, Told> {
    let when = id.split_once('-').map_or(id, |(when, _)| when);
    let names = (PARTED_FROM..1000).map(|number| session_id(when, std::process::id(), number));
    let free = |id: &String| file(folder, id).is_ok_and(|path| !path.exists());
    names.into_iter().find(free).ok_or_else(|| Told::new("no name is left for this session; begin a new one"))
}

fn remember(folder: &Path, question: String) -> Result<(), Told> {
    let _held = hold(folder)?;
    let mut all = asked_or_told(folder)?;
    if all.last() == Some(&question) {
        return Ok(());
    }
    all.push(question);
    let from = all.len().saturating_sub(MOST_ASKED);
    let text = serde_json::to_string(&all[from..]).map_err(told)?;
    write_atomic(&folder.join(ASKED), text.as_bytes()).map_err(told)
}

fn read(folder: &Path, id: &str) -> Result<(Saved, String), Told> {
    let path = file(folder, id)?;
    let text = fs_err::read_to_string(&path).map_err(told)?;
    let mut saved: Saved =
        serde_json::from_str(&text).map_err(|e| Told::new(format!("{}: no session: {e}", path.display())))?;
    if saved.version != VERSION {
        let found = saved.version;
        return Err(Told::new(format!("{}: version {found}, expected {VERSION}", path.display())));
    }
    id.clone_into(&mut saved.id);
    Ok((saved, text))
}

fn forget(folder: &Path, id: &str) -> Result<(), Told> {
    fs_err::remove_file(file(folder, id)?).map_err(told)
}

/// Names of the sessions, newest first: they begin with the time.
fn names(folder: &Path) -> Result<Vec<String>, Told> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names: Vec<(u64, u64, String)> = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(told)? {
        let name = entry.map_err(told)?.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_suffix(".json") else { continue };
        let numbers = id.split_once('-').and_then(|(when, n)| Some((when.parse().ok()?, n.parse().ok()?)));
        if let Some((when, n)) = numbers {
            names.push((when, n, id.to_owned()));
        }
    }
    names.sort();
    Ok(names.into_iter().rev().map(|(_, _, id)| id).collect())
}

/// Those that can be read; a damaged one hides none of the others.
fn list(folder: &Path) -> Result<Vec<Head>, Told> {
    let read = |id: String| {
        read(folder, &id).inspect_err(|told| tracing::warn!("{}", told.message)).ok().map(|(saved, _)| saved.head())
    };
    Ok(names(folder)?.into_iter().filter_map(read).collect())
}

/// Removes those that were not touched for the longest time.
fn prune(folder: &Path) {
    let touched = |id: &String| file(folder, id).ok().and_then(|path| fs_err::metadata(path).ok()?.modified().ok());
    let mut all = names(folder).unwrap_or_default();
    all.sort_by_cached_key(|id| std::cmp::Reverse(touched(id)));
    for id in all.into_iter().skip(MOST_SESSIONS) {
        if let Err(told) = forget(folder, &id) {
            tracing::warn!("{}", told.message);
        }
    }
}

fn export(into: &Path, saved: &Saved, form: Form) -> Result<PathBuf, Told> {
    let text = saved.export(form).map_err(told)?;
    let path = into.join(format!("cicerone-{}.{}", saved.id, form.extension()));
    write_atomic(&path, text.as_bytes()).map_err(told)?;
    Ok(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::tui::tests::world;

    fn saved(id: &str) -> Box<Saved> {
        Box::new(Saved {
            version: VERSION,
            id: id.into(),
            began_unix_s: 5,
            kb: String::new(),
            picture: None,
            draft: String::new(),
            turns: vec![world::answered(1, id, None)],
        })
    }

    fn done(folder: &Path, orders: Vec<Order>) -> Vec<Event> {
        let (tell, told) = channel();
        let store = Store::start(folder.to_owned(), move |event| drop(tell.send(event)));
        orders.into_iter().for_each(|order| store.order(order));
        drop(store);
        told.try_iter().collect()
    }

    #[test]
    fn sessions_are_kept_listed_gone_on_with_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sessions");
        assert!(matches!(&done(&folder, vec![Order::List])[..], [Event::Sessions(Ok(none))] if none.is_empty()));
        let events = done(
            &folder,
            vec![
                Order::Keep(saved("100-0")),
                Order::Keep(saved("90-1")),
                Order::Keep(saved("100-1")),
                Order::Keep(Box::new(Saved { turns: Vec::new(), ..*saved("101-0") })),
                Order::Remember("one".into()),
                Order::Remember("one".into()),
                Order::Remember("two".into()),
            ],
        );
        assert!(events.is_empty(), "{events:?}");
        fs_err::write(folder.join("110-0.json"), "{").unwrap();
        fs_err::write(folder.join("notes.json"), "{}").unwrap();
        let [Event::Sessions(Ok(list)), Event::Resumed(Ok(back)), Event::Resumed(Err(bad))] =
            &done(&folder, vec![Order::List, Order::Resume("90-1".into()), Order::Resume("110-0".into())])[..]
        else {
            panic!("other events")
        };
        assert_eq!(list.iter().map(|head| head.id.as_str()).collect::<Vec<_>>(), ["100-1", "100-0", "90-1"]);
        assert_eq!(back.turns.len(), 1);
        assert!(bad.message.contains("110-0.json: no session"), "{bad:?}");
        assert_eq!(asked(&folder), ["one", "two"]);
        let events = done(&folder, vec![Order::Forget("90-1".into()), Order::Forget("90-1".into()), Order::List]);
        assert!(matches!(&events[..], [Event::Failed(_), Event::Sessions(Ok(list))] if list.len() == 2), "{events:?}");
    }

    #[test]
    fn two_windows_on_one_session_keep_both() {
        let dir = tempfile::tempdir().unwrap();
        done(dir.path(), vec![Order::Keep(saved("100-0"))]);
        let window = || {
            let (tell, told) = channel();
            (Store::start(dir.path().to_owned(), move |event| drop(tell.send(event))), told)
        };
        let with = |draft: &str| Box::new(Saved { draft: draft.into(), ..*saved("100-0") });
        let ((one, _), (other, told)) = (window(), window());
        one.order(Order::Resume("100-0".into()));
        other.order(Order::Resume("100-0".into()));
        assert!(matches!(told.recv().unwrap(), Event::Resumed(Ok(_))));
        one.order(Order::Keep(with("of one")));
        one.order(Order::Keep(with("of one again")));
        drop(one);
        // It does not hear of its new name before it keeps once more.
        other.order(Order::Keep(with("of the other")));
        other.order(Order::Keep(with("of the other again")));
        other.order(Order::Resume("100-0".into()));
        other.order(Order::Keep(with("gone on with")));
        drop(other);
        let events: Vec<Event> = told.try_iter().collect();
        let [Event::Parted { from, to }, Event::Resumed(Ok(back))] = &events[..] else { panic!("{events:?}") };
        assert_eq!((from.as_str(), to), ("100-0", &session_id("100", std::process::id(), PARTED_FROM)));
        assert_eq!(back.draft, "of one again");
        let draft = |id| read(dir.path(), id).unwrap().0.draft;
        assert_eq!((draft("100-0"), draft(to)), ("gone on with".into(), "of the other again".into()));
        assert_eq!(list(dir.path()).unwrap().len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("100-0.json");
        // It leads to itself; to write would put a file in its place.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        Files::default().keep(dir.path(), *saved("100-0")).unwrap_err();
        assert!(path.is_symlink());
    }

    #[test]
    fn equal_files_are_nobodys_and_a_name_that_is_free_again_is_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let with = |id: &str, draft: &str| Saved { draft: draft.into(), ..*saved(id) };
        let foreign = |id: &str, draft: &str| Files::default().keep(dir.path(), with(id, draft));
        let mut files = Files::default();
        foreign("100-0", "same").unwrap();
        assert_eq!(files.keep(dir.path(), with("100-0", "same")).unwrap(), None, "there is nothing to part from");
        // It parts twice, and the first of its names becomes free.
        fs_err::write(dir.path().join("100-0.json"), "other").unwrap();
        let (_, first) = files.keep(dir.path(), with("100-0", "a")).unwrap().unwrap();
        fs_err::write(dir.path().join(format!("{first}.json")), "other").unwrap();
        let (_, second) = files.keep(dir.path(), with(&first, "b")).unwrap().unwrap();
        files.forget(dir.path(), &first).unwrap();
        fs_err::write(dir.path().join(format!("{second}.json")), "other").unwrap();
        let (from, third) = files.keep(dir.path(), with("100-0", "c")).unwrap().unwrap();
        assert_eq!((&from, &third), (&second, &first));
        assert_eq!(files.keep(dir.path(), with(&third, "d")).unwrap(), None);
        assert_eq!(read(dir.path(), &third).unwrap().0.draft, "d");
    }

    #[test]
    fn two_windows_remember_both_their_questions() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for window in 0..2 {
                let folder = dir.path();
                scope.spawn(move || {
                    for n in 0..20 {
                        done(folder, vec![Order::Remember(format!("{window} asks {n}"))]);
                        // Who looks only now and then whether it may has its turn too.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                });
            }
        });
        assert_eq!(asked(dir.path()).len(), 40);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let events = done(dir.path(), vec![Order::Forget("../x".into()), Order::Resume("/etc/passwd".into())]);
        assert!(matches!(&events[..], [Event::Failed(_), Event::Resumed(Err(_))]), "{events:?}");
    }

    #[test]
    fn an_export_goes_where_it_is_wanted_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let export = |form, into: &Path| {
            let mut events = done(dir.path(), vec![Order::Export(saved("7-0"), form, into.to_owned())]);
            let Some(Event::Exported(result)) = events.pop() else { panic!("another event") };
            result
        };
        let path = export(Form::Markdown, dir.path()).unwrap();
        assert!(path.ends_with("cicerone-7-0.md"));
        assert!(fs_err::read_to_string(path).unwrap().starts_with("# 7-0\n"));
        assert!(export(Form::Json, &dir.path().join("none")).is_err());
    }
}
