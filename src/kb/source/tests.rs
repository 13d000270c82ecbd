use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::kb::Section;

const SCUPI: &str = r#"{"title":"Scupi","url":"https://en.wikipedia.org/wiki/Scupi","section_titles":["Scupi","History"],"section_texts":["A site.","Old."],"image":"images/scupi.png","image_urls":[]}"#;

type Item = Result<(Position, Article), SourceError>;

/// Ways in which a file's bytes may lie on disk.
const PACKINGS: [&str; 5] = ["plain", "gzip", "zstd", "zip", "stored"];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method).large_file(!deflated);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn pack(packing: &str, bytes: &[u8]) -> Vec<u8> {
    match packing {
        // Two members are one stream.
        "gzip" => [gzip(&bytes[..bytes.len() / 2]), gzip(&bytes[bytes.len() / 2..])].concat(),
        "zstd" => zstd::encode_all(bytes, 1).unwrap(),
        "zip" => zip(&[("kb.json", bytes), ("__MACOSX/._kb.json", b"x")], true),
        "stored" => zip(&[("kb.json", bytes)], false),
        _ => bytes.to_vec(),
    }
}

fn source(dir: &Path, bytes: &[u8]) -> Box<dyn Source> {
    let path = dir.join("kb.jsonl");
    fs_err::write(&path, bytes).unwrap();
    open(&format!("evqa:{}", path.display())).unwrap()
}

/// Reason of the only record.
fn reason(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), bytes);
    let error = source.next().unwrap().unwrap_err();
    assert!(matches!(error, SourceError::Malformed(_)), "{error}");
    assert!(source.next().is_none());
    error.to_string()
}

fn place(item: &Item) -> Position {
    match item {
        Ok((position, _)) | Err(SourceError::Malformed(Malformed { position, .. })) => *position,
        Err(e) => panic!("{e}"),
    }
}

/// What comes, errors as text.
fn told(source: &mut dyn Source) -> Vec<(Position, Result<Article, String>)> {
    let one = |item: Item| (place(&item), item.map(|(_, article)| article).map_err(|e| e.to_string()));
    source.map(one).collect()
}

/// Reads everything, then again from behind every record; gives what was read.
fn resumed_everywhere(source: &mut dyn Source) -> Vec<(Position, Result<Article, String>)> {
    let all = told(source);
    assert_eq!(source.bytes_read(), source.identity().bytes);
    for (n, (position, _)) in all.iter().enumerate().rev().chain(all.iter().enumerate()) {
        source.resume_after(*position).unwrap();
        assert_eq!(told(source), all[n + 1..], "behind {position:?}");
    }
    source.resume_after(Position::default()).unwrap();
    assert_eq!(told(source), all);
    all
}

#[test]
fn a_good_line_is_an_article() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), format!("\u{feff}{SCUPI}\r\n\n").as_bytes());
    let (position, article) = source.next().unwrap().unwrap();
    assert_eq!(position, Position { record: 1, end: SCUPI.len() as u64 + 5 });
    assert_eq!(article.title, "Scupi");
    assert_eq!(article.sections[1], Section { title: "History".into(), text: "Old.".into() });
    assert_eq!(article.lead_picture(), Some("images/scupi.png"));
    assert!(source.next().is_none());
    assert_eq!(source.bytes_read(), source.identity().bytes);
    assert_eq!(source.picture_root(), fs_err::canonicalize(dir.path()).unwrap());
    assert_eq!(source.identity().unit, RecordUnit::Line);
}

#[test]
fn what_is_wrong_is_said_with_the_line() {
    let torn = reason(&SCUPI.as_bytes()[..60]);
    assert!(torn.contains("kb.jsonl, line 1: EOF while parsing") && torn.contains("at column 60"), "{torn}");
    assert!(reason(b"\n{\"title\":\"a\"}").contains("line 2: missing field `section_titles`"));
    assert!(reason(b"{\"title\":\"\xff\"}").contains("not UTF-8 from byte 11"));
    assert!(reason(&SCUPI.replace("\"Old.\"", "\"Old.\",\"x\"").into_bytes()).contains("2 section_titles but 3"));
    assert!(reason(&SCUPI.replace("\"Scupi\",\"url\"", "\" \",\"url\"").into_bytes()).contains("`title` is empty"));
    assert!(reason(b"[1]").contains("expected an object with title"));
    let keyed = reason(b"{ \"u\": {\"title\": 5}}");
    assert!(keyed.contains("line 1: invalid type: integer `5`") && keyed.contains("at column 18"), "{keyed}");
}

