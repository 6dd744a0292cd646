//! What web pages may do here: nothing, unless the operator lists their origin.
//!
//! Any page can make a browser post a form to `http://127.0.0.1:8787/v1/images/edits` without asking first, and a page
//! whose name is made to point here (DNS rebinding) can even read the answer. The keys keep both from buying; this gate
//! keeps them from trying. It goes by three headers that a page cannot forge, before a body is read or a key looked at:
//!
//! - `Host` must be one of ours, and exactly one ([`hosts::check`], [`HostRule`]): else 421, or 400. On a socket in the file
//!   system every name is, until some are listed: no name can be made to point there, and no browser opens it.
//! - `Origin`, which browsers send with every post and every request of a script to elsewhere, must be listed, or be the
//!   gateway's own: else 403.
//! - `Sec-Fetch-Site` must not say that a page of elsewhere asks, unless that page's origin is listed: else 403. This is
//!   how a request shows that carries no `Origin`, such as a form sent with GET, or a picture in a page.
//!
//! Programs send none of the last two, and nothing changes for them. Addresses of results are open to pages as the
//! pictures they are: the signature stands for the key, a page can show one, and scripts cannot read it unless listed.
//!
//! A listed page is told so in the headers of CORS. It is never allowed cookies or other credentials of the browser's
//! own, of which the gateway has none.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AGE, HOST, LOCATION, ORIGIN, RETRY_AFTER};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::error::ApiError;
use super::framing;
use crate::config::{PageOrigin, ServerConfig};
use crate::model::HostRule;
use crate::server::hosts::{self, HostError};
use crate::server::listener::Peer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long a browser may remember what a page may do. Browsers cap it at two hours, or at a day.
const PREFLIGHT_TTL: Duration = Duration::from_hours(2);

/// Headers of answers that scripts may read, besides the few that they always may.
const EXPOSED: [HeaderName; 17] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-gateway-cache"),
    HeaderName::from_static("x-gateway-dropped"),
    HeaderName::from_static("x-gateway-missing"),
    HeaderName::from_static("x-gateway-prediction"),
    HeaderName::from_static("x-gateway-sandbox"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("retry-after-ms"),
    AGE,
    LOCATION,
    RETRY_AFTER,
];

/// Who may come in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    hosts: Arc<HostRule>,
    /// On a socket in the file system.
    local_hosts: Arc<HostRule>,
    origins: Arc<[PageOrigin]>,
    /// The origin of `server.public_url`.
    own: Option<Arc<str>>,
}

impl Gate {
    pub(super) fn new(server: &ServerConfig) -> Self {
        let public = server.public_url.as_ref();
        let hosts = HostRule::new(server.listen, &server.hosts, public.and_then(|url| url.host_str()));
        let elsewhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let local_hosts = HostRule::new(elsewhere, &server.hosts, public.and_then(|url| url.host_str()));
        Self {
            hosts: Arc::new(hosts),
            local_hosts: Arc::new(local_hosts),
            origins: server.cors_origins.clone().into(),
            own: public.map(|url| url.origin().ascii_serialization().into()),
        }
    }

    /// What tells listed pages that they may; `None` where none is listed.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = Arc::clone(&self.origins);
        let listed = move |origin: &HeaderValue, _: &_| origins.iter().any(|known| known.is(origin.as_bytes()));
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(listed))
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            // SDKs send a dozen of their own, and add to them.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(PREFLIGHT_TTL);
        Some(layer)
    }

    fn check(
        &self,
        peer: Option<&Peer>,
        method: &Method,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        let hosts = match peer {
            Some(Peer::Local) => &self.local_hosts,
            Some(Peer::Network(_)) | None => &self.hosts,
        };
        hosts::check(version, uri, headers, |host| hosts.allows(host)).map_err(|problem| match problem {
            HostError::Foreign(host) => ApiError::ForeignHost { host },
            HostError::Missing | HostError::Several | HostError::Malformed => ApiError::BadHost { problem },
        })?;
        if is_result(method, uri.path()) {
            return Ok(());
        }
        let origins: Vec<&HeaderValue> = headers.get_all(ORIGIN).iter().collect();
        let is_listed = |origin: &HeaderValue| self.origins.iter().any(|known| known.is(origin.as_bytes()));
        let from_page = |origin: &str| ApiError::ForeignOrigin { origin: origin.to_owned() };
        // Whatever else they say, these may.
        if let [origin] = origins[..]
            && is_listed(origin)
        {
            return Ok(());
        }
        if let Some(site) = headers.get(SEC_FETCH_SITE)
            && !matches!(site.as_bytes(), b"same-origin" | b"none")
        {
            let origin = origins.first().and_then(|origin| origin.to_str().ok());
            return Err(from_page(origin.unwrap_or("unknown")));
        }
        match origins[..] {
            [] => Ok(()),
            [origin] => {
                let origin = origin.to_str().unwrap_or_default();
                if self.is_own(origin, uri, headers) { Ok(()) } else { Err(from_page(origin)) }
            }
            [_, _, ..] => Err(from_page("several")),
        }
    }

    /// Whether a page came from where its request goes. Which scheme it came by is not known behind a proxy.
    fn is_own(&self, origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
        if self.own.as_deref() == Some(origin) {
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

/// Whether this reads a result by its signed address.
fn is_result(method: &Method, path: &str) -> bool {
    let path = path.strip_prefix("/openai").unwrap_or(path);
    let path = path.strip_prefix("/v1").unwrap_or(path);
    matches!(*method, Method::GET | Method::HEAD) && path.starts_with("/results/")
}

/// Turns away whom the gate does not let in.
pub(super) async fn keep(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let checked = framing::check(request.headers())
        .and_then(|()| gate.check(peer, request.method(), request.version(), request.uri(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests;
