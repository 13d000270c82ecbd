//! Articles in the schema of Encyclopedic-VQA (Mensink et al. 2023, `encyclopedic_kb_wiki.json`), one JSON object a
//! line, with our own optional `image`: the lead picture, relative to the file's folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::lines::{Line, Lines, Stamp};
use super::{Identity, Malformed, Position, RecordUnit, Source, SourceError};
use crate::kb::{Article, PictureRef, Section};

/// Name in `--source NAME:PATH`.
pub const NAME: &str = "evqa";

/// Longest line, bytes.
const MAX_LINE: usize = 64 << 20;

/// Reader of one file.
#[derive(Debug)]
pub struct EvqaJsonl {
    identity: Identity,
    picture_root: PathBuf,
    lines: Lines,
    buffer: Vec<u8>,
    done: bool,
}

#[derive(Deserialize)]
struct Row {
    title: String,
    url: String,
    section_titles: Vec<String>,
    section_texts: Vec<String>,
    #[serde(default)]
    image: Option<String>,
}

impl EvqaJsonl {
    /// Opens `path` and reads it once for its hash.
    ///
    /// # Errors
    /// [`SourceError::Read`].
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let read = |source| SourceError::Read { path: path.to_owned(), source };
        let path = fs_err::canonicalize(path).map_err(read)?;
        if path.is_dir() {
            let reason = "it is a directory; expected a file of JSON lines";
            return Err(read(std::io::Error::new(std::io::ErrorKind::IsADirectory, reason)));
        }
        let (lines, hash) = Lines::open(&path, MAX_LINE).map_err(read)?;
        let picture_root = path.parent().unwrap_or(Path::new("/")).to_owned();
        let bytes = lines.stamp().size;
        let identity = Identity { name: NAME.to_owned(), path, hash, bytes, unit: RecordUnit::Line };
        Ok(Self { identity, picture_root, lines, buffer: Vec::new(), done: false })
    }

    fn read_error(&self, source: std::io::Error) -> SourceError {
        SourceError::Read { path: self.identity.path.clone(), source }
    }

    fn malformed(&self, position: Position, reason: String) -> SourceError {
        Malformed { path: self.identity.path.clone(), unit: self.identity.unit, position, reason }.into()
    }
}

impl Iterator for EvqaJsonl {
    type Item = Result<(Position, Article), SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.lines.next(&mut self.buffer) {
                Ok(None) => self.done = true,
                Ok(Some(Line::TooLong(position))) => {
                    let reason = format!("longer than {MAX_LINE} bytes; expected one article a line");
                    return Some(Err(self.malformed(position, reason)));
                }
                Ok(Some(Line::Whole(position))) => {
                    let mark: &[u8] = if position.record == 1 { b"\xef\xbb\xbf" } else { b"" };
                    let line = self.buffer.strip_prefix(mark).unwrap_or(&self.buffer);
                    if line.iter().all(u8::is_ascii_whitespace) {
                        continue;
                    }
                    let article = parse(line).map(|article| (position, article));
                    return Some(article.map_err(|reason| self.malformed(position, reason)));
                }
                Err(e) => {
                    self.done = true;
                    return Some(Err(self.read_error(e)));
                }
            }
        }
        None
    }
}

impl Source for EvqaJsonl {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bytes_read(&self) -> u64 {
        self.lines.position().end
    }

    fn picture_root(&self) -> &Path {
        &self.picture_root
    }

    fn resume_after(&mut self, position: Position) -> Result<(), SourceError> {
        self.done = false;
        self.lines.resume_after(position).map_err(|e| self.read_error(e))
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        let now = Stamp::of(&self.identity.path).map_err(|e| self.read_error(e))?;
        if now == *self.lines.stamp() { Ok(()) } else { Err(SourceError::Changed { path: self.identity.path.clone() }) }
    }
}

