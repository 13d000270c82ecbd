//! Where things lie: what a process knows of its machine, and how written paths become absolute.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Stands for [`starter_dir`] at the beginning of a path.
const STARTER: &str = "{starter}";

/// What decides paths, apart from what is written.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Environment variables. Those that are not UTF-8 are left out.
    pub vars: BTreeMap<String, String>,
    /// Current directory.
    pub cwd: PathBuf,
    /// The running program, where the system tells.
    pub exe: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// A current directory that is gone or not readable.
    pub fn of_process() -> std::io::Result<Self> {
        let utf8 =
            |(k, v): (std::ffi::OsString, std::ffi::OsString)| Some((k.into_string().ok()?, v.into_string().ok()?));
        Ok(Self {
            vars: std::env::vars_os().filter_map(utf8).collect(),
            cwd: std::env::current_dir()?,
            exe: std::env::current_exe().ok(),
        })
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// A directory of the XDG specification, which ignores relative ones.
    fn xdg(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        let set = self.var(name).map(PathBuf::from).filter(|p| p.is_absolute());
        set.or_else(|| Some(self.home()?.join(below_home))).map(|p| p.join("cicerone"))
    }

    fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// `$XDG_CONFIG_HOME/cicerone/config.toml`, whether it exists or not; `None` without a home.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        Some(self.xdg("XDG_CONFIG_HOME", ".config")?.join("config.toml"))
    }

    /// `$CICERONE_DATA_DIR`, else `$XDG_DATA_HOME/cicerone`, else `~/.local/share/cicerone`.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        let set = self.var("CICERONE_DATA_DIR").map(|d| self.absolute(Path::new(d)));
        set.or_else(|| self.xdg("XDG_DATA_HOME", ".local/share"))
    }

    /// The shipped `data/starter`: `$CICERONE_STARTER_DIR`; else the first that exists of
    /// `../share/cicerone/starter` beside the program and `data/starter` in the current directory; else that of the
    /// source tree the program was built from.
    #[must_use]
    pub fn starter_dir(&self) -> PathBuf {
        if let Some(set) = self.var("CICERONE_STARTER_DIR") {
            return self.absolute(Path::new(set));
        }
        let beside = self.exe.as_deref().and_then(Path::parent).and_then(Path::parent);
        let beside = beside.map(|prefix| prefix.join("share/cicerone/starter"));
        let here = self.cwd.join("data/starter");
        let found = beside.into_iter().chain([here]).find(|d| d.is_dir());
        found.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter"))
    }

    /// A path relative to the current directory, made absolute.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        tidy(&self.cwd.join(path))
    }

    /// A written path: `~` is the home, `{starter}` the starter's directory, and a relative one lies below `base`.
    #[must_use]
    pub(super) fn resolve(&self, written: &str, base: &Path) -> PathBuf {
        let below = |root: &str| Some(written.strip_prefix(root)?).filter(|r| r.is_empty() || r.starts_with('/'));
        let rooted = if let Some(rest) = below(STARTER) {
            self.starter_dir().join(rest.trim_start_matches('/'))
        } else if let (Some(rest), Some(home)) = (below("~"), self.home()) {
            home.join(rest.trim_start_matches('/'))
        } else {
            base.join(written)
        };
        self.absolute(&rooted)
    }
}

/// Takes out `.` and, where a name stands before it, `..`. Links are not followed.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

/// [`Surroundings::starter_dir`] of this process.
///
/// # Errors
/// A current directory that is gone or not readable.
pub fn starter_dir() -> std::io::Result<PathBuf> {
    Ok(Surroundings::of_process()?.starter_dir())
}
