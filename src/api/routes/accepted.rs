//! What edits, generations and chat completions have in common: parses a request, submits its job, and waits for the result.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::predictions::{self, PredictionResponse, failed_response};
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
use crate::engine::{AnswerSource, JobForecast, JobRequest, WaitError, WaitMode, Waiter};
use crate::http::gateway_headers::{add_cost, add_expected, name_job, qualify_result};
use crate::model::{ClientId, Cost, Failure, IdempotencyKey, JobId, JobResult, Task, UpstreamId};
use crate::server::connection::ConnectionHandle;
use crate::telemetry::RequestId;

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
///
/// Not an `async fn`, because what that is given is held until it ends. A client waits for minutes, and what it takes to accept
/// its request has many kilobytes: they are in a box of their own, which is gone before the wait.
pub(super) fn create(
    endpoint: Endpoint,
    context: RequestContext,
    state: Arc<ApiState>,
    body: Body,
) -> impl Future<Output = Response> + Send {
    let client = context.client.clone();
    let accepting = Box::pin(accept(endpoint, context, Arc::clone(&state), body));
    async move {
        let (accepted, log) = accepting.await;
        let mut response = match accepted {
            Ok(accepted) => {
                let (job, source) = (accepted.waiter.job(), accepted.waiter.origin());
                let credential = accepted.permit.credential();
                let result = tokio::select! {
                    biased;
                    // What is bought finishes and is stored; the holder of this key does not get it.
                    () = credential.ended() => Err(ApiError::WrongKey),
                    response = accepted.respond(&state, &client) => response,
                };
                match result {
                    Ok(response) => response,
                    Err(error) => Box::pin(failed_response(&state, &client, job, source, error)).await,
                }
            }
            // Nothing is bought without a job.
            Err(error) => {
                let mut response = error.into_response();
                add_cost(response.headers_mut(), Cost::default());
                response
            }
        };
        rate::add_headers(&state.admission, &client, response.headers_mut());
        response.extensions_mut().insert(*log);
        response
    }
}

/// Answers a request that asks for what is not offered. It counts like any other.
pub(super) fn refuse(state: &ApiState, client: &ClientId, refusal: ApiError) -> Response {
    let refusal = rate::count(&state.admission, client).err().unwrap_or(refusal);
    let mut response = refusal.into_response();
    rate::add_headers(&state.admission, client, response.headers_mut());
    response
}

