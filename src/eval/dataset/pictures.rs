//! The pictures of a data set's questions.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Question;
use crate::eval::EvalError;
use crate::io::pictures::{Layout, PictureFiles};

/// Pictures that are told of by name.
const TOLD: usize = 5;

/// How many pictures there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Questions that name a picture.
    pub named: usize,
    /// Of those, with a file.
    pub found: usize,
    /// The first of those without one: the question and what it names.
    pub missing: Vec<(String, String)>,
}

/// Looks for the picture of each question and notes where it is. Questions are of several sources; where `root` has a
/// folder called as a source (`inaturalist`, `landmarks`), its pictures are looked for there. A `map` (a file from id to path)
/// is asked first.
///
/// # Errors
/// A map that cannot be read, or a name that leads out of its folder.
pub fn find(
    questions: &mut [Question],
    root: &Path,
    layout: &Layout,
    map: Option<&Path>,
) -> Result<Pictures, EvalError> {
    let map = map.map(|file| Layout::Map(file.to_owned()));
    let mut places: Vec<(String, Vec<PictureFiles>)> = Vec::new();
    for question in &mut *questions {
        let Some(id) = question.image_ids.first() else { continue };
        let at = match places.iter().position(|(source, _)| *source == question.source) {
            Some(at) => at,
            None => {
                let own = Some(&question.source).filter(|source| is_folder(source)).map(|source| root.join(source));
                let roots = own.filter(|own| own.is_dir()).into_iter().chain([root.to_owned()]);
                let mut files = Vec::new();
                for root in roots {
                    for layout in map.iter().chain([layout]) {
                        files.push(PictureFiles::with_layout(&root, layout.clone())?);
                    }
                }
                places.push((question.source.clone(), files));
                places.len() - 1
            }
        };
        for files in &places[at].1 {
            if let Some(path) = files.find(id)? {
                question.picture = Some(files.root().join(path));
                break;
            }
        }
    }
    Ok(Pictures::of(questions))
}

impl Pictures {
    /// Of questions whose pictures were looked for.
    #[must_use]
    pub fn of(questions: &[Question]) -> Self {
        let named = || questions.iter().filter_map(|question| Some((question, question.image_ids.first()?)));
        let missing = || named().filter(|(question, _)| question.picture.is_none());
        Self {
            named: named().count(),
            found: named().count() - missing().count(),
            missing: missing().take(TOLD).map(|(question, id)| (question.id.clone(), id.clone())).collect(),
        }
    }
}

/// Whether a source's name can be one of a folder.
fn is_folder(source: &str) -> bool {
    !source.is_empty() && source.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::eval::dataset::evqa;

    #[test]
    fn each_source_has_its_own_folder_and_what_is_missing_is_told() {
        let csv = "question,question_type,answer,wikipedia_url,dataset_name,dataset_image_ids\n\
                   a,automatic,x,u,landmarks,ae67170774ef5750\nb,automatic,x,u,inaturalist,2715027\n\
                   c,automatic,x,u,infoseek,oven_04958423\nd,automatic,x,u,landmarks,gone\ne,automatic,x,u,,\n";
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, text).unwrap();
            path
        };
        let mut set = evqa::read(&write("q.csv", csv), evqa::Options::default()).unwrap();
        write("landmarks/a/e/6/ae67170774ef5750.jpg", "");
        write("inaturalist/val/x/1.jpg", "");
        write("04/oven_04958423.JPEG", "");
        let map = write("val_id2name.json", "{\"2715027\": \"val/x/1.jpg\"}");
        let found = find(&mut set.questions, dir.path(), &Layout::Auto, Some(&map)).unwrap();
        assert_eq!((found.named, found.found), (4, 3));
        assert_eq!(found.missing, [("E-VQA_3".to_owned(), "gone".to_owned())]);
        let of = |n: usize| set.questions[n].picture.as_ref().map(|p| p.strip_prefix(dir.path()).unwrap().to_owned());
        assert_eq!(of(1).unwrap(), Path::new("inaturalist/val/x/1.jpg"));
        assert_eq!((of(2).unwrap().as_path(), of(4)), (Path::new("04/oven_04958423.JPEG"), None));
        set.questions[0].image_ids = vec!["../q.csv".into()];
        assert!(find(&mut set.questions, dir.path(), &Layout::Auto, None).is_err());
    }
}
