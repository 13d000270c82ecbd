//! Memory of a thousand requests. It is measured in a process of its own, since other tests run in this one.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use super::tests::{answer, load_as, request};
use super::tiny::{Kind, Tiny, picture};
use super::*;

/// Says to the test below that it was started by the one above it.
const CHILD: &str = "CICERONE_TEST_MEMORY";

/// Most that may be added between the hundredth request and the last, MiB. Keeping every prompt would add over 200,
/// keeping every picture over 40.
const GROWTH: usize = 24;

#[test]
fn a_thousand_requests_keep_memory_flat() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "generator::mistral::memory_tests::a_thousand_requests", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("1 passed"), "it did not run: {said}");
}

fn resident_mib() -> usize {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn a_thousand_requests() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // A prompt takes 256 KiB of keys and values: what is kept is dropped after every fourth.
        text_requests(MistralSettings { prefix_cache: 1 << 20, ..MistralSettings::default() }).await;
        picture_requests().await;
    });
}

async fn text_requests(settings: MistralSettings) {
    let tiny = Tiny::write(Kind::Llama);
    let generator = load_as(tiny.path(), settings).await;
    let asked = |n: usize| Request { max_tokens: 4, ..request(&format!("Passage {n}. What is it?"), None) };
    flat("text", &generator, asked).await;
}

async fn picture_requests() {
    let tiny = Tiny::write(Kind::Idefics3);
    let generator = load_as(tiny.path(), MistralSettings::default()).await;
    // More of them than the engine remembers.
    let pictures: Vec<_> = (0..40_u8)
        .map(|n| picture(tiny.path(), &format!("{n}.png"), n % 2 == 0, [[n * 6, 0, 0], [255, 255, n]]))
        .collect();
    let asked = |n: usize| Request { max_tokens: 4, ..request("What is it?", Some(&pictures[n % 40])) };
    flat("pictures", &generator, asked).await;
}

async fn flat(what: &str, generator: &MistralGenerator, asked: impl Fn(usize) -> Request) {
    let start = std::time::Instant::now();
    let mut early = 0;
    for n in 1..=1000 {
        answer(generator, asked(n)).await.unwrap();
        if n == 100 {
            early = resident_mib();
        }
    }
    let late = resident_mib();
    println!("{what}: {early} MiB after 100 requests, {late} after 1,000, {:.1} s", start.elapsed().as_secs_f32());
    assert!(late <= early + GROWTH, "{what}: {early} MiB after 100 requests, {late} after 1,000");
}
