//! Edits and generations.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use super::accepted::{Endpoint, create, refuse};
use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::request::context::RequestContext;
use crate::api::state::ApiState;
use crate::model::Task;

/// `POST /v1/images/edits`.
pub(super) fn edits(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    body: Body,
) -> impl Future<Output = Response> + Send {
    create(Endpoint::Images(Task::Edit), context, state, body)
}

/// `POST /v1/images/generations`.
pub(super) fn generations(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    body: Body,
) -> impl Future<Output = Response> + Send {
    create(Endpoint::Images(Task::Generate), context, state, body)
}

/// `POST /v1/images/variations`, retired at OpenAI.
pub(super) async fn variations(
    VerifiedClient(client, _): VerifiedClient,
    State(state): State<Arc<ApiState>>,
) -> Response {
    refuse(&state, &client, ApiError::VariationsRetired)
}
