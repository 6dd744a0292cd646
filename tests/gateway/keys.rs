//! Client keys, and the upstream key, which only the upstream may receive.

use std::fmt::Write;

use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::json;

use crate::harness::{ALICE, Answer, Edit, Gateway, Program, Raw, Relay, UPSTREAM_KEY, Upstream};

/// Every route that needs a key.
const ROUTES: [(Method, &str); 7] = [
    (Method::POST, "/v1/images/edits"),
    (Method::POST, "/v1/images/generations"),
    (Method::POST, "/v1/images/variations"),
    (Method::GET, "/v1/models"),
    (Method::GET, "/v1/models/gpt-image-2"),
    (Method::POST, "/images/edits"),
    (Method::GET, "/models/"),
];

#[tokio::test]
async fn every_route_needs_a_valid_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (method, path) in ROUTES {
        for (key, code) in [
            ("", "missing_api_key"),
            ("sk-nobody-0123456789abcdef", "invalid_api_key"),
            (UPSTREAM_KEY, "invalid_api_key"),
        ] {
            let answer = Answer::to(gateway.client(key).request(method.clone(), path)).await;
            answer.is_refused(401, code);
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"OpenAI API\"");
            assert!(key.is_empty() || !answer.text().contains(key), "the key is not repeated");
        }
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn an_invalid_key_is_refused_before_the_body_is_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for path in ["/v1/images/edits", "/v1/images/generations"] {
        let mut raw = Raw::to(&gateway.address()).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-nobody\r\nContent-Type: application/json\r\n\
             Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n"
        );
        raw.send(head).await;
        // No byte of the body is sent.
        let answer = raw.until("invalid_api_key").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn a_key_may_be_in_the_api_key_header() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let request = |key: &str| gateway.client("").request(Method::GET, "/v1/models").header("api-key", key);
    assert_eq!(Answer::to(request(ALICE)).await.status, 200);
    Answer::to(request("sk-nobody-0123456789abcdef")).await.is_refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_file_host_never_receives_a_key() {
    let upstream = Upstream::start().await;
    let files = Relay::to(&upstream).await;
    upstream.set(json!({"files": {"origin": files.origin, "redirects": 1}})).await;
    let gateway = Gateway::on(&upstream).await;

    gateway.alice().edit(&Edit::new("fetched from elsewhere")).await.picture();

    let seen = files.seen();
    assert!(!seen.is_empty() && seen.iter().all(|request| request.path.starts_with("/files/")), "{seen:?}");
    for request in seen {
        assert!(!request.headers.contains_key(AUTHORIZATION), "{request:?}");
        assert!(!format!("{request:?}").contains(UPSTREAM_KEY), "{request:?}");
    }
}

#[tokio::test]
async fn a_poll_url_on_another_host_is_not_used() {
    let upstream = Upstream::with(json!({"submit": {"answer": "foreign_host"}})).await;
    let unrelated = Relay::to(&upstream).await;
    let between = Relay::replacing(&upstream, "https://collector.example.net", &unrelated.origin).await;
    let gateway = Gateway::at(&between.origin, &[]).await;

    gateway.alice().edit(&Edit::new("do not ask strangers")).await.picture();

    assert!(unrelated.seen().is_empty(), "{:?}", unrelated.seen());
    let polls = between.seen().into_iter().filter(|request| request.path.ends_with("/result"));
    assert!(polls.count() > 0, "the upstream itself was asked");
    assert_eq!(upstream.purchases().await, 1);
}

#[tokio::test]
async fn no_secret_is_in_a_response_a_page_or_the_log() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let serving = program.serve(&["serve"]).await;
    let alice = serving.alice();
    let mut said = String::new();

    let mut answers = vec![alice.edit(&Edit::new("well")).await, alice.get("/v1/models").await];
    for (prompt, fault) in [("lost", "drop_after"), ("broken", "html_502_after"), ("cut", "truncated_json")] {
        upstream.fault("submit", fault, 1).await;
        answers.push(alice.edit(&Edit::new(prompt)).await);
    }
    upstream.set(json!({"auth": {"revoked": [UPSTREAM_KEY]}})).await;
    answers.push(alice.edit(&Edit::new("refused")).await);
    answers.push(serving.client("sk-nobody-0123456789abcdef").get("/v1/models").await);
    answers.push(alice.edit(&Edit::bare("no picture")).await);
    for answer in &answers {
        write!(said, "{:?}\n{}\n", answer.headers, answer.text()).unwrap();
    }
    for path in ["/", "/status.json", "/metrics", "/readyz", "/healthz"] {
        said += &alice.get(&format!("{}{path}", serving.operator())).await.text();
    }
    said += &serving.banner();
    let log = serving.log();
    assert!(log.contains("submit") && log.contains("resolved"), "the log is there, at its most talkative");
    said += &log;

    for secret in [UPSTREAM_KEY, ALICE, crate::harness::BOB] {
        for form in [secret.to_owned(), base64_simd::STANDARD.encode_to_string(secret)] {
            assert!(!said.contains(&form), "{form} is visible");
        }
    }
}
