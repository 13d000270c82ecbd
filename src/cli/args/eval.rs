//! What can be written behind `cicerone eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::eval::run::Shard;

/// `cicerone eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// `cicerone eval …`
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// How often the right article comes first, against the pooled-feature baseline
    Retrieval(EvalRetrievalArgs),
    /// A whole benchmark, in as many modes as asked for: resumes where it was stopped, ends in a report
    Run(EvalRunArgs),
    /// The official metrics over predictions of another system
    Score(EvalScoreArgs),
    /// The report of a run that is there, made anew
    Report(EvalReportArgs),
    /// Two runs over the same questions: the difference, its interval, McNemar's test, what was gained and lost
    Compare(EvalCompareArgs),
    /// Put the parts of a run together that `--shard` made
    Merge(EvalMergeArgs),
    /// What each stage is worth: the pipeline with it replaced or left out
    Ablate(EvalAblateArgs),
    /// When to abstain: thresholds chosen on half of the questions, risk and coverage on the others
    Abstention(EvalAbstentionArgs),
    /// How well the reader reads: the evidence that a data set quotes is its passage
    Evidence(EvalEvidenceArgs),
}

impl EvalCommand {
    /// Whether results and errors are to be JSON.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Retrieval(a) => a.json,
            Self::Run(a) => a.print.json,
            Self::Score(a) => a.print.json,
            Self::Report(a) => a.print.json,
            Self::Compare(a) => a.print.json,
            Self::Merge(_) => false,
            Self::Ablate(a) => a.sample.json,
            Self::Abstention(a) => a.sample.json,
            Self::Evidence(a) => a.sample.json,
        }
    }
}

/// `cicerone eval retrieval`
#[derive(Debug, Args)]
pub struct EvalRetrievalArgs {
    /// Folder with images.csv, kb.jsonl and questions.csv; by default the starter's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which pictures are the queries
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Further trained heads: a name, its architecture and its weights; may be repeated
    #[arg(long, value_name = "NAME=CONFIG.json:WEIGHTS")]
    pub compare: Vec<String>,
    /// Query by the picture alone, without a question
    #[arg(long)]
    pub no_question: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print a Markdown table
    #[arg(long)]
    pub markdown: bool,
}

/// Which questions are asked and how the numbers are printed; of every command that asks those of a data set.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Questions, drawn evenly over their kinds, the same ones each time
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Draws other questions: numbers are compared under the same seed, and a prompt is chosen under another one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Folder for the predictions; a run that was cut off goes on from them
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown tables
    #[arg(long)]
    pub markdown: bool,
}

/// How numbers are printed.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print Markdown tables
    #[arg(long)]
    pub markdown: bool,
}

/// Which questions; keys of `[eval]` for short. By default those of the configuration, and without one the starter's.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The questions (`eval.questions`)
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Their format (`eval.dataset`)
    #[arg(long, value_parser = ["evqa", "infoseek", "m2kr", "mbeir"])]
    pub dataset: Option<String>,
    /// Folder of their pictures (`eval.pictures`)
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// So many of them, each kind by its share, the same ones each time; by default all
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Draws others under --limit
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// The page of a report.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// Questions that the HTML page holds; of more, each kind by its share
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub rows: usize,
    /// Leave times out: equal answers then give equal files, byte for byte
    #[arg(long)]
    pub no_times: bool,
}

/// `cicerone eval run`
#[derive(Debug, Args)]
pub struct EvalRunArgs {
    /// Which questions.
    #[command(flatten)]
    pub data: DataArgs,
    /// Where the passages come from (`eval.modes`), with commas between: retrieved, oracle-entity, oracle-passage, no-retrieval
    #[arg(long, value_name = "MODES")]
    pub modes: Option<String>,
    /// The i-th of n parts, for as many machines; `eval merge` puts them together
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Search, and answer nothing: recall alone
    #[arg(long, conflicts_with_all = ["modes", "audit"])]
    pub retrieval_only: bool,
    /// Take over what another run has found with the same retriever and knowledge base
    #[arg(long, value_name = "DIR")]
    pub retrieval: Option<PathBuf>,
    /// See whether data and knowledge base fit, and end: right articles that are absent, missing pictures, dirty rows
    #[arg(long)]
    pub audit: bool,
    /// Folder of the run; one that was cut off goes on [default: DATA_DIR/runs/NAME-SETTINGS]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Its page.
    #[command(flatten)]
    pub page: PageArgs,
    /// How its numbers are printed.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// `cicerone eval score`
#[derive(Debug, Args)]
pub struct EvalScoreArgs {
    /// Predictions: JSON lines, JSON or CSV with an id and an answer each
    pub predictions: PathBuf,
    /// Which questions.
    #[command(flatten)]
    pub data: DataArgs,
    /// Questions without a prediction: refuse the file, count them as wrong, or leave them out
    #[arg(long, value_enum, default_value_t)]
    pub partial: PartialArg,
    /// Name of the system that made them
    #[arg(long, default_value = "predictions")]
    pub name: String,
    /// Folder for a report of it, which `eval compare` takes, too
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Its page.
    #[command(flatten)]
    pub page: PageArgs,
    /// How its numbers are printed.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// What to do about questions without a prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PartialArg {
    /// Refuse the file
    #[default]
    Refuse,
    /// They are wrong
    Wrong,
    /// They are left out, as InfoSeek's official script does
    LeftOut,
}

/// `cicerone eval report`
#[derive(Debug, Args)]
pub struct EvalReportArgs {
    /// Folder of the run
    pub run: PathBuf,
    /// Its page.
    #[command(flatten)]
    pub page: PageArgs,
    /// How its numbers are printed.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// `cicerone eval compare`
#[derive(Debug, Args)]
pub struct EvalCompareArgs {
    /// Folder of the run that is compared with
    pub first: PathBuf,
    /// Folder of the other
    pub second: PathBuf,
    /// Questions gained and lost that are listed, of each
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub list: usize,
    /// How it is printed.
    #[command(flatten)]
    pub print: PrintArgs,
}

/// `cicerone eval merge`
#[derive(Debug, Args)]
pub struct EvalMergeArgs {
    /// Folders of all parts
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Folder of the whole
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `cicerone eval ablate`
#[derive(Debug, Args)]
pub struct EvalAblateArgs {
    /// Folder with questions.csv; by default the starter's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Variants, separated by commas, such as full,no-ranking,passages-3; by default all that can be had
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<String>,
    /// Load no answering model: entities and sections alone
    #[arg(long)]
    pub no_generate: bool,
    /// Which questions.
    #[command(flatten)]
    pub sample: SampleArgs,
}

/// `cicerone eval abstention`
#[derive(Debug, Args)]
pub struct EvalAbstentionArgs {
    /// Folder with questions.csv; by default the starter's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Load no answering model: an answer counts as right where its entity is
    #[arg(long)]
    pub no_generate: bool,
    /// Which questions; each is asked once more with its article hidden.
    #[command(flatten)]
    pub sample: SampleArgs,
}

/// `cicerone eval evidence`
#[derive(Debug, Args)]
pub struct EvalEvidenceArgs {
    /// Questions in Encyclopedic-VQA's columns with an `evidence` column (CSV); InfoSeek's in the same columns, too
    pub questions: PathBuf,
    /// Which questions.
    #[command(flatten)]
    pub sample: SampleArgs,
}
