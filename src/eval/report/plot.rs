//! The plots of a report, as SVG whose colours are classes of the page.

use std::fmt::Write as _;

use super::Table;
use super::html::escaped;
use crate::eval::verdict::Cause;

/// A share as per cent.
fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn open(out: &mut String, (width, height): (f64, f64), id: &str, title: &str, about: &str) {
    let (title, about) = (escaped(title), escaped(about));
    let _ = write!(
        out,
        "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-about\">\n\
         <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-about\">{about}</desc>\n"
    );
}

/// Shares of right answers with their intervals: a group for each mode, a line for each kind of question.
pub(super) fn answers(table: &Table, metric: &str) -> Option<String> {
    const LEFT: f64 = 128.0;
    const WIDTH: f64 = 324.0;
    let rows: Vec<_> = table.rows.iter().filter(|row| row.metric == metric).collect();
    let split = |name: &str| name.split_once(", ").map(|(mode, kind)| (mode.to_owned(), kind.to_owned()));
    let named: Vec<_> = rows.iter().filter_map(|row| Some((split(&row.name)?, *row))).collect();
    let mut modes: Vec<&str> = named.iter().map(|((mode, _), _)| mode.as_str()).collect();
    modes.dedup();
    if modes.is_empty() {
        return None;
    }
    let bottom = 14.0 + modes.len() as f64 * 32.0 + named.len() as f64 * 19.0;
    let x = |share: f64| LEFT + WIDTH * share.clamp(0.0, 1.0);
    let mut out = String::new();
    open(
        &mut out,
        (560.0, bottom + 40.0),
        "plot-answers",
        "Share of right answers by mode and kind of question",
        "Points are shares, lines are 95 % intervals. The same numbers stand in the tables.",
    );
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (at, label) = (x(share), tick * 25);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at}\" y1=\"14\" x2=\"{at}\" y2=\"{bottom}\"/>\
             <text class=\"lab mid\" x=\"{at}\" y=\"{}\">{label}%</text>",
            bottom + 18.0
        );
    }
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"{}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>\
         <text class=\"lab mid\" x=\"{}\" y=\"{}\">{}</text>",
        x(0.0),
        x(1.0),
        x(0.5),
        bottom + 36.0,
        escaped(metric)
    );
    let mut y = 14.0;
    for mode in modes {
        y += 20.0;
        let _ = writeln!(out, "<text class=\"strong\" x=\"0\" y=\"{y}\">{}</text>", escaped(mode));
        for ((_, kind), row) in named.iter().filter(|((of, _), _)| of == mode) {
            y += 19.0;
            let (middle, class) = (y - 4.0, if kind == "all" { "all" } else { "one" });
            let at = x(row.value);
            let line = row.interval.map_or_else(String::new, |i| {
                format!(
                    "<line class=\"ival\" x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\"/>",
                    x(i.low),
                    x(i.high)
                )
            });
            let within =
                row.interval.map_or_else(String::new, |i| format!(" ({} to {})", percent(i.low), percent(i.high)));
            let (name, value) = (escaped(kind), percent(row.value));
            let _ = writeln!(
                out,
                "<g class=\"{class}\"><title>{name}: {value}{within} of {n}</title><text class=\"lab\" x=\"14\" y=\"{y}\">{name}</text>\
                 {line}<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{middle}\" r=\"4.8\"/>\
                 <text class=\"end\" x=\"506\" y=\"{y}\">{value}</text><text class=\"val end\" x=\"560\" y=\"{y}\">n {n}</text></g>",
                n = row.n
            );
        }
        y += 12.0;
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// Recall over its cut-offs, a line for each way of counting.
pub(super) fn recall(table: &Table) -> Option<String> {
    const LINES: [(&str, &str, &str); 3] =
        [("R", "by article", "s1"), ("section R", "by section", "s2"), ("pseudo-recall", "pseudo-recall", "s3")];
    let points = |metric: &str| -> Vec<(usize, f64)> {
        let of = |name: &str| name.strip_prefix(metric)?.strip_prefix('@')?.parse().ok();
        table.rows.iter().filter_map(|row| Some((of(&row.metric)?, row.value))).collect()
    };
    let lines: Vec<_> = LINES.into_iter().map(|(metric, name, class)| (points(metric), name, class)).collect();
    let mut ks: Vec<usize> = lines.iter().flat_map(|(points, ..)| points.iter().map(|(k, _)| *k)).collect();
    ks.sort_unstable();
    ks.dedup();
    if ks.len() < 2 {
        return None;
    }
    let step = 350.0 / (ks.len() - 1) as f64;
    let x = |k: usize| 64.0 + step * ks.iter().position(|known| *known == k).unwrap_or(0) as f64;
    let y = |share: f64| 300.0 - 284.0 * share.clamp(0.0, 1.0);
    let mut out = String::new();
    open(
        &mut out,
        (560.0, 344.0),
        "plot-recall",
        "Recall at K",
        "Share of questions with a right candidate among the first K. The same numbers stand in the tables.",
    );
    for tick in 0..=4 {
        let (at, label) = (y(f64::from(tick) / 4.0), tick * 25);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"44\" y1=\"{at}\" x2=\"430\" y2=\"{at}\"/>\
             <text class=\"lab end\" x=\"36\" y=\"{}\">{label}%</text>",
            at + 4.0
        );
    }
    for k in &ks {
        let at = x(*k);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"300\" x2=\"{at:.1}\" y2=\"305\"/>\
             <text class=\"lab mid\" x=\"{at:.1}\" y=\"319\">{k}</text>"
        );
    }
    out.push_str(
        "<line class=\"axis\" x1=\"44\" y1=\"300\" x2=\"430\" y2=\"300\"/>\
         <text class=\"lab mid\" x=\"237\" y=\"338\">K, number of candidates</text>\n",
    );
    // Names stand beside the ends of their lines, and no two of them in one place.
    let mut last: Vec<(f64, usize)> =
        lines.iter().enumerate().filter_map(|(n, (points, ..))| Some((y(points.last()?.1), n))).collect();
    last.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut places = [0.0; LINES.len()];
    let mut free: f64 = 14.0;
    for (end, n) in last {
        places[n] = free.max(end);
        free = places[n] + 34.0;
    }
    for (n, (points, name, class)) in lines.iter().enumerate() {
        let (Some(first), Some(end)) = (points.first(), points.last()) else { continue };
        let path: Vec<String> = points.iter().map(|(k, share)| format!("{:.1} {:.1}", x(*k), y(*share))).collect();
        let _ = write!(out, "<g class=\"{class}\"><path class=\"line\" d=\"M{}\"/>", path.join("L"));
        for (k, share) in points {
            let _ = write!(
                out,
                "<g><title>{name}: {} at K = {k}</title><circle class=\"mark\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.8\"/></g>",
                percent(*share),
                x(*k),
                y(*share)
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"name\" x=\"432\" y=\"{:.1}\">{name}</text><text class=\"val\" x=\"432\" y=\"{:.1}\">{} to {}</text></g>",
            places[n],
            places[n] + 15.0,
            percent(first.1),
            percent(end.1)
        );
    }
    out.push_str("</svg>\n");
    Some(out)
}

