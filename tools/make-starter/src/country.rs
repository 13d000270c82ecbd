//! The 249 countries and territories: what the two sources know of each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde_json::Value;

use crate::packages::Members;
use crate::text;

/// ISO 3166-1 has 249 officially assigned codes; Kosovo's `xk` is not among them and lacks an article picture.
pub const COUNT: usize = 249;

/// One country or territory.
#[derive(Debug)]
pub struct Country {
    /// ISO 3166-1 alpha-2, lower case.
    pub code: String,
    /// ISO 3166-1 numeric.
    pub numeric: u32,
    pub title: String,
    pub official: String,
    /// Key of the article.
    pub url: String,
    pub independent: bool,
    pub region: String,
    pub subregion: String,
    pub landlocked: bool,
    pub capitals: Vec<(String, String)>,
    /// Code and name.
    pub currencies: Vec<(String, String)>,
    pub languages: Vec<String>,
    pub borders: Vec<String>,
    /// Square kilometres.
    pub area: f64,
    pub domain: Option<String>,
    pub calling: Option<String>,
    pub demonym: Option<String>,
    /// The factbook's record; `Null` for the seven that have none.
    pub book: Value,
}

impl Country {
    /// Cleaned text of a factbook field, empty where there is none.
    pub fn field(&self, path: &[&str]) -> String {
        let mut value = &self.book;
        for key in path {
            value = &value[*key];
        }
        let raw = value.as_str().or_else(|| value["text"].as_str()).unwrap_or_default();
        let text = text::clean(raw);
        if ["none", "na", "negl"].contains(&text::fold(&text).as_str()) { String::new() } else { text }
    }

    /// "country" or "territory".
    pub fn noun(&self) -> &'static str {
        if self.independent { "country" } else { "territory" }
    }
}

/// Factbook files whose country code top-level domain does not name the country.
const BOOK_CODES: [(&str, &str); 6] =
    [("uk", "gb"), ("um", "um"), ("sx", "gs"), ("we", "ps"), ("gz", ""), ("sv", "sj")];

/// Titles that are clearer than the source's common name.
const TITLES: [(&str, &str); 3] = [
    ("GS", "South Georgia and the South Sandwich Islands"),
    ("CD", "Democratic Republic of the Congo"),
    ("MF", "Saint Martin (French part)"),
];

/// Encyclopedia pages that are not named like the title.
const PAGES: [(&str, &str); 8] = [
    ("AX", "Åland"),
    ("GE", "Georgia (country)"),
    ("IE", "Republic of Ireland"),
    ("FM", "Federated States of Micronesia"),
    ("MF", "Collectivity of Saint Martin"),
    ("ST", "São Tomé and Príncipe"),
    ("GM", "The Gambia"),
    ("BS", "The Bahamas"),
];

/// Capitals where the sources differ or share the office among cities: every city with its role; empty where the
/// capital is disputed, unofficial or none.
const CAPITALS: [(&str, &[(&str, &str)]); 18] = [
    ("BJ", &[("Porto-Novo", "constitutional capital"), ("Cotonou", "seat of government")]),
    ("BI", &[("Gitega", "political capital"), ("Bujumbura", "commercial capital")]),
    ("CI", &[("Yamoussoukro", "legislative capital"), ("Abidjan", "administrative and economic capital")]),
    (
        "ZA",
        &[
            ("Pretoria", "administrative capital"),
            ("Cape Town", "legislative capital"),
            ("Bloemfontein", "judicial capital"),
        ],
    ),
    ("SZ", &[("Mbabane", "administrative capital"), ("Lobamba", "royal and legislative capital")]),
    ("BO", &[("Sucre", "constitutional capital"), ("La Paz", "administrative capital")]),
    ("LK", &[("Colombo", "commercial capital"), ("Sri Jayewardenepura Kotte", "legislative capital")]),
    ("MN", &[("Ulaanbaatar", "")]),
    ("SM", &[("San Marino", "")]),
    ("US", &[("Washington, D.C.", "")]),
    ("TC", &[("Cockburn Town", "")]),
    ("NR", &[]),
    ("HK", &[]),
    ("EH", &[]),
    ("PS", &[]),
    ("IL", &[]),
    ("IO", &[]),
    ("CX", &[("Flying Fish Cove", "")]),
];

