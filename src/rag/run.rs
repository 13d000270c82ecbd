//! One question under way: the stages in order.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::entity::{self, Merged};
use super::speech::PictureFile;
use super::{
    About, Abstention, Answer, EntityChoice, EntityMethod, Event, FollowUp, FollowUpMethod, FoundBefore, Mode,
    NameEntity, Outcome, PartError, Passage, Pipeline, Question, QuestionImage, RagError, SectionScore, Stage,
    StageReport, Timings, budget, follow_up,
};
use crate::generator::{Generator, PromptPassage};
use crate::kb::{Article, Hit};
use crate::retriever::{Item, Picture};
use crate::text::sanitise_line;

/// A budget below which a further passage is not worth its heading.
const LEAST_TOKENS: usize = 24;

/// What the chat template and the model's own marks may add to a prompt.
const TEMPLATE_TOKENS: usize = 64;

/// What a search is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// Articles, each once.
    Articles,
    /// Parts of articles, where those are embedded.
    Parts,
}

/// One question under way.
pub(super) struct Run {
    pub(super) pipeline: Pipeline,
    events: mpsc::Sender<Event>,
    pub(super) began: Instant,
    pub(super) timings: Timings,
    pub(super) stages: Vec<StageReport>,
    /// The question's picture as a file, once a generator that sees has asked for it.
    pub(super) picture: Option<PictureFile>,
}

/// What the passages are taken from.
#[derive(Default)]
struct Found {
    merged: Merged,
    entity: Option<EntityChoice>,
    passages: Vec<Passage>,
    standalone: Option<String>,
    ranked_by: Option<String>,
    section_score: Option<f32>,
}

/// An end without an answer: what was found until then, and why there is none.
type Abstained = (Found, Abstention);

/// A section that competes for the prompt.
struct Ranked {
    article: usize,
    section: usize,
    /// The ranker's score and the search's, as they are weighed.
    score: f32,
    focus: std::ops::Range<usize>,
}

impl Run {
    pub(super) fn new(pipeline: Pipeline, events: mpsc::Sender<Event>) -> Self {
        let (began, timings) = (Instant::now(), Timings::default());
        Self { pipeline, events, began, timings, stages: Vec::new(), picture: None }
    }

    pub(super) async fn drive(mut self, question: Question) {
        let last = match self.run(question).await {
            Ok(answer) => Event::Answer { answer: Box::new(answer) },
            Err(error) => Event::Failed { error },
        };
        self.emit(last).await;
    }

    pub(super) async fn emit(&self, event: Event) {
        // A closed channel ends the whole run in `ask`.
        let _ = self.events.send(event).await;
    }

    /// Notes a stage that was gone through.
    pub(super) fn note(&mut self, stage: Stage, by: impl Into<String>, ms: Option<f64>) {
        self.stages.push(StageReport { stage, by: by.into(), ms });
    }

