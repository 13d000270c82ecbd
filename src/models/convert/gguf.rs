//! A llama.cpp file (GGUF, ggml-org/ggml docs/gguf.md) to a directory as `transformers` writes it.
//!
//! Every tensor is dequantised by candle. Only the Llama architecture is known. llama.cpp stores the query and key
//! projections with their rows reordered for its rotary embedding (`permute` in convert_hf_to_gguf.py); here the
//! order of the original is restored.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use fs_err::File;
use safetensors::Dtype;

use super::llama::Llama;
use super::pth::cast_tensor;
use super::writer::{TensorSpec, write_safetensors};
use super::{Converted, Float};
use crate::io::write_atomic;
use crate::models::ModelsError;

/// Files that [`convert`] writes.
pub const FILES: [&str; 5] =
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// Converts `from` into the existing directory `dir`: [`FILES`], each replaced atomically, the weights last.
///
/// [`Float::Keep`] means f16, since the quantised types of the file have no counterpart: it adds far less error than
/// the quantisation had, and takes half the space of f32.
///
/// # Errors
/// [`ModelsError::Convert`] with the file and what is wrong in it or not known to this program.
pub fn convert(from: &Path, dir: &Path, float: Float) -> Result<Converted, ModelsError> {
    let fail = |reason: String| ModelsError::convert(from, reason);
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let content = open(&mut reader, size).map_err(fail)?;
    let llama = Llama::read(&content.metadata, &content.tensor_infos).map_err(fail)?;
    let dtype = if float == Float::F32 { Dtype::F32 } else { Dtype::F16 };

    let mut specs = Vec::with_capacity(content.tensor_infos.len());
    let mut sources = BTreeMap::new();
    for (source, info) in &content.tensor_infos {
        let name = llama.tensor_name(source).map_err(fail)?;
        specs.push(TensorSpec { name: name.clone(), dtype, shape: info.shape.dims().to_vec() });
        sources.insert(name, source);
    }
    llama.check_tensors(specs.iter().map(|s| (s.name.as_str(), &*s.shape))).map_err(fail)?;
    for (name, json) in llama.json_files(dtype).map_err(fail)? {
        write_atomic(&dir.join(name), json.as_bytes())?;
    }
    let mut elements = 0;
    let mut max_rounding = 0f32;
    let count = specs.len();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = write_safetensors(&dir.join("model.safetensors"), &metadata, specs, |spec| {
        let fail = |reason: String| ModelsError::convert(from, format!("tensor {}: {reason}", spec.name));
        let source = sources.get(&spec.name).ok_or_else(|| fail("lost".into()))?;
        let read = || -> candle_core::Result<Tensor> {
            let values = content.tensor(&mut reader, source, &Device::Cpu)?.dequantize(&Device::Cpu)?;
            match llama.rotary_heads(&spec.name) {
                Some(heads) => restore_order(&values, heads),
                None => Ok(values),
            }
        };
        let values = { read }().map_err(|e| fail(e.to_string()))?;
        elements += values.elem_count() as u64;
        let to = if dtype == Dtype::F32 { DType::F32 } else { DType::F16 };
        let (cast, rounding) = cast_tensor(&values, to).map_err(fail)?;
        max_rounding = max_rounding.max(rounding);
        Ok(cast)
    })?;
    Ok(Converted { tensors: count, elements, bytes, dropped: Vec::new(), max_rounding })
}

/// Rows `(head, pair, half)` back to `(head, half, pair)`. `[heads * dim, in]` both ways.
fn restore_order(values: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (rows, columns) = values.dims2()?;
    values.reshape((heads, rows / heads / 2, 2, columns))?.transpose(1, 2)?.contiguous()?.reshape((rows, columns))
}

/// candle's reader takes memory for whatever length a file claims; so the header is walked first, each length held
/// against the file, and each tensor's place afterwards.
pub(crate) fn open(reader: &mut (impl Read + Seek), size: u64) -> Result<Content, String> {
    Walk { reader, size, at: 0 }.header()?;
    reader.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let content = Content::read(reader).map_err(|e| e.to_string())?;
    for (name, info) in &content.tensor_infos {
        let dims = info.shape.dims();
        let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let (block, width) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        let bytes = elements.filter(|n| n.is_multiple_of(block)).and_then(|n| (n / block).checked_mul(width));
        let end = bytes
            .and_then(|n| info.offset.checked_add(n as u64))
            .and_then(|n| n.checked_add(content.tensor_data_offset));
        if end.is_none_or(|end| end > size) {
            return Err(format!("tensor {name} of shape {dims:?} leaves the file of {size} bytes; is it whole?"));
        }
    }
    Ok(content)
}

