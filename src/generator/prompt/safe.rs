//! What keeps data from being taken for orders: broken control tokens, one line a passage, a fence that occurs nowhere.

use std::sync::LazyLock;

use regex::Regex;

use crate::text::sanitise_line;

/// Breaks whatever a chat template or tokenizer could take for a control token: `<` before anything but white space,
/// a digit or `=` becomes `‹` (so `<|im_end|>`, `<image>`, `</s>`, `<start_of_turn>`, `<｜User｜>` and any of their
/// nestings), and the brackets of `[INST]`, `[/INST]`, `[IMG]` and the like become round ones.
///
/// One character replaces one, so no new token can arise from the pieces of another.
#[must_use]
pub fn neutralise(text: &str) -> String {
    static BRACKETED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[(/?[A-Z][A-Z_]+)\]").ok());
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let harmless = |next: &char| next.is_whitespace() || next.is_ascii_digit() || *next == '=';
        out.push(if c == '<' && chars.peek().is_some_and(|next| !harmless(next)) { '‹' } else { c });
    }
    // `<0x0A>` is how some tokenizers write a byte.
    let out = out.replace("<0x", "‹0x");
    match BRACKETED.as_ref() {
        Some(bracketed) => bracketed.replace_all(&out, "($1)").into_owned(),
        None => out,
    }
}

/// Text of a passage: neutralised, on one line, its bracketed numbers (reference marks) made round.
pub(super) fn passage_text(text: &str) -> String {
    static REFERENCE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"[\[【]\s*(\d+(?:\s*[,;–-]\s*\d+)*)\s*[\]】]").ok());
    let line = neutralise(&sanitise_line(text));
    match REFERENCE.as_ref() {
        Some(reference) => reference.replace_all(&line, "($1)").into_owned(),
        None => line,
    }
}

/// A word of eight letters that stands in none of `texts`. It is made from their hash, so equal requests have equal
/// prompts and greedy answers can be repeated.
pub(super) fn nonce(texts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for round in 0_u64.. {
        let hash = *hasher.clone().update(&round.to_le_bytes()).finalize().as_bytes();
        let word: String = hash.iter().take(8).map(|byte| char::from(b'a' + byte % 26)).collect();
        if texts.iter().all(|text| !text.to_lowercase().contains(&word)) {
            return word;
        }
    }
    String::new()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_angles_and_brackets_stay() {
        assert_eq!(neutralise("a < b, 3 <4, x <= y [sic] [A]"), "a < b, 3 <4, x <= y [sic] [A]");
        assert_eq!(neutralise("<0x0A>"), "‹0x0A>");
    }

    proptest! {
        #[test]
        fn no_control_token_survives(text in "(<|>|\\||/|im_end|s|image|\\[|\\]|INST|[0-9]| |\\PC){0,40}") {
            let out = neutralise(&text);
            prop_assert!(!out.contains("<|") && !out.contains("</") && !out.contains("<image>") && !out.contains("[INST]"), "{out}");
            prop_assert_eq!(neutralise(&out), out);
        }
    }
}
