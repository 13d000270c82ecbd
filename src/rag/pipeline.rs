//! The steps from a question to its answer, in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::entity::{self, Merged};
use super::{
    Answer, EntityChoice, Event, Mode, Outcome, PartError, Passage, QueryEncoder, Question, QuestionImage, RagError,
    Search, SectionRanker, SectionScore, Settings, Stage, Timings, budget, citations,
};
use crate::generator::{Chunk, Generator, PromptPassage, Request, Templates, Usage};
use crate::kb::Article;
use crate::retriever::{Item, Picture};
use crate::text::sanitise;

/// Events that wait for a slow reader before the work pauses.
const QUEUE: usize = 64;

/// A budget below which a further passage is not worth its heading.
const LEAST_TOKENS: usize = 24;

/// What the chat template and the model's own marks may add to a prompt.
const TEMPLATE_TOKENS: usize = 64;

/// The whole path. Cloning is cheap; clones share the parts.
#[derive(Clone)]
pub struct Pipeline {
    encoder: Arc<dyn QueryEncoder>,
    search: Arc<dyn Search>,
    ranker: Arc<dyn SectionRanker>,
    generator: Option<Arc<dyn Generator>>,
    templates: Arc<Templates>,
    settings: Arc<Settings>,
}

impl Pipeline {
    /// Puts the parts together. Without a generator an answer has passages only.
    #[must_use]
    pub fn new(
        encoder: Arc<dyn QueryEncoder>,
        search: Arc<dyn Search>,
        ranker: Arc<dyn SectionRanker>,
        generator: Option<Arc<dyn Generator>>,
        templates: Templates,
        settings: Settings,
    ) -> Self {
        let (templates, settings) = (Arc::new(templates), Arc::new(settings));
        Self { encoder, search, ranker, generator, templates, settings }
    }

    /// The same parts with other settings.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self { settings: Arc::new(settings), ..self.clone() }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Identity of the prompt's templates, see [`Templates::fingerprint`].
    #[must_use]
    pub fn prompt_fingerprint(&self) -> &str {
        self.templates.fingerprint()
    }

    /// Asks one question. Must be called within a tokio runtime. The last event is [`Event::Answer`] or
    /// [`Event::Failed`]; dropping the receiver cancels the work.
    #[must_use]
    pub fn ask(&self, question: Question) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(QUEUE);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The channel is new and has room: this cannot fail.
            let _ = events.try_send(Event::Failed { error: RagError::NoRuntime });
            return receiver;
        };
        let cancelled = events.clone();
        let run = Run { parts: self.clone(), events, began: Instant::now(), timings: Timings::default() };
        runtime.spawn(async move {
            tokio::select! {
                () = cancelled.closed() => {}
                () = run.drive(question) => {}
            }
        });
        receiver
    }

    /// As [`Self::ask`], for a caller that wants the end alone.
    ///
    /// # Errors
    /// What the last event says.
    pub async fn answer(&self, question: Question) -> Result<Answer, RagError> {
        let mut events = self.ask(question);
        while let Some(event) = events.recv().await {
            match event {
                Event::Answer { answer } => return Ok(*answer),
                Event::Failed { error } => return Err(error),
                _ => {}
            }
        }
        Err(RagError::Crashed("the pipeline"))
    }
}

/// One question under way.
struct Run {
    parts: Pipeline,
    events: mpsc::Sender<Event>,
    began: Instant,
    timings: Timings,
}

/// What retrieval found.
#[derive(Default)]
struct Found {
    merged: Merged,
    entity: Option<EntityChoice>,
    passages: Vec<Passage>,
}

/// A section that competes for the prompt.
struct Ranked {
    article: usize,
    section: usize,
    score: Option<f32>,
    focus: std::ops::Range<usize>,
}

impl Run {
    async fn drive(mut self, question: Question) {
        let last = match self.run(question).await {
            Ok(answer) => Event::Answer { answer: Box::new(answer) },
            Err(error) => Event::Failed { error },
        };
        self.emit(last).await;
    }

    async fn emit(&self, event: Event) {
        // A closed channel ends the whole run in `ask`.
        let _ = self.events.send(event).await;
    }

