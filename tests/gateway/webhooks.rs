//! Events at the end of a job, and the addresses that receive none.

use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Program, Receiver, Upstream, until};

fn with_webhook(prompt: &str, address: &str) -> Edit {
    Edit::new(prompt).field("webhook_url", address)
}

fn later(prompt: &str, address: &str) -> Edit {
    with_webhook(prompt, address).header("prefer", "respond-async")
}

#[track_caller]
fn job_id(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until this number of events has arrived.
async fn events(receiver: &Receiver, count: usize) {
    until("the events have arrived", async || receiver.seen().len() >= count).await;
}

async fn metric(gateway: &Gateway, line: &str) -> bool {
    gateway.page("/metrics").await.1.contains(line)
}

#[tokio::test]
async fn a_completed_job_sends_a_signed_event() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let taken = gateway.alice().edit(&later("completes", &receiver.at("/hook?token=a%20b"))).await;
    let job = job_id(&taken);
    events(&receiver, 1).await;

    let event = receiver.seen().remove(0);
    event.has_valid_signature();
    assert_eq!(event.path, "/hook?token=a%20b");
    let body = event.json();
    assert_eq!(body["id"], event.header("webhook-id"));
    assert!(event.header("webhook-id").starts_with("evt_"));
    assert_eq!((&body["object"], &body["type"]), (&json!("event"), &json!("image.prediction.completed")));
    assert_eq!(body["data"], json!({"id": job}));
    for secret in ["authorization", "cookie", "api-key"] {
        assert_eq!(event.header(secret), "", "{secret}");
    }
    let object = gateway.alice().get(&format!("/v1/predictions/{job}")).await.json();
    assert_eq!((&object["status"], &object["completed_at"]), (&json!("completed"), &body["created_at"]));
    until("it is counted", async || metric(&gateway, "webhooks_ended_total{result=\"delivered\"} 1").await).await;
    assert!(metric(&gateway, "gptproto_gateway_webhooks_pending 0").await);
}

#[tokio::test]
async fn a_failed_delivery_is_retried_with_the_same_id() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::answering(&[500, 302, 200]).await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    // For a synchronous request, too.
    gateway.alice().edit(&with_webhook("again", &receiver.at("/hook"))).await.picture();
    events(&receiver, 3).await;
    until("it is delivered", async || metric(&gateway, "webhooks_ended_total{result=\"delivered\"} 1").await).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3, "no redirect is followed");
    for event in &seen {
        event.has_valid_signature();
        assert_eq!((event.header("webhook-id"), &event.body), (seen[0].header("webhook-id"), &seen[0].body));
    }
    assert!(metric(&gateway, "webhooks_attempts_total{result=\"failed\"} 2").await);
    assert!(metric(&gateway, "webhooks_attempts_total{result=\"delivered\"} 1").await);
}

#[tokio::test]
async fn a_failed_job_sends_an_event_and_410_ends_the_retries() {
    let upstream = Upstream::with(json!({"life": {"outcome": "failed_provider"}})).await;
    let receiver = Receiver::answering(&[410]).await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let failed = gateway.alice().edit(&with_webhook("fails", &receiver.at("/hook"))).await;
    failed.is_refused(502, "image_generation_failed");
    until("it has ended", async || metric(&gateway, "webhooks_ended_total{result=\"gone\"} 1").await).await;
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(receiver.seen()[0].type_and_job().0, "image.prediction.failed");
}

#[tokio::test]
async fn retries_are_limited() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::answering(&[500; 9]).await;
    let mut changes = receiver.allowed().to_vec();
    changes.push(("webhooks.attempts_max", "3"));
    let gateway = Gateway::with(&upstream, &changes).await;
    gateway.alice().edit(&with_webhook("never accepted", &receiver.at("/hook"))).await.picture();
    until("its attempts have ended", async || metric(&gateway, "webhooks_ended_total{result=\"given_up\"} 1").await)
        .await;
    assert_eq!(receiver.seen().len(), 3);
    let gateway = gateway.restart().await;
    gateway.alice().edit(&with_webhook("another", &receiver.at("/other"))).await.picture();
    events(&receiver, 4).await;
    assert_eq!(receiver.seen()[3].path, "/other", "what was given up is not tried again");
}

#[tokio::test]
async fn only_allowed_origins_receive_events() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let closed = Gateway::on(&upstream).await;
    let refused = closed.alice().edit(&with_webhook("x", &receiver.at("/hook"))).await;
    refused.is_refused(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "webhook_url");

    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let other = Receiver::start().await;
    for address in [other.at("/"), "ftp://x.test/".to_owned(), "/hook".to_owned()] {
        let refused = gateway.alice().edit(&with_webhook("x", &address)).await;
        refused.is_refused(400, "invalid_value");
        assert_eq!(refused.json()["error"]["param"], "webhook_url", "{address}");
    }
    let wrong = json!({"prompt": "x", "webhook_url": 5});
    gateway.alice().generate(wrong).await.is_refused(400, "invalid_value");
    assert_eq!(upstream.submits().await, 0);
    assert_eq!(other.seen().len(), 0);

    let generated = gateway.alice().generate(json!({"prompt": "x", "webhook_url": receiver.at("/json")})).await;
    generated.picture();
    events(&receiver, 1).await;
    assert_eq!(receiver.seen()[0].path, "/json");
}

