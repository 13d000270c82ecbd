//! PyTorch's `.pth`, `.pt` and `.bin` to safetensors.
//!
//! Two formats exist (torch/serialization.py). Since 1.6: a zip of `data.pkl` and one stored member per storage.
//! Before: a stream of five pickles (magic number, protocol 1001, system, object, keys of the storages) and then, in
//! the order of the keys, each storage's length and its numbers. In both, the object's pickle is read by
//! `pickle`, which runs nothing, and every size is checked against the file before memory is taken.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor as Candle};
use fs_err::File;
use safetensors::Dtype;

use super::pickle::{Node, Pickle, Storage, Tensor};
use super::writer::{TensorSpec, write_safetensors};
use super::{Converted, Float};
use crate::models::ModelsError;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Keys under which a checkpoint keeps its state dict.
const INSIDE: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// Converts the state dict in `from` to the safetensors file `to`.
///
/// Views become contiguous tensors. The counters that batch normalisation keeps for training
/// (`….num_batches_tracked`) and every tensor whose name starts with one of `leave_out` are left out and named in
/// [`Converted::dropped`]. With [`Float::F16`] a finite value
/// beyond the range is an error.
///
/// # Errors
/// [`ModelsError::Convert`] with the file and what is wrong in it; `to` is then untouched.
pub fn convert(from: &Path, to: &Path, float: Float, leave_out: &[String]) -> Result<Converted, ModelsError> {
    let mut checkpoint = Checkpoint::open(from).map_err(|reason| ModelsError::convert(from, reason))?;
    let mut dropped = Vec::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in std::mem::take(&mut checkpoint.tensors) {
        if name.ends_with(".num_batches_tracked") || leave_out.iter().any(|start| name.starts_with(start)) {
            dropped.push(name);
        } else {
            tensors.insert(name, tensor);
        }
    }
    let mut specs = Vec::with_capacity(tensors.len());
    for (name, view) in &tensors {
        specs.push(TensorSpec {
            name: name.clone(),
            dtype: target(view.dtype, float),
            shape: view.tensor.shape.clone(),
        });
    }
    let mut elements = 0;
    let mut max_rounding = 0f32;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let count = specs.len();
    let bytes = write_safetensors(to, &metadata, specs, |spec| {
        let fail = |reason: String| ModelsError::convert(from, format!("tensor {}: {reason}", spec.name));
        let view = tensors.get(&spec.name).ok_or_else(|| fail("lost".into()))?;
        let raw = checkpoint.read(view).map_err(fail)?;
        elements += view.elements as u64;
        if view.dtype == spec.dtype {
            return Ok(raw);
        }
        let (cast, rounding) = cast(&raw, view.dtype, spec.dtype, &spec.shape).map_err(fail)?;
        max_rounding = max_rounding.max(rounding);
        Ok(cast)
    })?;
    Ok(Converted { tensors: count, elements, bytes, dropped, max_rounding })
}

/// Type that a tensor is written in.
pub(super) fn target(dtype: Dtype, float: Float) -> Dtype {
    match (dtype, float) {
        (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16, Float::F32) => Dtype::F32,
        (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16, Float::F16) => Dtype::F16,
        _ => dtype,
    }
}

/// Little-endian bytes of one floating-point type in another, and the largest rounding.
pub(super) fn cast(raw: &[u8], from: Dtype, to: Dtype, shape: &[usize]) -> Result<(Vec<u8>, f32), String> {
    let candle = |dtype| match dtype {
        Dtype::F64 => Ok(DType::F64),
        Dtype::F32 => Ok(DType::F32),
        Dtype::F16 => Ok(DType::F16),
        Dtype::BF16 => Ok(DType::BF16),
        other => Err(format!("type {other:?} is no floating-point type")),
    };
    let (from, to) = (candle(from)?, candle(to)?);
    let source = Candle::from_raw_buffer(raw, from, shape, &Device::Cpu).map_err(|e| e.to_string())?;
    cast_tensor(&source, to)
}

