//! Hosts: the names that a listener accepts, the classes of IP addresses (by IANA's special-purpose registries), and which
//! hosts can be reached from outside.
//!
//! A web page can make its own name resolve to a service on the user's machine (DNS rebinding), and only the `Host` of
//! the browser's request shows it. An IP literal or `localhost` cannot be made to resolve elsewhere, so a loopback
//! listener accepts these and refuses every other name that is not listed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
            !has_empty_label(name) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
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
    /// The rule of a listener, which only programs of this machine can reach where it is on the `loopback`; `public` is the
    /// host of `server.public_url`.
    pub(crate) fn new(loopback: bool, listed: &[HostName], public: Option<&str>) -> Self {
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
        if has_empty_label(&host) && !self.names.contains(&HostName::Any) {
            return false;
        }
        (self.loopback && is_safe()) || self.names.iter().any(|name| name.covers(&host))
    }
}

/// What an address is used for. Only a public one may be fetched from without an entry in `upstream.download_allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressClass {
    Public,
    Loopback,
    Private,
    LinkLocal,
    /// 100.64.0.0/10, between a provider and its customers.
    CarrierNat,
    /// 198.18.0.0/15: reserved for benchmarks, and used by local proxies that answer DNS themselves.
    FakeIp,
    /// A service of a cloud that gives credentials to whatever runs on its machine.
    Metadata,
    /// Documentation, multicast, wrappers of IPv4, and what is not assigned.
    Reserved,
}

impl AddressClass {
    /// Classifies an address. One behind `NAT64` (`64:ff9b::/96`) has the class of the IPv4 address in it.
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    /// Returns the class as the end of a sentence: "a private address".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::CarrierNat => "a shared address of a carrier's NAT",
            Self::FakeIp => "a fake-IP address of a local proxy",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Reserved => "a reserved address",
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [100, 100, 100, 200] | [192, 0, 0, 192] => Self::Metadata,
            [127, ..] => Self::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [169, 254, ..] => Self::LinkLocal,
            [100, 64..=127, ..] => Self::CarrierNat,
            [198, 18 | 19, ..] => Self::FakeIp,
            [0 | 224..=255, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
                Self::Reserved
            }
            _ => Self::Public,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        if let Some(v4) = behind_nat64(ip) {
            return Self::of_v4(v4);
        }
        if let Some(v4) = ip.to_ipv4_mapped() {
            // No resolver returns such an address for a public host.
            let class = Self::of_v4(v4);
            return if class == Self::Public { Self::Reserved } else { class };
        }
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // AWS (instances, containers) and Google.
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Self::Metadata,
            // Unique local, and site-local as it was called before.
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            // Protocol assignments such as Teredo; documentation; 6to4; documentation again.
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002 | 0x3ff0..=0x3fff, ..] => Self::Reserved,
            // Global unicast.
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }
}

/// Returns the IPv4 address that an IPv6 address stands for behind `NAT64`, by the well-known prefix.
pub(crate) fn behind_nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

/// Ends of names that only a local network resolves (RFC 6762, RFC 8375, and by custom).
const LOCAL_SUFFIXES: [&str; 7] = [".local", ".internal", ".lan", ".home.arpa", ".localdomain", ".intranet", ".corp"];

/// Returns why a host, given without its port, cannot be reached from outside, as the end of a sentence: "a private address".
/// `None` for one that perhaps can: names are not resolved.
pub(crate) fn unreachable_from_outside(host: &str) -> Option<&'static str> {
    let host = normalized(host);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(AddressClass::of(ip)).filter(|class| *class != AddressClass::Public).map(AddressClass::describe);
    }
    if has_empty_label(&host) {
        Some("which is no name: there is nothing between two of its dots")
    } else if host == "localhost" || host.ends_with(".localhost") {
        Some("the machine of the reader itself")
    } else if !host.contains('.') || LOCAL_SUFFIXES.iter().any(|suffix| host.ends_with(suffix)) {
        Some("a name of a local network")
    } else {
        None
    }
}

/// Returns the host in lower case, without brackets, and without dots at its end: a name may have one, and some readers ignore
/// more.
fn normalized(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Returns whether a normalized host has a part without a letter or a figure, which no name has.
fn has_empty_label(host: &str) -> bool {
    host.split('.').any(str::is_empty)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn rule(address: &str, names: &[&str], public: Option<&str>) -> HostRule {
        let names: Vec<HostName> = names.iter().map(|name| name.parse().unwrap()).collect();
        HostRule::new(address.parse::<SocketAddr>().unwrap().ip().to_canonical().is_loopback(), &names, public)
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
                "a..localhost",
                ".localhost",
                ".",
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
        assert!(HostRule::new(true, &[HostName::Any], None).allows("evil.example"));
    }

    #[test]
    fn hosts_of_local_networks_cannot_be_reached_from_outside() {
        for host in [
            "localhost",
            "LocalHost.",
            "app.localhost",
            "127.0.0.1",
            "[::1]",
            "0.0.0.0",
            "10.0.0.7",
            "172.16.0.1",
            "192.168.1.20",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "printer.local",
            "minio.internal",
            "nas.lan",
            "box.home.arpa",
            "gateway",
            "localhost..",
            "app.localhost...",
            "10.0.0.1..",
            "169.254.169.254...",
            "printer.local..",
            "gateway..",
            "a..b",
            "example..com",
            ".example.com",
            "..",
        ] {
            assert!(unreachable_from_outside(host).is_some(), "{host}");
        }
        for host in [
            "example.com",
            "local.example.com",
            "mylocal",
            "8.8.8.8",
            "[2606:4700::1111]",
            "internal.io",
            "example.com..",
        ] {
            assert_eq!(unreachable_from_outside(host).is_none(), host.contains(['.', ':']), "{host}");
        }
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
            "a..b",
            "*..com",
            ".",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
