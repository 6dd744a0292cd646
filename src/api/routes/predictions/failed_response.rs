//! The response to a request whose job brought no pictures, with what it cost.

use axum::response::{IntoResponse, Response};

use crate::api::error::ApiError;
use crate::api::state::ApiState;
use crate::engine::{AnswerSource, JobForecast};
use crate::http::gateway_headers::{add_cost, name_job};
use crate::model::{ClientId, Cost, JobId};

/// Answers a request that got no pictures of its job. What may have been bought for it is its cost, also where the job goes on: the
/// retry joins that and costs nothing.
pub(in crate::api::routes) async fn failed_response(
    state: &ApiState,
    client: &ClientId,
    job: JobId,
    source: AnswerSource,
    error: ApiError,
) -> Response {
    let may_cost = match &error {
        // The key was revoked meanwhile.
        ApiError::WrongKey => return error.into_response(),
        ApiError::Failed { failure, .. } => failure.may_have_been_bought(),
        _ => true,
    };
    let mut response = error.into_response();
    let headers = response.headers_mut();
    name_job(headers, job, &[]);
    match source {
        AnswerSource::Bought | AnswerSource::Bypass if may_cost => {
            if let Ok(Some(view)) = state.engine.view(client, job).await {
                name_job(headers, job, &view.summary.state.purchases);
                if let Some(cost) = view.summary.state.cost.or_else(|| JobForecast::of(&view.waiter).cost) {
                    add_cost(headers, cost);
                }
            }
        }
        AnswerSource::Bought | AnswerSource::Bypass | AnswerSource::Hit(_) | AnswerSource::Joined => {
            add_cost(headers, Cost::default());
        }
    }
    response
}
