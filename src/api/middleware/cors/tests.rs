use super::*;
use crate::api::request::test_support::server;

const LISTED: &str = "https://app.example.com";

fn policy(change: impl FnOnce(&mut AddressConfig)) -> OriginPolicy {
    let mut addresses = server().addresses;
    change(&mut addresses);
    OriginPolicy::new(&addresses)
}

fn listing(origins: &[&str]) -> OriginPolicy {
    policy(|addresses| {
        addresses.cors_origins =
            origins.iter().map(|origin| PageOrigin::try_from((*origin).to_owned()).unwrap()).collect();
    })
}

fn check(policy: &OriginPolicy, request: &str, headers: &[(&'static str, &str)]) -> &'static str {
    let (method, uri) = request.split_once(' ').unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        });
    let method: Method = method.parse().unwrap();
    let uri: Uri = uri.parse().unwrap();
    let version = if uri.authority().is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    match policy.check(None, &method, version, &uri, &headers) {
        Ok(()) => "ok",
        Err(error) => error.code(),
    }
}

const EDIT: &str = "POST /v1/images/edits";
const HERE: (&str, &str) = ("host", "127.0.0.1:8787");

type Vector<'a> = (&'a str, &'a [(&'static str, &'a str)]);

/// What foreign pages can make a browser send. Each must be refused.
const ATTACKS: &[(&str, Vector<'_>)] = &[
    (
        "a form posts across sites",
        (EDIT, &[HERE, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]),
    ),
    ("an old browser's form", (EDIT, &[HERE, ("origin", "https://evil.example")])),
    ("a sandboxed frame or a file", (EDIT, &[HERE, ("origin", "null")])),
    ("a sandboxed frame that says so", (EDIT, &[HERE, ("origin", "null"), ("sec-fetch-site", "cross-site")])),
    ("a page on another port", (EDIT, &[HERE, ("origin", "http://127.0.0.1:3000"), ("sec-fetch-site", "same-site")])),
    ("a page on localhost, sent to 127.0.0.1", (EDIT, &[HERE, ("origin", "http://localhost:8787")])),
    (
        "a name that resolves to this machine",
        (
            EDIT,
            &[("host", "evil.example:8787"), ("origin", "http://evil.example:8787"), ("sec-fetch-site", "same-origin")],
        ),
    ),
    ("the same without an origin", ("GET /v1/models", &[("host", "evil.example:8787")])),
    ("the same for a result", ("GET /v1/results/o/0", &[("host", "evil.example:8787")])),
    ("a name that contains the gateway's", (EDIT, &[("host", "localhost.evil.example")])),
    ("a name by HTTP/2", ("POST http://evil.example/v1/images/edits", &[])),
    ("two hosts", (EDIT, &[HERE, ("host", "evil.example")])),
    ("the same host twice", (EDIT, &[HERE, HERE])),
    ("no host", (EDIT, &[])),
    ("an empty host", (EDIT, &[("host", "")])),
    ("two origins", (EDIT, &[HERE, ("origin", "http://127.0.0.1:8787"), ("origin", "https://evil.example")])),
    ("an origin that begins like the gateway's", (EDIT, &[HERE, ("origin", "http://127.0.0.1:87870")])),
    ("an origin that ends like a listed one", (EDIT, &[HERE, ("origin", "https://evil-app.example.com")])),
    ("a listed one with a suffix", (EDIT, &[HERE, ("origin", "https://app.example.com.evil.example")])),
    ("a listed one in another scheme", (EDIT, &[HERE, ("origin", "http://app.example.com")])),
    ("a listed one on another port", (EDIT, &[HERE, ("origin", "https://app.example.com:8443")])),
    ("a listed one in capitals", (EDIT, &[HERE, ("origin", "https://APP.example.com")])),
    ("a listed one and another", (EDIT, &[HERE, ("origin", LISTED), ("origin", "https://evil.example")])),
    ("an empty origin", (EDIT, &[HERE, ("origin", "")])),
    ("a link or a form with GET", ("GET /v1/models", &[HERE, ("sec-fetch-site", "cross-site")])),
    (
        "the gateway's own address by another scheme",
        (EDIT, &[HERE, ("origin", "https://127.0.0.1:8787"), ("sec-fetch-site", "cross-site")]),
    ),
    (
        "a preflight",
        (
            "OPTIONS /v1/images/edits",
            &[HERE, ("origin", "https://evil.example"), ("access-control-request-method", "POST")],
        ),
    ),
    ("a preflight for a result", ("OPTIONS /v1/results/o/0", &[HERE, ("origin", "https://evil.example")])),
    ("a post to a result", ("POST /v1/results/o/0", &[HERE, ("origin", "https://evil.example")])),
    ("a form posts to the index", ("POST /", &[HERE, ("origin", "https://evil.example")])),
    ("a name that resolves to this machine opens the index", ("GET /", &[("host", "evil.example:8787")])),
    ("another spelling of the index", ("GET //", &[HERE, ("sec-fetch-site", "cross-site")])),
    ("an unknown value of Sec-Fetch-Site", (EDIT, &[HERE, ("sec-fetch-site", "cross-galaxy")])),
    ("Azure's path", ("POST /openai/deployments/m/images/edits", &[HERE, ("origin", "https://evil.example")])),
];

#[test]
fn foreign_pages_are_refused_everywhere() {
    for policy in [policy(|_| ()), listing(&[LISTED])] {
        let accepted: Vec<&str> = ATTACKS
            .iter()
            .filter(|(_, (request, headers))| check(&policy, request, headers) == "ok")
            .map(|&(what, _)| what)
            .collect();
        assert_eq!(accepted, [""; 0]);
    }
    // With open host and origin rules most are accepted: above they are refused by these rules and by nothing else.
    let everywhere = policy(|addresses| {
        addresses.listen = "0.0.0.0:8787".parse().unwrap();
        addresses.cors_origins = vec![PageOrigin::Any];
    });
    let accepted =
        ATTACKS.iter().filter(|(_, (request, headers))| check(&everywhere, request, headers) == "ok").count();
    assert!(accepted >= 20, "the vectors are requests that a policy could accept: {accepted}");
}

#[test]
fn programs_are_not_affected() {
    let policy = policy(|_| ());
    for headers in [
        &[HERE][..],
        &[("host", "localhost:8787")],
        &[("host", "[::1]:8787")],
        // Node's fetch sends only this.
        &[HERE, ("sec-fetch-mode", "cors")],
        &[HERE, ("sec-fetch-site", "none")],
        // A page of the gateway's own.
        &[HERE, ("origin", "http://127.0.0.1:8787"), ("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(check(&policy, EDIT, headers), "ok", "{headers:?}");
    }
    assert_eq!(check(&policy, "POST http://localhost:8787/v1/images/edits", &[]), "ok");
    assert_eq!(check(&policy, "POST http://localhost/v1/images/edits", &[("origin", "http://localhost")]), "ok");
}

#[test]
fn a_page_may_link_to_the_playground() {
    assert_eq!(check(&policy(|_| ()), "GET /", &[HERE, ("sec-fetch-site", "cross-site")]), "ok");
}

#[test]
fn listed_pages_are_accepted_and_no_others() {
    let page = |origin| [HERE, ("origin", origin), ("sec-fetch-site", "cross-site")];
    for (list, origin, code) in [
        (&[LISTED][..], LISTED, "ok"),
        (&[LISTED], "null", "origin_not_allowed"),
        (&["null"], "null", "ok"),
        (&["null"], LISTED, "origin_not_allowed"),
        (&["*"], "https://anything.example", "ok"),
        (&["*"], "null", "ok"),
        (&["http://a.test", "http://b.test"], "http://b.test", "ok"),
        (&["file://"], "file://", "ok"),
    ] {
        assert_eq!(check(&listing(list), EDIT, &page(origin)), code, "{origin} with {list:?}");
    }
    // Listing pages accepts no foreign host names.
    let headers = [("host", "evil.example"), ("origin", "http://evil.example")];
    assert_eq!(check(&listing(&["*"]), EDIT, &headers), "host_not_allowed");
}

#[test]
fn signed_addresses_are_open_to_any_page() {
    let policy = policy(|_| ());
    for path in ["/v1/results/o/0?signature=x", "/results/o/0", "/openai/v1/results/o/0"] {
        let request = format!("GET {path}");
        assert_eq!(check(&policy, &request, &[HERE, ("sec-fetch-site", "cross-site")]), "ok");
        assert_eq!(check(&policy, &request, &[HERE, ("origin", "https://elsewhere.example")]), "ok");
    }
    assert_eq!(check(&policy, "GET /v1/resultsx", &[HERE, ("sec-fetch-site", "cross-site")]), "origin_not_allowed");
}

#[test]
fn behind_a_proxy_the_origin_of_the_public_url_is_the_own_one() {
    let policy = policy(|addresses| addresses.public_url = Some("https://images.example.com/base".parse().unwrap()));
    assert_eq!(check(&policy, EDIT, &[HERE, ("origin", "https://images.example.com")]), "ok");
    assert_eq!(check(&policy, EDIT, &[("host", "images.example.com")]), "ok");
    assert_eq!(check(&policy, EDIT, &[("host", "images.example.com"), ("origin", "https://images.example.com")]), "ok");
    assert_eq!(check(&policy, EDIT, &[HERE, ("origin", "http://images.example.com")]), "origin_not_allowed");
    assert_eq!(check(&policy, EDIT, &[("host", "example.com")]), "host_not_allowed");
}
