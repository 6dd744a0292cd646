//! Large, numerous or hostile uploads: the memory and disk that they use, for how long, and what is refused unread.

use std::fmt::Write as _;

use serde_json::json;

use crate::harness::{ALICE, Edit, Gateway, Raw, Upstream, data_url, picture, until};

/// Parts above this size go to a file, as larger ones do by default.
const SMALL_MEMORY: (&str, &str) = ("storage.spool_memory_bytes", "262144");

/// A picture too large for such a memory because of a text chunk that decoders skip.
fn large_picture(seed: u8) -> Vec<u8> {
    let small = picture(seed);
    let (head, rest) = small.split_at(33);
    let text = [b"tEXtComment\0".as_slice(), "x".repeat(600_000).as_bytes()].concat();
    let length = u32::try_from(text.len() - 4).unwrap().to_be_bytes();
    let checksum = crc32(&text).to_be_bytes();
    [head, &length, &text, &checksum, rest].concat()
}

/// The checksum of a PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

async fn spool_is_empty(gateway: &Gateway) -> bool {
    for name in ["spool_bytes", "spool_reserved_bytes", "spool_memory_bytes", "spool_waiting"] {
        if gateway.status("engine", name).await != 0 {
            return false;
        }
    }
    gateway.open_files("spool").is_none_or(|count| count == 0)
}

/// The head of a request by Alice, with these additional lines.
fn head(lines: &[&str]) -> String {
    let mut head = format!("POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n");
    for line in lines {
        write!(head, "{line}\r\n").unwrap();
    }
    head + "\r\n"
}

const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn an_accepted_purchase_releases_its_upload() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[SMALL_MEMORY]).await;
    upstream.hold().await;
    let form =
        gateway.alice().begin(&Edit::bare("by form").picture("image", large_picture(1)).picture("image", picture(2)));
    let body = json!({
        "model": "gpt-image-1.5", "prompt": "by JSON", "quality": "low", "size": "256x256",
        "images": [{"image_url": data_url(&large_picture(3))}],
    });
    let json = gateway.alice().begin_json("/v1/images/edits", &body);
    until("both are followed", async || gateway.status("engine", "polling").await == 2).await;
    until("the spool is empty", async || spool_is_empty(&gateway).await).await;
    assert_eq!(gateway.status("engine", "waiters").await, 2, "and both wait");
    upstream.release().await;
    form.answer().await.picture();
    json.answer().await.picture();
}

#[tokio::test]
async fn a_refused_submit_keeps_its_upload_for_the_retry() {
    let hidden = json!({"limits": {"submits_per_minute": 2, "rate_window_ms": 1000, "concurrent": 1}});
    let upstream = Upstream::with(hidden).await;
    let gateway = Gateway::with(&upstream, &[SMALL_MEMORY, ("upstream.pushback_ms", "100")]).await;
    let edit = |prompt: &str| Edit::bare(prompt).picture("image", large_picture(1));
    let pending = ["one", "two", "three", "four", "five"].map(|prompt| gateway.alice().begin(&edit(prompt)));
    for waiting in pending {
        waiting.answer().await.picture();
    }
    assert!(upstream.count("submits_429").await >= 1);
    assert_eq!(upstream.purchases().await, 5);
    until("the spool is empty", async || spool_is_empty(&gateway).await).await;
}

#[tokio::test]
async fn an_upload_waits_for_spool_space_before_its_body_is_read() {
    let upstream = Upstream::start().await;
    let changes = [("storage.spool_bytes_max", "10000000"), ("storage.spool_waiters_max", "1")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let mut first = Raw::to(&gateway.address()).await;
    first.send(head(&[JSON, "Content-Length: 5000000", "Expect: 100-continue"])).await;
    first.until("100 Continue").await;
    assert!(gateway.status("engine", "spool_reserved_bytes").await > 8_000_000, "the body and the pictures in it");
    assert_eq!(gateway.status("engine", "spool_bytes").await, 0);

    gateway.alice().edit(&Edit::new("small")).await.picture();
    let large = |prompt| (1..=3).fold(Edit::bare(prompt), |edit, seed| edit.picture("image", large_picture(seed)));
    let waiting = gateway.alice().begin(&large("after all"));
    until("one waits", async || gateway.status("engine", "spool_waiting").await == 1).await;
    let refused = gateway.alice().edit(&large("one too many")).await;
    refused.is_refused(503, "upload_space_full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(refused.header("x-should-retry"), "true");

    drop(first);
    waiting.answer().await.picture();
    assert_eq!(gateway.status("engine", "spool_refused").await, 1);
    until("the spool is empty", async || spool_is_empty(&gateway).await).await;
}

#[tokio::test]
async fn a_wait_for_spool_space_times_out_and_a_body_without_length_does_not_wait() {
    let upstream = Upstream::start().await;
    let changes = [("storage.spool_bytes_max", "10000000"), ("storage.spool_wait_s", "1")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let mut first = Raw::to(&gateway.address()).await;
    first.send(head(&[JSON, "Content-Length: 5700000", "Expect: 100-continue"])).await;
    first.until("100 Continue").await;

    gateway
        .alice()
        .edit(&Edit::bare("too late").picture("image", large_picture(1)))
        .await
        .is_refused(503, "upload_space_full");

    let mut chunked = Raw::to(&gateway.address()).await;
    chunked.send(head(&[JSON, "Transfer-Encoding: chunked", "Connection: close"])).await;
    let chunk = format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000));
    chunked.send("4\r\n{\"a\"\r\n2\r\n:\"\r\n").await;
    for _ in 0..5 {
        chunked.send(&chunk).await;
    }
    let answer = chunked.until("upload_space_full").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let never = Edit::bare("never").picture("image", vec![0; 11_000_000]);
    gateway.alice().edit(&never).await.is_refused(413, "body_too_large");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[SMALL_MEMORY]).await;
    for kind in [JSON, "Content-Type: multipart/form-data; boundary=x"] {
        for length in ["Content-Length: 5000000", "Transfer-Encoding: chunked"] {
            let mut raw = Raw::to(&gateway.address()).await;
            raw.send(head(&[kind, length])).await;
            let mut body = if kind == JSON {
                b"{\"image\":\"".to_vec()
            } else {
                b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n".to_vec()
            };
            body.extend("A".repeat(1_000_000).bytes());
            if length.starts_with("Transfer") {
                body = [format!("{:x}\r\n", body.len()).into_bytes(), body, b"\r\n".to_vec()].concat();
            }
            raw.send(body).await;
            until("most has arrived", async || gateway.status("engine", "spool_bytes").await >= 900_000).await;
            until("it is in a file", async || gateway.open_files("spool").is_none_or(|count| count == 1)).await;
            drop(raw);
            until("the spool is empty", async || spool_is_empty(&gateway).await).await;
        }
    }
}

#[tokio::test]
async fn hostile_json_is_refused_before_it_is_complete() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (start, repeated, named) in [
        ("", "[", "a JSON array"),
        ("{\"a\":", "[", "server.json_depth_max"),
        ("{\"a\":", "{\"a\":", "server.json_depth_max"),
        ("{\"a\":[", "0,", "server.json_values_max"),
        ("{", "\"a\":0,", "server.json_values_max"),
    ] {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.send(head(&[JSON, "Content-Length: 100000000", "Connection: close"])).await;
        raw.send(start).await;
        raw.send(repeated.repeat(100_000 / repeated.len())).await;
        // The other 99.9 MB are not sent.
        let answer = raw.until("\"malformed_body\"").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(named), "{answer}");
    }
    assert_eq!(upstream.submits().await, 0);
}
