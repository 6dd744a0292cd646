//! Reads a submit as strictly as the documentation allows, one model at a time.

use std::sync::Arc;

use axum::body::Bytes;

use super::body::Field;
use super::errors::Refusal;
use super::models::{ImageField, Mask, Model, Variety};
use super::scenario::{Scenario, Unknown};

const PROMPT_CHARS_MAX: usize = 32_000;
const INPUTS_MAX: usize = 16;
const INPUT_BYTES_MAX: usize = 50 * 1024 * 1024;
const MASK_BYTES_MAX: usize = 4 * 1024 * 1024;

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

/// One input picture.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// An address, which is not fetched.
    Url(String),
    /// A picture that came in the body.
    Picture(Picture),
}

/// A picture that came in the body.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) digest: blake3::Hash,
    pub(super) width: u64,
    pub(super) height: u64,
}

impl Input {
    /// The digest that the drawn picture carries.
    pub(super) fn digest(&self) -> String {
        match self {
            Self::Url(url) => format!("url-{}", blake3::hash(url.as_bytes()).to_hex()),
            Self::Picture(picture) => picture.digest.to_hex().to_string(),
        }
    }
}

/// A submit that keeps all rules.
#[derive(Clone, Debug)]
pub(super) struct Order {
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
    pub(super) mode: Mode,
    pub(super) response_format: ResponseFormat,
    /// The body as it came, with digests in place of pictures.
    pub(super) parameters: serde_json::Value,
}

/// Reads the body of a submit.
pub(super) fn read(
    model: &'static Model,
    capability: Capability,
    body: &Bytes,
    scenario: &Scenario,
) -> Result<Order, Refusal> {
    let Ok(field) = serde_json::from_slice::<Field<'_>>(body) else {
        return Err(Refusal::bad("Invalid JSON body"));
    };
    let Field::Object(fields) = &field else {
        return Err(Refusal::bad("The body must be a JSON object"));
    };
    let form = Form { model, capability, fields };
    form.refuse_foreign(scenario)?;

    let prompt = form.prompt()?;
    let inputs = match capability {
        Capability::ImageEdit => form.inputs()?,
        Capability::TextToImage => Vec::new(),
    };
    let mask = match (capability, model.mask) {
        (Capability::ImageEdit, Mask::Known) => form.mask(&inputs)?,
        (Capability::ImageEdit, Mask::Foreign) | (Capability::TextToImage, _) => None,
    };
    let (n, quality) = match model.variety {
        Variety::Known => (form.n()?, form.quality()?),
        Variety::Foreign => (1, Quality::Medium),
    };
    if model.mask == Mask::Known {
        form.word("background", &["auto", "transparent", "opaque"])?;
    }
    let size_text = form.text("size")?.unwrap_or(model.default_size).to_owned();
    let response_format = match form.word("response_format", &["url", "b64_json"])? {
        Some("b64_json") => ResponseFormat::B64Json,
        _ => ResponseFormat::Url,
    };
    Ok(Order {
        model,
        capability,
        prompt,
        inputs,
        mask,
        n,
        size: model.size(&size_text)?,
        size_text,
        quality,
        mode: form.mode()?,
        response_format,
        parameters: field.remembered(),
    })
}

/// The fields of a body, asked for one by one.
struct Form<'a> {
    model: &'static Model,
    capability: Capability,
    fields: &'a [(String, Field<'a>)],
}

