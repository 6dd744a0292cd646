//! Requests that browsers send for web pages, over real sockets. Each rule has its unit tests
//! (`src/api/middleware/cors/tests.rs`); these tests show that they apply before key and body, and that a refusal buys nothing.

use reqwest::Method;
use serde_json::json;

use crate::harness::{ALICE, Answer, Edit, Gateway, Raw, Upstream};

const PAGE: &str = "https://app.example.com";

fn headers_of(answer: &Answer, prefix: &str) -> Vec<String> {
    answer.headers.keys().map(|name| name.as_str().to_owned()).filter(|name| name.starts_with(prefix)).collect()
}

/// The bytes of an edit with this head.
fn post(head: &str) -> String {
    let body = json!({"prompt": "forged", "model": "gpt-image-1.5", "size": "256x256"}).to_string();
    format!(
        "POST /v1/images/generations HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_request_of_an_unlisted_page_buys_nothing_even_with_a_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.cors_origins", PAGE)]).await;
    let key = format!("Authorization: Bearer {ALICE}\r\n");
    for (head, status, code) in [
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403, "origin_not_allowed"),
        ("Host: localhost\r\nOrigin: null\r\n", 403, "origin_not_allowed"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403, "origin_not_allowed"),
        ("Host: localhost\r\nSec-Fetch-Site: same-site\r\n", 403, "origin_not_allowed"),
        (
            "Host: localhost\r\nOrigin: https://app.example.com\r\nOrigin: https://evil.example\r\n",
            403,
            "origin_not_allowed",
        ),
        ("Host: evil.example\r\nOrigin: http://evil.example\r\n", 421, "host_not_allowed"),
        ("Host: evil.example:8787\r\n", 421, "host_not_allowed"),
        ("Host: localhost\r\nHost: localhost\r\n", 400, "invalid_host"),
        ("Host: localhost\r\nHost: evil.example\r\n", 400, "invalid_host"),
        ("Host: \r\n", 400, "invalid_host"),
        ("", 400, "invalid_host"),
    ] {
        for key in [&key, "", "Authorization: Bearer sk-nobody-0123456789abcdef\r\n"] {
            let mut raw = Raw::to(&gateway.address()).await;
            raw.send(post(&format!("{head}{key}"))).await;
            let answer = raw.rest().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?} {answer}");
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{head:?} {answer}");
            assert!(!answer.contains("access-control-allow-origin"), "{head:?} {answer}");
        }
    }
    assert_eq!(upstream.submits().await, 0);

    // The same bytes without the headers of an unlisted page do buy: the requests above are real.
    for head in
        ["Host: localhost\r\n", "Host: localhost\r\nOrigin: https://app.example.com\r\nSec-Fetch-Site: cross-site\r\n"]
    {
        let mut raw = Raw::to(&gateway.address()).await;
        raw.send(post(&format!("{head}{key}"))).await;
        assert!(raw.rest().await.starts_with("HTTP/1.1 200 "), "{head:?}");
    }
    assert_eq!(upstream.submits().await, 1, "the second is a hit");
}

#[tokio::test]
async fn a_large_upload_of_an_unlisted_page_receives_its_403() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let large = Edit::bare("large").picture("image", vec![0; 32 << 20]).header("origin", "https://evil.example");
    let answer = gateway.alice().edit(&large).await;
    answer.is_refused(403, "origin_not_allowed");
    assert!(answer.message().contains("server.cors_origins") && answer.message().contains("https://evil.example"));
    assert_eq!(answer.header("x-should-retry"), "false");
}

