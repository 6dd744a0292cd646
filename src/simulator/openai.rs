//! The OpenAI-format face: `POST /v1/images/generations` and `/v1/images/edits`.
//!
//! One call is one job: it is accepted, counted and charged like any other submit, holds its place in flight, and is
//! answered when the pictures are done. Whoever hangs up before loses them, and pays: there is no id to ask after.
//! Parameters are those of the vendor's table for this face and nothing else, plain and -plus models each with its own.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{future, stream};
use serde_json::{Value, json};

use super::Simulator;
use super::body::{Field, remembered_bytes};
use super::errors::{Refusal, page};
use super::form::Form;
use super::inputs::{Input, Picture, check_count, check_mask};
use super::models::Model;
use super::prediction::Prediction;
use super::result;
use super::rules::{self, Background, Capability, Face, JPEG_QUALITY, Mode, Order, Quality, ResponseFormat};
use super::scenario::{DataPrefix, Format, Outcome, Scenario, UsagePlace};
use super::submit::{self, Door};
use super::world::Now;

/// What an order without `model` means, per the vendor's table.
const DEFAULT_MODEL: &str = "gpt-image-1";
/// The sizes of -plus models at this face.
const PLUS_SIZES: &[&str] = &["auto", "1536x1024", "1024x1536", "1672x941", "941x1672"];

/// `POST /v1/images/generations`
pub(super) async fn generate(State(simulator): State<Simulator>, request: Request) -> Response {
    submit::buy(&simulator, Door::OpenAi(Capability::TextToImage), request).await
}

/// `POST /v1/images/edits`
pub(super) async fn edit(State(simulator): State<Simulator>, request: Request) -> Response {
    submit::buy(&simulator, Door::OpenAi(Capability::ImageEdit), request).await
}

/// A multipart form, taken apart.
#[derive(Debug, Default)]
pub(super) struct Posted {
    fields: Vec<(String, Field<'static>)>,
    images: Vec<Bytes>,
    mask: Option<Bytes>,
}

impl Posted {
    /// Takes a form apart.
    ///
    /// # Errors
    ///
    /// When it is malformed, or a parameter is no text.
    pub(super) async fn read(content_type: &str, body: Bytes) -> Result<Self, Refusal> {
        let malformed = |error: multer::Error| Refusal::bad(format!("Invalid multipart form: {error}"));
        let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
        let body = stream::once(future::ready(Ok::<_, std::io::Error>(body)));
        let mut form = multer::Multipart::new(body, boundary);
        let mut posted = Self::default();
        while let Some(part) = form.next_field().await.map_err(malformed)? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(malformed)?;
            match name.as_str() {
                "image" | "image[]" => posted.images.push(bytes),
                "mask" => posted.mask = Some(bytes),
                _ => {
                    let text = String::from_utf8(bytes.to_vec())
                        .map_err(|_| Refusal::bad(format!("Invalid type for {name}: a string is expected")))?;
                    let value = typed(&name, text);
                    posted.fields.push((name, value));
                }
            }
        }
        Ok(posted)
    }

    fn remembered(&self) -> Value {
        let mut parameters: serde_json::Map<String, Value> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.remembered())).collect();
        parameters.insert("image[]".to_owned(), self.images.iter().map(|bytes| remembered_bytes(bytes)).collect());
        if let Some(mask) = &self.mask {
            parameters.insert("mask".to_owned(), remembered_bytes(mask));
        }
        parameters.into()
    }
}

/// A text of a form, as the value that JSON would have; what cannot be one stays a text, and is refused later.
fn typed(name: &str, text: String) -> Field<'static> {
    match (name, text.as_str()) {
        ("n" | "output_compression" | "partial_images", digits) => match digits.parse() {
            Ok(number) => Field::Integer(number),
            Err(_) => Field::Text(text.into()),
        },
        ("stream", "true") => Field::Bool(true),
        ("stream", "false") => Field::Bool(false),
        _ => Field::Text(text.into()),
    }
}

