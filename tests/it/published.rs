//! A retriever as the authors of ReT publish theirs, one file with several vectors an item, from the checkpoint to
//! Recall@K. It is the reference set's: tiny, with random weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::support::{self, cicerone, failure, stderr, stdout};

const ENTITIES: [(&str, [u8; 3]); 4] =
    [("red", [200, 0, 0]), ("green", [0, 200, 0]), ("blue", [0, 0, 200]), ("grey", [90, 90, 90])];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/ret_v1")
}

/// The checkpoint in one file, its description and a tokenizer, as `cicerone models pull` would leave them.
fn model(dir: &Path) {
    fs_err::create_dir_all(dir).unwrap();
    let mut all: HashMap<String, Tensor> = HashMap::new();
    for part in ["towers", "query", "passage"] {
        let file = golden().join(format!("{part}.safetensors"));
        all.extend(candle_core::safetensors::load(file, &Device::Cpu).unwrap());
    }
    candle_core::safetensors::save(&all, dir.join("model.safetensors")).unwrap();
    let json: Value = serde_json::from_slice(&fs_err::read(golden().join("config.json")).unwrap()).unwrap();
    let tower = |name: &str| {
        let mut tower = json[name].clone();
        tower["kind"] = "clip".into();
        tower
    };
    let description = json!({
        "hidden_size": json["hidden_size"], "num_heads": json["num_attention_heads"],
        "output_dim": json["late_proj_output_size"], "state_tokens": json["num_queries"], "self_attention": true,
        "positions": true, "global_injection": false, "shared_encoder": false, "weights_map": "ret-v1",
        "text": tower("text"), "text_layers": json["text_layers"], "max_text_tokens": 20,
        "vision": tower("vision"), "vision_layers": json["vision_layers"],
        "image_processor": {
            "size": {"height": 28, "width": 28}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]
        }
    });
    fs_err::write(dir.join("retriever.json"), description.to_string()).unwrap();
    fs_err::write(dir.join("tokenizer.json"), support::letters().to_string()).unwrap();
}

/// A configuration whose retriever is the model in `dir`, with these weights and this description.
fn config(dir: &Path, description: &str, weights: &str) -> PathBuf {
    let path = dir.join(format!("{description}.toml"));
    let text = format!(
        "[retriever]\nconfig = \"./{description}\"\nweights = \"./{weights}\"\ntext_weights = \"./{weights}\"\n\
         text_tokenizer = \"./\"\nimage_weights = \"./{weights}\"\n[rag]\nranker = \"./ranker\"\n"
    );
    fs_err::write(&path, text).unwrap();
    path
}

/// Four articles with a picture each, and another picture of each to ask about.
fn data(dir: &Path) {
    fs_err::create_dir_all(dir).unwrap();
    let (mut articles, mut images) = (String::new(), String::from("entity_url,style,split,path\n"));
    let mut questions = String::from(
        "wikipedia_title,wikipedia_url,question_original,question,question_type,answer,evidence,evidence_section_id,\
         evidence_section_title,dataset_name,dataset_category_id,wikipedia_url_used_in_train,encyclopedic_vqa_split,\
         dataset_image_ids\n",
    );
    for (name, colour) in ENTITIES {
        let url = format!("https://en.wikipedia.org/wiki/{name}");
        for (file, edge) in [("article", 0), ("asked", 40)] {
            let mut picture = image::RgbImage::from_pixel(30, 20, image::Rgb(colour));
            (0..20).for_each(|y| picture.put_pixel(0, y, image::Rgb([edge; 3])));
            picture.save(dir.join(format!("{name}-{file}.png"))).unwrap();
        }
        let article = json!({
            "title": name, "url": url, "image": format!("{name}-article.png"), "section_titles": ["Summary"],
            "section_texts": [format!("{name} is a colour.")], "image_urls": [format!("{name}-article.png")],
            "image_reference_descriptions": [name], "image_section_indices": [0]
        });
        articles += &format!("{article}\n");
        images += &format!("{url},asked,test,{name}-asked.png\n");
        questions += &format!("{name},{url},what,what,templated,a,e,0,s,d,1,False,test,{name}-asked\n");
    }
    fs_err::write(dir.join("kb.jsonl"), articles).unwrap();
    fs_err::write(dir.join("images.csv"), images).unwrap();
    fs_err::write(dir.join("questions.csv"), questions).unwrap();
}

fn recall(home: &Path, config: &Path, data: &Path) -> Value {
    let assert =
        cicerone(home).arg("-c").arg(config).args(["eval", "retrieval", "--json", "--data"]).arg(data).assert();
    serde_json::from_str(&stdout(&assert.success())).unwrap()
}

