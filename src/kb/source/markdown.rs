//! What a Markdown file says of an entity: front matter, title, sections, and the pictures that it shows.
//!
//! This reads structure and leaves the words alone: `# ` is the title, `## ` begins a section, `![caption](file)` is a
//! picture (CommonMark 0.31, inline images); everything else stays in the text as it is written. Front matter is the
//! part of YAML that people use there: `key: value`, `key: [a, b]`, and lists with dashes.

/// A file, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Of the front matter, or else the first `# ` heading.
    pub(super) title: Option<String>,
    /// `url` of the front matter.
    pub(super) url: Option<String>,
    /// `image` and `images` of the front matter.
    pub(super) images: Vec<String>,
    /// Heading and text; the heading of the text before the first `## ` is `None`. Empty texts have no section.
    pub(super) sections: Vec<(Option<String>, String)>,
    /// Pictures shown.
    pub(super) shown: Vec<Shown>,
}

/// A picture in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// As it is linked.
    pub(super) target: String,
    pub(super) caption: String,
    /// Index of its section.
    pub(super) section: usize,
}

/// Takes a file apart. Nothing is an error: what is not understood is text.
pub(super) fn parse(text: &str) -> Page {
    let mut page = Page::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let body = front_matter(text, &mut page).unwrap_or(text);
    let mut heading = None;
    let mut section = String::new();
    let mut shown = Vec::new();
    let mut fence: Option<&str> = None;
    for line in body.lines() {
        let marker = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        let fenced = fence.is_some() || marker.is_some();
        if let Some(marker) = marker {
            fence = match fence {
                None => Some(marker),
                Some(open) if open == marker => None,
                open => open,
            };
        }
        if !fenced && let Some(title) = heading_of(line, "# ") {
            if page.title.is_none() {
                page.title = Some(title);
                continue;
            }
            if page.title.as_ref() == Some(&title) {
                continue;
            }
        }
        if !fenced && let Some(next) = heading_of(line, "## ") {
            end_section(&mut page, heading.replace(next), &mut section, &mut shown);
            continue;
        }
        if fenced {
            section.push_str(line);
        } else {
            without_pictures(line, &mut section, &mut shown);
        }
        section.push('\n');
    }
    end_section(&mut page, heading, &mut section, &mut shown);
    page
}

fn end_section(page: &mut Page, heading: Option<String>, text: &mut String, shown: &mut Vec<(String, String)>) {
    // A picture in a section without text stands in the one before.
    let mut section = page.sections.len();
    if text.trim().is_empty() {
        section = section.saturating_sub(1);
    } else {
        page.sections.push((heading, text.trim().to_owned()));
    }
    text.clear();
    page.shown.extend(shown.drain(..).map(|(target, caption)| Shown { target, caption, section }));
}

fn heading_of(line: &str, mark: &str) -> Option<String> {
    let title = line.strip_prefix(mark)?.trim().trim_end_matches('#').trim();
    (!title.is_empty()).then(|| title.to_owned())
}

/// Reads the front matter into `page`; what is behind it. `None` where there is none.
fn front_matter<'a>(text: &'a str, page: &mut Page) -> Option<&'a str> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().filter(|line| line.trim_end() == "---")?;
    let mut at = first.len();
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        at += line.len();
        let line = line.trim_end();
        if line == "---" || line == "..." {
            for (key, values) in fields {
                match key.as_str() {
                    "title" => page.title = values.into_iter().next(),
                    "url" => page.url = values.into_iter().next(),
                    "image" | "images" => page.images.extend(values),
                    _ => {}
                }
            }
            return Some(&text[at..]);
        }
        if let Some(item) = line.trim_start().strip_prefix("- ") {
            if let Some((_, values)) = fields.last_mut() {
                values.extend(scalar(item));
            }
        } else if let Some((key, value)) = line.split_once(':').filter(|(key, _)| !key.starts_with([' ', '\t', '#'])) {
            let value = value.trim();
            let values = match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                Some(list) => list.split(',').filter_map(scalar).collect(),
                None => scalar(value).into_iter().collect(),
            };
            fields.push((key.trim().to_lowercase(), values));
        }
    }
    // It has no end: a line of dashes, and text.
    None
}

/// A value without its quotes; `None` for an empty one.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    let quoted = ['"', '\''].into_iter().find_map(|c| text.strip_prefix(c)?.strip_suffix(c));
    let value = quoted.unwrap_or(text).trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Appends a line to `text` without the pictures of the folder that it shows, which are appended to `shown`. What is
