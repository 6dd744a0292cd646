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

use std::fmt;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use url::form_urlencoded;

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
    match state.gate().check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    }
}

type Answer = Result<Response, AdminError>;
type Body = Result<Bytes, BytesRejection>;

/// The members of a body, or of an object in it.
#[derive(Debug, Default)]
struct Members(serde_json::Map<String, Value>);

/// A member. An object is [`Members`], unless it has one twice.
#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Object(Members),
    Other(Value),
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = serde_json::Map::new();
                while let Some((name, value)) = map.next_entry::<String, Member>()? {
                    let twice = |name: &str| Err(A::Error::custom(format!("{name} has, or is, a member twice")));
                    let value = match value {
                        Member::Object(Members(members)) => Value::Object(members),
                        Member::Other(Value::Object(_)) => return twice(&name),
                        Member::Other(value) => value,
                    };
                    if members.contains_key(&name) {
                        return twice(&name);
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

impl Members {
    /// Reads a body of JSON. An empty one is an empty object.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when it is no object.
    fn read(headers: &HeaderMap, body: Body) -> Result<Self, AdminError> {
        let body = body.map_err(|_| AdminError::too_large())?;
        let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
        let is_json = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        if !is_json && body != "{}" {
            return Err(AdminError::not_json());
        }
        serde_json::from_slice(&body).map_err(AdminError::bad_body)
    }

    /// Takes a member; `Some(None)` where it is null.
    ///
    /// # Errors
    ///
    /// [`AdminError`] that names it and what is allowed.
    #[expect(clippy::option_option, reason = "absent, null and a value are three things")]
    fn take<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        allowed: &str,
    ) -> Result<Option<Option<T>>, AdminError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let read = serde_json::from_value(value).map(Some);
        read.map_err(|_| AdminError::invalid(name, format!("must be {allowed}")))
    }

    /// Takes a member that may not be null.
    ///
    /// # Errors
    ///
    /// As [`Members::take`].
    fn take_value<T: DeserializeOwned>(&mut self, name: &'static str, allowed: &str) -> Result<Option<T>, AdminError> {
        let taken = self.take(name, allowed)?;
        taken.map(|value| value.ok_or_else(|| AdminError::invalid(name, format!("must be {allowed}")))).transpose()
    }

    /// Fails when a member is left.
    ///
    /// # Errors
    ///
    /// [`AdminError`] that names it, and those that there are.
    fn end(self, known: &str) -> Result<(), AdminError> {
        match self.0.keys().next() {
            Some(name) => Err(AdminError::bad_body(format!("unknown member {name:?}; there are: {known}"))),
            None => Ok(()),
        }
    }

    /// Takes the terms of a key, and fails when another member is left.
    ///
    /// # Errors
    ///
    /// [`AdminError`] that names the member.
    fn terms(mut self, now: Timestamp) -> Result<KeyTerms, AdminError> {
        let expiry = |expiry| match expiry {
            Expiry::Seconds(seconds) => Ok(Timestamp::from_millis(seconds.saturating_mul(1000))),
            Expiry::Text(text) => parse_expiry(&text, now).map_err(|problem| AdminError::invalid("expires", problem)),
        };
        let limits: Option<Members> = self.take_value("limits", "an object of limits")?;
        let expires =
            self.take("expires", "a time in seconds since the Unix epoch, a text such as \"30d\", or null")?;
        let terms = KeyTerms {
            limits: limits.map(Members::limits).transpose()?.unwrap_or_default(),
            weight: self.take("weight", "a number from 0.001 to 1000, or null for the default")?,
            models: self.take("models", "a list of models, or null for all")?,
            expires: expires.map(|expires: Option<Expiry>| expires.map(expiry).transpose()).transpose()?,
        };
        self.end("name, limits, weight, models, expires")?;
        Ok(terms)
    }

    /// Returns limits.
    ///
    /// # Errors
    ///
    /// [`AdminError`] that names the limit.
    fn limits(self) -> Result<LimitPatch, AdminError> {
        for (name, value) in &self.0 {
            let one = serde_json::from_value::<LimitPatch>(json!({ name: value }));
            one.map_err(|_| {
                let allowed = match name.as_str() {
                    "usd_per_day" | "usd_per_month" => "must be a number from 0 to 1000000000, or null",
                    "requests_per_minute" | "requests_at_once" | "predictions_at_once" | "pictures_per_day" => {
                        "must be a whole number from 0 to 1000000, or null"
                    }
                    _ => {
                        "is no limit; there are: requests_per_minute, requests_at_once, predictions_at_once, pictures_per_day, \
                         usd_per_day, usd_per_month"
                    }
                };
                AdminError::invalid(format!("limits.{name}"), allowed)
            })?;
        }
        serde_json::from_value(Value::Object(self.0)).map_err(AdminError::bad_body)
    }
}