#[test]
fn a_published_checkpoint_is_measured_by_maxsim_and_its_conversion_measures_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, set) = (temp.path().join("ret"), temp.path().join("data"));
    model(&dir);
    data(&set);
    let published = config(&dir, "retriever.json", "model.safetensors");
    let measured = recall(temp.path(), &published, &set);
    let rows = measured["rows"].as_array().unwrap();
    let by_maxsim: Vec<&Value> = rows.iter().filter(|row| row["name"] == "ReT, 4 vectors by MaxSim").collect();
    assert_eq!(by_maxsim.len(), 3, "R@1, R@5 and MRR: {measured:#}");
    let all = by_maxsim.iter().find(|row| row["metric"] == "R@5").unwrap();
    assert_eq!((all["value"].as_f64(), all["n"].as_u64()), (Some(1.0), Some(4)), "{all:#}");

    // The same again in our own layout, with no map.
    let (from, to) = (dir.join("model.safetensors"), dir.join("ours.safetensors"));
    let convert = ["models", "convert", "--map", "ret-v1"];
    let assert = cicerone(temp.path()).args(convert).args([&from, &to]).assert().success();
    assert!(stdout(&assert).contains("ours.safetensors: "), "{}", stdout(&assert));
    let mut description: Value = serde_json::from_slice(&fs_err::read(dir.join("retriever.json")).unwrap()).unwrap();
    description.as_object_mut().unwrap().remove("weights_map");
    fs_err::write(dir.join("ours.json"), description.to_string()).unwrap();
    let converted = recall(temp.path(), &config(&dir, "ours.json", "ours.safetensors"), &set);
    assert_eq!(converted["rows"], measured["rows"]);

    // Without the map the published file is refused, by names.
    let refused = config(&dir, "ours.json", "model.safetensors");
    let mut command = cicerone(temp.path());
    command.arg("-c").arg(&refused).args(["eval", "retrieval", "--json", "--data"]).arg(&set);
    let error = failure(command.assert(), 1, "retriever");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("missing: ") && message.contains("passage_model.late_proj.weight"), "{message}");
}

#[test]
fn a_knowledge_base_of_several_vectors_is_searched_by_maxsim() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, set) = (temp.path().join("ret"), temp.path().join("data"));
    model(&dir);
    data(&set);
    let config = config(&dir, "retriever.json", "model.safetensors");
    let source = format!("evqa:{}", set.join("kb.jsonl").display());
    let run = |args: &[&str]| cicerone(temp.path()).arg("-c").arg(&config).args(args).assert().success();
    let built: Value = serde_json::from_str(&stdout(&run(&["kb", "build", "--json", "--source", &source]))).unwrap();
    assert_eq!(built["manifest"]["store"]["vectors"], 4, "{built:#}");
    let verified = stdout(&run(&["kb", "verify"]));
    assert!(verified.contains("embeddings made again, and equal"), "{verified}");
    // A score is the mean over the query's vectors, within the bounds of the schema.
    let found = support::json(&run(&["kb", "search", "--json", "a colour"]), "kb-search");
    assert!(found["hits"].as_array().is_some_and(|hits| !hits.is_empty()), "{found:#}");
}

#[test]
fn a_map_that_is_not_there_and_a_file_that_it_does_not_know_are_told() {
    let temp = tempfile::tempdir().unwrap();
    let ret2 = golden().with_file_name("ret2").join("model.safetensors");
    let convert = |map: &str| {
        let mut command = cicerone(temp.path());
        command.args(["models", "convert", "--map", map]).arg(&ret2).arg(temp.path().join("out.safetensors")).assert()
    };
    let told = convert("ret-v9").code(2);
    assert!(stderr(&told).contains("name map `ret-v9`: no map of this name; expected ret-v1"));
    let told = convert("ret-v1").code(1);
    let told = stderr(&told);
    assert!(told.contains("cell.mlp.fc1.bias: the map does not know it; "), "{told}");
    assert!(!temp.path().join("out.safetensors").exists());
}

/// A model that the catalogue lists without hashes, as a pull leaves it.
#[test]
fn a_model_without_a_known_hash_is_never_called_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("models/colbertv2.0");
    fs_err::create_dir_all(&dir).unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let file = |name: &str| json!({ "name": name, "sha256": empty, "bytes": 0, "source": "hub" });
    for name in files {
        fs_err::write(dir.join(name), "").unwrap();
    }
    let record = json!({ "schema_version": 1, "name": "colbertv2.0", "files": files.map(file), "converted": null });
    fs_err::write(dir.join("model.json"), record.to_string()).unwrap();
    for command in [&["models", "verify", "colbertv2.0"][..], &["models", "list"]] {
        let told = stdout(&cicerone(temp.path()).args(command).assert().success());
        let expected = "not verified: no hash known of config.json, tokenizer.json, model.safetensors";
        assert!(told.contains(expected) && !told.contains("whole"), "{told}");
    }
    let list = stdout(&cicerone(temp.path()).args(["models", "list", "--json"]).assert().success());
    let list: Value = serde_json::from_str(&list).unwrap();
    let colbert = list["models"].as_array().unwrap().iter().find(|model| model["name"] == "colbertv2.0").unwrap();
    assert_eq!((&colbert["state"], &colbert["unverified"][2]), (&json!("present"), &json!("model.safetensors")));
}