struct Walk<'a, R> {
    reader: &'a mut R,
    size: u64,
    at: u64,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn header(&mut self) -> Result<(), String> {
        if &self.array::<4>()? != b"GGUF" {
            return Err("no GGUF file: the first four bytes are others".into());
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version}, expected 2 or 3 (little-endian)"));
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            self.value(kind, &key)?;
            if key == "general.alignment" && !self.last_u32()?.is_power_of_two() {
                return Err("general.alignment is no power of two".into());
            }
        }
        for _ in 0..tensors {
            let name = self.text()?;
            let dims = self.u32()?;
            if dims > 4 {
                return Err(format!("tensor {name} has {dims} dimensions, expected at most 4"));
            }
            self.skip(u64::from(dims) * 8 + 12)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<(), String> {
        match kind {
            8 => drop(self.text()?),
            9 => {
                let (kind, len) = (self.u32()?, self.u64()?);
                match (kind, width(kind)) {
                    (8, _) => {
                        for _ in 0..len {
                            drop(self.text()?);
                        }
                    }
                    (_, Some(width)) => self.skip(len.saturating_mul(width))?,
                    _ => return Err(format!("{key} is a list of type {kind}, which is not known")),
                }
            }
            _ => match width(kind) {
                Some(width) => self.skip(width)?,
                None => return Err(format!("{key} has type {kind}, which is not known")),
            },
        }
        Ok(())
    }

    fn take(&mut self, n: u64) -> Result<(), String> {
        self.at = self.at.saturating_add(n);
        if self.at > self.size {
            return Err(format!("its header claims more than the {} bytes of the file; is it whole?", self.size));
        }
        Ok(())
    }

    fn skip(&mut self, n: u64) -> Result<(), String> {
        self.take(n)?;
        self.reader.seek(SeekFrom::Start(self.at)).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The last four bytes again.
    fn last_u32(&mut self) -> Result<u32, String> {
        self.at -= 4;
        self.reader.seek(SeekFrom::Start(self.at)).map_err(|e| e.to_string())?;
        self.u32()
    }

    fn text(&mut self) -> Result<String, String> {
        let len = self.u64()?;
        self.take(len)?;
        let mut bytes = vec![0; len as usize];
        self.reader.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|_| "its header has a text that is not UTF-8".into())
    }
}

