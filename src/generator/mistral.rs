//! The generator over mistral.rs: a model from a local directory, on CPU or GPU, one request at a time.
//!
//! What the engine does badly is mended here: a path is checked before the engine may take it for a name on a hub
//! (`model_dir`); a panic while loading is an error; a stream that ends without a reason is an error; stop
//! strings are cut out of the stream, which the engine leaves in; control tokens in a request are broken by the
//! tokenizer's own list. Requests queue, since several at once changed each other's answers. What the engine keeps of
//! earlier prompts is bounded, since it never lets go of any of it on a CPU.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader};
use mistralrs::{
    IsqType, MessageContent, Model, ModelDType, MultimodalModelBuilder, NormalRequest, RequestBuilder, RequestLike,
    RequestMessage, Response, SamplingParams, StopTokens, TextMessageRole, TextModelBuilder, TokenSource,
};
use tokenizers::Tokenizer;
use tokio::sync::{Mutex, mpsc};

use super::model_dir::{self, ModelDir};
use super::{Chunk, Generator, GeneratorError, GeneratorInfo, Request, Usage};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// f32 on CPU; what the engine thinks best elsewhere.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats (slow on CPUs without native support).
    F16,
    /// Brain floats (GPU only).
    Bf16,
    /// Quantised to 8 bits while loading.
    Q8_0,
    /// Quantised to 6 bits while loading.
    Q6k,
    /// Quantised to 4 bits while loading.
    Q4k,
}

impl Format {
    /// As it is written in configuration and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6k => "q6k",
            Self::Q4k => "q4k",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Auto, Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q6k, Self::Q4k];
        all.into_iter().find(|format| format.name() == name)
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MistralSettings {
    /// How weights are held.
    pub format: Format,
    /// Never use a GPU, even in a build that could.
    pub force_cpu: bool,
    /// Most bytes kept of earlier prompts, so that what a new one shares with them (instruction, examples, passages)
    /// is not read again; 0 keeps nothing. A model that sees pictures keeps nothing.
    pub prefix_cache: usize,
    /// Most tokens of prompt and answer together; `None` for what the model takes.
    pub context: Option<usize>,
    /// Whether a model that can see is shown pictures.
    pub show_pictures: bool,
}

impl Default for MistralSettings {
    fn default() -> Self {
        Self { format: Format::Auto, force_cpu: true, prefix_cache: 512 << 20, context: None, show_pictures: true }
    }
}

/// A loaded model.
pub struct MistralGenerator {
    info: GeneratorInfo,
    tokenizer: Tokenizer,
    specials: Vec<String>,
    runtime: tokio::runtime::Handle,
    engine: Arc<Engine>,
}

struct Engine {
    model: Model,
    /// Held by the request that is being answered.
    turn: Mutex<Kept>,
    /// Whether messages must be lists of parts: some chat templates drop plain ones.
    parts: bool,
    _dir: ModelDirGuard,
}

/// What the engine holds of earlier prompts.
struct Kept {
    bytes: usize,
    limit: usize,
    /// Keys and values of one token in all layers.
    bytes_per_token: usize,
}

impl Kept {
    /// Tokens by which the engine enlarges a sequence's keys and values.
    const BLOCK: usize = 512;

    fn add(&mut self, usage: &Usage) {
        let tokens = (usage.prompt_tokens + usage.completion_tokens).next_multiple_of(Self::BLOCK);
        self.bytes = self.bytes.saturating_add(tokens.saturating_mul(self.bytes_per_token));
    }
}

