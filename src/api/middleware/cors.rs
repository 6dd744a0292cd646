//! What web pages may do at this API: nothing, unless the operator lists their origin.
//!
//! Any page can make a browser post a form to `http://127.0.0.1:8787/v1/images/edits` without a preflight, and a page whose
//! name resolves to this machine (DNS rebinding) can even read the response. The keys keep both from buying; these rules
//! keep them from trying. They use three headers that a page cannot forge, before a body is read or a key checked:
//!
//! - `Host` must be exactly one, and one of the gateway's names ([`hosts::check`], [`HostRules`]): else 421, or 400. On a Unix
//!   socket every name is accepted until some are listed: no name resolves to a socket, and no browser opens one.
//! - `Origin`, which browsers send with every post and every cross-origin request of a script, must be listed, or be the
//!   gateway's own: else 403.
//! - `Sec-Fetch-Site` must not name a cross-site request, unless its origin is listed: else 403. This catches requests that
//!   carry no `Origin`, such as a form sent with GET, or a picture in a page.
//!
//! Programs send neither `Origin` nor `Sec-Fetch-Site`, and are not affected. Addresses of results are open to pages as
//! pictures are: the signature replaces the key, any page can show one, and scripts can read one only from a listed origin. So is
//! `/`, which has no data: other pages may link to the playground.
//!
//! A listed page learns its rights from the CORS headers. Cookies and other credentials of the browser are never allowed,
//! because the gateway has none.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{AGE, HOST, LOCATION, ORIGIN, RETRY_AFTER};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::api::error::ApiError;
use crate::config::{AddressConfig, PageOrigin};
use crate::http::gateway_headers;
use crate::model::HostName;
use crate::server::hosts::{self, HostError, HostRules};
use crate::server::listener::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long a browser may cache a preflight. Browsers cap it at two hours, or at a day.
const PREFLIGHT_TTL: Duration = Duration::from_hours(2);

/// Response headers that scripts may read, besides those that CORS always allows.
const EXPOSED: [HeaderName; 25] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
    gateway_headers::SHOULD_RETRY,
    gateway_headers::CACHE,
    gateway_headers::DROPPED,
    gateway_headers::IGNORED,
    gateway_headers::RENAMED,
    gateway_headers::MISSING,
    gateway_headers::WARNING,
    gateway_headers::PREDICTION,
    gateway_headers::UPSTREAM_ID,
    gateway_headers::SANDBOX,
    gateway_headers::COST_USD,
    gateway_headers::COST_ESTIMATED,
    gateway_headers::LITELLM_COST,
    gateway_headers::EXPECTED_SECONDS,
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    gateway_headers::PREFERENCE_APPLIED,
    HeaderName::from_static("retry-after-ms"),
    AGE,
    LOCATION,
    RETRY_AFTER,
];

/// The hosts and origins that requests may name.
#[derive(Debug)]
pub(crate) struct OriginPolicy {
    pub(super) hosts: HostRules,
    /// `server.hosts`.
    listed: Vec<HostName>,
    origins: Arc<[PageOrigin]>,
    /// Adds the CORS headers; `None` where no origin is listed.
    pub(super) cors: Option<CorsLayer>,
    /// The origin of `server.public_url`.
    own_origin: Option<Arc<str>>,
}

impl OriginPolicy {
    pub(crate) fn new(addresses: &AddressConfig) -> Self {
        let public = addresses.public_url.as_ref();
        let AddressConfig { listen, hosts, .. } = addresses;
        let public_host = public.and_then(|url| url.host_str());
        let origins: Arc<[PageOrigin]> = addresses.cors_origins.clone().into();
        Self {
            hosts: HostRules::new(listen.is_loopback(), listen.has_loopback(), hosts, public_host),
            listed: hosts.clone(),
            cors: (!origins.is_empty()).then(|| cors(Arc::clone(&origins))),
            origins,
            own_origin: public.map(|url| url.origin().ascii_serialization().into()),
        }
    }

    /// Returns whether `server.hosts` names this host, and not only every host.
    pub(crate) fn lists(&self, host: &str) -> bool {
        self.listed.iter().any(|name| *name != HostName::Any && name.covers(host))
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    ///
    /// [`ApiError::ForeignHost`], [`ApiError::BadHost`], [`ApiError::ForeignOrigin`].
    pub(super) fn check(
        &self,
        peer: Option<&Peer>,
        method: &Method,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        hosts::check(version, uri, headers, |host| self.hosts.allows(peer, host)).map_err(|problem| match problem {
            HostError::Foreign(host) => ApiError::ForeignHost { host },
            HostError::Missing | HostError::Several | HostError::Malformed => ApiError::BadHost { problem },
        })?;
        if is_result(method, uri.path()) || is_index(method, uri.path()) {
            return Ok(());
        }
        let origins: Vec<&HeaderValue> = headers.get_all(ORIGIN).iter().collect();
        let is_listed = |origin: &HeaderValue| self.origins.iter().any(|known| known.is(origin.as_bytes()));
        let refused = |origin: &str| ApiError::ForeignOrigin { origin: origin.to_owned() };
        // A listed origin is enough, whatever `Sec-Fetch-Site` says.
        if let [origin] = origins[..]
            && is_listed(origin)
        {
            return Ok(());
        }
        if let Some(site) = headers.get(SEC_FETCH_SITE)
            && !matches!(site.as_bytes(), b"same-origin" | b"none")
        {
            let origin = origins.first().and_then(|origin| origin.to_str().ok());
            return Err(refused(origin.unwrap_or("unknown")));
        }
        match origins[..] {
            [] => Ok(()),
            [origin] => {
                let origin = origin.to_str().unwrap_or_default();
                if self.is_own_origin(origin, uri, headers) { Ok(()) } else { Err(refused(origin)) }
            }
            [_, _, ..] => Err(refused("several")),
        }
    }

    /// Whether a page was loaded from the gateway itself. The scheme is not compared: behind a proxy it is not known.
    fn is_own_origin(&self, origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
        if self.own_origin.as_deref() == Some(origin) {
            return true;
        }
        let header = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = header.or_else(|| uri.authority().map(Authority::as_str));
        let same = |scheme: &str, port: &str| {
            let rest = origin.strip_prefix(scheme)?;
            Some(rest.eq_ignore_ascii_case(host?.strip_suffix(port).unwrap_or(host?)))
        };
        same("http://", ":80").or_else(|| same("https://", ":443")).unwrap_or(false)
    }
}

/// Returns the layer that adds the CORS headers for these origins.
fn cors(origins: Arc<[PageOrigin]>) -> CorsLayer {
    let listed = move |origin: &HeaderValue, _: &_| origins.iter().any(|known| known.is(origin.as_bytes()));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(listed))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // SDKs send a dozen of their own, and new ones appear.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(PREFLIGHT_TTL)
}

/// Whether a request reads a result by its signed address.
fn is_result(method: &Method, path: &str) -> bool {
    let path = path.strip_prefix("/openai").unwrap_or(path);
    let path = path.strip_prefix("/v1").unwrap_or(path);
    matches!(*method, Method::GET | Method::HEAD) && path.starts_with("/results/")
}

/// Whether a request reads what any page may link to.
fn is_index(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && path == "/"
}

#[cfg(test)]
mod tests;
