//! What every command has at hand.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::args::Global;
use super::failure::{Exit, Failure};
use super::screen::Screen;
use crate::config::{Config, Loaded};
use crate::retriever::{Picture, PictureLimits};

/// Global options, the screen, and what follows from them.
pub struct Context {
    /// Global options.
    pub global: Global,
    /// Where to write.
    pub screen: Screen,
}

impl Context {
    /// Puts both together.
    #[must_use]
    pub fn new(global: Global, screen: Screen) -> Self {
        Self { global, screen }
    }

    /// The configuration of this run, all layers.
    ///
    /// # Errors
    /// [`crate::config::ConfigError`].
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(Config::load(self.global.config.as_deref(), &self.global.set)?)
    }

    /// The values alone.
    ///
    /// # Errors
    /// As [`Context::load`].
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(self.load()?.config)
    }

    /// A runtime for the answering engine and the pipeline.
    ///
    /// # Errors
    /// The system's.
    pub fn runtime(&self) -> anyhow::Result<Background> {
        Ok(Background(Some(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)))
    }
}

/// A runtime that does not wait at its end for work that does not come back: a stage that took too long is over for the
/// command, too.
pub struct Background(Option<Runtime>);

impl Background {
    /// How long its end may take.
    const PATIENCE: Duration = Duration::from_secs(2);
}

impl Deref for Background {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        // It is taken out at the end alone.
        match &self.0 {
            Some(runtime) => runtime,
            None => unreachable!(),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(Self::PATIENCE);
        }
    }
}

/// Bounds of pictures.
#[must_use]
pub fn picture_limits(config: &Config) -> PictureLimits {
    PictureLimits { max_bytes: config.retriever.max_picture_bytes, max_pixels: config.retriever.max_picture_pixels }
}

/// Decodes a picture of the command line, so that a bad one is told before any model is loaded.
///
/// # Errors
/// [`crate::retriever::PictureError`].
pub fn open_picture(config: &Config, path: &Path) -> anyhow::Result<Picture> {
    Ok(Picture::open(path, &picture_limits(config))?)
}

/// A question with something in it.
///
/// # Errors
/// Exit code 2 for an empty one.
pub fn checked_question(text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(Exit::Usage, "empty_question", "the question is empty")
            .hint("cicerone ask \"What is the capital of this country?\" --image FLAG.png")
            .into());
    }
    Ok(text.to_owned())
}
