//! What edits, generations and chat completions have in common: parses a request, submits its job, and waits for the result.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::predictions::{self, PredictionResponse};
use crate::admission::Permit;
use crate::api::error::ApiError;
use crate::api::middleware::rate;
use crate::api::middleware::request_log::LogFields;
use crate::api::request::context::RequestContext;
use crate::api::request::parse::{parse, parse_chat};
use crate::api::request::prefer::Preferences;
use crate::api::request::response_deadline::response_deadline;
use crate::api::request::validate::ValidRequest;
use crate::api::response::cache_headers::{FieldReport, add_cache_headers, cache_word};
use crate::api::response::events::Events;
use crate::api::response::image_response::completion::Completion;
use crate::api::response::image_response::{ResponseShape, deliver};
use crate::api::response::mode::ResponseMode;
use crate::api::response::padded_json::PaddedJson;
use crate::api::response::signature::ResultUrls;
use crate::api::response::streaming::{ResponseOutcome, StreamingResponse};
use crate::api::state::ApiState;
use crate::engine::{JobRequest, WaitError, WaitMode, Waiter};
use crate::http::gateway_headers::{name_job, qualify_result};
use crate::model::{ClientId, Failure, IdempotencyKey, JobResult, Task};
use crate::server::connection::ConnectionHandle;

/// The endpoint that a request for pictures came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Images(Task),
    ChatCompletions,
}

impl Endpoint {
    /// Returns the name of the route, for logs and metrics.
    fn route_name(self) -> &'static str {
        match self {
            Self::Images(Task::Edit) => "edits",
            Self::Images(Task::Generate) => "generations",
            Self::ChatCompletions => "chat_completions",
        }
    }
}

/// Answers a request for pictures.
pub(super) async fn create(endpoint: Endpoint, context: RequestContext, state: Arc<ApiState>, body: Body) -> Response {
    let client = context.client.clone();
    let mut log =
        LogFields { route: Some(endpoint.route_name()), client: Some(client.clone()), ..LogFields::default() };
    let result = respond(endpoint, context, &state, body, &mut log).await;
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    rate::add_headers(&state.admission, &client, response.headers_mut());
    response.extensions_mut().insert(log);
    response
}

/// Answers a request that asks for what is not offered. It counts like any other.
pub(super) fn refuse(state: &ApiState, client: &ClientId, refusal: ApiError) -> Response {
    let refusal = rate::count(&state.admission, client).err().unwrap_or(refusal);
    let mut response = refusal.into_response();
    rate::add_headers(&state.admission, client, response.headers_mut());
    response
}

/// A request whose job is under way, or has its result already.
struct AcceptedRequest {
    client: ClientId,
    waiter: Waiter,
    shape: ResponseShape,
    fields: FieldReport,
    /// The response deadline.
    deadline: Instant,
    mode: ResponseMode,
    urls: ResultUrls,
    connection: ConnectionHandle,
    /// Counts against the limits of concurrent requests: until the head of the response, or until the end of one that streams.
    permit: Permit,
}