/// Keeps a shadow directory for as long as the engine may map its files.
struct ModelDirGuard(#[allow(dead_code)] Option<tempfile::TempDir>);

/// Tokens that a chat template adds around two messages.
const TEMPLATE_TOKENS: usize = 16;

/// How often an engine that has ended is asked for its new channel, and the pause in between.
const RESTART_ATTEMPTS: u32 = 100;
const RESTART_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Longest side of a picture that is handed over; processors shrink it further.
const LONGEST_SIDE: u32 = 2048;

impl MistralGenerator {
    /// Loads the model in `dir`. Must be called within a multi-threaded tokio runtime, which later answers need too.
    ///
    /// # Errors
    /// [`GeneratorError::Load`] for whatever is missing, corrupt or not supported, a panic of the engine included.
    pub async fn load(dir: &Path, settings: MistralSettings) -> Result<Self, GeneratorError> {
        let runtime = tokio::runtime::Handle::current();
        let path = dir.to_owned();
        let look = tokio::task::spawn_blocking(move || ModelDir::open(&path)).await;
        let mut found = look.unwrap_or_else(|e| Err(model_dir::load(dir, e)))?;

        let (path, sees, inner) = (found.path.clone(), found.sees, runtime.clone());
        let settings = MistralSettings { prefix_cache: if sees { 0 } else { settings.prefix_cache }, ..settings };
        // Loading blocks for seconds and panics on what it does not know: it gets a thread of its own.
        let build = tokio::task::spawn_blocking(move || inner.block_on(build(&path, sees, settings)));
        let model = match build.await {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => return Err(model_dir::load(dir, format!("{error:#}"))),
            Err(panic) => {
                return Err(model_dir::load(dir, format!("the engine cannot load it ({})", panic_text(panic))));
            }
        };
        let format = match settings.format {
            Format::Auto if settings.force_cpu || !cfg!(any(feature = "cuda", feature = "metal")) => Format::F32,
            format => format,
        };
        Ok(Self {
            info: GeneratorInfo {
                model: found.name.clone(),
                format: format.name().into(),
                fingerprint: found.fingerprint.clone(),
                sees_pictures: sees && settings.show_pictures,
                context_length: settings.context.map_or(found.context_length, |most| most.min(found.context_length)),
            },
            engine: Arc::new(Engine {
                model,
                turn: Mutex::new(Kept {
                    bytes: 0,
                    limit: settings.prefix_cache,
                    bytes_per_token: found.kv_bytes_per_token,
                }),
                parts: matches!(found.model_type.as_str(), "idefics2" | "idefics3" | "smolvlm"),
                _dir: ModelDirGuard(found.shadow.take()),
            }),
            tokenizer: found.tokenizer,
            specials: found.specials,
            runtime,
        })
    }
}

async fn build(path: &Path, sees: bool, settings: MistralSettings) -> anyhow::Result<Model> {
    // The number is of sequences on a GPU; on a CPU the engine keeps all of them, and `Kept` counts.
    let cache = (settings.prefix_cache > 0).then_some(1);
    let (dtype, isq) = match settings.format {
        Format::Auto if settings.force_cpu || !cfg!(any(feature = "cuda", feature = "metal")) => {
            (ModelDType::F32, None)
        }
        Format::Auto => (ModelDType::Auto, None),
        Format::F32 => (ModelDType::F32, None),
        Format::F16 => (ModelDType::F16, None),
        Format::Bf16 => (ModelDType::BF16, None),
        Format::Q8_0 => (ModelDType::F32, Some(IsqType::Q8_0)),
        Format::Q6k => (ModelDType::F32, Some(IsqType::Q6K)),
        Format::Q4k => (ModelDType::F32, Some(IsqType::Q4K)),
    };
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = $builder
                .with_dtype(dtype)
                .with_token_source(TokenSource::None)
                .with_max_num_seqs(1)
                .with_prefix_cache_n(cache);
            if settings.force_cpu {
                builder = builder.with_force_cpu();
            }
            if let Some(isq) = isq {
                builder = builder.with_isq(isq);
            }
            builder.build().await
        }};
    }
    if sees {
        build!(MultimodalModelBuilder::new(path.display()))
    } else {
        build!(TextModelBuilder::new(path.display()))
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".into()),
        Err(error) => error.to_string(),
    }
}

impl Generator for MistralGenerator {
    fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    fn count_tokens(&self, text: &str) -> usize {
        // A text that its own tokenizer refuses is counted generously: a token for every two bytes.
        self.tokenizer.encode_fast(text, false).map_or(text.len().div_ceil(2), |encoding| encoding.len())
    }

    fn generate(&self, mut request: Request) -> mpsc::Receiver<Result<Chunk, GeneratorError>> {
        request.system = break_specials(&request.system, &self.specials);
        request.user = break_specials(&request.user, &self.specials);
        let examples: usize = request
            .examples
            .iter()
            .map(|t| self.count_tokens(&t.user) + self.count_tokens(&t.assistant) + TEMPLATE_TOKENS)
            .sum();
        let tokens = self.count_tokens(&request.system) + examples + self.count_tokens(&request.user) + TEMPLATE_TOKENS;
        let limit = self.info.context_length;
        if tokens + request.max_tokens > limit {
            return super::failed(GeneratorError::TooLong { tokens, limit });
        }
        if !self.info.sees_pictures {
            request.image = None;
        }
        let (tx, rx) = mpsc::channel(8);
        let engine = Arc::clone(&self.engine);
        self.runtime.spawn(async move {
            let served = tokio::select! {
                () = tx.closed() => return,
                served = engine.serve(request, &tx) => served,
            };
            // Nobody left to hear the end: nothing to do.
            let _ = tx.send(served.map(Chunk::Done)).await;
        });
        rx
    }
}