/// Little-endian bytes of a tensor in another floating-point type, and the largest rounding.
pub(super) fn cast_tensor(source: &Candle, to: DType) -> Result<(Vec<u8>, f32), String> {
    let text = |e: candle_core::Error| e.to_string();
    let values = |t: &Candle| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let target = source.to_dtype(to).map_err(text)?;
    let (before, after) = (values(source).map_err(text)?, values(&target).map_err(text)?);
    let mut rounding = 0f32;
    for (before, after) in before.iter().zip(&after) {
        if before.is_finite() && !after.is_finite() {
            return Err(format!("value {before} does not fit {}; convert to f32", to.as_str()));
        }
        rounding = rounding.max((before - after).abs());
    }
    Ok((safetensors::View::data(&target).into_owned(), rounding))
}

/// A tensor whose place in the file is known to exist.
#[derive(Debug)]
struct View {
    tensor: Tensor,
    dtype: Dtype,
    /// Where its storage starts, bytes.
    start: u64,
    elements: usize,
    /// Elements from its first to its last, both included.
    span: usize,
}

struct Checkpoint {
    file: File,
    tensors: Vec<(String, View)>,
}

impl Checkpoint {
    fn open(path: &Path) -> Result<Self, String> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let size = file.metadata().map_err(|e| e.to_string())?.len();
        let mut head = [0; 4];
        file.read_exact(&mut head).map_err(|_| format!("{size} bytes are no checkpoint"))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
        let (pickle, places) = if head == *b"PK\x03\x04" { zipped(&mut file)? } else { streamed(&mut file, size)? };
        let mut tensors = Vec::new();
        let mut total = 0u64;
        for (name, tensor) in state_dict(&pickle)? {
            let Node::Storage(storage) = pickle.get(tensor.storage) else { continue };
            let view = view(tensor, storage, &places, size).map_err(|e| format!("tensor {name}: {e}"))?;
            total = total.saturating_add(view.elements as u64 * width(view.dtype));
            tensors.push((name, view));
        }
        // Tied weights share a storage; a file that is all sharing is made to fill the disk.
        if total > size.saturating_mul(4) {
            return Err(format!("its tensors would take {total} bytes, more than four times the file's {size}"));
        }
        if let Some(pair) = duplicate(&tensors) {
            return Err(format!("two tensors are called {pair}"));
        }
        Ok(Self { file, tensors })
    }

    fn read(&mut self, view: &View) -> Result<Vec<u8>, String> {
        let width = width(view.dtype);
        let mut raw = vec![0; view.span * width as usize];
        self.file.seek(SeekFrom::Start(view.start + view.tensor.offset * width)).map_err(|e| e.to_string())?;
        self.file.read_exact(&mut raw).map_err(|e| e.to_string())?;
        if is_contiguous(&view.tensor) {
            return Ok(raw);
        }
        let width = width as usize;
        let mut gathered = Vec::with_capacity(view.elements * width);
        let mut index = vec![0usize; view.tensor.shape.len()];
        for _ in 0..view.elements {
            let at: usize = index.iter().zip(&view.tensor.strides).map(|(i, s)| i * s).sum();
            gathered.extend_from_slice(&raw[at * width..(at + 1) * width]);
            for (i, dim) in index.iter_mut().zip(&view.tensor.shape).rev() {
                *i += 1;
                if *i < *dim {
                    break;
                }
                *i = 0;
            }
        }
        Ok(gathered)
    }
}

fn duplicate(tensors: &[(String, View)]) -> Option<&str> {
    let mut seen = std::collections::HashSet::new();
    tensors.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
}

fn width(dtype: Dtype) -> u64 {
    dtype.bitsize() as u64 / 8
}

fn is_contiguous(tensor: &Tensor) -> bool {
    let mut expected = 1;
    tensor.shape.iter().zip(&tensor.strides).rev().all(|(dim, stride)| {
        let fits = *dim == 1 || *stride == expected;
        expected *= dim;
        fits
    })
}

