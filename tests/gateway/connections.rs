//! Limits on connections: their number, their time, and which are closed.

use std::os::unix::fs::PermissionsExt;
#[cfg(target_os = "linux")]
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{ALICE, Edit, Gateway, Program, Raw, Upstream, in_background, picture, until};

const MODELS: &str =
    "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-gw-alice-vQ7kZp3XvQ7kZp3XvQ7kZp3X\r\n\r\n";

/// Waits until the metrics have this line.
async fn counts(gateway: &Gateway, series: &str) {
    until(series, async || gateway.page("/metrics").await.1.lines().any(|line| line == series)).await;
}

#[tokio::test]
async fn over_the_connection_limit_a_new_connection_gets_503_and_busy_ones_stay() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.connections_max", "2")]).await;
    upstream.hold().await;
    let served = ["one", "two"].map(|prompt| gateway.alice().begin(&Edit::new(prompt)));
    until("two wait", async || gateway.status("engine", "waiters").await == 2).await;
    assert_eq!(gateway.status("connections", "clients").await, 2);

    let mut refused_connection = Raw::to(&gateway.address()).await;
    refused_connection.send(MODELS).await;
    let refused = refused_connection.rest().await;

    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 5\r\n") && refused.contains("connection: close\r\n"), "{refused}");
    let body: Value = serde_json::from_str(refused.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "too_many_connections");
    assert_eq!(body["error"].as_object().unwrap().len(), 4, "{body}");
    counts(&gateway, "gptproto_gateway_connections_refused_total{listener=\"clients\",reason=\"connections_max\"} 1")
        .await;
    upstream.release().await;
    for waiting in served {
        waiting.answer().await.picture();
    }
}

#[tokio::test]
async fn a_new_connection_replaces_the_longest_idle_one() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.connections_max", "3")]).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.send("POST /v1/images/edits HTTP/1.1\r\nHost: local").await;
        silent.push(raw);
    }
    // Refused while the others may still be about to send a request.
    until("an edit gets through", async || {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.try_send(MODELS.as_bytes()).await && raw.has("HTTP/1.1 200 OK").await
    })
    .await;
    counts(&gateway, "gptproto_gateway_connections_closed_total{listener=\"clients\",reason=\"connections_max\"} 1")
        .await;
    drop(silent);
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let upstream = Upstream::start().await;
    let changes = [("server.connections_per_address_max", "1"), ("server.proxy_networks", "")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let mut first = Raw::to(&gateway.address()).await;
    first.send(MODELS).await;
    first.until("HTTP/1.1 200 OK").await;
    let refused = Raw::to(&gateway.address()).await.rest().await;
    assert!(refused.contains("too_many_connections_of_address"), "{refused}");
    counts(
        &gateway,
        "gptproto_gateway_connections_refused_total{listener=\"clients\",reason=\"connections_per_address_max\"} 1",
    )
    .await;
    assert_eq!(gateway.page("/readyz").await.0, 200, "the operator has a limit of its own");
    drop(first);
    until("its slot is free", async || gateway.status("connections", "clients").await == 0).await;
    let mut again = Raw::to(&gateway.address()).await;
    again.send(MODELS).await;
    again.until("HTTP/1.1 200 OK").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_and_after_a_request() {
    let upstream = Upstream::start().await;
    let times = [("server.header_timeout_s", "1"), ("server.keep_alive_timeout_s", "2")];
    let gateway = Gateway::with(&upstream, &times).await;
    let mut slow = Raw::to(&gateway.address()).await;
    slow.send("GET /v1/models HTTP/1.1\r\nHost: local").await;
    assert_eq!(slow.rest().await, "");
    assert_eq!(Raw::to(&gateway.address()).await.rest().await, "", "not a byte");
    counts(&gateway, "gptproto_gateway_connections_closed_total{listener=\"clients\",reason=\"header_timeout_s\"} 2")
        .await;

    let mut kept = Raw::to(&gateway.address()).await;
    kept.send(MODELS).await;
    kept.until("HTTP/1.1 200 OK").await;
    kept.send(MODELS).await;
    assert_eq!(kept.rest().await.matches("HTTP/1.1 200 OK").count(), 2);
    counts(
        &gateway,
        "gptproto_gateway_connections_closed_total{listener=\"clients\",reason=\"keep_alive_timeout_s\"} 1",
    )
    .await;
    // A response that takes longer than both time-outs is not idleness of the client.
    upstream.set(json!({"life": {"low_ms": [3000, 3000]}})).await;
    gateway.alice().edit(&Edit::new("slow").field("quality", "low")).await.picture();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.write_timeout_s", "1")]).await;
    let mut deaf = Raw::to(&gateway.address()).await;
    // The responses to all of these exceed the sockets' buffers, so that at some point writing stops.
    let sending = in_background(async move {
        let many = MODELS.repeat(1000);
        while deaf.try_send(many.as_bytes()).await {}
    });
    counts(&gateway, "gptproto_gateway_connections_closed_total{listener=\"clients\",reason=\"write_timeout_s\"} 1")
        .await;
    sending.await.unwrap();
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_gets_408() {
    let upstream = Upstream::start().await;
    let changes = [("server.body_bytes_per_second_min", "10000"), ("server.body_rate_window_s", "1")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let mut raw = Raw::to(&gateway.address()).await;
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 100000\r\n\
         Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    );
    raw.send(head).await;
    // A byte every 10 ms: never idle, never complete.
    until("it is refused", async || raw.has("body_too_slow").await || !raw.try_send(b"-").await).await;
    let answer = raw.until("body_too_slow").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn concurrent_requests_of_a_client_are_limited() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("limits.requests_at_once", "1")]).await;
    upstream.hold().await;
    let waiting = gateway.alice().begin(&Edit::new("first"));
    until("it waits", async || gateway.status("engine", "waiters").await == 1).await;
    let refused = gateway.alice().edit(&Edit::new("first")).await;
    refused.is_refused(429, "rate_limit_exceeded");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("1", "true"));
    assert!(refused.message().contains("concurrent requests"), "{}", refused.message());
    let of_bob = gateway.bob().begin(&Edit::new("his own"));
    until("both wait", async || gateway.status("engine", "waiters").await == 2).await;
    counts(&gateway, "gptproto_gateway_admission_rejections_total{limit=\"requests_at_once\"} 1").await;
    counts(&gateway, "gptproto_gateway_admission_used{client=\"alice\",limit=\"requests_at_once\"} 1.0").await;
    upstream.release().await;
    waiting.answer().await.picture();
    of_bob.answer().await.picture();
    gateway.alice().edit(&Edit::new("second")).await.picture();
}

