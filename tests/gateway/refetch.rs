//! Stored pictures that are damaged: fetched again by the upstream's id, and bought only where the client asks for that.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Answer, Edit, Gateway, Upstream, until};

/// Small pictures are stored in the journal otherwise.
const EVERY_PICTURE_A_FILE: (&str, &str) = ("storage.journal_picture_bytes_max", "0");

async fn on_files(upstream: &Upstream) -> Gateway {
    Gateway::with(upstream, &[EVERY_PICTURE_A_FILE]).await
}

/// Removes, cuts or changes files.
fn spoil(files: Vec<PathBuf>, how: &str) {
    for file in files {
        let mut bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        match how {
            "removed" => continue,
            "shortened" => bytes.truncate(100),
            _ => bytes[60] ^= 1,
        }
        std::fs::write(&file, bytes).unwrap();
    }
}

/// Restarts a gateway, with all stored pictures damaged meanwhile.
async fn damaged(gateway: Gateway, how: &str) -> Gateway {
    let stopped = gateway.stop().await;
    spoil(stopped.picture_files(), how);
    stopped.start().await
}

async fn metric(gateway: &Gateway, line: &str) -> bool {
    gateway.page("/metrics").await.1.lines().any(|one| one == line)
}

/// A gateway that gives a refetch up after a second.
async fn quick(upstream: &Upstream) -> Gateway {
    Gateway::with(upstream, &[("upstream.refetch_timeout_s", "1"), EVERY_PICTURE_A_FILE]).await
}

#[track_caller]
fn is_lost(answer: &Answer) {
    answer.is_refused(502, "result_lost");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(answer.message().contains("no-cache"), "{}", answer.message());
}

