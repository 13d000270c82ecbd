//! Speed of the shipped parts of the starter retriever (picture tower, head, preprocessing), and of comparing embeddings.
//! `cicerone bench` measures the whole with every engine.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;

use candle_core::{Device, Tensor};
use cicerone::retriever::backbone::VisionBackbone;
use cicerone::retriever::config::RetConfig;
use cicerone::retriever::embedding::scores;
use cicerone::retriever::encoder::load_vision;
use cicerone::retriever::model::Head;
use cicerone::retriever::train::optimizer::Parameters;
use cicerone::retriever::weights::Weights;
use cicerone::retriever::{Embedding, Picture, PictureLimits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn starter() -> (RetConfig, VisionBackbone, Picture) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter");
    let config = RetConfig::load(&dir.join("ret2-starter.json")).unwrap();
    let tower = load_vision(&config, &dir.join("efficientnet-lite0.safetensors"), &Device::Cpu).unwrap();
    let picture = Picture::open(&dir.join("images/iso/ke.png"), &PictureLimits::default()).unwrap();
    (config, tower, picture)
}

fn random_head(config: &RetConfig) -> Head {
    let probe = Weights::from_tensors("probe".into(), HashMap::new(), &Device::Cpu);
    Head::load(config, &probe).unwrap();
    let tensors = Parameters::initialise(&probe.missing(), 1, &Device::Cpu).unwrap().tensors();
    Head::load(config, &Weights::from_tensors("random".into(), tensors, &Device::Cpu)).unwrap()
}

fn retriever(c: &mut Criterion) {
    let (config, tower, picture) = starter();
    let head = random_head(&config);
    c.bench_function("picture to pixels", |b| b.iter(|| config.image_processor.pixels(black_box(&picture)).unwrap()));
    for batch in [1usize, 8, 32] {
        let pictures = vec![picture.clone(); batch];
        let pixels: Tensor = config.image_processor.batch(&pictures, &Device::Cpu).unwrap();
        let features = tower.forward(&pixels, &config.vision_wanted()).unwrap();
        let mut group = c.benchmark_group(format!("batch of {batch}"));
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function("picture tower", |b| {
            b.iter(|| tower.forward(black_box(&pixels), &config.vision_wanted()).unwrap())
        });
        group.bench_function("head, picture alone", |b| {
            b.iter(|| head.forward(None, Some(black_box(&features))).unwrap())
        });
        group.finish();
    }
}

/// One query against a thousand documents, with the vectors of ReT-2's starter and of ReT.
fn comparing(c: &mut Criterion) {
    let mut group = c.benchmark_group("1,000 documents");
    for (n, dim) in [(1, 256), (32, 128)] {
        let embedding = |seed: usize| {
            let values = (0..n * dim).map(|at| ((at * 37 + seed * 101) % 97) as f32 / 97.0 - 0.5).collect();
            Embedding::new(values, dim).unwrap()
        };
        let (query, documents): (_, Vec<_>) = ([embedding(0)], (1..=1000).map(embedding).collect());
        group.bench_function(format!("{n} vectors of {dim}"), |b| b.iter(|| scores(black_box(&query), &documents)));
    }
    group.finish();
}

criterion_group!(benches, retriever, comparing);
criterion_main!(benches);
