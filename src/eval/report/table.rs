//! Numbers with their names: a table as text, as Markdown, as JSON.

use serde::Serialize;

use crate::eval::metric::Interval;
use crate::eval::metric::interval::{bootstrap_proportion, wilson};

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured: a model, a mode, a question type.
    pub name: String,
    /// By which metric.
    pub metric: String,
    /// The number, a share in [0, 1] for proportions.
    pub value: f64,
    /// Its 95 % interval, where there is one: of proportions Wilson's, else the bootstrap's.
    pub interval: Option<Interval>,
    /// The bootstrap's 95 % interval, where there is one. Of none or all right it has no width, which Wilson's has.
    pub bootstrap: Option<Interval>,
    /// Number of questions.
    pub n: usize,
}

impl Row {
    /// A proportion with Wilson's interval. Of no trials it is 0, without an interval.
    #[must_use]
    pub fn proportion(name: &str, metric: &str, successes: usize, n: usize) -> Self {
        let value = if n == 0 { 0.0 } else { successes as f64 / n as f64 };
        let (interval, bootstrap) = (wilson(successes, n), bootstrap_proportion(successes, n));
        Self { name: name.to_owned(), metric: metric.to_owned(), value, interval, bootstrap, n }
    }

    /// A number with the bootstrap's interval.
    #[must_use]
    pub fn mean(name: &str, metric: &str, value: f64, interval: Option<Interval>, n: usize) -> Self {
        Self { name: name.to_owned(), metric: metric.to_owned(), value, interval, bootstrap: interval, n }
    }
}

/// Rows under a title.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Table {
    /// What was measured on what.
    pub title: String,
    /// The numbers.
    pub rows: Vec<Row>,
    /// What a reader must know to compare them: data set, knowledge base, models, what was left out.
    pub notes: Vec<String>,
}

/// Heads of the columns.
pub const HEADER: [&str; 6] = ["name", "metric", "value", "95 % interval", "bootstrap", "n"];

impl Table {
    /// Aligned columns.
    #[must_use]
    pub fn to_text(&self) -> String {
        let cells = self.cells();
        let widths: Vec<usize> =
            (0..HEADER.len()).map(|i| cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
        let mut text = if self.title.is_empty() { String::new() } else { format!("{}\n", self.title) };
        for row in &cells {
            let line: Vec<_> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("{note}\n"));
        }
        text
    }

    /// A Markdown table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = if self.title.is_empty() { String::new() } else { format!("**{}**\n\n", self.title) };
        for (i, row) in self.cells().iter().enumerate() {
            let row = row.each_ref().map(|cell| cell.replace('\\', "\\\\").replace('|', "\\|"));
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if i == 0 {
                text.push_str("| --- | --- | ---: | --- | --- | ---: |\n");
            }
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    /// Every cell as it is shown, the heads first.
    #[must_use]
    pub fn cells(&self) -> Vec<[String; 6]> {
        let shown = |i: Option<Interval>| i.map_or(String::new(), |i| format!("{:.3} to {:.3}", i.low, i.high));
        let row = |row: &Row| {
            let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let (name, metric) = (one_line(&row.name), one_line(&row.metric));
            [name, metric, format!("{:.3}", row.value), shown(row.interval), shown(row.bootstrap), row.n.to_string()]
        };
        std::iter::once(HEADER.map(str::to_owned)).chain(self.rows.iter().map(row)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mean = Row::mean("a|b", "MRR", 0.5, None, 9);
        Table {
            title: "Flags".into(),
            rows: vec![Row::proportion("ReT-2", "R@1", 120, 300), mean],
            notes: vec!["kb starter".into()],
        }
    }

    #[test]
    fn text_is_aligned() {
        assert_eq!(
            table().to_text(),
            "Flags\n\
             name   metric  value  95 % interval   bootstrap       n\n\
             ReT-2  R@1     0.400  0.346 to 0.456  0.343 to 0.457  300\n\
             a|b    MRR     0.500                                  9\n\
             kb starter\n"
        );
    }

    #[test]
    fn markdown_keeps_its_columns() {
        let markdown = table().to_markdown();
        assert!(
            markdown.contains("\n| ReT-2 | R@1 | 0.400 | 0.346 to 0.456 | 0.343 to 0.457 | 300 |\n| a\\|b | MRR |"),
            "{markdown}"
        );
        assert!(markdown.ends_with("\nkb starter\n"));
    }

    #[test]
    fn json_has_all_fields() {
        let json = serde_json::to_value(table()).unwrap();
        assert_eq!(json["rows"][0]["n"], 300);
        assert!(json["rows"][0]["interval"]["low"].as_f64().unwrap() > 0.34);
        assert_eq!(json["rows"][1]["interval"], serde_json::Value::Null);
        assert_eq!(Row::proportion("x", "y", 0, 0).interval, None);
    }
}
