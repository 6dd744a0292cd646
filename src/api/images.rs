//! Edits and generations: admit, submit, wait.

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use url::Url;

use super::answer::{self, Answer};
use super::auth::Client;
use super::error::ApiError;
use super::layers::{Began, Noted};
use super::validate::Checked;
use super::{ApiState, DEPLOYMENT, intake, patience, rate, route_of};
use crate::admission::{Permit, Rejection};
use crate::engine::{Order, Ticket, WaitError};
use crate::lifecycle::wire::Wire;
use crate::model::{ClientId, Failure, IdempotencyKey, Task};

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
    client: ClientId,
    began: Instant,
    /// The connection it came by.
    wire: Wire,
    headers: HeaderMap,
    /// The model that the path names, whatever the body says.
    deployment: Option<String>,
}

impl FromRequestParts<ApiState> for Arrived {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Client(client) = Client::from_request_parts(parts, state).await?;
        let missing = || ApiError::internal("a layer is missing");
        let Began(began) = *parts.extensions.get().ok_or_else(missing)?;
        let wire = parts.extensions.get::<Wire>().ok_or_else(missing)?.clone();
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| {
            let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
            ApiError::UnknownRoute { method, path }
        })?;
        let deployment = path.iter().find(|&(name, _)| name == DEPLOYMENT).map(|(_, value)| value.to_owned());
        Ok(Self { client, began, wire, headers: std::mem::take(&mut parts.headers), deployment })
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
    ticket: Ticket,
    shape: answer::Shape,
    /// Parameters that will not be honoured.
    dropped: Vec<String>,
    /// When the client is answered at the latest.
    deadline: Instant,
    /// What the addresses of results begin with.
    base: Url,
    wire: Wire,
    /// Its place among the requests that are read and waited with at once.
    permit: Permit,
}

/// Reads a request, checks it and places its order.
async fn place(
    task: Task,
    Arrived { client, began, wire, headers, deployment }: Arrived,
    state: &ApiState,
    body: Body,
    noted: &mut Noted,
) -> Result<Placed, ApiError> {
    rate::count(&state.admission, &client)?;
    let permit = state
        .admission
        .admit()
        .map_err(|Rejection::Crowded { retry_after }| ApiError::TooManyWaiting { retry_after })?;
    let spool = state.engine.spool();
    let checked = intake::read(task, &headers, deployment, body, spool, &state.server, state.offer(&client)).await?;
    let Checked { request, presentation, dropped, ignored } = checked;
    noted.model.clone_from(&request.model);
    noted.ignored = ignored;

    let shape = answer::Shape::of(&request, presentation);
    let deadline = patience::deadline(&headers, &state.server, began, Instant::now());
    let base = state.base_url(&headers)?;
    let order = Order {
        client,
        request,
        fresh: says(&headers, "no-cache") || says(&headers, "no-store"),
        private: says(&headers, "no-store"),
        is_retry: retry_count(&headers) > 0,
        key: idempotency_key(&headers)?,
        until: deadline,
    };
    let failed = |failure: Failure| ApiError::Failed { failure, order: None };
    let ticket = state.engine.submit(order).await.map_err(failed)?;
    noted.order = ticket.order().to_string();
    noted.cache = answer::cache_word(ticket.origin());
    Ok(Placed { ticket, shape, dropped, deadline, base, wire, permit })
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
    let placed = place(task, arrived, state, body, noted).await?;
    let Placed { mut ticket, shape, dropped, deadline, base, wire, permit: _permit } = placed;
    let waited = ticket.wait(deadline.saturating_duration_since(Instant::now())).await;
    let delivery = waited.map_err(|error| not_delivered(&ticket, error))?;
    let sources = state
        .engine
        .open(&delivery)
        .await
        .map_err(|failure| ApiError::Failed { failure, order: Some(ticket.order()) })?;
    let presenting = state.presenter.present(&delivery.pictures, sources, shape.conversion());
    let pictures = tokio::time::timeout_at(deadline, presenting).await.map_err(|_| ApiError::PatienceExhausted {
        order: ticket.order(),
        predictions: delivery.predictions.clone(),
    })?;
    let answer = Answer { shape, delivery: &delivery, pictures, dropped, ticket, wire };
    Ok(answer.into_response(&state.signer, &base, state.clock.now(), state.server.result_url_ttl))
}

fn not_delivered(ticket: &Ticket, error: WaitError) -> ApiError {
    let order = ticket.order();
    match error {
        WaitError::Failed(failure) => ApiError::Failed { failure, order: Some(order) },
        WaitError::OutOfPatience { upstream } => ApiError::PatienceExhausted { order, predictions: upstream },
        WaitError::Closing { upstream } => ApiError::Restarting { order, predictions: upstream },
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
