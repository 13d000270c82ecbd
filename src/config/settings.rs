//! The settings themselves, section by section. `configs/default.toml` explains each to its user.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[paths]`
    pub paths: Paths,
    /// `[retriever]`
    pub retriever: Retriever,
    /// `[kb]`
    pub kb: Kb,
    /// `[rag]`
    pub rag: Rag,
    /// `[prompts]`
    pub prompts: Prompts,
    /// `[generator]`
    pub generator: Generator,
    /// `[eval]`
    pub eval: Eval,
    /// `[tui]`
    pub tui: Tui,
    /// `[log]`
    pub log: Log,
}

/// Where things lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Directory of models and knowledge bases. Empty as written means the platform's; never empty once loaded.
    pub data_dir: PathBuf,
}

/// The ReT-2 retriever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retriever {
    /// JSON that describes the model; of a model by name, its `retriever.json`.
    pub config: ModelRef,
    /// Trained weights, safetensors; of a model by name, its `model.safetensors`.
    pub weights: ModelRef,
    /// Text backbone's weights; of a model by name, its `model.safetensors`.
    pub text_weights: ModelRef,
    /// Text backbone's tokenizer; of a model by name, its `tokenizer.json`.
    pub text_tokenizer: ModelRef,
    /// Image backbone's weights; of a model by name, its `model.safetensors`.
    pub image_weights: ModelRef,
    /// Goes before the question, with a blank between them.
    pub instruction: String,
    /// Largest picture file, bytes.
    pub max_picture_bytes: u64,
    /// Most pixels of a picture, width times height.
    pub max_picture_pixels: u64,
    /// Most items encoded at once.
    pub batch_size: usize,
    /// Threads of the encoder; 0 for one per core.
    pub threads: usize,
    /// Where it computes: `auto`, `cpu`, `cuda` or `metal`.
    pub device: String,
}

/// The knowledge base that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kb {
    /// Its name, a directory below [`Config::kb_root`].
    pub name: String,
    /// Articles that a plain search returns.
    pub top_k: usize,
    /// `[kb.server]`
    pub server: KbServer,
    /// `[kb.build]`
    pub build: Build,
}

/// The server that holds knowledge bases, if they are on one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KbServer {
    /// Its URL; empty for knowledge bases in [`Config::kb_root`].
    pub url: String,
    /// URL of its REST interface, which `kb pull` needs; empty for the port before that of the other.
    pub rest_url: String,
    /// File that holds its API key; empty where the environment does, or none is asked for. See
    /// [`KbServer::api_key_file`].
    pub api_key_file: PathBuf,
    /// Seconds that a search may take.
    pub timeout_s: u64,
    /// Seconds that a write may take.
    pub write_timeout_s: u64,
    /// Parts that a new knowledge base is split into; 0 for what the server says.
    pub shards: u32,
    /// Copies of each part; 0 for what the server says.
    pub replicas: u32,
    /// Copies that must have a point before it counts as stored; 0 for what the server says.
    pub write_consistency: u32,
    /// Whether articles are read from its disk, instead of held in its memory.
    pub on_disk_payload: bool,
}

/// How a knowledge base is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Articles embedded at once.
    pub batch: usize,
    /// What gets an embedding: `article`, `picture` or `section`.
    pub unit: String,
    /// Its text side: `title`, `title+summary`, `none` or a template.
    pub embed_text: String,
    /// Where a section's text is cut for its embedding, characters.
    pub text_chars: usize,
    /// Whether pictures are embedded.
    pub embed_image: bool,
    /// Headings of sections whose text is left out, as written. See [`Build::drop_sections`].
    pub drop_sections: String,
    /// Whether words are indexed too.
    pub words: bool,
    /// Shortened vectors: `none`, `int8` or `binary`.
    pub quantization: String,
    /// Links of a point in the search graph.
    pub hnsw_m: usize,
    /// Candidates looked at for them.
    pub hnsw_ef_construct: usize,
    /// Points of a graph, about; 0 for a single graph.
    pub graph: usize,
    /// Whether vectors stay on disk.
    pub on_disk: bool,
    /// Most malformed articles before the build stops; -1 as written for 1 % of them. See
    /// [`Build::max_malformed`].
    pub max_malformed: i64,
    /// Finished builds that are kept, the one in use included.
    pub keep: usize,
}

