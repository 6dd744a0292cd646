//! What a restart keeps.

use crate::harness::{Edit, Gateway, Upstream, until};

async fn followed(gateway: &Gateway) {
    until("the purchase is followed", async || gateway.status("engine", "polling").await == 1).await;
}

#[tokio::test]
async fn a_purchase_is_completed_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("interrupted");
    upstream.hold().await;
    let waiting = gateway.alice().begin(&edit);
    followed(&gateway).await;

    let gateway = gateway.restart().await;

    let refused = waiting.answer().await;
    refused.is_refused(503, "restarting");
    assert_eq!(refused.header("x-should-retry"), "true");
    let prediction = upstream.prediction().await;
    assert!(refused.header("x-gateway-prediction").starts_with("pred_"));
    assert!(refused.message().contains(refused.header("x-gateway-prediction")), "{}", refused.message());
    assert_eq!(refused.header("x-gateway-upstream-id"), prediction["id"].as_str().unwrap());
    assert_eq!(gateway.status("engine", "polling").await, 1, "taken up from the journal");
    let again = gateway.alice().begin(&edit);
    until("it waits", async || gateway.status("engine", "waiters").await == 1).await;
    upstream.release().await;
    let again = again.answer().await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_purchase_is_completed_after_a_restart_without_a_retry() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("interrupted");
    upstream.hold().await;
    let waiting = gateway.alice().begin(&edit);
    followed(&gateway).await;
    let gateway = gateway.restart().await;
    waiting.answer().await.is_refused(503, "restarting");
    upstream.release().await;
    until("the picture is stored", async || gateway.status("engine", "pictures").await == 1).await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "joined", "paid for, and never received");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_result_is_a_hit_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("kept").field("response_format", "url");
    let first = gateway.alice().edit(&edit).await;
    assert_eq!(first.status, 200);
    let url = first.json()["data"][0]["url"].as_str().unwrap().to_owned();

    let gateway = gateway.restart().await;

    let again = gateway.alice().edit(&edit).await;
    assert_eq!(again.cache(), "hit");
    let path = url.split_once("/v1/").unwrap().1;
    assert_eq!(gateway.client("").get(&format!("/v1/{path}")).await.status, 200, "addresses stay good");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_second_gateway_on_the_same_directory_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let error = gateway.second_instance().try_start().await.unwrap_err();
    assert!(error.to_string().contains("in use by another gateway"), "{error:#}");
    gateway.alice().edit(&Edit::new("the first works on")).await.picture();
}

#[tokio::test]
async fn the_directory_is_locked_until_the_last_response() {
    let upstream = Upstream::start().await;
    // Long enough that the stop ends with the edit, not with the grace period.
    let gateway = Gateway::with(&upstream, &[("server.shutdown_grace_s", "30")]).await;
    let twin = gateway.second_instance();
    let client = gateway.alice();
    upstream.hold().await;
    let waiting = client.begin(&Edit::new("during the stop"));
    followed(&gateway).await;
    let address = gateway.address();

    let stopping = gateway.begin_to_stop();
    until("the listener is closed", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    let error = twin.try_start().await.unwrap_err();
    assert!(error.to_string().contains("in use by another gateway"), "{error:#}");

    upstream.release().await;
    waiting.answer().await.picture();
    stopping.await.unwrap().start().await;
}

#[tokio::test]
async fn a_queued_job_is_not_bought_after_a_restart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "1")]).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("in flight"));
    followed(&gateway).await;
    let second = gateway.alice().begin(&Edit::new("queued"));
    until("it is queued", async || gateway.status("upstream", "queued_submits").await == 1).await;

    let gateway = gateway.restart().await;

    first.answer().await.is_refused(503, "restarting");
    second.answer().await.is_refused(503, "stopping");
    upstream.release().await;
    until("the picture is stored", async || gateway.status("engine", "pictures").await == 1).await;
    assert_eq!(upstream.submits().await, 1);
    assert_eq!(gateway.alice().edit(&Edit::new("queued")).await.cache(), "miss");
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn a_stop_before_a_submits_response_allows_a_retry_that_pays_nothing() {
    let upstream = Upstream::with(serde_json::json!({"submit": {"delay_ms": 60_000}})).await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("paid and not answered");
    let waiting = gateway.alice().begin(&edit);
    until("it is bought", async || upstream.purchases().await == 1).await;

    let gateway = gateway.restart().await;

    let refused = waiting.answer().await;
    refused.is_refused(503, "restarting");
    assert_eq!(refused.header("x-should-retry"), "true", "a retry gets the unknown outcome");
    assert_eq!(gateway.status("engine", "polling").await, 0);
    assert_eq!(gateway.status("engine", "unknown").await, 1, "the operator sees it");
    gateway.alice().edit(&edit).await.is_refused(502, "submission_outcome_unknown");
    assert_eq!(upstream.submits().await, 1, "and it is not resent");
}

#[tokio::test]
async fn a_stop_before_a_submits_response_forbids_a_retry_that_would_pay() {
    let upstream = Upstream::with(serde_json::json!({"submit": {"delay_ms": 60_000}})).await;
    let gateway = Gateway::with(&upstream, &[("upstream.on_unknown", "resubmit")]).await;
    let waiting = gateway.alice().begin(&Edit::new("paid and not answered"));
    until("it is bought", async || upstream.purchases().await == 1).await;

    let _stopped = gateway.stop().await;

    let refused = waiting.answer().await;
    refused.is_refused(502, "submission_outcome_unknown");
    assert_eq!(refused.header("x-should-retry"), "false");
}
