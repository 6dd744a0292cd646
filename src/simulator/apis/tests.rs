//! The simulator over a real socket, a thousand times faster than the service: keys, limits and downloads.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;
use crate::simulator::images::draw::tests::{data_uri, png};
use crate::simulator::{Options, Scenario, serve};

pub(crate) const KEY: &str = "sk-test";

/// A running simulator, as the tests of all APIs use it. Its tasks end with the test's runtime.
pub(crate) struct Upstream {
    pub(crate) origin: String,
    pub(crate) client: reqwest::Client,
    lifecycle: Lifecycle,
    stop: CancellationToken,
}

impl Upstream {
    pub(crate) async fn start(scenario: Value) -> Self {
        Self::with_log(scenario, None).await
    }

    pub(crate) async fn with_log(scenario: Value, log: Option<PathBuf>) -> Self {
        let base = json!({"speed": 1000, "limits": {"poll_interval_min_ms": 0}});
        let scenario = Scenario::default().merged(base).unwrap().merged(scenario).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (lifecycle, stop) = (Lifecycle::default(), CancellationToken::new());
        let options =
            Options { keys: vec![KEY.to_owned(), "sk-other".to_owned(), "sk-revoked".to_owned()], scenario, log };
        let (inner, inner_stop) = (lifecycle.clone(), stop.clone());
        lifecycle.spawn("simulator", async move {
            serve(listener, options, inner, inner_stop).await.unwrap();
        });
        // A failure means that another test has installed the provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5));
        Self { origin, client: client.build().unwrap(), lifecycle, stop }
    }

    pub(crate) fn submit_request(&self, body: &Value) -> reqwest::RequestBuilder {
        let url = format!("{}/api/v3/openai/gpt-image-2/image-edit", self.origin);
        self.client.post(url).bearer_auth(KEY).json(body)
    }

