//! Jobs by their address: `Prefer: respond-async`, `GET` and `DELETE /v1/predictions/{id}`, and the list of them.
//!
//! A job is shown to its owner alone; other clients get the error of an unknown id. How its pictures are presented is part of
//! the address (`query.rs`), so nothing has to be stored for it.
//!
//! `DELETE` ends this client's interest in a job. A job that no other request waits for and that is not bought is cancelled.
//! One that is, or may be, bought cannot be cancelled, because the image service cancels nothing: 409. One that has ended is
//! deleted with its pictures, also before they were received; 409 while a request receives them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;

use crate::api::error::ApiError;
use crate::api::middleware::rate;
use crate::api::middleware::request_log::LogFields;
use crate::api::request::context::RequestContext;
use crate::api::request::prefer::Preferences;
use crate::api::request::response_deadline::response_deadline;
use crate::api::request::response_options::ResponseOptions;
use crate::api::response::events::Events;
use crate::api::response::image_response::{ResponseShape, deliver};
use crate::api::response::prediction_object::PredictionObject;
use crate::api::response::signature::ResultUrls;
use crate::api::response::status_events::StatusEvents;
use crate::api::response::streaming::StreamingResponse;
use crate::api::state::ApiState;
use crate::engine::{DeleteOutcome, JobProgress, JobStatus, JobView, WaitError, Waiter};
use crate::http::gateway_headers::{PREFERENCE_APPLIED, add_expected, name_job, qualify_result};
use crate::http::header::{ParsedHeader, list_members};
use crate::model::{ClientId, Failure, JobId, Timestamp};
use crate::server::connection::ConnectionHandle;

mod failed_response;
mod list;
mod query;

pub(super) use failed_response::failed_response;
pub(crate) use list::index;

/// Bounds of `Retry-After` for a job that is under way, and its value where nothing is known.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(5);

/// How the pictures of a job are presented, and to which connection.
#[derive(Debug)]
pub(crate) struct PredictionResponse {
    pub(crate) shape: ResponseShape,
    pub(crate) urls: ResultUrls,
    pub(crate) connection: ConnectionHandle,
}

/// Responds that a job is under way: 202, with its address in `Location`.
pub(crate) async fn accepted(
    state: &ApiState,
    client: &ClientId,
    waiter: &Waiter,
    response: PredictionResponse,
    wait: Duration,
) -> Result<Response, ApiError> {
    let job = waiter.job();
    // The job is found: the journal recorded it before the waiter was returned.
    let view = view(state, client, job).await?;
    let query = query::of(response.shape.options());
    let base = response.urls.base_path().to_owned();
    let mut response = show_job(state, view, response).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    let location = format!("{base}/v1/predictions/{job}{query}");
    let location =
        HeaderValue::from_str(&location).map_err(|_| ApiError::internal("the address is no header value"))?;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    if !wait.is_zero() {
        headers.append(PREFERENCE_APPLIED, applied_wait(wait));
    }
    Ok(response)
}

/// `GET /v1/predictions/{id}`.
pub(crate) async fn show(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let client = context.client.clone();
    let mut log = log_fields(&client);
    let result = async {
        let job = job_of(id)?;
        let options = query::read(query.as_deref())?;
        get(context, &state, job, options, &mut log).await
    };
    finish(&state, &client, result.await, log)
}

/// `DELETE /v1/predictions/{id}`.
pub(crate) async fn cancel(
    context: RequestContext,
    State(state): State<Arc<ApiState>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let client = context.client.clone();
    let mut log = log_fields(&client);
    let result = async {
        let job = job_of(id)?;
        delete(&client, &state, job, &mut log).await
    };
    finish(&state, &client, result.await, log)
}

fn log_fields(client: &ClientId) -> LogFields {
    LogFields { route: Some("predictions"), client: Some(client.clone()), ..LogFields::default() }
}

