//! `cicerone` without a command, and `cicerone demo` on a terminal: the terminal UI over what is configured.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::CommandFactory;
use ratatui_image::FontSize;
use ratatui_image::picker::{Picker, ProtocolType};
use tokio::runtime::Handle;

use super::args::{Cli, Global, ThumbnailChoice};
use super::context::{Context, picture_limits};
use super::failure::{Exit, Failure};
use super::interrupt;
use super::screen::Screen;
use super::stats::memory;
use super::thumbnails::brush_here;
use super::thumbnails::drawing::{Brush, Depth, indexed};
use crate::config::{Config, ModelRef};
use crate::generator::Generator;
use crate::kb;
use crate::models::{Kind, Models, State};
use crate::rag::engines::{self, Engines};
use crate::retriever::Retriever;
use crate::text::bytes;
use crate::tui::{self, About, Choice, Choices, Ended, KeyMap, Means, Named, Opened, Theme, Told, Ui};

/// Size of a cell that is taken for one where a protocol is forced and the terminal does not tell, pixels.
const CELL: FontSize = FontSize::new(8, 16);

/// What there is to begin with.
#[derive(Default)]
pub struct Beginning {
    /// What an empty session says.
    pub welcome: String,
    /// A picture to try.
    pub example: Option<PathBuf>,
    /// A picture to look at.
    pub picture: Option<PathBuf>,
    /// See [`Ui::panic`].
    pub panic: bool,
}

/// Whether there is a terminal to draw on and to read keys from.
#[must_use]
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Runs `cicerone` without a command.
pub fn run(context: &Context) -> anyhow::Result<Exit> {
    if !is_possible() {
        context.screen.err(Cli::command().render_help());
        return Ok(Exit::Usage);
    }
    let config = context.config()?;
    let mut generate = cfg!(feature = "mistral");
    let mut welcome = String::new();
    if let Err(error) = engines::check_files(&config, generate) {
        // Sources can be read without a reader; anything else must be there.
        engines::check_files(&config, false)?;
        let Told { message, hint } = told(error);
        let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
        (generate, welcome) = (false, format!("Passages only: {message}{hint}"));
    }
    let runtime = context.runtime()?;
    let engines = Configured::new(config.clone(), None, generate, runtime.handle());
    open(&config, runtime.handle(), engines, Beginning { welcome, ..Beginning::default() })
}

/// What answers, by a configuration.
pub struct Configured {
    config: Config,
    generate: bool,
    handle: Handle,
    last: Mutex<Last>,
}

/// What was opened last: it is not loaded again where it is chosen again.
#[derive(Default)]
struct Last {
    retriever: Option<Retriever>,
    /// The knowledge base by name, and the pipeline over it.
    kb: Option<(String, Engines)>,
    reader: Option<(ModelRef, Arc<dyn Generator>)>,
}

impl Configured {
    /// What `config` says, with a retriever that runs already or one that is started.
    #[must_use]
    pub fn new(config: Config, retriever: Option<Retriever>, generate: bool, handle: &Handle) -> Arc<Self> {
        let last = Mutex::new(Last { retriever, ..Last::default() });
        Arc::new(Self { config, generate, handle: handle.clone(), last })
    }
}

