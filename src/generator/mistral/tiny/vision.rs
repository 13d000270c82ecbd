//! The models that see.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Attention, CHATML, LAYERS, Numbers, PLAIN, Says, VISION, Vocabulary, WIDTH, common, json_file, text_config, with,
};

/// SmolVLM's own template: of a message that is no list of parts it writes nothing.
const SMOLVLM: &str = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}\
    {% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}\
    {% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}\
    {% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}\
    {% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// Gemma 3's own template: the system message goes into the first user turn.
const GEMMA: &str = "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}\
    {%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}\
    {%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}\
    {%- set loop_messages = messages[1:] -%}\
    {%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}\
    {%- for message in loop_messages -%}\
    {%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}\
    {%- else -%}{%- set role = message['role'] -%}{%- endif -%}\
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') }}\
    {%- if message['content'] is string -%}{{ message['content'] | trim }}\
    {%- else -%}{%- for item in message['content'] -%}\
    {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}\
    {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}\
    {{ '<end_of_turn>\\n' }}{%- endfor -%}\
    {%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}";

/// A SigLIP tower (Idefics3, Gemma 3) for pictures of `size` pixels in patches of `patch`.
fn siglip(numbers: &mut Numbers, prefix: &str, size: usize, patch: usize) {
    numbers.random(&format!("{prefix}.embeddings.patch_embedding.weight"), &[VISION, 3, patch, patch], 0.15);
    numbers.random(&format!("{prefix}.embeddings.patch_embedding.bias"), &[VISION], 0.1);
    let patches = (size / patch).pow(2);
    numbers.random(&format!("{prefix}.embeddings.position_embedding.weight"), &[patches, VISION], 0.3);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("{prefix}.encoder.layers.{layer}.{part}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            numbers.linear(&at(&format!("self_attn.{part}")), VISION, VISION, 1.5, true);
        }
        numbers.linear(&at("mlp.fc1"), 2 * VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.fc2"), VISION, 2 * VISION, 1.5, true);
        numbers.layer_norm(&at("layer_norm1"), VISION);
        numbers.layer_norm(&at("layer_norm2"), VISION);
    }
    numbers.layer_norm(&format!("{prefix}.post_layernorm"), VISION);
}

fn siglip_config(size: usize, patch: usize) -> Value {
    json!({
        "hidden_size": VISION, "intermediate_size": 2 * VISION, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "num_channels": 3, "image_size": size, "patch_size": patch, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    })
}

pub(super) fn idefics3(dir: &Path, says: Says) {
    let (size, patch, scale) = (64, 16, 2_usize);
    let words = Vocabulary::new(&[
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<end_of_utterance>",
        "<fake_token_around_image>",
        "<image>",
        "<global-img>",
        "<row_1_col_1>",
    ]);
    let config = json!({
        "architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3",
        "image_token_id": words.id("<image>"), "scale_factor": scale, "tie_word_embeddings": false,
        "text_config": with(text_config(&words), json!({"model_type": "llama", "rope_scaling": null})),
        "vision_config": siglip_config(size, patch),
    });
    common(dir, &words, &config, SMOLVLM, Some("<|im_start|>"), "<end_of_utterance>");
    let tokens = (size / patch).pow(2) / (scale * scale);
    // As SmolVLM has it, splitting included.
    let preprocessor = json!({
        "do_convert_rgb": true, "do_image_splitting": true, "do_normalize": true, "do_pad": true, "do_rescale": true,
        "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1.0 / 255.0,
        "resample": 1, "image_processor_type": "Idefics3ImageProcessor", "max_image_size": {"longest_edge": size},
        "size": {"longest_edge": 4 * size},
    });
    json_file(dir, "preprocessor_config.json", &preprocessor);
    json_file(dir, "processor_config.json", &json!({"image_seq_len": tokens, "processor_class": "Idefics3Processor"}));
    let mut numbers = Numbers::new(2);
    siglip(&mut numbers, "model.vision_model", size, patch);
    numbers.linear("model.connector.modality_projection.proj", WIDTH, VISION * scale * scale, 2.0, false);
    numbers.ends(("model.text_model.embed_tokens.weight", 1.0), "lm_head.weight", &words, says);
    numbers.text_layers("model.text_model", PLAIN);
    numbers.save(dir);
}

pub(super) fn gemma3(dir: &Path, says: Says) {
    let (size, patch, tokens) = (32, 8, 4);
    let words = Vocabulary::new(&[
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ]);
    let text = json!({
        "sliding_window": 512, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16, "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": 10000.0,
    });
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "image_token_index": words.id("<image_soft_token>"), "mm_tokens_per_image": tokens,
        "text_config": with(text_config(&words), text), "vision_config": siglip_config(size, patch),
    });
    common(dir, &words, &config, GEMMA, Some("<bos>"), "<eos>");
    let ids: Vec<usize> = ["<eos>", "<end_of_turn>"].iter().map(|name| words.id(name)).collect();
    json_file(dir, "generation_config.json", &json!({"eos_token_id": ids}));
    let preprocessor = json!({
        "do_convert_rgb": null, "do_normalize": true, "do_pan_and_scan": null, "do_rescale": true, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1.0 / 255.0, "resample": 2,
        "image_processor_type": "Gemma3ImageProcessor", "image_seq_length": tokens,
        "size": {"height": size, "width": size},
    });
    json_file(dir, "preprocessor_config.json", &preprocessor);
    json_file(dir, "processor_config.json", &json!({"image_seq_length": tokens, "processor_class": "Gemma3Processor"}));
    let mut numbers = Numbers::new(3);
    siglip(&mut numbers, "vision_tower.vision_model", size, patch);
    numbers.random("multi_modal_projector.mm_input_projection_weight", &[VISION, WIDTH], 2.0 / (VISION as f32).sqrt());
    numbers.constant("multi_modal_projector.mm_soft_emb_norm.weight", VISION, 0.0);
    // The model multiplies its embeddings by the root of their width.
    let embeddings = ("language_model.model.embed_tokens.weight", 1.0 / (WIDTH as f32).sqrt());
    numbers.ends(embeddings, "language_model.lm_head.weight", &words, says);
    numbers
        .text_layers("language_model.model", Attention { bias: false, head_norms: true, four_norms: true, norm: 0.0 });
    numbers.save(dir);
}

