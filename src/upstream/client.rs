//! The HTTP clients: two for each account, one for downloads.
//!
//! | client   | key | connects to                                  | redirects            |
//! |----------|-----|----------------------------------------------|----------------------|
//! | submit   | yes | the configured origin, a new connection each | none                 |
//! | poll     | yes | the configured origin                        | none                 |
//! | download | no  | public addresses over https                  | three, each checked  |
//!
//! None of them retries, reads proxies from the environment, keeps cookies or decompresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, redirect, retry};
use url::{Host, Url};

use super::formats::AuthStyle;
use crate::config::{Account, Secret, UpstreamConfig};
use crate::model::AccountId;

/// Our own name: some edges reject the default names of libraries.
const USER_AGENT: &str = concat!("gptproto-gateway/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// Never empty.
    keyed: Vec<(AccountId, Keyed)>,
    pub(super) download: Client,
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
    pub(super) fn new(
        config: &UpstreamConfig,
        accounts: &[Account],
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        // Fails harmlessly where it is installed already: a test process builds many gateways.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if accounts.is_empty() {
            return Err("there is no upstream key".into());
        }
        let keyed = accounts.iter().map(|account| Ok((account.id.clone(), Keyed::new(config, &account.key)?)));
        let keyed = keyed.collect::<Result<_, Box<dyn std::error::Error + Send + Sync>>>()?;
        let download = bounded(config)
            .read_timeout(config.download_idle_timeout)
            .dns_resolver(Arc::new(PublicOnly { loopback: config.is_loopback() }))
            .build()?;
        Ok(Self { keyed, download })
    }

    /// Returns the clients with an account's key. Reservations name only accounts that exist.
    pub(super) fn of(&self, account: &AccountId) -> &Keyed {
        let named = self.keyed.iter().find(|(id, _)| id == account);
        &named.unwrap_or(&self.keyed[0]).1
    }
}

impl Keyed {
    fn new(config: &UpstreamConfig, key: &Secret) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let submit = bounded(config)
            // A stale pooled connection would be noticed only after the last byte was sent.
            .pool_max_idle_per_host(0)
            .http1_only()
            .build()?;
        let poll = bounded(config).timeout(config.poll_timeout).build()?;
        let (mut bearer, mut raw) =
            (HeaderValue::from_str(&format!("Bearer {}", key.expose()))?, HeaderValue::from_str(key.expose())?);
        bearer.set_sensitive(true);
        raw.set_sensitive(true);
        Ok(Self { submit, poll, bearer, raw, prefers_raw: Arc::default() })
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
        let send = |style| self.poll.get(url.clone()).header(AUTHORIZATION, self.authorization(style)).send();
        let (style, other) = match self.prefers_raw.load(Ordering::Relaxed) {
            true => (AuthStyle::Raw, AuthStyle::Bearer),
            false => (AuthStyle::Bearer, AuthStyle::Raw),
        };
        let refused = match send(style).await? {
            response if response.status() == StatusCode::UNAUTHORIZED => response,
            response => return Ok(response),
        };
        match send(other).await {
            Ok(response) if response.status() != StatusCode::UNAUTHORIZED => {
                if response.status().is_success() {
                    self.prefer(other);
                }
                Ok(response)
            }
            Ok(_) | Err(_) => Ok(refused),
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

fn bounded(config: &UpstreamConfig) -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(config.connect_timeout)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .tcp_nodelay(true)
}

/// Whether a URL may be fetched without the key. `loopback`: the upstream itself is on this machine.
///
/// # Errors
///
/// Why not, as the end of a sentence.
pub(super) fn may_fetch(url: &Url, loopback: bool) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err("it is not https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries a user name");
    }
    // Literal addresses never reach the resolver, so they are checked here.
    let allowed = |ip: IpAddr| is_public(ip) || (loopback && ip.is_loopback());
    match url.host() {
        Some(Host::Ipv4(ip)) if !allowed(ip.into()) => Err("it is a private address"),
        Some(Host::Ipv6(ip)) if !allowed(ip.into()) => Err("it is a private address"),
        None => Err("it names no host"),
        Some(_) => Ok(()),
    }
}

/// Resolves names to public addresses only, when the connection is made, so that a name cannot resolve differently after
/// the check.
#[derive(Clone, Copy, Debug)]
struct PublicOnly {
    loopback: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.loopback;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| is_public(address.ip()) || (loopback && address.ip().is_loopback())).collect();
            if allowed.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is public, by IANA's special-purpose registries; addresses that embed IPv4 are not.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Only global unicast, without documentation, Teredo, 6to4 and other wrappers of IPv4.
    let global_unicast = segments[0] & 0xe000 == 0x2000;
    let special = (segments[0] == 0x2001 && (segments[1] < 0x0200 || segments[1] == 0x0db8))
        || segments[0] == 0x2002
        || (segments[0] & 0xfff0 == 0x3ff0);
    global_unicast && !special
}

#[cfg(test)]
mod tests;