#[tokio::test]
async fn a_listed_page_receives_cors_headers() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with(&upstream, &[("server.cors_origins", "null, https://app.example.com")]).await;
    let preflight = gateway
        .client("")
        .request(Method::OPTIONS, "/v1/images/edits")
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,idempotency-key,prefer,x-stainless-os");
    let preflight = Answer::to(preflight).await;
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
    assert_eq!(preflight.header("access-control-allow-origin"), PAGE);
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "authorization,content-type,idempotency-key,prefer,x-stainless-os"
    );
    assert_eq!(preflight.header("access-control-allow-methods"), "GET,POST,DELETE");
    assert_eq!(preflight.header("access-control-max-age"), "7200");

    let edit = Edit::new("from a page").header("origin", PAGE).header("sec-fetch-site", "cross-site");
    let made = gateway.alice().edit(&edit).await;
    made.picture();
    let refused = gateway.client("sk-nobody-0123456789abcdef").edit(&edit).await;
    refused.is_refused(401, "invalid_api_key");
    let elsewhere = Answer::to(gateway.alice().request(Method::GET, "/v1/nothing").header("origin", PAGE)).await;
    elsewhere.is_refused(404, "unknown_url");
    for answer in [&preflight, &made, &refused, &elsewhere] {
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert!(answer.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("origin")));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        assert_eq!(answer.header("access-control-allow-private-network"), "");
    }
    let exposed = made.header("access-control-expose-headers");
    // A listed page can read every header of the gateway.
    upstream.set(json!({"inputs": {"base64_images": "ignore"}})).await;
    let unseen = Edit::new("not looked at").header("origin", PAGE).header("sec-fetch-site", "cross-site");
    let unseen = gateway.alice().edit(&unseen).await;
    assert_eq!(unseen.header("x-gateway-warning"), "inputs-unseen");
    let prefixes = ["x-", "openai-", "retry-after", "age"];
    let ours =
        prefixes.into_iter().flat_map(|prefix| [headers_of(&made, prefix), headers_of(&unseen, prefix)].concat());
    for name in ours.filter(|name| name != "x-content-type-options") {
        assert!(exposed.split(',').any(|known| known.trim() == name), "{name} is not in {exposed}");
    }
    // A program, which has no origin, gets the same response as before.
    let program = gateway.alice().edit(&Edit::new("from a page")).await;
    assert_eq!((program.cache(), program.header("access-control-allow-origin")), ("hit", ""));
}

#[tokio::test]
async fn without_listed_pages_no_response_has_cors_headers() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let answer = gateway.alice().get("/v1/models").await;
    assert_eq!(headers_of(&answer, "access-control"), [""; 0]);
    assert_eq!(answer.header("vary"), "");
}

#[tokio::test]
async fn options_needs_no_key() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    for (path, allow) in [("/v1/images/generations", "POST"), ("/v1/images/edits/", "POST"), ("/v1/models", "GET,HEAD")]
    {
        let answer = Answer::to(gateway.client("").request(Method::OPTIONS, path)).await;
        assert_eq!((answer.status, answer.header("allow")), (204, allow), "{path}");
        assert!(answer.bytes.is_empty());
    }
    Answer::to(gateway.client("").request(Method::OPTIONS, "/v1/nothing")).await.is_refused(404, "unknown_url");
}

#[tokio::test]
async fn an_operator_can_list_the_names_of_the_gateway() {
    let upstream = Upstream::start().await;
    let changes = [("server.hosts", "gateway.test, *.internal"), ("operator.hosts", "status.test")];
    let gateway = Gateway::with(&upstream, &changes).await;
    let models = |host: &str| Answer::to(gateway.alice().request(Method::GET, "/v1/models").header("host", host));
    for host in ["gateway.test", "GATEWAY.test:80", "a.internal", "localhost:1", "127.0.0.1"] {
        assert_eq!(models(host).await.status, 200, "{host}");
    }
    let refused = models("other.test").await;
    refused.is_refused(421, "host_not_allowed");
    assert!(refused.message().contains("server.hosts") && refused.message().contains("other.test"));

    let status = |host: &'static str| {
        Answer::to(
            gateway
                .client("")
                .request(Method::GET, &format!("{}/status.json", gateway.operator()))
                .header("host", host),
        )
    };
    assert_eq!(status("status.test").await.status, 200);
    let refused = status("gateway.test").await;
    assert_eq!((refused.status, refused.text().contains("operator.hosts")), (421, true));
}

#[tokio::test]
async fn the_http2_authority_is_checked_as_the_host() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let port = gateway.address().rsplit_once(':').unwrap().1.to_owned();
    let good = http.get(format!("http://localhost:{port}/v1/models")).bearer_auth(ALICE);
    assert_eq!(Answer::to(good).await.status, 200);
    let address = gateway.address().parse().unwrap();
    let rebound = reqwest::Client::builder().http2_prior_knowledge().no_proxy().resolve("evil.example", address);
    let rebound = rebound.build().unwrap().get(format!("http://evil.example:{port}/v1/models")).bearer_auth(ALICE);
    Answer::to(rebound).await.is_refused(421, "host_not_allowed");
}

