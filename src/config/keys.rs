//! The table of keys: what may be written under each. [`super::Config`] has the same keys (a test compares them).

use std::fmt;

use toml::Value;

use crate::kb::Template;
use crate::tui::KeyMap;

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted: `rag.passages`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// What a key takes. Its `Display` ends the sentence "expected …".
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A name that is safe as the name of a directory.
    Name,
    /// A path, or nothing.
    OptionalPath,
    /// A model by name or path.
    Model,
    /// A shipped prompt by name, or a path.
    Prompt,
    /// A whole number within bounds, both included.
    Integer(i64, i64),
    /// A number within bounds, both included.
    Number(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A text that [`Template`] takes.
    Template,
    /// Keys of the terminal UI, as [`KeyMap`] takes them.
    Keys,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, with commas between them.
    Words(&'static [&'static str]),
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Every key, in the order of `configs/default.toml`.
pub const KEYS: &[Key] = &[
    key("paths.data_dir", Kind::OptionalPath),
    key("retriever.config", Kind::Model),
    key("retriever.weights", Kind::Model),
    key("retriever.text_weights", Kind::Model),
    key("retriever.text_tokenizer", Kind::Model),
    key("retriever.image_weights", Kind::Model),
    key("retriever.instruction", Kind::Text),
    key("retriever.max_picture_bytes", Kind::Integer(1, 1 << 40)),
    key("retriever.max_picture_pixels", Kind::Integer(1, 1 << 32)),
    key("retriever.batch_size", Kind::Integer(1, 1024)),
    key("retriever.threads", Kind::Integer(0, 1024)),
    key("retriever.device", Kind::Choice(&["auto", "cpu", "cuda", "metal"])),
    key("kb.name", Kind::Name),
    key("kb.top_k", Kind::Integer(1, 1000)),
    key("kb.server.url", Kind::Text),
    key("kb.server.rest_url", Kind::Text),
    key("kb.server.api_key_file", Kind::OptionalPath),
    key("kb.server.timeout_s", Kind::Integer(1, 3600)),
    key("kb.server.write_timeout_s", Kind::Integer(1, 86400)),
    key("kb.server.shards", Kind::Integer(0, 1024)),
    key("kb.server.replicas", Kind::Integer(0, 64)),
    key("kb.server.write_consistency", Kind::Integer(0, 64)),
    key("kb.server.on_disk_payload", Kind::Bool),
    key("kb.build.batch", Kind::Integer(1, 1024)),
    key("kb.build.unit", Kind::Choice(&["article", "picture", "section"])),
    key("kb.build.embed_text", Kind::Template),
    key("kb.build.text_chars", Kind::Integer(1, 1 << 20)),
    key("kb.build.embed_image", Kind::Bool),
    key("kb.build.drop_sections", Kind::Text),
    key("kb.build.words", Kind::Bool),
    key("kb.build.quantization", Kind::Choice(&["none", "int8", "binary"])),
    key("kb.build.hnsw_m", Kind::Integer(4, 256)),
    key("kb.build.hnsw_ef_construct", Kind::Integer(4, 4096)),
    key("kb.build.graph", Kind::Integer(0, 1 << 40)),
    key("kb.build.on_disk", Kind::Bool),
    key("kb.build.max_malformed", Kind::Integer(-1, 1 << 40)),
    key("kb.build.keep", Kind::Integer(1, 100)),
    key("rag.candidates", Kind::Integer(1, 1000)),
    key("rag.entity", Kind::Choice(&["auto", "score", "model"])),
    key("rag.names", Kind::Integer(2, 50)),
    key("rag.entities", Kind::Integer(1, 20)),
    key("rag.name_entity", Kind::Choice(&["never", "ranking", "always"])),
    key("rag.ranking", Kind::Choice(&["bi-encoder", "cross-encoder", "retriever", "none"])),
    key("rag.ranker", Kind::Model),
    key("rag.cross_encoder", Kind::Model),
    key("rag.shared_words", Kind::Number(0.0, 10.0)),
    key("rag.retrieval_weight", Kind::Number(0.0, 10.0)),
    key("rag.passages", Kind::Integer(0, 20)),
    key("rag.token_budget", Kind::Integer(0, 1 << 20)),
    key("rag.min_score", Kind::Number(-1.0, 1.0)),
    key("rag.min_margin", Kind::Number(0.0, 2.0)),
    key("rag.min_section", Kind::Number(-100.0, 100.0)),
    key("rag.follow_up", Kind::Choice(&["rule", "model"])),
    key("rag.timeout_s", Kind::Integer(1, 86400)),
    key("prompts.answer", Kind::Prompt),
    key("prompts.no_retrieval", Kind::Prompt),
    key("prompts.choose_entity", Kind::Prompt),
    key("prompts.follow_up", Kind::Prompt),
    key("generator.model", Kind::Model),
    key("generator.format", Kind::Choice(&["auto", "f32", "f16", "bf16", "q4k", "q6k", "q8_0"])),
    key("generator.max_tokens", Kind::Integer(1, 1 << 16)),
    key("generator.context", Kind::Integer(0, 1 << 20)),
    key("generator.temperature", Kind::Number(0.0, 10.0)),
    key("generator.seed", Kind::Integer(0, i64::MAX)),
    key("generator.first_token_s", Kind::Integer(1, 86400)),
    key("generator.answer_s", Kind::Integer(1, 86400)),
    key("generator.sees_pictures", Kind::Choice(&["auto", "yes", "no"])),
    key("generator.prefix_cache_mb", Kind::Integer(0, 1 << 20)),
    key("eval.dataset", Kind::Choice(&["evqa", "infoseek", "m2kr", "mbeir"])),
    key("eval.questions", Kind::OptionalPath),
    key("eval.qtype", Kind::OptionalPath),
    key("eval.withkb", Kind::OptionalPath),
    key("eval.qrels", Kind::OptionalPath),
    key("eval.two_hop", Kind::Bool),
    key("eval.pictures", Kind::OptionalPath),
    key("eval.picture_layout", Kind::Choice(&["auto", "path", "flat", "hashed", "oven", "md5"])),
    key("eval.picture_map", Kind::OptionalPath),
    key("eval.modes", Kind::Words(&["retrieved", "oracle-entity", "oracle-passage", "no-retrieval"])),
    key("eval.candidates", Kind::Integer(1, 1000)),
    key("eval.concurrency", Kind::Integer(1, 64)),
    key("eval.bem", Kind::Model),
    key("tui.theme", Kind::Choice(&["auto", "dark", "light", "mono"])),
    key("tui.pictures", Kind::Choice(&["auto", "kitty", "sixel", "iterm2", "halfblocks", "off"])),
    key("tui.mouse", Kind::Bool),
    key("tui.keys", Kind::Keys),
    key("log.level", Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"])),
    key("log.file", Kind::OptionalPath),
];

impl Key {
    /// The key of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|k| k.name == name)
    }

    /// `rag` of `rag.passages`, `kb.build` of `kb.build.batch`.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// `passages` of `rag.passages`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, field)| field)
    }
}

