//! Where a listener listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::Deserialize;

/// One or several addresses with their ports, separated by commas: `127.0.0.1:8787`, `localhost:8787`, `[::]:8787`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ListenAddresses(Vec<ListenAddress>);

/// An address as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ListenAddress {
    Ip(SocketAddr),
    /// The loopback addresses of both families, of which a machine may have one only.
    Localhost(u16),
    Name(String, u16),
}

/// An address that a listener is to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedAddress {
    pub(crate) address: SocketAddr,
    /// It is left out on a machine that does not have it.
    pub(crate) optional: bool,
}

/// Why a text is no list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} must be an address and a port, such as \"127.0.0.1:8787\", \"localhost:8787\" or \"[::]:8787\"; several are \
     separated by commas{hint}"
)]
pub(crate) struct InvalidListen {
    text: String,
    hint: &'static str,
}

impl ListenAddresses {
    /// Returns whether only programs of this machine can connect. A name counts as reachable by others.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.iter().all(|listen| match listen {
            ListenAddress::Ip(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Localhost(_) => true,
            ListenAddress::Name(..) => false,
        })
    }

    /// Returns whether some of the addresses are of this machine alone, and no other includes them.
    pub(crate) fn has_loopback(&self) -> bool {
        let is_loopback = |listen: &ListenAddress| match listen {
            ListenAddress::Ip(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Localhost(_) => true,
            ListenAddress::Name(..) => false,
        };
        let is_every = |listen: &ListenAddress| match listen {
            ListenAddress::Ip(address) => address.ip().is_unspecified(),
            ListenAddress::Localhost(_) | ListenAddress::Name(..) => false,
        };
        self.0.iter().any(is_loopback) && !self.0.iter().any(is_every)
    }

    /// Returns the ports of the list, without those that the system is to choose.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.0.iter().map(ListenAddress::port).filter(|&port| port != 0).collect()
    }

    /// Returns the first address, as it is written in a URL.
    pub(crate) fn first(&self) -> String {
        self.0.first().map(ToString::to_string).unwrap_or_default()
    }

    /// Resolves the names, and leaves out the addresses that another of the list includes: `0.0.0.0` is every IPv4 address,
    /// and `[::]` is every address. Blocks.
    ///
    /// # Errors
    ///
    /// A text that names the host that cannot be resolved.
    pub(crate) fn resolve(&self) -> Result<Vec<ResolvedAddress>, String> {
        let mut resolved: Vec<ResolvedAddress> = Vec::new();
        for listen in &self.0 {
            let found = match listen {
                ListenAddress::Ip(address) => vec![ResolvedAddress { address: *address, optional: false }],
                ListenAddress::Localhost(port) => {
                    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
                    let each = |ip| ResolvedAddress { address: SocketAddr::new(ip, *port), optional: true };
                    loopback.map(each).to_vec()
                }
                ListenAddress::Name(name, port) => {
                    let found = (name.as_str(), *port).to_socket_addrs();
                    let found = found.map_err(|error| format!("{name} cannot be resolved: {error}"))?;
                    found.map(|address| ResolvedAddress { address, optional: false }).collect()
                }
            };
            for address in found {
                match resolved.iter_mut().find(|known| canonical(known.address) == canonical(address.address)) {
                    // Listed by itself, it may not be missing.
                    Some(known) => known.optional &= address.optional,
                    None => resolved.push(address),
                }
            }
        }
        let all = resolved.clone();
        resolved.retain(|one| !all.iter().any(|other| includes(other.address, one.address)));
        Ok(resolved)
    }
}

/// An IPv4 address that is written as an IPv6 address, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Returns whether a listener on `wide` receives the connections to `address`, which is another one.
fn includes(wide: SocketAddr, address: SocketAddr) -> bool {
    let (wide, address) = (canonical(wide), canonical(address));
    let is_wide = wide.ip().is_unspecified() && (wide.is_ipv6() || address.is_ipv4());
    is_wide && wide != address && wide.port() == address.port()
}

impl From<Vec<SocketAddr>> for ListenAddresses {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self(addresses.into_iter().map(ListenAddress::Ip).collect())
    }
}

impl FromStr for ListenAddresses {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        let addresses: Vec<ListenAddress> = text.split(',').map(|one| one.trim().parse()).collect::<Result<_, _>>()?;
        let chosen = addresses.iter().filter(|listen| listen.port() == 0).count();
        if chosen != 0 && chosen != addresses.len() {
            let hint = ". Port 0, which the system chooses, is for all addresses of a list or for none";
            return Err(InvalidListen { text: text.to_owned(), hint });
        }
        Ok(Self(addresses))
    }
}

impl TryFrom<String> for ListenAddresses {
    type Error = InvalidListen;

    fn try_from(text: String) -> Result<Self, InvalidListen> {
        text.parse()
    }
}

