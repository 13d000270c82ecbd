//! `cicerone train`: a head over frozen towers, or with them.

use serde::Serialize;

use super::args::{LearnArgs, Tower, TrainArgs};
use super::context::Context;
use super::failure::{Exit, Failure, SCHEMA_VERSION};
use super::interrupt;
use super::progress::{Progress, Unit};
use crate::config::{Config, ModelRef, starter_dir};
use crate::rag::engines;
use crate::retriever::RetrieverFiles;
use crate::retriever::train::{JsonlFiles, TrainError, TrainEvent, TrainOptions, TrainReport, train};

/// Steps between two plain lines.
const TELL: usize = 50;

/// Runs the command.
pub fn run(context: &Context, args: &TrainArgs) -> anyhow::Result<Exit> {
    let files = tower_files(context.config()?, &args.learn)?;
    let options = options(args)?;
    let guard = interrupt::guard();
    let mut progress = Progress::new(&context.screen, "computing features", Unit::Things("items"));
    let report = train(&options, &files, guard.flag(), &mut |event| tell(&mut progress, event))?;
    drop(progress);
    if args.json {
        #[derive(Serialize)]
        struct Trained<'a> {
            schema_version: u32,
            #[serde(flatten)]
            report: &'a TrainReport,
        }
        context.screen.json(&Trained { schema_version: SCHEMA_VERSION, report: &report }, false)?;
    } else {
        context.screen.line(format_args!(
            "{} steps, {:.0} s, loss {:.4} over the last tenth",
            report.steps, report.seconds, report.final_loss
        ))?;
        let weights = std::path::absolute(&report.weights)?;
        let mut settings = vec![("config", std::path::absolute(&report.architecture)?), ("weights", weights.clone())];
        if report.whole {
            settings.extend([("text_weights", weights.clone()), ("image_weights", weights)]);
        }
        let settings: Vec<String> =
            settings.iter().map(|(key, path)| format!("--set retriever.{key}={}", path.display())).collect();
        context.screen.line(format_args!("To use it: {}", settings.join(" ")))?;
    }
    Ok(Exit::Done)
}

/// The towers and the architecture that are trained over them.
///
/// # Errors
/// Those of [`engines::tower_files`].
pub fn tower_files(mut config: Config, args: &LearnArgs) -> anyhow::Result<RetrieverFiles> {
    if let Some(path) = &args.architecture {
        config.retriever.config = ModelRef::Path(std::path::absolute(path)?);
    }
    Ok(engines::tower_files(&config)?)
}

/// Shows what a run tells.
pub fn tell(progress: &mut Progress, event: TrainEvent) {
    match event {
        TrainEvent::Features { done, total } => progress.set(done as u64, Some(total as u64)),
        TrainEvent::Resumed { step } => progress.note(&format!("going on after step {step}")),
        TrainEvent::Step { metrics, total } => {
            progress.rename("training", Unit::Things("steps"));
            progress.set(metrics.step as u64, Some(total as u64));
            if let Some(recall) = metrics.evaluation {
                progress.note(&format!(
                    "step {}: loss {:.4}, recall@1 {:.3}, @5 {:.3}, @10 {:.3}",
                    metrics.step, metrics.loss, recall.recall_at_1, recall.recall_at_5, recall.recall_at_10
                ));
            } else if metrics.step % TELL == 0 {
                progress.note(&format!("step {}: loss {:.4}", metrics.step, metrics.loss));
            }
        }
    }
}

/// What every command that trains lets its user choose.
///
/// # Errors
/// No starter where none is named.
pub fn learn_options(args: &LearnArgs) -> anyhow::Result<TrainOptions> {
    let default = TrainOptions::default();
    Ok(TrainOptions {
        data: match &args.data {
            Some(data) => data.clone(),
            None => starter_dir()?,
        },
        jsonl: args.passages.clone().zip(args.images.clone()).map(|(passages, images)| JsonlFiles {
            passages,
            images,
            validation: args.validation.clone(),
        }),
        validate: args.validate.clone(),
        out: args.out.clone(),
        features: args.features.clone(),
        steps: args.steps.unwrap_or(default.steps),
        batch: args.batch.unwrap_or(default.batch),
        views: args.views.unwrap_or(default.views),
        learning_rate: args.lr.unwrap_or(default.learning_rate),
        seed: args.seed.unwrap_or(default.seed),
        ..default
    })
}

fn options(args: &TrainArgs) -> anyhow::Result<TrainOptions> {
    let default = learn_options(&args.learn)?;
    Ok(TrainOptions {
        text_layers: args.text_layers.clone().or_else(|| args.layers.clone()),
        vision_layers: args.vision_layers.clone().or_else(|| args.layers.clone()),
        accumulate: args.accumulate.unwrap_or(default.accumulate),
        warmup: args.warmup.unwrap_or(default.warmup),
        unfreeze_text: args.unfreeze.contains(&Tower::Text),
        unfreeze_vision: args.unfreeze.contains(&Tower::Vision),
        tower_rate: args.tower_lr,
        weight_decay: args.weight_decay.unwrap_or(default.weight_decay),
        drop_text: args.drop_text.unwrap_or(default.drop_text),
        drop_image: args.drop_image.unwrap_or(default.drop_image),
        checkpoint_every: args.checkpoint_every.unwrap_or(default.checkpoint_every),
        hard_negatives: args.hard_negatives.unwrap_or(default.hard_negatives),
        mine_every: args.mine_every.unwrap_or(default.mine_every),
        eval_every: args.eval_every.unwrap_or(default.eval_every),
        ..default
    })
}

/// How an error of training ends a command.
pub fn failure(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    let error: &TrainError = error.downcast_ref()?;
    let (exit, code) = match error {
        TrainError::Interrupted { .. } => (Exit::Interrupted, "interrupted"),
        TrainError::Data { .. } => (Exit::Usage, "training_data"),
        TrainError::OtherRun { .. } => (Exit::Usage, "other_run"),
        _ => (Exit::Failed, "training"),
    };
    Some(Failure::new(exit, code, error))
}
