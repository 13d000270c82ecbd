//! What can be written on the command line.

mod eval;
mod kb;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use eval::*;
pub use kb::*;

use crate::retriever::layer_choice::Layers;

/// Knowledge-based visual question answering: finds what a picture shows, reads about it, answers with citations
#[derive(Debug, Parser)]
#[command(name = "cicerone", version)]
#[command(
    after_help = "Without a command: the terminal UI. Begin with: cicerone demo\n\nExit codes: 0 done, 1 failure, 2 usage or configuration, 3 not \
                        reachable now (try again), 4 knowledge base and model do not match, 5 finished with some \
                        rows failed, 130 interrupted"
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; without it, the terminal UI.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file, over the built-in defaults
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Set one configuration key, over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Log more; twice for debugging
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Colour on stderr
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", global = true)]
    pub color: ColorChoice,
    /// Append logs to a file instead of stderr
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// Show no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Show progress on the whole screen: pace, time left, running metrics
    #[arg(long, global = true, conflicts_with_all = ["no_progress", "quiet"])]
    pub live: bool,
    /// Never use the network
    #[arg(long, global = true, env = "CICERONE_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a question about a picture
    Ask(AskArgs),
    /// Try it on the sample knowledge base: fetches what is missing, then asks or opens a session
    Demo(DemoArgs),
    /// Build, search and check knowledge bases
    Kb(KbArgs),
    /// Fetch, check and convert model files
    Models(ModelsArgs),
    /// Train a retriever's head, over frozen backbones or with them
    Train(Box<TrainArgs>),
    /// Measure speed and memory on this machine
    Bench(BenchArgs),
    /// Measure how well it retrieves and answers
    Eval(EvalArgs),
    /// Look inside the retriever
    Probe(ProbeArgs),
    /// Show and check the configuration
    Config(ConfigArgs),
    /// Look over this installation
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

impl Command {
    /// Whether it may take long enough to be looked at.
    #[must_use]
    pub fn takes_long(&self) -> bool {
        match self {
            Self::Kb(kb) => matches!(kb.command, KbCommand::Build(_) | KbCommand::Pull(_) | KbCommand::Verify(_)),
            Self::Eval(_) | Self::Train(_) | Self::Probe(_) | Self::Bench(_) => true,
            _ => false,
        }
    }

    /// Whether results and errors are to be JSON.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Ask(a) => a.json || a.stream_json,
            Self::Demo(a) => a.json,
            Self::Kb(a) => a.command.wants_json(),
            Self::Models(a) => match &a.command {
                ModelsCommand::List(a) => a.json,
                ModelsCommand::Pull(_) | ModelsCommand::Verify(_) | ModelsCommand::Convert(_) => false,
            },
            Self::Bench(a) => a.json,
            Self::Eval(a) => a.command.wants_json(),
            Self::Probe(a) => match &a.command {
                ProbeCommand::Gates(a) => a.json,
                ProbeCommand::Ablate(a) => a.json,
            },
            Self::Config(a) => matches!(&a.command, ConfigCommand::Show(ConfigShowArgs { json: true })),
            Self::Doctor(a) => a.json,
            Self::Train(a) => a.json,
            Self::Completions(_) => false,
        }
    }
}

/// `cicerone ask`
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The question; `-` reads it from stdin
    pub question: Option<String>,
    /// The picture that it is about
    #[arg(short, long, value_name = "PATH")]
    pub image: Option<PathBuf>,
    /// Print one JSON document (schemas/ask.json)
    #[arg(long, conflicts_with = "stream_json")]
    pub json: bool,
    /// Print every event as a line of JSON, as it happens
    #[arg(long)]
    pub stream_json: bool,
    /// Candidates asked of the knowledge base
    #[arg(short = 'k', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub top_k: Option<u16>,
    /// List the sources under the answer
    #[arg(long)]
    pub show_sources: bool,
    /// Show how the answer came to be: stages, candidates, the entity and why, passages, the prompt's tokens, times
    #[arg(long, conflicts_with_all = ["json", "stream_json"])]
    pub explain: bool,
    /// Go on from an earlier answer, the document that --json printed: its entity stays, and the question may leave out
    /// what was said
    #[arg(long, value_name = "FILE.json")]
    pub after: Option<PathBuf>,
    /// Retrieve only: print candidates and passages, load no answering model
    #[arg(long)]
    pub no_generate: bool,
}

