//! Whose request it is, from its headers alone: an unknown key never costs an upload.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::ApiState;
use super::error::ApiError;
use crate::model::ClientId;

/// A client whose key was checked.
#[derive(Clone, Debug)]
pub(super) struct Client(pub(super) ClientId);

impl FromRequestParts<ApiState> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        if parts.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            // Whoever sends two keys may mean either; neither is tried.
            return Err(ApiError::WrongKey);
        }
        let key = key(&parts.headers).ok_or(ApiError::MissingKey)?;
        state.admission.client(key).map(Client).ok_or(ApiError::WrongKey)
    }
}

/// The key in `Authorization: Bearer …`, or bare there, or in Azure's `api-key`.
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
