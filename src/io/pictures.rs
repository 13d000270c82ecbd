//! Pictures by the names that data sets give them: paths, ids, or URLs.
//!
//! | layout | the picture called `name` is |
//! | --- | --- |
//! | `path` | the file `name` |
//! | `flat` | `{name}.jpg`, or another usual ending, in the directory itself (OMGM) |
//! | `hashed` | `{name[0]}/{name[1]}/{name[2]}/{name}.jpg` (Google Landmarks v2) |
//! | `oven` | `04/oven_04958423.jpg`: the first two digits of its number, then the name (`merge_oven_images.py`) |
//! | `md5` | `{md5(name)}.jpg`, which is what mKG-RAG's downloader calls the picture at a URL |
//! | `map:FILE` | what FILE says: JSON object, JSON lines, CSV or TSV from id to path (iNaturalist, OVEN) |
//! | `auto` | the first of `path`, `oven`, `hashed` and `flat` that is there; `md5` for a URL |

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::{IoError, safe_join};

/// Endings that a picture called by an id may have, the most usual first.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "JPEG", "JPG", "png", "webp"];

/// Endings of files that are pictures, in lower case.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Whether a file of this name is a picture that can be decoded.
#[must_use]
pub fn is_picture(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| PICTURES.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// How names lead to files; see the table of this module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layout {
    /// Whichever of the others fits.
    #[default]
    Auto,
    /// The name is a path.
    Path,
    /// The name is an id, and the file lies in the directory itself.
    Flat,
    /// The name is an id, and its first three characters are directories.
    Hashed,
    /// The name is one of OVEN's ids.
    Oven,
    /// The file is called by the name's MD5.
    Md5,
    /// This file says where each is.
    Map(PathBuf),
}

impl Layout {
    /// Those without a file, by name.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("auto", Self::Auto),
        ("path", Self::Path),
        ("flat", Self::Flat),
        ("hashed", Self::Hashed),
        ("oven", Self::Oven),
        ("md5", Self::Md5),
    ];
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix("map:").filter(|file| !file.is_empty()) {
            return Ok(Self::Map(file.into()));
        }
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, layout)| layout);
        found.ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("unknown layout of pictures {text:?}; expected {names} or map:FILE")
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Map(file) = self {
            return write!(f, "map:{}", file.display());
        }
        f.write_str(Self::NAMES.iter().find(|(_, layout)| layout == self).map_or("auto", |(name, _)| name))
    }
}

impl TryFrom<String> for Layout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Layout> for String {
    fn from(layout: Layout) -> Self {
        layout.to_string()
    }
}

/// Files of pictures below one directory.
#[derive(Debug, Clone)]
pub struct PictureFiles {
    root: PathBuf,
    layout: Layout,
    /// Paths by name, for [`Layout::Map`].
    map: Arc<HashMap<String, String>>,
}

