//! Reads the headers in which a reverse proxy says under which address the client reached it.
//!
//! They count for the addresses of results, and only on connections from `server.proxy_networks` or a Unix socket: other
//! clients can write anything. Behind this layer a request has each of them once at most, with a valid value, and only where
//! it counts. Of a list, the first value is the one that the client used; `Forwarded` (RFC 7239) is not read, because proxies
//! rarely send it. With `server.public_url` none is needed, and none is read.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;

use super::cors::OriginPolicy;
use crate::api::error::ApiError;
use crate::config::ServerConfig;
use crate::http::header::{FORWARDED_HOST, FORWARDED_PROTO};
use crate::server::listener::Peer;

/// Decides which forwarded headers count. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ForwardedPolicy {
    origins: OriginPolicy,
    proxies: Arc<[IpNet]>,
    /// Nothing else names the address of the gateway.
    is_used: bool,
    scheme: &'static str,
    warned: Arc<AtomicBool>,
}

impl ForwardedPolicy {
    pub(super) fn new(server: &ServerConfig, origins: OriginPolicy) -> Self {
        Self {
            origins,
            proxies: server.connections.proxy_networks.clone().into(),
            is_used: server.addresses.public_url.is_none(),
            scheme: server.tls.scheme(),
            warned: Arc::default(),
        }
    }

    /// Keeps what counts of the forwarded headers, and removes the rest.
    ///
    /// # Errors
    ///
    /// [`ApiError::ForeignHost`] for a forwarded host that would be refused in the `Host` header, too.
    fn apply(&self, peer: Option<&Peer>, headers: &mut HeaderMap) -> Result<(), ApiError> {
        let mut take = |name: &HeaderName| {
            let value = headers.remove(name)?;
            let first = value.to_str().ok()?.split(',').next()?.trim().to_ascii_lowercase();
            Some(first).filter(|first| !first.is_empty())
        };
        let (host, scheme) = (take(&FORWARDED_HOST), take(&FORWARDED_PROTO));
        if !self.is_used {
            return Ok(());
        }
        let host = host.and_then(|host| Authority::try_from(host).ok());
        let host = host.filter(|host| !host.host().is_empty() && !host.as_str().contains('@'));
        let scheme = scheme.filter(|scheme| matches!(scheme.as_str(), "http" | "https"));
        let from = match peer {
            Some(Peer::Network(address)) if !self.is_proxy(address.ip()) => Some(address.ip()),
            Some(Peer::Network(_) | Peer::Local) => None,
            None => return Ok(()),
        };
        if let Some(ip) = from {
            self.warn(ip, host.as_ref(), scheme.as_deref(), headers);
            return Ok(());
        }
        if let Some(host) = host {
            if !self.origins.allows(peer, host.host()) {
                return Err(ApiError::ForeignHost { host: host.host().to_owned() });
            }
            headers.extend(HeaderValue::from_str(host.as_str()).ok().map(|host| (FORWARDED_HOST, host)));
        }
        headers.extend(
            scheme.and_then(|scheme| HeaderValue::from_str(&scheme).ok()).map(|scheme| (FORWARDED_PROTO, scheme)),
        );
        Ok(())
    }

    fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&ip.to_canonical()))
    }

    /// Logs once that addresses are given out at which clients behind a proxy may not reach the gateway.
    fn warn(&self, ip: IpAddr, host: Option<&Authority>, scheme: Option<&str>, headers: &HeaderMap) {
        let own = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = host.map_or(own, Authority::as_str);
        let scheme = scheme.unwrap_or(self.scheme);
        let differs = !host.eq_ignore_ascii_case(own) || scheme != self.scheme;
        if differs && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                proxy = %ip,
                forwarded = format!("{scheme}://{host}"),
                own = format!("{}://{own}", self.scheme),
                "a proxy forwards for another address than the one that results are given out below; set \
                 server.public_url, or list the proxy in server.proxy_networks"
            );
        }
    }
}

