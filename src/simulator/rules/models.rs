//! The models of the service, each with its own rules and price.

use super::errors::Refusal;
use super::values::Background;
use crate::simulator::scenario::{Format, Models, PlusTable};

/// One model, as its documentation page describes it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// The fields that hold the inputs.
    pub(crate) image_field: ImageField,
    /// Named sizes.
    pub(crate) sizes: &'static [&'static str],
    /// Sizes without a name that keep the rules of the vendor's table.
    pub(crate) custom_sizes: Support,
    pub(crate) default_size: &'static str,
    pub(crate) n_and_quality: Support,
    pub(crate) mask_and_background: Support,
    pub(crate) price: Option<Price>,
}

/// The fields that hold the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageField {
    /// The older pages document `image`; `images` works too.
    ImageOrImages,
    Images,
}

/// Whether a model supports a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    Yes,
    No,
}

/// Prices in USD for a million tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
}

const fn price(input: f64, output: f64) -> Price {
    Price { input, output }
}

/// The sizes that the documentation of 2026 shares between models.
const SHARED_SIZES: &[&str] =
    &["1024x1024", "1536x1024", "1024x1536", "2048x2048", "2048x1152", "3840x2160", "2160x3840"];
const PLUS_SIZES: &[&str] = &["1254x1254", "1536x1024", "1024x1536", "1672x941", "941x1672"];

/// gpt-image-1.5-plus by the table of 2026, which differs from its own page.
const STRICT_PLUS: Model = Model {
    name: "gpt-image-1.5-plus",
    image_field: ImageField::ImageOrImages,
    sizes: PLUS_SIZES,
    custom_sizes: Support::No,
    default_size: "1254x1254",
    n_and_quality: Support::No,
    mask_and_background: Support::No,
    price: None,
};

/// All models.
pub(crate) const MODELS: &[Model] = &[
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
        custom_sizes: Support::No,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::Yes,
        price: Some(price(7.0, 28.0)),
    },
    Model {
        name: "gpt-image-1-mini",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: Support::No,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::No,
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
        custom_sizes: Support::No,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::Yes,
        price: Some(price(5.6, 22.4)),
    },
    Model {
        name: "gpt-image-1.5-plus",
        image_field: ImageField::ImageOrImages,
        sizes: &["256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1254x1254", "1672x941", "941x1672"],
        custom_sizes: Support::No,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::Yes,
        price: None,
    },
    Model {
        name: "gpt-image-2",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: Support::Yes,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::No,
        price: Some(price(6.4, 24.0)),
    },
    Model {
        name: "gpt-image-2-plus",
        image_field: ImageField::Images,
        sizes: PLUS_SIZES,
        custom_sizes: Support::No,
        default_size: "1254x1254",
        n_and_quality: Support::No,
        mask_and_background: Support::No,
        price: None,
    },
    // These two have a price but no documentation; their rules are assumed to be those of gpt-image-2.
    Model {
        name: "gpt-image-2.5-flare",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: Support::Yes,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::No,
        price: Some(price(7.6, 28.5)),
    },
    Model {
        name: "gpt-image-2.5-sunburst",
        image_field: ImageField::Images,
        sizes: SHARED_SIZES,
        custom_sizes: Support::Yes,
        default_size: "1024x1024",
        n_and_quality: Support::Yes,
        mask_and_background: Support::No,
        price: Some(price(7.6, 28.5)),
    },
];

