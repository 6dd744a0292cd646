//! An order that keeps all rules, and how one is read from the prediction face: as strictly as the documentation
//! allows, one model at a time.

use axum::body::Bytes;
use serde::Serialize;

use super::body::Field;
use super::errors::Refusal;
use super::form::Form;
use super::inputs::{self, Input, Picture};
use super::models::{ImageField, Mask, Model, Variety};
use super::scenario::{Format, Scenario, Unknown};

/// Where an order came in, and so where it is asked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Face {
    /// `/api/v3/openai/...`
    Prediction,
    /// `/v1/images/...`
    OpenAi,
    /// `/api/v3/images`
    Unified,
}

/// What a prediction is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    ImageEdit,
    TextToImage,
}

impl Capability {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "image-edit" => Some(Self::ImageEdit),
            "text-to-image" => Some(Self::TextToImage),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ImageEdit => "image-edit",
            Self::TextToImage => "text-to-image",
        }
    }
}

/// How long a picture takes and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quality {
    Low,
    Medium,
    High,
}

/// In what form pictures are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    Url,
    B64Json,
}

/// Whether the answer to the submit is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Async,
    Sync,
}

/// What is behind the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Background {
    Opaque,
    Transparent,
}

/// How hard a JPEG is compressed when nothing was asked, as the `quality` of its encoder.
pub(super) const JPEG_QUALITY: u8 = 85;

/// A submit that keeps all rules.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) face: Face,
    pub(super) model: &'static Model,
    pub(super) capability: Capability,
    pub(super) prompt: String,
    pub(super) inputs: Vec<Input>,
    pub(super) mask: Option<Input>,
    pub(super) n: u32,
    pub(super) size: (u32, u32),
    /// As it was sent, or the default.
    pub(super) size_text: String,
    pub(super) quality: Quality,
    pub(super) background: Background,
    /// The encoding that was asked for; the scenario's otherwise.
    pub(super) format: Option<Format>,
    /// From 1 to 100.
    pub(super) jpeg_quality: u8,
    pub(super) mode: Mode,
    pub(super) response_format: ResponseFormat,
    /// The body as it came, with digests in place of pictures.
    pub(super) parameters: serde_json::Value,
}

impl Order {
    /// The encoding of its pictures.
    pub(super) fn format(&self, scenario: &Scenario) -> Format {
        self.format.unwrap_or(scenario.pictures.format)
    }
}

/// Reads the body of a submit to the prediction face.
pub(super) fn read(
    model: &'static Model,
    capability: Capability,
    body: &Bytes,
    scenario: &Scenario,
) -> Result<Order, Refusal> {
    let field = object(body)?;
    let form = fields(&field)?;
    let page = Page { model, capability, form };
    page.refuse_foreign(scenario)?;

    let prompt = form.prompt()?;
    let inputs = match capability {
        Capability::ImageEdit => page.inputs()?,
        Capability::TextToImage => Vec::new(),
    };
    let mask = match (capability, model.mask) {
        (Capability::ImageEdit, Mask::Known) => page.mask(&inputs)?,
        (Capability::ImageEdit, Mask::Foreign) | (Capability::TextToImage, _) => None,
    };
    let (n, quality) = match model.variety {
        Variety::Known => (form.n()?, form.quality()?),
        Variety::Foreign => (1, Quality::Medium),
    };
    let background = match model.mask {
        Mask::Known => form.background()?,
        Mask::Foreign => Background::Opaque,
    };
    let size_text = form.text("size")?.unwrap_or(model.default_size).to_owned();
    let response_format = match form.word("response_format", &["url", "b64_json"])? {
        Some("b64_json") => ResponseFormat::B64Json,
        _ => ResponseFormat::Url,
    };
    let mode = if form.flag("enable_sync_mode")? { Mode::Sync } else { Mode::Async };
    Ok(Order {
        face: Face::Prediction,
        model,
        capability,
        prompt,
        inputs,
        mask,
        n,
        size: model.size(&size_text)?,
        size_text,
        quality,
        background,
        format: None,
        jpeg_quality: JPEG_QUALITY,
        mode,
        response_format,
        parameters: field.remembered(),
    })
}

