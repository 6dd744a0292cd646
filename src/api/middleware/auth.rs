//! Checks the client's key, from the headers alone: a request with an unknown key never costs an upload.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::admission::Admission;
use crate::api::error::ApiError;
use crate::model::ClientId;

/// A client whose key was accepted.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedClient(pub(crate) ClientId);

impl<S: Sync> FromRequestParts<S> for VerifiedClient
where
    Admission: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let key = key(&parts.headers).ok_or(ApiError::MissingKey)?;
        Admission::from_ref(state).client(key).map(VerifiedClient).ok_or(ApiError::WrongKey)
    }
}

/// Returns the key in `Authorization: Bearer …`, or bare there, or in Azure's `api-key`.
fn key(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer = text(AUTHORIZATION.as_str()).map(|value| match value.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
        _ => value,
    });
    bearer.or_else(|| text("api-key")).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_clients_put_them() {
        let found = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            key(&headers).map(str::to_owned)
        };
        assert_eq!(found("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(found("authorization", "bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(found("authorization", "abc").as_deref(), Some("abc"));
        assert_eq!(found("api-key", "abc").as_deref(), Some("abc"));
        assert_eq!(found("authorization", "Bearer "), Some("Bearer".to_owned()), "a scheme alone is a wrong key");
        assert_eq!(found("x-other", "abc"), None);
    }
}
