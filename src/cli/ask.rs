//! `cicerone ask`: one question, answered as it is made.

use std::io::{IsTerminal, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::args::AskArgs;
use super::context::{Context, checked_question, open_picture};
use super::explain::explanation;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::interrupt::{self, Guard};
use super::progress::{Progress, Unit};
use super::screen::Screen;
use crate::rag::engines::{self, Engines};
use crate::rag::{Answer, CitationSource, Conversation, Event, Outcome, Pipeline, Question, QuestionImage, Said};
use crate::text::{sanitise, sanitise_line};

/// Longest question that is read from stdin, bytes.
const LONGEST: u64 = 64 << 10;

/// Runs the command.
pub fn run(context: &Context, args: &AskArgs) -> anyhow::Result<Exit> {
    let text = checked_question(&question_text(args)?)?;
    let mut config = context.config()?;
    if let Some(k) = args.top_k {
        config.rag.candidates = k.into();
    }
    let image = args.image.as_deref().map(|path| open_picture(&config, path)).transpose()?;
    let form = match (args.json, args.stream_json) {
        (true, _) => Form::Json,
        (_, true) => Form::JsonLines,
        _ => Form::Text { sources: args.show_sources || args.no_generate, explain: args.explain },
    };
    let image = image.map(QuestionImage::Decoded);
    let question = match &args.after {
        Some(path) => after(path, image)?.question(text),
        None => Question::new(text, image),
    };
    let runtime = context.runtime()?;
    let progress = Progress::new(&context.screen, "loading", Unit::Things(""));
    let engines = engines::open_pipeline(&config, !args.no_generate, runtime.handle())?;
    drop(progress);
    warn_blind(&context.screen, &engines, question.image.is_some());
    let guard = interrupt::guard();
    runtime.block_on(answer(&context.screen, &engines.pipeline, question, form, &guard))?;
    Ok(Exit::Done)
}

/// What is read of an earlier answer.
#[derive(Deserialize)]
struct Earlier {
    outcome: String,
    entity: Option<EarlierEntity>,
    #[serde(default)]
    before: Vec<Said>,
    standalone: String,
    plain: String,
}

#[derive(Deserialize)]
struct EarlierEntity {
    url: String,
}

/// The conversation that goes on from an answer in a file; a new one where that found no entity.
fn after(path: &Path, image: Option<QuestionImage>) -> anyhow::Result<Conversation> {
    let bad = |reason: String| {
        Failure::new(Exit::Usage, "bad_answer", format!("--after {}: {reason}", path.display()))
            .hint("give the document that `cicerone ask … --json` printed")
    };
    let text = fs_err::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let earlier: Earlier = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let found = earlier.entity.filter(|_| earlier.outcome != "not-in-knowledge-base");
    let Some(EarlierEntity { url }) = found else { return Ok(Conversation::new(image)) };
    let mut said = earlier.before;
    if !earlier.plain.is_empty() {
        said.push(Said { question: earlier.standalone, answer: earlier.plain });
    }
    Ok(Conversation::after(image, url, said))
}

/// The question as given, or from stdin.
fn question_text(args: &AskArgs) -> anyhow::Result<String> {
    match args.question.as_deref() {
        Some(text) if text != "-" => Ok(text.to_owned()),
        given => {
            if given.is_none() && std::io::stdin().is_terminal() {
                return Err(Failure::new(Exit::Usage, "no_question", "no question is given")
                    .hint("cicerone ask \"What is the capital of this country?\" --image FLAG.png")
                    .into());
            }
            let mut text = String::new();
            std::io::stdin().take(LONGEST).read_to_string(&mut text).map_err(|e| {
                Failure::new(Exit::Usage, "bad_question", format!("cannot read the question from stdin: {e}"))
            })?;
            Ok(text)
        }
    }
}

/// Says once that a picture is searched with but not seen by the reader.
pub fn warn_blind(screen: &Screen, engines: &Engines, image: bool) {
    if let Some(generator) = &engines.generator
        && image
        && !generator.info().sees_pictures
    {
        screen.note(format_args!(
            "note: {} does not see the picture; it reads what was found by it",
            sanitise_line(&generator.info().model)
        ));
    }
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text {
        /// With the sources below.
        sources: bool,
        /// With how it came to be below.
        explain: bool,
    },
    /// One document.
    Json,
    /// A line for each event.
    JsonLines,
}

/// `schemas/ask.json`
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    answer: &'a Answer,
}

#[derive(Serialize)]
struct Line<'a> {
    schema_version: u32,
    #[serde(flatten)]
    event: &'a Event,
}

