//! Jobs by their address: created without waiting, polled, followed by events and cancelled.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Edit, Gateway, Program, Upstream, in_background, until};

const CACHE_OFF: (&str, &str) = ("cache.mode", "off");
/// One purchase at a time: the second job stays queued.
const ONE: (&str, &str) = ("upstream.concurrent_predictions", "1");

fn later(prompt: &str) -> Edit {
    Edit::new(prompt).header("prefer", "respond-async")
}

/// Asserts that a job was accepted, and returns its address.
#[track_caller]
fn address(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(answer.header("preference-applied").starts_with("respond-async"), "{:?}", answer.headers);
    let (location, body) = (answer.header("location"), answer.json());
    let id = body["id"].as_str().unwrap();
    assert!(id.starts_with("pred_"), "{id}");
    assert!(location.starts_with(&format!("/v1/predictions/{id}")), "{location}");
    location.to_owned()
}

/// The picture in the result of a prediction.
#[track_caller]
fn picture_in(object: &Value) -> Vec<u8> {
    assert_eq!(object["status"], "completed", "{object}");
    let text = object["result"]["data"][0]["b64_json"].as_str().unwrap();
    base64_simd::STANDARD.decode_to_vec(text).unwrap()
}

async fn status(client: &Client, address: &str) -> String {
    client.get(address).await.json()["status"].as_str().unwrap().to_owned()
}

async fn followed(gateway: &Gateway, count: u64) {
    until("the purchases are followed", async || gateway.status("engine", "polling").await == count).await;
}

#[tokio::test]
async fn an_async_job_is_accepted_and_fetched_later() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    upstream.hold().await;

    let taken = alice.edit(&later("later")).await;
    let address = address(&taken);
    let object = taken.json();
    let mut keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    keys.sort();
    let wanted = [
        "completed_at",
        "cost_estimated",
        "cost_usd",
        "created",
        "error",
        "expected_completion",
        "id",
        "inputs",
        "model",
        "n",
        "object",
        "predictions",
        "progress",
        "prompt",
        "quality",
        "queue_position",
        "result",
        "size",
        "status",
        "task",
    ];
    assert_eq!(keys, wanted);
    assert_eq!((&object["object"], &object["task"]), (&json!("prediction"), &json!("edit")));
    assert!(["queued", "submitting", "processing"].contains(&object["status"].as_str().unwrap()), "{object}");
    assert!(object["result"].is_null() && object["error"].is_null() && object["completed_at"].is_null());
    assert!(object["created"].is_u64());
    assert_eq!(taken.cache(), "miss");
    assert!(taken.header("retry-after").parse::<u64>().unwrap() >= 1);

    followed(&gateway, 1).await;
    let seen = alice.get(&address).await;
    assert_eq!((seen.status, &seen.json()["status"]), (200, &json!("processing")));
    let prediction = upstream.prediction().await["id"].clone();
    assert_eq!(seen.json()["predictions"], json!([prediction]));
    assert_eq!(seen.header("x-gateway-upstream-id"), prediction.as_str().unwrap());
    assert_eq!(seen.header("x-gateway-prediction"), seen.json()["id"].as_str().unwrap());

    upstream.release().await;
    let done = alice.prediction(&address, "wait=30").await;
    let object = done.json();
    let bytes = picture_in(&object);
    assert!(object["completed_at"].is_u64() && object["expected_completion"].is_null());
    assert_eq!(done.header("preference-applied"), "wait=30");
    // The result equals the synchronous response, byte for byte.
    let again = alice.edit(&Edit::new("later")).await;
    assert_eq!((again.cache(), again.picture()), ("hit", bytes));
    assert_eq!(again.json(), object["result"]);
    // Every form of the address, and a second time.
    for path in [address.replace("/v1", ""), format!("{address}/")] {
        assert_eq!(alice.get(&path).await.json(), object, "{path}");
    }
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn the_requested_presentation_is_part_of_the_address() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = later("by address").field("response_format", "url").field("safety_identifier", "a b");
    let edit = edit.field("output_format", "jpeg").field("output_compression", "70");
    let address = address(&gateway.alice().edit(&edit).await);
    let object = gateway.alice().prediction(&address, "wait=30").await.json();
    let url = object["result"]["data"][0]["url"].as_str().unwrap();
    assert_eq!(
        (&object["result"]["safety_identifier"], &object["result"]["output_format"]),
        (&json!("a b"), &json!("jpeg"))
    );
    assert!(object["result"]["data"][0]["b64_json"].is_null());
    assert_eq!(gateway.client("").get(url).await.header("content-type"), "image/jpeg");
    let plain = address.split('?').next().unwrap();
    picture_in(&gateway.alice().get(plain).await.json());
    gateway.alice().get(&format!("{plain}?response_format=x")).await.is_refused(400, "invalid_value");
}

