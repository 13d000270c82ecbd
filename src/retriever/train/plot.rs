//! Loss and recall over the steps, as one small SVG that needs no viewer but a browser.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::evaluate::Recall;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Finished steps.
    pub step: usize,
    /// InfoNCE of the step's batch, nats.
    pub loss: f32,
    /// Share of the batch's queries whose own document scored highest.
    pub batch_recall_at_1: f32,
    /// Recall of queries that are not learned from, over all documents, at the steps where it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Recall>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f32,
    /// Temperature's inverse, the factor on the scores.
    pub scale: f32,
}

const WIDTH: f32 = 720.0;
const HEIGHT: f32 = 340.0;
const LEFT: f32 = 50.0;
const RIGHT: f32 = 50.0;
const TOP: f32 = 44.0;
const BOTTOM: f32 = 40.0;

/// Name, colour, and its share of the height in a step.
type Curve = (&'static str, &'static str, fn(&Metrics, f32) -> Option<f32>);

const CURVES: [Curve; 5] = [
    ("loss", "#aa3333", |m, top| Some(m.loss / top)),
    ("batch recall@1", "#8899bb", |m, _| Some(m.batch_recall_at_1)),
    ("recall@1", "#223366", |m, _| m.evaluation.map(|e| e.recall_at_1)),
    ("recall@5", "#2a8a5a", |m, _| m.evaluation.map(|e| e.recall_at_5)),
    ("recall@10", "#c8841e", |m, _| m.evaluation.map(|e| e.recall_at_10)),
];

/// The plot. Loss on the left axis, recall on the right one.
#[must_use]
pub fn svg(metrics: &[Metrics]) -> String {
    let last = metrics.last().map_or(1, |m| m.step).max(1) as f32;
    let top_loss = metrics.iter().map(|m| m.loss).fold(0.1f32, f32::max);
    let x = |step: usize| LEFT + (WIDTH - LEFT - RIGHT) * step as f32 / last;
    let y = |share: f32| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0));
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
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>", WIDTH / 2.0, HEIGHT - 4.0);
    for (text, x, anchor) in [("loss", LEFT, "end"), ("recall", WIDTH - RIGHT, "start")] {
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>", TOP - 12.0);
    }
    let mut left = LEFT + 40.0;
    for (name, colour, share) in CURVES {
        let points: Vec<(f32, f32)> =
            metrics.iter().filter_map(|m| Some((x(m.step), y(share(m, top_loss)?)))).collect();
        if points.is_empty() {
            continue;
        }
        let (from, to) = (left, left + 18.0);
        let _ = writeln!(
            out,
            "<line x1=\"{from}\" x2=\"{to}\" y1=\"14\" y2=\"14\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"18\">{name}</text>",
            left + 24.0
        );
        left += 48.0 + 7.0 * name.len() as f32;
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let line = line.join(" ");
        let _ = writeln!(out, "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>");
        // What is measured now and then is marked where it was measured.
        if points.len() < metrics.len() {
            for (x, y) in points {
                let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
            }
        }
    }
    out.push_str("</svg>\n");
    out
}
