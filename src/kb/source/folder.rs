//! Articles out of a directory as people keep them: Markdown or text files with pictures beside them.
//!
//! One article per text file, and one per picture that belongs to no text.
//! Which pictures belong to a text: those that it names or shows, and those of the same name (`ruin.md`, `ruin.jpg`,
//! `ruin-2.png`); to an `index.md` or the only text of its directory that names and shows none, all that lie there.
//! Names that begin with a dot are left out, and links to directories are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::markdown::{self, Page};
use super::names::{percent_decoded, spoken_name, spoken_stem};
use super::{Identity, Malformed, Position, RecordUnit, Source, SourceError};
use crate::io::pictures::is_picture;
use crate::kb::{Article, PictureRef, Section};

/// Name in `--source NAME:PATH`.
pub(super) const NAME: &str = "folder";

/// Longest text file, bytes.
const MAX_TEXT: u64 = 64 << 20;

/// A text or picture below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Path below the directory, with `/`.
    name: String,
    size: u64,
    modified: Option<SystemTime>,
}

/// Reader of one directory.
#[derive(Debug)]
pub(super) struct Folder {
    identity: Identity,
    /// All texts and pictures, by name.
    files: Vec<File>,
    /// Indices in `files` of those that are articles.
    records: Vec<usize>,
    neighbours: Neighbours,
    next: usize,
    bytes_read: u64,
}

impl Folder {
    /// Lists the directory and reads its texts once, for their hash and for the pictures that they show.
    ///
    /// # Errors
    /// [`SourceError::Read`].
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        Self::list(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })
    }

    fn list(path: &Path) -> io::Result<Self> {
        let root = fs_err::canonicalize(path)?;
        if !root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is a file; expected a directory"));
        }
        let files = walk(&root)?;
        let mut hasher = blake3::Hasher::new();
        let mut neighbours = Neighbours::default();
        let mut claimed = BTreeSet::new();
        // Texts, and whether they name or show pictures.
        let mut pages = Vec::new();
        for file in &files {
            let (dir, last) = parts(&file.name);
            hasher.update(&(file.name.len() as u64).to_le_bytes()).update(file.name.as_bytes());
            if is_picture(&file.name) {
                neighbours.pictures.entry(dir.to_owned()).or_default().push(file.name.clone());
                hasher.update(b"p").update(&file.size.to_le_bytes());
            } else {
                neighbours.texts.entry(dir.to_owned()).or_default().push(stem(last).to_owned());
                hasher.update(b"t").update(crate::io::hash::blake3_file(&root.join(&file.name))?.as_bytes());
                if let Ok(page) = page(&root, file)? {
                    let targets = page.images.iter().chain(page.shown.iter().map(|shown| &shown.target));
                    let named: Vec<String> = targets.filter_map(|target| resolve(&root, dir, target)).collect();
                    pages.push((&file.name, !named.is_empty()));
                    claimed.extend(named);
                }
            }
        }
        claimed.extend(pages.into_iter().flat_map(|(name, names)| neighbours.beside(name, names)).cloned());
        let is_article = |file: &File| !is_picture(&file.name) || !claimed.contains(&file.name);
        let records: Vec<usize> = (0..files.len()).filter(|n| is_article(&files[*n])).collect();
        let identity = Identity {
            name: NAME.to_owned(),
            path: root,
            hash: hasher.finalize().to_hex().to_string(),
            bytes: records.iter().map(|n| files[*n].size).sum(),
            unit: RecordUnit::File,
        };
        Ok(Self { identity, files, records, neighbours, next: 0, bytes_read: 0 })
    }

    fn read_error(&self, source: io::Error) -> SourceError {
        SourceError::Read { path: self.identity.path.clone(), source }
    }

    /// The outer error is the system's, the inner one concerns this file alone.
    fn article(&self, file: &File) -> io::Result<Result<Article, String>> {
        let url = format!("file:{}", file.name);
        let title = spoken_stem(&file.name);
        if is_picture(&file.name) {
            let pictures = vec![PictureRef { name: file.name.clone(), ..PictureRef::default() }];
            return Ok(Ok(Article { url, title, sections: Vec::new(), pictures }));
        }
        let page = match page(&self.identity.path, file)? {
            Ok(page) => page,
            Err(reason) => return Ok(Err(reason)),
        };
        // The text of a directory is called what the directory is called.
        let (dir, last) = parts(&file.name);
        let index = stem(last).eq_ignore_ascii_case("index") && !dir.is_empty();
        let title = page.title.clone().unwrap_or_else(|| if index { spoken_name(parts(dir).1) } else { title });
        let pictures = match self.pictures_of(file, &page) {
            Ok(pictures) => pictures,
            Err(reason) => return Ok(Err(reason)),
        };
        let section = |(heading, text): (Option<String>, String)| Section {
            title: heading.unwrap_or_else(|| title.clone()),
            text,
        };
        let sections: Vec<Section> = page.sections.into_iter().map(section).collect();
        if sections.is_empty() && pictures.is_empty() {
            return Ok(Err("it is empty, and no picture belongs to it".to_owned()));
        }
        Ok(Ok(Article { url: page.url.unwrap_or(url), title, sections, pictures }))
    }

    fn pictures_of(&self, file: &File, page: &Page) -> Result<Vec<PictureRef>, String> {
        let (dir, _) = parts(&file.name);
        let named = page.images.iter().map(|target| (target, "", 0));
        let shown = page.shown.iter().map(|shown| (&shown.target, shown.caption.as_str(), shown.section));
        let mut pictures: Vec<PictureRef> = Vec::new();
        for (target, caption, section) in named.chain(shown) {
            let name = resolve(&self.identity.path, dir, target)
                .ok_or_else(|| format!("its picture {target:?} lies outside the folder; expected one below it"))?;
            match pictures.iter_mut().find(|picture| picture.name == name) {
                // Named in front and shown further down, with its caption there.
                Some(known) if known.caption.is_empty() => {
                    (known.caption, known.section) = (caption.to_owned(), section);
                }
                Some(_) => {}
                None => pictures.push(PictureRef { name, caption: caption.to_owned(), section }),
            }
        }
        for name in self.neighbours.beside(&file.name, !pictures.is_empty()) {
            if pictures.iter().all(|picture| picture.name != *name) {
                pictures.push(PictureRef { name: name.clone(), ..PictureRef::default() });
            }
        }
        Ok(pictures)
    }
}

