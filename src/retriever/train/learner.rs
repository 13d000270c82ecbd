//! What is trained, over the features of the towers.

use std::sync::atomic::AtomicBool;

use candle_core::{DType, Tensor};

use super::data::{Draw, Shown, TrainData};
use super::features::pictures::PictureFeatures;
use super::features::texts::TextFeatures;
use super::loss::{Contrast, contrast};
use super::{TrainError, TrainOptions};
use crate::retriever::RetrieverFiles;
use crate::retriever::config::RetConfig;
use crate::retriever::model::{Head, maxsim};
use crate::retriever::weights::Weights;

/// Largest factor on the scores: exp of the learned log temperature is clamped here.
pub const MAX_SCALE: f64 = 100.0;
/// Items embedded at once where no gradient is wanted.
const BATCH: usize = 64;

/// Head, temperature and features.
pub struct Learner {
    pub(super) head: Head,
    pub(super) log_scale: Tensor,
    pub(super) texts: TextFeatures,
    pub(super) pictures: PictureFeatures,
}

impl Learner {
    /// The trained head of `files` over frozen towers, to be measured.
    ///
    /// # Errors
    /// Weights that do not fit the architecture, and those of the features.
    pub fn trained(
        options: &TrainOptions,
        files: &RetrieverFiles,
        data: &TrainData,
        cancel: &AtomicBool,
    ) -> Result<Self, TrainError> {
        let (config, device) = (RetConfig::load(&files.config)?, files.device.open()?);
        let weights = Weights::load(&files.weights, &device)?;
        let head = Head::load(&config, &weights)?;
        weights.finish(&[])?;
        let (features, mut ignore) = (options.features_dir(), |_, _| ());
        let pictures = PictureFeatures::open(&features, &config, files, &data.album, &device, cancel, &mut ignore)?;
        let texts = TextFeatures::open(&features, &config, files, &data.texts, &device, cancel, &mut ignore)?;
        Ok(Self { head, log_scale: Tensor::zeros((), DType::F32, &device)?, texts, pictures })
    }

    /// Unit vectors `[B, n, D]`, in order. Items are grouped by what they have.
    ///
    /// # Errors
    /// The engine's and the disk's.
    pub fn embed(&mut self, items: &[Shown]) -> Result<Tensor, TrainError> {
        let mut parts = Vec::new();
        let mut order = Vec::with_capacity(items.len());
        for (with_picture, with_text) in [(true, true), (true, false), (false, true)] {
            let rows: Vec<usize> = (0..items.len())
                .filter(|i| items[*i].picture.is_some() == with_picture && items[*i].text.is_some() == with_text)
                .collect();
            if rows.is_empty() {
                continue;
            }
            let records: Vec<usize> = rows.iter().filter_map(|i| items[*i].picture).collect();
            let texts: Vec<usize> = rows.iter().filter_map(|i| items[*i].text).collect();
            let pictures = if with_picture { Some(self.pictures.batch(&records)?) } else { None };
            let texts = if with_text { Some(self.texts.batch(&texts)?) } else { None };
            parts.push(self.head.forward(texts.as_ref(), pictures.as_ref())?);
            order.extend(rows);
        }
        let mut back = vec![0u32; items.len()];
        for (at, row) in order.into_iter().enumerate() {
            back[row] = at as u32;
        }
        let whole = Tensor::cat(&parts, 0)?;
        Ok(whole.index_select(&Tensor::new(back, whole.device())?, 0)?)
    }

    /// As [`Learner::embed`], any number of items, without a gradient.
    ///
    /// # Errors
    /// As [`Learner::embed`].
    pub fn embed_all(&mut self, items: &[Shown]) -> Result<Tensor, TrainError> {
        let parts = items.chunks(BATCH).map(|items| Ok(self.embed(items)?.detach()));
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>, TrainError>>()?, 0)?)
    }

    /// The factor on the scores.
    ///
    /// # Errors
    /// The engine's.
    pub fn scale(&self) -> Result<Tensor, TrainError> {
        Ok(self.log_scale.clamp(0.0, MAX_SCALE.ln())?.exp()?)
    }

    /// Loss and recall of one batch, whose queries have the vectors `queries`.
    ///
    /// # Errors
    /// As [`Learner::embed`].
    pub fn contrast(&mut self, draw: &Draw, queries: &Tensor) -> Result<Contrast, TrainError> {
        let shown: Vec<Shown> = draw.documents.iter().map(|document| document.shown).collect();
        let documents = self.embed(&shown)?;
        // The mean over a query's vectors: the temperature is then the same for any number of them.
        let scores = (maxsim(queries, &documents)? / queries.dim(1)? as f64)?;
        let scores = scores.broadcast_mul(&self.scale()?)?; // [queries, documents]
        let wants = draw.queries.iter().flat_map(|query| draw.documents.iter().map(|document| query.wants(document)));
        contrast(&scores, &wants.collect::<Vec<_>>())
    }
}
