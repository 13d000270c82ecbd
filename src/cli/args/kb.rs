//! Options of `cicerone kb`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::io::pictures::Layout;

/// `cicerone kb`
#[derive(Debug, Args)]
pub struct KbArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KbCommand,
}

/// `cicerone kb …`
#[derive(Debug, Subcommand)]
pub enum KbCommand {
    /// Build a knowledge base, or go on with a build that was cut off
    Build(KbBuildArgs),
    /// Say what a knowledge base is made of
    Status(KbStatusArgs),
    /// List all knowledge bases
    List(KbListArgs),
    /// Search by text, picture or both
    Search(KbSearchArgs),
    /// Read all of a knowledge base, and embed some of it again
    Verify(KbVerifyArgs),
    /// Put another finished build in use
    Use(KbUseArgs),
    /// Remove a knowledge base, or one of its builds
    Drop(KbDropArgs),
    /// Write articles and embeddings out, to build from elsewhere
    Export(KbExportArgs),
    /// Bring a knowledge base from the server here, with its index
    Pull(KbPullArgs),
}

impl KbCommand {
    pub(super) fn wants_json(&self) -> bool {
        match self {
            Self::Build(a) => a.json,
            Self::Status(a) => a.json,
            Self::List(a) => a.json,
            Self::Search(a) => a.json,
            Self::Verify(a) => a.json,
            Self::Pull(a) => a.json,
            Self::Use(_) | Self::Drop(_) | Self::Export(_) => false,
        }
    }
}

/// `cicerone kb build`
#[derive(Debug, Args)]
pub struct KbBuildArgs {
    /// What to build from; KIND is one of evqa, wiki6m, wiki100k, m2kr, mbeir, folder and jsonl, and may be left out
    /// where the content tells it
    #[arg(long, value_name = "KIND:PATH", required_unless_present_any = ["remove", "remove_listed"])]
    pub source: Option<String>,
    /// Add the source's articles to those that are there; one of the same URL takes the other's place
    #[arg(long, conflicts_with = "dry_run")]
    pub add: bool,
    /// Remove the article of this URL (may be given several times)
    #[arg(long, value_name = "URL", conflicts_with_all = ["source", "add", "dry_run", "vectors"])]
    pub remove: Vec<String>,
    /// Remove the articles whose URLs stand in this file, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "add", "dry_run", "vectors"])]
    pub remove_listed: Option<PathBuf>,
    /// Directory of the articles' pictures; by default that of the source
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// How they are found there: path, flat, hashed (Google Landmarks v2), oven, md5 (of the URL), map:FILE, or auto
    #[arg(long, value_name = "LAYOUT")]
    pub picture_layout: Option<Layout>,
    /// Embeddings made elsewhere (.safetensors or .npy), instead of the retriever
    #[arg(long, value_name = "FILE")]
    pub vectors: Option<PathBuf>,
    /// Their keys, one a line; by default beside them with the ending .keys.txt
    #[arg(long, value_name = "FILE", requires = "vectors")]
    pub keys: Option<PathBuf>,
    /// The retriever that made them, where the file does not say; by default the configured one
    #[arg(long, value_name = "HEX", requires = "vectors")]
    pub fingerprint: Option<String>,
    /// Read everything and say what would be built
    #[arg(long)]
    pub dry_run: bool,
    /// Name of the knowledge base; by default the configured one
    #[arg(long)]
    pub name: Option<String>,
    /// Begin anew, whatever is there
    #[arg(long)]
    pub fresh: bool,
    /// Finished builds to keep, the one in use included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub keep: Option<u16>,
    /// Most articles that may be refused
    #[arg(long, value_name = "N")]
    pub max_malformed: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone kb verify`
#[derive(Debug, Args)]
pub struct KbVerifyArgs {
    /// Name; by default the configured one
    pub name: Option<String>,
    /// Do not embed anything again
    #[arg(long)]
    pub without_retriever: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone kb use`
#[derive(Debug, Args)]
pub struct KbUseArgs {
    /// Name
    pub name: String,
    /// Number of the build (see kb status)
    pub build: u32,
}

/// `cicerone kb drop`
#[derive(Debug, Args)]
pub struct KbDropArgs {
    /// Name
    pub name: String,
    /// Number of the build; without it, all of the knowledge base
    #[arg(long, value_name = "N")]
    pub build: Option<u32>,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// `cicerone kb export`
#[derive(Debug, Args)]
pub struct KbExportArgs {
    /// Name; by default the configured one
    pub name: Option<String>,
    /// Directory to write to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `cicerone kb pull`
#[derive(Debug, Args)]
pub struct KbPullArgs {
    /// Name; by default the configured one
    pub name: Option<String>,
    /// Directory of its pictures here; by default where they were when it was built
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Finished builds that are kept here, this one included; by default kb.build.keep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone kb status`
#[derive(Debug, Args)]
pub struct KbStatusArgs {
    /// Name; by default the configured one
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone kb list`
#[derive(Debug, Args)]
pub struct KbListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone kb search`
#[derive(Debug, Args)]
pub struct KbSearchArgs {
    /// Text of the query
    pub text: Option<String>,
    /// Picture of the query
    #[arg(short, long, value_name = "PATH")]
    pub image: Option<PathBuf>,
    /// Name; by default the configured one
    #[arg(long)]
    pub name: Option<String>,
    /// Hits to show
    #[arg(short = 'k', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub top_k: Option<u16>,
    /// Show the hits' pictures beside them, on 50 columns or more
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", conflicts_with = "json")]
    pub thumbnails: ThumbnailChoice,
    /// Print JSON (schemas/kb-search.json)
    #[arg(long)]
    pub json: bool,
}

/// When to show thumbnails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ThumbnailChoice {
    /// On a terminal that shows pictures or at least 256 colours, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always, in coloured characters where the terminal shows no pictures
    Always,
    /// Never
    Never,
}
