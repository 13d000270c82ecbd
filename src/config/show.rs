//! A configuration as TOML that loads to the same configuration.

use std::fmt::Write;

use toml::{Table, Value};

use super::{KEYS, Loaded, Origin};

impl Loaded {
    /// Effective values of all keys, section by section; what is not a default says where it came from.
    #[must_use]
    pub fn show(&self) -> String {
        let table = Table::try_from(&self.config).unwrap_or_default();
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let Some(value) = lookup(&table, key.name) else { continue };
            if key.section() != section {
                section = key.section();
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
            }
            let _ = write!(text, "{} = {value}", key.field());
            match self.origins.get(key.name) {
                None | Some(Origin::Default) => {}
                Some(origin) => {
                    let _ = write!(text, "  # {}", origin.to_string().replace(char::is_control, "?"));
                }
            }
            text.push('\n');
        }
        text
    }
}

fn lookup<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    match name.split_once('.') {
        None => table.get(name),
        Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
    }
}
