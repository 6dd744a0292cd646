//! Reads the headers in which a reverse proxy says under which address the client reached it.
//!
//! They count for the addresses of results, and only on connections from `server.proxy_networks` or a Unix socket: other
//! clients can write anything. Behind this layer a request has each of them once at most, with a valid value, and only where
//! it counts. Of a list, the first value is the one that the client used; `Forwarded` (RFC 7239) is not read, because proxies
//! rarely send it. With `server.public_url` none is needed, and none is read.
//!
//! A forwarded host only names the gateway in the addresses that this client gets, and pages that rebind a name are refused by
//! their `Host` before. So every host of a proxy is accepted until `server.hosts` lists some, also on a loopback listener, where
//! most proxies are. One that the list does not have is left out: many proxies forward without being asked to.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use url::Url;

use super::cors::OriginPolicy;
use crate::config::ServerConfig;
use crate::http::header::{FORWARDED_HOST, FORWARDED_PROTO};
use crate::model::Current;
use crate::server::listener::Peer;

/// Decides which forwarded headers count.
#[derive(Debug)]
pub(super) struct ForwardedPolicy {
    origins: Current<OriginPolicy>,
    proxies: Arc<[IpNet]>,
    /// Nothing else names the address of the gateway.
    is_used: bool,
    scheme: &'static str,
    /// Of headers from elsewhere than a proxy.
    warned: Arc<AtomicBool>,
    /// Of hosts that are not listed.
    warned_of_host: Arc<AtomicBool>,
}

impl ForwardedPolicy {
    pub(super) fn new(server: &ServerConfig, origins: Current<OriginPolicy>) -> Self {
        Self {
            origins,
            proxies: server.connections.proxy_networks.clone().into(),
            is_used: server.addresses.public_url.is_none(),
            scheme: server.tls.scheme(),
            warned: Arc::default(),
            warned_of_host: Arc::default(),
        }
    }

    /// Keeps what counts of the forwarded headers of a request, and removes the rest.
    pub(super) fn read(&self, request: &mut Request) {
        let headers = request.headers();
        if headers.contains_key(FORWARDED_HOST) || headers.contains_key(FORWARDED_PROTO) {
            let peer = request.extensions().get::<Peer>().copied();
            self.apply(peer.as_ref(), request.headers_mut());
        }
    }

