//! Rankings become Recall@K and MRR with 95 % intervals.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::metric::interval::bootstrap;
use super::metric::recall::{article_key, hits, rank, reciprocal};
use super::{EvalError, Row, Table};

/// Resamples of the interval of MRR, and their seed.
const RESAMPLES: usize = 2000;
const SEED: u64 = 20_250_911;

/// One query and what was found for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ranking {
    /// The query's id.
    pub id: String,
    /// URLs of the articles found, best first.
    pub ranked: Vec<String>,
    /// URLs of the right articles.
    pub gold: Vec<String>,
}

/// Articles that no picture can tell apart, since they have the same one: France's flag is that of nine territories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    group_of: HashMap<String, usize>,
}

impl Groups {
    /// From sets of URLs.
    #[must_use]
    pub fn new<S: AsRef<str>>(sets: &[Vec<S>]) -> Self {
        let members = |(i, set): (usize, &Vec<S>)| set.iter().map(|u| (article_key(u.as_ref()), i)).collect::<Vec<_>>();
        Self { group_of: sets.iter().enumerate().flat_map(members).collect() }
    }

    /// Of the starter: the sets of one drawing style in `identical.csv` (`style,asked,alpha2`), whose codes
    /// `images.csv` (`entity_url,style,split,path`) maps to URLs.
    ///
    /// # Errors
    /// A file that cannot be read or has no such columns, or a code without a picture.
    pub fn of_starter(dir: &Path, style: &str) -> Result<Self, EvalError> {
        let mut urls = HashMap::new();
        for [url, drawn, path] in columns(&dir.join("images.csv"), ["entity_url", "style", "path"])? {
            if drawn == style {
                let code = Path::new(&path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                urls.insert(code, url);
            }
        }
        let identical = dir.join("identical.csv");
        let mut sets = Vec::new();
        for [drawn, codes] in columns(&identical, ["style", "alpha2"])? {
            if drawn == style {
                let url = |code: &str| {
                    urls.get(code).cloned().ok_or_else(|| EvalError::Csv {
                        path: identical.clone(),
                        reason: format!("`{code}` has no picture of style {style} in images.csv"),
                    })
                };
                sets.push(codes.split_whitespace().map(url).collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(Self::new(&sets))
    }

    /// A key that all members of a group have in common.
    fn merge(&self, key: &str) -> String {
        self.group_of.get(key).map_or_else(|| key.to_owned(), |group| format!("group {group}"))
    }
}

/// Rows of a CSV file, some columns of it.
fn columns<const N: usize>(path: &Path, names: [&'static str; N]) -> Result<Vec<[String; N]>, EvalError> {
    let mut reader = csv::Reader::from_reader(fs_err::File::open(path)?);
    let failed = |e: csv::Error| EvalError::Csv { path: path.to_owned(), reason: e.to_string() };
    let header = reader.headers().map_err(failed)?.clone();
    let mut at = [0; N];
    for (at, missing) in at.iter_mut().zip(names) {
        *at = header.iter().position(|h| h == missing).ok_or_else(|| EvalError::Column {
            path: path.to_owned(),
            missing,
            found: header.iter().collect::<Vec<_>>().join(", "),
        })?;
    }
    let row = |r: csv::StringRecord| at.map(|i| r.get(i).unwrap_or_default().to_owned());
    reader.records().map(|r| r.map(row).map_err(failed)).collect()
}

/// Ranks of the gold articles, query by query: strictly by article, or with the members of a group as one.
#[must_use]
pub fn ranks(rankings: &[Ranking], groups: Option<&Groups>) -> Vec<Option<usize>> {
    let key = |url: &String| {
        let key = article_key(url);
        groups.map_or(key.clone(), |g| g.merge(&key))
    };
    let rank_of = |ranking: &Ranking| {
        let gold: Vec<_> = ranking.gold.iter().map(key).collect();
        let mut seen = HashSet::new();
        let ranked: Vec<_> = ranking.ranked.iter().map(key).filter(|k| seen.insert(k.clone())).collect();
        rank(&ranked, &gold)
    };
    rankings.iter().map(rank_of).collect()
}

/// A table of Recall@K for each `ks`, and MRR; where `groups` are given, of both again with identical pictures merged.
/// The strict numbers come first: they are the ones to compare.
#[must_use]
pub fn evaluate(name: &str, rankings: &[Ranking], ks: &[usize], groups: Option<&Groups>) -> Table {
    let mut rows = strict_or_merged(name, "", &ranks(rankings, None), ks);
    if let Some(groups) = groups {
        rows.extend(strict_or_merged(name, ", identical pictures merged", &ranks(rankings, Some(groups)), ks));
    }
    let mut notes = Vec::new();
    let without = rankings.iter().filter(|r| r.gold.is_empty()).count();
    if without > 0 {
        notes.push(format!("{without} queries have no gold article and count as not found"));
    }
    let deepest = rankings.iter().map(|r| r.ranked.len()).max().unwrap_or(0);
    notes.push(format!("MRR over the first {deepest} articles found"));
    Table { title: String::new(), rows, notes }
}

fn strict_or_merged(name: &str, suffix: &str, ranks: &[Option<usize>], ks: &[usize]) -> Vec<Row> {
    let recall = |k: &usize| Row::proportion(name, &format!("R@{k}{suffix}"), hits(ranks, *k), ranks.len());
    let mut rows: Vec<_> = ks.iter().map(recall).collect();
    let reciprocals: Vec<_> = ranks.iter().copied().map(reciprocal).collect();
    let mean = bootstrap(&reciprocals, RESAMPLES, SEED);
    let value = mean.map_or(0.0, |m| m.mean);
    rows.push(Row::mean(name, &format!("MRR{suffix}"), value, mean.map(|m| m.interval), ranks.len()));
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn ranking(id: &str, ranked: &[&str], gold: &str) -> Ranking {
        let url = |name: &&str| format!("https://en.wikipedia.org/wiki/{name}");
        Ranking { id: id.into(), ranked: ranked.iter().map(url).collect(), gold: vec![url(&gold)] }
    }

    fn value(table: &Table, metric: &str) -> f64 {
        table.rows.iter().find(|r| r.metric == metric).unwrap().value
    }

    #[test]
    fn identical_pictures_count_strictly_first_and_merged_second() {
        let rankings = [
            ranking("fr", &["Mayotte", "Guadeloupe", "France"], "France"),
            ranking("is", &["Norway", "Guadeloupe", "France", "Iceland"], "Iceland"),
            ranking("no", &["Norway"], "Norway"),
            ranking("xx", &["Norway"], "Nowhere"),
        ];
        let groups = Groups::new(&[vec![
            "http://en.wikipedia.org/wiki/France",
            "https://en.wikipedia.org/wiki/Mayotte",
            "https://en.wikipedia.org/wiki/Guadeloupe",
        ]]);
        assert_eq!(ranks(&rankings, None), [Some(3), Some(4), Some(1), None]);
        assert_eq!(ranks(&rankings, Some(&groups)), [Some(1), Some(3), Some(1), None]);
        let table = evaluate("m", &rankings, &[1, 5], Some(&groups));
        assert_eq!(value(&table, "R@1"), 0.25);
        assert_eq!(value(&table, "R@5"), 0.75);
        assert_eq!(value(&table, "R@1, identical pictures merged"), 0.5);
        assert!((value(&table, "MRR") - (1.0 / 3.0 + 0.25 + 1.0) / 4.0).abs() < 1e-12);
        assert!(table.rows.iter().all(|r| r.interval.is_some_and(|i| i.low <= r.value && r.value <= i.high)));
        assert_eq!(table.rows[0].metric, "R@1", "the strict number comes first");
    }

    #[test]
    fn the_starters_groups_are_those_of_one_style() {
        let dir = tempfile::tempdir().unwrap();
        let images = "entity_url,style,split,path\n\
                      https://w/France,twemoji,test,images/twemoji/fr.png\nhttps://w/Mayotte,twemoji,test,images/twemoji/yt.png\n\
                      https://w/Norway,iso,train,images/iso/no.png\nhttps://w/Bouvet,iso,train,images/iso/bv.png\n";
        fs_err::write(dir.path().join("images.csv"), images).unwrap();
        let identical = "style,asked,alpha2\niso,no,bv no\ntwemoji,fr,fr yt\n";
        fs_err::write(dir.path().join("identical.csv"), identical).unwrap();
        let groups = Groups::of_starter(dir.path(), "twemoji").unwrap();
        assert_eq!(groups, Groups::new(&[vec!["https://w/France", "https://w/Mayotte"]]));
        fs_err::write(dir.path().join("identical.csv"), "style,asked,alpha2\ntwemoji,fr,fr zz\n").unwrap();
        let message = Groups::of_starter(dir.path(), "twemoji").unwrap_err().to_string();
        assert!(message.ends_with("`zz` has no picture of style twemoji in images.csv"), "{message}");
        fs_err::write(dir.path().join("identical.csv"), "style,codes\n").unwrap();
        let message = Groups::of_starter(dir.path(), "twemoji").unwrap_err().to_string();
        assert!(message.ends_with("identical.csv: no column `alpha2`; found style, codes"), "{message}");
    }

    #[test]
    fn no_queries_make_a_table_without_intervals() {
        let table = evaluate("m", &[], &[1], None);
        assert!(table.rows.iter().all(|r| r.n == 0 && r.value == 0.0 && r.interval.is_none()));
    }
}
