//! The gateway in this process, with a directory of its own that is kept over a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gptproto_gateway::app;
use gptproto_gateway::config::{Config, Environment};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::document::{self, Asked};
use super::{ADMIN_TOKEN, ALICE, Answer, BOB, Client, UPSTREAM_KEY, Upstream, http, in_background, output};

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    running: app::Gateway,
    directory: Arc<TempDir>,
    environment: Environment,
}

impl Gateway {
    pub(crate) async fn on(upstream: &Upstream) -> Self {
        Self::with(upstream, &[]).await
    }

    /// With some keys of the configuration changed, as `("cache.mode", "off")`.
    pub(crate) async fn with(upstream: &Upstream, changes: &[(&str, &str)]) -> Self {
        Self::at(&upstream.origin, changes).await
    }

    /// With the upstream at `origin`.
    pub(crate) async fn at(origin: &str, changes: &[(&str, &str)]) -> Self {
        let directory = Arc::new(output::directory());
        let environment = environment(origin, &directory, changes);
        Self::start(directory, environment).await.unwrap()
    }

    async fn start(directory: Arc<TempDir>, environment: Environment) -> anyhow::Result<Self> {
        output::keep_logs();
        let config = Config::load(None, &environment).unwrap();
        config.require_keys().unwrap();
        let running = app::Gateway::start(config, false).await?;
        Ok(Self { running, directory, environment })
    }

    /// Stops as on SIGTERM.
    pub(crate) async fn stop(self) -> Stopped {
        assert!(self.running.stop().await, "nothing panicked");
        Stopped { directory: self.directory, environment: self.environment }
    }

    /// Starts to stop; the test continues meanwhile.
    pub(crate) fn begin_to_stop(self) -> JoinHandle<Stopped> {
        in_background(self.stop())
    }

    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    /// Another gateway on the same directory, not yet started.
    pub(crate) fn second_instance(&self) -> Stopped {
        Stopped { directory: Arc::clone(&self.directory), environment: self.environment.clone() }
    }

    /// The folder of its data.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn alice(&self) -> Client {
        self.client(ALICE)
    }

    pub(crate) fn bob(&self) -> Client {
        self.client(BOB)
    }

    /// A client with this key.
    pub(crate) fn client(&self, key: &str) -> Client {
        Client::new(self.address(), key)
    }

    /// `host:port` of the client listener.
    pub(crate) fn address(&self) -> String {
        self.running.client_address().to_string()
    }

    /// The origin of the operator listener.
    pub(crate) fn operator(&self) -> String {
        format!("http://{}", self.running.operator_address())
    }

    /// Status and text of a page of the operator listener.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        page(&self.operator(), path).await
    }

    /// The number of open files in a folder of its data, also unlinked ones; `None` on systems that do not list open files.
    #[cfg(target_os = "linux")]
    #[expect(clippy::unnecessary_wraps, reason = "None on other systems")]
    pub(crate) fn open_files(&self, folder: &str) -> Option<usize> {
        let folder = self.directory.path().join(folder);
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        Some(open.filter(|to| to.starts_with(&folder) && *to != folder).count())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open_files(&self, _folder: &str) -> Option<usize> {
        None
    }

    /// One number of the status page: `engine`, `waiters`.
    pub(crate) async fn status(&self, part: &str, name: &str) -> u64 {
        let (_, text) = self.page("/status.json").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        status[part][name].as_u64().unwrap_or_else(|| panic!("no {part}.{name} in {text}"))
    }
}

/// Status and text of a page, as a browser gets it.
pub(super) async fn page(origin: &str, path: &str) -> (u16, String) {
    let mut request = http().get(format!("{origin}{path}"));
    if path == "/" {
        request = request.header("accept", "text/html,*/*;q=0.8");
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let path = path.split('?').next().unwrap_or(path).to_owned();
    document::check(&Asked { method: Method::GET, path }, status, &headers, text.as_bytes());
    output::keep("pages", text.as_bytes());
    (status, text)
}

/// A stopped gateway, and its directory.
#[derive(Debug)]
pub(crate) struct Stopped {
    directory: Arc<TempDir>,
    environment: Environment,
}

impl Stopped {
    pub(crate) async fn start(self) -> Gateway {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(self) -> anyhow::Result<Gateway> {
        Gateway::start(self.directory, self.environment).await
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join("journal.sqlite")
    }

    /// The files of pictures.
    pub(crate) fn picture_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join("results")).unwrap();
        let is_picture = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
        entries.map(|entry| entry.unwrap().path()).filter(is_picture).collect()
    }
}

/// The configuration of the gateway in this process and of the program.
pub(super) fn environment(origin: &str, directory: &TempDir, changes: &[(&str, &str)]) -> Environment {
    let clients = format!("alice:{ALICE},bob:{BOB}");
    let storage = directory.path().display().to_string();
    let mut environment: Environment =
        [("GPTPROTO_API_KEY", UPSTREAM_KEY), ("GATEWAY_CLIENT_KEYS", clients.as_str())].map(pair).into();
    let quick = [
        ("server.listen", "127.0.0.1:0"),
        ("server.shutdown_delay_s", "0"),
        ("server.shutdown_grace_s", "1"),
        ("server.response_timeout_s", "30"),
        ("server.response_timeout_margin_ms", "0"),
        ("operator.listen", "127.0.0.1:0"),
        ("storage.directory", &storage),
        ("upstream.base_url", origin),
        ("upstream.requests_per_minute", "100000"),
        ("upstream.pushback_ms", "1000"),
        ("upstream.rate_window_ms", "1000"),
        ("upstream.latency_priors", "off"),
        ("upstream.first_poll_ms", "40"),
        ("upstream.poll_interval_min_ms", "40"),
        ("upstream.poll_interval_max_ms", "100"),
    ];
    for (key, value) in quick.iter().chain(changes) {
        environment.insert(variable(key), (*value).to_owned());
    }
    environment
}

fn pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// `cache.mode` is `GATEWAY_CACHE__MODE`.
fn variable(key: &str) -> String {
    if key.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
        // It is one already.
        return key.to_owned();
    }
    format!("GATEWAY_{}", key.replace('.', "__").to_uppercase())
}

/// The operator, with the admin token.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    client: Client,
    operator: String,
}

impl Admin {
    pub(crate) fn new(operator: String) -> Self {
        Self { client: Client::new(String::new(), ADMIN_TOKEN), operator }
    }

    fn request(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.request(method, &format!("{}{path}", self.operator));
        if body.is_null() { request } else { request.json(body) }
    }

    /// Sends a call, with a body unless that is null.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        Answer::to(self.request(method, path, &body)).await
    }

    /// The same; `None` when the connection fails.
    pub(crate) async fn try_send(&self, method: Method, path: &str, body: Value) -> Option<Answer> {
        Answer::try_to(self.request(method, path, &body)).await.ok()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    /// The items of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        assert_eq!((answer.status, &answer.json()["object"]), (200, &Value::from("list")), "{}", answer.text());
        answer.json()["data"].as_array().unwrap().clone()
    }

    /// Makes a client with a key. Returns the id and the text of the key.
    pub(crate) async fn make(&self, name: &str) -> (String, String) {
        self.make_with(serde_json::json!({ "name": name })).await
    }

    pub(crate) async fn make_with(&self, body: Value) -> (String, String) {
        let made = self.send(Method::POST, "/admin/keys", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }
}
