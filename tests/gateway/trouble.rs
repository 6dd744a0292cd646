//! Failures on the way to the upstream and back. Calls without cost are repeated; what may have been bought is not.

use serde_json::json;

use crate::harness::{Answer, Edit, Gateway, Upstream, size_of, until};

/// Failures of calls that cost nothing.
const ACCIDENTS: [&str; 12] = [
    "status_429",
    "status_429_retry_after",
    "status_500",
    "html_502",
    "html_504",
    "html_524",
    "truncated_json",
    "empty_body",
    "drop_before",
    "drop_after",
    "cut_answer",
    "html_200",
];

/// Asserts the error of an unknown outcome, which does not say that nothing was bought.
#[track_caller]
fn is_unknown(answer: &Answer) {
    answer.is_refused(502, "submission_outcome_unknown");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn failed_polls_never_fail_a_purchase() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (number, fault) in ACCIDENTS.into_iter().enumerate() {
        upstream.fault("poll", fault, 2).await;
        let answer = gateway.alice().edit(&Edit::new(fault)).await;
        assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
        assert_eq!(upstream.submits().await, number as u64 + 1, "{fault}");
        assert_eq!(upstream.count("faults_fired").await, 2 * (number as u64 + 1), "{fault}");
    }
}

#[tokio::test]
async fn failed_downloads_are_retried() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (number, fault) in ACCIDENTS.into_iter().enumerate() {
        upstream.fault("download", fault, 2).await;
        let answer = gateway.alice().edit(&Edit::new(fault)).await;
        assert_eq!(size_of(&answer.picture()), (256, 256), "{fault}");
        assert_eq!(upstream.submits().await, number as u64 + 1, "{fault}");
    }
}

#[tokio::test]
async fn a_file_host_that_fails_at_first_is_retried() {
    let upstream = Upstream::with(json!({"files": {"fail_first": 2}})).await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&Edit::new("later")).await.picture();
    assert_eq!((upstream.purchases().await, upstream.count("downloads").await), (1, 3));
}

#[tokio::test]
async fn a_truncated_picture_is_fetched_until_it_is_complete() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let cuts = [("abort", 1), ("abort", 99), ("short", 50), ("short", 99)];
    for (number, (cut, percent)) in (1..).zip(cuts) {
        upstream.set(json!({"files": {"cut_at_percent": percent, "cut": cut}})).await;
        let before = upstream.count("downloads").await;
        let waiting = gateway.alice().begin(&Edit::new(&format!("{cut} at {percent}")));
        until("it was cut a few times", async || upstream.count("downloads").await >= before + 8).await;
        upstream.set(json!({"files": {"cut_at_percent": 0}})).await;
        waiting.answer().await.picture();
        assert_eq!(upstream.purchases().await, number, "{cut}");
    }
}