#[test]
fn reading_goes_on_behind_a_bad_line_and_after_any_position() {
    let dir = tempfile::tempdir().unwrap();
    let other = SCUPI.replace("Scupi", "Stobi");
    let mut source = source(dir.path(), format!("{SCUPI}\nnot json\n{other}\n").as_bytes());
    let all = resumed_everywhere(source.as_mut());
    let shown: Vec<(u64, bool)> = all.iter().map(|(position, item)| (position.record, item.is_ok())).collect();
    assert_eq!(shown, [(1, true), (2, false), (3, true)]);
    assert_eq!(all[2].1.as_ref().unwrap().title, "Stobi");
}

#[test]
fn all_framings_and_packings_hold_the_same_articles() {
    let stobi = SCUPI.replace("Scupi", "Stobi").replace("Old.", "\\\"Old}\\\\\\\",{ü");
    let (scupi_url, stobi_url) = ("https://en.wikipedia.org/wiki/Scupi", "https://en.wikipedia.org/wiki/Stobi");
    let keyless = SCUPI.replace(&format!("\"url\":\"{scupi_url}\","), "");
    let pretty =
        |row: &str| serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(row).unwrap()).unwrap();
    let rows = format!("{SCUPI}\n{stobi}\n");
    let keyed_rows = format!("{{\"{scupi_url}\": {keyless}}}\n {{\"{stobi_url}\":{stobi}}} \n");
    let object = format!("{{\"{scupi_url}\":{keyless},\"{stobi_url}\":{stobi}}}");
    let spread = format!(
        "\u{feff} {{\r\n\t\"{scupi_url}\" :\n{} ,\n \"{stobi_url}\":{}\n}}\n\n",
        pretty(&keyless),
        pretty(&stobi)
    );
    let mut expected: Option<Vec<Article>> = None;
    for (name, text, unit) in [
        ("rows", &rows, RecordUnit::Line),
        ("keyed rows", &keyed_rows, RecordUnit::Line),
        ("object", &object, RecordUnit::Entry),
        ("spread", &spread, RecordUnit::Entry),
    ] {
        for packing in PACKINGS {
            let dir = tempfile::tempdir().unwrap();
            let mut source = source(dir.path(), &pack(packing, text.as_bytes()));
            assert_eq!(source.identity().unit, unit, "{name}, {packing}");
            let articles: Vec<Article> =
                resumed_everywhere(source.as_mut()).into_iter().map(|(_, item)| item.unwrap()).collect();
            assert_eq!(articles.len(), 2);
            assert_eq!(articles[1].sections[1].text, "\"Old}\\\",{ü");
            assert_eq!(expected.get_or_insert_with(|| articles.clone()), &articles, "{name}, {packing}");
        }
    }
}

#[test]
fn one_bad_entry_of_an_object_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{{\"a\": {SCUPI},\n\"b\": {{\"title\":\n 5}}, \"c\": null, \"d\": 1e5, \"\\q\": {{}}, \"e\": {SCUPI}}}"
    );
    let mut source = source(dir.path(), text.as_bytes());
    let all = resumed_everywhere(source.as_mut());
    assert_eq!(all.len(), 6);
    let said = |n: usize| all[n].1.as_ref().unwrap_err().as_str();
    let five = text.find("5}").unwrap();
    assert!(said(1).contains("kb.jsonl, entry 2: \"b\""), "{}", said(1));
    assert!(said(1).contains(&format!("invalid type: integer `5`, expected a string at byte {five}")), "{}", said(1));
    assert!(said(2).contains("\"c\"") && said(2).contains("expected an object with title"), "{}", said(2));
    assert!(said(4).contains("entry 5: its key") && said(4).contains("invalid escape"), "{}", said(4));
    assert!(all[0].1.is_ok() && all[5].1.is_ok());
    assert_eq!(all[5].0, Position { record: 6, end: text.len() as u64 - 1 });
}

