//! A country's article: sections of one purpose each, and the facts that questions are made from.

use std::sync::LazyLock;

use regex::Regex;

use crate::country::Country;
use crate::text::{bare, clip, number, sentence, words};

/// Words beyond which a section takes no further part.
const FULL: usize = 120;

/// What a fact is about; each kind has its own questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    OfficialName,
    HighestPoint,
    Elevation,
    Area,
    Borders,
    Population,
    Demonym,
    Languages,
    Government,
    Capital,
    IndependenceYear,
    IndependenceFrom,
    Currency,
    Symbol,
    Anthem,
    Domain,
    Calling,
}

/// The answer to a question about a fact.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Alternatives, the preferred one first.
    One(Vec<String>),
    /// Every item belongs to the answer.
    All(Vec<String>),
    /// A measured value, as it is printed in the section.
    Number(f64, String),
}

/// Something a section states in a sentence of its own.
#[derive(Debug)]
pub struct Fact {
    pub kind: Kind,
    pub section: usize,
    pub sentence: String,
    pub answer: Answer,
}

#[derive(Debug)]
pub struct Section {
    pub title: String,
    pub text: String,
}

#[derive(Debug)]
pub struct Article {
    pub sections: Vec<Section>,
    pub facts: Vec<Fact>,
}

struct Draft {
    title: String,
    parts: Vec<String>,
    facts: Vec<Fact>,
}

impl Draft {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), parts: Vec::new(), facts: Vec::new() }
    }

    /// A sentence that stays whatever follows.
    fn say(&mut self, text: String) {
        if !text.is_empty() {
            self.parts.push(sentence(&text));
        }
    }

    /// Prose, at most `max` words of it.
    fn prose(&mut self, text: &str, max: usize) {
        let used: usize = self.parts.iter().map(|p| words(p)).sum();
        let text = clip(text, max.min(FULL.saturating_sub(used)));
        if !text.is_empty() {
            self.parts.push(sentence(&text));
        }
    }

    /// `Label: prose`.
    fn labelled(&mut self, label: &str, text: &str, max: usize) {
        let used: usize = self.parts.iter().map(|p| words(p)).sum();
        let text = clip(text, max.min(FULL.saturating_sub(used)));
        if !text.is_empty() {
            self.parts.push(format!("{label}: {text}"));
        }
    }

    fn fact(&mut self, kind: Kind, text: String, answer: Answer) {
        let text = sentence(&text);
        self.facts.push(Fact { kind, section: 0, sentence: text.clone(), answer });
        self.parts.push(text);
    }
}

/// Anthems shared by several flags; named only in the article of the state whose own they are.
const SHARED_ANTHEMS: [(&str, &str); 7] = [
    ("God Save the King", "gb"),
    ("Het Wilhelmus", "nl"),
    ("La Marseillaise", "fr"),
    ("The Star-Spangled Banner", "us"),
    ("Advance Australia Fair", "au"),
    ("Ja, vi elsker dette landet", "no"),
    ("Yiyongjun Jinxingqu", "cn"),
];

