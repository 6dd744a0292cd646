//! The host names that a listener accepts.
//!
//! A web page can make its own name resolve to a service on the user's machine (DNS rebinding), and only the `Host` of
//! the browser's request shows it. An IP literal or `localhost` cannot be made to resolve elsewhere, so a loopback
//! listener accepts these and refuses every other name that is not listed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

/// An entry of a list of hosts, of any port: `images.example.com`, `*.example.com`, an IP address, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum HostName {
    Any,
    Exactly(String),
    /// Every name that ends with this suffix, which begins with a dot.
    Below(String),
}

/// The entry is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host: write a name without a port, such as \"images.example.com\", \"*.example.com\" or \"*\"")]
pub(crate) struct InvalidHost(String);

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        let name = normalized(text);
        match name.strip_prefix('*') {
            Some(rest) if rest.strip_prefix('.').is_some_and(is_name) => Ok(Self::Below(rest.to_owned())),
            None if is_name(&name) || name.parse::<IpAddr>().is_ok() => Ok(Self::Exactly(name)),
            Some(_) | None => Err(InvalidHost(text.to_owned())),
        }
    }
}

impl HostName {
    /// Returns whether a host, given without its port, is this one or below it.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let host = normalized(host);
        match self {
            Self::Any => true,
            Self::Exactly(name) => *name == host,
            Self::Below(rest) => host.len() > rest.len() && host.ends_with(rest.as_str()),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(name) => f.write_str(name),
            Self::Below(rest) => write!(f, "*{rest}"),
        }
    }
}

/// The host names that a listener accepts.
#[derive(Clone, Debug)]
pub(crate) struct HostRule {
    loopback: bool,
    /// Empty on a listener that is not on the loopback: every name is accepted.
    names: Vec<HostName>,
}

impl HostRule {
    /// The rule of a listener at `address`; `public` is the host of `server.public_url`.
    pub(crate) fn new(address: SocketAddr, listed: &[HostName], public: Option<&str>) -> Self {
        let loopback = address.ip().to_canonical().is_loopback();
        let mut names = listed.to_vec();
        if let Some(public) = public
            && (loopback || !names.is_empty())
        {
            names.push(HostName::Exactly(normalized(public)));
        }
        Self { loopback, names }
    }

    /// Returns whether a request may name this host, given without its port; IPv6 with or without brackets.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let host = normalized(host);
        if !self.loopback && self.names.is_empty() {
            return true;
        }
        let is_safe = || host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok();
        (self.loopback && is_safe()) || self.names.iter().any(|name| name.covers(&host))
    }
}

/// Returns the host in lower case, without brackets, and without the final dot that a name may have.
fn normalized(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(address: &str, names: &[&str], public: Option<&str>) -> HostRule {
        let names: Vec<HostName> = names.iter().map(|name| name.parse().unwrap()).collect();
        HostRule::new(address.parse().unwrap(), &names, public)
    }

    #[test]
    fn a_loopback_listener_accepts_only_hosts_that_cannot_be_rebound() {
        for listen in ["127.0.0.1:8787", "[::1]:8787", "127.8.8.8:1", "[::ffff:127.0.0.1]:1"] {
            let rule = rule(listen, &[], Some("images.example.com"));
            for host in
                ["localhost", "LOCALHOST.", "app.localhost", "127.0.0.1", "[::1]", "10.0.0.7", "Images.Example.com"]
            {
                assert!(rule.allows(host), "{host} on {listen}");
            }
            for host in [
                "evil.example",
                "localhost.evil.example",
                "127.0.0.1.nip.io",
                "evillocalhost",
                "",
                "0x7f.1",
                "x.images.example.com",
            ] {
                assert!(!rule.allows(host), "{host} on {listen}");
            }
        }
    }

    #[test]
    fn another_listener_accepts_every_host_until_names_are_listed() {
        assert!(rule("0.0.0.0:8787", &[], None).allows("anything.example"));
        assert!(rule("0.0.0.0:8787", &[], Some("images.example.com")).allows("10.0.0.7"));
        let rule =
            rule("0.0.0.0:8787", &["api.example.com", "*.internal", "10.0.0.7", "::1"], Some("images.example.com"));
        for host in [
            "api.example.com",
            "API.example.com.",
            "a.internal",
            "a.b.internal",
            "10.0.0.7",
            "[::1]",
            "images.example.com",
        ] {
            assert!(rule.allows(host), "{host}");
        }
        for host in ["localhost", "127.0.0.1", "example.com", "xapi.example.com", "internal", ".internal", "ainternal"]
        {
            assert!(!rule.allows(host), "{host}");
        }
    }

    #[test]
    fn a_loopback_listener_accepts_listed_names_too() {
        let rule = rule("127.0.0.1:8787", &["gateway.test"], None);
        assert!(rule.allows("gateway.test") && rule.allows("localhost"));
        assert!(!rule.allows("other.test"));
        assert!(HostRule::new("127.0.0.1:1".parse().unwrap(), &[HostName::Any], None).allows("evil.example"));
    }

    #[test]
    fn entries_are_names_without_a_port() {
        for good in ["images.example.com", "*.example.com", "*", "localhost", "10.0.0.7", "[::1]", "my_host"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "https://example.com",
            "example.com:8787",
            "example.com/",
            "a b",
            "*example.com",
            "*.",
            "**",
            ".example.com",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
