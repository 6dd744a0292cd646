//! What must not be paid twice: unknown outcomes, idempotency keys, and results that could not be stored.

use serde_json::json;

use crate::harness::{Edit, Gateway, Upstream, until};

/// A gateway with one purchase, of the prompt `lost`, whose outcome is unknown.
async fn with_an_unknown_outcome(changes: &[(&str, &str)]) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, changes).await;
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");
    assert_eq!(upstream.purchases().await, 1);
    (upstream, gateway)
}

#[tokio::test]
async fn an_unknown_outcome_refuses_every_repetition() {
    for cache in ["on", "off"] {
        let (upstream, gateway) = with_an_unknown_outcome(&[("cache.mode", cache)]).await;
        let plain = Edit::new("lost");
        let retry = plain.clone().header("x-stainless-retry-count", "1");
        let insisting_retry = retry.clone().header("cache-control", "no-cache");
        for repeat in [plain, retry, insisting_retry] {
            let answer = gateway.alice().edit(&repeat).await;
            answer.is_refused(502, "submission_outcome_unknown");
            assert_eq!(answer.header("x-should-retry"), "false");
        }
        assert_eq!(upstream.purchases().await, 1, "cache {cache}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_refuses_no_other_client_and_no_other_request() {
    let (upstream, gateway) = with_an_unknown_outcome(&[]).await;
    gateway.bob().edit(&Edit::new("lost")).await.picture();
    gateway.alice().edit(&Edit::new("another")).await.picture();
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn no_cache_or_a_new_idempotency_key_buys_after_an_unknown_outcome() {
    let (upstream, gateway) = with_an_unknown_outcome(&[]).await;
    gateway.alice().edit(&Edit::new("lost").header("cache-control", "no-cache")).await.picture();
    assert_eq!(upstream.purchases().await, 2);

    let (upstream, gateway) = with_an_unknown_outcome(&[]).await;
    gateway.alice().edit(&Edit::new("lost").header("idempotency-key", "new")).await.picture();
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn the_hold_survives_a_restart_and_ends_with_its_window() {
    let (upstream, gateway) = with_an_unknown_outcome(&[]).await;
    let gateway = gateway.restart().await;
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");

    let (no_hold, gateway) = with_an_unknown_outcome(&[("upstream.unknown_hold_s", "0")]).await;
    // The hold ends with the first tick of the clock.
    until("the hold has ended", async || gateway.alice().edit(&Edit::new("lost")).await.status == 200).await;
    assert_eq!((upstream.purchases().await, no_hold.purchases().await), (1, 2));
}

#[tokio::test]
async fn with_resubmit_an_unknown_outcome_is_bought_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.on_unknown", "resubmit")]).await;
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await.picture();
    assert_eq!(upstream.purchases().await, 2);
    let metrics = gateway.page("/metrics").await.1;
    assert!(metrics.contains("gptproto_gateway_engine_purchases_unknown_total 1\n"), "and the books say so: {metrics}");
    assert_eq!(gateway.status("engine", "unknown").await, 0, "with nothing left to decide about");
}

#[tokio::test]
async fn an_idempotency_key_buys_once() {
    for cache in ["on", "off"] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::with(&upstream, &[("cache.mode", cache)]).await;
        let edit = Edit::new("keyed").header("idempotency-key", "k-1");

        upstream.hold().await;
        let first = gateway.alice().begin(&edit);
        let second = gateway.alice().begin(&edit);
        until("both wait", async || gateway.status("engine", "waiters").await == 2).await;
        upstream.release().await;
        let (first, second) = (first.answer().await, second.answer().await);
        assert_eq!(first.picture(), second.picture());

        let gateway = gateway.restart().await;
        let replayed = gateway.alice().edit(&edit).await;
        assert_eq!(replayed.picture(), first.picture(), "also after a restart");
        assert_eq!(upstream.purchases().await, 1, "cache {cache}");
    }
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_one_request_of_one_client() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let keyed = |prompt: &str| Edit::new(prompt).header("idempotency-key", "k-1");
    gateway.alice().edit(&keyed("one")).await.picture();
    let other = gateway.alice().edit(&keyed("two")).await;
    other.is_refused(422, "idempotency_key_reused");
    assert_eq!(upstream.purchases().await, 1);
    gateway.bob().edit(&keyed("two")).await.picture();
    for nonsense in ["", "two words", &"x".repeat(256)] {
        let answer = gateway.alice().edit(&Edit::new("three").header("idempotency-key", nonsense)).await;
        answer.is_refused(400, "invalid_idempotency_key");
    }
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn an_idempotency_key_can_be_retried_after_a_failure_without_cost() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let keyed = Edit::new("keyed").header("idempotency-key", "k-1");
    // 400, as several 429s would give the model a cooldown.
    let gone = json!({"no_channel": ["gpt-image-1.5"], "no_channel_status": 400});
    upstream.set(json!({"models": gone})).await;
    gateway.alice().edit(&keyed).await.is_refused(503, "model_unavailable");
    upstream.set(json!({"models": {"no_channel": []}})).await;
    gateway.alice().edit(&keyed).await.picture();
}

#[tokio::test]
async fn an_idempotency_key_with_an_unknown_outcome_stays_unknown() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let keyed = Edit::new("keyed").header("idempotency-key", "k-1").header("cache-control", "no-cache");
    upstream.fault("submit", "drop_after", 1).await;
    for _ in 0..3 {
        gateway.alice().edit(&keyed).await.is_refused(502, "submission_outcome_unknown");
    }
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn without_free_disk_space_nothing_is_bought_and_the_gateway_is_not_ready() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("storage.free_bytes_min", "1000000000000000")]).await;
    let refused = gateway.alice().edit(&Edit::new("no room")).await;
    refused.is_refused(503, "disk_full");
    assert_eq!(refused.header("x-should-retry"), "true");
    assert_eq!(upstream.purchases().await, 0);
    let (status, page) = gateway.page("/readyz").await;
    assert_eq!(status, 503);
    assert!(page.contains("disk"), "{page}");
}