    /// Announces a stage, does it, and tells how long it took.
    async fn stage<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, RagError>>,
    ) -> Result<(T, Option<f64>), RagError> {
        self.emit(Event::Started { stage }).await;
        let began = Instant::now();
        let out = work.await?;
        let ms = millis(began);
        self.emit(Event::Finished { stage, ms }).await;
        Ok((out, Some(ms)))
    }

    async fn run(&mut self, question: Question) -> Result<Answer, RagError> {
        let text = question.text.trim().to_owned();
        if text.is_empty() {
            return Err(RagError::EmptyQuestion);
        }
        let mut answer = Answer {
            question: text.clone(),
            mode: question.mode.clone(),
            outcome: Outcome::PassagesOnly,
            text: String::new(),
            plain: String::new(),
            citations: Vec::new(),
            unknown_citations: Vec::new(),
            passages: Vec::new(),
            candidates: Vec::new(),
            entity: None,
            timings: Timings::default(),
            prompt_tokens: 0,
            usage: None,
            generator: self.parts.generator.as_ref().map(|g| g.info().clone()),
        };
        let found = match &question.mode {
            Mode::NoRetrieval => Ok(Found::default()),
            Mode::Retrieved => self.retrieve(&text, question.image.as_ref()).await?,
            Mode::OracleEntity { url } => Ok(self.given(&text, url, None).await?),
            Mode::OraclePassage { url, section } => Ok(self.given(&text, url, Some(*section)).await?),
        };
        match found {
            Ok(found) => {
                answer.candidates = found.merged.candidates;
                answer.entity = found.entity;
                answer.passages = found.passages;
                self.generate(&mut answer, question.image.as_ref()).await?;
            }
            Err((merged, reason)) => {
                answer.candidates = merged.candidates;
                answer.outcome = Outcome::NotInKnowledgeBase { reason };
            }
        }
        self.timings.total_ms = millis(self.began);
        answer.timings = self.timings;
        Ok(answer)
    }

    /// Encodes, searches, chooses and ranks. The inner error is an abstention: the candidates and the reason.
    async fn retrieve(
        &mut self,
        question: &str,
        image: Option<&QuestionImage>,
    ) -> Result<Result<Found, (Merged, String)>, RagError> {
        let settings = Arc::clone(&self.parts.settings);
        let text = format!("{} {question}", settings.instruction).trim().to_owned();
        let (encoder, image, limits) = (Arc::clone(&self.parts.encoder), image.cloned(), settings.picture_limits);
        let encode = blocking("the retriever", move || {
            let image = match image {
                None => None,
                Some(QuestionImage::Decoded(picture)) => Some(picture),
                Some(QuestionImage::Path(path)) => {
                    Some(Picture::open(&path, &limits).map_err(|e| RagError::Picture(e.to_string()))?)
                }
            };
            encoder.encode(Item { text: Some(text), image }).map_err(RagError::Encode)
        });
        let (query, ms) = self.stage(Stage::Encoding, encode).await?;
        self.timings.encoding_ms = ms;

        let (search, words, k) = (Arc::clone(&self.parts.search), question.to_owned(), settings.candidates.max(1));
        let find = blocking("the knowledge base", move || search.search(&query, &words, k).map_err(RagError::Search));
        let (hits, ms) = self.stage(Stage::Searching, find).await?;
        self.timings.searching_ms = ms;

        let merged = entity::merge(hits);
        self.emit(Event::Candidates { candidates: merged.candidates.clone() }).await;
        let choice = match entity::choose(&merged.candidates, settings.min_score) {
            Ok(choice) => choice,
            Err(reason) => return Ok(Err((merged, reason))),
        };
        self.emit(Event::Entity { entity: choice.clone() }).await;
        let articles: Vec<Article> = merged.articles.iter().take(settings.entities.max(1)).cloned().collect();
        let passages = self.rank(question, articles).await?;
        if passages.is_empty() {
            return Ok(Err((merged, format!("the article of {} has no text", choice.title))));
        }
        Ok(Ok(Found { merged, entity: Some(choice), passages }))
    }

    /// Looks up what was asked for by name.
    async fn given(&mut self, question: &str, url: &str, section: Option<usize>) -> Result<Found, RagError> {
        let (search, wanted) = (Arc::clone(&self.parts.search), url.to_owned());
        let look_up = blocking("the knowledge base", move || {
            let found = search.article(&wanted).map_err(RagError::Search)?;
            found.ok_or_else(|| RagError::NoSuchArticle(format!("article {wanted}")))
        });
        let (article, ms) = self.stage(Stage::Searching, look_up).await?;
        self.timings.searching_ms = ms;
        let entity = EntityChoice {
            url: article.url.clone(),
            title: article.title.clone(),
            score: None,
            margin: None,
            why: "given with the question".into(),
        };
        self.emit(Event::Entity { entity: entity.clone() }).await;
        let passages = match section {
            None => self.rank(question, vec![article]).await?,
            Some(n) if article.sections.get(n).is_some_and(|s| !s.text.trim().is_empty()) => {
                // The section is given, but where to cut it still depends on the question.
                let mut only = article.clone();
                only.sections = only.sections.drain(n..=n).collect();
                let mut passages = self.rank(question, vec![only]).await?;
                for passage in &mut passages {
                    passage.section_index = n;
                    passage.score = None;
                }
                passages
            }
            Some(n) => return Err(RagError::NoSuchArticle(format!("section {n} with text in {url}"))),
        };
        Ok(Found { merged: Merged::default(), entity: Some(entity), passages })
    }

    /// Ranks the sections of `articles` and cuts the best into passages.
    async fn rank(&mut self, question: &str, articles: Vec<Article>) -> Result<Vec<Passage>, RagError> {
        let (parts, asked) = (self.parts.clone(), question.to_owned());
        let work =
            blocking("the ranker", move || {
                let mut ranked = Vec::new();
                for (n, article) in articles.iter().enumerate() {
                    let scores = parts.ranker.rank(&asked, &article.sections).map_err(RagError::Rank)?;
                    let (found, expected) = (scores.len(), article.sections.len());
                    if found != expected {
                        let message = format!("the ranker gave {found} scores for {expected} sections");
                        return Err(RagError::Rank(PartError::failure(message)));
                    }
                    ranked.extend(scores.into_iter().enumerate().map(|(section, SectionScore { score, focus })| {
                        Ranked { article: n, section, score: Some(score), focus }
                    }));
                }
                // Stable: equal scores keep the order of the article.
                ranked.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
                Ok(parts.passages(&asked, &articles, &ranked))
            });
        let (passages, ms) = self.stage(Stage::Ranking, work).await?;
        self.timings.ranking_ms = ms;
        self.emit(Event::Passages { passages: passages.clone() }).await;
        Ok(passages)
    }

    /// Lets the generator answer, and resolves what it cites.
    async fn generate(&mut self, answer: &mut Answer, image: Option<&QuestionImage>) -> Result<(), RagError> {
        let Some(generator) = self.parts.generator.clone() else {
            return Ok(());
        };
        let given: Vec<PromptPassage<'_>> = answer
            .passages
            .iter()
            .map(|p| PromptPassage { title: &p.title, section: &p.section, text: &p.text })
            .collect();
        let prompt = self.parts.templates.render(&given, &answer.question);
        answer.prompt_tokens = prompt.texts().map(|text| generator.count_tokens(text)).sum();
        let shown = prompt.clone();
        self.emit(Event::Prompt {
            tokens: answer.prompt_tokens,
            system: shown.system,
            examples: shown.examples,
            user: shown.user,
        })
        .await;

        let picture = match image.filter(|_| generator.info().sees_pictures) {
            Some(image) => Some(picture_file(image.clone()).await?),
            None => None,
        };
        let request = Request {
            system: prompt.system,
            examples: prompt.examples,
            user: prompt.user,
            image: picture.as_ref().map(|file| file.path()),
            max_tokens: self.parts.settings.max_tokens,
            stop: prompt.stop,
            constraint: None,
            sampling: None,
        };
        self.emit(Event::Started { stage: Stage::ReadingPrompt }).await;
        let began = Instant::now();
        let mut chunks = generator.generate(request);
        let mut said = String::new();
        let mut shown = citations::Shown::new(&answer.passages);
        let mut first: Option<Instant> = None;
        let usage: Usage = loop {
            match chunks.recv().await {
                None => return Err(RagError::Unfinished),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Chunk::Done(usage))) => break usage,
                Some(Ok(Chunk::Text(piece))) => {
                    if first.is_none() {
                        first = Some(Instant::now());
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
                }
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
        answer.outcome = Outcome::Answered;
        answer.text = resolved.text;
        answer.plain = resolved.plain;
        answer.citations = resolved.citations;
        answer.unknown_citations = resolved.unknown;
        answer.usage = Some(usage);
        Ok(())
    }
}