const QWEN: [&str; 8] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

fn qwen_ids(words: &Vocabulary) -> Value {
    json!({
        "vision_start_token_id": words.id("<|vision_start|>"), "vision_end_token_id": words.id("<|vision_end|>"),
        "image_token_id": words.id("<|image_pad|>"), "video_token_id": words.id("<|video_pad|>"),
    })
}

/// What Qwen2-VL and 2.5 share: all but the tower.
fn qwen2_files(dir: &Path, words: &Vocabulary, architecture: &str, model_type: &str, vision: Value) {
    let config = json!({
        "architectures": [architecture], "model_type": model_type, "vision_config": vision,
        "use_sliding_window": false, "sliding_window": CONTEXT_WINDOW, "max_window_layers": LAYERS,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    });
    let config = with(with(text_config(words), qwen_ids(words)), config);
    common(dir, words, &config, CHATML, None, "<|im_end|>");
    let preprocessor = json!({
        "min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_processor_type": "Qwen2VLImageProcessor",
    });
    json_file(dir, "preprocessor_config.json", &preprocessor);
}

pub(super) fn qwen2(dir: &Path, says: Says) {
    let words = Vocabulary::new(&QWEN);
    let vision = json!({
        "depth": LAYERS, "embed_dim": VISION, "hidden_size": WIDTH, "mlp_ratio": 2, "num_heads": 2, "in_channels": 3,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
    });
    qwen2_files(dir, &words, "Qwen2VLForConditionalGeneration", "qwen2_vl", vision);
    let mut numbers = Numbers::new(6);
    numbers.random("visual.patch_embed.proj.weight", &[VISION, 3, 2, 14, 14], 0.08);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("visual.blocks.{layer}.{part}");
        numbers.layer_norm(&at("norm1"), VISION);
        numbers.layer_norm(&at("norm2"), VISION);
        numbers.linear(&at("attn.qkv"), 3 * VISION, VISION, 1.5, true);
        numbers.linear(&at("attn.proj"), VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.fc1"), 2 * VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.fc2"), VISION, 2 * VISION, 1.5, true);
    }
    numbers.layer_norm("visual.merger.ln_q", VISION);
    numbers.linear("visual.merger.mlp.0", 4 * VISION, 4 * VISION, 2.0, true);
    numbers.linear("visual.merger.mlp.2", WIDTH, 4 * VISION, 2.0, true);
    numbers.ends(("model.embed_tokens.weight", 1.0), "lm_head.weight", &words, says);
    numbers.text_layers("model", Attention { bias: true, ..PLAIN });
    numbers.save(dir);
}