#[tokio::test]
async fn a_job_is_invisible_to_other_clients() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let address = address(&gateway.alice().edit(&later("mine")).await);
    gateway.alice().prediction(&address, "wait=30").await;
    let nowhere = "/v1/predictions/pred_01jxw3k8rqb0h8z3w9x5y7v2da";
    let shape = |answer: &Answer| {
        let names = ["x-request-id", "openai-processing-ms", "date"];
        let headers = answer.headers.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        let mut headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        headers.sort();
        (answer.status, headers, answer.text())
    };
    let bob = gateway.bob();
    let mut shapes = Vec::new();
    for path in [address.as_str(), nowhere, "/v1/predictions/nonsense"] {
        let got = bob.prediction(path, "wait=1").await;
        got.is_refused(404, "prediction_not_found");
        shapes.push(shape(&got));
        let events = Answer::to(bob.request(Method::GET, path).header("accept", "text/event-stream")).await;
        shapes.push(shape(&events));
        shapes.push(shape(&bob.delete(path).await));
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:#?}");
    gateway.client("").get(&address).await.is_refused(401, "missing_api_key");
    picture_in(&gateway.alice().get(&address).await.json());
}

#[tokio::test]
async fn a_long_poll_returns_at_completion_or_at_its_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let address = address(&alice.edit(&later("soon")).await);

    let short = alice.prediction(&address, "wait=1").await;
    assert_ne!(short.json()["status"], "completed");
    assert_eq!(short.status, 200);

    let began = Instant::now();
    let waiting = {
        let (alice, address) = (alice.clone(), address.clone());
        in_background(async move { alice.prediction(&address, "wait=600").await })
    };
    until("it waits", async || gateway.status("engine", "waiters").await == 2).await;
    upstream.release().await;
    let done = waiting.await.unwrap();
    picture_in(&done.json());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(done.header("preference-applied"), "wait=30", "no longer than the gateway is patient");
}

#[tokio::test]
async fn an_async_request_that_completes_within_its_wait_gets_an_ordinary_response() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let patient = Edit::new("in time").header("prefer", "respond-async, wait=25");
    let answer = gateway.alice().edit(&patient).await;
    answer.picture();
    assert_eq!((answer.status, answer.header("location")), (200, ""));

    let longest = Edit::new("for ever").header("prefer", "respond-async, wait=18446744073709551615");
    gateway.alice().edit(&longest).await.picture();

    upstream.hold().await;
    let short = Edit::new("not in time").header("prefer", "respond-async").header("prefer", "wait=1");
    let taken = gateway.alice().edit(&short).await;
    let address = address(&taken);
    let applied: Vec<_> = taken.headers.get_all("preference-applied").iter().collect();
    assert_eq!(applied, ["respond-async", "wait=1"]);
    upstream.release().await;
    picture_in(&gateway.alice().prediction(&address, "wait=30").await.json());
}

#[tokio::test]
async fn an_async_request_may_be_a_hit_or_a_join() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    upstream.hold().await;
    let first = gateway.alice().edit(&later("shared")).await;
    let second = gateway.alice().edit(&later("shared")).await;
    assert_eq!(address(&first), address(&second));
    assert_eq!(second.cache(), "joined");
    upstream.release().await;
    gateway.alice().prediction(&address(&first), "wait=30").await;
    let hit = gateway.alice().edit(&later("shared")).await;
    assert_eq!((address(&hit), hit.cache()), (address(&first), "hit"));
    picture_in(&hit.json());
    assert_eq!(hit.header("retry-after"), "");
    assert_eq!(upstream.submits().await, 1);
}

/// Without the cache, two deliberate calls buy two pictures, even if the first is complete and not yet fetched.
#[tokio::test]
async fn without_the_cache_an_unclaimed_async_result_answers_no_other_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let first = address(&gateway.alice().edit(&later("twice")).await);
    until("the picture is stored", async || gateway.status("engine", "pictures").await == 1).await;
    let second = address(&gateway.alice().edit(&later("twice")).await);
    assert_ne!(first, second);
    gateway.alice().prediction(&second, "wait=30").await;
    assert_eq!(upstream.purchases().await, 2);
    let retried = later("twice").header("x-stainless-retry-count", "1");
    assert_eq!(gateway.alice().edit(&retried).await.cache(), "joined", "an SDK that did not hear of it");
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn an_async_request_that_fails_at_once_gets_its_error_at_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&later("bad").field("quality", "ultra")).await.is_refused(400, "invalid_value");
    upstream.set(json!({"life": {"outcome": "failed_provider"}})).await;
    let failed = gateway.alice().edit(&Edit::new("fails").header("prefer", "respond-async, wait=25")).await;
    failed.is_refused(502, "image_generation_failed");
    assert_eq!(failed.header("x-should-retry"), "false");

    upstream.hold().await;
    let address = address(&gateway.alice().edit(&later("fails later")).await);
    upstream.release().await;
    let answer = gateway.alice().prediction(&address, "wait=30").await;
    let object = answer.json();
    assert_eq!((answer.status, &object["status"]), (200, &json!("failed")));
    assert_eq!(object["error"]["code"], "image_generation_failed", "{object}");
    let mut keys: Vec<&String> = object["error"].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    assert!(object["completed_at"].is_u64() && object["result"].is_null());
}