/// elsewhere in the network stays.
fn without_pictures(line: &str, text: &mut String, shown: &mut Vec<(String, String)>) {
    let mut rest = line;
    while let Some(at) = rest.find("![") {
        match picture(&rest[at + 2..]) {
            Some((caption, target, length)) if !target.contains("://") && !target.starts_with("data:") => {
                text.push_str(&rest[..at]);
                shown.push((target, caption));
                rest = &rest[at + 2 + length..];
            }
            _ => {
                text.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    text.push_str(rest);
}

/// Caption and target of a picture whose `![` stands before `text`, and how long it is.
fn picture(text: &str) -> Option<(String, String, usize)> {
    let close = text.find("](")?;
    let caption = &text[..close];
    if caption.contains("![") {
        return None;
    }
    let start = close + 2;
    let inside = &text[start..];
    if let Some(rest) = inside.strip_prefix('<') {
        let end = rest.find('>')?;
        let close = rest[end..].find(')')? + end;
        return Some((caption.trim().to_owned(), rest[..end].to_owned(), start + 1 + close + 1));
    }
    // Brackets in a name come in pairs.
    let mut depth = 0_usize;
    let end = inside.char_indices().find_map(|(at, c)| match c {
        '(' => {
            depth += 1;
            None
        }
        ')' if depth == 0 => Some(at),
        ')' => {
            depth -= 1;
            None
        }
        _ => None,
    })?;
    // A title in quotes may stand behind the target.
    let target = inside[..end].trim();
    let target = target
        .split_once([' ', '\t'])
        .filter(|(_, title)| title.trim().starts_with(['"', '\'']))
        .map_or(target, |(t, _)| t);
    (!target.is_empty()).then(|| (caption.trim().to_owned(), target.to_owned(), start + end + 1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = parse(
            "\u{feff}---\r\ntitle: \"Scupi: a ruin\"\nurl: https://example.org/scupi\nimages:\n  - 'a b.png'\n  - c.png\n\
             tags: [x, y]\n---\n# Scupi: a ruin\n\nOld ![Theatre](img/t.jpg \"x\") walls.\n\n## History ##\n\n\
             ![](<a (1).jpg>)\n```\n## no heading ![x](y.png)\n```\n## Empty\n![End](e_(2).png)\n## See\n\n[link](x.md) \
             ![far](https://x/y.png)\n### Deeper\n",
        );
        assert_eq!(page.title.as_deref(), Some("Scupi: a ruin"));
        assert_eq!(page.url.as_deref(), Some("https://example.org/scupi"));
        assert_eq!(page.images, ["a b.png", "c.png"]);
        let section = |title: Option<&str>, text: &str| (title.map(str::to_owned), text.to_owned());
        let expected = [
            section(None, "Old  walls."),
            section(Some("History"), "```\n## no heading ![x](y.png)\n```"),
            section(Some("See"), "[link](x.md) ![far](https://x/y.png)\n### Deeper"),
        ];
        assert_eq!(page.sections, expected);
        let shown =
            |target: &str, caption: &str, section| Shown { target: target.into(), caption: caption.into(), section };
        assert_eq!(
            page.shown,
            [shown("img/t.jpg", "Theatre", 0), shown("a (1).jpg", "", 1), shown("e_(2).png", "End", 1)]
        );
    }

    #[test]
    fn without_front_matter_the_first_heading_is_the_title() {
        let page = parse("intro\n# Ruin\ntext\n# Other\n");
        assert_eq!(page.title.as_deref(), Some("Ruin"));
        assert_eq!(page.sections, [(None, "intro\ntext\n# Other".to_owned())]);
        let page = parse("---\nno: end\n");
        assert_eq!((page.title, page.sections.len()), (None, 1));
        assert_eq!(parse(""), Page::default());
    }

    proptest! {
        #[test]
        fn any_text_is_a_page_whose_pictures_stand_in_its_sections(
            text in "(---\n|## |# |title: |- |!\\[|\\]\\(|\\)|<|>|```|\n|[a-c\" ]|\\PC){0,40}"
        ) {
            let page = parse(&text);
            for shown in &page.shown {
                prop_assert!(shown.section < page.sections.len().max(1));
            }
            prop_assert!(page.sections.iter().all(|(_, text)| !text.trim().is_empty()));
        }
    }
}