    pub(crate) async fn submit(&self, body: &Value) -> Value {
        let response = self.submit_request(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub(crate) async fn poll(&self, url: &str) -> reqwest::Response {
        self.client.get(url).bearer_auth(KEY).send().await.unwrap()
    }

    /// Polls until the prediction has ended.
    pub(crate) async fn wait(&self, url: &str) -> Value {
        for _ in 0..200 {
            let answer: Value = self.poll(url).await.json().await.unwrap();
            if !matches!(answer["data"]["status"].as_str(), Some("created" | "processing")) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the prediction does not end");
    }

    pub(crate) async fn control(&self, route: &str) -> Value {
        let response = self.client.get(format!("{}/_simulator/{route}", self.origin)).send().await.unwrap();
        response.json().await.unwrap()
    }

    pub(crate) async fn faults(&self, faults: Value) {
        let url = format!("{}/_simulator/faults", self.origin);
        assert_eq!(self.client.post(url).json(&faults).send().await.unwrap().status(), 200);
    }

    pub(crate) async fn scenario(&self, changes: Value) {
        let url = format!("{}/_simulator/scenario", self.origin);
        assert_eq!(self.client.put(url).json(&changes).send().await.unwrap().status(), 200);
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.lifecycle
            .drain(crate::lifecycle::Grace { delay: Duration::ZERO, finish: Duration::from_millis(100) })
            .await;
        assert!(!self.lifecycle.has_failed());
    }
}

pub(crate) fn edit() -> Value {
    json!({"prompt": "make it blue", "quality": "low", "base64_images": [data_uri(&png(32, 32))]})
}

pub(crate) fn get_url(answer: &Value) -> &str {
    answer["data"]["urls"]["get"].as_str().unwrap()
}

#[tokio::test]
async fn keys_and_paths_are_checked() {
    let upstream = Upstream::start(json!({"auth": {"revoked": ["sk-revoked"]}})).await;
    let models = format!("{}/v1/models", upstream.origin);
    for (sent, status, text) in [
        (None, 401, "Token cannot be empty"),
        (Some("Bearer"), 401, "Token cannot be empty"),
        (Some("sk-wrong"), 401, "Invalid signature"),
        (Some("bearer sk-revoked"), 403, "Invalid Token"),
        (Some("BEARER sk-test"), 200, "gpt-image-2"),
        (Some("sk-test"), 200, "gpt-image-2"),
    ] {
        let mut request = upstream.client.get(&models);
        if let Some(sent) = sent {
            request = request.header("authorization", sent);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{sent:?}");
        assert!(response.text().await.unwrap().contains(text), "{sent:?}");
    }
    for path in
        ["/api/v3/openai/gpt-image-2/variation", "/api/v3/google/x/image-edit", "/api/v3/predictions", "/v1/models/"]
    {
        let response =
            upstream.client.post(format!("{}{path}", upstream.origin)).bearer_auth(KEY).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    }
    let unknown = upstream.poll(&format!("{}/api/v3/predictions/{}/result", upstream.origin, "0".repeat(32))).await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.json::<Value>().await.unwrap()["error"]["type"], "404");
    upstream.stop().await;
}

#[tokio::test]
async fn keys_balances_and_channels_can_be_withdrawn_and_restored_while_running() {
    let upstream = Upstream::start(json!({})).await;
    let changes = [
        (json!({"auth": {"revoked": [KEY]}}), json!({"auth": {"revoked": []}}), 403, "Invalid Token"),
        (
            json!({"balance": {"empty_keys": [KEY]}}),
            json!({"balance": {"empty_keys": []}}),
            403,
            "Insufficient balance",
        ),
        (json!({"models": {"no_channel": ["gpt-image-2"]}}), json!({"models": {"no_channel": []}}), 429, "no channel"),
        (json!({"models": {"overloaded": ["gpt-image-2"]}}), json!({"models": {"overloaded": []}}), 429, "  tid:"),
        (
            json!({"models": {"no_permission": ["gpt-image-2"]}}),
            json!({"models": {"no_permission": []}}),
            403,
            "no permission for this resource",
        ),
        (
            json!({"balance": {"empty_keys": [KEY], "empty_status": 402}}),
            json!({"balance": {"empty_keys": []}}),
            402,
            "Insufficient balance",
        ),
    ];
    for (withdraw, restore, status, text) in changes {
        upstream.scenario(withdraw).await;
        let refused = upstream.submit_request(&edit()).send().await.unwrap();
        assert_eq!(refused.status(), status);
        assert!(refused.text().await.unwrap().contains(text), "{text}");
        upstream.scenario(restore).await;
        upstream.submit(&edit()).await;
    }
    let used = upstream.control("counters").await["keys"][KEY].take();
    assert_eq!((&used["submits_accepted"], &used["calls_403"]), (&json!(6), &json!(3)));
    assert_eq!(used["submits_429"], json!({"channel": 1, "overload": 1}));
    upstream.stop().await;
}

#[tokio::test]
async fn each_key_has_its_own_limits_and_refusals_are_counted_by_limit() {
    let limits =
        json!({"submits_per_minute": 1, "keys": {"sk-other": {"submits_per_minute": 0, "requests_per_minute": 3}}});
    let upstream = Upstream::start(json!({"limits": limits})).await;
    let created = upstream.submit(&edit()).await;
    assert_eq!(upstream.submit_request(&edit()).send().await.unwrap().status(), 429);
    upstream.faults(json!({"on": "submit", "fault": "status_429"})).await;
    assert_eq!(upstream.submit_request(&edit()).send().await.unwrap().status(), 429);

    let url = format!("{}/api/v3/openai/gpt-image-2/image-edit", upstream.origin);
    let other = upstream.client.post(url).bearer_auth("sk-other").json(&edit());
    let poll = upstream.client.get(get_url(&created)).bearer_auth("sk-other");
    assert_eq!(other.try_clone().unwrap().send().await.unwrap().status(), 200);
    assert_eq!(poll.try_clone().unwrap().send().await.unwrap().status(), 404);
    assert_eq!(other.try_clone().unwrap().send().await.unwrap().status(), 200);
    assert_eq!(other.send().await.unwrap().status(), 429);
    assert_eq!(poll.send().await.unwrap().status(), 429);

    let counters = upstream.control("counters").await;
    let keys = &counters["keys"];
    assert_eq!(keys[KEY]["submits_429"], json!({"rate": 1, "fault": 1}));
    assert_eq!((&keys["sk-other"]["submits_accepted"], &keys["sk-other"]["polls_unknown"]), (&json!(2), &json!(1)));
    assert_eq!(keys["sk-other"]["submits_429"], json!({"requests": 1}));
    assert_eq!(keys["sk-other"]["polls_429"], json!({"requests": 1}));
    assert_eq!((&counters["submits_429"], &counters["polls_429"]), (&json!(3), &json!(1)));
    upstream.stop().await;
}

#[tokio::test]
async fn downloads_fail_as_configured() {
    let upstream =
        Upstream::start(json!({"files": {"fail_first": 1, "redirects": 2, "content_type": "missing"}})).await;
    let created = upstream.submit(&edit()).await;
    let done = upstream.wait(get_url(&created)).await;
    let file = done["data"]["outputs"][0].as_str().unwrap();
    let fetch = || async { upstream.client.get(file).send().await.unwrap() };
    assert_eq!(fetch().await.status(), 500);
    let response = fetch().await;
    assert!(response.url().query().is_some() && response.headers().get("content-type").is_none());
    let whole = response.bytes().await.unwrap();
    upstream.scenario(json!({"files": {"cut_at_percent": 50}})).await;
    assert!(fetch().await.bytes().await.is_err());
    upstream.scenario(json!({"files": {"cut": "short"}})).await;
    assert_eq!(fetch().await.bytes().await.unwrap(), whole.slice(..whole.len() / 2));
    upstream.scenario(json!({"files": {"cut_at_percent": 0, "expires_after_s": 1}})).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(fetch().await.status(), 403);
    upstream.stop().await;
}

#[tokio::test]
async fn a_key_is_accepted_in_the_forms_of_the_scenario() {
    let upstream = Upstream::start(json!({"auth": {"accepts": "raw_only"}})).await;
    let url = format!("{}/api/v3/openai/gpt-image-2/image-edit", upstream.origin);
    let send = |form: String| upstream.client.post(&url).header("authorization", form).json(&edit()).send();
    let refused = send(format!("Bearer {KEY}")).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.text().await.unwrap().contains("Invalid signature"));
    assert_eq!(send(KEY.to_owned()).await.unwrap().status(), 200);
    upstream.scenario(json!({"auth": {"accepts": "bearer_only"}})).await;
    assert_eq!(send(KEY.to_owned()).await.unwrap().status(), 401);
    assert_eq!(send(format!("Bearer {KEY}")).await.unwrap().status(), 200);
    upstream.stop().await;
}

#[tokio::test]
async fn refused_submits_are_shown_as_they_were_sent() {
    let upstream = Upstream::start(json!({"inputs": {"base64_images": "refuse_422"}})).await;
    assert_eq!(upstream.submit_request(&edit()).send().await.unwrap().status(), 422);
    let form = reqwest::multipart::Form::new().text("prompt", "blend").text("size", "7x7");
    let form = form.part("image", reqwest::multipart::Part::bytes(png(8, 8)));
    let sent = upstream.client.post(format!("{}/v1/images/edits", upstream.origin));
    assert_eq!(sent.header("authorization", KEY).multipart(form).send().await.unwrap().status(), 400);
    assert_eq!(
        upstream.control("refusals").await,
        json!([
            {
                "path": "/api/v3/openai/gpt-image-2/image-edit", "status": 422, "key_form": "bearer",
                "fields": ["base64_images", "prompt", "quality"], "prompt": "make it blue",
            },
            {
                "path": "/v1/images/edits", "status": 400, "key_form": "raw", "fields": ["prompt", "size", "image"],
                "prompt": "blend",
            },
        ])
    );
    upstream.stop().await;
}

#[tokio::test]
async fn the_edge_refuses_submits_polls_and_the_list_of_models() {
    let upstream = Upstream::start(json!({})).await;
    let created = upstream.submit(&edit()).await;
    let models = format!("{}/v1/models", upstream.origin);
    upstream.scenario(json!({"edge": {"page": "page_403_1010"}})).await;
    for response in [
        upstream.submit_request(&edit()).send().await.unwrap(),
        upstream.poll(get_url(&created)).await,
        upstream.poll(&models).await,
    ] {
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["server"], "cloudflare");
        assert!(response.text().await.unwrap().contains("1010"));
    }
    upstream.scenario(json!({"edge": {"page": "page_413", "body_bytes_max": 10_000_000}})).await;
    assert_eq!(upstream.poll(&models).await.status(), 200);
    upstream.submit(&edit()).await;
    upstream.scenario(json!({"edge": {"body_bytes_max": 100, "paths": ["/v1/images/"]}})).await;
    upstream.submit(&edit()).await;
    upstream.scenario(json!({"edge": {"paths": []}})).await;
    assert_eq!(upstream.submit_request(&edit()).send().await.unwrap().status(), 413);
    let counters = upstream.control("counters").await;
    assert_eq!(counters["paths"], json!({"/api/v3/openai/gpt-image-2/image-edit": {"accepted": 3, "refused": 2}}));
    assert_eq!(counters["submits_rejected"], 2);
    upstream.stop().await;
}

#[tokio::test]
async fn a_download_needs_the_key_where_the_scenario_says_so() {
    let upstream = Upstream::start(json!({"files": {"needs_key": "yes"}})).await;
    let created = upstream.submit(&edit()).await;
    let done = upstream.wait(get_url(&created)).await;
    let file = done["data"]["outputs"][0].as_str().unwrap();
    assert_eq!(upstream.client.get(file).send().await.unwrap().status(), 401);
    assert_eq!(upstream.poll(file).await.status(), 200);
    upstream.stop().await;
}
