//! The API and the page of the administration, on the operator listener.
//!
//! | route                                        | what                                                    |
//! |----------------------------------------------|---------------------------------------------------------|
//! | `GET`, `POST /admin/keys`                    | list; create, with the key in the answer                |
//! | `PATCH`, `DELETE /admin/keys/{id}`           | change limits, weight, models, expiry; revoke           |
//! | `POST /admin/keys/{id}/rotate`               | another key beside this one, for a time of grace        |
//! | `GET /admin/purchases`                       | purchases of unknown outcome                            |
//! | `POST /admin/purchases/{id}/resolve`         | lost, bought or resubmit                                |
//! | `GET /admin/accounts`                        | list                                                    |
//! | `POST /admin/accounts/{name}/{action}`       | pause, resume, forget                                   |
//! | `POST /admin/reload`                         | read the configuration again                            |
//! | `GET /admin/audit`                           | what was changed, the newest first                      |
//! | `GET /admin`, `POST /admin/login`, `/logout`, `/form` | the page (`page.rs`), and its forms (`forms.rs`) |

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::error::AdminError;
use super::keys::{KeyTerms, list_keys, parse_expiry, parse_grace};
use super::state::AdminState;
use crate::config::LimitPatch;
use crate::model::{AccountId, Timestamp};
use crate::openapi::Route;
use crate::storage::clients::{Actor, AuditLine};

/// The time of grace of a rotation that names none.
const GRACE: Duration = Duration::from_hours(1);
/// Lines of the audit in an answer that names no limit, and the most.
const AUDIT_LINES: usize = 100;
const AUDIT_LINES_MAX: usize = 1000;

/// Returns the routes of the API; the `OpenAPI` document is compared with them.
pub(super) fn table() -> Vec<Route<AdminState>> {
    vec![
        Route::get("/admin/keys", list),
        Route::post("/admin/keys", create),
        Route::patch("/admin/keys/{id}", update),
        Route::delete("/admin/keys/{id}", revoke),
        Route::post("/admin/keys/{id}/rotate", rotate),
        Route::get("/admin/purchases", purchases),
        Route::post("/admin/purchases/{id}/resolve", resolve),
        Route::get("/admin/accounts", accounts),
        Route::post("/admin/accounts/{name}/{action}", account),
        Route::post("/admin/reload", reload),
        Route::get("/admin/audit", audit),
    ]
}

/// Returns the routes of the API.
pub(super) fn router(state: &AdminState) -> Router<AdminState> {
    table()
        .iter()
        .fold(Router::new(), |router, route| route.at(route.path, router))
        .route("/admin/{*path}", axum::routing::any(async || AdminError::unknown_route()))
        .method_not_allowed_fallback(async || AdminError::wrong_method())
        .layer(middleware::from_fn_with_state(state.clone(), require_access))
}

async fn require_access(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match state.gate.check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    }
}

type Answer = Result<Response, AdminError>;
type Body = Result<Bytes, BytesRejection>;

/// What is sent of a key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
struct KeyBody {
    name: Option<String>,
    limits: LimitPatch,
    weight: Option<f64>,
    #[serde(deserialize_with = "named")]
    models: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "named")]
    expires: Option<Option<Expiry>>,
}

/// A time to come: seconds since the Unix epoch, or a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expiry {
    Seconds(i64),
    Text(String),
}

/// Reads a value that is there: `null` is a value, too.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl KeyBody {
    fn terms(self, now: Timestamp) -> Result<KeyTerms, AdminError> {
        let expiry = |expiry| match expiry {
            Expiry::Seconds(seconds) => Ok(Timestamp::from_millis(seconds.saturating_mul(1000))),
            Expiry::Text(text) => parse_expiry(&text, now).map_err(|problem| AdminError::invalid("expires", problem)),
        };
        let expires = self.expires.map(|expires| expires.map(expiry).transpose()).transpose()?;
        Ok(KeyTerms { limits: self.limits, weight: self.weight, models: self.models, expires })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RotateBody {
    grace: Option<Grace>,
}

/// A time of grace: seconds, or a text such as `1h`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Grace {
    Seconds(u32),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    decision: String,
}

#[derive(Debug, Deserialize)]
struct AuditQuery {
    limit: Option<usize>,
    before: Option<i64>,
}

/// Reads a body of JSON. An empty one is an empty object.
fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, AdminError> {
    let body = body.map_err(|_| AdminError::too_large())?;
    let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json"));
    if !is_json && body != "{}" {
        return Err(AdminError::not_json());
    }
    serde_json::from_slice(&body).map_err(AdminError::bad_body)
}

