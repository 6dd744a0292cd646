//! Limits of clients: each has its own error, buys nothing when exceeded, and appears in headers.

use gptproto_gateway::config::mint_key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, Edit, Gateway, Raw, Upstream, until};

/// The values of `x-ratelimit-limit-requests`, `-remaining-requests` and `-reset-requests`.
fn rate(answer: &Answer) -> [&str; 3] {
    ["limit", "remaining", "reset"].map(|name| answer.header(&format!("x-ratelimit-{name}-requests")))
}

/// Asserts a temporary refusal, which SDKs retry.
#[track_caller]
fn is_rate_limited(answer: &Answer) {
    answer.is_refused(429, "rate_limit_exceeded");
    assert_eq!(answer.json()["error"]["type"], "requests");
    assert_eq!(answer.header("x-should-retry"), "true");
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()), "{:?}", answer.headers);
}

/// Asserts a refusal until a day or a month has ended.
#[track_caller]
fn is_out_of_quota(answer: &Answer, days: u64) {
    answer.is_refused(429, "insufficient_quota");
    assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
    assert_eq!(answer.header("x-should-retry"), "false");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=days * 86_400).contains(&seconds), "{seconds}");
}

/// The entry of a client on the status page.
async fn client_status(gateway: &Gateway, name: &str) -> Value {
    let status: Value = serde_json::from_str(&gateway.page("/status.json").await.1).unwrap();
    let clients = status["clients"].as_array().unwrap();
    clients.iter().find(|client| client["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn requests_per_minute_are_limited() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.requests_per_minute", "4")]).await;
    let alice = gateway.alice();

    let first = alice.edit(&Edit::new("first")).await;
    first.picture();
    let hit = alice.edit(&Edit::new("first")).await;
    assert_eq!(hit.cache(), "hit");
    let wrong = alice.edit(&Edit::new("wrong").field("n", "0")).await;
    wrong.is_refused(400, "integer_below_min_value");
    let retired = alice.edit_at("/images/variations/", &Edit::new("retired")).await;
    retired.is_refused(400, "endpoint_retired");
    for (answer, remaining) in [(&first, "3"), (&hit, "2"), (&wrong, "1"), (&retired, "0")] {
        let [limit, left, reset] = rate(answer);
        assert_eq!((limit, left), ("4", remaining));
        assert!(reset.ends_with('s') && reset != "0s", "{reset}");
    }

    let refused = alice.generate(json!({"prompt": "too many"})).await;

    is_rate_limited(&refused);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 15);
    let [limit, left, reset] = rate(&refused);
    assert_eq!((limit, left), ("4", "0"));
    let seconds: f64 = reset.trim_start_matches("1m").trim_end_matches('s').parse().unwrap();
    assert!((30.0..=60.0).contains(&seconds) || reset == "1m0s", "{reset}");
    let models = alice.get("/v1/models").await;
    assert_eq!((models.status, rate(&models)), (200, [""; 3]), "other routes are free");
    assert_eq!(rate(&gateway.bob().edit(&Edit::new("of another")).await)[1], "3", "a bucket of one's own");
    let unknown = gateway.client("sk-nobody-0123456789abcdef").edit(&Edit::new("whose")).await;
    unknown.is_refused(401, "invalid_api_key");
    assert_eq!(rate(&unknown), [""; 3]);
    assert_eq!(upstream.submits().await, 2);
}

#[tokio::test]
async fn a_client_over_its_rate_is_refused_before_the_body_is_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.requests_per_minute", "1")]).await;
    gateway.alice().edit(&Edit::new("the only one")).await.picture();
    let mut raw = Raw::to(&gateway.address()).await;
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\
         Content-Type: application/json\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n"
    );
    raw.send(head).await;
    // No byte of the body is sent.
    let answer = raw.until("rate_limit_exceeded").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
}

#[tokio::test]
async fn without_limits_no_response_has_rate_limit_headers() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.pictures_per_day", "5")]).await;
    let answer = gateway.alice().edit(&Edit::new("free")).await;
    answer.picture();
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-ratelimit")), "{:?}", answer.headers);
}

#[tokio::test]
async fn concurrent_predictions_are_limited_and_joins_do_not_count() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.predictions_at_once", "1")]).await;
    upstream.hold().await;
    let first = gateway.alice().begin(&Edit::new("first"));
    until("it is followed", async || gateway.status("engine", "polling").await == 1).await;

    is_rate_limited(&gateway.alice().edit(&Edit::new("second")).await);

    let joining = gateway.alice().begin(&Edit::new("first"));
    until("two wait", async || gateway.status("engine", "waiters").await == 2).await;
    let of_bob = gateway.bob().begin(&Edit::new("his own"));
    until("bob's is followed", async || gateway.status("engine", "polling").await == 2).await;
    upstream.release().await;
    first.answer().await.picture();
    assert_eq!(joining.answer().await.cache(), "joined");
    of_bob.answer().await.picture();
    gateway.alice().edit(&Edit::new("second")).await.picture();
    assert_eq!(upstream.submits().await, 3);
    assert_eq!(client_status(&gateway, "alice").await["predictions_at_once"], json!({"used": 0, "limit": 1}));
}