/// A time to come: seconds since the Unix epoch, or a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expiry {
    Seconds(i64),
    Text(String),
}

/// A time of grace: seconds, or a text such as `1h`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Grace {
    Seconds(u32),
    Text(String),
}

type Id = Result<Path<String>, PathRejection>;

/// Returns the id in a path. One that is not UTF-8 names nothing.
fn id_of(id: Id) -> Result<String, AdminError> {
    id.map(|Path(id)| id).map_err(|_| AdminError::unknown_route())
}

async fn list(State(state): State<AdminState>) -> Answer {
    let (stored, spent) = state.administration.list().await?;
    let configured = state.administration.configured();
    let rules = state.rules(&configured);
    Ok(Json(json!({ "object": "list", "data": list_keys(rules, &stored, &spent) })).into_response())
}

async fn create(State(state): State<AdminState>, headers: HeaderMap, body: Body) -> Answer {
    let mut body = Members::read(&headers, body)?;
    let name: Option<String> = body.take_value("name", "a text")?;
    let name = name.ok_or_else(|| AdminError::invalid("name", "is missing"))?;
    let made = state.create(&name, &body.terms(state.clock.now())?).await?;
    Ok((StatusCode::CREATED, Json(state.view_made(&made).await)).into_response())
}

async fn update(State(state): State<AdminState>, id: Id, headers: HeaderMap, body: Body) -> Answer {
    let body = Members::read(&headers, body)?;
    if body.0.contains_key("name") {
        return Err(AdminError::invalid("name", "cannot be changed; create another key and revoke this one"));
    }
    let id = state.update(&id_of(id)?, &body.terms(state.clock.now())?).await?;
    Ok(Json(state.view(&id).await?).into_response())
}

async fn revoke(State(state): State<AdminState>, id: Id) -> Answer {
    let id = state.revoke(&id_of(id)?).await?;
    Ok(Json(state.view(&id).await?).into_response())
}

async fn rotate(State(state): State<AdminState>, id: Id, headers: HeaderMap, body: Body) -> Answer {
    let mut body = Members::read(&headers, body)?;
    let grace = body.take("grace", "seconds from 0 to 31536000, a text such as \"1h\", or null for 1 hour")?;
    body.end("grace")?;
    let grace = match grace.flatten() {
        None => GRACE,
        Some(Grace::Seconds(seconds)) => Duration::from_secs(seconds.into()),
        Some(Grace::Text(text)) => parse_grace(&text).map_err(|problem| AdminError::invalid("grace", problem))?,
    };
    let made = state.rotate(&id_of(id)?, grace).await?;
    Ok((StatusCode::CREATED, Json(state.view_made(&made).await)).into_response())
}

async fn purchases(State(state): State<AdminState>) -> Answer {
    let data: Vec<Value> = state.administration.unknown_purchases().await?.into_iter().map(|it| json!(it)).collect();
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

async fn resolve(State(state): State<AdminState>, id: Id, headers: HeaderMap, body: Body) -> Answer {
    let mut body = Members::read(&headers, body)?;
    let allowed = "lost, bought or resubmit";
    let decision: Option<String> = body.take_value("decision", allowed)?;
    body.end("decision")?;
    let decision = decision.ok_or_else(|| AdminError::invalid("decision", format!("must be {allowed}")))?;
    let purchase = state.resolve(&id_of(id)?, &decision).await?;
    let object = "purchase.resolved";
    Ok(Json(json!({ "id": purchase.to_string(), "object": object, "decision": decision })).into_response())
}

async fn accounts(State(state): State<AdminState>) -> Answer {
    let account =
        |(name, paused): (AccountId, bool)| json!({ "object": "account", "name": name.to_string(), "paused": paused });
    let data: Vec<Value> = state.administration.accounts().into_iter().map(account).collect();
    Ok(Json(json!({ "object": "list", "data": data })).into_response())
}

async fn account(State(state): State<AdminState>, path: Result<Path<(String, String)>, PathRejection>) -> Answer {
    let Path((name, action)) = path.map_err(|_| AdminError::unknown_route())?;
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

async fn audit(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Answer {
    let (mut limit, mut before) = (AUDIT_LINES, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "limit" => {
                let read = value.parse().ok().filter(|limit| (1..=AUDIT_LINES_MAX).contains(limit));
                let problem = format!("must be a whole number from 1 to {AUDIT_LINES_MAX}");
                limit = read.ok_or_else(|| AdminError::invalid("limit", problem))?;
            }
            "before" => {
                let read = value.parse().ok();
                before = Some(read.ok_or_else(|| AdminError::invalid("before", "must be the id of a line"))?);
            }
            _ => return Err(AdminError::invalid(name.into_owned(), "is no parameter; there are: limit, before")),
        }
    }
    // One more says whether there are more.
    let mut lines = state.administration.audit(before, limit + 1).await?;
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
