//! What can be written behind `cicerone eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
    /// How often the answer is right: with retrieved passages, with the right article, the right section, with none
    Answers(EvalAnswersArgs),
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
            Self::Answers(a) => a.sample.json,
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

/// `cicerone eval answers`
#[derive(Debug, Args)]
pub struct EvalAnswersArgs {
    /// Folder with questions.csv; by default the starter's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the passages come from
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [ModeArg::Retrieved, ModeArg::OracleEntity, ModeArg::OraclePassage, ModeArg::NoRetrieval])]
    pub modes: Vec<ModeArg>,
    /// Which questions.
    #[command(flatten)]
    pub sample: SampleArgs,
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

/// Where passages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Found by the retriever
    Retrieved,
    /// From the right article, ranked as usual
    OracleEntity,
    /// The section that holds the answer
    OraclePassage,
    /// None
    NoRetrieval,
}
