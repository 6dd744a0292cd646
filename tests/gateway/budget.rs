//! How much the upstream is asked for at a time.

use crate::harness::{Edit, Gateway, Upstream, until};

#[tokio::test]
async fn no_more_predictions_are_in_flight_than_allowed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "2")]).await;
    let begun: Vec<_> = (0..6).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    for one in begun {
        one.answer().await.picture();
    }
    assert_eq!(upstream.purchases().await, 6);
    let peak = upstream.count("unfinished_peak").await;
    assert!((1..=2).contains(&peak), "{peak}");
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
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
async fn no_more_is_submitted_in_a_minute_than_allowed() {
    // Ten seconds' worth may come at once: one of six.
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.submits_per_minute", "6")]).await;
    let begun: Vec<_> = (0..3).map(|number| gateway.alice().begin(&Edit::new(&format!("number {number}")))).collect();
    until("one is done and two wait", async || {
        gateway.status("engine", "pictures").await == 1 && gateway.status("upstream", "queued_submits").await == 2
    })
    .await;
    assert_eq!(upstream.submits().await, 1);
    for one in begun {
        // One of them is answered already.
        drop(one);
    }
}
