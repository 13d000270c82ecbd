//! One JSON object, read key by key: every value is bounded, and every error names its key.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// A value that does not fit: the key by its path from the top, what was found, what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: found {found}, expected {expected}")]
pub struct FieldError {
    /// Path of the key, such as `vision_config.hidden_act`.
    pub key: String,
    /// The value, or `nothing`.
    pub found: String,
    /// What would have fitted.
    pub expected: String,
}

/// Shorthand of this file.
pub type Result<T> = std::result::Result<T, FieldError>;

/// A JSON object and where it stands.
///
/// A key whose value is `null` counts as missing, as it does in Hugging Face's files. Keys that nobody asks for are
/// ignored, since those files carry many that do not decide a computation.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    path: String,
    /// `None` for an object that is not there: every key of it is missing.
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The whole file.
    ///
    /// # Errors
    /// Anything but an object.
    pub fn top(value: &'a Value) -> Result<Self> {
        Self::at(String::new(), value)
    }

    fn at(path: String, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { path, map: Some(map) }),
            other => {
                let key = if path.is_empty() { "(top)".into() } else { path };
                Err(FieldError { key, found: shown(other), expected: "an object".into() })
            }
        }
    }

    /// The value of a key that is there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(key)).filter(|value| !value.is_null())
    }

    /// An object below this one, empty where the key is missing.
    ///
    /// # Errors
    /// A value that is not an object.
    pub fn object(&self, key: &str) -> Result<Self> {
        match self.get(key) {
            Some(value) => Self::at(self.full(key), value),
            None => Ok(Self { path: self.full(key), map: None }),
        }
    }

    /// A whole number within `range`; `default` where the key is missing.
    ///
    /// # Errors
    /// A missing key without default, another type, a number out of range.
    pub fn count(&self, key: &str, default: Option<usize>, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        match self.get(key) {
            None => default.ok_or_else(|| self.error(key, expected())),
            Some(value) => value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| range.contains(number))
                .ok_or_else(|| self.error(key, expected())),
        }
    }

    /// A number within `range`; `default` where the key is missing.
    ///
    /// # Errors
    /// As [`Fields::count`].
    pub fn number(&self, key: &str, default: Option<f64>, range: RangeInclusive<f64>) -> Result<f64> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        match self.get(key) {
            None => default.ok_or_else(|| self.error(key, expected())),
            Some(value) => {
                value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| self.error(key, expected()))
            }
        }
    }

    /// Yes or no; `default` where the key is missing.
    ///
    /// # Errors
    /// Another type.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.error(key, "true or false")),
        }
    }

    /// A word, if the key is there.
    ///
    /// # Errors
    /// Another type.
    pub fn word(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.error(key, "a string"))).transpose()
    }

    /// Refuses a key whose value, where it is there, is not the one that the computation knows.
    ///
    /// # Errors
    /// Any other value.
    pub fn only(&self, key: &str, known: &Value) -> Result<()> {
        match self.get(key) {
            Some(value) if value != known => Err(self.error(key, known)),
            _ => Ok(()),
        }
    }

    /// The error for a key of this object.
    pub fn error(&self, key: &str, expected: impl Display) -> FieldError {
        let found = self.get(key).map_or_else(|| "nothing".into(), shown);
        FieldError { key: self.full(key), found, expected: expected.to_string() }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value as it stands in the file, cut where it is long.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.len() <= MOST { text } else { format!("{}…", &text[..text.floor_char_boundary(MOST)]) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_key_by_its_path_with_what_was_found_and_expected() {
        let json = serde_json::json!({"inner": {"width": -3, "act": 7, "deep": [1], "ratio": 9.5, "on": "yes"}});
        let inner = Fields::top(&json).unwrap().object("inner").unwrap();
        let message = |error: FieldError| error.to_string();
        let width = inner.count("width", Some(4), 1..=8).unwrap_err();
        assert_eq!(message(width), "`inner.width`: found -3, expected a whole number from 1 to 8");
        let missing = inner.count("height", None, 1..=8).unwrap_err();
        assert_eq!(message(missing), "`inner.height`: found nothing, expected a whole number from 1 to 8");
        assert_eq!(message(inner.word("act").unwrap_err()), "`inner.act`: found 7, expected a string");
        assert_eq!(message(inner.object("deep").unwrap_err()), "`inner.deep`: found [1], expected an object");
        let ratio = inner.number("ratio", None, 0.0..=8.0).unwrap_err();
        assert_eq!(message(ratio), "`inner.ratio`: found 9.5, expected a number from 0 to 8");
        assert_eq!(message(inner.flag("on", true).unwrap_err()), "`inner.on`: found \"yes\", expected true or false");
    }

    #[test]
    fn a_null_counts_as_missing_and_a_long_value_is_cut() {
        let json = serde_json::json!({"a": null, "b": "é".repeat(200)});
        let fields = Fields::top(&json).unwrap();
        assert_eq!(fields.count("a", Some(4), 1..=8).unwrap(), 4);
        let message = fields.count("b", None, 1..=8).unwrap_err().to_string();
        assert!(message.len() < 200 && message.contains('…'), "{message}");
    }
}
