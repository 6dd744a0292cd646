//! The HTTP clients: two for each account, one for downloads.
//!
//! | client   | key | connects to                                  | redirects            |
//! |----------|-----|----------------------------------------------|----------------------|
//! | submit   | yes | the configured origin, a new connection each | none                 |
//! | poll     | yes | the configured origin                        | none                 |
//! | download | no  | public addresses over https                  | three, each checked  |
//!
//! All of them go through `upstream.proxy` where it is set. None retries, reads proxies from the environment, keeps cookies
//! or decompresses.
//!
//! - `guard`: from where a picture may be downloaded.
//! - `result_hosts`: whether results can be downloaded here, before they are bought.

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use reqwest::dns::Resolve;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Proxy, redirect, retry};

use crate::config::{Account, Secret, UpstreamConfig};
use crate::model::AccountId;

mod address;
mod downloads;
mod guard;
mod result_hosts;

use downloads::Downloads;
use guard::DownloadGuard;
use result_hosts::ResultHosts;

/// Our own name: some edges reject the default names of libraries.
const USER_AGENT: &str = concat!("gptproto-gateway/", env!("CARGO_PKG_VERSION"));

/// Why the clients cannot be built.
type BuildError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// Never empty.
    keyed: Vec<(AccountId, Keyed)>,
    pub(super) downloads: Downloads,
    pub(super) result_hosts: ResultHosts,
}

/// The clients that send one account's key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) submit: Client,
    pub(super) poll: Client,
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
        Ok(Self { keyed, downloads, result_hosts: ResultHosts::new(config, guard) })
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
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))?;
        authorization.set_sensitive(true);
        let keyed = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let submit = bounded(config)?
            .default_headers(keyed.clone())
            // A stale pooled connection would be noticed only after the last byte was sent.
            .pool_max_idle_per_host(0)
            .http1_only()
            .build()?;
        let poll = bounded(config)?.default_headers(keyed).timeout(config.poll_timeout).build()?;
        Ok(Self { submit, poll })
    }
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
