//! The HTTP clients: two for each account, and two for downloads.
//!
//! | client   | key | connects to                                  | redirects            |
//! |----------|-----|----------------------------------------------|----------------------|
//! | submit   | yes | the configured origin, a new connection each | none                 |
//! | poll     | yes | the configured origin                        | none                 |
//! | download | no  | public addresses over https                  | three, each checked  |
//! | links    | no  | the same, for the addresses of clients       | three, each checked  |
//!
//! All of them go through `upstream.proxy` where it is set. None retries, reads proxies from the environment, keeps cookies
//! or decompresses.
//!
//! - `guard`: from where a picture may be downloaded.
//! - `result_hosts`: whether results can be downloaded here, before they are bought.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(test)]
use reqwest::dns::Resolve;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, Proxy, RequestBuilder, Response, StatusCode, redirect, retry};
use url::Url;

use super::formats::AuthStyle;
use crate::config::{Account, Secret, UpstreamConfig};
use crate::model::AccountId;

mod downloads;
mod guard;
mod result_hosts;

use downloads::Downloads;
use guard::DownloadGuard;
use result_hosts::ResultHosts;

/// The gateway's own name: some edges reject the default names of libraries.
const USER_AGENT: &str = concat!("gptproto-gateway/", env!("CARGO_PKG_VERSION"));

/// Why the clients cannot be built.
type BuildError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// Never empty.
    keyed: Vec<(AccountId, Keyed)>,
    pub(super) downloads: Downloads,
    /// For pictures that clients gave as addresses; `None` behind a proxy, which resolves the names in them, so that they
    /// could lead to the network of the operator.
    pub(super) links: Option<Downloads>,
    pub(super) result_hosts: ResultHosts,
}

/// The clients that send one account's key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    submit: Client,
    poll: Client,
    bearer: HeaderValue,
    raw: HeaderValue,
    /// The key is sent raw where no submit says otherwise.
    prefers_raw: Arc<AtomicBool>,
}

impl Clients {
    /// Builds the clients.
    ///
    /// # Errors
    ///
    /// When the TLS roots of the system cannot be read, a key cannot be a header value, or there is no account.
    pub(super) fn new(config: &UpstreamConfig, accounts: &[Account]) -> Result<Self, BuildError> {
        // Fails harmlessly where it is installed already: a test process builds many gateways.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if accounts.is_empty() {
            return Err("there is no upstream key".into());
        }
        let keyed = accounts.iter().map(|account| Ok((account.id.clone(), Keyed::new(config, &account.key)?)));
        let keyed = keyed.collect::<Result<_, BuildError>>()?;
        let guard = DownloadGuard::new(config);
        let downloads = Downloads::new(config, guard.clone())?;
        let links = match config.proxy() {
            Some(_) => None,
            None => Some(Downloads::new(config, DownloadGuard::for_links(config))?),
        };
        Ok(Self { keyed, downloads, links, result_hosts: ResultHosts::new(config, guard) })
    }

    /// Returns the clients with an account's key. Reservations name only accounts that exist.
    pub(super) fn of(&self, account: &AccountId) -> &Keyed {
        let named = self.keyed.iter().find(|(id, _)| id == account);
        &named.unwrap_or(&self.keyed[0]).1
    }

    /// Replaces the resolver of result hosts.
    #[cfg(test)]
    pub(super) fn resolving_with(self, config: &UpstreamConfig, resolver: Arc<dyn Resolve>) -> Self {
        let result_hosts = ResultHosts::with_resolver(config, DownloadGuard::new(config), resolver);
        Self { result_hosts, ..self }
    }

    /// Returns the clients of all accounts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Keyed> {
        self.keyed.iter().map(|(_, keyed)| keyed)
    }
}

