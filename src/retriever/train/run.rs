//! The run itself: batches, loss, steps, checkpoints, metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;

use super::data::{Shown, TrainData};
use super::evaluate::evaluate;
use super::features::pictures::{PictureFeatures, weights_hash};
use super::features::texts::TextFeatures;
use super::learner::{Learner, MAX_SCALE};
use super::negatives::Negatives;
use super::optimizer::{Gradients, Parameters};
use super::plot::{Metrics, svg};
use super::towers::Towers;
use super::{TrainError, TrainOptions, checkpoint};
use crate::io::atomic::write_atomic;
use crate::io::jsonl::JsonlWriter;
use crate::retriever::RetrieverError;
use crate::retriever::config::RetConfig;
use crate::retriever::encoder::RetrieverFiles;
use crate::retriever::kernels::awake;
use crate::retriever::model::Head;
use crate::retriever::weights::Weights;

/// What a run tells while it goes on.
#[derive(Debug, Clone)]
pub enum TrainEvent {
    /// Views whose features are computed.
    Features {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
    /// A checkpoint was taken up.
    Resumed {
        /// Finished steps.
        step: usize,
    },
    /// A step was made.
    Step {
        /// Its figures.
        metrics: Metrics,
        /// Steps in all.
        total: usize,
    },
}

/// What came of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TrainReport {
    /// Steps of the run.
    pub steps: usize,
    /// Seconds of this process, features included.
    pub seconds: f64,
    /// Mean loss of the last tenth.
    pub final_loss: f32,
    /// The architecture that was trained, as `retriever.config` takes it.
    pub architecture: std::path::PathBuf,
    /// The trained head, as `retriever.weights` takes it; or head and towers, as `retriever.text_weights` and
    /// `retriever.image_weights` take them, too.
    pub weights: std::path::PathBuf,
    /// Whether the weights hold the towers.
    pub whole: bool,
}

/// A run before its first step.
pub(super) struct Run {
    pub(super) data: TrainData,
    pub(super) learner: Learner,
    pub(super) parameters: Parameters,
    /// Tensors of the towers that do not learn, where they are exported.
    pub(super) constants: HashMap<String, Tensor>,
    /// What the head last took for right, where that is asked.
    pub(super) negatives: Option<Negatives>,
    /// Says of two runs whether their architecture and data are the same.
    pub(super) identity: String,
}

impl Run {
    /// Reads the data, sees that the towers' features are there, and begins a new head.
    pub(super) fn open(
        options: &TrainOptions,
        files: &RetrieverFiles,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(TrainEvent),
    ) -> Result<Self, TrainError> {
        let config = RetConfig::load(&files.config)?;
        if !config.shared_encoder {
            return Err(RetrieverError::Config {
                path: files.config.clone(),
                key: "shared_encoder".into(),
                reason: "found false, expected true: training makes one head for both sides".into(),
            }
            .into());
        }
        let config = config.sampling(options.text_layers.as_ref(), options.vision_layers.as_ref(), &files.config)?;
        let device = files.device.open()?;
        write_architecture(&config, &options.out.join("retriever.json"))?;
        let data = TrainData::open(options, &files.instruction)?;
        let probe = Weights::from_tensors("a new head".into(), HashMap::new(), &device);
        Head::load(&config, &probe)?;
        let mut shapes = probe.missing();
        shapes.insert("log_temperature".into(), ().into());
        let mut parameters = Parameters::initialise(&shapes, options.seed, &device)?;
        let tensors = parameters.tensors();
        let log_scale = tensors["log_temperature"].clone();
        let weights = Weights::from_tensors("a new head".into(), tensors, &device);
        let head = Head::load(&config, &weights)?;
        weights.finish(&["log_temperature"])?;
        let Towers { texts, pictures, constants } =
            Towers::open(options, &config, files, &data, &device, &mut parameters)?;

        let features = options.features_dir();
        let mut computed = |done, total| progress(TrainEvent::Features { done, total });
        let pictures = match pictures {
            Some(live) => PictureFeatures::Live(Box::new(live)),
            None => PictureFeatures::open(&features, &config, files, &data.album, &device, cancel, &mut computed)?,
        };
        let texts = match texts {
            Some(live) => TextFeatures::Live(Box::new(live)),
            None => TextFeatures::open(&features, &config, files, &data.texts, &device, cancel, &mut computed)?,
        };

        let towers = [weights_hash(&files.text_weights)?, weights_hash(&files.vision_weights)?];
        let identity = crate::io::hash::blake3_bytes(format!("{config:?}{}{towers:?}", data.identity).as_bytes());
        let learner = Learner { head, log_scale, texts, pictures };
        Ok(Self { data, learner, parameters, constants, negatives: None, identity })
    }

