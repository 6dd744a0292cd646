//! Upstream accounts: refused keys, unpublished limits, unavailable models.

use serde_json::{Value, json};

use crate::harness::{Edit, Gateway, OTHER_UPSTREAM_KEY, UPSTREAM_KEY, Upstream, until};

/// A second account beside the first.
fn both() -> (&'static str, &'static str) {
    ("GPTPROTO_API_KEYS", "other:sk-upstream-vQ7kZp3XvQ7kZp3XvQ7kZp3X-other")
}

async fn account(gateway: &Gateway, index: usize) -> Value {
    let (_, text) = gateway.page("/status.json").await;
    serde_json::from_str::<Value>(&text).unwrap()["upstream"]["accounts"][index].clone()
}

#[tokio::test]
async fn a_refused_key_cools_down_and_is_retried_without_a_failed_request() {
    assert!(both().1.ends_with(OTHER_UPSTREAM_KEY));
    let upstream = Upstream::with(json!({"auth": {"revoked": [UPSTREAM_KEY]}})).await;
    let gateway = Gateway::with(&upstream, &[both(), ("upstream.account_cooldown_max_s", "1")]).await;
    for number in 0..4 {
        gateway.alice().edit(&Edit::new(&format!("number {number}"))).await.picture();
    }
    let first = account(&gateway, 0).await;
    assert_eq!((&first["name"], &first["pauses"][0]["what"]), (&json!("default"), &json!("key_refused")), "{first}");
    upstream.set(json!({"auth": {"revoked": [OTHER_UPSTREAM_KEY]}})).await;
    // Now the other key is refused, and the first account is used again after its cooldown.
    let mut number = 4;
    until("the first account is used again", async || {
        number += 1;
        let answer = gateway.alice().edit(&Edit::new(&format!("number {number}"))).await;
        answer.status == 200 && account(&gateway, 0).await["pauses"].as_array().unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_prediction_is_polled_with_the_key_that_bought_it_also_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[both()]).await;
    upstream.hold().await;
    let edits: Vec<Edit> = (0..4).map(|number| Edit::new(&format!("number {number}"))).collect();
    let pending: Vec<_> = edits.iter().map(|edit| gateway.alice().begin(edit)).collect();
    until("all are in flight", async || gateway.status("engine", "polling").await == 4).await;
    assert_eq!(
        (account(&gateway, 0).await["in_flight"].as_u64(), account(&gateway, 1).await["in_flight"].as_u64()),
        (Some(2), Some(2))
    );
    let stopped = gateway.stop().await;
    drop(pending);
    upstream.release().await;
    let gateway = stopped.start().await;
    for edit in &edits {
        gateway.alice().edit(edit).await.picture();
    }
    assert_eq!((upstream.purchases().await, upstream.count("polls_unknown").await), (4, 0));
}

#[tokio::test]
async fn a_429_of_the_upstream_is_not_passed_on_while_waiting_can_help() {
    let hidden = json!({"limits": {"submits_per_minute": 4, "rate_window_ms": 1000, "concurrent": 3}});
    let upstream = Upstream::with(hidden).await;
    let gateway = Gateway::with(&upstream, &[("upstream.pushback_ms", "100")]).await;
    let pending: Vec<_> =
        (0..12).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    for one in pending {
        one.answer().await.picture();
    }
    assert_eq!(upstream.purchases().await, 12);
    assert!(upstream.count("submits_429").await >= 1, "there was something to learn");
}

#[tokio::test]
async fn limits_learned_from_429s_are_kept_over_a_restart() {
    let upstream = Upstream::with(json!({"limits": {"concurrent": 2}, "speed": 100})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.pushback_ms", "100")]).await;
    let mut number = 0;
    until("something is learned", async || {
        let more = number + 6;
        let pending: Vec<_> =
            (number..more).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
        number = more;
        for one in pending {
            one.answer().await.picture();
        }
        let account = account(&gateway, 0).await;
        account["in_flight_learned"].as_u64().unwrap() < 50
            || account["submits_per_minute_learned"].as_f64().unwrap() < 300.0
    })
    .await;
    let learned =
        |account: &Value| (account["in_flight_learned"].clone(), account["submits_per_minute_learned"].clone());
    let before = account(&gateway, 0).await;
    let gateway = gateway.restart().await;
    assert_eq!(learned(&account(&gateway, 0).await), learned(&before));
}

#[tokio::test]
async fn a_request_expected_after_its_timeout_is_refused_before_it_is_bought() {
    let slow = json!({"speed": 1, "life": {"low_ms": [1000, 1000]}, "limits": {"poll_interval_min_ms": 0}});
    let upstream = Upstream::with(slow).await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "1")]).await;
    // The gateway learns from the first how long a generation takes.
    gateway.alice().edit(&Edit::new("first")).await.picture();
    let pending: Vec<_> = (0..4).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    until("three wait", async || gateway.status("upstream", "queued_submits").await == 3).await;

    let impatient = Edit::new("impatient").header("x-stainless-read-timeout", "2");
    let hers = gateway.alice().edit(&impatient).await;
    let his = gateway.bob().edit(&Edit::new("hurried").header("x-stainless-read-timeout", "1.5")).await;

    hers.is_refused(429, "rate_limit_exceeded");
    his.is_refused(503, "server_is_overloaded");
    assert!((1..=5).contains(&hers.header("retry-after").parse().unwrap()), "{:?}", hers.headers);
    for one in pending {
        one.answer().await.picture();
    }
    assert_eq!(upstream.submits().await, 5, "for those two nothing was sent");
    gateway.alice().edit(&impatient).await.picture();
}

#[tokio::test]
async fn a_model_without_a_channel_delays_no_other_model() {
    let upstream = Upstream::with(json!({"models": {"no_channel": ["gpt-image-1.5"]}})).await;
    let gateway = Gateway::on(&upstream).await;
    let waiting = gateway.alice().begin(&Edit::new("waits"));
    until("it was refused", async || upstream.count("submits_429").await == 1).await;
    let other = Edit::new("goes").field("model", "gpt-image-1").field("size", "256x256");
    gateway.alice().edit(&other).await.picture();
    assert_eq!(account(&gateway, 0).await["pauses"][0]["model"], "gpt-image-1.5");
    upstream.set(json!({"models": {"no_channel": []}})).await;
    waiting.answer().await.picture();
}
