//! Who is told of an order's end, and that nobody else is.

use serde_json::{Value, json};

use crate::harness::{Answer, Edit, Gateway, Program, Receiver, Upstream, until};

fn told(prompt: &str, address: &str) -> Edit {
    Edit::new(prompt).field("webhook_url", address)
}

fn later(prompt: &str, address: &str) -> Edit {
    told(prompt, address).header("prefer", "respond-async")
}

#[track_caller]
fn order(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until so many events came.
async fn events(receiver: &Receiver, count: usize) {
    until("the events came", async || receiver.seen().len() >= count).await;
}

async fn metric(gateway: &Gateway, line: &str) -> bool {
    gateway.page("/metrics").await.1.contains(line)
}

#[tokio::test]
async fn an_end_is_told_and_signed() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let taken = gateway.alice().edit(&later("told", &receiver.at("/hook?token=a%20b"))).await;
    let order = order(&taken);
    events(&receiver, 1).await;

    let event = receiver.seen().remove(0);
    event.is_genuine();
    assert_eq!(event.path, "/hook?token=a%20b");
    let body = event.json();
    assert_eq!(body["id"], event.header("webhook-id"));
    assert!(event.header("webhook-id").starts_with("evt_"));
    assert_eq!((&body["object"], &body["type"]), (&json!("event"), &json!("image.prediction.completed")));
    assert_eq!(body["data"], json!({"id": order}));
    for secret in ["authorization", "cookie", "api-key"] {
        assert_eq!(event.header(secret), "", "{secret}");
    }
    let object = gateway.alice().get(&format!("/v1/predictions/{order}")).await.json();
    assert_eq!((&object["status"], &object["completed_at"]), (&json!("completed"), &body["created_at"]));
    until("it is counted", async || metric(&gateway, "webhooks_ended_total{result=\"delivered\"} 1").await).await;
    assert!(metric(&gateway, "gptproto_gateway_webhooks_pending 0").await);
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_under_the_same_id() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::answering(&[500, 302, 200]).await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    // Also for a request that waits for its answer.
    gateway.alice().edit(&told("again", &receiver.at("/hook"))).await.picture();
    events(&receiver, 3).await;
    until("it is told", async || metric(&gateway, "webhooks_ended_total{result=\"delivered\"} 1").await).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3, "no redirect is followed");
    for event in &seen {
        event.is_genuine();
        assert_eq!((event.header("webhook-id"), &event.body), (seen[0].header("webhook-id"), &seen[0].body));
    }
    assert!(metric(&gateway, "webhooks_attempts_total{result=\"failed\"} 2").await);
    assert!(metric(&gateway, "webhooks_attempts_total{result=\"delivered\"} 1").await);
}

#[tokio::test]
async fn a_failure_is_told_too_and_gone_ends_it() {
    let upstream = Upstream::with(json!({"life": {"outcome": "failed_provider"}})).await;
    let receiver = Receiver::answering(&[410]).await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let failed = gateway.alice().edit(&told("fails", &receiver.at("/hook"))).await;
    failed.is_refused(502, "image_generation_failed");
    until("it has ended", async || metric(&gateway, "webhooks_ended_total{result=\"gone\"} 1").await).await;
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(receiver.seen()[0].says().0, "image.prediction.failed");
}

#[tokio::test]
async fn tries_come_to_an_end() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::answering(&[500; 9]).await;
    let mut changes = receiver.allowed().to_vec();
    changes.push(("webhooks.attempts_max", "3"));
    let gateway = Gateway::with(&upstream, &changes).await;
    gateway.alice().edit(&told("in vain", &receiver.at("/hook"))).await.picture();
    until("it is given up", async || metric(&gateway, "webhooks_ended_total{result=\"given_up\"} 1").await).await;
    assert_eq!(receiver.seen().len(), 3);
    let gateway = gateway.restart().await;
    gateway.alice().edit(&told("another", &receiver.at("/other"))).await.picture();
    events(&receiver, 4).await;
    assert_eq!(receiver.seen()[3].path, "/other", "what was given up is not tried again");
}