fn view(tensor: Tensor, storage: &Storage, places: &Places, size: u64) -> Result<View, String> {
    let start = *places.get(&storage.key).ok_or_else(|| format!("its storage {} is not in the file", storage.key))?;
    let elements = tensor.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(0usize, |at, (dim, stride)| at.checked_add(dim.saturating_sub(1).checked_mul(*stride)?));
    let (Some(elements), Some(last)) = (elements, last) else {
        return Err(format!("sizes {:?} with strides {:?} are too large", tensor.shape, tensor.strides));
    };
    let span = if elements == 0 { 0 } else { last.saturating_add(1) };
    if elements > span {
        return Err(format!("sizes {:?} with strides {:?} repeat elements", tensor.shape, tensor.strides));
    }
    let end = tensor.offset.checked_add(span as u64).filter(|end| *end <= storage.len);
    if end.is_none() {
        return Err(format!("offset {} and {span} elements leave its storage of {}", tensor.offset, storage.len));
    }
    let bytes = storage.len.checked_mul(width(storage.dtype)).and_then(|n| n.checked_add(start));
    if bytes.is_none_or(|end| end > size) {
        return Err(format!("its storage of {} elements leaves the file of {size} bytes", storage.len));
    }
    Ok(View { tensor, dtype: storage.dtype, start, elements, span })
}

/// Where each storage's numbers start, bytes from the start of the file.
type Places = HashMap<String, u64>;

fn zipped(file: &mut File) -> Result<(Pickle, Places), String> {
    let mut archive = zip::ZipArchive::new(BufReader::new(&mut *file)).map_err(|e| format!("damaged zip: {e}"))?;
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let object = names
        .iter()
        .find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .ok_or("a zip without `data.pkl` is no checkpoint (is it TorchScript, or a wheel?)")?;
    let prefix = object.trim_end_matches("data.pkl").to_owned();
    let mut order = String::new();
    if let Ok(mut member) = archive.by_name(&format!("{prefix}byteorder")) {
        Read::by_ref(&mut member).take(16).read_to_string(&mut order).map_err(|e| e.to_string())?;
    }
    if order == "big" {
        return Err("it was written on a big-endian machine, expected little-endian".into());
    }
    let pickle = {
        let member = archive.by_name(object).map_err(|e| format!("damaged zip: {e}"))?;
        Pickle::read(&mut BufReader::new(member))?
    };
    let mut places = Places::new();
    for storage in pickle.storages() {
        let name = format!("{prefix}data/{}", storage.key);
        let member = archive.by_name(&name).map_err(|e| format!("member {name}: {e}"))?;
        let bytes = storage.len.checked_mul(width(storage.dtype));
        if member.compression() != zip::CompressionMethod::Stored || bytes != Some(member.size()) {
            let found = format!("{:?}, {} bytes", member.compression(), member.size());
            return Err(format!("member {name} is {found}, expected stored, {} elements", storage.len));
        }
        let start = member.data_start().ok_or_else(|| format!("member {name} has no place"))?;
        places.insert(storage.key.clone(), start);
    }
    Ok((pickle, places))
}

fn streamed(file: &mut File, size: u64) -> Result<(Pickle, Places), String> {
    let mut reader = BufReader::new(&mut *file);
    let magic = Pickle::read(&mut reader).map_err(|_| "neither a zip nor PyTorch's older format".to_owned())?;
    if *magic.root() != Node::Long(MAGIC.into()) {
        return Err("neither a zip nor PyTorch's older format: the magic number is another".into());
    }
    let protocol = Pickle::read(&mut reader)?;
    if *protocol.root() != Node::Int(1001) {
        return Err(format!("protocol {:?}, expected 1001", protocol.root()));
    }
    let system = Pickle::read(&mut reader)?;
    if let Node::Dict(entries) = system.root() {
        let endian = entries.iter().find(|(key, _)| system.text(*key) == Some("little_endian"));
        if endian.is_some_and(|(_, value)| *system.get(*value) == Node::Bool(false)) {
            return Err("it was written on a big-endian machine, expected little-endian".into());
        }
    }
    let pickle = Pickle::read(&mut reader)?;
    let keys = Pickle::read(&mut reader)?;
    let Node::List(ids) = keys.root() else { return Err("its list of storages is no list".into()) };
    let declared: HashMap<&str, &Storage> = pickle.storages().map(|s| (s.key.as_str(), s)).collect();
    let mut places = Places::new();
    let mut at = reader.stream_position().map_err(|e| e.to_string())?;
    for id in ids {
        let key = keys.text(*id).ok_or("its list of storages has something that is no text")?;
        let storage = declared.get(key).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let mut len = [0; 8];
        reader.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        reader.read_exact(&mut len).map_err(|_| format!("the file ends before storage {key}"))?;
        let len = u64::from_le_bytes(len);
        if len != storage.len {
            return Err(format!("storage {key} has {len} elements, expected {}", storage.len));
        }
        let end = len.checked_mul(width(storage.dtype)).and_then(|n| n.checked_add(at + 8));
        let end = end.filter(|end| *end <= size);
        let end = end.ok_or_else(|| format!("the file of {size} bytes ends inside storage {key} of {len} elements"))?;
        places.insert(key.to_owned(), at + 8);
        at = end;
    }
    Ok((pickle, places))
}