/// A body that is JSON.
pub(super) fn object(body: &Bytes) -> Result<Field<'_>, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::bad("Invalid JSON body"))
}

/// The fields of a body that is an object.
pub(super) fn fields<'a>(field: &'a Field<'a>) -> Result<Form<'a>, Refusal> {
    match field {
        Field::Object(fields) => Ok(Form(fields)),
        Field::Null | Field::Bool(_) | Field::Integer(_) | Field::Number(_) | Field::Text(_) | Field::List(_) => {
            Err(Refusal::bad("The body must be a JSON object"))
        }
    }
}

/// A body, read by what the page of a model says.
struct Page<'a> {
    model: &'static Model,
    capability: Capability,
    form: Form<'a>,
}

impl<'a> Page<'a> {
    /// The strings of a list, or one string where a list is expected on the older pages.
    fn list(&self, name: &str) -> Result<Vec<&'a str>, Refusal> {
        let wrong = || Refusal::bad(format!("Invalid type for {name}: an array of strings is expected"));
        match self.form.get(name) {
            None => Ok(Vec::new()),
            Some(Field::List(values)) => values
                .iter()
                .map(|value| match value {
                    Field::Text(text) => Ok(text.as_ref()),
                    Field::Null
                    | Field::Bool(_)
                    | Field::Integer(_)
                    | Field::Number(_)
                    | Field::List(_)
                    | Field::Object(_) => Err(wrong()),
                })
                .collect(),
            Some(Field::Text(text)) if name == "image" => Ok(vec![text.as_ref()]),
            Some(_) => Err(wrong()),
        }
    }

    /// Whether the model's page names a field.
    fn knows(&self, name: &str) -> bool {
        let edit = self.capability == Capability::ImageEdit;
        match name {
            "prompt" | "size" | "enable_sync_mode" | "response_format" | "model" => true,
            "images" | "base64_images" => edit,
            "image" => edit && self.model.image_field == ImageField::ImageOrImages,
            "mask" => edit && self.model.mask == Mask::Known,
            "background" => self.model.mask == Mask::Known,
            "n" | "quality" => self.model.variety == Variety::Known,
            _ => false,
        }
    }

    fn refuse_foreign(&self, scenario: &Scenario) -> Result<(), Refusal> {
        let rules = &scenario.models;
        for (name, _) in self.form.0 {
            let policy = match name.as_str() {
                name if self.knows(name) => Unknown::Ignore,
                "n" | "quality" => rules.plus_extras,
                "mask" if rules.foreign_mask == Unknown::Reject => Unknown::Reject,
                _ => rules.unknown_fields,
            };
            if policy == Unknown::Reject {
                return Err(Refusal::bad(format!("{name} is not supported by {}", self.model.name)));
            }
        }
        Ok(())
    }

    fn inputs(&self) -> Result<Vec<Input>, Refusal> {
        let mut urls = self.list("images")?;
        if self.model.image_field == ImageField::ImageOrImages {
            urls.extend(self.list("image")?);
        }
        let pictures = self.list("base64_images")?;
        inputs::check_count(urls.len() + pictures.len(), "images or base64_images")?;
        let urls = urls.into_iter().map(Input::address);
        let pictures = pictures.into_iter().map(|text| picture(text).map(Input::Picture));
        urls.chain(pictures).collect()
    }

    fn mask(&self, inputs: &[Input]) -> Result<Option<Input>, Refusal> {
        let Some(text) = self.form.text("mask")? else {
            return Ok(None);
        };
        if inputs::is_address(text) {
            return Ok(Some(Input::Url(text.to_owned())));
        }
        let mask = picture(text).map_err(|_| Refusal::bad("mask must be a PNG as data URI, or a URL"))?;
        inputs::check_mask(&mask, inputs.first())?;
        Ok(Some(Input::Picture(mask)))
    }
}

