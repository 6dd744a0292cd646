//! Which requests one purchase answers: cache hits, joins, and unclaimed results.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::harness::{ALICE, Edit, Gateway, Raw, Upstream, picture, until};

const CACHE_OFF: (&str, &str) = ("cache.mode", "off");

/// Waits until this number of purchases is polled.
async fn followed(gateway: &Gateway, count: u64) {
    until("the purchases are followed", async || gateway.status("engine", "polling").await == count).await;
}

/// Waits until this number of requests waits.
async fn waiting(gateway: &Gateway, count: u64) {
    until("the right number waits", async || gateway.status("engine", "waiters").await == count).await;
}

#[tokio::test]
async fn a_repeated_request_is_a_hit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("again");

    let first = gateway.alice().edit(&edit).await;
    // The boundary and the file name differ; only the content counts.
    let again = gateway.alice().edit(&edit.clone().header("x-anything", "else")).await;

    assert_eq!((first.cache(), again.cache()), ("miss", "hit"));
    assert_eq!(first.header("age"), "");
    assert!(again.header("age").parse::<u64>().is_ok(), "{:?}", again.headers);
    assert_eq!(first.picture(), again.picture());
    assert_eq!(first.json()["created"], again.json()["created"]);
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn a_request_that_differs_in_the_picture_is_not_a_hit() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = || Edit::bare("again").picture("image[]", picture(1)).picture("image[]", picture(2));
    let others = [
        edit(),
        Edit::bare("again").picture("image[]", picture(2)).picture("image[]", picture(1)),
        Edit::bare("again").picture("image[]", picture(1)),
        edit().field("prompt", "Again"),
        edit().field("quality", "medium"),
        edit().field("size", "512x512"),
        edit().field("background", "transparent"),
        edit().field("model", "gpt-image-1"),
    ];
    upstream.set(json!({"life": {"medium_ms": [21000, 25000]}})).await;
    for (number, other) in others.iter().enumerate() {
        assert_eq!(gateway.alice().edit(other).await.cache(), "miss", "{number}");
    }
    assert_eq!(upstream.purchases().await, others.len() as u64);
    let spelled = edit().field("background", "auto").field("n", "1").field("user", "somebody");
    assert_eq!(gateway.alice().edit(&spelled).await.cache(), "hit", "defaults are the same as nothing");
}

#[tokio::test]
async fn no_cache_buys_again() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    gateway.alice().edit(&Edit::new("again")).await.picture();
    for (number, directive) in ["no-cache", "no-store"].into_iter().enumerate() {
        let answer = gateway.alice().edit(&Edit::new("again").header("cache-control", directive)).await;
        assert_eq!(answer.cache(), "bypass", "{directive}");
        assert_eq!(upstream.purchases().await, number as u64 + 2);
    }
}

#[tokio::test]
async fn clients_never_share_a_result() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("mine");
    upstream.hold().await;
    let alice = gateway.alice().begin(&edit);
    followed(&gateway, 1).await;
    let bob = gateway.bob().begin(&edit);
    followed(&gateway, 2).await;
    upstream.release().await;
    assert_eq!((alice.answer().await.cache(), bob.answer().await.cache()), ("miss", "miss"));
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn two_concurrent_equal_requests_buy_once() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let edit = Edit::new("at once");
    upstream.hold().await;
    let pending: Vec<_> = (0..8).map(|_| gateway.alice().begin(&edit)).collect();
    waiting(&gateway, 8).await;
    upstream.release().await;
    let mut words = Vec::new();
    for one in pending {
        let answer = one.answer().await;
        answer.picture();
        words.push(answer.cache().to_owned());
    }
    words.sort();
    assert_eq!(words[..7], ["joined"; 7]);
    assert_eq!(words[7], "miss");
    assert_eq!(upstream.submits().await, 1);
}

