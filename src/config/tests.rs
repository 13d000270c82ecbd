#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use toml::{Table, Value};

fn around(vars: &[(&str, &str)]) -> Surroundings {
    let mut all = BTreeMap::from([("HOME".to_owned(), "/home/ada".to_owned())]);
    all.extend(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Surroundings { vars: all, cwd: "/current".into(), exe: None }
}

fn load_text(around: &Surroundings, text: &str, sets: &[&str]) -> Result<Loaded, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let file = layers::File { name: Path::new("c.toml"), base: Path::new("/etc/cicerone"), text };
    layers::load(around, Some(file), &sets)
}

fn problems(result: Result<Loaded, ConfigError>) -> String {
    result.expect_err("the configuration is refused").to_string()
}

fn leaves(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => leaves(inner, &format!("{name}."), into),
            _ => into.push(name),
        }
    }
}

#[test]
fn the_shipped_defaults_are_the_defaults_and_hold_every_key() {
    let written: Config = toml::from_str(DEFAULT_TOML).unwrap();
    assert_eq!(written, Config::default());
    let mut keys: Vec<String> = KEYS.iter().map(|k| k.name.to_owned()).collect();
    keys.sort();
    for table in [toml::from_str(DEFAULT_TOML).unwrap(), Table::try_from(Config::default()).unwrap()] {
        let mut names = Vec::new();
        leaves(&table, "", &mut names);
        names.sort();
        assert_eq!(names, keys);
    }
}

#[test]
fn every_key_of_the_shipped_defaults_has_a_comment_above_it_or_its_group() {
    let mut explained = false;
    for line in DEFAULT_TOML.lines() {
        match line {
            "" => explained = false,
            l if l.starts_with('[') => explained = false,
            l if l.starts_with('#') => explained = true,
            l => assert!(explained, "{l} stands without a comment"),
        }
    }
}

#[test]
fn the_shipped_files_load() {
    let default = load_text(&around(&[]), DEFAULT_TOML, &[]).unwrap().config;
    let bare = layers::load(&around(&[]), None, &[]).unwrap().config;
    assert_eq!(default, bare, "no path of the defaults depends on the file it stands in");
    let starter = load_text(&around(&[]), STARTER_TOML, &[]).unwrap().config;
    assert_eq!(starter.kb.name, "starter");
    assert_eq!(
        starter.model_path(&starter.generator.model),
        Path::new("/home/ada/.local/share/cicerone/models/SmolLM2-135M-Instruct")
    );
    assert!(!starter.generator.sees_pictures.or(true));
}

#[test]
fn each_layer_goes_over_the_one_before_it() {
    let file = "[rag]\npassages = 4\ncandidates = 5\ntoken_budget = 600\n";
    let vars = [("CICERONE_RAG__CANDIDATES", "6"), ("CICERONE_RAG__TOKEN_BUDGET", "700"), ("CICERONE_DATA_DIR", "/d")];
    let loaded = load_text(&around(&vars), file, &["rag.token_budget=800", "rag.token_budget=900"]).unwrap();
    let rag = &loaded.config.rag;
    assert_eq!((rag.passages, rag.candidates, rag.token_budget, rag.min_score), (4, 6, 900, 0.0));
    assert_eq!(loaded.origins["rag.min_score"], Origin::Default);
    assert_eq!(loaded.origins["rag.passages"], Origin::File { path: "c.toml".into(), line: 2 });
    assert_eq!(loaded.origins["rag.candidates"].to_string(), "environment variable CICERONE_RAG__CANDIDATES");
    assert_eq!(loaded.origins["rag.token_budget"].to_string(), "--set rag.token_budget=900");
    assert_eq!(loaded.config.kb_root(), Path::new("/d/kb"));
}

#[test]
fn environment_and_flags_reach_every_kind_of_key() {
    let vars =
        [("CICERONE_KB__BUILD__EMBED_IMAGE", "false"), ("CICERONE_RAG__MIN_SCORE", "1"), ("CICERONE_OTHER", "x")];
    let sets =
        ["generator.sees_pictures=yes", "retriever.instruction=a=b", "kb.build.max_malformed=7", "log.file=x.log"];
    let config = load_text(&around(&vars), "", &sets).unwrap().config;
    assert!(!config.kb.build.embed_image);
    assert_eq!(config.rag.min_score, 1.0);
    assert!(config.generator.sees_pictures.or(false));
    assert_eq!(config.retriever.instruction, "a=b");
    assert_eq!(config.kb.build.max_malformed(), Some(7));
    assert_eq!(config.log.file(), Some(Path::new("/current/x.log")));
    assert_eq!(Config::default().kb.build.max_malformed(), None);
}

