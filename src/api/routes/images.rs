//! Edits and generations.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::accepted::{Endpoint, create};
use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::middleware::rate;
use crate::api::request::context::RequestContext;
use crate::api::state::ApiState;
use crate::model::Task;

/// `POST /v1/images/edits`.
pub(super) async fn edits(context: RequestContext, State(state): State<ApiState>, body: Body) -> Response {
    create(Endpoint::Images(Task::Edit), context, state, body).await
}

/// `POST /v1/images/generations`.
pub(super) async fn generations(context: RequestContext, State(state): State<ApiState>, body: Body) -> Response {
    create(Endpoint::Images(Task::Generate), context, state, body).await
}

/// `POST /v1/images/variations`, retired at OpenAI.
pub(super) async fn variations(VerifiedClient(client): VerifiedClient, State(state): State<ApiState>) -> Response {
    let refusal = rate::count(&state.admission, &client).err().unwrap_or(ApiError::VariationsRetired);
    let mut response = refusal.into_response();
    rate::add_headers(&state.admission, &client, response.headers_mut());
    response
}
