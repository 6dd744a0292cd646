//! The pieces whose cost depends on a size or a number: `cargo bench --features bench --bench pieces`.
//!
//! - `form`: a multipart body scanned, hashed, sniffed and spooled (in memory up to `storage.spool_memory_bytes`, in an
//!   unlinked file beyond), in chunks as a socket delivers them.
//! - `structure` and `hash`: the check of a picture that is in memory, and its digest.
//! - `fingerprint`: of a request whose pictures are hashed already.
//! - `encode`: pictures read back from the spool and encoded as base64, as for the body of a submit.
//! - `queue`: one purchase that becomes ready, is popped and pushed again, by the number of purchases.
//! - `learn` and `plan`: learning generation times from one completion, and planning one poll.

use std::time::Duration;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gptproto_gateway::benching::polling::{LatencyClass, LatencyModel, LatencyPriors, PollPlanner, PollQueue};
use gptproto_gateway::benching::{Forms, is_complete};
use tokio::time::Instant;

const KB: usize = 1000;
const MB: usize = 1000 * KB;
/// Bytes of pictures, and how many of them.
const PICTURES: [(usize, usize); 4] = [(10 * KB, 1), (200 * KB, 1), (20 * MB, 1), (5 * MB, 16)];
/// About one read of a socket.
const CHUNK_BYTES: usize = 64 * 1024;

fn main() {
    divan::main();
}

/// A PNG by its structure, with bytes without pattern in the place of its pixels.
fn picture(size: usize) -> Vec<u8> {
    let head = b"\x89PNG\r\n\x1a\n";
    let header = b"\0\0\x04\0\0\0\x04\0\x08\x02\0\0\0";
    let pixels = noise(size.saturating_sub(head.len() + header.len() + 36));
    [&head[..], &chunk(*b"IHDR", header), &chunk(*b"IDAT", &pixels), &chunk(*b"IEND", b"")].concat()
}

fn chunk(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a small picture").to_be_bytes();
    let named = [&name[..], content].concat();
    [&length[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 4);
    let mut state = 1_u64;
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(&state.to_le_bytes()[4..]);
    }
    bytes.truncate(size);
    bytes
}

fn form((size, count): (usize, usize)) -> Vec<Bytes> {
    let mut body = Vec::new();
    for (name, value) in [("model", "gpt-image-2"), ("prompt", "make it a winter night"), ("size", "1024x1024")] {
        body.extend(format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    let picture = picture(size);
    for number in 0..count {
        let head = format!("--B\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"{number}.png\"\r\n");
        body.extend(head.bytes());
        body.extend(b"Content-Type: image/png\r\n\r\n");
        body.extend(&picture);
        body.extend(b"\r\n");
    }
    body.extend(b"--B--\r\n");
    body.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect()
}

fn counted(pictures: (usize, usize)) -> BytesCount {
    BytesCount::new(pictures.0 * pictures.1)
}

#[divan::bench(name = "form", args = PICTURES, sample_count = 20)]
fn read(bencher: Bencher<'_, '_>, pictures: (usize, usize)) {
    let (forms, chunks) = (Forms::default(), form(pictures));
    // Chunks are shared, so that to copy the list copies no picture.
    bencher.counter(counted(pictures)).with_inputs(|| chunks.clone()).bench_values(|chunks| forms.read(chunks));
}

#[divan::bench(args = [200 * KB, 20 * MB])]
fn structure(bencher: Bencher<'_, '_>, size: usize) {
    let picture = Bytes::from(picture(size));
    bencher.counter(BytesCount::new(size)).bench(|| assert!(is_complete(black_box(&picture))));
}

#[divan::bench(args = [200 * KB, 20 * MB])]
fn hash(bencher: Bencher<'_, '_>, size: usize) {
    let picture = picture(size);
    bencher.counter(BytesCount::new(size)).bench(|| blake3::hash(black_box(&picture)));
}

#[divan::bench(args = [(10 * KB, 1), (10 * KB, 16)])]
fn fingerprint(bencher: Bencher<'_, '_>, pictures: (usize, usize)) {
    let forms = Forms::default();
    let taken = forms.read(form(pictures));
    bencher.bench(|| forms.fingerprint(black_box(&taken)));
}

#[divan::bench(args = PICTURES, sample_count = 20)]
fn encode(bencher: Bencher<'_, '_>, pictures: (usize, usize)) {
    let forms = Forms::default();
    let taken = forms.read(form(pictures));
    bencher.counter(counted(pictures)).bench(|| forms.encode(black_box(&taken)));
}

#[divan::bench(args = [1_000, 20_000, 100_000])]
fn queue(bencher: Bencher<'_, '_>, waiting: u32) {
    const PAUSE: Duration = Duration::from_secs(10);
    let start = Instant::now();
    let mut queue = PollQueue::new(PAUSE);
    for number in 0..waiting {
        queue.push(start + PAUSE * number / waiting, number, 0, f64::from(number % 100) / 100.0);
    }
    let mut now = start;
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        now = queue.next_due().expect("purchases are always pushed again");
        queue.advance(now);
        while let Some(number) = queue.pop_ready(0, now) {
            queue.push(now + PAUSE, number, 0, f64::from(number % 100) / 100.0);
        }
    });
}

/// A model after a hundred completions between 49 and 107 s, as of medium quality.
fn learned() -> (LatencyClass, LatencyModel) {
    let class = LatencyClass::new("gpt-image-2", "image-edit", "medium", 1024 * 1024, 1);
    let mut latencies = LatencyModel::new(LatencyPriors::Measured);
    for number in 0..100_u32 {
        let by = Duration::from_millis(49_000 + u64::from(number * 37 % 100) * 580);
        let _ = latencies.observe(&class, by.saturating_sub(Duration::from_secs(2)), by);
    }
    (class, latencies)
}

#[divan::bench]
fn learn(bencher: Bencher<'_, '_>) {
    let (class, mut latencies) = learned();
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        let by = Duration::from_millis(49_000 + number * 37 % 100 * 580);
        latencies.observe(&class, by.saturating_sub(Duration::from_secs(2)), by)
    });
}

#[divan::bench]
fn plan(bencher: Bencher<'_, '_>) {
    let planner = PollPlanner {
        min_interval: Duration::from_secs(1),
        max_interval: Duration::from_secs(10),
        first_poll: Duration::from_secs(5),
        poll_cost: Duration::from_millis(100),
    };
    let (class, mut latencies) = learned();
    let (working_at, now) = (Duration::from_mins(1), Duration::from_millis(60_050));
    bencher.bench_local(|| planner.next(latencies.estimate(&class), black_box(working_at), now, 1.0));
}