/// Reads both sources and joins them.
pub fn load(countries: &Members, factbook: &Members) -> Result<Vec<Country>> {
    let json = countries.get("package/countries.json").context("world-countries: no countries.json")?;
    let records: Vec<Value> = serde_json::from_slice(json)?;
    let mut books = books(factbook)?;
    let names: BTreeMap<&str, String> = records.iter().map(|r| (str(&r["cca3"]), title(r))).collect();
    let currencies = currency_names(&records);

    let mut out = Vec::new();
    for r in &records {
        let iso = str(&r["cca2"]);
        if iso == "XK" {
            continue;
        }
        let title = title(r);
        let page = look(&PAGES, iso).unwrap_or(&title);
        let capitals = match CAPITALS.iter().find(|(c, _)| *c == iso) {
            Some((_, list)) => list.iter().map(|(c, role)| ((*c).to_owned(), (*role).to_owned())).collect(),
            None => list(&r["capital"]).into_iter().map(|c| (c, String::new())).collect(),
        };
        let mut borders = Vec::new();
        for code in list(&r["borders"]) {
            borders.push(names.get(code.as_str()).with_context(|| format!("{iso}: unknown border {code}"))?.clone());
        }
        borders.sort();
        if iso == "LK" {
            // The source counts a chain of shoals; India's record does not.
            borders.clear();
        }
        let object = |key: &str| r[key].as_object().cloned().unwrap_or_default();
        let suffixes = list(&r["idd"]["suffixes"]);
        let root = str(&r["idd"]["root"]);
        let calling = match suffixes.as_slice() {
            [one] => Some(format!("{root}{one}")),
            [_, ..] if matches!(root, "+1" | "+7") => Some(root.to_owned()),
            _ => None,
        };
        let mut languages: Vec<String> = object("languages").values().map(|v| str(v).to_owned()).collect();
        languages.sort();
        out.push(Country {
            code: iso.to_lowercase(),
            numeric: str(&r["ccn3"]).parse().with_context(|| format!("{iso}: numeric code"))?,
            url: format!("https://en.wikipedia.org/wiki/{}", encode(page)),
            official: str(&r["name"]["official"]).to_owned(),
            independent: r["independent"].as_bool().unwrap_or(false),
            region: str(&r["region"]).to_owned(),
            subregion: str(&r["subregion"]).to_owned(),
            landlocked: r["landlocked"].as_bool().unwrap_or(false),
            capitals,
            // The convertible peso of Cuba was withdrawn in 2021.
            currencies: object("currencies").keys().filter(|k| *k != "CUC").map(|k| (k.clone(), currencies[k].clone())).collect(),
            languages,
            borders,
            area: r["area"].as_f64().unwrap_or(-1.0),
            domain: list(&r["tld"]).into_iter().next(),
            calling,
            demonym: r["demonyms"]["eng"]["m"].as_str().filter(|d| !d.is_empty()).map(str::to_owned),
            book: books.remove(&iso.to_lowercase()).unwrap_or(Value::Null),
            title,
        });
    }
    out.sort_by(|a, b| a.code.cmp(&b.code));
    ensure!(out.len() == COUNT, "expected {COUNT} countries, found {}", out.len());
    lend_overseas(&mut out)?;
    Ok(out)
}

/// The factbook treats the French regions overseas within France; their own paragraphs become their records.
fn lend_overseas(countries: &mut [Country]) -> Result<()> {
    let france = countries.iter().find(|c| c.code == "fr").context("no France")?.book["Geography"].clone();
    let paragraph = Regex::new(r"<(?:strong|em)>\s*([^<]+?):?\s*</(?:strong|em)>:?\s*(.*?)\s*(?:<br>\s*)*$")?;
    for (code, name) in
        [("gf", "French Guiana"), ("gp", "Guadeloupe"), ("mq", "Martinique"), ("yt", "Mayotte"), ("re", "Reunion")]
    {
        let mut geography = serde_json::Map::new();
        for field in ["Location", "Terrain", "Climate"] {
            let all = format!(
                "{}<br><br>{}",
                france[field]["text"].as_str().unwrap_or_default(),
                france[field]["note"].as_str().unwrap_or_default()
            );
            for part in all.split("<br><br>") {
                if let Some(found) = paragraph.captures(part.trim())
                    && found[1].contains(name)
                {
                    geography.insert(field.to_owned(), serde_json::json!({ "text": &found[2] }));
                }
            }
        }
        ensure!(geography.contains_key("Location"), "France: no paragraph on {name}");
        let country = countries.iter_mut().find(|c| c.code == code).context("an overseas region is missing")?;
        country.book = serde_json::json!({
            "Geography": geography,
            "Government": {"Dependency status": {"text": "overseas region of France"}},
        });
    }
    Ok(())
}

fn books(factbook: &Members) -> Result<BTreeMap<String, Value>> {
    let domain = Regex::new(r"\.([a-z]{2})\b")?;
    let mut out = BTreeMap::new();
    for (path, bytes) in factbook {
        let stem = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        let book: Value = serde_json::from_slice(bytes).with_context(|| path.clone())?;
        let code = match look(&BOOK_CODES, stem) {
            Some(code) => code.to_owned(),
            None => {
                let field = book["Communications"]["Internet country code"]["text"].as_str().unwrap_or_default();
                domain.captures(field).map(|c| c[1].to_owned()).unwrap_or_default()
            }
        };
        if !code.is_empty() && out.insert(code.clone(), book).is_some() {
            bail!("two factbook records for {code}, the second is {path}");
        }
    }
    Ok(out)
}

/// One name for each currency: the longest that the source uses, for it sometimes leaves the adjective out.
fn currency_names(records: &[Value]) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    for (code, value) in records.iter().filter_map(|r| r["currencies"].as_object()).flatten() {
        let name = str(&value["name"]);
        let known = out.entry(code.clone()).or_default();
        if name.len() > known.len() {
            *known = name.to_owned();
        }
    }
    for (code, name) in [
        ("EUR", "euro"),
        ("GBP", "pound sterling"),
        ("GEL", "Georgian lari"),
        ("GMD", "Gambian dalasi"),
        ("MKD", "Macedonian denar"),
        ("VES", "Venezuelan bolívar"),
    ] {
        out.insert(code.to_owned(), name.to_owned());
    }
    out
}

fn title(record: &Value) -> String {
    look(&TITLES, str(&record["cca2"])).unwrap_or(str(&record["name"]["common"])).to_owned()
}

fn look<'a>(table: &[(&str, &'a str)], key: &str) -> Option<&'a str> {
    table.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| str(v).to_owned()).collect()
}

/// Blanks become underscores; what is not ASCII is percent-encoded.
fn encode(page: &str) -> String {
    let mut out = String::new();
    for byte in page.replace(' ', "_").bytes() {
        if byte.is_ascii() {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