/// Parses a request and submits its job.
async fn accept(
    endpoint: Endpoint,
    context: RequestContext,
    state: &ApiState,
    body: Body,
    log: &mut LogFields,
) -> Result<AcceptedRequest, ApiError> {
    let RequestContext { client, started, connection, headers, version, deployment, .. } = context;
    rate::count(&state.admission, &client)?;
    let permit = state.admit(&client)?;
    let services = state.parse_services(&client);
    // Boxed: this future has many kilobytes, and would be moved with every future around it.
    let (valid, completion) = match endpoint {
        Endpoint::Images(task) => {
            let limits = state.request_rules.form_limits(task);
            (Box::pin(parse(limits, &headers, deployment, body, services)).await?, None)
        }
        Endpoint::ChatCompletions => {
            let limits = state.request_rules.form_limits(Task::Edit);
            let (valid, options) = Box::pin(parse_chat(limits, &headers, deployment, body, services)).await?;
            let completion = Completion::new(options, valid.request.model.clone(), state.clock.now());
            (valid, Some(completion))
        }
    };
    let ValidRequest { request, options, webhook_url, dropped, ignored, renamed } = valid;
    log.model = Some(request.model.clone());
    log.ignored.clone_from(&ignored);
    let fields = FieldReport { dropped, ignored, renamed };

    let preferences = match endpoint {
        Endpoint::Images(_) => Preferences::of(&headers),
        // No client of the chat API expects a 202, so this preference is not applied.
        Endpoint::ChatCompletions => Preferences::default(),
    };
    let mode = ResponseMode::of(&options, preferences, &headers, version, &state.server.heartbeats);
    let mut shape = ResponseShape::of(&request, options);
    if let Endpoint::Images(task) = endpoint {
        shape = shape.at_endpoint(task);
    }
    if let Some(completion) = completion {
        shape = shape.with_completion(completion);
    }
    let deadline = response_deadline(&headers, &state.server.responses, started, Instant::now(), mode.heartbeat());
    let urls = state.result_urls(&headers)?;
    let (wait_mode, until) = match mode {
        ResponseMode::Async(_) => (WaitMode::Away, Instant::now() + state.server.responses.async_start_timeout),
        ResponseMode::Plain | ResponseMode::Interim(_) | ResponseMode::PaddedJson(_) | ResponseMode::Events(_) => {
            (WaitMode::Connected, deadline)
        }
    };
    let job_request = JobRequest {
        client: client.clone(),
        request,
        fresh: has_cache_directive(&headers, "no-cache") || has_cache_directive(&headers, "no-store"),
        private: has_cache_directive(&headers, "no-store"),
        is_retry: retry_count(&headers) > 0,
        key: idempotency_key(&headers)?,
        until,
        wait_mode,
        webhook: webhook_url
            .map(|address| state.webhooks.accept(&address).map_err(ApiError::of_webhook))
            .transpose()?,
    };
    let failed = |failure: Failure| ApiError::Failed { failure, job: None };
    let waiter = state.engine.submit(job_request).await.map_err(failed)?;
    log.job = Some(waiter.job());
    log.cache = Some(cache_word(waiter.origin()));
    Ok(AcceptedRequest { client, waiter, shape, fields, deadline, mode, urls, connection, permit })
}

/// Accepts a request and responds with its pictures.
///
/// The wait is bounded by the response deadline. When it passes, the client gets a 504 and the purchase goes on: the same
/// request, sent again, finds it.
async fn respond(
    endpoint: Endpoint,
    context: RequestContext,
    state: &ApiState,
    body: Body,
    log: &mut LogFields,
) -> Result<Response, ApiError> {
    let (started, request) = (context.started, context.request);
    // Boxed: what it takes to accept a request is not held while its job is waited for.
    let mut accepted = Box::pin(accept(endpoint, context, state, body, log)).await?;
    let (source, job) = (accepted.waiter.origin(), accepted.waiter.job());
    let fields = std::mem::take(&mut accepted.fields);
    let track = |mode| state.outcomes.track(mode, request, job, started);
    let mut response = match accepted.mode {
        ResponseMode::Plain | ResponseMode::Interim(_) => accepted.whole(state).await?,
        ResponseMode::Events(heartbeat) => accepted.events(state, heartbeat, track("events")).await?,
        ResponseMode::PaddedJson(heartbeat) => accepted.padded_json(state, heartbeat, track("padded_json")).await?,
        ResponseMode::Async(wait) => accepted.accepted_later(state, wait).await?,
    };
    add_cache_headers(response.headers_mut(), source, &fields);
    Ok(response)
}

impl AcceptedRequest {
    /// Waits for all pictures, then sends them.
    async fn whole(mut self, state: &ApiState) -> Result<Response, ApiError> {
        let result = self.result().await.map_err(|error| ApiError::of_wait(&self.waiter, error))?;
        let opened = state.engine.open(&result.pictures).await;
        let sources = opened.map_err(|failure| ApiError::of_wait(&self.waiter, WaitError::Failed(failure)))?;
        let preparing = state.converter.prepare_all(&result.pictures, sources, self.shape.conversion());
        let in_time = tokio::time::timeout_at(self.deadline, preparing).await;
        let pictures = in_time.map_err(|_| {
            ApiError::of_wait(&self.waiter, WaitError::DeadlinePassed { upstream: result.purchases.clone() })
        })?;
        let body = self.shape.object(&result, pictures, &self.urls);
        Ok(deliver(body, &result, self.waiter, self.connection))
    }