#[test]
fn paths_start_from_where_they_are_written() {
    let file = "[retriever]\nweights = \"w.safetensors\"\nconfig = \"~/c.json\"\ntext_weights = \"../m\"\n\
                image_weights = \"{starter}/i.safetensors\"\n[generator]\nmodel = \"m/../n\"\n[prompts]\nanswer = \"p.toml\"\n";
    let config = load_text(&around(&[("CICERONE_STARTER_DIR", "st")]), file, &["rag.ranker=./r"]).unwrap().config;
    assert_eq!(config.retriever.weights, ModelRef::Path("/etc/cicerone/w.safetensors".into()));
    assert_eq!(config.retriever.config, ModelRef::Path("/home/ada/c.json".into()));
    assert_eq!(config.retriever.text_weights, ModelRef::Path("/etc/m".into()));
    assert_eq!(
        config.model_file(&config.retriever.text_weights, "model.safetensors"),
        Path::new("/etc/m/model.safetensors")
    );
    assert_eq!(
        config.model_file(&config.retriever.image_weights, "model.safetensors"),
        Path::new("/current/st/i.safetensors")
    );
    assert_eq!(config.generator.model, ModelRef::Path("/etc/cicerone/n".into()));
    assert_eq!(config.prompts.answer, ModelRef::Path("/etc/cicerone/p.toml".into()));
    assert_eq!(config.prompts.follow_up, ModelRef::Name("follow-up".into()));
    assert_eq!(config.rag.ranker, ModelRef::Path("/current/r".into()));
    assert_eq!(config.log.file(), None);
}

#[test]
fn the_data_directory_is_the_first_that_is_named() {
    let dir = |vars: &[(&str, &str)], sets: &[&str]| load_text(&around(vars), "", sets).unwrap().config.paths.data_dir;
    assert_eq!(dir(&[], &[]), Path::new("/home/ada/.local/share/cicerone"));
    assert_eq!(dir(&[("XDG_DATA_HOME", "/x")], &[]), Path::new("/x/cicerone"));
    assert_eq!(dir(&[("XDG_DATA_HOME", "relative")], &[]), Path::new("/home/ada/.local/share/cicerone"));
    assert_eq!(dir(&[("XDG_DATA_HOME", "/x"), ("CICERONE_DATA_DIR", "here")], &[]), Path::new("/current/here"));
    assert_eq!(dir(&[("CICERONE_DATA_DIR", "/d")], &["paths.data_dir=/e"]), Path::new("/e"));
    let nowhere = Surroundings { vars: BTreeMap::new(), ..around(&[]) };
    assert!(matches!(load_text(&nowhere, "", &[]), Err(ConfigError::NoDataDir)));
}

#[test]
fn the_starter_is_found_beside_the_program_before_the_current_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (share, here) = (dir.path().join("share/cicerone/starter"), dir.path().join("work/data/starter"));
    let mut around = around(&[]);
    around.exe = Some(dir.path().join("bin/cicerone"));
    around.cwd = dir.path().join("work");
    assert_eq!(around.starter_dir(), Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter"));
    fs_err::create_dir_all(&here).unwrap();
    assert_eq!(around.starter_dir(), here);
    fs_err::create_dir_all(&share).unwrap();
    assert_eq!(around.starter_dir(), share);
    around.vars.insert("CICERONE_STARTER_DIR".into(), "/s".into());
    assert_eq!(around.starter_dir(), Path::new("/s"));
}