/// All requests have arrived but for one byte before the last byte of any is sent. So each first finds nothing to join and
/// nothing stored, and only the second look-up can find the other. One round may miss that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_requests_that_arrive_at_the_same_moment_buy_once() {
    const ROUNDS: u64 = 6;
    const CLIENTS: usize = 16;
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let held = CLIENTS as u64 * picture(1).len() as u64;
    for round in 1..=ROUNDS {
        let request = request_bytes(&format!("round {round}"));
        let (most, last) = request.split_at(request.len() - 1);
        let mut raws = Vec::new();
        for _ in 0..CLIENTS {
            let mut raw = Raw::to(&gateway.address()).await;
            raw.send(most).await;
            raws.push(raw);
        }
        until("all bodies have arrived", async || gateway.status("engine", "spool_bytes").await >= held).await;
        for raw in &mut raws {
            raw.send(last).await;
        }
        for raw in raws {
            let answer = raw.rest().await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        assert_eq!(upstream.submits().await, round);
    }
}

/// The bytes of a whole request, head and form.
fn request_bytes(prompt: &str) -> Vec<u8> {
    // The picture first: a part is stored once the next one begins.
    let mut body = b"--x\r\nContent-Disposition: form-data; name=image; filename=a.png\r\n\r\n".to_vec();
    body.extend(picture(1));
    for (name, value) in [("model", "gpt-image-1.5"), ("prompt", prompt), ("size", "256x256"), ("quality", "low")] {
        write!(body, "\r\n--x\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}").unwrap();
    }
    body.extend(b"\r\n--x--");
    let mut request = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

#[tokio::test]
async fn with_the_cache_off_two_equal_requests_buy_two_pictures() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("at once");
    upstream.hold().await;
    let [first, second] = [gateway.alice().begin(&edit), gateway.alice().begin(&edit)];
    followed(&gateway, 2).await;
    upstream.release().await;
    assert_eq!((first.answer().await.cache(), second.answer().await.cache()), ("bypass", "bypass"));
    // A delivered result does not answer another request.
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "bypass");
    assert_eq!(upstream.purchases().await, 3);
}

#[tokio::test]
async fn with_the_cache_off_an_sdk_retry_joins() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("retried");
    upstream.hold().await;
    let first = gateway.alice().begin(&edit);
    followed(&gateway, 1).await;
    let retry = gateway.alice().begin(&edit.clone().header("x-stainless-retry-count", "1"));
    waiting(&gateway, 2).await;
    upstream.release().await;
    assert_eq!(retry.answer().await.cache(), "joined");
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_retry_gets_a_delivered_response_that_was_lost() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("lost on its way");
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "bypass");
    // The first result must count as delivered, or a second request would get it.
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "bypass");
    for count in ["1", "2"] {
        let again = gateway.alice().edit(&edit.clone().header("x-stainless-retry-count", count)).await;
        again.picture();
        assert_eq!(again.cache(), "joined");
    }
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn a_client_that_disconnects_and_asks_again_gets_the_purchase() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("hung up");
    upstream.hold().await;
    let first = gateway.alice().begin(&edit);
    followed(&gateway, 1).await;
    first.disconnect().await;
    waiting(&gateway, 0).await;

    let again = gateway.alice().begin(&edit);
    waiting(&gateway, 1).await;
    upstream.release().await;

    let again = again.answer().await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(again.header("x-gateway-upstream-id"), upstream.prediction().await["id"].as_str().unwrap());
}

#[tokio::test]
async fn an_unclaimed_result_is_delivered_to_the_client_that_bought_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("came too late");
    upstream.hold().await;
    let first = gateway.alice().begin(&edit);
    followed(&gateway, 1).await;
    first.disconnect().await;
    waiting(&gateway, 0).await;
    upstream.release().await;
    until("the picture is stored", async || gateway.status("engine", "pictures").await == 1).await;

    let claimed = gateway.alice().edit(&edit).await;
    claimed.picture();
    assert_eq!(claimed.cache(), "joined");
    assert_eq!(upstream.purchases().await, 1);
    // It is claimed once; the next request buys its own.
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "bypass");
    assert_eq!(upstream.purchases().await, 2);
}

