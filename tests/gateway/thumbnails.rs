//! Small copies of results: `width` behind their signed addresses.

use reqwest::Method;
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, Edit, Gateway, Upstream, in_background, size_of};

/// Buys a picture, and returns its signed address.
async fn address(client: &Client, edit: &Edit) -> String {
    let answer = client.edit(&edit.clone().field("response_format", "url")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"][0]["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_thumbnail_is_a_small_webp_that_browsers_keep() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("small").field("model", "gpt-image-2").field("size", "1024x1024");
    let url = address(&gateway.alice(), &edit).await;
    let anyone = gateway.client("");
    let whole = anyone.get(&url).await;
    assert_eq!(size_of(&whole.bytes), (1024, 1024));
    for (requested, made) in [("16", 128), ("200", 256), ("512", 512), ("2048", 1024)] {
        let small = anyone.get(&format!("{url}&width={requested}")).await;
        assert_eq!((small.status, small.header("content-type")), (200, "image/webp"), "{}", small.text());
        assert_eq!(size_of(&small.bytes), (made, made), "{requested}");
        assert!(small.bytes.len() < whole.bytes.len());
        assert!(small.header("cache-control").starts_with("private"));
        assert!(small.header("content-security-policy").contains("sandbox"));
        let etag = small.header("etag").to_owned();
        let again = anyone.request(Method::GET, &format!("{url}&width={requested}"));
        let again = Answer::to(again.header("if-none-match", format!("\"other\", W/{etag}"))).await;
        assert_eq!((again.status, again.bytes.len(), again.header("etag")), (304, 0, etag.as_str()));
    }
    // Another format of the same picture has the same thumbnail.
    let jpeg = address(&gateway.alice(), &edit.clone().field("output_format", "jpeg")).await;
    let (one, two) = (anyone.get(&format!("{url}&width=128")).await, anyone.get(&format!("{jpeg}&width=128")).await);
    assert_eq!((one.header("etag"), &one.bytes), (two.header("etag"), &two.bytes));
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_thumbnail_needs_the_signature_and_an_allowed_width() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let url = address(&gateway.alice(), &Edit::new("signed")).await;
    let anyone = gateway.client("");
    for width in ["0", "15", "2049", "wide", "", "-1", "1e2"] {
        let refused = anyone.get(&format!("{url}&width={width}")).await;
        refused.is_refused(400, "invalid_value");
        assert_eq!(refused.json()["error"]["param"], "width");
        assert!(refused.message().contains("16 to 2048"), "{}", refused.message());
    }
    for altered in [url.replace("/0.", "/1."), url.replace("s=", "s=9")] {
        anyone.get(&format!("{altered}&width=128")).await.is_refused(403, "invalid_result_address");
    }
    assert_eq!(size_of(&anyone.get(&format!("{url}&width=1024")).await.bytes), (256, 256), "never enlarged");
}

/// One at a time, and those that wait have no picture open, which would be in memory.
#[tokio::test]
async fn requests_that_wait_for_a_slot_hold_no_picture() {
    let upstream = Upstream::start().await;
    let every_picture_is_a_file = [
        ("storage.journal_picture_bytes_max", "0"),
        ("cache.memory_bytes_max", "0"),
        ("cache.thumbnail_bytes_max", "0"),
        ("server.converted_bytes_max", "0"),
        ("server.concurrent_conversions_max", "1"),
    ];
    let gateway = Gateway::with(&upstream, &every_picture_is_a_file).await;
    let edit = Edit::new("large").field("model", "gpt-image-2").field("size", "1024x1024");
    let png = address(&gateway.alice(), &edit).await;
    let jpeg = address(&gateway.alice(), &edit.clone().field("output_format", "jpeg")).await;
    for (url, pending) in [(format!("{png}&width=128"), "thumbnails_pending"), (jpeg, "conversions_pending")] {
        let many: Vec<_> = (0..12)
            .map(|_| {
                let (client, url) = (gateway.client(""), url.clone());
                in_background(async move { client.get(&url).await })
            })
            .collect();
        let (mut open, mut waited) = (0, false);
        while !many.iter().all(JoinHandle::is_finished) {
            open = open.max(gateway.open_files("results").unwrap_or_default());
            let text = gateway.page("/metrics").await.1;
            let line = text.lines().find(|line| line.starts_with(&format!("gptproto_gateway_api_{pending} ")));
            waited |= line.is_some_and(|line| line.split(' ').nth(1).unwrap().parse::<u32>().unwrap() > 3);
        }
        for made in many {
            assert_eq!(made.await.unwrap().status, 200);
        }
        assert!(waited && open <= 1, "{pending}: {open} pictures were open at a time");
    }
}

#[tokio::test]
async fn many_at_once_are_made_and_a_picture_that_is_too_large_is_refused() {
    let upstream = Upstream::start().await;
    let limits = [("server.convert_pixels_max", "65536"), ("cache.thumbnail_bytes_max", "0")];
    let gateway = Gateway::with(&upstream, &limits).await;
    let alice = gateway.alice();
    let small = address(&alice, &Edit::new("small")).await;
    let large = address(&alice, &Edit::new("large").field("model", "gpt-image-2").field("size", "1024x1024")).await;
    let many: Vec<_> = (0..40)
        .map(|number| {
            let (client, url) = (gateway.client(""), format!("{small}&width={}", 16 + number));
            in_background(async move { client.get(&url).await })
        })
        .collect();
    let refused = gateway.client("").get(&format!("{large}&width=128")).await;
    refused.is_refused(422, "thumbnail_unavailable");
    for made in many {
        assert_eq!(size_of(&made.await.unwrap().bytes), (128, 128));
    }
    assert_eq!(size_of(&gateway.client("").get(&large).await.bytes), (1024, 1024), "the picture itself is there");
}