static PEAK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([^\d;]+?),? ([\d,]+)(?: m\b|$|\.$)").expect("constant"));
static PAREN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s*[(\[][^()\[\]]*[)\]]").expect("constant"));
static FREE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(\d{1,2} [A-Z][a-z]+ (\d{4})) \((?:declared )?(?:independence )?from (?:the )?([A-Z][A-Za-z ]+?)\)\.?$").expect("constant")
});
static ANTHEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"^"([^"]+)"\s*(?:\(([^()]+)\))?\.?$"#).expect("constant"));
static PEOPLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([\d,]+) \((\d{4})( est\.)?\)").expect("constant"));
static LAND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([\d,.]+)( million)? sq km").expect("constant"));

/// Writes the article.
pub fn write(c: &Country) -> Article {
    let mut drafts = vec![
        lead(c),
        geography(c),
        area(c),
        climate(c),
        resources(c),
        borders(c),
        population(c),
        people(c),
        languages(c),
        government(c),
        capital(c),
        independence(c),
        economy(c),
        currency(c),
        flag(c),
        symbols(c),
        communications(c),
    ];
    drafts.retain(|d| !d.parts.is_empty());
    let mut article = Article { sections: Vec::new(), facts: Vec::new() };
    for (index, mut draft) in drafts.into_iter().enumerate() {
        for mut fact in draft.facts.drain(..) {
            fact.section = index;
            article.facts.push(fact);
        }
        article.sections.push(Section { title: draft.title, text: draft.parts.join(" ") });
    }
    article
}

/// The name within a sentence.
fn the(c: &Country) -> String {
    let article = ["Islands", "Republic", "Kingdom", "States", "Emirates", "Netherlands", "Lands", "Territory"];
    let the = article.iter().any(|w| c.title.split(' ').any(|t| t == *w))
        || matches!(c.code.as_str(), "bs" | "gm" | "ph" | "mv" | "km" | "sc" | "cg" | "im");
    let without = matches!(c.code.as_str(), "hm" | "gs");
    if the && !without { format!("the {}", c.title) } else { c.title.clone() }
}

fn lead(c: &Country) -> Draft {
    let mut d = Draft::new(&c.title);
    let place = match (c.subregion.as_str(), c.region.as_str()) {
        ("", "Antarctic") => "the Antarctic".to_owned(),
        ("Caribbean", _) => "the Caribbean".to_owned(),
        ("", region) => region.to_owned(),
        (sub, _) => sub.to_owned(),
    };
    let status = c.field(&["Government", "Dependency status"]);
    d.say(format!("{} is a {} in {place}", the(c), if c.independent { "sovereign country" } else { "territory" }));
    if crate::text::fold(&c.official) != crate::text::fold(&c.title) && c.code != "eh" {
        d.fact(
            Kind::OfficialName,
            format!("The official name of {} is {}", the(c), c.official),
            Answer::One(vec![c.official.clone()]),
        );
    }
    d.labelled("Status", &status, 30);
    d.prose(&c.field(&["Introduction", "Background"]), 110);
    d
}

fn geography(c: &Country) -> Draft {
    let mut d = Draft::new("Geography");
    if c.code == "ps" {
        d.say("The descriptions in this article are those of the West Bank".to_owned());
    }
    d.labelled("Location", &c.field(&["Geography", "Location"]), 40);
    if c.landlocked && c.independent {
        d.say(format!("{} is landlocked", the(c)));
    }
    let peak = c.field(&["Geography", "Elevation", "highest point"]);
    let plain = PAREN.replace_all(&peak, "").into_owned();
    if let Some(found) = PEAK.captures(&plain)
        && !found[1].to_lowercase().contains("unnamed")
        && words(&found[1]) <= 9
        && !found[1].contains(" was")
    {
        let name = found[1].trim().to_owned();
        let height: f64 = found[2].replace(',', "").parse().unwrap_or_default();
        let text = format!("The highest point of {} is {name}, at {} metres", the(c), number(height));
        let mut names = vec![name.clone()];
        if let Some((head, _)) = name.split_once(" on ") {
            names.push(head.to_owned());
        }
        if name.chars().next().is_some_and(char::is_uppercase) {
            d.fact(Kind::HighestPoint, text.clone(), Answer::One(names));
            if height > 0.0 {
                let fact = Fact {
                    kind: Kind::Elevation,
                    section: 0,
                    sentence: sentence(&text),
                    answer: Answer::Number(height, number(height)),
                };
                d.facts.push(fact);
            }
        }
    }
    d.labelled("Terrain", &c.field(&["Geography", "Terrain"]), 40);
    d.labelled("Note", &c.field(&["Geography", "Geography - note"]), 40);
    d
}

fn area(c: &Country) -> Draft {
    let mut d = Draft::new("Area");
    let book = c.field(&["Geography", "Area", "total "]);
    let read = LAND.captures(&book).and_then(|m| {
        let value: f64 = m[1].trim_end_matches('.').replace(',', "").parse().ok()?;
        Some(if m.get(2).is_some() { value * 1e6 } else { value })
    });
    // The West Bank's record stands in for Palestine: its figures do not hold for the whole.
    let read = read.filter(|v| *v > 0.0 && c.code != "ps");
    let value = read.unwrap_or(c.area);
    if value > 0.0 {
        let text = format!("The total area of {} is {} square kilometres", the(c), number(value));
        // Where the two sources differ by more than their rounding (territories counted or not), nothing is asked.
        let agreed = read.is_none() || c.area <= 0.0 || (value / c.area - 1.0).abs() <= 0.1;
        if agreed {
            d.fact(Kind::Area, text, Answer::Number(value, number(value)));
        } else {
            d.say(text);
        }
    }
    if c.code != "ps" {
        for (label, key) in [("Land", "land"), ("Water", "water")] {
            d.labelled(label, &c.field(&["Geography", "Area", key]), 12);
        }
        let like = c.field(&["Geography", "Area - comparative"]);
        if !like.is_empty() && !like.contains("note") {
            d.labelled("In comparison", &like, 25);
        }
    }
    let coast = c.field(&["Geography", "Coastline"]);
    if !coast.is_empty() && !coast.contains("landlocked") {
        d.labelled("Coastline", &coast, 12);
    }
    d
}

fn climate(c: &Country) -> Draft {
    let mut d = Draft::new("Climate");
    d.labelled("Climate", &c.field(&["Geography", "Climate"]), 60);
    d.labelled("Natural hazards", &c.field(&["Geography", "Natural hazards"]), 45);
    d
}

fn resources(c: &Country) -> Draft {
    let mut d = Draft::new("Natural resources");
    d.labelled("Natural resources", &c.field(&["Geography", "Natural resources"]), 45);
    for (label, key) in [("Agricultural land", "agricultural land"), ("Forest", "forest")] {
        d.labelled(label, &c.field(&["Geography", "Land use", key]), 8);
    }
    d.labelled("Environmental issues", &c.field(&["Environment", "Environmental issues"]), 45);
    d
}

fn borders(c: &Country) -> Draft {
    let mut d = Draft::new("Borders");
    match c.borders.as_slice() {
        [] => {
            if !c.book.is_null() {
                d.say(format!("{} has no land borders", the(c)));
            }
        }
        [one] => {
            let short = PAREN.replace_all(one, "").into_owned();
            let names = if short == *one { vec![short] } else { vec![one.clone(), short] };
            d.fact(Kind::Borders, format!("{} has a land border with {one} only", the(c)), Answer::One(names));
        }
        many => d.fact(
            Kind::Borders,
            format!("{} has land borders with {}", the(c), join(many)),
            Answer::All(many.to_vec()),
        ),
    }
    if !c.borders.is_empty() && c.code != "ps" {
        d.labelled("Length of the land boundaries", &c.field(&["Geography", "Land boundaries", "total"]), 12);
    }
    d
}

fn population(c: &Country) -> Draft {
    let mut d = Draft::new("Population");
    if c.code == "ps" {
        return d;
    }
    let book = c.field(&["People and Society", "Population", "total"]);
    if let Some(m) = PEOPLE.captures(&book) {
        let value: f64 = m[1].replace(',', "").parse().unwrap_or_default();
        let year = if m.get(3).is_some() { format!("{} estimate", &m[2]) } else { m[2].to_owned() };
        d.fact(
            Kind::Population,
            format!("The population of {} is {} ({year})", the(c), number(value)),
            Answer::Number(value, number(value)),
        );
    } else {
        d.labelled("Population", &book, 20);
    }
    d.labelled("Distribution", &c.field(&["People and Society", "Population distribution"]), 45);
    d.labelled("Urban population", &c.field(&["People and Society", "Urbanization", "urban population"]), 12);
    d.labelled("Median age", &c.field(&["People and Society", "Median age", "total"]), 8);
    d.labelled("Life expectancy at birth", &c.field(&["People and Society", "Life expectancy at birth", "total population"]), 8);
    let cities = c.field(&["People and Society", "Major urban areas - population"]).replace(" (capital)", "");
    d.labelled("Largest urban areas", &cities, 40);
    d
}

fn people(c: &Country) -> Draft {
    let mut d = Draft::new("People");
    if let Some(demonym) = &c.demonym
        && !c.book.is_null()
        && c.code != "tf"
        && c.code != "io"
    {
        let mut names: Vec<String> = demonym.split(", ").map(str::to_owned).collect();
        let noun = c.field(&["People and Society", "Nationality", "noun"]);
        let noun = PAREN.replace_all(bare(&noun), "").into_owned();
        let mut text = format!("A person from {} is called {}", the(c), names.join(" or "));
        if words(&noun) <= 2 && !noun.contains([',', ';']) && !noun.is_empty() && noun != *demonym {
            text = format!("{text} or {noun}");
            names.push(noun);
        }
        d.fact(Kind::Demonym, text, Answer::One(names));
    }
    d.labelled("Ethnic groups", &c.field(&["People and Society", "Ethnic groups"]), 50);
    d.labelled("Religions", &c.field(&["People and Society", "Religions"]), 50);
    d
}

fn languages(c: &Country) -> Draft {
    let mut d = Draft::new("Languages");
    let names: Vec<String> = c.languages.iter().map(|l| PAREN.replace_all(l, "").into_owned()).collect();
    match names.as_slice() {
        [] => {}
        [one] => d.fact(
            Kind::Languages,
            format!("The main or official language of {} is {one}", the(c)),
            Answer::One(vec![one.clone()]),
        ),
        many => {
            let text = format!("The main or official languages of {} are {}", the(c), join(many));
            // A list of eleven is no question for anyone.
            if many.len() <= 5 { d.fact(Kind::Languages, text, Answer::All(many.to_vec())) } else { d.say(text) }
        }
    }
    let mut spoken = c.field(&["People and Society", "Languages", "Languages"]);
    if spoken.is_empty() {
        spoken = c.field(&["People and Society", "Languages"]);
    }
    d.labelled("Spoken", &spoken, 70);
    d
}

fn government(c: &Country) -> Draft {
    let mut d = Draft::new("Government");
    let form = c.field(&["Government", "Government type"]);
    let plain = bare(&form).to_owned();
    let odd = [";", "formerly", "transition", "authoritarian", "territory", "note", "dependency"];
    if !form.is_empty() && c.independent && words(&plain) <= 5 && !odd.iter().any(|o| plain.contains(o)) {
        let low = plain;
        let short = PAREN.replace_all(&low, "").into_owned();
        let article = if low.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        d.fact(
            Kind::Government,
            format!("{} has {article} {low} as its form of government", the(c)),
            Answer::One(if short == low { vec![low] } else { vec![low, short] }),
        );
    } else {
        d.labelled("Form of government", &form, 40);
    }
    d.labelled("Chief of state", &c.field(&["Government", "Executive branch", "chief of state"]), 20);
    d.labelled("Head of government", &c.field(&["Government", "Executive branch", "head of government"]), 20);
    d.labelled("Legislature", &c.field(&["Government", "Legislative branch", "legislature name"]), 15);
    d.labelled("Suffrage", &c.field(&["Government", "Suffrage"]), 15);
    d.labelled("Legal system", &c.field(&["Government", "Legal system"]), 30);
    d
}

fn capital(c: &Country) -> Draft {
    let mut d = Draft::new("Capital");
    match c.capitals.as_slice() {
        [] => d.labelled("Capital", &c.field(&["Government", "Capital", "name"]), 30),
        [(one, _)] => {
            let mut names = vec![one.clone()];
            let book = PAREN.replace_all(bare(&c.field(&["Government", "Capital", "name"])), "").into_owned();
            let plain = crate::text::ascii(one);
            if plain != *one {
                names.push(plain);
            }
            let mut text = format!("The capital of {} is {one}", the(c));
            let other = crate::text::fold(&book) != crate::text::fold(one);
            if other && words(&book) <= 3 && !book.is_empty() && !book.contains([';', ',']) && c.code != "mm" {
                text = format!("{text}, also written {book}");
                names.push(book);
            }
            d.fact(Kind::Capital, text, Answer::One(names));
        }
        many => {
            let cities: Vec<String> = many.iter().map(|(city, _)| city.clone()).collect();
            let roles: Vec<String> = many
                .iter()
                .map(|(city, role)| if role.is_empty() { city.clone() } else { format!("{city} ({role})") })
                .collect();
            d.fact(Kind::Capital, format!("The capitals of {} are {}", the(c), join(&roles)), Answer::All(cities));
        }
    }
    if !d.parts.is_empty() {
        d.labelled("Coordinates", &c.field(&["Government", "Capital", "geographic coordinates"]), 10);
        d.labelled("Time", &c.field(&["Government", "Capital", "time difference"]), 14);
        d.labelled("Name", &c.field(&["Government", "Capital", "etymology"]), 60);
    }
    d
}

fn independence(c: &Country) -> Draft {
    let mut d = Draft::new("Independence");
    let book = c.field(&["Government", "Independence"]);
    match FREE.captures(&book) {
        Some(m) if c.independent && !m[3].contains("merger") && !m[3].contains("federation") => {
            let (text, names) = ruler(&m[3]);
            let text = format!("{} became independent from {text} on {}", the(c), &m[1]);
            d.fact(Kind::IndependenceYear, text.clone(), Answer::One(vec![m[2].to_owned()]));
            if let Some(names) = names {
                d.facts.push(Fact {
                    kind: Kind::IndependenceFrom,
                    section: 0,
                    sentence: sentence(&text),
                    answer: Answer::One(names),
                });
            }
        }
        _ => d.labelled("Independence", &book, 60),
    }
    d.labelled("National holiday", &c.field(&["Government", "National holiday"]), 25);
    d.labelled("Constitution", &c.field(&["Government", "Constitution", "history"]), 35);
    d
}

/// The former ruler within a sentence, and its names as answers where it is a state.
fn ruler(name: &str) -> (String, Option<Vec<String>>) {
    let names = |n: &[&str]| Some(n.iter().map(|s| (*s).to_owned()).collect());
    match name {
        "UK" => ("the United Kingdom (UK)".into(), names(&["United Kingdom", "UK"])),
        "US" => ("the United States (US)".into(), names(&["United States", "US"])),
        "Soviet Union" | "Netherlands" | "Ottoman Empire" => (format!("the {name}"), names(&[name])),
        "France" | "Portugal" | "Spain" | "Belgium" | "Yugoslavia" | "Japan" | "Ethiopia" | "Sudan" | "Pakistan"
        | "Russia" | "Haiti" | "Brazil" => (name.into(), names(&[name])),
        _ if name.contains("mandate") || name.contains("trusteeship") || name.contains("status") => {
            (format!("the {name}"), None)
        }
        _ => (name.into(), None),
    }
}

fn economy(c: &Country) -> Draft {
    let mut d = Draft::new("Economy");
    d.prose(&c.field(&["Economy", "Economic overview"]), 70);
    d.labelled("Industries", &c.field(&["Economy", "Industries"]), 25);
    d.labelled("Agricultural products", &c.field(&["Economy", "Agricultural products"]), 25);
    d.labelled("Exports", &c.field(&["Economy", "Exports - commodities"]), 20);
    d.labelled("Export partners", &c.field(&["Economy", "Exports - partners"]), 16);
    d
}

fn currency(c: &Country) -> Draft {
    let mut d = Draft::new("Currency");
    let shown = |(code, name): &(String, String)| format!("the {name} ({code})");
    match c.currencies.as_slice() {
        [] => {}
        [one] => {
            let mut names = vec![one.1.clone(), one.0.clone()];
            if let Some(short) = one.1.strip_prefix("West African ").or(one.1.strip_prefix("Central African ")) {
                names.push(short.to_owned());
            }
            d.fact(Kind::Currency, format!("The currency of {} is {}", the(c), shown(one)), Answer::One(names));
        }
        many => {
            let text: Vec<String> = many.iter().map(shown).collect();
            let text = format!("The currencies of {} are {}", the(c), join(&text));
            let names = many.iter().map(|(_, name)| name.clone()).collect();
            if many.len() <= 2 { d.fact(Kind::Currency, text, Answer::All(names)) } else { d.say(text) }
        }
    }
    // The newest year that the source gives.
    for year in (2015..=2025).rev() {
        let rate = c.field(&["Economy", "Exchange rates", &format!("Exchange rates {year}")]);
        let unit = c.field(&["Economy", "Exchange rates", "Currency"]);
        if !rate.is_empty() && !unit.is_empty() && !d.parts.is_empty() {
            let unit = bare(&unit).trim_end_matches(['-', ' ']).to_owned();
            d.say(format!("Exchange rate: {} {unit}", PAREN.replace_all(bare(&rate), "")));
            d.say(format!("The rate is that of {year}"));
            break;
        }
    }
    d
}

fn flag(c: &Country) -> Draft {
    let mut d = Draft::new("Flag");
    d.prose(&c.field(&["Government", "Flag"]), 90);
    d
}

fn symbols(c: &Country) -> Draft {
    let mut d = Draft::new("National symbols");
    let anthem = c.field(&["Government", "National anthem(s)", "title"]);
    let royal = c.field(&["Government", "National anthem(s)", "history"]).contains("royal anthem");
    let borrowed = SHARED_ANTHEMS.iter().any(|(title, owner)| anthem.contains(title) && c.code != *owner);
    match ANTHEM.captures(&anthem) {
        // Where a realm has a national and a royal anthem, the source's record kept the royal one only.
        _ if borrowed || (royal && c.code != "gb") => {}
        Some(m) if !m[1].to_lowercase().starts_with("national anthem") => {
            let name = m[1].trim_end_matches(',').to_owned();
            let mut names = vec![name.clone()];
            let mut text = format!("The national anthem of {} is \"{name}\"", the(c));
            if let Some(meaning) = m.get(2)
                && !meaning.as_str().starts_with("National")
            {
                text = format!("{text} ({})", meaning.as_str());
                names.push(meaning.as_str().to_owned());
            }
            d.fact(Kind::Anthem, text, Answer::One(names));
        }
        _ => d.labelled("National anthem", &anthem, 30),
    }
    let symbol = c.field(&["Government", "National symbol(s)"]);
    let low = PAREN.replace_all(bare(&symbol), "").into_owned();
    let items: Vec<String> = low.split(", ").map(str::to_owned).collect();
    let simple = !low.contains([';', ':', '(', ')', '"']) && !low.contains(" and ") && items.iter().all(|i| words(i) <= 3 && !i.is_empty());
    if simple && items.len() == 1 {
        d.fact(Kind::Symbol, format!("The national symbol of {} is the {low}", the(c)), Answer::One(items));
    } else if simple && items.len() <= 4 {
        let text = format!("The national symbols of {} are {}", the(c), join(&items));
        d.fact(Kind::Symbol, text, Answer::All(items));
    } else {
        d.labelled("National symbols", &symbol, 40);
    }
    d.labelled("National colours", &c.field(&["Government", "National color(s)"]), 15);
    d.labelled("World Heritage Sites", &c.field(&["Government", "National heritage", "selected World Heritage Site locales"]), 40);
    d
}

fn communications(c: &Country) -> Draft {
    let mut d = Draft::new("Communications");
    if let Some(domain) = &c.domain {
        d.fact(
            Kind::Domain,
            format!("The internet domain of {} is {domain}", the(c)),
            Answer::One(vec![domain.clone()]),
        );
    }
    if let Some(calling) = &c.calling {
        d.fact(
            Kind::Calling,
            format!("The telephone calling code of {} is {calling}", the(c)),
            Answer::One(vec![calling.clone()]),
        );
    }
    d.labelled("Internet users", &c.field(&["Communications", "Internet users", "percent of population"]), 10);
    d.labelled("Mobile telephones", &c.field(&["Communications", "Telephones - mobile cellular", "total subscriptions"]), 10);
    d.labelled("Broadcasting", &c.field(&["Communications", "Broadcast media"]), 60);
    d
}

/// `a, b and c`.
fn join(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
