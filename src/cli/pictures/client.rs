//! The calls to a server.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, AsHeaderName, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use serde_json::Value;
use url::{Host, Url};

use super::exit::{Failure, FailureKind};
use super::form::PictureForm;
use super::progress::{ProgressLine, Stage};
use super::target::Target;
use super::terminal_key::TerminalKey;
use crate::config::{Config, SANDBOX_KEY, Secret};
use crate::http::gateway_headers::SANDBOX;

const USER_AGENT: &str = concat!("gptproto-gateway-cli/", env!("CARGO_PKG_VERSION"));
/// The name by which the gateway introduces itself.
const NAME: &str = "gptproto-gateway";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the question what the server is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two pieces of an answer. A server that holds a request until the picture is made sends nothing for minutes.
const READ_TIMEOUT: Duration = Duration::from_mins(15);
/// Ten pictures of 50 MB as base64.
const ANSWER_BYTES_MAX: usize = 700 << 20;
/// What a server introduces itself with.
const GREETING_BYTES_MAX: usize = 1 << 20;
/// How often, and at which intervals, a gateway is asked whether it knows a new key.
const NOTICED_CHECKS: u32 = 30;
const NOTICED_INTERVAL: Duration = Duration::from_millis(100);
/// In the error of rustls for an answer that is not TLS.
const NO_TLS: &str = "InvalidContentType";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Null when the body is no JSON.
    pub(super) body: Value,
}

impl Answer {
    /// Returns a header as text.
    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// No connection was made, so the server has nothing.
    NotSent(String),
    /// The server may have the request.
    Broken(String),
}

impl CallError {
    fn of(error: &reqwest::Error) -> Self {
        let text = describe(error);
        if error.is_connect() || error.is_builder() { Self::NotSent(text) } else { Self::Broken(text) }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::NotSent(text) | Self::Broken(text) => text,
        }
    }
}

/// Returns the innermost cause, which says most.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// A server that is known to answer.
#[derive(Debug)]
pub(super) struct GatewayClient {
    http: Client,
    base: Url,
    authorization: HeaderValue,
    is_gateway: bool,
    is_sandbox: bool,
    /// The key, where it was made for this command.
    made: Option<TerminalKey>,
}

