//! The limits on calls to the upstream.

use crate::harness::{Edit, Gateway, Upstream, until};

#[tokio::test]
async fn concurrent_purchases_stay_within_their_limit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "2")]).await;
    let pending: Vec<_> = (0..6).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    for one in pending {
        one.answer().await.picture();
    }
    assert_eq!(upstream.purchases().await, 6);
    let peak = upstream.count("unfinished_peak").await;
    assert!((1..=2).contains(&peak), "{peak}");
}

#[tokio::test]
async fn a_full_queue_refuses_with_retry_after() {
    let upstream = Upstream::start().await;
    let limits = [("upstream.concurrent_predictions", "1"), ("upstream.queue_max", "1")];
    let gateway = Gateway::with(&upstream, &limits).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("first"));
    until("it is in flight", async || gateway.status("engine", "polling").await == 1).await;
    let second = gateway.alice().begin(&Edit::new("second"));
    until("it is queued", async || gateway.status("upstream", "queued_submits").await == 1).await;

    let third = gateway.alice().edit(&Edit::new("third")).await;

    third.is_refused(503, "server_is_overloaded");
    assert!(third.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(third.header("x-should-retry"), "true");
    upstream.release().await;
    first.answer().await.picture();
    second.answer().await.picture();
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn submits_per_minute_stay_within_their_limit() {
    // The burst is ten seconds: one of six submits.
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.submits_per_minute", "6")]).await;
    let pending: Vec<_> = (0..3).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    until("one is done and two wait", async || {
        gateway.status("engine", "pictures").await == 1 && gateway.status("upstream", "queued_submits").await == 2
    })
    .await;
    assert_eq!(upstream.submits().await, 1);
    for one in pending {
        // One of them has its response already.
        drop(one);
    }
}