fn finish(state: &ApiState, client: &ClientId, result: Result<Response, ApiError>, log: LogFields) -> Response {
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    rate::add_headers(&state.admission, client, response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(log);
    response
}

/// Parses an id. A malformed id is an unknown one.
fn job_of(id: Result<Path<String>, PathRejection>) -> Result<JobId, ApiError> {
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(ApiError::PredictionNotFound)
}

async fn get(
    context: RequestContext,
    state: &ApiState,
    job: JobId,
    options: ResponseOptions,
    log: &mut LogFields,
) -> Result<Response, ApiError> {
    let RequestContext { client, credential, started, request, connection, headers, .. } = context;
    let mut view = view(state, &client, job).await?;
    log.job = Some(job);
    log.model = Some(view.summary.model.clone());
    let urls = state.result_urls(&headers)?;
    let shape = ResponseShape::new(view.summary.task, view.summary.choices.clone(), options);
    let now = Instant::now();
    if wants_events(&headers) {
        let permit = state.admit(&client, credential)?;
        let heartbeat = state.server.heartbeats.stream_heartbeat;
        let deadline = response_deadline(&headers, &state.server.responses, started, now, Some(heartbeat));
        let streaming = StreamingResponse {
            engine: state.engine.clone(),
            converter: state.converter.clone(),
            waiter: Some(view.waiter),
            shape,
            deadline,
            heartbeat,
            connection,
            permit,
            outcome: state.outcomes.track("prediction_events", request, job, started),
        };
        let statuses = StatusEvents::new(client, state.clock.clone());
        let mut response = Events::of_prediction(streaming, statuses).into_response();
        if let JobStatus::Completed(result) = &view.summary.state.status {
            qualify_result(response.headers_mut(), result);
        }
        return Ok(response);
    }
    let response = PredictionResponse { shape, urls, connection };
    let Some(wait) = Preferences::of(&headers).wait else {
        return show_job(state, view, response).await;
    };
    let deadline = response_deadline(&headers, &state.server.responses, started, now, None);
    let wait = wait.min(deadline.saturating_duration_since(now));
    if matches!(view.summary.state.status, JobStatus::UnderWay { .. }) {
        let permit = state.admit(&client, credential)?;
        let outcome = tokio::select! {
            biased;
            () = permit.ended() => return Err(ApiError::WrongKey),
            outcome = view.waiter.outcome(now + wait) => outcome,
        };
        view = self::view(state, &client, job).await?;
        // An outcome that could not be journalled is shown all the same.
        let shown = &mut view.summary.state;
        if let (JobStatus::UnderWay { .. }, Some(outcome)) = (&shown.status, outcome) {
            shown.status = match outcome {
                Ok(result) => {
                    shown.cost = state.catalogue().cost_of(&result);
                    JobStatus::Completed(result)
                }
                Err(failure) => JobStatus::Failed { failure, at: state.clock.now() },
            };
        }
    }
    let mut response = show_job(state, view, response).await?;
    response.headers_mut().insert(PREFERENCE_APPLIED, applied_wait(wait));
    Ok(response)
}

async fn delete(client: &ClientId, state: &ApiState, job: JobId, log: &mut LogFields) -> Result<Response, ApiError> {
    let failed = |failure| ApiError::Failed { failure, job: Some(job) };
    let outcome = state.engine.delete(client, job).await.map_err(failed)?.ok_or(ApiError::PredictionNotFound)?;
    log.job = Some(job);
    match outcome {
        DeleteOutcome::Cancelled => {
            let view = view(state, client, job).await?;
            Ok(Json(PredictionObject::of(&view.summary, state.clock.now())).into_response())
        }
        DeleteOutcome::Deleted(pictures) => {
            state.converter.forget(pictures);
            Ok(Json(DeletedObject { id: job.to_string(), object: "prediction.deleted", deleted: true }).into_response())
        }
        DeleteOutcome::Bought => Err(ApiError::PredictionSubmitted { job }),
        DeleteOutcome::InUse => Err(ApiError::PredictionInUse { job }),
    }
}

/// A job that was deleted.
#[derive(Debug, Serialize)]
struct DeletedObject {
    id: String,
    object: &'static str,
    deleted: bool,
}

/// Looks up a job of a client that can still be shown.
async fn view(state: &ApiState, client: &ClientId, job: JobId) -> Result<JobView, ApiError> {
    let failed = |failure| ApiError::Failed { failure, job: Some(job) };
    let view = state.engine.view(client, job).await.map_err(failed)?.ok_or(ApiError::PredictionNotFound)?;
    match view.summary.state.status {
        JobStatus::Evicted => Err(ApiError::ResultGone),
        JobStatus::UnderWay { .. } | JobStatus::Completed(_) | JobStatus::Failed { .. } => Ok(view),
    }
}

/// Sends the prediction object, with the pictures of a completed job.
async fn show_job(state: &ApiState, view: JobView, response: PredictionResponse) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let (head, tail) = PredictionObject::of(&view.summary, now).around_result();
    if let JobStatus::Completed(result) = &view.summary.state.status {
        let opened = state.engine.open(&result.pictures).await;
        let failed = |failure: Failure| ApiError::of_wait(&view.waiter, WaitError::Failed(failure));
        let sources = opened.map_err(failed)?;
        let pictures = state.converter.prepare_all(&result.pictures, sources, response.shape.conversion()).await;
        let body = head.then(response.shape.object(result, pictures, &response.urls)).then(tail);
        return Ok(deliver(body, result, view.waiter, response.connection));
    }
    let body = head.text("null").then(tail);
    let length = body.length();
    let mut response = Response::new(axum::body::Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    name_job(headers, view.summary.id, &view.summary.state.purchases);
    if let JobStatus::UnderWay { progress: JobProgress { expected, .. }, .. } = view.summary.state.status {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry_after(expected, now).as_secs()));
        if let Some(expected) = expected {
            add_expected(headers, expected.since(now));
        }
    }
    Ok(response)
}

/// Returns when a job is worth asking for again, in whole seconds.
fn retry_after(expected: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = expected.map_or(RETRY_AFTER_UNKNOWN, |expected| expected.since(now));
    Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).next_multiple_of(1000))
        .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
}

fn applied_wait(wait: Duration) -> HeaderValue {
    HeaderValue::from_str(&format!("wait={}", wait.as_secs())).expect("letters and digits")
}

/// Whether `Accept` names server-sent events; a wildcard does not.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| list_members(value.as_bytes()));
    accepted.into_iter().any(|member| ParsedHeader::parse(member).word == "text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_within_bounds() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let seconds = |millis| retry_after(Some(now.plus(Duration::from_millis(millis))), now).as_secs();
        assert_eq!([0, 1, 1000, 1001, 59_999, 600_000].map(seconds), [1, 1, 1, 2, 60, 60]);
        assert_eq!(retry_after(None, now), RETRY_AFTER_UNKNOWN);
    }

    #[test]
    fn only_a_client_that_names_events_gets_them() {
        let wants = |accept: &str| wants_events(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        assert!(wants("text/event-stream"));
        assert!(wants("application/json, Text/Event-Stream;q=0.9"));
        assert!(!wants("*/*"));
        assert!(!wants("text/*"));
        assert!(!wants_events(&HeaderMap::new()));
    }
}