/// `cicerone demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Ask this and exit
    #[arg(long, value_name = "TEXT")]
    pub question: Option<String>,
    /// The picture that it is about
    #[arg(long, value_name = "PATH")]
    pub image: Option<PathBuf>,
    /// Print one JSON document (schemas/ask.json)
    #[arg(long, requires = "question")]
    pub json: bool,
    /// Panic at the first question, to see what is left of the terminal
    #[arg(long, hide = true)]
    pub panic: bool,
}

/// `cicerone models`
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// `cicerone models …`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the known models and whether they are here
    List(ModelsListArgs),
    /// Fetch models, or groups of them such as `starter`
    Pull(ModelsNamesArgs),
    /// Compare every file's hash
    Verify(ModelsVerifyArgs),
    /// Convert a `.pth` to safetensors, a `.gguf` to a model directory, or safetensors to our layout
    Convert(ModelsConvertArgs),
}

/// `cicerone models list`
#[derive(Debug, Args)]
pub struct ModelsListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone models pull`
#[derive(Debug, Args)]
pub struct ModelsNamesArgs {
    /// Models or groups
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `cicerone models verify`
#[derive(Debug, Args)]
pub struct ModelsVerifyArgs {
    /// Models or groups; all that are here by default
    pub names: Vec<String>,
}

/// `cicerone models convert`
#[derive(Debug, Args)]
pub struct ModelsConvertArgs {
    /// A `.pth`, `.pt` or `.gguf` file, told apart by its first bytes; with --map, a safetensors file
    pub input: PathBuf,
    /// Rename the tensors by this map: a shipped one such as `ret-v1`, or a TOML file
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "leave_out")]
    pub map: Option<String>,
    /// Leave out tensors whose names start so, such as an unused classifier (`.pth` only)
    #[arg(long, value_name = "START")]
    pub leave_out: Vec<String>,
    /// The safetensors file, or for GGUF the directory, to write
    pub output: PathBuf,
    /// Type of the weights that are written
    #[arg(long, value_enum, default_value_t)]
    pub float: FloatArg,
}

/// Type of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FloatArg {
    /// As they are
    #[default]
    Keep,
    /// 32 bits
    F32,
    /// 16 bits
    F16,
}

/// What is learned from, for how long; of every command that trains.
#[derive(Debug, Args)]
pub struct LearnArgs {
    /// Folder with images.csv, kb.jsonl and questions.csv, by default the starter's; with --passages a file of queries in
    /// M2KR's layout, one JSON object a line: instruction, question, image_path, passage_id
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Passages in M2KR's layout, one JSON object a line: passage_id, passage_text, passage_image_path
    #[arg(long, value_name = "FILE", requires_all = ["data", "images"], conflicts_with = "validate")]
    pub passages: Option<PathBuf>,
    /// Folder of the pictures that queries and passages name
    #[arg(long, value_name = "DIR", requires = "passages")]
    pub images: Option<PathBuf>,
    /// Queries in M2KR's layout to measure recall on
    #[arg(long, value_name = "FILE", requires = "passages")]
    pub validation: Option<PathBuf>,
    /// Leave this style of pictures out of training and measure recall on it
    #[arg(long, value_name = "STYLE")]
    pub validate: Option<String>,
    /// Folder for weights, checkpoints and metrics; training goes on from its checkpoint
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder for the towers' features; runs that share it compute them once [default: OUT/features]
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,
    /// Architecture to train; by default the configured one
    #[arg(long, value_name = "FILE")]
    pub architecture: Option<PathBuf>,
    /// Optimiser steps
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Pairs in a batch
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Augmented views of each picture
    #[arg(long, value_name = "N")]
    pub views: Option<usize>,
    /// Peak learning rate
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `cicerone train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// What is learned from.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Layers of both towers in place of the architecture's: early, middle, late, separated by commas
    #[arg(long, value_name = "DEPTHS", conflicts_with_all = ["text_layers", "vision_layers"])]
    pub layers: Option<Layers>,
    /// Layers of the text tower: block numbers, as in 0,2,5, or depths
    #[arg(long, value_name = "LAYERS")]
    pub text_layers: Option<Layers>,
    /// Layers of the picture tower, as many as of the text tower
    #[arg(long, value_name = "LAYERS")]
    pub vision_layers: Option<Layers>,
    /// Batches in an optimiser step, each with its own negatives; their gradients are averaged
    #[arg(long, value_name = "N")]
    pub accumulate: Option<usize>,
    /// Towers that learn, too: text, vision, or both separated by a comma; their features are then computed with every batch
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TOWERS")]
    pub unfreeze: Vec<Tower>,
    /// Peak learning rate of towers that learn; by default a tenth of the head's
    #[arg(long, value_name = "RATE", requires = "unfreeze")]
    pub tower_lr: Option<f64>,
    /// Steps of the warm-up
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// Decoupled weight decay
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f64>,
    /// Share of queries without a text
    #[arg(long, value_name = "SHARE")]
    pub drop_text: Option<f64>,
    /// Share of queries without a picture
    #[arg(long, value_name = "SHARE")]
    pub drop_image: Option<f64>,
    /// Wrong documents that each query brings into its batch, those that the head takes for right
    #[arg(long, value_name = "N")]
    pub hard_negatives: Option<usize>,
    /// Steps after which the head is asked for them anew
    #[arg(long, value_name = "N", requires = "hard_negatives")]
    pub mine_every: Option<usize>,
    /// Steps between two checkpoints
    #[arg(long, value_name = "N")]
    pub checkpoint_every: Option<usize>,
    /// Steps between two measurements of recall
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// A tower of the retriever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tower {
    /// That of texts.
    Text,
    /// That of pictures.
    Vision,
}