/// Bytes of a scalar of each GGUF type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use candle_core::quantized::gguf_file::{Value, write};
    use candle_core::quantized::{GgmlDType, QTensor};

    const HEADS: usize = 2;
    const WIDTH: usize = 32;

    fn texts(items: &[&str]) -> Value {
        Value::Array(items.iter().map(|t| Value::String((*t).to_owned())).collect())
    }

    /// A model of one layer, written by candle's own writer; the query rows are in llama.cpp's order.
    fn tiny(path: &Path, change: impl Fn(&mut Vec<(&'static str, Value)>)) -> Tensor {
        let mut tokens = vec!["<|endoftext|>", "<|im_end|>"];
        tokens.extend(["h", "i", "hi", "1", "2", "Ġ", "Ġhi", "12"]);
        let kinds = tokens.iter().enumerate().map(|(i, _)| Value::I32(if i < 2 { 3 } else { 1 })).collect();
        let mut metadata = vec![
            ("general.architecture", Value::String("llama".into())),
            ("llama.block_count", Value::U32(1)),
            ("llama.context_length", Value::U32(64)),
            ("llama.embedding_length", Value::U32(WIDTH as u32)),
            ("llama.feed_forward_length", Value::U32(64)),
            ("llama.attention.head_count", Value::U32(HEADS as u32)),
            ("llama.attention.head_count_kv", Value::U32(1)),
            ("llama.rope.freq_base", Value::F32(1e5)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("smollm".into())),
            ("tokenizer.ggml.tokens", texts(&tokens)),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            ("tokenizer.ggml.merges", texts(&["h i", "Ġ hi", "1 2"])),
            ("tokenizer.ggml.eos_token_id", Value::U32(1)),
            ("tokenizer.chat_template", Value::String("{{ messages }}".into())),
        ];
        change(&mut metadata);
        let random = |rows: usize, columns: usize| Tensor::randn(0f32, 1., (rows, columns), &Device::Cpu).unwrap();
        let query = random(WIDTH, WIDTH);
        // As convert_hf_to_gguf.py does: reshape(heads, 2, dim / 2, in), swap axes 1 and 2.
        let permuted = query
            .reshape((HEADS, 2, WIDTH / HEADS / 2, WIDTH))
            .unwrap()
            .transpose(1, 2)
            .unwrap()
            .contiguous()
            .unwrap()
            .reshape((WIDTH, WIDTH))
            .unwrap();
        let ones = Tensor::ones(WIDTH, DType::F32, &Device::Cpu).unwrap();
        let tensors = [
            ("token_embd.weight", random(tokens.len(), WIDTH), GgmlDType::Q8_0),
            ("output_norm.weight", ones.clone(), GgmlDType::F32),
            ("blk.0.attn_norm.weight", ones.clone(), GgmlDType::F32),
            ("blk.0.ffn_norm.weight", ones, GgmlDType::F32),
            ("blk.0.attn_q.weight", permuted, GgmlDType::F32),
            ("blk.0.attn_k.weight", random(WIDTH / 2, WIDTH), GgmlDType::Q4_1),
            ("blk.0.attn_v.weight", random(WIDTH / 2, WIDTH), GgmlDType::Q4_1),
            ("blk.0.attn_output.weight", random(WIDTH, WIDTH), GgmlDType::F16),
            ("blk.0.ffn_gate.weight", random(64, WIDTH), GgmlDType::Q8_0),
            ("blk.0.ffn_up.weight", random(64, WIDTH), GgmlDType::Q8_0),
            ("blk.0.ffn_down.weight", random(WIDTH, 64), GgmlDType::Q8_0),
        ];
        let tensors: Vec<_> = tensors.iter().map(|(n, t, d)| (*n, QTensor::quantize(t, *d).unwrap())).collect();
        let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| (*n, t)).collect();
        write(&mut fs_err::File::create(path).unwrap(), &metadata, &tensors).unwrap();
        query
    }

    #[test]
    fn a_tiny_llama_becomes_a_directory_that_reads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("tiny.gguf");
        let query = tiny(&from, |_| {});
        let done = convert(&from, dir.path(), Float::F32).unwrap();
        assert_eq!(done.tensors, 11);
        assert_eq!(done.max_rounding, 0.);
        let read = candle_core::safetensors::load(dir.path().join("model.safetensors"), &Device::Cpu).unwrap();
        let restored = &read["model.layers.0.self_attn.q_proj.weight"];
        assert_eq!(restored.to_vec2::<f32>().unwrap(), query.to_vec2::<f32>().unwrap());
        assert_eq!(read["model.embed_tokens.weight"].dims(), [10, WIDTH]);
        let json = |name| -> serde_json::Value {
            serde_json::from_slice(&fs_err::read(dir.path().join(name)).unwrap()).unwrap()
        };
        let config = json("config.json");
        assert_eq!(config["architectures"], serde_json::json!(["LlamaForCausalLM"]));
        assert_eq!(config["tie_word_embeddings"], true);
        assert_eq!(config["vocab_size"], 10);
        assert_eq!(config["rms_norm_eps"], 1e-5);
        assert_eq!(json("tokenizer_config.json")["chat_template"], "{{ messages }}");
        assert_eq!(json("generation_config.json")["eos_token_id"], 1);

        let tokenizer = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
        let encode = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        // Digits stand alone although a merge would join them; the special token is one token.
        assert_eq!(encode("hi hi<|im_end|>12"), [4, 8, 1, 5, 6]);
        assert_eq!(tokenizer.decode(&[4, 8, 5], false).unwrap(), "hi hi1");
        assert_eq!(tokenizer.decode(&[4, 1], true).unwrap(), "hi");
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("tiny.gguf");
        tiny(&from, |_| {});
        let bytes = fs_err::read(&from).unwrap();
        let out = dir.path().join("out");
        fs_err::create_dir(&out).unwrap();
        for cut in (0..bytes.len() - 40).step_by(211) {
            fs_err::write(&from, &bytes[..cut]).unwrap();
            let error = convert(&from, &out, Float::F16).unwrap_err();
            assert!(matches!(error, ModelsError::Convert { .. }), "cut at {cut}: {error}");
            assert_eq!(fs_err::read_dir(&out).unwrap().count(), 0, "cut at {cut}");
        }
    }

    #[test]
    fn no_changed_byte_of_the_header_makes_it_panic() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("tiny.gguf");
        tiny(&from, |_| {});
        let bytes = fs_err::read(&from).unwrap();
        for at in (0..1200).step_by(11) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            fs_err::write(&from, &changed).unwrap();
            let _ = convert(&from, dir.path(), Float::F16);
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("tiny.gguf");
        let set = |key: &'static str, value: Value| {
            tiny(&from, |m| {
                m.retain(|(k, _)| *k != key);
                m.push((key, value.clone()));
            });
            convert(&from, dir.path(), Float::F16).unwrap_err().to_string()
        };
        assert!(set("general.architecture", Value::String("qwen2".into())).contains("`qwen2`"));
        assert!(set("tokenizer.ggml.pre", Value::String("llama-bpe".into())).contains("`llama-bpe`"));
        assert!(set("llama.rope.scaling.type", Value::String("yarn".into())).contains("llama.rope.scaling.type"));
        assert!(set("llama.block_count", Value::U32(2)).contains("model.layers.1"));
        assert!(set("llama.attention.head_count", Value::U32(3)).contains("llama.attention.head_count"));
    }
}
