//! Stand-ins for retrieval in evaluations: articles that are given, and an article that is kept from being found.

use std::collections::HashMap;
use std::sync::Arc;

use super::{About, PartError, QueryEncoder, Search};
use crate::kb::{Article, Hit};
use crate::retriever::Item;

/// Articles by URL, to be asked about by name: [`super::Mode::OracleEntity`], [`super::Mode::OraclePassage`]. Nothing
/// can be searched for among them.
#[derive(Debug, Default)]
pub struct GivenArticles(HashMap<String, Article>);

impl GivenArticles {
    /// These articles.
    #[must_use]
    pub fn new(articles: impl IntoIterator<Item = Article>) -> Self {
        Self(articles.into_iter().map(|article| (article.url.clone(), article)).collect())
    }
}

impl Search for GivenArticles {
    fn about(&self) -> About {
        About::new(format!("{} given articles", self.0.len()), "")
    }

    fn search(&self, _: &[f32], _: &str, _: usize) -> Result<Vec<Hit>, PartError> {
        Err(PartError::failure("articles that are given cannot be searched"))
    }

    fn article(&self, url: &str) -> Result<Option<Article>, PartError> {
        Ok(self.0.get(url).cloned())
    }
}

impl QueryEncoder for GivenArticles {
    fn about(&self) -> About {
        About::new("none", "")
    }

    fn encode(&self, _: Item) -> Result<Vec<f32>, PartError> {
        Err(PartError::failure("there is no retriever where articles are given"))
    }
}

/// A search that does not find certain articles: what a knowledge base without them would give.
pub struct Hiding {
    search: Arc<dyn Search>,
    hidden: Vec<String>,
}

impl Hiding {
    /// Hides the articles of these URLs.
    #[must_use]
    pub fn new(search: Arc<dyn Search>, hidden: Vec<String>) -> Self {
        Self { search, hidden }
    }
}

impl Search for Hiding {
    fn about(&self) -> About {
        let About { name, fingerprint } = self.search.about();
        About::new(format!("{name} without {} articles", self.hidden.len()), fingerprint)
    }

    fn search(&self, query: &[f32], words: &str, k: usize) -> Result<Vec<Hit>, PartError> {
        // An article of several parts may take several places; of more than four each takes one from the others.
        let mut hits = self.search.search(query, words, k + 4 * self.hidden.len())?;
        hits.retain(|hit| !self.hidden.contains(&hit.article.url));
        hits.truncate(k);
        Ok(hits)
    }

    fn article(&self, url: &str) -> Result<Option<Article>, PartError> {
        if self.hidden.iter().any(|hidden| hidden == url) { Ok(None) } else { self.search.article(url) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    struct Three;
    impl Search for Three {
        fn about(&self) -> About {
            About::new("three", "3")
        }
        fn search(&self, _: &[f32], _: &str, k: usize) -> Result<Vec<Hit>, PartError> {
            let hit = |url: &&str| Hit {
                article: Article { url: (*url).into(), ..Article::default() },
                score: 0.5,
                part: None,
            };
            Ok(["a", "b", "c"].iter().map(hit).take(k).collect())
        }
        fn article(&self, url: &str) -> Result<Option<Article>, PartError> {
            Ok(Some(Article { url: url.into(), ..Article::default() }))
        }
    }

    #[test]
    fn what_is_hidden_is_not_found_and_its_place_is_filled() {
        let hiding = Hiding::new(Arc::new(Three), vec!["a".into()]);
        let found: Vec<String> = hiding.search(&[], "", 2).unwrap().into_iter().map(|hit| hit.article.url).collect();
        assert_eq!(found, ["b", "c"]);
        assert!(hiding.article("a").unwrap().is_none() && hiding.article("b").unwrap().is_some());
    }
}