/// Ambiguous ends of a body and the status of each; `None`: an ordinary response, and the connection closes.
const SMUGGLING: &[(&str, Option<u16>)] = &[
    ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", None),
    ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", None),
    ("Content-Length: 2\r\nContent-Length: 3\r\n", Some(400)),
    ("Content-Length: 3, 3\r\n", Some(400)),
    ("Content-Length: +3\r\n", Some(400)),
    ("Content-Length: 0x3\r\n", Some(400)),
    ("Content-Length: -1\r\n", Some(400)),
    ("Transfer-Encoding: xchunked\r\n", Some(400)),
    ("Transfer-Encoding: chunked, identity\r\n", Some(400)),
    ("Transfer-Encoding: identity, chunked\r\n", Some(400)),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Some(400)),
    ("Transfer-Encoding : chunked\r\n", Some(400)),
    ("X-Folded: a\r\n b\r\nTransfer-Encoding: chunked\r\n", Some(400)),
    ("X-Nul: a\0b\r\nTransfer-Encoding: chunked\r\n", Some(400)),
    ("Host: localhost\r\nTransfer-Encoding: chunked\r\n", Some(400)),
    ("Host: other.example\r\nTransfer-Encoding: chunked\r\n", Some(400)),
];

#[tokio::test]
async fn no_request_can_be_smuggled_behind_another() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (lines, status) in SMUGGLING {
        let mut raw = Raw::to(&gateway.address()).await;
        let head =
            format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n{lines}\r\n");
        // A whole chunked body, and a request that a proxy may have taken for a part of it.
        raw.try_send(format!("{head}0\r\n\r\n{MODELS}").as_bytes()).await;
        let answers = raw.rest().await;
        let expected = format!("HTTP/1.1 {} ", status.unwrap_or(200));
        assert!(answers.starts_with(&expected), "{lines:?}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{lines:?}: what followed was answered: {answers}");
    }
    for (chunk, why) in [
        ("0_3\r\nabc\r\n0\r\n\r\n", "a chunk size that is none"),
        ("3\nabc\n0\n\n", "bare line feeds in chunks"),
        ("3;a\nb\r\nabc\r\n0\r\n\r\n", "a line feed in a chunk's extension"),
        ("-1\r\n\r\n", "a negative chunk"),
        ("fffffffffffffffff\r\n", "a chunk of more than any number"),
    ] {
        let mut raw = Raw::to(&gateway.address()).await;
        let head = format!(
            "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        raw.try_send(format!("{head}{chunk}{MODELS}").as_bytes()).await;
        let answers = raw.rest().await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{why}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{why}: what followed was answered: {answers}");
    }
    // Lenient parsing is harmless here, because no request is forwarded as received.
    for head in [
        format!("GET /v1/models HTTP/1.1\nHost: localhost\nAuthorization: Bearer {ALICE}\n\n"),
        format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab"
        ),
    ] {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.send(format!("{head}{MODELS}")).await;
        until("both are answered", async || {
            raw.has("\0").await || raw.until("200 OK").await.matches("200 OK").count() == 2
        })
        .await;
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn a_unix_socket_serves_beside_the_port() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.sock");
    let gateway = Gateway::with(&upstream, &[("server.unix_socket", path.to_str().unwrap())]).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |host: &str| MODELS.replace("localhost", host).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");

    let mut local = Raw::local(&path).await;
    local.send(ask("whatever.example")).await;
    let answer = local.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "no web page can make a browser connect to a Unix socket: {answer}");
    let mut by_port = Raw::to(&gateway.address()).await;
    by_port.send(ask("whatever.example")).await;
    assert!(by_port.rest().await.starts_with("HTTP/1.1 421 "));
    let mut page = Raw::local(&path).await;
    page.send(ask("whatever.example\r\nOrigin: https://evil.example")).await;
    assert!(page.rest().await.starts_with("HTTP/1.1 403 "), "but behind a proxy one may");
    let mut none = Raw::local(&path).await;
    none.send("GET /v1/models HTTP/1.1\r\n\r\n").await;
    assert!(none.until("\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    gateway.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn over_http2_the_authority_replaces_the_host_header() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let alice = gateway.alice().with_http(http);
    let answer = alice.edit(&Edit::new("by address").field("response_format", "url")).await;
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("http://{}/", gateway.address())), "{url}");
    assert_eq!(alice.get(&url).await.status, 200);
}

