//! What the reader is asked: the answer, and where the settings say so the entity and the question itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::run::{Run, blocking, count_tokens, millis};
use super::{
    Answer, Candidate, EntityChoice, Event, FollowUp, Outcome, PromptTokens, QuestionImage, RagError, Stage, citations,
    entity,
};
use crate::generator::prompt::Named;
use crate::generator::{Chunk, Generator, GeneratorError, Prompt, PromptPassage, Request, Sampling, Usage};
use crate::text::{sanitise, sanitise_line};

/// Most bytes of an answer for each token it may have: no tokenizer has longer ones that mean anything.
const BYTES_PER_TOKEN: usize = 64;

/// Most tokens of a question that the reader writes.
const QUESTION_TOKENS: usize = 64;

/// Most tokens of the number of a candidate.
const NUMBER_TOKENS: usize = 8;

/// A stream of text with an end: within its time, and no longer than was asked for.
struct Speech {
    /// What it is for, until it begins.
    stage: Stage,
    chunks: mpsc::Receiver<Result<Chunk, GeneratorError>>,
    first_token: Duration,
    answer: Duration,
    /// When the next piece must be there.
    deadline: Instant,
    begun: bool,
    pieces: usize,
    bytes: usize,
    most: usize,
}

/// What was heard.
enum Heard {
    Text(String),
    End(Usage),
}

impl Speech {
    fn new(run: &Run, stage: Stage, generator: &dyn Generator, request: Request) -> Self {
        let limits = run.pipeline.settings.limits;
        let (most, deadline) = (request.max_tokens.max(1), Instant::now() + limits.first_token);
        let chunks = generator.generate(request);
        let (first_token, answer) = (limits.first_token, limits.answer);
        Self { stage, chunks, first_token, answer, deadline, begun: false, pieces: 0, bytes: 0, most }
    }

    async fn next(&mut self) -> Result<Heard, RagError> {
        let Ok(chunk) = timeout_at(self.deadline, self.chunks.recv()).await else {
            let (stage, limit, key) = match self.begun {
                false => (self.stage, self.first_token, "generator.first_token_s"),
                true if self.stage == Stage::ReadingPrompt => (Stage::Answering, self.answer, "generator.answer_s"),
                true => (self.stage, self.answer, "generator.answer_s"),
            };
            return Err(RagError::TimedOut { stage, seconds: limit.as_secs(), key });
        };
        match chunk {
            None => Err(RagError::Unfinished),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(Chunk::Done(usage))) => Ok(Heard::End(usage)),
            Some(Ok(Chunk::Text(text))) => {
                if !self.begun {
                    self.begun = true;
                    self.deadline = Instant::now() + self.answer;
                }
                self.pieces += 1;
                let room = (self.most * BYTES_PER_TOKEN).saturating_sub(self.bytes);
                self.bytes += text.len();
                // A generator that does not keep to what was asked for is not listened to any longer.
                if self.pieces > self.most || room == 0 {
                    self.chunks.close();
                    let completion_tokens = self.pieces - 1;
                    return Ok(Heard::End(Usage { completion_tokens, truncated: true, ..Usage::default() }));
                }
                let text = if text.len() > room { text[..text.floor_char_boundary(room)].to_owned() } else { text };
                Ok(Heard::Text(text))
            }
        }
    }

    /// All of it.
    async fn whole(mut self) -> Result<String, RagError> {
        let mut said = String::new();
        loop {
            match self.next().await? {
                Heard::Text(text) => said.push_str(&text),
                Heard::End(_) => return Ok(said),
            }
        }
    }
}

fn request(prompt: Prompt, image: Option<PathBuf>, max_tokens: usize, sampling: Option<Sampling>) -> Request {
    let Prompt { system, examples, user, stop, constraint } = prompt;
    Request { system, examples, user, image, max_tokens, stop, constraint, sampling }
}

