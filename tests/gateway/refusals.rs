//! Refusals of the gateway and of the upstream, and the errors that clients receive.

use reqwest::Method;
use serde_json::json;

use crate::harness::{ALICE, Answer, Edit, Gateway, Raw, UPSTREAM_KEY, Upstream, picture};

/// Sends one edit under a scenario.
async fn under(scenario: serde_json::Value, prompt: &str) -> (Upstream, Answer) {
    let upstream = Upstream::with(scenario).await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().edit(&Edit::new(prompt)).await;
    (upstream, answer)
}

#[tokio::test]
async fn a_header_of_one_value_that_is_repeated_is_refused_by_name() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let key = format!("Bearer {ALICE}");
    for (name, values) in [
        ("Idempotency-Key", ["order-1", "order-2"]),
        ("Idempotency-Key", ["order-1", "order-1"]),
        ("Authorization", [&key, "Bearer sk-other"]),
        ("Api-Key", [ALICE, "sk-other"]),
        ("X-Stainless-Retry-Count", ["0", "1"]),
        ("X-Stainless-Read-Timeout", ["600", "1"]),
        ("X-Stainless-Timeout", ["600", "1"]),
        ("Content-Encoding", ["identity", "gzip"]),
    ] {
        let mut edit = Edit::new("repeated");
        // The client sends its key by itself, so one more is the second.
        let more = if name == "Authorization" { &values[1..] } else { &values[..] };
        for value in more {
            edit = edit.header(name, value);
        }
        let answer = gateway.alice().edit(&edit).await;
        answer.is_refused(400, "duplicate_header");
        assert_eq!(answer.json()["error"]["param"], name);
        assert!(answer.message().contains(&format!("'{name}'")), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
    // Lists may be repeated.
    let edit = Edit::new("lists").header("cache-control", "no-cache").header("cache-control", "no-store");
    gateway.alice().edit(&edit).await.picture();
}

#[tokio::test]
async fn content_refused_at_submit_is_a_moderation_error() {
    for form in ["submit400", "submit503"] {
        let (upstream, answer) = under(json!({"policy": {"answer": form}}), "a forbidden-picture").await;
        answer.is_refused(400, "moderation_blocked");
        assert_eq!(answer.json()["error"]["type"], "image_generation_user_error");
        assert_eq!(upstream.purchases().await, 0);
    }
}

#[tokio::test]
async fn content_refused_during_generation_is_a_moderation_error() {
    let (upstream, answer) = under(json!({"policy": {"answer": "task"}}), "a forbidden-picture").await;
    answer.is_refused(400, "moderation_blocked");
    assert_eq!(answer.header("x-should-retry"), "false", "it may have been paid for");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_failed_task_is_not_bought_again() {
    for outcome in ["failed_provider", "failed_empty", "cancelled", "timeout", "expired"] {
        for place in ["string", "object", "message"] {
            let scenario = json!({"life": {"outcome": outcome}, "result": {"failure_error": place}});
            let (upstream, answer) = under(scenario, "fails").await;
            answer.is_refused(502, "image_generation_failed");
            assert_eq!(answer.header("x-should-retry"), "false", "{outcome}");
            assert_eq!(upstream.submits().await, 1, "{outcome}");
        }
    }
}

#[tokio::test]
async fn the_message_of_a_failed_task_reaches_the_client() {
    let (_upstream, answer) = under(json!({"life": {"outcome": "failed_provider"}}), "fails").await;
    assert!(answer.message().contains("The upstream provider returned an error"), "{}", answer.message());
}

#[tokio::test]
async fn an_empty_account_is_a_quota_error() {
    let (upstream, answer) = under(json!({"balance": {"usd": 0.0}}), "costs").await;
    answer.is_refused(429, "insufficient_quota");
    assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(upstream.submits().await, 1);
}

#[tokio::test]
async fn a_refused_upstream_key_is_a_server_error() {
    for shape in ["documented", "a", "b", "c", "d"] {
        let scenario = json!({"auth": {"revoked": [UPSTREAM_KEY]}, "errors": {"shape": shape}});
        let (upstream, answer) = under(scenario, "locked out").await;
        answer.is_refused(502, "upstream_key_refused");
        assert_eq!(answer.header("x-should-retry"), "false");
        assert_eq!(upstream.submits().await, 2, "as Bearer, and raw");
    }
}

#[tokio::test]
async fn a_model_without_a_channel_is_unavailable() {
    // A 429 and a 503 may pass; a 400 is final at once.
    for (status, submits) in [(429, 3), (400, 1), (503, 3)] {
        let scenario = json!({"models": {"no_channel": ["gpt-image-1.5"], "no_channel_status": status}});
        let (upstream, answer) = under(scenario, "nobody draws").await;
        answer.is_refused(503, "model_unavailable");
        assert_eq!(upstream.submits().await, submits, "{status}");
    }
}

#[tokio::test]
async fn an_invalid_parameter_is_named_and_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let good = || Edit::new("good");
    let cases = [
        (good().without("prompt"), 400, "missing_required_parameter", json!("prompt")),
        (Edit::bare("no picture"), 400, "missing_required_parameter", json!("image")),
        (good().field("n", "0"), 400, "integer_below_min_value", json!("n")),
        (good().field("n", "11"), 400, "integer_above_max_value", json!("n")),
        (good().field("n", "two"), 400, "invalid_type", json!("n")),
        (good().field("size", "640x480"), 400, "invalid_value", json!("size")),
        (good().field("quality", "splendid"), 400, "invalid_value", json!("quality")),
        (good().field("background", "green"), 400, "invalid_value", json!("background")),
        (good().field("response_format", "fax"), 400, "invalid_value", json!("response_format")),
        (good().field("model", "no-such-model"), 404, "model_not_found", json!("model")),
        (good().field("input_fidelity", "high"), 400, "invalid_input_fidelity_model", json!("input_fidelity")),
        (
            Edit::bare("text").picture("image", b"\0\x01\x02 not this".to_vec()),
            400,
            "unsupported_file_mimetype",
            json!("image"),
        ),
        (Edit::bare("empty").picture("image", Vec::new()), 400, "invalid_image_file", json!("image")),
        (
            good().field("model", "gpt-image-2.5-flare").field("size", "1024x1024").picture("mask", picture(1)),
            400,
            "unsupported_parameter",
            json!("mask"),
        ),
    ];
    for (edit, status, code, param) in cases {
        let answer = gateway.alice().edit(&edit).await;
        answer.is_refused(status, code);
        assert_eq!(answer.json()["error"]["param"], param, "{code}");
    }
    let too_many = (0..17).fold(Edit::bare("too many"), |edit, seed| edit.picture("image[]", picture(seed)));
    gateway.alice().edit(&too_many).await.is_refused(400, "array_above_max_length");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn an_invalid_body_is_refused_and_buys_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let file = json!({"prompt": "by id", "images": [{"file_id": "file-abc123"}]});
    alice.edit_json(file).await.is_refused(400, "unsupported_file_id");
    let send = |content_type: &str, body: &str| {
        let request = alice.request(Method::POST, "/v1/images/edits");
        Answer::to(request.header("content-type", content_type).body(body.to_owned()))
    };
    send("application/json", "{\"prompt\": ").await.is_refused(400, "malformed_body");
    send("text/plain", "hello").await.is_refused(400, "unsupported_content_type");
    let empty = send("multipart/form-data; boundary=x", "").await;
    empty.is_refused(400, "malformed_body");
    assert_eq!(empty.header("x-should-retry"), "false", "node 4 sends this, and would again");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_name_the_problem() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    alice.get("/v1/nothing/here").await.is_refused(404, "unknown_url");
    let wrong_method = alice.get("/v1/images/edits").await;
    wrong_method.is_refused(405, "method_not_supported");
    assert_eq!(wrong_method.header("allow"), "POST");
    alice.edit_at("/v1/images/variations", &Edit::new("again")).await.is_refused(400, "endpoint_retired");
}

#[tokio::test]
async fn a_refused_upload_receives_its_response_and_not_a_broken_pipe() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.body_bytes_max", "1000000")]).await;
    // More than any socket buffers; the pixels are never read.
    let large = Edit::bare("too large").picture("image", vec![0; 32 << 20]);
    gateway.alice().edit(&large).await.is_refused(413, "body_too_large");
    gateway.client("sk-nobody-0123456789abcdef").edit(&large).await.is_refused(401, "invalid_api_key");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn a_body_that_stops_gets_408() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.body_idle_timeout_s", "1")]).await;
    let mut raw = Raw::to(&gateway.address()).await;
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 436\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nx-stainless-retry-count: 1\r\n\r\n"
    );
    raw.send(head).await;
    let answer = raw.until("body_timeout").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("x-should-retry: false\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let rest = raw.rest().await;
    assert_eq!(rest.matches("HTTP/1.1").count(), 1, "nothing is answered after it: {rest}");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn malformed_http_gets_an_empty_error_from_the_library() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let many = "x-more: 1\r\n".repeat(120);
    let long = format!("x-long: {}\r\n", "a".repeat(500_000));
    for (request, status) in [
        ("GET /v1/models HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        (format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), "431"),
        (format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{long}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(70_000)), "414"),
    ] {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.send(request).await;
        let answer = raw.until("\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("content-length: 0\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn odd_paths_get_errors_in_openais_shape() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    for (path, status, code) in [
        ("/v1/results/order/x", 403, "invalid_result_address"),
        ("/v1/results/%ff/0", 403, "invalid_result_address"),
        ("/v1/results/o/0?expires=x", 403, "invalid_result_address"),
        ("/v1/models/%ff", 404, "model_not_found"),
        ("/v1/%ff", 404, "unknown_url"),
    ] {
        alice.get(path).await.is_refused(status, code);
    }
    let edit = Edit::new("nowhere");
    alice.edit_at("/openai/deployments/%ff/images/edits", &edit).await.is_refused(404, "unknown_url");
}

#[tokio::test]
async fn organization_and_project_headers_are_ignored() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for value in ["", "org-123"] {
        let edit = Edit::new("organised").header("openai-organization", value).header("openai-project", value);
        gateway.alice().edit(&edit).await.picture();
    }
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn with_drop_an_unsupported_parameter_is_dropped_and_named() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.unsupported_parameters", "drop")]).await;
    let edit = Edit::new("high fidelity").field("input_fidelity", "high").field("seed", "7");
    let answer = gateway.alice().edit(&edit).await;
    answer.picture();
    assert_eq!(answer.header("x-gateway-dropped"), "input_fidelity");
    let parameters = &upstream.prediction().await["parameters"];
    assert_eq!((parameters.get("input_fidelity"), parameters.get("seed")), (None, None));
}
