//! Responses that begin before their pictures exist: events, interim responses, heartbeats before JSON.

use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, Client, Edit, Gateway, Raw, Upstream, digest, size_of, until};

/// Frequent comments, and almost no wait before the stream begins.
const QUICK: [(&str, &str); 2] = [("server.stream_heartbeat_ms", "100"), ("server.stream_grace_ms", "50")];

/// The events of a whole stream: names with their data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("x-accel-buffering"), "no");
    let text = answer.text();
    assert!(text.ends_with("\n\n"), "the last event is whole");
    let blocks = text.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    let event = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data = data.strip_prefix("data: ").unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
    };
    blocks.map(event).collect()
}

fn picture_of(event: &Value) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(event["b64_json"].as_str().unwrap()).unwrap()
}

/// The head and the body of a streamed generation, as bytes.
fn raw_generation(body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST /v1/images/generations HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ALICE}\r\n\
         user-agent: OpenAI/Python 3.51.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn an_edit_is_streamed_with_every_field() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &QUICK).await;
    let answer = gateway.alice().edit(&Edit::new("cat").field("stream", "true").field("partial_images", "2")).await;
    let events = events(&answer);
    assert_eq!(events.len(), 1, "no partial pictures are made up");
    let (name, event) = &events[0];
    assert_eq!((name.as_str(), &event["type"]), ("image_edit.completed", &json!("image_edit.completed")));
    assert_eq!(size_of(&picture_of(event)), (256, 256));
    let mut keys: Vec<&String> = event.as_object().unwrap().keys().collect();
    keys.sort();
    let wanted = ["b64_json", "background", "created_at", "output_format", "quality", "size", "type", "usage"];
    assert_eq!(keys, wanted);
    assert_eq!(
        (&event["quality"], &event["size"], &event["background"]),
        (&json!("low"), &json!("256x256"), &json!("opaque"))
    );
    let usage = &event["usage"];
    assert_eq!(
        usage["total_tokens"],
        usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap()
    );
    assert!(usage["input_tokens_details"]["text_tokens"].is_u64());
    // The same edit without a stream is the same purchase, and vice versa.
    assert_eq!(digest(&gateway.alice().edit(&Edit::new("cat")).await.picture()), digest(&picture_of(event)));
    let again = gateway.alice().edit(&Edit::new("cat").field("stream", "1")).await;
    assert_eq!((again.cache(), upstream.purchases().await), ("hit", 1));
}

#[tokio::test]
async fn a_stream_sends_each_picture_when_it_is_ready() {
    let upstream = Upstream::start().await;
    let one = ("upstream.concurrent_predictions", "1");
    let gateway = Gateway::with(&upstream, &[QUICK[0], QUICK[1], one, ("upstream.pushback_ms", "4000")]).await;
    // The second purchase is delayed for longer than a busy machine takes to read the first.
    upstream.fault_after("submit", "status_429", 1, 1).await;
    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(raw_generation(&json!({"model": "gpt-image-2-plus", "prompt": "two", "n": 2, "stream": true}))).await;
    let text = raw.until("image_generation.completed\ndata: {").await;
    assert!(text.contains("\n: queued\n\n") || text.contains("\n: processing\n\n"), "{text}");
    assert_eq!(upstream.purchases().await, 1, "the first is sent before the second is bought");
    let text = raw.until("\r\n0\r\n\r\n").await;
    assert_eq!(text.matches("event: image_generation.completed").count(), 2);
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn an_early_failure_has_a_status_and_a_late_one_is_an_event() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[QUICK[0], ("server.stream_grace_ms", "5000")]).await;
    let streamed = |prompt: &str| Edit::new(prompt).field("stream", "true");
    gateway.alice().edit(&streamed("a forbidden-picture")).await.is_refused(400, "moderation_blocked");

    let gateway = Gateway::with(&upstream, &QUICK).await;
    upstream.hold().await;
    upstream.set(json!({"policy": {"answer": "task"}})).await;
    let mut answer = gateway.alice().begin(&streamed("a forbidden-picture, refused late"));
    until("it is bought", async || upstream.purchases().await == 1).await;
    answer.first_bytes().await;
    upstream.release().await;
    let answer = answer.answer().await;
    let events = events(&answer);
    assert_eq!(events.len(), 1);
    let (name, event) = &events[0];
    assert_eq!((name.as_str(), &event["type"]), ("error", &json!("error")));
    assert_eq!(event["error"]["code"], "moderation_blocked");
    for key in ["message", "type", "param"] {
        assert!(event["error"].get(key).is_some(), "{key}");
    }
    assert!(answer.text().contains(": processing\n\n"), "{}", answer.text());
    let (_, page) = gateway.page("/metrics").await;
    assert!(
        page.contains("gptproto_gateway_api_streaming_responses_total{mode=\"events\",code=\"moderation_blocked\"} 1"),
        "{page}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_gets_the_picture_later() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[QUICK[0], QUICK[1], ("cache.mode", "off")]).await;
    upstream.hold().await;
    let edit = Edit::new("later").field("stream", "true");
    let pending = gateway.alice().begin(&edit);
    until("it is bought", async || upstream.purchases().await == 1).await;
    pending.disconnect().await;
    upstream.release().await;
    let again = gateway.alice().edit(&edit).await;
    assert_eq!(events(&again).len(), 1);
    assert_eq!(upstream.purchases().await, 1, "it was not delivered");
    let third = gateway.alice().edit(&edit).await;
    assert_eq!((events(&third).len(), upstream.purchases().await), (1, 2), "the second had it");
}

