//! Texts that nobody would write, over tokenizers of the kinds that towers have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::Device;
use serde_json::{Value, json};

use super::text::TextProcessor;

const MOST: usize = 12;

fn loaded(tokenizer: &Value) -> TextProcessor {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), tokenizer.to_string()).unwrap();
    TextProcessor::load(file.path(), MOST).unwrap()
}

fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// BERT's: words and pieces of words, control characters dropped, `[CLS]` and `[SEP]` around.
fn word_pieces() -> Value {
    let mut vocab = serde_json::Map::new();
    for token in ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] {
        vocab.insert(token.into(), vocab.len().into());
    }
    for letter in 'a'..='z' {
        vocab.insert(letter.to_string(), vocab.len().into());
        vocab.insert(format!("##{letter}"), vocab.len().into());
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

/// CLIP's: bytes, without merges here, `<start>` and `<end>` around, padding by `<end>`.
fn bytes() -> Value {
    let mut vocab = serde_json::Map::new();
    // The characters that stand for bytes.
    let shown = (33u32..=126).chain(161..=172).chain(174..=255).chain(256..=323);
    for character in shown.filter_map(char::from_u32) {
        vocab.insert(character.to_string(), vocab.len().into());
    }
    let (start, end) = (vocab.len(), vocab.len() + 1);
    vocab.insert("<start>".into(), start.into());
    vocab.insert("<end>".into(), end.into());
    json!({
        "version": "1.0", "truncation": null,
        "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": end,
            "pad_type_id": 0, "pad_token": "<end>"},
        "added_tokens": [special(start, "<start>"), special(end, "<end>")],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<end>", end], "cls": ["<start>", start],
            "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

/// Words without special tokens; control characters vanish, so that nothing may be left.
fn bare_words() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}
    })
}

#[test]
fn texts_that_nobody_would_write_become_whole_batches() {
    let long = "word ".repeat(20_000);
    let no_space = "x".repeat(100_000);
    let emoji = "🏛️👩‍🎓🇮🇹".repeat(3000);
    let control: String = (0u8..32).chain([127]).map(char::from).collect::<String>().repeat(40);
    let texts = [
        long.as_str(),
        &no_space,
        &emoji,
        &control,
        "",
        " ",
        "\u{feff}",
        "a",
        "\u{202e}abc\u{0}",
        "e\u{301}".repeat(99).leak(),
    ];
    for (name, tokenizer) in [("word pieces", word_pieces()), ("bytes", bytes()), ("bare words", bare_words())] {
        let processor = loaded(&tokenizer);
        let batch = processor.batch(&texts, &Device::Cpu).unwrap();
        let (rows, length) = batch.input_ids.dims2().unwrap();
        assert_eq!((rows, length), (texts.len(), MOST), "{name}");
        let masks = batch.attention_mask.to_vec2::<u32>().unwrap();
        let ids = batch.input_ids.to_vec2::<u32>().unwrap();
        for (row, text) in texts.iter().enumerate() {
            let alone = processor.batch(&[*text], &Device::Cpu).unwrap();
            let tokens = alone.input_ids.dim(1).unwrap();
            assert!((1..=MOST).contains(&tokens), "{name} {row}");
            assert_eq!(alone.attention_mask.to_vec2::<u32>().unwrap()[0], vec![1; tokens], "{name} {row}");
            assert_eq!(alone.input_ids.to_vec2::<u32>().unwrap()[0], ids[row][..tokens], "{name} {row}");
            assert_eq!(masks[row].iter().sum::<u32>() as usize, tokens, "{name} {row}");
            assert_eq!(masks[row][..tokens], vec![1; tokens], "{name} {row}: padding stands behind the text");
        }
    }
}

/// A tower that pools at the end token needs it in a text that is cut.
#[test]
fn a_text_that_is_cut_keeps_its_special_tokens() {
    let long = "abc ".repeat(100);
    for (tokenizer, start, end) in [(word_pieces(), 2, 3), (bytes(), 256, 257)] {
        let ids = loaded(&tokenizer).batch(&[&long], &Device::Cpu).unwrap().input_ids.to_vec2::<u32>().unwrap();
        assert_eq!((ids[0].len(), ids[0][0], ids[0][MOST - 1]), (MOST, start, end));
        assert!(!ids[0][1..MOST - 1].contains(&end));
    }
}

#[test]
fn padding_is_only_as_long_as_the_longest_text_of_the_batch() {
    let processor = loaded(&word_pieces());
    let shape = |texts: &[&str]| processor.batch(texts, &Device::Cpu).unwrap().input_ids.dims2().unwrap();
    assert_eq!(shape(&["a", "b c d"]), (2, 5));
    assert_eq!(shape(&["a"]), (1, 3));
    let batch = processor.batch(&["a", "b c d"], &Device::Cpu).unwrap();
    assert_eq!(batch.attention_mask.to_vec2::<u32>().unwrap(), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]);
}
