//! From the files of a model to a running engine.

use mistralrs::{
    GgufModelBuilder, IsqType, Model, ModelDType, MultimodalModelBuilder, TextModelBuilder, TokenSource,
    UqffMultimodalModelBuilder, UqffTextModelBuilder,
};

use super::{Format, MistralSettings};
use crate::generator::model_dir::{ModelDir, Weights};

/// How a model is going to be held, and why so.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// As [`crate::generator::GeneratorInfo::format`] has it.
    pub(super) format: String,
    device: &'static str,
    dtype: ModelDType,
    isq: Option<IsqType>,
    why: &'static str,
}

impl Choice {
    /// # Errors
    /// A format was asked for that the files cannot be turned into.
    pub(super) fn of(found: &ModelDir, settings: MistralSettings) -> Result<Self, String> {
        let gpu = !settings.force_cpu && cfg!(any(feature = "cuda", feature = "metal"));
        let device = if gpu { "gpu, where one is found" } else { "cpu" };
        let plain = if gpu { ModelDType::Auto } else { ModelDType::F32 };
        let own = |format: &str, why| Self { format: format.to_owned(), device, dtype: plain, isq: None, why };
        match (&found.weights, settings.format) {
            (Weights::Gguf { format, .. }, Format::Auto) => return Ok(own(format, "a GGUF file is taken as it is")),
            (Weights::Uqff { .. }, Format::Auto) => return Ok(own("uqff", "a UQFF file is taken as it is")),
            (Weights::Safetensors, _) => {}
            (_, asked) => {
                return Err(format!(
                    "a file that is quantised already cannot be held as {}; ask for the format `auto`",
                    asked.name()
                ));
            }
        }
        let quantised = |isq| (ModelDType::F32, Some(isq), "it was asked for; quantised while loading");
        let (dtype, isq, why) = match settings.format {
            Format::Auto if gpu => (ModelDType::Auto, None, "what the engine thinks best on this device"),
            Format::Auto => (ModelDType::F32, None, "16-bit floats are several times slower on a CPU, or fail"),
            Format::F32 => (ModelDType::F32, None, "it was asked for"),
            Format::F16 => (ModelDType::F16, None, "it was asked for"),
            Format::Bf16 => (ModelDType::BF16, None, "it was asked for"),
            Format::Q8_0 => quantised(IsqType::Q8_0),
            Format::Q6k => quantised(IsqType::Q6K),
            Format::Q4k => quantised(IsqType::Q4K),
        };
        let format = if settings.format == Format::Auto && !gpu { Format::F32 } else { settings.format };
        Ok(Self { format: format.name().to_owned(), device, dtype, isq, why })
    }

    /// Says what was chosen.
    pub(super) fn log(&self, found: &ModelDir) {
        tracing::info!(
            model = %found.name,
            device = self.device,
            dtype = ?self.dtype,
            format = %self.format,
            why = self.why,
            "loading the reader"
        );
    }
}

/// Blocks for as long as the files are read, and panics on what the engine does not know.
///
/// # Errors
/// The engine's own.
pub(super) async fn build(found: Files, choice: Choice, settings: MistralSettings) -> anyhow::Result<Model> {
    // The number is of sequences on a GPU; on a CPU the engine keeps all of them, and `Kept` counts.
    let cache = (settings.prefix_cache > 0).then_some(1);
    macro_rules! common {
        ($builder:expr) => {{
            let mut builder =
                $builder.with_token_source(TokenSource::None).with_max_num_seqs(1).with_prefix_cache_n(cache);
            if settings.force_cpu {
                builder = builder.with_force_cpu();
            }
            builder
        }};
    }
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = common!($builder).with_dtype(choice.dtype);
            if let Some(isq) = choice.isq {
                builder = builder.with_isq(isq);
            }
            builder.build().await
        }};
    }
    let Files { path, weights, sees, tokenizer } = found;
    let dir = path.display();
    match (weights, sees) {
        (Weights::Gguf { file, .. }, _) => {
            let builder = GgufModelBuilder::new(dir, vec![file]);
            match tokenizer {
                Some(tokenizer) => common!(builder.with_tok_model_id(tokenizer.display())).build().await,
                None => common!(builder).build().await,
            }
        }
        (Weights::Uqff { file }, true) => {
            build!(UqffMultimodalModelBuilder::new(dir, vec![file.into()]).into_inner())
        }
        (Weights::Uqff { file }, false) => build!(UqffTextModelBuilder::new(dir, vec![file.into()]).into_inner()),
        (Weights::Safetensors, true) => build!(MultimodalModelBuilder::new(dir)),
        (Weights::Safetensors, false) => build!(TextModelBuilder::new(dir)),
    }
}

/// What of a model's files the engine is told.
pub(super) struct Files {
    path: std::path::PathBuf,
    weights: Weights,
    sees: bool,
    /// Directory with the tokenizer, where it is not the one with the weights.
    tokenizer: Option<std::path::PathBuf>,
}

impl Files {
    pub(super) fn of(found: &ModelDir) -> Self {
        let beside = matches!(found.weights, Weights::Gguf { .. });
        Self {
            path: found.path.clone(),
            weights: found.weights.clone(),
            sees: found.sees,
            tokenizer: found.shadow.as_ref().filter(|_| beside).map(|shadow| shadow.path().to_owned()),
        }
    }
}