#[tokio::test]
async fn a_stream_outlasts_the_timeout_of_plain_responses() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[QUICK[0], QUICK[1], ("server.response_timeout_s", "1")]).await;
    upstream.hold().await;
    let edit = Edit::new("long").header("x-stainless-read-timeout", "1");
    let plain = gateway.alice().begin(&edit);
    let streamed = gateway.alice().begin(&edit.clone().field("stream", "true"));
    plain.answer().await.is_refused(504, "prediction_still_running");
    upstream.release().await;
    assert_eq!(events(&streamed.answer().await).len(), 1);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn invalid_stream_parameters_are_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let refused = gateway.alice().edit(&Edit::new("x").field("stream", "true").field("response_format", "url")).await;
    refused.is_refused(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "response_format");
    gateway.alice().edit(&Edit::new("x").field("stream", "perhaps")).await.is_refused(400, "invalid_type");
    gateway.alice().edit(&Edit::new("x").field("partial_images", "4")).await.is_refused(400, "integer_above_max_value");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn only_known_clients_receive_102() {
    let upstream = Upstream::start().await;
    let known = [("server.interim_responses", "known_clients"), ("server.interim_interval_s", "1")];
    let gateway = Gateway::with(&upstream, &known).await;
    upstream.hold().await;
    let body = json!({"model": "gpt-image-2-plus", "prompt": "slow"});
    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(raw_generation(&body)).await;
    let processing = "HTTP/1.1 102 Processing\r\n\r\n";
    assert_eq!(raw.until(processing).await, processing);
    raw.until(&processing.repeat(2)).await;
    upstream.release().await;
    let text = raw.until("\"usage\"").await;
    let rest = text.trim_start_matches(processing);
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{}", &rest[..100]);
    assert!(!rest.contains("102 Processing"));

    // An unknown client receives nothing while a known one, which joins it later, receives two.
    let known = raw_generation(&json!({"model": "gpt-image-2-plus", "prompt": "slower"}));
    upstream.hold().await;
    let mut raw = Raw::to(&gateway.address()).await;
    raw.send(known.replace("OpenAI/Python 3.51.0", "python-requests/2.32")).await;
    until("it is bought", async || upstream.purchases().await == 2).await;
    let mut joined = Raw::to(&gateway.address()).await;
    joined.send(known).await;
    joined.until(&processing.repeat(2)).await;
    upstream.release().await;
    assert!(raw.until("\"usage\"").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn json_heartbeats_precede_a_late_response() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.json_heartbeat_s", "1")]).await;
    let quick = gateway.alice().edit(&Edit::new("quick")).await;
    assert!(
        quick.text().starts_with('{') && !quick.header("content-length").is_empty(),
        "in time: an ordinary response"
    );
    gateway.alice().edit(&Edit::new("a forbidden-picture")).await.is_refused(400, "moderation_blocked");

    upstream.hold().await;
    let mut slow = gateway.alice().begin(&Edit::new("slow"));
    until("it is bought", async || upstream.purchases().await == 2).await;
    slow.first_bytes().await;
    upstream.release().await;
    let slow = slow.answer().await;
    assert!(slow.text().starts_with(" {") || slow.text().starts_with("  {"), "{}", &slow.text()[..20]);
    assert_eq!((size_of(&slow.picture()), slow.cache()), ((256, 256), "miss"));
}

#[tokio::test]
async fn a_failure_after_json_heartbeats_is_reported_to_the_retry() {
    let upstream = Upstream::with(json!({"life": {"outcome": "failed_provider"}})).await;
    let gateway = Gateway::with(&upstream, &[("server.json_heartbeat_s", "1")]).await;
    let client: Client = gateway.alice();
    let edit = Edit::new("fails late");
    for (retry, purchases) in [(false, 1), (true, 1), (true, 2)] {
        let retried = edit.clone().header("x-stainless-retry-count", if retry { "1" } else { "0" });
        if retry && purchases == 1 {
            client.edit(&retried).await.is_refused(502, "image_generation_failed");
            assert_eq!(upstream.purchases().await, 1, "the retry gets the error and buys nothing");
            continue;
        }
        upstream.hold().await;
        let mut pending = client.begin(&retried);
        until("it is bought", async || upstream.purchases().await == purchases).await;
        pending.first_bytes().await;
        upstream.release().await;
        pending.breaks().await;
    }
}
