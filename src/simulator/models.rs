//! The models that are sold, each with its own rules and its price.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Simulator;
use super::errors::{Refusal, status};
use super::rules::{Background, Face};
use super::scenario::{Format, Models};

/// One model, as its documentation page describes it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    /// Whether inputs come under `image`, as the older pages say; `images` is understood too.
    pub(super) image_field: ImageField,
    /// Sizes by name.
    pub(super) sizes: &'static [&'static str],
    pub(super) custom_sizes: CustomSizes,
    pub(super) default_size: &'static str,
    /// Whether `n` and `quality` are known.
    pub(super) variety: Variety,
    /// Whether `mask` and `background` are known.
    pub(super) mask: Mask,
    pub(super) price: Option<Price>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageField {
    ImageOrImages,
    Images,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CustomSizes {
    Known,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variety {
    Known,
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    Known,
    Foreign,
}

/// USD for a million tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) output: f64,
}

const fn price(input: f64, output: f64) -> Price {
    Price { input, output }
}

/// The shared table of 2026.
const SHARED_SIZES: &[&str] =
    &["1024x1024", "1536x1024", "1024x1536", "2048x2048", "2048x1152", "3840x2160", "2160x3840"];
const PLUS_SIZES: &[&str] = &["1254x1254", "1536x1024", "1024x1536", "1672x941", "941x1672"];

/// Everything that is sold.
pub(super) const MODELS: &[Model] = &[
    Model {
        name: "gpt-image-1",
        image_field: ImageField::ImageOrImages,
        sizes: &[
            "256x256",
            "512x512",
            "1024x1024",
            "1536x1024",
            "1024x1536",
            "1792x1024",
            "1024x1792",
            "auto",
            "2048x2048",
            "2048x1152",
            "3840x2160",
            "2160x3840",
        ],
        custom_sizes: CustomSizes::Refused,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Known,
        price: Some(price(7.0, 28.0)),
    },
    Model {
        name: "gpt-image-1-mini",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: CustomSizes::Refused,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Foreign,
        price: Some(price(1.75, 5.6)),
    },
    Model {
        name: "gpt-image-1.5",
        image_field: ImageField::ImageOrImages,
        sizes: &[
            "256x256",
            "512x512",
            "1024x1024",
            "1536x1024",
            "1024x1536",
            "2048x2048",
            "2048x1152",
            "3840x2160",
            "2160x3840",
        ],
        custom_sizes: CustomSizes::Refused,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Known,
        price: Some(price(5.6, 22.4)),
    },
    Model {
        name: "gpt-image-1.5-plus",
        image_field: ImageField::ImageOrImages,
        sizes: &["256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1254x1254", "1672x941", "941x1672"],
        custom_sizes: CustomSizes::Refused,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Known,
        price: None,
    },
    Model {
        name: "gpt-image-2",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: CustomSizes::Known,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Foreign,
        price: Some(price(6.4, 24.0)),
    },
    Model {
        name: "gpt-image-2-plus",
        image_field: ImageField::Images,
        sizes: PLUS_SIZES,
        custom_sizes: CustomSizes::Refused,
        default_size: "1254x1254",
        variety: Variety::Foreign,
        mask: Mask::Foreign,
        price: None,
    },
    // Priced, but without a page: taken for gpt-image-2 with another name.
    Model {
        name: "gpt-image-2.5-flare",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: CustomSizes::Known,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Foreign,
        price: Some(price(7.6, 28.5)),
    },
    Model {
        name: "gpt-image-2.5-sunburst",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: CustomSizes::Known,
        default_size: "1024x1024",
        variety: Variety::Known,
        mask: Mask::Foreign,
        price: Some(price(7.6, 28.5)),
    },
];

impl Model {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }

    /// The model of an order, if this account can have it.
    pub(super) fn ordered(name: &str, rules: &Models) -> Result<&'static Self, Refusal> {
        let model = Self::named(name).ok_or_else(|| Refusal::bad(format!("Invalid model: {name} does not exist")))?;
        if rules.no_channel.iter().any(|name| name == model.name) {
            return Err(Refusal::no_channel(rules.no_channel_status, model.name));
        }
        Ok(model)
    }

    /// Whether pictures come from the channel without `n` and `quality` that is not paid by tokens.
    pub(super) fn is_plus(&self) -> bool {
        self.name.ends_with("-plus")
    }

    /// Whether this is the one model that makes transparent backgrounds and weighs the fidelity of inputs.
    pub(super) fn is_first(&self) -> bool {
        self.name == "gpt-image-1"
    }

    /// Whether it can make a background, in the encoding that was asked for.
    pub(super) fn check_background(&self, background: Background, format: Option<Format>) -> Result<(), Refusal> {
        match (background, format) {
            (Background::Transparent, _) if !self.is_first() => {
                Err(Refusal::bad(format!("Transparent background is not supported by {}", self.name)))
            }
            (Background::Transparent, Some(Format::Jpeg)) => {
                Err(Refusal::bad("Transparent background needs output_format png or webp"))
            }
            (Background::Transparent | Background::Opaque, _) => Ok(()),
        }
    }

    /// The named size whose proportions, and then whose pixels, come nearest to a square of `edge` stretched to `ratio`.
    pub(super) fn nearest_size(&self, edge: f64, ratio: f64) -> &'static str {
        let distance = |text: &str| {
            let (width, height) = pixels(text).unwrap_or((u32::MAX, 1));
            let (width, height) = (f64::from(width), f64::from(height));
            // Proportions first: the areas of all sizes lie within a factor of 128.
            ((width / height).ln() - ratio.ln()).abs() * 1000.0 + ((width * height).ln() - 2.0 * edge.ln()).abs()
        };
        let nearest = self.sizes.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.copied().unwrap_or(self.default_size)
    }

    /// The pixels of a size this model makes.
    pub(super) fn size(&self, text: &str) -> Result<(u32, u32), Refusal> {
        if self.sizes.contains(&text) {
            return Ok(pixels(text).unwrap_or((1024, 1024))); // only `auto` has no pixels
        }
        let refused = || Refusal::bad(format!("Invalid value for size: '{text}' is not supported by {}", self.name));
        if self.custom_sizes == CustomSizes::Refused {
            return Err(refused());
        }
        let (width, height) = pixels(text).ok_or_else(refused)?;
        custom_size(width, height).map_err(|rule| Refusal::bad(format!("Invalid value for size: {rule}")))?;
        Ok((width, height))
    }
}

