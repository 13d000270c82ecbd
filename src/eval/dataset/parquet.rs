//! Rows of parquet tables as JSON, for queries as M2KR's authors publish them.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use crate::eval::EvalError;

/// Whether it is a table, or a directory of them.
pub(super) fn is_table(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|ending| ending == "parquet")
}

/// The rows of a table, or of a directory of them in the order of their names: these columns of each, those that there are.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn rows(path: &Path, columns: &[&str]) -> Result<Vec<Value>, EvalError> {
    let mut files: Vec<PathBuf> = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs_err::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files = entries.into_iter().filter(|file| file.is_file() && is_table(file)).collect();
        files.sort();
    }
    let mut all = Vec::new();
    for file in files {
        let bad = |reason: String| EvalError::Csv { path: file.clone(), reason };
        let open: File = fs_err::File::open(&file)?.into_file();
        let reader = SerializedFileReader::new(open).map_err(|e| bad(format!("{e}; expected a parquet table")))?;
        for row in reader.get_row_iter(None).map_err(|e| bad(e.to_string()))? {
            all.push(object(row.map_err(|e| bad(e.to_string()))?, columns));
        }
    }
    Ok(all)
}

fn object(row: Row, columns: &[&str]) -> Value {
    let kept = row.into_columns().into_iter().filter(|(name, _)| columns.contains(&name.as_str()));
    kept.map(|(name, field)| (name, value(&field))).collect::<serde_json::Map<_, _>>().into()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => bytes.as_utf8().map_or(Value::Null, Into::into),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        // Ids of some parts are numbers; they are compared as text.
        other => other.to_string().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::eval::dataset::m2kr;

    #[test]
    fn queries_are_read_from_a_directory_of_tables() {
        let schema = "message schema { OPTIONAL BYTE_ARRAY question_id (UTF8); OPTIONAL BYTE_ARRAY question (UTF8); \
                      OPTIONAL GROUP pos_item_ids (LIST) { REPEATED GROUP list { OPTIONAL BYTE_ARRAY element (UTF8); } } }";
        let dir = tempfile::tempdir().unwrap();
        for (name, id) in [("b.parquet", "q2"), ("a.parquet", "q1")] {
            let file = fs_err::File::create(dir.path().join(name)).unwrap().into_file();
            let schema = Arc::new(parse_message_type(schema).unwrap());
            let properties = Arc::new(WriterProperties::builder().build());
            let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let columns: [(&[&str], &[i16], Option<&[i16]>); 3] =
                [(&[id], &[1], None), (&["When?"], &[1], None), (&["p1", "p2"], &[3, 3], Some(&[0, 1]))];
            for (values, defined, repeated) in columns {
                let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                let mut column = group.next_column().unwrap().unwrap();
                column.typed::<ByteArrayType>().write_batch(&values, Some(defined), repeated).unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
            writer.close().unwrap();
        }
        let set = m2kr::read(dir.path()).unwrap();
        let ids: Vec<&str> = set.questions.iter().map(|question| question.id.as_str()).collect();
        assert_eq!(
            (&ids[..], &set.questions[0].urls[..]),
            (&["q1", "q2"][..], &["p1".to_owned(), "p2".to_owned()][..])
        );
        fs_err::write(dir.path().join("a.parquet"), "no table").unwrap();
        assert!(m2kr::read(dir.path()).unwrap_err().to_string().contains("expected a parquet table"));
    }
}
