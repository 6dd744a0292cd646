//! Pictures in a conversation.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use super::accepted::{Endpoint, create, refuse};
use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::request::context::RequestContext;
use crate::api::state::ApiState;

/// `POST /v1/chat/completions`.
pub(super) fn completions(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    body: Body,
) -> impl Future<Output = Response> + Send {
    create(Endpoint::ChatCompletions, context, state, body)
}

/// `POST /v1/responses`, which is not offered.
pub(super) async fn responses(
    VerifiedClient(client, _): VerifiedClient,
    State(state): State<Arc<ApiState>>,
) -> Response {
    refuse(&state, &client, ApiError::ResponsesUnsupported)
}
