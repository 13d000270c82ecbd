//! The generator over mistral.rs: a model from local files, on CPU or GPU, one request at a time.
//!
//! What the engine does badly is mended here: a path is checked before the engine may take it for a name on a hub
//! (`model_dir`); a panic while loading is an error; a stream that ends without a reason is an error; stop
//! strings are cut out of the stream (`stop`), which the engine leaves in; control tokens in a request are broken by
//! the tokenizer's own list. Requests queue (`engine`), since several at once changed each other's answers. What the
//! engine keeps of earlier prompts is bounded, since it never lets go of any of it on a CPU. Drawing with a seed, which
//! it does not know, and tokens that its code for pictures does not survive, are dealt with between the logits and the
//! token (`draw`).
//!
//! Its limits: a sequence's keys and values grow by 512 tokens, so a model whose context is no multiple of that is used
//! up to the multiple below.

mod build;
mod constraint;
mod draw;
mod engine;
#[cfg(test)]
mod forms_tests;
#[cfg(test)]
mod memory_tests;
mod picture;
mod stop;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tiny;
#[cfg(test)]
mod traps_tests;

use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use self::build::{Choice, Files};
use self::draw::Canonical;
pub(super) use self::draw::Ends;
use self::engine::{Engine, Kept, Out};
pub(super) use self::picture::Budget;
use super::model_dir::{self, ModelDir};
use super::{Chunk, Constraint, Generator, GeneratorError, GeneratorInfo, Request};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// f32 on CPU; what the engine thinks best elsewhere; a quantised file as it is.
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
    budget: Budget,
    /// To the one task that asks the engine.
    requests: mpsc::UnboundedSender<(Request, Out)>,
    #[cfg(test)]
    engine: Arc<Engine>,
}

/// Tokens that a chat template adds around two messages.
const TEMPLATE_TOKENS: usize = 16;

impl MistralGenerator {
    /// Loads the model at `path`: a directory as `transformers` writes it, with `*.safetensors` or else a `*.uqff` of
    /// the engine's own; a directory with one `*.gguf` and nothing else; or one such file. Must be called within a
    /// multi-threaded tokio runtime, which later answers need too.
    ///
    /// # Errors
    /// [`GeneratorError::Load`] for whatever is missing, corrupt or not supported, a panic of the engine included.
    pub async fn load(path: &Path, settings: MistralSettings) -> Result<Self, GeneratorError> {
        let runtime = tokio::runtime::Handle::current();
        let looked_at = path.to_owned();
        let look = tokio::task::spawn_blocking(move || ModelDir::open(&looked_at)).await;
        let mut found = look.unwrap_or_else(|e| Err(model_dir::load(path, e)))?;
        if found.model_type == "qwen2_vl" && settings.show_pictures {
            let reason = "the engine fails on pictures for Qwen2-VL; take Qwen2.5-VL or Qwen3-VL, or show it none \
                          (`generator.sees_pictures = \"no\"`)";
            return Err(model_dir::load(path, reason));
        }
        let settings = MistralSettings { prefix_cache: if found.sees { 0 } else { settings.prefix_cache }, ..settings };
        let choice = Choice::of(&found, settings).map_err(|reason| model_dir::load(path, reason))?;
        choice.log(&found);
        let format = choice.format.clone();
        let (files, inner) = (Files::of(&found), runtime.clone());
        // Loading blocks for seconds and panics on what it does not know: it gets a thread of its own.
        let build = tokio::task::spawn_blocking(move || inner.block_on(build::build(files, choice, settings)));
        let model = match build.await {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => return Err(model_dir::load(path, format!("{error:#}"))),
            Err(panic) => {
                return Err(model_dir::load(path, format!("the engine cannot load it ({})", panic_text(panic))));
            }
        };
        let limit = settings.context.map_or(found.context_length, |most| most.min(found.context_length));
        let canonical = found.sees && found.model_type.starts_with("qwen");
        let engine = Arc::new(Engine {
            model,
            parts: matches!(found.model_type.as_str(), "idefics2" | "idefics3" | "smolvlm"),
            budget: found.budget,
            canonical: canonical.then(|| Arc::new(Canonical::new(&found.tokenizer))),
            ends: found.ends.take(),
            #[cfg(test)]
            draws: std::sync::Mutex::default(),
            #[cfg(test)]
            bare: std::sync::atomic::AtomicBool::default(),
            _shadow: found.shadow.take(),
        });
        let (requests, queue) = mpsc::unbounded_channel();
        let kept = Kept { bytes: 0, limit: settings.prefix_cache, bytes_per_token: found.kv_bytes_per_token };
        runtime.spawn(Arc::clone(&engine).work(queue, kept));
        Ok(Self {
            info: GeneratorInfo {
                model: found.name.clone(),
                format,
                fingerprint: found.fingerprint.clone(),
                sees_pictures: found.sees && settings.show_pictures,
                context_length: limit,
            },
            tokenizer: found.tokenizer,
            specials: found.specials,
            budget: found.budget,
            requests,
            #[cfg(test)]
            engine,
        })
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

    fn picture_tokens(&self) -> usize {
        if self.info.sees_pictures { self.budget.tokens } else { 0 }
    }

    fn generate(&self, mut request: Request) -> mpsc::Receiver<Result<Chunk, GeneratorError>> {
        request.system = break_specials(&request.system, &self.specials);
        request.user = break_specials(&request.user, &self.specials);
        if !self.info.sees_pictures {
            request.image = None;
        }
        let examples: usize = request
            .examples
            .iter()
            .map(|t| self.count_tokens(&t.user) + self.count_tokens(&t.assistant) + TEMPLATE_TOKENS)
            .sum();
        let picture = if request.image.is_some() { self.picture_tokens() } else { 0 };
        let texts = self.count_tokens(&request.system) + examples + self.count_tokens(&request.user);
        let tokens = texts + picture + TEMPLATE_TOKENS;
        let limit = self.info.context_length;
        if tokens + request.max_tokens > limit {
            return super::failed(GeneratorError::TooLong { tokens, limit });
        }
        let (tx, rx) = mpsc::channel(room(&request));
        if self.requests.send((request, tx)).is_err() {
            return super::failed(GeneratorError::Engine("the runtime that it was loaded in has ended".into()));
        }
        rx
    }
}

/// Room for a whole answer: whoever asks twice and listens to the second answer first would otherwise wait for ever,
/// since the first one would wait for him.
fn room(request: &Request) -> usize {
    let text = match &request.constraint {
        Some(Constraint::OneOf(texts)) => texts.iter().map(String::len).max().unwrap_or(0),
        _ => 0,
    };
    request.max_tokens.max(text).saturating_add(8).min(tokio::sync::Semaphore::MAX_PERMITS)
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
