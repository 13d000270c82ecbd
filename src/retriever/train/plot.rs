//! Loss and recall over the steps, as one small SVG that needs no viewer but a browser.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Finished steps.
    pub step: usize,
    /// InfoNCE of the step's batch, nats.
    pub loss: f32,
    /// Share of the batch's queries whose own document scored highest.
    pub batch_recall_at_1: f32,
    /// Recall@1 over all entities of the style left out of training, where there is one and at checkpoints only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_recall_at_1: Option<f32>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f32,
    /// Temperature's inverse, the factor on the scores.
    pub scale: f32,
}

const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 320.0;
const LEFT: f32 = 50.0;
const RIGHT: f32 = 50.0;
const TOP: f32 = 30.0;
const BOTTOM: f32 = 40.0;

/// The plot. Loss on the left axis, recall on the right one.
#[must_use]
pub fn svg(metrics: &[Metrics]) -> String {
    let last = metrics.last().map_or(1, |m| m.step).max(1) as f32;
    let top_loss = metrics.iter().map(|m| m.loss).fold(0.1f32, f32::max);
    let x = |step: usize| LEFT + (WIDTH - LEFT - RIGHT) * step as f32 / last;
    let y = |share: f32| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0));
    let line = |of: &dyn Fn(&Metrics) -> Option<f32>| -> String {
        let points = metrics.iter().filter_map(|m| of(m).map(|v| format!("{:.1},{:.1}", x(m.step), y(v))));
        points.collect::<Vec<_>>().join(" ")
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for tick in 0..=4u8 {
        let share = f32::from(tick) / 4.0;
        let at = y(share);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#a33\">{:.1}</text>",
            LEFT - 6.0,
            at + 4.0,
            share * top_loss
        );
        let _ =
            writeln!(out, "<text x=\"{}\" y=\"{:.1}\" fill=\"#236\">{share:.2}</text>", WIDTH - RIGHT + 6.0, at + 4.0);
        let step = (share * last) as usize;
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{step}</text>", x(step), HEIGHT - 20.0);
    }
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"18\" fill=\"#a33\">loss</text>");
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"18\" text-anchor=\"end\" fill=\"#236\">recall@1 (batch; dots: left-out style)</text>",
        WIDTH - RIGHT
    );
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>", WIDTH / 2.0, HEIGHT - 4.0);
    let loss = line(&|m| Some(m.loss / top_loss));
    let recall = line(&|m| Some(m.batch_recall_at_1));
    let _ = writeln!(out, "<polyline points=\"{loss}\" fill=\"none\" stroke=\"#a33\" stroke-width=\"1.2\"/>");
    let _ = writeln!(
        out,
        "<polyline points=\"{recall}\" fill=\"none\" stroke=\"#236\" stroke-width=\"1.2\" opacity=\"0.6\"/>"
    );
    for m in metrics {
        if let Some(recall) = m.validation_recall_at_1 {
            let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#236\"/>", x(m.step), y(recall));
        }
    }
    out.push_str("</svg>\n");
    out
}
