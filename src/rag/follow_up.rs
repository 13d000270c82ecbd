//! A question of a conversation, put by rules of English into words that need no conversation.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Said;

/// The question with what it leaves out: "and its currency?" after a question about Kenya is "What is Kenya's
/// currency?", "why?" follows the question before it.
#[must_use]
pub fn standalone(entity: &str, before: &[Said], question: &str) -> String {
    let question = question.trim();
    if before.is_empty() {
        return question.to_owned();
    }
    let (bare, led) = without_lead(question);
    let named = name(entity, bare);
    // A phrase without a verb of its own, after "and" or "what about".
    let named = if led && !asks(&named) {
        format!("What is {}?", named.trim_end_matches(['?', '.', '!', ' ']))
    } else {
        capital(&named)
    };
    match before.last() {
        Some(last) if says_nothing(bare) => {
            format!("{} {named}", last.question.trim())
        }
        _ => named,
    }
}

/// The question without the words that only tie it to the one before, and whether there were any.
fn without_lead(question: &str) -> (&str, bool) {
    static LEAD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:(?:and|but|so|ok(?:ay)?|then|also)\b[,\s]*)*(?:(?:what|how)\s+about\b\s*)?").ok()
    });
    let end = LEAD.as_ref().and_then(|lead| lead.find(question)).map_or(0, |found| found.end());
    let rest = question[end..].trim_start();
    if rest.chars().any(char::is_alphanumeric) { (rest, end > 0) } else { (question, false) }
}

/// Whether a text begins as a question does.
fn asks(text: &str) -> bool {
    const FIRST: &[&str] = &[
        "what", "what's", "which", "who", "who's", "whom", "whose", "when", "where", "why", "how", "is", "are", "was",
        "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would", "should", "may", "in",
        "on", "at", "from", "since", "to", "by", "for", "with", "name", "tell", "list", "give",
    ];
    text.split_whitespace().next().is_some_and(|word| FIRST.contains(&word.to_lowercase().as_str()))
}

/// Pronouns that stand for the entity, replaced by its name.
fn name(entity: &str, text: &str) -> String {
    static PRONOUN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?i)\b(its|their|his|hers?|it|they|them|him|he|she|there)\b").ok());
    let Some(pronoun) = PRONOUN.as_ref() else { return text.to_owned() };
    pronoun
        .replace_all(text, |found: &Captures<'_>| {
            let whole = found.get(0).map_or(0..0, |m| m.range());
            let word = found[0].to_lowercase();
            let before = text[..whole.start].split_whitespace().next_back().unwrap_or_default().to_lowercase();
            let after = text[whole.end..].trim_start();
            match word.as_str() {
                // "is there a king?" and "how many … are there" speak of no place; nor does "it" before "take".
                "there" if matches!(before.as_str(), "is" | "are" | "was" | "were" | "been" | "be") => {
                    found[0].to_owned()
                }
                "there" if before.is_empty() => found[0].to_owned(),
                "there" => format!("in {entity}"),
                "it" if after.starts_with("take") || after.starts_with("cost") => found[0].to_owned(),
                "its" | "their" | "his" => format!("{entity}'s"),
                "her" if after.chars().next().is_some_and(char::is_alphabetic) => format!("{entity}'s"),
                _ => entity.to_owned(),
            }
        })
        .into_owned()
}

/// Whether a question has no word of its own to rank by: "why?", "since when?", "how many?".
fn says_nothing(question: &str) -> bool {
    const EMPTY: &[&str] = &[
        "why", "when", "where", "who", "whom", "what", "which", "how", "many", "much", "since", "really", "so", "not",
        "is", "are", "was", "were", "it", "they", "that", "the", "of", "for", "and", "else", "more", "long", "far",
        "does", "did", "do", "exactly", "by", "from", "to", "in", "year", "one", "ones",
    ];
    question
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .all(|word| EMPTY.contains(&word.to_lowercase().as_str()))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said() -> Vec<Said> {
        vec![Said { question: "What is the capital of this country?".into(), answer: "Nairobi".into() }]
    }

    #[test]
    fn what_a_question_leaves_out_is_filled_in() {
        for (question, whole) in [
            ("and its currency?", "What is Kenya's currency?"),
            ("What about the neighbours?", "What is the neighbours?"),
            ("And what languages are spoken there?", "What languages are spoken in Kenya?"),
            ("how large is it?", "How large is Kenya?"),
            ("When did they become independent?", "When did Kenya become independent?"),
            ("Why?", "What is the capital of this country? Why?"),
            ("since when?", "What is the capital of this country? Since when?"),
            ("Is there a king?", "Is there a king?"),
            ("Which currency is used in this country?", "Which currency is used in this country?"),
            ("and", "What is the capital of this country? And"),
        ] {
            assert_eq!(standalone("Kenya", &said(), question), whole, "{question}");
        }
    }

    #[test]
    fn the_first_question_is_left_alone() {
        assert_eq!(standalone("Kenya", &[], "and its currency?"), "and its currency?");
    }

    proptest! {
        #[test]
        fn something_is_always_asked(question in "\\PC{1,60}", entity in "\\PC{0,10}") {
            prop_assume!(!question.trim().is_empty());
            prop_assert!(!standalone(&entity, &said(), &question).trim().is_empty());
        }
    }
}