/// Asks and prints while the answer comes.
///
/// # Errors
/// [`crate::rag::RagError`]; [`Failure`] with exit code 130 after Ctrl-C.
pub async fn answer(
    screen: &Screen,
    pipeline: &Pipeline,
    question: Question,
    form: Form,
    guard: &Guard,
) -> anyhow::Result<Answer> {
    let mut events = pipeline.ask(question);
    let mut progress = Some(Progress::new(screen, "encoding", Unit::Things("")));
    let mut writing = false;
    loop {
        let event = tokio::select! {
            () = guard.asked() => None,
            event = events.recv() => Some(event),
        };
        let Some(event) = event else {
            if writing {
                screen.put("\n")?;
            }
            return Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted").into());
        };
        let Some(event) = event else { return Err(crate::rag::RagError::Unfinished.into()) };
        // A failure is printed by whoever called, in the same form.
        if form == Form::JsonLines && !matches!(event, Event::Failed { .. }) {
            progress = None;
            screen.json(&Line { schema_version: SCHEMA_VERSION, event: &event }, true)?;
        }
        match event {
            Event::Started { stage } => {
                if let Some(progress) = &mut progress {
                    progress.rename(stage.label(), Unit::Things(""));
                }
            }
            Event::Token { text } => {
                let text = if writing { &text } else { text.trim_start() };
                if matches!(form, Form::Text { .. }) && !text.is_empty() {
                    progress = None;
                    writing = true;
                    screen.put(text)?;
                }
            }
            Event::Failed { error } => {
                drop(progress);
                if writing {
                    screen.put("\n")?;
                }
                return Err(error.into());
            }
            Event::Answer { answer } => {
                drop(progress);
                match form {
                    Form::Json => screen.json(&Document { schema_version: SCHEMA_VERSION, answer: &answer }, false)?,
                    Form::JsonLines => {}
                    Form::Text { sources, explain } => {
                        finish(screen, &answer, writing, sources, explain)?;
                        if explain {
                            screen.put(explanation(&answer))?;
                        }
                    }
                }
                return Ok(*answer);
            }
            _ => {}
        }
    }
}

/// What comes below the streamed text.
fn finish(screen: &Screen, answer: &Answer, writing: bool, sources: bool, explain: bool) -> anyhow::Result<()> {
    if writing {
        screen.put("\n")?;
    }
    match &answer.outcome {
        Outcome::Answered => {
            if sources {
                screen.put(sources_text(answer))?;
            }
        }
        Outcome::NotInKnowledgeBase { reason, .. } => {
            screen.line(format_args!("Not in the knowledge base: {}", sanitise_line(reason)))?;
            // An explanation lists them, too.
            if !explain {
                screen.put(candidates_text(answer))?;
            }
        }
        Outcome::PassagesOnly => {
            screen.put(candidates_text(answer))?;
            screen.put(passages_text(answer))?;
        }
    }
    Ok(())
}

/// The list of sources: number, title, section, score, who says that the answer rests on it, address.
#[must_use]
pub fn sources_text(answer: &Answer) -> String {
    let mut text = String::from("\nSources\n");
    for passage in &answer.passages {
        let cited = answer.citations.iter().find(|citation| citation.passage == passage.number);
        let said = match cited.map(|citation| citation.source) {
            Some(CitationSource::Model) => "cited by the model",
            Some(CitationSource::Matched) => "matched by its words",
            None => "not cited",
        };
        let score = passage.score.map_or_else(String::new, |score| format!("{score:.2}, "));
        let (title, section) = (sanitise_line(&passage.title), sanitise_line(&passage.section));
        let url = sanitise_line(&passage.url);
        text.push_str(&format!("[{}] {title} — {section} ({score}{said}) {url}\n", passage.number));
    }
    if answer.passages.is_empty() {
        text.push_str("none\n");
    }
    text
}

fn candidates_text(answer: &Answer) -> String {
    let mut text = String::from("Candidates\n");
    for candidate in &answer.candidates {
        let (title, url) = (sanitise_line(&candidate.title), sanitise_line(&candidate.url));
        text.push_str(&format!("{:>3}  {:.3}  {title}  {url}\n", candidate.rank, candidate.score));
    }
    text
}

fn passages_text(answer: &Answer) -> String {
    let mut text = String::from("\nPassages\n");
    for passage in &answer.passages {
        let (title, section) = (sanitise_line(&passage.title), sanitise_line(&passage.section));
        text.push_str(&format!("[{}] {title} — {section}\n{}\n", passage.number, sanitise(&passage.text)));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::rag::{Citation, Passage};

    #[test]
    fn sources_say_who_cited_them_and_cannot_steer_the_terminal() {
        let passage = |number, title: &str| Passage {
            number,
            url: "https://example.org/a".into(),
            title: title.into(),
            section: "Capital".into(),
            section_index: 3,
            text: "…".into(),
            cut: false,
            score: Some(0.5),
            tokens: 1,
        };
        let citation = Citation {
            passage: 1,
            url: "https://example.org/a".into(),
            title: "A".into(),
            section: "Capital".into(),
            source: CitationSource::Matched,
            support: 1.0,
        };
        let answer = Answer {
            text: "x [1]".into(),
            plain: "x".into(),
            citations: vec![citation],
            passages: vec![passage(1, "A\x1b[2J"), passage(2, "B")],
            ..Answer::of("q")
        };
        let text = sources_text(&answer);
        assert!(text.contains("(0.50, matched by its words) https://example.org/a\n"), "{text}");
        assert!(text.contains("[2] B — Capital (0.50, not cited)"), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
