//! Questions put by rules of English into words that need neither the conversation nor the picture.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Said;

/// The question with what it leaves out: "and its currency?" after a question about Kenya is "What is Kenya's
/// currency?", "why?" follows the question before it.
#[must_use]
pub fn standalone(entity: &str, before: &[Said], question: &str) -> String {
    let question = question.trim();
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
            let asked = last.question.split_inclusive('?').next().unwrap_or_default();
            format!("{} {named}", asked.trim())
        }
        _ => named,
    }
}

/// The question with the entity's name in place of what refers to the picture: "the capital of the country whose flag is
/// shown", "of the plant in this picture", "of this plant" are all "the capital of Kenya" and the like. What a picture is
/// called says nothing of what is asked, and would draw the ranking to sections that speak of flags, plants or pictures.
#[must_use]
pub fn named(entity: &str, question: &str) -> String {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(concat!(
            // a noun with up to two words before it …
            r"(?i)\b(?P<noun>(?:the|this|that|these|those)\s+(?:[\w-]+\s+){0,2}?[\w-]+?)\s+",
            // … that is said to be in the picture, or to be known by a sign that is
            r"(?:whose\s+(?:[\w-]+\s+){1,3}?(?:is|are)\s+(?:shown|pictured|depicted|seen|displayed)(?:\s+here)?",
            r"|(?:(?:that|which)\s+)?this\s+(?:flag|banner|ensign|emblem|symbol|logo|sign)",
            r"\s+(?:belongs\s+to|represents|stands\s+for)",
            r"|with\s+this\s+(?:flag|banner|ensign|emblem|symbol|logo|sign)",
            r"|(?:(?:that|which|who)\s+(?:is|are)\s+)?(?:shown|pictured|depicted|seen|displayed)(?:\s+here)?",
            r"(?:\s+(?:in|on|by)\s+(?:the|this)\s+(?:picture|image|photo(?:graph)?|drawing))?",
            r"|(?:in|on|of)\s+(?:the|this)\s+(?:picture|image|photo(?:graph)?|drawing))\b",
            // or a word that is pointed at
            r"|\b(?:this|these)\s+(?P<word>[a-z][\w-]+)\b",
        ))
        .ok()
    });
    let name = |found: &Captures<'_>| {
        if let Some(word) = found.name("word") {
            let lower = word.as_str().to_lowercase();
            return match lower.as_str() {
                "year" | "day" | "time" | "month" | "week" | "century" | "way" | "case" => found[0].to_owned(),
                // "when was this built": the word pointed at is left out.
                "built" | "made" | "found" | "grown" | "grow" | "mean" | "come" | "cost" | "is" | "are" | "was"
                | "were" | "has" | "have" | "in" | "on" | "of" | "from" | "at" | "by" | "to" | "for" | "with"
                | "the" | "a" | "an" | "and" | "or" | "situated" | "known" => format!("{entity} {}", word.as_str()),
                participle if participle.ends_with("ed") => format!("{entity} {}", word.as_str()),
                _ => entity.to_owned(),
            };
        }
        // "the habitat of the plant in the picture": what is asked for stays.
        let noun = found.name("noun").map_or("", |noun| noun.as_str());
        noun.rfind(" of ").map_or_else(|| entity.to_owned(), |at| format!("{}{entity}", &noun[..at + 4]))
    };
    let whole = REFERENCE.as_ref().map(|reference| reference.replace(question, name));
    whole.map_or_else(|| question.to_owned(), |named| named.into_owned())
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
    fn an_entity_is_named_where_nothing_was_said_of_it_yet() {
        assert_eq!(standalone("Kenya", &[], "and its currency?"), "What is Kenya's currency?");
        assert_eq!(standalone("Kenya", &[], "Why?"), "Why?");
        let why = [said(), vec![Said { question: "What is the capital? Why?".into(), answer: "x".into() }]].concat();
        assert_eq!(standalone("Kenya", &why, "since when?"), "What is the capital? Since when?");
    }

    #[test]
    fn what_refers_to_the_picture_becomes_the_name() {
        for (question, whole) in [
            ("What is the capital of this country?", "What is the capital of Kenya?"),
            ("Which countries border the country whose flag is shown?", "Which countries border Kenya?"),
            ("What is the currency of the country with this flag?", "What is the currency of Kenya?"),
            (
                "What do you call someone from the territory this flag belongs to?",
                "What do you call someone from Kenya?",
            ),
            ("What is the country whose flag is shown officially called?", "What is Kenya officially called?"),
            ("How tall can the plant in the picture grow?", "How tall can Kenya grow?"),
            ("In what year was the building shown here opened?", "In what year was Kenya opened?"),
            ("When were the first excavations in this area?", "When were the first excavations in Kenya?"),
            ("Who built it?", "Who built it?"),
            ("When was this built?", "When was Kenya built?"),
            ("Where is this located?", "Where is Kenya located?"),
            ("What is the family this plant belongs to?", "What is the family Kenya belongs to?"),
            ("What is the genus that this bird belongs to?", "What is the genus that Kenya belongs to?"),
            ("Name the river that flows through the capital.", "Name the river that flows through the capital."),
            ("Who was king at that time?", "Who was king at that time?"),
            ("What is the habitat of plants in the picture?", "What is the habitat of Kenya?"),
            ("What is the capital of France?", "What is the capital of France?"),
        ] {
            assert_eq!(named("Kenya", question), whole);
        }
        assert_eq!(named("$1 ${x}", "the age of this tree"), "the age of $1 ${x}");
    }

    proptest! {
        #[test]
        fn something_is_always_asked(question in "\\PC{1,60}", entity in "\\PC{0,10}") {
            prop_assume!(!question.trim().is_empty());
            prop_assert!(!standalone(&entity, &said(), &question).trim().is_empty());
        }
    }
}