fn state_dict(pickle: &Pickle) -> Result<Vec<(String, Tensor)>, String> {
    let Node::Dict(root) = pickle.root() else {
        return Err("its object is no dict; save `model.state_dict()`".into());
    };
    let tensors = |entries: &[(u32, u32)]| -> Vec<(String, Tensor)> {
        let named = entries.iter().filter_map(|(key, value)| Some((pickle.text(*key)?, pickle.get(*value))));
        named
            .filter_map(|(name, node)| match node {
                Node::Tensor(tensor) => Some((name.to_owned(), (**tensor).clone())),
                _ => None,
            })
            .collect()
    };
    let direct = tensors(root);
    if !direct.is_empty() {
        return Ok(direct);
    }
    for inside in INSIDE {
        let entry = root.iter().find(|(key, _)| pickle.text(*key) == Some(inside));
        if let Some(Node::Dict(entries)) = entry.map(|(_, value)| pickle.get(*value)) {
            let found = tensors(entries);
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    Err(format!("no tensors in it, nor under {}", INSIDE.join(", ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use std::io::Write;

    /// Written by PyTorch (lpips 0.1.4, weights/v0.0/alex.pth, BSD-2-Clause): five 1x1 convolutions, the stream format.
    const STREAM: &[u8] = include_bytes!("../../../tests/data/models/lpips-alex-v0.0.pth");

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn convert(&self, bytes: &[u8], float: Float) -> Result<(Converted, Vec<u8>), String> {
            let (from, to) = (self.dir.path().join("in.pth"), self.dir.path().join("out.safetensors"));
            fs_err::write(&from, bytes).unwrap();
            let done = convert(&from, &to, float, &[]).map_err(|e| e.to_string());
            assert_eq!(to.exists(), done.is_ok());
            done.map(|done| (done, fs_err::read(&to).unwrap()))
        }
    }

    fn floats(view: &safetensors::tensor::TensorView) -> Vec<f32> {
        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// The opcodes of a state dict as torch writes it: one storage per tensor.
    fn object(tensors: &[(&str, &str, u32, u32, &[u8], &[u8])]) -> Vec<u8> {
        let text = |t: &str| [b"X".as_slice(), &(t.len() as u32).to_le_bytes(), t.as_bytes()].concat();
        let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
        for (i, (name, kind, len, offset, shape, strides)) in tensors.iter().enumerate() {
            out.extend(text(name));
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            out.extend(text("storage"));
            out.extend(format!("ctorch\n{kind}\n").bytes());
            out.extend(text(&i.to_string()));
            out.extend(text("cpu"));
            out.extend([b"J".as_slice(), &len.to_le_bytes(), b"tQJ", &offset.to_le_bytes()].concat());
            for numbers in [shape, strides] {
                out.push(b'(');
                out.extend(numbers.iter().flat_map(|n| [b'K', *n]));
                out.push(b't');
            }
            out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        }
        out.extend(b"u.");
        out
    }

    fn zip(object: &[u8], storages: &[&[u8]]) -> Vec<u8> {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer.start_file("archive/data.pkl", stored).unwrap();
        writer.write_all(object).unwrap();
        for (i, storage) in storages.iter().enumerate() {
            writer.start_file(format!("archive/data/{i}"), stored).unwrap();
            writer.write_all(storage).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn numbers(n: u16) -> Vec<u8> {
        (0..n).flat_map(|i| f32::from(i).to_le_bytes()).collect()
    }

    #[test]
    fn the_stream_format_as_pytorch_wrote_it() {
        let (done, bytes) = Place::new().convert(STREAM, Float::Keep).unwrap();
        assert_eq!((done.tensors, done.elements), (5, 64 + 192 + 384 + 256 + 256));
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let weight = read.tensor("lin1.model.1.weight").unwrap();
        assert_eq!(weight.shape(), [1, 192, 1, 1]);
        // The numbers lie in the file as they are.
        let data = weight.data();
        assert!(STREAM.windows(data.len()).any(|window| window == data));
    }

    #[test]
    fn a_cut_stream_is_an_error_wherever_it_is_cut() {
        let place = Place::new();
        for cut in (0..STREAM.len()).step_by(53).chain([STREAM.len() - 1]) {
            place.convert(&STREAM[..cut], Float::Keep).unwrap_err();
        }
    }

    #[test]
    fn a_zip_with_a_transposed_view_a_scalar_and_counters() {
        let object = object(&[
            ("w", "FloatStorage", 7, 1, &[2, 3], &[1, 2]),
            ("s", "FloatStorage", 1, 0, &[], &[]),
            ("bn.num_batches_tracked", "LongStorage", 1, 0, &[], &[]),
        ]);
        let file = zip(&object, &[&numbers(7), &2.5f32.to_le_bytes(), &9i64.to_le_bytes()]);
        let (done, bytes) = Place::new().convert(&file, Float::Keep).unwrap();
        assert_eq!(done.dropped, ["bn.num_batches_tracked"]);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(floats(&read.tensor("w").unwrap()), [1., 3., 5., 2., 4., 6.]);
        assert_eq!(floats(&read.tensor("s").unwrap()), [2.5]);
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn half_precision_rounds_to_nearest_and_refuses_what_does_not_fit() {
        let place = Place::new();
        let object = object(&[("w", "FloatStorage", 2, 0, &[2], &[1])]);
        let write = |x: f32| zip(&object, &[&[1f32.to_le_bytes(), x.to_le_bytes()].concat()]);
        let (done, bytes) = place.convert(&write(2049.), Float::F16).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("w").unwrap().data(), [0x00, 0x3c, 0x00, 0x68]);
        assert_eq!(done.max_rounding, 1.);
        fs_err::remove_file(place.dir.path().join("out.safetensors")).unwrap();
        let error = place.convert(&write(70_000.), Float::F16).unwrap_err();
        assert!(error.contains("tensor w") && error.contains("70000"), "{error}");
    }

    #[test]
    fn sizes_that_the_file_does_not_have_are_refused() {
        let place = Place::new();
        type Case<'a> = (u32, u32, &'a [u8], &'a [u8], &'a str);
        let cases: [Case; 4] = [
            (4, 1, &[2, 2], &[2, 1], "leave its storage"),
            (4, 0, &[200, 200], &[0, 0], "repeat elements"),
            (4, 0, &[2, 200], &[200, 1], "leave its storage"),
            (0x7fff_ffff, 0, &[2], &[1], "expected stored, 2147483647 elements"),
        ];
        for (len, offset, shape, strides, reason) in cases {
            let object = object(&[("w", "FloatStorage", len, offset, shape, strides)]);
            let error = place.convert(&zip(&object, &[&numbers(4)]), Float::Keep).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_pickle_that_would_run_a_command_is_refused_in_both_formats() {
        let place = Place::new();
        let attack = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.";
        let error = place.convert(&zip(attack, &[]), Float::Keep).unwrap_err();
        assert!(error.contains("`os.system`"), "{error}");
        // The head of the stream format up to its object, then the attack.
        let stream = [&STREAM[..object_start()], attack].concat();
        let error = place.convert(&stream, Float::Keep).unwrap_err();
        assert!(error.contains("`os.system`"), "{error}");
    }

    fn object_start() -> usize {
        let mut reader = std::io::Cursor::new(STREAM);
        for _ in 0..3 {
            Pickle::read(&mut reader).unwrap();
        }
        reader.position() as usize
    }
}