impl GatewayClient {
    /// Connects, and finds out what the server is.
    ///
    /// # Errors
    ///
    /// [`Failure`]; nothing was bought.
    pub(super) async fn connect(target: Target, progress: &mut ProgressLine) -> Result<Self, Failure> {
        let Target { base, key, is_own_key, config } = target;
        let failed = |problem: String| Failure::new(FailureKind::NothingBought, problem);
        let http = build(&base).map_err(|error| failed(format!("no HTTP client: {}", describe(&error))))?;
        progress.stage(Stage::Connecting);
        let greeting = async {
            let request = http.get(base.clone()).header(ACCEPT, "application/json").timeout(GREETING_TIMEOUT);
            read(request.send().await.map_err(|error| CallError::of(&error))?, GREETING_BYTES_MAX).await
        };
        let greeting = progress.during(greeting).await.map_err(|error| {
            let problem = error.text();
            let advice = if base.scheme() == "https" && problem.contains(NO_TLS) {
                "its port does not speak TLS; try http://"
            } else {
                "is the gateway running (`gptproto-gateway serve`, or `serve --sandbox` to try it)?"
            };
            failed(format!("{base} cannot be reached: {problem}. Nothing was bought; {advice}"))
        })?;
        let is_gateway = greeting.body["name"] == NAME;
        let is_sandbox = greeting.headers.get(SANDBOX).is_some_and(|value| value == "true");
        // The operator's port names that of the API.
        let said = greeting.body["error"]["message"].as_str();
        let said = said.map(|said| format!("; it says: {said}")).unwrap_or_default();
        let (key, made) =
            choose_key(key, is_own_key, is_sandbox, config.filter(|_| is_gateway).as_deref()).map_err(|problem| {
                Failure::usage(format!(
                    "no client key for {base}: set OPENAI_API_KEY to a key of this gateway; {problem}{said}"
                ))
            })?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| Failure::usage("the client key is not printable ASCII"))?;
        authorization.set_sensitive(true);
        let client = Self { http, base, authorization, is_gateway, is_sandbox, made };
        if client.made.is_some() {
            progress.during(client.await_key()).await;
        }
        Ok(client)
    }

    /// Ends the key that was made for this command, if one was.
    pub(super) fn end_key(&self) {
        if let Some(made) = &self.made {
            made.end();
        }
    }

    /// Waits until the gateway has noticed a new key. One that it never notices is refused by the request itself.
    async fn await_key(&self) {
        for _ in 0..NOTICED_CHECKS {
            let Ok(request) = self.request(Method::GET, "models") else { return };
            match self.send(request).await {
                Ok(answer) if answer.status == 401 => tokio::time::sleep(NOTICED_INTERVAL).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Returns the base address, with a slash at its end.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether the server keeps the promises of a gateway: an idempotency key is one purchase, and jobs have ids.
    pub(super) fn is_gateway(&self) -> bool {
        self.is_gateway
    }

    /// Whether the pictures are simulated.
    pub(super) fn is_sandbox(&self) -> bool {
        self.is_sandbox
    }

    /// Asks for pictures.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(super) async fn create(&self, form: &PictureForm, idempotency_key: &str) -> Result<Answer, CallError> {
        let request = self.request(Method::POST, form.path())?;
        let request = request.header(IDEMPOTENCY_KEY, idempotency_key).header(PREFER, "respond-async");
        let request = if form.is_fresh() { request.header(CACHE_CONTROL, "no-cache") } else { request };
        let request = form.fill(request, self.is_gateway).await.map_err(CallError::NotSent)?;
        self.send(request).await
    }

    /// Waits up to `wait` for the end of a job. `query` is how its pictures are presented.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(super) async fn job(&self, id: &str, query: &str, wait: Duration) -> Result<Answer, CallError> {
        let request = self.request(Method::GET, &format!("predictions/{id}{query}"))?;
        self.send(request.header(PREFER, format!("wait={}", wait.as_secs()))).await
    }

    /// Downloads a picture. Its address is of the server's choice, so it gets no key.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(super) async fn download(&self, address: &str) -> Result<Vec<u8>, CallError> {
        let response = self.http.get(address).send().await.map_err(|error| CallError::of(&error))?;
        if !response.status().is_success() {
            return Err(CallError::Broken(format!("the picture's address answers with {}", response.status())));
        }
        read_bytes(response, ANSWER_BYTES_MAX).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|error| CallError::NotSent(error.to_string()))?;
        let request = self.http.request(method, url).header(AUTHORIZATION, self.authorization.clone());
        Ok(request.header(ACCEPT, "application/json"))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CallError> {
        let response = request.send().await.map_err(|error| CallError::of(&error))?;
        read(response, ANSWER_BYTES_MAX).await
    }
}

/// Chooses the key for a server. Neither a sandbox nor the gateway of `config` gets one that is meant for another server.
///
/// # Errors
///
/// Why there is none, as the end of a sentence.
fn choose_key(
    given: Option<Secret>,
    is_own: bool,
    is_sandbox: bool,
    config: Option<&Config>,
) -> Result<(Secret, Option<TerminalKey>), String> {
    match (given, config) {
        (Some(key), _) if is_own => Ok((key, None)),
        (_, _) if is_sandbox => Ok((Secret::new(SANDBOX_KEY.to_owned()), None)),
        (given, Some(config)) => match (TerminalKey::make(config), given) {
            (Ok((secret, made)), _) => Ok((secret, Some(made))),
            (Err(_), Some(key)) => Ok((key, None)),
            (Err(problem), None) => Err(format!("none could be made, because {problem}")),
        },
        (Some(key), None) => Ok((key, None)),
        (None, None) => Err("`gptproto-gateway keys new --name me` makes one".to_owned()),
    }
}

fn build(base: &Url) -> Result<Client, reqwest::Error> {
    // Fails harmlessly where it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().user_agent(USER_AGENT).redirect(redirect::Policy::none());
    let builder = builder.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
    // A proxy of the environment cannot reach this machine's own addresses.
    if is_loopback(base) { builder.no_proxy() } else { builder }.build()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

async fn read(response: Response, bytes_max: usize) -> Result<Answer, CallError> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = read_bytes(response, bytes_max).await?;
    Ok(Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

/// Reads a body, which is broken when its end does not arrive.
async fn read_bytes(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| CallError::Broken(describe(&error)))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(CallError::Broken(format!("the answer is larger than {bytes_max} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
