//! Embeddings in a file, made elsewhere: a large knowledge base need not be embedded by the machine that searches it.
//!
//! A `.safetensors` file holds one tensor, `vectors` or the only one of the file: `[n, dim]`, or `[n, vectors, dim]` for
//! a retriever of several, in f32, f16 or bf16. A `.npy` file (NumPy, format 1 to 3) holds the same in f32 or f16.
//! Beside it lies a text file with the n keys, one a line: an article's URL, and `#k` behind it for its k-th part.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::store::{Point, Store, StoreConfig, StoreError};
use super::{Document, Embedder, KbError};
use crate::io::AtomicFile;

/// Name of the tensor that is written.
const TENSOR: &str = "vectors";

/// Key of the retriever's fingerprint in the metadata of a safetensors file.
const FINGERPRINT: &str = "fingerprint";

/// Most bytes of a header.
const MAX_HEADER: usize = 1 << 20;

/// Embeddings read from a file.
pub struct VectorFile {
    path: PathBuf,
    layout: Layout,
    fingerprint: String,
    reading: Mutex<Reading>,
}

struct Reading {
    keys: Keys,
    numbers: BufReader<fs_err::File>,
    /// Where it stands.
    at: u64,
}

/// Where the numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    offset: u64,
    number: Number,
    rows: usize,
    vectors: usize,
    dim: usize,
    fingerprint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    F32,
    F16,
    Bf16,
}

impl Number {
    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
            (Self::F16, [a, b]) => half::f16::from_le_bytes([*a, *b]).to_f32(),
            (Self::Bf16, [a, b]) => half::bf16::from_le_bytes([*a, *b]).to_f32(),
            // Never a number: pieces have the length of one.
            _ => f32::NAN,
        }
    }
}

impl VectorFile {
    /// Opens the embeddings in `path`, and their keys in `keys`, or beside it under the same name with `.keys.txt`.
    /// `fingerprint` is the retriever's that made them, where the file does not say.
    ///
    /// # Errors
    /// [`KbError::Vectors`] for a file that is neither, of another shape, or without a fingerprint; the system's.
    pub fn open(path: &Path, keys: Option<&Path>, fingerprint: Option<&str>) -> Result<Self, KbError> {
        let bad = |reason: String| KbError::Vectors { path: path.to_owned(), reason };
        let mut file = fs_err::File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(MAX_HEADER as u64 + 16).read_to_end(&mut head)?;
        let layout = if head.starts_with(b"\x93NUMPY") { npy(&head) } else { safetensors(&head) }.map_err(bad)?;
        let expected = layout.rows as u64 * layout.row_bytes() as u64;
        let found = length.saturating_sub(layout.offset);
        if found < expected {
            return Err(bad(format!("{found} bytes of numbers, expected {expected}: the file is not complete")));
        }
        let fingerprint = match (&layout.fingerprint, fingerprint) {
            (Some(own), Some(given)) if own != given => {
                return Err(bad(format!("made by retriever {own}, expected {given}")));
            }
            (Some(own), _) => own.clone(),
            (None, Some(given)) => given.to_owned(),
            (None, None) => {
                return Err(bad("it does not say which retriever made it; say so with --fingerprint".to_owned()));
            }
        };
        let keys = Keys::open(keys.map_or_else(|| keys_beside(path), Path::to_owned), layout.rows)?;
        file.seek(SeekFrom::Start(0))?;
        let reading = Reading { keys, numbers: BufReader::with_capacity(1 << 17, file), at: 0 };
        Ok(Self { path: path.to_owned(), layout, fingerprint, reading: Mutex::new(reading) })
    }

    /// Number of embeddings.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows
    }
}

impl Reading {
    fn row(&mut self, layout: &Layout, row: usize) -> std::io::Result<Vec<f32>> {
        let mut bytes = vec![0; layout.row_bytes()];
        let start = layout.offset + row as u64 * bytes.len() as u64;
        // Rows that follow one another are read out of the buffer.
        self.numbers.seek_relative(start as i64 - self.at as i64)?;
        self.at = start;
        self.numbers.read_exact(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.chunks_exact(layout.number.bytes()).map(|piece| layout.number.read(piece)).collect())
    }
}

impl Layout {
    fn row_bytes(&self) -> usize {
        self.vectors * self.dim * self.number.bytes()
    }
}