/// What lies beside what.
#[derive(Debug, Default)]
struct Neighbours {
    /// Pictures by the directory that they lie in.
    pictures: BTreeMap<String, Vec<String>>,
    /// Stems of texts by the directory that they lie in.
    texts: BTreeMap<String, Vec<String>>,
}

impl Neighbours {
    /// Pictures of a text by where they lie, whether it names some besides or none.
    fn beside<'a>(&'a self, text: &'a str, names: bool) -> impl Iterator<Item = &'a String> {
        let (dir, last) = parts(text);
        let texts = self.texts.get(dir).map_or(&[][..], Vec::as_slice);
        let beside = self.pictures.get(dir).map_or(&[][..], Vec::as_slice);
        let own = stem(last);
        // The text of the very name comes before one of which it is the continuation.
        let owner = move |picture: &str| {
            let picture = stem(parts(picture).1);
            let exact = texts.iter().find(|text| *text == picture);
            exact.or_else(|| texts.iter().find(|text| continues(text, picture)))
        };
        let all = !names && (own.eq_ignore_ascii_case("index") || texts.len() == 1);
        let mine = move |name: &&String| owner(name).is_some_and(|owner| owner == own);
        let free = move |name: &&String| all && owner(name).is_none();
        beside.iter().filter(mine).chain(beside.iter().filter(free))
    }
}

impl Iterator for Folder {
    type Item = Result<(Position, Article), SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.files[*self.records.get(self.next)?].clone();
        self.next += 1;
        self.bytes_read += file.size;
        let position = Position { record: self.next as u64, end: self.next as u64 };
        Some(match self.article(&file) {
            Ok(Ok(article)) => Ok((position, article)),
            Ok(Err(reason)) => {
                let reason = format!("{}: {reason}", file.name);
                let (path, unit) = (self.identity.path.clone(), self.identity.unit);
                Err(Malformed { path, unit, position, reason }.into())
            }
            Err(e) => {
                self.next = self.records.len();
                Err(self.read_error(e))
            }
        })
    }
}

impl Source for Folder {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn picture_root(&self) -> &Path {
        &self.identity.path
    }

    fn resume_after(&mut self, position: Position) -> Result<(), SourceError> {
        self.next = usize::try_from(position.record).unwrap_or(usize::MAX).min(self.records.len());
        self.bytes_read = self.records[..self.next].iter().map(|n| self.files[*n].size).sum();
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        let now = walk(&self.identity.path).map_err(|e| self.read_error(e))?;
        if now == self.files { Ok(()) } else { Err(SourceError::Changed { path: self.identity.path.clone() }) }
    }
}

