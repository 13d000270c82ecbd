//! What an answer can be at all, as a grammar of the engine's.

use mistralrs::Constraint as Grammar;
use regex::Regex;

use crate::generator::{Constraint, GeneratorError};

/// A grammar, and the most tokens that an answer within it takes, where that is known.
pub(super) struct Bounds {
    pub(super) grammar: Grammar,
    pub(super) tokens: Option<usize>,
}

/// White space in front is allowed and no part of the answer: many tokenizers begin a word with its space.
///
/// # Errors
/// [`GeneratorError::Engine`] for a list without texts, a text that is blank, or a pattern that is none.
pub(super) fn bounds(constraint: &Constraint) -> Result<Bounds, GeneratorError> {
    let refuse = |reason: String| GeneratorError::Engine(format!("what the answer may be: {reason}"));
    match constraint {
        Constraint::OneOf(texts) => {
            let mut literals: Vec<String> = Vec::with_capacity(texts.len());
            let mut longest = 0;
            for text in texts {
                let text = text.trim();
                if text.is_empty() {
                    return Err(refuse("a text of the list is blank".into()));
                }
                longest = longest.max(text.len());
                // Strings of this grammar are strings of JSON.
                literals.push(serde_json::Value::from(text).to_string());
            }
            if literals.is_empty() {
                return Err(refuse("the list is empty".into()));
            }
            literals.sort_unstable();
            literals.dedup();
            let grammar = Grammar::Lark(format!("start: ANSWER\nANSWER: \" \"? ({})\n", literals.join(" | ")));
            // Byte by byte at worst, the space before and the token that ends it.
            Ok(Bounds { grammar, tokens: Some(longest + 2) })
        }
        Constraint::Regex(pattern) => {
            // The engine's own error names neither the pattern nor the place.
            Regex::new(pattern).map_err(|e| refuse(format!("not a regular expression: {e}")))?;
            Ok(Bounds { grammar: Grammar::Regex(format!(" ?(?:{})", bare(pattern))), tokens: None })
        }
    }
}

/// A pattern without the anchors around it: it is matched as a whole anyway, and the engine takes none after the space.
fn bare(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    match pattern.strip_suffix('$') {
        Some(rest) if (rest.len() - rest.trim_end_matches('\\').len()).is_multiple_of(2) => rest,
        _ => pattern,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn lark(texts: &[&str]) -> String {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        match bounds(&Constraint::OneOf(texts)).unwrap().grammar {
            Grammar::Lark(text) => text,
            _ => panic!("another grammar"),
        }
    }

    #[test]
    fn texts_are_escaped_and_said_once() {
        assert_eq!(lark(&["no", " yes ", "no"]), "start: ANSWER\nANSWER: \" \"? (\"no\" | \"yes\")\n");
        assert_eq!(lark(&["a\"b\\c\n"]).lines().count(), 2);
        assert!(lark(&["a\"b\\c\nd"]).contains(r#"("a\"b\\c\nd")"#));
    }

    #[test]
    fn anchors_are_taken_off_and_dollars_left() {
        assert_eq!(bare("^[0-9]+$"), "[0-9]+");
        assert_eq!(bare(r"[0-9]+\$"), r"[0-9]+\$");
        assert_eq!(bare(r"a\\$"), r"a\\");
    }

    #[test]
    fn what_no_answer_can_be_is_refused() {
        let refused = |constraint| match bounds(&constraint) {
            Ok(_) => panic!("taken"),
            Err(error) => error.to_string(),
        };
        assert!(refused(Constraint::OneOf(vec![])).contains("empty"));
        assert!(refused(Constraint::OneOf(vec!["a".into(), " ".into()])).contains("blank"));
        assert!(refused(Constraint::Regex("(".into())).contains("regular expression"));
    }
}
