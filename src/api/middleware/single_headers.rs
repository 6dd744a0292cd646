//! Refuses requests that have a header twice of which the gateway reads one value.
//!
//! With two values a proxy in front may go by the one and the gateway by the other: one idempotency key would be looked up
//! and the other one meant. Lists such as `Accept`, `Cache-Control` and `Prefer` may be repeated; `Host`, `Origin` and
//! `Transfer-Encoding` have rules of their own, and the HTTP library checks `Content-Length`.

use axum::http::HeaderMap;

use crate::api::error::ApiError;

/// The names, as they are written in errors.
const SINGLE: [&str; 9] = [
    "Authorization",
    "Api-Key",
    "X-Api-Key",
    "Idempotency-Key",
    "Content-Type",
    "Content-Encoding",
    "X-Stainless-Retry-Count",
    "X-Stainless-Read-Timeout",
    "X-Stainless-Timeout",
];

/// Checks that each of these headers is there once at most, whatever the values are.
///
/// # Errors
///
/// [`ApiError::DuplicateHeader`], naming the first.
pub(super) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    // Nearly every request: no header is repeated, so there is nothing to look up.
    if headers.keys_len() == headers.len() {
        return Ok(());
    }
    match SINGLE.into_iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(ApiError::DuplicateHeader { name }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn one_value_is_accepted_and_two_are_refused_by_name() {
        for name in SINGLE {
            let mut headers = HeaderMap::new();
            for value in ["one", "one"] {
                assert!(check(&headers).is_ok(), "{name}");
                headers.append("accept", HeaderValue::from_static("image/png"));
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
            }
            let error = check(&headers).unwrap_err();
            assert_eq!(error.code(), "duplicate_header");
            assert!(error.to_string().contains(&format!("'{name}'")), "{error}");
        }
    }
}