/// From candidates to passages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rag {
    /// Articles taken from the search.
    pub candidates: usize,
    /// How the entity is chosen: `auto`, `score` or `model`. See [`Rag::entity_by_model`].
    pub entity: String,
    /// Candidates whose names a model chooses from.
    pub names: usize,
    /// Articles whose sections compete for the prompt.
    pub entities: usize,
    /// Where the entity's name stands in place of what refers to the picture: `never`, `ranking` or `always`.
    pub name_entity: String,
    /// How sections are ranked: `bi-encoder`, `cross-encoder`, `retriever` or `none`.
    pub ranking: String,
    /// Sentence encoder of the ranking `bi-encoder`.
    pub ranker: ModelRef,
    /// BERT of the ranking `cross-encoder`.
    pub cross_encoder: ModelRef,
    /// Weight of the words that question and section share, beside the similarity of their embeddings.
    pub shared_words: f64,
    /// Weight of the search's own score beside the ranker's.
    pub retrieval_weight: f64,
    /// Most passages put before the reader; 0 as written for what suits its kind. See [`Rag::passages`].
    pub passages: usize,
    /// Most tokens of all passages together; 0 as written for what suits the reader's kind. See [`Rag::token_budget`].
    pub token_budget: usize,
    /// Least score of an article, a dot product in [-1, 1]; below it the answer is "not in the knowledge base".
    pub min_score: f64,
    /// Least lead of the best article over the next.
    pub min_margin: f64,
    /// Least score of the best section, in the ranker's measure.
    pub min_section: f64,
    /// How a question of a conversation is made one that stands alone: `rule` or `model`.
    pub follow_up: String,
    /// Seconds that encoding, searching and ranking may take, each.
    pub timeout_s: u64,
}

/// The prompts: shipped ones by name, or files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// Of an answer from passages.
    pub answer: ModelRef,
    /// Of an answer without any.
    pub no_retrieval: ModelRef,
    /// Of the choice of the entity.
    pub choose_entity: ModelRef,
    /// Of a question that needs no conversation.
    pub follow_up: ModelRef,
}

/// The reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// Model by name, or its directory.
    pub model: ModelRef,
    /// How its weights are held: `auto`, `f32`, `f16`, `bf16`, `q4k`, `q6k` or `q8_0`.
    pub format: String,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Most tokens of prompt and answer together; 0 for what the model takes.
    pub context: usize,
    /// Temperature at which tokens are drawn; 0 for the likeliest each time.
    pub temperature: f64,
    /// Seed of the drawing.
    pub seed: u64,
    /// Seconds that the first token may take.
    pub first_token_s: u64,
    /// Seconds that the rest of an answer may take.
    pub answer_s: u64,
    /// Whether the picture goes to the reader as well.
    pub sees_pictures: Tristate,
    /// Most MiB kept of earlier prompts, so that a common beginning is read once; 0 keeps nothing.
    pub prefix_cache_mb: usize,
}

/// What an evaluation asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Format of the questions: `evqa`, `infoseek`, `m2kr` or `mbeir`.
    pub dataset: String,
    /// The questions; empty where none are named.
    pub questions: PathBuf,
    /// InfoSeek: the types of the questions; may be empty.
    pub qtype: PathBuf,
    /// InfoSeek: the entities of the questions; may be empty.
    pub withkb: PathBuf,
    /// M-BEIR: which candidates are right; may be empty.
    pub qrels: PathBuf,
    /// Encyclopedic-VQA: `2_hop` questions, too.
    pub two_hop: bool,
    /// Folder of the pictures; may be empty.
    pub pictures: PathBuf,
    /// How they lie in it: `auto`, `path`, `flat`, `hashed`, `oven` or `md5`.
    pub picture_layout: String,
    /// File from id to path of pictures, asked before the layout; may be empty.
    pub picture_map: PathBuf,
    /// Where passages come from, with commas. See [`Eval::modes`].
    pub modes: String,
    /// Candidates of each search that are kept, for Recall@K.
    pub candidates: usize,
    /// Questions that are searched for at once.
    pub concurrency: usize,
    /// BEM, a BERT that says whether two answers are equivalent; `none` for exact match alone. See [`Eval::bem`].
    pub bem: ModelRef,
}

/// The terminal UI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tui {
    /// Colours: `auto`, `dark`, `light` or `mono`.
    pub theme: String,
    /// How pictures are shown: `auto`, `kitty`, `sixel`, `iterm2`, `halfblocks` or `off`.
    pub pictures: String,
    /// Whether the wheel of the mouse scrolls; text is then selected with shift held.
    pub mouse: bool,
    /// Keys other than the usual ones; see [`crate::tui::KeyMap::parse`].
    pub keys: String,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// File it is appended to; empty for stderr. See [`Log::file`].
    pub file: PathBuf,
}