#[tokio::test]
async fn every_response_forbids_content_sniffing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let alice = gateway.alice();
    let made = alice.edit(&Edit::new("sniffed").field("response_format", "url")).await;
    let url = made.json()["data"][0]["url"].as_str().unwrap().to_owned();
    // A page can show it as a picture without a key or a listed origin, and its scripts cannot read it.
    let shown = Answer::to(gateway.client("").request(Method::GET, &url).header("sec-fetch-site", "cross-site")).await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "image/png"));
    assert_eq!(shown.header("cross-origin-resource-policy"), "cross-origin");
    assert_eq!(headers_of(&shown, "access-control"), [""; 0]);
    let others =
        [alice.get("/v1/models").await, alice.get("/nothing").await, gateway.client("").get("/v1/models").await];
    for answer in others.iter().chain([&made, &shown]) {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("strict-transport-security"), "");
    }
    for answer in others.iter().chain([&made]) {
        assert_eq!(answer.header("cache-control"), "no-store", "an answer belongs to the holder of a key");
    }
    assert_eq!(shown.header("cache-control"), "private, max-age=3600");
    assert_eq!(shown.header("referrer-policy"), "no-referrer");
    assert!(shown.header("content-security-policy").starts_with("default-src 'none'; "), "a picture runs nothing");
}

#[tokio::test]
async fn the_pages_of_the_operator_load_their_own_files_and_nothing_else() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let get = async |path: &str, accept: &str| {
        let request = gateway.client("").request(Method::GET, &format!("{}{path}", gateway.operator()));
        Answer::to(request.header("accept", accept)).await
    };
    for path in ["/", "/status.json", "/metrics", "/healthz", "/readyz", "/nothing", "/dashboard/dashboard.js"] {
        let answer = get(path, "text/html").await;
        let policy = answer.header("content-security-policy").to_owned();
        let mut rules: Vec<&str> = policy.split("; ").collect();
        rules.sort_unstable();
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        for rule in ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        let headers = ["x-content-type-options", "referrer-policy"].map(|name| answer.header(name));
        assert_eq!(headers, ["nosniff", "no-referrer"], "{path}");
        let caching = if path.starts_with("/dashboard/") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), caching, "{path}");
    }
    let page = get("/", "text/html").await;
    let text = page.text();
    assert!(page.header("content-type").starts_with("text/html") && text.starts_with("<!doctype html>"), "{text}");
    assert!(!text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="), "{text}");
    assert_eq!(text.matches("<script").count(), 1, "its one script is a file");
    let files: Vec<&str> = text
        .split('"')
        .filter(|value| value.starts_with("dashboard/"))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(
        files,
        ["dashboard/dashboard.css", "dashboard/dashboard.js", "dashboard/icon.svg", "dashboard/style.css"]
    );
    for file in files {
        assert_eq!(get(&format!("/{file}"), "*/*").await.status, 200, "{file}");
    }
    assert_eq!(get("/dashboard/../operator.rs", "*/*").await.status, 404);
    let program = get("/", "*/*").await.json();
    assert_eq!(
        (&program["name"], program["api"].as_str()),
        (&json!("gptproto-gateway"), Some(&*format!("http://{}/v1", gateway.address())))
    );
}

/// The playground needs no key, so it must contain nothing but its own files, and allow no others.
#[tokio::test]
async fn a_browser_gets_the_playground_and_a_program_gets_json() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::on(&upstream).await;
    let get = async |gateway: &Gateway, path: &str, headers: &[(&str, &str)]| {
        let request = gateway.client("").request(Method::GET, path);
        Answer::to(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = get(&gateway, "/", &[browser, ("sec-fetch-site", "cross-site")]).await;
    assert_eq!(
        (page.status, page.header("content-type"), page.header("vary")),
        (200, "text/html; charset=utf-8", "accept")
    );
    let files: Vec<String> =
        page.text().split('"').filter(|text| text.starts_with("web/")).map(|file| format!("/{file}")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for path in files.iter().map(String::as_str).chain(["/"]) {
        let file = get(&gateway, path, &[browser]).await;
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy");
        for rule in
            ["default-src 'none'; script-src 'self'; style-src 'self';", "base-uri 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        let headers = ["x-content-type-options", "referrer-policy", "cache-control"].map(|name| file.header(name));
        assert_eq!(headers, ["nosniff", "no-referrer", "no-cache"], "{path}");
        let again = get(&gateway, path, &[browser, ("if-none-match", file.header("etag"))]).await;
        assert_eq!((again.status, again.bytes.len()), (304, 0), "{path}");
    }
    assert_eq!(get(&gateway, "/", &[]).await.json()["name"], "gptproto-gateway");
    get(&gateway, "/v1/models", &[browser]).await.is_refused(401, "missing_api_key");
    for path in ["/web/", "/web/nothing.js", "/web/..%2Fsecret"] {
        get(&gateway, path, &[browser]).await.is_refused(404, "unknown_url");
    }

    let off = Gateway::with(&upstream, &[("server.web", "off")]).await;
    assert_eq!(get(&off, "/", &[browser]).await.header("content-type"), "application/json");
    get(&off, &files[0], &[browser]).await.is_refused(404, "unknown_url");
}