#[tokio::test]
async fn a_client_that_disconnects_while_queued_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("upstream.concurrent_predictions", "1")]).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("holds the place"));
    followed(&gateway, 1).await;
    let second = gateway.alice().begin(&Edit::new("in the queue"));
    until("it is queued", async || gateway.status("upstream", "queued_submits").await == 1).await;

    second.disconnect().await;
    until("its slot is free", async || gateway.status("upstream", "queued_submits").await == 0).await;
    upstream.release().await;
    first.answer().await.picture();
    gateway.alice().edit(&Edit::new("the next")).await.picture();

    let prompts: Vec<_> = upstream.predictions().await.iter().map(|one| one["parameters"]["prompt"].clone()).collect();
    assert_eq!(prompts, ["holds the place", "the next"]);
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn a_purchase_continues_after_the_clients_timeout() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let edit = Edit::new("takes long");
    upstream.hold().await;

    let first = gateway.alice().edit(&edit.clone().header("x-stainless-read-timeout", "2")).await;

    first.is_refused(504, "prediction_still_running");
    assert_eq!(first.header("x-should-retry"), "true", "a retry joins");
    let prediction = upstream.prediction().await;
    assert!(first.header("x-gateway-prediction").starts_with("pred_"));
    assert!(first.message().contains(first.header("x-gateway-prediction")), "{}", first.message());
    assert_eq!(first.header("x-gateway-upstream-id"), prediction["id"].as_str().unwrap());
    upstream.release().await;
    let again = gateway.alice().edit(&edit).await;
    again.picture();
    assert_eq!(again.cache(), "joined");
    assert_eq!(upstream.submits().await, 1);
}

/// The clients disconnect at different moments, from before the submit until long after it.
#[tokio::test]
async fn disconnects_at_every_moment_buy_every_picture_once() {
    const CLIENTS: usize = 40;
    const STEP: Duration = Duration::from_millis(3);
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF, ("upstream.concurrent_predictions", "12")]).await;
    upstream.hold().await;
    let edit = |number: usize| Edit::new(&format!("number {number}"));
    let disconnects = (0..CLIENTS).map(|number| {
        let (pending, left_after) = (gateway.alice().begin(&edit(number)), STEP * u32::try_from(number).unwrap());
        async move {
            tokio::time::sleep(left_after).await;
            pending.disconnect().await;
        }
    });
    futures_util::future::join_all(disconnects).await;

    let retries: Vec<_> = (0..CLIENTS)
        .map(|number| gateway.alice().begin(&edit(number).header("x-stainless-retry-count", "1")))
        .collect();
    upstream.release().await;
    for retry in retries {
        retry.answer().await.picture();
    }

    assert_eq!(upstream.submits().await, CLIENTS as u64);
    assert_eq!(upstream.purchases().await, CLIENTS as u64);
    assert_eq!(upstream.count("submits_repeated").await, 0);
}

#[tokio::test]
async fn an_idempotency_key_is_one_purchase_of_one_client() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[CACHE_OFF]).await;
    let keyed = |prompt: &str| Edit::new(prompt).header("idempotency-key", "order-4711");
    upstream.hold().await;
    let pending: Vec<_> = (0..4).map(|_| gateway.alice().begin(&keyed("once"))).collect();
    waiting(&gateway, 4).await;
    upstream.release().await;
    let mut pictures = Vec::new();
    for one in pending {
        pictures.push(one.answer().await.picture());
    }

    let gateway = gateway.restart().await;
    pictures.push(gateway.alice().edit(&keyed("once")).await.picture());
    pictures.dedup();
    assert_eq!((pictures.len(), upstream.submits().await), (1, 1));
    gateway.alice().edit(&keyed("something else")).await.is_refused(422, "idempotency_key_reused");
    assert_eq!(upstream.submits().await, 1);
    gateway.bob().edit(&keyed("something else")).await.picture();
    gateway.alice().edit(&Edit::new("once").header("idempotency-key", "order-4712")).await.picture();
    assert_eq!(upstream.submits().await, 3, "another client, another key");
}
