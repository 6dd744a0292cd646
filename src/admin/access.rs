//! Who may administrate: the holder of the admin token, and a browser whose person has logged in with it.
//!
//! A browser sends its cookie along with requests that other pages make it send. So a request with a cookie that changes something
//! must come from a page of this origin, by what the browser says of it, and must carry the token of its session, which no other
//! page can read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use super::error::AdminError;
use super::login_limiter::{LoginLimiter, Source};
use super::sessions::{LIFETIME, Session, Sessions};
use crate::config::Secret;
use crate::model::Digest;
use crate::server::listener::Peer;
use crate::telemetry::Metrics;

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
    token: Arc<RwLock<Option<Digest>>>,
    limiter: Arc<Mutex<LoginLimiter>>,
    sessions: Arc<Mutex<Sessions>>,
    attempts: Family<OutcomeLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Gate {
    pub(super) fn new(token: Option<&Secret>, metrics: &Metrics) -> Self {
        let attempts = Family::<OutcomeLabel, Counter>::default();
        for outcome in ["logged_in", "refused", "limited", "cross_site"] {
            attempts.get_or_create_owned(&OutcomeLabel { outcome });
        }
        metrics.register("admin", |registry| {
            registry.register(
                "attempts",
                "Logins, and calls with a wrong admin token or from another page, by outcome",
                attempts.clone(),
            );
        });
        Self {
            token: Arc::new(RwLock::new(token.map(digest_of))),
            limiter: Arc::new(Mutex::new(LoginLimiter::new(Instant::now()))),
            sessions: Arc::default(),
            attempts,
        }
    }

    /// Replaces the admin token. Where it is another one, who has logged in with the one before has to log in again.
    pub(super) fn set_token(&self, token: Option<&Secret>) {
        let token = token.map(digest_of);
        let mut current = self.token.write().unwrap_or_else(PoisonError::into_inner);
        if *current != token {
            *current = token;
            *lock(&self.sessions) = Sessions::default();
        }
    }

    fn token(&self) -> Option<Digest> {
        *self.token.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &'static str) {
        self.attempts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Checks a call of the API.
    ///
    /// # Errors
    ///
    /// [`AdminError`]: off, no or a wrong token, too many wrong ones, or a call that another page may have made.
    pub(super) fn check(&self, parts: &Parts) -> Result<(), AdminError> {
        self.require_on()?;
        if let Some(token) = bearer_token(&parts.headers) {
            return self.check_token(token, parts.extensions.get::<Peer>());
        }
        let session = self.session(&parts.headers)?.ok_or_else(AdminError::missing_token)?;
        if matches!(parts.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let sent = parts.headers.get(CSRF).and_then(|token| token.to_str().ok());
        self.check_form(&parts.headers, &session, sent)
    }

    /// Fails when a request that changes something may come from another page: `sent` is the token that it carries.
    ///
    /// # Errors
    ///
    /// [`AdminError::cross_site`].
    pub(super) fn check_form(
        &self,
        headers: &HeaderMap,
        session: &Session,
        sent: Option<&str>,
    ) -> Result<(), AdminError> {
        let expected = Digest::of(session.csrf.as_bytes());
        if sent.is_some_and(|sent| Digest::of(sent.as_bytes()) == expected) {
            return self.require_same_origin(headers);
        }
        self.count("cross_site");
        Err(AdminError::cross_site())
    }

    fn require_same_origin(&self, headers: &HeaderMap) -> Result<(), AdminError> {
        if is_same_origin(headers) {
            return Ok(());
        }
        self.count("cross_site");
        Err(AdminError::cross_site())
    }

    /// Fails when the administration is off.
    ///
    /// # Errors
    ///
    /// [`AdminError::off`].
    pub(super) fn require_on(&self) -> Result<(), AdminError> {
        if self.token().is_some() { Ok(()) } else { Err(AdminError::off()) }
    }

    /// Checks an admin token. One that comes while its source has no attempt left is not compared.
    fn check_token(&self, token: &str, peer: Option<&Peer>) -> Result<(), AdminError> {
        let (source, now) = (Source::of(peer), Instant::now());
        let mut limiter = lock(&self.limiter);
        limiter.check(source, now).map_err(|pause| {
            self.count("limited");
            AdminError::too_many_attempts(pause)
        })?;
        // Digests compare in constant time.
        if self.token() == Some(Digest::of(token.as_bytes())) {
            limiter.on_success(source);
            return Ok(());
        }
        limiter.on_failure(source, now);
        drop(limiter);
        self.count("refused");
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
        self.require_same_origin(headers)?;
        self.check_token(token.trim(), peer)?;
        self.count("logged_in");
        tracing::info!(source = ?Source::of(peer), "a person logged in to the administration");
        let mut sessions = lock(&self.sessions);
        session_ids(headers).for_each(|old| sessions.end(old));
        let id = sessions.begin(Instant::now());
        Ok(cookie(&id, LIFETIME.as_secs(), headers))
    }

    /// Ends the session of a browser. Returns what removes its cookie.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        let mut sessions = lock(&self.sessions);
        session_ids(headers).for_each(|id| sessions.end(id));
        cookie("", 0, headers)
    }

    /// Returns the session of a browser, where it has one.
    ///
    /// # Errors
    ///
    /// [`AdminError::off`].
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<Option<Session>, AdminError> {
        self.require_on()?;
        let sessions = lock(&self.sessions);
        Ok(session_ids(headers).find_map(|id| sessions.find(id, Instant::now()).cloned()))
    }
}

fn digest_of(token: &Secret) -> Digest {
    Digest::of(token.expose().as_bytes())
}

/// Returns the token of the scheme Bearer. A proxy in front may have added another scheme of its own.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(AUTHORIZATION).iter().find_map(|authorization| {
        let text = authorization.to_str().ok()?.trim();
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
}