/// A request whose job is under way, or has its result already. It is what a waiting client is held with, so it is moved in a
/// box.
struct AcceptedRequest {
    request: RequestId,
    started: Instant,
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

/// What is known of a job when a response begins that may come before its pictures.
#[derive(Debug)]
struct EarlyHead {
    job: JobId,
    purchases: Vec<UpstreamId>,
    /// An estimate, unless the job has ended or was bought before.
    cost: Option<Cost>,
    expected: Option<Duration>,
    /// The result of a job that has ended.
    ended: Option<Arc<JobResult>>,
}

impl EarlyHead {
    fn add_to(&self, headers: &mut HeaderMap) {
        name_job(headers, self.job, &self.purchases);
        if let Some(result) = &self.ended {
            qualify_result(headers, result);
        }
        if let Some(cost) = self.cost {
            add_cost(headers, cost);
        }
        if let Some(expected) = self.expected {
            add_expected(headers, expected);
        }
    }
}

/// Parses a request and submits its job. The fields of its log line are as far as it came.
async fn accept(
    endpoint: Endpoint,
    context: RequestContext,
    state: Arc<ApiState>,
    body: Body,
) -> (Result<Box<AcceptedRequest>, ApiError>, Box<LogFields>) {
    let (route, client) = (Some(endpoint.route_name()), Some(context.client.clone()));
    let mut log = Box::new(LogFields { route, client, ..LogFields::default() });
    (submit(endpoint, context, &state, body, &mut log).await, log)
}

async fn submit(
    endpoint: Endpoint,
    context: RequestContext,
    state: &ApiState,
    body: Body,
    log: &mut LogFields,
) -> Result<Box<AcceptedRequest>, ApiError> {
    let RequestContext { client, credential, started, request: request_id, connection, headers, version, deployment } =
        context;
    rate::count(&state.admission, &client)?;
    let permit = state.admit(&client, credential)?;
    let models = state.available_models(&client);
    let services = state.parse_services(&models);
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
    // The body may have taken minutes.
    if !permit.is_valid() {
        return Err(ApiError::WrongKey);
    }
    let job_request = JobRequest {
        client,
        credential: Some(permit.credential()),
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
    let accepted = AcceptedRequest {
        request: request_id,
        started,
        waiter,
        shape,
        fields,
        deadline,
        mode,
        urls,
        connection,
        permit,
    };
    Ok(Box::new(accepted))
}

impl AcceptedRequest {
    /// Responds with the pictures.
    ///
    /// The wait is bounded by the response deadline. When it passes, the client gets a 504 and the purchase goes on: the same
    /// request, sent again, finds it.
    async fn respond(mut self: Box<Self>, state: &ApiState, client: &ClientId) -> Result<Response, ApiError> {
        let source = self.waiter.origin();
        let fields = std::mem::take(&mut self.fields);
        // Boxed, all but the wait: most clients wait for the whole result, and would be held with the largest of these.
        let mut response = match self.mode {
            ResponseMode::Plain | ResponseMode::Interim(_) => {
                let result = self.result().await;
                Box::pin(self.whole(state, result)).await?
            }
            ResponseMode::Events(heartbeat) => Box::pin(self.events(state, heartbeat)).await?,
            ResponseMode::PaddedJson(heartbeat) => Box::pin(self.padded_json(state, heartbeat)).await?,
            ResponseMode::Async(wait) => Box::pin(self.accepted_later(state, client, wait)).await?,
        };
        add_cache_headers(response.headers_mut(), source, &fields);
        Ok(response)
    }

    /// Sends all pictures, once they have been waited for.
    async fn whole(
        self: Box<Self>,
        state: &ApiState,
        result: Result<Arc<JobResult>, WaitError>,
    ) -> Result<Response, ApiError> {
        let result = result.map_err(|error| ApiError::of_wait(&self.waiter, error))?;
        let opened = state.engine.open(&result.pictures).await;
        let sources = opened.map_err(|failure| ApiError::of_wait(&self.waiter, WaitError::Failed(failure)))?;
        let preparing = state.converter.prepare_all(&result.pictures, sources, self.shape.conversion());
        let in_time = tokio::time::timeout_at(self.deadline, preparing).await;
        let pictures = in_time.map_err(|_| {
            ApiError::of_wait(&self.waiter, WaitError::DeadlinePassed { upstream: result.purchases.clone() })
        })?;
        let body = self.shape.object(&result, pictures, &self.urls);
        let cost = self.cost(state, Some(&result));
        let mut response = deliver(body, &result, self.waiter, self.connection);
        if let Some(cost) = cost {
            add_cost(response.headers_mut(), cost);
        }
        Ok(response)
    }

    /// Returns what the answer costs: nothing where it was bought for another request, and the estimate where the result is
    /// not there yet.
    fn cost(&self, state: &ApiState, result: Option<&JobResult>) -> Option<Cost> {
        match self.waiter.origin() {
            AnswerSource::Hit(_) | AnswerSource::Joined => Some(Cost::default()),
            AnswerSource::Bought | AnswerSource::Bypass => match result {
                Some(result) => state.catalogue().cost_of(result),
                None => JobForecast::of(&self.waiter).cost,
            },
        }
    }

    /// Returns what is known of a job before the head of a response that is sent before its pictures.
    async fn foresee(&mut self, state: &ApiState) -> EarlyHead {
        let ended = self.waiter.outcome(Instant::now()).await.and_then(Result::ok);
        EarlyHead {
            job: self.waiter.job(),
            purchases: self.waiter.upstream(),
            cost: self.cost(state, ended.as_deref()),
            expected: JobForecast::of(&self.waiter).left,
            ended,
        }
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
    async fn events(mut self: Box<Self>, state: &ApiState, heartbeat: Duration) -> Result<Response, ApiError> {
        let outcome = self.track(state, "events");
        let first =
            tokio::time::timeout(state.server.heartbeats.stream_grace, self.waiter.next_result(0, self.deadline)).await;
        if let Ok(Err(error)) = first {
            outcome.discard();
            return Err(ApiError::of_wait(&self.waiter, error));
        }
        let head = self.foresee(state).await;
        let urls = self.urls.clone();
        let entry = outcome.entry();
        let streaming = self.into_streaming(state, heartbeat, outcome);
        let events = match streaming.shape.completion() {
            Some(_) => Events::of_completion(streaming, urls),
            None => Events::new(streaming),
        };
        let mut response = events.into_response();
        response.extensions_mut().insert(entry);
        head.add_to(response.headers_mut());
        Ok(response)
    }

    /// Responds as in plain mode when the result comes within one heartbeat, and begins with white space otherwise.
    async fn padded_json(mut self: Box<Self>, state: &ApiState, heartbeat: Duration) -> Result<Response, ApiError> {
        let outcome = self.track(state, "padded_json");
        if let Ok(result) = tokio::time::timeout(heartbeat, self.waiter.wait(self.deadline)).await {
            outcome.discard();
            return self.whole(state, result).await;
        }
        let head = self.foresee(state).await;
        let urls = self.urls.clone();
        let entry = outcome.entry();
        let streaming = self.into_streaming(state, heartbeat, outcome);
        let mut response = PaddedJson::new(streaming, urls).into_response();
        response.extensions_mut().insert(entry);
        head.add_to(response.headers_mut());
        Ok(response)
    }

    /// Responds as in plain mode when the result comes within `wait`, and with a 202 otherwise. A failure within `wait` gets
    /// a status of its own.
    async fn accepted_later(
        mut self: Box<Self>,
        state: &ApiState,
        client: &ClientId,
        wait: Duration,
    ) -> Result<Response, ApiError> {
        let now = Instant::now();
        let wait = wait.min(self.deadline.saturating_duration_since(now));
        match self.waiter.outcome(now + wait).await {
            Some(Err(failure)) => return Err(ApiError::of_wait(&self.waiter, WaitError::Failed(failure))),
            Some(Ok(result)) if !wait.is_zero() => return self.whole(state, Ok(result)).await,
            Some(Ok(_)) | None => {}
        }
        let cost = self.foresee(state).await.cost;
        let Self { waiter, shape, urls, connection, .. } = *self;
        let response = PredictionResponse { shape, urls, connection };
        let mut response = predictions::accepted(state, client, &waiter, response, wait).await?;
        if let Some(cost) = cost {
            add_cost(response.headers_mut(), cost);
        }
        Ok(response)
    }

    fn track(&self, state: &ApiState, mode: &'static str) -> ResponseOutcome {
        state.outcomes.track(mode, self.request, self.waiter.job(), self.started)
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
            permit,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of what a function returns.
    fn returned<A, B, C, D, R>(_: fn(A, B, C, D) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_waiting_request_holds_little() {
        let (waiting, accepting, accepted) = (returned(create), returned(accept), size_of::<AcceptedRequest>());
        println!("{waiting} bytes wait, {accepting} accept, {accepted} are accepted");
        assert!(waiting <= 1700, "while it waits: {waiting} bytes");
        assert!(accepted <= 600, "what it waits with: {accepted} bytes");
    }
}
