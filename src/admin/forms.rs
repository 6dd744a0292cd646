//! The page of the administration and its forms, which work without a script. A form posts its fields to one address, names what it
//! wants done, and gets the page again with the outcome at its top.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use url::form_urlencoded;

use super::error::AdminError;
use super::keys::{KeyTerms, list_keys, parse_expiry, parse_grace};
use super::page::{self, AuditPage, Outcome, PageContent};
use super::state::AdminState;
use crate::config::LimitPatch;
use crate::openapi::Route;
use crate::server::listener::Peer;
use crate::storage::clients::Actor;
use crate::web::assets::{Asset, Assets, ICON, STYLE};

/// Lines of the audit on one page.
const AUDIT_LINES: usize = 30;

/// The files of the page.
static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    Assets::new(&[
        STYLE,
        ICON,
        Asset { name: "admin.css", bytes: include_bytes!("page/admin.css") },
        Asset { name: "admin.js", bytes: include_bytes!("page/admin.js") },
    ])
});

/// Returns the routes of the page; the `OpenAPI` document is compared with them.
pub(super) fn table() -> Vec<Route<AdminState>> {
    vec![
        Route::get("/admin", show),
        Route::post("/admin/login", log_in),
        Route::get("/admin/login", to_page),
        Route::post("/admin/logout", log_out),
        Route::get("/admin/logout", to_page),
        Route::post("/admin/form", submit),
        Route::get("/admin/form", to_page),
        Route::get("/admin/web/{file}", file),
    ]
}

/// Returns the routes of the page. They check access themselves: the page without a session is that of the login.
pub(super) fn router() -> Router<AdminState> {
    table()
        .iter()
        .fold(Router::new(), |router, route| route.at(route.path, router))
        .route("/admin/", get(show))
        .method_not_allowed_fallback(async || AdminError::wrong_method())
}

/// Sends a browser that loads the address of a form again to the page.
async fn to_page() -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/admin"))]).into_response()
}

/// The files are public: the page that says that the administration is off has them, too.
async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    ASSETS.response(&name, &headers).unwrap_or_else(|| AdminError::unknown_route().into_response())
}

async fn show(
    State(state): State<AdminState>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match state.gate().session(&headers) {
        Ok(Some(session)) => {
            let before = query.get("before").and_then(|before| before.parse().ok());
            whole_page(&state, &session.csrf, None, before).await
        }
        Ok(None) => page::login(StatusCode::OK, None),
        Err(off) => page::off(&off.message),
    }
}

