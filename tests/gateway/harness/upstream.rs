//! The simulated upstream, controlled by its control routes only.

use std::time::Duration;

use gptproto_gateway::lifecycle::{Grace, Lifecycle};
use gptproto_gateway::simulator::{Options, Scenario, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{OTHER_UPSTREAM_KEY, UPSTREAM_KEY, http};

/// A running simulator.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) origin: String,
    http: reqwest::Client,
    lifecycle: Lifecycle,
}

impl Upstream {
    /// A fast simulator: a small picture of low quality takes about 30 ms.
    pub(crate) async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// A fast simulator with a changed scenario.
    pub(crate) async fn with(scenario: Value) -> Self {
        let fast = json!({"speed": 400, "limits": {"poll_interval_min_ms": 0}});
        let scenario = Scenario::default().merged(fast).unwrap().merged(scenario).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let lifecycle = Lifecycle::default();
        let options =
            Options { keys: [UPSTREAM_KEY, OTHER_UPSTREAM_KEY].map(str::to_owned).into(), scenario, log: None };
        let serving = serve(listener, options, lifecycle.clone(), lifecycle.stop_token());
        lifecycle.spawn("simulator", async move { serving.await.unwrap() });
        Self { origin, http: http(), lifecycle }
    }

    /// Closes the port.
    pub(crate) async fn stop(&self) {
        self.lifecycle.drain(Grace { delay: Duration::ZERO, finish: Duration::ZERO }).await;
    }

    /// Changes the scenario from now on.
    pub(crate) async fn set(&self, scenario: Value) {
        let request = self.http.put(self.at("scenario")).json(&scenario);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// Keeps every prediction from finishing until [`Upstream::release`].
    pub(crate) async fn hold(&self) {
        self.set(json!({"faults": {"poll": "status_500"}})).await;
    }

    pub(crate) async fn release(&self) {
        self.set(json!({"faults": {"poll": "none"}})).await;
    }

    /// Lets the next `times` calls of a kind fail.
    pub(crate) async fn fault(&self, on: &str, fault: &str, times: u32) {
        self.fault_after(on, fault, 0, times).await;
    }

    /// The same, after `skip` successful calls.
    pub(crate) async fn fault_after(&self, on: &str, fault: &str, skip: u32, times: u32) {
        let fault = json!({"on": on, "fault": fault, "skip": skip, "times": times});
        let answer = self.http.post(self.at("faults")).json(&fault).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{fault}");
    }

    /// All accepted predictions, oldest first.
    pub(crate) async fn predictions(&self) -> Vec<Value> {
        self.get("predictions").await.as_array().unwrap().clone()
    }

    /// The submits that were refused, oldest first.
    pub(crate) async fn refusals(&self) -> Vec<Value> {
        self.get("refusals").await.as_array().unwrap().clone()
    }

    /// The only accepted prediction.
    pub(crate) async fn prediction(&self) -> Value {
        let mut all = self.predictions().await;
        assert_eq!(all.len(), 1, "one purchase");
        all.remove(0)
    }

    pub(crate) async fn count(&self, counter: &str) -> u64 {
        let counters = self.get("counters").await;
        counters[counter].as_u64().unwrap_or_else(|| panic!("no counter {counter}"))
    }

    /// Submits that arrived, accepted or not.
    pub(crate) async fn submits(&self) -> u64 {
        self.count("submits").await
    }

    /// Submits that were accepted, and so are paid.
    pub(crate) async fn purchases(&self) -> u64 {
        self.count("submits_accepted").await
    }

    async fn get(&self, what: &str) -> Value {
        self.http.get(self.at(what)).send().await.unwrap().json().await.unwrap()
    }

    fn at(&self, what: &str) -> String {
        format!("{}/_simulator/{what}", self.origin)
    }
}
