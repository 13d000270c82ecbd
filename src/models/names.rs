//! Name maps: the tensors of a foreign checkpoint under the names that are used here.
//!
//! A map is a TOML file; `configs/maps/ret-v1.toml` explains the format by example. Its rules are regular expressions of
//! a restricted form, plain text and groups, so that every rule reads backwards too: what is missing in a checkpoint can
//! be named as the checkpoint would name it.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use super::ModelsError;

/// The maps that come with the program, by name.
const SHIPPED: [(&str, &str); 1] = [("ret-v1", include_str!("../../configs/maps/ret-v1.toml"))];

/// Most parts that rows are cut into.
const MOST_PARTS: usize = 16;

/// A map of names.
#[derive(Debug, Clone)]
pub struct NameMap {
    text: String,
    words: BTreeMap<String, String>,
    rules: Vec<Rule>,
    left_out: Vec<Pattern>,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renamed {
    /// It has this name here.
    To(String),
    /// Its rows are cut into as many equal parts as there are names.
    Rows(Vec<String>),
    /// It is known and not used.
    LeftOut,
    /// The map does not know it.
    Unknown,
}

#[derive(Debug, Clone)]
struct Rule {
    from: Pattern,
    to: Vec<Template>,
}

/// Text and groups; a name matches as a whole.
#[derive(Debug, Clone)]
struct Pattern {
    regex: Regex,
    pieces: Vec<Piece>,
}

/// A name with the numbers of a pattern's groups in it.
#[derive(Debug, Clone)]
struct Template {
    /// Matches what the template makes, its groups in the order of `groups`.
    regex: Regex,
    pieces: Vec<Piece>,
    groups: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// Counted from 1.
    Group(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    words: BTreeMap<String, String>,
    rename: Vec<WrittenRule>,
    #[serde(default)]
    leave_out: Vec<WrittenPattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    from: String,
    to: OneOrMore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPattern {
    from: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl NameMap {
    /// The map that is meant by `named`: one that comes with the program, or a file (whatever holds a slash or ends with
    /// `.toml`), a relative one below `dir`.
    ///
    /// # Errors
    /// [`ModelsError::NameMap`]: no such name or file, or what is wrong in it.
    pub fn open(named: &str, dir: &Path) -> Result<Self, ModelsError> {
        if !named.contains(['/', std::path::MAIN_SEPARATOR]) && !named.ends_with(".toml") {
            let Some((_, text)) = SHIPPED.iter().find(|(name, _)| *name == named) else {
                let known: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                let reason = format!("no map of this name; expected {}, or a file ending with .toml", known.join(", "));
                return Err(ModelsError::NameMap { map: named.to_owned(), reason });
            };
            return Self::parse(named, text);
        }
        let path = dir.join(named);
        let text = fs_err::read_to_string(&path)
            .map_err(|e| ModelsError::NameMap { map: path.display().to_string(), reason: e.to_string() })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a map; `origin` is named in errors.
    ///
    /// # Errors
    /// [`ModelsError::NameMap`].
    pub fn parse(origin: &str, text: &str) -> Result<Self, ModelsError> {
        let fail = |reason: String| ModelsError::NameMap { map: origin.to_owned(), reason };
        let written: Written = toml::from_str(text).map_err(|e| fail(e.to_string()))?;
        let mut back = std::collections::BTreeSet::new();
        if let Some(twice) = written.words.values().find(|word| !back.insert(word.as_str())) {
            return Err(fail(format!("words: {twice:?} stands for two words, expected one")));
        }
        let rule = |written: WrittenRule| -> Result<Rule, String> {
            let from = Pattern::parse(&written.from)?;
            let to = match written.to {
                OneOrMore::One(to) => vec![to],
                OneOrMore::More(to) if (2..=MOST_PARTS).contains(&to.len()) => to,
                OneOrMore::More(to) => return Err(format!("{} names, expected 2 to {MOST_PARTS}", to.len())),
            };
            let to = to.iter().map(|to| Template::parse(to, from.groups())).collect::<Result<_, _>>()?;
            Ok(Rule { from, to })
        };
        let mut rules = Vec::with_capacity(written.rename.len());
        for one in written.rename {
            let from = one.from.clone();
            rules.push(rule(one).map_err(|reason| fail(format!("rename from {from:?}: {reason}")))?);
        }
        let mut left_out = Vec::with_capacity(written.leave_out.len());
        for WrittenPattern { from } in written.leave_out {
            left_out.push(Pattern::parse(&from).map_err(|reason| fail(format!("leave_out from {from:?}: {reason}")))?);
        }
        Ok(Self { text: text.to_owned(), words: written.words, rules, left_out })
    }

    /// The map as it is written: what identifies it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What becomes of the tensor that a checkpoint calls `name`.
    #[must_use]
    pub fn apply(&self, name: &str) -> Renamed {
        if self.left_out.iter().any(|pattern| pattern.regex.is_match(name)) {
            return Renamed::LeftOut;
        }
        for rule in &self.rules {
            let Some(found) = rule.from.regex.captures(name) else { continue };
            let group = |number: usize| {
                let text = found.get(number).map_or("", |group| group.as_str());
                self.words.get(text).map_or(text, String::as_str)
            };
            let to: Vec<String> = rule.to.iter().map(|to| fill(&to.pieces, group)).collect();
            return match <[String; 1]>::try_from(to) {
                Ok([one]) => Renamed::To(one),
                Err(more) => Renamed::Rows(more),
            };
        }
        Renamed::Unknown
    }

    /// What a checkpoint calls the tensor (or holds the rows of it in) that is called `name` here; nothing where no rule
    /// makes such a name.
    #[must_use]
    pub fn original(&self, name: &str) -> Option<String> {
        let word = |text: &str| self.words.iter().find(|(_, to)| *to == text).map(|(from, _)| from.clone());
        self.rules.iter().flat_map(|rule| rule.to.iter().map(move |to| (&rule.from, to))).find_map(|(from, to)| {
            let found = to.regex.captures(name)?;
            let group = |number: usize| {
                let at = to.groups.iter().position(|group| *group == number).map_or(0, |at| at + 1);
                let text = found.get(at).map_or("", |group| group.as_str());
                word(text).unwrap_or_else(|| text.to_owned())
            };
            let original = fill(&from.pieces, group);
            let makes_it = match self.apply(&original) {
                Renamed::To(made) => made == name,
                Renamed::Rows(made) => made.iter().any(|made| made == name),
                Renamed::LeftOut | Renamed::Unknown => false,
            };
            makes_it.then_some(original)
        })
    }
}

fn fill<T: AsRef<str>>(pieces: &[Piece], group: impl Fn(usize) -> T) -> String {
    let mut name = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => name.push_str(text),
            Piece::Group(number) => name.push_str(group(*number).as_ref()),
        }
    }
    name
}

impl Pattern {
    fn parse(written: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut groups = 0;
        let mut rest = written;
        while let Some(next) = rest.chars().next() {
            match next {
                '(' => {
                    let end = rest.find(')').ok_or("a group is not closed")?;
                    if rest[1..end].contains('(') || rest[1..end].starts_with('?') {
                        return Err("a group in a group, or a group without a number; expected plain groups".into());
                    }
                    groups += 1;
                    pieces.extend([Piece::Text(std::mem::take(&mut text)), Piece::Group(groups)]);
                    rest = &rest[end + 1..];
                }
                '\\' if rest.starts_with("\\.") => {
                    text.push('.');
                    rest = &rest[2..];
                }
                c if c.is_ascii_alphanumeric() || c == '_' || c == '-' => {
                    text.push(c);
                    rest = &rest[1..];
                }
                c => return Err(format!("{c:?} outside of a group; expected letters, digits, `_`, `-` and `\\.`")),
            }
        }
        pieces.push(Piece::Text(text));
        let regex = Regex::new(&format!("^(?:{written})$")).map_err(|e| e.to_string())?;
        Ok(Self { regex, pieces })
    }

    fn groups(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Group(_))).count()
    }
}

impl Template {
    fn parse(written: &str, groups: usize) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut order = Vec::new();
        let mut regex = String::from("^");
        for (index, part) in written.split('$').enumerate() {
            // Behind a dollar stands one digit; what follows it is text.
            let text = if index == 0 {
                part
            } else {
                let number = part.chars().next().and_then(|c| c.to_digit(10)).map_or(0, |digit| digit as usize);
                if number == 0 || number > groups || order.contains(&number) {
                    return Err(format!("to {written:?}: expected each of `$1` to `${groups}` once"));
                }
                order.push(number);
                pieces.push(Piece::Group(number));
                regex.push_str("(.+?)");
                &part[1..]
            };
            pieces.push(Piece::Text(text.to_owned()));
            regex.push_str(&regex::escape(text));
        }
        if order.len() != groups {
            return Err(format!("to {written:?}: {} of {groups} groups, expected each once", order.len()));
        }
        regex.push('$');
        Ok(Self { regex: Regex::new(&regex).map_err(|e| e.to_string())?, pieces, groups: order })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ret_v1() -> NameMap {
        NameMap::open("ret-v1", Path::new("")).unwrap()
    }

