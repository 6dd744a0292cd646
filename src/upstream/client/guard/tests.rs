use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Environment};

/// The guard of an upstream at `base`, with these entries of `upstream.download_allow`.
pub(in crate::upstream::client) fn guard(base: &str, allowed: &str) -> DownloadGuard {
    let variables = [("GATEWAY_UPSTREAM__BASE_URL", base), ("GATEWAY_UPSTREAM__DOWNLOAD_ALLOW", allowed)];
    let environment: Environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    DownloadGuard::new(&Config::load(None, &environment).unwrap().upstream)
}

fn public_only() -> DownloadGuard {
    guard("https://gptproto.com", "")
}

fn is_public(ip: IpAddr) -> bool {
    AddressClass::of(ip) == AddressClass::Public
}

#[test]
fn special_addresses_are_not_public() {
    for special in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2001:10::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(!is_public(special.parse().unwrap()), "{special}");
    }
    for public in [
        "1.1.1.1",
        "100.63.255.255",
        "172.15.0.1",
        "192.0.1.1",
        "8.8.8.8",
        "2606:4700::1111",
        "2a00::1",
        "64:ff9b::8.8.8.8",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn classes_are_named() {
    for (ip, class) in [
        ("10.1.2.3", AddressClass::Private),
        ("172.31.255.255", AddressClass::Private),
        ("192.168.0.1", AddressClass::Private),
        ("fd12::1", AddressClass::Private),
        ("127.8.8.8", AddressClass::Loopback),
        ("::1", AddressClass::Loopback),
        ("169.254.7.7", AddressClass::LinkLocal),
        ("fe80::1", AddressClass::LinkLocal),
        ("100.64.0.1", AddressClass::CarrierNat),
        ("198.19.255.255", AddressClass::FakeIp),
        ("64:ff9b::198.18.0.7", AddressClass::FakeIp),
        ("::ffff:10.0.0.1", AddressClass::Private),
        ("169.254.169.254", AddressClass::Metadata),
        ("::ffff:169.254.169.254", AddressClass::Metadata),
        ("64:ff9b::169.254.169.254", AddressClass::Metadata),
        ("100.100.100.200", AddressClass::Metadata),
        ("fd00:ec2::254", AddressClass::Metadata),
        ("203.0.113.9", AddressClass::Reserved),
        ("::ffff:8.8.8.8", AddressClass::Reserved),
        ("2002:a00:1::", AddressClass::Reserved),
    ] {
        assert_eq!(AddressClass::of(ip.parse().unwrap()), class, "{ip}");
    }
}

/// The addresses of a host that may be fetched from, or the text of the refusal.
fn checked(guard: &DownloadGuard, name: &str, found: &[&str]) -> Result<Vec<String>, String> {
    let found = found.iter().map(|ip| ip.parse().unwrap());
    guard.check_addresses(name, found).map(|allowed| allowed.iter().map(ToString::to_string).collect())
}

#[test]
fn a_refused_name_says_its_address_its_class_and_the_key() {
    let refused = |ip: &str| checked(&public_only(), "oss.gptproto.com", &[ip]).unwrap_err();
    assert_eq!(
        refused("198.18.0.7"),
        "oss.gptproto.com resolves to 198.18.0.7, a fake-IP address of a local proxy; add 198.18.0.0/15 to \
         upstream.download_allow"
    );
    assert_eq!(
        refused("64:ff9b::a00:1"),
        "oss.gptproto.com resolves to 64:ff9b::a00:1, a private address behind NAT64; add it to upstream.download_allow \
         if results come from there"
    );
    for (ip, class) in [
        ("127.0.0.1", "a loopback address"),
        ("fe80::1", "a link-local address"),
        ("100.64.0.1", "a shared address of a carrier's NAT"),
        ("169.254.169.254", "the address of a cloud's metadata service; results are never downloaded from there"),
    ] {
        assert!(refused(ip).contains(class), "{}", refused(ip));
    }
    assert_eq!(checked(&public_only(), "oss.gptproto.com", &[]).unwrap_err(), "oss.gptproto.com has no address");
    // Where some addresses are public, those are used.
    assert_eq!(checked(&public_only(), "x.example", &["10.0.0.1", "8.8.8.8"]).unwrap(), ["8.8.8.8"]);
}

#[test]
fn allowed_networks_and_hosts_open_nothing_else() {
    let guard = guard("https://gptproto.com", "198.18.0.0/15,10.7.0.0/16,files.example,*.internal.example,0.0.0.0/0");
    for (name, ip) in [
        ("oss.gptproto.com", "198.18.0.7"),
        ("oss.gptproto.com", "64:ff9b::198.18.0.7"),
        ("oss.gptproto.com", "10.7.1.1"),
        ("files.example", "fd12::1"),
        ("a.internal.example", "fe80::1"),
    ] {
        assert_eq!(checked(&guard, name, &[ip]).unwrap(), [ip.parse::<IpAddr>().unwrap().to_string()], "{name} {ip}");
    }
    for (name, ip) in [
        ("oss.gptproto.com", "fd12::1"),
        ("internal.example", "fd12::1"),
        ("xfiles.example", "fd12::1"),
        // Neither a network nor a host opens these.
        ("oss.gptproto.com", "169.254.169.254"),
        ("files.example", "169.254.169.254"),
        ("a.internal.example", "fd00:ec2::254"),
    ] {
        assert!(checked(&guard, name, &[ip]).is_err(), "{name} {ip}");
    }
    let url = |text: &str| guard.check_url(text.parse().unwrap()).map(String::from);
    assert!(url("https://10.7.1.1/1.png").is_ok());
    assert!(url("https://[fd12::1]/1.png").unwrap_err().contains("a private address; add it to"));
    assert!(url("https://169.254.169.254/latest").unwrap_err().contains("metadata"));
}

#[test]
fn the_host_of_the_upstream_needs_no_entry() {
    let relay = guard("https://relay.corp/api/gptproto", "");
    assert_eq!(checked(&relay, "relay.corp", &["10.0.0.5"]).unwrap(), ["10.0.0.5"]);
    assert!(checked(&relay, "other.corp", &["10.0.0.5"]).is_err());
    assert!(checked(&relay, "relay.corp", &["169.254.169.254"]).is_err());
    let relay = guard("https://10.0.0.5/api/gptproto", "");
    assert!(relay.check_url("https://10.0.0.5/api/gptproto/files/1.png".parse().unwrap()).is_ok());
    assert!(relay.check_url("https://10.0.0.5:444/files/1.png".parse().unwrap()).is_err());
    assert!(relay.check_url("https://10.0.0.6/files/1.png".parse().unwrap()).is_err());
}

#[test]
fn http_becomes_https_unless_the_upstream_is_http() {
    let url = |base: &str, text: &str| guard(base, "").check_url(text.parse().unwrap()).map(String::from);
    for base in ["https://gptproto.com", "https://localhost:9"] {
        assert_eq!(url(base, "http://oss.gptproto.com/1.png").unwrap(), "https://oss.gptproto.com/1.png");
        assert_eq!(url(base, "http://oss.gptproto.com:8080/1.png").unwrap(), "https://oss.gptproto.com:8080/1.png");
    }
    assert_eq!(url("http://127.0.0.1:9", "http://127.0.0.1:8/1.png").unwrap(), "http://127.0.0.1:8/1.png");
}

#[test]
fn urls_are_checked_in_every_spelling() {
    let [public_only, local] = [public_only(), guard("http://127.0.0.1:9", "")];
    let may_fetch = |guard: &DownloadGuard, address: &str| guard.check_url(address.parse().unwrap()).is_ok();
    assert!(may_fetch(&public_only, "https://oss.gptproto.com/ai-draw/1.png"));
    assert!(may_fetch(&local, "http://127.0.0.1:9/1.png"));
    for forbidden in [
        "http://127.0.0.1/1.png",
        "https://127.0.0.1/1.png",
        "https://0x7f.1/1.png",
        "https://2130706433/1.png",
        "https://0/1.png",
        "https://[::1]/1.png",
        "https://[::ffff:10.0.0.1]/1.png",
        "https://user@oss.gptproto.com/1.png",
        "ftp://oss.gptproto.com/1.png",
        "file:///etc/passwd",
    ] {
        assert!(!may_fetch(&public_only, forbidden), "{forbidden}");
    }
    assert!(!may_fetch(&local, "http://10.0.0.1/1.png"), "loopback does not open the private network");
}

/// IANA's special-purpose registries, as address and length of the prefix.
const SPECIAL_V4: [(&str, u32); 16] = [
    ("0.0.0.0", 8),
    ("10.0.0.0", 8),
    ("100.64.0.0", 10),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("172.16.0.0", 12),
    ("192.0.0.0", 24),
    ("192.0.2.0", 24),
    ("192.88.99.0", 24),
    ("192.168.0.0", 16),
    ("198.18.0.0", 15),
    ("198.51.100.0", 24),
    ("203.0.113.0", 24),
    ("224.0.0.0", 4),
    ("240.0.0.0", 4),
    ("255.255.255.255", 32),
];
const SPECIAL_V6: [(&str, u32); 18] = [
    ("::", 128),
    ("::1", 128),
    ("::", 96),
    ("::ffff:0:0", 96),
    ("::ffff:0:0:0", 96),
    ("64:ff9b:1::", 48),
    ("100::", 64),
    ("100:0:0:1::", 64),
    ("2001::", 23),
    ("2001::", 32),
    ("2001:db8::", 32),
    ("2002::", 16),
    ("3fff::", 20),
    ("5f00::", 16),
    ("fc00::", 7),
    ("fe80::", 10),
    ("fec0::", 10),
    ("ff00::", 8),
];

/// Addresses of special ranges.
fn special() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..SPECIAL_V4.len(), any::<u32>()).prop_map(|(range, host)| {
        let (prefix, length) = SPECIAL_V4[range];
        let mask = u32::MAX.checked_shr(length).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::from(u32::from(prefix.parse::<Ipv4Addr>().unwrap()) | (host & mask)))
    });
    let v6 = (0..SPECIAL_V6.len(), any::<u128>()).prop_map(|(range, host)| {
        let (prefix, length) = SPECIAL_V6[range];
        let mask = u128::MAX.checked_shr(length).unwrap_or(0);
        IpAddr::V6(Ipv6Addr::from(u128::from(prefix.parse::<Ipv6Addr>().unwrap()) | (host & mask)))
    });
    prop_oneof![v4, v6]
}

