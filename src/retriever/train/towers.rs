//! Towers that learn with the head.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::data::TrainData;
use super::features::pictures::LivePictures;
use super::features::texts::LiveTexts;
use super::optimizer::Parameters;
use super::{TrainError, TrainOptions};
use crate::retriever::RetrieverFiles;
use crate::retriever::backbone::{TextBackbone, VisionBackbone};
use crate::retriever::config::RetConfig;
use crate::retriever::preprocess::TextProcessor;
use crate::retriever::weights::Weights;

/// Where the towers stand in a file that holds everything, as [`crate::retriever::encoder::Encoder`] looks for them.
const TEXT: &str = "text_model";
const VISION: &str = "vision_model";
/// Statistics of batch norms: they were gathered over much larger batches, and no gradient leads to them.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];
/// Learning rate of the towers as a share of the head's, where none is given: they are trained already.
const SHARE: f64 = 0.1;

/// What learns of the towers, and what does not.
#[derive(Default)]
pub(super) struct Towers {
    pub(super) texts: Option<LiveTexts>,
    pub(super) pictures: Option<LivePictures>,
    /// The tensors that do not learn, by their names in a file that holds everything.
    pub(super) constants: HashMap<String, Tensor>,
}

impl Towers {
    /// Adds to `parameters` what `options` says; nothing is read where both towers stay frozen.
    ///
    /// # Errors
    /// Weights that do not fit.
    pub(super) fn open(
        options: &TrainOptions,
        config: &RetConfig,
        files: &RetrieverFiles,
        data: &TrainData,
        device: &Device,
        parameters: &mut Parameters,
    ) -> Result<Self, TrainError> {
        let mut towers = Self::default();
        if !options.whole() {
            return Ok(towers);
        }
        let share = options.tower_rate.map_or(SHARE, |rate| rate / options.learning_rate);
        let weights = Weights::load(&files.text_weights, device)?.in_single_precision();
        TextBackbone::load(&config.text, &weights, config.global_injection)?;
        weights.finish(config.text.known_unused())?;
        let learns = options.unfreeze_text.then_some(share);
        let tensors = towers.take(TEXT, weights.taken()?, learns, parameters)?;
        if options.unfreeze_text {
            let processor = TextProcessor::load(&files.tokenizer, config.max_text_tokens)?;
            towers.texts = Some(LiveTexts { config: config.clone(), processor, texts: data.texts.clone(), tensors });
        }
        let weights = Weights::load(&files.vision_weights, device)?.in_single_precision();
        VisionBackbone::load(&config.vision, &weights, config.global_injection)?;
        weights.finish(config.vision.known_unused())?;
        let learns = options.unfreeze_vision.then_some(share);
        let tensors = towers.take(VISION, weights.taken()?, learns, parameters)?;
        if options.unfreeze_vision {
            towers.pictures = Some(LivePictures { config: config.clone(), album: Arc::clone(&data.album), tensors });
        }
        Ok(towers)
    }

    /// Makes a tower's tensors parameters that learn at a share of the rate, or constants. Gives them by their own names.
    fn take(
        &mut self,
        within: &str,
        tensors: HashMap<String, Tensor>,
        share: Option<f64>,
        parameters: &mut Parameters,
    ) -> Result<HashMap<String, Tensor>, TrainError> {
        let mut own = HashMap::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let full = format!("{within}.{name}");
            let live = match share {
                Some(share) if !STATISTICS.iter().any(|end| name.ends_with(end)) => {
                    parameters.add(full, &tensor, share)?
                }
                _ => {
                    self.constants.insert(full, tensor.clone());
                    tensor
                }
            };
            own.insert(name, live);
        }
        Ok(own)
    }
}
