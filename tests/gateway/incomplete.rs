//! Jobs of several purchases that brought pictures, but not all: every form of answer says so, and what may have been paid
//! for is not bought again.

use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Program, Upstream, until};

const UNKNOWN: &str = "submission_outcome_unknown";

/// An edit of three purchases.
fn three() -> Edit {
    let edit = Edit::new("three of them").field("model", "gpt-image-2-plus").field("size", "1254x1254");
    edit.field("n", "3").without("quality")
}

/// An upstream that loses the answer to the first submit.
async fn losing_one() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.fault("submit", "drop_after", 1).await;
    upstream
}

/// Asserts that one picture of three is reported as perhaps bought; returns the other two.
#[track_caller]
fn two_of_three(answer: &Answer) -> Vec<Vec<u8>> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    warns(&answer.json());
    answer.pictures()
}

/// Asserts that a JSON object warns of one picture that may have been bought.
#[track_caller]
fn warns(object: &Value) {
    let warnings = object["warnings"].as_array().unwrap_or_else(|| panic!("no warnings in {object}"));
    let [warning] = &**warnings else { panic!("{warnings:?}") };
    assert_eq!((&warning["code"], &warning["pictures"]), (&json!(UNKNOWN), &json!(1)), "{warning}");
    assert!(warning["message"].as_str().unwrap().contains("may have cost money"), "{warning}");
}

fn has_headers(answer: &Answer) -> bool {
    (answer.header("x-gateway-missing"), answer.header("x-gateway-warning")) == ("1", "outcome-unknown")
}

#[tokio::test]
async fn an_unknown_outcome_among_several_holds_every_repetition() {
    for cache in ["on", "off"] {
        let upstream = losing_one().await;
        let gateway = Gateway::with(&upstream, &[("cache.mode", cache)]).await;
        let first = gateway.alice().edit(&three()).await;
        assert!(has_headers(&first), "{:?}", first.headers);
        let pictures = two_of_three(&first);
        assert_eq!(pictures.len(), 2);
        let retry = three().header("x-stainless-retry-count", "1");
        let insisting_retry = retry.clone().header("cache-control", "no-cache");
        for repeat in [three(), retry, insisting_retry] {
            let again = gateway.alice().edit(&repeat).await;
            assert!(has_headers(&again) && again.cache() == "joined", "{:?}", again.headers);
            assert_eq!(two_of_three(&again), pictures);
        }
        let gateway = gateway.restart().await;
        assert_eq!(two_of_three(&gateway.alice().edit(&three()).await), pictures);
        assert_eq!(upstream.purchases().await, 3, "cache {cache}");

        gateway.bob().edit(&three()).await;
        assert_eq!(upstream.purchases().await, 6, "another client's request is its own");
        let forced = gateway.alice().edit(&three().header("cache-control", "no-cache")).await;
        assert_eq!((forced.pictures().len(), upstream.purchases().await), (3, 9));
    }
}

#[tokio::test]
async fn after_the_hold_an_incomplete_result_answers_no_other_request() {
    let upstream = losing_one().await;
    let gateway = Gateway::with(&upstream, &[("upstream.unknown_hold_s", "0")]).await;
    assert_eq!(two_of_three(&gateway.alice().edit(&three()).await).len(), 2);
    // A hold of 0 s ends with the first tick of the clock.
    until("it is bought again", async || gateway.alice().edit(&three()).await.pictures().len() == 3).await;
    assert_eq!(upstream.purchases().await, 6);
}

#[tokio::test]
async fn an_idempotency_key_brings_the_same_incomplete_answer() {
    let upstream = losing_one().await;
    let gateway = Gateway::on(&upstream).await;
    let keyed = three().header("idempotency-key", "three");
    let pictures = two_of_three(&gateway.alice().edit(&keyed).await);
    let gateway = gateway.restart().await;
    let again = gateway.alice().edit(&keyed).await;
    assert!(has_headers(&again));
    assert_eq!((two_of_three(&again), upstream.purchases().await), (pictures, 3));
    gateway.alice().edit(&three().header("idempotency-key", "another")).await;
    assert_eq!(upstream.purchases().await, 6, "a new key forces a purchase");
}

