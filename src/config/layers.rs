//! The layers, and how they become one configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::keys::{KEYS, Key, Kind, nearest, nearest_key, nearest_section};
use super::{Config, ConfigError, Loaded, ModelRef, Problem, Rag, Surroundings};

/// Longest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the names of environment variables begin with.
const PREFIX: &str = "CICERONE_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "layer")]
pub enum Origin {
    /// [`Config::default`].
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// The command line.
    Flag {
        /// `key=value` as given to `--set`.
        set: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { set } => write!(f, "--set {set}"),
        }
    }
}

/// A file that has been read.
pub(super) struct File<'a> {
    /// For messages.
    pub name: &'a Path,
    /// Directory its relative paths start from.
    pub base: &'a Path,
    /// Its content.
    pub text: &'a str,
}

/// Values by key, each with its origin; the problems met on the way.
#[derive(Default)]
struct Layers {
    values: BTreeMap<&'static str, (Value, Origin)>,
    problems: Vec<Problem>,
}

/// Reads a file within bounds.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let length = fs_err::metadata(path)?.len();
    if length > MAX_FILE {
        let reason = format!("{}: {length} bytes; expected a TOML file of at most {MAX_FILE}", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    fs_err::read_to_string(path)
}

/// Puts the layers on each other. This is the one place that says which goes over which.
pub(super) fn load(around: &Surroundings, file: Option<File<'_>>, sets: &[String]) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    layers.defaults(around);
    if let Some(file) = file {
        layers.file(around, &file);
    }
    layers.environment(around);
    layers.flags(around, sets);
    layers.finish(around)
}

impl Layers {
    fn defaults(&mut self, around: &Surroundings) {
        let mut leaves = Vec::new();
        if let Ok(table) = Table::try_from(Config::default()) {
            flatten(String::new(), table, &mut leaves);
        }
        for (name, value) in leaves {
            if let Some(key) = Key::find(&name) {
                self.put(around, &around.cwd, key, Ok(value), Origin::Default);
            }
        }
    }

    fn file(&mut self, around: &Surroundings, file: &File<'_>) {
        match DeTable::parse(file.text) {
            Ok(table) => self.table(around, file, "", table.get_ref()),
            Err(e) => {
                let line = line_of(file.text, e.span().map_or(0, |s| s.start));
                let place = Origin::File { path: file.name.to_owned(), line };
                self.problem(&place, format!("not valid TOML: {}", e.message()));
            }
        }
    }

    fn table(&mut self, around: &Surroundings, file: &File<'_>, section: &str, table: &DeTable<'_>) {
        // The map is sorted by key; problems are told in the order of the file.
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(k, _)| k.span().start);
        for (name, value) in rows {
            let place = Origin::File { path: file.name.to_owned(), line: line_of(file.text, name.span().start) };
            let name = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            let within = |k: &Key| k.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'));
            match (Key::find(&name), KEYS.iter().any(within), value.get_ref()) {
                (Some(key), ..) => self.put(around, file.base, key, plain(value), place),
                (None, true, DeValue::Table(inner)) => self.table(around, file, &name, inner),
                (None, true, _) => self.problem(&place, format!("`{name}` is a section; expected `[{name}]`")),
                (None, false, DeValue::Table(_)) => {
                    let mut message = format!("unknown section `[{name}]`");
                    if let Some(near) = nearest_section(&name) {
                        message.push_str(&format!("; did you mean `[{near}]`?"));
                    }
                    self.problem(&place, message);
                }
                (None, false, _) => self.problem(&place, unknown_key(&name)),
            }
        }
    }

    fn environment(&mut self, around: &Surroundings) {
        for (variable, text) in &around.vars {
            let Some(rest) = variable.strip_prefix(PREFIX).filter(|r| r.contains("__")) else { continue };
            let name = rest.to_lowercase().replace("__", ".");
            self.text(around, &name, text, Origin::Environment { variable: variable.clone() });
        }
    }

    fn flags(&mut self, around: &Surroundings, sets: &[String]) {
        for set in sets {
            let origin = Origin::Flag { set: set.clone() };
            match set.split_once('=') {
                Some((name, text)) => self.text(around, name.trim(), text, origin),
                None => self.problem(&origin, "no `=` in it; expected key=value, like rag.passages=2".to_owned()),
            }
        }
    }

    fn text(&mut self, around: &Surroundings, name: &str, text: &str, origin: Origin) {
        match Key::find(name) {
            Some(key) => self.put(around, &around.cwd, key, key.kind.parse(text), origin),
            None => self.problem(&origin, unknown_key(name)),
        }
    }

    /// Checks one value, makes its path absolute, and puts it over what was there.
    fn put(
        &mut self,
        around: &Surroundings,
        base: &Path,
        key: &'static Key,
        value: Result<Value, String>,
        origin: Origin,
    ) {
        match value.and_then(|v| key.kind.check(v)) {
            Ok(value) => {
                let value = match value {
                    Value::String(text) => Value::String(absolute(around, base, key.kind, text)),
                    other => other,
                };
                self.values.insert(key.name, (value, origin));
            }
            Err(found) => {
                let mut message = format!("`{}` is {found}; expected {}", key.name, key.kind);
                if let Kind::Choice(words) = key.kind
                    && let Some(near) = nearest(found.trim_matches('"'), words.iter().copied())
                {
                    message.push_str(&format!("; did you mean \"{near}\"?"));
                }
                self.problem(&origin, message);
            }
        }
    }

    fn problem(&mut self, place: &Origin, message: String) {
        self.problems.push(Problem { place: place.to_string(), message });
    }

    fn finish(mut self, around: &Surroundings) -> Result<Loaded, ConfigError> {
        self.fit_together();
        if !self.problems.is_empty() {
            return Err(ConfigError::Invalid(self.problems));
        }
        let mut root = Table::new();
        let mut origins = BTreeMap::new();
        for (name, (value, origin)) in self.values {
            origins.insert(name, origin);
            insert(&mut root, name, value);
        }
        let mut config: Config = root.try_into().map_err(|e: toml::de::Error| {
            ConfigError::Invalid(vec![Problem { place: "configuration".into(), message: e.message().to_owned() }])
        })?;
        if config.paths.data_dir.as_os_str().is_empty() {
            config.paths.data_dir = around.data_dir().ok_or(ConfigError::NoDataDir)?;
        }
        Ok(Loaded { config, file: None, origins })
    }

    /// Rules over several keys.
    fn fit_together(&mut self) {
        let number = |name: &str| self.values.get(name).and_then(|(v, _)| v.as_integer()).unwrap_or(0);
        let budget = match number("rag.token_budget") {
            0 => Rag::LEAST_BUDGET as i64,
            budget => budget,
        };
        let answer = number("generator.max_tokens");
        let Some((Value::Integer(context @ 1..), origin)) = self.values.get("generator.context") else { return };
        if budget + answer > *context {
            let message = format!(
                "`generator.context` is {context}; expected at least {}, `rag.token_budget` ({budget}) and \
                 `generator.max_tokens` ({answer}) together, or 0 for what the model takes",
                budget + answer
            );
            self.problem(&origin.clone(), message);
        }
    }
}