    /// Announces a stage, does it within its time, and tells how long it took.
    async fn stage<T: Send + 'static>(
        &mut self,
        stage: Stage,
        by: String,
        work: impl FnOnce() -> Result<T, RagError> + Send + 'static,
    ) -> Result<(T, Option<f64>), RagError> {
        self.emit(Event::Started { stage }).await;
        let (began, limit) = (Instant::now(), self.pipeline.settings.limits.stage);
        // Work that does not come back keeps its thread, but nobody waits for it any longer.
        let Ok(out) = tokio::time::timeout(limit, blocking(stage.label(), work)).await else {
            return Err(RagError::TimedOut { stage, seconds: limit.as_secs(), key: "rag.timeout_s" });
        };
        let (out, ms) = (out?, millis(began));
        self.emit(Event::Finished { stage, ms }).await;
        self.note(stage, by, Some(ms));
        Ok((out, Some(ms)))
    }

    async fn run(&mut self, question: Question) -> Result<Answer, RagError> {
        let text = question.text.trim().to_owned();
        if text.is_empty() {
            return Err(RagError::EmptyQuestion);
        }
        let found = match (&question.mode, &question.follow_up) {
            (Mode::NoRetrieval, _) => Ok(Found::default()),
            (Mode::Retrieved, Some(follow_up)) => self.stay(&text, follow_up, question.image.as_ref()).await?,
            (Mode::Retrieved, None) => self.retrieve(&text, question.image.as_ref(), question.found).await?,
            (Mode::OracleEntity { url }, _) => self.given(&text, url, None).await?,
            (Mode::OraclePassage { url, section }, _) => self.given(&text, url, Some(*section)).await?,
        };
        let (found, abstention) = match found {
            Ok(found) => (found, None),
            Err((found, abstention)) => (found, Some(abstention)),
        };
        let parts = &self.pipeline.parts;
        let mut answer = Answer {
            standalone: found.standalone.unwrap_or_else(|| text.clone()),
            before: question.follow_up.map(|follow_up| follow_up.before).unwrap_or_default(),
            mode: question.mode,
            ranked_by: found.ranked_by,
            section_score: found.section_score,
            passages: found.passages,
            candidates: found.merged.candidates,
            entity: found.entity,
            generator: parts.generator.as_ref().map(|g| g.info().clone()),
            retriever: parts.encoder.about(),
            knowledge_base: parts.search.about(),
            ranker: parts.ranker.about(),
            prompts: About::new("", parts.prompts.fingerprint()),
            ..Answer::of(text)
        };
        match abstention {
            None => self.speak(&mut answer, question.image.as_ref()).await?,
            Some(why) => answer.outcome = Outcome::NotInKnowledgeBase { reason: why.to_string(), why },
        }
        self.timings.total_ms = millis(self.began);
        answer.timings = self.timings;
        answer.stages = std::mem::take(&mut self.stages);
        Ok(answer)
    }

    /// Searches, or takes what was found before; chooses and ranks.
    async fn retrieve(
        &mut self,
        question: &str,
        image: Option<&QuestionImage>,
        before: Option<Vec<FoundBefore>>,
    ) -> Result<Result<Found, Abstained>, RagError> {
        let settings = Arc::clone(&self.pipeline.settings);
        let k = settings.candidates.max(1);
        let hits = match before {
            None => self.search(question, image, k, Extent::Articles).await?,
            Some(before) => self.recall(before, k).await?,
        };
        let merged = entity::merge(hits);
        self.emit(Event::Candidates { candidates: merged.candidates.clone() }).await;
        let mut found = Found { merged, ..Found::default() };
        if let Err(why) = entity::near_enough(&found.merged.candidates, &settings.thresholds) {
            return Ok(Err((found, why)));
        }
        let choice = match self.choose(question, &found.merged, image).await? {
            Ok(choice) => choice,
            Err(why) => return Ok(Err((found, why))),
        };
        self.emit(Event::Entity { entity: choice.clone() }).await;
        // The chosen one first, then the others as they came.
        let at = found.merged.candidates.iter().position(|c| c.url == choice.url).unwrap_or(0);
        let others = (0..found.merged.articles.len()).filter(|n| *n != at);
        let order: Vec<usize> = [at].into_iter().chain(others).take(settings.entities.max(1)).collect();
        let articles = order.into_iter().map(|n| (n, found.merged.articles[n].clone())).collect();
        found.entity = Some(choice);
        self.rank(question, articles, None, found).await
    }

    /// Encodes the question and searches for the `k` best articles, or parts of them.
    pub(super) async fn search(
        &mut self,
        question: &str,
        image: Option<&QuestionImage>,
        k: usize,
        extent: Extent,
    ) -> Result<Vec<Hit>, RagError> {
        let settings = Arc::clone(&self.pipeline.settings);
        let parts = self.pipeline.parts.clone();
        let text = format!("{} {question}", settings.instruction).trim().to_owned();
        let (encoder, image_, limits) = (Arc::clone(&parts.encoder), image.cloned(), settings.picture_limits);
        let by = parts.encoder.about().name;
        let encode = move || {
            let image = match image_ {
                None => None,
                Some(QuestionImage::Decoded(picture)) => Some(picture),
                Some(QuestionImage::Path(path)) => {
                    Some(Picture::open(&path, &limits).map_err(|e| RagError::Picture(e.to_string()))?)
                }
            };
            encoder.encode(Item { text: Some(text), image }).map_err(RagError::Encode)
        };
        let (query, ms) = self.stage(Stage::Encoding, by, encode).await?;
        self.timings.encoding_ms = ms;

        let (search, words) = (Arc::clone(&parts.search), question.to_owned());
        let by = format!("{}, {k} candidates", parts.search.about().name);
        let find = move || match extent {
            Extent::Articles => search.search(&query, &words, k),
            Extent::Parts => search.search_parts(&query, &words, k),
        };
        let find = move || find().map_err(RagError::Search);
        let (hits, ms) = self.stage(Stage::Searching, by, find).await?;
        self.timings.searching_ms = ms;
        Ok(hits)
    }

    /// Fetches the first `k` of what an earlier search found.
    async fn recall(&mut self, before: Vec<FoundBefore>, k: usize) -> Result<Vec<Hit>, RagError> {
        let search = Arc::clone(&self.pipeline.parts.search);
        let by = format!("{}, found before", search.about().name);
        let fetch = move || {
            let hit = |found: FoundBefore| match search.article(&found.url) {
                Ok(Some(article)) => Ok(Hit { article, score: found.score, part: found.part }),
                Ok(None) => Err(RagError::NoSuchArticle(format!("article {}, which was found before", found.url))),
                Err(e) => Err(RagError::Search(e)),
            };
            before.into_iter().take(k).map(hit).collect()
        };
        let (hits, ms) = self.stage(Stage::Searching, by, fetch).await?;
        self.timings.searching_ms = ms;
        Ok(hits)
    }

    /// Chooses the entity as the settings say.
    async fn choose(
        &mut self,
        question: &str,
        merged: &Merged,
        image: Option<&QuestionImage>,
    ) -> Result<Result<EntityChoice, Abstention>, RagError> {
        let settings = Arc::clone(&self.pipeline.settings);
        let candidates = &merged.candidates[..merged.candidates.len().min(settings.names.max(1))];
        match (settings.entity, self.pipeline.parts.generator.clone()) {
            // A reader that could see is no better than the search where there is nothing to see.
            (EntityMethod::Model, Some(generator))
                if candidates.len() > 1 && (image.is_some() || !generator.info().sees_pictures) =>
            {
                let choice = self.ask_for_entity(generator.as_ref(), question, candidates, image).await?;
                Ok(Ok(choice))
            }
            _ => {
                let choice = entity::choose(&merged.candidates, &settings.thresholds);
                if choice.is_ok() {
                    self.note(Stage::Choosing, "the best score", None);
                }
                Ok(choice)
            }
        }
    }

    /// Stays with the entity of a conversation.
    async fn stay(
        &mut self,
        question: &str,
        follow_up: &FollowUp,
        image: Option<&QuestionImage>,
    ) -> Result<Result<Found, Abstained>, RagError> {
        let article = self.look_up(&follow_up.entity).await?;
        let found = self.named(&article, "kept from the question before").await;
        let by_rule = follow_up::standalone(&sanitise_line(&article.title), &follow_up.before, question);
        let generator = self.pipeline.parts.generator.clone();
        let standalone = match (self.pipeline.settings.follow_up, generator) {
            (FollowUpMethod::Model, Some(generator)) if !follow_up.before.is_empty() => {
                self.ask_for_question(generator.as_ref(), &article.title, follow_up, question, image, by_rule).await?
            }
            _ => {
                self.note(Stage::Rewriting, "rules", None);
                by_rule
            }
        };
        self.emit(Event::Standalone { question: standalone.clone() }).await;
        let found = Found { standalone: Some(standalone.clone()), ..found };
        self.rank(&standalone, vec![(0, article)], None, found).await
    }

    /// Looks up what was asked for by name.
    async fn given(
        &mut self,
        question: &str,
        url: &str,
        section: Option<usize>,
    ) -> Result<Result<Found, Abstained>, RagError> {
        let article = self.look_up(url).await?;
        let found = self.named(&article, "given with the question").await;
        match section {
            None => self.rank(question, vec![(0, article)], None, found).await,
            Some(n) if article.sections.get(n).is_some_and(|s| !s.text.trim().is_empty()) => {
                // The section is given, but where to cut it still depends on the question.
                let mut only = article.clone();
                only.sections = only.sections.drain(n..=n).collect();
                self.rank(question, vec![(0, only)], Some(n), found).await
            }
            Some(n) => Err(RagError::NoSuchArticle(format!("section {n} with text in {url}"))),
        }
    }

    async fn look_up(&mut self, url: &str) -> Result<Article, RagError> {
        let (search, wanted) = (Arc::clone(&self.pipeline.parts.search), url.to_owned());
        let by = format!("{}, by address", search.about().name);
        let look_up = move || {
            let found = search.article(&wanted).map_err(RagError::Search)?;
            found.ok_or_else(|| RagError::NoSuchArticle(format!("article {wanted}")))
        };
        let (article, ms) = self.stage(Stage::Searching, by, look_up).await?;
        self.timings.searching_ms = ms;
        Ok(article)
    }

    /// An entity that nobody had to choose.
    async fn named(&mut self, article: &Article, why: &str) -> Found {
        let (url, title) = (article.url.clone(), article.title.clone());
        let entity = EntityChoice { url, title, score: None, margin: None, why: why.to_owned() };
        self.emit(Event::Entity { entity: entity.clone() }).await;
        self.note(Stage::Choosing, why, None);
        Found { entity: Some(entity), ..Found::default() }
    }

    /// Ranks the sections of articles, each with its place among the candidates, and cuts the best into passages. Of a
    /// section that was asked for by its index, `given`, the score is not looked at.
    async fn rank(
        &mut self,
        question: &str,
        articles: Vec<(usize, Article)>,
        given: Option<usize>,
        mut found: Found,
    ) -> Result<Result<Found, Abstained>, RagError> {
        let pipeline = self.pipeline.clone();
        let title = found.entity.as_ref().map(|entity| sanitise_line(&entity.title)).filter(|title| !title.is_empty());
        let naming = pipeline.settings.name_entity;
        let asked = match title.filter(|_| naming != NameEntity::Never) {
            Some(title) => follow_up::named(&title, question),
            None => question.to_owned(),
        };
        if naming == NameEntity::Always {
            found.standalone = Some(asked.clone());
        }
        found.ranked_by = Some(asked.clone());
        let weight = pipeline.settings.retrieval_weight;
        let by = match (pipeline.parts.ranker.about().name, weight) {
            (name, 0.0) => name,
            (name, weight) => format!("{name}, and the search's score times {weight}"),
        };
        let merged = std::mem::take(&mut found.merged);
        let work = move || {
            let mut ranked = Vec::new();
            let mut best = f32::NEG_INFINITY;
            for (n, (candidate, article)) in articles.iter().enumerate() {
                let scores = pipeline.parts.ranker.rank(&asked, article).map_err(RagError::Rank)?;
                let (found, expected) = (scores.len(), article.sections.len());
                if found != expected {
                    let message = format!("the ranker gave {found} scores for {expected} sections");
                    return Err(RagError::Rank(PartError::failure(message)));
                }
                for (section, SectionScore { score, focus }) in scores.into_iter().enumerate() {
                    if article.sections[section].text.trim().is_empty() {
                        continue;
                    }
                    best = best.max(score);
                    let score = score + weight * merged.section_score(*candidate, section);
                    ranked.push(Ranked { article: n, section, score, focus });
                }
            }
            // Stable: equal scores keep the order of the article.
            ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
            Ok((pipeline.passages(&asked, &articles, &ranked), best, merged))
        };
        let ((passages, best, merged), ms) = self.stage(Stage::Ranking, by, work).await?;
        self.timings.ranking_ms = ms;
        found.merged = merged;
        let title = found.entity.as_ref().map(|entity| entity.title.clone()).unwrap_or_default();
        if passages.is_empty() {
            return Ok(Err((found, Abstention::NoText { title })));
        }
        found.passages = passages;
        if let Some(section) = given {
            for passage in &mut found.passages {
                passage.section_index = section;
                passage.score = None;
            }
        } else {
            found.section_score = Some(best);
        }
        self.emit(Event::Passages { passages: found.passages.clone() }).await;
        let needed = self.pipeline.settings.thresholds.section.filter(|needed| given.is_none() && best < *needed);
        Ok(match needed {
            Some(needed) => Err((found, Abstention::NoSection { title, score: best, needed })),
            None => Ok(found),
        })
    }
}