impl Run {
    /// Lets the reader choose the entity from names and scores.
    pub(super) async fn ask_for_entity(
        &mut self,
        generator: &dyn Generator,
        question: &str,
        candidates: &[Candidate],
        image: Option<&QuestionImage>,
    ) -> Result<EntityChoice, RagError> {
        let named: Vec<Named<'_>> = candidates.iter().map(|c| Named { title: &c.title, score: c.score }).collect();
        let prompt = self.pipeline.parts.prompts.choose_entity.render(&named, question);
        let said = self.ask(Stage::Choosing, generator, prompt, image, NUMBER_TOKENS).await?;
        let (said, ms) = (said.0, said.1);
        self.timings.choosing_ms = Some(ms);
        let reader = generator.info().model.clone();
        self.note(Stage::Choosing, format!("{reader}, from {} names", candidates.len()), Some(ms));
        let best = &candidates[0];
        Ok(match entity::named(candidates, &said) {
            Some(0) => {
                entity::choice(candidates, 0, format!("chosen by {reader}; also the best score, {:.3}", best.score))
            }
            Some(at) => {
                let why = format!("chosen by {reader}; the best score, {:.3}, was that of {}", best.score, best.title);
                entity::choice(candidates, at, why)
            }
            None => {
                let said = sanitise_line(&said).chars().take(40).collect::<String>();
                let why = format!("the best score, {:.3}; {reader} named none of the list ({said:?})", best.score);
                entity::choice(candidates, 0, why)
            }
        })
    }

    /// Lets the reader put a question into words that need no conversation. What it writes must be one line with words
    /// in it and not much longer than what it was given; else the question is the one that rules make.
    pub(super) async fn ask_for_question(
        &mut self,
        generator: &dyn Generator,
        title: &str,
        follow_up: &FollowUp,
        question: &str,
        image: Option<&QuestionImage>,
        by_rule: String,
    ) -> Result<String, RagError> {
        let prompt = self.pipeline.parts.prompts.follow_up.render(title, &follow_up.before, question);
        let (said, ms) = self.ask(Stage::Rewriting, generator, prompt, image, QUESTION_TOKENS).await?;
        self.timings.rewriting_ms = Some(ms);
        let line = sanitise_line(&said);
        let usable = line.chars().filter(|c| c.is_alphanumeric()).count() > 2 && line.len() <= 4 * question.len() + 200;
        let by = if usable { generator.info().model.clone() } else { "rules; the reader wrote nothing usable".into() };
        self.note(Stage::Rewriting, by, Some(ms));
        Ok(if usable { line } else { by_rule })
    }

    /// A short request of the pipeline's own. One that fails for want of an answer gives an empty text.
    async fn ask(
        &mut self,
        stage: Stage,
        generator: &dyn Generator,
        prompt: Prompt,
        image: Option<&QuestionImage>,
        max_tokens: usize,
    ) -> Result<(String, f64), RagError> {
        self.emit(Event::Started { stage }).await;
        let began = std::time::Instant::now();
        let picture = self.picture(generator, image).await?;
        let said = match Speech::new(self, stage, generator, request(prompt, picture, max_tokens, None)).whole().await {
            Err(RagError::Generate(GeneratorError::EmptyAnswer)) => String::new(),
            other => other?,
        };
        let ms = millis(began);
        self.emit(Event::Finished { stage, ms }).await;
        Ok((said, ms))
    }

