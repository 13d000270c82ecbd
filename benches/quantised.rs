//! Matrix products of a small reader by weight format: what the compiler's CPU level changes. Run it twice,
//! `cargo bench --bench quantised` and the same with `RUSTFLAGS="-C target-cpu=x86-64"`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// SmolLM2-135M: from the width of a block to that of its feed-forward part.
const INPUT: usize = 576;
const OUTPUT: usize = 1536;

fn products(c: &mut Criterion) {
    let device = Device::Cpu;
    let weight = Tensor::randn(0f32, 0.02, (OUTPUT, INPUT), &device).unwrap();
    let mut group = c.benchmark_group("product");
    for tokens in [1, 340] {
        let xs = Tensor::randn(0f32, 1.0, (tokens, INPUT), &device).unwrap();
        group.throughput(Throughput::Elements(tokens as u64));
        let transposed = weight.t().unwrap();
        group.bench_function(format!("f32/{tokens}"), |b| b.iter(|| xs.matmul(&transposed).unwrap()));
        let half = (xs.to_dtype(DType::F16).unwrap(), weight.to_dtype(DType::F16).unwrap());
        group.bench_function(format!("f16/{tokens}"), |b| b.iter(|| half.0.matmul(&half.1.t().unwrap()).unwrap()));
        let formats =
            [("q8_0", GgmlDType::Q8_0), ("q6k", GgmlDType::Q6K), ("q4k", GgmlDType::Q4K), ("q4_0", GgmlDType::Q4_0)];
        for (name, format) in formats {
            // K formats come in blocks of 256 numbers, which 576 is no multiple of: the nearest width serves for them.
            let width = if matches!(format, GgmlDType::Q6K | GgmlDType::Q4K) { 512 } else { INPUT };
            let weight = weight.narrow(1, 0, width).unwrap().contiguous().unwrap();
            let xs = xs.narrow(1, 0, width).unwrap().contiguous().unwrap();
            let product = QMatMul::from_qtensor(QTensor::quantize(&weight, format).unwrap()).unwrap();
            group.bench_function(format!("{name}/{tokens}"), |b| b.iter(|| product.forward(&xs).unwrap()));
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = products
}
criterion_main!(benches);