impl Pipeline {
    /// The best sections as numbered passages within the budget: at least one where any section has text.
    fn passages(&self, question: &str, articles: &[(usize, Article)], ranked: &[Ranked]) -> Vec<Passage> {
        let (settings, generator) = (&self.settings, self.parts.generator.as_ref());
        let count = |text: &str| count_tokens(generator.map(AsRef::as_ref), text);
        let mut left = settings.passage_tokens;
        if let Some(generator) = generator {
            let nothing = [PromptPassage { title: "", section: "", text: "" }];
            let frame = self.parts.prompts.render(&nothing, question);
            let texts: usize = frame.texts().map(count).sum();
            let taken = texts + generator.picture_tokens() + TEMPLATE_TOKENS + settings.max_tokens;
            left = left.min(generator.info().context_length.saturating_sub(taken));
        }
        let mut passages: Vec<Passage> = Vec::new();
        for candidate in ranked {
            if passages.len() >= settings.passages.max(1) || (!passages.is_empty() && left < LEAST_TOKENS) {
                break;
            }
            let Some((_, article)) = articles.get(candidate.article) else { continue };
            let Some(section) = article.sections.get(candidate.section) else { continue };
            let tokens = left.min(settings.tokens_per_passage);
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
                score: Some(candidate.score),
                tokens: cut.tokens,
            });
        }
        passages
    }
}

/// Tokens of a text. English has about four characters to a token where nothing counts better.
pub(super) fn count_tokens(generator: Option<&dyn Generator>, text: &str) -> usize {
    generator.map_or_else(|| text.len().div_ceil(4), |generator| generator.count_tokens(text))
}

/// Runs work that blocks; a panic in it is an error.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, RagError> + Send + 'static,
) -> Result<T, RagError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(RagError::Crashed(what)))
}

pub(super) fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