impl Embedder for VectorFile {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn dim(&self) -> usize {
        self.layout.dim
    }

    fn vectors(&self) -> usize {
        self.layout.vectors
    }

    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::with_capacity(batch.len());
        for document in batch {
            rows.push(match reading.keys.find(&document.key).map_err(|e| e.to_string())? {
                Some(row) => Ok(reading.row(&self.layout, row).map_err(|e| e.to_string())?),
                None => Err(format!("{} holds no embedding of {}", self.path.display(), document.key)),
            });
        }
        Ok(rows)
    }
}

/// Path of the keys of the embeddings in `path`, where nobody names another.
#[must_use]
pub fn keys_beside(path: &Path) -> PathBuf {
    path.with_extension("keys.txt")
}

/// Keys in the order of their rows. A source in the same order is followed line by line; for another order an index of
/// 16 bytes a key is made, once.
struct Keys {
    path: PathBuf,
    file: BufReader<fs_err::File>,
    /// Row that comes next in the file.
    next: usize,
    rows: usize,
    line: String,
    index: Option<Vec<(u64, u32)>>,
}

impl Keys {
    fn open(path: PathBuf, rows: usize) -> Result<Self, KbError> {
        let lines = BufReader::new(fs_err::File::open(&path)?);
        let found = lines.lines().try_fold(0, |n, line| line.map(|_| n + 1))?;
        if found != rows {
            let reason = format!("{found} keys of {rows} embeddings; expected one a line");
            return Err(KbError::Vectors { path, reason });
        }
        let file = BufReader::new(fs_err::File::open(&path)?);
        Ok(Self { path, file, next: 0, rows, line: String::new(), index: None })
    }

    fn find(&mut self, key: &str) -> Result<Option<usize>, KbError> {
        if let Some(index) = &self.index {
            return Ok(look_up(index, key));
        }
        if self.next < self.rows {
            self.line.clear();
            self.file.read_line(&mut self.line)?;
            self.next += 1;
            if self.line.trim_end_matches(['\n', '\r']) == key {
                return Ok(Some(self.next - 1));
            }
        }
        let mut index = Vec::with_capacity(self.rows);
        for (row, line) in BufReader::new(fs_err::File::open(&self.path)?).lines().enumerate() {
            let row = u32::try_from(row).map_err(|_| self.bad("more than 4,294,967,295 keys".to_owned()))?;
            index.push((hash(&line?), row));
        }
        index.sort_unstable();
        if let Some(twice) = index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(self.bad(format!("lines {} and {} hold the same key", twice[0].1 + 1, twice[1].1 + 1)));
        }
        let found = look_up(&index, key);
        self.index = Some(index);
        Ok(found)
    }

    fn bad(&self, reason: String) -> KbError {
        KbError::Vectors { path: self.path.clone(), reason }
    }
}

fn hash(key: &str) -> u64 {
    let hash = blake3::hash(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn look_up(index: &[(u64, u32)], key: &str) -> Option<usize> {
    let wanted = hash(key);
    let at = index.binary_search_by_key(&wanted, |(hash, _)| *hash).ok()?;
    Some(index[at].1 as usize)
}

fn safetensors(bytes: &[u8]) -> Result<Layout, String> {
    #[derive(serde::Deserialize)]
    struct Tensor {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: (usize, usize),
    }
    let not = "expected a .safetensors or .npy file";
    let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)).ok_or(not)?;
    let length = usize::try_from(length).ok().filter(|n| *n <= MAX_HEADER && n + 8 <= bytes.len()).ok_or(not)?;
    let mut header: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).map_err(|e| format!("its header: {e}; {not}"))?;
    let metadata = header.remove("__metadata__");
    let fingerprint = metadata.and_then(|m| m.get(FINGERPRINT)?.as_str().map(str::to_owned));
    let names: Vec<String> = header.keys().cloned().collect();
    let name = if names.len() == 1 { names[0].as_str() } else { TENSOR };
    let tensor = header.remove(name).ok_or_else(|| format!("no tensor `{TENSOR}` among {}", names.join(", ")))?;
    let tensor: Tensor = serde_json::from_value(tensor).map_err(|e| format!("tensor `{name}`: {e}"))?;
    let number = match tensor.dtype.as_str() {
        "F32" => Number::F32,
        "F16" => Number::F16,
        "BF16" => Number::Bf16,
        other => return Err(format!("tensor `{name}` is {other}, expected F32, F16 or BF16")),
    };
    let (rows, vectors, dim) = shape(&tensor.shape)?;
    Ok(Layout { offset: (8 + length + tensor.data_offsets.0) as u64, number, rows, vectors, dim, fingerprint })
}