    /// Waits for all pictures, with interim responses at every heartbeat where the client accepts them.
    async fn result(&mut self) -> Result<Arc<JobResult>, WaitError> {
        let ResponseMode::Interim(interval) = self.mode else { return self.waiter.wait(self.deadline).await };
        loop {
            tokio::select! {
                biased;
                result = self.waiter.wait(self.deadline) => return result,
                () = tokio::time::sleep(interval) => self.connection.processing(),
            }
        }
    }

    /// Responds with events. A failure within `server.stream_grace_ms` still gets a status of its own.
    async fn events(
        mut self,
        state: &ApiState,
        heartbeat: Duration,
        outcome: ResponseOutcome,
    ) -> Result<Response, ApiError> {
        let first =
            tokio::time::timeout(state.server.heartbeats.stream_grace, self.waiter.next_result(0, self.deadline)).await;
        if let Ok(Err(error)) = first {
            outcome.discard();
            return Err(ApiError::of_wait(&self.waiter, error));
        }
        let (job, purchases) = (self.waiter.job(), self.waiter.upstream());
        let ended = self.waiter.outcome(Instant::now()).await;
        let urls = self.urls.clone();
        let streaming = self.into_streaming(state, heartbeat, outcome);
        let events = match streaming.shape.completion() {
            Some(_) => Events::of_completion(streaming, urls),
            None => Events::new(streaming),
        };
        let mut response = events.into_response();
        name_job(response.headers_mut(), job, &purchases);
        if let Some(Ok(result)) = ended {
            qualify_result(response.headers_mut(), &result);
        }
        Ok(response)
    }

    /// Responds as in plain mode when the result comes within one heartbeat, and begins with white space otherwise.
    async fn padded_json(
        mut self,
        state: &ApiState,
        heartbeat: Duration,
        outcome: ResponseOutcome,
    ) -> Result<Response, ApiError> {
        if tokio::time::timeout(heartbeat, self.waiter.wait(self.deadline)).await.is_ok() {
            outcome.discard();
            return self.whole(state).await;
        }
        let (job, purchases) = (self.waiter.job(), self.waiter.upstream());
        let urls = self.urls.clone();
        let streaming = self.into_streaming(state, heartbeat, outcome);
        let mut response = PaddedJson::new(streaming, urls).into_response();
        name_job(response.headers_mut(), job, &purchases);
        Ok(response)
    }

    /// Responds as in plain mode when the result comes within `wait`, and with a 202 otherwise. A failure within `wait` gets
    /// a status of its own.
    async fn accepted_later(mut self, state: &ApiState, wait: Duration) -> Result<Response, ApiError> {
        let now = Instant::now();
        let wait = wait.min(self.deadline.saturating_duration_since(now));
        match self.waiter.outcome(now + wait).await {
            Some(Err(failure)) => return Err(ApiError::of_wait(&self.waiter, WaitError::Failed(failure))),
            Some(Ok(_)) if !wait.is_zero() => return self.whole(state).await,
            Some(Ok(_)) | None => {}
        }
        let Self { client, waiter, shape, urls, connection, .. } = self;
        let response = PredictionResponse { shape, urls, connection };
        predictions::accepted(state, &client, &waiter, response, wait).await
    }

    fn into_streaming(self, state: &ApiState, heartbeat: Duration, outcome: ResponseOutcome) -> StreamingResponse {
        let Self { waiter, shape, deadline, connection, permit, .. } = self;
        StreamingResponse {
            engine: state.engine.clone(),
            converter: state.converter.clone(),
            waiter: Some(waiter),
            shape,
            deadline,
            heartbeat,
            connection,
            _permit: permit,
            outcome,
        }
    }
}

/// Whether `Cache-Control` has this directive.
fn has_cache_directive(headers: &HeaderMap, directive: &str) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(directive))
}

/// Reads `Idempotency-Key`.
///
/// # Errors
///
/// [`ApiError::BadIdempotencyKey`].
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().and_then(|text| IdempotencyKey::new(text.trim()));
    key.map(Some).ok_or(ApiError::BadIdempotencyKey { max: IdempotencyKey::CHARS_MAX })
}

/// Returns how often an SDK of OpenAI's has sent this request before.
fn retry_count(headers: &HeaderMap) -> u32 {
    headers
        .get("x-stainless-retry-count")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or_default()
}
