//! A safetensors checkpoint of a foreign layout becomes one of ours, by a map of its tensors' names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use fs_err::File;
use safetensors::tensor::{Metadata, TensorInfo};

use super::pth::{cast, target};
use super::writer::{TensorSpec, write_safetensors};
use super::{Converted, Float};
use crate::models::ModelsError;
use crate::models::names::{NameMap, Renamed};

/// Longest header that the format allows, bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Where the bytes of a tensor, or of its part, stand in the file.
struct Span {
    from: u64,
    bytes: usize,
    dtype: safetensors::Dtype,
}

/// Writes the tensors of `from` under the names that `map` gives them to the safetensors file `to`. Rows that the map
/// cuts become tensors of their own. One tensor is in memory at a time.
///
/// # Errors
/// [`ModelsError::Convert`]: a damaged file, tensors that the map does not know (all are listed), rows that cannot be
/// cut, two tensors of one name; `to` is then untouched.
pub fn convert(from: &Path, to: &Path, map: &NameMap, float: Float) -> Result<Converted, ModelsError> {
    let fail = |reason: String| ModelsError::convert(from, reason);
    let mut file = File::open(from)?;
    let (start, header) = header(&mut file).map_err(fail)?;
    let tensors: BTreeMap<String, &TensorInfo> = header.tensors().into_iter().collect();
    let mut specs = Vec::new();
    let mut spans = HashMap::new();
    let (mut dropped, mut problems) = (Vec::new(), BTreeSet::new());
    for (name, info) in tensors {
        let names = match map.apply(&name) {
            Renamed::To(one) => vec![one],
            Renamed::Rows(parts) => parts,
            Renamed::LeftOut => {
                dropped.push(name);
                continue;
            }
            Renamed::Unknown => {
                problems.insert(format!("{name}: the map does not know it"));
                continue;
            }
        };
        let mut shape = info.shape.clone();
        if names.len() > 1 {
            match shape.first_mut() {
                Some(rows) if rows.is_multiple_of(names.len()) => *rows /= names.len(),
                _ => {
                    problems.insert(format!("{name} {shape:?}: its rows cannot be cut into {}", names.len()));
                    continue;
                }
            }
        }
        let (first, last) = info.data_offsets;
        let bytes = (last - first) / names.len();
        for (part, name) in names.into_iter().enumerate() {
            let span = Span { from: start + (first + part * bytes) as u64, bytes, dtype: info.dtype };
            if spans.insert(name.clone(), span).is_some() {
                problems.insert(format!("two tensors become {name}"));
            }
            specs.push(TensorSpec { name, dtype: target(info.dtype, float), shape: shape.clone() });
        }
    }
    if !problems.is_empty() {
        return Err(fail(problems.into_iter().collect::<Vec<_>>().join("; ")));
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let (mut elements, mut max_rounding) = (0, 0f32);
    let count = specs.len();
    let bytes = write_safetensors(to, &metadata, specs, |spec| {
        let fail = |reason: String| ModelsError::convert(from, format!("tensor {}: {reason}", spec.name));
        let span = spans.get(&spec.name).ok_or_else(|| fail("lost".into()))?;
        let mut raw = vec![0; span.bytes];
        file.seek(SeekFrom::Start(span.from))?;
        file.read_exact(&mut raw)?;
        elements += spec.shape.iter().product::<usize>() as u64;
        if span.dtype == spec.dtype {
            return Ok(raw);
        }
        let (cast, rounding) = cast(&raw, span.dtype, spec.dtype, &spec.shape).map_err(fail)?;
        max_rounding = max_rounding.max(rounding);
        Ok(cast)
    })?;
    Ok(Converted { tensors: count, elements, bytes, dropped, max_rounding })
}

/// Where the tensors begin, and the header, whose tensors fill the rest of the file exactly.
fn header(file: &mut File) -> Result<(u64, Metadata), String> {
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    let not = |reason: &str| format!("not a whole safetensors file ({reason})");
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| not(&format!("{size} bytes")))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size.saturating_sub(8) {
        return Err(not(&format!("a header of {length} bytes in {size}")));
    }
    let mut json = vec![0; length as usize];
    file.read_exact(&mut json).map_err(|e| e.to_string())?;
    let header: Metadata = serde_json::from_slice(&json).map_err(|e| not(&e.to_string()))?;
    let start = 8 + length;
    if start + header.data_len() as u64 != size {
        return Err(not(&format!("{size} bytes, expected {}", start + header.data_len() as u64)));
    }
    Ok((start, header))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    const MAP: &str = r"
        [[rename]]
        from = '(a|b)\.in_proj'
        to = ['$1.q', '$1.k', '$1.v']
        [[rename]]
        from = '(prior)'
        to = '$1'
        [[leave_out]]
        from = 'unused'
    ";

    fn write(path: &Path, tensors: &[(&str, Tensor)]) {
        let tensors: HashMap<_, _> =
            tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    fn ramp(rows: usize) -> Tensor {
        Tensor::arange(0f32, (rows * 2) as f32, &Device::Cpu).unwrap().reshape((rows, 2)).unwrap()
    }

    #[test]
    fn rows_are_cut_in_order_and_single_numbers_stay_so() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.safetensors"), dir.path().join("to.safetensors"));
        let prior = Tensor::new(0.3f32, &Device::Cpu).unwrap();
        write(&from, &[("a.in_proj", ramp(6)), ("prior", prior), ("unused", ramp(1))]);
        let map = NameMap::parse("x", MAP).unwrap();
        let done = convert(&from, &to, &map, Float::Keep).unwrap();
        assert_eq!((done.tensors, done.elements, done.dropped), (4, 13, vec!["unused".to_owned()]));
        let read = candle_core::safetensors::load(&to, &Device::Cpu).unwrap();
        for (at, name) in ["a.q", "a.k", "a.v"].into_iter().enumerate() {
            let expected = ramp(6).narrow(0, at * 2, 2).unwrap();
            assert_eq!(read[name].to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap(), "{name}");
        }
        assert_eq!(read["prior"].to_scalar::<f32>().unwrap(), 0.3);

        let done = convert(&from, &to, &map, Float::F16).unwrap();
        let read = candle_core::safetensors::load(&to, &Device::Cpu).unwrap();
        assert_eq!(read["a.k"].dtype(), DType::F16);
        assert!(done.max_rounding > 0.0 && done.max_rounding < 1e-3, "{}", done.max_rounding);
    }

    #[test]
    fn everything_that_does_not_fit_is_told_at_once_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.safetensors"), dir.path().join("to.safetensors"));
        write(&from, &[("a.in_proj", ramp(5)), ("b.out", ramp(1)), ("c", ramp(1))]);
        let map = NameMap::parse("x", MAP).unwrap();
        let message = convert(&from, &to, &map, Float::Keep).unwrap_err().to_string();
        assert!(message.contains("a.in_proj [5, 2]: its rows cannot be cut into 3"), "{message}");
        assert!(message.contains("b.out: the map does not know it; c: the map"), "{message}");
        assert!(!to.exists());
        let one = NameMap::parse("x", "[[rename]]\nfrom = 'a'\nto = 'c'\n[[rename]]\nfrom = 'b'\nto = 'c'\n").unwrap();
        write(&from, &[("a", ramp(1)), ("b", ramp(1))]);
        let message = convert(&from, &to, &one, Float::Keep).unwrap_err().to_string();
        assert!(message.contains("two tensors become c"), "{message}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.safetensors"), dir.path().join("to.safetensors"));
        write(&from, &[("a.in_proj", ramp(6)), ("prior", ramp(1))]);
        let whole = fs_err::read(&from).unwrap();
        let map = NameMap::parse("x", MAP).unwrap();
        for length in 0..whole.len() {
            fs_err::write(&from, &whole[..length]).unwrap();
            let message = convert(&from, &to, &map, Float::Keep).unwrap_err().to_string();
            assert!(message.contains("not a whole safetensors file"), "{length}: {message}");
        }
        assert!(!to.exists());
    }
}
