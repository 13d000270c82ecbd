//! The life of a knowledge base: from a folder, changed, written out, built elsewhere, removed.

use std::path::Path;

use super::starter::{models, starter_file};
use super::support::{cicerone, failure, json, stderr, stdout};

/// A folder as somebody keeps it: two texts with pictures, and a picture alone.
fn archive(dir: &Path) {
    for folder in ["italy", "flags"] {
        fs_err::create_dir_all(dir.join(folder)).unwrap();
    }
    let picture = |code: &str, name: &str| {
        fs_err::copy(starter_file(&format!("images/twemoji/{code}.png")), dir.join(name)).unwrap();
    };
    picture("ke", "kenya.png");
    picture("it", "italy/photo.png");
    picture("jp", "flags/rising_sun.png");
    fs_err::write(dir.join("kenya.md"), "# Kenya\nIts flag is black, red and green.\n\n## Meaning\nShield, spears.\n")
        .unwrap();
    fs_err::write(dir.join("italy/index.md"), "---\ntitle: Italy\n---\nA tricolour.\n").unwrap();
}

#[test]
fn a_folder_becomes_a_knowledge_base_that_changes_moves_and_goes() {
    let starter = models();
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = work.path().join("archive");
    archive(&folder);
    let kb = |args: &[&str]| {
        let mut command = cicerone(data.path());
        command.env("CICERONE_KB__NAME", "mine");
        // The models are those of all tests; what is built here is not.
        for (key, file) in [("TEXT_WEIGHTS", "model.safetensors"), ("TEXT_TOKENIZER", "tokenizer.json")] {
            let path = starter.data.join("models/all-MiniLM-L6-v2").join(file);
            command.env(format!("CICERONE_RETRIEVER__{key}"), path);
        }
        command.arg("kb").args(args);
        command
    };
    let source = format!("folder:{}", folder.display());

    let told = stdout(&kb(&["build", "--source", &source, "--dry-run"]).assert().success());
    assert!(told.contains("articles   3 (3 sections)") && told.contains("embeddings 3 (3 with a picture)"), "{told}");
    failure(kb(&["status", "--json"]).assert(), 2, "kb_not_found");

    let built = stdout(&kb(&["build", "--source", &source]).assert().success());
    assert!(built.contains("articles   3") && built.contains("3 (0 missing"), "{built}");
    let picture = starter_file("images/twemoji/it.png");
    let search = ["search", "--image", picture.to_str().unwrap(), "--json"];
    let found = json(&kb(&search).assert().success(), "kb-search");
    assert_eq!(found["hits"][0]["title"], "Italy", "{found:#}");
    // Into a pipe goes text alone, unless pictures are asked for.
    let plain = stdout(&kb(&search[..3]).assert().success());
    assert!(plain.starts_with("  1  ") && plain.contains("  Italy  ") && !plain.contains('\x1b'), "{plain:?}");
    let mut drawn = kb(&[&search[..3], &["--thumbnails", "always"]].concat());
    let drawn = stdout(&drawn.env("COLORTERM", "truecolor").env("COLUMNS", "80").env_remove("STY").assert().success());
    assert!(drawn.starts_with("\x1b[38;2;") && drawn.contains("\x1b[0m  Italy\n"), "{drawn:?}");
    let whole = stdout(&kb(&["verify"]).assert().success());
    assert!(whole.contains("3 embeddings made again, and equal"), "{whole}");

    // What is the same is passed over, what is new or changed is not.
    fs_err::copy(starter_file("images/twemoji/fr.png"), folder.join("flags/france.png")).unwrap();
    let added = stdout(&kb(&["build", "--source", &source, "--add"]).assert().success());
    assert!(added.contains("articles   4") && added.matches("source ").count() == 2, "{added}");
    failure(kb(&["build", "--remove", "file:nowhere.md", "--json"]).assert(), 2, "kb_no_such_article");
    let removed = stdout(&kb(&["build", "--remove", "file:flags/rising_sun.png"]).assert().success());
    assert!(removed.contains("articles   3"), "{removed}");

    // Written out, it is built elsewhere without a retriever.
    let out = work.path().join("out");
    let wrote = kb(&["export", "--out", out.to_str().unwrap()]).assert().success();
    assert!(stderr(&wrote).contains("to build from them: cicerone kb build"), "{}", stderr(&wrote));
    let articles = format!("jsonl:{}", out.join("articles.jsonl").display());
    let vectors = out.join("vectors.safetensors");
    let (vectors, pictures) = (vectors.to_str().unwrap(), folder.to_str().unwrap());
    let copy = ["build", "--name", "copy", "--source", &articles, "--vectors", vectors, "--pictures", pictures];
    kb(&copy).assert().success();
    let copied = json(&kb(&[&search[..], &["--name", "copy"]].concat()).assert().success(), "kb-search");
    assert_eq!(copied["hits"].as_array().unwrap().len(), 3);
    assert_eq!(copied["hits"][0]["title"], "Italy", "{copied:#}");

    let asked = kb(&["drop", "copy"]).assert().code(2);
    assert!(stderr(&asked).contains("say so with --yes"), "{}", stderr(&asked));
    kb(&["drop", "copy", "--yes"]).assert().success();
    let left = stdout(&kb(&["list"]).assert().success());
    assert!(left.contains("mine: 3 articles") && !left.contains("copy"), "{left}");
}

#[test]
fn sections_and_words_are_searched() {
    let starter = models();
    let work = tempfile::tempdir().unwrap();
    archive(&work.path().join("archive"));
    let (data, name) = (&starter.data, "sections-and-words");
    let source = format!("folder:{}", work.path().join("archive").display());
    let build = ["-c", "configs/starter.toml", "kb", "build", "--fresh", "--name", name, "--source", &source];
    let sets = ["kb.build.unit=section", "kb.build.words=true", "kb.build.embed_text={title}: {section}"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    cicerone(data).args(build).args(sets).assert().success();
    let search = ["-c", "configs/starter.toml", "kb", "search", "--name", name, "spears", "--json"];
    let found = json(&cicerone(data).args(search).assert().success(), "kb-search");
    assert_eq!(found["hits"][0]["title"], "Kenya", "{found:#}");
    assert_eq!(found["hits"][0]["part"]["section"], 1, "{found:#}");
    cicerone(data).args(["kb", "drop", name, "--yes"]).assert().success();
}
