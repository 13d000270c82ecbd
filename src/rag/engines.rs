//! The real parts behind the traits of this room, and how they are opened.
//!
//! Everything that can be seen without loading a model is checked first: files that are missing, a knowledge base that
//! is not there. What is missing is named together with the command that brings it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::rank::PairScorer;
use super::{
    About, BiEncoderRanker, CrossRanker, EntityMethod, FollowUpMethod, Gate, Limits, NameEntity, NoRanker, PartError,
    PartErrorKind, Parts, Pipeline, QueryEncoder, Search, SectionRanker, Settings, TextEncoder, Thresholds,
};
use crate::config::{Config, ModelRef};
use crate::generator::prompt::{PromptFile, PromptFiles, shipped};
use crate::generator::{Generator, GeneratorError, PromptError, Prompts, Sampling};
use crate::kb::remote::Remote;
#[cfg(not(feature = "server"))]
use crate::kb::store::StoreError;
use crate::kb::{self, Article, Document, Embedder, Hit, Home, KbError, KnowledgeBase};
use crate::models::{Models, ModelsError};
use crate::retriever::config::RetConfig;
use crate::retriever::device::DeviceChoice;
use crate::retriever::preprocess::text::TextProcessor;
use crate::retriever::probe::GateStep;
use crate::retriever::{
    BemModel, Embedding, Item, PairClassifier, Picture, PictureLimits, Retriever, RetrieverError, RetrieverFiles,
    SentenceEncoder,
};

