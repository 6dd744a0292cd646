//! What is known of a request by its head alone.

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Version};
use tokio::time::Instant;

use crate::admission::{Admission, KeyCredential};
use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::middleware::request_log::RequestStart;
use crate::model::ClientId;
use crate::server::connection::ConnectionHandle;
use crate::telemetry::RequestId;

/// The part of a path that names a model, as in Azure's deployments.
pub(crate) const DEPLOYMENT: &str = "deployment";

/// The head of a request whose key was accepted.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) client: ClientId,
    /// Of the key that it came with.
    pub(crate) credential: Arc<KeyCredential>,
    pub(crate) started: Instant,
    pub(crate) request: RequestId,
    /// The connection the request came by.
    pub(crate) connection: ConnectionHandle,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The model that the path names; it overrides the body.
    pub(crate) deployment: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext
where
    Admission: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let VerifiedClient(client, credential) = VerifiedClient::from_request_parts(parts, state).await?;
        let missing = || ApiError::internal("a layer is missing");
        let RequestStart(started) = *parts.extensions.get().ok_or_else(missing)?;
        let connection = parts.extensions.get::<ConnectionHandle>().ok_or_else(missing)?.clone();
        let deployment = match RawPathParams::from_request_parts(parts, state).await {
            Ok(path) => path.iter().find(|&(name, _)| name == DEPLOYMENT).map(|(_, value)| value.to_owned()),
            // The path has none, and was not matched by the router.
            Err(RawPathParamsRejection::MissingPathParams(_)) => None,
            Err(_) => {
                let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
                return Err(ApiError::UnknownRoute {
                    method,
                    path,
                    hint: "The name of the model is not UTF-8.".into(),
                });
            }
        };
        let request = *parts.extensions.get::<RequestId>().ok_or_else(missing)?;
        let (version, headers) = (parts.version, std::mem::take(&mut parts.headers));
        Ok(Self { client, credential, started, request, connection, version, headers, deployment })
    }
}
