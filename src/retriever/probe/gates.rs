//! Mean activation of every gate, by sampled layer, with both modalities and with either one missing.

use candle_core::Tensor;
use serde::Serialize;

use crate::retriever::Item;
use crate::retriever::encoder::Encoder;
use crate::retriever::error::Result;
use crate::retriever::model::Side;

/// Which modalities of an item are given to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// As the items are.
    Both,
    /// The text of those that have one.
    TextOnly,
    /// The picture of those that have one.
    ImageOnly,
}

impl Given {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Both, Self::TextOnly, Self::ImageOnly];

    /// For tables and plots.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "text and picture",
            Self::TextOnly => "text only",
            Self::ImageOnly => "picture only",
        }
    }

    /// The item with what is given of it; nothing where that leaves it empty, or both are asked for and one is missing.
    fn of(self, item: &Item) -> Option<Item> {
        let item = item.clone();
        match (self, item) {
            (Self::Both, Item { text: Some(text), image: Some(image) }) => {
                Some(Item { text: Some(text), image: Some(image) })
            }
            (Self::TextOnly, Item { text: Some(text), .. }) => Some(Item { text: Some(text), image: None }),
            (Self::ImageOnly, Item { image: Some(image), .. }) => Some(Item { text: None, image: Some(image) }),
            _ => None,
        }
    }
}

/// Mean over items, state tokens and channels, and the standard deviation of the items' own means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// In [0, 1].
    pub mean: f64,
    /// Between items.
    pub deviation: f64,
}

impl Spread {
    fn of(items: &[f64]) -> Self {
        let n = items.len().max(1) as f64;
        let mean = items.iter().sum::<f64>() / n;
        let variance = items.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        Self { mean, deviation: variance.sqrt() }
    }
}

/// The gates of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateStep {
    /// Block of the text tower that the step reads, from 0.
    pub text_layer: usize,
    /// Block of the picture tower that the step reads, from 0.
    pub vision_layer: usize,
    /// How much of the text is taken in; `None` where no text is given.
    pub text_input: Option<Spread>,
    /// How much of the picture is taken in; `None` where no picture is given.
    pub vision_input: Option<Spread>,
    /// How much of the state is kept.
    pub forget: Spread,
}

/// What was measured under one condition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gates {
    /// What the model was given.
    pub given: Given,
    /// Items that had it.
    pub items: usize,
    /// One for each sampled layer, in order.
    pub steps: Vec<GateStep>,
}

