//! Validates the body of a submit: as strictly as the documentation allows, model by model.

use axum::body::Bytes;

use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::fields::Fields;
use crate::simulator::rules::inputs::{Input, Picture, check_count, check_mask, is_url};
use crate::simulator::rules::json::{JsonValue, decode_data_uri};
use crate::simulator::rules::models::{ImageField, Model, Support};
use crate::simulator::rules::request::{JPEG_QUALITY, PictureRequest};
use crate::simulator::rules::values::{Api, Background, Capability, Mode, Quality, ResponseFormat};
use crate::simulator::scenario::{Scenario, Unknown};

/// Validates a body.
///
/// # Errors
///
/// When the body breaks a rule of the model.
pub(crate) fn read(
    model: &'static Model,
    capability: Capability,
    body: &Bytes,
    scenario: &Scenario,
) -> Result<PictureRequest, Refusal> {
    let json = JsonValue::parse(body)?;
    let fields = Fields::of(&json)?;
    let body = Body { model, capability, fields };
    body.check_names(scenario)?;

    let prompt = fields.prompt()?;
    let inputs = match capability {
        Capability::ImageEdit => body.inputs()?,
        Capability::TextToImage => Vec::new(),
    };
    let mask = match (capability, model.mask_and_background) {
        (Capability::ImageEdit, Support::Yes) => body.mask(&inputs)?,
        (Capability::ImageEdit, Support::No) | (Capability::TextToImage, _) => None,
    };
    let (n, quality) = match model.n_and_quality {
        Support::Yes => (fields.n()?, fields.quality()?),
        Support::No => (1, Quality::Medium),
    };
    let background = match model.mask_and_background {
        Support::Yes => fields.background()?,
        Support::No => Background::Opaque,
    };
    let size_text = fields.text("size")?.unwrap_or(model.default_size).to_owned();
    let response_format = match fields.choice("response_format", &["url", "b64_json"])? {
        Some("b64_json") => ResponseFormat::B64Json,
        _ => ResponseFormat::Url,
    };
    let mode = if fields.flag("enable_sync_mode")? { Mode::Sync } else { Mode::Async };
    Ok(PictureRequest {
        api: Api::Prediction,
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
        parameters: json.with_digests(),
    })
}

/// A body and the rules for it.
struct Body<'a> {
    model: &'static Model,
    capability: Capability,
    fields: Fields<'a>,
}

