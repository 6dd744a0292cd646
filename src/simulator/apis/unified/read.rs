//! Validates the body of a submit.

use std::sync::Arc;

use axum::body::Bytes;

use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::fields::Fields;
use crate::simulator::rules::inputs::{Input, check_count};
use crate::simulator::rules::json::JsonValue;
use crate::simulator::rules::models::{Model, Support};
use crate::simulator::rules::request::{JPEG_QUALITY, PictureRequest};
use crate::simulator::rules::values::{Api, Capability, Mode, Quality, ResponseFormat};
use crate::simulator::scenario::{Format, Scenario, Unknown};

/// The prefix of model names.
pub(super) const VENDOR: &str = "openai/";
/// The tiers, each with the edge of its square in pixels.
const TIERS: [(&str, f64); 4] = [("512", 512.0), ("1K", 1024.0), ("2K", 2048.0), ("4K", 4096.0)];
/// The aspect ratios of the SDK's specification.
const RATIOS: &[&str] = &[
    "auto", "1:1", "1:2", "2:1", "1:4", "4:1", "1:8", "8:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9",
    "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9",
];

/// Validates a body.
///
/// # Errors
///
/// When the body breaks a rule of the model.
pub(crate) fn read(body: &Bytes, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal> {
    let json = JsonValue::parse(body)?;
    let fields = Fields::of(&json)?;
    let name = fields.text("model")?.ok_or_else(|| Refusal::invalid("model is required"))?;
    let model =
        name.strip_prefix(VENDOR).ok_or_else(|| Refusal::invalid(format!("Invalid model: {name} does not exist")))?;
    let scenario = scenario.for_model(model);
    let model = Model::available(model, &scenario.models)?;
    let inputs = references(fields, &scenario)?;
    let (n, quality) = match model.n_and_quality {
        Support::Yes => (fields.n()?, fields.quality()?),
        Support::No => (1, Quality::Medium),
    };
    if model.n_and_quality == Support::No
        && scenario.models.plus_extras == Unknown::Reject
        && let Some(name) = ["n", "quality"].into_iter().find(|name| fields.get(name).is_some())
    {
        return Err(model.unsupported(name, &scenario.models));
    }
    let format = match fields.choice("output_format", &["png", "jpeg", "webp", "svg"])? {
        Some("png") => Some(Format::Png),
        Some("jpeg") => Some(Format::Jpeg),
        Some("webp") => Some(Format::Webp),
        Some(other) => {
            return Err(Refusal::invalid(format!("output_format {other} is not supported by {}", model.name)));
        }
        None => None,
    };
    let background = fields.background()?;
    model.check_background(background, format)?;
    let size_text = size(fields, model)?.to_owned();
    Ok(PictureRequest {
        api: Api::Unified,
        model,
        capability: if inputs.is_empty() { Capability::TextToImage } else { Capability::ImageEdit },
        prompt: fields.prompt()?,
        methods: if inputs.is_empty() { Vec::new() } else { vec!["input_references"] },
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
        stream: None,
        parameters: json.with_digests(),
    })
}

/// Returns the pictures of `[{"type": "image_url", "image_url": {"url": "..."}}]`.
fn references(fields: Fields<'_>, scenario: &Scenario) -> Result<Vec<Input>, Refusal> {
    let wrong = || Refusal::invalid("Invalid value for input_references: objects of type image_url are expected");
    let references = match fields.get("input_references") {
        None => return Ok(Vec::new()),
        Some(JsonValue::List(references)) if references.is_empty() => return Ok(Vec::new()),
        Some(JsonValue::List(references)) => references,
        Some(_) => return Err(wrong()),
    };
    check_count(references.len(), "input_references")?;
    let read = |reference: &JsonValue<'_>| {
        let JsonValue::Object(fields) = reference else { return Err(wrong()) };
        let reference = Fields(fields);
        if reference.text("type")? != Some("image_url") {
            return Err(wrong());
        }
        let Some(JsonValue::Object(image)) = reference.get("image_url") else { return Err(wrong()) };
        let url = Fields(image).text("url")?.ok_or_else(wrong)?;
        Input::link(url, scenario.unified.data_uris, &scenario.inputs)
    };
    references.iter().map(read).collect()
}

/// Returns the size of a request, as `WIDTHxHEIGHT`.
fn size<'a>(fields: Fields<'a>, model: &'static Model) -> Result<&'a str, Refusal> {
    let tiers = TIERS.map(|(tier, _)| tier);
    let resolution = fields.choice("resolution", &tiers)?;
    let ratio = fields.choice("aspect_ratio", RATIOS)?.filter(|&ratio| ratio != "auto");
    let tier = match fields.text("size")?.filter(|&size| size != "auto") {
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

/// Returns width divided by height of `W:H`, which is one of [`RATIOS`].
fn quotient(ratio: &str) -> f64 {
    let (width, height) = ratio.split_once(':').unwrap_or(("1", "1"));
    width.parse().unwrap_or(1.0) / height.parse().unwrap_or(1.0)
}
