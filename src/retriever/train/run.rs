//! The run itself: batches, loss, steps, checkpoints, metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{D, DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::data::TrainData;
use super::features::pictures::{Album, PictureFeatures, weights_hash};
use super::optimizer::Parameters;
use super::plot::{Metrics, svg};
use super::texts::TextTable;
use super::{TrainError, TrainOptions, checkpoint};
use crate::io::atomic::write_atomic;
use crate::io::jsonl::JsonlWriter;
use crate::retriever::RetrieverError;
use crate::retriever::backbone::TextBackbone;
use crate::retriever::config::RetConfig;
use crate::retriever::encoder::RetrieverFiles;
use crate::retriever::model::{Head, maxsim};
use crate::retriever::preprocess::TextProcessor;
use crate::retriever::weights::Weights;
use crate::retriever::worker::query_text;

/// Largest factor on the scores: exp of the learned log temperature is clamped here.
const MAX_SCALE: f64 = 100.0;

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
    /// The trained head, as `retriever.weights` takes it.
    pub weights: std::path::PathBuf,
}

/// What one step draws.
struct Draw {
    /// Record of the query's picture; `None` for a text-only query.
    query_image: Vec<Option<usize>>,
    /// Text of the query; `None` for a picture-only query.
    query_text: Vec<Option<usize>>,
    document_image: Vec<usize>,
    document_text: Vec<usize>,
    look: Vec<usize>,
}

struct Trainer<'a> {
    options: &'a TrainOptions,
    data: TrainData,
    album: Album,
    pictures: PictureFeatures,
    texts: TextTable,
    /// Rows of the text table: titles first, then questions, then named questions.
    named_rows: Vec<Vec<usize>>,
    pictures_of: Vec<Vec<usize>>,
    head: Head,
    log_scale: Tensor,
}

/// Trains a head over the towers of `files` (whose own `weights` is not read) and writes it to the run's folder.
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
    write_architecture(&config, &options.out.join("retriever.json"))?;
    let data = TrainData::read(&options.data, options.validate.as_deref())?;
    let device = Device::Cpu;
    let album = Album {
        paths: data.pictures.iter().chain(&data.held_out).map(|picture| picture.path.clone()).collect(),
        viewed: data.pictures.len(),
        views: options.views,
        seed: options.seed,
    };
    let features = options.features.clone().unwrap_or_else(|| options.out.join("features"));
    let mut computed = |done, total| progress(TrainEvent::Features { done, total });
    let pictures = PictureFeatures::open(&features, &config, &files.vision_weights, &album, cancel, &mut computed)?;

    let text_weights = Weights::load(&files.text_weights, &device)?;
    let text_tower = TextBackbone::load(&config.text, &text_weights, config.global_injection)?;
    text_weights.finish(config.text.known_unused())?;
    let processor = TextProcessor::load(&files.tokenizer, config.max_text_tokens)?;
    let (texts, named_rows) = all_texts(&data, &files.instruction);
    let texts = TextTable::compute(&config, &text_tower, &processor, &texts)?;

    let probe = Weights::from_tensors("a new head".into(), HashMap::new(), &device);
    Head::load(&config, &probe)?;
    let mut shapes = probe.missing();
    shapes.insert("log_temperature".into(), ().into());
    let mut parameters = Parameters::initialise(&shapes, options.seed)?;
    let tensors = parameters.tensors();
    let log_scale = tensors["log_temperature"].clone();
    let weights = Weights::from_tensors("a new head".into(), tensors, &device);
    let head = Head::load(&config, &weights)?;
    weights.finish(&["log_temperature"])?;

    let tower = weights_hash(&files.vision_weights)?;
    let model = crate::io::hash::blake3_bytes(format!("{config:?}{:?}{tower}", data.titles).as_bytes());
    let saved = options.out.join("checkpoint.safetensors");
    let first = checkpoint::resume(&saved, &mut parameters, options, &model)?;
    if first > 0 {
        progress(TrainEvent::Resumed { step: first });
    }
    let mut pictures_of = vec![Vec::new(); data.titles.len()];
    for (index, picture) in data.pictures.iter().enumerate() {
        pictures_of[picture.entity].push(index);
    }
    let mut trainer = Trainer { options, data, album, pictures, texts, named_rows, pictures_of, head, log_scale };

    let metrics_path = options.out.join("metrics.jsonl");
    let mut history = kept_metrics(&metrics_path, first)?;
    let mut log = JsonlWriter::open(&metrics_path).map_err(std::io::Error::other)?;
    for step in first..options.steps {
        if cancel.load(Ordering::Relaxed) {
            checkpoint::save(&saved, &parameters, step, options, &model)?;
            return Err(TrainError::Interrupted { step });
        }
        let rate = options.rate(step);
        let (loss, recall) = trainer.loss(step)?;
        let value = loss.to_scalar::<f32>()?;
        if !value.is_finite() {
            return Err(TrainError::Diverged { step: step + 1, loss: value });
        }
        let grads = loss.backward()?;
        let norm = parameters.step(&grads, step + 1, rate, options.weight_decay, options.clip)?;
        let due = (step + 1) % options.checkpoint_every.max(1) == 0 || step + 1 == options.steps;
        let validation = if due && !trainer.data.held_out.is_empty() { Some(trainer.validate()?) } else { None };
        let metrics = Metrics {
            step: step + 1,
            loss: value,
            batch_recall_at_1: recall,
            validation_recall_at_1: validation,
            learning_rate: rate,
            gradient_norm: norm,
            scale: trainer.log_scale.to_scalar::<f32>()?.exp().min(MAX_SCALE as f32),
        };
        log.append(&metrics).map_err(std::io::Error::other)?;
        history.push(metrics.clone());
        if due {
            log.sync().map_err(std::io::Error::other)?;
            checkpoint::save(&saved, &parameters, step + 1, options, &model)?;
        }
        progress(TrainEvent::Step { metrics, total: options.steps });
    }
    write_atomic(&options.out.join("training.svg"), svg(&history).as_bytes())?;
    let (architecture, weights) = (options.out.join("retriever.json"), options.out.join("head.safetensors"));
    checkpoint::export(&weights, &parameters)?;
    let tail = &history[history.len() - history.len().div_ceil(10)..];
    let final_loss = tail.iter().map(|m| m.loss).sum::<f32>() / tail.len().max(1) as f32;
    let seconds = started.elapsed().as_secs_f64();
    Ok(TrainReport { steps: options.steps, seconds, final_loss, architecture, weights })
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

