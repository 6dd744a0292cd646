//! Classes of IP addresses, by IANA's special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is used for. Only a public one may be fetched from without an entry in `upstream.download_allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum AddressClass {
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
    pub(in crate::upstream) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    /// Returns the class as the end of a sentence: "a private address".
    pub(in crate::upstream) fn describe(self) -> &'static str {
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
pub(super) fn behind_nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}
