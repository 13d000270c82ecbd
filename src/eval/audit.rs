//! Whether a data set and a knowledge base fit: what is missing is told before anything is computed.

use serde::Serialize;

use super::Question;
use super::run::DataFacts;
use crate::kb::Article;

/// Examples that are kept of each problem.
const TOLD: usize = 5;

/// A kind of problem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub what: &'static str,
    /// How many questions have it.
    pub questions: usize,
    /// The first of them: the question, and what it names.
    pub examples: Vec<(String, String)>,
    /// The question that was counted last.
    #[serde(skip)]
    last: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Audit {
    /// Questions that would be asked.
    pub questions: usize,
    /// What was read of the data set.
    pub data: DataFacts,
    /// Gold articles that were looked for, each once.
    pub articles: usize,
    /// Problems, those that nothing has left out.
    pub problems: Vec<Problem>,
}

impl Audit {
    /// Looks at every question. `article` finds one by its URL.
    ///
    /// # Errors
    /// What `article` says.
    pub fn new<E>(
        questions: &[Question],
        data: &DataFacts,
        mut article: impl FnMut(&str) -> Result<Option<Article>, E>,
        mut progress: impl FnMut(usize),
    ) -> Result<Self, E> {
        let mut absent = Problem { what: "the right article is not in the knowledge base", ..Problem::default() };
        let mut no_section = Problem { what: "the right section is not in the article", ..Problem::default() };
        let mut empty = Problem { what: "the right section has no text", ..Problem::default() };
        let mut nameless = Problem { what: "no article is named as right", ..Problem::default() };
        let mut no_picture = Problem { what: "the picture is missing", ..Problem::default() };
        let mut unpictured = Problem { what: "no picture is named", ..Problem::default() };
        let mut unscored = Problem { what: "the metric cannot score it", ..Problem::default() };
        let mut known = std::collections::HashMap::new();
        for (n, question) in questions.iter().enumerate() {
            progress(n);
            match (question.image_ids.first(), &question.picture) {
                (Some(id), None) => no_picture.note(question, id),
                (None, _) => unpictured.note(question, ""),
                _ => {}
            }
            if question.urls.is_empty() {
                nameless.note(question, "");
            }
            if question.score(&question.reference()).is_none() && !question.references().is_empty() {
                unscored.note(question, &question.reference());
            }
            let mut found = Vec::new();
            for url in &question.urls {
                if !known.contains_key(url) {
                    let texts =
                        article(url)?.map(|a| a.sections.into_iter().map(|s| !s.text.trim().is_empty()).collect());
                    known.insert(url.clone(), texts);
                }
                let texts: Option<&Vec<bool>> = known.get(url).and_then(Option::as_ref);
                match texts {
                    Some(texts) => found.push(texts.clone()),
                    None => absent.note(question, url),
                }
            }
            // Of several articles no data set says which section is whose.
            if let [texts] = &found[..]
                && question.urls.len() == 1
            {
                for section in &question.section_ids {
                    match texts.get(*section) {
                        None => no_section.note(question, &format!("section {section} of {}", texts.len())),
                        Some(false) => empty.note(question, &format!("section {section}")),
                        Some(true) => {}
                    }
                }
            }
        }
        let mut problems = vec![absent, no_section, empty, nameless, no_picture, unpictured, unscored];
        problems.retain(|problem| problem.questions > 0);
        Ok(Self { questions: questions.len(), data: data.clone(), articles: known.len(), problems })
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.data.dirty == 0
    }

    /// In words, a line for each thing.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let data = &self.data;
        let pictures = &data.pictures;
        let mut lines = vec![format!(
            "{} questions of {}, {} articles, {} of {} pictures found",
            self.questions, data.name, self.articles, pictures.found, pictures.named
        )];
        if data.dirty > 0 {
            let first = data.first_dirty.as_deref().unwrap_or_default();
            lines.push(format!("{} rows cannot be used (first: {first})", data.dirty));
        }
        if data.two_hop > 0 {
            lines.push(format!("{} 2_hop questions are left out", data.two_hop));
        }
        for problem in &self.problems {
            let example =
                |(id, what): &(String, String)| if what.is_empty() { id.clone() } else { format!("{id}: {what}") };
            let examples: Vec<String> = problem.examples.iter().map(example).collect();
            lines.push(format!("{} questions: {} ({})", problem.questions, problem.what, examples.join("; ")));
        }
        if self.is_clean() {
            lines.push("nothing is missing".to_owned());
        }
        lines
    }
}

impl Problem {
    fn note(&mut self, question: &Question, what: &str) {
        // A question is counted once, however often it has a problem.
        if self.questions > 0 && self.last == question.id {
            return;
        }
        self.last.clone_from(&question.id);
        self.questions += 1;
        if self.examples.len() < TOLD {
            self.examples.push((question.id.clone(), what.to_owned()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::EvalError;
    use crate::eval::dataset::evqa;
    use crate::kb::Section;

    #[test]
    fn what_does_not_fit_is_counted_and_shown() {
        let csv = "question,question_type,answer,wikipedia_url,evidence_section_id,dataset_image_ids\n\
                   a,automatic,x,here,0,p\nb,automatic,x,here,7,\nc,automatic,x,nowhere,0,q\nd,automatic,The,here,1,p\n";
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("q.csv"), csv).unwrap();
        let mut questions = evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions;
        questions[0].picture = Some("p.png".into());
        questions[3].picture = Some("p.png".into());
        let mut asked = 0;
        let article = |url: &str| -> Result<Option<Article>, EvalError> {
            asked += 1;
            let section = |text: &str| Section { title: "s".into(), text: text.into() };
            Ok((url == "here").then(|| Article { sections: vec![section("t"), section(" ")], ..Article::default() }))
        };
        let audit =
            Audit::new(&questions, &DataFacts { name: "q.csv".into(), ..DataFacts::default() }, article, |_| {})
                .unwrap();
        let lines = audit.lines();
        assert_eq!((asked, audit.articles, audit.is_clean()), (2, 2, false));
        assert_eq!(
            lines[1..],
            [
                "1 questions: the right article is not in the knowledge base (E-VQA_2: nowhere)",
                "1 questions: the right section is not in the article (E-VQA_1: section 7 of 2)",
                "1 questions: the right section has no text (E-VQA_3: section 1)",
                "1 questions: the picture is missing (E-VQA_2: q)",
                "1 questions: no picture is named (E-VQA_1)",
                "1 questions: the metric cannot score it (E-VQA_3: The)",
            ]
        );
        let clean = Audit::new(
            &questions[..1],
            &DataFacts::default(),
            |_| -> Result<Option<Article>, EvalError> {
                Ok(Some(Article {
                    sections: vec![Section { title: String::new(), text: "t".into() }],
                    ..Article::default()
                }))
            },
            |_| {},
        )
        .unwrap();
        assert!(clean.is_clean() && clean.lines()[1] == "nothing is missing", "{:?}", clean.lines());
    }
}
