//! Ranking: the place of the gold article, Recall@K, mean reciprocal rank.

/// An article's URL in the form that two data sets agree on: without scheme and fragment, percent-decoded, blanks as
/// underscores.
#[must_use]
pub fn article_key(url: &str) -> String {
    let url = url.trim();
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let url = url.split_once('#').map_or(url, |(page, _)| page);
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: u8| char::from(b).to_digit(16);
        let decoded = match (first, tail) {
            (b'%', [a, b, ..]) => hex(*a).zip(hex(*b)).map(|(a, b)| (a * 16 + b) as u8),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    // Bytes that are no text stay as they were written.
    String::from_utf8(bytes).unwrap_or_else(|_| url.to_owned()).replace(' ', "_")
}

/// Rank of the first gold entry, counted from 1; `None` where it was not found. Both sides are keys of one kind.
#[must_use]
pub fn rank<R: AsRef<str>, G: AsRef<str>>(ranked: &[R], gold: &[G]) -> Option<usize> {
    ranked.iter().position(|r| gold.iter().any(|g| g.as_ref() == r.as_ref())).map(|at| at + 1)
}

/// Queries whose gold stands within the first `k`.
#[must_use]
pub fn hits(ranks: &[Option<usize>], k: usize) -> usize {
    ranks.iter().flatten().filter(|rank| **rank <= k).count()
}

/// 1 over the rank, 0 where the gold was not found.
#[must_use]
pub fn reciprocal(rank: Option<usize>) -> f64 {
    rank.map_or(0.0, |r| 1.0 / r as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_one_article_have_one_key() {
        for url in [
            "https://en.wikipedia.org/wiki/Edificio_Espa%C3%B1a",
            "http://en.wikipedia.org/wiki/Edificio España#History",
            " https://en.wikipedia.org/wiki/Edificio_España",
        ] {
            assert_eq!(article_key(url), "en.wikipedia.org/wiki/Edificio_España");
        }
        assert_eq!(article_key("https://x/100%"), "x/100%");
        assert_eq!(article_key("https://x/%ff%zz"), "x/%ff%zz");
    }

    #[test]
    fn ranks_count_from_one() {
        let ranks = [rank(&["a", "b"], &["b", "c"]), rank(&["a", "b"], &["a"]), rank(&["a"], &["z"])];
        assert_eq!(ranks, [Some(2), Some(1), None]);
        assert_eq!([1, 2, 5].map(|k| hits(&ranks, k)), [1, 2, 2]);
        assert_eq!(ranks.map(reciprocal), [0.5, 1.0, 0.0]);
    }
}