#[tokio::test]
async fn an_idempotency_key_is_held_after_its_pictures_are_evicted() {
    let upstream = losing_one().await;
    let changes = [("storage.results_bytes_max", "1"), ("storage.eviction_interval_s", "1")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let keyed = three().header("idempotency-key", "three");
    two_of_three(&gateway.alice().edit(&keyed).await);
    until("its pictures are evicted", async || {
        let again = gateway.alice().edit(&keyed).await;
        assert_eq!(upstream.purchases().await, 3);
        again.status == 502 && again.json()["error"]["code"] == UNKNOWN
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_an_error_after_its_pictures() {
    for first_is_stream in [true, false] {
        let upstream = losing_one().await;
        let gateway = Gateway::on(&upstream).await;
        if !first_is_stream {
            two_of_three(&gateway.alice().edit(&three()).await);
        }
        let answer = gateway.alice().edit(&three().field("stream", "true")).await;
        let text = answer.text();
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names, ["image_edit.completed", "image_edit.completed", "error"], "{text}");
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let error = &serde_json::from_str::<Value>(last).unwrap()["error"];
        assert_eq!(error["code"], UNKNOWN, "{error}");
        two_of_three(&gateway.alice().edit(&three()).await);
        assert_eq!(upstream.purchases().await, 3);
    }
}

#[tokio::test]
async fn addresses_and_padded_json_warn_too() {
    let upstream = losing_one().await;
    let gateway = Gateway::with(&upstream, &[("server.json_heartbeat_s", "1")]).await;
    upstream.hold().await;
    let mut pending = gateway.alice().begin(&three());
    // White space: the head has been sent.
    pending.first_bytes().await;
    upstream.release().await;
    let padded = pending.answer().await;
    assert_eq!(padded.header("x-gateway-warning"), "", "it was not known yet");
    two_of_three(&padded);
    let urls = gateway.alice().edit(&three().field("response_format", "url")).await;
    warns(&urls.json());
    assert_eq!(urls.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn a_prediction_and_its_events_warn_too() {
    let upstream = losing_one().await;
    let gateway = Gateway::on(&upstream).await;
    let taken = gateway.alice().edit(&three().header("prefer", "respond-async")).await;
    let address = taken.header("location").to_owned();
    for _ in 0..2 {
        let object = gateway.alice().prediction(&address, "wait=30").await.json();
        assert_eq!(object["status"], "completed", "{object}");
        warns(&object);
        warns(&object["result"]);
        assert_eq!(object["result"]["data"].as_array().unwrap().len(), 2);
    }
    let followed = gateway.alice().request(reqwest::Method::GET, &address).header("accept", "text/event-stream");
    let text = Answer::to(followed).await.text();
    let status = text.lines().filter_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str::<Value>);
    let status = status.map(Result::unwrap).find(|data| data["object"] == "prediction");
    warns(&status.expect("a status event"));
    assert!(text.contains("event: error\n"), "{text}");
}

#[tokio::test]
async fn an_operator_ends_the_hold() {
    let upstream = losing_one().await;
    let program = Program::on(&upstream);
    let running = program.serve(&[]).await;
    two_of_three(&running.alice().edit(&three()).await);
    let unknown = program.run(&["ledger", "list", "--state", "unknown", "--json"]).await;
    assert_eq!(unknown.stdout.lines().count(), 1, "{}", unknown.stdout);
    let unknown: Value = serde_json::from_str(&unknown.stdout).unwrap();
    let resolved = program.run(&["ledger", "resolve", unknown["purchase_id"].as_str().unwrap(), "lost"]).await;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    assert_eq!(running.alice().edit(&three()).await.pictures().len(), 3);
    assert_eq!(upstream.purchases().await, 6);
}

#[tokio::test]
async fn pictures_that_were_not_bought_are_said_not_to_be() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    upstream.set(json!({"result": {"missing_outputs": 1}})).await;
    let answer = gateway.alice().edit(&Edit::new("two of them").field("n", "2")).await;
    let object = answer.json();
    assert_eq!(object["warnings"][0]["code"], "result_lost", "{object}");
    assert_eq!(answer.header("x-gateway-warning"), "", "no outcome is unknown");
    assert_eq!(answer.pictures().len(), 1);
}
