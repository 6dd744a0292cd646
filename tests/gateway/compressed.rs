//! Compressed request bodies: they mean what they unpack to, under the limits of what they unpack to.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Gateway, Upstream, data_url, picture};

fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match coding {
        "gzip" | "x-gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// Sends bytes as an edit, in chunks of this length, or whole.
async fn send(gateway: &Gateway, content_type: &str, coding: &str, body: Vec<u8>, chunk: Option<usize>) -> Answer {
    let body = match chunk {
        None => reqwest::Body::from(body),
        Some(length) => {
            let chunks: Vec<_> = body.chunks(length).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
            reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
        }
    };
    let request = gateway.alice().request(Method::POST, "/v1/images/edits");
    let request = request.header("content-type", content_type).header("content-encoding", coding);
    Answer::to(request.body(body)).await
}

fn json_body() -> Vec<u8> {
    let body = json!({
        "model": "gpt-image-1.5", "quality": "low", "size": "256x256", "prompt": "packed",
        "image": data_url(&picture(1)),
    });
    body.to_string().into_bytes()
}

fn form_body() -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in
        [("model", "gpt-image-1.5"), ("quality", "low"), ("size", "256x256"), ("prompt", "packed form")]
    {
        write!(body, "--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").unwrap();
    }
    body.extend_from_slice(b"--B\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n");
    body.extend_from_slice(&picture(1));
    body.extend_from_slice(b"\r\n--B--\r\n");
    body
}

const FORM: &str = "multipart/form-data; boundary=B";
const JSON: &str = "application/json";

#[tokio::test]
async fn a_compressed_body_is_the_same_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (content_type, body) in [(JSON, json_body()), (FORM, form_body())] {
        let plain = send(&gateway, content_type, "identity", body.clone(), None).await;
        plain.picture();
        let bought = upstream.purchases().await;
        for coding in ["gzip", "x-gzip", "GZIP", "deflate", "raw deflate", "zstd"] {
            let header = if coding == "raw deflate" { "deflate" } else { coding };
            for chunk in [None, Some(1000), Some(7)] {
                let answer = send(&gateway, content_type, header, packed(&coding.to_lowercase(), &body), chunk).await;
                assert_eq!(answer.status, 200, "{coding} {chunk:?}: {}", answer.text());
                assert_eq!(answer.cache(), "hit", "{coding} {chunk:?}");
            }
        }
        assert_eq!(upstream.purchases().await, bought, "{content_type}");
    }
    // Two members are one body.
    let body = json_body();
    let (one, other) = body.split_at(100);
    let members = [packed("gzip", one), packed("gzip", other)].concat();
    assert_eq!(send(&gateway, JSON, "gzip", members, None).await.cache(), "hit");
}

#[tokio::test]
async fn a_body_that_cannot_be_unpacked_is_refused_by_its_cause() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let body = json_body();
    let gzip = packed("gzip", &body);
    let cases = [
        ("gzip", gzip[..gzip.len() / 2].to_vec(), "ends before its gzip data"),
        ("gzip", [&gzip[..], b"tail"].concat(), "follows"),
        ("gzip", body.clone(), "not valid gzip"),
        ("zstd", gzip.clone(), "not valid zstd"),
        ("deflate", [&packed("deflate", &body)[..], b"tail"].concat(), "follows its deflate data"),
        ("zstd", packed("zstd", &body)[..50].to_vec(), "ends before its zstd data"),
    ];
    for (coding, bytes, words) in cases {
        let answer = send(&gateway, JSON, coding, bytes, Some(500)).await;
        answer.is_refused(400, "malformed_body");
        assert!(answer.message().contains(words), "{coding}: {}", answer.message());
    }
    for coding in ["br", "compress", "gzip, gzip", "gzip, deflate", "sdch"] {
        let answer = send(&gateway, JSON, coding, gzip.clone(), None).await;
        answer.is_refused(415, "unsupported_content_encoding");
        for known in ["'gzip'", "'deflate'", "'zstd'", "'identity'"] {
            assert!(answer.message().contains(known), "{}", answer.message());
        }
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn limits_hold_for_what_a_body_unpacks_to() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.body_bytes_max", "1000000")]).await;
    let spaces = vec![b' '; 20_000_000];
    for coding in ["gzip", "deflate", "zstd"] {
        let bomb = packed(coding, &spaces);
        assert!(bomb.len() < 30_000, "{}", bomb.len());
        send(&gateway, JSON, coding, bomb, None).await.is_refused(413, "body_too_large");
    }
    let head = [b"--B\r\nContent-Disposition: form-data; name=\"".as_slice(), &spaces[..500_000]].concat();
    send(&gateway, FORM, "gzip", packed("gzip", &head), None).await.is_refused(400, "malformed_body");
    let deep = [b"{\"x\":".as_slice(), &b"[".repeat(100_000)].concat();
    send(&gateway, JSON, "zstd", packed("zstd", &deep), None).await.is_refused(400, "malformed_body");
    assert_eq!(upstream.submits().await, 0);
}