impl Pipeline {
    /// The best sections as numbered passages within the budget: at least one where any section has text.
    fn passages(&self, question: &str, articles: &[Article], ranked: &[Ranked]) -> Vec<Passage> {
        let count = |text: &str| match &self.generator {
            Some(generator) => generator.count_tokens(text),
            // English has about four characters to a token.
            None => text.len().div_ceil(4),
        };
        let mut left = self.settings.passage_tokens;
        if let Some(generator) = &self.generator {
            let nothing = [PromptPassage { title: "", section: "", text: "" }];
            let frame = self.templates.render(&nothing, question);
            let taken = frame.texts().map(count).sum::<usize>() + TEMPLATE_TOKENS + self.settings.max_tokens;
            left = left.min(generator.info().context_length.saturating_sub(taken));
        }
        let mut passages: Vec<Passage> = Vec::new();
        for candidate in ranked {
            if passages.len() >= self.settings.passages.max(1) || (!passages.is_empty() && left < LEAST_TOKENS) {
                break;
            }
            let Some(article) = articles.get(candidate.article) else { continue };
            let Some(section) = article.sections.get(candidate.section) else { continue };
            if section.text.trim().is_empty() {
                continue;
            }
            let tokens = left.min(self.settings.tokens_per_passage);
            let cut = budget::fit(&section.text, candidate.focus.clone(), tokens, &count);
            left = left.saturating_sub(cut.tokens);
            passages.push(Passage {
                number: passages.len() + 1,
                url: article.url.clone(),
                title: article.title.clone(),
                section: section.title.clone(),
                section_index: candidate.section,
                text: cut.text,
                cut: cut.cut,
                score: candidate.score,
                tokens: cut.tokens,
            });
        }
        passages
    }
}

/// A picture as a file, for a generator that sees.
enum PictureFile {
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
}

async fn picture_file(image: QuestionImage) -> Result<PictureFile, RagError> {
    let picture = match image {
        QuestionImage::Path(path) => return Ok(PictureFile::Given(path)),
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
        Ok(PictureFile::Temporary(file))
    })
    .await
}

/// Runs work that blocks; a panic in it is an error.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, RagError> + Send + 'static,
) -> Result<T, RagError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(RagError::Crashed(what)))
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
