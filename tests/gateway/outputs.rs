//! Output formats: converted from the stored picture, without another purchase.

use image::ImageFormat;
use serde_json::json;

use crate::harness::{ALICE, Answer, Edit, Gateway, Raw, Upstream, size_of};

fn format_of(bytes: &[u8]) -> &'static str {
    // Decoded completely, so that it is a whole picture.
    image::load_from_memory(bytes).unwrap();
    let format = image::guess_format(bytes).unwrap();
    let known = [("png", ImageFormat::Png), ("jpeg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP)];
    known.into_iter().find(|&(_, known)| known == format).expect("a format that clients know").0
}

/// Asserts that the response has one picture of this format and names the format.
#[track_caller]
fn is(answer: &Answer, format: &str) {
    let picture = answer.picture();
    assert_eq!(format_of(&picture), format);
    assert_eq!(answer.json()["output_format"], format);
    assert_eq!(size_of(&picture), (256, 256));
    assert_eq!(answer.json()["size"], "256x256");
}

#[tokio::test]
async fn one_purchase_serves_every_format() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let plain = Edit::new("one for all");
    let first = alice.edit(&plain).await;
    is(&first, "png");
    for format in ["png", "jpeg", "webp", "jpg"] {
        let answer = alice.edit(&plain.clone().field("output_format", format)).await;
        is(&answer, if format == "jpg" { "jpeg" } else { format });
        assert_eq!(answer.cache(), "hit", "{format}");
    }
    let sizes = ["5", "50", "100"]
        .map(|compression| plain.clone().field("output_format", "webp").field("output_compression", compression));
    let mut bytes = Vec::new();
    for edit in &sizes {
        bytes.push(alice.edit(edit).await.picture().len());
    }
    assert!(bytes[0] < bytes[1] && bytes[1] < bytes[2], "{bytes:?}");
    assert_eq!(upstream.purchases().await, 1);
    assert_eq!(alice.edit(&plain).await.picture(), first.picture(), "the original is untouched");

    let (_, metrics) = gateway.page("/metrics").await;
    // "jpeg" and "jpg" are the same conversion.
    for line in [
        "gptproto_gateway_api_conversions_total{format=\"jpeg\",result=\"converted\"} 1",
        "gptproto_gateway_api_conversions_total{format=\"jpeg\",result=\"cached\"} 1",
        "gptproto_gateway_api_conversions_total{format=\"webp\",result=\"converted\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn the_bytes_have_the_requested_format_for_every_upstream_format() {
    for sent in ["png", "jpeg", "webp"] {
        let upstream = Upstream::with(json!({"pictures": {"format": sent}})).await;
        let gateway = Gateway::on(&upstream).await;
        is(&gateway.alice().edit(&Edit::new("as it comes")).await, sent);
        for asked in ["png", "jpeg", "webp"] {
            is(&gateway.alice().edit(&Edit::new("as it comes").field("output_format", asked)).await, asked);
        }
        let body = json!({"prompt": "drawn", "output_format": "webp", "output_compression": 40});
        is(&gateway.alice().generate(body).await, "webp");
        assert_eq!(upstream.purchases().await, 2, "{sent}");
    }
}

#[tokio::test]
async fn several_pictures_are_all_converted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("three").field("n", "3").field("output_format", "jpeg").field("output_compression", "70");
    let answer = gateway.alice().edit(&edit).await;
    let pictures = answer.pictures();
    assert_eq!(pictures.len(), 3);
    assert!(pictures.iter().all(|picture| format_of(picture) == "jpeg"));
}

