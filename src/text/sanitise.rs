//! Terminal control sequences, control characters and invisible steering characters, taken out.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::CharIndices;

/// Strips terminal control sequences (ECMA-48: CSI, OSC, DCS, …), C0 and C1 control characters, bidirectional
/// controls, line and paragraph separators, and invisible tag characters. Line feeds stay; a tab becomes one space,
/// `\r\n` and a lone `\r` become a line feed.
///
/// For any input the output holds no such character but `\n`, and sanitising it again changes nothing.
#[must_use]
pub fn sanitise(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || !is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' | '\u{2028}' | '\u{2029}' | '\u{85}' => out.push('\n'),
            '\t' => out.push(' '),
            '\r' => {
                if chars.peek().is_none_or(|&(_, next)| next != '\n') {
                    out.push('\n');
                }
            }
            '\u{1b}' => skip_escape(text, &mut chars),
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(text, at + c.len_utf8(), &mut chars),
            c if is_unsafe(c) => {}
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// As [`sanitise`], on one line: every run of white space becomes one space, and the ends are trimmed.
#[must_use]
pub fn sanitise_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in sanitise(text).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Whether a character must not reach a terminal (`\n` is the caller's exception).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'     // marks of direction, zero-width space
            | '\u{2028}'..='\u{202e}'                            // separators, embeddings and overrides
            | '\u{2060}'..='\u{206f}'                            // word joiner, isolates, deprecated format characters
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'               // byte-order mark, interlinear annotation
            | '\u{e0000}'..='\u{e007f}'                          // tags
        )
}

type Chars<'a> = Peekable<CharIndices<'a>>;

/// After ESC: a sequence by its introducer, or nothing where none follows.
fn skip_escape(text: &str, chars: &mut Chars<'_>) {
    match chars.peek().copied() {
        Some((_, '[')) => {
            chars.next();
            skip_csi(chars);
        }
        Some((at, ']' | 'P' | 'X' | '^' | '_')) => {
            chars.next();
            skip_string(text, at + 1, chars);
        }
        // Intermediate bytes, then one final byte (`ESC ( B` and the like).
        Some((_, ' '..='/')) => {
            while chars.next_if(|&(_, c)| matches!(c, ' '..='/')).is_some() {}
            chars.next_if(|&(_, c)| matches!(c, '0'..='~'));
        }
        Some((_, '0'..='~')) => {
            chars.next();
        }
        _ => {}
    }
}

/// After CSI: parameter and intermediate bytes, then one final byte.
fn skip_csi(chars: &mut Chars<'_>) {
    while chars.next_if(|&(_, c)| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|&(_, c)| matches!(c, '@'..='~'));
}

/// After the introducer of a control string: all up to its terminator (BEL, ST or `ESC \`). Where there is none, or it
/// is further than any real one, the text is kept, so that nothing can be hidden behind an open string.
fn skip_string(text: &str, from: usize, chars: &mut Chars<'_>) {
    const LONGEST: usize = 4096;
    let rest = text.get(from..).unwrap_or_default();
    let Some((at, end)) = rest
        .char_indices()
        .take_while(|&(i, _)| i < LONGEST)
        .find(|&(i, c)| matches!(c, '\u{7}' | '\u{9c}') || (c == '\u{1b}' && rest[i + 1..].starts_with('\\')))
    else {
        return;
    };
    let stop = from + at + if end == '\u{1b}' { 2 } else { end.len_utf8() };
    while chars.next_if(|&(i, _)| i < stop).is_some() {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_titles_and_links_go_and_the_words_stay() {
        assert_eq!(sanitise("a \x1b[1;31mred\x1b[0m b"), "a red b");
        assert_eq!(sanitise("\x1b]0;owned\x07title"), "title");
        assert_eq!(sanitise("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"), "link");
        assert_eq!(sanitise("\u{9b}2Jclear"), "clear");
        assert_eq!(sanitise("\x1bPq#0\x1b\\sixel"), "sixel");
        assert_eq!(sanitise("\x1b(Bcharset \x1bcreset"), "charset reset");
    }

    #[test]
    fn an_open_string_hides_nothing() {
        assert_eq!(sanitise("\x1b]0;the rest stays"), "0;the rest stays");
    }

    #[test]
    fn bidi_overrides_and_tags_go() {
        assert_eq!(sanitise("\u{202e}gpj.exe\u{202c} \u{2066}x\u{2069} \u{e0041}y"), "gpj.exe x y");
    }

    #[test]
    fn lines_stay_lines_and_plain_text_is_not_copied() {
        assert_eq!(sanitise("a\r\nb\rc\u{2028}d\te"), "a\nb\nc\nd e");
        assert!(matches!(sanitise("Île-de-France, 日本\n👩‍👩‍👧"), Cow::Borrowed(_)));
        assert_eq!(sanitise_line(" a \n\n b\t"), "a b");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in "(\\PC|[\\x00-\\x1f\\u{7f}-\\u{9f}\\u{2028}-\\u{202e}\\u{2066}-\\u{2069}]|\\x1b[\\[\\]P]|x){0,60}") {
            let once = sanitise(&text).into_owned();
            prop_assert!(once.chars().all(|c| c == '\n' || !is_unsafe(c)), "{once:?}");
            prop_assert_eq!(sanitise(&once), once.as_str());
            prop_assert!(!sanitise_line(&text).contains('\n'));
        }

        #[test]
        fn any_string_at_all(text in any::<String>()) {
            prop_assert!(sanitise(&text).chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