/// Whether a browser says that a request comes from a page of the origin that it goes to. `Sec-Fetch-Site` says it
/// itself. `Origin`, which browsers send where they are not sure of the connection, is compared with the host that the request came
/// to; a proxy may have changed that.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(|site| site == "same-origin");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !host.is_empty() && named.is_some_and(|named| named.eq_ignore_ascii_case(host))
    });
    site.or(origin).unwrap_or(false)
}

/// Returns the ids of sessions that a browser sends. A page of the same host, on another port, may have set one beside the gateway's.
fn session_ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == SESSION).map(|(_, id)| id)
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
            // A proxy has changed the host.
            (&[("host", "gateway:8788"), ("origin", "https://gw.example"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "gateway:8788"), ("origin", "https://gw.example")], false),
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
    fn a_token_is_found_beside_the_scheme_of_a_proxy() {
        let mut sent = headers(&[("authorization", "Basic dXNlcjpwYXNz")]);
        assert_eq!(bearer_token(&sent), None);
        sent.append(AUTHORIZATION, HeaderValue::from_static("bearer  abc "));
        assert_eq!(bearer_token(&sent), Some("abc"));
        assert_eq!(bearer_token(&headers(&[("authorization", "Bearer ")])), Some(""), "a wrong one");
        assert_eq!(bearer_token(&headers(&[("authorization", "abc")])), None);
    }

    #[test]
    fn a_cookie_is_found_among_others_and_bound_to_its_page() {
        let sent = headers(&[("cookie", "gateway_admin=planted; a=b; gateway_admin=0123 ; c=d")]);
        assert_eq!(session_ids(&sent).collect::<Vec<_>>(), ["planted", "0123"]);
        assert_eq!(session_ids(&headers(&[("cookie", "xgateway_admin=0123")])).next(), None);
        let plain = cookie("0123", 60, &headers(&[]));
        assert_eq!(plain, "gateway_admin=0123; Path=/admin; Max-Age=60; HttpOnly; SameSite=Strict");
        for pair in [("origin", "https://gateway"), ("x-forwarded-proto", "https")] {
            assert!(cookie("0123", 60, &headers(&[pair])).to_str().unwrap().ends_with("; Secure"), "{pair:?}");
        }
    }
}
