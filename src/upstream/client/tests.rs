use proptest::prelude::*;

use super::*;

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
        "64:ff9b::8.8.8.8",
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
    for public in ["1.1.1.1", "100.63.255.255", "172.15.0.1", "192.0.1.1", "8.8.8.8", "2606:4700::1111", "2a00::1"] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn urls_are_checked_in_every_spelling() {
    let check = |address: &str, loopback| may_fetch(&address.parse().unwrap(), loopback);
    assert_eq!(check("https://oss.gptproto.com/ai-draw/1.png", false), Ok(()));
    assert_eq!(check("http://127.0.0.1:9/1.png", true), Ok(()));
    for forbidden in [
        "http://oss.gptproto.com/1.png",
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
        assert!(check(forbidden, false).is_err(), "{forbidden}");
    }
    assert!(check("http://10.0.0.1/1.png", true).is_err(), "loopback does not open the private network");
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
const SPECIAL_V6: [(&str, u32); 19] = [
    ("::", 128),
    ("::1", 128),
    ("::", 96),
    ("::ffff:0:0", 96),
    ("::ffff:0:0:0", 96),
    ("64:ff9b::", 96),
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
                let fetched = Url::parse(&address).is_ok_and(|url| may_fetch(&url, false).is_ok());
                prop_assert!(!fetched, "{address} is {ip}");
            }
            // A redirect is joined to the address before it.
            let base: Url = "https://oss.gptproto.com/1.png".parse().unwrap();
            let fetched = base.join(&format!("//{host}/2.png")).is_ok_and(|url| may_fetch(&url, false).is_ok());
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
    }
}

/// Names are checked by what they resolve to when the connection is made.
#[tokio::test]
async fn names_of_private_addresses_resolve_to_nothing() {
    let resolve = async |name: &str, loopback| {
        PublicOnly { loopback }
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
        assert!(resolve(name, false).await.is_err(), "{name}");
    }
    assert!(resolve("localhost", true).await.unwrap() > 0);
    assert!(resolve("10.0.0.1", true).await.is_err(), "loopback does not open the private network");
}
