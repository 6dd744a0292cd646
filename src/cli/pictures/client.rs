//! The calls to a server.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use serde_json::Value;
use url::{Host, Url};

use super::exit::{Failure, FailureKind};
use super::form::PictureForm;
use super::progress::{ProgressLine, Stage};
use super::target::Target;
use super::terminal_key;
use crate::config::{SANDBOX_KEY, Secret};
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
    pub(super) fn header(&self, name: &str) -> Option<&str> {
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
            failed(format!(
                "{base} cannot be reached: {}. Nothing was bought; is the gateway running (`gptproto-gateway serve`, or \
                 `serve --sandbox` to try it)?",
                error.text()
            ))
        })?;
        let is_gateway = greeting.body["name"] == NAME;
        let is_sandbox = greeting.headers.get(SANDBOX).is_some_and(|value| value == "true");
        // A key of the environment that is meant for another server is not sent to a sandbox.
        let given = key.filter(|_| !is_sandbox || is_own_key);
        let is_made = given.is_none() && !is_sandbox;
        let key = match given {
            Some(key) => key,
            None if is_sandbox => Secret::new(SANDBOX_KEY.to_owned()),
            None => {
                let missing = format!("no client key for {base}: set OPENAI_API_KEY to a key of this gateway");
                let config = config.filter(|_| is_gateway);
                let Some(config) = config else {
                    let advice = "`gptproto-gateway keys new --name me` makes one";
                    return Err(Failure::usage(format!("{missing}; {advice}")));
                };
                terminal_key::make(&config)
                    .map_err(|problem| Failure::usage(format!("{missing}; none could be made, because {problem}")))?
            }
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| Failure::usage("the client key is not printable ASCII"))?;
        authorization.set_sensitive(true);
        let client = Self { http, base, authorization, is_gateway };
        if is_made {
            progress.during(client.await_key()).await;
        }
        Ok(client)
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

    /// Asks for pictures.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(super) async fn create(&self, form: &PictureForm, idempotency_key: &str) -> Result<Answer, CallError> {
        let request = self.request(Method::POST, form.path())?;
        let request = request.header(IDEMPOTENCY_KEY, idempotency_key).header(PREFER, "respond-async");
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
