//! Paths as clients are really configured, and the ways in which they send their key.

use reqwest::Method;
use serde_json::json;

use crate::harness::{ALICE, Answer, BOB, Edit, Gateway, Raw, Upstream, picture};

/// Sends a request line as it is: HTTP clients normalize paths.
async fn raw(gateway: &Gateway, method: &str, path: &str) -> String {
    let mut raw = Raw::to(&gateway.address()).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\nConnection: close\r\n\
         Content-Length: 0\r\n\r\n"
    );
    raw.send(head).await;
    raw.rest().await
}

#[tokio::test]
async fn other_spellings_of_a_path_reach_its_route() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let generate = |path| gateway.alice().request(Method::POST, path).json(&json!({"prompt": "one purchase"}));
    Answer::to(generate("/v1/images/generations")).await.picture();
    for path in [
        "//v1/images/generations",
        "/v1//images/generations",
        "/v1/v1/images/generations",
        "/api/v1/images/generations",
        "/V1/Images/Generations",
        "/v1/openai/images/generations?api-version=2025-04-01-preview",
        "/v1/image/generation",
        "/v1/images/generations/images/generations",
        "/openai/deployments/gpt-image-1.5/v1/images/generations",
        "/v1/images/generations%20",
    ] {
        let answer = Answer::to(generate(path)).await;
        assert_eq!((answer.status, answer.cache()), (200, "hit"), "{path}: {}", answer.text());
    }
    let edit = Edit::new("edited").picture("image", picture(2));
    gateway.alice().edit_at("/api/v1/image/edit", &edit).await.picture();
    assert_eq!(gateway.alice().edit(&edit).await.cache(), "hit");
    assert_eq!(upstream.submits().await, 2);

    for path in ["//v1/models", "/v1/v1/models/gpt-image-2", "/api/v1/model/gpt-image-2", "/v1/images/models"] {
        let answer = raw(&gateway, "GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    // The key is needed on every way.
    Answer::to(gateway.client("").request(Method::POST, "/v1/v1/images/edits"))
        .await
        .is_refused(401, "missing_api_key");
    let wrong_method = Answer::to(gateway.alice().request(Method::PUT, "/V1/Images/Edits")).await;
    wrong_method.is_refused(405, "method_not_supported");
    assert_eq!(wrong_method.header("allow"), "POST");
    assert!(wrong_method.message().contains("/V1/Images/Edits"), "{}", wrong_method.message());
}

#[tokio::test]
async fn an_unknown_path_gets_a_way_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (path, part) in [
        ("/v1/images", "POST /v1/images/edits"),
        ("/v1/edits", "POST /v1/images/edits"),
        ("/v1/imagse/edits", "POST /v1/images/edits"),
        ("/proxy/v1/images/generations", "POST /v1/images/generations"),
        ("/v1/embeddings", "Embeddings are not served here"),
        ("/v1/completions", "Text completions are not served here"),
        ("/v1/audio/speech", "not served here"),
        ("/v1/files", "send pictures inside the request"),
        ("/v1/assistants", "not served here"),
        ("/openai/deployments?api-version=2024-10-21", "/openai/deployments/{model}/images/edits"),
        ("/wp-login.php", "This gateway serves"),
    ] {
        let answer = Answer::to(gateway.alice().request(Method::POST, path).json(&json!({}))).await;
        answer.is_refused(404, "unknown_url");
        assert!(answer.message().contains(part), "{path}: {}", answer.message());
        assert!(answer.message().starts_with("Invalid URL (POST /"), "{}", answer.message());
    }
    let (_, metrics) = gateway.page("/metrics").await;
    assert!(metrics.contains(r#"code="unknown_url""#) && !metrics.contains("wp-login"), "{metrics}");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn an_address_says_without_a_key_what_it_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let anonymous = gateway.client("");
    for path in ["/", "/v1", "/v1/", "/openai/v1", "//"] {
        let answer = anonymous.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{path}");
        let body = answer.json();
        assert_eq!((&body["name"], &body["version"]), (&json!("gptproto-gateway"), &json!(env!("CARGO_PKG_VERSION"))));
        assert!(body["routes"].as_array().unwrap().contains(&json!("POST /v1/images/edits")), "{body}");
    }
    for path in ["/health", "/healthz", "/ping", "/v1/health", "/livez"] {
        let answer = anonymous.get(path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{path}");
        let head = Answer::to(anonymous.request(Method::HEAD, path)).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0), "{path}");
    }
    Answer::to(anonymous.request(Method::POST, "/")).await.is_refused(405, "method_not_supported");
}

#[tokio::test]
async fn a_key_that_is_sent_wrongly_is_explained() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let with = |pairs: &[(&str, String)]| {
        let request = gateway.client("").request(Method::GET, "/v1/models");
        Answer::to(pairs.iter().fold(request, |request, (name, value)| request.header(*name, value)))
    };
    assert_eq!(with(&[("x-api-key", ALICE.to_owned())]).await.status, 200);
    assert_eq!(with(&[("x-api-key", ALICE.to_owned()), ("api-key", ALICE.to_owned())]).await.status, 200);
    for (name, value, code, part) in [
        ("authorization", "Bearer ".to_owned(), "missing_api_key", "empty"),
        ("x-api-key", String::new(), "missing_api_key", "empty"),
        ("authorization", format!("Bearer Bearer {ALICE}"), "invalid_api_key", "twice"),
        ("authorization", format!("Bearer \"{ALICE}\""), "invalid_api_key", "quotation marks"),
        ("authorization", format!("Basic {ALICE}"), "invalid_api_key", "Bearer"),
        ("authorization", format!("Token {ALICE}"), "invalid_api_key", "white space"),
        ("authorization", format!("Bearer {ALICE}\\n"), "invalid_api_key", "line break"),
        ("authorization", "Bearer ${OPENAI_API_KEY}".to_owned(), "invalid_api_key", "variable"),
        ("api-key", "undefined".to_owned(), "invalid_api_key", "missing key"),
        ("x-api-key", format!("OPENAI_API_KEY={ALICE}"), "invalid_api_key", "variable"),
    ] {
        let answer = with(&[(name, value.clone())]).await;
        answer.is_refused(401, code);
        assert!(answer.message().contains(part), "{value}: {}", answer.message());
        assert!(!answer.text().contains(ALICE), "the key is not repeated");
    }
    let different = with(&[("authorization", format!("Bearer {ALICE}")), ("x-api-key", BOB.to_owned())]).await;
    different.is_refused(401, "invalid_api_key");
    assert!(different.message().contains("different keys"), "{}", different.message());
}