/// What became of the questions: a bar for each mode.
pub(super) fn causes(table: &Table) -> Option<String> {
    const LEFT: f64 = 132.0;
    const WIDTH: f64 = 828.0;
    let mut modes: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    modes.dedup();
    if modes.is_empty() {
        return None;
    }
    let bottom = 34.0 + 44.0 * modes.len() as f64;
    let mut out = String::new();
    open(
        &mut out,
        (960.0, bottom + 36.0),
        "plot-causes",
        "What became of the questions, by mode",
        "One bar for each mode. The same numbers stand in the tables.",
    );
    let mut x = LEFT;
    for cause in Cause::ALL.into_iter().filter(|cause| table.rows.iter().any(|row| row.metric == cause.name())) {
        let _ = writeln!(
            out,
            "<rect class=\"key o-{}\" x=\"{x}\" y=\"2\" width=\"15\" height=\"15\" rx=\"2\"/>\
             <text x=\"{}\" y=\"14\">{}</text>",
            class(cause),
            x + 21.0,
            cause.name()
        );
        x += 42.0 + 7.0 * cause.name().len() as f64;
    }
    let mut y = 40.0;
    for mode in modes {
        let _ = writeln!(out, "<text class=\"strong end\" x=\"120\" y=\"{}\">{}</text>", y + 20.0, escaped(mode));
        let mut x = LEFT;
        for row in table.rows.iter().filter(|row| row.name == mode) {
            let Some(cause) = Cause::ALL.into_iter().find(|cause| cause.name() == row.metric) else { continue };
            let (count, width) = ((row.value * row.n as f64).round(), WIDTH * row.value);
            let digits = if width > 10.0 + 8.0 * count.to_string().len() as f64 {
                format!("<text x=\"{:.1}\" y=\"{}\">{count}</text>", x + width / 2.0, y + 20.0)
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "<g class=\"seg\"><title>{mode}, {}: {count} of {} ({})</title>\
                 <rect class=\"o-{}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"30\"/>{digits}</g>",
                row.metric,
                row.n,
                percent(row.value),
                class(cause),
                mode = escaped(mode)
            );
            x += width;
        }
        y += 44.0;
    }
    for tick in 0..=4 {
        let (at, anchor) = (LEFT + WIDTH * f64::from(tick) / 4.0, if tick == 4 { "end" } else { "mid" });
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{at}\" y1=\"{bottom}\" x2=\"{at}\" y2=\"{}\"/>\
             <text class=\"lab {anchor}\" x=\"{at}\" y=\"{}\">{}%</text>",
            bottom + 5.0,
            bottom + 20.0,
            tick * 25
        );
    }
    let _ = writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"960\" y2=\"{bottom}\"/></svg>");
    Some(out)
}

/// The part of a class's name.
fn class(cause: Cause) -> &'static str {
    cause.name().split(' ').next().unwrap_or_default()
}