#[test]
fn an_object_that_is_not_whole_is_an_error_that_says_where() {
    let last = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path(), text.as_bytes());
        let error = source.by_ref().find_map(|item| item.err()).map(|e| e.to_string());
        assert!(source.next().is_none());
        error
    };
    let whole = format!("{{\"a\": {SCUPI},\n\"b\": {SCUPI}}}");
    assert_eq!(last(&whole), None);
    // Behind the first entry, which is what tells an object from a line, every cut is seen.
    for cut in whole.find(",\n").unwrap() + 1..whole.len() {
        let said = last(&whole[..cut]).unwrap();
        assert!(said.contains(&format!("it ends inside the object (byte {cut}); the download")), "{cut}: {said}");
    }
    let said = last(&whole.replace(",\n", ",\n7")).unwrap();
    assert!(said.contains("found `7` behind entry 1, expected a key"), "{said}");
    let said = last(&format!("{whole} x")).unwrap();
    assert!(said.contains("found `x` behind the object"), "{said}");
}

#[test]
fn compressed_files_that_are_cut_or_damaged_say_so_and_where() {
    let mut text = String::new();
    for n in 0..400 {
        text.push_str(&SCUPI.replace("Old.", &blake3::hash(&[n as u8, (n / 256) as u8]).to_hex()));
        text.push('\n');
    }
    for packing in ["gzip", "zstd", "zip", "stored"] {
        let whole = pack(packing, text.as_bytes());
        for part in [2, 3, 5] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("kb.bin");
            fs_err::write(&path, &whole[..whole.len() * (part - 1) / part]).unwrap();
            let error = match open(&format!("evqa:{}", path.display())) {
                // The directory of an archive stands at its end.
                Err(e) => e,
                Ok(mut source) => {
                    source.find_map(|item| item.err()).unwrap_or_else(|| panic!("{packing}: a silent end"))
                }
            };
            assert!(matches!(error, SourceError::Read { .. }), "{packing}: {error}");
            let said = error.to_string();
            assert!(said.contains("kb.bin") && said.contains("download it again"), "{packing}: {said}");
        }
        if packing != "zstd" {
            let dir = tempfile::tempdir().unwrap();
            let mut bytes = whole.clone();
            let middle = bytes.len() / 3;
            bytes[middle..middle + 40].fill(0x41);
            let mut source = source(dir.path(), &bytes);
            let error = source.find_map(|item| item.err().filter(|e| !matches!(e, SourceError::Malformed(_))));
            assert!(matches!(error, Some(SourceError::Read { .. })), "{packing}: damage is not seen");
        }
    }
}

#[test]
fn a_member_of_an_archive_is_named_where_there_are_several() {
    let dir = tempfile::tempdir().unwrap();
    let stobi = SCUPI.replace("Scupi", "Stobi");
    let path = dir.path().join("kb.zip");
    let bytes = zip(&[("a/one.jsonl", SCUPI.as_bytes()), ("two.jsonl", stobi.as_bytes())], true);
    fs_err::write(&path, bytes).unwrap();
    let open = |suffix: &str| open(&format!("evqa:{}{suffix}", path.display()));
    let said = open("").err().unwrap().to_string();
    assert!(said.contains("2 members (a/one.jsonl, two.jsonl)") && said.contains("kb.zip!MEMBER"), "{said}");
    let said = open("!three").err().unwrap().to_string();
    assert!(said.contains("no member \"three\""), "{said}");
    let mut one = open("!a/one.jsonl").unwrap();
    let mut two = open("#two.jsonl").unwrap();
    assert_eq!(one.next().unwrap().unwrap().1.title, "Scupi");
    assert_eq!(two.next().unwrap().unwrap().1.title, "Stobi");
    // They are two sources, and each is found again by what its manifest says.
    assert_ne!(one.identity().hash, two.identity().hash);
    let again = super::open(&two.identity().spec()).unwrap();
    assert_eq!(again.identity(), two.identity());
    assert_eq!(two.picture_root(), fs_err::canonicalize(dir.path()).unwrap());
    fs_err::write(dir.path().join("plain.jsonl"), SCUPI).unwrap();
    let plain = super::open(&format!("evqa:{}!x", dir.path().join("plain.jsonl").display())).err().unwrap();
    assert!(plain.to_string().contains("is not a zip archive"), "{plain}");
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), SCUPI.as_bytes());
    source.check_unchanged().unwrap();
    fs_err::write(dir.path().join("kb.jsonl"), "longer or shorter").unwrap();
    assert!(matches!(source.check_unchanged(), Err(SourceError::Changed { .. })));
}