impl<'a> Form<'a> {
    /// The last value of a repeated field wins, as in most JSON readers.
    fn get(&self, name: &str) -> Option<&'a Field<'a>> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Field::Text(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(Refusal::bad(format!("Invalid type for {name}: a string is expected"))),
        }
    }

    fn word(&self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Refusal> {
        match self.text(name)? {
            Some(word) if !allowed.contains(&word) => {
                Err(Refusal::bad(format!("Invalid value for {name}: '{word}' is not one of {}", allowed.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// The strings of a list, or one string where a list is expected on the older pages.
    fn list(&self, name: &str) -> Result<Vec<&'a str>, Refusal> {
        let wrong = || Refusal::bad(format!("Invalid type for {name}: an array of strings is expected"));
        match self.get(name) {
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
        for (name, _) in self.fields {
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

    fn prompt(&self) -> Result<String, Refusal> {
        let prompt = self.text("prompt")?.unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(Refusal::bad("prompt is required"));
        }
        if prompt.chars().count() > PROMPT_CHARS_MAX {
            return Err(Refusal::bad(format!("prompt must be at most {PROMPT_CHARS_MAX} characters")));
        }
        Ok(prompt.to_owned())
    }

    fn n(&self) -> Result<u32, Refusal> {
        match self.get("n") {
            None => Ok(1),
            Some(&Field::Integer(n @ 1..=10)) => Ok(u32::try_from(n).expect("it is between 1 and 10")),
            Some(_) => Err(Refusal::bad("Invalid value for n: an integer from 1 to 10 is expected")),
        }
    }

    fn quality(&self) -> Result<Quality, Refusal> {
        Ok(match self.word("quality", &["auto", "low", "medium", "high"])? {
            Some("low") => Quality::Low,
            Some("high") => Quality::High,
            _ => Quality::Medium,
        })
    }

    fn mode(&self) -> Result<Mode, Refusal> {
        match self.get("enable_sync_mode") {
            None | Some(Field::Bool(false)) => Ok(Mode::Async),
            Some(Field::Bool(true)) => Ok(Mode::Sync),
            Some(_) => Err(Refusal::bad("Invalid type for enable_sync_mode: a boolean is expected")),
        }
    }

    fn inputs(&self) -> Result<Vec<Input>, Refusal> {
        let mut urls = self.list("images")?;
        if self.model.image_field == ImageField::ImageOrImages {
            urls.extend(self.list("image")?);
        }
        let pictures = self.list("base64_images")?;
        match urls.len() + pictures.len() {
            0 => return Err(Refusal::bad("images or base64_images is required")),
            1..=INPUTS_MAX => {}
            _ => return Err(Refusal::bad(format!("at most {INPUTS_MAX} images are allowed"))),
        }
        let urls = urls.into_iter().map(address);
        let pictures = pictures.into_iter().map(|text| picture(text).map(Input::Picture));
        urls.chain(pictures).collect()
    }

    fn mask(&self, inputs: &[Input]) -> Result<Option<Input>, Refusal> {
        let Some(text) = self.text("mask")? else {
            return Ok(None);
        };
        if is_address(text) {
            return Ok(Some(Input::Url(text.to_owned())));
        }
        let mask = picture(text).map_err(|_| Refusal::bad("mask must be a PNG as data URI, or a URL"))?;
        if !mask.bytes.starts_with(PNG) {
            return Err(Refusal::bad("mask must be a PNG"));
        }
        if mask.bytes.len() >= MASK_BYTES_MAX {
            return Err(Refusal::bad("mask must be less than 4MB"));
        }
        if let Some(Input::Picture(first)) = inputs.first()
            && (first.width, first.height) != (mask.width, mask.height)
        {
            return Err(Refusal::bad("mask must have the same size as the image"));
        }
        Ok(Some(Input::Picture(mask)))
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

fn is_address(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let host = ["http://", "https://"].iter().find(|scheme| lower.starts_with(*scheme));
    host.is_some_and(|scheme| text.len() > scheme.len()) && !text.contains(char::is_whitespace)
}

fn address(text: &str) -> Result<Input, Refusal> {
    if is_address(text) { Ok(Input::Url(text.to_owned())) } else { Err(Refusal::bad("wrong image url")) }
}

fn picture(text: &str) -> Result<Picture, Refusal> {
    let bytes = super::body::decoded(text)
        .ok_or_else(|| Refusal::bad("base64_images must be data URIs: data:image/png;base64,..."))?;
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(Refusal::bad("each image must be less than 50MB"));
    }
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    if !(bytes.starts_with(PNG) || bytes.starts_with(b"\xff\xd8\xff") || is_webp) {
        return Err(Refusal::bad("unsupported image format: png, webp or jpg is expected"));
    }
    let size = imagesize::blob_size(&bytes).map_err(|_| Refusal::bad("the image cannot be read"))?;
    Ok(Picture {
        digest: blake3::hash(&bytes),
        bytes: Arc::new(bytes),
        width: size.width as u64,
        height: size.height as u64,
    })
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
        large.resize(MASK_BYTES_MAX, 0);
        assert!(message(ask_mask(&large)).contains("4MB"));
    }
}
