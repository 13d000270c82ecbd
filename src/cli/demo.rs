//! `cicerone demo`: the sample knowledge base, from nothing to an answer.

use std::io::IsTerminal;
use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::args::DemoArgs;
use super::ask::{self, Form};
use super::context::{Context, checked_question, open_picture};
use super::failure::{Exit, Failure};
use super::terminal_ui::{self, Beginning, Configured};
use super::{interrupt, starter};
use crate::cli::progress::{Progress, Unit};
use crate::config::{Config, starter_dir};
use crate::rag::engines::{self, Engines};
use crate::rag::{Conversation, Question, QuestionImage};
use crate::retriever::Picture;
use crate::text::sanitise_line;
use crate::tui::pasted::path_of;

/// What a session understands.
const HELP: &str = "\
  PATH or :image PATH   look at this picture from now on
  any other line        a question about it; the next may go on from it, as in: and its currency?
  :other                not this one: the next candidate, asked the same
  :new                  forget what was said
  :help                 this
  :quit                 leave";

/// How answers are shown.
const SHOWN: Form = Form::Text { sources: true, explain: false };

/// Runs the command.
pub fn run(context: &Context, args: &DemoArgs) -> anyhow::Result<Exit> {
    if context.global.config.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "usage",
            "the demo has a configuration of its own; --config cannot be used with it",
        )
        .hint("change single keys with --set KEY=VALUE, or use cicerone ask")
        .into());
    }
    let config = Config::load_starter(&context.global.set)?.config;
    let asked = args.question.as_deref().map(checked_question).transpose()?;
    let picture = args.image.as_deref().map(|path| open_picture(&config, path)).transpose()?;
    let runtime = context.runtime()?;
    if asked.is_none() && terminal_ui::is_possible() {
        let retriever = starter::prepare(context, &config, true)?;
        let engines = Configured::new(config.clone(), Some(retriever), true, runtime.handle());
        let beginning = Beginning {
            welcome: "The flags of 249 countries and territories".to_owned(),
            example: example(),
            picture: args.image.clone(),
            panic: args.panic,
        };
        return terminal_ui::open(&config, runtime.handle(), engines, beginning);
    }
    let mut lines = std::io::stdin().lines();
    let mut first = None;
    if asked.is_none() && !std::io::stdin().is_terminal() {
        first = lines.next().transpose()?;
        if first.is_none() {
            return Err(Failure::new(Exit::Usage, "no_question", "there is no terminal and no question")
                .hint("cicerone demo --question \"What is the capital of this country?\" --image FLAG.png, or pipe lines into it")
                .into());
        }
    }
    let retriever = starter::prepare(context, &config, true)?;
    let progress = Progress::new(&context.screen, "loading the answering model", Unit::Things(""));
    let engines = engines::open(&config, retriever, true, runtime.handle())?;
    drop(progress);
    let Some(text) = asked else {
        let lines = first.into_iter().map(Ok).chain(lines);
        return session(context, &config, &runtime, &engines, picture, lines);
    };
    ask::warn_blind(&context.screen, &engines, picture.is_some());
    let form = if args.json { Form::Json } else { SHOWN };
    let question = Question::new(text, picture.map(QuestionImage::Decoded));
    let guard = interrupt::guard();
    runtime.block_on(ask::answer(&context.screen, &engines.pipeline, question, form, &guard))?;
    Ok(Exit::Done)
}

/// Reads lines until the end or `:quit`.
fn session(
    context: &Context,
    config: &Config,
    runtime: &Runtime,
    engines: &Engines,
    picture: Option<Picture>,
    lines: impl Iterator<Item = std::io::Result<String>>,
) -> anyhow::Result<Exit> {
    let screen = &context.screen;
    let mut warned = false;
    let mut failed = false;
    let mut image = picture.map(QuestionImage::Decoded);
    let mut conversation = Conversation::new(image.clone());
    let mut last = None;
    for line in lines {
        let asked = match Line::read(&line?) {
            Line::Nothing => None,
            Line::Quit => break,
            Line::Help => {
                screen.note(HELP);
                None
            }
            Line::Image(path) => {
                match Picture::open(&path, &super::context::picture_limits(config)) {
                    Ok(opened) => {
                        image = Some(QuestionImage::Decoded(opened));
                        conversation = Conversation::new(image.clone());
                        screen.note(format_args!("looking at {}", path.display()));
                    }
                    Err(e) => {
                        failed = true;
                        screen.fail(&Failure::of(&e.into()), false);
                    }
                }
                None
            }
            Line::New => {
                conversation = Conversation::new(image.clone());
                None
            }
            Line::Other => match conversation.reject() {
                Some(other) => {
                    screen.note(format_args!("taking it for {}", sanitise_line(&other.title)));
                    last.clone()
                }
                None => {
                    screen.note("there is no other candidate");
                    None
                }
            },
            Line::Question(text) => Some(text),
        };
        if let Some(text) = asked {
            if !warned {
                warned = image.is_some();
                ask::warn_blind(screen, engines, image.is_some());
            }
            let guard = interrupt::guard();
            let question = conversation.question(text.clone());
            last = Some(text);
            match runtime.block_on(ask::answer(screen, &engines.pipeline, question, SHOWN, &guard)) {
                Ok(answer) => conversation.answered(&answer),
                Err(error) => {
                    let failure = Failure::of(&error);
                    // A closed stdout ends the session, and so does Ctrl-C.
                    if failure.is_quiet() || failure.exit == Exit::Interrupted {
                        return Err(error);
                    }
                    failed = true;
                    screen.fail(&failure, false);
                }
            }
        }
    }
    Ok(if failed { Exit::Partial } else { Exit::Done })
}

/// A held-out drawing to try.
fn example() -> Option<PathBuf> {
    let dir = starter_dir().ok()?.join("images/twemoji");
    let path = dir.join("mk.png");
    path.is_file().then_some(path)
}

/// One line of a session.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Quit,
    Help,
    New,
    Other,
    Image(PathBuf),
    Question(String),
}

impl Line {
    fn read(line: &str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Self::Nothing,
            ":quit" | ":q" => Self::Quit,
            ":new" | ":n" => Self::New,
            ":other" | ":o" => Self::Other,
            ":image" | ":i" if !rest.trim().is_empty() => Self::Image(path_of(rest)),
            word if word.starts_with(':') => Self::Help,
            _ if path_of(line).is_file() => Self::Image(path_of(line)),
            _ => Self::Question(line.to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_pictures_questions_or_orders() {
        assert_eq!(Line::read("  "), Line::Nothing);
        assert_eq!(Line::read(":q"), Line::Quit);
        assert_eq!(Line::read(":nonsense"), Line::Help);
        assert_eq!((Line::read(":new"), Line::read(" :other ")), (Line::New, Line::Other));
        assert_eq!(Line::read(":image 'a b.png'"), Line::Image("a b.png".into()));
        assert_eq!(Line::read(":image file:///a\\ b.png"), Line::Image("/a b.png".into()));
        assert_eq!(Line::read("Cargo.toml"), Line::Image("Cargo.toml".into()), "an existing file");
        assert_eq!(Line::read("What is this?"), Line::Question("What is this?".into()));
    }
}