fn npy(bytes: &[u8]) -> Result<Layout, String> {
    let short = "its header is cut off";
    let version = *bytes.get(6).ok_or(short)?;
    let (start, length) = match version {
        1 => (10, bytes.get(8..10).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))),
        2 | 3 => (12, bytes.get(8..12).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)),
        other => return Err(format!("NumPy format {other}, expected 1 to 3")),
    };
    let length = length.filter(|n| *n <= MAX_HEADER).ok_or(short)?;
    let header = bytes.get(start..start + length).ok_or(short)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let value = |key: &str| {
        let rest = header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        rest.ok_or_else(|| format!("its header has no `{key}`"))
    };
    let number = match value("descr")? {
        text if text.starts_with("'<f4'") => Number::F32,
        text if text.starts_with("'<f2'") => Number::F16,
        text => {
            let found: String = text.chars().take_while(|c| *c != ',').collect();
            return Err(format!("numbers of type {found}, expected '<f4' or '<f2'"));
        }
    };
    if !value("fortran_order")?.starts_with("False") {
        return Err("its rows are columns (fortran_order), expected them row by row".to_owned());
    }
    let inside = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let parts = inside.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty());
    let sizes: Vec<usize> =
        parts.map(|part| part.parse().map_err(|_| format!("shape with {part:?}"))).collect::<Result<_, String>>()?;
    let (rows, vectors, dim) = shape(&sizes)?;
    Ok(Layout { offset: (start + length) as u64, number, rows, vectors, dim, fingerprint: None })
}

fn shape(sizes: &[usize]) -> Result<(usize, usize, usize), String> {
    let (rows, vectors, dim) = match *sizes {
        [rows, dim] => (rows, 1, dim),
        [rows, vectors, dim] => (rows, vectors, dim),
        _ => return Err(format!("shape {sizes:?}, expected [n, dim] or [n, vectors, dim]")),
    };
    let bytes = rows.checked_mul(vectors).and_then(|n| n.checked_mul(dim)).and_then(|n| n.checked_mul(4));
    match bytes {
        Some(bytes) if bytes > 0 => Ok((rows, vectors, dim)),
        _ => Err(format!("shape {sizes:?}, expected sizes above 0 that fit in memory's addresses")),
    }
}

