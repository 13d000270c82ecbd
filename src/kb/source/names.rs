//! Titles of what has none of its own, out of texts, file names and URLs.

/// Most words of a text that make a title.
const WORDS: usize = 8;

/// The first words of a text.
pub(super) fn first_words(text: &str) -> String {
    let mut words = text.split_whitespace();
    let mut title = words.by_ref().take(WORDS).collect::<Vec<_>>().join(" ");
    if words.next().is_some() {
        title.push('…');
    }
    title
}

/// A file's name without its folders and its ending, underscores and hyphens as blanks.
pub(super) fn spoken_stem(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = match file.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file,
    };
    let spoken = spoken_name(stem);
    if spoken.trim().is_empty() { name.to_owned() } else { spoken }
}

/// Underscores and hyphens as blanks.
pub(super) fn spoken_name(name: &str) -> String {
    let spoken = name.replace(['_', '-'], " ");
    let spoken = spoken.split_whitespace().collect::<Vec<_>>().join(" ");
    if spoken.is_empty() { name.to_owned() } else { spoken }
}

/// `%C3%B1` as `ñ`; a `%` that begins no code stays.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|digits| !digits.starts_with('+')).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