/// Runs `items` through the model under every condition that any of them meets, `batch` at a time. `progress` is told the
/// items done, of three times as many at most, and stops the probe with `false`; nothing is returned then.
///
/// # Errors
/// The model's own.
pub fn gates(
    encoder: &Encoder,
    side: Side,
    items: &[Item],
    batch: usize,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<Gates>>> {
    let mut measured = Vec::new();
    let mut done = 0;
    for given in Given::ALL {
        let some: Vec<Item> = items.iter().filter_map(|item| given.of(item)).collect();
        if some.is_empty() {
            continue;
        }
        let so_far = done;
        let steps = steps(encoder, side, given, &some, batch, |more| progress(so_far + more))?;
        let Some(steps) = steps else { return Ok(None) };
        done += some.len();
        measured.push(Gates { given, items: some.len(), steps });
    }
    Ok(Some(measured))
}

/// The gates of each step over `some`, which have what is `given`; `progress` is told how many are done.
fn steps(
    encoder: &Encoder,
    side: Side,
    given: Given,
    some: &[Item],
    batch: usize,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<GateStep>>> {
    let config = encoder.model.config();
    // By step: the items' means of the three gates.
    let mut means = vec![[const { Vec::new() }; 3]; config.text_layers.len().min(config.vision_layers.len())];
    let mut done = 0;
    for part in some.chunks(batch.max(1)) {
        let trace = encoder.trace(side, part)?;
        for (means, step) in means.iter_mut().zip(&trace.steps) {
            for (means, gate) in means.iter_mut().zip([&step.text_input, &step.vision_input, &step.forget]) {
                means.extend(item_means(gate)?);
            }
        }
        done += part.len();
        if !progress(done) {
            return Ok(None);
        }
    }
    let layers = config.text_layers.iter().zip(&config.vision_layers);
    let steps = layers.zip(&means).map(|((text_layer, vision_layer), [text, vision, forget])| GateStep {
        text_layer: *text_layer,
        vision_layer: *vision_layer,
        text_input: (given != Given::ImageOnly).then(|| Spread::of(text)),
        vision_input: (given != Given::TextOnly).then(|| Spread::of(vision)),
        forget: Spread::of(forget),
    });
    Ok(Some(steps.collect()))
}

/// The gates of one query, as it is: of one item, every deviation is 0.
///
/// # Errors
/// The model's own.
pub fn of_query(encoder: &Encoder, item: Item) -> Result<Vec<GateStep>> {
    let given = match (&item.text, &item.image) {
        (Some(_), None) => Given::TextOnly,
        (None, _) => Given::ImageOnly,
        _ => Given::Both,
    };
    Ok(steps(encoder, Side::Query, given, &[item], 1, |_| true)?.unwrap_or_default())
}

/// `[B, n, H]` to the mean of each item.
fn item_means(gate: &Tensor) -> Result<Vec<f64>> {
    let means = gate.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
    Ok(means.into_iter().map(f64::from).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::retriever::{Picture, tiny};

    fn items() -> Vec<Item> {
        let picture =
            || Some(Picture::from_rgb(image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 9]))));
        vec![
            Item { text: Some("a flag".into()), image: picture() },
            Item { text: Some("another flag, with more of a text".into()), image: picture() },
            Item { text: None, image: picture() },
        ]
    }

    #[test]
    fn every_condition_has_its_items_its_layers_and_its_gates() {
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::load(&tiny::write(dir.path())).unwrap();
        let mut told = 0;
        let found = gates(&encoder, Side::Query, &items(), 2, |done| {
            told = done;
            true
        });
        let found = found.unwrap().unwrap();
        assert_eq!(told, 2 + 2 + 3);
        let counts: Vec<_> = found.iter().map(|g| (g.given, g.items)).collect();
        assert_eq!(counts, [(Given::Both, 2), (Given::TextOnly, 2), (Given::ImageOnly, 3)]);
        for gates in &found {
            let layers: Vec<_> = gates.steps.iter().map(|s| (s.text_layer, s.vision_layer)).collect();
            assert_eq!(layers, [(0, 1), (3, 4)]);
            for step in &gates.steps {
                assert_eq!(step.text_input.is_none(), gates.given == Given::ImageOnly);
                assert_eq!(step.vision_input.is_none(), gates.given == Given::TextOnly);
                let inside = |s: &Spread| s.mean > 0.0 && s.mean < 1.0 && s.deviation >= 0.0;
                assert!(
                    inside(&step.forget) && step.text_input.iter().chain(&step.vision_input).all(inside),
                    "{step:?}"
                );
            }
        }
    }

    #[test]
    fn one_query_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::load(&tiny::write(dir.path())).unwrap();
        let all = items();
        let both = of_query(&encoder, all[0].clone()).unwrap();
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|step| step.text_input.is_some() && step.vision_input.is_some()));
        let picture = of_query(&encoder, all[2].clone()).unwrap();
        assert!(picture.iter().all(|step| step.text_input.is_none() && step.vision_input.is_some()));
        let measured = gates(&encoder, Side::Query, &all[..1], 1, |_| true).unwrap().unwrap();
        assert_eq!(both, measured[0].steps);
    }

    #[test]
    fn the_means_are_those_of_the_trace() {
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::load(&tiny::write(dir.path())).unwrap();
        let all = items();
        let trace = encoder.trace(Side::Query, &all[..2]).unwrap();
        let expected = trace.steps[1].vision_input.mean_all().unwrap().to_scalar::<f32>().unwrap();
        // One item at a time: how they are batched does not matter.
        let found = gates(&encoder, Side::Query, &all, 1, |_| true).unwrap().unwrap();
        let mean = found[0].steps[1].vision_input.unwrap().mean;
        assert!((mean - f64::from(expected)).abs() < 1e-5, "{mean} {expected}");
    }

    #[test]
    fn it_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::load(&tiny::write(dir.path())).unwrap();
        assert!(gates(&encoder, Side::Query, &items(), 1, |_| false).unwrap().is_none());
    }
}
