//! TLS on the client listener.

use std::path::Path;

use rcgen::CertifiedKey;
use reqwest::{Certificate, Version};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Client, Edit, Gateway, Program, Raw, Upstream, until};

/// Writes a new certificate for `localhost` and its key; returns a client that trusts it.
fn certificate(directory: &Path) -> reqwest::Client {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join("certificate.pem"), cert.pem()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    // Without idle connections each request has its own handshake.
    let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    builder.tls_certs_only([trusted]).build().unwrap()
}

async fn gateway(upstream: &Upstream, directory: &TempDir) -> Gateway {
    let path = |name: &str| directory.path().join(name).display().to_string();
    let changes = [
        ("server.tls_certificate_file", path("certificate.pem")),
        ("server.tls_key_file", path("key.pem")),
        ("server.tls_reload_interval_s", "1".to_owned()),
        ("server.tls_handshake_timeout_s", "1".to_owned()),
    ];
    let changes: Vec<(&str, &str)> = changes.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Gateway::with(upstream, &changes).await
}

/// `https://localhost:port`.
fn origin(gateway: &Gateway) -> String {
    format!("https://{}", gateway.address().replace("127.0.0.1", "localhost"))
}

async fn is_served(http: &reqwest::Client, gateway: &Gateway) -> bool {
    http.get(format!("{}/v1/models", origin(gateway))).send().await.is_ok()
}

#[tokio::test]
async fn edits_work_over_tls_with_http1_and_http2() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let http = certificate(directory.path());
    let gateway = gateway(&upstream, &directory).await;
    let alice: Client = gateway.alice().with_http(http.clone());
    let edit = Edit::new("sealed").field("response_format", "url");
    let answer = alice.edit_at(&format!("{}/v1/images/edits", origin(&gateway)), &edit).await;
    let url = answer.json()["data"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&origin(&gateway)), "{url}");
    let picture = http.get(&url).send().await.unwrap();
    assert_eq!((picture.status().as_u16(), picture.version()), (200, Version::HTTP_2));

    // What is neither TLS nor HTTP gets no response, and a connection without a handshake is closed.
    let mut neither = Raw::to(&gateway.address()).await;
    neither.send([0; 64]).await;
    assert!(!neither.rest().await.contains("HTTP/1.1"));
    assert_eq!(Raw::to(&gateway.address()).await.rest().await, "");
    let metrics = gateway.page("/metrics").await.1;
    for reason in ["tls_error", "tls_handshake_timeout_s"] {
        let series = format!("gptproto_gateway_connections_closed_total{{listener=\"clients\",reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}

#[tokio::test]
async fn plain_http_on_the_tls_port_gets_400_with_a_sentence() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let gateway = gateway(&upstream, &directory).await;
    for method in ["GET", "POST", "get"] {
        let mut plain = Raw::to(&gateway.address()).await;
        plain.send(format!("{method} /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n")).await;
        plain.until("https_required").await;
        // The body is read to its end: a reset connection would take the sentence from the client.
        for _ in 0..20 {
            assert!(plain.try_send(&[b'x'; 15_000]).await, "the connection is closed while the client sends");
        }
        let answer = plain.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        let error: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(error["error"]["code"], "https_required");
        assert!(error["error"]["message"].as_str().unwrap().contains("https://"), "{error}");
    }
    let metrics = gateway.page("/metrics").await.1;
    let series = "gptproto_gateway_connections_closed_total{listener=\"clients\",reason=\"plain_http\"} 3";
    assert!(metrics.contains(series), "{metrics}");
    // Where the gateway speaks no TLS it is served.
    let without = Gateway::with(&upstream, &[]).await;
    let mut plain = Raw::to(&without.address()).await;
    plain.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(plain.until("missing_api_key").await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_mismatched_one_is_not() {
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let old = certificate(directory.path());
    let gateway = gateway(&upstream, &directory).await;
    assert!(is_served(&old, &gateway).await);
    let new = certificate(directory.path());
    until("the new one is used", async || is_served(&new, &gateway).await).await;
    assert!(!is_served(&old, &gateway).await);

    // The certificate without its key: they do not fit, so the old pair stays.
    let elsewhere = tempfile::tempdir().unwrap();
    let third = certificate(elsewhere.path());
    let replace = |name: &str| std::fs::copy(elsewhere.path().join(name), directory.path().join(name)).unwrap();
    replace("certificate.pem");
    // Longer than the reload interval, as no event tells that nothing was reloaded.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(is_served(&new, &gateway).await);
    replace("key.pem");
    until("the third one is used", async || is_served(&third, &gateway).await).await;
}

#[tokio::test]
async fn check_names_the_problem_of_the_certificate_files() {
    let upstream = Upstream::start().await;
    let program = Program::on(&upstream);
    let path = |name: &str| program.directory.path().join(name).display().to_string();
    let with_files = program
        .clone()
        .variable("GATEWAY_SERVER__TLS_CERTIFICATE_FILE", &path("certificate.pem"))
        .variable("GATEWAY_SERVER__TLS_KEY_FILE", &path("key.pem"));
    let missing = with_files.run(&["check"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stdout.contains("certificate.pem"), "{}", missing.stdout);
    let refused = with_files.run(&["serve"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("certificate.pem"), "{}", refused.stderr);
    certificate(program.directory.path());
    let good = with_files.run(&["check"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    program.file("key.pem", "no key");
    let bad = with_files.run(&["check"]).await;
    assert_eq!(bad.code, Some(1));
    assert!(bad.stdout.contains("key.pem") && bad.stdout.contains("private key"), "{}", bad.stdout);
}
