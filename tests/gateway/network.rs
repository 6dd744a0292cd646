//! The way to the upstream: through a proxy, and below a path of a relay.

use crate::harness::{
    ALICE, Edit, Gateway, PROXY_PASSWORD, Program, Relay, Tunnel, UPSTREAM_KEY, Upstream, serve_tls, size_of,
};

/// A name that no resolver knows, so that a call without the proxy fails.
const SERVICE: &str = "service.invalid";

/// `gateway:{PROXY_PASSWORD}` as a proxy receives it.
fn authorization() -> String {
    format!("Basic {}", base64_simd::STANDARD.encode_to_string(format!("gateway:{PROXY_PASSWORD}")))
}

/// The program, with the simulator over TLS at a name that only the proxy can reach.
async fn behind_proxy(upstream: &Upstream) -> (Program, Tunnel) {
    let program = Program::on(upstream);
    let certificate = program.directory.path().join("service.pem");
    let tunnel = Tunnel::to(&serve_tls(upstream, SERVICE, &certificate).await, &authorization()).await;
    let program = program
        .variable("SSL_CERT_FILE", certificate.to_str().unwrap())
        .variable("GATEWAY_UPSTREAM__BASE_URL", &format!("https://{SERVICE}"))
        .variable("GATEWAY_UPSTREAM__PROXY", &tunnel.address);
    (program, tunnel)
}

#[tokio::test]
async fn every_call_goes_through_the_proxy_which_sees_host_names_only() {
    let upstream = Upstream::start().await;
    let (program, tunnel) = behind_proxy(&upstream).await;
    let program = program.variable("GATEWAY_PROXY_CREDENTIALS", &format!("gateway:{PROXY_PASSWORD}"));

    let check = program.run(&["check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    let serving = program.serve(&["serve"]).await;
    let answer = serving.alice().edit(&Edit::new("through a tunnel")).await;

    assert_eq!(size_of(&answer.picture()), (256, 256));
    assert_eq!(upstream.purchases().await, 1);
    let seen = tunnel.seen();
    // The check, the submit, polls on one connection, and the download.
    assert!(seen.len() >= 4, "{seen:?}");
    for text in &seen {
        assert!(text.starts_with(&format!("CONNECT {SERVICE}:443 HTTP/1.1\r\n")), "{text}");
        for secret in [UPSTREAM_KEY, ALICE, "Bearer"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let log = serving.log();
    assert!(!log.contains(PROXY_PASSWORD) && !log.contains(&authorization()), "the password is in the log");
}

#[tokio::test]
async fn a_proxy_that_refuses_costs_nothing_and_is_named() {
    let upstream = Upstream::start().await;
    let (program, _tunnel) = behind_proxy(&upstream).await;
    let program = program.variable("GATEWAY_UPSTREAM__SUBMIT_ATTEMPTS_MAX", "1");
    let serving = program.serve(&["serve"]).await;
    let answer = serving.alice().edit(&Edit::new("refused")).await;
    answer.is_refused(502, "upstream_unreachable");
    for part in ["cannot connect through upstream.proxy", "proxy authorization required", "Nothing was bought"] {
        assert!(answer.message().contains(part), "{}", answer.message());
    }
    assert_eq!(upstream.submits().await, 0);
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used_and_a_warning_says_so() {
    const WARNING: &str = "HTTPS_PROXY is set and not used";
    let upstream = Upstream::start().await;
    let (program, tunnel) = behind_proxy(&upstream).await;
    let program = program.variable("HTTPS_PROXY", &format!("http://gateway:{PROXY_PASSWORD}@127.0.0.1:1"));
    let with_proxy = program.serve(&["serve"]).await;
    assert!(!with_proxy.log().contains(WARNING), "{}", with_proxy.log());
    assert_eq!(with_proxy.terminate().await, Some(0));
    // The free question at the start goes through the proxy, too.
    let through_proxy = tunnel.seen().len();

    let program =
        program.variable("GATEWAY_UPSTREAM__PROXY", "").variable("GATEWAY_UPSTREAM__SUBMIT_ATTEMPTS_MAX", "1");
    let serving = program.serve(&["serve"]).await;
    serving.alice().edit(&Edit::new("direct")).await.is_refused(502, "upstream_unreachable");
    let log = serving.log();
    assert_eq!(log.matches(WARNING).count(), 1, "{log}");
    assert!(log.contains("upstream.proxy") && !log.contains(PROXY_PASSWORD), "{log}");
    assert_eq!(tunnel.seen().len(), through_proxy);
}

#[tokio::test]
async fn a_relay_with_a_path_serves_every_call() {
    const PREFIX: &str = "/api/gptproto";
    let upstream = Upstream::start().await;
    let absolute = Relay::below(&upstream, PREFIX).await;
    // The addresses of its answers become paths: of results and of pictures.
    let paths = Relay::below_with_paths(&upstream, PREFIX).await;
    for (relay, base) in [(&absolute, PREFIX.to_owned()), (&paths, format!("{PREFIX}/"))] {
        for api in ["prediction", "openai", "unified"] {
            let gateway = Gateway::at(&format!("{}{base}", relay.origin), &[("upstream.api", api)]).await;
            assert_eq!(size_of(&gateway.alice().edit(&Edit::new("relayed")).await.picture()), (256, 256), "{api}");
        }
        let seen = relay.seen();
        let has = |path: &str| seen.iter().any(|request| request.path.starts_with(&format!("{PREFIX}{path}")));
        for path in
            ["/api/v3/openai/", "/api/v3/predictions/", "/v1/images/edits", "/api/v3/images", "/api/v3/tasks/result/"]
        {
            assert!(has(path), "{path} in {seen:?}");
        }
        assert!(
            seen.iter().all(|request| request.path.starts_with(PREFIX) && !request.path.contains("//")),
            "{seen:?}"
        );
    }
    assert!(paths.seen().iter().any(|request| request.path.starts_with(&format!("{PREFIX}/files/"))));
    assert_eq!(upstream.purchases().await, 6);
}