impl Model {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }

    /// Returns a model by name, with the rules of the scenario's table.
    pub(crate) fn in_table(name: &str, rules: &Models) -> Option<&'static Self> {
        match rules.plus_table {
            PlusTable::Strict if name == STRICT_PLUS.name => Some(&STRICT_PLUS),
            PlusTable::Strict | PlusTable::Documented => Self::named(name),
        }
    }

    /// Returns a model by name, if it can be used.
    ///
    /// # Errors
    ///
    /// When there is no such model, the account has no channel or no permission for it, or it is overloaded.
    pub(crate) fn available(name: &str, rules: &Models) -> Result<&'static Self, Refusal> {
        let model = Self::in_table(name, rules)
            .ok_or_else(|| Refusal::invalid(format!("Invalid model: {name} does not exist")))?;
        let is_in = |names: &[String]| names.iter().any(|name| name == model.name);
        if is_in(&rules.no_channel) {
            return Err(Refusal::no_channel(rules.no_channel_status, model.name));
        }
        if is_in(&rules.overloaded) {
            return Err(Refusal::overloaded());
        }
        if is_in(&rules.no_permission) {
            return Err(Refusal::new(403, "no permission for this resource"));
        }
        Ok(model)
    }

    /// Returns whether this is a -plus model, which has a price per picture.
    pub(crate) fn is_plus(&self) -> bool {
        self.name.ends_with("-plus")
    }

    /// Returns the refusal of a parameter that the model does not support.
    pub(crate) fn unsupported(&self, name: &str, rules: &Models) -> Refusal {
        if rules.plus_table == PlusTable::Strict && self.is_plus() {
            return Refusal::unknown_parameter(name);
        }
        Refusal::invalid(format!("{name} is not supported by {}", self.name))
    }

    /// Returns whether this is the only model with transparent backgrounds and `input_fidelity`.
    pub(crate) fn is_gpt_image_1(&self) -> bool {
        self.name == "gpt-image-1"
    }

    /// Fails when the model cannot draw a background in the requested encoding.
    pub(crate) fn check_background(&self, background: Background, format: Option<Format>) -> Result<(), Refusal> {
        match (background, format) {
            (Background::Transparent, _) if !self.is_gpt_image_1() => {
                Err(Refusal::invalid(format!("Transparent background is not supported by {}", self.name)))
            }
            (Background::Transparent, Some(Format::Jpeg)) => {
                Err(Refusal::invalid("Transparent background needs output_format png or webp"))
            }
            (Background::Transparent | Background::Opaque, _) => Ok(()),
        }
    }

    /// Returns the named size that is nearest in proportions, and then in pixels, to a square of `edge` stretched to
    /// `ratio`.
    pub(crate) fn nearest_size(&self, edge: f64, ratio: f64) -> &'static str {
        let distance = |text: &str| {
            let (width, height) = pixels(text).unwrap_or((u32::MAX, 1));
            let (width, height) = (f64::from(width), f64::from(height));
            // Proportions weigh more: the areas of all sizes are within a factor of 128.
            ((width / height).ln() - ratio.ln()).abs() * 1000.0 + ((width * height).ln() - 2.0 * edge.ln()).abs()
        };
        let nearest = self.sizes.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.copied().unwrap_or(self.default_size)
    }

    /// Returns width and height of a size in pixels, or fails when the model does not support the size.
    pub(crate) fn size(&self, text: &str) -> Result<(u32, u32), Refusal> {
        if self.sizes.contains(&text) {
            return Ok(pixels(text).unwrap_or((1024, 1024))); // Only `auto` has no pixels.
        }
        let refused =
            || Refusal::invalid(format!("Invalid value for size: '{text}' is not supported by {}", self.name));
        if self.custom_sizes == Support::No {
            return Err(refused());
        }
        let (width, height) = pixels(text).ok_or_else(refused)?;
        custom_size(width, height).map_err(|rule| Refusal::invalid(format!("Invalid value for size: {rule}")))?;
        Ok((width, height))
    }
}

/// Checks a size without a name, by the rules of the vendor's table.
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

/// Parses `WxH` in plain decimal digits.
fn pixels(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    let edge = |digits: &str| {
        let plain = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().filter(|&edge| edge > 0)
    };
    Some((edge(width)?, edge(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supports(model: &str, size: &str) -> bool {
        Model::named(model).unwrap().size(size).is_ok()
    }

    #[test]
    fn custom_sizes_have_exactly_the_limits_of_the_table() {
        for size in ["3840x2160", "2160x3840", "1280x512", "2560x1440", "1536x512", "1008x1008", "3840x1280"] {
            assert!(supports("gpt-image-2", size), "{size}");
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
            assert!(!supports("gpt-image-2", size), "{size}");
        }
    }

    #[test]
    fn a_tier_or_a_ratio_becomes_the_nearest_named_size() {
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
        assert!(supports("gpt-image-1", "auto") && supports("gpt-image-1", "1792x1024"));
        assert!(!supports("gpt-image-1.5", "auto") && supports("gpt-image-1.5", "512x512"));
        assert!(supports("gpt-image-1.5-plus", "941x1672") && !supports("gpt-image-1.5-plus", "2048x2048"));
        assert!(supports("gpt-image-2-plus", "1254x1254") && !supports("gpt-image-2-plus", "1024x1024"));
        assert!(supports("gpt-image-1-mini", "3840x2160") && !supports("gpt-image-1-mini", "1280x512"));
        for model in MODELS {
            assert!(model.size(model.default_size).is_ok(), "{}", model.name);
        }
    }
}
