//! Builds that are killed: a rerun finishes, and the result equals an undisturbed one.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::starter::{starter, starter_file};
use super::support::{background, cicerone, stdout};

fn arguments(name: &str) -> Vec<String> {
    let source = format!("evqa:{}", starter_file("kb.jsonl").display());
    let words = ["-c", "configs/starter.toml", "kb", "build", "--json", "--name", name, "--source", &source];
    words.map(str::to_owned).to_vec()
}

/// Takes away what an earlier run of the tests built under this name: the data directory outlives it.
fn forget(data: &Path, name: &str) {
    match fs_err::remove_dir_all(data.join("kb").join(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
        _ => {}
    }
}

/// Builds to the end and gives the report.
fn finish(data: &Path, name: &str) -> Value {
    let built = cicerone(data).args(arguments(name)).assert().success();
    serde_json::from_str(&stdout(&built)).unwrap()
}

/// What a build gives that nothing disturbs.
fn undisturbed(data: &Path) -> Value {
    forget(data, "undisturbed");
    finish(data, "undisturbed")
}

fn is_not_there(data: &Path, name: &str) {
    let search = ["-c", "configs/starter.toml", "--set"];
    let key = format!("kb.name={name}");
    cicerone(data).args(search).arg(key).args(["kb", "search", "Kenya"]).assert().failure();
}

#[test]
fn a_build_killed_at_any_point_is_finished_by_a_rerun() {
    let starter = starter();
    let whole = undisturbed(&starter.data);
    let hash = &whole["manifest"]["content_hash"];
    assert!(hash.as_str().is_some_and(|hash| hash.len() > 16), "{whole:#}");
    for point in ["in-upsert:3", "after-checkpoint", "after-index", "before-manifest", "before-swap"] {
        let name = point.replace(':', "-");
        forget(&starter.data, &name);
        let killed = cicerone(&starter.data).args(arguments(&name)).env("CICERONE_CRASH_AT", point).assert().failure();
        #[cfg(unix)]
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.get_output().status), Some(9), "{point}");
        drop(killed);
        is_not_there(&starter.data, &name);
        let mended = finish(&starter.data, &name);
        assert_eq!(&mended["manifest"]["content_hash"], hash, "killed at {point}");
        assert_eq!(mended["manifest"]["counts"], whole["manifest"]["counts"], "killed at {point}");
    }
}

#[test]
fn a_build_killed_from_outside_is_finished_by_a_rerun() {
    let starter = starter();
    let whole = undisturbed(&starter.data);
    // kill -9 wherever the build is then: while loading, encoding or indexing, or after the end.
    for (round, milliseconds) in [300, 1200, 2500].into_iter().enumerate() {
        let name = format!("killed-{round}");
        forget(&starter.data, &name);
        let mut build = background(&starter.data, arguments(&name));
        std::thread::sleep(Duration::from_millis(milliseconds));
        build.kill().unwrap();
        build.wait().unwrap();
        let mended = finish(&starter.data, &name);
        assert_eq!(
            mended["manifest"]["content_hash"], whole["manifest"]["content_hash"],
            "killed after {milliseconds} ms"
        );
    }
}
