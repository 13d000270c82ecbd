//! Verdicts: whether an answer is right, and where it went wrong if it is not.

use serde::{Deserialize, Serialize};

use super::answers::{Mode, Outcome};
use super::dataset::Answer;
use super::judged::Judged;
use super::metric::recall::article_key;
use super::{Kind, Question, metric};

/// What decides whether an answer is right.
#[derive(Debug, Clone, Copy)]
pub enum Judge<'a> {
    /// The official metric, as far as it compares texts.
    Text,
    /// The same, and BEM where Encyclopedic-VQA's finds no match.
    Bem(&'a Judged),
}

impl Judge<'_> {
    /// Whether `prediction` is right; `None` where the metric cannot score the question.
    #[must_use]
    pub fn score(&self, question: &Question, prediction: &str) -> Option<bool> {
        let text = question.score(prediction);
        match (self, &question.answer) {
            (Self::Bem(judged), Answer::Evqa(_)) if text != Some(true) => judged.accepts(question, prediction).or(text),
            _ => text,
        }
    }

    /// Name of the metric.
    #[must_use]
    pub fn metric(&self, question: &Question) -> &'static str {
        match (self, &question.answer) {
            (Self::Bem(judged), Answer::Evqa(_)) if judged.is_port() => metric::EVQA_BEM_PORT,
            (Self::Bem(_), Answer::Evqa(_)) => metric::EVQA_BEM,
            _ => question.metric(),
        }
    }
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The answer is right.
    Right,
    /// The article is not the right one.
    EntityMissed,
    /// The article is, but no section that holds the answer was before the reader.
    SectionMissed,
    /// A section that holds the answer was before the reader, or nothing was to be looked for.
    ReaderWrong,
    /// The answer is wrong, and nobody knows where it went wrong: the data set names no section, or another system answered.
    Wrong,
    /// There is no answer, and none was claimed.
    Abstained,
    /// There is no answer: an error.
    Failed,
    /// The metric cannot score the question.
    Unscored,
}

impl Cause {
    /// All of them, from good to bad.
    pub const ALL: [Self; 8] = [
        Self::Right,
        Self::EntityMissed,
        Self::SectionMissed,
        Self::ReaderWrong,
        Self::Wrong,
        Self::Abstained,
        Self::Failed,
        Self::Unscored,
    ];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::EntityMissed => "entity missed",
            Self::SectionMissed => "section missed",
            Self::ReaderWrong => "reader wrong",
            Self::Wrong => "wrong",
            Self::Abstained => "abstained",
            Self::Failed => "failed",
            Self::Unscored => "unscored",
        }
    }
}

/// An outcome with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// What was answered.
    pub outcome: Outcome,
    /// The question's type.
    pub kind: Kind,
    /// Name of the metric.
    pub metric: &'static str,
    /// Whether it is right; a failed one is wrong, and so is one without an answer. `None` where the metric cannot score the
    /// question.
    pub correct: Option<bool>,
    /// Whether it is about the right article, which an abstention need not be; `None` where nothing was looked for.
    pub entity: Option<bool>,
    /// Place among the passages, from 1, of the first section that holds the answer, and `Some(None)` where it is not among
    /// them; `None` where nothing was looked for, or the data set names no section.
    pub section: Option<Option<usize>>,
}

impl Scored {
    /// Scores an outcome.
    #[must_use]
    pub fn new(question: &Question, outcome: Outcome, judge: &Judge) -> Self {
        let reply = outcome.reply.as_ref();
        // Whoever abstains says nothing that could be right, and has found neither article nor section.
        let abstained = reply.is_some_and(|reply| reply.abstained.is_some());
        let correct = match reply {
            Some(reply) if !abstained => judge.score(question, &reply.answer),
            _ => Some(false),
        };
        let about = reply.and_then(|reply| reply.entity.as_ref());
        let looked = outcome.mode != Mode::NoRetrieval && (about.is_some() || abstained);
        let gold = Gold::of(question);
        let entity = (looked && !gold.articles.is_empty()).then(|| about.is_some_and(|url| gold.is_article(url)));
        let section = (looked && !question.section_ids.is_empty()).then(|| {
            let shown = reply.map_or(&[][..], |reply| &reply.passages);
            shown.iter().position(|passage| gold.is_section(&passage.url, passage.section_index)).map(|at| at + 1)
        });
        Self { metric: judge.metric(question), outcome, kind: question.kind, correct, entity, section }
    }

    /// Whether a section that holds the answer was before the reader.
    #[must_use]
    pub fn section_found(&self) -> Option<bool> {
        self.section.map(|place| place.is_some())
    }

