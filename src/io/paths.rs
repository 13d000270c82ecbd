//! Joining names that come from data.

use std::path::{Component, Path, PathBuf};

use super::IoError;

/// Joins a relative name from outside (a data set, an archive, a catalogue) to `base`.
///
/// Both `/` and `\` count as separators, whatever the system, since data travels. Links inside `base` are not
/// followed or judged here.
///
/// # Errors
/// [`IoError::UnsafePath`] for a name that is empty, absolute, has a drive, a `..` or a NUL.
pub fn safe_join(base: &Path, name: &str) -> Result<PathBuf, IoError> {
    let refuse = |reason| IoError::UnsafePath { base: base.to_owned(), name: name.to_owned(), reason };
    if name.contains('\0') {
        return Err(refuse("it has a NUL byte"));
    }
    if name.starts_with(['/', '\\']) {
        return Err(refuse("it is absolute"));
    }
    let drive = name.split_once(':').is_some_and(|(d, _)| d.len() == 1 && d.as_bytes()[0].is_ascii_alphabetic());
    if drive {
        return Err(refuse("it names a drive"));
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err(refuse("it has a `..`"));
    }
    let mut joined = base.to_owned();
    let mut parts = 0;
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => {
                joined.push(part);
                parts += 1;
            }
            Component::CurDir => {}
            _ => return Err(refuse("it is not relative")),
        }
    }
    if parts == 0 { Err(refuse("it is empty")) } else { Ok(joined) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_names_pass() {
        let base = Path::new("base");
        assert_eq!(safe_join(base, "a/b.png").unwrap(), Path::new("base/a/b.png"));
        assert_eq!(safe_join(base, "./a//b").unwrap(), Path::new("base/a/b"));
        assert_eq!(safe_join(base, "..a/b..c").unwrap(), Path::new("base/..a/b..c"));
        assert_eq!(safe_join(base, "où: ça.jpg").unwrap(), Path::new("base/où: ça.jpg"));
    }

    #[test]
    fn every_way_out_is_refused_with_its_reason() {
        for (name, reason) in [
            ("", "empty"),
            (".", "empty"),
            ("/etc/passwd", "absolute"),
            ("\\\\server\\share", "absolute"),
            ("C:\\x", "drive"),
            ("c:x", "drive"),
            ("..", "`..`"),
            ("a/../../b", "`..`"),
            ("a\\..\\..\\b", "`..`"),
            ("a\0b", "NUL"),
        ] {
            let message = safe_join(Path::new("base"), name).unwrap_err().to_string();
            assert!(message.contains(reason), "{name:?}: {message}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_stays_below_the_base(name in "([./\\\\:a-c\\x00]|\\PC){0,12}") {
            if let Ok(path) = safe_join(Path::new("base"), &name) {
                prop_assert!(path.starts_with("base") && path != Path::new("base"));
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
