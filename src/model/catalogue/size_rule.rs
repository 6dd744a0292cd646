//! Which sizes a model makes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::model::request::Size;

/// The sizes that a model makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SizeRule {
    /// The sizes for `auto` or nothing: the one nearest in aspect ratio to the first input picture, the first without input.
    #[serde(deserialize_with = "sizes")]
    pub(crate) auto: Vec<Size>,
    /// The listed sizes.
    #[serde(deserialize_with = "sizes")]
    pub(crate) values: Vec<Size>,
    /// Rules for any other size, when the model accepts one.
    #[serde(default)]
    pub(crate) custom: Option<CustomSize>,
    /// Sizes of one table of the vendor's, with those that another table has in their place.
    #[serde(default, deserialize_with = "size_pairs")]
    pub(crate) other: BTreeMap<Size, Size>,
}

/// The rules for a size that is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomSize {
    pub(crate) edge_pixels_max: u32,
    pub(crate) edge_multiple: u32,
    /// Longest edge divided by shortest.
    pub(crate) ratio_max: u32,
    pub(crate) pixels_min: u64,
    pub(crate) pixels_max: u64,
}

impl fmt::Display for CustomSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge_pixels_max, edge_multiple, ratio_max, pixels_min, pixels_max } = self;
        write!(
            f,
            "WIDTHxHEIGHT of multiples of {edge_multiple}, with edges up to {edge_pixels_max}, a ratio up to {ratio_max}:1, and \
             {pixels_min} to {pixels_max} pixels"
        )
    }
}

/// Why a size is refused; the messages are OpenAI's where they are known (`src/README.md`, OpenAI facts).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeProblem {
    /// Its value may be shown as it is.
    #[error(
        "Invalid value: '{value}'. Supported values are: {allowed}{}.",
        custom.map(|custom| format!(", a ratio such as '16:9', and any {custom}")).unwrap_or_default()
    )]
    NotASize { value: String, allowed: String, custom: Option<CustomSize> },
    #[error("Invalid value: '{size}'. Supported values are: {allowed}.")]
    NotListed { size: Size, allowed: String },
    #[error("Invalid size '{size}'. The longest edge must be less than or equal to {edge_pixels_max}.")]
    EdgeTooLong { size: Size, edge_pixels_max: u32 },
    #[error("Invalid size '{size}'. Width and height must be multiples of {edge_multiple}.")]
    NotMultiple { size: Size, edge_multiple: u32 },
    #[error("Invalid size '{size}'. The aspect ratio must be between 1:{ratio_max} and {ratio_max}:1.")]
    TooNarrow { size: Size, ratio_max: u32 },
    #[error(
        "Invalid size '{size}'. Requested resolution is below the current minimum pixel budget of {pixels_min} pixels."
    )]
    TooFewPixels { size: Size, pixels_min: u64 },
    #[error(
        "Invalid size '{size}'. Requested resolution exceeds the current maximum pixel budget of {pixels_max} pixels."
    )]
    TooManyPixels { size: Size, pixels_max: u64 },
}

impl SizeRule {
    /// Checks an explicit size.
    ///
    /// # Errors
    ///
    /// The first rule that the size violates.
    pub(crate) fn check(&self, size: Size) -> Result<(), SizeProblem> {
        if self.values.contains(&size) {
            return Ok(());
        }
        let Some(rule) = self.custom else {
            return Err(SizeProblem::NotListed { size, allowed: self.allowed() });
        };
        let (long, short) = (size.width.max(size.height), size.width.min(size.height));
        if long > rule.edge_pixels_max {
            Err(SizeProblem::EdgeTooLong { size, edge_pixels_max: rule.edge_pixels_max })
        } else if !size.width.is_multiple_of(rule.edge_multiple) || !size.height.is_multiple_of(rule.edge_multiple) {
            Err(SizeProblem::NotMultiple { size, edge_multiple: rule.edge_multiple })
        } else if u64::from(long) > u64::from(short) * u64::from(rule.ratio_max) {
            Err(SizeProblem::TooNarrow { size, ratio_max: rule.ratio_max })
        } else if size.pixels() < rule.pixels_min {
            Err(SizeProblem::TooFewPixels { size, pixels_min: rule.pixels_min })
        } else if size.pixels() > rule.pixels_max {
            Err(SizeProblem::TooManyPixels { size, pixels_max: rule.pixels_max })
        } else {
            Ok(())
        }
    }

