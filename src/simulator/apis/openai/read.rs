//! Validates the body of a submit: JSON, or a multipart form for edits.

use std::sync::Arc;

use axum::body::Bytes;
use futures_util::{future, stream};
use serde_json::Value;

use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::fields::Fields;
use crate::simulator::rules::inputs::{Input, Picture, check_count, check_mask};
use crate::simulator::rules::json::{JsonValue, digest_of_bytes};
use crate::simulator::rules::models::Model;
use crate::simulator::rules::request::{JPEG_QUALITY, PictureRequest};
use crate::simulator::rules::values::{Api, Capability, Mode, ResponseFormat};
use crate::simulator::scenario::{DataUris, Format, Scenario, Streaming};
use crate::simulator::world::counters::SentBody;

/// The model of a request without `model`, from the vendor's table.
const DEFAULT_MODEL: &str = "gpt-image-1";
/// The sizes of -plus models in this API.
const PLUS_SIZES: &[&str] = &["auto", "1536x1024", "1024x1536", "1672x941", "941x1672"];

/// The parts of a multipart form.
#[derive(Debug, Default)]
pub(crate) struct MultipartForm {
    fields: Vec<(String, JsonValue<'static>)>,
    images: Vec<Bytes>,
    mask: Option<Bytes>,
}

impl MultipartForm {
    /// Parses a form.
    ///
    /// # Errors
    ///
    /// When the form is malformed, or a parameter is not text.
    pub(crate) async fn parse(content_type: &str, body: Bytes) -> Result<Self, Refusal> {
        let malformed = |error: multer::Error| Refusal::invalid(format!("Invalid multipart form: {error}"));
        let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
        let body = stream::once(future::ready(Ok::<_, std::io::Error>(body)));
        let mut parts = multer::Multipart::new(body, boundary);
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(malformed)? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(malformed)?;
            match name.as_str() {
                "image" | "image[]" => form.images.push(bytes),
                "mask" => form.mask = Some(bytes),
                _ => {
                    let text = String::from_utf8(bytes.to_vec())
                        .map_err(|_| Refusal::invalid(format!("Invalid type for {name}: a string is expected")))?;
                    let value = typed(&name, text);
                    form.fields.push((name, value));
                }
            }
        }
        Ok(form)
    }

    /// Returns what the form holds.
    pub(crate) fn sent(&self) -> SentBody {
        let prompt = Fields(&self.fields).text("prompt").ok().flatten().map(str::to_owned);
        let mut fields: Vec<_> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        fields.extend((!self.images.is_empty()).then(|| "image".to_owned()));
        fields.extend(self.mask.is_some().then(|| "mask".to_owned()));
        SentBody { fields, prompt }
    }

    fn with_digests(&self) -> Value {
        let mut parameters: serde_json::Map<String, Value> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.with_digests())).collect();
        parameters.insert("image[]".to_owned(), self.images.iter().map(|bytes| digest_of_bytes(bytes)).collect());
        if let Some(mask) = &self.mask {
            parameters.insert("mask".to_owned(), digest_of_bytes(mask));
        }
        parameters.into()
    }
}

/// Returns the JSON value of a form field. A text that is not a valid number or boolean stays a text and is refused
/// later.
fn typed(name: &str, text: String) -> JsonValue<'static> {
    match (name, text.as_str()) {
        ("n" | "output_compression" | "partial_images", digits) => match digits.parse() {
            Ok(number) => JsonValue::Integer(number),
            Err(_) => JsonValue::Text(text.into()),
        },
        ("stream", "true") => JsonValue::Bool(true),
        ("stream", "false") => JsonValue::Bool(false),
        _ => JsonValue::Text(text.into()),
    }
}