/// The rules for a size that is not named, per the vendor's table.
fn custom_size(width: u32, height: u32) -> Result<(), &'static str> {
    let (long, short) = (width.max(height), width.min(height));
    if long > 3840 {
        return Err("the longest edge must be at most 3840");
    }
    if !width.is_multiple_of(16) || !height.is_multiple_of(16) {
        return Err("both edges must be multiples of 16");
    }
    if long > 3 * short {
        return Err("the ratio of the edges must be at most 3:1");
    }
    if !(655_360..=8_294_400).contains(&(width * height)) {
        return Err("the number of pixels must be between 655360 and 8294400");
    }
    Ok(())
}

/// Both edges of `WxH` in plain decimal digits.
fn pixels(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    let edge = |digits: &str| {
        let plain = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().filter(|&edge| edge > 0)
    };
    Some((edge(width)?, edge(height)?))
}

/// `GET /v1/models`
pub(super) async fn list(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    let scenario = simulator.scenario();
    if let Err(refusal) = simulator.caller(&headers) {
        return refusal.answer(Face::Prediction, &scenario);
    }
    if scenario.extras.models_status != 200 {
        return Refusal::new(scenario.extras.models_status, "Not available").answer(Face::Prediction, &scenario);
    }
    let data: Vec<_> = MODELS
        .iter()
        .map(|model| json!({"id": model.name, "object": "model", "created": 1_766_000_000, "owned_by": "openai"}))
        .collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

/// `GET /api/home-model-catalog`, which needs no key.
pub(super) async fn catalog() -> Response {
    let items: Vec<_> = MODELS
        .iter()
        .flat_map(|model| ["text-to-image", "image-edit"].map(|capability| (model, capability)))
        .map(|(model, capability)| {
            let prices = model
                .price
                .map_or((String::new(), String::new()), |price| (price.input.to_string(), price.output.to_string()));
            json!({
                "modelManufacturerName": "openai",
                "modelName": format!("{}/{capability}", model.name),
                "platformInputPrice": prices.0,
                "platformOutPrice": prices.1,
                "platformLockPrice": "",
                "priceTypeStr": if model.price.is_some() { "token" } else { "run" },
                "modelTag": capability,
            })
        })
        .collect();
    axum::Json(json!({"code": 200, "message": "success", "data": {"items": items}})).into_response()
}

/// `GET /api/v3/user/me`
pub(super) async fn user(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    let scenario = simulator.scenario();
    if let Err(refusal) = simulator.caller(&headers) {
        return refusal.answer(Face::Prediction, &scenario);
    }
    match scenario.extras.user_me_status {
        404 => super::errors::page(404),
        code @ 200..=299 => {
            (status(code), axum::Json(json!({"code": 200, "message": "success", "data": {}}))).into_response()
        }
        code => Refusal::new(code, "Not available").answer(Face::Prediction, &scenario),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(model: &str, size: &str) -> bool {
        Model::named(model).unwrap().size(size).is_ok()
    }

    #[test]
    fn custom_sizes_end_exactly_where_the_table_says() {
        for size in ["3840x2160", "2160x3840", "1280x512", "2560x1440", "1536x512", "1008x1008", "3840x1280"] {
            assert!(allowed("gpt-image-2", size), "{size}");
        }
        for size in [
            "3856x2144",
            "1264x512",
            "1030x1030",
            "2064x672",
            "3840x2176",
            "auto",
            "1024",
            "1024*1024",
            "x",
            "-16x16",
            "1024x1024 ",
            "00016x99999",
            "1254x1254",
            "1552x512",
        ] {
            assert!(!allowed("gpt-image-2", size), "{size}");
        }
    }

    #[test]
    fn a_tier_or_a_ratio_becomes_the_nearest_size_with_a_name() {
        for (model, edge, ratio, size) in [
            ("gpt-image-2", 1024.0, 1.0, "1024x1024"),
            ("gpt-image-2", 2048.0, 1.0, "2048x2048"),
            ("gpt-image-2", 1024.0, 1.5, "1536x1024"),
            ("gpt-image-2", 1024.0, 16.0 / 9.0, "2048x1152"),
            ("gpt-image-2", 4096.0, 9.0 / 16.0, "2160x3840"),
            ("gpt-image-2", 1024.0, 8.0, "2048x1152"),
            ("gpt-image-1", 512.0, 1.0, "512x512"),
            ("gpt-image-2-plus", 1024.0, 1.0, "1254x1254"),
        ] {
            assert_eq!(Model::named(model).unwrap().nearest_size(edge, ratio), size, "{model} {edge} {ratio}");
        }
    }

    #[test]
    fn every_model_has_its_own_sizes() {
        assert!(allowed("gpt-image-1", "auto") && allowed("gpt-image-1", "1792x1024"));
        assert!(!allowed("gpt-image-1.5", "auto") && allowed("gpt-image-1.5", "512x512"));
        assert!(allowed("gpt-image-1.5-plus", "941x1672") && !allowed("gpt-image-1.5-plus", "2048x2048"));
        assert!(allowed("gpt-image-2-plus", "1254x1254") && !allowed("gpt-image-2-plus", "1024x1024"));
        assert!(allowed("gpt-image-1-mini", "3840x2160") && !allowed("gpt-image-1-mini", "1280x512"));
        for model in MODELS {
            assert!(model.size(model.default_size).is_ok(), "{}", model.name);
        }
    }
}