#[tokio::test]
async fn only_allowed_addresses_are_told() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let closed = Gateway::on(&upstream).await;
    let refused = closed.alice().edit(&told("x", &receiver.at("/hook"))).await;
    refused.is_refused(400, "unsupported_parameter");
    assert_eq!(refused.json()["error"]["param"], "webhook_url");

    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    let stranger = Receiver::start().await;
    for address in [stranger.at("/"), "ftp://x.test/".to_owned(), "/hook".to_owned()] {
        let refused = gateway.alice().edit(&told("x", &address)).await;
        refused.is_refused(400, "invalid_value");
        assert_eq!(refused.json()["error"]["param"], "webhook_url", "{address}");
    }
    let wrong = json!({"prompt": "x", "webhook_url": 5});
    gateway.alice().generate(wrong).await.is_refused(400, "invalid_value");
    assert_eq!(upstream.submits().await, 0);
    assert_eq!(stranger.seen().len(), 0);

    let generated = gateway.alice().generate(json!({"prompt": "x", "webhook_url": receiver.at("/json")})).await;
    generated.picture();
    events(&receiver, 1).await;
    assert_eq!(receiver.seen()[0].path, "/json");
}

#[tokio::test]
async fn whoever_joins_is_told_where_it_asked_for() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let gateway = Gateway::with(&upstream, &receiver.allowed()).await;
    upstream.hold().await;
    let alice = gateway.alice();
    let first = order(&alice.edit(&later("shared", &receiver.at("/one"))).await);
    for path in ["/two", "/two", "/one"] {
        let joined = alice.edit(&later("shared", &receiver.at(path))).await;
        assert_eq!((order(&joined), joined.cache()), (first.clone(), "joined"));
    }
    upstream.release().await;
    events(&receiver, 2).await;
    // A hit is told at once, also where somebody was told before.
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
    assert!(seen.iter().all(|event| event.says() == ("image.prediction.completed".to_owned(), first.clone())));
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_forgotten_order_is_told_as_failed() {
    let upstream = Upstream::start().await;
    let receiver = Receiver::start().await;
    let mut changes = receiver.allowed().to_vec();
    changes.push(("upstream.concurrent_predictions", "1"));
    let gateway = Gateway::with(&upstream, &changes).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("holds the place"));
    until("it is followed", async || gateway.status("engine", "polling").await == 1).await;
    let queued = order(&gateway.alice().edit(&later("queued", &receiver.at("/hook"))).await);
    gateway.alice().delete(&format!("/v1/predictions/{queued}")).await;
    events(&receiver, 1).await;
    assert_eq!(receiver.seen()[0].says(), ("image.prediction.failed".to_owned(), queued));
    upstream.release().await;
    first.answer().await.picture();
}

/// The program is killed while its receiver is out of order: between the end of the order and the delivery.
#[tokio::test]
async fn what_was_not_told_before_a_crash_is_told_after_it_and_what_was_is_not() {
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
    serving.alice().edit(&told("told before", &receiver.at("/before"))).await.picture();
    events(&receiver, 1).await;
    receiver.answer(&[503; 1000]);
    let taken = serving.alice().edit(&later("told after", &receiver.at("/after?token=canary-8d1e"))).await;
    let taken = order(&taken);
    events(&receiver, 3).await;
    let tried = receiver.seen().remove(1);
    let log = serving.log();
    serving.kill();

    receiver.answer(&[]);
    let before = receiver.seen().len();
    let serving = program.serve(&["serve"]).await;
    events(&receiver, before + 1).await;
    let last = receiver.seen().pop().unwrap();
    last.is_genuine();
    assert_eq!(last.says(), ("image.prediction.completed".to_owned(), taken.clone()));
    assert_eq!((last.header("webhook-id"), &last.body), (tried.header("webhook-id"), &tried.body));
    let object: Value = serving.alice().get(&format!("/v1/predictions/{taken}")).await.json();
    assert_eq!(object["status"], "completed");
    let log = log + &serving.log();
    assert_eq!(serving.terminate().await, Some(0));

    // What is told is told: nothing comes after another start.
    let count = receiver.seen().len();
    assert_eq!(receiver.seen().iter().filter(|event| event.path == "/before").count(), 1);
    let serving = program.serve(&["serve"]).await;
    serving.alice().edit(&told("another", &receiver.at("/another"))).await.picture();
    events(&receiver, count + 1).await;
    assert_eq!(receiver.seen().last().unwrap().path, "/another");
    for secret in ["canary-8d1e", &crate::harness::WEBHOOK_SECRET[6..]] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