/// Reads an edit that came as a form.
pub(super) fn read_form(posted: Posted, scenario: &Scenario) -> Result<Order, Refusal> {
    let parameters = posted.remembered();
    let Posted { fields, images, mask } = posted;
    let page = Page::new(Capability::ImageEdit, Form(&fields), scenario)?;
    // In a form the pictures have names of their own.
    page.check_names(if mask.is_some() { &["mask"] } else { &[] }, None)?;
    check_count(images.len(), "image")?;
    let inputs = images.iter().map(|bytes| Picture::read(bytes.to_vec()).map(Input::Picture));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let mask = mask.map(|bytes| Picture::read(bytes.to_vec()).map(Input::Picture)).transpose()?;
    page.order(inputs, mask, parameters)
}

/// Reads a generation, or an edit that came as JSON.
pub(super) fn read_json(capability: Capability, body: &Bytes, scenario: &Scenario) -> Result<Order, Refusal> {
    let field = rules::object(body)?;
    let form = rules::fields(&field)?;
    let page = Page::new(capability, form, scenario)?;
    page.check_names(&[], Some("images"))?;
    let (mut inputs, mut mask) = (Vec::new(), None);
    if capability == Capability::ImageEdit {
        let images = match form.get("images") {
            None => &[],
            Some(Field::List(images)) => images.as_slice(),
            Some(_) => return Err(Refusal::bad("Invalid type for images: an array of objects is expected")),
        };
        check_count(images.len(), "images")?;
        inputs = images.iter().map(image_url).collect::<Result<_, _>>()?;
        mask = form.get("mask").map(image_url).transpose()?;
    }
    page.order(inputs, mask, field.remembered())
}

/// The picture of `{"image_url": "..."}`.
fn image_url(object: &Field<'_>) -> Result<Input, Refusal> {
    let wrong = || Refusal::bad("Invalid value for images: objects with an image_url are expected");
    let Field::Object(fields) = object else { return Err(wrong()) };
    let text = Form(fields).text("image_url")?.ok_or_else(wrong)?;
    Input::address_or_data_uri(text)
}

/// A body, read by what the table says about its model.
struct Page<'a> {
    model: &'static Model,
    capability: Capability,
    form: Form<'a>,
}

impl<'a> Page<'a> {
    fn new(capability: Capability, form: Form<'a>, scenario: &Scenario) -> Result<Self, Refusal> {
        let model = Model::ordered(form.text("model")?.unwrap_or(DEFAULT_MODEL), &scenario.models)?;
        Ok(Self { model, capability, form })
    }

    /// Refuses every field that the table does not name; `pictures` is the field that holds them, if it is one.
    fn check_names(&self, others: &[&str], pictures: Option<&str>) -> Result<(), Refusal> {
        let mut names = self.form.0.iter().map(|(name, _)| name.as_str()).chain(others.iter().copied());
        match names.find(|&name| !self.knows(name, pictures)) {
            Some(name) => Err(Refusal::bad(format!("Unknown parameter: '{name}'."))),
            None => Ok(()),
        }
    }

    fn knows(&self, name: &str, pictures: Option<&str>) -> bool {
        let edit = self.capability == Capability::ImageEdit;
        match name {
            "model" | "prompt" | "size" => true,
            _ if edit && pictures == Some(name) => true,
            _ if self.model.is_plus() => false,
            "mask" => edit,
            "input_fidelity" => edit && self.model.is_first(),
            "n" | "quality" | "background" | "moderation" | "output_format" | "output_compression" | "stream"
            | "partial_images" | "user" => true,
            _ => false,
        }
    }

