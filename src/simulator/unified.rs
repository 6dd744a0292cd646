//! The vendor's unified face: `POST /api/v3/images` and `GET /api/v3/tasks/result/{id}`, as its own SDK speaks them.
//!
//! Fields that are not known are ignored, `seed` and `provider` too. A size is explicit pixels, which follow the rules of
//! the model, or a tier (`512`, `1K`, `2K`, `4K`) and an aspect ratio, for which the nearest size is taken that the
//! model's page names. Which models this face sells is not documented: here `openai/` and the name of any that is sold.

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::Simulator;
use super::body::Field;
use super::errors::Refusal;
use super::form::Form;
use super::inputs::{Input, check_count};
use super::models::{Model, Variety};
use super::prediction::{Phase, Prediction};
use super::result;
use super::rules::{self, Capability, Face, JPEG_QUALITY, Mode, Order, Quality, ResponseFormat};
use super::scenario::{DataUris, Format, Outcome, Scenario, UnifiedUsage, Unknown};
use super::submit::{self, Door};
use super::world::Now;

const VENDOR: &str = "openai/";
/// Edges of the squares that the tiers stand for.
const TIERS: [(&str, f64); 4] = [("512", 512.0), ("1K", 1024.0), ("2K", 2048.0), ("4K", 4096.0)];
/// The ratios of the SDK's specification.
const RATIOS: &[&str] = &[
    "auto", "1:1", "1:2", "2:1", "1:4", "4:1", "1:8", "8:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9",
    "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9",
];

/// `POST /api/v3/images`
pub(super) async fn submit(State(simulator): State<Simulator>, request: Request) -> Response {
    submit::buy(&simulator, Door::Unified, request).await
}

/// `GET /api/v3/tasks/result/{id}`
pub(super) async fn poll(State(simulator): State<Simulator>, Path(id): Path<String>, request: Request) -> Response {
    result::ask(&simulator, Face::Unified, &id, request).await
}

/// Reads a submit.
pub(super) fn read(body: &Bytes, scenario: &Scenario) -> Result<Order, Refusal> {
    let field = rules::object(body)?;
    let form = rules::fields(&field)?;
    let name = form.text("model")?.ok_or_else(|| Refusal::bad("model is required"))?;
    let sold =
        name.strip_prefix(VENDOR).ok_or_else(|| Refusal::bad(format!("Invalid model: {name} does not exist")))?;
    let model = Model::ordered(sold, &scenario.models)?;
    let inputs = references(form, scenario)?;
    let (n, quality) = match model.variety {
        Variety::Known => (form.n()?, form.quality()?),
        Variety::Foreign => (1, Quality::Medium),
    };
    if model.variety == Variety::Foreign
        && scenario.models.plus_extras == Unknown::Reject
        && let Some(name) = ["n", "quality"].into_iter().find(|name| form.get(name).is_some())
    {
        return Err(Refusal::bad(format!("{name} is not supported by {}", model.name)));
    }
    let format = match form.word("output_format", &["png", "jpeg", "webp", "svg"])? {
        Some("png") => Some(Format::Png),
        Some("jpeg") => Some(Format::Jpeg),
        Some("webp") => Some(Format::Webp),
        Some(other) => return Err(Refusal::bad(format!("output_format {other} is not supported by {}", model.name))),
        None => None,
    };
    let background = form.background()?;
    model.check_background(background, format)?;
    let size_text = size(form, model)?.to_owned();
    Ok(Order {
        face: Face::Unified,
        model,
        capability: if inputs.is_empty() { Capability::TextToImage } else { Capability::ImageEdit },
        prompt: form.prompt()?,
        inputs,
        mask: None,
        n,
        size: model.size(&size_text)?,
        size_text,
        quality,
        background,
        format,
        jpeg_quality: JPEG_QUALITY,
        mode: Mode::Async,
        response_format: ResponseFormat::Url,
        parameters: field.remembered(),
    })
}