    /// Lets the generator answer, and resolves what it cites.
    pub(super) async fn speak(&mut self, answer: &mut Answer, image: Option<&QuestionImage>) -> Result<(), RagError> {
        let Some(generator) = self.pipeline.parts.generator.clone() else {
            return Ok(());
        };
        let settings = Arc::clone(&self.pipeline.settings);
        let given: Vec<PromptPassage<'_>> = answer
            .passages
            .iter()
            .map(|p| PromptPassage { title: &p.title, section: &p.section, text: &p.text })
            .collect();
        let prompt = self.pipeline.parts.prompts.render(&given, &answer.standalone);
        let tokens = count(generator.as_ref(), &prompt, answer);
        answer.prompt_tokens = tokens.system + tokens.examples + tokens.passages + tokens.question;
        answer.prompt = Some(tokens);
        let shown = prompt.clone();
        self.emit(Event::Prompt {
            tokens: answer.prompt_tokens,
            system: shown.system,
            examples: shown.examples,
            user: shown.user,
        })
        .await;

        let picture = self.picture(generator.as_ref(), image).await?;
        self.emit(Event::Started { stage: Stage::ReadingPrompt }).await;
        let began = std::time::Instant::now();
        let request = request(prompt, picture, settings.max_tokens, settings.sampling);
        let mut speech = Speech::new(self, Stage::ReadingPrompt, generator.as_ref(), request);
        let mut said = String::new();
        let mut shown = citations::Shown::new(&answer.passages);
        let mut first: Option<std::time::Instant> = None;
        let usage: Usage = loop {
            let piece = match speech.next().await {
                Err(RagError::Generate(GeneratorError::EmptyAnswer)) => return Err(RagError::EmptyAnswer),
                Err(error) => return Err(error),
                Ok(Heard::End(usage)) => break usage,
                Ok(Heard::Text(piece)) => piece,
            };
            if first.is_none() {
                first = Some(std::time::Instant::now());
                let ms = millis(began);
                self.timings.reading_prompt_ms = Some(ms);
                self.timings.first_token_ms = Some(millis(self.began));
                self.emit(Event::Finished { stage: Stage::ReadingPrompt, ms }).await;
                self.emit(Event::Started { stage: Stage::Answering }).await;
            }
            said.push_str(&piece);
            let text = shown.push(&sanitise(&piece));
            if !text.is_empty() {
                self.emit(Event::Token { text }).await;
            }
        };
        let text = shown.finish();
        if !text.is_empty() {
            self.emit(Event::Token { text }).await;
        }
        let resolved = citations::resolve(sanitise(&said).trim(), &answer.passages);
        let Some(first) = first.filter(|_| !resolved.plain.is_empty()) else {
            return Err(RagError::EmptyAnswer);
        };
        let ms = millis(first);
        self.timings.answering_ms = Some(ms);
        self.emit(Event::Finished { stage: Stage::Answering, ms }).await;
        let reader = format!("{}, {}", generator.info().model, generator.info().format);
        self.note(Stage::ReadingPrompt, reader.clone(), self.timings.reading_prompt_ms);
        self.note(Stage::Answering, reader, Some(ms));
        answer.outcome = Outcome::Answered;
        answer.text = resolved.text;
        answer.plain = resolved.plain;
        answer.citations = resolved.citations;
        answer.unknown_citations = resolved.unknown;
        answer.usage = Some(usage);
        Ok(())
    }

    /// The question's picture as a file, for a generator that sees.
    async fn picture(
        &mut self,
        generator: &dyn Generator,
        image: Option<&QuestionImage>,
    ) -> Result<Option<PathBuf>, RagError> {
        let Some(image) = image.filter(|_| generator.info().sees_pictures) else { return Ok(None) };
        if self.picture.is_none() {
            self.picture = Some(PictureFile::of(image.clone()).await?);
        }
        Ok(self.picture.as_ref().map(PictureFile::path))
    }
}

/// Tokens of a prompt by part.
fn count(generator: &dyn Generator, prompt: &Prompt, answer: &Answer) -> PromptTokens {
    let count = |text: &str| count_tokens(Some(generator), text);
    let turns = prompt.examples.iter().flat_map(|turn| [&turn.user, &turn.assistant]);
    let passages = answer.passages.iter().map(|passage| passage.tokens).sum();
    PromptTokens {
        system: count(&prompt.system),
        examples: turns.map(|text| count(text)).sum(),
        passages,
        question: count(&prompt.user).saturating_sub(passages),
    }
}

/// A picture as a file, for a generator that sees.
pub(super) enum PictureFile {
    Given(PathBuf),
    Temporary(tempfile::NamedTempFile),
}

impl PictureFile {
    fn path(&self) -> PathBuf {
        match self {
            Self::Given(path) => path.clone(),
            Self::Temporary(file) => file.path().to_owned(),
        }
    }

    async fn of(image: QuestionImage) -> Result<Self, RagError> {
        let picture = match image {
            QuestionImage::Path(path) => return Ok(Self::Given(path)),
            QuestionImage::Decoded(picture) => picture,
        };
        blocking("writing the picture", move || {
            let failed = |reason: String| RagError::Picture(format!("a temporary copy of the picture: {reason}"));
            let file = tempfile::Builder::new()
                .prefix("cicerone-")
                .suffix(".png")
                .tempfile()
                .map_err(|e| failed(e.to_string()))?;
            picture.rgb().save_with_format(file.path(), image::ImageFormat::Png).map_err(|e| failed(e.to_string()))?;
            Ok(Self::Temporary(file))
        })
        .await
    }
}