impl Kind {
    /// Takes a typed value as it is, but for a whole number where any number is asked for.
    ///
    /// # Errors
    /// What was found, for the sentence "… is {found}; expected {kind}".
    pub fn check(&self, value: Value) -> Result<Value, String> {
        let (value, fits) = match (self, value) {
            (Self::Number(low, high), Value::Integer(n)) => {
                (Value::Float(n as f64), (*low..=*high).contains(&(n as f64)))
            }
            (Self::Number(low, high), Value::Float(x)) => (Value::Float(x), (*low..=*high).contains(&x)),
            (Self::Integer(low, high), Value::Integer(n)) => (Value::Integer(n), (*low..=*high).contains(&n)),
            (Self::Bool, value @ Value::Boolean(_)) | (Self::Text | Self::OptionalPath, value @ Value::String(_)) => {
                (value, true)
            }
            (Self::Name, Value::String(s)) => {
                let fits = is_name(&s);
                (Value::String(s), fits)
            }
            (Self::Model | Self::Prompt, Value::String(s)) => {
                let fits = !s.trim().is_empty();
                (Value::String(s), fits)
            }
            (Self::Keys, Value::String(s)) => match KeyMap::parse(&s) {
                Ok(_) => (Value::String(s), true),
                Err(reason) => return Err(format!("{s:?} ({reason})")),
            },
            (Self::Template, Value::String(s)) => {
                let fits = s.parse::<Template>().is_ok();
                (Value::String(s), fits)
            }
            (Self::Choice(words), Value::String(s)) => {
                let fits = words.contains(&s.as_str());
                (Value::String(s), fits)
            }
            (Self::Words(words), Value::String(s)) => {
                let fits = s.split(',').all(|word| words.contains(&word.trim()));
                (Value::String(s), fits)
            }
            (_, other) => return Err(format!("{}, {}", shown(&other), type_name(&other))),
        };
        if fits { Ok(value) } else { Err(shown(&value)) }
    }

    /// Reads the text of an environment variable or a flag, where types are not written.
    ///
    /// # Errors
    /// As [`Kind::check`].
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let typed = match self {
            Self::Integer(..) => text.trim().parse().ok().map(Value::Integer),
            Self::Number(..) => text.trim().parse().ok().map(Value::Float),
            Self::Bool => text.trim().parse().ok().map(Value::Boolean),
            _ => Some(Value::String(text.to_owned())),
        };
        self.check(typed.ok_or_else(|| format!("{text:?}"))?)
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.len() <= 64
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Table(_) => "not a single value".to_owned(),
        other => other.to_string(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a string"),
            Self::Name => {
                f.write_str("a name of up to 64 letters, digits, `.`, `_` and `-` that begins with a letter or digit")
            }
            Self::OptionalPath => f.write_str("a path, or \"\" for none"),
            Self::Model => f.write_str("the name of a model or a path"),
            Self::Prompt => f.write_str("the name of a shipped prompt, or a path that ends with .toml"),
            Self::Integer(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Number(low, high) => write!(f, "a number from {low} to {high}"),
            Self::Bool => f.write_str("true or false"),
            Self::Keys => {
                f.write_str("ACTION = KEYS, with commas between, such as \"send = ctrl+s, copy-answer = f5 alt+y\"")
            }
            Self::Template => {
                f.write_str("title, title+summary, none, or a template of {title}, {section}, {text} and {caption}")
            }
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Words(words) => write!(f, "some of {}, with commas between them", words.join(", ")),
        }
    }
}

/// The key most like a mistyped one: the same field in another section, or few letters away.
#[must_use]
pub(super) fn nearest_key(name: &str) -> Option<&'static str> {
    let field = name.rsplit('.').next().unwrap_or(name);
    let moved = KEYS.iter().find(|k| k.field() == field).map(|k| k.name);
    nearest(name, KEYS.iter().map(|k| k.name)).or(moved)
}

/// The section most like a mistyped one.
#[must_use]
pub(super) fn nearest_section(name: &str) -> Option<&'static str> {
    nearest(name, KEYS.iter().map(Key::section))
}

/// The word that is fewest edits away, if it is no more than a third of the letters.
#[must_use]
pub(super) fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 4);
    among.map(|w| (edits(word, w), w)).filter(|(n, _)| *n <= limit).min_by_key(|(n, _)| *n).map(|(_, w)| w)
}

/// Levenshtein distance with neighbours swapped counted once (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(200).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