/// The middleware.
pub(super) async fn read(State(policy): State<ForwardedPolicy>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(FORWARDED_HOST) || headers.contains_key(FORWARDED_PROTO) {
        let peer = request.extensions().get::<Peer>().copied();
        if let Err(error) = policy.apply(peer.as_ref(), request.headers_mut()) {
            return error.into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::server;

    /// The forwarded host and scheme that count, of a request from this peer.
    fn applied(
        change: impl FnOnce(&mut ServerConfig),
        peer: &str,
        pairs: &[(HeaderName, &str)],
    ) -> Result<(String, String), &'static str> {
        let mut server = server();
        server.addresses.listen = "0.0.0.0:8787".parse().unwrap();
        change(&mut server);
        let policy = ForwardedPolicy::new(&server, OriginPolicy::new(&server.addresses));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        let peer = if peer == "unix" { Peer::Local } else { Peer::Network(format!("{peer}:5000").parse().unwrap()) };
        policy.apply(Some(&peer), &mut headers).map_err(|error| error.code())?;
        assert!(headers.get_all(FORWARDED_HOST).iter().count() <= 1, "{headers:?}");
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        Ok((text(FORWARDED_HOST).unwrap_or_default(), text(FORWARDED_PROTO).unwrap_or_default()))
    }

    #[test]
    fn the_first_valid_value_of_a_proxy_counts() {
        for (host, proto, expected) in [
            ("img.example.com", "https", ("img.example.com", "https")),
            ("img.example.com:8443", "https", ("img.example.com:8443", "https")),
            ("[2606:4700::1]:8443", "http", ("[2606:4700::1]:8443", "http")),
            ("img.example.com, inner:8080", "https, http", ("img.example.com", "https")),
            ("IMG.Example.com ", " HTTPS", ("img.example.com", "https")),
            ("", "https", ("", "https")),
            ("img.example.com", "", ("img.example.com", "")),
            ("img.example.com", "ftp", ("img.example.com", "")),
            ("img.example.com", "javascript", ("img.example.com", "")),
            ("me@img.example.com", "https", ("", "https")),
            ("img.example.com/path", "https", ("", "https")),
            ("a b", "https", ("", "https")),
            ("img\"example", "https", ("", "https")),
            (":8080", "https", ("", "https")),
        ] {
            let pairs = [(FORWARDED_HOST, host), (FORWARDED_PROTO, proto)];
            for peer in ["10.1.2.3", "127.0.0.1", "unix", "[::ffff:10.1.2.3]"] {
                let (host_seen, proto_seen) = applied(|_| {}, peer, &pairs).unwrap();
                assert_eq!((host_seen.as_str(), proto_seen.as_str()), expected, "{host:?} {proto:?} from {peer}");
            }
            for peer in ["8.8.8.8", "[2606:4700::2]"] {
                assert_eq!(applied(|_| {}, peer, &pairs), Ok(<_>::default()), "{host:?} from {peer}");
            }
        }
        let twice = [(FORWARDED_HOST, "one.example.com"), (FORWARDED_HOST, "two.example.com")];
        assert_eq!(applied(|_| {}, "10.1.2.3", &twice), Ok(("one.example.com".to_owned(), String::new())));
        assert_eq!(applied(|server| server.connections.proxy_networks.clear(), "10.1.2.3", &twice), Ok(<_>::default()));
    }

    #[test]
    fn a_forwarded_host_is_checked_as_the_host_is() {
        let listing = |server: &mut ServerConfig| server.addresses.hosts = vec!["*.example.com".parse().unwrap()];
        let host = |host| applied(listing, "10.1.2.3", &[(FORWARDED_HOST, host)]).map(|(host, _)| host);
        assert_eq!(host("img.example.com").as_deref(), Ok("img.example.com"));
        assert_eq!(host("evil.example"), Err("host_not_allowed"));
        let on_loopback = |server: &mut ServerConfig| server.addresses.listen = "127.0.0.1:8787".parse().unwrap();
        let host = |host| applied(on_loopback, "127.0.0.1", &[(FORWARDED_HOST, host)]).map(|(host, _)| host);
        assert_eq!(host("localhost:3000").as_deref(), Ok("localhost:3000"));
        assert_eq!(host("evil.example"), Err("host_not_allowed"));
        // With a public address nothing is read.
        let public =
            |server: &mut ServerConfig| server.addresses.public_url = Some("https://a.example".parse().unwrap());
        assert_eq!(applied(public, "10.1.2.3", &[(FORWARDED_HOST, "evil.example")]), Ok(<_>::default()));
    }
}