#[tokio::test]
async fn a_picture_that_is_never_complete_is_neither_delivered_nor_stored() {
    let upstream = Upstream::with(json!({"files": {"cut_at_percent": 50, "cut": "short"}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.deadline_s", "1")]).await;
    let edit = Edit::new("always cut");
    let answer = gateway.alice().edit(&edit).await;
    answer.is_refused(502, "result_lost");
    assert_eq!(answer.header("x-should-retry"), "false", "it was paid for");

    upstream.set(json!({"files": {"cut_at_percent": 0}})).await;
    let again = gateway.alice().edit(&edit).await;
    assert_eq!((again.picture().is_empty(), again.cache()), (false, "miss"), "nothing was kept of it");
}

#[tokio::test]
async fn a_submit_whose_response_is_lost_is_never_repeated() {
    let faults = [
        "drop_before",
        "drop_after",
        "cut_answer",
        "status_500",
        "status_500_after",
        "html_502",
        "html_502_after",
        "html_504_after",
        "html_524_after",
        "truncated_json",
        "empty_body",
        "html_200",
    ];
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (number, fault) in faults.into_iter().enumerate() {
        upstream.fault("submit", fault, 1).await;
        let answer = gateway.alice().edit(&Edit::new(fault)).await;
        is_unknown(&answer);
        assert_eq!(upstream.submits().await, number as u64 + 1, "{fault}");
    }
    assert_eq!(gateway.status("engine", "unknown").await, faults.len() as u64, "the operator sees each");
}

#[tokio::test]
async fn a_200_with_a_500_inside_is_an_unknown_outcome() {
    let upstream = Upstream::with(json!({"submit": {"answer": "code500"}})).await;
    let gateway = Gateway::on(&upstream).await;
    is_unknown(&gateway.alice().edit(&Edit::new("code 500")).await);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_refused_submit_is_retried_within_the_clients_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (number, fault) in ["status_429", "status_429_retry_after"].into_iter().enumerate() {
        upstream.fault("submit", fault, 1).await;
        gateway.alice().edit(&Edit::new(fault)).await.picture();
        assert_eq!(upstream.purchases().await, number as u64 + 1, "{fault}");
        assert_eq!(upstream.submits().await, 2 * (number as u64 + 1), "{fault}");
    }
}

#[tokio::test]
async fn a_submit_refused_until_the_timeout_fails_with_the_refusal() {
    let upstream = Upstream::with(json!({"faults": {"submit": "status_429"}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.pushback_ms", "20000")]).await;
    let answer = gateway.alice().edit(&Edit::new("too many").header("x-stainless-read-timeout", "2")).await;
    answer.is_refused(429, "rate_limit_exceeded");
    assert_eq!(answer.header("x-should-retry"), "true", "nothing was bought");
    assert!((1..=20).contains(&answer.header("retry-after").parse().unwrap()), "{:?}", answer.headers);
    assert_eq!((upstream.submits().await, upstream.purchases().await), (1, 0));
}

#[tokio::test]
async fn an_unreachable_upstream_costs_nothing_and_can_be_retried() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.submit_attempts_max", "2")]).await;
    upstream.stop().await;
    let answer = gateway.alice().edit(&Edit::new("unreachable")).await;
    answer.is_refused(502, "upstream_unreachable");
    assert_eq!(answer.header("x-should-retry"), "true");
    assert_eq!(gateway.status("engine", "unknown").await, 0);
}

#[tokio::test]
async fn a_submit_response_after_its_timeout_is_an_unknown_outcome() {
    let upstream = Upstream::with(json!({"submit": {"delay_ms": 60_000}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.submit_timeout_s", "1")]).await;
    is_unknown(&gateway.alice().edit(&Edit::new("slow to answer")).await);
    assert_eq!((upstream.submits().await, upstream.purchases().await), (1, 1), "it was bought indeed");
}

#[tokio::test]
async fn a_hanging_poll_times_out_and_is_repeated() {
    let upstream = Upstream::with(json!({"faults": {"delay_ms": 60_000}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.poll_timeout_s", "1")]).await;
    upstream.fault("poll", "delay", 1).await;
    upstream.fault("poll", "slow_body", 1).await;
    gateway.alice().edit(&Edit::new("patient")).await.picture();
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_purchase_that_never_ends_fails_at_its_deadline() {
    let upstream = Upstream::with(json!({"life": {"outcome": "stuck"}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.deadline_s", "1")]).await;
    let answer = gateway.alice().edit(&Edit::new("never")).await;
    answer.is_refused(504, "upstream_timeout");
    assert_eq!(answer.header("x-should-retry"), "false", "it was bought");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn the_pictures_of_a_partly_failed_job_are_delivered_and_not_cached() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("two of them")
        .field("model", "gpt-image-2-plus")
        .field("size", "1254x1254")
        .field("n", "2")
        .without("quality");
    upstream.fault("submit", "drop_after", 1).await;

    let answer = gateway.alice().edit(&edit).await;

    answer.picture();
    assert_eq!(answer.header("x-gateway-missing"), "1");
    assert_eq!(upstream.submits().await, 2);
    let again = gateway.alice().edit(&edit.clone().header("cache-control", "no-cache")).await;
    assert_eq!((again.cache(), again.pictures().len()), ("bypass", 2));
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit", "the complete result is the newest");
}

#[tokio::test]
async fn missing_pictures_are_counted_in_a_header() {
    let upstream = Upstream::with(json!({"result": {"missing_outputs": 1}})).await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().edit(&Edit::new("two of them").field("n", "2")).await;
    answer.picture();
    assert_eq!(answer.header("x-gateway-missing"), "1");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn after_an_unknown_outcome_only_no_cache_buys_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("perhaps bought");
    upstream.fault("submit", "drop_after", 1).await;
    is_unknown(&gateway.alice().edit(&edit).await);

    is_unknown(&gateway.alice().edit(&edit).await);
    is_unknown(&gateway.alice().edit(&edit.clone().header("x-stainless-retry-count", "1")).await);
    let gateway = gateway.restart().await;
    is_unknown(&gateway.alice().edit(&edit).await);
    assert_eq!(upstream.submits().await, 1);

    gateway.alice().edit(&edit.header("cache-control", "no-cache")).await.picture();
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn an_empty_result_is_asked_for_until_its_pictures_appear() {
    let upstream = Upstream::with(json!({"result": {"empty_polls": 12}})).await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&Edit::new("late")).await.picture();
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn an_empty_result_is_lost_at_the_deadline_alone() {
    let upstream = Upstream::with(json!({"result": {"empty_polls": 1_000_000}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.deadline_s", "2")]).await;
    let started = std::time::Instant::now();
    gateway.alice().edit(&Edit::new("never")).await.is_refused(502, "result_lost");
    assert!(started.elapsed() >= std::time::Duration::from_secs(2));
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_an_unknown_outcome() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.on_unknown", "resubmit")]).await;
    upstream.fault("submit", "drop_after", 1).await;
    let waiting = gateway.alice().begin(&Edit::new("twice"));
    until("the first submit is accepted", async || upstream.purchases().await == 1).await;
    upstream.set(json!({"balance": {"empty_keys": [crate::harness::UPSTREAM_KEY]}})).await;
    is_unknown(&waiting.answer().await);
    assert_eq!((upstream.submits().await, upstream.purchases().await), (2, 1));
}