impl tui::Engines for Configured {
    fn open(&self, choice: &Choice, tell: &dyn Fn(String) -> bool) -> Result<Opened, Told> {
        let at = |what: String| if tell(what) { Ok(()) } else { Err(Told::new("something else was chosen meanwhile")) };
        let mut config = self.config.clone();
        if let Some(kb) = &choice.kb {
            config.kb.name.clone_from(kb);
        }
        if let Some(reader) = &choice.reader {
            config.generator.model = ModelRef::parse(reader);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let retriever = match &last.retriever {
            Some(retriever) => retriever.clone(),
            None => {
                at("loading the retriever".to_owned())?;
                last.retriever.insert(engines::start_retriever(&config).map_err(told)?).clone()
            }
        };
        if last.kb.as_ref().is_none_or(|(name, _)| *name != config.kb.name) {
            at(format!("opening {}", config.kb.name))?;
            last.kb = None;
            let engines = engines::open(&config, retriever, false, &self.handle).map_err(told)?;
            last.kb = Some((config.kb.name.clone(), engines));
        }
        if self.generate && last.reader.as_ref().is_none_or(|(name, _)| *name != config.generator.model) {
            at(format!("loading {}", config.generator.model))?;
            // The one before makes room first.
            last.reader = None;
            let reader = self.handle.block_on(engines::open_reader(&config)).map_err(told)?;
            last.reader = Some((config.generator.model.clone(), reader));
        }
        let reader = last.reader.as_ref().map(|(_, reader)| Arc::clone(reader));
        let Some((_, Engines { kb, pipeline, .. })) = &last.kb else { return Err(Told::new("nothing is open")) };
        let info = reader.as_ref().map(|reader| reader.info().clone());
        let sees_pictures = info.as_ref().is_some_and(|info| info.sees_pictures);
        let about = About {
            kb: config.kb.name.clone(),
            articles: kb.manifest().counts.articles,
            reader: info.map(|info| info.model),
            sees_pictures,
            pictures: kb.manifest().pictures.root.clone(),
        };
        let pipeline = pipeline.with_generator(reader).with_settings(engines::settings(&config, sees_pictures));
        Ok(Opened { pipeline, about })
    }

    fn choices(&self) -> Result<Choices, Told> {
        let home = engines::kb_home(&self.config).map_err(told)?;
        let base = |status: kb::Status| {
            let articles = status.manifest?.counts.articles;
            let what = status.damage.unwrap_or_else(|| format!("{articles} articles, {}", bytes(status.bytes)));
            Some(Named { name: status.name, what })
        };
        let bases = kb::list(home).map_err(told)?.into_iter().filter_map(base).collect();
        let models = Models::open(&self.config.models_dir(), None).map_err(told)?;
        let here =
            models.list().into_iter().filter(|model| model.state == State::Present && model.kind == Kind::Reader);
        let readers =
            here.map(|model| Named { what: format!("{}, {}", model.title, bytes(model.bytes)), name: model.name });
        let readers = if self.generate { readers.collect() } else { Vec::new() };
        Ok(Choices { bases, readers, memory: memory() })
    }
}

/// Opens the terminal UI over what `engines` opens, until it is left.
///
/// # Errors
/// The terminal's, or a log that cannot be written.
pub fn open(config: &Config, handle: &Handle, engines: Arc<Configured>, beginning: Beginning) -> anyhow::Result<Exit> {
    let Beginning { welcome, example, picture, panic } = beginning;
    let folder = &config.paths.data_dir;
    fs_err::create_dir_all(folder)?;
    let keys =
        KeyMap::parse(&config.tui.keys).map_err(|e| Failure::new(Exit::Usage, "config", format!("tui.keys: {e}")))?;
    let ui = Ui {
        keys,
        theme: theme(config),
        means: means(&config.tui.pictures)?,
        mouse: config.tui.mouse,
        limits: picture_limits(config),
        sessions: folder.join("sessions"),
        log: log(config),
        welcome,
        example,
        picture,
        engines,
        panic,
    };
    // A Ctrl-C from elsewhere comes as a signal, and ends it in good order.
    let _guard = interrupt::guard();
    Ok(match tui::run(ui, handle)? {
        Ended::Quit => Exit::Done,
        Ended::Terminated => Exit::Interrupted,
    })
}

/// Shows progress on the whole screen from now on.
///
/// # Errors
/// Exit code 2 where there is none.
pub fn go_live(global: &Global, screen: &mut Screen, title: &str) -> anyhow::Result<()> {
    if !is_possible() {
        return Err(Failure::new(Exit::Usage, "usage", "--live needs a terminal")
            .hint("without it, progress is told line by line")
            .into());
    }
    let config = Config::load(global.config.as_deref(), &global.set)?.config;
    fs_err::create_dir_all(&config.paths.data_dir)?;
    Ok(screen.go_live(title, &log(&config), theme(&config))?)
}

/// Colours, as configured.
fn theme(config: &Config) -> Theme {
    // The configuration allows no other names but "auto".
    config.tui.theme.parse().unwrap_or_else(|_| Theme::here())
}

/// File that the terminal UI logs to.
#[must_use]
pub fn log(config: &Config) -> PathBuf {
    config.log.file().map_or_else(|| config.paths.data_dir.join("cicerone.log"), std::borrow::ToOwned::to_owned)
}

/// A failure as the terminal UI tells it.
fn told(error: impl Into<anyhow::Error>) -> Told {
    let failure = Failure::of(&error.into());
    Told { message: failure.message, hint: failure.hint }
}

/// How pictures are shown, as configured.
fn means(pictures: &str) -> anyhow::Result<Option<Means>> {
    let forced = |protocol| -> anyhow::Result<Option<Brush>> {
        let mut picker = match brush_here(ThumbnailChoice::Always)? {
            Some(Brush::Pixels(picker)) => picker,
            #[allow(deprecated)]
            _ => Picker::from_fontsize(CELL),
        };
        picker.set_protocol_type(protocol);
        Ok(Some(Brush::Pixels(picker)))
    };
    let brush = match pictures {
        "off" => None,
        "kitty" => forced(ProtocolType::Kitty)?,
        "sixel" => forced(ProtocolType::Sixel)?,
        "iterm2" => forced(ProtocolType::Iterm2)?,
        "halfblocks" => Some(Brush::HalfBlocks(Depth::True)),
        _ => brush_here(ThumbnailChoice::Auto)?,
    };
    Ok(brush.map(|brush| {
        let colour = matches!(brush, Brush::HalfBlocks(Depth::Indexed)).then_some(indexed as fn(_) -> _);
        Means { paint: Box::new(move |picture, size| brush.encode(picture, size)), colour }
    }))
}