#[tokio::test]
async fn a_result_url_delivers_the_requested_format() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("by address").field("response_format", "url");
    let converted = edit.clone().field("output_format", "webp").field("output_compression", "60");
    let alice = gateway.alice();
    let url_of = |answer: Answer| answer.json()["data"][0]["url"].as_str().unwrap().to_owned();

    let answer = alice.edit(&converted).await;
    assert_eq!(answer.json()["output_format"], "webp");
    let url = url_of(answer);
    let anonymous = gateway.client("");
    let fetched = anonymous.get(&url).await;
    assert_eq!((fetched.status, fetched.header("content-type")), (200, "image/webp"));
    assert_eq!(fetched.header("content-length"), fetched.bytes.len().to_string());
    assert_eq!(format_of(&fetched.bytes), "webp");

    let plain = anonymous.get(&url_of(alice.edit(&edit).await)).await;
    assert_eq!((plain.header("content-type"), format_of(&plain.bytes)), ("image/png", "png"));

    for altered in [
        url.replace(".webp", ".jpg"),
        url.replace("s=60.", "s=61."),
        url.replace("s=60.", "s="),
        url.replace(".webp", ".bmp"),
        url.replace("s=60.", "s=600."),
    ] {
        assert_ne!(altered, url);
        anonymous.get(&altered).await.is_refused(403, "invalid_result_address");
    }
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn stream_events_have_the_requested_format() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("streamed").field("n", "3").field("stream", "true").field("output_format", "webp");
    let answer = gateway.alice().edit(&edit).await;
    let text = answer.text();
    let events: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events.len(), 3, "{text}");
    for event in &events {
        let bytes = base64_simd::STANDARD.decode_to_vec(event["b64_json"].as_str().unwrap()).unwrap();
        assert_eq!((event["output_format"].as_str(), format_of(&bytes)), (Some("webp"), "webp"));
    }
    // In the order of the pictures, as without a stream.
    let whole = gateway.alice().edit(&edit.field("stream", "false")).await;
    let in_order: Vec<_> = events.iter().map(|event| event["b64_json"].clone()).collect();
    let items: Vec<_> = whole.json()["data"].as_array().unwrap().iter().map(|item| item["b64_json"].clone()).collect();
    assert_eq!((in_order, whole.cache()), (items, "hit"));
}

#[tokio::test]
async fn a_response_after_json_heartbeats_has_the_requested_format() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.json_heartbeat_s", "1")]).await;
    upstream.hold().await;
    let body =
        json!({"model": "gpt-image-1.5", "prompt": "slow", "size": "256x256", "output_format": "jpeg"}).to_string();
    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert!(raw.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    upstream.release().await;
    let text = raw.until("\r\n0\r\n\r\n").await;
    // The first bytes of every JPEG, in base64.
    assert!(text.contains("{\"b64_json\":\"") && text.contains("/9j/"), "{}", &text[..text.len().min(500)]);
    assert!(text.contains("\"output_format\":\"jpeg\""));
}

#[tokio::test]
async fn a_picture_too_large_to_convert_is_delivered_in_its_own_format() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.convert_pixels_max", "65535")]).await;
    let edit = Edit::new("large").field("output_format", "jpeg");
    // It is paid for; the response names its real format.
    is(&gateway.alice().edit(&edit).await, "png");
    let by_url = gateway.alice().edit(&edit.field("response_format", "url")).await;
    let url = by_url.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let fetched = gateway.client("").get(&url).await;
    assert_eq!((fetched.header("content-type"), format_of(&fetched.bytes)), ("image/png", "png"));
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_format_that_cannot_be_made_is_refused_and_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = || Edit::new("refused");
    let cases = [
        (edit().field("output_format", "gif"), "unsupported_parameter", "output_format"),
        (edit().field("output_format", "svg"), "unsupported_parameter", "output_format"),
        (edit().field("output_format", "tiff"), "invalid_value", "output_format"),
        (edit().field("output_compression", "50"), "unsupported_parameter", "output_compression"),
        (
            edit().field("output_format", "webp").field("output_compression", "101"),
            "integer_above_max_value",
            "output_compression",
        ),
        (edit().field("output_format", "jpeg").field("background", "transparent"), "invalid_value", "background"),
    ];
    for (edit, code, param) in cases {
        let answer = gateway.alice().edit(&edit).await;
        answer.is_refused(400, code);
        assert_eq!(answer.json()["error"]["param"], param);
        assert!(code != "unsupported_parameter" || answer.message().contains("'png'"), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
}
