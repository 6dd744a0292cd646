//! Pictures in a conversation.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::accepted::{Endpoint, create};
use crate::api::error::ApiError;
use crate::api::middleware::auth::VerifiedClient;
use crate::api::middleware::rate;
use crate::api::request::context::RequestContext;
use crate::api::state::ApiState;

/// `POST /v1/chat/completions`.
pub(super) async fn completions(context: RequestContext, State(state): State<ApiState>, body: Body) -> Response {
    create(Endpoint::ChatCompletions, context, state, body).await
}

/// `POST /v1/responses`, which is not offered.
pub(super) async fn responses(VerifiedClient(client): VerifiedClient, State(state): State<ApiState>) -> Response {
    let refusal = rate::count(&state.admission, &client).err().unwrap_or(ApiError::ResponsesUnsupported);
    let mut response = refusal.into_response();
    rate::add_headers(&state.admission, &client, response.headers_mut());
    response
}