#[tokio::test]
async fn with_few_file_descriptors_the_gateway_serves_and_refuses_the_excess() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream).files_max(64);
    let serving = program.serve(&["serve"]).await;
    let alice = serving.alice();
    let status: Value = alice.get(&format!("{}/status.json", serving.operator())).await.json();
    let connections = &status["connections"];
    assert_eq!(connections["descriptors"]["limit"], 64);
    let most = usize::try_from(connections["clients_max"].as_u64().unwrap()).unwrap();
    assert!((10..40).contains(&most), "{connections}");
    assert!(serving.log().contains("ulimit -n"), "{}", serving.log());

    let address = serving.banner_value("OpenAI API").replace("http://", "").replace("/v1", "");
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::to(&address).await;
        raw.try_send(b"POST /v1/images/edits HTTP/1.1\r\n").await;
        crowd.push(raw);
    }
    for number in 0..5 {
        let large = Edit::bare(&format!("in a crowd {number}")).picture("image", picture(number));
        until("an edit gets through", async || {
            let status = alice.try_edit(&large).await.map(|answer| answer.status);
            assert!([Some(200), Some(503), None].contains(&status), "{status:?}");
            status == Some(200)
        })
        .await;
    }
    assert_eq!(upstream.purchases().await, 5, "each bought once");
    drop(crowd);
    assert_eq!(serving.terminate().await, Some(0));

    let run = Program::on(&upstream).files_max(30).run(&["serve"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("ulimit -n"), "{}", run.stderr);
}

/// Collects every file and directory below `path`, with its mode.
#[cfg(target_os = "linux")]
fn modes(path: &Path, found: &mut Vec<(String, bool, u32)>) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    found.push((path.display().to_string(), metadata.is_dir(), metadata.permissions().mode() & 0o777));
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_are_private_to_their_owner_and_no_core_is_dumped() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let storage = program.directory.path().join("data");
    let program = program.variable("GATEWAY_STORAGE__DIRECTORY", storage.to_str().unwrap());
    let serving = program.serve(&["serve"]).await;
    serving.alice().edit(&Edit::new("kept")).await.picture();

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.process())).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let [soft, hard] = &limit("Max open files")[..] else { panic!("{limits}") };
    assert_eq!(soft, hard);
    let mut found = Vec::new();
    modes(&storage, &mut found);
    assert!(found.len() > 6, "{found:?}");
    for (path, is_directory, mode) in found {
        assert_eq!(mode, if is_directory { 0o700 } else { 0o600 }, "{path}");
    }
}