pub(super) fn qwen25(dir: &Path, says: Says) {
    let words = Vocabulary::new(&QWEN);
    let vision = json!({
        "depth": LAYERS, "hidden_size": VISION, "out_hidden_size": WIDTH, "hidden_act": "silu",
        "intermediate_size": 2 * VISION, "num_heads": 2, "in_chans": 3, "patch_size": 14, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [1], "model_type": "qwen2_5_vl",
    });
    qwen2_files(dir, &words, "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", vision);
    let mut numbers = Numbers::new(4);
    numbers.random("visual.patch_embed.proj.weight", &[VISION, 3, 2, 14, 14], 0.08);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("visual.blocks.{layer}.{part}");
        numbers.constant(&at("norm1.weight"), VISION, 1.0);
        numbers.constant(&at("norm2.weight"), VISION, 1.0);
        numbers.linear(&at("attn.qkv"), 3 * VISION, VISION, 1.5, true);
        numbers.linear(&at("attn.proj"), VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.gate_proj"), 2 * VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.up_proj"), 2 * VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.down_proj"), VISION, 2 * VISION, 1.5, true);
    }
    numbers.constant("visual.merger.ln_q.weight", VISION, 1.0);
    numbers.linear("visual.merger.mlp.0", 4 * VISION, 4 * VISION, 2.0, true);
    numbers.linear("visual.merger.mlp.2", WIDTH, 4 * VISION, 2.0, true);
    numbers.ends(("model.embed_tokens.weight", 1.0), "lm_head.weight", &words, says);
    numbers.text_layers("model", Attention { bias: true, ..PLAIN });
    numbers.save(dir);
}

/// Beyond every sequence, as the published models have it.
const CONTEXT_WINDOW: usize = 4096;

pub(super) fn qwen3(dir: &Path, says: Says) {
    let words = Vocabulary::new(&QWEN);
    let positions = 16 * 16;
    let vision = json!({
        "depth": LAYERS, "hidden_size": VISION, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 2 * VISION,
        "num_heads": 2, "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": WIDTH, "num_position_embeddings": positions, "deepstack_visual_indexes": [0, 1],
        "model_type": "qwen3_vl",
    });
    let text = json!({
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": true, "mrope_section": [4, 2, 2]},
        "attention_bias": false, "model_type": "qwen3_vl_text",
    });
    let config = json!({
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "vision_config": vision,
        "text_config": with(text_config(&words), text), "tie_word_embeddings": false,
    });
    common(dir, &words, &with(config, qwen_ids(&words)), CHATML, None, "<|im_end|>");
    let preprocessor = json!({
        "size": {"longest_edge": 32 * 32 * 16, "shortest_edge": 32 * 32 * 4}, "patch_size": 16,
        "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor",
    });
    json_file(dir, "preprocessor_config.json", &preprocessor);
    let mut numbers = Numbers::new(5);
    let tower = "model.visual";
    numbers.random(&format!("{tower}.patch_embed.proj.weight"), &[VISION, 3, 2, 16, 16], 0.08);
    numbers.random(&format!("{tower}.patch_embed.proj.bias"), &[VISION], 0.1);
    numbers.random(&format!("{tower}.pos_embed.weight"), &[positions, VISION], 0.3);
    for layer in 0..LAYERS {
        let at = |part: &str| format!("{tower}.blocks.{layer}.{part}");
        numbers.layer_norm(&at("norm1"), VISION);
        numbers.layer_norm(&at("norm2"), VISION);
        numbers.linear(&at("attn.qkv"), 3 * VISION, VISION, 1.5, true);
        numbers.linear(&at("attn.proj"), VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.linear_fc1"), 2 * VISION, VISION, 1.5, true);
        numbers.linear(&at("mlp.linear_fc2"), VISION, 2 * VISION, 1.5, true);
    }
    let mut merger = |name: &str, normed: usize| {
        numbers.layer_norm(&format!("{tower}.{name}.norm"), normed);
        numbers.linear(&format!("{tower}.{name}.linear_fc1"), 4 * VISION, 4 * VISION, 2.0, true);
        numbers.linear(&format!("{tower}.{name}.linear_fc2"), WIDTH, 4 * VISION, 2.0, true);
    };
    merger("merger", VISION);
    merger("deepstack_merger_list.0", 4 * VISION);
    merger("deepstack_merger_list.1", 4 * VISION);
    numbers.ends(("model.language_model.embed_tokens.weight", 1.0), "lm_head.weight", &words, says);
    numbers.text_layers("model.language_model", Attention { head_norms: true, ..PLAIN });
    numbers.save(dir);
}
