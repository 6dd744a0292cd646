//! `GET /files/{id}/{index}.png`: downloads a picture, without a key unless the scenario demands one.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::simulator::faults::{cut_at, in_pieces};
use crate::simulator::rules::errors::{page, status};
use crate::simulator::rules::values::Api;
use crate::simulator::scenario::{ContentType, Cut, FaultTarget, Format, NeedsKey, Scenario};
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;

const PIECE_BYTES: usize = 16 * 1024;

/// `GET /files/{id}/{index}.png`
pub(crate) async fn download(
    State(simulator): State<Simulator>,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (injected, scenario) = simulator.with(|world, _| {
        world.counters.downloads += 1;
        (world.next_fault(FaultTarget::Download), Arc::clone(&world.scenario))
    });
    let response = if let Some(answer) = injected.before_effect(Api::Prediction, &scenario) {
        answer
    } else {
        let response = serve(&simulator, &scenario, &id, &name, &request.into_parts().0).await;
        injected.after_effect(response, Api::Prediction, &scenario).await
    };
    if !response.status().is_success() && !response.status().is_redirection() {
        simulator.with(|world, _| world.counters.downloads_failed += 1);
    }
    response
}

async fn serve(simulator: &Simulator, scenario: &Arc<Scenario>, id: &str, name: &str, head: &Parts) -> Response {
    let uri = &head.uri;
    let index: Option<usize> = name.split_once('.').and_then(|(index, _)| index.parse().ok());
    let hop: u32 =
        uri.query().and_then(|query| query.strip_prefix("hop=")).and_then(|hop| hop.parse().ok()).unwrap_or(0);
    let model = |prediction: &mut Prediction| prediction.request.model.name;
    let scenario = &match simulator.with(|world, _| world.predictions.by_id(id).map(model)) {
        Some(model) => scenario.for_model(model),
        None => Arc::clone(scenario),
    };
    let rules = &scenario.files;
    if rules.needs_key == NeedsKey::Yes
        && let Err(refusal) = simulator.authenticate(&head.headers)
    {
        return refusal.response(Api::Prediction, scenario);
    }
    let found = simulator.with(|world, now| {
        let index = index?;
        let prediction = world.predictions.by_id(id).filter(|prediction| prediction.has_completed(now.at))?;
        let downloads = &mut prediction.pictures.get_mut(index)?.downloads;
        let before = *downloads;
        // A redirect is not a download.
        *downloads += u32::from(hop >= rules.redirects);
        let age = now.at.saturating_duration_since(prediction.schedule.ends);
        Some((prediction.number, index, before, age, prediction.request.format(scenario)))
    });
    let Some((number, index, before, age, format)) = found else {
        return page(404);
    };
    if rules.expires_after_s > 0 && age >= Duration::from_secs(rules.expires_after_s) {
        return expired(rules.expired_status);
    }
    if hop < rules.redirects {
        let to = format!("{}?hop={}", uri.path(), hop + 1);
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    if before < rules.fail_first {
        return page(500);
    }
    match simulator.picture(number, index).await {
        Some(bytes) => send(bytes, format, scenario),
        None => page(500),
    }
}

/// Returns an XML error, as object stores do.
fn expired(code: u16) -> Response {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>";
    (status(code), [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

fn send(mut bytes: Bytes, format: Format, scenario: &Scenario) -> Response {
    let rules = &scenario.files;
    let mut head = Response::new(Body::empty());
    let content_type = match rules.content_type {
        ContentType::Right => Some(format.media_type()),
        ContentType::OctetStream => Some("application/octet-stream"),
        ContentType::Html => Some("text/html; charset=utf-8"),
        ContentType::Missing => None,
    };
    if let Some(content_type) = content_type {
        head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let cut = match (rules.cut_at_bytes, usize::from(rules.cut_at_percent)) {
        (0, 0) => None,
        (0, percent) => Some(bytes.len() * percent / 100),
        (at, _) => Some(at.min(bytes.len())),
    };
    match (cut, rules.cut) {
        (Some(end), Cut::Abort) => return cut_at(head, &bytes, end),
        (Some(end), Cut::Short) => bytes.truncate(end),
        (None, _) => {}
    }
    if rules.piece_pause_ms > 0 {
        return in_pieces(head, bytes, PIECE_BYTES, Duration::from_millis(rules.piece_pause_ms));
    }
    *head.body_mut() = Body::from(bytes);
    head
}