    #[test]
    fn every_map_is_shipped_and_reads() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/maps");
        assert_eq!(fs_err::read_dir(dir).unwrap().count(), SHIPPED.len());
        for (name, _) in SHIPPED {
            NameMap::open(name, Path::new("")).unwrap();
        }
    }

    #[test]
    fn names_are_rewritten_and_rows_are_shared_out() {
        let map = ret_v1();
        for (theirs, ours) in [
            ("query_model.text_model.text_model.final_layer_norm.bias", "text_model.text_model.final_layer_norm.bias"),
            ("passage_model.text_adapter.11.weight", "document.text_adapter.11.weight"),
            ("query_model.ret_cell.forget_gate_bias_prior", "query.cell.forget_gate_prior"),
            ("passage_model.ret_cell.mlp.3.bias", "document.cell.mlp.fc2.bias"),
        ] {
            assert_eq!(map.apply(theirs), Renamed::To(ours.into()));
            assert_eq!(map.original(ours).as_deref(), Some(theirs));
        }
        let rows = ["q", "k", "v"].map(|part| format!("query.cell.text_attn.{part}_proj.weight"));
        assert_eq!(map.apply("query_model.ret_cell.text_xa.in_proj_weight"), Renamed::Rows(rows.to_vec()));
        for part in &rows {
            assert_eq!(map.original(part).as_deref(), Some("query_model.ret_cell.text_xa.in_proj_weight"));
        }
        assert_eq!(map.apply("query_model.ret_cell.sa_ln.weight"), Renamed::LeftOut);
        for unknown in ["query_model.late_proj.bias", "a.query_model.late_proj.weight", "late_proj.weight", ""] {
            assert_eq!(map.apply(unknown), Renamed::Unknown, "{unknown}");
        }
        assert_eq!(map.original("document.vision_model.x"), None);
    }