/// Spellings of an address, some of which are not valid in a URL.
fn spellings(ip: IpAddr) -> Vec<String> {
    let v4 = match ip {
        IpAddr::V6(ip) => return vec![format!("[{ip}]"), format!("[{}]", ip.to_string().to_uppercase())],
        IpAddr::V4(ip) => ip,
    };
    let ([a, b, c, d], whole) = (v4.octets(), u32::from(v4));
    let [ab, cd] = [whole >> 16, whole & 0xffff];
    let wide: String = v4.to_string().chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect();
    let encoded: String = v4.to_string().bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
    vec![
        v4.to_string(),
        format!("{v4}."),
        format!("{whole}"),
        format!("{whole:#x}"),
        format!("0{whole:o}"),
        format!("0x{a:x}.0{b:o}.{c}.0X{d:X}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", whole & 0x00ff_ffff),
        format!("{a}.{b}.{cd}"),
        format!("000{a:o}.0x0{b:x}.{cd:#x}"),
        wide,
        encoded,
        format!("{a}。{b}｡{c}．{d}"),
        format!("[::ffff:{v4}]"),
        format!("[::{v4}]"),
        format!("[64:ff9b::{v4}]"),
        format!("[64:ff9b:1::{v4}]"),
        format!("[2002:{ab:x}:{cd:x}::]"),
        format!("[2001:0:{ab:x}:{cd:x}::1]"),
        format!("[2001::{:x}:{:x}]", !ab & 0xffff, !cd & 0xffff),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_special_address_is_fetched_however_it_is_written(ip in special(), port in 0_u16..) {
        let guard = public_only();
        prop_assert!(!is_public(ip), "{ip}");
        for host in spellings(ip) {
            for address in [
                format!("https://{host}/1.png"),
                format!("https://{host}:{port}/1.png"),
                format!("HTTPS:\\\\{host}\\1.png"),
                format!("https:\t//{host}\n/1.png"),
                format!("https://oss.gptproto.com@{host}/1.png"),
                format!("https://oss.gptproto.com:x@{host}#@oss.gptproto.com/1.png"),
            ] {
                // What is no URL is not fetched either.
                let fetched = Url::parse(&address).is_ok_and(|url| guard.check_url(url).is_ok());
                prop_assert!(!fetched, "{address} is {ip}");
            }
            // A redirect is joined to the address before it.
            let base: Url = "https://oss.gptproto.com/1.png".parse().unwrap();
            let fetched = base.join(&format!("//{host}/2.png")).is_ok_and(|url| guard.check_url(url).is_ok());
            prop_assert!(!fetched, "//{host} is {ip}");
        }
    }

    #[test]
    fn public_addresses_are_fetched(ip in any::<u32>()) {
        let ip = Ipv4Addr::from(ip);
        let inside = |&(prefix, length): &(&str, u32)| {
            let mask = !u32::MAX.checked_shr(length).unwrap_or(0);
            u32::from(ip) & mask == u32::from(prefix.parse::<Ipv4Addr>().unwrap())
        };
        prop_assert_eq!(is_public(ip.into()), !SPECIAL_V4.iter().any(inside), "{}", ip);
        // Behind NAT64 an address has the class of the IPv4 address in it.
        let [a, b, c, d] = ip.octets().map(u16::from);
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
        prop_assert_eq!(AddressClass::of(nat64.into()), AddressClass::of(ip.into()), "{}", nat64);
    }
}

/// Names are checked by what they resolve to when the connection is made.
#[tokio::test]
async fn names_of_private_addresses_resolve_to_nothing() {
    let resolve = async |name: &str, guard: DownloadGuard| {
        DownloadResolver::new(guard, Arc::new(SystemResolver))
            .resolve(name.parse().unwrap())
            .await
            .map(Iterator::count)
            .map_err(|error| error.to_string())
    };
    for name in [
        "localhost",
        "localhost.",
        "LOCALHOST",
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0",
        "::1",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        assert!(resolve(name, public_only()).await.is_err(), "{name}");
    }
    let local = || guard("http://127.0.0.1:9", "");
    assert!(resolve("localhost", local()).await.unwrap() > 0);
    assert!(resolve("10.0.0.1", local()).await.is_err(), "loopback does not open the private network");
}

#[test]
fn clients_are_not_allowed_what_the_operator_allows_for_results() {
    let results = guard("https://relay.internal", "10.0.0.0/8,198.18.0.0/15,*.internal");
    let links = DownloadGuard { own: None, ..results.clone() };
    let reached = |guard: &DownloadGuard, name: &str, ip: &str| {
        guard.check_addresses(name, std::iter::once(ip.parse().unwrap())).is_ok()
    };
    for (name, ip) in [("relay.internal", "10.0.0.1"), ("pictures.internal", "192.168.0.1"), ("x.example", "10.0.0.1")]
    {
        assert!(reached(&results, name, ip) && !reached(&links, name, ip), "{name} {ip}");
    }
    assert!(reached(&links, "x.example", "198.18.0.7"), "stands for a public address");
    assert!(reached(&links, "x.example", "8.8.8.8"));
    assert!(!reached(&links, "x.example", "169.254.169.254"));
    for literal in ["https://10.0.0.1/1.png", "https://198.18.0.7/1.png"] {
        let url = || literal.parse().unwrap();
        assert!(results.check_url(url()).is_ok() && links.check_url(url()).is_err(), "{literal}");
    }
}