#[test]
fn files_are_found_and_relative_to_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cicerone/config.toml");
    fs_err::create_dir_all(file.parent().unwrap()).unwrap();
    let around = around(&[("XDG_CONFIG_HOME", dir.path().to_str().unwrap())]);
    let none = Config::load_in(&around, None, &[]).unwrap();
    assert_eq!((none.file, none.config.log.file()), (None, None));
    fs_err::write(&file, "log.file = 'l.txt'").unwrap();
    let found = Config::load_in(&around, None, &[]).unwrap();
    assert_eq!(found.file.as_deref(), Some(&*file));
    assert_eq!(found.config.log.file(), Some(&*file.with_file_name("l.txt")));
    let missing = Config::load_in(&around, Some(&dir.path().join("no.toml")), &[]).unwrap_err().to_string();
    assert!(missing.contains("no.toml"), "{missing}");
    fs_err::write(&file, [0xff, 0xfe]).unwrap();
    let binary = Config::load_in(&around, None, &[]).unwrap_err().to_string();
    assert!(binary.contains("config.toml") && binary.contains("UTF-8"), "{binary}");
    fs_err::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let huge = Config::load_in(&around, None, &[]).unwrap_err().to_string();
    assert!(huge.contains("1048577 bytes; expected a TOML file of at most 1048576"), "{huge}");
}

#[test]
fn what_is_shown_loads_to_the_same_and_names_origins() {
    let vars = [("CICERONE_KB__NAME", "x.y")];
    let loaded = load_text(&around(&vars), "[rag]\n\nmin_score = 1\n", &["generator.format=q8_0"]).unwrap();
    let shown = loaded.show();
    assert!(shown.contains("\nmin_score = 1.0  # c.toml, line 3\n"), "{shown}");
    assert!(shown.contains("\nname = \"x.y\"  # environment variable CICERONE_KB__NAME\n"), "{shown}");
    assert!(shown.contains("\nformat = \"q8_0\"  # --set generator.format=q8_0\n"), "{shown}");
    assert!(shown.contains("\ncandidates = 10\n"), "{shown}");
    assert_eq!(load_text(&around(&[]), &shown, &[]).unwrap().config, loaded.config);
}

/// Each refused file with the message its writer reads, after the file's name.
const REFUSED: &[(&str, &str)] = &[
    ("[rag]\npassage = 2", "line 2: unknown key `rag.passage`; did you mean `rag.passages`?"),
    ("[rag]\nmax_tokens = 9", "line 2: unknown key `rag.max_tokens`; did you mean `generator.max_tokens`?"),
    ("[log]\ncolour = 1", "line 2: unknown key `log.colour`; `[log]` has level, file"),
    ("\n\nverbose = true", "line 3: unknown key `verbose`; `cicerone config show` lists all keys"),
    ("[retreiver]\nthreads = 1", "line 1: unknown section `[retreiver]`; did you mean `[retriever]`?"),
    ("[kb.biuld]\nbatch = 1", "line 1: unknown section `[kb.biuld]`; did you mean `[kb.build]`?"),
    ("[server]\nurl = ''", "line 1: unknown section `[server]`"),
    ("rag = 3", "line 1: `rag` is a section; expected `[rag]`"),
    ("[rag]\npassages = \"two\"", "line 2: `rag.passages` is \"two\", a string; expected a whole number from 0 to 20"),
    ("[rag]\n# none\npassages = -1", "line 3: `rag.passages` is -1; expected a whole number from 0 to 20"),
    ("[rag]\npassages = 2.0", "line 2: `rag.passages` is 2.0, a number; expected a whole number from 0 to 20"),
    ("[rag]\nmin_score = 1.5", "line 2: `rag.min_score` is 1.5; expected a number from -1 to 1"),
    ("[rag]\nmin_score = nan", "line 2: `rag.min_score` is nan; expected a number from -1 to 1"),
    (
        "[rag]\ncandidates = 99999999999999999999",
        "line 2: `rag.candidates` is 99999999999999999999; expected a whole number from 1 to 1000",
    ),
    (
        "[rag.passages]\nx = 1",
        "line 1: `rag.passages` is not a single value, a table; expected a whole number from 0 to 20",
    ),
    ("[kb]\nname = \"../up\"", "line 2: `kb.name` is \"../up\"; expected a name of up to 64 letters"),
    ("[kb]\nname = \"\"", "line 2: `kb.name` is \"\"; expected a name of up to 64 letters"),
    (
        "[kb.build]\nembed_image = \"yes\"",
        "line 2: `kb.build.embed_image` is \"yes\", a string; expected true or false",
    ),
    (
        "[kb.build]\nembed_text = \"titel\"",
        "line 2: `kb.build.embed_text` is \"titel\"; expected title, title+summary, none, or a template of {title}",
    ),
    (
        "[generator]\nformat = \"q8\"",
        "line 2: `generator.format` is \"q8\"; expected one of auto, f32, f16, bf16, q4k, q6k, q8_0",
    ),
    ("[generator]\nmodel = \" \"", "line 2: `generator.model` is \" \"; expected the name of a model or a path"),
    (
        "[generator]\nsees_pictures = true",
        "line 2: `generator.sees_pictures` is true, a boolean; expected one of auto, yes, no",
    ),
    (
        "[rag]\ntoken_budget = 1200\n[generator]\ncontext = 1000",
        "line 4: `generator.context` is 1000; expected at least 1328, `rag.token_budget` (1200) and \
         `generator.max_tokens` (128) together, or 0 for what the model takes",
    ),
    (
        "[generator]\ncontext = 300",
        "line 2: `generator.context` is 300; expected at least 368, `rag.token_budget` (240)",
    ),
    ("[retriever]\nconfig = \"\"", "line 2: `retriever.config` is \"\"; expected the name of a model or a path"),
    (
        "[retriever]\nmax_picture_bytes = -1",
        "line 2: `retriever.max_picture_bytes` is -1; expected a whole number from 1",
    ),
    ("[log]\nfile = [\"a\"]", "line 2: `log.file` is not a single value, an array; expected a path, or \"\" for none"),
    ("[log]\nlevel = 2026-01-01", "line 2: `log.level` is 2026-01-01, a date; expected one of off, error, warn"),
    ("[log]\nlevel = \"info\"\nlevel = \"warn\"", "line 3: not valid TOML: duplicate key"),
    ("[log\nlevel = \"info\"", "line 1: not valid TOML: "),
    ("[log]\nlevel = info", "line 2: not valid TOML: "),
];

