//! Whether the names of the upstream resolve to addresses that may be connected to.

use std::net::IpAddr;

use url::Host;

use super::report::{Row, Section, Verdict};
use crate::config::Config;

/// The service's own host, and the host that its pages name for pictures.
const SERVICE: &str = "gptproto.com";
const PICTURES: &str = "oss.gptproto.com";

/// Adds a row for each name.
pub(super) async fn check(config: &Config, section: &mut Section) {
    let Some(Host::Domain(host)) = config.upstream.base_url.host() else { return };
    if config.upstream.is_loopback() {
        return;
    }
    section.add(name(host, Verdict::Note, "").await);
    if host == SERVICE || host.ends_with(&format!(".{SERVICE}")) {
        let advice = "pictures that are paid for could not be fetched: let this machine resolve the name publicly";
        section.add(name(PICTURES, Verdict::Warning, advice).await);
    }
}

/// Resolves one name. `special`: what it means when no address is public.
async fn name(host: &str, special: Verdict, advice: &str) -> Row {
    let addresses: Vec<IpAddr> = match tokio::net::lookup_host((host, 443)).await {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) => return Row::note("DNS", format!("{host} cannot be resolved: {error}")),
    };
    let classes: Vec<String> = addresses.iter().map(|address| format!("{address} ({})", class(*address))).collect();
    let seen = format!("{host} is {}", classes.join(", "));
    if addresses.iter().any(|address| class(*address) == PUBLIC) {
        Row::good("DNS", seen)
    } else {
        Row::new(special, "DNS", seen, advice)
    }
}

const PUBLIC: &str = "public";

/// Names the class of an address.
fn class(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(ip) if ip.is_loopback() => "loopback",
        IpAddr::V4(ip) if ip.is_private() => "private",
        IpAddr::V4(ip) if ip.is_link_local() => "link-local",
        IpAddr::V4(ip) => match ip.octets() {
            [198, 18 | 19, ..] => "fake-IP of a local proxy",
            [100, 64..=127, ..] => "carrier-grade NAT",
            [0 | 224..=255, ..] => "not an address of a host",
            _ => PUBLIC,
        },
        IpAddr::V6(ip) if ip.is_loopback() => "loopback",
        IpAddr::V6(ip) => match ip.segments() {
            [0x64, 0xff9b, ..] => "NAT64",
            [0xfc00..=0xfdff, ..] => "private",
            [0xfe80..=0xfebf, ..] => "link-local",
            [0x2000..=0x3fff, ..] => PUBLIC,
            _ => "not an address of a host",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_addresses_is_named() {
        for (address, named) in [
            ("104.21.3.4", PUBLIC),
            ("198.18.0.7", "fake-IP of a local proxy"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("10.1.2.3", "private"),
            ("127.0.0.1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("2606:4700::1", PUBLIC),
            ("64:ff9b::1", "NAT64"),
            ("fd00::1", "private"),
            ("::1", "loopback"),
        ] {
            assert_eq!(class(address.parse().unwrap()), named, "{address}");
        }
    }
}