fn picture(text: &str) -> Result<Picture, Refusal> {
    let bytes = super::body::decoded(text)
        .ok_or_else(|| Refusal::bad("base64_images must be data URIs: data:image/png;base64,..."))?;
    Picture::read(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::simulator::pictures::tests::{data_uri, png};

    fn ask(model: &str, body: &Value) -> Result<Order, Refusal> {
        ask_in(&Scenario::default(), model, body)
    }

    fn ask_in(scenario: &Scenario, model: &str, body: &Value) -> Result<Order, Refusal> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        read(Model::named(model).unwrap(), Capability::ImageEdit, &body, scenario)
    }

    fn message(result: Result<Order, Refusal>) -> String {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    #[test]
    fn an_edit_needs_a_prompt_and_a_picture_in_the_right_field() {
        let uri = data_uri(&png(8, 8));
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "base64_images": [uri]})).is_ok());
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "images": ["https://x/y.png"]})).is_ok());
        assert!(ask("gpt-image-1.5", &json!({"prompt": "p", "image": ["https://x/y.png"]})).is_ok());
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "image": ["https://x/y.png"]})).is_err());
        assert!(ask("gpt-image-2", &json!({"prompt": " ", "base64_images": [uri]})).is_err());
        assert!(ask("gpt-image-2", &json!({"base64_images": [uri]})).is_err());
        assert_eq!(message(ask("gpt-image-2", &json!({"prompt": "p", "images": [uri]}))), "wrong image url");
        assert_eq!(message(ask("gpt-image-1.5", &json!({"prompt": "p", "image": ["iVBORw0K"]}))), "wrong image url");
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "base64_images": ["iVBORw0K"]})).is_err());
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "base64_images": [data_uri(b"GIF89a")]})).is_err());
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "base64_images": vec![uri.clone(); 16]})).is_ok());
        assert!(ask("gpt-image-2", &json!({"prompt": "p", "base64_images": vec![uri; 17]})).is_err());
        assert!(ask("gpt-image-2", &json!({"prompt": "p".repeat(32_001), "images": ["https://x/y"]})).is_err());
    }

    #[test]
    fn types_and_words_are_strict() {
        let with = |key: &str, value: Value| {
            let mut body = json!({"prompt": "p", "images": ["https://x/y.png"]});
            body[key] = value;
            ask("gpt-image-2", &body)
        };
        for (key, value) in [
            ("n", json!("2")),
            ("n", json!(0)),
            ("n", json!(11)),
            ("n", json!(1.5)),
            ("n", Value::Null),
            ("size", json!(1024)),
            ("quality", json!("standard")),
            ("enable_sync_mode", json!("false")),
            ("response_format", json!("png")),
            ("images", json!("https://x/y.png")),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
        assert_eq!(with("n", json!(10)).unwrap().n, 10);
        assert_eq!(with("quality", json!("auto")).unwrap().quality, Quality::Medium);
        assert!(with("whatever", json!(1)).is_ok());
    }

    #[test]
    fn foreign_fields_follow_the_scenario() {
        let mut scenario = Scenario::default();
        let body = |key: &str| json!({"prompt": "p", "images": ["https://x/y"], key: 1});
        assert!(ask_in(&scenario, "gpt-image-2-plus", &body("n")).is_err());
        assert!(ask_in(&scenario, "gpt-image-2", &body("mask")).is_ok());
        scenario.models.plus_extras = Unknown::Ignore;
        scenario.models.foreign_mask = Unknown::Reject;
        assert!(ask_in(&scenario, "gpt-image-2-plus", &body("n")).is_ok());
        assert!(ask_in(&scenario, "gpt-image-2", &body("mask")).is_err());
        scenario.models.unknown_fields = Unknown::Reject;
        assert!(ask_in(&scenario, "gpt-image-2", &body("moderation")).is_err());
    }

    #[test]
    fn a_mask_fits_its_picture() {
        let ask_mask = |mask: &[u8]| {
            ask(
                "gpt-image-1.5-plus",
                &json!({"prompt": "p", "base64_images": [data_uri(&png(8, 8))], "mask": data_uri(mask)}),
            )
        };
        assert!(ask_mask(&png(8, 8)).unwrap().mask.is_some());
        assert!(message(ask_mask(&png(9, 8))).contains("same size"));
        assert!(ask_mask(b"\xff\xd8\xff").is_err());
        let mut large = png(8, 8);
        large.resize(4 * 1024 * 1024, 0);
        assert!(message(ask_mask(&large)).contains("4MB"));
    }
}
