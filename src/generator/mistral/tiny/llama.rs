//! Llama, as a directory and as one GGUF file.

use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::json;

use super::{CHATML, CONTEXT, LAYERS, Numbers, PLAIN, Says, Vocabulary, WIDTH, common, text_config, with};

fn vocabulary() -> Vocabulary {
    Vocabulary::new(&["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
}

fn numbers(words: &Vocabulary, says: Says) -> Numbers {
    let mut numbers = Numbers::new(1);
    numbers.ends(("model.embed_tokens.weight", 1.0), "lm_head.weight", words, says);
    numbers.text_layers("model", PLAIN);
    numbers
}

pub(super) fn write(dir: &Path, says: Says) {
    let words = vocabulary();
    let more = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": null});
    common(dir, &words, &with(text_config(&words), more), CHATML, None, "<|im_end|>");
    numbers(&words, says).save(dir);
}

/// The same model in one file, its matrices as `dtype`.
pub(crate) fn gguf(path: &Path, dtype: GgmlDType) {
    let words = vocabulary();
    let texts = |items: Vec<String>| Value::Array(items.into_iter().map(Value::String).collect());
    let kinds = (0..words.len()).map(|id| Value::I32(if id < words.specials() { 3 } else { 1 })).collect();
    let number = |n: usize| Value::U32(n as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", number(LAYERS)),
        ("llama.context_length", number(CONTEXT)),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.feed_forward_length", number(2 * WIDTH)),
        ("llama.attention.head_count", number(4)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.rope.dimension_count", number(16)),
        ("llama.rope.freq_base", Value::F32(1e4)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", texts(words.tokens().to_vec())),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(words.merges().collect())),
        ("tokenizer.ggml.eos_token_id", number(words.id("<|im_end|>"))),
        ("tokenizer.chat_template", Value::String(CHATML.into())),
    ];
    let numbers = numbers(&words, Says::Ascii);
    let tensor = |name: &str| &numbers.tensors[name];
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), tensor("model.embed_tokens.weight").clone()),
        ("output_norm.weight".to_owned(), tensor("model.norm.weight").clone()),
        ("output.weight".to_owned(), tensor("lm_head.weight").clone()),
    ];
    for layer in 0..LAYERS {
        for (to, from, heads) in [
            ("attn_norm", "input_layernorm", 0),
            ("ffn_norm", "post_attention_layernorm", 0),
            ("attn_q", "self_attn.q_proj", 4),
            ("attn_k", "self_attn.k_proj", 2),
            ("attn_v", "self_attn.v_proj", 0),
            ("attn_output", "self_attn.o_proj", 0),
            ("ffn_gate", "mlp.gate_proj", 0),
            ("ffn_up", "mlp.up_proj", 0),
            ("ffn_down", "mlp.down_proj", 0),
        ] {
            let values = tensor(&format!("model.layers.{layer}.{from}.weight"));
            let values = if heads > 0 { llama_cpp_order(values, heads) } else { values.clone() };
            tensors.push((format!("blk.{layer}.{to}.weight"), values));
        }
    }
    let kind = |values: &Tensor| if values.rank() == 1 { GgmlDType::F32 } else { dtype };
    let tensors: Vec<(String, QTensor)> =
        tensors.into_iter().map(|(name, t)| (name, QTensor::quantize(&t, kind(&t)).unwrap())).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    gguf_file::write(&mut fs_err::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// Rows `(head, half, pair)` to `(head, pair, half)` (`permute` in convert_hf_to_gguf.py).
fn llama_cpp_order(values: &Tensor, heads: usize) -> Tensor {
    let (rows, columns) = values.dims2().unwrap();
    let split = values.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
    let moved = split.transpose(1, 2).unwrap().contiguous().unwrap();
    moved.reshape((rows, columns)).unwrap().to_device(&Device::Cpu).unwrap()
}