impl PictureFiles {
    /// Pictures below `root`, in whatever layout ([`Layout::Auto`]).
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), layout: Layout::Auto, map: Arc::default() }
    }

    /// Pictures below `root` in this layout. Reads the file of [`Layout::Map`], which is held in memory.
    ///
    /// # Errors
    /// That file cannot be read, or [`IoError::Line`] where it is no map.
    pub fn with_layout(root: &Path, layout: Layout) -> Result<Self, IoError> {
        let map = if let Layout::Map(file) = &layout { read_map(file)? } else { HashMap::new() };
        Ok(Self { root: root.to_owned(), layout, map: Arc::new(map) })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Path below the directory, with `/`, of the picture called `name`; `None` where it is not there. A URL is no
    /// path, and is there only where the layout is one of URLs or of any name (`md5`, `map`, `auto`).
    ///
    /// # Errors
    /// [`IoError::UnsafePath`] for a name, or a path in a map, that leads out of the directory.
    pub fn find(&self, name: &str) -> Result<Option<String>, IoError> {
        let url = name.contains("://");
        match &self.layout {
            Layout::Map(_) => self.map.get(name).map_or(Ok(None), |path| self.there(path.clone())),
            Layout::Md5 => self.hashed_name(name),
            Layout::Auto if url => self.hashed_name(name),
            _ if url => Ok(None),
            Layout::Path => self.there(name.to_owned()),
            Layout::Flat => self.with_ending(name),
            Layout::Hashed => self.in_three(name),
            Layout::Oven => self.in_oven(name),
            Layout::Auto => {
                if let Some(found) = self.there(name.to_owned())? {
                    return Ok(Some(found));
                }
                // An id is one word; what has a folder or an ending is a path, and was looked for.
                if name.contains(['/', '\\']) || is_picture(name) {
                    return Ok(None);
                }
                for look in [Self::in_oven, Self::in_three, Self::with_ending] {
                    if let Some(found) = look(self, name)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    fn there(&self, path: String) -> Result<Option<String>, IoError> {
        Ok(safe_join(&self.root, &path)?.is_file().then_some(path))
    }

    /// `stem` with whichever ending is there.
    fn with_ending(&self, stem: &str) -> Result<Option<String>, IoError> {
        for ending in ENDINGS {
            if let Some(found) = self.there(format!("{stem}.{ending}"))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_three(&self, id: &str) -> Result<Option<String>, IoError> {
        let mut letters = id.chars();
        let (Some(a), Some(b), Some(c)) = (letters.next(), letters.next(), letters.next()) else {
            return Ok(None);
        };
        if [a, b, c].iter().all(char::is_ascii_alphanumeric) {
            self.with_ending(&format!("{a}/{b}/{c}/{id}"))
        } else {
            // Checked all the same: a name that leads out is an error in every layout.
            safe_join(&self.root, id).map(|_| None)
        }
    }

    fn in_oven(&self, id: &str) -> Result<Option<String>, IoError> {
        match id.strip_prefix("oven_").and_then(|number| number.get(..2)) {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => self.with_ending(&format!("{digits}/{id}")),
            _ => safe_join(&self.root, id).map(|_| None),
        }
    }

    fn hashed_name(&self, name: &str) -> Result<Option<String>, IoError> {
        self.with_ending(&super::hash::hex(&Md5::digest(name.as_bytes())))
    }
}

/// Reads a map from id to path: a JSON object, JSON lines with an id and a path, or two columns with or without a head.
fn read_map(file: &Path) -> Result<HashMap<String, String>, IoError> {
    let text = fs_err::read_to_string(file)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let bad = |line: usize, reason: String| IoError::Line { path: file.to_owned(), line, reason };
    if !text.trim_start().starts_with('{') {
        return read_columns(text, &bad);
    }
    let whole = match serde_json::from_str(text) {
        Ok(map) => return Ok(map),
        Err(e) => e,
    };
    let mut map = HashMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = serde_json::from_str::<MapRow>(line).map_err(|e| {
            let reason = format!("{e}; expected an id and a path, or the whole file as one object ({whole})");
            bad(n + 1, reason)
        })?;
        map.insert(row.id.into(), row.path);
    }
    Ok(map)
}

#[derive(Deserialize)]
struct MapRow {
    #[serde(alias = "image_id")]
    id: MapId,
    #[serde(alias = "image_path", alias = "file_name")]
    path: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MapId {
    Text(String),
    Number(u64),
}

impl From<MapId> for String {
    fn from(id: MapId) -> Self {
        match id {
            MapId::Text(id) => id,
            MapId::Number(id) => id.to_string(),
        }
    }
}

fn read_columns(text: &str, bad: &dyn Fn(usize, String) -> IoError) -> Result<HashMap<String, String>, IoError> {
    let delimiter = if text.lines().next().is_some_and(|line| line.contains('\t')) { b'\t' } else { b',' };
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let mut map = HashMap::new();
    for (n, record) in reader.records().enumerate() {
        let place = |record: &csv::StringRecord| record.position().map_or(n + 1, |p| p.line() as usize);
        let record = record.map_err(|e| bad(n + 1, e.to_string()))?;
        if record.len() != 2 {
            return Err(bad(place(&record), format!("{} columns; expected two, an id and a path", record.len())));
        }
        // The names of columns have no ending.
        if n > 0 || record[1].contains('.') {
            map.insert(record[0].trim().to_owned(), record[1].trim().to_owned());
        }
    }
    Ok(map)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// A directory with these files.
    fn files(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, name).unwrap();
        }
        dir
    }

    const URL: &str = "https://upload.wikimedia.org/a.jpg";

    #[test]
    fn every_layout_finds_its_own_and_auto_finds_them_all() {
        let hashed_url = format!("{}.jpg", crate::io::hash::hex(&Md5::digest(URL)));
        assert_eq!(crate::io::hash::hex(&Md5::digest("abc")), "900150983cd24fb0d6963f7d28e17f72");
        let dir =
            files(&["a/b.png", "2715027.JPEG", "a/e/6/ae67170774ef5750.jpg", "04/oven_04958423.png", &hashed_url]);
        let auto = PictureFiles::new(dir.path());
        for (layout, name, path) in [
            ("path", "a/b.png", "a/b.png"),
            ("flat", "2715027", "2715027.JPEG"),
            ("hashed", "ae67170774ef5750", "a/e/6/ae67170774ef5750.jpg"),
            ("oven", "oven_04958423", "04/oven_04958423.png"),
            ("md5", URL, hashed_url.as_str()),
        ] {
            let files = PictureFiles::with_layout(dir.path(), layout.parse().unwrap()).unwrap();
            assert_eq!(files.find(name).unwrap().as_deref(), Some(path), "{layout}");
            assert_eq!(auto.find(name).unwrap().as_deref(), Some(path), "auto, {layout}");
            assert_eq!(files.find("no-such").unwrap(), None, "{layout}");
        }
        assert_eq!(auto.find("a/c.png").unwrap(), None);
    }

    #[test]
    fn a_url_is_not_there_where_names_are_paths_and_no_name_leads_out() {
        let dir = files(&["a.png"]);
        for (layout, _) in Layout::NAMES {
            let files = PictureFiles::with_layout(dir.path(), layout.parse().unwrap()).unwrap();
            assert_eq!(files.find(URL).unwrap(), None, "{layout}");
            if layout != "md5" {
                assert!(matches!(files.find("../a"), Err(IoError::UnsafePath { .. })), "{layout}");
                assert!(matches!(files.find("/etc/passwd"), Err(IoError::UnsafePath { .. })), "{layout}");
            }
        }
    }

    #[test]
    fn maps_are_read_in_all_their_forms() {
        let dir = files(&["val/x.jpg"]);
        let file = dir.path().join("map");
        let with = |text: &str| {
            fs_err::write(&file, text).unwrap();
            PictureFiles::with_layout(dir.path(), Layout::Map(file.clone()))
        };
        for text in [
            "{\"7\": \"val/x.jpg\",\n \"8\": \"val/gone.jpg\"}",
            "{\"image_id\": \"7\", \"image_path\": \"val/x.jpg\"}\n\n{\"id\": 8, \"path\": \"val/gone.jpg\"}\n",
            "oven_id,path\n7,val/x.jpg\n8,val/gone.jpg\n",
            "7\tval/x.jpg\n8\tval/gone.jpg\n",
        ] {
            let files = with(text).unwrap();
            assert_eq!(files.find("7").unwrap().as_deref(), Some("val/x.jpg"), "{text}");
            assert_eq!((files.find("8").unwrap(), files.find("9").unwrap()), (None, None), "{text}");
        }
        assert!(with("7,../x.jpg\n").unwrap().find("7").is_err());
        let said = with("7,val/x.jpg\n8\n").unwrap_err().to_string();
        assert!(said.contains("map, line 2: 1 columns; expected two"), "{said}");
        let said = with("{\"7\": 1}").unwrap_err().to_string();
        assert!(said.contains("map, line 1") && said.contains("expected an id and a path"), "{said}");
        assert!(PictureFiles::with_layout(dir.path(), Layout::Map("nowhere".into())).is_err());
    }

    #[test]
    fn layouts_are_written_as_they_are_read() {
        for text in ["auto", "path", "flat", "hashed", "oven", "md5", "map:a/b:c.csv"] {
            let layout: Layout = text.parse().unwrap();
            assert_eq!(layout.to_string(), text);
            let json = serde_json::to_string(&layout).unwrap();
            assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
        }
        let said = "nested".parse::<Layout>().unwrap_err();
        assert!(
            said.contains("\"nested\"") && said.contains("auto, path, flat, hashed, oven, md5 or map:FILE"),
            "{said}"
        );
        assert!("map:".parse::<Layout>().is_err());
    }
}
