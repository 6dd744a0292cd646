//! Checks the host that a request names. The HTTP library accepts requests with no host and with several; a proxy and a
//! server that read these differently can be attacked, so a request here has exactly one.

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version};

use super::listener::Peer;
use crate::model::{HostName, HostRule};

/// Why a request is refused for its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the Host header is missing")]
    Missing,
    #[error("there is more than one Host header")]
    Several,
    #[error("the Host header is not a host")]
    Malformed,
    #[error("this listener does not accept the host '{0}'")]
    Foreign(String),
}

/// Checks the host that a request names in its one `Host` header, in HTTP/2's `:authority`, or in an absolute target; where
/// there are two of these, both. Only HTTP/1.0 may name none (RFC 9112 §3.2), which no browser speaks.
///
/// # Errors
///
/// [`HostError::Foreign`] for a host that `allows` does not allow; the others for requests that no correct client sends.
pub(crate) fn check(
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
    allows: impl Fn(&str) -> bool,
) -> Result<(), HostError> {
    let mut values = headers.get_all(HOST).iter();
    let header = values.next();
    if values.next().is_some() {
        return Err(HostError::Several);
    }
    let header = match header {
        Some(value) => Some(parse(value.as_bytes())?),
        None => None,
    };
    let named = [header.as_ref(), uri.authority()];
    if named.iter().all(Option::is_none) {
        return if version <= Version::HTTP_10 { Ok(()) } else { Err(HostError::Missing) };
    }
    match named.into_iter().flatten().find(|authority| !allows(authority.host())) {
        Some(foreign) => Err(HostError::Foreign(foreign.host().to_owned())),
        None => Ok(()),
    }
}

/// The host names that a listener accepts, by the connection. Only connections to its loopback addresses can come from a page
/// that rebinds a name to them, and these have a loopback address at the other end, too.
#[derive(Clone, Debug)]
pub(crate) struct HostRules {
    loopback: HostRule,
    network: HostRule,
    /// For Unix sockets: no name resolves to a socket, and no browser opens one.
    unix: HostRule,
}

impl HostRules {
    /// The rules of a listener: whether *all* its addresses are loopback addresses, whether *some* are; the rest as for
    /// [`HostRule::new`].
    pub(crate) fn new(all: bool, some: bool, listed: &[HostName], public: Option<&str>) -> Self {
        let rule = |loopback| HostRule::new(loopback, listed, public);
        Self { loopback: rule(some), network: rule(all), unix: rule(false) }
    }

    /// Returns whether a request over a connection of this kind may name this host, given without its port.
    pub(crate) fn allows(&self, peer: Option<&Peer>, host: &str) -> bool {
        let rule = match peer {
            Some(Peer::Local) => &self.unix,
            Some(Peer::Network(peer)) if !peer.ip().to_canonical().is_loopback() => &self.network,
            Some(Peer::Network(_)) | None => &self.loopback,
        };
        rule.allows(host)
    }

    /// Returns whether results may be given out below this host, which a proxy says that the client used: every host, until
    /// some are listed.
    pub(crate) fn allows_forwarded(&self, peer: Option<&Peer>, host: &str) -> bool {
        self.unix.allows(host) || self.allows(peer, host)
    }
}

fn parse(value: &[u8]) -> Result<Authority, HostError> {
    let authority = Authority::try_from(value).map_err(|_| HostError::Malformed)?;
    // A user name and a password in front of the host are never meant for this gateway.
    let is_host = !authority.host().is_empty() && !authority.as_str().contains('@');
    if is_host { Ok(authority) } else { Err(HostError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, uri: &str, hosts: &[&str]) -> Result<(), HostError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        check(version, &uri.parse().unwrap(), &headers, |host| matches!(host, "ours" | "[::1]"))
    }

    #[test]
    fn a_request_names_exactly_one_host_of_ours() {
        let foreign = |host: &str| Err(HostError::Foreign(host.to_owned()));
        let one = Version::HTTP_11;
        assert_eq!(checked(one, "/", &["ours"]), Ok(()));
        assert_eq!(checked(one, "/", &["ours:8787"]), Ok(()));
        assert_eq!(checked(one, "/", &["[::1]:8787"]), Ok(()));
        assert_eq!(checked(one, "/", &["theirs"]), foreign("theirs"));
        assert_eq!(checked(one, "/", &[]), Err(HostError::Missing));
        assert_eq!(checked(one, "/", &["ours", "ours"]), Err(HostError::Several));
        assert_eq!(checked(one, "/", &["ours", "theirs"]), Err(HostError::Several));
        for malformed in ["", "ours/", "a b", "me@ours", "ours:8787:1", ":8787", "ours,theirs"] {
            let result = checked(one, "/", &[malformed]);
            assert!(matches!(result, Err(HostError::Malformed | HostError::Foreign(_))), "{malformed}: {result:?}");
        }
    }

    #[test]
    fn an_authority_counts_as_a_host() {
        let foreign = |host: &str| Err(HostError::Foreign(host.to_owned()));
        assert_eq!(checked(Version::HTTP_2, "http://ours/v1", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, "http://theirs/v1", &[]), foreign("theirs"));
        assert_eq!(checked(Version::HTTP_2, "/v1", &[]), Err(HostError::Missing));
        // An absolute target does not hide a foreign header, and a header does not hide a foreign target.
        assert_eq!(checked(Version::HTTP_11, "http://ours/v1", &["theirs"]), foreign("theirs"));
        assert_eq!(checked(Version::HTTP_11, "http://theirs/v1", &["ours"]), foreign("theirs"));
    }

    #[test]
    fn only_http_1_0_may_name_no_host() {
        assert_eq!(checked(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_10, "/", &["theirs"]), Err(HostError::Foreign("theirs".to_owned())));
    }

    #[test]
    fn a_loopback_address_is_guarded_in_every_list() {
        let peer = |address: &str| Peer::Network(format!("{address}:5000").parse().unwrap());
        for (all, some, from, expected) in [
            (true, true, "127.0.0.1", false),
            (true, true, "[::1]", false),
            (true, true, "10.0.0.9", false),
            (false, true, "127.0.0.1", false),
            (false, true, "127.8.8.8", false),
            (false, true, "[::ffff:127.0.0.1]", false),
            (false, true, "[::1]", false),
            (false, true, "10.0.0.9", true),
            (false, true, "[fd00::9]", true),
            (false, false, "127.0.0.1", true),
            (false, false, "10.0.0.9", true),
        ] {
            let rules = HostRules::new(all, some, &[], None);
            assert_eq!(rules.allows(Some(&peer(from)), "evil.example"), expected, "{all} {some} {from}");
            assert!(rules.allows(Some(&peer(from)), "localhost"), "{from}");
            assert!(rules.allows(Some(&Peer::Local), "evil.example"));
            assert!(rules.allows_forwarded(Some(&peer(from)), "img.example.com"));
            let listing = HostRules::new(all, some, &["img.example.com".parse().unwrap()], None);
            assert!(listing.allows_forwarded(Some(&peer(from)), "img.example.com"));
            assert!(!listing.allows_forwarded(Some(&peer(from)), "evil.example"));
            assert!(!listing.allows(Some(&Peer::Local), "evil.example"));
        }
    }
}