    fn order(&self, inputs: Vec<Input>, mask: Option<Input>, parameters: Value) -> Result<Order, Refusal> {
        let form = self.form;
        if form.flag("stream")? {
            return Err(Refusal::bad("Invalid value for stream: streaming is not supported here"));
        }
        form.word("moderation", &["low", "auto"])?;
        form.word("input_fidelity", &["low", "high"])?;
        form.integer("partial_images", 0..=3_u8)?;
        form.text("user")?;
        let format = match form.word("output_format", &["auto", "png", "jpeg", "webp"])? {
            Some("png") => Some(Format::Png),
            Some("jpeg") => Some(Format::Jpeg),
            Some("webp") => Some(Format::Webp),
            _ => None,
        };
        let background = form.background()?;
        self.model.check_background(background, format)?;
        // The encoder's scale begins at 1.
        let jpeg_quality = form.integer("output_compression", 0..=100_u8)?.map_or(JPEG_QUALITY, |asked| asked.max(1));
        if let Some(Input::Picture(mask)) = &mask {
            check_mask(mask, inputs.first())?;
        }
        let size_text = form.text("size")?.unwrap_or("auto").to_owned();
        Ok(Order {
            face: Face::OpenAi,
            model: self.model,
            capability: self.capability,
            prompt: form.prompt()?,
            inputs,
            mask,
            n: form.n()?,
            size: self.size(&size_text)?,
            size_text,
            quality: form.quality()?,
            background,
            format,
            jpeg_quality,
            mode: Mode::Async,
            response_format: ResponseFormat::B64Json,
            parameters,
        })
    }

    fn size(&self, text: &str) -> Result<(u32, u32), Refusal> {
        if self.model.is_plus() && !PLUS_SIZES.contains(&text) {
            return Err(Refusal::bad(format!(
                "Invalid value for size: '{text}' is not one of {}",
                PLUS_SIZES.join(", ")
            )));
        }
        self.model.size(if text == "auto" { self.model.default_size } else { text })
    }
}

/// Waits for the pictures and hands them out, unless the edge or a failure comes first.
pub(super) async fn answer(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
) -> Response {
    let rules = &scenario.openai;
    let cut = (rules.edge_cut_s > 0)
        .then(|| Now::read().at + Duration::from_secs(rules.edge_cut_s).div_f64(scenario.speed.max(1e-3)));
    let Some(ended) = simulator.ended(prediction, cut).await else {
        return page(524);
    };
    if let Some(text) = result::failure(ended.outcome) {
        return failed(ended.outcome, text).answer(Face::OpenAi, scenario);
    }
    let is_plus = ended.order.model.is_plus();
    let form = match (rules.data_prefix, is_plus) {
        (DataPrefix::Always, _) | (DataPrefix::Plus, true) => result::Form::DataUri,
        (DataPrefix::Plus, false) | (DataPrefix::Never, _) => result::Form::Base64,
    };
    let pictures = result::entries(simulator, &ended, origin, form, result::shown(scenario, &ended)).await.into_iter();
    let data: Vec<_> = pictures.map(|picture| json!({ "b64_json": picture })).collect();
    let created = ended.created.wall.as_second();
    if is_plus {
        return axum::Json(json!({"created": created, "data": data})).into_response();
    }
    let order = &ended.order;
    let mut body = json!({
        "created": created,
        "background": match order.background {
            Background::Opaque => "opaque",
            Background::Transparent => "transparent",
        },
        "data": data,
        "output_format": match order.format(scenario) {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
        },
        "quality": match order.quality {
            Quality::Low => "low",
            Quality::Medium => "medium",
            Quality::High => "high",
        },
        "size": format!("{}x{}", order.size.0, order.size.1),
    });
    if scenario.result.usage != UsagePlace::Absent {
        body["usage"] = result::tokens(ended.usage);
        body["usage"]["output_tokens_details"] = json!({"text_tokens": 0, "image_tokens": ended.usage.output});
    }
    axum::Json(body).into_response()
}

/// How a job that failed after it was accepted is told in the answer to the call.
fn failed(outcome: Outcome, text: &str) -> Refusal {
    match outcome {
        Outcome::FailedPolicy => Refusal::guidelines(),
        Outcome::FailedLink => Refusal::bad(text),
        Outcome::Completed
        | Outcome::FailedProvider
        | Outcome::FailedEmpty
        | Outcome::Cancelled
        | Outcome::Timeout
        | Outcome::Expired
        | Outcome::Stuck => Refusal::new(500, text),
    }
}

#[cfg(test)]
mod tests;
