//! Passages of M2KR as its authors publish them (Lin et al. 2024,
//! `BByrneLab/multi_task_multi_modal_knowledge_retrieval_benchmark_M2KR`, configs `…_passages`): parquet tables with
//! the columns passage_id and passage_content. Others, such as language, are not read.
//!
//! A directory is read as one table, its files in the order of their names. Row groups that a resumed build has behind
//! it are not decoded again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};

use super::input::Stamp;
use super::json::Fault;
use super::{Identity, Malformed, Position, RecordUnit, Source, SourceError, m2kr};
use crate::io::hash::{blake3_bytes, blake3_file};
use crate::kb::Article;

const ID: &str = "passage_id";
const TEXT: &str = "passage_content";

/// One file, and the rows in it.
#[derive(Debug)]
struct Table {
    path: PathBuf,
    stamp: Stamp,
    rows: u64,
}

/// A row group that is being read.
struct Open {
    reader: SerializedFileReader<std::fs::File>,
    descriptor: SchemaDescPtr,
    rows: Option<ReaderIter>,
    next_group: usize,
}

/// Reader of one table, or of a directory of them.
pub(super) struct Tables {
    identity: Identity,
    picture_root: PathBuf,
    tables: Vec<Table>,
    /// The file being read.
    table: usize,
    open: Option<Open>,
    /// Rows read, of all files, and of the one being read.
    record: u64,
    row: u64,
    done: bool,
}

impl Tables {
    /// Opens a file or a directory, and reads everything once for its hash.
    ///
    /// # Errors
    /// [`SourceError::Read`].
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        Self::list(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })
    }

    fn list(path: &Path) -> io::Result<Self> {
        let path = fs_err::canonicalize(path)?;
        let mut paths = vec![path.clone()];
        if path.is_dir() {
            let entries = fs_err::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            paths = entries.into_iter().filter(|path| path.is_file() && super::is_parquet(path)).collect();
            paths.sort();
        }
        let (mut tables, mut hashes) = (Vec::new(), String::new());
        for path in paths {
            let (stamp, hash) = (Stamp::of(&path)?, blake3_file(&path)?);
            let rows = read(&path)?.reader.metadata().file_metadata().num_rows();
            hashes.push_str(&hash);
            tables.push(Table { path, stamp, rows: u64::try_from(rows).unwrap_or(0) });
        }
        let identity = Identity {
            name: m2kr::SCHEMA.name.to_owned(),
            hash: if path.is_dir() { blake3_bytes(hashes.as_bytes()) } else { hashes },
            bytes: tables.iter().map(|table| table.stamp.size).sum(),
            unit: RecordUnit::Entry,
            path: path.clone(),
        };
        let picture_root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("/")).to_owned() };
        Ok(Self { identity, picture_root, tables, table: 0, open: None, record: 0, row: 0, done: false })
    }

    fn read_error(&self, source: io::Error) -> SourceError {
        SourceError::Read { path: self.identity.path.clone(), source }
    }

    /// The next row of whichever file has one.
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        while let Some(table) = self.tables.get(self.table) {
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(read(&table.path)?),
            };
            match open.next_row().map_err(|e| failed(&table.path, &format!("behind row {}: {e}", self.row)))? {
                Some(row) => {
                    self.row += 1;
                    self.record += 1;
                    return Ok(Some(row));
                }
                None => {
                    self.table += 1;
                    self.row = 0;
                    self.open = None;
                }
            }
        }
        Ok(None)
    }

    fn skip_to(&mut self, record: u64) -> io::Result<()> {
        (self.table, self.open, self.record, self.row, self.done) = (0, None, record, 0, false);
        let mut left = record;
        while let Some(table) = self.tables.get(self.table) {
            if left < table.rows {
                let mut open = read(&table.path)?;
                self.row = left;
                open.skip(left).map_err(|e| failed(&table.path, &e.to_string()))?;
                self.open = Some(open);
                return Ok(());
            }
            left -= table.rows;
            self.table += 1;
        }
        Ok(())
    }
}

impl Open {
    fn next_row(&mut self) -> Result<Option<Row>, ParquetError> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return row.map(Some);
            }
            if self.next_group >= self.reader.num_row_groups() {
                return Ok(None);
            }
            let group = self.reader.get_row_group(self.next_group)?;
            self.rows = Some(TreeBuilder::new().as_iter(Arc::clone(&self.descriptor), &*group)?);
            self.next_group += 1;
        }
    }

    fn skip(&mut self, mut rows: u64) -> Result<(), ParquetError> {
        while let Some(group) = self.reader.metadata().row_groups().get(self.next_group) {
            let held = u64::try_from(group.num_rows()).unwrap_or(0);
            if rows < held {
                break;
            }
            rows -= held;
            self.next_group += 1;
        }
        for _ in 0..rows {
            self.next_row()?;
        }
        Ok(())
    }
}

impl Iterator for Tables {
    type Item = Result<(Position, Article), SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = match self.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => {
                self.done = true;
                return None;
            }
            Err(e) => {
                self.done = true;
                return Some(Err(self.read_error(e)));
            }
        };
        let position = Position { record: self.record, end: self.record };
        Some(article(row).map(|article| (position, article)).map_err(|reason| {
            let (path, unit) = (self.identity.path.clone(), self.identity.unit);
            Malformed { path, unit, position, reason }.into()
        }))
    }
}

impl Source for Tables {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bytes_read(&self) -> u64 {
        let before: u64 = self.tables.iter().take(self.table).map(|table| table.stamp.size).sum();
        // Rows of one table are about as long as each other.
        let current = self.tables.get(self.table);
        before + current.map_or(0, |table| table.stamp.size.saturating_mul(self.row) / table.rows.max(1))
    }

