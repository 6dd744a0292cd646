//! Headers that say where a response comes from, and which parameters of the request were dropped.

use axum::http::header::AGE;
use axum::http::{HeaderMap, HeaderValue};

use crate::engine::AnswerSource;
use crate::http::gateway_headers::{CACHE, DROPPED, HIT};

/// Adds `x-gateway-cache`, `age` of a hit, and the names of dropped parameters.
pub(crate) fn add_cache_headers(headers: &mut HeaderMap, source: AnswerSource, dropped: &[String]) {
    headers.insert(CACHE, HeaderValue::from_static(cache_word(source)));
    if let AnswerSource::Hit(age) = source {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    if let Ok(dropped) = HeaderValue::from_str(&dropped.join(","))
        && !dropped.is_empty()
    {
        headers.insert(DROPPED, dropped);
    }
}

/// Returns the value of `x-gateway-cache`.
pub(crate) fn cache_word(source: AnswerSource) -> &'static str {
    match source {
        AnswerSource::Hit(_) => HIT,
        AnswerSource::Joined => "joined",
        AnswerSource::Bought => "miss",
        AnswerSource::Bypass => "bypass",
    }
}