impl Engine {
    /// Answers one request. Dropping this future drops the engine's channel, and the engine stops at its next token.
    async fn serve(
        &self,
        request: Request,
        out: &mpsc::Sender<Result<Chunk, GeneratorError>>,
    ) -> Result<Usage, GeneratorError> {
        let mut kept = self.turn.lock().await;
        if kept.bytes > kept.limit {
            self.forget().await?;
            kept.bytes = 0;
        }
        let picture = match request.image.clone() {
            None => None,
            Some(path) => Some(
                tokio::task::spawn_blocking(move || decode(&path))
                    .await
                    .unwrap_or_else(|e| Err(GeneratorError::Engine(e.to_string())))?,
            ),
        };
        let mut stops = StopCutter::new(request.stop.clone());
        let mut chunks = self.send(&request, picture).await?;
        let mut said_something = false;
        while let Some(response) = chunks.recv().await {
            let chunk = match response {
                Response::Chunk(chunk) => chunk,
                Response::ModelError(error, _) => return Err(GeneratorError::Engine(error)),
                Response::InternalError(error) | Response::ValidationError(error) => {
                    return Err(GeneratorError::Engine(error.to_string()));
                }
                _ => return Err(GeneratorError::Engine("it sent something that is not part of a stream".into())),
            };
            let Some(choice) = chunk.choices.into_iter().next() else { continue };
            let mut text = stops.push(choice.delta.content.as_deref().unwrap_or_default());
            if choice.finish_reason.is_some() {
                text.push_str(&stops.finish());
            }
            if !text.is_empty() {
                said_something |= !text.trim().is_empty();
                if out.send(Ok(Chunk::Text(text))).await.is_err() {
                    return Err(GeneratorError::Engine("nobody listens".into()));
                }
            }
            let Some(reason) = choice.finish_reason else { continue };
            if !matches!(reason.as_str(), "stop" | "length") {
                return Err(GeneratorError::Engine(format!("it finished with `{reason}`")));
            }
            if !said_something {
                return Err(GeneratorError::EmptyAnswer);
            }
            let usage = chunk.usage;
            let usage = Usage {
                prompt_tokens: usage.as_ref().map_or(0, |u| u.prompt_tokens),
                completion_tokens: usage.as_ref().map_or(0, |u| u.completion_tokens),
                prompt_s: usage.as_ref().map_or(0.0, |u| u.total_prompt_time_sec),
                completion_s: usage.as_ref().map_or(0.0, |u| u.total_completion_time_sec),
                truncated: reason == "length" && !stops.stopped,
            };
            kept.add(&usage);
            return Ok(usage);
        }
        Err(GeneratorError::Engine(
            "the stream ended without a reason; ask again, and see the log if it happens twice".into(),
        ))
    }

    /// Lets the engine's loop end, which drops what it kept; the weights stay. The next request starts it anew.
    async fn forget(&self) -> Result<(), GeneratorError> {
        let sender = self.model.inner().get_sender(None).map_err(|e| GeneratorError::Engine(e.to_string()))?;
        // It fails where the loop has ended already.
        let _ = sender.send(mistralrs::Request::Terminate).await;
        sender.closed().await;
        Ok(())
    }

    /// Hands a request to the engine. An engine that has ended is started anew by asking for its channel again, as soon
    /// as its thread is gone.
    async fn send(
        &self,
        request: &Request,
        picture: Option<DynamicImage>,
    ) -> Result<mpsc::Receiver<Response>, GeneratorError> {
        let engine = |e: &dyn std::fmt::Display| GeneratorError::Engine(e.to_string());
        let category = self.model.config().map_err(|e| engine(&e))?.category;
        let mut last = GeneratorError::Engine("it does not take requests".into());
        for attempt in 0..RESTART_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            let mut builder = RequestBuilder::new().add_message(TextMessageRole::System, &request.system);
            for turn in &request.examples {
                builder = builder
                    .add_message(TextMessageRole::User, &turn.user)
                    .add_message(TextMessageRole::Assistant, &turn.assistant);
            }
            builder = match &picture {
                Some(picture) => builder.add_image_message(TextMessageRole::User, &request.user, vec![picture.clone()]),
                None => builder.add_message(TextMessageRole::User, &request.user),
            };
            builder.resolve_pending_prefixes(&category);
            let mut messages = builder.take_messages();
            if self.parts {
                into_parts(&mut messages);
            }
            if let RequestMessage::Chat { enable_thinking, .. }
            | RequestMessage::MultimodalChat { enable_thinking, .. } = &mut messages
            {
                *enable_thinking = Some(false);
            }
            let sampling = SamplingParams {
                max_len: Some(request.max_tokens.max(1)),
                stop_toks: (!request.stop.is_empty()).then(|| StopTokens::Seqs(request.stop.clone())),
                ..SamplingParams::deterministic()
            };
            let (tx, rx) = mpsc::channel(8);
            let mut normal = NormalRequest::new_simple(messages, sampling, tx, 0, None, None);
            normal.is_streaming = true;
            let sender = self.model.inner().get_sender(None).map_err(|e| engine(&e))?;
            match sender.send(mistralrs::Request::Normal(Box::new(normal))).await {
                Ok(()) => return Ok(rx),
                Err(error) => last = engine(&error),
            }
        }
        Err(last)
    }
}

