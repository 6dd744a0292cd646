//! Purchases whose tokens show that the upstream did not look at the input pictures: delivered with a warning, to the
//! request that bought them, its retries, its idempotency key and its address.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Edit, Gateway, Relay, Upstream, until};

/// The tokens of the picture that edits here send.
const SEEN: &str = "\"image_tokens\":194";
const UNSEEN: &str = "\"image_tokens\":0";
const WARNING: &str = "x-gateway-warning";
/// The warning in a stream, before its picture.
const COMMENT: &str = ": x-gateway-warning: inputs-unseen\n\nevent: image_edit.completed\n";

/// A gateway whose upstream reports no tokens of input pictures, however they are sent.
async fn blind(upstream: &Upstream, changes: &[(&str, &str)]) -> Gateway {
    let between = Relay::replacing(upstream, SEEN, UNSEEN).await;
    let strict = ("upstream.first_contact", "strict");
    Gateway::at(&between.origin, &[&[strict], changes].concat()).await
}

#[tokio::test]
async fn a_picture_made_without_its_inputs_answers_retries_and_no_other_request() {
    let upstream = Upstream::start().await;
    let gateway = blind(&upstream, &[]).await;
    let edit = Edit::new("not looked at");

    let first = gateway.alice().edit(&edit).await;
    first.picture();
    assert_eq!((first.cache(), first.header(WARNING)), ("miss", "inputs-unseen"));
    let second = gateway.alice().edit(&edit).await;
    assert_eq!((second.cache(), second.header(WARNING)), ("miss", "inputs-unseen"), "never a hit");
    assert_eq!(upstream.purchases().await, 2);

    let retry = gateway.alice().edit(&edit.clone().header("x-stainless-retry-count", "1")).await;
    assert_eq!((retry.cache(), retry.header(WARNING)), ("joined", "inputs-unseen"));
    assert_eq!(retry.picture(), second.picture());
    let address = format!("/v1/predictions/{}", first.header("x-gateway-prediction"));
    let shown = gateway.alice().prediction(&address, "").await;
    assert_eq!((shown.status, shown.header(WARNING)), (200, "inputs-unseen"));
    assert_eq!(shown.json()["result"], first.json());
    let followed = gateway.alice().request(Method::GET, &address).header("accept", "text/event-stream");
    let followed = Answer::to(followed).await;
    assert_eq!((followed.status, followed.header(WARNING)), (200, "inputs-unseen"));
    assert!(followed.text().contains(COMMENT), "{}", followed.text());
    assert_eq!(upstream.purchases().await, 2);

    let (_, metrics) = gateway.page("/metrics").await;
    let series = r#"gptproto_gateway_engine_inputs_unseen_total{model="gpt-image-1.5"} 2"#;
    assert!(metrics.lines().any(|line| line == series), "{metrics}");
}

#[tokio::test]
async fn pictures_that_the_upstream_ignores_are_noticed() {
    let upstream = Upstream::with(json!({"inputs": {"base64_images": "ignore"}})).await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("made from the text alone");
    let first = gateway.alice().edit(&edit).await;
    first.picture();
    assert_eq!((first.cache(), first.header(WARNING)), ("miss", "inputs-unseen"));
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "miss");
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn the_warning_survives_a_restart_and_an_idempotency_key_replays_it() {
    let upstream = Upstream::start().await;
    let gateway = blind(&upstream, &[]).await;
    let keyed = |key| Edit::new("under a key").header("idempotency-key", key);
    let edit = keyed("once");
    let first = gateway.alice().edit(&edit).await;
    let gateway = gateway.restart().await;
    let again = gateway.alice().edit(&edit).await;
    assert_eq!((again.cache(), again.header(WARNING)), ("joined", "inputs-unseen"));
    assert_eq!(again.picture(), first.picture());
    assert_eq!(gateway.alice().edit(&keyed("twice")).await.cache(), "miss");
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn an_undelivered_picture_is_claimed_once_and_a_deliberate_request_buys() {
    let upstream = Upstream::start().await;
    let gateway = blind(&upstream, &[]).await;
    let edit = Edit::new("not waited for");
    let unclaimed = async |before: u64| {
        upstream.hold().await;
        let first = gateway.alice().begin(&edit.clone().header("cache-control", "no-cache"));
        until("it is followed", async || gateway.status("engine", "polling").await == 1).await;
        first.disconnect().await;
        until("no request waits", async || gateway.status("engine", "waiters").await == 0).await;
        upstream.release().await;
        until("it is stored", async || gateway.status("engine", "pictures").await == before + 1).await;
    };

    unclaimed(0).await;
    let claimed = gateway.alice().edit(&edit).await;
    assert_eq!((claimed.cache(), claimed.header(WARNING)), ("joined", "inputs-unseen"));
    assert_eq!(upstream.purchases().await, 1);
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "miss");
    assert_eq!(upstream.purchases().await, 2);

    unclaimed(2).await;
    let deliberate = gateway.alice().edit(&edit.clone().header("cache-control", "no-cache")).await;
    assert_eq!((deliberate.cache(), deliberate.header(WARNING)), ("bypass", "inputs-unseen"));
    assert_eq!(upstream.purchases().await, 4);
}

#[tokio::test]
async fn a_stream_warns_before_the_picture() {
    let upstream = Upstream::start().await;
    let quick = [("server.stream_heartbeat_ms", "100"), ("server.stream_grace_ms", "50")];
    let gateway = blind(&upstream, &quick).await;
    let edit = Edit::new("streamed").field("stream", "true");
    upstream.hold().await;
    let mut live = gateway.alice().begin(&edit);
    live.first_bytes().await;
    upstream.release().await;
    let live = live.answer().await;
    assert!(live.text().contains(COMMENT), "{}", live.text());
    assert_eq!(live.header(WARNING), "", "the head was sent before");

    let replayed = gateway.alice().edit(&edit.header("x-stainless-retry-count", "1")).await;
    assert_eq!((replayed.cache(), replayed.header(WARNING)), ("joined", "inputs-unseen"));
    assert!(replayed.text().contains(COMMENT), "{}", replayed.text());
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn total_tokens_that_may_be_those_of_a_picture_are_no_warning() {
    let upstream = Upstream::start().await;
    // Without details, the rest of the object is what other relays report.
    let between = Relay::replacing(&upstream, "\"input_tokens_details\"", "\"left_out\"").await;
    let gateway = Gateway::at(&between.origin, &[]).await;
    let seen = gateway.alice().edit(&Edit::new("looked at")).await;
    assert_eq!(seen.header(WARNING), "", "194 tokens of a picture, and those of the prompt");
    assert_eq!(gateway.alice().edit(&Edit::new("looked at")).await.cache(), "hit");
}

#[tokio::test]
async fn without_usage_or_inputs_there_is_no_conclusion() {
    let upstream = Upstream::start().await;
    let between = Relay::replacing(&upstream, "\"usage\"", "\"left_out\"").await;
    let gateway = Gateway::at(&between.origin, &[]).await;
    let edit = Edit::new("no usage");
    assert_eq!(gateway.alice().edit(&edit).await.header(WARNING), "");
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit");

    let gateway = blind(&upstream, &[]).await;
    let body = json!({"prompt": "from text"});
    let generated = gateway.alice().generate(body.clone()).await;
    assert_eq!((generated.status, generated.header(WARNING)), (200, ""));
    assert_eq!(generated.json()["usage"]["input_tokens_details"]["image_tokens"], 0);
    assert_eq!(gateway.alice().generate(body).await.cache(), "hit");
}