#[test]
fn a_missing_file_and_an_unknown_kind_are_named() {
    let missing = open("evqa:nowhere/kb.jsonl").err().unwrap().to_string();
    assert!(missing.contains("nowhere/kb.jsonl"), "{missing}");
    let missing = open("nowhere/kb.jsonl").err().unwrap().to_string();
    assert!(missing.contains("nowhere/kb.jsonl"), "{missing}");
    let kind = open("parquet:kb.jsonl").err().unwrap().to_string();
    assert!(kind.contains("unknown kind of source \"parquet\""), "{kind}");
    for (name, what) in KINDS {
        assert!(kind.contains(&format!("\n  {name}")) && kind.contains(what), "{kind}");
    }
}

#[test]
fn the_kind_of_a_path_alone_is_told_from_its_content_where_that_is_certain() {
    let dir = tempfile::tempdir().unwrap();
    let guessed = |text: &str| {
        let path = dir.path().join("data");
        fs_err::write(&path, text).unwrap();
        open(path.to_str().unwrap()).map(|source| source.identity().name.clone()).map_err(|e| e.to_string())
    };
    for (text, kind) in [
        (SCUPI, "evqa"),
        (&format!("{{\"u\": {SCUPI}}}"), "evqa"),
        (&format!("{{\"u\": {SCUPI},\n\"v\": {SCUPI}}}"), "evqa"),
        (r#"{"wikidata_id":"Q1","wikipedia_title":"x","wikipedia_content":"y"}"#, "wiki6m"),
        (r#"{"https://u": {"wikipedia_content":"y"}, "https://v": {"wikipedia_content":"y"}}"#, "wiki100k"),
        (r#"{"did":"1:1","txt":"x","img_path":null,"modality":"text"}"#, "mbeir"),
        (r#"{"passage_id":"1","passage_text":"x"}"#, "m2kr"),
        (r#"{"url":"u","title":"t","sections":[]}"#, "jsonl"),
    ] {
        assert_eq!(guessed(text).unwrap(), kind);
    }
    let said = guessed(r#"{"b":1,"a":2}"#).unwrap_err();
    assert!(said.contains("its first record has the fields a, b") && said.contains("\n  folder"), "{said}");
    assert!(guessed("title,text").unwrap_err().contains("does not begin with a JSON object"));
    assert_eq!(open(dir.path().to_str().unwrap()).unwrap().identity().name, "folder");
    fs_err::write(dir.path().join("x.parquet"), "PAR1").unwrap();
    let parquet = open(dir.path().to_str().unwrap()).err().unwrap().to_string();
    assert!(parquet.contains("parquet"), "{parquet}");
}

/// Bytes that look enough like JSON to reach the far corners.
fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 17] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b":",
        b",",
        b"\n",
        b" ",
        b"null",
        b"1",
        b"\"k\":{",
        b"{\"a\":{},",
        b"\xff",
        b"\xef\xbb\xbf",
        b"},\"b\":",
    ];
    let token = prop::sample::select(&TOKENS[..]);
    prop_oneof![
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat()),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #[test]
    fn any_bytes_give_one_item_a_line_and_the_same_rest_behind_each(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..60),
        packing in 0..PACKINGS.len(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        // `x` in front of them, so that they are no object.
        let text = [&b"x"[..], &bytes].concat();
        let mut source = source(dir.path(), &pack(PACKINGS[packing], &text));
        let all = resumed_everywhere(source.as_mut());
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
        prop_assert_eq!(all.len(), lines.count());
    }

    #[test]
    fn any_bytes_in_any_packing_are_read_to_an_end(bytes in jsonish(), packing in 0..PACKINGS.len(), raw in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut packed = pack(PACKINGS[packing], &bytes);
        if raw {
            // Only the magic number is right.
            packed.truncate(6);
            packed.extend_from_slice(&bytes);
        }
        let path = dir.path().join("kb");
        fs_err::write(&path, &packed).unwrap();
        let _ = guess(&path);
        if let Ok(mut source) = open(&format!("evqa:{}", path.display())) {
            let mut last = Position::default();
            for item in source.by_ref() {
                let position = match item {
                    Ok((position, _)) | Err(SourceError::Malformed(Malformed { position, .. })) => position,
                    Err(_) => break,
                };
                prop_assert!(position > last && position.end >= last.end);
                last = position;
            }
            prop_assert!(source.bytes_read() <= source.identity().bytes);
        }
    }

    #[test]
    fn whatever_stands_in_the_fields_an_article_has_a_url_and_a_title(
        words in prop::collection::vec("[ /_.%Q0-9\n-]{0,5}|title: .{0,3} content: .{0,3}|WikiWeb_.{0,3}_1|\\PC{0,8}", 8),
        under in prop::option::of("[ /%_]{0,3}|https://x/\\PC{0,5}"),
    ) {
        let word = |n: usize| words[n].as_str();
        let record = serde_json::json!({
            "title": word(0), "url": word(1), "section_titles": [word(2)], "section_texts": [word(3)],
            "image": word(4), "image_urls": [word(4), word(5)], "image_section_indices": [-1, 1],
            "wikidata_id": format!("Q{}", word(6)), "wikipedia_title": word(0), "wikipedia_content": word(7),
            "wikipedia_summary": word(3), "wikipedia_image_url": word(5), "did": word(1), "txt": word(3),
            "img_path": word(4), "passage_id": word(1), "passage_text": word(3), "passage_image_path": word(4),
        });
        let own = serde_json::json!({"url": word(1), "title": word(0), "sections": [{"title": word(2), "text": word(3)}]});
        let bare = serde_json::json!({"wikipedia_content": word(7), "did": word(1), "img_path": word(4)});
        for record in [record, own, bare] {
            for schema in SCHEMAS {
                if let Ok(article) = (schema.parse)(under.as_deref(), record.to_string().as_bytes()) {
                    prop_assert!(!article.url.trim().is_empty(), "{}: {record}", schema.name);
                    prop_assert!(!article.title.trim().is_empty(), "{}: {record}", schema.name);
                    let count = article.sections.len().max(1);
                    prop_assert!(article.pictures.iter().all(|picture| picture.section < count));
                }
            }
        }
    }

    #[test]
    fn an_object_is_taken_up_behind_any_entry(
        entries in prop::collection::vec(("\\PC{0,6}", "\\PC{0,12}", "[ \n\t\r]{0,3}", any::<bool>()), 1..8),
        packing in 0..PACKINGS.len(),
    ) {
        let mut text = "{".to_owned();
        for (n, (key, value, blanks, good)) in entries.iter().enumerate() {
            let title = serde_json::to_string(&format!("t{value}")).unwrap();
            let row = format!("{{\"title\":{title},{blanks}\"section_titles\":[],\"section_texts\":[]}}");
            let row = if *good || n == 0 { row } else { serde_json::to_string(value).unwrap() };
            let comma = if n == 0 { "" } else { "," };
            let key = serde_json::to_string(&format!("u{key}")).unwrap();
            text.push_str(&format!("{comma}{blanks}{key}{blanks}:{blanks}{row}{blanks}"));
        }
        text.push_str("\n}\n");
        let dir = tempfile::tempdir().unwrap();
        let mut source = source(dir.path(), &pack(PACKINGS[packing], text.as_bytes()));
        prop_assert_eq!(source.identity().unit, RecordUnit::Entry);
        let all = resumed_everywhere(source.as_mut());
        prop_assert_eq!(all.len(), entries.len());
        for (n, ((_, item), (key, value, _, good))) in all.iter().zip(&entries).enumerate() {
            prop_assert_eq!(item.is_ok(), *good || n == 0);
            if let Ok(article) = item {
                prop_assert_eq!((&article.url, &article.title), (&format!("u{key}"), &format!("t{value}")));
            }
        }
    }
}