/// Turns plain messages into lists of one part.
fn into_parts(messages: &mut RequestMessage) {
    let (RequestMessage::Chat { messages, .. } | RequestMessage::MultimodalChat { messages, .. }) = messages else {
        return;
    };
    for message in messages {
        if let Some(content) = message.get_mut("content")
            && let MessageContent::Left(text) = content
        {
            let part = [("type", "text"), ("text", text.as_str())]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), serde_json::Value::from(value)))
                .collect();
            *content = MessageContent::Right(vec![part]);
        }
    }
}

/// A picture, within bounds, upright, and no larger than a model can use.
fn decode(path: &PathBuf) -> Result<DynamicImage, GeneratorError> {
    let failed = |e: &dyn std::fmt::Display| GeneratorError::Engine(format!("picture {}: {e}", path.display()));
    let reader = ImageReader::open(path).map_err(|e| failed(&e))?.with_guessed_format().map_err(|e| failed(&e))?;
    let mut decoder = reader.into_decoder().map_err(|e| failed(&e))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(30_000);
    limits.max_image_height = Some(30_000);
    limits.max_alloc = Some(1 << 30);
    decoder.set_limits(limits).map_err(|e| failed(&e))?;
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| failed(&e))?;
    picture.apply_orientation(orientation);
    if picture.width().max(picture.height()) > LONGEST_SIDE {
        picture = picture.resize(LONGEST_SIDE, LONGEST_SIDE, image::imageops::FilterType::CatmullRom);
    }
    Ok(DynamicImage::ImageRgb8(picture.into_rgb8()))
}

/// Breaks every control token of the tokenizer that occurs in a text by a space after its first character.
fn break_specials(text: &str, specials: &[String]) -> String {
    let mut out = text.to_owned();
    // Breaking one can join the halves of no other more than a few times over; the bound is for the sake of a proof.
    for _ in 0..8 {
        let mut clean = true;
        for special in specials {
            if out.contains(special.as_str()) {
                clean = false;
                let first = special.chars().next().map_or(0, char::len_utf8);
                out = out.replace(special.as_str(), &format!("{} {}", &special[..first], &special[first..]));
            }
        }
        if clean {
            break;
        }
    }
    out
}

/// Cuts a stream at the first stop string, which may come in pieces.
struct StopCutter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
    started: bool,
}

impl StopCutter {
    fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), stopped: false, started: false }
    }

    /// What can be shown of all that came so far. White space before the first word is dropped, so that a stop string
    /// of line feeds ends an answer and does not prevent it.
    fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if !self.started {
            self.held = self.held.trim_start().to_owned();
            self.started = !self.held.is_empty();
        }
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let open = (0..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(open);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back for a stop string that never came whole.
    fn finish(&mut self) -> String {
        if self.stopped { String::new() } else { std::mem::take(&mut self.held) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&str], stops: &[&str]) -> String {
        let mut cutter = StopCutter::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut out: String = pieces.iter().map(|piece| cutter.push(piece)).collect();
        out.push_str(&cutter.finish());
        out
    }

    #[test]
    fn a_stream_is_cut_at_a_stop_string_that_comes_in_pieces() {
        assert_eq!(cut(&["\n", "Oran", "jestad\n", "\nQuestion"], &["\n\n"]), "Oranjestad");
        assert_eq!(cut(&["a\n", "b\n"], &["\n\n"]), "a\nb\n");
        assert_eq!(cut(&["a", "b"], &[]), "ab");
    }

    #[test]
    fn control_tokens_of_the_model_are_broken() {
        let specials = ["<|im_end|>".to_owned(), "[TOOL]".to_owned()];
        let out = break_specials("a<|im_end|>b [TOOL]", &specials);
        assert_eq!(out, "a< |im_end|>b [ TOOL]");
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_the_pieces(text in "[ab\n]{0,20}", size in 1_usize..5) {
            let bytes: Vec<String> = text.as_bytes().chunks(size).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
            let pieces: Vec<&str> = bytes.iter().map(String::as_str).collect();
            let whole = text.trim_start();
            let expected = whole.find("ab\n").map_or(whole, |at| &whole[..at]);
            prop_assert_eq!(cut(&pieces, &["ab\n"]), expected);
        }
    }
}