/// Writes the embeddings of `store` to `path`, with their keys beside it, in the order of their points' ids.
/// `embeddings` of them are there.
///
/// # Errors
/// The system's or the engine's; nothing is left of what was not finished.
pub fn write(
    path: &Path,
    store: &dyn Store,
    config: &StoreConfig,
    fingerprint: &str,
    embeddings: u64,
    mut each: impl FnMut(&Point) -> Result<(), KbError>,
) -> Result<(), KbError> {
    let StoreConfig { dim, vectors, .. } = *config;
    let shape =
        if vectors == 1 { serde_json::json!([embeddings, dim]) } else { serde_json::json!([embeddings, vectors, dim]) };
    let bytes = embeddings * (vectors * dim * 4) as u64;
    let mut header = serde_json::json!({
        "__metadata__": {FINGERPRINT: fingerprint},
        TENSOR: {"dtype": "F32", "shape": shape, "data_offsets": [0, bytes]},
    })
    .to_string();
    // The numbers begin at a multiple of eight.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = AtomicFile::create(path)?;
    let mut keys = AtomicFile::create(&keys_beside(path))?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let (mut from, mut written) = (None, 0);
    loop {
        let (points, next) = store.scan(from, 256)?;
        for point in &points {
            if !point.vectors.is_empty() {
                for value in &point.vectors {
                    file.write_all(&value.to_le_bytes())?;
                }
                let key = point.payload.key();
                if key.contains(['\n', '\r']) {
                    let (id, reason) = (point.id.to_string(), "its URL holds a line break".to_owned());
                    return Err(StoreError::BadPayload { id, reason }.into());
                }
                writeln!(keys, "{key}")?;
                written += 1;
            }
            each(point)?;
        }
        match next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    if written != embeddings {
        return Err(KbError::Count { what: "embeddings", found: written, expected: embeddings });
    }
    file.commit()?;
    Ok(keys.commit()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn document(key: &str) -> Document {
        Document { key: key.into(), text: None, image: None }
    }

    fn npy_file(descr: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        header.push_str(&" ".repeat((64 - (header.len() + 11) % 64) % 64));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(numbers);
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn written(dir: &Path, name: &str, bytes: &[u8], keys: &str) -> PathBuf {
        let path = dir.join(name);
        fs_err::write(&path, bytes).unwrap();
        fs_err::write(keys_beside(&path), keys).unwrap();
        path
    }

    #[test]
    fn rows_are_found_by_their_keys_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = npy_file("<f4", "(3, 2)", &floats(&[1.0, 0.0, 0.0, 1.0, 0.6, 0.8]));
        let path = written(dir.path(), "v.npy", &bytes, "a\nb#0\nc\r\n");
        let file = VectorFile::open(&path, None, Some("f")).unwrap();
        assert_eq!((file.rows(), file.dim(), file.vectors(), file.fingerprint()), (3, 2, 1, "f"));
        for order in [["a", "b#0", "c"], ["c", "a", "b#0"], ["c", "a", "a"]] {
            let found = file.embed(order.map(document).to_vec()).unwrap();
            for (key, found) in order.iter().zip(found) {
                let expected = match *key {
                    "a" => vec![1.0, 0.0],
                    "b#0" => vec![0.0, 1.0],
                    _ => vec![0.6, 0.8],
                };
                assert_eq!(found.unwrap(), expected, "{key}");
            }
        }
        let none = file.embed(vec![document("d")]).unwrap();
        assert!(none[0].as_ref().unwrap_err().contains("no embedding of d"));
    }

    #[test]
    fn several_vectors_and_half_precision_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let halves: Vec<u8> =
            [1.0, 0.0, 0.0, -1.0].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let path = written(dir.path(), "v.npy", &npy_file("<f2", "(1, 2, 2)", &halves), "a\n");
        let file = VectorFile::open(&path, None, Some("f")).unwrap();
        assert_eq!((file.vectors(), file.dim()), (2, 2));
        assert_eq!(file.embed(vec![document("a")]).unwrap()[0].as_ref().unwrap(), &[1.0, 0.0, 0.0, -1.0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let good = floats(&[1.0, 0.0]);
        let reason = |name: &str, bytes: &[u8], keys: &str, fingerprint: Option<&str>| {
            let path = written(dir.path(), name, bytes, keys);
            VectorFile::open(&path, None, fingerprint).err().unwrap().to_string()
        };
        let npy = |shape: &str| npy_file("<f4", shape, &good);
        assert!(reason("a.npy", &npy("(1, 2)"), "a\nb\n", Some("f")).contains("2 keys of 1 embeddings"));
        assert!(reason("a.npy", &npy("(2, 2)"), "a\nb\n", Some("f")).contains("8 bytes of numbers, expected 16"));
        assert!(reason("a.npy", &npy("(2,)"), "a\n", Some("f")).contains("shape [2], expected [n, dim]"));
        assert!(reason("a.npy", &npy("(0, 2)"), "", Some("f")).contains("sizes above 0"));
        assert!(reason("a.npy", &npy_file("<f8", "(1, 1)", &good), "a\n", Some("f")).contains("'<f8'"));
        assert!(reason("a.npy", &npy("(1, 2)"), "a\n", None).contains("--fingerprint"));
        assert!(reason("a.npy", &npy("(1, 2)")[..20], "a\n", Some("f")).contains("cut off"));
        assert!(reason("a.bin", b"whatever it is", "a\n", Some("f")).contains("expected a .safetensors or .npy"));
        let twice = written(dir.path(), "t.npy", &npy_file("<f4", "(2, 1)", &good), "a\na\n");
        let file = VectorFile::open(&twice, None, Some("f")).unwrap();
        assert!(file.embed(vec![document("b")]).unwrap_err().contains("lines 1 and 2 hold the same key"));
    }
}
