//! What a GGUF file says of itself, key by key (ggml-org/ggml docs/gguf.md).

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

/// A text.
///
/// # Errors
/// The key, where it is missing or something else.
pub(crate) fn text<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Result<&'a str, String> {
    match metadata.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key} is no text")),
        None => Err(format!("{key} is missing")),
    }
}

/// A list.
///
/// # Errors
/// As [`text`].
pub(crate) fn list<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match metadata.get(key) {
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{key} is no list")),
        None => Err(format!("{key} is missing")),
    }
}

/// A whole number of any width.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::I8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::I16(n) => Some(n.into()),
        Value::U32(n) => Some(n.into()),
        Value::I32(n) => Some(n.into()),
        Value::U64(n) => i64::try_from(n).ok(),
        Value::I64(n) => Some(n),
        _ => None,
    }
}

/// A list of texts.
///
/// # Errors
/// As [`text`], and where something in it is none.
pub(crate) fn texts<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Result<Vec<&'a str>, String> {
    let text = |value: &'a Value| if let Value::String(text) = value { Some(text.as_str()) } else { None };
    let texts: Option<Vec<&str>> = list(metadata, key)?.iter().map(text).collect();
    texts.ok_or_else(|| format!("{key} has something that is no text"))
}

/// The types of all tokens: 1 plain, 2 unknown, 3 control, 4 defined by a user, 5 unused, 6 a byte.
///
/// # Errors
/// As [`list`], and for another number of types than of tokens.
pub(crate) fn token_types(metadata: &HashMap<String, Value>, tokens: usize) -> Result<&[Value], String> {
    let types = list(metadata, "tokenizer.ggml.token_type")?;
    if types.len() == tokens { Ok(types) } else { Err(format!("{} token types for {tokens} tokens", types.len())) }
}

/// The vocabulary as the `tokenizers` library writes it: the id of each token.
///
/// # Errors
/// A token that is there twice.
pub(crate) fn vocabulary(tokens: &[&str]) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert((*token).to_owned(), id.into()).is_some() {
            return Err(format!("tokenizer.ggml.tokens has {token:?} twice"));
        }
    }
    Ok(vocabulary)
}

/// One of a tokenizer's added tokens, as the `tokenizers` library writes it.
pub(crate) fn added_token(id: usize, text: &str, special: bool) -> serde_json::Value {
    serde_json::json!({
        "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}
