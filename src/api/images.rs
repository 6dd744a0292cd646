//! Edits and generations: admit, submit, wait.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Version};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::answer::{self, Addresses, Answer};
use super::auth::Client;
use super::error::{ApiError, name_predictions};
use super::events::Events;
use super::kept::{Ending, Kept};
use super::layers::{Began, Noted};
use super::manner::Manner;
use super::spaces::Spaces;
use super::validate::Checked;
use super::{ApiState, DEPLOYMENT, intake, patience, predictions, rate, route_of};
use crate::admission::Permit;
use crate::engine::{JobRequest, Presence, WaitError, Waiter};
use crate::model::{ClientId, Failure, IdempotencyKey, JobResult, Task};
use crate::server::connection::ConnectionHandle;
use crate::telemetry::RequestId;

/// `POST /v1/images/edits`.
pub(super) async fn edits(arrived: Arrived, State(state): State<ApiState>, body: Body) -> Response {
    create(Task::Edit, arrived, state, body).await
}

/// `POST /v1/images/generations`.
pub(super) async fn generations(arrived: Arrived, State(state): State<ApiState>, body: Body) -> Response {
    create(Task::Generate, arrived, state, body).await
}

/// `POST /v1/images/variations`, retired at OpenAI.
pub(super) async fn variations(Client(client): Client, State(state): State<ApiState>) -> Response {
    let refusal = rate::count(&state.admission, &client).err().unwrap_or(ApiError::VariationsRetired);
    let mut response = refusal.into_response();
    rate::tell(&state.admission, &client, response.headers_mut());
    response
}

/// What is known of a request by its head alone.
pub(super) struct Arrived {
    pub(super) client: ClientId,
    pub(super) began: Instant,
    pub(super) request: RequestId,
    /// The connection it came by.
    pub(super) wire: ConnectionHandle,
    version: Version,
    pub(super) headers: HeaderMap,
    /// The model that the path names, whatever the body says.
    deployment: Option<String>,
}

impl FromRequestParts<ApiState> for Arrived {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Client(client) = Client::from_request_parts(parts, state).await?;
        let missing = || ApiError::internal("a layer is missing");
        let Began(began) = *parts.extensions.get().ok_or_else(missing)?;
        let wire = parts.extensions.get::<ConnectionHandle>().ok_or_else(missing)?.clone();
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| {
            let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
            ApiError::UnknownRoute { method, path }
        })?;
        let deployment = path.iter().find(|&(name, _)| name == DEPLOYMENT).map(|(_, value)| value.to_owned());
        let request = parts.extensions.get::<RequestId>().ok_or_else(missing)?.clone();
        let (version, headers) = (parts.version, std::mem::take(&mut parts.headers));
        Ok(Self { client, began, request, wire, version, headers, deployment })
    }
}

async fn create(task: Task, arrived: Arrived, state: ApiState, body: Body) -> Response {
    let client = arrived.client.clone();
    let mut noted = Noted { route: route_of(task), client: client.to_string(), ..Noted::default() };
    let result = fulfil(task, arrived, &state, body, &mut noted).await;
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    rate::tell(&state.admission, &client, response.headers_mut());
    response.extensions_mut().insert(noted);
    response
}

/// A request whose order is placed: under way, or answered already.
struct Placed {
    client: ClientId,
    waiter: Waiter,
    shape: answer::Shape,
    /// Parameters that will not be honoured.
    dropped: Vec<String>,
    /// When the client is answered at the latest.
    deadline: Instant,
    manner: Manner,
    addresses: Addresses,
    wire: ConnectionHandle,
    /// Its place among the requests that are read and waited with at once.
    permit: Permit,
}

/// Reads a request, checks it and places its order.
async fn place(
    task: Task,
    Arrived { client, began, wire, headers, version, deployment, .. }: Arrived,
    state: &ApiState,
    body: Body,
    noted: &mut Noted,
) -> Result<Placed, ApiError> {
    rate::count(&state.admission, &client)?;
    let permit = state.admit(&client)?;
    let spool = state.engine.spool();
    let (limits, offer) = (state.limits(task), state.offer(&client));
    let reading = intake::read(limits, &headers, deployment, body, spool, &state.server, offer);
    // In a box of its own: it is many kilobytes, and would be moved with every future around it.
    let checked = Box::pin(reading).await?;
    let Checked { request, presentation, webhook_url, dropped, ignored } = checked;
    noted.model = request.model.to_string();
    noted.ignored = ignored;

    let manner = Manner::of(&presentation, &headers, version, &state.server);
    let shape = answer::Shape::of(&request, presentation);
    let deadline = patience::deadline(&headers, &state.server, began, Instant::now(), manner.heartbeat());
    let addresses = state.addresses(&headers)?;
    let (presence, until) = match manner {
        Manner::Later(_) => (Presence::Away, Instant::now() + state.server.async_start_timeout),
        Manner::Silent | Manner::Interim(_) | Manner::Spaces(_) | Manner::Events(_) => (Presence::Connected, deadline),
    };
    let job = JobRequest {
        client: client.clone(),
        request,
        fresh: says(&headers, "no-cache") || says(&headers, "no-store"),
        private: says(&headers, "no-store"),
        is_retry: retry_count(&headers) > 0,
        key: idempotency_key(&headers)?,
        until,
        presence,
        webhook: webhook_url
            .map(|address| state.webhooks.accept(&address).map_err(ApiError::of_webhook))
            .transpose()?,
    };
    let failed = |failure: Failure| ApiError::Failed { failure, job: None };
    let waiter = state.engine.submit(job).await.map_err(failed)?;
    noted.job = waiter.job().to_string();
    noted.cache = answer::cache_word(waiter.origin());
    Ok(Placed { client, waiter, shape, dropped, deadline, manner, addresses, wire, permit })
}