#[tokio::test]
async fn pictures_per_day_are_limited_and_hits_do_not_count() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.pictures_per_day", "3")]).await;
    let alice = gateway.alice();
    let edit = |prompt: &str, n: &str| Edit::new(prompt).field("n", n);

    is_out_of_quota(&alice.edit(&edit("more than a whole day's", "4")).await, 1);
    assert_eq!(upstream.submits().await, 0);
    alice.edit(&edit("a forbidden-picture", "3")).await.is_refused(400, "moderation_blocked");
    assert_eq!(alice.edit(&edit("two", "2")).await.pictures().len(), 2);
    is_out_of_quota(&alice.edit(&edit("two more", "2")).await, 1);
    assert_eq!(alice.edit(&edit("two", "2")).await.cache(), "hit");
    alice.edit(&edit("the last", "1")).await.picture();
    let refused = alice.edit(&edit("one more", "1")).await;
    is_out_of_quota(&refused, 1);
    assert!(refused.message().contains("pictures"), "{}", refused.message());
    gateway.bob().edit(&edit("of another", "1")).await.picture();
    assert_eq!(upstream.purchases().await, 3);
    let alice = client_status(&gateway, "alice").await;
    assert_eq!(alice["pictures_per_day"], json!({"used": 3, "limit": 3}));
    assert_eq!(alice["pictures_this_month"], 3);
}

#[tokio::test]
async fn spending_is_settled_by_usage_and_kept_over_a_restart() {
    for (key, days) in [("usd_per_day", 1), ("usd_per_month", 31)] {
        let upstream = Upstream::start().await;
        // The estimate of one small picture ($0.0023) fits, but not that of two, nor another beside the price of one ($0.0017).
        let gateway = Gateway::with(&upstream, &[(&format!("limits.{key}"), "0.0024")]).await;
        is_out_of_quota(&gateway.alice().edit(&Edit::new("two").field("n", "2")).await, days);
        assert_eq!(upstream.submits().await, 0);
        gateway.alice().edit(&Edit::new("bought")).await.picture();
        let standing_now = client_status(&gateway, "alice").await;
        let used = standing_now[key]["used"].as_f64().unwrap();
        let status: Value = serde_json::from_str(&gateway.page("/status.json").await.1).unwrap();
        let spent = status["engine"]["spent_usd"].as_f64().unwrap();
        assert!(used > 0.0005 && (used - spent).abs() < 1e-8, "{used} was counted, {spent} was spent");
        assert!(used < 0.002, "by tokens, not by the estimate");

        let gateway = gateway.restart().await;

        assert_eq!(client_status(&gateway, "alice").await, standing_now);
        assert_eq!(gateway.alice().edit(&Edit::new("bought")).await.cache(), "hit");
        let refused = gateway.alice().edit(&Edit::new("another")).await;
        is_out_of_quota(&refused, days);
        assert!(refused.message().contains("money"), "{}", refused.message());
        assert_eq!(gateway.status("engine", "jobs").await, 0);
        assert_eq!(upstream.purchases().await, 1);
    }
}

#[tokio::test]
async fn a_running_job_counts_once_after_a_restart() {
    let upstream = Upstream::start().await;
    let limits = [("limits.pictures_per_day", "2"), ("limits.predictions_at_once", "1")];
    let gateway = Gateway::with(&upstream, &limits).await;
    upstream.hold().await;
    let waiting = gateway.alice().begin(&Edit::new("interrupted"));
    until("it is followed", async || gateway.status("engine", "polling").await == 1).await;

    let gateway = gateway.restart().await;

    waiting.answer().await.is_refused(503, "restarting");
    is_rate_limited(&gateway.alice().edit(&Edit::new("another")).await);
    let alice = client_status(&gateway, "alice").await;
    assert_eq!(alice["pictures_per_day"]["used"], 1);
    assert_eq!(alice["predictions_at_once"]["used"], 1);
    upstream.release().await;
    until("the picture is stored", async || gateway.status("engine", "pictures").await == 1).await;
    gateway.alice().edit(&Edit::new("another")).await.picture();
    is_out_of_quota(&gateway.alice().edit(&Edit::new("a third")).await, 1);
    let gateway = gateway.restart().await;
    assert_eq!(client_status(&gateway, "alice").await["pictures_per_day"]["used"], 2);
}