impl ListenAddress {
    fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Localhost(port) | Self::Name(_, port) => *port,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let invalid = |hint| InvalidListen { text: text.to_owned(), hint };
        if text.contains("://") || text.contains('/') {
            return Err(invalid(". Leave out the scheme and the path"));
        }
        let Some((host, port)) = text.rsplit_once(':') else { return Err(invalid("")) };
        if matches!(host, "" | "*") {
            return Err(invalid(". For every network of this machine write \"0.0.0.0:PORT\" or \"[::]:PORT\""));
        }
        let Ok(port) = port.parse() else { return Err(invalid("")) };
        let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        // Of digits and dots alone, it is an IP address with a mistake in it.
        if !is_name || host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(invalid(""));
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost(port));
        }
        Ok(Self::Name(host.to_owned(), port))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for ListenAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{load, refusal};

    fn resolved(text: &str) -> Vec<String> {
        let found = text.parse::<ListenAddresses>().unwrap().resolve().unwrap();
        found
            .into_iter()
            .map(|ResolvedAddress { address, optional }| format!("{address}{}", if optional { "?" } else { "" }))
            .collect()
    }

    #[test]
    fn addresses_names_and_lists_are_read() {
        for (text, expected) in [
            ("127.0.0.1:8787", &["127.0.0.1:8787"][..]),
            ("0.0.0.0:80", &["0.0.0.0:80"]),
            ("[::]:8787", &["[::]:8787"]),
            ("[::1]:0", &["[::1]:0"]),
            ("localhost:8787", &["127.0.0.1:8787?", "[::1]:8787?"]),
            ("LocalHost:1", &["127.0.0.1:1?", "[::1]:1?"]),
            ("127.0.0.1:8787,192.168.1.5:8787", &["127.0.0.1:8787", "192.168.1.5:8787"]),
            (" 127.0.0.1:8787 , [::1]:8787 ", &["127.0.0.1:8787", "[::1]:8787"]),
            ("127.0.0.1:1,127.0.0.1:1", &["127.0.0.1:1"]),
            ("127.0.0.1:1,localhost:1", &["127.0.0.1:1", "[::1]:1?"]),
            ("localhost:1,127.0.0.1:1", &["127.0.0.1:1", "[::1]:1?"]),
            ("[::ffff:127.0.0.1]:1,127.0.0.1:1", &["[::ffff:127.0.0.1]:1"]),
            ("0.0.0.0:1,127.0.0.1:1", &["0.0.0.0:1"]),
            ("127.0.0.1:1,10.0.0.7:1,0.0.0.0:1", &["0.0.0.0:1"]),
            ("0.0.0.0:1,[::ffff:127.0.0.1]:1", &["0.0.0.0:1"]),
            ("0.0.0.0:1,localhost:1", &["0.0.0.0:1", "[::1]:1?"]),
            ("0.0.0.0:1,127.0.0.1:2", &["0.0.0.0:1", "127.0.0.1:2"]),
            ("[::]:1,localhost:1", &["[::]:1"]),
            ("localhost:1,[::]:1,192.168.1.5:1", &["[::]:1"]),
            ("0.0.0.0:1,[::]:1", &["[::]:1"]),
            ("[::]:1,[::]:1", &["[::]:1"]),
            ("[::]:0,0.0.0.0:0,localhost:0", &["[::]:0"]),
            ("[::]:1,0.0.0.0:2", &["[::]:1", "0.0.0.0:2"]),
        ] {
            assert_eq!(resolved(text), expected, "{text}");
        }
        let name: ListenAddresses = "no-such-host.invalid:1".parse().unwrap();
        assert!(name.resolve().unwrap_err().contains("no-such-host.invalid"), "{name}");
        for text in ["127.0.0.1:8787,localhost:8787", "[::]:1", "box.example:80"] {
            assert_eq!(text.parse::<ListenAddresses>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_loopback_addresses_are_of_this_machine_alone() {
        for (text, expected) in [
            ("localhost:1", true),
            ("127.0.0.1:1,[::1]:1", true),
            ("127.8.8.8:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1,0.0.0.0:2", false),
            ("[::]:1", false),
            ("box:1", false),
        ] {
            assert_eq!(text.parse::<ListenAddresses>().unwrap().is_loopback(), expected, "{text}");
        }
        for (text, expected) in [
            ("localhost:1", true),
            ("127.0.0.1:1,192.168.1.5:1", true),
            ("192.168.1.5:1,localhost:1", true),
            ("192.168.1.5:1,[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1,0.0.0.0:2", false),
            ("[::]:1,localhost:1", false),
            ("192.168.1.5:1", false),
            ("box:1", false),
        ] {
            assert_eq!(text.parse::<ListenAddresses>().unwrap().has_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_the_key_and_a_way_on() {
        for (text, part) in [
            ("here", "must be an address and a port"),
            ("8787", "must be an address and a port"),
            ("", "must be an address and a port"),
            ("127.0.0.1", "must be an address and a port"),
            ("127.0.0.1:99999", "must be an address and a port"),
            ("300.0.0.1:80", "must be an address and a port"),
            ("127.0.0.1:1,", "must be an address and a port"),
            ("::1:8787", "must be an address and a port"),
            (":8787", "0.0.0.0:PORT"),
            ("*:8787", "0.0.0.0:PORT"),
            ("http://localhost:8787", "scheme"),
            ("localhost:8787/v1", "path"),
            ("127.0.0.1:8787,127.0.0.2:0", "Port 0"),
            ("localhost:0,192.168.1.5:8787", "Port 0"),
        ] {
            for (section, key) in [("server", "server.listen"), ("operator", "operator.listen")] {
                let error = refusal(&format!("[{section}]\nlisten = {text:?}"), &[]);
                assert!(error.contains(key) && error.contains(part), "{error}");
            }
        }
        let config = load("", &[("GATEWAY_SERVER__LISTEN", "127.0.0.1:80,[::1]:80")]).unwrap();
        assert_eq!(config.server.addresses.listen.to_string(), "127.0.0.1:80,[::1]:80");
    }
}