impl<'a> Body<'a> {
    /// Returns a list of strings. `image` may be one string, as the older pages document.
    fn list(&self, name: &str) -> Result<Vec<&'a str>, Refusal> {
        let wrong = || Refusal::invalid(format!("Invalid type for {name}: an array of strings is expected"));
        match self.fields.get(name) {
            None => Ok(Vec::new()),
            Some(JsonValue::List(values)) => values
                .iter()
                .map(|value| match value {
                    JsonValue::Text(text) => Ok(text.as_ref()),
                    JsonValue::Null
                    | JsonValue::Bool(_)
                    | JsonValue::Integer(_)
                    | JsonValue::Number(_)
                    | JsonValue::List(_)
                    | JsonValue::Object(_) => Err(wrong()),
                })
                .collect(),
            Some(JsonValue::Text(text)) if name == "image" => Ok(vec![text.as_ref()]),
            Some(_) => Err(wrong()),
        }
    }

    /// Returns whether the model's documentation names a field.
    fn supports(&self, name: &str) -> bool {
        let edit = self.capability == Capability::ImageEdit;
        match name {
            "prompt" | "size" | "enable_sync_mode" | "response_format" | "model" => true,
            "images" | "base64_images" => edit,
            "image" => edit && self.model.image_field == ImageField::ImageOrImages,
            "mask" => edit && self.model.mask_and_background == Support::Yes,
            "background" => self.model.mask_and_background == Support::Yes,
            "n" | "quality" => self.model.n_and_quality == Support::Yes,
            _ => false,
        }
    }

    /// Fails on an unsupported field that the scenario refuses.
    fn check_names(&self, scenario: &Scenario) -> Result<(), Refusal> {
        let rules = &scenario.models;
        for (name, _) in self.fields.0 {
            let policy = match name.as_str() {
                name if self.supports(name) => Unknown::Ignore,
                "n" | "quality" => rules.plus_extras,
                "mask" if rules.foreign_mask == Unknown::Reject => Unknown::Reject,
                _ => rules.unknown_fields,
            };
            if policy == Unknown::Reject {
                return Err(Refusal::invalid(format!("{name} is not supported by {}", self.model.name)));
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
        check_count(urls.len() + pictures.len(), "images or base64_images")?;
        let urls = urls.into_iter().map(Input::link);
        let pictures = pictures.into_iter().map(|text| picture(text).map(Input::Picture));
        urls.chain(pictures).collect()
    }

    fn mask(&self, inputs: &[Input]) -> Result<Option<Input>, Refusal> {
        let Some(text) = self.fields.text("mask")? else {
            return Ok(None);
        };
        if is_url(text) {
            return Ok(Some(Input::Url(text.to_owned())));
        }
        let mask = picture(text).map_err(|_| Refusal::invalid("mask must be a PNG as data URI, or a URL"))?;
        check_mask(&mask, inputs.first())?;
        Ok(Some(Input::Picture(mask)))
    }
}

fn picture(text: &str) -> Result<Picture, Refusal> {
    let bytes = decode_data_uri(text)
        .ok_or_else(|| Refusal::invalid("base64_images must be data URIs: data:image/png;base64,..."))?;
    Picture::parse(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::simulator::images::draw::tests::{data_uri, png};

    fn read_default(model: &str, body: &Value) -> Result<PictureRequest, Refusal> {
        read_in(&Scenario::default(), model, body)
    }

    fn read_in(scenario: &Scenario, model: &str, body: &Value) -> Result<PictureRequest, Refusal> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        read(Model::named(model).unwrap(), Capability::ImageEdit, &body, scenario)
    }

    fn message(result: Result<PictureRequest, Refusal>) -> String {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.message
    }

    #[test]
    fn an_edit_needs_a_prompt_and_a_picture_in_the_right_field() {
        let uri = data_uri(&png(8, 8));
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "base64_images": [uri]})).is_ok());
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "images": ["https://x/y.png"]})).is_ok());
        assert!(read_default("gpt-image-1.5", &json!({"prompt": "p", "image": ["https://x/y.png"]})).is_ok());
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "image": ["https://x/y.png"]})).is_err());
        assert!(read_default("gpt-image-2", &json!({"prompt": " ", "base64_images": [uri]})).is_err());
        assert!(read_default("gpt-image-2", &json!({"base64_images": [uri]})).is_err());
        assert_eq!(message(read_default("gpt-image-2", &json!({"prompt": "p", "images": [uri]}))), "wrong image url");
        assert_eq!(
            message(read_default("gpt-image-1.5", &json!({"prompt": "p", "image": ["iVBORw0K"]}))),
            "wrong image url"
        );
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "base64_images": ["iVBORw0K"]})).is_err());
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "base64_images": [data_uri(b"GIF89a")]})).is_err());
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "base64_images": vec![uri.clone(); 16]})).is_ok());
        assert!(read_default("gpt-image-2", &json!({"prompt": "p", "base64_images": vec![uri; 17]})).is_err());
        assert!(
            read_default("gpt-image-2", &json!({"prompt": "p".repeat(32_001), "images": ["https://x/y"]})).is_err()
        );
    }

    #[test]
    fn types_and_values_are_strict() {
        let with_field = |key: &str, value: Value| {
            let mut body = json!({"prompt": "p", "images": ["https://x/y.png"]});
            body[key] = value;
            read_default("gpt-image-2", &body)
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
            assert!(with_field(key, value.clone()).is_err(), "{key}: {value}");
        }
        assert_eq!(with_field("n", json!(10)).unwrap().n, 10);
        assert_eq!(with_field("quality", json!("auto")).unwrap().quality, Quality::Medium);
        assert!(with_field("whatever", json!(1)).is_ok());
    }

    #[test]
    fn the_scenario_decides_about_unsupported_fields() {
        let mut scenario = Scenario::default();
        let body = |key: &str| json!({"prompt": "p", "images": ["https://x/y"], key: 1});
        assert!(read_in(&scenario, "gpt-image-2-plus", &body("n")).is_err());
        assert!(read_in(&scenario, "gpt-image-2", &body("mask")).is_ok());
        scenario.models.plus_extras = Unknown::Ignore;
        scenario.models.foreign_mask = Unknown::Reject;
        assert!(read_in(&scenario, "gpt-image-2-plus", &body("n")).is_ok());
        assert!(read_in(&scenario, "gpt-image-2", &body("mask")).is_err());
        scenario.models.unknown_fields = Unknown::Reject;
        assert!(read_in(&scenario, "gpt-image-2", &body("moderation")).is_err());
    }

    #[test]
    fn a_mask_must_fit_its_picture() {
        let read_mask = |mask: &[u8]| {
            read_default(
                "gpt-image-1.5-plus",
                &json!({"prompt": "p", "base64_images": [data_uri(&png(8, 8))], "mask": data_uri(mask)}),
            )
        };
        assert!(read_mask(&png(8, 8)).unwrap().mask.is_some());
        assert!(message(read_mask(&png(9, 8))).contains("same size"));
        assert!(read_mask(b"\xff\xd8\xff").is_err());
        let mut large = png(8, 8);
        large.resize(4 * 1024 * 1024, 0);
        assert!(message(read_mask(&large)).contains("4MB"));
    }
}