async fn log_in(State(state): State<AdminState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 4096).await else {
        return page::login(StatusCode::PAYLOAD_TOO_LARGE, Some("The form is too large."));
    };
    let log_in =
        |fields: Fields| state.gate().log_in(&parts.headers, fields.text("token"), parts.extensions.get::<Peer>());
    match Fields::parse(&body).and_then(log_in) {
        Ok(cookie) => {
            let headers = [(LOCATION, HeaderValue::from_static("/admin")), (SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) if error.status == StatusCode::NOT_FOUND => page::off(&error.message),
        Err(error) => {
            let mut response = page::login(error.status, Some(&error.message));
            // As the API does, with the time after which another attempt is allowed.
            let mut own = error.into_response();
            for name in [axum::http::header::RETRY_AFTER, axum::http::header::WWW_AUTHENTICATE] {
                if let Some(value) = own.headers_mut().remove(&name) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    }
}

async fn log_out(State(state): State<AdminState>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let session = match state.gate().session(&headers) {
        Ok(session) => session,
        Err(off) => return page::off(&off.message),
    };
    // Without a session there is nothing to end. Its cookie stays: a browser keeps it back when another page sends it here.
    let Some(session) = session else { return to_page().await };
    let checked = body
        .map_err(|_| AdminError::too_large())
        .and_then(|body| state.gate().check_form(&headers, &session, Some(Fields::parse(&body)?.text("csrf"))));
    if let Err(error) = checked {
        return page::login(error.status, Some(&error.message));
    }
    let cookie = state.gate().log_out(&headers);
    (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/admin")), (SET_COOKIE, cookie)]).into_response()
}

async fn submit(State(state): State<AdminState>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let session = match state.gate().session(&headers) {
        Ok(Some(session)) => session,
        Ok(None) => return page::login(StatusCode::UNAUTHORIZED, Some("The session has ended. Nothing was changed.")),
        Err(off) => return page::off(&off.message),
    };
    let fields = body.map_err(|_| AdminError::too_large()).and_then(|body| Fields::parse(&body));
    let checked = fields.and_then(|fields| {
        state.gate().check_form(&headers, &session, Some(fields.text("csrf")))?;
        Ok(fields)
    });
    let outcome = match checked {
        Ok(fields) => carry_out(&state, &fields).await,
        Err(error) => Err(error),
    };
    let outcome = outcome.unwrap_or_else(|error| Outcome { status: error.status, text: error.message, key: None });
    whole_page(&state, &session.csrf, Some(outcome), None).await
}

/// Does what a form asks for.
async fn carry_out(state: &AdminState, fields: &Fields) -> Result<Outcome, AdminError> {
    let done = |text: String| Ok(Outcome { status: StatusCode::OK, text, key: None });
    let id = fields.text("id");
    match fields.text("action") {
        "create" => {
            let name = fields.text("name");
            let made = state.create(name, &fields.terms(state, false)?).await?;
            let text = format!("The key of {name} is valid now. It is shown this once; copy it.");
            Ok(Outcome { status: StatusCode::CREATED, text, key: Some(made.secret) })
        }
        "update" => done(format!("{} is changed.", state.update_shown(id, fields.terms(state, true)?).await?)),
        "rotate" => {
            let grace = parse_grace(fields.text("grace")).map_err(|problem| AdminError::invalid("grace", problem))?;
            let made = state.rotate(id, grace).await?;
            let text = format!("{} takes the place of {id}. It is shown this once; copy it.", made.id);
            Ok(Outcome { status: StatusCode::CREATED, text, key: Some(made.secret) })
        }
        "revoke" => done(format!("{} is revoked and refused from now on.", state.revoke(id).await?)),
        "resolve" => {
            let purchase = state.resolve(id, fields.text("decision")).await?;
            done(format!(
                "{purchase} is recorded as {}. The same request, sent again, may buy.",
                fields.text("decision")
            ))
        }
        "account" => {
            let (name, what) = (fields.text("name"), fields.text("what"));
            let paused = state.decide_account(name, what).await?;
            done(match what {
                "forget" => format!("What was learned of {name} is forgotten."),
                _ if paused => format!("{name} is paused: nothing is bought with it."),
                _ => format!("{name} is in use."),
            })
        }
        "reload" => match state.administration.reload(Actor::Admin).await {
            Ok(reloaded) => done(format!("The configuration was read again; {}.", reloaded.text())),
            Err(problem) => Err(AdminError::not_reloaded(&problem)),
        },
        _ => Err(AdminError::unknown_route()),
    }
}

/// Returns the page as it is now.
async fn whole_page(state: &AdminState, csrf: &str, outcome: Option<Outcome>, before: Option<i64>) -> Response {
    let content = async {
        let (stored, spent) = state.administration.list().await?;
        let configured = state.administration.configured();
        let rules = state.rules(&configured);
        let mut lines = state.administration.audit(before, AUDIT_LINES + 1).await?;
        let older = lines.len() > AUDIT_LINES;
        lines.truncate(AUDIT_LINES);
        let older = lines.last().map(|line| line.id).filter(|_| older);
        Ok::<_, AdminError>(PageContent {
            keys: list_keys(rules, &stored, &spent),
            purchases: state.administration.unknown_purchases().await?,
            accounts: state.administration.accounts(),
            audit: AuditPage { lines, older },
            models: state.catalogue.models.iter().map(|model| model.id.to_string()).collect(),
        })
    };
    let content = content.await;
    page::whole(csrf, outcome.as_ref(), content.as_ref().map_err(|error| (error.status, error.message.as_str())))
}

/// The fields of a form.
struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads a form.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when a field is there twice.
    fn parse(body: &[u8]) -> Result<Self, AdminError> {
        let mut fields = HashMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(AdminError::bad_body(format!("the field {name} is there twice")));
            }
        }
        Ok(Self(fields))
    }

    /// Returns a field, empty where it is absent.
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.trim())
    }

    /// Returns the terms of a key. An empty field is absent in a form that makes a key, and returns to the default in one that
    /// shows what was.
    fn terms(&self, state: &AdminState, of_existing: bool) -> Result<KeyTerms, AdminError> {
        let absent = if of_existing { Some(None) } else { None };
        let count = |name: &'static str| self.limit(name).map(|limit: Option<u32>| limit.map(Some).or(absent));
        let money =
            |name: &'static str| self.limit(name).map(|limit: Option<f64>| limit.map(Some).or(absent.map(|_| None)));
        let limits = LimitPatch {
            requests_per_minute: count("requests_per_minute")?,
            requests_at_once: count("requests_at_once")?,
            predictions_at_once: count("predictions_at_once")?,
            pictures_per_day: count("pictures_per_day")?,
            usd_per_day: money("usd_per_day")?,
            usd_per_month: money("usd_per_month")?,
        };
        let weight = match self.text("weight") {
            "" => absent.map(|_| None),
            text => Some(Some(text.parse().map_err(|_| AdminError::invalid("weight", "must be a number"))?)),
        };
        let models: Vec<String> =
            self.text("models").split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let models = if models.is_empty() { absent.map(|_| None) } else { Some(Some(models)) };
        let expires = match self.text("expires") {
            "" => absent.map(|_| None),
            text => {
                let expires = parse_expiry(text, state.clock.now());
                Some(Some(expires.map_err(|problem| AdminError::invalid("expires", problem))?))
            }
        };
        Ok(KeyTerms { limits, weight, models, expires })
    }

    fn limit<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, AdminError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| AdminError::invalid(name, "must be a number; 0 is no limit")),
        }
    }
}