    fn picture_root(&self) -> &Path {
        &self.picture_root
    }

    fn resume_after(&mut self, position: Position) -> Result<(), SourceError> {
        self.skip_to(position.record).map_err(|e| self.read_error(e))
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        for table in &self.tables {
            if Stamp::of(&table.path).map_err(|e| self.read_error(e))? != table.stamp {
                return Err(SourceError::Changed { path: table.path.clone() });
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, reason: &str) -> io::Error {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {reason}"))
}

/// Opens a file at its first row, for the two columns.
fn read(path: &Path) -> io::Result<Open> {
    let file = fs_err::File::open(path)?.into_file();
    let reader =
        SerializedFileReader::new(file).map_err(|e| failed(path, &format!("{e}; expected a parquet table")))?;
    let root = reader.metadata().file_metadata().schema();
    let column = |name: &str| {
        root.get_fields().iter().find(|field| field.name() == name).cloned().ok_or_else(|| {
            let found: Vec<&str> = root.get_fields().iter().map(|field| field.name()).collect();
            failed(path, &format!("no column {name}; it has {}", found.join(", ")))
        })
    };
    let fields = vec![column(ID)?, column(TEXT)?];
    let projection = Type::group_type_builder(root.name()).with_fields(fields).build();
    let projection = projection.map_err(|e| failed(path, &e.to_string()))?;
    let descriptor = Arc::new(SchemaDescriptor::new(Arc::new(projection)));
    Ok(Open { reader, descriptor, rows: None, next_group: 0 })
}

fn article(row: Row) -> Result<Article, String> {
    let (mut id, mut text) = (None, None);
    for (name, field) in row.into_columns() {
        let value = match field {
            Field::Str(text) => Some(text),
            Field::Bytes(bytes) => Some(bytes.as_utf8().map_err(|_| format!("{name} is not UTF-8"))?.to_owned()),
            Field::Null => None,
            // Ids of some parts are numbers.
            other => Some(other.to_string()),
        };
        *(if name == ID { &mut id } else { &mut text }) = value;
    }
    let missing = |name| format!("{name} is null");
    let (id, text) = (id.ok_or_else(|| missing(ID))?, text.ok_or_else(|| missing(TEXT))?);
    m2kr::article(id, text, None).map_err(|fault| match fault {
        Fault::Json(e) => e.to_string(),
        Fault::Content(reason) => reason,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Writes a table of these row groups of (id, text).
    fn write(path: &Path, groups: &[&[(&str, Option<&str>)]]) {
        let schema = "message schema { OPTIONAL BYTE_ARRAY language (UTF8); OPTIONAL BYTE_ARRAY passage_id (UTF8); \
                      OPTIONAL BYTE_ARRAY passage_content (UTF8); }";
        let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        let file = fs_err::File::create(path).unwrap().into_file();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for rows in groups {
            let mut group = writer.next_row_group().unwrap();
            for n in 0..3 {
                let values: Vec<Option<&str>> =
                    rows.iter().map(|row| [Some("English"), Some(row.0), row.1][n]).collect();
                let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
                let values: Vec<ByteArray> = values.into_iter().flatten().map(ByteArray::from).collect();
                let mut column = group.next_column().unwrap().unwrap();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn told(source: &mut dyn Source) -> Vec<(u64, String)> {
        let one = |item: Result<(Position, Article), SourceError>| match item {
            Ok((position, article)) => (position.record, article.url),
            Err(SourceError::Malformed(bad)) => (bad.position.record, bad.to_string()),
            Err(e) => panic!("{e}"),
        };
        source.map(one).collect()
    }

    #[test]
    fn tables_are_read_and_taken_up_behind_any_row() {
        let dir = tempfile::tempdir().unwrap();
        let content = "title: Scupi content: Old.";
        let text = Some(content);
        let (a, b) = (dir.path().join("train-0.parquet"), dir.path().join("train-1.parquet"));
        write(&a, &[&[("WikiWeb_Scupi_0", text), ("WikiWeb_Scupi_1", None)], &[("WikiWeb_Stobi_0", Some("x"))]]);
        write(&b, &[&[("c", text)], &[], &[("d", text), ("e", text)]]);
        fs_err::write(dir.path().join("README.md"), "x").unwrap();
        let mut source = super::super::open(&format!("m2kr:{}", dir.path().display())).unwrap();
        assert_eq!(source.identity().unit, RecordUnit::Entry);
        let all = told(source.as_mut());
        let ids: Vec<&str> = all.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!((ids[0], &ids[2..]), ("WikiWeb_Scupi_0", &["WikiWeb_Stobi_0", "c", "d", "e"][..]));
        assert!(ids[1].contains("entry 2: passage_content is null"), "{}", ids[1]);
        assert_eq!(source.bytes_read(), source.identity().bytes);
        for n in (0..=all.len()).rev() {
            source.resume_after(Position { record: n as u64, end: n as u64 }).unwrap();
            assert_eq!(told(source.as_mut()), all[n..], "behind {n}");
        }
        let mut one = super::super::open(&format!("m2kr:{}", a.display())).unwrap();
        let article = one.next().unwrap().unwrap().1;
        assert_eq!((article.title.as_str(), article.sections[0].text.as_str()), ("Scupi", content));
        assert_ne!(one.identity().hash, source.identity().hash);
        source.check_unchanged().unwrap();
        fs_err::write(&b, "PAR1").unwrap();
        assert!(matches!(source.check_unchanged(), Err(SourceError::Changed { .. })));
        let damaged = super::super::open(&format!("m2kr:{}", b.display())).err().unwrap().to_string();
        assert!(damaged.contains("train-1.parquet") && damaged.contains("expected a parquet table"), "{damaged}");
    }
}