impl Default for Retriever {
    fn default() -> Self {
        Self {
            config: ModelRef::parse("{starter}/ret2-starter.json"),
            weights: ModelRef::parse("{starter}/ret2-starter.safetensors"),
            text_weights: ModelRef::parse("all-MiniLM-L6-v2"),
            text_tokenizer: ModelRef::parse("all-MiniLM-L6-v2"),
            image_weights: ModelRef::parse("{starter}/efficientnet-lite0.safetensors"),
            instruction: "Retrieve documents that provide an answer to the question alongside the image:".into(),
            max_picture_bytes: 64 << 20,
            max_picture_pixels: 100_000_000,
            batch_size: 8,
            threads: 0,
            device: "auto".into(),
        }
    }
}

impl Default for Kb {
    fn default() -> Self {
        Self { name: "main".into(), top_k: 10, server: KbServer::default(), build: Build::default() }
    }
}

impl Default for Build {
    fn default() -> Self {
        Self {
            batch: 32,
            unit: "article".into(),
            embed_text: "title".into(),
            text_chars: 500,
            embed_image: true,
            drop_sections: String::new(),
            words: false,
            quantization: "none".into(),
            hnsw_m: 16,
            hnsw_ef_construct: 100,
            graph: 100_000,
            on_disk: false,
            max_malformed: -1,
            keep: 1,
        }
    }
}

impl Default for Rag {
    fn default() -> Self {
        Self {
            candidates: 10,
            entity: "auto".into(),
            names: 5,
            entities: 1,
            name_entity: "ranking".into(),
            ranking: "bi-encoder".into(),
            ranker: ModelRef::parse("all-MiniLM-L6-v2"),
            cross_encoder: ModelRef::parse("ms-marco-MiniLM-L6-v2"),
            shared_words: 0.2,
            retrieval_weight: 0.0,
            passages: 0,
            token_budget: 0,
            min_score: 0.0,
            min_margin: 0.0,
            min_section: -100.0,
            follow_up: "rule".into(),
            timeout_s: 120,
        }
    }
}

impl Rag {
    /// Whether the reader chooses the entity: as written, else if it sees the picture.
    #[must_use]
    pub fn entity_by_model(&self, sees_pictures: bool) -> bool {
        match self.entity.as_str() {
            "auto" => sees_pictures,
            method => method == "model",
        }
    }

    /// Most passages for a reader: as written, else 3 where it sees pictures and 1 where it is a small reader of text.
    #[must_use]
    pub fn passages(&self, sees_pictures: bool) -> usize {
        written_or(self.passages, if sees_pictures { 3 } else { 1 })
    }

    /// Most tokens of all passages for a reader: as written, else 1,200 where it sees pictures and
    /// [`Rag::LEAST_BUDGET`] where it is a reader of text.
    #[must_use]
    pub fn token_budget(&self, sees_pictures: bool) -> usize {
        written_or(self.token_budget, if sees_pictures { 1200 } else { Self::LEAST_BUDGET })
    }

    /// The smaller of the budgets that suit a reader.
    pub const LEAST_BUDGET: usize = 240;
}

/// A number that is written, where 0 stands for one that suits.
fn written_or(written: usize, suits: usize) -> usize {
    if written == 0 { suits } else { written }
}

impl Default for Prompts {
    fn default() -> Self {
        Self {
            answer: ModelRef::parse("answer"),
            no_retrieval: ModelRef::parse("no-retrieval"),
            choose_entity: ModelRef::parse("choose-entity"),
            follow_up: ModelRef::parse("follow-up"),
        }
    }
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            model: ModelRef::parse("SmolVLM-256M-Instruct"),
            format: "auto".into(),
            max_tokens: 128,
            context: 0,
            temperature: 0.0,
            seed: 0,
            first_token_s: 1800,
            answer_s: 1800,
            sees_pictures: Tristate::Auto,
            prefix_cache_mb: 512,
        }
    }
}

impl Default for Tui {
    fn default() -> Self {
        Self { theme: "auto".into(), pictures: "auto".into(), mouse: false, keys: String::new() }
    }
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            dataset: "evqa".into(),
            questions: PathBuf::new(),
            qtype: PathBuf::new(),
            withkb: PathBuf::new(),
            qrels: PathBuf::new(),
            two_hop: false,
            pictures: PathBuf::new(),
            picture_layout: "auto".into(),
            picture_map: PathBuf::new(),
            modes: "retrieved".into(),
            candidates: 50,
            concurrency: 4,
            bem: ModelRef::parse("none"),
        }
    }
}

