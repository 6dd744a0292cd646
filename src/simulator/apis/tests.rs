//! The simulator over a real socket, a thousand times faster than the service; shared by the tests of the APIs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;
use crate::simulator::images::draw::tests::{data_uri, png, read_texts};
use crate::simulator::{Options, Scenario, serve};

pub(crate) const KEY: &str = "sk-test";

/// A running simulator. Its tasks end with the test's runtime.
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

    async fn with_log(scenario: Value, log: Option<PathBuf>) -> Self {
        let base = json!({"speed": 1000, "limits": {"min_poll_interval_ms": 0}});
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

fn edit() -> Value {
    json!({"prompt": "make it blue", "quality": "low", "base64_images": [data_uri(&png(32, 32))]})
}

pub(crate) fn get_url(answer: &Value) -> &str {
    answer["data"]["urls"]["get"].as_str().unwrap()
}

#[tokio::test]
async fn an_edit_is_bought_polled_and_downloaded() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let upstream = Upstream::with_log(json!({}), Some(log.path().to_owned())).await;
    let created = upstream.submit(&edit()).await;
    assert_eq!(created["data"]["status"], "created");
    assert_eq!(created["data"]["id"].as_str().unwrap().len(), 32);
    assert!(get_url(&created).starts_with(&upstream.origin));
    let logged = std::fs::read_to_string(log.path()).unwrap();
    assert!(logged.contains(created["data"]["id"].as_str().unwrap()) && logged.ends_with('\n'));

    let done = upstream.wait(get_url(&created)).await;
    assert_eq!(done["data"]["status"], "completed");
    assert!(done["data"]["usage"]["total_tokens"].as_u64().unwrap() > 196);
    let file = done["data"]["outputs"][0].as_str().unwrap();
    let response = upstream.client.get(file).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "image/png");
    let picture = response.bytes().await.unwrap();
    assert_eq!(image::load_from_memory(&picture).unwrap().width(), 1024);
    assert_eq!(read_texts(&picture)["inputs"], blake3::hash(&png(32, 32)).to_hex().as_str());

    let counters = upstream.control("counters").await;
    assert_eq!((&counters["submits"], &counters["downloads"]), (&json!(1), &json!(1)));
    assert!(counters["charged_usd"].as_f64().unwrap() > 0.0);
    let predictions = upstream.control("predictions").await;
    assert_eq!(predictions[0]["parameters"]["base64_images"][0]["bytes"], png(32, 32).len());
    assert_eq!(predictions[0]["headers"]["authorization"], "bearer");
    upstream.stop().await;
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
    assert_eq!((&used["submits_accepted"], &used["calls_403"]), (&json!(3), &json!(2)));
    assert_eq!(used["submits_429"], json!({"channel": 1}));
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
async fn a_lost_answer_leaves_a_paid_prediction_and_a_lost_request_leaves_none() {
    let upstream = Upstream::start(json!({})).await;
    for fault in
        ["drop_after", "cut_answer", "html_524_after", "truncated_json", "empty_body", "drop_before", "status_500"]
    {
        upstream.faults(json!({"on": "submit", "fault": fault})).await;
        let sent = upstream.submit_request(&edit()).send().await;
        let readable = match sent {
            Ok(response) if response.status() == 200 => response.json::<Value>().await.is_ok(),
            Ok(_) | Err(_) => false,
        };
        assert!(!readable, "{fault}");
    }
    let counters = upstream.control("counters").await;
    assert_eq!(counters["submits"], 7);
    assert_eq!(counters["submits_accepted"], 5);
    assert_eq!(counters["submits_repeated"], 4);
    assert_eq!(counters["submits_lost"], 2);
    upstream.stop().await;
}

#[tokio::test]
async fn faults_on_polls_do_not_change_the_prediction() {
    let upstream = Upstream::start(json!({})).await;
    let created = upstream.submit(&edit()).await;
    upstream
        .faults(json!([
            {"on": "poll", "fault": "status_429_retry_after"},
            {"on": "poll", "fault": "html_502"},
            {"on": "poll", "fault": "drop_before"},
        ]))
        .await;
    let limited = upstream.poll(get_url(&created)).await;
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(upstream.poll(get_url(&created)).await.status(), 502);
    assert!(upstream.client.get(get_url(&created)).bearer_auth(KEY).send().await.is_err());
    assert_eq!(upstream.wait(get_url(&created)).await["data"]["status"], "completed");
    upstream.stop().await;
}

#[tokio::test]
async fn every_form_of_answer_can_be_configured() {
    let upstream = Upstream::start(json!({})).await;
    for (answer, pointer) in [
        ("urls_array", "/data/urls/0/get"),
        ("data_array", "/data/0/urls/get"),
        ("id_in_url", "/data/urls/get"),
        ("top_level_id", "/task_id"),
        ("immediate_url", "/data/0/url"),
        ("immediate_b64", "/data/0/b64_json"),
        ("completed", "/data/outputs/0"),
        ("foreign_host", "/data/urls/get"),
    ] {
        upstream.scenario(json!({"submit": {"answer": answer}})).await;
        let body = upstream.submit(&edit()).await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{answer}: {body}");
    }
    upstream.scenario(json!({"submit": {"answer": "colon_id"}})).await;
    let created = upstream.submit(&edit()).await;
    assert!(get_url(&created).contains("gpt-image-2:task_"));
    for (outputs, pointer) in [
        ("base64", "/data/outputs/0"),
        ("data_uri", "/data/outputs/0"),
        ("object_b64", "/data/outputs/0/b64_json"),
        ("relative_url", "/data/outputs/0"),
    ] {
        upstream.scenario(json!({"result": {"outputs": outputs}})).await;
        let body = upstream.wait(get_url(&created)).await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{outputs}");
    }
    upstream.scenario(json!({"submit": {"answer": "code500"}})).await;
    assert_eq!(upstream.submit(&edit()).await["code"], 500);
    upstream.stop().await;
}

#[tokio::test]
async fn failures_policy_and_sync_mode_answer_as_recorded() {
    let upstream = Upstream::start(json!({})).await;
    let mut refused = edit();
    refused["prompt"] = json!("a Forbidden-Picture");
    let response = upstream.submit_request(&refused).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], "503");
    upstream.scenario(json!({"policy": {"answer": "task"}})).await;
    let created = upstream.submit(&refused).await;
    let failed = upstream.wait(get_url(&created)).await;
    assert_eq!(failed["data"]["status"], "failed");
    assert!(failed["data"]["error"].as_str().unwrap().contains("guidelines"));

    let mut sync = edit();
    sync["enable_sync_mode"] = json!(true);
    assert_eq!(upstream.submit(&sync).await["data"]["status"], "completed");
    upstream.scenario(json!({"sync": {"mode": "give_up", "give_up_s": 1}})).await;
    assert_eq!(upstream.submit(&sync).await["data"]["code"], 5004);
    upstream.scenario(json!({"sync": {"mode": "edge_cut", "edge_cut_s": 1}})).await;
    assert_eq!(upstream.submit_request(&sync).send().await.unwrap().status(), 524);
    assert_eq!(upstream.control("counters").await["charged_usd"].as_f64().map(|usd| usd > 0.0), Some(true));
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