#[tokio::test]
async fn a_queued_job_can_be_cancelled_and_a_bought_one_cannot() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let bought = address(&alice.edit(&later("bought")).await);
    followed(&gateway, 1).await;
    let queued = address(&alice.edit(&later("queued")).await);
    assert_eq!(status(&alice, &queued).await, "queued");
    assert_eq!(
        gateway.status("engine", "waiters").await,
        2,
        "both jobs have a waiter, although no client is connected"
    );

    let gone = alice.delete(&queued).await;
    assert_eq!((gone.status, &gone.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(status(&alice, &queued).await, "cancelled");
    until("its slot is free", async || gateway.status("upstream", "queued_submits").await == 0).await;
    assert_eq!(alice.get(&queued).await.json()["error"]["code"], "abandoned");
    assert_eq!(alice.delete(&queued).await.json()["deleted"], true, "it has ended, so it is deleted now");
    alice.get(&queued).await.is_refused(404, "prediction_not_found");

    let refused = alice.delete(&bought).await;
    refused.is_refused(409, "prediction_submitted");
    assert_eq!(refused.header("x-should-retry"), "false");
    upstream.release().await;
    picture_in(&alice.prediction(&bought, "wait=30").await.json());
    assert_eq!(alice.delete(&bought).await.json()["deleted"], true);
    alice.get(&bought).await.is_refused(404, "prediction_not_found");
    assert_eq!(upstream.submits().await, 1);
    let wrong = Answer::to(alice.request(Method::POST, &bought)).await;
    wrong.is_refused(405, "method_not_supported");
    assert_eq!(wrong.header("allow"), "GET, DELETE");
}

#[tokio::test]
async fn a_cancelled_job_continues_for_other_waiters() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let first = alice.begin(&Edit::new("holds the place"));
    followed(&gateway, 1).await;
    let queued = address(&alice.edit(&later("shared")).await);
    let waiting = alice.begin(&Edit::new("shared"));
    until("it waits with it", async || gateway.status("engine", "waiters").await == 3).await;

    let answer = alice.delete(&queued).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("queued")), "it continues for the other waiter");
    upstream.release().await;
    first.answer().await.picture();
    waiting.answer().await.picture();
    picture_in(&alice.get(&queued).await.json());
}

#[tokio::test]
async fn a_long_poll_does_not_keep_a_cancelled_job_alive() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let first = alice.begin(&Edit::new("holds the place"));
    followed(&gateway, 1).await;
    let queued = address(&alice.edit(&later("queued")).await);
    let polling = {
        let (alice, queued) = (alice.clone(), queued.clone());
        in_background(async move { alice.prediction(&queued, "wait=30").await })
    };
    until("the long poll waits", async || gateway.status("engine", "waiters").await == 3).await;
    assert_eq!(alice.delete(&queued).await.json()["status"], "cancelled");
    assert_eq!(polling.await.unwrap().json()["status"], "cancelled");
    upstream.release().await;
    first.answer().await.picture();
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_jobs_progress_is_streamed_as_events() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE, ("server.stream_heartbeat_ms", "50")]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let first = alice.begin(&Edit::new("holds the place"));
    followed(&gateway, 1).await;
    let queued = address(&alice.edit(&later("followed")).await);
    let following = {
        let request = alice.request(Method::GET, &queued).header("accept", "text/event-stream");
        in_background(Answer::to(request))
    };
    until("it is followed", async || gateway.status("engine", "waiters").await == 3).await;
    upstream.release().await;
    first.answer().await.picture();

    let answer = following.await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    let text = answer.text();
    let events: Vec<(&str, Value)> = text
        .split_terminator("\n\n")
        .filter(|block| !block.starts_with(':'))
        .map(|block| {
            let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            (name, serde_json::from_str(data).unwrap())
        })
        .collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
    assert!(names.starts_with(&["prediction.status"]), "{names:?}");
    assert!(names.ends_with(&["image_edit.completed", "prediction.status"]), "{names:?}");
    let statuses: Vec<&Value> =
        events.iter().filter(|(name, _)| name.starts_with("pred")).map(|(_, data)| data).collect();
    assert_eq!(statuses[0]["status"], "queued");
    assert!(statuses.iter().any(|object| object["status"] == "processing"), "{statuses:?}");
    let last = statuses.last().unwrap();
    assert_eq!((&last["status"], &last["result"]), (&json!("completed"), &Value::Null));

    // A job that has ended already.
    let request = alice.request(Method::GET, &queued).header("accept", "text/event-stream");
    let text = Answer::to(request).await.text();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at("event: image_edit.completed") < at("event: prediction.status"));
    assert!(!text.contains("\"status\":\"queued\""));
}