/// All texts and pictures below `root`, in the order of their names.
fn walk(root: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open: Vec<(PathBuf, String)> = vec![(root.to_owned(), String::new())];
    while let Some((dir, prefix)) = open.pop() {
        for entry in fs_err::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let lossy = name.to_string_lossy();
                if is_picture(&lossy) || is_text(&lossy) {
                    let reason = format!("the file name {lossy:?} in {} is not UTF-8; rename it", dir.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                continue;
            };
            let kind = entry.file_type()?;
            if name.starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                open.push((entry.path(), format!("{prefix}{name}/")));
            } else if is_picture(name) || is_text(name) {
                let meta = fs_err::metadata(entry.path())?;
                if meta.is_file() {
                    let (size, modified) = (meta.len(), meta.modified().ok());
                    files.push(File { name: format!("{prefix}{name}"), size, modified });
                }
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The inner error is why this file cannot be used.
fn page(root: &Path, file: &File) -> io::Result<Result<Page, String>> {
    if file.size > MAX_TEXT {
        return Ok(Err(format!("{} bytes; expected a text of at most {MAX_TEXT}", file.size)));
    }
    Ok(match String::from_utf8(fs_err::read(root.join(&file.name))?) {
        Ok(text) => Ok(markdown::parse(&text)),
        Err(e) => Err(format!("not UTF-8 from byte {} on; expected UTF-8", e.utf8_error().valid_up_to() + 1)),
    })
}

fn is_text(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| ["md", "markdown", "txt"].iter().any(|e| ending.eq_ignore_ascii_case(e)))
}

/// Directory and file name.
fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Whether `picture` is `text` with a number: `ruin-2` of `ruin`.
fn continues(text: &str, picture: &str) -> bool {
    let number = picture.strip_prefix(text).and_then(|rest| rest.strip_prefix(['-', '_']));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Path below `root` of what a text in `dir` calls `target`; `None` where that leads out.
fn resolve(root: &Path, dir: &str, target: &str) -> Option<String> {
    let joined = |target: &str| {
        if target.starts_with(['/', '\\']) || target.contains(['\\', '\0']) || target.contains("://") {
            return None;
        }
        let mut path: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(path.pop()?),
                part => path.push(part),
            }
        }
        (!path.is_empty()).then(|| path.join("/"))
    };
    let written = joined(target);
    let there = written.as_ref().is_some_and(|name| root.join(name).is_file());
    if there || !target.contains('%') { written } else { joined(&percent_decoded(target)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    /// Title and pictures of every article.
    fn shown(folder: &mut Folder) -> Vec<(String, Vec<String>)> {
        let one = |item: Result<(Position, Article), SourceError>| {
            let article = item.unwrap().1;
            (article.title, article.pictures.into_iter().map(|picture| picture.name).collect())
        };
        folder.map(one).collect()
    }

    fn expected(rows: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        rows.iter().map(|(t, p)| ((*t).to_owned(), p.iter().map(|p| (*p).to_owned()).collect())).collect()
    }

    #[test]
    fn pictures_come_to_the_text_that_they_belong_to() {
        let (_dir, mut folder) = folder(&[
            ("a/index.md", "# All\nx"),
            ("a/sub.d_1/index.md", "x"),
            ("a/other.md", "x"),
            ("a/other.png", ""),
            ("a/free.png", ""),
            ("b/only-one.txt", "x"),
            ("b/z.JPG", ""),
            ("b/only-one.webp", ""),
            ("c/ruin.md", "# Ruin\nx"),
            ("c/ruin.jpg", ""),
            ("c/ruin-2.png", ""),
            ("c/ruin-3.png", ""),
            ("c/ruin-3.md", "x"),
            ("c/nobody.png", ""),
            ("d/linked.md", "![Wall](../shots/wall%201.png)\n## Later\ntext\n![](deep/x.png)"),
            ("d/linked.png", ""),
            ("d/deep/x.png", ""),
            ("shots/wall 1.png", ""),
            ("shots/my_old-tower.png", ""),
            (".hidden/x.png", ""),
            ("shots/.x.png", ""),
            ("shots/notes.pdf", ""),
        ]);
        let rows: &[(&str, &[&str])] = &[
            ("All", &["a/free.png"]),
            ("other", &["a/other.png"]),
            ("sub.d 1", &[]),
            ("only one", &["b/only-one.webp", "b/z.JPG"]),
            ("nobody", &["c/nobody.png"]),
            ("ruin 3", &["c/ruin-3.png"]),
            ("Ruin", &["c/ruin-2.png", "c/ruin.jpg"]),
            ("linked", &["shots/wall 1.png", "d/deep/x.png", "d/linked.png"]),
            ("my old tower", &["shots/my_old-tower.png"]),
        ];
        assert_eq!(shown(&mut folder), expected(rows));
    }

    #[test]
    fn a_plain_folder_of_pictures_is_a_source() {
        let (_dir, mut folder) = folder(&[("b.png", "2"), ("x/a_b.jpeg", "22"), ("table.csv", "")]);
        assert_eq!((folder.identity().unit, folder.identity().bytes), (RecordUnit::File, 3));
        let (position, article) = folder.next().unwrap().unwrap();
        assert_eq!((position.record, article.url.as_str(), article.title.as_str()), (1, "file:b.png", "b"));
        assert_eq!(shown(&mut folder), expected(&[("a b", &["x/a_b.jpeg"])]));
        assert_eq!(folder.bytes_read(), 3);
        folder.resume_after(position).unwrap();
        assert_eq!(folder.bytes_read(), 1);
        assert_eq!(shown(&mut folder), expected(&[("a b", &["x/a_b.jpeg"])]));
    }

    #[test]
    fn front_matter_and_sections_make_the_article() {
        let text = "---\ntitle: Scupi\nurl: https://example.org/s\nimage: img/a.png\n---\nOld.\n\n## History\n1925.\n![A](img/a.png)";
        let (_dir, mut folder) = folder(&[("s.md", text), ("img/a.png", "")]);
        let article = folder.next().unwrap().unwrap().1;
        assert!(folder.next().is_none());
        assert_eq!((article.url.as_str(), article.title.as_str()), ("https://example.org/s", "Scupi"));
        let titles: Vec<&str> = article.sections.iter().map(|section| section.title.as_str()).collect();
        assert_eq!(titles, ["Scupi", "History"]);
        assert_eq!(article.pictures, [PictureRef { name: "img/a.png".into(), caption: "A".into(), section: 1 }]);
    }

    #[test]
    fn what_cannot_be_used_is_named_and_reading_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a.md", &b"![x](../../etc/x.png)"[..]),
            ("b.md", b"\xff"),
            ("c.md", b" \n"),
            ("d.md", b"![x](/etc/x.png)"),
            ("e.md", b"fine"),
        ] {
            fs_err::write(dir.path().join(name), bytes).unwrap();
        }
        let mut folder = Folder::open(dir.path()).unwrap();
        let mut reason = || folder.next().unwrap().unwrap_err().to_string();
        let said = reason();
        assert!(said.contains("file 1: a.md: its picture \"../../etc/x.png\" lies outside the folder"), "{said}");
        assert!(reason().contains("file 2: b.md: not UTF-8 from byte 1"));
        assert!(reason().contains("file 3: c.md: it is empty"));
        assert!(reason().contains("d.md: its picture \"/etc/x.png\" lies outside"));
        assert_eq!(shown(&mut folder), expected(&[("e", &[])]));
        assert!(Folder::open(&dir.path().join("e.md")).unwrap_err().to_string().contains("expected a directory"));
    }

    #[test]
    fn the_hash_is_that_of_names_texts_and_sizes_of_pictures_and_changes_are_noticed() {
        let files = [("a.md", "x"), ("a.png", "22")];
        let hash = |files: &[(&str, &str)]| folder(files).1.identity().hash.clone();
        assert_eq!(hash(&files), hash(&files));
        assert_eq!(hash(&files), hash(&[("a.md", "x"), ("a.png", "23")]));
        for other in [[("a.md", "y"), files[1]], [("b.md", "x"), files[1]], [files[0], ("a.png", "333")]] {
            assert_ne!(hash(&files), hash(&other), "{other:?}");
        }
        let (dir, folder) = folder(&files);
        folder.check_unchanged().unwrap();
        fs_err::write(dir.path().join("b.md"), "new").unwrap();
        assert!(matches!(folder.check_unchanged(), Err(SourceError::Changed { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_to_directories_are_not_followed() {
        let (dir, _) = folder(&[("a/a.md", "x")]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        assert_eq!(shown(&mut Folder::open(dir.path()).unwrap()).len(), 1);
    }
}
