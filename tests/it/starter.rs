//! The starter's models and knowledge base, fetched and built once for all tests, in `CICERONE_TEST_DATA` or beside the
//! program under test.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::support::cicerone;

static ONE: Mutex<()> = Mutex::new(());
static PULLED: OnceLock<()> = OnceLock::new();
static READY: OnceLock<()> = OnceLock::new();

/// A data directory in which `cicerone demo` has everything. One test at a time holds it: a knowledge base is open in
/// one process only.
pub struct Starter {
    pub data: PathBuf,
    // Given up in this order.
    _file: std::fs::File,
    _turn: MutexGuard<'static, ()>,
}

/// Waits for its turn, and fetches and builds what is not there yet.
pub fn starter() -> Starter {
    let starter = models();
    READY.get_or_init(|| {
        let source = format!("evqa:{}", starter_file("kb.jsonl").display());
        let build = ["-c", "configs/starter.toml", "kb", "build", "--source", &source];
        cicerone(&starter.data).args(build).assert().success();
    });
    starter
}

/// As [`starter`], without a knowledge base.
pub fn models() -> Starter {
    let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let data = std::env::var_os("CICERONE_TEST_DATA").map_or_else(beside_the_program, PathBuf::from);
    fs_err::create_dir_all(&data).unwrap();
    let file = fs_err::File::create(data.join("tests.lock")).unwrap().into_file();
    file.lock().unwrap();
    PULLED.get_or_init(|| drop(cicerone(&data).args(["models", "pull", "starter"]).assert().success()));
    Starter { data, _file: file, _turn: turn }
}

/// A shipped file.
pub fn starter_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter").join(name)
}

fn beside_the_program() -> PathBuf {
    // `<target>/tmp`, which cargo keeps for integration tests.
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-data")
}
