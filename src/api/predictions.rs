//! Jobs by their address: `Prefer: respond-async`, `GET` and `DELETE /v1/predictions/{id}`.
//!
//! An order is shown to its owner alone; to everybody else there is no such order. How its pictures are to look is part
//! of the address (`query.rs`), so that nothing has to be remembered for it.
//!
//! `DELETE` ends this client's interest. What nobody else waits for and is not bought is dropped. What is, or may be,
//! bought cannot be cancelled, because the image service cancels nothing; and what has ended stays until it expires,
//! because it was paid for: both are 409.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::answer::{self, Addresses, Shape};
use super::error::{ApiError, name_predictions};
use super::events::Events;
use super::header::{Parameterised, members};
use super::images::Arrived;
use super::kept::Kept;
use super::layers::Noted;
use super::prefer::{PREFERENCE_APPLIED, Preferences};
use super::validate::Presentation;
use super::{ApiState, patience, rate};
use crate::engine::{CancelOutcome, JobStatus, JobView, WaitError, Waiter};
use crate::model::{ClientId, Failure, JobId, Timestamp};
use crate::server::connection::ConnectionHandle;

mod object;
mod query;
mod statuses;

use object::OrderObject;
pub(super) use statuses::Statuses;

/// What `Retry-After` tells of something that is under way: at least so much, at most so much, and this where nothing is
/// known.
const HINT_LEAST: Duration = Duration::from_secs(1);
const HINT_MOST: Duration = Duration::from_mins(1);
const HINT_UNKNOWN: Duration = Duration::from_secs(5);

/// How an order's pictures are shown, and where to.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) shape: Shape,
    pub(super) addresses: Addresses,
    pub(super) wire: ConnectionHandle,
}

/// Answers that an order has begun: 202, and where it is to be asked for.
pub(super) async fn accepted(
    state: &ApiState,
    client: &ClientId,
    waiter: &Waiter,
    shown: Shown,
    waited: Duration,
) -> Result<Response, ApiError> {
    let job = waiter.job();
    // What began is there: the journal knew of it before it was answered for.
    let look = look(state, client, job).await?;
    let query = query::of(shown.shape.presentation());
    let base = shown.addresses.base.path().trim_end_matches('/').to_owned();
    let mut response = show_look(state, job, look, shown).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    let location = format!("{base}/v1/predictions/{job}{query}");
    let location =
        HeaderValue::from_str(&location).map_err(|_| ApiError::internal("the address is no header value"))?;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    if !waited.is_zero() {
        headers.append(PREFERENCE_APPLIED, applied_wait(waited));
    }
    Ok(response)
}

/// `GET /v1/predictions/{id}`.
pub(super) async fn show(
    arrived: Arrived,
    State(state): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let client = arrived.client.clone();
    let mut noted = noted(&client);
    let result = async {
        let job = job_of(id)?;
        let presentation = query::read(query.as_deref())?;
        get(arrived, &state, job, presentation, &mut noted).await
    };
    finish(&state, &client, result.await, noted)
}

/// `DELETE /v1/predictions/{id}`.
pub(super) async fn cancel(
    arrived: Arrived,
    State(state): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let client = arrived.client.clone();
    let mut noted = noted(&client);
    let result = async {
        let job = job_of(id)?;
        delete(&client, &state, job, &mut noted).await
    };
    finish(&state, &client, result.await, noted)
}

fn noted(client: &ClientId) -> Noted {
    Noted { route: "predictions", client: client.to_string(), ..Noted::default() }
}