impl Eval {
    /// Where passages come from, by name.
    pub fn modes(&self) -> impl Iterator<Item = &str> {
        self.modes.split(',').map(str::trim)
    }

    /// The model of BEM, if there is one.
    #[must_use]
    pub fn bem(&self) -> Option<&ModelRef> {
        Some(&self.bem).filter(|model| **model != ModelRef::parse("none"))
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "warn".into(), file: PathBuf::new() }
    }
}

impl Config {
    /// Directory of all models: `DATA_DIR/models`.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        self.paths.data_dir.join("models")
    }

    /// Directory of all knowledge bases: `DATA_DIR/kb`.
    #[must_use]
    pub fn kb_root(&self) -> PathBuf {
        self.paths.data_dir.join("kb")
    }

    /// Directory (or file) of a model: `DATA_DIR/models/NAME` for a name, a path as it is.
    #[must_use]
    pub fn model_path(&self, model: &ModelRef) -> PathBuf {
        match model {
            ModelRef::Name(name) => self.models_dir().join(name),
            ModelRef::Path(path) => path.clone(),
        }
    }

    /// One file of a model: `name` within it, unless the reference is a path with an extension that `name` has too:
    /// then it names the file itself.
    #[must_use]
    pub fn model_file(&self, model: &ModelRef, name: &str) -> PathBuf {
        let path = self.model_path(model);
        let is_file = matches!(model, ModelRef::Path(p) if p.extension() == Path::new(name).extension());
        if is_file { path } else { path.join(name) }
    }
}

impl Default for KbServer {
    fn default() -> Self {
        Self {
            url: String::new(),
            rest_url: String::new(),
            api_key_file: PathBuf::new(),
            timeout_s: 5,
            write_timeout_s: 120,
            shards: 0,
            replicas: 0,
            write_consistency: 0,
            on_disk_payload: true,
        }
    }
}

impl KbServer {
    /// File that holds the API key.
    #[must_use]
    pub fn api_key_file(&self) -> Option<&Path> {
        (!self.api_key_file.as_os_str().is_empty()).then_some(&*self.api_key_file)
    }
}

impl Build {
    /// Headings of sections whose text is left out.
    pub fn drop_sections(&self) -> impl Iterator<Item = &str> {
        self.drop_sections.split(',').map(str::trim).filter(|heading| !heading.is_empty())
    }

    /// Most malformed articles before a build stops; `None` for the builder's own share of them.
    #[must_use]
    pub fn max_malformed(&self) -> Option<u64> {
        u64::try_from(self.max_malformed).ok()
    }
}

impl Generator {
    /// Most tokens of prompt and answer together; `None` for what the model takes.
    #[must_use]
    pub fn context(&self) -> Option<usize> {
        (self.context > 0).then_some(self.context)
    }
}

impl Log {
    /// File of the log; `None` for stderr.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        (!self.file.as_os_str().is_empty()).then_some(&*self.file)
    }
}

/// A model, by the name it has in the catalogue and below [`Config::models_dir`], or by path; or a prompt, by the name of
/// a shipped one or by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelRef {
    /// A name.
    Name(String),
    /// A directory or file.
    Path(PathBuf),
}

impl ModelRef {
    /// Whatever holds a slash, begins with `.`, `~` or `{`, or ends with `.json`, `.safetensors`, `.gguf` or `.toml` is a
    /// path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let path = text.contains(['/', std::path::MAIN_SEPARATOR]) || text.starts_with(['.', '~', '{']);
        if path || [".json", ".safetensors", ".gguf", ".toml"].iter().any(|end| text.ends_with(end)) {
            Self::Path(text.into())
        } else {
            Self::Name(text.to_owned())
        }
    }
}

impl From<String> for ModelRef {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.to_string()
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Yes, no, or as the model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tristate {
    /// As the model says.
    Auto,
    /// Whatever the model says.
    Yes,
    /// Whatever the model says.
    No,
}

impl Tristate {
    /// The answer, where `auto` is the model's.
    #[must_use]
    pub fn or(self, auto: bool) -> bool {
        match self {
            Self::Auto => auto,
            Self::Yes => true,
            Self::No => false,
        }
    }
}