/// Validates an edit that was sent as a form.
pub(crate) fn read_form(form: MultipartForm, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal> {
    let parameters = form.with_digests();
    let MultipartForm { fields, images, mask } = form;
    let body = Body::new(Capability::ImageEdit, Fields(&fields), scenario)?;
    // The pictures of a form are not among its fields.
    body.check_names(if mask.is_some() { &["mask"] } else { &[] }, None)?;
    check_count(images.len(), "image")?;
    let inputs = images.iter().map(|bytes| Picture::parse(bytes.to_vec()).map(Input::Picture));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let mask = mask.map(|bytes| Picture::parse(bytes.to_vec()).map(Input::Picture)).transpose()?;
    body.request(Inputs { pictures: inputs, method: Some("multipart"), mask }, parameters)
}

/// Validates a generation, or an edit that was sent as JSON.
pub(crate) fn read_json(
    capability: Capability,
    body: &Bytes,
    scenario: &Arc<Scenario>,
) -> Result<PictureRequest, Refusal> {
    let json = JsonValue::parse(body)?;
    let fields = Fields::of(&json)?;
    let body = Body::new(capability, fields, scenario)?;
    body.check_names(&[], Some("images"))?;
    let mut inputs = Inputs::default();
    if capability == Capability::ImageEdit {
        let images = match fields.get("images") {
            None => &[],
            Some(JsonValue::List(images)) => images.as_slice(),
            Some(_) => return Err(Refusal::invalid("Invalid type for images: an array of objects is expected")),
        };
        check_count(images.len(), "images")?;
        let read = |object| image_url(object, &body.scenario);
        inputs.pictures = images.iter().map(read).collect::<Result<_, _>>()?;
        inputs.method = Some("images");
        inputs.mask = fields.get("mask").map(read).transpose()?;
    }
    body.request(inputs, json.with_digests())
}

/// The pictures of a request, and how they were sent.
#[derive(Debug, Default)]
struct Inputs {
    pictures: Vec<Input>,
    method: Option<&'static str>,
    mask: Option<Input>,
}

/// Returns the names of the parameters that a model accepts; of an edit, those of a form.
pub(crate) fn names(model: &'static Model, capability: Capability, scenario: &Scenario) -> Vec<&'static str> {
    const NAMES: [&str; 15] = [
        "model",
        "prompt",
        "image",
        "mask",
        "n",
        "size",
        "quality",
        "background",
        "moderation",
        "input_fidelity",
        "output_format",
        "output_compression",
        "stream",
        "partial_images",
        "user",
    ];
    let body = Body { model, capability, fields: Fields(&[]), scenario: Arc::new(scenario.clone()) };
    NAMES.into_iter().filter(|name| body.supports(name, Some("image"))).collect()
}

/// Returns the picture of `{"image_url": "..."}`.
fn image_url(object: &JsonValue<'_>, scenario: &Scenario) -> Result<Input, Refusal> {
    let wrong = || Refusal::invalid("Invalid value for images: objects with an image_url are expected");
    let JsonValue::Object(fields) = object else { return Err(wrong()) };
    let text = Fields(fields).text("image_url")?.ok_or_else(wrong)?;
    Input::link(text, DataUris::Accept, &scenario.inputs)
}

/// A body and the rules for it.
struct Body<'a> {
    model: &'static Model,
    capability: Capability,
    fields: Fields<'a>,
    /// With the differences of the model.
    scenario: Arc<Scenario>,
}

impl<'a> Body<'a> {
    fn new(capability: Capability, fields: Fields<'a>, scenario: &Arc<Scenario>) -> Result<Self, Refusal> {
        let name = fields.text("model")?.unwrap_or(DEFAULT_MODEL);
        let scenario = scenario.for_model(name);
        let model = Model::available(name, &scenario.models)?;
        Ok(Self { model, capability, fields, scenario })
    }

    /// Fails on a field that the vendor's table does not name. `pictures` is the field that holds the inputs, if any.
    fn check_names(&self, others: &[&str], pictures: Option<&str>) -> Result<(), Refusal> {
        let mut names = self.fields.0.iter().map(|(name, _)| name.as_str()).chain(others.iter().copied());
        match names.find(|&name| !self.supports(name, pictures)) {
            Some(name) => Err(Refusal::unknown_parameter(name)),
            None => Ok(()),
        }
    }

    fn supports(&self, name: &str, pictures: Option<&str>) -> bool {
        let edit = self.capability == Capability::ImageEdit;
        match name {
            "model" | "prompt" | "size" => true,
            _ if edit && pictures == Some(name) => true,
            _ if self.model.is_plus() => false,
            "mask" => edit,
            "input_fidelity" => edit && self.model.is_gpt_image_1(),
            "n" | "quality" | "background" | "moderation" | "output_format" | "output_compression" | "stream"
            | "partial_images" | "user" => true,
            _ => false,
        }
    }

    fn request(&self, inputs: Inputs, parameters: Value) -> Result<PictureRequest, Refusal> {
        let Inputs { pictures: inputs, method, mask } = inputs;
        let fields = self.fields;
        let partial = fields.integer("partial_images", 0..=3_u8)?.unwrap_or(0);
        let stream = match (fields.flag("stream")?, self.scenario.openai.stream) {
            (true, Streaming::Serve) => Some(partial),
            (true, Streaming::Refuse) => {
                return Err(Refusal::invalid("Invalid value for stream: streaming is not supported here"));
            }
            (true, Streaming::Ignore) | (false, _) => None,
        };
        fields.choice("moderation", &["low", "auto"])?;
        fields.choice("input_fidelity", &["low", "high"])?;
        fields.text("user")?;
        let format = match fields.choice("output_format", &["auto", "png", "jpeg", "webp"])? {
            Some("png") => Some(Format::Png),
            Some("jpeg") => Some(Format::Jpeg),
            Some("webp") => Some(Format::Webp),
            _ => None,
        };
        let background = fields.background()?;
        self.model.check_background(background, format)?;
        // The lowest quality of the encoder is 1.
        let jpeg_quality =
            fields.integer("output_compression", 0..=100_u8)?.map_or(JPEG_QUALITY, |quality| quality.max(1));
        if let Some(Input::Picture(mask)) = &mask {
            check_mask(mask, inputs.first())?;
        }
        let size_text = fields.text("size")?.unwrap_or("auto").to_owned();
        Ok(PictureRequest {
            api: Api::OpenAi,
            model: self.model,
            capability: self.capability,
            prompt: fields.prompt()?,
            inputs,
            methods: method.into_iter().collect(),
            mask,
            n: fields.n()?,
            size: self.size(&size_text)?,
            size_text,
            quality: fields.quality()?,
            background,
            format,
            jpeg_quality,
            mode: Mode::Async,
            response_format: ResponseFormat::B64Json,
            stream,
            parameters,
        })
    }

    fn size(&self, text: &str) -> Result<(u32, u32), Refusal> {
        if self.model.is_plus() && !PLUS_SIZES.contains(&text) {
            return Err(Refusal::invalid(format!(
                "Invalid value for size: '{text}' is not one of {}",
                PLUS_SIZES.join(", ")
            )));
        }
        self.model.size(if text == "auto" { self.model.default_size } else { text })
    }
}
