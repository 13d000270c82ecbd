//! Gates as one SVG: a panel for each condition, a line for each gate, its deviation as a band.

use std::fmt::Write as _;

use super::{GateStep, Gates, Spread};

const PANEL: f32 = 260.0;
const HEIGHT: f32 = 260.0;
const LEFT: f32 = 40.0;
const TOP: f32 = 44.0;
const BOTTOM: f32 = 44.0;
const GAP: f32 = 24.0;

/// Name, colour, and where it stands in a step.
type Gate = (&'static str, &'static str, fn(&GateStep) -> Option<Spread>);

const GATES: [Gate; 3] = [
    ("text input", "#2a78b5", |step| step.text_input),
    ("picture input", "#c8641e", |step| step.vision_input),
    ("forget", "#5a9a3c", |step| Some(step.forget)),
];

/// The plot.
#[must_use]
pub fn svg(measured: &[Gates]) -> String {
    let width = LEFT + measured.len() as f32 * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, (name, colour, _)) in GATES.iter().enumerate() {
        let x = LEFT + at as f32 * 110.0;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"16\" fill=\"{colour}\">{name}</text>");
    }
    for (at, gates) in measured.iter().enumerate() {
        panel(&mut out, LEFT + at as f32 * (PANEL + GAP), gates, at == 0);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, left: f32, gates: &Gates, scale: bool) {
    let last = gates.steps.len().saturating_sub(1).max(1) as f32;
    let x = |step: usize| left + 12.0 + (PANEL - 24.0) * step as f32 / last;
    let y = |share: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0) as f32);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (at, right) = (y(tick), left + PANEL);
        let _ = writeln!(out, "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>");
        if scale {
            let (x, y) = (left - 6.0, at + 4.0);
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{tick:.2}</text>");
        }
    }
    let middle = left + PANEL / 2.0;
    let heading = format!("{}, {} items", gates.given.name(), gates.items);
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"36\" text-anchor=\"middle\">{heading}</text>");
    for (at, step) in gates.steps.iter().enumerate() {
        let label = format!("{}/{}", step.text_layer, step.vision_layer);
        let y = HEIGHT - BOTTOM + 16.0;
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>", x(at));
    }
    let foot = HEIGHT - 10.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{foot}\" text-anchor=\"middle\">text / picture block</text>");
    for (_, colour, of) in GATES {
        let found: Vec<(usize, Spread)> =
            gates.steps.iter().enumerate().filter_map(|(at, step)| Some((at, of(step)?))).collect();
        let point = |at: &usize, share: f64| format!("{:.1},{:.1}", x(*at), y(share));
        let upper = found.iter().map(|(at, s)| point(at, s.mean + s.deviation));
        let lower = found.iter().rev().map(|(at, s)| point(at, s.mean - s.deviation));
        let band: Vec<String> = upper.chain(lower).collect();
        let line: Vec<String> = found.iter().map(|(at, s)| point(at, s.mean)).collect();
        let _ = writeln!(out, "<polygon points=\"{}\" fill=\"{colour}\" opacity=\"0.15\"/>", band.join(" "));
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (at, spread) in &found {
            let _ =
                writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*at), y(spread.mean));
        }
    }
}