    #[test]
    fn a_file_is_found_beside_the_description_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("mine.toml"), "[[rename]]\nfrom = '(.+)\\.w'\nto = '$1.weight'\n").unwrap();
        let map = NameMap::open("mine.toml", dir.path()).unwrap();
        assert_eq!(map.apply("a.b.w"), Renamed::To("a.b.weight".into()));
        let message = NameMap::open("other.toml", dir.path()).unwrap_err().to_string();
        assert!(message.contains("other.toml"), "{message}");
        let message = NameMap::open("ret-v2", dir.path()).unwrap_err().to_string();
        assert!(message.contains("`ret-v2`") && message.contains("expected ret-v1, or a file"), "{message}");
    }

    #[test]
    fn a_rule_that_cannot_be_read_backwards_is_refused() {
        for (rule, reason) in [
            (r"from = 'a.b'\nto = 'c'", "'.' outside of a group"),
            (r"from = 'a(b'\nto = '$1'", "not closed"),
            (r"from = 'a((b))'\nto = '$1'", "plain groups"),
            (r"from = 'a(?:b)'\nto = 'c'", "plain groups"),
            (r"from = 'a(b)'\nto = 'c'", "0 of 1 groups"),
            (r"from = 'a(b)'\nto = '$1$1'", "once"),
            (r"from = 'a(b)'\nto = '$2'", "once"),
            (r"from = 'a(b)'\nto = '$'", "once"),
            (r"from = 'a([)'\nto = '$1'", "unclosed character class"),
            (r"from = 'a'\nto = ['b']", "1 names, expected 2 to 16"),
            (r"from = 'a'\ninto = 'b'", "into"),
        ] {
            let text = format!("[[rename]]\n{}\n", rule.replace("\\n", "\n"));
            let message = NameMap::parse("x.toml", &text).unwrap_err().to_string();
            assert!(message.contains("x.toml") && message.contains(reason), "{rule}: {message}");
        }
        let twice = "rename = []\n[words]\na = 'x'\nb = 'x'\n";
        assert!(NameMap::parse("x.toml", twice).unwrap_err().to_string().contains("two words"));
    }

    proptest! {
        /// For any name and any map that reads: what is said to be its original becomes it.
        #[test]
        fn an_original_becomes_the_name_again(
            name in "(query|document|[a-z])(\\.[a-z_]{1,6}|\\PC){0,4}",
            from in "[a-z]{0,2}(\\((.\\+|[a-z]|\\\\d)\\)|\\\\.|[a-z(*]){0,4}",
            to in "(\\$[1-3]|[a-z.]){0,4}",
        ) {
            let written = NameMap::parse("x.toml", &format!("[[rename]]\nfrom = '{from}'\nto = '{to}'\n"));
            for map in [Ok(ret_v1()), written].into_iter().flatten() {
                if let Some(original) = map.original(&name) {
                    prop_assert_eq!(map.apply(&original), Renamed::To(name.clone()));
                }
            }
        }
    }
}