    /// Whether there is no answer, and none was claimed.
    #[must_use]
    pub fn abstained(&self) -> bool {
        self.outcome.reply.as_ref().is_some_and(|reply| reply.abstained.is_some())
    }

    /// What became of the question.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match (self.correct, self.entity, self.section_found()) {
            _ if self.outcome.reply.is_none() => Cause::Failed,
            (Some(true), ..) => Cause::Right,
            _ if self.abstained() => Cause::Abstained,
            (None, ..) => Cause::Unscored,
            (_, Some(false), _) => Cause::EntityMissed,
            (_, _, Some(false)) => Cause::SectionMissed,
            (_, _, Some(true)) => Cause::ReaderWrong,
            _ if self.outcome.mode == Mode::NoRetrieval => Cause::ReaderWrong,
            _ => Cause::Wrong,
        }
    }
}

/// What a question's data set calls right, in a form that can be compared.
#[derive(Debug, Clone)]
pub struct Gold<'a> {
    articles: Vec<String>,
    sections: &'a [usize],
}

impl<'a> Gold<'a> {
    /// Of a question.
    #[must_use]
    pub fn of(question: &'a Question) -> Self {
        Self { articles: question.urls.iter().map(|url| article_key(url)).collect(), sections: &question.section_ids }
    }

    /// Whether it is an article that the data set names.
    #[must_use]
    pub fn is_article(&self, url: &str) -> bool {
        self.articles.contains(&article_key(url))
    }

    /// Whether it is a section that the data set names.
    #[must_use]
    pub fn is_section(&self, url: &str, section: usize) -> bool {
        self.sections.contains(&section) && self.is_article(url)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::answers::{Reply, Shown};
    use crate::eval::dataset::evqa;

    fn question() -> Question {
        let csv = "question,question_type,answer,wikipedia_url,evidence_section_id\n\
                   When?,automatic,1925,https://en.wikipedia.org/wiki/Edificio_Espa%C3%B1a,2\n";
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("q.csv"), csv).unwrap();
        evqa::read(&dir.path().join("q.csv"), evqa::Options::default()).unwrap().questions.remove(0)
    }

    fn scored(mode: Mode, reply: Result<Reply, &str>) -> Scored {
        let (reply, error) = reply.map_or_else(|e| (None, Some(e.to_owned())), |reply| (Some(reply), None));
        let (id, question_, reference) = ("E-VQA_0".to_owned(), "When?".to_owned(), "1925".to_owned());
        let outcome =
            Outcome { id, mode, question: question_, reference, reply, error, seconds: 0.0, remembered: false };
        Scored::new(&question(), outcome, &Judge::Text)
    }

    fn reply(answer: &str, url: &str, sections: &[usize]) -> Reply {
        let shown = |section: &usize| Shown { url: url.into(), section_index: *section, ..Shown::default() };
        let passages = sections.iter().map(shown).collect();
        Reply { answer: answer.into(), entity: Some(url.into()), passages, ..Reply::default() }
    }

    #[test]
    fn a_wrong_answer_is_put_down_to_the_first_thing_that_went_wrong() {
        const URL: &str = "http://en.wikipedia.org/wiki/Edificio_España";
        let cause = |reply| scored(Mode::Retrieved, Ok(reply)).cause();
        assert_eq!(cause(reply("1925", "elsewhere", &[])), Cause::Right, "by luck");
        assert_eq!(cause(reply("1926", "elsewhere", &[2])), Cause::EntityMissed);
        assert_eq!(cause(reply("1926", URL, &[0, 1])), Cause::SectionMissed);
        assert_eq!(cause(reply("1926", URL, &[0, 2])), Cause::ReaderWrong);
        let place = scored(Mode::Retrieved, Ok(reply("1926", URL, &[0, 2])));
        assert_eq!((place.entity, place.section, place.section_found()), (Some(true), Some(Some(2)), Some(true)));
        let silent = Reply { abstained: Some("too far".into()), answer: "1925".into(), ..Reply::default() };
        let silent = scored(Mode::Retrieved, Ok(silent));
        assert_eq!((silent.cause(), silent.correct, silent.entity), (Cause::Abstained, Some(false), Some(false)));
        assert_eq!(scored(Mode::Retrieved, Err("no picture")).cause(), Cause::Failed);
        let alone = scored(Mode::NoRetrieval, Ok(Reply::from("1926")));
        assert_eq!((alone.cause(), alone.entity, alone.section), (Cause::ReaderWrong, None, None));
    }
}
