//! From where a picture may be downloaded, which an answer of the upstream cannot extend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Origin, Url};

use crate::config::{AllowedDownloads, UpstreamConfig};
use crate::model::{AddressClass, behind_nat64};

/// The rules for addresses of downloads.
#[derive(Clone, Debug)]
pub(super) struct DownloadGuard {
    /// The upstream itself is on this machine.
    loopback: bool,
    /// The upstream itself is reached over http.
    http: bool,
    /// Where the key is sent anyway, so that downloads may go there, whatever its address; `None` for addresses that
    /// clients give.
    own: Option<Url>,
    allowed: AllowedDownloads,
}

impl DownloadGuard {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        Self {
            loopback: config.is_loopback(),
            http: config.base_url.scheme() == "http",
            own: Some(config.base_url.clone()),
            allowed: config.download_allow.clone(),
        }
    }

    /// The rules for addresses that clients give. What the operator allows for results is not allowed to clients, except
    /// the fake addresses of a local proxy, which stand for public ones.
    pub(super) fn for_links(config: &UpstreamConfig) -> Self {
        Self { own: None, ..Self::new(config) }
    }

    /// Checks a URL, of which the host may be an address. Returns it with https in place of http, unless the upstream
    /// itself is reached over http.
    ///
    /// # Errors
    ///
    /// Why not, as the end of a sentence.
    pub(super) fn check_url(&self, mut url: Url) -> Result<Url, String> {
        if url.scheme() == "http" && !self.http {
            // Never fails between these two.
            let _ = url.set_scheme("https");
        }
        if !matches!((url.scheme(), self.http), ("https", _) | ("http", true)) {
            return Err("it is not https".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it carries a user name".to_owned());
        }
        // Literal addresses never reach the resolver, so they are checked here.
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::from(ip),
            Some(Host::Ipv6(ip)) => IpAddr::from(ip),
            Some(Host::Domain(_)) => return Ok(url),
            None => return Err("it names no host".to_owned()),
        };
        match self.refused_class(None, ip) {
            Some(class) if class == AddressClass::Metadata || !self.is_own(&url.origin()) => {
                Err(format!("{ip} is {}", explain(ip, class)))
            }
            Some(_) | None => Ok(url),
        }
    }

    /// Returns the addresses of a host that may be fetched from.
    ///
    /// # Errors
    ///
    /// When there is none: which address the host has, of which class, and which key of the configuration allows it.
    fn check_addresses(&self, name: &str, found: impl Iterator<Item = IpAddr>) -> Result<Vec<IpAddr>, String> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for ip in found {
            match self.refused_class(Some(name), ip) {
                Some(class) => refused = refused.or(Some((ip, class))),
                None => allowed.push(ip),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some((ip, class))) => Err(format!("{name} resolves to {ip}, {}", explain(ip, class))),
            (true, None) => Err(format!("{name} has no address")),
        }
    }

    /// Returns the class of an address that may not be fetched from; `None` when it may.
    fn refused_class(&self, name: Option<&str>, ip: IpAddr) -> Option<AddressClass> {
        let class = AddressClass::of(ip);
        let in_network = || {
            let behind = match ip {
                IpAddr::V6(ip) => behind_nat64(ip).map(IpAddr::from),
                IpAddr::V4(_) => None,
            };
            self.allowed.has_address(ip) || behind.is_some_and(|ip| self.allowed.has_address(ip))
        };
        let allowed = match class {
            AddressClass::Public => true,
            // It hands out credentials, and no picture comes from there.
            AddressClass::Metadata => false,
            AddressClass::Loopback if self.loopback => true,
            AddressClass::FakeIp if self.own.is_none() => name.is_some() && in_network(),
            _ if self.own.is_none() => false,
            AddressClass::Loopback
            | AddressClass::Private
            | AddressClass::LinkLocal
            | AddressClass::CarrierNat
            | AddressClass::FakeIp
            | AddressClass::Reserved => {
                in_network() || name.is_some_and(|name| self.is_own_host(name) || self.allowed.has_host(name))
            }
        };
        (!allowed).then_some(class)
    }

    fn is_own(&self, origin: &Origin) -> bool {
        self.own.as_ref().is_some_and(|own| *origin == own.origin())
    }

    fn is_own_host(&self, name: &str) -> bool {
        self.own.as_ref().and_then(Url::host_str) == Some(name)
    }
}

/// Describes an address that is refused, and what allows it.
fn explain(ip: IpAddr, class: AddressClass) -> String {
    let behind = match ip {
        IpAddr::V6(ip) if behind_nat64(ip).is_some() => " behind NAT64",
        IpAddr::V4(_) | IpAddr::V6(_) => "",
    };
    let remedy = match class {
        AddressClass::Metadata => "results are never downloaded from there",
        AddressClass::FakeIp => "add 198.18.0.0/15 to upstream.download_allow",
        AddressClass::Public
        | AddressClass::Loopback
        | AddressClass::Private
        | AddressClass::LinkLocal
        | AddressClass::CarrierNat
        | AddressClass::Reserved => "add it to upstream.download_allow if results come from there",
    };
    format!("{}{behind}; {remedy}", class.describe())
}

/// The resolver of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Resolves names to addresses that may be fetched from, when the connection is made, so that a name cannot resolve
/// differently after the check.
#[derive(Clone)]
pub(super) struct DownloadResolver {
    guard: DownloadGuard,
    resolver: Arc<dyn Resolve>,
}

impl DownloadResolver {
    pub(super) fn new(guard: DownloadGuard, resolver: Arc<dyn Resolve>) -> Self {
        Self { guard, resolver }
    }

    /// Returns the addresses of a host that may be fetched from; `None` when it cannot be resolved.
    ///
    /// # Errors
    ///
    /// As [`DownloadGuard::check_addresses`].
    pub(super) async fn allowed_addresses(&self, name: &str) -> Option<Result<Vec<IpAddr>, String>> {
        let found = self.resolver.resolve(name.parse().ok()?).await.ok()?;
        let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        (!found.is_empty()).then(|| self.guard.check_addresses(name, found.into_iter()))
    }
}

impl Resolve for DownloadResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { guard, resolver } = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = resolver.resolve(name).await?;
            let allowed = guard.check_addresses(&host, found.map(|address| address.ip()))?;
            Ok(Box::new(allowed.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