#[tokio::test]
async fn a_request_that_joins_has_its_own_event() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    upstream.hold().await;
    let alice = gateway.alice();
    let first = job_id(&alice.edit(&later("shared", &receiver.at("/one"))).await);
    for path in ["/two", "/two", "/one"] {
        let joined = alice.edit(&later("shared", &receiver.at(path))).await;
        assert_eq!((job_id(&joined), joined.cache()), (first.clone(), "joined"));
    }
    upstream.release().await;
    events(&receiver, 2).await;
    // A hit sends its event at once, even if the job has sent one before.
    let hit = alice.edit(&later("shared", &receiver.at("/one"))).await;
    assert_eq!(hit.cache(), "hit");
    events(&receiver, 3).await;

    let seen = receiver.seen();
    let mut paths: Vec<&str> = seen.iter().map(|event| event.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/one", "/one", "/two"], "once for each address that waits");
    let mut ids: Vec<&str> = seen.iter().map(|event| event.header("webhook-id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(seen.iter().all(|event| event.type_and_job() == ("image.prediction.completed".to_owned(), first.clone())));
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_cancelled_job_sends_a_failed_event() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let mut changes = receiver.allowed().to_vec();
    changes.push(("upstream.concurrent_predictions", "1"));
    let gateway = Gateway::with(&upstream, &changes).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("holds the place"));
    until("it is followed", async || gateway.status("engine", "polling").await == 1).await;
    let queued = job_id(&gateway.alice().edit(&later("queued", &receiver.at("/hook"))).await);
    gateway.alice().delete(&format!("/v1/predictions/{queued}")).await;
    events(&receiver, 1).await;
    assert_eq!(receiver.seen()[0].type_and_job(), ("image.prediction.failed".to_owned(), queued));
    upstream.release().await;
    first.answer().await.picture();
}

/// The program is killed while its receiver fails: between the end of the job and the delivery.
#[tokio::test]
async fn an_event_is_delivered_after_a_crash_unless_it_was_delivered_before() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::answering(&[200]).await;
    let mut program = Program::on(&upstream);
    for (name, value) in [
        ("GATEWAY_WEBHOOKS__ALLOWED_ORIGINS", receiver.origin.as_str()),
        ("GATEWAY_WEBHOOK_SECRET", crate::harness::WEBHOOK_SECRET),
        ("GATEWAY_WEBHOOKS__RETRY_DELAY_MIN_MS", "100"),
        ("GATEWAY_WEBHOOKS__RETRY_DELAY_MAX_S", "1"),
    ] {
        program = program.variable(name, value);
    }
    let serving = program.serve(&["serve"]).await;
    serving.alice().edit(&with_webhook("delivered before", &receiver.at("/before"))).await.picture();
    events(&receiver, 1).await;
    receiver.answer(&[503; 1000]);
    let taken = serving.alice().edit(&later("delivered after", &receiver.at("/after?token=canary-8d1e"))).await;
    let taken = job_id(&taken);
    events(&receiver, 3).await;
    let tried = receiver.seen().remove(1);
    let log = serving.log();
    serving.kill();

    receiver.answer(&[]);
    let before = receiver.seen().len();
    let serving = program.serve(&["serve"]).await;
    events(&receiver, before + 1).await;
    let last = receiver.seen().pop().unwrap();
    last.has_valid_signature();
    assert_eq!(last.type_and_job(), ("image.prediction.completed".to_owned(), taken.clone()));
    assert_eq!((last.header("webhook-id"), &last.body), (tried.header("webhook-id"), &tried.body));
    let object: Value = serving.alice().get(&format!("/v1/predictions/{taken}")).await.json();
    assert_eq!(object["status"], "completed");
    let log = log + &serving.log();
    assert_eq!(serving.terminate().await, Some(0));

    // A delivered event is not sent again after another start.
    let count = receiver.seen().len();
    assert_eq!(receiver.seen().iter().filter(|event| event.path == "/before").count(), 1);
    let serving = program.serve(&["serve"]).await;
    serving.alice().edit(&with_webhook("another", &receiver.at("/another"))).await.picture();
    events(&receiver, count + 1).await;
    assert_eq!(receiver.seen().last().unwrap().path, "/another");
    for secret in ["canary-8d1e", &crate::harness::WEBHOOK_SECRET[6..]] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
