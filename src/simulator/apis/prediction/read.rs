//! Validates the body of a submit: as strictly as the documentation allows, model by model.

use axum::body::Bytes;

use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::fields::Fields;
use crate::simulator::rules::inputs::{Input, Picture, check_count, check_mask, is_url};
use crate::simulator::rules::json::{JsonValue, decode_data_uri};
use crate::simulator::rules::models::{ImageField, Model, Support};
use crate::simulator::rules::request::{JPEG_QUALITY, PictureRequest};
use crate::simulator::rules::values::{Api, Background, Capability, Mode, Quality, ResponseFormat};
use crate::simulator::scenario::{InlinePictures, LinksField, PlusTable, Scenario, Unknown};

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
    let body = Body { model, capability, fields, scenario };
    body.check_names()?;

    let prompt = fields.prompt()?;
    let (inputs, methods) = match capability {
        Capability::ImageEdit => body.inputs()?,
        Capability::TextToImage => (Vec::new(), Vec::new()),
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
        methods,
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
        stream: None,
        parameters: json.with_digests(),
    })
}

/// Returns the names of the parameters that a model accepts.
pub(crate) fn names(model: &'static Model, capability: Capability, scenario: &Scenario) -> Vec<&'static str> {
    const NAMES: [&str; 11] = [
        "prompt",
        "images",
        "image",
        "base64_images",
        "mask",
        "n",
        "size",
        "quality",
        "background",
        "enable_sync_mode",
        "response_format",
    ];
    let body = Body { model, capability, fields: Fields(&[]), scenario };
    let is_read = |name: &str| name != "base64_images" || scenario.inputs.base64_images == InlinePictures::Accept;
    NAMES.into_iter().filter(|&name| body.supports(name) && is_read(name)).collect()
}

/// A body and the rules for it.
struct Body<'a> {
    model: &'static Model,
    capability: Capability,
    fields: Fields<'a>,
    scenario: &'a Scenario,
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
            "base64_images" => edit,
            "images" => edit && self.scenario.inputs.links_field != LinksField::ImageOnly,
            "image" => {
                let is_documented = self.model.image_field == ImageField::ImageOrImages;
                edit && match self.scenario.inputs.links_field {
                    LinksField::Documented => is_documented,
                    LinksField::ImagesOnly => false,
                    LinksField::ImageOnly => true,
                }
            }
            "mask" => edit && self.model.mask_and_background == Support::Yes,
            "background" => self.model.mask_and_background == Support::Yes,
            "n" | "quality" => self.model.n_and_quality == Support::Yes,
            _ => false,
        }
    }

    /// Fails on an unsupported field that the scenario refuses.
    fn check_names(&self) -> Result<(), Refusal> {
        let rules = &self.scenario.models;
        let is_strict = rules.plus_table == PlusTable::Strict && self.model.is_plus();
        for (name, _) in self.fields.0 {
            let policy = match name.as_str() {
                name if self.supports(name) => Unknown::Ignore,
                "n" | "quality" | "background" | "mask" if is_strict => Unknown::Reject,
                "n" | "quality" => rules.plus_extras,
                "mask" if rules.foreign_mask == Unknown::Reject => Unknown::Reject,
                _ => rules.unknown_fields,
            };
            match (policy, name.as_str()) {
                (Unknown::Ignore, _) => {}
                (Unknown::Reject, "image" | "images") => return Err(Refusal::unknown_parameter(name)),
                (Unknown::Reject, _) => return Err(self.model.unsupported(name, rules)),
            }
        }
        Ok(())
    }

    /// Returns the inputs, and the fields that they came in.
    fn inputs(&self) -> Result<(Vec<Input>, Vec<&'static str>), Refusal> {
        let rules = &self.scenario.inputs;
        let (mut urls, mut methods) = (Vec::new(), Vec::new());
        for name in ["images", "image"].into_iter().filter(|name| self.supports(name)) {
            let found = self.list(name)?;
            methods.extend((!found.is_empty()).then_some(name));
            urls.extend(found);
        }
        let mut pictures = self.list("base64_images")?;
        if !pictures.is_empty() {
            methods.push("base64_images");
            let refusal = Refusal::invalid(rules.base64_refusal.as_str());
            match rules.base64_images {
                InlinePictures::Accept | InlinePictures::Ignore => {}
                InlinePictures::Refuse => return Err(refusal),
                InlinePictures::Refuse422 => return Err(refusal.sent_as(422)),
                InlinePictures::Refuse200 => return Err(refusal.sent_as(200)),
            }
        }
        let required = match rules.links_field {
            LinksField::Documented => "images or base64_images",
            LinksField::ImagesOnly => "images",
            LinksField::ImageOnly => "image",
        };
        check_count(urls.len() + pictures.len(), required)?;
        if rules.base64_images == InlinePictures::Ignore {
            pictures.clear();
        }
        let urls = urls.into_iter().map(|text| Input::link(text, rules.data_uris, rules));
        let pictures = pictures.into_iter().map(|text| picture(text).map(Input::Picture));
        Ok((urls.chain(pictures).collect::<Result<_, _>>()?, methods))
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
    use crate::simulator::scenario::{DataUris, Links};

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
    fn pictures_in_base64_images_are_refused_or_ignored_as_the_scenario_says() {
        let inline = json!({"prompt": "p", "base64_images": [data_uri(&png(8, 8))]});
        let mut scenario = Scenario::default();
        for (rule, status) in
            [(InlinePictures::Refuse, 400), (InlinePictures::Refuse422, 422), (InlinePictures::Refuse200, 200)]
        {
            scenario.inputs.base64_images = rule;
            let refusal = read_in(&scenario, "gpt-image-2", &inline).unwrap_err();
            assert_eq!((refusal.status, refusal.message.as_str()), (status, "images is required"));
        }
        scenario.inputs.base64_refusal = "Bad Request".to_owned();
        assert_eq!(read_in(&scenario, "gpt-image-2", &inline).unwrap_err().message, "Bad Request");
        let links = json!({"prompt": "p", "images": ["https://x/y.png"], "base64_images": []});
        assert_eq!(read_in(&scenario, "gpt-image-2", &links).unwrap().methods, ["images"]);
        scenario.inputs.base64_images = InlinePictures::Ignore;
        let ignored = read_in(&scenario, "gpt-image-2", &inline).unwrap();
        assert!(ignored.inputs.is_empty() && ignored.methods == ["base64_images"]);
    }

    #[test]
    fn the_scenario_decides_about_the_field_for_links_and_what_it_holds() {
        let mut scenario = Scenario::default();
        let body = |name: &str, value: &str| json!({"prompt": "p", name: [value]});
        let link = "https://x/y.png";
        for (rule, model, right, wrong) in [
            (LinksField::ImagesOnly, "gpt-image-1.5", "images", "image"),
            (LinksField::ImageOnly, "gpt-image-2", "image", "images"),
        ] {
            scenario.inputs.links_field = rule;
            scenario.models.unknown_fields = Unknown::Ignore;
            assert_eq!(read_in(&scenario, model, &body(right, link)).unwrap().methods, [right]);
            assert_eq!(message(read_in(&scenario, model, &body(wrong, link))), format!("{right} is required"));
            scenario.models.unknown_fields = Unknown::Reject;
            assert_eq!(
                message(read_in(&scenario, model, &body(wrong, link))),
                format!("Unknown parameter: '{wrong}'.")
            );
        }
        let mut scenario = Scenario::default();
        scenario.inputs.data_uris = DataUris::Accept;
        let uri = data_uri(&png(8, 8));
        let read_uri = read_in(&scenario, "gpt-image-2", &body("images", &uri)).unwrap();
        assert!(matches!(read_uri.inputs[0], Input::Picture(_)) && read_uri.methods == ["images"]);
        scenario.inputs.links = Links::Refuse;
        assert_eq!(message(read_in(&scenario, "gpt-image-2", &body("images", link))), "wrong image url");
        assert!(read_in(&scenario, "gpt-image-2", &body("images", &uri)).is_ok());
    }

    #[test]
    fn the_strict_table_of_plus_models_names_what_it_refuses() {
        let mut scenario = Scenario::default();
        let model = |scenario: &Scenario| Model::available("gpt-image-1.5-plus", &scenario.models).unwrap();
        let read_with = |scenario: &Scenario, key: &str, value: Value| {
            let mut body = json!({"prompt": "p", "images": ["https://x/y.png"]});
            body[key] = value;
            let body = Bytes::from(serde_json::to_vec(&body).unwrap());
            read(model(scenario), Capability::ImageEdit, &body, scenario)
        };
        let fields = [("n", json!(1)), ("quality", json!("low")), ("background", json!("auto"))];
        for (key, value) in &fields {
            assert!(read_with(&scenario, key, value.clone()).is_ok(), "{key}");
        }
        scenario.models.plus_table = PlusTable::Strict;
        for (key, value) in fields {
            assert_eq!(message(read_with(&scenario, key, value)), format!("Unknown parameter: '{key}'."));
        }
        let size = message(read_with(&scenario, "size", json!("1024x1024")));
        assert!(size.starts_with("Invalid value for size: '1024x1024'"), "{size}");
        for size in ["1254x1254", "1536x1024", "1024x1536", "1672x941", "941x1672"] {
            assert!(read_with(&scenario, "size", json!(size)).is_ok(), "{size}");
        }
        assert_eq!(read_with(&scenario, "prompt", json!("p")).unwrap().size, (1254, 1254));
        // Other models keep their tables.
        assert_eq!(
            read_in(&scenario, "gpt-image-2", &json!({"prompt": "p", "images": ["https://x/y"], "n": 2})).unwrap().n,
            2
        );
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