#[tokio::test]
async fn an_unknown_outcome_counts_as_spent_until_it_is_resolved() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.pictures_per_day", "1")]).await;
    upstream.fault("submit", "drop_after", 1).await;
    gateway.alice().edit(&Edit::new("lost")).await.is_refused(502, "submission_outcome_unknown");
    is_out_of_quota(&gateway.alice().edit(&Edit::new("another")).await, 1);
    let gateway = gateway.restart().await;
    is_out_of_quota(&gateway.alice().edit(&Edit::new("another")).await, 1);
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_client_has_only_its_own_models_and_limits() {
    let upstream = Upstream::start().await;
    let carol = mint_key("carol", [7; 24]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[[clients]]\nname = \"carol\"\nkey_digest = \"{}\"\nrequests_per_minute = 0\nweight = 2.5\n\
         models = [\"openai/gpt-image-1-mini\", \"gpt-image-2\"]\n",
        carol.digest
    );
    std::fs::write(file.path(), text).unwrap();
    let changes = [("config", file.path().to_str().unwrap()), ("limits.requests_per_minute", "1000")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let client = gateway.client(carol.key.expose());

    let ids = |answer: &Answer| -> Vec<String> {
        let data = answer.json()["data"].as_array().unwrap().clone();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&client.get("/v1/models").await), ["gpt-image-1-mini", "gpt-image-2"]);
    assert!(ids(&gateway.alice().get("/v1/models").await).len() > 2);
    assert_eq!(client.get("/v1/models/gpt-image-2").await.status, 200);
    client.get("/v1/models/gpt-image-1.5").await.is_refused(404, "model_not_found");

    // Alice has bought it. A model that a client may not use is no hit for it either.
    gateway.alice().edit(&Edit::new("shared")).await.picture();
    for edit in [Edit::new("shared"), Edit::new("the default model").without("model")] {
        let refused = client.edit(&edit).await;
        refused.is_refused(403, "model_not_found");
        let error = &refused.json()["error"];
        assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &json!("model")));
        assert!(refused.message().ends_with("It may use: 'gpt-image-1-mini' and 'gpt-image-2'."), "{error}");
        assert_eq!(rate(&refused), [""; 3], "no limit of everybody's");
    }
    let allowed = Edit::new("allowed").field("model", "gpt-image-1-mini").field("size", "1024x1024");
    client.edit(&allowed).await.picture();
    assert_eq!(upstream.purchases().await, 2);
    let standing = client_status(&gateway, "carol").await;
    assert_eq!(standing["weight"], 2.5);
    assert_eq!(standing["requests_per_minute"], Value::Null);
    assert_eq!(standing["models"], json!(["gpt-image-1-mini", "gpt-image-2"]));
}

#[tokio::test]
async fn the_status_page_shows_the_use_of_each_limit_and_no_key() {
    let upstream = Upstream::start().await;
    let unlimited = Gateway::on(&upstream).await;
    assert!(!unlimited.page("/").await.1.contains("requests per minute: "));
    let limits = [("limits.requests_per_minute", "2"), ("limits.usd_per_day", "0.0024")];
    let gateway = Gateway::with(&upstream, &limits).await;
    gateway.alice().edit(&Edit::new("dear")).await.picture();
    gateway.alice().edit(&Edit::new("too dear").field("n", "2")).await.is_refused(429, "insufficient_quota");
    Answer::to(gateway.alice().request(Method::POST, "/images/edits")).await.is_refused(429, "rate_limit_exceeded");

    let (_, metrics) = gateway.page("/metrics").await;
    for series in [
        "gptproto_gateway_admission_rejections_total{limit=\"requests_per_minute\"} 1",
        "gptproto_gateway_admission_rejections_total{limit=\"usd_per_day\"} 1",
        "gptproto_gateway_admission_limit{client=\"alice\",limit=\"requests_per_minute\"} 2.0",
        "gptproto_gateway_admission_used{client=\"alice\",limit=\"requests_per_minute\"} 2.0",
        "gptproto_gateway_admission_limit{client=\"bob\",limit=\"usd_per_day\"} 0.0024",
        "gptproto_gateway_admission_used{client=\"bob\",limit=\"usd_per_day\"} 0.0",
    ] {
        assert!(metrics.lines().any(|line| line == series), "no {series} in\n{metrics}");
    }
    let shown = |line: &str| line.contains("usd_per_month") && !line.contains("rejections");
    assert!(!metrics.lines().any(shown), "what is not limited is not shown");
    let (_, page) = gateway.page("/").await;
    assert!(page.contains("requests per minute: 2 of 2"), "{page}");
    assert!(page.contains(" of $0.0024"), "{page}");
    let (_, status) = gateway.page("/status.json").await;
    for shown in [metrics, page, status] {
        assert!(!shown.contains(ALICE) && !shown.contains("digest"), "{shown}");
    }
}