#[tokio::test]
async fn cancelling_a_job_ends_its_event_stream() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    let alice = gateway.alice();
    upstream.hold().await;
    let first = alice.begin(&Edit::new("holds the place"));
    followed(&gateway, 1).await;
    let queued = address(&alice.edit(&later("followed")).await);
    let request = alice.request(Method::GET, &queued).header("accept", "text/event-stream");
    let following = in_background(Answer::to(request));
    until("it is followed", async || gateway.status("engine", "waiters").await == 3).await;
    alice.delete(&queued).await;
    let text = following.await.unwrap().text();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at("\"status\":\"cancelled\"") < at("event: error"), "{text}");
    upstream.release().await;
    first.answer().await.picture();
}

#[tokio::test]
async fn after_a_restart_bought_jobs_complete_and_queued_ones_fail() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    upstream.hold().await;
    let bought = address(&gateway.alice().edit(&later("bought")).await);
    followed(&gateway, 1).await;
    let queued = address(&gateway.alice().edit(&later("queued")).await);

    let gateway = gateway.restart().await;

    let alice = gateway.alice();
    let dropped = alice.get(&queued).await;
    let object = dropped.json();
    assert_eq!((&object["status"], &object["error"]["code"]), (&json!("failed"), &json!("stopping")), "{object}");
    assert_eq!(status(&alice, &bought).await, "processing");
    upstream.release().await;
    let bytes = picture_in(&alice.prediction(&bought, "wait=30").await.json());
    let gateway = gateway.restart().await;
    assert_eq!(picture_in(&gateway.alice().get(&bought).await.json()), bytes);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn after_a_crash_bought_jobs_complete_and_queued_ones_fail() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).variable("GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS", "1");
    let serving = program.serve(&["serve"]).await;
    upstream.hold().await;
    let bought = address(&serving.alice().edit(&later("bought")).await);
    serving.follows(1).await;
    let queued = address(&serving.alice().edit(&later("queued")).await);
    // A client that has its 202 finds its job again after any failure.
    serving.kill();

    let serving = program.serve(&["serve"]).await;
    let dropped = serving.alice().get(&queued).await.json();
    assert_eq!((&dropped["status"], &dropped["error"]["code"]), (&json!("failed"), &json!("stopping")), "{dropped}");
    upstream.release().await;
    picture_in(&serving.alice().prediction(&bought, "wait=30").await.json());
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn prefer_applies_to_generations_and_not_to_streams() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let streamed = gateway.alice().edit(&later("streamed").field("stream", "true")).await;
    assert_eq!((streamed.status, streamed.header("content-type")), (200, "text/event-stream"));
    let other = Edit::new("other").header("prefer", "return=minimal, wait=1");
    gateway.alice().edit(&other).await.picture();
    let generated = Answer::to(
        gateway
            .alice()
            .request(Method::POST, "/v1/images/generations/")
            .header("prefer", "respond-async")
            .json(&json!({"model": "gpt-image-1.5", "prompt": "x", "quality": "low", "size": "256x256"})),
    )
    .await;
    let object = gateway.alice().prediction(&address(&generated), "wait=30").await.json();
    assert_eq!(object["task"], "generation");
    picture_in(&object);
}

#[tokio::test]
async fn the_expected_time_comes_from_learned_generation_times() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[ONE]).await;
    gateway.alice().edit(&Edit::new("teaches")).await.picture();
    upstream.hold().await;
    let first = gateway.alice().edit(&later("under way")).await;
    followed(&gateway, 1).await;
    let second = gateway.alice().edit(&later("queued")).await;
    for taken in [first, second] {
        let object = gateway.alice().get(&address(&taken)).await.json();
        let (created, expected) =
            (object["created"].as_i64().unwrap(), object["expected_completion"].as_i64().unwrap());
        assert!((created..created + 60).contains(&expected), "{object}");
    }
    upstream.release().await;
}