fn parse(line: &[u8]) -> Result<Article, String> {
    let text = std::str::from_utf8(line)
        .map_err(|e| format!("not UTF-8 from byte {} of the line on; expected UTF-8", e.valid_up_to() + 1))?;
    let row: Row = serde_json::from_str(text).map_err(|e| {
        // The parser sees one line and calls it the first.
        let reason = e.to_string().replace(" at line 1 column ", " at column ");
        format!("{reason}; expected an object with title, url, section_titles and section_texts")
    })?;
    let (titles, texts) = (row.section_titles.len(), row.section_texts.len());
    if titles != texts {
        return Err(format!("{titles} section_titles but {texts} section_texts; expected as many"));
    }
    for (key, value) in [("title", &row.title), ("url", &row.url)] {
        if value.trim().is_empty() {
            return Err(format!("`{key}` is empty"));
        }
    }
    let sections = row.section_titles.into_iter().zip(row.section_texts);
    Ok(Article {
        url: row.url,
        title: row.title,
        sections: sections.map(|(title, text)| Section { title, text }).collect(),
        pictures: row
            .image
            .filter(|name| !name.is_empty())
            .map(|name| PictureRef { name, ..PictureRef::default() })
            .into_iter()
            .collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCUPI: &str = r#"{"title":"Scupi","url":"https://en.wikipedia.org/wiki/Scupi","section_titles":["Scupi","History"],"section_texts":["A site.","Old."],"image":"images/scupi.png","image_urls":[]}"#;

    fn source(dir: &Path, bytes: &[u8]) -> EvqaJsonl {
        let path = dir.join("kb.jsonl");
        fs_err::write(&path, bytes).unwrap();
        EvqaJsonl::open(&path).unwrap()
    }

    /// Reason of the only line.
    fn reason(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path(), bytes);
        let error = source.next().unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Malformed(_)), "{error}");
        assert!(source.next().is_none());
        error.to_string()
    }

    #[test]
    fn a_good_line_is_an_article() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path(), format!("\u{feff}{SCUPI}\r\n\n").as_bytes());
        let (position, article) = source.next().unwrap().unwrap();
        assert_eq!(position, Position { record: 1, end: SCUPI.len() as u64 + 5 });
        assert_eq!(article.title, "Scupi");
        assert_eq!(article.sections[1], Section { title: "History".into(), text: "Old.".into() });
        assert_eq!(article.lead_picture(), Some("images/scupi.png"));
        assert!(source.next().is_none());
        assert_eq!(source.bytes_read(), source.identity().bytes);
        assert_eq!(source.picture_root(), fs_err::canonicalize(dir.path()).unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_line() {
        let torn = reason(&SCUPI.as_bytes()[..60]);
        assert!(torn.contains("kb.jsonl, line 1: EOF while parsing") && torn.contains("at column 60"), "{torn}");
        assert!(reason(b"\n{\"title\":\"a\"}").contains("line 2: missing field `url`"));
        assert!(reason(b"{\"title\":\"\xff\"}").contains("not UTF-8 from byte 11"));
        assert!(reason(&SCUPI.replace("\"Old.\"", "\"Old.\",\"x\"").into_bytes()).contains("2 section_titles but 3"));
        assert!(reason(&SCUPI.replace("\"Scupi\",\"url\"", "\" \",\"url\"").into_bytes()).contains("`title` is empty"));
        assert!(reason(b"[1]").contains("expected an object with title"));
    }

    #[test]
    fn reading_goes_on_behind_a_bad_line_and_after_any_position() {
        let dir = tempfile::tempdir().unwrap();
        let other = SCUPI.replace("Scupi", "Stobi");
        let mut source = source(dir.path(), format!("{SCUPI}\nnot json\n{other}\n").as_bytes());
        let first = source.next().unwrap().unwrap().0;
        assert!(source.next().unwrap().is_err());
        let third = source.next().unwrap().unwrap();
        assert_eq!((third.0.record, third.1.title.as_str()), (3, "Stobi"));
        assert!(source.next().is_none());
        source.resume_after(first).unwrap();
        assert!(source.next().unwrap().is_err());
        assert_eq!(source.next().unwrap().unwrap(), third);
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path(), SCUPI.as_bytes());
        source.check_unchanged().unwrap();
        fs_err::write(dir.path().join("kb.jsonl"), "longer or shorter").unwrap();
        assert!(matches!(source.check_unchanged(), Err(SourceError::Changed { .. })));
    }

    #[test]
    fn a_missing_file_and_an_unknown_kind_are_named() {
        let missing = super::super::open("evqa:nowhere/kb.jsonl").err().unwrap().to_string();
        assert!(missing.contains("nowhere/kb.jsonl"), "{missing}");
        let kind = super::super::open("parquet:kb.jsonl").err().unwrap().to_string();
        assert!(kind.contains("\"parquet\"") && kind.contains("expected `evqa:PATH`"), "{kind}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_item_a_line_and_the_same_rest_behind_each(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..60)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut source = source(dir.path(), &bytes);
            let place = |item: Result<(Position, Article), SourceError>| match item {
                Ok((position, _)) | Err(SourceError::Malformed(Malformed { position, .. })) => position,
                Err(e) => panic!("{e}"),
            };
            let all: Vec<Position> = source.by_ref().map(place).collect();
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let lines = text.split(|b| *b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
            prop_assert_eq!(all.len(), lines.count());
            for (n, position) in all.iter().enumerate() {
                source.resume_after(*position).unwrap();
                let rest: Vec<Position> = source.by_ref().map(place).collect();
                prop_assert_eq!(&rest, &all[n + 1..]);
            }
        }
    }
}
