//! Who may administrate: the holder of the admin token, and a browser whose person has logged in with it.
//!
//! A browser sends its cookie along with requests that other pages make it send. So a request with a cookie that changes something
//! must come from a page of this origin, by what the browser says of it, and must carry the token of its session, which no other
//! page can read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::error::AdminError;
use super::login_limiter::{LoginLimiter, Source};
use super::sessions::{LIFETIME, Session, Sessions};
use crate::config::Secret;
use crate::model::Digest;
use crate::server::listener::Peer;

/// The cookie of a session.
const SESSION: &str = "gateway_admin";
/// The header that carries the token of a session in calls of its pages.
pub(super) const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Decides about access. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// `None`: the administration over HTTP is off.
    token: Option<Digest>,
    limiter: Arc<Mutex<LoginLimiter>>,
    sessions: Arc<Mutex<Sessions>>,
}

impl Gate {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self {
            token: token.map(|token| Digest::of(token.expose().as_bytes())),
            limiter: Arc::new(Mutex::new(LoginLimiter::new(Instant::now()))),
            sessions: Arc::default(),
        }
    }

    /// Checks a call of the API.
    ///
    /// # Errors
    ///
    /// [`AdminError`]: off, no or a wrong token, too many wrong ones, or a call that another page may have made.
    pub(super) fn check(&self, parts: &Parts) -> Result<(), AdminError> {
        self.require_on()?;
        if let Some(authorization) = parts.headers.get(AUTHORIZATION) {
            let text = authorization.to_str().unwrap_or_default().trim();
            let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
            let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
            return self.check_token(token, parts.extensions.get::<Peer>());
        }
        let session = self.session(&parts.headers)?.ok_or_else(AdminError::missing_token)?;
        if matches!(parts.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let sent = parts.headers.get(CSRF).and_then(|token| token.to_str().ok());
        check_form(&parts.headers, &session, sent)
    }

    /// Fails when the administration is off.
    ///
    /// # Errors
    ///
    /// [`AdminError::off`].
    pub(super) fn require_on(&self) -> Result<(), AdminError> {
        if self.token.is_some() { Ok(()) } else { Err(AdminError::off()) }
    }

    /// Checks an admin token. One that comes while its source has no attempt left is not compared.
    fn check_token(&self, token: &str, peer: Option<&Peer>) -> Result<(), AdminError> {
        let (source, now) = (Source::of(peer), Instant::now());
        let mut limiter = lock(&self.limiter);
        limiter.check(source, now).map_err(AdminError::too_many_attempts)?;
        // Digests compare in constant time.
        if self.token == Some(Digest::of(token.as_bytes())) {
            limiter.on_success(source);
            return Ok(());
        }
        limiter.on_failure(source, now);
        drop(limiter);
        tracing::warn!(
            %source,
            "a wrong admin token was refused; more of them from this address are answered with 429"
        );
        Err(AdminError::wrong_token())
    }

    /// Logs a person in. Returns the cookie of a new session.
    ///
    /// # Errors
    ///
    /// As [`Gate::check`].
    pub(super) fn log_in(
        &self,
        headers: &HeaderMap,
        token: &str,
        peer: Option<&Peer>,
    ) -> Result<HeaderValue, AdminError> {
        self.require_on()?;
        if !is_same_origin(headers) {
            return Err(AdminError::cross_site());
        }
        self.check_token(token.trim(), peer)?;
        let mut sessions = lock(&self.sessions);
        if let Some(old) = session_id(headers) {
            sessions.end(old);
        }
        let id = sessions.begin(Instant::now());
        Ok(cookie(&id, LIFETIME.as_secs(), headers))
    }

    /// Ends the session of a browser. Returns what removes its cookie.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = session_id(headers) {
            lock(&self.sessions).end(id);
        }
        cookie("", 0, headers)
    }

    /// Returns the session of a browser, where it has one.
    ///
    /// # Errors
    ///
    /// [`AdminError::off`].
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<Option<Session>, AdminError> {
        self.require_on()?;
        Ok(session_id(headers).and_then(|id| lock(&self.sessions).find(id, Instant::now()).cloned()))
    }
}

/// Fails when a request that changes something may come from another page: `sent` is the token that it carries.
///
/// # Errors
///
/// [`AdminError::cross_site`].
pub(super) fn check_form(headers: &HeaderMap, session: &Session, sent: Option<&str>) -> Result<(), AdminError> {
    let expected = Digest::of(session.csrf.as_bytes());
    let carried = sent.is_some_and(|sent| Digest::of(sent.as_bytes()) == expected);
    if carried && is_same_origin(headers) { Ok(()) } else { Err(AdminError::cross_site()) }
}

/// Whether a browser says that a request comes from a page of the origin that it goes to. Every browser of today says so in one of
/// the two headers.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(|site| site == "same-origin");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !host.is_empty() && named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    });
    match (site, origin) {
        (None, None) => false,
        (site, origin) => site.unwrap_or(true) && origin.unwrap_or(true),
    }
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == SESSION).map(|(_, id)| id).next()
}

/// Returns the header that sets the cookie. Behind TLS, of which a proxy or the browser tells, it is sent over TLS only.
fn cookie(id: &str, seconds: u64, headers: &HeaderMap) -> HeaderValue {
    let begins = |name: HeaderName, start: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(start))
    };
    let secure = if begins(ORIGIN, "https://") || begins(FORWARDED_PROTO, "https") { "; Secure" } else { "" };
    let text = format!("{SESSION}={id}; Path=/admin; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("hex digits make a header value")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_pages_of_this_origin_are_believed() {
        for (pairs, same) in [
            (&[("host", "gateway:8788"), ("origin", "http://gateway:8788")][..], true),
            (&[("host", "gateway:8788"), ("origin", "https://gateway:8788"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "gateway:8788"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "gateway:8788")], false),
            (&[("host", "gateway:8788"), ("origin", "null")], false),
            (&[("host", "gateway:8788"), ("origin", "http://gateway:8789")], false),
            (&[("host", "gateway:8788"), ("origin", "http://evil.example")], false),
            (&[("host", "gateway:8788"), ("origin", "http://gateway:8788.evil.example")], false),
            (&[("host", "gateway:8788"), ("origin", "http://gateway:8788"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "gateway:8788"), ("origin", "http://gateway:8788"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "gateway:8788"), ("sec-fetch-site", "none")], false),
            (&[("host", ""), ("origin", "http://")], false),
        ] {
            assert_eq!(is_same_origin(&headers(pairs)), same, "{pairs:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_and_bound_to_its_page() {
        let sent = headers(&[("cookie", "a=b; gateway_admin=0123 ; c=d")]);
        assert_eq!(session_id(&sent), Some("0123"));
        assert_eq!(session_id(&headers(&[("cookie", "xgateway_admin=0123")])), None);
        let plain = cookie("0123", 60, &headers(&[]));
        assert_eq!(plain, "gateway_admin=0123; Path=/admin; Max-Age=60; HttpOnly; SameSite=Strict");
        for pair in [("origin", "https://gateway"), ("x-forwarded-proto", "https")] {
            assert!(cookie("0123", 60, &headers(&[pair])).to_str().unwrap().ends_with("; Secure"), "{pair:?}");
        }
    }
}
