//! One validated configuration out of four layers, each over the one before it:
//!
//! | layer | written as |
//! | --- | --- |
//! | defaults | [`Config::default`], the same as `configs/default.toml` |
//! | file | `-c FILE`, else `$XDG_CONFIG_HOME/cicerone/config.toml` where there is one |
//! | environment | `CICERONE_RAG__PASSAGES=2`: two underscores for each dot |
//! | flags | `--set rag.passages=2` |
//!
//! What [`Config::load`] returns holds no surprise: every value is of its type and within its range, every path is
//! absolute, and [`Loaded::origins`] says where each value came from. Whatever is wrong is reported at once, each
//! problem with its file and line, what was found, what was expected, and the nearest key where one was mistyped.

mod error;
mod keys;
mod layers;
mod place;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::{ConfigError, Problem};
pub use keys::{KEYS, Key, Kind};
pub use layers::Origin;
pub use place::{Surroundings, starter_dir};
pub use settings::{Build, Config, Eval, Generator, Kb, Log, ModelRef, Paths, Prompts, Rag, Retriever, Tristate, Tui};

/// The commented defaults, as shipped.
pub const DEFAULT_TOML: &str = include_str!("../../configs/default.toml");

/// The starter's configuration, as shipped. Load it with [`Config::load_starter`].
pub const STARTER_TOML: &str = include_str!("../../configs/starter.toml");

/// A configuration, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values, validated, paths absolute.
    pub config: Config,
    /// The file that was read; `None` where there was none, and for the built-in starter.
    pub file: Option<PathBuf>,
    /// Where each value came from, by dotted key.
    pub origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Reads all layers of this process.
    ///
    /// # Arguments
    /// `file` is `-c FILE` (it must exist), `sets` the `key=value` of every `--set`, the last one winning.
    ///
    /// # Errors
    /// [`ConfigError`]: a file that cannot be read, or every problem of every layer.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Loaded, ConfigError> {
        Self::load_in(&Surroundings::of_process()?, file, sets)
    }

    /// As [`Config::load`], with the starter's configuration ([`STARTER_TOML`]) in place of the file of the user.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn load_starter(sets: &[String]) -> Result<Loaded, ConfigError> {
        let around = Surroundings::of_process()?;
        let name = Path::new("starter.toml (built in)");
        layers::load(&around, Some(layers::File { name, base: &around.cwd, text: STARTER_TOML }), sets)
    }

    /// As [`Config::load`], in surroundings that are given.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn load_in(around: &Surroundings, file: Option<&Path>, sets: &[String]) -> Result<Loaded, ConfigError> {
        let file = file.map(|f| around.absolute(f)).or_else(|| around.config_file().filter(|f| f.is_file()));
        let Some(path) = file else { return layers::load(around, None, sets) };
        let text = layers::read(&path)?;
        let base = path.parent().unwrap_or(&around.cwd);
        let mut loaded = layers::load(around, Some(layers::File { name: &path, base, text: &text }), sets)?;
        loaded.file = Some(path);
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests;