    /// What the batches of a step say, averaged.
    pub(super) fn gradients(&mut self, options: &TrainOptions, step: usize) -> Result<(Mean, Gradients), TrainError> {
        let batches = options.accumulate.max(1);
        let (mut mean, mut sum) = (Mean::default(), Gradients::default());
        for batch in 0..batches {
            let mut draw = self.data.draw(step * batches + batch, options);
            let shown: Vec<Shown> = draw.queries.iter().map(|query| query.shown).collect();
            let queries = self.learner.embed(&shown)?;
            if let Some(negatives) = &self.negatives {
                negatives.add(&mut draw, &queries, &self.data.documents)?;
            }
            let contrast = self.learner.contrast(&draw, &queries)?;
            let loss = contrast.loss.to_scalar::<f32>()?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step: step + 1, loss });
            }
            mean.loss += loss / batches as f32;
            mean.recall_at_1 += contrast.recall_at_1 / batches as f32;
            sum.add(self.parameters.gradients(&contrast.loss.backward()?), batches)?;
        }
        Ok((mean, sum))
    }

    /// Asks the head for its negatives, if it is time to. They must be those of the last time also in a run that was
    /// interrupted: see [`super::negatives`].
    fn mine(&mut self, options: &TrainOptions, step: usize, resumed: bool) -> Result<(), TrainError> {
        let last = step - step % options.mine_every.max(1);
        if options.hard_negatives == 0 || last == 0 || !(last == step || resumed) {
            return Ok(());
        }
        let path = options.out.join("negatives.safetensors");
        self.negatives = Some(if last == step {
            self.save(options, step)?;
            Negatives::mine(&path, &mut self.learner, &self.data.documents, options.hard_negatives, step)?
        } else {
            Negatives::load(&path, options.hard_negatives, last, self.learner.log_scale.device())?
        });
        Ok(())
    }

    fn save(&self, options: &TrainOptions, step: usize) -> Result<(), TrainError> {
        checkpoint::save(&checkpoint_path(options), &self.parameters, step, options, &self.identity)
    }
}

/// Trains a head over the towers of `files` (whose own `weights` is not read), or with them, and writes what was trained to
/// the run's folder.
///
/// # Errors
/// See [`TrainError`]; an interrupted run goes on when called again.
pub fn train(
    options: &TrainOptions,
    files: &RetrieverFiles,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(TrainEvent),
) -> Result<TrainReport, TrainError> {
    let started = Instant::now();
    fs_err::create_dir_all(&options.out)?;
    let _lock = crate::io::lock::DirLock::acquire(&options.out).map_err(std::io::Error::other)?;
    let mut run = Run::open(options, files, cancel, progress)?;
    let first = checkpoint::resume(&checkpoint_path(options), &mut run.parameters, options, &run.identity)?;
    if first > 0 {
        progress(TrainEvent::Resumed { step: first });
    }
    let metrics_path = options.out.join("metrics.jsonl");
    let mut history = kept_metrics(&metrics_path, first)?;
    let mut log = JsonlWriter::open(&metrics_path).map_err(std::io::Error::other)?;
    for step in first..options.steps {
        if cancel.load(Ordering::Relaxed) {
            run.save(options, step)?;
            return Err(TrainError::Interrupted { step });
        }
        run.mine(options, step, step == first)?;
        let rate = options.rate(step);
        let (mean, gradients) = awake(|| run.gradients(options, step))?;
        let norm = run.parameters.step(&gradients, step + 1, rate, options.weight_decay, options.clip)?;
        let every = |steps: usize| (step + 1) % steps.max(1) == 0 || step + 1 == options.steps;
        let evaluation = if every(options.eval_every) { evaluate(&mut run.learner, &run.data)? } else { None };
        let metrics = Metrics {
            step: step + 1,
            loss: mean.loss,
            batch_recall_at_1: mean.recall_at_1,
            evaluation,
            learning_rate: rate,
            gradient_norm: norm,
            scale: run.learner.log_scale.to_scalar::<f32>()?.exp().min(MAX_SCALE as f32),
        };
        log.append(&metrics).map_err(std::io::Error::other)?;
        history.push(metrics.clone());
        if every(options.checkpoint_every) {
            log.sync().map_err(std::io::Error::other)?;
            run.save(options, step + 1)?;
        }
        progress(TrainEvent::Step { metrics, total: options.steps });
    }
    write_atomic(&options.out.join("training.svg"), svg(&history).as_bytes())?;
    let architecture = options.out.join("retriever.json");
    let weights = options.out.join(if options.whole() { "retriever.safetensors" } else { "head.safetensors" });
    checkpoint::export(&weights, &run.parameters, options.whole(), &run.constants)?;
    let tail = &history[history.len() - history.len().div_ceil(10)..];
    let final_loss = tail.iter().map(|m| m.loss).sum::<f32>() / tail.len().max(1) as f32;
    let seconds = started.elapsed().as_secs_f64();
    Ok(TrainReport { steps: options.steps, seconds, final_loss, architecture, weights, whole: options.whole() })
}

/// The architecture as it is trained, for the weights that will lie beside it, which are in our own layout.
fn write_architecture(config: &RetConfig, path: &std::path::Path) -> Result<(), TrainError> {
    let own = RetConfig { weights_map: None, ..config.clone() };
    let json = serde_json::to_vec_pretty(&own).map_err(std::io::Error::from)?;
    Ok(write_atomic(path, &json)?)
}

/// Lines of an earlier process up to the checkpoint; later ones will be made again, so they are dropped.
fn kept_metrics(path: &std::path::Path, steps: usize) -> Result<Vec<Metrics>, TrainError> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let lines = text.lines().filter_map(|line| Some((line, serde_json::from_str::<Metrics>(line).ok()?)));
    let (lines, kept): (Vec<&str>, Vec<Metrics>) = lines.filter(|(_, metrics)| metrics.step <= steps).unzip();
    write_atomic(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
    Ok(kept)
}

/// Means over the batches of a step.
#[derive(Debug, Default)]
pub(super) struct Mean {
    pub(super) loss: f32,
    pub(super) recall_at_1: f32,
}

fn checkpoint_path(options: &TrainOptions) -> std::path::PathBuf {
    options.out.join("checkpoint.safetensors")
}

impl TrainOptions {
    /// Linear warm-up, then a cosine to zero.
    fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let left = (step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * left).cos())
    }
}