/// All texts of the run, and the rows of each entity's named questions.
fn all_texts(data: &TrainData, instruction: &str) -> (Vec<String>, Vec<Vec<usize>>) {
    let mut texts = data.titles.clone();
    texts.extend(data.questions.iter().map(|question| query_text(instruction, question)));
    let mut named_rows = Vec::with_capacity(data.titles.len());
    for named in &data.named_questions {
        let from = texts.len();
        texts.extend(named.iter().map(|question| query_text(instruction, question)));
        named_rows.push((from..texts.len()).collect());
    }
    (texts, named_rows)
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

impl Trainer<'_> {
    fn draw(&self, step: usize) -> Draw {
        let mut rng =
            StdRng::seed_from_u64(self.options.seed.wrapping_add(1 + step as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut entities: Vec<usize> = (0..self.data.titles.len()).collect();
        entities.shuffle(&mut rng);
        entities.truncate(self.options.batch.max(2));
        let mut draw = Draw {
            query_image: Vec::new(),
            query_text: Vec::new(),
            document_image: Vec::new(),
            document_text: Vec::new(),
            look: Vec::new(),
        };
        let per_picture = self.options.views + 1;
        for entity in entities {
            let pictures = &self.pictures_of[entity];
            let any = |rng: &mut StdRng| pictures[rng.random_range(0..pictures.len())];
            let record = any(&mut rng) * per_picture + rng.random_range(0..per_picture);
            let question = self.data.titles.len() + rng.random_range(0..self.data.questions.len().max(1));
            let named = &self.named_rows[entity];
            let named = named[rng.random_range(0..named.len())];
            let kind: f64 = rng.random();
            let (image, text) = if kind < self.options.drop_image {
                (None, Some(named))
            } else if kind < self.options.drop_image + self.options.drop_text || self.data.questions.is_empty() {
                (Some(record), None)
            } else {
                (Some(record), Some(question))
            };
            draw.query_image.push(image);
            draw.query_text.push(text);
            // Half of the documents are the article's own picture (the first of an entity) as it is.
            let nth = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..per_picture) };
            let picture = if nth == 0 { pictures[0] } else { any(&mut rng) };
            draw.document_image.push(picture * per_picture + nth);
            draw.document_text.push(entity);
            draw.look.push(self.data.look[entity]);
        }
        draw
    }

    /// Symmetric InfoNCE of one batch, and the share of queries whose document scored highest. Two entities that look
    /// the same are no negatives of each other.
    fn loss(&mut self, step: usize) -> Result<(Tensor, f32), TrainError> {
        let draw = self.draw(step);
        let queries = self.embed_queries(&draw)?;
        let images = self.pictures.batch(&draw.document_image)?;
        let texts = self.texts.batch(&draw.document_text)?;
        let documents = self.head.forward(Some(&texts), Some(&images))?;
        let n = draw.look.len();
        let scale = self.log_scale.clamp(0.0, MAX_SCALE.ln())?.exp()?;
        let scores = maxsim(&queries, &documents)?.broadcast_mul(&scale)?; // [n, n]
        let twins: Vec<f32> = (0..n * n)
            .map(|at| (at / n, at % n))
            .map(|(i, j)| if i != j && draw.look[i] == draw.look[j] { -1e9 } else { 0.0 })
            .collect();
        let scores = (scores + Tensor::from_vec(twins, (n, n), &Device::Cpu)?)?;
        let targets = Tensor::arange(0u32, n as u32, &Device::Cpu)?;
        let forward = candle_nn::loss::cross_entropy(&scores, &targets)?;
        let backward = candle_nn::loss::cross_entropy(&scores.t()?.contiguous()?, &targets)?;
        let hits = scores.argmax(D::Minus1)?.eq(&targets)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
        Ok((((forward + backward)? * 0.5)?, hits))
    }

    /// Queries grouped by what they have, put back in order.
    fn embed_queries(&mut self, draw: &Draw) -> Result<Tensor, TrainError> {
        let n = draw.query_image.len();
        let mut parts = Vec::new();
        let mut order = Vec::with_capacity(n);
        for (with_image, with_text) in [(true, true), (true, false), (false, true)] {
            let rows: Vec<usize> = (0..n)
                .filter(|i| draw.query_image[*i].is_some() == with_image && draw.query_text[*i].is_some() == with_text)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let records: Vec<usize> = rows.iter().filter_map(|i| draw.query_image[*i]).collect();
            let texts: Vec<usize> = rows.iter().filter_map(|i| draw.query_text[*i]).collect();
            let images = if with_image { Some(self.pictures.batch(&records)?) } else { None };
            let texts = if with_text { Some(self.texts.batch(&texts)?) } else { None };
            parts.push(self.head.forward(texts.as_ref(), images.as_ref())?);
            order.extend(rows);
        }
        let mut back = vec![0u32; n];
        for (at, row) in order.into_iter().enumerate() {
            back[row] = at as u32;
        }
        Ok(Tensor::cat(&parts, 0)?.index_select(&Tensor::new(back, &Device::Cpu)?, 0)?)
    }

    /// Recall@1 of the left-out style against every entity's first picture and title; the query's text is the first
    /// question. Twins count as found.
    fn validate(&mut self) -> Result<f32, TrainError> {
        let entities: Vec<usize> = (0..self.data.titles.len()).collect();
        let mut documents = Vec::new();
        for rows in entities.chunks(64) {
            let records: Vec<usize> = rows.iter().map(|e| self.album.record(self.pictures_of[*e][0], 0)).collect();
            let images = self.pictures.batch(&records)?;
            documents.push(self.head.forward(Some(&self.texts.batch(rows)?), Some(&images))?.detach());
        }
        let documents = Tensor::cat(&documents, 0)?;
        let mut hits = 0;
        let first = self.data.pictures.len();
        for (part, pictures) in self.data.held_out.chunks(64).enumerate() {
            let records: Vec<usize> =
                (0..pictures.len()).map(|at| self.album.record(first + part * 64 + at, 0)).collect();
            let images = self.pictures.batch(&records)?;
            let question = self.data.titles.len();
            let texts = self.texts.batch(&vec![question; pictures.len()])?;
            let queries = self.head.forward(Some(&texts), Some(&images))?.detach();
            let best = maxsim(&queries, &documents)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
            hits += pictures
                .iter()
                .zip(best)
                .filter(|(p, b)| self.data.look[p.entity] == self.data.look[*b as usize])
                .count();
        }
        Ok(hits as f32 / self.data.held_out.len().max(1) as f32)
    }
}