fn finish(state: &ApiState, client: &ClientId, result: Result<Response, ApiError>, noted: Noted) -> Response {
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    rate::tell(&state.admission, client, response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(noted);
    response
}

/// An id that is none is an unknown one.
fn job_of(id: Result<Path<String>, PathRejection>) -> Result<JobId, ApiError> {
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(ApiError::PredictionNotFound)
}

async fn get(
    arrived: Arrived,
    state: &ApiState,
    job: JobId,
    presentation: Presentation,
    noted: &mut Noted,
) -> Result<Response, ApiError> {
    let Arrived { client, began, request, wire, headers, .. } = arrived;
    let mut look = look(state, &client, job).await?;
    noted.job = job.to_string();
    look.model.as_str().clone_into(&mut noted.model);
    let addresses = state.addresses(&headers)?;
    let shape = Shape::new(look.task, look.choices.clone(), presentation);
    let now = Instant::now();
    if wants_events(&headers) {
        let permit = state.admit(&client)?;
        let heartbeat = state.server.stream_heartbeat;
        let deadline = patience::deadline(&headers, &state.server, began, now, Some(heartbeat));
        let ending = state.endings.watch("prediction_events", request, job, began);
        let (engine, presenter, waiter) = (state.engine.clone(), state.presenter.clone(), Some(look.waiter));
        let kept = Kept { engine, presenter, waiter, shape, deadline, heartbeat, wire, _permit: permit, ending };
        return Ok(Events::of_prediction(kept, Statuses::new(client, state.clock.clone())).into_response());
    }
    let shown = Shown { shape, addresses, wire };
    let Some(wait) = Preferences::of(&headers).wait else {
        return show_look(state, job, look, shown).await;
    };
    let deadline = patience::deadline(&headers, &state.server, began, now, None);
    let wait = wait.min(deadline.saturating_duration_since(now));
    if matches!(look.status, JobStatus::UnderWay { .. }) {
        let _permit = state.admit(&client)?;
        let outcome = look.waiter.outcome(now + wait).await;
        look = self::look(state, &client, job).await?;
        // What could not be journalled is told all the same.
        if let (JobStatus::UnderWay { .. }, Some(outcome)) = (&look.status, outcome) {
            look.status = match outcome {
                Ok(delivery) => JobStatus::Completed(delivery),
                Err(failure) => JobStatus::Failed { failure, at: state.clock.now() },
            };
        }
    }
    let mut response = show_look(state, job, look, shown).await?;
    response.headers_mut().insert(PREFERENCE_APPLIED, applied_wait(wait));
    Ok(response)
}

async fn delete(client: &ClientId, state: &ApiState, job: JobId, noted: &mut Noted) -> Result<Response, ApiError> {
    let failed = |failure| ApiError::Failed { failure, job: Some(job) };
    let cancelled = state.engine.cancel(client, job).await.map_err(failed)?.ok_or(ApiError::PredictionNotFound)?;
    noted.job = job.to_string();
    match cancelled {
        CancelOutcome::Dropped | CancelOutcome::Shared => {
            let look = look(state, client, job).await?;
            Ok(Json(OrderObject::of(job, &look, state.clock.now())).into_response())
        }
        CancelOutcome::Bought => Err(ApiError::PredictionSubmitted { job }),
        CancelOutcome::Ended => Err(ApiError::PredictionEnded { job }),
    }
}

/// An order of a client that can still be shown.
async fn look(state: &ApiState, client: &ClientId, job: JobId) -> Result<JobView, ApiError> {
    let failed = |failure| ApiError::Failed { failure, job: Some(job) };
    let look = state.engine.view(client, job).await.map_err(failed)?.ok_or(ApiError::PredictionNotFound)?;
    match look.status {
        JobStatus::Evicted => Err(ApiError::ResultGone),
        JobStatus::UnderWay { .. } | JobStatus::Completed(_) | JobStatus::Failed { .. } => Ok(look),
    }
}

/// The prediction object, with the pictures where they are there.
async fn show_look(state: &ApiState, job: JobId, look: JobView, shown: Shown) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let (head, tail) = OrderObject::of(job, &look, now).around_result();
    if let JobStatus::Completed(delivery) = &look.status {
        let opened = state.engine.open(&delivery.pictures).await;
        let failed = |failure: Failure| ApiError::of_wait(&look.waiter, WaitError::Failed(failure));
        let sources = opened.map_err(failed)?;
        let pictures = state.presenter.present(&delivery.pictures, sources, shown.shape.conversion()).await;
        let payload = head.then(shown.shape.whole(delivery, pictures, &shown.addresses)).then(tail);
        return Ok(answer::delivering(payload, delivery, look.waiter, shown.wire));
    }
    let payload = head.text("null").then(tail);
    let length = payload.length();
    let mut response = Response::new(axum::body::Body::new(payload));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    name_predictions(headers, &look.purchases);
    if let JobStatus::UnderWay { expected, .. } = look.status {
        headers.insert(RETRY_AFTER, HeaderValue::from(hint(expected, now).as_secs()));
    }
    Ok(response)
}

/// When it is worth asking again.
fn hint(expected: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = expected.map_or(HINT_UNKNOWN, |expected| expected.since(now));
    Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).next_multiple_of(1000))
        .clamp(HINT_LEAST, HINT_MOST)
}

fn applied_wait(wait: Duration) -> HeaderValue {
    HeaderValue::from_str(&format!("wait={}", wait.as_secs())).expect("letters and digits")
}

/// Whether `Accept` asks for server-sent events, which nobody does by accident.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| members(value.as_bytes()));
    accepted.into_iter().any(|member| Parameterised::parse(member).word == "text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_whole_seconds_within_bounds() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let hint = |millis| hint(Some(now.plus(Duration::from_millis(millis))), now).as_secs();
        assert_eq!([0, 1, 1000, 1001, 59_999, 600_000].map(hint), [1, 1, 1, 2, 60, 60]);
        assert_eq!(super::hint(None, now), HINT_UNKNOWN);
    }

    #[test]
    fn only_who_names_events_gets_them() {
        let wants = |accept: &str| wants_events(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        assert!(wants("text/event-stream"));
        assert!(wants("application/json, Text/Event-Stream;q=0.9"));
        assert!(!wants("*/*"));
        assert!(!wants("text/*"));
        assert!(!wants_events(&HeaderMap::new()));
    }
}
