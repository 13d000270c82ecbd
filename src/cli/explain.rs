//! How an answer came to be, for people: what `--json` says, in the order in which it happened.

use std::fmt::Write;

use crate::rag::{About, Answer, Outcome};
use crate::text::{sanitise_line, width};

/// Widest bar of a stage, characters.
const BAR: usize = 30;

/// The explanation, several paragraphs. Nothing in it can steer a terminal.
#[must_use]
pub fn explanation(answer: &Answer) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = tell(answer, &mut out);
    out
}

fn tell(answer: &Answer, out: &mut String) -> std::fmt::Result {
    let line = |text: &str| sanitise_line(text);
    writeln!(out, "\nHow it came to be")?;
    if answer.standalone != answer.question {
        writeln!(out, "asked as      {}", line(&answer.standalone))?;
    }
    if let Some(ranked_by) = answer.ranked_by.as_ref().filter(|ranked_by| **ranked_by != answer.standalone) {
        writeln!(out, "ranked by     {}", line(ranked_by))?;
    }
    if let Some(entity) = &answer.entity {
        writeln!(out, "entity        {} ({})", line(&entity.title), line(&entity.why))?;
    }
    if let Outcome::NotInKnowledgeBase { reason, .. } = &answer.outcome {
        writeln!(out, "no answer     {}", line(reason))?;
    }

    if !answer.candidates.is_empty() {
        writeln!(out, "\nCandidates")?;
        for candidate in &answer.candidates {
            let chosen = answer.entity.as_ref().is_some_and(|entity| entity.url == candidate.url);
            let mark = if chosen { '>' } else { ' ' };
            let (title, url) = (line(&candidate.title), line(&candidate.url));
            writeln!(out, "{mark}{:>3}  {:.3}  {title}  {url}", candidate.rank, candidate.score)?;
        }
    }
    if !answer.passages.is_empty() {
        writeln!(out, "\nPassages")?;
        for passage in &answer.passages {
            let score = passage.score.map_or_else(|| "given".to_owned(), |score| format!("{score:.3}"));
            let (title, section) = (line(&passage.title), line(&passage.section));
            let cut = if passage.cut { ", cut" } else { "" };
            writeln!(
                out,
                "[{}]  {score}  {title} — {section} (section {}, {} tokens{cut})",
                passage.number, passage.section_index, passage.tokens
            )?;
        }
    }
    if let Some(prompt) = &answer.prompt {
        writeln!(
            out,
            "\nPrompt        {} tokens: system {}, examples {}, passages {}, question {}",
            answer.prompt_tokens, prompt.system, prompt.examples, prompt.passages, prompt.question
        )?;
    }
    if let Some(usage) = &answer.usage {
        let truncated = if usage.truncated { ", cut at the most it may have" } else { "" };
        writeln!(
            out,
            "Engine        {} tokens read, {} written{truncated}",
            usage.prompt_tokens, usage.completion_tokens
        )?;
    }

    writeln!(out, "\nStages")?;
    let widest = answer.stages.iter().map(|stage| width(stage.stage.label())).max().unwrap_or(0);
    for stage in &answer.stages {
        let label = stage.stage.label();
        let space = " ".repeat(widest.saturating_sub(width(label)));
        let (time, bar) = match stage.ms {
            Some(ms) => {
                let share = if answer.timings.total_ms > 0.0 { ms / answer.timings.total_ms } else { 0.0 };
                (format!("{ms:>9.1} ms"), "█".repeat((share * BAR as f64).round().min(BAR as f64) as usize))
            }
            None => (" ".repeat(12), String::new()),
        };
        let text = format!("{label}{space}  {time}  {}  {bar}", line(&stage.by));
        writeln!(out, "{}", text.trim_end())?;
    }
    writeln!(out, "{:widest$}  {:>9.1} ms", "together", answer.timings.total_ms)?;

    writeln!(out, "\nMade with")?;
    let mut part = |what: &str, about: &About| {
        let name = if about.name.is_empty() { String::new() } else { format!("{} ", line(&about.name)) };
        let fingerprint: String = about.fingerprint.chars().take(16).collect();
        writeln!(out, "{what:<16}{name}{fingerprint}")
    };
    part("retriever", &answer.retriever)?;
    part(
        "knowledge base",
        &About::new(format!(" {}", answer.knowledge_base.name), &*answer.knowledge_base.fingerprint),
    )?;
    part("ranker", &answer.ranker)?;
    part("prompts", &answer.prompts)?;
    if let Some(reader) = &answer.generator {
        part("reader", &About::new(format!("{}, {}", reader.model, reader.format), &*reader.fingerprint))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::rag::{Candidate, EntityChoice, PromptTokens, Stage, StageReport, Timings};

    #[test]
    fn everything_is_told_and_nothing_steers_the_terminal() {
        let title = "Kenya\x1b[2J\nX";
        let candidate = |rank, url: &str| Candidate {
            rank,
            url: url.into(),
            title: title.into(),
            image: None,
            score: 0.9,
            hits: 1,
        };
        let stage = |stage, ms| StageReport { stage, by: "it".into(), ms };
        let answer = Answer {
            standalone: "What is Kenya's currency?".into(),
            candidates: vec![candidate(1, "u1"), candidate(2, "u2")],
            entity: Some(EntityChoice {
                url: "u2".into(),
                title: title.into(),
                score: None,
                margin: None,
                why: "chosen".into(),
            }),
            stages: vec![stage(Stage::Encoding, Some(25.0)), stage(Stage::Choosing, None)],
            timings: Timings { total_ms: 50.0, ..Timings::default() },
            prompt: Some(PromptTokens { system: 1, examples: 2, passages: 3, question: 4 }),
            prompt_tokens: 10,
            retriever: About::new("the retriever", "0123456789abcdef0123"),
            ..Answer::of("and its currency?")
        };
        let text = explanation(&answer);
        assert!(!text.contains('\x1b'), "{text:?}");
        for expected in [
            "asked as      What is Kenya's currency?",
            "entity        Kenya X (chosen)",
            ">  2  0.900  Kenya X  u2",
            "10 tokens: system 1, examples 2, passages 3, question 4",
            "     25.0 ms  it  ███████████████\n",
            "the retriever 0123456789abcdef\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
    }
}