/// `cicerone bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value_t)]
    pub what: BenchWhat,
    /// Shipped questions to answer
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub questions: u16,
    /// Measure encoding by another model, without its checkpoint: a shipped architecture, such as clip-vit-l-14, or a
    /// retriever's JSON file
    #[arg(long, value_name = "NAME|FILE.json", requires = "random_weights")]
    pub model: Option<String>,
    /// Give it random weights, tokens and pixels: good for speed and memory alone
    #[arg(long, requires = "model")]
    pub random_weights: bool,
    /// Tokens of each of its texts
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub text_tokens: Option<u16>,
    /// Seconds for which each of its batches is encoded over and over
    #[arg(long, value_name = "SECONDS", requires = "model", default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=600))]
    pub seconds: u16,
    /// Articles of the synthetic knowledge base (kb)
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    pub articles: u32,
    /// Numbers of each of its embeddings
    #[arg(long, value_name = "N", default_value_t = 768, value_parser = clap::value_parser!(u16).range(8..=4096))]
    pub dim: u16,
    /// Bytes of text of each of its articles
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub text_bytes: u32,
    /// Its shortened vectors: none, int8 or binary
    #[arg(long, value_name = "KIND", default_value = "none", value_parser = ["none", "int8", "binary"])]
    pub quantization: String,
    /// Where it is made and kept, for a second run or another program to read; by default nowhere
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How the answering model is held, instead of the configured way
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "f32", "f16", "bf16", "q8_0", "q6k", "q4k"])]
    pub format: Option<String>,
    /// Print JSON (schemas/bench.json)
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Items encoded per second
    Encode,
    /// Milliseconds per search
    Search,
    /// Time to first token and to the whole answer
    Answer,
    /// A synthetic knowledge base: building it, and searching it beside an exact search
    Kb,
    /// All of the shipped retriever, knowledge base and reader
    #[default]
    All,
}

/// `cicerone probe`
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: ProbeCommand,
}

/// `cicerone probe …`
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// Mean activation of every gate, by layer, with both modalities and with either one missing
    Gates(ProbeGatesArgs),
    /// Variants of the retriever, trained alike and measured alike: what each of its parts is worth
    Ablate(Box<ProbeAblateArgs>),
}

/// `cicerone probe gates`
#[derive(Debug, Args)]
pub struct ProbeGatesArgs {
    /// Folder with images.csv, kb.jsonl and questions.csv; by default the starter's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which pictures are the sample
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Items of the sample, the first ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Write a plot
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone probe ablate`
#[derive(Debug, Args)]
pub struct ProbeAblateArgs {
    /// What is learned from.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// Variants to train and measure, separated by commas, such as base,no-global,last-layer,tokens-32,forget-0.5; by
    /// default all
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<String>,
    /// Print JSON (schemas/probe-ablate.json)
    #[arg(long)]
    pub json: bool,
}

/// `cicerone config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// `cicerone config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its value
    Show(ConfigShowArgs),
    /// Read the configuration and say whether it is good
    Check,
    /// Print which files and folders are used
    Path,
}

/// `cicerone config show`
#[derive(Debug, Args)]
pub struct ConfigShowArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `cicerone completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        let behind = Cli::try_parse_from(["cicerone", "kb", "list", "--set", "a=1", "--set", "b=2", "-vv"]).unwrap();
        assert_eq!((behind.global.set.len(), behind.global.verbose), (2, 2));
        let before = Cli::try_parse_from(["cicerone", "-q", "--color", "never", "kb", "list"]).unwrap();
        assert!(before.global.quiet && before.global.color == ColorChoice::Never);
    }
}