    /// Checks the ranges of sizes and of their rules.
    ///
    /// # Errors
    ///
    /// The end of a sentence that names the key.
    pub(super) fn check_figures(&self) -> Result<(), String> {
        const EDGE_MAX: u32 = 1_000_000;
        let is_edge = |edge: u32| (1..=EDGE_MAX).contains(&edge);
        let other = self.other.iter().flat_map(|(size, other)| [size, other]);
        let mut sizes = self.auto.iter().chain(&self.values).chain(other);
        if let Some(size) = sizes.find(|size| !(is_edge(size.width) && is_edge(size.height))) {
            return Err(format!("{size} must have edges from 1 to {EDGE_MAX}"));
        }
        let Some(CustomSize { edge_pixels_max, edge_multiple, ratio_max, .. }) = self.custom else { return Ok(()) };
        let figures =
            [("edge_pixels_max", edge_pixels_max), ("edge_multiple", edge_multiple), ("ratio_max", ratio_max)];
        match figures.into_iter().find(|&(_, figure)| !is_edge(figure)) {
            Some((key, figure)) => Err(format!("custom.{key} must be from 1 to {EDGE_MAX}, not {figure}")),
            None => Ok(()),
        }
    }

    /// Returns the size for `auto`: the nearest in aspect ratio to `like`, width and height of the first input picture.
    pub(crate) fn auto_for(&self, like: Option<(u32, u32)>) -> Size {
        let first = *self.auto.first().expect("checked when the catalogue was read");
        let Some((width, height)) = like else { return first };
        let wanted = (f64::from(width) / f64::from(height)).ln();
        let distance = |size: &Size| ((f64::from(size.width) / f64::from(size.height)).ln() - wanted).abs();
        self.auto.iter().copied().min_by(|one, two| distance(one).total_cmp(&distance(two))).unwrap_or(first)
    }

    /// Returns the listed sizes in the form of OpenAI's error messages.
    pub(crate) fn allowed(&self) -> String {
        quoted_list(self.values.iter().map(ToString::to_string).chain(["auto".to_owned()]))
    }
}

/// Returns values in the form of OpenAI's error messages: `'a', 'b', and 'c'`.
pub(crate) fn quoted_list(values: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|value| format!("'{value}'")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [init @ .., last] => format!("{}, and {last}", init.join(", ")),
    }
}

fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Size>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| size(text)).collect()
}

fn size_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Size, Size>, D::Error> {
    let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
    pairs.iter().map(|(one, other)| Ok((size(one)?, size(other)?))).collect()
}

fn size<E: serde::de::Error>(text: &str) -> Result<Size, E> {
    text.parse().map_err(|_| E::custom(format!("{text:?} is not WIDTHxHEIGHT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: CustomSize = CustomSize {
        edge_pixels_max: 3840,
        edge_multiple: 16,
        ratio_max: 3,
        pixels_min: 655_360,
        pixels_max: 8_294_400,
    };

    fn custom() -> SizeRule {
        let size = |text: &str| text.parse().unwrap();
        SizeRule {
            auto: vec![size("1024x1024"), size("1536x1024"), size("1024x1536")],
            values: vec![size("1024x1024")],
            custom: Some(RULE),
            other: BTreeMap::new(),
        }
    }

    #[test]
    fn custom_sizes_have_exact_bounds() {
        let check = |text: &str| custom().check(text.parse().unwrap());
        for good in ["3840x2160", "2160x3840", "1280x512", "1024x640", "1600x1600"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert!(matches!(check("3856x2160"), Err(SizeProblem::EdgeTooLong { .. })));
        assert!(matches!(check("1000x1000"), Err(SizeProblem::NotMultiple { .. })));
        assert!(matches!(check("3072x1008"), Err(SizeProblem::TooNarrow { .. })));
        assert!(matches!(check("1264x512"), Err(SizeProblem::TooFewPixels { .. })));
        assert!(matches!(check("3840x2176"), Err(SizeProblem::TooManyPixels { .. })));
    }

    #[test]
    fn a_listed_size_is_allowed_regardless_of_the_rules() {
        let rule = SizeRule { custom: None, values: vec!["1254x1254".parse().unwrap()], ..custom() };
        assert_eq!(rule.check("1254x1254".parse().unwrap()), Ok(()));
        assert_eq!(
            rule.check("512x512".parse().unwrap()).unwrap_err().to_string(),
            "Invalid value: '512x512'. Supported values are: '1254x1254' and 'auto'."
        );
    }

    #[test]
    fn auto_follows_the_aspect_ratio_of_the_input() {
        let auto = |like| custom().auto_for(like).to_string();
        assert_eq!(auto(None), "1024x1024");
        assert_eq!(auto(Some((300, 310))), "1024x1024");
        assert_eq!(auto(Some((1920, 1080))), "1536x1024");
        assert_eq!(auto(Some((600, 900))), "1024x1536");
    }
}