#[tokio::test]
async fn a_picture_missing_or_changed_on_disk_is_fetched_again() {
    let upstream = Upstream::start().await;
    let mut gateway = on_files(&upstream).await;
    let edit = Edit::new("spoiled");
    let first = gateway.alice().edit(&edit).await.picture();
    for how in ["removed", "shortened", "changed"] {
        gateway = damaged(gateway, how).await;
        let again = gateway.alice().edit(&edit).await;
        assert_eq!(again.cache(), "joined", "{how}");
        assert_eq!(again.picture(), first, "{how}");
        assert!(metric(&gateway, "gptproto_gateway_engine_refetches_total{result=\"restored\"} 1").await);
        assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit", "{how}");
    }
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn every_way_to_a_damaged_picture_fetches_it_again() {
    let upstream = Upstream::start().await;
    let mut gateway = on_files(&upstream).await;
    let edit = Edit::new("by every way").header("idempotency-key", "one");
    let by_url = gateway.alice().edit(&edit.clone().field("response_format", "url")).await;
    let prediction = by_url.header("x-gateway-prediction").to_owned();
    let url = by_url.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let address = format!("/v1/{}", url.split_once("/v1/").unwrap().1);
    let first = gateway.client("").get(&address).await.bytes;

    gateway = damaged(gateway, "removed").await;
    assert_eq!(gateway.client("").get(&address).await.bytes, first, "the signed address");

    gateway = damaged(gateway, "changed").await;
    assert_eq!(gateway.alice().edit(&edit).await.picture(), first, "the idempotency key");

    gateway = damaged(gateway, "changed").await;
    let streamed = gateway.alice().edit(&edit.clone().field("stream", "true")).await;
    assert_eq!(streamed.status, 200);
    let text = streamed.text();
    assert!(text.contains("image_edit.completed") && text.contains("b64_json"), "a stream: {text:.200}");

    gateway = damaged(gateway, "shortened").await;
    let path = format!("/v1/predictions/{prediction}");
    let shown = gateway.alice().prediction(&path, "wait=20").await.json();
    assert_eq!(shown["status"], "completed", "the address of the job: {shown}");

    gateway = damaged(gateway, "removed").await;
    let accepted = gateway.alice().edit(&edit.clone().header("prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    until("the job is complete", async || gateway.alice().get(&path).await.json()["status"] == "completed").await;
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn several_requests_share_one_refetch() {
    let upstream = Upstream::start().await;
    let gateway = on_files(&upstream).await;
    let edit = Edit::new("shared");
    let first = gateway.alice().edit(&edit).await.picture();
    let gateway = damaged(gateway, "removed").await;
    upstream.hold().await;
    let waiting = [(); 5].map(|()| gateway.alice().begin(&edit));
    until("all wait", async || gateway.status("engine", "waiters").await == 5).await;
    assert_eq!(gateway.status("engine", "polling").await, 1);
    upstream.release().await;
    for answer in waiting {
        assert_eq!(answer.answer().await.picture(), first);
    }
    assert_eq!(upstream.submits().await, 1);
    assert!(metric(&gateway, "gptproto_gateway_engine_refetches_total{result=\"restored\"} 1").await);
}

#[tokio::test]
async fn a_picture_that_cannot_be_fetched_again_is_lost_and_bought_on_request_alone() {
    let upstream = Upstream::start().await;
    let gateway = quick(&upstream).await;
    let edit = Edit::new("gone");
    let keyed = edit.clone().header("idempotency-key", "one");
    let first = gateway.alice().edit(&keyed).await;
    let path = format!("/v1/predictions/{}", first.header("x-gateway-prediction"));
    first.picture();
    let gateway = damaged(gateway, "removed").await;
    upstream.hold().await;
    is_lost(&gateway.alice().edit(&edit).await);
    assert!(metric(&gateway, "gptproto_gateway_engine_refetches_total{result=\"lost\"} 1").await);
    is_lost(&gateway.alice().edit(&keyed).await);
    is_lost(&gateway.alice().edit(&edit.clone().header("x-stainless-retry-count", "1")).await);
    let shown = gateway.alice().get(&path).await.json();
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("result_lost")), "{shown}");
    assert_eq!(upstream.submits().await, 1, "the same key and the same request buy nothing");
    upstream.release().await;

    let fresh = gateway.alice().edit(&edit.clone().header("cache-control", "no-cache")).await;
    assert_eq!(fresh.cache(), "bypass");
    fresh.picture();
    assert_eq!(upstream.submits().await, 2);
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit", "the new result answers from now on");
    gateway.alice().edit(&keyed).await.picture();
    assert_eq!(
        upstream.submits().await,
        2,
        "the simulator drew the same picture, so the earlier result is whole again"
    );
    gateway.alice().edit(&edit.clone().header("idempotency-key", "two")).await.picture();
    assert_eq!(upstream.submits().await, 2, "a key that is new gets what is stored");
}

#[tokio::test]
async fn a_refetch_that_a_restart_interrupts_begins_again_and_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = on_files(&upstream).await;
    let edit = Edit::new("interrupted");
    let first = gateway.alice().edit(&edit).await.picture();
    let gateway = damaged(gateway, "removed").await;
    upstream.hold().await;
    let waiting = gateway.alice().begin(&edit);
    until("it is polled", async || gateway.status("engine", "polling").await == 1).await;
    let gateway = gateway.restart().await;
    waiting.answer().await.is_refused(503, "restarting");
    assert_eq!(gateway.status("engine", "polling").await, 0);
    upstream.release().await;
    assert_eq!(gateway.alice().edit(&edit).await.picture(), first);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_result_without_an_id_at_the_upstream_is_lost_at_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.api", "openai"), EVERY_PICTURE_A_FILE]).await;
    let edit = Edit::new("immediate");
    gateway.alice().edit(&edit).await.picture();
    let gateway = damaged(gateway, "changed").await;
    is_lost(&gateway.alice().edit(&edit).await);
    assert_eq!(upstream.submits().await, 1);
    gateway.alice().edit(&edit.clone().header("cache-control", "no-cache")).await.picture();
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn a_picture_damaged_in_the_journal_is_fetched_again_and_becomes_a_file() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("spoiled in the journal");
    let first = gateway.alice().edit(&edit).await.picture();
    for (how, files) in [("bytes = zeroblob(length(bytes))", 1), ("bytes = zeroblob(5)", 1)] {
        let stopped = gateway.stop().await;
        let journal = rusqlite::Connection::open(stopped.journal()).unwrap();
        assert_eq!(journal.execute(&format!("UPDATE contents SET {how}"), ()).unwrap(), 1);
        drop(journal);
        // What was fetched again before.
        spoil(stopped.picture_files(), "removed");
        gateway = stopped.start().await;
        let again = gateway.alice().edit(&edit).await;
        assert_eq!((again.cache(), again.picture()), ("joined", first.clone()), "{how}");
        let stopped = gateway.stop().await;
        assert_eq!(stopped.picture_files().len(), files, "{how}");
        gateway = stopped.start().await;
        assert_eq!(gateway.alice().edit(&edit).await.picture(), first, "{how}");
    }
    assert_eq!(upstream.submits().await, 1);
}