fn unknown_key(name: &str) -> String {
    let section = name.rsplit_once('.').map_or("", |(section, _)| section);
    let fields: Vec<_> = KEYS.iter().filter(|k| k.section() == section).map(Key::field).collect();
    match nearest_key(name) {
        Some(near) => format!("unknown key `{name}`; did you mean `{near}`?"),
        None if fields.is_empty() => format!("unknown key `{name}`; `cicerone config show` lists all keys"),
        None => format!("unknown key `{name}`; `[{section}]` has {}", fields.join(", ")),
    }
}

fn absolute(around: &Surroundings, base: &Path, kind: Kind, text: String) -> String {
    let is_path = match kind {
        Kind::OptionalPath => !text.is_empty(),
        Kind::Model | Kind::Prompt => matches!(ModelRef::parse(&text), ModelRef::Path(_)),
        _ => false,
    };
    if is_path { around.resolve(&text, base).to_string_lossy().into_owned() } else { text }
}

/// Line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
}

/// A value without its span. A number that its type cannot hold is an error that shows it.
fn plain(value: &Spanned<DeValue<'_>>) -> Result<Value, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(n) => {
            Value::Integer(i64::from_str_radix(n.as_str(), n.radix()).map_err(|_| n.as_str().to_owned())?)
        }
        DeValue::Float(x) => Value::Float(x.as_str().parse().map_err(|_| x.as_str().to_owned())?),
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Datetime(date) => Value::Datetime(*date),
        DeValue::Array(_) => Value::Array(Vec::new()),
        DeValue::Table(_) => Value::Table(Table::new()),
    })
}

/// Leaves of a table with dotted names.
fn flatten(prefix: String, table: Table, into: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(name, inner, into),
            leaf => into.push((name, leaf)),
        }
    }
}

/// Puts a leaf at its dotted name.
fn insert(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            table.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