impl Keyed {
    fn new(config: &UpstreamConfig, key: &Secret) -> Result<Self, BuildError> {
        let submit = bounded(config)?
            // A stale pooled connection would be noticed only after the last byte was sent.
            .pool_max_idle_per_host(0)
            .http1_only()
            .build()?;
        let poll = bounded(config)?.timeout(config.poll_timeout).build()?;
        let (mut bearer, mut raw) =
            (HeaderValue::from_str(&format!("Bearer {}", key.expose()))?, HeaderValue::from_str(key.expose())?);
        bearer.set_sensitive(true);
        raw.set_sensitive(true);
        Ok(Self { submit, poll, bearer, raw, prefers_raw: Arc::default() })
    }

    /// Returns whether a text of the upstream has the key in it.
    pub(super) fn is_key_in(&self, text: &str) -> bool {
        self.raw.to_str().is_ok_and(|key| text.contains(key))
    }

    /// Begins a submit.
    pub(super) fn post(&self, url: Url, style: AuthStyle) -> RequestBuilder {
        self.submit.post(url).header(AUTHORIZATION, self.authorization(style))
    }

    /// Begins a call that is no submit.
    pub(super) fn request(&self, method: Method, url: Url, style: AuthStyle) -> RequestBuilder {
        self.poll.request(method, url).header(AUTHORIZATION, self.authorization(style))
    }

    /// Sends a request for a URL in the style that works as far as is known, and once more in the other if the key is
    /// refused.
    ///
    /// # Errors
    ///
    /// That of the first request.
    pub(super) async fn get(&self, url: Url) -> reqwest::Result<Response> {
        self.send(|| self.poll.get(url.clone()), refuses_key).await
    }

    /// Does the same for a download, which may take longer.
    ///
    /// # Errors
    ///
    /// That of the first request.
    pub(super) async fn download(&self, url: Url, timeout: Duration) -> reqwest::Result<Response> {
        self.send(|| self.poll.get(url.clone()).timeout(timeout), |status| status == StatusCode::UNAUTHORIZED).await
    }

    async fn send(
        &self,
        request: impl Fn() -> RequestBuilder,
        refuses: impl Fn(StatusCode) -> bool,
    ) -> reqwest::Result<Response> {
        let send = |style| request().header(AUTHORIZATION, self.authorization(style)).send();
        let style = if self.prefers_raw.load(Ordering::Relaxed) { AuthStyle::Raw } else { AuthStyle::Bearer };
        let other = style.other();
        let first = match send(style).await? {
            response if refuses(response.status()) => response,
            response => return Ok(response),
        };
        match send(other).await {
            Ok(response) if !refuses(response.status()) => {
                if response.status().is_success() {
                    self.prefer(other);
                }
                Ok(response)
            }
            Ok(_) | Err(_) => Ok(first),
        }
    }

    /// Notes a style that the upstream has accepted.
    pub(super) fn prefer(&self, style: AuthStyle) {
        self.prefers_raw.store(style == AuthStyle::Raw, Ordering::Relaxed);
    }

    fn authorization(&self, style: AuthStyle) -> HeaderValue {
        match style {
            AuthStyle::Bearer => self.bearer.clone(),
            AuthStyle::Raw => self.raw.clone(),
        }
    }
}

/// Returns whether the key may be refused in the way it was sent. The service has both for it: 401 "Invalid signature" and
/// 403 "Invalid Token".
fn refuses_key(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn bounded(config: &UpstreamConfig) -> Result<ClientBuilder, BuildError> {
    let client = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(config.connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .tcp_nodelay(true);
    let Some(proxy) = config.proxy() else {
        return Ok(client);
    };
    // For https only, so that the proxy opens a tunnel and never reads a request.
    let tunnel = Proxy::https(proxy.address.clone())?;
    Ok(client.proxy(match &proxy.credentials {
        Some(credentials) => tunnel.basic_auth(&credentials.user, credentials.password.expose()),
        None => tunnel,
    }))
}

/// Describes the error and its causes, without the URL, which may contain a signature.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_timeout() => "timed out".to_owned(),
        () if error.is_connect() => "cannot connect".to_owned(),
        () => "the connection broke".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    if text.contains("tunnel error") {
        return text.replacen("cannot connect", "cannot connect through upstream.proxy", 1);
    }
    text
}
