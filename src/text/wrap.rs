//! Lines of a given width, by what a terminal shows and not by bytes or characters.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns that `text` takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Breaks `text` into lines of at most `columns` columns at white space; a word longer than a line is broken inside, but
/// never within what is read as one character. Line feeds in the text are kept, an empty line included. A width of 0
/// counts as 1; a character that is wider than a line stands alone and is the only case of one that is too long.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let wide = word.width();
            if !line.is_empty() && used + 1 + wide <= columns {
                line.push(' ');
                line.push_str(word);
                used += 1 + wide;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if wide <= columns {
                line.push_str(word);
                used = wide;
                continue;
            }
            for read_as_one in word.graphemes(true) {
                let wide = read_as_one.width();
                if used + wide > columns && !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push_str(read_as_one);
                used += wide;
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_break_at_spaces_and_long_ones_inside() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("a\n\nb", 5), ["a", "", "b"]);
    }

    #[test]
    fn wide_characters_count_two_columns() {
        assert_eq!(wrap("日本語の文", 4), ["日本", "語の", "文"]);
        assert_eq!(width("日本"), 4);
    }

    #[test]
    fn what_is_joined_into_one_character_stays_together() {
        assert_eq!(wrap("👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧", 4), ["👩‍👩‍👧👩‍👩‍👧", "👩‍👩‍👧"]);
        // A heart of one column, made a picture of two by what follows it.
        assert_eq!(wrap("❤️❤️❤️", 4), ["❤️❤️", "❤️"]);
        assert_eq!(wrap("🇰🇪🇮🇹", 2), ["🇰🇪", "🇮🇹"]);
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(
            text in "([a-z日本é \n]|e\u{301}|❤\u{fe0f}|👩\u{200d}👧|🇰|🏽){0,80}",
            columns in 2_usize..20,
        ) {
            let lines = wrap(&text, columns);
            for line in &lines {
                prop_assert!(width(line) <= columns || line.graphemes(true).count() == 1, "{line:?}");
            }
            let squeeze = |s: &str| s.split_whitespace().collect::<String>();
            prop_assert_eq!(squeeze(&lines.join(" ")), squeeze(&text));
        }
    }
}