/// The pictures of `[{"type": "image_url", "image_url": {"url": "..."}}]`.
fn references(form: Form<'_>, scenario: &Scenario) -> Result<Vec<Input>, Refusal> {
    let wrong = || Refusal::bad("Invalid value for input_references: objects of type image_url are expected");
    let references = match form.get("input_references") {
        None => return Ok(Vec::new()),
        Some(Field::List(references)) if references.is_empty() => return Ok(Vec::new()),
        Some(Field::List(references)) => references,
        Some(_) => return Err(wrong()),
    };
    check_count(references.len(), "input_references")?;
    let read = |reference: &Field<'_>| {
        let Field::Object(fields) = reference else { return Err(wrong()) };
        let reference = Form(fields);
        if reference.text("type")? != Some("image_url") {
            return Err(wrong());
        }
        let Some(Field::Object(image)) = reference.get("image_url") else { return Err(wrong()) };
        let url = Form(image).text("url")?.ok_or_else(wrong)?;
        match scenario.unified.data_uris {
            DataUris::Accept => Input::address_or_data_uri(url),
            DataUris::Refuse => Input::address(url),
        }
    };
    references.iter().map(read).collect()
}

/// The size of an order, as `WIDTHxHEIGHT`.
fn size<'a>(form: Form<'a>, model: &'static Model) -> Result<&'a str, Refusal> {
    let tiers = TIERS.map(|(tier, _)| tier);
    let resolution = form.word("resolution", &tiers)?;
    let ratio = form.word("aspect_ratio", RATIOS)?.filter(|&ratio| ratio != "auto");
    let tier = match form.text("size")?.filter(|&size| size != "auto") {
        Some(size) if !tiers.contains(&size) => return Ok(size),
        Some(tier) => Some(tier),
        None => resolution,
    };
    if tier.is_none() && ratio.is_none() {
        return Ok(model.default_size);
    }
    let edge = TIERS.iter().find(|(name, _)| Some(*name) == tier).map_or(1024.0, |&(_, edge)| edge);
    Ok(model.nearest_size(edge, ratio.map_or(1.0, quotient)))
}

/// Width by height of `W:H`, which was checked before.
fn quotient(ratio: &str) -> f64 {
    let (width, height) = ratio.split_once(':').unwrap_or(("1", "1"));
    width.parse().unwrap_or(1.0) / height.parse().unwrap_or(1.0)
}

/// The task as it stands, which answers submits and polls.
pub(super) async fn task(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
    let phase = prediction.phase(Now::read().at);
    let mut task = json!({
        "id": prediction.id,
        "status": status(phase, prediction.outcome),
        "polling_url": format!("{origin}/api/v3/tasks/result/{}", prediction.id),
        "model": format!("{VENDOR}{}", prediction.order.model.name),
        "native_status": result::status(scenario, prediction, phase),
        "created_at": prediction.created.wall.to_string(),
    });
    if phase != Phase::Ended {
        return task;
    }
    let ran = prediction.ends.saturating_duration_since(prediction.created.at);
    let ended = prediction.created.wall.saturating_add(jiff::SignedDuration::try_from(ran).unwrap_or_default());
    task["completed_at"] = json!(ended.unwrap_or(prediction.created.wall).to_string());
    task["timings"] = json!({"inference": prediction.latency_ms});
    if let Some(text) = result::failure(prediction.outcome) {
        task["error"] = json!(text);
        return task;
    }
    let empty = scenario.result.empty_polls;
    let count = if empty > 0 && prediction.completed_polls <= empty { 0 } else { result::shown(scenario, prediction) };
    let urls = result::entries(simulator, prediction, origin, result::Form::Url, count).await;
    task["unsigned_urls"] = json!(urls);
    if scenario.unified.usage == UnifiedUsage::Reported {
        task["usage"] = result::tokens(prediction.usage);
    }
    task
}

/// The closed set of words of this face.
fn status(phase: Phase, outcome: Outcome) -> &'static str {
    match (phase, outcome) {
        (Phase::Created, _) => "pending",
        (Phase::Processing, _) => "in_progress",
        (Phase::Ended, Outcome::Completed) => "completed",
        (Phase::Ended, Outcome::Cancelled) => "cancelled",
        (Phase::Ended, Outcome::Expired) => "expired",
        (
            Phase::Ended,
            Outcome::FailedPolicy
            | Outcome::FailedProvider
            | Outcome::FailedLink
            | Outcome::FailedEmpty
            | Outcome::Timeout
            | Outcome::Stuck,
        ) => "failed",
    }
}

#[cfg(test)]
mod tests;