async fn list(State(state): State<AdminState>) -> Answer {
    let (stored, spent) = state.administration.list().await?;
    let configured = state.administration.configured();
    let rules = state.rules(&configured);
    Ok(Json(json!({ "object": "list", "data": list_keys(rules, &stored, &spent) })).into_response())
}

async fn create(State(state): State<AdminState>, headers: HeaderMap, body: Body) -> Answer {
    let body: KeyBody = read(&headers, body)?;
    let name = body.name.clone().ok_or_else(|| AdminError::invalid("name", "is missing"))?;
    let terms = body.terms(state.clock.now())?;
    let (id, secret) = state.create(&name, &terms).await?;
    Ok((StatusCode::CREATED, Json(state.view(&id, Some(&secret)).await?)).into_response())
}

async fn update(State(state): State<AdminState>, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let body: KeyBody = read(&headers, body)?;
    if body.name.is_some() {
        return Err(AdminError::invalid("name", "cannot be changed; create another key and revoke this one"));
    }
    let terms = body.terms(state.clock.now())?;
    let id = state.update(&id, &terms).await?;
    Ok(Json(state.view(&id, None).await?).into_response())
}

async fn revoke(State(state): State<AdminState>, Path(id): Path<String>) -> Answer {
    let id = state.revoke(&id).await?;
    Ok(Json(state.view(&id, None).await?).into_response())
}

async fn rotate(State(state): State<AdminState>, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let body: RotateBody = read(&headers, body)?;
    let grace = match body.grace {
        None => GRACE,
        Some(Grace::Seconds(seconds)) => Duration::from_secs(seconds.into()),
        Some(Grace::Text(text)) => parse_grace(&text).map_err(|problem| AdminError::invalid("grace", problem))?,
    };
    let (id, secret) = state.rotate(&id, grace).await?;
    Ok((StatusCode::CREATED, Json(state.view(&id, Some(&secret)).await?)).into_response())
}

async fn purchases(State(state): State<AdminState>) -> Answer {
    let data: Vec<Value> = state.administration.unknown_purchases().await?.into_iter().map(|it| json!(it)).collect();
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

async fn resolve(State(state): State<AdminState>, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let body: ResolveBody = read(&headers, body)?;
    let purchase = state.resolve(&id, &body.decision).await?;
    let decision = body.decision;
    let object = "purchase.resolved";
    Ok(Json(json!({ "id": purchase.to_string(), "object": object, "decision": decision })).into_response())
}

async fn accounts(State(state): State<AdminState>) -> Answer {
    let account =
        |(name, paused): (AccountId, bool)| json!({ "object": "account", "name": name.to_string(), "paused": paused });
    let data: Vec<Value> = state.administration.accounts().into_iter().map(account).collect();
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

async fn account(State(state): State<AdminState>, Path((name, action)): Path<(String, String)>) -> Answer {
    let paused = state.decide_account(&name, &action).await?;
    Ok(Json(json!({ "object": "account", "name": name, "paused": paused })).into_response())
}

async fn reload(State(state): State<AdminState>) -> Answer {
    let reloaded = state.administration.reload(Actor::Admin).await;
    let reloaded = reloaded.map_err(|problem| AdminError::not_reloaded(&problem))?;
    let (changed, needs_restart) = (reloaded.changed, reloaded.needs_restart);
    let body = json!({ "object": "configuration.reloaded", "changed": changed, "needs_restart": needs_restart });
    Ok(Json(body).into_response())
}

async fn audit(State(state): State<AdminState>, query: Result<Query<AuditQuery>, QueryRejection>) -> Answer {
    let Query(query) = query.map_err(|_| AdminError::invalid("limit", "it and 'before' must be whole numbers"))?;
    let limit = query.limit.unwrap_or(AUDIT_LINES).clamp(1, AUDIT_LINES_MAX);
    // One more says whether there are more.
    let mut lines = state.administration.audit(query.before, limit + 1).await?;
    let has_more = lines.len() > limit;
    lines.truncate(limit);
    let last_id = lines.last().map(|line| line.id);
    let line = |AuditLine { id, at, actor, action, subject, change }: AuditLine| {
        json!({
            "id": id, "object": "audit_line", "created": at.seconds(), "actor": actor, "action": action,
            "subject": subject, "change": change,
        })
    };
    let data: Vec<Value> = lines.into_iter().map(line).collect();
    Ok(Json(json!({ "object": "list", "data": data, "last_id": last_id, "has_more": has_more })).into_response())
}