#[test]
fn each_refused_file_says_why_and_where() {
    for (text, expected) in REFUSED {
        let found = problems(load_text(&around(&[]), text, &[]));
        assert!(found.starts_with(&format!("c.toml, {expected}")), "{text:?}\n found: {found}\n expected: {expected}");
        assert_eq!(found.lines().count(), 1, "{text:?} has one problem: {found}");
    }
}

#[test]
fn environment_and_flags_are_refused_by_their_own_names() {
    for (vars, sets, expected) in [
        (
            &[("CICERONE_RAG__PASAGES", "2")][..],
            &[][..],
            "environment variable CICERONE_RAG__PASAGES: unknown key `rag.pasages`; did you mean `rag.passages`?",
        ),
        (
            &[("CICERONE_RAG__PASSAGES", "many")],
            &[],
            "environment variable CICERONE_RAG__PASSAGES: `rag.passages` is \"many\"; expected a whole number from 0 to 20",
        ),
        (&[], &["rag.passages"], "--set rag.passages: no `=` in it; expected key=value, like rag.passages=2"),
        (
            &[],
            &["rag.passages=21"],
            "--set rag.passages=21: `rag.passages` is 21; expected a whole number from 0 to 20",
        ),
        (&[], &["kb.name=a b"], "--set kb.name=a b: `kb.name` is \"a b\"; expected a name"),
    ] {
        let found = problems(load_text(&around(vars), "", sets));
        assert!(found.starts_with(expected), "found: {found}\nexpected: {expected}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_layers() {
    let found = problems(load_text(&around(&[]), "[rag]\npassages = 21\n[log]\nlevle = 1\n[kb]\ntop_k = 0", &["x=1"]));
    let places: Vec<_> = found.lines().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["c.toml, line 2", "c.toml, line 4", "c.toml, line 6", "--set x=1"]);
}

#[test]
fn every_shipped_benchmark_is_a_configuration() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/eval");
    let mut names = Vec::new();
    for entry in fs_err::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let config = Config::load_in(&around(&[("HOME", "/home/u")]), Some(&path), &[]).unwrap().config;
        assert!(config.eval.questions.is_absolute() && config.eval.pictures.is_absolute(), "{path:?}");
        names.push(config.eval.dataset);
    }
    names.sort();
    assert_eq!(names, ["evqa", "infoseek", "m2kr", "mbeir"]);
}