    fn apply(&self, peer: Option<&Peer>, headers: &mut HeaderMap) {
        let mut take = |name: &HeaderName| {
            let value = headers.remove(name)?;
            let first = value.to_str().ok()?.split(',').next()?.trim().to_ascii_lowercase();
            Some(first).filter(|first| !first.is_empty())
        };
        let (host, scheme) = (take(&FORWARDED_HOST), take(&FORWARDED_PROTO));
        if !self.is_used {
            return;
        }
        let host = host.and_then(|host| Authority::try_from(host).ok());
        let makes_address = |host: &Authority| format!("http://{host}").parse::<Url>().is_ok();
        let host = host.filter(|host| !host.as_str().contains('@') && makes_address(host));
        let scheme = scheme.filter(|scheme| matches!(scheme.as_str(), "http" | "https"));
        let from = match peer {
            Some(Peer::Network(address)) if !self.is_proxy(address.ip()) => Some(address.ip()),
            Some(Peer::Network(_) | Peer::Local) => None,
            None => return,
        };
        if let Some(ip) = from {
            self.warn(ip, host.as_ref(), scheme.as_deref(), headers);
            return;
        }
        if let Some(host) = host {
            if !self.origins.get().hosts.allows_forwarded(peer, host.host()) {
                // The scheme is that of the same address.
                self.warn_of_host(host.host());
                return;
            }
            headers.extend(HeaderValue::from_str(host.as_str()).ok().map(|host| (FORWARDED_HOST, host)));
        }
        headers.extend(
            scheme.and_then(|scheme| HeaderValue::from_str(&scheme).ok()).map(|scheme| (FORWARDED_PROTO, scheme)),
        );
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

    /// Logs once that a forwarded host is not in `server.hosts`.
    fn warn_of_host(&self, host: &str) {
        if !self.warned_of_host.swap(true, Ordering::Relaxed) {
            let host: String = host.chars().take(100).collect();
            tracing::warn!(
                %host,
                "X-Forwarded-Host names a host that server.hosts does not list; results are given out below the host of \
                 the request. List it there, or set server.public_url"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::server;

    /// The forwarded host and scheme that count, of a request from this peer.
    fn applied(change: impl FnOnce(&mut ServerConfig), peer: &str, pairs: &[(HeaderName, &str)]) -> (String, String) {
        let mut server = server();
        server.addresses.listen = "0.0.0.0:8787".parse().unwrap();
        change(&mut server);
        let policy = ForwardedPolicy::new(&server, Current::new(OriginPolicy::new(&server.addresses)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        let peer = if peer == "unix" { Peer::Local } else { Peer::Network(format!("{peer}:5000").parse().unwrap()) };
        policy.apply(Some(&peer), &mut headers);
        assert!(headers.get_all(FORWARDED_HOST).iter().count() <= 1, "{headers:?}");
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        (text(FORWARDED_HOST).unwrap_or_default(), text(FORWARDED_PROTO).unwrap_or_default())
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
            ("img.example.com:99999", "https", ("", "https")),
            ("img.example.com:https", "https", ("", "https")),
            ("a%00b", "https", ("", "https")),
        ] {
            let pairs = [(FORWARDED_HOST, host), (FORWARDED_PROTO, proto)];
            for peer in ["10.1.2.3", "127.0.0.1", "unix", "[::ffff:10.1.2.3]"] {
                let (host_seen, proto_seen) = applied(|_| {}, peer, &pairs);
                assert_eq!((host_seen.as_str(), proto_seen.as_str()), expected, "{host:?} {proto:?} from {peer}");
            }
            for peer in ["8.8.8.8", "[2606:4700::2]"] {
                assert_eq!(applied(|_| {}, peer, &pairs), <_>::default(), "{host:?} from {peer}");
            }
        }
        let twice = [(FORWARDED_HOST, "one.example.com"), (FORWARDED_HOST, "two.example.com")];
        assert_eq!(applied(|_| {}, "10.1.2.3", &twice), ("one.example.com".to_owned(), String::new()));
        assert_eq!(applied(|server| server.connections.proxy_networks.clear(), "10.1.2.3", &twice), <_>::default());
    }

    #[test]
    fn a_host_that_is_not_listed_is_left_out() {
        let https = |host, peer, change: &dyn Fn(&mut ServerConfig)| {
            applied(change, peer, &[(FORWARDED_HOST, host), (FORWARDED_PROTO, "https")]).0
        };
        let listing = |server: &mut ServerConfig| server.addresses.hosts = vec!["*.example.com".parse().unwrap()];
        let on_loopback = |server: &mut ServerConfig| server.addresses.listen = "localhost:8787".parse().unwrap();
        let listing_on_loopback = |server: &mut ServerConfig| {
            listing(server);
            on_loopback(server);
        };
        for peer in ["10.1.2.3", "127.0.0.1", "unix"] {
            assert_eq!(https("img.example.com", peer, &listing), "img.example.com", "{peer}");
            let dropped = [(FORWARDED_HOST, "evil.example"), (FORWARDED_PROTO, "https")];
            assert_eq!(applied(listing, peer, &dropped), <_>::default(), "{peer}: with its scheme");
        }
        for (host, change, expected) in [
            // As Apache, nginx and Caddy forward to a gateway with the defaults.
            ("img.example.com", &on_loopback as &dyn Fn(&mut ServerConfig), "img.example.com"),
            ("localhost:3000", &on_loopback, "localhost:3000"),
            ("192.168.1.5:8443", &on_loopback, "192.168.1.5:8443"),
            ("img.example.com", &listing_on_loopback, "img.example.com"),
            ("localhost:3000", &listing_on_loopback, "localhost:3000"),
            ("other.example", &listing_on_loopback, ""),
        ] {
            assert_eq!(https(host, "127.0.0.1", change), expected, "{host}");
        }
        // With a public address nothing is read.
        let public =
            |server: &mut ServerConfig| server.addresses.public_url = Some("https://a.example".parse().unwrap());
        assert_eq!(applied(public, "10.1.2.3", &[(FORWARDED_HOST, "evil.example")]), <_>::default());
    }
}