/// Why the parts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// A model that `cicerone models pull` brings.
    #[error("{what} needs {path}, which is not there", path = .path.display())]
    MissingModel {
        /// Which part.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Name to pull; `None` where the configuration gives a path.
        pull: Option<String>,
    },
    /// A file of the retriever that the configuration names.
    #[error("`{key}` names {path}, which is not there", path = .path.display())]
    MissingFile {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Model files that are there but not whole, or the catalogue of models.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The retriever or the sentence encoder.
    #[error(transparent)]
    Retriever(#[from] RetrieverError),
    /// The knowledge base.
    #[error(transparent)]
    Kb(#[from] KbError),
    /// The answering engine.
    #[error(transparent)]
    Generator(#[from] GeneratorError),
    /// The prompt's templates.
    #[error(transparent)]
    Prompt(#[from] PromptError),
}

/// Opened parts, and the pipeline over them.
pub struct Engines {
    /// The retriever's thread.
    pub retriever: Retriever,
    /// The knowledge base.
    pub kb: Arc<KnowledgeBase>,
    /// The reader, where one was asked for.
    pub generator: Option<Arc<dyn Generator>>,
    /// All together.
    pub pipeline: Pipeline,
}

/// Directory (or file) of a model that is there whole, as far as sizes tell.
fn find(config: &Config, what: &'static str, model: &ModelRef) -> Result<PathBuf, EnginesError> {
    let path = config.model_path(model);
    if let ModelRef::Name(name) = model {
        match Models::open(&config.models_dir(), None)?.find(name) {
            Ok(found) => return Ok(found.path),
            Err(ModelsError::Absent { pull, dir, .. }) => {
                return Err(EnginesError::MissingModel { what, path: dir, pull: Some(pull) });
            }
            // Not of the catalogue: a directory that somebody put there.
            Err(ModelsError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if path.exists() { Ok(path) } else { Err(EnginesError::MissingModel { what, path, pull: None }) }
}

fn model_file(config: &Config, what: &'static str, model: &ModelRef, file: &str) -> Result<PathBuf, EnginesError> {
    find(config, what, model)?;
    let path = config.model_file(model, file);
    if path.is_file() { Ok(path) } else { Err(EnginesError::MissingModel { what, path, pull: None }) }
}

/// A file of a model by name, or one that the configuration names itself.
fn own_file(config: &Config, key: &'static str, model: &ModelRef, file: &str) -> Result<PathBuf, EnginesError> {
    let path = config.model_file(model, file);
    match model {
        ModelRef::Name(_) => model_file(config, "the retriever", model, file),
        ModelRef::Path(_) if path.is_file() => Ok(path),
        ModelRef::Path(_) => Err(EnginesError::MissingFile { key, path }),
    }
}

/// The retriever's files, each seen to be there.
///
/// # Errors
/// [`EnginesError::MissingModel`] or [`EnginesError::MissingFile`].
pub fn retriever_files(config: &Config) -> Result<RetrieverFiles, EnginesError> {
    let files = tower_files(config)?;
    own_file(config, "retriever.weights", &config.retriever.weights, "model.safetensors")?;
    Ok(files)
}

/// Where the retriever is to compute.
#[must_use]
pub fn device(config: &Config) -> DeviceChoice {
    // The configuration allows no other names.
    config.retriever.device.parse().unwrap_or_default()
}

/// As [`retriever_files`], but the trained weights need not be there: for training them.
///
/// # Errors
/// As [`retriever_files`].
pub fn tower_files(config: &Config) -> Result<RetrieverFiles, EnginesError> {
    let part = &config.retriever;
    Ok(RetrieverFiles {
        text_weights: model_file(config, "the retriever", &part.text_weights, "model.safetensors")?,
        tokenizer: model_file(config, "the retriever", &part.text_tokenizer, "tokenizer.json")?,
        vision_weights: model_file(config, "the retriever", &part.image_weights, "model.safetensors")?,
        config: own_file(config, "retriever.config", &part.config, "retriever.json")?,
        weights: config.model_file(&part.weights, "model.safetensors"),
        instruction: part.instruction.clone(),
        max_batch: part.batch_size,
        device: device(config),
    })
}

/// Sees that every file is there that [`open`] will load, and that the prompts are whole.
///
/// # Errors
/// As [`retriever_files`].
pub fn check_files(config: &Config, generate: bool) -> Result<(), EnginesError> {
    open_prompts(config)?;
    retriever_files(config)?;
    ranker_files(config)?;
    if generate {
        reader_dir(config)?;
    }
    Ok(())
}

/// Files of the model that ranks sections: its architecture, weights and tokenizer; `None` where none is needed.
fn ranker_files(config: &Config) -> Result<Option<[PathBuf; 3]>, EnginesError> {
    let model = match config.rag.ranking.as_str() {
        "bi-encoder" => &config.rag.ranker,
        "cross-encoder" => &config.rag.cross_encoder,
        _ => return Ok(None),
    };
    let file = |name| model_file(config, "the section ranker", model, name);
    Ok(Some([file("config.json")?, file("model.safetensors")?, file("tokenizer.json")?]))
}

/// Sees that the files of BEM are there, where it is configured; its weights.
///
/// # Errors
/// Missing files.
pub fn bem_files(config: &Config) -> Result<Option<PathBuf>, EnginesError> {
    let Some(model) = config.eval.bem() else { return Ok(None) };
    model_file(config, "BEM", model, "config.json")?;
    model_file(config, "BEM", model, "model.safetensors").map(Some)
}

/// Loads the model of BEM that is configured, with the hash of its weights; `None` where none is.
///
/// # Errors
/// Missing or unusable files.
pub fn open_bem(config: &Config) -> Result<Option<(String, BemModel)>, EnginesError> {
    let (Some(model), Some(weights)) = (config.eval.bem(), bem_files(config)?) else { return Ok(None) };
    let fingerprint = crate::io::hash::blake3_file(&weights).map_err(KbError::from)?;
    Ok(Some((fingerprint, BemModel::load(&config.model_path(model))?)))
}

/// Opens the knowledge base that is configured, without a retriever: for what is asked by name.
///
/// # Errors
/// One that is not there, or not whole.
pub fn open_kb(config: &Config) -> Result<KnowledgeBase, EnginesError> {
    Ok(KnowledgeBase::open(kb_home(config)?, &config.kb.name, None)?)
}

fn reader_dir(config: &Config) -> Result<PathBuf, EnginesError> {
    find(config, "the answering model", &config.generator.model)
}

/// Where the configured knowledge bases are.
///
/// # Errors
/// [`KbError::Store`] for a server that cannot be spoken to: a URL or key that cannot be used, or a build without a client.
pub fn kb_home(config: &Config) -> Result<Home, EnginesError> {
    let remote = if config.kb.server.url.is_empty() { None } else { Some(kb_server(config)?) };
    Ok(Home { root: config.kb_root(), remote })
}

/// Environment variable with the API key of a Qdrant server.
pub const API_KEY: &str = "CICERONE_QDRANT_API_KEY";

#[cfg(feature = "server")]
fn kb_server(config: &Config) -> Result<Remote, EnginesError> {
    use std::time::Duration;

    use crate::kb::store::server::{ApiKey, Connection, Server, ServerOptions};
    let part = &config.kb.server;
    let key = match part.api_key_file() {
        Some(path) => Some(fs_err::read_to_string(path).map_err(KbError::from)?),
        None => std::env::var(API_KEY).ok(),
    };
    let connection = Connection {
        query_timeout: Duration::from_secs(part.timeout_s),
        write_timeout: Duration::from_secs(part.write_timeout_s),
        ..Connection::new(&part.url).with_rest_url(&part.rest_url).with_key(key.as_deref().map(ApiKey::new))
    };
    let given = |number: u32| (number > 0).then_some(number);
    let options = ServerOptions {
        shard_number: given(part.shards),
        replication_factor: given(part.replicas),
        write_consistency_factor: given(part.write_consistency),
        on_disk_payload: part.on_disk_payload,
    };
    let server = Server::connect(connection).map_err(|e| KbError::Store(e.into()))?;
    Ok(Remote::new(server, options))
}

#[cfg(not(feature = "server"))]
fn kb_server(_: &Config) -> Result<Remote, EnginesError> {
    Err(KbError::Store(StoreError::NoClient).into())
}

/// Starts the retriever that is configured.
///
/// # Errors
/// Missing or unusable files.
pub fn start_retriever(config: &Config) -> Result<Retriever, EnginesError> {
    let files = retriever_files(config)?;
    if config.retriever.threads > 0 {
        // Fails where the process has its pool already, by an earlier call with the same number.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(config.retriever.threads).build_global();
    }
    Ok(Retriever::start(files)?)
}

/// The tokenizer of the retriever, for what it does not read of a text.
///
/// # Errors
/// Missing or unusable files.
pub fn document_texts(config: &Config) -> Result<TextProcessor, EnginesError> {
    let part = &config.retriever;
    let tokenizer = model_file(config, "the retriever", &part.text_tokenizer, "tokenizer.json")?;
    let description = own_file(config, "retriever.config", &part.config, "retriever.json")?;
    Ok(TextProcessor::load(&tokenizer, RetConfig::load(&description)?.max_text_tokens)?)
}

/// Loads what ranks sections, as it is configured.
///
/// # Errors
/// Missing or unusable files.
pub fn open_ranker(config: &Config, retriever: &Retriever) -> Result<Arc<dyn SectionRanker>, EnginesError> {
    let rag = &config.rag;
    // A section is looked at through windows of what a passage holds of it: the best one is then what the reader sees.
    let window = (rag.token_budget(false) * CHARS_PER_TOKEN).min(LONGEST_WINDOW);
    let words = rag.shared_words as f32;
    let about = |model: &ModelRef, weights: &PathBuf| -> Result<About, EnginesError> {
        let fingerprint = crate::io::hash::blake3_file(weights).map_err(KbError::from)?;
        Ok(About::new(format!("{} {model}", rag.ranking), &fingerprint[..16]))
    };
    Ok(match (rag.ranking.as_str(), ranker_files(config)?) {
        ("bi-encoder", Some([architecture, weights, tokenizer])) => {
            let encoder = SentenceEncoder::load(&architecture, &weights, &tokenizer)?;
            let ranker = BiEncoderRanker::new(about(&rag.ranker, &weights)?, Arc::new(encoder));
            Arc::new(ranker.with_lexical_weight(words).with_window_chars(window))
        }
        ("cross-encoder", Some([architecture, weights, tokenizer])) => {
            let scorer = PairClassifier::load(&architecture, &weights, &tokenizer)?;
            Arc::new(CrossRanker::new(about(&rag.cross_encoder, &weights)?, Arc::new(scorer), window))
        }
        ("retriever", _) => {
            let about = About::new("the retriever's text side", retriever.fingerprint());
            let ranker = BiEncoderRanker::new(about, Arc::new(RetrieverTexts(retriever.clone()))).with_names();
            Arc::new(ranker.with_lexical_weight(words).with_window_chars(window))
        }
        _ => Arc::new(NoRanker),
    })
}

const CHARS_PER_TOKEN: usize = 4;

/// Longest window, characters: about the 256 tokens that all-MiniLM-L6-v2 was trained on.
const LONGEST_WINDOW: usize = 800;

/// The prompts that are configured.
///
/// # Errors
/// [`PromptError`], which names the file and the key.
pub fn open_prompts(config: &Config) -> Result<Prompts, PromptError> {
    let file = |prompt: &ModelRef| match prompt {
        ModelRef::Name(name) => shipped(name),
        ModelRef::Path(path) => PromptFile::open(path),
    };
    let prompts = &config.prompts;
    Prompts::new(&PromptFiles {
        answer: file(&prompts.answer)?,
        no_retrieval: file(&prompts.no_retrieval)?,
        choose_entity: file(&prompts.choose_entity)?,
        follow_up: file(&prompts.follow_up)?,
    })
}

/// Settings of a pipeline, as configured, for a reader that sees pictures or one that does not. The instruction stays
/// with the retriever, which puts it before the text.
#[must_use]
pub fn settings(config: &Config, sees_pictures: bool) -> Settings {
    let (rag, generator) = (&config.rag, &config.generator);
    let seconds = std::time::Duration::from_secs;
    let temperature = generator.temperature as f32;
    Settings {
        candidates: rag.candidates,
        entity: if rag.entity_by_model(sees_pictures) { EntityMethod::Model } else { EntityMethod::Score },
        names: rag.names,
        entities: rag.entities,
        name_entity: match rag.name_entity.as_str() {
            "never" => NameEntity::Never,
            "always" => NameEntity::Always,
            _ => NameEntity::Ranking,
        },
        retrieval_weight: rag.retrieval_weight as f32,
        passages: rag.passages(sees_pictures),
        passage_tokens: rag.token_budget(sees_pictures),
        tokens_per_passage: rag.token_budget(sees_pictures),
        max_tokens: generator.max_tokens,
        sampling: (temperature > 0.0).then_some(Sampling { temperature, seed: generator.seed }),
        thresholds: Thresholds {
            score: Some(rag.min_score as f32),
            margin: (rag.min_margin > 0.0).then_some(rag.min_margin as f32),
            section: Some(rag.min_section as f32),
        },
        follow_up: if rag.follow_up == "model" { FollowUpMethod::Model } else { FollowUpMethod::Rule },
        limits: Limits {
            stage: seconds(rag.timeout_s),
            first_token: seconds(generator.first_token_s),
            answer: seconds(generator.answer_s),
        },
        picture_limits: PictureLimits {
            max_bytes: config.retriever.max_picture_bytes,
            max_pixels: config.retriever.max_picture_pixels,
        },
        ..Settings::default()
    }
}

/// Opens everything that is configured, with or without the reader. Blocks: call it outside of `runtime`.
///
/// # Errors
/// See [`EnginesError`]; what can be seen without loading a model is told first.
pub fn open_pipeline(config: &Config, generate: bool, runtime: &Handle) -> Result<Engines, EnginesError> {
    check_files(config, generate)?;
    let home = kb_home(config)?;
    let status = kb::status(&home, &config.kb.name)?;
    if status.manifest.is_none() && status.damage.is_none() {
        return Err(kb::place::Place::new(&home, &config.kb.name)?.not_found().into());
    }
    let retriever = start_retriever(config)?;
    open(config, retriever, generate, runtime)
}

/// As [`open_pipeline`], with a retriever that runs already.
///
/// # Errors
/// See [`EnginesError`].
pub fn open(config: &Config, retriever: Retriever, generate: bool, runtime: &Handle) -> Result<Engines, EnginesError> {
    let kb = Arc::new(KnowledgeBase::open(kb_home(config)?, &config.kb.name, Some(retriever.fingerprint()))?);
    let ranker = open_ranker(config, &retriever)?;
    let prompts = Arc::new(open_prompts(config)?);
    let generator = if generate { Some(runtime.block_on(open_reader(config))?) } else { None };
    let sees_pictures = generator.as_ref().is_some_and(|generator| generator.info().sees_pictures);
    let weights = config.model_path(&config.retriever.weights);
    let name = weights.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let encoder = Arc::new(Queries { name, retriever: retriever.clone() });
    let search = Arc::new(Shared { name: config.kb.name.clone(), kb: Arc::clone(&kb) });
    let parts = Parts { encoder, search, ranker, generator: generator.clone(), prompts };
    let pipeline = Pipeline::new(parts, settings(config, sees_pictures));
    Ok(Engines { retriever, kb, generator, pipeline })
}

/// Loads the reader that is configured.
///
/// # Errors
/// Missing or unusable files; [`GeneratorError::NoEngine`] in a build without one.
#[cfg(feature = "mistral")]
pub async fn open_reader(config: &Config) -> Result<Arc<dyn Generator>, EnginesError> {
    use crate::config::Tristate;
    use crate::generator::mistral::{Format, MistralGenerator, MistralSettings};
    let dir = reader_dir(config)?;
    let part = &config.generator;
    let refuse = |reason: String| GeneratorError::Load { path: dir.display().to_string(), reason };
    let format = Format::from_name(&part.format)
        .ok_or_else(|| refuse(format!("`generator.format` is {:?}, which the engine does not take", part.format)))?;
    let settings = MistralSettings {
        format,
        context: part.context(),
        show_pictures: part.sees_pictures != Tristate::No,
        prefix_cache: part.prefix_cache_mb << 20,
        ..MistralSettings::default()
    };
    let generator = MistralGenerator::load(&dir, settings).await?;
    if part.sees_pictures == Tristate::Yes && !generator.info().sees_pictures {
        let reason = "`generator.sees_pictures` is \"yes\", but the model has no vision tower; say \"auto\" or \"no\"";
        return Err(refuse(reason.into()).into());
    }
    Ok(Arc::new(generator))
}

/// As the function of the same name in a build with an engine: sees that the files are there, and that it cannot load
/// them.
///
/// # Errors
/// Missing files, or [`GeneratorError::NoEngine`].
#[cfg(not(feature = "mistral"))]
pub async fn open_reader(config: &Config) -> Result<Arc<dyn Generator>, EnginesError> {
    reader_dir(config)?;
    Err(GeneratorError::NoEngine.into())
}

/// A retriever, for queries.
struct Queries {
    name: String,
    retriever: Retriever,
}

impl QueryEncoder for Queries {
    fn about(&self) -> About {
        About::new(&*self.name, self.retriever.fingerprint())
    }

    fn encode(&self, item: Item) -> Result<Vec<f32>, PartError> {
        self.retriever.encode_query(item).map(Embedding::into_values).map_err(not_encoded)
    }

    fn gates(&self, item: Item) -> Result<Vec<Gate>, PartError> {
        let gate = |step: GateStep| Gate {
            text_layer: step.text_layer,
            image_layer: step.vision_layer,
            text: step.text_input.map(|spread| spread.mean),
            image: step.vision_input.map(|spread| spread.mean),
            kept: step.forget.mean,
        };
        let steps = self.retriever.query_gates(item).map_err(not_encoded)?;
        Ok(steps.into_iter().map(gate).collect())
    }
}

fn not_encoded(error: RetrieverError) -> PartError {
    let kind = match error {
        RetrieverError::Picture(_) | RetrieverError::EmptyItem => PartErrorKind::Input,
        _ => PartErrorKind::Failure,
    };
    PartError::new(kind, error)
}

/// A knowledge base that is shared.
struct Shared {
    name: String,
    kb: Arc<KnowledgeBase>,
}

impl Search for Shared {
    fn about(&self) -> About {
        About::new(&*self.name, &*self.kb.manifest().content_hash)
    }

    fn search(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError> {
        self.kb.search(query, Some(words), k).map_err(PartError::failure)
    }

    fn search_parts(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError> {
        self.kb.search_parts(query, Some(words), k).map_err(PartError::failure)
    }

    fn article(&self, url: &str) -> Result<Option<Article>, PartError> {
        self.kb.article(url).map_err(PartError::failure)
    }
}

impl TextEncoder for SentenceEncoder {
    fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, PartError> {
        Self::encode(self, texts).map_err(PartError::failure)
    }
}

impl PairScorer for PairClassifier {
    fn score(&self, question: &str, texts: &[String]) -> Result<Vec<f32>, PartError> {
        self.relevance(question, texts).map_err(PartError::failure)
    }
}

/// The text side of a retriever: questions as queries, sections as documents.
struct RetrieverTexts(Retriever);

impl TextEncoder for RetrieverTexts {
    fn encode(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, PartError> {
        let items = texts.iter().map(|text| Item { text: Some(text.clone()), image: None }).collect();
        let embeddings = self.0.encode_documents(items).map_err(PartError::failure)?;
        Ok(embeddings.into_iter().map(Embedding::into_values).collect())
    }

    fn encode_question(&self, question: &str) -> Result<Vec<f32>, PartError> {
        let item = Item { text: Some(question.to_owned()), image: None };
        Ok(self.0.encode_query(item).map_err(PartError::failure)?.into_values())
    }

    fn similarity(&self, question: &[f32], text: &[f32]) -> f32 {
        let embedding = |values: &[f32]| Embedding::new(values.to_vec(), self.0.dim());
        match (embedding(question), embedding(text)) {
            (Some(question), Some(text)) => question.score(&text) / self.0.vectors().max(1) as f32,
            _ => f32::NEG_INFINITY,
        }
    }
}

/// A retriever that embeds the documents of a build.
pub struct DocumentEmbedder {
    retriever: Retriever,
    limits: PictureLimits,
}

impl DocumentEmbedder {
    /// Pictures are opened within `limits`.
    #[must_use]
    pub fn new(retriever: Retriever, limits: PictureLimits) -> Self {
        Self { retriever, limits }
    }
}

impl Embedder for DocumentEmbedder {
    fn fingerprint(&self) -> &str {
        self.retriever.fingerprint()
    }

    fn dim(&self) -> usize {
        self.retriever.dim()
    }

    fn vectors(&self) -> usize {
        self.retriever.vectors()
    }

    fn embed(&self, batch: Vec<Document>) -> Result<Vec<Result<Vec<f32>, String>>, String> {
        let length = |document: &Document| document.text.as_ref().map_or(0, String::len);
        let open = |document: Document| -> Result<Item, RetrieverError> {
            let image = document.image.map(|path| Picture::open(&path, &self.limits)).transpose()?;
            if document.text.is_none() && image.is_none() {
                return Err(RetrieverError::EmptyItem);
            }
            Ok(Item { text: document.text, image })
        };
        let outcomes = self.retriever.encode_opened(batch, length, open).map_err(|e| e.to_string())?;
        Ok(outcomes.into_iter().map(|o| o.map(Embedding::into_values).map_err(|e| e.to_string())).collect())
    }
}
