//! Prose: cleaned of mark-up, cut at sentence ends.

use std::sync::LazyLock;

use regex::Regex;

fn re(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

static BREAK: LazyLock<Regex> = LazyLock::new(|| re(r"(?i)(\s*(<br\s*/?>|</?p\b[^>]*>|</?div\b[^>]*>|</?li\b[^>]*>|</?ul\b[^>]*>|</?ol\b[^>]*>))+\s*"));
static TAG: LazyLock<Regex> = LazyLock::new(|| re(r"<!--[^>]*-->|</?[A-Za-z][^>]*>"));
static BLANK: LazyLock<Regex> = LazyLock::new(|| re(r"\s+"));
static LABEL: LazyLock<Regex> = LazyLock::new(|| re(r"(?i)^(description|history|meaning|note( \d+)?|general assessment|etymology)\s*:\s*"));

/// Removes tags and entities; each paragraph becomes a sentence, and the first keeps its first letter.
pub fn clean(raw: &str) -> String {
    // Breaks inside an emphasis (`<strong><br>note`) are breaks all the same.
    let text = BREAK.replace_all(raw, "\u{1}");
    let text = TAG.replace_all(&text, "");
    let text = html_escape::decode_html_entities(&text).into_owned();
    let text = text.replace("++", "").replace(" -- ", " - ").replace(", as shown in this population distribution map", "").replace(['“', '”'], "\"").replace(['‘', '’'], "'");
    let mut out: Vec<String> = Vec::new();
    for part in text.split('\u{1}') {
        let part = BLANK.replace_all(part, " ");
        let part = LABEL.replace(part.trim(), "");
        let part = part.trim();
        if !part.is_empty() {
            out.push(if out.is_empty() { stop(part) } else { sentence(part) });
        }
    }
    out.join(" ")
}

/// First letter upper case, full stop at the end.
pub fn sentence(text: &str) -> String {
    let text = stop(text);
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    first + chars.as_str()
}

/// Full stop at the end.
fn stop(text: &str) -> String {
    let mut out = text.trim().trim_end_matches([';', ',', ':']).trim_end().to_owned();
    if !out.is_empty() && !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

/// The text without a closing full stop.
pub fn bare(text: &str) -> &str {
    text.trim().trim_end_matches('.').trim_end()
}

pub fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Leading whole sentences within `max` words; a first sentence that is longer is cut at `; ` or `, `.
pub fn clip(text: &str, max: usize) -> String {
    let mut out = String::new();
    for unit in sentences(text) {
        if words(&out) + words(unit) > max {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(unit);
    }
    if !out.is_empty() || text.is_empty() {
        return out;
    }
    let first = sentences(text).into_iter().next().unwrap_or_default();
    for separator in ["; ", " - ", ", "] {
        let mut out = String::new();
        for part in first.split(separator) {
            if words(&out) + words(part) > max {
                break;
            }
            if !out.is_empty() {
                out.push_str(separator);
            }
            out.push_str(part);
        }
        if !out.is_empty() && out.matches('(').count() == out.matches(')').count() {
            return stop(&out);
        }
    }
    String::new()
}

/// Splits at sentence ends: a full stop before a blank and a capital, unless it closes an abbreviation.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let bytes: Vec<(usize, char)> = text.char_indices().collect();
    for w in 0..bytes.len() {
        let (at, c) = bytes[w];
        if !matches!(c, '.' | '!' | '?') {
            continue;
        }
        let (Some(&(_, ' ')), Some(&(_, next))) = (bytes.get(w + 1), bytes.get(w + 2)) else { continue };
        if !(next.is_uppercase() || next == '"' || next == '(' || next.is_ascii_digit()) {
            continue;
        }
        let word = text[start..at].rsplit([' ', '(']).next().unwrap_or_default();
        let short = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
        if short || word.contains('.') || ["St", "Mt", "Mts", "Dr", "Gen", "Col", "Lt", "Jr", "Sr", "no", "No", "ca", "est", "vs", "Ste", "approx"].contains(&word) {
            continue;
        }
        out.push(text[start..at + c.len_utf8()].trim());
        start = at + c.len_utf8();
    }
    let rest = text[start..].trim();
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

/// Lower case without accents and punctuation, for comparing names across sources.
pub fn fold(text: &str) -> String {
    let plain: String = text.chars().map(unaccent).collect();
    let plain: String = plain.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    BLANK.replace_all(plain.trim(), " ").into_owned()
}

/// The text with its accents removed.
pub fn ascii(text: &str) -> String {
    text.chars().map(unaccent).collect()
}

fn unaccent(c: char) -> char {
    match c {
        'á' | 'à' | 'â' | 'ä' | 'ã' | 'å' | 'ă' | 'ā' => 'a',
        'é' | 'è' | 'ê' | 'ë' | 'ē' => 'e',
        'í' | 'ì' | 'î' | 'ï' | 'ī' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' | 'õ' | 'ø' | 'ō' => 'o',
        'ú' | 'ù' | 'û' | 'ü' | 'ū' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        'ș' | 'ş' => 's',
        'ț' => 't',
        'ł' => 'l',
        'Á' | 'Å' | 'Ā' => 'A',
        'É' => 'E',
        'Ō' => 'O',
        other => other,
    }
}

/// `1234567` as `1,234,567`, at most two decimals.
pub fn number(value: f64) -> String {
    let whole = value.trunc() as i64;
    let digits = whole.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    let rest = format!("{:.2}", value.fract());
    match rest.trim_start_matches('0').trim_end_matches('0') {
        "." | "" => out,
        decimals => out + decimals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_up_goes_and_paragraphs_become_sentences() {
        let raw = "<strong>description:</strong> three bands<br><br><strong>history:</strong> from&nbsp;1790";
        assert_eq!(clean(raw), "three bands. From 1790.");
    }

    #[test]
    fn a_smaller_than_sign_is_no_mark_up() {
        assert_eq!(clean("<em>other</em> <0.3%<!--End -->"), "other <0.3%.");
    }

    #[test]
    fn cuts_stand_at_sentence_ends() {
        assert_eq!(clip("One two. Three four. Five six.", 4), "One two. Three four.");
        assert_eq!(clip("one two; three four, five six seven", 4), "one two.");
        assert_eq!(sentences("In St. George's. Next."), ["In St. George's.", "Next."]);
    }

    #[test]
    fn numbers_read_as_printed() {
        assert_eq!(number(643801.0), "643,801");
        assert_eq!(number(0.44), "0.44");
        assert_eq!(number(34.2), "34.2");
        assert_eq!(number(999.0), "999");
    }
}
