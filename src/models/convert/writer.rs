//! Safetensors files (format: huggingface/safetensors, README), one tensor in memory at a time.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;

use crate::io::AtomicFile;
use crate::models::ModelsError;

/// Name, type and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
}

/// Writes `path` atomically: the header, then what `data` gives for each tensor (little-endian bytes). The same input
/// makes the same bytes. Returns the size of the file.
///
/// # Errors
/// The first error of `data`, a length other than the shape's, or the system's reason; `path` is then untouched.
pub fn write_safetensors(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    mut specs: Vec<TensorSpec>,
    mut data: impl FnMut(&TensorSpec) -> Result<Vec<u8>, ModelsError>,
) -> Result<u64, ModelsError> {
    // Wider types first keeps every tensor aligned to its own size, as the reference implementation does.
    specs.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    let json = |value: &dyn erased::Json| value.json().map_err(|e| ModelsError::convert(path, e));
    let mut header = format!("{{\"__metadata__\":{}", json(metadata)?);
    let mut sizes = Vec::with_capacity(specs.len());
    let mut at = 0usize;
    for spec in &specs {
        let size = byte_size(spec).ok_or_else(|| {
            ModelsError::convert(path, format!("tensor {} of shape {:?} is too large", spec.name, spec.shape))
        })?;
        let end = at.checked_add(size).ok_or_else(|| ModelsError::convert(path, "the tensors are too large"))?;
        header.push_str(&format!(
            ",{}:{{\"dtype\":{},\"shape\":{},\"data_offsets\":[{at},{end}]}}",
            json(&spec.name)?,
            json(&spec.dtype)?,
            json(&spec.shape)?
        ));
        sizes.push(size);
        at = end;
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = AtomicFile::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (spec, size) in specs.iter().zip(sizes) {
        let bytes = data(spec)?;
        if bytes.len() != size {
            let reason = format!("tensor {} has {} bytes, expected {size}", spec.name, bytes.len());
            return Err(ModelsError::convert(path, reason));
        }
        file.write_all(&bytes)?;
    }
    file.commit()?;
    Ok((8 + header.len() + at) as u64)
}

/// Bytes of a tensor; nothing where the number does not fit.
pub(super) fn byte_size(spec: &TensorSpec) -> Option<usize> {
    let elements = spec.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    elements.checked_mul(spec.dtype.bitsize() / 8)
}

mod erased {
    /// Anything serde can write as JSON, behind a reference.
    pub trait Json {
        fn json(&self) -> serde_json::Result<String>;
    }
    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Result<String> {
            serde_json::to_string(self)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn specs() -> Vec<TensorSpec> {
        vec![
            TensorSpec { name: "half".into(), dtype: Dtype::F16, shape: vec![3] },
            TensorSpec { name: "a \"quoted\" name".into(), dtype: Dtype::F32, shape: vec![2, 1] },
            TensorSpec { name: "count".into(), dtype: Dtype::I64, shape: vec![] },
        ]
    }

    #[test]
    fn the_reference_reader_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let size = write_safetensors(&path, &metadata, specs(), |s| Ok(vec![7; byte_size(s).unwrap()])).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, size);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read.tensor("a \"quoted\" name").unwrap().shape(), [2, 1]);
        assert_eq!(read.tensor("count").unwrap().data(), [7; 8]);
        assert_eq!(read.tensor("half").unwrap().dtype(), Dtype::F16);
    }

    #[test]
    fn a_wrong_length_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let error = write_safetensors(&path, &BTreeMap::new(), specs(), |_| Ok(vec![0; 8])).unwrap_err();
        assert!(error.to_string().contains("has 8 bytes, expected 6"), "{error}");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    }
}