/// Makes the pictures and answers with them.
///
/// The wait is bounded by the client's patience and the gateway's. When it runs out the client gets a 504 and the
/// purchase goes on: the same request, asked again, finds it.
async fn fulfil(
    task: Task,
    arrived: Arrived,
    state: &ApiState,
    body: Body,
    noted: &mut Noted,
) -> Result<Response, ApiError> {
    let (began, request) = (arrived.began, arrived.request.clone());
    // In a box: what it takes to place an order is not kept while the order is waited for.
    let mut placed = Box::pin(place(task, arrived, state, body, noted)).await?;
    let (origin, job) = (placed.waiter.origin(), placed.waiter.job());
    let dropped = std::mem::take(&mut placed.dropped);
    let watch = |manner| state.endings.watch(manner, request, job, began);
    let mut response = match placed.manner {
        Manner::Silent | Manner::Interim(_) => placed.whole(state).await?,
        Manner::Events(heartbeat) => placed.events(state, heartbeat, watch("events")).await?,
        Manner::Spaces(heartbeat) => placed.spaces(state, heartbeat, watch("spaces")).await?,
        Manner::Later(wait) => placed.later(state, wait).await?,
    };
    answer::note_origin(response.headers_mut(), origin, &dropped);
    Ok(response)
}

impl Placed {
    /// Waits for all pictures, then answers.
    async fn whole(mut self, state: &ApiState) -> Result<Response, ApiError> {
        let delivery = self.delivery().await.map_err(|error| ApiError::of_wait(&self.waiter, error))?;
        let opened = state.engine.open(&delivery.pictures).await;
        let sources = opened.map_err(|failure| ApiError::of_wait(&self.waiter, WaitError::Failed(failure)))?;
        let presenting = state.presenter.present(&delivery.pictures, sources, self.shape.conversion());
        let in_time = tokio::time::timeout_at(self.deadline, presenting).await;
        let pictures = in_time.map_err(|_| {
            ApiError::of_wait(&self.waiter, WaitError::OutOfPatience { upstream: delivery.purchases.clone() })
        })?;
        let Self { shape, waiter, wire, addresses, .. } = self;
        Ok(Answer { shape: &shape, delivery: &delivery, pictures, waiter, wire }.into_response(&addresses))
    }

    /// Waits for all pictures, with interim answers on the way where the client takes them.
    async fn delivery(&mut self) -> Result<Arc<JobResult>, WaitError> {
        let Manner::Interim(every) = self.manner else { return self.waiter.wait(self.deadline).await };
        loop {
            tokio::select! {
                biased;
                delivery = self.waiter.wait(self.deadline) => return delivery,
                () = tokio::time::sleep(every) => self.wire.processing(),
            }
        }
    }

    /// Answers with events. A failure within the first moments still gets a status of its own.
    async fn events(mut self, state: &ApiState, heartbeat: Duration, ending: Ending) -> Result<Response, ApiError> {
        let first = tokio::time::timeout(state.server.stream_grace, self.waiter.next_part(0, self.deadline)).await;
        if let Ok(Err(error)) = first {
            return Err(ending.before(ApiError::of_wait(&self.waiter, error)));
        }
        let upstream = self.waiter.upstream();
        let mut response = Events::new(self.kept(state, heartbeat, ending)).into_response();
        name_predictions(response.headers_mut(), &upstream);
        Ok(response)
    }

    /// Answers as usual when the outcome comes soon enough, and else begins with white space.
    async fn spaces(mut self, state: &ApiState, heartbeat: Duration, ending: Ending) -> Result<Response, ApiError> {
        if tokio::time::timeout(heartbeat, self.waiter.wait(self.deadline)).await.is_ok() {
            ending.before(());
            return self.whole(state).await;
        }
        let upstream = self.waiter.upstream();
        let addresses = self.addresses.clone();
        let mut response = Spaces::new(self.kept(state, heartbeat, ending), addresses).into_response();
        name_predictions(response.headers_mut(), &upstream);
        Ok(response)
    }

    /// Answers as usual when that can be done within `wait`, and else that the work has begun. What has failed by then
    /// gets a status of its own.
    async fn later(mut self, state: &ApiState, wait: Duration) -> Result<Response, ApiError> {
        let now = Instant::now();
        let wait = wait.min(self.deadline.saturating_duration_since(now));
        match self.waiter.outcome(now + wait).await {
            Some(Err(failure)) => return Err(ApiError::of_wait(&self.waiter, WaitError::Failed(failure))),
            Some(Ok(_)) if !wait.is_zero() => return self.whole(state).await,
            Some(Ok(_)) | None => {}
        }
        let Self { client, waiter, shape, addresses, wire, .. } = self;
        let shown = predictions::Shown { shape, addresses, wire };
        predictions::accepted(state, &client, &waiter, shown, wait).await
    }

    fn kept(self, state: &ApiState, heartbeat: Duration, ending: Ending) -> Kept {
        let Self { waiter, shape, deadline, wire, permit, .. } = self;
        let (engine, presenter) = (state.engine.clone(), state.presenter.clone());
        Kept { engine, presenter, waiter: Some(waiter), shape, deadline, heartbeat, wire, _permit: permit, ending }
    }
}

/// Whether `Cache-Control` has this directive.
fn says(headers: &HeaderMap, directive: &str) -> bool {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(directive))
}

/// What the client calls its intention.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().and_then(|text| IdempotencyKey::new(text.trim()));
    key.map(Some).ok_or(ApiError::BadIdempotencyKey { max: IdempotencyKey::CHARS_MAX })
}

/// How often an SDK of OpenAI's has asked before.
fn retry_count(headers: &HeaderMap) -> u32 {
    headers
        .get("x-stainless-retry-count")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or_default()
}
